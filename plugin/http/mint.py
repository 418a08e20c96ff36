"""Mint quotes and minting (NUT-04, NUT-20, NUT-23)."""

from __future__ import annotations

from quart import Blueprint, Response
from quart_schema import document_request, document_response

from ledger.models import (
    ErrorResponse,
    MintBatchRequest,
    MintQuote,
    MintQuoteBolt11Request,
    MintQuoteCheckRequest,
    MintRequest,
    SignaturesResponse,
)
from plugin.http.wire import answer, answer_list, body
from plugin.methods import bolt11
from plugin.services import services

blueprint = Blueprint("mint", __name__)


@blueprint.post("/v1/mint/quote/bolt11")
@document_response(MintQuote)
@document_response(ErrorResponse, 400)
@document_request(MintQuoteBolt11Request)
async def create_mint_quote() -> Response:
    """Ask for an invoice."""
    return answer(await services().bolt11.create_mint_quote(await body(MintQuoteBolt11Request)))


@blueprint.get("/v1/mint/quote/bolt11/<quote_id>")
@document_response(MintQuote)
@document_response(ErrorResponse, 400)
async def mint_quote(quote_id: str) -> Response:
    """A quote as it is now; asks nobody but the ledger."""
    return answer(services().ledger.mint_quote(bolt11.METHOD, quote_id))


@blueprint.post("/v1/mint/quote/bolt11/check")
@document_response(list[MintQuote])
@document_response(ErrorResponse, 400)
@document_request(MintQuoteCheckRequest)
async def check_quotes() -> Response:
    """Several quotes as they are now (NUT-29)."""
    request = await body(MintQuoteCheckRequest)
    return answer_list(services().ledger.mint_quotes(bolt11.METHOD, request))


@blueprint.post("/v1/mint/bolt11/batch")
@document_response(SignaturesResponse)
@document_response(ErrorResponse, 400)
@document_request(MintBatchRequest)
async def mint_batch() -> Response:
    """Ecash for several paid quotes (NUT-29)."""
    return answer(await services().bolt11.issue_batch(await body(MintBatchRequest)))


@blueprint.post("/v1/mint/bolt11")
@document_response(SignaturesResponse)
@document_response(ErrorResponse, 400)
@document_request(MintRequest)
async def mint() -> Response:
    """Ecash for a paid quote."""
    return answer(await services().bolt11.issue(await body(MintRequest)))
