"""Between HTTP and the wire models: who asks, reading a request's body, writing an answer."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Generic, TypeVar, cast

from pydantic import BaseModel, ValidationError
from quart import Response, request
from werkzeug.http import parse_accept_header

from ledger.errors import Code, LedgerError
from ledger.models import ErrorResponse
from plugin.http.clients import Client
from plugin.http.limits import REQUESTS, Budget, RateLimits, client, cost_of_bytes, rate_limits
from plugin.services import Services, services

MAX_BODY_BYTES = 1024 * 1024
"""Longest request body: room for 1000 proofs with ordinary secrets."""
COMPRESS_FROM_BYTES = 1000
"""Keys and long lists are mostly hex: half the size when compressed."""
COMPRESS_LEVEL = 5
COMPRESS_ASIDE_FROM_BYTES = 128 * 1024
"""What is longer is compressed in a thread: it would keep others waiting for milliseconds."""
ENCODINGS_KEPT = 64
"""Values of `Accept-Encoding` whose meaning is remembered."""
MAX_ENCODING_LENGTH = 200
"""Of one that is looked at; who sends a longer one gets nothing compressed."""
BODY_TIMEOUT_S = 30
"""A request whose body has not arrived by then is refused."""
CORS_HEADERS = {
    "access-control-allow-origin": "*",
    "access-control-allow-methods": "GET, POST, OPTIONS",
    "access-control-allow-headers": "content-type, prefer, clear-auth, blind-auth",
    "access-control-expose-headers": "retry-after, etag",
    "access-control-max-age": "600",
}
"""Wallets in browsers need these on every answer, also on refusals."""
NOT_MODIFIED = 304

T = TypeVar("T", bound=BaseModel)
S = TypeVar("S")


@dataclass(slots=True)
class Visit:
    """One request to the mint: who asks, and what was sent, until it is read. `prefer`: the headers of that name
    (RFC 7240)."""

    services: Services
    limits: RateLimits
    client: Client
    data: bytes
    prefer: str = ""

    def charge(self, budget: Budget, cost: int) -> None:
        """Count what is asked for. Raises TooManyRequestsError."""
        self.limits.charge(self.client, budget, cost)

    def read(self, model: type[T]) -> T:
        """The body as a model; its bytes are not kept for as long as a payment may take. Raises 10000 with the first
        thing that is wrong, and TooManyRequestsError."""
        data, self.data = self.data, b""
        self.charge(REQUESTS, cost_of_bytes(len(data)))
        return parse(model, data)


async def visit() -> Visit:
    """The present request of the framework."""
    data = await request.get_data(cache=False, as_text=False)
    return Visit(services(), rate_limits(), client(), cast(bytes, data), header("Prefer"))


def header(name: str) -> str:
    """Of the framework's present request; one that was sent several times is one list (RFC 9110 5.3)."""
    return ",".join(request.headers.getlist(name))


async def body(model: type[T]) -> T:
    """The request's JSON body as a model. Raises 10000 with the first thing that is wrong, and TooManyRequestsError."""
    return (await visit()).read(model)


def parse(model: type[T], data: bytes) -> T:
    """JSON as a model. Raises 10000 with the first thing that is wrong."""
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


# --- what is asked for often and seldom changes -----------------------------------------------------------------------


class Document:
    """An answer that is the same for everybody, kept as it is sent. `tagged`: the part of it that its tag stands for,
    if that is not all."""

    def __init__(self, body: bytes, tagged: bytes | None = None) -> None:
        self.body = body
        self.etag = f'W/"{hashlib.sha256(body if tagged is None else tagged).hexdigest()[:32]}"'

    @cached_property
    def compressed(self) -> bytes:
        """The same for clients that read gzip."""
        return compress(self.body)

    def is_known_by(self, if_none_match: str) -> bool:
        """Whether a client that says this in `If-None-Match` has it already (RFC 9110 13.1.2)."""
        if not if_none_match:
            return False
        tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
        return "*" in tags or self.etag.removeprefix("W/") in tags


class Shelf(Generic[S]):
    """Keeps one document, until what it is made from is another."""

    def __init__(self, make: Callable[[S], Document]) -> None:
        self._make = make
        self._kept: tuple[S, Document] | None = None

    def get(self, source: S) -> Document:
        """The document made from this."""
        if self._kept is None or self._kept[0] != source:
            self._kept = source, self._make(source)
        return self._kept[1]


def answer_document(document: Document) -> Response:
    """A document as an answer to the present request of the framework."""
    if document.is_known_by(header("If-None-Match")):
        answer = Response(status=NOT_MODIFIED, headers={"etag": document.etag, "vary": "accept-encoding"})
        del answer.headers["content-type"]  # there is no content
        return answer
    return Response(document.body, content_type="application/json", headers={"etag": document.etag})


def reads_gzip(accept_encoding: str) -> bool:
    """Whether a client that says this in `Accept-Encoding` takes gzip (RFC 9110 12.5.3)."""
    return len(accept_encoding) <= MAX_ENCODING_LENGTH and _reads_gzip(accept_encoding)


@lru_cache(ENCODINGS_KEPT)
def _reads_gzip(accept_encoding: str) -> bool:
    return parse_accept_header(accept_encoding).best_match(["gzip"]) is not None


def compress(data: bytes) -> bytes:
    """For clients that read gzip."""
    return gzip.compress(data, COMPRESS_LEVEL, mtime=0)


async def compressed(data: bytes) -> bytes:
    """The same, wherever it keeps nobody waiting."""
    return await asyncio.to_thread(compress, data) if len(data) > COMPRESS_ASIDE_FROM_BYTES else compress(data)
