"""What refusals at the door leave to the collector of garbage: `python -m tests.plugin.leftovers ready|often` prints
how many objects of fifty requests. A process of its own: what else runs in that of the tests would be counted, too."""

from __future__ import annotations

import asyncio
import gc
import sys
import tempfile
from pathlib import Path

from contrib.fuzz import server
from contrib.fuzz.targets import empty_ledger
from plugin.http import app as http_app
from plugin.http.limits import RateLimits
from plugin.methods.table import METHODS
from plugin.options import parse

COUNT = 50
REQUEST = b"POST /v1/swap HTTP/1.1\r\nHost: m\r\nContent-Length: 2\r\n\r\n{}"


async def main(way: str) -> None:
    """Measure the second time, when all that is made once is there."""
    limits = RateLimits(parse({"cashu-rate-limit-local": "1" if way == "often" else "0"}))
    app = http_app.create_app(lambda: "the mint is starting" if way == "ready" else None, METHODS, limits)
    with tempfile.TemporaryDirectory() as directory:
        services = server.application(empty_ledger(Path(directory))).extensions["nutbolt"]
        http_app.install(app, services)
        left, answer = 0, b""
        for _ in range(2):
            gc.collect()
            answer = await server.converse(app, [REQUEST, b"", b""] * COUNT)
            left = gc.collect()
        assert answer.count(b"HTTP/1.1 503" if way == "ready" else b"HTTP/1.1 429") >= COUNT - 6
        print(left)
        server.FOR_LIFE.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
