"""One connection: what is sent is watched, and how many files may be open is arranged."""

from __future__ import annotations

import asyncio
import resource
from pathlib import Path
from typing import Any, cast

import pytest

from contrib.fuzz import server
from contrib.fuzz.targets import empty_ledger
from plugin.http import connection
from plugin.http.connection import MAX_CONNECTIONS, RESERVED_FILES, ImpatientServer, most_connections


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
