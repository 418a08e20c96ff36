"""`POST /v1/swap` (NUT-03)."""

from __future__ import annotations

from quart import Blueprint, Response

from ledger.models import SwapRequest
from plugin.http.wire import answer, body
from plugin.methods.bolt11 import perform
from plugin.services import services

blueprint = Blueprint("swap", __name__)


@blueprint.post("/v1/swap")
async def swap() -> Response:
    """Proofs in, signatures out."""
    signatures = await perform(services().ledger.swap, await body(SwapRequest))
    return answer(signatures)
