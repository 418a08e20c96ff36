"""Wallets in a process of their own: `python -m contrib.bench.crowd` reads a job, one line of JSON, on standard input.

    {"work": "keep", ...}      send requests, so many at a time, each as soon as one before it is answered
    {"work": "arrive", ...}    send them evenly or at random moments, so many a second, whether or not those before
                               are answered
    {"work": "watch", ...}     subscribe to melts by WebSocket, say so, and note when each is told to be over

Times are CLOCK_MONOTONIC, which all processes of a machine share.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

CONNECTIONS = 150
"""Most that are open at once; an arrival that finds none free waits for one, and its time with it."""
IDLE_S = 2.0
"""A connection that has not been used for so long is not used again: the mint closes it after a few seconds."""
FILTERS = 500
"""Melts in one subscription."""
MELT_QUOTE = "bolt11_melt_quote"
SEED = 11
TIMEOUT_S = 900.0

Job = dict[str, Any]


class CrowdError(Exception):
    """The wallets could not do their job."""


class Crowd:
    """The process, seen from the one that started it."""

    def __init__(self, **job: Any) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "contrib.bench.crowd"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.close()

    def read(self) -> Any:
        """The next thing that it says. Raises CrowdError if it has failed."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise CrowdError(f"the wallets' process has ended with code {self._process.wait()}")
        return json.loads(line)

    def end(self) -> None:
        """Kill it, if it hasn't ended."""
        self._process.kill()
        self._process.wait()


class Connections:
    """Open connections to the mint, used again and again."""

    def __init__(self, host: str, port: int, most: int) -> None:
        self._host, self._port = host, port
        self._idle: list[tuple[float, asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._slots = asyncio.Semaphore(most)

    @asynccontextmanager
    async def _one(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        async with self._slots:
            pair = self._take() or await asyncio.open_connection(self._host, self._port)
            yield pair
            if not pair[1].is_closing():
                self._idle.append((time.monotonic(), *pair))

    def _take(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        while self._idle:
            used_s, reader, writer = self._idle.pop()
            if used_s > time.monotonic() - IDLE_S:
                return reader, writer
            writer.close()
        return None

    async def post(self, path: str, body: str) -> Any:
        """The JSON of the answer. Raises CrowdError if that is not 200."""
        async with self._one() as (reader, writer):
            head = f"POST {path} HTTP/1.1\r\nHost: mint\r\nContent-Type: application/json\r\nContent-Length: "
            writer.write(f"{head}{len(body)}\r\n\r\n{body}".encode())
            answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(answer.partition("content-length:")[2].split("\r\n", 1)[0])
            content = await reader.readexactly(length)
            if "connection: close" in answer:
                writer.close()
            if not answer.startswith("http/1.1 200"):
                raise CrowdError(f"{path}: {answer.splitlines()[0]} {content!r}")
            return json.loads(content)


async def keep(job: Job) -> None:
    """Answers with the seconds that all took, and those of each."""
    connections = Connections(job["host"], job["port"], job["clients"])
    times: list[float] = []

    async def send(body: str) -> None:
        async with slots:
            begun = time.monotonic()
            await connections.post(job["path"], body)
            times.append(time.monotonic() - begun)

    slots = asyncio.Semaphore(job["clients"])
    begun = time.monotonic()
    await asyncio.gather(*(send(body) for body in job["bodies"]))
    say({"seconds": time.monotonic() - begun, "times": times})


async def arrive(job: Job) -> None:
    """Answers with the seconds of each, counted from when it should have been sent: a mint that falls behind is not
    spared the requests that come meanwhile."""
    connections = Connections(job["host"], job["port"], CONNECTIONS)
    chance = random.Random(SEED)  # noqa: S311 - the same each time
    times: list[float] = []

    async def send(body: str, due: float) -> None:
        await connections.post(job["path"], body)
        times.append(time.monotonic() - due)

    begun = due = time.monotonic()
    async with asyncio.TaskGroup() as sending:
        for body in job["bodies"]:
            due += 1 / job["per_s"] if job["evenly"] else chance.expovariate(job["per_s"])
            await asyncio.sleep(due - time.monotonic())
            sending.create_task(send(body, due))
    say({"seconds": time.monotonic() - begun, "times": times})


async def watch(job: Job) -> None:
    """Says `ready` when all are subscribed, then, when `expected` melts are over, when each was told to be."""
    quotes = job["quotes"]
    over: dict[str, float] = {}
    groups = [quotes[start : start + FILTERS] for start in range(0, len(quotes), FILTERS)]
    sockets = [await connect(f"ws://{job['host']}:{job['port']}/v1/ws", max_size=None) for _ in groups]
    waiting = asyncio.Event()

    async def listen(socket: ClientConnection, group: list[str]) -> None:
        params = {"kind": MELT_QUOTE, "subId": "melts", "filters": group}
        await socket.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "subscribe", "params": params}))
        for _ in range(1 + len(group)):  # that it was accepted, and the present states
            await socket.recv()

    async def note(socket: ClientConnection) -> None:
        async for message in socket:
            now = time.monotonic()
            payload = json.loads(message)["params"]["payload"]
            if payload["state"] != "PENDING":
                over[payload["quote"]] = now
            if len(over) >= job["expected"]:
                waiting.set()

    for socket, group in zip(sockets, groups, strict=True):
        await listen(socket, group)
    notes = [asyncio.create_task(note(socket)) for socket in sockets]
    say("ready")
    await asyncio.wait([asyncio.create_task(waiting.wait()), *notes], return_when=asyncio.FIRST_COMPLETED)
    say(over)
    for task in notes:
        task.cancel()
    await asyncio.gather(*(socket.close() for socket in sockets), *notes, return_exceptions=True)


def say(what: Any) -> None:
    """One line of JSON."""
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    job: Job = json.loads(sys.stdin.readline())
    works = {"keep": keep, "arrive": arrive, "watch": watch}
    asyncio.run(asyncio.wait_for(works[job["work"]](job), TIMEOUT_S))
