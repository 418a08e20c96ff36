"""One connection: what is sent is watched, and how many files may be open is arranged."""

from __future__ import annotations

import asyncio
import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import pytest

from contrib.fuzz import server
from contrib.fuzz.targets import empty_ledger
from plugin.http import connection, subscriptions, wire
from plugin.http.clients import Client
from plugin.http.connection import (
    MAX_CONNECTIONS,
    RESERVED_FILES,
    Connections,
    ImpatientServer,
    MeteredBody,
    most_connections,
)
from plugin.http.limits import RateLimits
from plugin.http.subscriptions import Connection, Waiting
from plugin.options import parse


class Transport:
    """Something is sent, so many bytes between two looks."""

    def __init__(self, speed: int) -> None:
        self.aborted = asyncio.Event()
        self._waiting = 1000
        self._speed = speed

    def abort(self) -> None:
        self.aborted.set()

    def get_write_buffer_size(self) -> int:
        self._waiting -= self._speed
        return self._waiting


def watching(transport: Transport) -> Any:
    """What a server does while it sends by this transport."""
    server = ImpatientServer.__new__(ImpatientServer)
    server.loop = asyncio.get_running_loop()
    server.writer = cast(Any, type("Writer", (), {"transport": transport}))
    return server._watched()


@pytest.mark.parametrize(("speed", "longest_s"), [(0, 3600.0), (1, 0.05)], ids=["takes nothing", "takes too long"])
async def test_who_takes_nothing_or_never_all_is_cut_off(
    monkeypatch: pytest.MonkeyPatch, speed: int, longest_s: float
) -> None:
    monkeypatch.setattr(connection, "SEND_TIMEOUT_S", 0.02)
    monkeypatch.setattr(connection, "LONGEST_SEND_S", longest_s)
    transport = Transport(speed)
    with watching(transport):
        async with asyncio.timeout(30):
            await transport.aborted.wait()


async def test_who_goes_on_taking_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "SEND_TIMEOUT_S", 0.02)
    transport = Transport(speed=1)
    with watching(transport):
        await asyncio.sleep(0.2)
    assert not transport.aborted.is_set()


@pytest.mark.parametrize(
    ("limits", "most"),
    [
        ((1024, 1024), 1024 - RESERVED_FILES),
        ((1024, 4096), 4096 - RESERVED_FILES),
        ((1024, 1_000_000), MAX_CONNECTIONS),
        ((1024, resource.RLIM_INFINITY), MAX_CONNECTIONS),
        ((1_000_000, 1_000_000), MAX_CONNECTIONS),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), MAX_CONNECTIONS),
        ((100, 100), 1),
    ],
)
def test_connections_leave_files_for_the_rest(
    monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int], most: int
) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _, values: asked.append(values))
    assert most_connections() == most
    for soft, hard in asked:
        assert soft >= limits[0]
        assert hard == limits[1]


EARLY = b"POST /no-such HTTP/1.1\r\nHost: m\r\nContent-Length: 8\r\n\r\n1234"


@pytest.mark.parametrize("rest", [[b"5678"], [b"5", b"678"], [b"5678GET / HTTP/1.1\r\n"], [b"5678" + EARLY, b"5678"]])
async def test_who_is_answered_before_he_has_said_all_and_goes_on_leaves_nothing_behind(
    tmp_path: Path, rest: list[bytes]
) -> None:
    answer = await server.converse(server.application(empty_ledger(tmp_path)), [EARLY, *rest])
    assert answer.count(b"HTTP/1.1 ") == 1
    assert answer.startswith(b"HTTP/1.1 404")


# --- how much of what is on its way -----------------------------------------------------------------------------------

ALICE, BOB = (Client(f"192.0.2.{number}", shared=False) for number in (1, 2))


@pytest.fixture
def bodies(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Client], MeteredBody]]:
    """Makes bodies, of which a client can have 1000 bytes, or one whole body; all of them 3000, and short ones half as
    many more."""
    monkeypatch.setattr(connection, "MAX_BODIES_BYTES", 3000)
    monkeypatch.setattr(connection, "MAX_BODIES_BYTES_OF_CLIENT", 1000)
    monkeypatch.setattr(connection, "SMALL_BODY_BYTES", 100)
    limits, made = RateLimits(parse({})), []

    def make(client: Client, most: int = 500) -> MeteredBody:
        body = MeteredBody(None, most)
        body.belongs_to(client, limits)
        made.append(body)
        return body

    yield make
    for body in made:
        body.clear()
    assert MeteredBody._in_memory == 0
    assert not MeteredBody._of_sender


def takes(body: MeteredBody, size: int) -> bool:
    body.append(b" " * size)
    return not body.is_refused


def test_a_client_that_has_sent_too_much_leaves_room_for_others(bodies: Callable[..., MeteredBody]) -> None:
    first, second, third = (bodies(ALICE) for _ in range(3))
    assert takes(first, 500)
    assert takes(second, 500)
    assert not takes(third, 1)
    assert takes(bodies(BOB), 500)
    first.clear()
    assert takes(bodies(ALICE), 500)


def test_one_body_always_has_room_of_its_clients(bodies: Callable[..., MeteredBody]) -> None:
    assert takes(bodies(ALICE, most=2500), 2500)
    assert not takes(bodies(ALICE, most=2500), 1)


def test_short_bodies_have_room_when_long_ones_have_none(bodies: Callable[..., MeteredBody]) -> None:
    many = [Client(f"198.51.100.{number}", shared=False) for number in range(20)]
    assert all(takes(bodies(client), 500) for client in many[:6])
    assert not takes(bodies(many[6]), 101)
    assert all(takes(bodies(client), 100) for client in many[:15])
    assert not takes(bodies(many[15]), 100)


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> Connections:
    """Of which a client can have answers of 1000 bytes waiting, if they are longer than 10; all of them 3000."""
    monkeypatch.setattr(connection, "MAX_ANSWERS_BYTES", 3000)
    monkeypatch.setattr(connection, "MAX_ANSWERS_BYTES_OF_CLIENT", 1000)
    monkeypatch.setattr(connection, "LONG_ANSWER_BYTES", 10)
    return Connections(RateLimits(parse({"cashu-trusted-proxies": "203.0.113.1"})), 100)


def sends(connections: Connections, waiting: ExitStack, number: int, size: int) -> bool:
    return waiting.enter_context(connections.sending(f"192.0.2.{number}", size))


def test_a_client_that_takes_no_answers_gets_no_more_of_them(connections: Connections) -> None:
    with ExitStack() as waiting:
        assert sends(connections, waiting, 1, 600)
        assert sends(connections, waiting, 1, 400)
        assert not sends(connections, waiting, 1, 11)
        assert sends(connections, waiting, 1, 10)
        assert sends(connections, waiting, 2, 1000)
    with ExitStack() as waiting:
        assert sends(connections, waiting, 1, 1000)


def test_one_answer_may_always_wait(connections: Connections) -> None:
    with ExitStack() as waiting:
        assert sends(connections, waiting, 1, 2000)
        assert not sends(connections, waiting, 1, 11)


def test_all_answers_together_have_a_limit_and_a_proxy_only_that(connections: Connections) -> None:
    with ExitStack() as waiting:
        for _ in range(3):
            assert waiting.enter_context(connections.sending("203.0.113.1", 900))
        assert sends(connections, waiting, 1, 300)
        assert not sends(connections, waiting, 2, 11)


async def test_who_may_have_no_more_waiting_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "LONG_ANSWER_BYTES", 100)
    monkeypatch.setattr(connection, "MAX_ANSWERS_BYTES", 100)
    app = server.application(empty_ledger(tmp_path))
    try:
        for path in (b"/v1/keys", b"/v1/keys?plainly"):
            request = b"GET " + path + b" HTTP/1.1\r\nHost: m\r\n\r\n"
            assert b"keysets" not in await server.converse(app, [request])
    finally:
        server.FOR_LIFE.close()


async def test_what_is_long_is_compressed_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []

    def noted(data: bytes) -> bytes:
        threads.append(threading.current_thread() is threading.main_thread())
        return data

    monkeypatch.setattr(wire, "compress", noted)
    for length in (wire.COMPRESS_ASIDE_FROM_BYTES, wire.COMPRESS_ASIDE_FROM_BYTES + 1):
        assert len(await wire.compressed(b" " * length)) == length
    assert threads == [True, False]


# --- WebSockets -------------------------------------------------------------------------------------------------------


def ended(socket: Connection) -> bool:
    return socket.end is not None


async def test_messages_that_wait_are_counted_by_their_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriptions, "MAX_WAITING_LENGTH", 1000)
    waiting = Waiting()
    socket = Connection(waiting)
    for _ in range(3):
        socket.send("a" * 600)
        socket.send("b" * 400)
        assert await socket.next_message() == "a" * 600
        assert await socket.next_message() == "b" * 400
    socket.send("a" * 600)
    assert not ended(socket)
    socket.send("b" * 401)
    assert ended(socket)
    assert await socket.next_message() is None
    assert waiting.length == 0


async def test_when_too_much_waits_of_all_those_are_ended_that_have_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriptions, "MAX_WAITING_LENGTH_OF_ALL", 1000)
    monkeypatch.setattr(subscriptions, "LITTLE_WAITING_LENGTH", 100)
    waiting = Waiting()
    slow, much, little = (Connection(waiting) for _ in range(3))
    slow.send("a" * 1000)
    little.send("c" * 100)
    much.send("b" * 101)
    assert [ended(slow), ended(much), ended(little)] == [False, True, False]
    slow.forget()
    assert waiting.length == 100
