"""Ten thousand connections that say nothing, or half of something, or don't read, while an honest wallet works.

All of them come through a trusted proxy, which says that they are of many addresses: so no limit for a single client
is in their way, only what holds for all together. Each is opened again as soon as the mint has ended it.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import resource
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from contrib.reliability.report import Report
from contrib.wallet import MintClient, MintUnreachableError
from tests.plugin.harness import PATIENCE_S, Mint, Purse
from tests.protocol.helpers import random_ys

CONNECTIONS = 10_000
RESERVED_FILES = 500
ADDRESSES = 2000
"""From which the attackers claim to come."""
OPENING_AT_ONCE = 200
ENDED_WAIT_S = 0.5
REST_S = 2.0
"""Between the honest wallet's rounds: each asks the node three times, and a client may do so twice a second."""
MEGABYTE = 1024 * 1024
MOST_MEMORY = 2048 * MEGABYTE
"""More than this is a finding: small machines run mints."""
MOST_UNANSWERED = 10
"""One round of so many may have to be begun again: who attacks has the same processor as the mint here."""
SUBSCRIPTIONS = 20
FILTERS = 50


Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter


@dataclass
class Tally:
    """What became of one kind of connection."""

    opened: int = 0
    refused: int = 0
    ended: int = 0
    open: int = 0
    most: int = 0

    def begin(self) -> None:
        """One more is open."""
        self.opened += 1
        self.open += 1
        self.most = max(self.most, self.open)


@dataclass
class Crowd:
    """The attackers. `statuses`: of the answers that they got."""

    port: int
    tallies: dict[str, Tally] = field(default_factory=dict)
    statuses: Counter[int] = field(default_factory=Counter)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    ys: list[str] = field(default_factory=lambda: random_ys(FILTERS))
    doors: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(OPENING_AT_ONCE))
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def head(self, line: str, *more: str) -> bytes:
        """A request's head, of an address of the attackers."""
        number = next(self._numbers) % ADDRESSES
        source = f"X-Forwarded-For: 198.{18 + number // 65536}.{number // 256 % 256}.{number % 256}"
        return "\r\n".join((line, "Host: mint", source, *more, "", "")).encode()

    async def hold(self, kind: str, act: Callable[[Crowd, Reader, Writer], Awaitable[bool]]) -> None:
        """Keep one connection of a kind open, again and again."""
        tally = self.tallies.setdefault(kind, Tally())
        while not self.stop.is_set():
            try:
                async with self.doors:
                    reader, writer = await self._connect(small=kind == "slow readers")
            except OSError:
                tally.refused += 1
                await asyncio.sleep(ENDED_WAIT_S)
                continue
            served = False
            try:
                if served := await act(self, reader, writer):
                    tally.begin()
                    await _until_end(self, reader, kind == "slow readers")
                    tally.ended += not self.stop.is_set()
                else:
                    tally.refused += 1
            except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                tally.ended += not self.stop.is_set()
            finally:
                tally.open -= served
                writer.transport.abort()
            await asyncio.sleep(ENDED_WAIT_S)

    async def _connect(self, small: bool) -> tuple[Reader, Writer]:
        sock = socket.socket()
        sock.setblocking(False)
        if small:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        try:
            await asyncio.wait_for(
                asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.port)), timeout=PATIENCE_S
            )
        except BaseException:
            sock.close()
            raise
        return await asyncio.open_connection(sock=sock, limit=4096)

    async def status(self, reader: Reader) -> int:
        """The status of an answer, whose head is read."""
        line = await reader.readline()
        if not line:
            raise ConnectionResetError
        while (await reader.readline()).strip():
            pass
        status = int(line.split()[1])
        self.statuses[status] += 1
        return status


async def _until_end(crowd: Crowd, reader: Reader, unread: bool) -> None:
    """Until the mint ends the connection, or all end."""
    ended = asyncio.create_task(_unread_end(reader) if unread else _read_all(reader))
    stopped = asyncio.create_task(crowd.stop.wait())
    _, pending = await asyncio.wait([ended, stopped], return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(ended, stopped, return_exceptions=True)


async def _read_all(reader: Reader) -> None:
    while await reader.read(4096):
        pass


async def _unread_end(reader: Reader) -> None:
    """One that does not read learns only from an error that it was cut off."""
    while reader.exception() is None:  # noqa: ASYNC110 - there is nothing to wait for
        await asyncio.sleep(1)


# --- what they do -----------------------------------------------------------------------------------------------------


async def idle(crowd: Crowd, reader: Reader, writer: Writer) -> bool:
    """One request, and then nothing more."""
    writer.write(crowd.head("GET /v1/keysets HTTP/1.1"))
    return await crowd.status(reader) == 200


async def half_a_head(crowd: Crowd, _reader: Reader, writer: Writer) -> bool:
    """A request that does not come to its end."""
    writer.write(crowd.head("POST /v1/swap HTTP/1.1")[:-2] + b"X-Long: " + b"a" * 4000)
    await writer.drain()
    return True


async def half_a_body(crowd: Crowd, _reader: Reader, writer: Writer) -> bool:
    """A body of which a part is missing."""
    writer.write(crowd.head("POST /v1/swap HTTP/1.1", "Content-Length: 100000") + b" " * 16_000)
    await writer.drain()
    return True


async def slow_reader(crowd: Crowd, _reader: Reader, writer: Writer) -> bool:
    """Asks for much and reads nothing."""
    writer.write(crowd.head("GET /openapi.json HTTP/1.1", "Accept-Encoding: identity") * 3)
    await writer.drain()
    return True


async def websocket(crowd: Crowd, reader: Reader, writer: Writer) -> bool:
    """A WebSocket with as many subscriptions as are granted."""
    key = base64.b64encode(os.urandom(16)).decode()
    upgrade = ("Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13")
    writer.write(crowd.head("GET /v1/ws HTTP/1.1", *upgrade))
    if await crowd.status(reader) != 101:
        return False
    for number in range(SUBSCRIPTIONS):
        params = {"kind": "proof_state", "subId": f"{number}", "filters": crowd.ys}
        call = {"jsonrpc": "2.0", "id": number, "method": "subscribe", "params": params}
        frame = json.dumps(call).encode()
        writer.write(b"\x81\xfe" + len(frame).to_bytes(2, "big") + bytes(4) + frame)
    await writer.drain()
    return True


STAGES: tuple[tuple[str, float, Callable[[Crowd, Reader, Writer], Awaitable[bool]]], ...] = (
    ("idle after a request", 0.4, idle),
    ("half a head", 0.2, half_a_head),
    ("half a body", 0.15, half_a_body),
    ("slow readers", 0.1, slow_reader),
    ("WebSockets", 0.15, websocket),
)
"""Each stage adds this share of all connections to those of the ones before."""


# --- the honest wallet ------------------------------------------------------------------------------------------------


class Honest(threading.Thread):
    """A wallet with an address of its own: it mints, swaps and melts."""

    def __init__(self, mint: Mint) -> None:
        super().__init__(name="honest wallet", daemon=True)
        self._mint = mint
        self._end = threading.Event()
        self.done = 0
        self.unanswered = 0
        """Rounds that it had to begin again, because no answer came in time."""
        self.slowest_s = 0.0
        self.failures: list[str] = []

    def run(self) -> None:
        """One round after the other."""
        purse = Purse(self._mint)
        transport = httpx.HTTPTransport(limits=httpx.Limits(max_keepalive_connections=0))
        purse.client = MintClient(self._mint.url, read_timeout_s=PATIENCE_S, transport=_Named(transport))
        while not self._end.is_set():
            begun = time.monotonic()
            try:
                proofs = purse.swap(purse.fund(100))
                assert sum(proof.amount for proof in proofs) == 100
                melt = purse.post_async(self._mint.invoice(50))
                purse.wait_final(melt)
                self.done += 1
            except MintUnreachableError:
                self.unanswered += 1
            except Exception as error:
                self.failures.append(f"the honest wallet: {type(error).__name__}: {error}"[:200])
            self.slowest_s = max(self.slowest_s, time.monotonic() - begun)
            self._end.wait(REST_S)
        purse.client.close()

    def stop(self) -> None:
        """End it after its present round."""
        self._end.set()
        self.join(2 * PATIENCE_S)


class _Named(httpx.BaseTransport):
    """Says for whom the proxy speaks."""

    def __init__(self, inner: httpx.BaseTransport) -> None:
        self._inner = inner

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.headers["x-forwarded-for"] = "192.0.2.1"
        return self._inner.handle_request(request)

    def close(self) -> None:
        self._inner.close()


# --- the attack -------------------------------------------------------------------------------------------------------


def run(budget_s: float) -> Report:
    """Hold the connections for as long as the budget allows."""
    most = _allow_files(CONNECTIONS)
    with tempfile.TemporaryDirectory(prefix="nutbolt-connections-") as directory:
        mint = Mint(Path(directory), trusted_proxies="127.0.0.1", rate_limit_local=100)
        mint.start()
        try:
            honest = Honest(mint)
            before = _memory(mint)
            honest.start()
            crowd, rows = asyncio.run(_attack(mint, most, budget_s))
            honest.stop()
            findings = [*honest.failures]
            peak = max(int(row[2]) for row in rows)
            after = _memory(mint)
            try:
                mint.check()
            except AssertionError as error:
                findings.append(f"the log or the books: {error}"[:500])
            findings += _judge(crowd, peak, honest)
            alone = mint.http.get("/v1/keys")
            if alone.status_code != 200:
                findings.append(f"afterwards the mint answers {alone.status_code}")
        finally:
            mint.stop()
    tallies = crowd.tallies.values()
    return Report(
        title="Ten thousand connections",
        what=(
            "Connections by the thousand that ask once and stay, that send half a head or half a body, that don't read "
            "what they asked for, and WebSockets with a thousand filters each, as many as the mint takes: opened again "
            "whenever the mint ends them. Meanwhile an honest wallet mints, swaps and melts. Checked: none of "
            "its rounds is refused or goes wrong, nearly all are answered in time, no answer is a 500, nothing is "
            "logged as broken, memory stays bounded, the books balance."
        ),
        figures={
            "connections held at once": max(int(row[1]) for row in rows),
            "connections opened": sum(tally.opened for tally in tallies),
            "connections that the mint ended": sum(tally.ended for tally in tallies),
            "connections or WebSockets refused": sum(tally.refused for tally in tallies),
            "rounds of the honest wallet (mint, swap, melt)": honest.done,
            "rounds begun again, because no answer came in time": honest.unanswered,
            "rounds that were refused or went wrong": len(honest.failures),
            "slowest round, s": round(honest.slowest_s, 1),
            "memory before, MiB": before // MEGABYTE,
            "memory at most, MiB": peak,
            "memory afterwards, MiB": after // MEGABYTE,
        },
        losses=len(findings),
        findings=tuple(findings),
        columns=("stage", "connections held", "memory, MiB", "most of this kind"),
        rows=rows,
    )


def _judge(crowd: Crowd, peak: int, honest: Honest) -> list[str]:
    findings = [f"{count} answers with {status}" for status, count in crowd.statuses.items() if status == 500]
    if peak * MEGABYTE > MOST_MEMORY:
        findings.append(f"the plugin has taken {peak} MiB")
    if not honest.done or honest.unanswered * MOST_UNANSWERED > honest.done:
        findings.append(f"the honest wallet was served {honest.done} times, and {honest.unanswered} times not")
    return findings


async def _attack(mint: Mint, most: int, budget_s: float) -> tuple[Crowd, list[tuple[str, ...]]]:
    crowd = Crowd(mint.port)
    tasks: list[asyncio.Task[None]] = []
    rows: list[tuple[str, ...]] = []
    stage_s = budget_s / (len(STAGES) + 1)
    for kind, share, act in STAGES:
        tasks += [asyncio.create_task(crowd.hold(kind, act)) for _ in range(int(most * share))]
        rows.append(await _watch(crowd, mint, f"and {kind}" if rows else kind, stage_s, kind))
    rows.append(await _watch(crowd, mint, "all of them go on", stage_s, ""))
    crowd.stop.set()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return crowd, rows


async def _watch(crowd: Crowd, mint: Mint, stage: str, seconds: float, kind: str) -> tuple[str, ...]:
    """Look on for a while; the most that was seen."""
    end = time.monotonic() + seconds
    held, memory = 0, 0
    while time.monotonic() < end:
        await asyncio.sleep(min(0.5, seconds))
        held = max(held, sum(tally.open for tally in crowd.tallies.values()))
        memory = max(memory, _memory(mint))
    tally = crowd.tallies.get(kind)
    return (stage, str(held), str(memory // MEGABYTE), str(tally.most) if tally else "")


def _memory(mint: Mint) -> int:
    """Resident memory of the plugin, in bytes."""
    status = Path(f"/proc/{mint.node.plugin_pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


def _allow_files(connections: int) -> int:
    """How many connections this process may hold; asks the system for as many as it needs."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + RESERVED_FILES
    soft = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(1, min(connections, soft - RESERVED_FILES))
