"""The wallets' HTTP API: routes, and what every answer has in common."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

from quart import Quart, Response, current_app, has_websocket_context, request
from quart import websocket as current_websocket
from quart_schema import Info, QuartSchema
from quart_schema.openapi import OpenAPIProvider
from werkzeug.exceptions import HTTPException

from ledger.errors import Code, LedgerError
from ledger.models import ErrorResponse
from plugin.http import info, keys, limits, melt, mint, refusals, state, swap, websocket
from plugin.http.connection import BEGAN, MeteredHttp, MeteredRequest
from plugin.http.counter import Counter
from plugin.http.limits import RateLimits, TooManyRequestsError
from plugin.http.pages import assets, operator, user
from plugin.http.refusals import NotReadyError
from plugin.http.wire import (
    BODY_TIMEOUT_S,
    COMPRESS_FROM_BYTES,
    CORS_HEADERS,
    MAX_BODY_BYTES,
    compressed,
    header,
    reads_gzip,
    refusal,
)
from plugin.methods.method import Method
from plugin.metrics import Metrics
from plugin.services import EXTENSION, Services
from plugin.version import VERSION

LATER = {
    status: {
        "description": description,
        "headers": {"Retry-After": {"description": "Seconds", "schema": {"type": "integer"}}},
        "content": {"application/json": {"schema": ErrorResponse.model_json_schema()}},
    }
    for status, description in (
        (429, "This client has asked for too much at once."),
        (503, "The mint is starting, stopping or busy, or its node can't be reached."),
    )
}
"""What every operation may answer as well."""

PAGES = {"user_page.user_page", "operator.operator_page"}
"""What people open in a browser: they are told in words why there is nothing to see."""

COUNTER = "nutbolt.counter"
METRICS = "nutbolt.metrics"

METHOD_PATH = re.compile(r"/v1/(mint|melt)/(quote/)?[^/]+(/[^/]+)?/?$")
"""Of an endpoint that belongs to a payment method."""


class Description(OpenAPIProvider):
    """The API's description. It never changes, and takes as long to make as fifty ordinary answers."""

    _made: dict[str, Any] | None = None

    def schema(self) -> dict[str, Any]:
        """Made when it is first asked for."""
        if self._made is None:
            self._made = super().schema()
            for path in self._made["paths"].values():
                for operation in path.values():
                    operation["responses"].update(LATER)
        return self._made


def create_app(
    why_not_ready: Callable[[], str | None],
    methods: Sequence[type[Method]],
    rate_limits: RateLimits,
    metrics: Metrics | None = None,
) -> Quart:
    """The application, with the routes of these payment methods.

    It answers 503 as long as `why_not_ready` gives a reason; before that ends, call `install`."""
    app = Quart("nutbolt", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.config["BODY_TIMEOUT"] = BODY_TIMEOUT_S
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False  # no redirects: a path with too many slashes is unknown
    app.request_class = MeteredRequest
    app.asgi_http_class = MeteredHttp
    app.asgi_websocket_class = websocket.Intake
    app.extensions[limits.EXTENSION] = rate_limits
    metrics = metrics or Metrics()
    app.extensions[METRICS] = metrics
    for module in (info, keys, swap, state, websocket, assets, user, operator):
        app.register_blueprint(module.blueprint)
    for method in methods:
        app.register_blueprint(mint.blueprint(method))
        app.register_blueprint(melt.blueprint(method))

    @app.before_request
    @app.before_websocket
    async def refuse_too_many() -> Response | None:
        if _is_preflight():
            return None  # its answer is as cheap as a refusal
        try:
            limits.charge(limits.REQUESTS)
        except TooManyRequestsError as error:
            return await _refused(error)
        return None

    @app.before_request
    @app.before_websocket
    async def refuse_until_ready() -> Response | None:
        if (reason := why_not_ready()) is None or _is_preflight():
            return None
        if not has_websocket_context() and request.endpoint in PAGES:
            return assets.not_ready(reason, refusals.RETRY_AFTER_S)
        return await _refused(NotReadyError(reason))

    app.after_request(_finish)
    QuartSchema(
        app,
        openapi_path="/openapi.json",
        openapi_provider_class=Description,
        swagger_ui_path=None,
        redoc_ui_path=None,
        scalar_ui_path=None,
        info=Info(title="Nutbolt, a Cashu mint", version=VERSION),
    )
    app.register_error_handler(HTTPException, _malformed)
    app.register_error_handler(Exception, _refused)
    app.extensions[COUNTER] = Counter(app, why_not_ready, methods, rate_limits, metrics)
    return app


def counter(app: Quart) -> Counter:
    """What answers before the application is asked."""
    found: Counter = app.extensions[COUNTER]
    return found


def install(app: Quart, services: Services) -> None:
    """The mint is up: handlers may use it."""
    app.extensions[EXTENSION] = services


def _is_preflight() -> bool:
    """A browser shows its page no answer, not even a 503, unless its question beforehand was answered well."""
    return not has_websocket_context() and request.method == "OPTIONS"


def _metrics() -> Metrics:
    return cast(Metrics, current_app.extensions[METRICS])


async def _finish(response: Response) -> Response:
    now = time.perf_counter()
    seconds = now - float(cast(dict[str, Any], request.scope).get(BEGAN, now))
    rule = None if request.url_rule is None else request.url_rule.rule
    _metrics().answered(rule, request.method, response.status_code, seconds)
    if request.blueprint != operator.blueprint.name:  # no other site's page has any business there
        response.headers.update(CORS_HEADERS)
    if not reads_gzip(header("Accept-Encoding")) or "content-encoding" in response.headers:
        return response
    if response.mimetype == operator.EVENT_STREAM:
        return response  # it has no end that could be waited for
    data = await response.get_data(as_text=False)
    if len(data) >= COMPRESS_FROM_BYTES:
        response.set_data(await compressed(data))
        response.headers["content-encoding"] = "gzip"
        response.vary.add("accept-encoding")
    return response


async def _refused(error: Exception) -> Response:
    if isinstance(error, LedgerError):
        _metrics().refused(error.code)
    why = refusals.of(error)
    response = refusal(why.detail, why.code, why.status)
    if why.retry_after_s is not None:
        response.headers["Retry-After"] = str(why.retry_after_s)
    return response


async def _malformed(error: HTTPException) -> Response:
    """Unknown paths, wrong methods, bodies too large or too slow: wallets understand 400 (NUT-00)."""
    method, path = ("WebSocket", current_websocket.path) if has_websocket_context() else (request.method, request.path)
    if method == "OPTIONS":
        return Response(status=204)  # a browser asks first, also for a path where the answer will be a refusal
    status = 404 if error.code == 404 and not path.startswith("/v1/") else 400
    detail = {
        404: f"there is no {method} {path[:200]}",
        405: f"{method} is not allowed for {path[:200]}",
        408: refusals.LATE,
        413: f"the request's body is larger than {MAX_BODY_BYTES} bytes",
    }.get(error.code or 0, error.description or "malformed request")
    return refusal(detail, _code_of(error.code, path), status)


def _code_of(status: int | None, path: str) -> Code:
    """What wallets can act on: a method that this mint doesn't have, and a request to be split."""
    if status == 404 and METHOD_PATH.match(path):
        return Code.UNIT_UNSUPPORTED
    if status == 413 and path.startswith(("/v1/swap", "/v1/melt/")):
        return Code.TOO_MANY_INPUTS
    if status == 413 and path.startswith("/v1/mint/"):
        return Code.TOO_MANY_OUTPUTS
    return Code.REQUEST_REJECTED
