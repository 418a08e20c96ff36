"""Bytes that are no request: 400 with `{"detail", "code"}` where there is anything to answer, and never any harm."""

from __future__ import annotations

import socket
from typing import Any

import httpx
import pytest

from tests.plugin.harness import AT_ONCE_S
from tests.plugin.hostile import POSTS, Target

BODIES = {
    "empty": b"",
    "space": b"  \n",
    "not json": b"hello",
    "half an object": b'{"inputs": [',
    "unclosed string": b'{"quote": "abc',
    "null": b"null",
    "true": b"true",
    "number": b"8",
    "NaN": b"NaN",
    "string": b'"quote"',
    "array": b"[]",
    "array of objects": b"[{}]",
    "empty object": b"{}",
    "two objects": b"{} {}",
    "comment": b"{/* */}",
    "single quotes": b"{'quote': 'a'}",
    "form": b"quote=abc&outputs=1",
    "invalid utf-8": b'{"quote": "\xff\xfe"}',
    "overlong utf-8": b'{"quote": "\xc0\x80"}',
    "utf-8 surrogate": b'{"quote": "\xed\xa0\x80"}',
    "lone surrogate": b'{"quote": "\\ud800", "unit": "\\udc00"}',
    "utf-16": '{"quote": "a"}'.encode("utf-16"),
    "NUL bytes": b"\0" * 100,
    "raw control characters": b'{"quote": "a\0b\x01"}',
    "deep arrays": b"[" * 100_000,
    "closed deep arrays": b"[" * 50_000 + b"]" * 50_000,
    "deep objects": b'{"x":' * 50_000,
    "deep in an unknown field": b'{"amount": 8, "unit": "sat", "x": ' + b"[" * 9_000 + b"]" * 9_000 + b"}",
    "huge number": b'{"amount": ' + b"9" * 100_000 + b', "unit": "sat"}',
    "huge exponent": b'{"amount": 1e999999999, "unit": "sat"}',
}


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("body", BODIES.values(), ids=list(BODIES))
def test_a_body_that_is_no_request_is_refused(target: Target, path: str, body: bytes) -> None:
    target.refused("POST", path, content=body)


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("chunked", [False, True], ids=["declared", "chunked"])
def test_a_body_of_two_megabytes_is_refused(target: Target, path: str, chunked: bool) -> None:
    body = b'{"x": "' + b"a" * 2_000_000 + b'"}'
    content: Any = (body[at : at + 65_536] for at in range(0, len(body), 65_536)) if chunked else body
    before = target.mint.rows()
    try:
        response = target.mint.http.post(path, content=content)
    except httpx.TransportError:
        pass  # the mint may hang up on somebody who goes on sending
    else:
        target.assert_refusal(response.status_code, response.content)
    assert target.mint.rows() == before


WS_KEY = b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
WS_FRAMES = (
    b"\x81\x05hello",  # not masked
    b"\xf1\x80\0\0\0\0",  # reserved bits
    b"\x8f\x80\0\0\0\0",  # an unknown kind
    b"\x80\x80\0\0\0\0",  # goes on with nothing
    b"\x01\x80\0\0\0\0\x81\x80\0\0\0\0",  # one begins inside another
    b"\x89\xfe\0\x80\0\0\0\0" + bytes(128),  # a ping that is too long
    b"\x09\x80\0\0\0\0",  # a ping in pieces
    b"\x88\x81\0\0\0\0x",  # closed with half a code
    b"\x88\x82\0\0\0\0\0\1",  # closed with a code that there isn't
    b"\x88\x84\0\0\0\0\x03\xe8\xff\xfe",  # closed with a reason that is no text
    b"\x81\x82\0\0\0\0\xff\xfe",  # text that is none
    b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0",  # as long as can't be
    b"\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0" + bytes(1000),  # as long as can be
    b"\x81\xfe\0\1\0\0\0\0a",  # a length in too many bytes
)


def exchange(port: int, data: bytes, patience_s: float = AT_ONCE_S) -> bytes:
    """Send bytes and read until the other side ends, has answered in JSON, or says nothing more."""
    with socket.create_connection(("127.0.0.1", port), AT_ONCE_S) as sock:
        sock.sendall(data)
        sock.settimeout(patience_s)
        answer = b""
        while not (b"\r\n\r\n" in answer and answer.endswith(b"}")):
            try:
                part = sock.recv(65_536)
            except (TimeoutError, ConnectionResetError):
                break
            if not part:
                break
            answer += part
        return answer


def test_a_length_of_two_megabytes_is_refused_before_the_body_comes(target: Target) -> None:
    head = b"POST /v1/swap HTTP/1.1\r\nHost: mint\r\nContent-Length: 2000000\r\n\r\n"
    answer = exchange(target.mint.port, head)
    head, _, body = answer.partition(b"\r\n\r\n")
    target.assert_refusal(int(head.split()[1]), body)


@pytest.mark.parametrize(
    "data",
    [
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
        b"GET /v1/info HTTP/9.9\r\n\r\n",
        b"GET \xff\xfe HTTP/1.1\r\nHost: mint\r\n\r\n",
        b"GET /v1/\xc3\xa9 HTTP/1.1\r\nHost: mint\r\n\r\n",
        b"POST /v1/swap HTTP/1.1\r\nHost: mint\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/swap HTTP/1.1\r\nHost: mint\r\nContent-Length: 1e3\r\n\r\n",
        b"POST /v1/swap HTTP/1.1\r\nHost: mint\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"POST /v1/swap HTTP/1.1\r\nHost: mint\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        b"POST /v1/swap HTTP/1.1\r\nHost: mint\r\nTransfer-Encoding: gzip\r\n\r\n{}",
        b"GET /v1/info HTTP/1.1\r\nHost: mint\r\nX-Long: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: mint\r\n\r\n",
        b"GET /v1/info HTTP/1.1\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",
        b"GET /v1/info HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT mint:443 HTTP/1.1\r\nHost: mint\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: mint\r\n\r\n",
        b"GET http://[::1/v1/info HTTP/1.1\r\nHost: mint\r\n\r\n",
        b"GET //v1//info HTTP/1.1\r\nHost: mint\r\n\r\n",
        b"GET /v1/%ff%00%zz?%ff=%zz&=& HTTP/1.1\r\nHost: mint\r\n\r\n",
        b"GET v1/info HTTP/1.1\r\nHost: mint\r\n\r\n",
        b"GET ? HTTP/1.1\r\nHost: mint\r\n\r\n",
        b"GET /v1/info HTTP/1.1\r\nHost: \xff\xfe\r\nAccept-Encoding: \xff;q=\xfe\r\nPrefer: \xff\r\n\r\n",
        b"GET /v1/info HTTP/1.1\r\nHost: .m\r\n\r\n",
        b"GET /v1/info HTTP/1.1\r\nHost: " + b"a" * 64 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: [:1]:80\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: [1.2.3.4]\r\n\r\n",
        b"GET http://x/ HTTP/1.1\r\nHost: [::1\r\n\r\n",
        b"GET /v1/info HTTP/1.1\r\nHost: a b\r\nAccept-Encoding: gzip;q=nan, *;q=1e999\r\n\r\n",
        b"GET /v1/info HTTP/1.1\r\nHost: mint\r\nRange: bytes=9-1\r\nIf-None-Match: *\r\nCookie: \x01\r\n\r\n",
        b'GET /v1/info HTTP/1.1\r\nHost: mint\r\nX-Forwarded-For: \xff,,[:::]:x\r\nForwarded: for="\r\n\r\n',
        b"POST /v1/swap HTTP/1.1\r\nHost: mint\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"POST /v1/swap HTTP/1.1\r\nHost: mint\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n{}\n",
        b"POST /v1/swap HTTP/1.1\r\nHost: mint\r\nContent-Type: multipart/form-data\r\nContent-Length: 2\r\n\r\n{}",
        b"POST /v1/swap HTTP/1.1\r\nHost: mint\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nA: b\r\n\r\n",
        b"POST /v1/swap HTTP/1.1\r\nHost: mint\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 5000 + b"\r\n",
        b"GET /v1/info HTTP/1.0\r\n\r\n",
        b"GET /v1/ws HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        *(
            b"GET /v1/ws HTTP/1.1\r\nHost: mint\r\nConnection: upgrade\r\nUpgrade: websocket\r\n" + more
            for more in (
                b"\r\n",
                b"Sec-WebSocket-Version: 13\r\n\r\n",
                b"Sec-WebSocket-Version: 14\r\nSec-WebSocket-Key: \xff\r\n\r\n",
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: \xff\xfe\r\n\r\n",
                WS_KEY + b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=x\r\n\r\n",
                WS_KEY + b"Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=99\r\n\r\n",
                WS_KEY + b"Sec-WebSocket-Extensions: ,;=, permessage-deflate;;;\r\n\r\n",
                WS_KEY + b"Sec-WebSocket-Protocol: \xff, a, a\r\n\r\n",
                WS_KEY + b"Sec-WebSocket-Extensions: \xff\xfe\r\n\r\n",
                WS_KEY + b"Connection: \xff\xfe\r\n\r\n",
                WS_KEY + b"Content-Length: 5\r\n\r\nhello",
                *(WS_KEY + b"\r\n" + frame for frame in WS_FRAMES),
            )
        ),
    ],
    ids=lambda data: repr(data[:24]),
)
def test_bytes_that_are_no_request_do_no_harm(target: Target, data: bytes) -> None:
    exchange(target.mint.port, data, patience_s=0.5)
