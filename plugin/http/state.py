"""`POST /v1/checkstate` (NUT-07) and `/v1/restore` (NUT-09)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from quart import Blueprint, Response
from quart_schema import document_request, document_response

from ledger.models import CheckStateRequest, CheckStateResponse, ErrorResponse, RestoreRequest, RestoreResponse
from plugin.http.limits import LOOKUPS
from plugin.http.wire import Visit, answer, visit

INLINE_LOOKUPS = 128
"""Most entries that are looked up in the event loop, which takes a millisecond or two if they are in memory. To hand
them to a thread costs as much again, and more for every other one that is looked up at that time; longer lists would
keep others waiting."""

Asked = TypeVar("Asked")
Found = TypeVar("Found")

blueprint = Blueprint("state", __name__)


@blueprint.post("/v1/checkstate")
@document_response(CheckStateResponse)
@document_response(ErrorResponse, 400)
@document_request(CheckStateRequest)
async def check_state() -> Response:
    """Are these proofs unspent, pending or spent?"""
    return answer(await check(await visit()))


async def check(visit: Visit) -> CheckStateResponse:
    """Look up states, whichever way the request came."""
    request = visit.read(CheckStateRequest)
    visit.charge(LOOKUPS, len(request.Ys))
    return await _look_up(visit.services.ledger.check_state, request, len(request.Ys))


@blueprint.post("/v1/restore")
@document_response(RestoreResponse)
@document_response(ErrorResponse, 400)
@document_request(RestoreRequest)
async def restore() -> Response:
    """Signatures that were given on these outputs before."""
    return answer(await find(await visit()))


async def find(visit: Visit) -> RestoreResponse:
    """Look up signatures, whichever way the request came."""
    request = visit.read(RestoreRequest)
    visit.charge(LOOKUPS, len(request.outputs))
    return await _look_up(visit.services.ledger.restore, request, len(request.outputs))


async def _look_up(function: Callable[[Asked], Found], request: Asked, entries: int) -> Found:
    if entries > INLINE_LOOKUPS:
        return await asyncio.to_thread(function, request)
    return function(request)
