"""`POST /v1/swap` (NUT-03)."""

from __future__ import annotations

from quart import Blueprint, Response
from quart_schema import document_request, document_response

from ledger.ledger import curve_work
from ledger.models import ErrorResponse, SignaturesResponse, SwapRequest
from plugin.http.limits import SIGNATURES, charge
from plugin.http.wire import answer, body
from plugin.methods.method import perform
from plugin.services import services

blueprint = Blueprint("swap", __name__)


@blueprint.post("/v1/swap")
@document_response(SignaturesResponse)
@document_response(ErrorResponse, 400)
@document_request(SwapRequest)
async def swap() -> Response:
    """Proofs in, signatures out."""
    request = await body(SwapRequest)
    charge(SIGNATURES, curve_work(request))
    signatures = await perform(services().ledger.swap, request)
    return answer(signatures)
