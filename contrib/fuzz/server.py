"""The mint's HTTP server without sockets: bytes in, bytes out."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import Any, cast

from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.asyncio.worker_context import WorkerContext
from quart import Quart

from ledger.ledger import Ledger
from plugin.http import app as http_app
from plugin.http.connection import Connections, ImpatientServer, ServerConfig
from plugin.http.limits import RateLimits
from plugin.http.subscriptions import Hub
from plugin.http.websocket import MAX_FRAME_BYTES
from plugin.methods.method import Limits, Method
from plugin.methods.table import METHODS
from plugin.node.rpc import NodeUnavailableError
from plugin.options import parse
from plugin.services import Services

LONGEST_S = 5.0
"""A connection whose client has left must have ended long before."""
NO_LIMITS = {"cashu-rate-limit": "0", "cashu-rate-limit-local": "0", "cashu-methods": "bolt11,bolt12,onchain"}

FOR_LIFE = ExitStack()
"""Closes what is open as long as the process: a target has one to itself, and tests close it between them."""


def event_loop() -> asyncio.AbstractEventLoop:
    """A loop for life."""
    loop = asyncio.new_event_loop()
    FOR_LIFE.callback(loop.close)
    return loop


def application(ledger: Ledger) -> Quart:
    """The API of a mint without a node: what needs none is served."""
    settings = parse(NO_LIMITS)
    app = http_app.create_app(lambda: None, METHODS, RateLimits(settings))
    hub = Hub(ledger, event_loop(), [method.name for method in METHODS])
    nothing: Any = None
    methods = {method.name: cast(Method, _Absent(method.name)) for method in METHODS}
    http_app.install(app, Services(settings, ledger, methods, nothing, nothing, nothing, hub, nothing, nothing))
    return app


class _Absent:
    """A method that is refused as when the node can't be reached."""

    mint_limits = melt_limits = Limits.of_sat(1, 0)
    mint_options: dict[str, Any] = {}  # noqa: RUF012 - never changed
    melt_options: dict[str, Any] = {}  # noqa: RUF012
    pays_parts = False

    def __init__(self, name: str) -> None:
        self.name = name

    async def create_mint_quote(self, *_: object) -> None:
        """Raises NodeUnavailableError, as do all others."""
        raise NodeUnavailableError("there is no node")

    create_melt_quote = issue = issue_batch = melt = create_mint_quote


class _Transport:
    """What a connection's own code asks of it."""

    def __init__(self) -> None:
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.aborted


class _Socket:
    family = 2

    def getpeername(self) -> tuple[str, int]:
        return ("127.0.0.1", 1)

    getsockname = getpeername


class _Writer:
    """Takes all that is sent."""

    def __init__(self) -> None:
        self.sent = bytearray()
        self.transport = _Transport()

    def get_extra_info(self, name: str) -> Any:
        return {"socket": _Socket(), "peername": ("127.0.0.1", 1)}.get(name)

    def write(self, data: bytes) -> None:
        self.sent += data

    async def drain(self) -> None:
        await asyncio.sleep(0)

    def write_eof(self) -> None:
        pass

    def close(self) -> None:
        pass

    async def wait_closed(self) -> None:
        pass


async def converse(app: Quart, pieces: list[bytes], turns: int = 20) -> bytes:
    """Send these pieces, with pauses after each of so many turns of the event loop, and then leave; all that was
    answered.

    Raises TimeoutError if the connection does not end."""
    config = ServerConfig()
    config.connections = Connections(RateLimits(parse(NO_LIMITS)), 100)
    config.counter = http_app.counter(app)
    config.websocket_max_message_size = MAX_FRAME_BYTES
    config.errorlog = config.accesslog = None
    reader, writer = asyncio.StreamReader(), _Writer()
    loop = asyncio.get_running_loop()
    connection = ImpatientServer(
        ASGIWrapper(app), loop, config, WorkerContext(None), cast(Any, {}), reader, cast(Any, writer)
    )
    running = loop.create_task(connection.run())
    for piece in pieces:
        reader.feed_data(piece)
        for _ in range(turns):
            await asyncio.sleep(0)
    reader.feed_eof()
    async with asyncio.timeout(LONGEST_S):
        await running
    return bytes(writer.sent)
