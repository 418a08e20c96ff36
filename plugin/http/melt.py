"""Melt quotes and melting (NUT-05, NUT-08), in the same way for every method."""

from __future__ import annotations

from quart import Blueprint, Response
from quart_schema import document_request, document_response, operation_id

from ledger.ledger import curve_work
from ledger.models import ErrorResponse, MeltQuote
from plugin.http.limits import MELT_COST, NODE, SIGNATURES
from plugin.http.wire import Visit, answer, visit
from plugin.methods.method import Method
from plugin.services import Services, services


def blueprint(method: type[Method]) -> Blueprint:
    """The routes of one method."""
    name = method.name
    routes = Blueprint(f"melt_{name}", __name__)

    @routes.post(f"/v1/melt/quote/{name}")
    @document_response(method.melt_quote)
    @document_response(ErrorResponse, 400)
    @document_request(method.melt_quote_request)
    @operation_id(f"create_melt_quote_{name}")
    async def create_melt_quote() -> Response:
        """What would this payment cost?"""
        return answer(await create_quote(method, await visit()))

    @routes.get(f"/v1/melt/quote/{name}/<quote_id>")
    @document_response(method.melt_quote)
    @document_response(ErrorResponse, 400)
    @operation_id(f"melt_quote_{name}")
    async def melt_quote(quote_id: str) -> Response:
        """A quote as it is now; asks nobody but the ledger, and never waits for a payment."""
        return answer(find_quote(method, services(), quote_id))

    @routes.post(f"/v1/melt/{name}")
    @document_response(method.melt_quote)
    @document_response(ErrorResponse, 400)
    @document_request(method.melt_request)
    @operation_id(f"melt_{name}")
    async def melt() -> Response:
        """Pay a quote with proofs."""
        return answer(await pay(method, await visit()))

    return routes


# --- whichever way the request came -----------------------------------------------------------------------------------


async def create_quote(method: type[Method], visit: Visit) -> MeltQuote:
    """Price a payment."""
    request = visit.read(method.melt_quote_request)
    visit.charge(NODE, method.melt_quote_cost)
    return await visit.services.method(method.name).create_melt_quote(request)


def find_quote(method: type[Method], mint: Services, quote_id: str) -> MeltQuote:
    """A quote as it is now."""
    return mint.ledger.melt_quote(method.name, quote_id)


async def pay(method: type[Method], visit: Visit) -> MeltQuote:
    """Pay a quote."""
    request = visit.read(method.melt_request)
    visit.charge(SIGNATURES, curve_work(request))
    visit.charge(NODE, MELT_COST)
    prefer_async = bool(request.prefer_async) or _prefers_async(visit.prefer)
    return await visit.services.method(method.name).melt(request, prefer_async)


def _prefers_async(header: str) -> bool:
    """`Prefer: respond-async` (RFC 7240): the form that NUT-05 had before the body's `prefer_async`."""
    preferences = header.lower().split(",")
    return any(preference.split(";")[0].strip() == "respond-async" for preference in preferences)
