"""`/operator`: the page for the mint's operator, if he wants one (`cashu-operator-page`).

The page itself is empty, and the same for everybody. What it shows it fetches with a rune in the header `Rune`, as with
the node's own REST interface, and the node checks that rune each time. Nothing here changes anything.

The rune must permit the method `cashu-operator-page`. No command has that name, so a rune that permits nothing else
opens this page, and nothing on the node.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import get_args

from quart import Blueprint, Response, request
from quart_schema import hide
from werkzeug.exceptions import NotFound

from ledger.errors import Code
from plugin.http.limits import OPERATOR, charge
from plugin.http.pages import assets
from plugin.http.wire import refusal
from plugin.node.runes import RuneRefusedError
from plugin.operator.overview import Overview
from plugin.operator.pulse import Pulse
from plugin.operator.views import Span
from plugin.services import services

METHOD = "cashu-operator-page"
"""What a rune must permit."""
MAY_LOAD = "style-src 'self'; img-src 'self'; script-src 'self'; connect-src 'self'"
EVENT_STREAM = "text/event-stream"
MAX_STREAMS = 16
"""Event streams that are open at once, of all operators."""
STREAM_S = 300
"""A stream ends after that, so that its rune is checked again."""
TICK_S = 1
"""Between two events of one stream."""
SILENCE_S = 20
"""So long nothing is sent when nothing happens: proxies cut off what is silent for longer."""

blueprint = Blueprint("operator", __name__)


@blueprint.get("/operator")
@hide
async def operator_page() -> Response:
    """The page, without any figure."""
    _overview()
    return assets.page("operator.html", MAY_LOAD, icon=assets.icon_of(services().settings.icon).address, method=METHOD)


@blueprint.get("/operator/data")
@hide
async def data() -> Response:
    """All that the page shows: `OverviewResponse`, for the span of time in the query."""
    overview = _overview()
    await _require_rune(overview)
    span = request.args.get("span", "day")
    if span not in get_args(Span):
        return refusal(f"span must be one of: {', '.join(get_args(Span))}", Code.REQUEST_REJECTED)
    return _private(Response(await overview.answer(span), content_type="application/json"))  # type: ignore[arg-type]


@blueprint.get("/operator/events")
@hide
async def events() -> Response:
    """A stream of server-sent events, one when the figures may have changed. They hold no figures."""
    overview = _overview()
    await _require_rune(overview)
    if overview.pulse.listeners >= MAX_STREAMS:
        response = refusal(f"{MAX_STREAMS} pages of operators are open already", Code.REQUEST_REJECTED, 503)
        response.headers["Retry-After"] = str(STREAM_S)
        return response
    response = Response(_beats(overview.pulse), content_type=EVENT_STREAM)
    response.timeout = None
    response.headers["x-accel-buffering"] = "no"  # nginx would keep them together
    return _private(response)


@blueprint.errorhandler(RuneRefusedError)
async def refused(error: RuneRefusedError) -> Response:
    """No rune, no data."""
    response = refusal(str(error), Code.REQUEST_REJECTED, 401)
    response.headers["www-authenticate"] = "Rune"
    return _private(response)


async def _beats(pulse: Pulse) -> AsyncIterator[bytes]:
    """An event at once, and one whenever something has changed."""
    loop = asyncio.get_running_loop()
    end = loop.time() + STREAM_S
    with pulse.listening():
        seen = pulse.count
        yield _event(seen)
        while not pulse.is_over and (left_s := end - loop.time()) > 0:
            try:
                async with asyncio.timeout(min(left_s, SILENCE_S)):
                    seen = await pulse.after(seen)
            except TimeoutError:
                yield b": nothing new\n\n"
            else:
                if not pulse.is_over:
                    yield _event(seen)
                    await asyncio.sleep(TICK_S)


def _event(number: int) -> bytes:
    return f"data: {number}\n\n".encode()


def _overview() -> Overview:
    """Raises NotFound if the operator wants no page."""
    overview = services().overview
    if overview is None:
        raise NotFound
    return overview


async def _require_rune(overview: Overview) -> None:
    charge(OPERATOR)
    await overview.runes.require(request.headers.get("rune", ""), METHOD)


def _private(response: Response) -> Response:
    response.headers.update(assets.HEADERS)
    response.headers["cache-control"] = "no-store"
    return response
