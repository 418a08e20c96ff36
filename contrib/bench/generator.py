"""The load generator's process: `python -m contrib.bench.generator` reads a job as JSON on standard input and writes
a `Result` to the file that it names; see `contrib.bench.load`.

Requests are bytes that were made beforehand, and answers are only taken apart as far as HTTP needs: so that a request
costs the generator some 0.05 ms, less than any mint.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import httptools
import uvloop

from contrib.bench.load import Ask, LoadError, Result


class Client(asyncio.Protocol):
    """One connection, which sends the next request when it has the answer to the one before."""

    def __init__(self, requests: Iterator[tuple[int, bytes]], generator: Generator) -> None:
        self._requests = requests
        self._generator = generator
        self._number = -1
        self._begun = 0.0
        self._body = bytearray()
        self._goes_on = True
        self.is_last = False
        """There are no more requests."""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast(asyncio.WriteTransport, transport)
        self._parser = httptools.HttpResponseParser(self)
        self._next()

    def data_received(self, data: bytes) -> None:
        """Take an answer apart."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.done.set_exception(LoadError(f"an answer that is not HTTP: {error!r}"))
        if self._is_complete:
            self._generator.note(
                self._number,
                (time.perf_counter() - self._begun) * 1000,
                self._parser.get_status_code(),
                self._body,
            )
            self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        """The mint has closed it; that is an error unless all is done."""
        if not self.done.done():
            self.done.set_exception(LoadError(f"the connection was closed after {self._number} requests: {exc}"))

    def on_body(self, body: bytes) -> None:
        """Called by the parser."""
        self._body += body

    def on_message_complete(self) -> None:
        """Called by the parser: the answer is here."""
        self._is_complete = True
        self._goes_on = self._parser.should_keep_alive()

    def _next(self) -> None:
        if not self._goes_on:  # mints end a connection after many requests
            self._finish()
            return
        self._number, request = next(self._requests, (-1, b""))
        if not request:
            self.is_last = True
            self._finish()
            return
        self._body.clear()
        self._is_complete = False
        self._begun = time.perf_counter()
        self._transport.write(request)

    def _finish(self) -> None:
        self.done.set_result(None)
        self._transport.close()


class Generator:
    """Carries out one job."""

    def __init__(self, job: dict[str, Any]) -> None:
        self._job = job
        asks = [Ask(*ask) for ask in job["asks"]]
        self._requests = [_request(ask, f"{job['host']}:{job['port']}") for ask in asks]
        self._latencies = [0.0] * len(asks)
        self._statuses = [0] * len(asks)
        self._bodies = [""] * len(asks)

    def note(self, number: int, latency_ms: float, status: int, body: bytearray) -> None:
        """An answer has come."""
        self._latencies[number] = latency_ms
        self._statuses[number] = status
        if self._job["keep"] or status != 200:
            self._bodies[number] = body.decode(errors="replace")

    async def run(self) -> Result:
        """Send everything."""
        loop = asyncio.get_running_loop()
        requests = enumerate(self._requests)
        begun = time.perf_counter()

        async def ask() -> None:
            client = None
            while client is None or not client.is_last:
                made = loop.create_connection(lambda: Client(requests, self), self._job["host"], self._job["port"])
                _, client = await made
                await client.done

        await asyncio.gather(*(ask() for _ in range(self._job["clients"])))
        return Result(time.perf_counter() - begun, self._latencies, self._statuses, self._bodies)


def _request(ask: Ask, host: str) -> bytes:
    head = [
        f"{'GET' if ask.body is None else 'POST'} {ask.path} HTTP/1.1",
        f"Host: {host}",
        "Accept: */*",
        f"Accept-Encoding: {ask.accept_encoding}",
        "User-Agent: bench",
    ]
    body = b""
    if ask.body is not None:
        body = ask.body.encode()
        head += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*head, "", ""]).encode() + body


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    result = uvloop.run(Generator(asked).run())
    Path(asked["answer"]).write_text(json.dumps(result._asdict()))
