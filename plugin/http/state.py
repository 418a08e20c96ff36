"""`POST /v1/checkstate` (NUT-07) and `/v1/restore` (NUT-09)."""

from __future__ import annotations

import asyncio

from quart import Blueprint, Response
from quart_schema import document_request, document_response

from ledger.models import CheckStateRequest, CheckStateResponse, ErrorResponse, RestoreRequest, RestoreResponse
from plugin.http.limits import LOOKUPS, charge
from plugin.http.wire import answer, body
from plugin.services import services

blueprint = Blueprint("state", __name__)


@blueprint.post("/v1/checkstate")
@document_response(CheckStateResponse)
@document_response(ErrorResponse, 400)
@document_request(CheckStateRequest)
async def check_state() -> Response:
    """Are these proofs unspent, pending or spent?"""
    request = await body(CheckStateRequest)
    charge(LOOKUPS, len(request.Ys))
    return answer(await asyncio.to_thread(services().ledger.check_state, request))


@blueprint.post("/v1/restore")
@document_response(RestoreResponse)
@document_response(ErrorResponse, 400)
@document_request(RestoreRequest)
async def restore() -> Response:
    """Signatures that were given on these outputs before."""
    request = await body(RestoreRequest)
    charge(LOOKUPS, len(request.outputs))
    return answer(await asyncio.to_thread(services().ledger.restore, request))
