"""`POST /v1/swap` (NUT-03)."""

from __future__ import annotations

from quart import Blueprint, Response
from quart_schema import document_request, document_response

from ledger.ledger import curve_work
from ledger.models import ErrorResponse, SignaturesResponse, SwapRequest
from plugin.http.limits import SIGNATURES
from plugin.http.wire import Visit, answer, visit
from plugin.methods.method import perform

blueprint = Blueprint("swap", __name__)


@blueprint.post("/v1/swap")
@document_response(SignaturesResponse)
@document_response(ErrorResponse, 400)
@document_request(SwapRequest)
async def swap() -> Response:
    """Proofs in, signatures out."""
    return answer(await exchange(await visit()))


async def exchange(visit: Visit) -> SignaturesResponse:
    """Carry out a swap, whichever way its request came."""
    request = visit.read(SwapRequest)
    visit.charge(SIGNATURES, curve_work(request))
    return await perform(visit.services.ledger.swap, request)
