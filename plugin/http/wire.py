"""Between HTTP and the wire models: reading a request's body, writing an answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from quart import Response, request

from ledger.errors import Code, LedgerError
from ledger.models import ErrorResponse
from plugin.http.limits import REQUESTS, charge, cost_of_bytes

MAX_BODY_BYTES = 1024 * 1024
"""Longest request body: room for 1000 proofs with ordinary secrets."""

T = TypeVar("T", bound=BaseModel)


async def body(model: type[T]) -> T:
    """The request's JSON body as a model. Raises 10000 with the first thing that is wrong, and TooManyRequestsError."""
    data = await request.get_data(cache=False)
    charge(REQUESTS, cost_of_bytes(len(data)))
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise LedgerError(Code.REQUEST_REJECTED, f"{where}: {first['msg']}" if where else first["msg"]) from None


def answer(model: BaseModel, status: int = 200) -> Response:
    """A model as a JSON answer."""
    return Response(model.model_dump_json(), status=status, content_type="application/json")


def answer_list(models: Sequence[BaseModel]) -> Response:
    """Models as a JSON array."""
    return Response(f"[{','.join(model.model_dump_json() for model in models)}]", content_type="application/json")


def refusal(detail: str, code: int, status: int = 400) -> Response:
    """The NUTs' error body (NUT-00)."""
    return answer(ErrorResponse(detail=detail, code=code), status)
