"""What requests, refusals and searches leave to the collector of garbage: `python -m tests.plugin.leftovers` prints how
many objects for fifty of each, as JSON. A process of its own: in that of the tests there may be the server between a
node and its bitcoind, each of whose connections is a cycle."""

from __future__ import annotations

import asyncio
import gc
import json
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from quart import Quart

from contrib.fuzz import server
from contrib.fuzz.targets import empty_ledger
from ledger.errors import Code, LedgerError
from ledger.store.transaction import Transaction
from plugin.http import app as http_app
from plugin.http.limits import RateLimits
from plugin.methods.table import METHODS
from plugin.options import parse
from tests.ledger.helpers import ANSWER_S, SOME
from tests.plugin.test_pricing_paths import AMOUNT, FAR, FakeRoutes, head, make

COUNT = 50
GET = b"GET /v1/info HTTP/1.1\r\nHost: m\r\n\r\n"
CLOSED = b"GET /v1/info HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n"
FRAMEWORK = b"GET /v1/info?plainly HTTP/1.1\r\nHost: m\r\n\r\n"
MALFORMED = b"GET /v1/info HTTP/1.1\r\nHo st: m\r\n\r\n"
UNKNOWN = b"GET /nothing HTTP/1.1\r\nHost: m\r\n\r\n"
WRONG = b"GET /v1/swap HTTP/1.1\r\nHost: m\r\n\r\n"
TOO_LONG = b"POST /v1/swap HTTP/1.1\r\nHost: m\r\nContent-Length: 1048577\r\n\r\n"
CHUNKED = b"POST /v1/swap HTTP/1.1\r\nHost: m\r\nTransfer-Encoding: chunked\r\n\r\n"
TOO_LONG_IN_PIECES = CHUNKED + b"100001\r\n" + b" " * 0x100001 + b"\r\n0\r\n\r\n"
POST = b"POST /v1/swap HTTP/1.1\r\nHost: m\r\nContent-Length: 2\r\n\r\n{}"


def serving(directory: Path, not_ready: str | None = None, percent: str = "0") -> Quart:
    """A mint's API, which may not be ready, or may allow only so much of the usual rate."""
    limits = RateLimits(parse({"cashu-rate-limit-local": percent}))
    app = http_app.create_app(lambda: not_ready, METHODS, limits)
    http_app.install(app, server.application(empty_ledger(directory)).extensions["nutbolt"])
    return app


async def of_requests(app: Quart, request: bytes, status: bytes) -> int:
    """Left by many in a connection, beyond what the connection leaves."""

    async def ask(count: int) -> None:
        answer = await server.converse(app, [request, b"", b""] * count)
        assert answer.count(b"HTTP/1.1 ") == answer.count(b"HTTP/1.1 " + status) == count, answer[:500]

    return await left(lambda: ask(COUNT)) - await left(lambda: ask(1))


async def of_connections(app: Quart, request: bytes, status: bytes) -> int:
    """Left by many connections."""

    async def ask() -> None:
        for _ in range(COUNT):
            answer = await server.converse(app, [request, b"", b""])
            assert answer.startswith(b"HTTP/1.1 " + status), answer[:500]

    return await left(ask)


async def of_refusals(app: Quart, status: bytes) -> int:
    """Left by a connection that is refused again and again."""

    async def ask() -> None:
        answer = await server.converse(app, [POST, b"", b""] * COUNT)
        assert answer.count(b"HTTP/1.1 " + status) >= COUNT - 6, answer[:500]

    return await left(ask)


async def of_the_ledger(directory: Path) -> int:
    """Left by operations that the ledger refused."""
    ledger = empty_ledger(directory)

    def refuse(_tx: Transaction) -> None:
        raise LedgerError(Code.REQUEST_REJECTED, "refused")

    async def ask() -> None:
        for _ in range(COUNT):
            with pytest.raises(LedgerError):
                ledger.submit(SOME, refuse).result(ANSWER_S)

    return await left(ask)


async def of_searches() -> int:
    """Left by searches for a route that found none."""
    prices = make(FakeRoutes({}))

    async def ask() -> None:
        for _ in range(COUNT):
            await prices.reserve_msat("02ee", AMOUNT, [head(FAR)])

    return await left(ask)


async def left(ask: Callable[[], Awaitable[None]]) -> int:
    """Of the second time, when all that is made once is there."""
    await ask()
    gc.collect()
    await ask()
    return gc.collect()


async def main() -> None:
    """Measure them all. The collector works only when it is told to: else it would find some of it meanwhile."""
    gc.disable()
    with tempfile.TemporaryDirectory() as directory:
        app = serving(Path(directory, "app"))
        early = serving(Path(directory, "early"), not_ready="the mint is starting")
        often = serving(Path(directory, "often"), percent="1")
        counted = {
            "get": await of_requests(app, GET, b"200"),
            "post": await of_requests(app, POST, b"400"),
            "framework": await of_requests(app, FRAMEWORK, b"200"),
            "connection": await of_connections(app, GET, b"200"),
            "connection closed": await of_connections(app, CLOSED, b"200"),
            "connection of the framework": await of_connections(app, FRAMEWORK, b"200"),
            "malformed": await of_connections(app, MALFORMED, b"400"),
            "unknown path": await of_connections(app, UNKNOWN, b"404"),
            "wrong method": await of_connections(app, WRONG, b"400"),
            "too long": await of_connections(app, TOO_LONG, b"400"),
            "too long in the framework": await of_connections(app, TOO_LONG_IN_PIECES, b"400"),
            "not ready": await of_refusals(early, b"503"),
            "too often": await of_refusals(often, b"429"),
            "refusal of the ledger": await of_the_ledger(Path(directory, "ledger")),
            "search without a route": await of_searches(),
        }
        server.FOR_LIFE.close()
    print(json.dumps(counted))


if __name__ == "__main__":
    asyncio.run(main())
