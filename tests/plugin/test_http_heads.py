"""The heads of requests: how many lines they may have, and which hosts are names."""

from __future__ import annotations

import traceback
from pathlib import Path

import h11
import pytest

from contrib.fuzz import server
from contrib.fuzz.targets import empty_ledger
from plugin.http.heads import MAX_HEADER_LINES, MAX_HOST_BYTES, Parser, is_sound


def head(lines: int, end: bytes = b"\r\n") -> bytes:
    """Of a request with so many headers."""
    return b"GET /v1/info HTTP/1.1" + end + b"Host: m" + end + (b"a: b" + end) * (lines - 1) + end


def parser(data: bytes) -> Parser:
    made = Parser(h11.SERVER, max_incomplete_event_size=100_000)
    made.receive_data(data)
    return made


@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
def test_a_head_may_have_so_many_lines(end: bytes) -> None:
    request = parser(head(MAX_HEADER_LINES, end)).next_event()
    assert len(request.headers) == MAX_HEADER_LINES


@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
@pytest.mark.parametrize("cut", [0, 2], ids=["whole", "not yet whole"])
def test_and_no_more(end: bytes, cut: int) -> None:
    data = head(MAX_HEADER_LINES + 3, end)
    with pytest.raises(h11.RemoteProtocolError, match="more than 100 headers") as refused:
        parser(data[: len(data) - cut]).next_event()
    assert refused.value.error_status_hint == 431


def test_requests_that_come_at_once_are_counted_one_by_one() -> None:
    made = parser(head(60) * 3)
    for _ in range(3):
        assert isinstance(made.next_event(), h11.Request)
        assert isinstance(made.next_event(), h11.EndOfMessage)
        made.send(h11.Response(status_code=200, headers=[(b"content-length", b"0")]))
        made.send(h11.EndOfMessage())
        made.start_next_cycle()
    assert made.next_event() is h11.NEED_DATA


def test_a_bodys_lines_are_no_headers() -> None:
    body = b"\n" * 1000
    made = parser(b"POST /v1/swap HTTP/1.1\r\nHost: m\r\nContent-Length: 1000\r\n\r\n" + body)
    assert isinstance(made.next_event(), h11.Request)
    assert made.next_event().data == body


@pytest.mark.parametrize("data", [head(200), b"GET / HTTP/1.1\r\nbad header\r\n\r\n", b"\0\0\r\n\r\n"])
def test_what_is_refused_knows_nothing_of_the_connection(data: bytes) -> None:
    """Else each of them would be a cycle, with the whole connection in it."""
    with pytest.raises(h11.RemoteProtocolError) as refused:
        parser(data).next_event()
    assert refused.value.__context__ is None
    knowing = [frame for frame, _ in traceback.walk_tb(refused.value.__traceback__)]
    assert not any(known is refused.value for frame in knowing for known in frame.f_locals.values())


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (b"mint.example:3338", True),
        (b"[::1]:3338", True),
        (b"a" * 63 + b".example", True),
        (b".".join([b"a" * 20] * 12), True),
        (b"a." * (MAX_HOST_BYTES // 2 + 1), False),
        (b"\xe9", False),
        ("münze.example".encode(), False),
        (b"a" * 64, False),
        (b"[::x]", False),
    ],
)
def test_a_host_is_a_name_or_an_address(host: bytes, expected: bool) -> None:
    assert is_sound(parser(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n").next_event()) is expected


@pytest.mark.parametrize("path", [b"/v1/info", b"/v1/info?plainly"])
@pytest.mark.parametrize(
    ("extra", "status"),
    [(b"a: b\r\n" * 99, b"200"), (b"a: b\r\n" * 6000, b"431"), (b"Ho st: m\r\n", b"400")],
)
async def test_what_is_too_much_is_answered_and_ends_the_connection(
    tmp_path: Path, path: bytes, extra: bytes, status: bytes
) -> None:
    app = server.application(empty_ledger(tmp_path))
    try:
        request = b"GET " + path + b" HTTP/1.1\r\nHost: m\r\n" + extra + b"\r\n"
        answer = await server.converse(app, [request])
        assert answer.startswith(b"HTTP/1.1 " + status)
        assert (b"connection: close" in answer) is (status != b"200")
    finally:
        server.FOR_LIFE.close()
