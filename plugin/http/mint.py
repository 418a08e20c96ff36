"""Mint quotes and minting (NUT-04, NUT-20, NUT-29), in the same way for every method."""

from __future__ import annotations

from quart import Blueprint, Response
from quart_schema import document_request, document_response, operation_id

from ledger.ledger import curve_work
from ledger.models import (
    ErrorResponse,
    MintBatchRequest,
    MintQuote,
    MintQuoteCheckRequest,
    MintRequest,
    SignaturesResponse,
)
from plugin.http.limits import LOOKUPS, NODE, SIGNATURES, charge
from plugin.http.wire import Visit, answer, answer_list, body, visit
from plugin.methods.method import Method
from plugin.services import Services, services


def blueprint(method: type[Method]) -> Blueprint:
    """The routes of one method."""
    name = method.name
    routes = Blueprint(f"mint_{name}", __name__)

    @routes.post(f"/v1/mint/quote/{name}")
    @document_response(method.mint_quote)
    @document_response(ErrorResponse, 400)
    @document_request(method.mint_quote_request)
    @operation_id(f"create_mint_quote_{name}")
    async def create_mint_quote() -> Response:
        """Ask for something to pay: an invoice, an offer, an address."""
        return answer(await create_quote(method, await visit()))

    @routes.get(f"/v1/mint/quote/{name}/<quote_id>")
    @document_response(method.mint_quote)
    @document_response(ErrorResponse, 400)
    @operation_id(f"mint_quote_{name}")
    async def mint_quote(quote_id: str) -> Response:
        """A quote as it is now; asks nobody but the ledger."""
        return answer(find_quote(method, services(), quote_id))

    @routes.post(f"/v1/mint/quote/{name}/check")
    @document_response(list[method.mint_quote])  # type: ignore[name-defined]
    @document_response(ErrorResponse, 400)
    @document_request(MintQuoteCheckRequest)
    @operation_id(f"check_quotes_{name}")
    async def check_quotes() -> Response:
        """Several quotes as they are now (NUT-29)."""
        request = await body(MintQuoteCheckRequest)
        charge(LOOKUPS, len(request.quotes))
        return answer_list(services().ledger.mint_quotes(name, request))

    @routes.post(f"/v1/mint/{name}/batch")
    @document_response(SignaturesResponse)
    @document_response(ErrorResponse, 400)
    @document_request(MintBatchRequest)
    @operation_id(f"mint_batch_{name}")
    async def mint_batch() -> Response:
        """Ecash for several paid quotes (NUT-29)."""
        request = await body(MintBatchRequest)
        charge(SIGNATURES, curve_work(request))
        return answer(await services().method(name).issue_batch(request))

    @routes.post(f"/v1/mint/{name}")
    @document_response(SignaturesResponse)
    @document_response(ErrorResponse, 400)
    @document_request(MintRequest)
    @operation_id(f"mint_{name}")
    async def mint() -> Response:
        """Ecash for a paid quote."""
        return answer(await issue(method, await visit()))

    return routes


# --- whichever way the request came -----------------------------------------------------------------------------------


async def create_quote(method: type[Method], visit: Visit) -> MintQuote:
    """Make something to pay."""
    request = visit.read(method.mint_quote_request)
    visit.charge(NODE, method.mint_quote_cost)
    return await visit.services.method(method.name).create_mint_quote(request)


def find_quote(method: type[Method], mint: Services, quote_id: str) -> MintQuote:
    """A quote as it is now."""
    return mint.ledger.mint_quote(method.name, quote_id)


async def issue(method: type[Method], visit: Visit) -> SignaturesResponse:
    """Issue a quote."""
    request = visit.read(MintRequest)
    visit.charge(SIGNATURES, curve_work(request))
    return await visit.services.method(method.name).issue(request)
