"""Melt quotes and melting (NUT-05, NUT-08, NUT-23)."""

from __future__ import annotations

from quart import Blueprint, Response, request
from quart_schema import document_request, document_response

from ledger.models import ErrorResponse, MeltQuote, MeltQuoteBolt11Request, MeltRequest
from plugin.http.wire import answer, body
from plugin.methods import bolt11
from plugin.services import services

blueprint = Blueprint("melt", __name__)


@blueprint.post("/v1/melt/quote/bolt11")
@document_response(MeltQuote)
@document_response(ErrorResponse, 400)
@document_request(MeltQuoteBolt11Request)
async def create_melt_quote() -> Response:
    """What would paying this invoice cost?"""
    return answer(await services().bolt11.create_melt_quote(await body(MeltQuoteBolt11Request)))


@blueprint.get("/v1/melt/quote/bolt11/<quote_id>")
@document_response(MeltQuote)
@document_response(ErrorResponse, 400)
async def melt_quote(quote_id: str) -> Response:
    """A quote as it is now; asks nobody but the ledger, and never waits for a payment."""
    return answer(services().ledger.melt_quote(bolt11.METHOD, quote_id))


@blueprint.post("/v1/melt/bolt11")
@document_response(MeltQuote)
@document_response(ErrorResponse, 400)
@document_request(MeltRequest)
async def melt() -> Response:
    """Pay a quote with proofs."""
    melt_request = await body(MeltRequest)
    prefer_async = bool(melt_request.prefer_async) or _prefers_async_by_header()
    return answer(await services().bolt11.melt(melt_request, prefer_async))


def _prefers_async_by_header() -> bool:
    """`Prefer: respond-async` (RFC 7240): the form that NUT-05 had before the body's `prefer_async`."""
    preferences = ",".join(request.headers.getlist("Prefer")).lower().split(",")
    return any(preference.split(";")[0].strip() == "respond-async" for preference in preferences)
