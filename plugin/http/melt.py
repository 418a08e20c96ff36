"""Melt quotes and melting (NUT-05, NUT-08), in the same way for every method."""

from __future__ import annotations

from quart import Blueprint, Response, request
from quart_schema import document_request, document_response, operation_id

from ledger.ledger import curve_work
from ledger.models import ErrorResponse
from plugin.http.limits import MELT_COST, NODE, SIGNATURES, charge
from plugin.http.wire import answer, body
from plugin.methods.method import Method
from plugin.services import services


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
        quote_request = await body(method.melt_quote_request)
        charge(NODE, method.melt_quote_cost)
        return answer(await services().method(name).create_melt_quote(quote_request))

    @routes.get(f"/v1/melt/quote/{name}/<quote_id>")
    @document_response(method.melt_quote)
    @document_response(ErrorResponse, 400)
    @operation_id(f"melt_quote_{name}")
    async def melt_quote(quote_id: str) -> Response:
        """A quote as it is now; asks nobody but the ledger, and never waits for a payment."""
        return answer(services().ledger.melt_quote(name, quote_id))

    @routes.post(f"/v1/melt/{name}")
    @document_response(method.melt_quote)
    @document_response(ErrorResponse, 400)
    @document_request(method.melt_request)
    @operation_id(f"melt_{name}")
    async def melt() -> Response:
        """Pay a quote with proofs."""
        melt_request = await body(method.melt_request)
        charge(SIGNATURES, curve_work(melt_request))
        charge(NODE, MELT_COST)
        prefer_async = bool(melt_request.prefer_async) or _prefers_async_by_header()
        return answer(await services().method(name).melt(melt_request, prefer_async))

    return routes


def _prefers_async_by_header() -> bool:
    """`Prefer: respond-async` (RFC 7240): the form that NUT-05 had before the body's `prefer_async`."""
    preferences = ",".join(request.headers.getlist("Prefer")).lower().split(",")
    return any(preference.split(";")[0].strip() == "respond-async" for preference in preferences)
