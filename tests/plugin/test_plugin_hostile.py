"""Bad input, of every kind and everywhere: 400 with `{"detail", "code"}`, no traceback, and not a row changed."""

from __future__ import annotations

import copy
import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from coincurve import PrivateKey

from contrib.sandbox import bolt11
from contrib.wallet import messages
from ledger.errors import Code
from tests.plugin.harness import AT_ONCE_S, UNSPENT, Mint, Purse, running

SWAP = "/v1/swap"
MINT_QUOTE = "/v1/mint/quote/bolt11"
MINT = "/v1/mint/bolt11"
MINT_CHECK = "/v1/mint/quote/bolt11/check"
MINT_BATCH = "/v1/mint/bolt11/batch"
MELT_QUOTE = "/v1/melt/quote/bolt11"
MELT = "/v1/melt/bolt11"
CHECK_STATE = "/v1/checkstate"
RESTORE = "/v1/restore"
POSTS = (SWAP, MINT_QUOTE, MINT, MINT_CHECK, MINT_BATCH, MELT_QUOTE, MELT, CHECK_STATE, RESTORE)

NOT_ON_CURVE = "02" + "00" * 31 + "05"
GENERATOR_UNCOMPRESSED = PrivateKey((1).to_bytes(32, "big")).public_key.format(compressed=False).hex()


@dataclass
class Target:
    """A mint, and for each endpoint a request that it would grant, changed by nothing that happens here."""

    mint: Mint
    purse: Purse
    good: dict[str, dict[str, Any]]

    def refused(self, method: str, path: str, code: Code | None = None, **request: Any) -> httpx.Response:
        """Send a request that must be refused, and change nothing."""
        before = self.mint.rows()
        response = self.mint.http.request(method, path, **request)
        self.assert_refusal(response.status_code, response.content, code)
        assert self.mint.rows() == before
        return response

    @staticmethod
    def assert_refusal(status: int, content: bytes, code: Code | None = None) -> None:
        """An answer is a refusal as the NUTs want it."""
        assert status == 400, content
        answer = json.loads(content)
        assert set(answer) == {"detail", "code"}
        assert type(answer["detail"]) is str
        assert answer["detail"]
        assert len(answer["detail"]) < 1000
        assert type(answer["code"]) is int
        assert code is None or answer["code"] == code, answer

    def post(self, path: str, body: Any, code: Code | None = None) -> httpx.Response:
        """The same with a JSON body, which may have in it what JSON does not allow (NaN, lone surrogates)."""
        return self.refused("POST", path, code, content=json.dumps(body).encode())


@pytest.fixture(scope="module")
def shared(mint: Mint) -> Iterator[Target]:
    """What all tests attack. In the end every good request is granted."""
    purse = Purse(mint)
    proofs = [wire.model_dump(mode="json", exclude={"dleq"}, exclude_none=True) for wire in purse.fund(8 + 16)]
    quotes = [purse.request_mint(24) for _ in range(3)]
    for quote in quotes:
        mint.node.pay_invoice(quote.request)
        purse.wait_credited(quote)
    melt = purse.prepare(mint.invoice(100))

    def outputs(amount: int) -> list[dict[str, Any]]:
        return [message.model_dump(mode="json") for message in messages(purse.outputs(amount))]

    good: dict[str, dict[str, Any]] = {
        SWAP: {"inputs": proofs, "outputs": outputs(24)},
        MINT_QUOTE: {"amount": 8, "unit": "sat", "description": "good", "pubkey": purse.keyset.keys[1].hex()},
        MINT: {"quote": quotes[0].quote, "outputs": outputs(24)},
        MINT_CHECK: {"quotes": [quotes[1].quote, quotes[2].quote]},
        MINT_BATCH: {"quotes": [quotes[1].quote, quotes[2].quote], "quote_amounts": [24, 24], "outputs": outputs(48)},
        MELT_QUOTE: {"request": str(mint.invoice(10)), "unit": "sat"},
        MELT: melt.body,
        CHECK_STATE: {"Ys": [p.y for p in melt.inputs]},
        RESTORE: {"outputs": outputs(3)},
    }
    yield Target(mint, purse, good)
    for path, body in good.items():
        response = mint.http.post(path, json=body)
        assert response.status_code == 200, (path, response.text)


@pytest.fixture
def target(shared: Target) -> Iterator[Target]:
    """What a test attacks: afterwards it serves others as ever, and has logged nothing as broken."""
    yield shared
    answer = shared.mint.http.post(CHECK_STATE, json=shared.good[CHECK_STATE])
    assert {entry["state"] for entry in answer.json()["states"]} == {UNSPENT}
    shared.mint.check()


# --- bodies that are nothing --------------------------------------------------------------------------------------

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


# --- requests with one thing wrong --------------------------------------------------------------------------------

NO_AMOUNTS = {
    "true": True,
    "text": "8",
    "float": 8.0,
    "1e3": 1e3,
    "fraction": 8.5,
    "negative": -1,
    "2^70": 2**70,
    "2^64": 2**64,
    "above 2^63": 2**63 + 1,
    "NaN": float("nan"),
    "infinite": float("inf"),
    "null": None,
    "array": [8],
    "object": {"amount": 8},
}
NO_TEXTS: dict[str, Any] = {"null": None, "number": 7, "true": True, "array": ["a"], "object": {}}
NO_POINTS = {
    **NO_TEXTS,
    "empty": "",
    "short": "02" + "ab" * 31,
    "long": "02" + "ab" * 33,
    "odd": "02" + "ab" * 31 + "a",
    "no hex": "02" + "zz" * 32,
    "0x": "0x" + "ab" * 32,
    "spaces": "02 " + "ab" * 31 + "a",
    "line end": "02" + "ab" * 32 + "\n",
    "NUL": "02" + "ab" * 31 + "\0\0",
    "other digits": "02" + "١" * 64,
    "uncompressed": GENERATOR_UNCOMPRESSED,
}
NO_FORM = {
    "beyond the field": "02" + "ff" * 32,
    "the field's order": "02" + "ff" * 27 + "fefffffc2f",
    "prefix 04": "04" + "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798",
    "prefix 00": "00" * 33,
}
OFF_CURVE = {"not on the curve": NOT_ON_CURVE, **NO_FORM}
NO_KEYSETS = {
    **NO_TEXTS,
    "empty": "",
    "unknown": "01" + "ab" * 32,
    "unknown v1": "00" + "ab" * 7,
    "version 3": "02" + "ab" * 32,
    "too long": "01" + "ab" * 33,
    "hostile": "'; DROP TABLE keysets; --",
}
NO_QUOTES = {
    **NO_TEXTS,
    "empty": "",
    "unknown": "01a203d4-0810-7a08-beb1-35ab37fead95",
    "129 characters": "q" * 129,
    "very long": "q" * 100_000,
    "NUL": "quote\0",
    "hostile": "' OR 1=1; --",
    "path": "../../etc/passwd",
}
NO_LISTS: dict[str, Any] = {
    "null": None,
    "object": {},
    "text": "[]",
    "empty": [],
    "of null": [None],
    "of numbers": [1],
    "of text": ["a"],
}

FIELDS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    (SWAP, "inputs", NO_LISTS),
    (SWAP, "outputs", NO_LISTS),
    (SWAP, "inputs.0.amount", NO_AMOUNTS | {"zero": 0, "no power of two": 3, "other amount": 16, "2^63": 2**63}),
    (SWAP, "inputs.0.id", NO_KEYSETS),
    (SWAP, "inputs.0.secret", NO_TEXTS | {"other": "another", "long": "s" * 4097}),
    (SWAP, "inputs.0.C", NO_POINTS | OFF_CURVE | {"another point": "02" + GENERATOR_UNCOMPRESSED[2:66]}),
    (SWAP, "inputs.0.witness", {"number": 7, "object": {}, "long": "w" * 8193}),
    (SWAP, "outputs.0.amount", NO_AMOUNTS | {"zero": 0, "no power of two": 3, "2^62": 2**62, "2^63": 2**63}),
    (SWAP, "outputs.0.id", NO_KEYSETS),
    (SWAP, "outputs.0.B_", NO_POINTS | OFF_CURVE),
    (MINT_QUOTE, "amount", NO_AMOUNTS | {"zero": 0, "too much": 2_000_000, "2^63": 2**63}),
    (
        MINT_QUOTE,
        "unit",
        NO_TEXTS | {"empty": "", "dollars": "usd", "case": "SAT", "long": "s" * 10_000, "NUL": "sat\0"},
    ),
    (
        MINT_QUOTE,
        "description",
        {"number": 7, "object": {}, "long": "d" * 513, "NUL": "a\0b", "bell": "a\ab", "bytes": "é" * 320},
    ),
    (MINT_QUOTE, "pubkey", {**NO_POINTS, **OFF_CURVE, "null": "null", "x only": "ab" * 32}),
    (MINT, "quote", NO_QUOTES),
    (MINT, "outputs", NO_LISTS),
    (MINT, "outputs.0.amount", NO_AMOUNTS | {"zero": 0, "no power of two": 3, "2^60": 2**60, "2^63": 2**63}),
    (MINT, "outputs.0.id", NO_KEYSETS),
    (MINT, "outputs.0.B_", NO_POINTS | OFF_CURVE),
    (MINT, "signature", {"number": 7, "object": {}, "long": "a" * 257}),
    (MINT_CHECK, "quotes", NO_LISTS | {"many": ["q"] * 1001}),
    (MINT_CHECK, "quotes.0", NO_QUOTES),
    (MINT_BATCH, "quotes", NO_LISTS | {"many": ["q"] * 1001}),
    (MINT_BATCH, "quotes.1", NO_QUOTES),
    (MINT_BATCH, "quote_amounts", {"object": {}, "short": [24], "long": [24, 24, 24], "empty": []}),
    (MINT_BATCH, "quote_amounts.0", NO_AMOUNTS | {"zero": 0, "more": 25, "2^63": 2**63}),
    (MINT_BATCH, "signatures", {"object": {}, "short": [None], "of numbers": [1, 2], "of text": ["00", "00"]}),
    (MINT_BATCH, "outputs.0.amount", NO_AMOUNTS | {"zero": 0}),
    (MELT_QUOTE, "request", NO_TEXTS | {"empty": "", "long": "lnbcrt1" + "q" * 10_000}),
    (MELT_QUOTE, "unit", NO_TEXTS | {"empty": "", "dollars": "usd", "case": "Sat"}),
    (MELT_QUOTE, "options", {"number": 7, "text": "amountless", "array": []}),
    (MELT_QUOTE, "options.amountless", {"number": 7, "empty": {}}),
    (MELT_QUOTE, "options.amountless.amount_msat", NO_AMOUNTS | {"zero": 0, "other amount": 11_000, "2^63": 2**63}),
    (MELT_QUOTE, "options.mpp.amount", NO_AMOUNTS | {"zero": 0, "more than all": 10_001}),
    (MELT, "quote", NO_QUOTES),
    (MELT, "inputs", NO_LISTS),
    (MELT, "inputs.0.amount", NO_AMOUNTS | {"zero": 0, "other amount": 16}),
    (MELT, "inputs.0.id", NO_KEYSETS),
    (MELT, "inputs.0.secret", NO_TEXTS | {"other": "another"}),
    (MELT, "inputs.0.C", NO_POINTS | OFF_CURVE),
    (MELT, "outputs", {name: value for name, value in NO_LISTS.items() if name not in ("null", "empty")}),
    (MELT, "outputs.0.amount", NO_AMOUNTS),
    (MELT, "outputs.0.id", NO_KEYSETS),
    (MELT, "outputs.0.B_", NO_POINTS | OFF_CURVE),
    (MELT, "prefer_async", {"text": "true", "one": 1, "zero": 0, "empty": "", "array": []}),
    (CHECK_STATE, "Ys", {name: value for name, value in NO_LISTS.items() if name != "empty"}),
    (CHECK_STATE, "Ys.0", NO_POINTS | NO_FORM),
    (RESTORE, "outputs", {name: value for name, value in NO_LISTS.items() if name != "empty"}),
    (RESTORE, "outputs.0.B_", NO_POINTS),
    (RESTORE, "outputs.0.id", NO_TEXTS),
)


def changed(body: dict[str, Any], field: str, value: Any) -> dict[str, Any]:
    """A copy of a request with one field, given by its path, replaced."""
    made = copy.deepcopy(body)
    at: Any = made
    *parents, last = [int(part) if part.isdigit() else part for part in field.split(".")]
    for part in parents:
        at = at.setdefault(part, {}) if isinstance(at, dict) else at[part]
    at[last] = value
    return made


@pytest.mark.parametrize(
    ("path", "field", "value"),
    [
        pytest.param(path, field, value, id=f"{path} {field} {name}")
        for path, field, values in FIELDS
        for name, value in values.items()
    ],
)
def test_a_request_with_one_bad_value_is_refused(target: Target, path: str, field: str, value: Any) -> None:
    target.post(path, changed(target.good[path], field, value))


@pytest.mark.parametrize("value", ["\ud800", "a\udfffb", "\udc00\ud800"], ids=["high", "inside", "reversed"])
@pytest.mark.parametrize(
    ("path", "field"),
    [
        (SWAP, "inputs.0.secret"),
        (SWAP, "inputs.0.C"),
        (MINT_QUOTE, "description"),
        (MINT_QUOTE, "unit"),
        (MINT, "quote"),
        (MELT_QUOTE, "request"),
        (MELT, "inputs.0.witness"),
        (RESTORE, "outputs.0.B_"),
    ],
)
def test_lone_surrogates_are_refused(target: Target, path: str, field: str, value: str) -> None:
    target.post(path, changed(target.good[path], field, value))


@pytest.mark.parametrize(
    ("path", "field"),
    [
        (path, field)
        for path, fields in {
            SWAP: ("inputs", "outputs", "inputs.0.amount", "inputs.0.id", "inputs.0.secret", "inputs.0.C"),
            MINT_QUOTE: ("amount", "unit"),
            MINT: ("quote", "outputs", "outputs.0.amount", "outputs.0.id", "outputs.0.B_"),
            MINT_CHECK: ("quotes",),
            MINT_BATCH: ("quotes", "outputs"),
            MELT_QUOTE: ("request", "unit"),
            MELT: ("quote", "inputs", "outputs.0.B_"),
            CHECK_STATE: ("Ys",),
            RESTORE: ("outputs", "outputs.0.B_"),
        }.items()
        for field in fields
    ],
)
def test_a_request_without_a_field_that_it_needs_is_refused(target: Target, path: str, field: str) -> None:
    body = copy.deepcopy(target.good[path])
    at: Any = body
    *parents, last = [int(part) if part.isdigit() else part for part in field.split(".")]
    for part in parents:
        at = at[part]
    del at[last]
    target.post(path, body)


# --- lists --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "field", "code"),
    [
        (SWAP, "inputs", Code.TOO_MANY_INPUTS),
        (SWAP, "outputs", Code.TOO_MANY_OUTPUTS),
        (MINT, "outputs", Code.TOO_MANY_OUTPUTS),
        (MINT_BATCH, "outputs", Code.TOO_MANY_OUTPUTS),
        (MELT, "inputs", Code.TOO_MANY_INPUTS),
        (MELT, "outputs", Code.TOO_MANY_OUTPUTS),
        (CHECK_STATE, "Ys", Code.TOO_MANY_INPUTS),
        (RESTORE, "outputs", Code.TOO_MANY_OUTPUTS),
    ],
)
def test_1001_entries_are_refused(target: Target, path: str, field: str, code: Code) -> None:
    first = target.good[path][field][0]
    many = [{**first, "secret": f"s{n}"} if field == "inputs" else first for n in range(1001)]
    target.post(path, changed(target.good[path], field, many), code)


@pytest.mark.parametrize("path", [SWAP, MELT])
def test_the_same_input_twice_is_refused(target: Target, path: str) -> None:
    inputs = target.good[path]["inputs"]
    target.post(path, changed(target.good[path], "inputs", [*inputs, inputs[0]]), Code.DUPLICATE_INPUTS)


@pytest.mark.parametrize("path", [SWAP, MELT])
def test_the_same_secret_in_two_inputs_is_refused(target: Target, path: str) -> None:
    inputs = target.good[path]["inputs"]
    twin = {**inputs[0], "C": inputs[1]["C"], "amount": inputs[1]["amount"], "witness": "another"}
    target.post(path, changed(target.good[path], "inputs", [*inputs, twin]), Code.DUPLICATE_INPUTS)


@pytest.mark.parametrize("path", [SWAP, MINT, MINT_BATCH, MELT])
@pytest.mark.parametrize("form", [str, str.upper])
def test_the_same_output_twice_is_refused(target: Target, path: str, form: Callable[[str], str]) -> None:
    outputs = target.good[path]["outputs"]
    twin = {**outputs[0], "B_": form(outputs[0]["B_"])}
    target.post(path, changed(target.good[path], "outputs", [*outputs, twin]), Code.DUPLICATE_OUTPUTS)


def test_the_same_quote_twice_is_refused(target: Target) -> None:
    quote = target.good[MINT_CHECK]["quotes"][0]
    target.post(MINT_CHECK, {"quotes": [quote, quote]}, Code.DUPLICATE_QUOTES)


# --- sums ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extra", [1, -1])
def test_a_swap_that_is_not_balanced_is_refused(target: Target, extra: int) -> None:
    outputs = [m.model_dump(mode="json") for m in messages(target.purse.outputs(24 + extra))]
    target.post(SWAP, changed(target.good[SWAP], "outputs", outputs), Code.NOT_BALANCED)


def test_more_ecash_than_was_paid_for_is_refused(target: Target) -> None:
    outputs = [m.model_dump(mode="json") for m in messages(target.purse.outputs(25))]
    target.post(MINT, changed(target.good[MINT], "outputs", outputs), Code.NOT_BALANCED)


def test_a_sum_beyond_64_bits_is_refused(target: Target) -> None:
    outputs = [m.model_dump(mode="json") for m in messages(target.purse.outputs_of([2**60] * 1000))]
    target.post(MINT, changed(target.good[MINT], "outputs", outputs), Code.NOT_BALANCED)


def test_a_melt_with_too_little_is_refused(target: Target) -> None:
    inputs = target.good[MELT]["inputs"]
    target.post(MELT, changed(target.good[MELT], "inputs", inputs[1:]), Code.NOT_BALANCED)


# --- what must be accepted ----------------------------------------------------------------------------------------


def test_unknown_fields_are_accepted(target: Target) -> None:
    unknown: dict[str, Any] = {
        "x": None,
        "dleq": {"e": "0", "s": "0"},
        "p2pk_e": "02",
        "nested": [[[{}]]],
        "método": "ø",
    }
    for path in (MINT_QUOTE, MELT_QUOTE, CHECK_STATE, RESTORE, MINT_CHECK):
        assert target.mint.http.post(path, json={**target.good[path], **unknown}).status_code == 200
    purse = target.purse
    proofs = [p.model_dump(mode="json", exclude_none=True) | unknown for p in purse.fund(8)]
    outputs = [m.model_dump(mode="json") | unknown for m in messages(purse.outputs(8))]
    assert target.mint.http.post(SWAP, json={"inputs": proofs, "outputs": outputs, **unknown}).status_code == 200


def test_hex_in_upper_case_is_accepted(target: Target) -> None:
    purse = target.purse
    proofs = [p.model_dump(mode="json", exclude_none=True) | {"C": p.C.upper()} for p in purse.fund(8)]
    outputs = [m.model_dump(mode="json") | {"B_": m.B_.upper()} for m in messages(purse.outputs(8))]
    assert target.mint.http.post(SWAP, json={"inputs": proofs, "outputs": outputs}).status_code == 200
    ys = [y.upper() for y in target.good[CHECK_STATE]["Ys"]]
    assert target.mint.http.post(CHECK_STATE, json={"Ys": ys}).status_code == 200
    pubkey = target.good[MINT_QUOTE]["pubkey"].upper()
    body = changed(target.good[MINT_QUOTE], "pubkey", pubkey)
    assert target.mint.http.post(MINT_QUOTE, json=body).json()["pubkey"] == pubkey


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/octet-stream", "nonsense", "a" * 1000])
def test_the_content_type_does_not_matter(target: Target, content_type: str) -> None:
    body = json.dumps(target.good[CHECK_STATE]).encode()
    response = target.mint.http.post(CHECK_STATE, content=body, headers={"content-type": content_type})
    assert response.status_code == 200


def test_a_secret_may_be_any_text(target: Target) -> None:
    purse = target.purse
    from contrib.wallet import make_outputs, unblind

    texts = ["", "NUL \0 inside", "ünïcödé ☕ 𝔸", "line\nend", '{"json": ["like"]}', "x" * 4096, "\u202e\ufeff"]
    quote = purse.request_mint(len(texts))
    target.mint.node.pay_invoice(quote.request)
    purse.wait_credited(quote)
    outputs = make_outputs(purse.keyset, [1] * len(texts), secret_texts=texts)
    proofs = unblind(outputs, purse.client.mint(quote.quote, messages(outputs)), purse.keysets)
    assert sum(p.amount for p in purse.swap(proofs)) == len(texts)


# --- paths and methods --------------------------------------------------------------------------------------------

GETS = ("/v1/info", "/v1/keys", "/v1/keysets", "/v1/keys/00ffffffffffffff", f"{MINT_QUOTE}/x", f"{MELT_QUOTE}/x")


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND", "NONSENSE"])
@pytest.mark.parametrize("path", POSTS)
def test_another_method_than_post_is_refused(target: Target, path: str, method: str) -> None:
    target.refused(method, path)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "NONSENSE"])
@pytest.mark.parametrize("path", GETS)
def test_another_method_than_get_is_refused(target: Target, path: str, method: str) -> None:
    target.refused(method, path, content=b"{}")


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "path",
    [
        "/v1/",
        "/v1/nothing",
        "/v1/mint",
        "/v1/mint/quote",
        "/v1/mint/quote/bolt12",
        "/v1/mint/quote/bolt12/x",
        "/v1/mint/bolt12",
        "/v1/melt/quote/onchain",
        "/v1/melt/BOLT11",
        "/v1/swap/x",
        "/v1/keys/a/b",
        "/v1/%2e%2e/%2e%2e/etc/passwd",
        "/v1/swap%00",
        "/v1/" + "a" * 5000,
    ],
    ids=lambda path: path[:40],
)
def test_an_unknown_path_is_refused(target: Target, path: str, method: str) -> None:
    target.refused(method, path, content=b"{}" if method == "POST" else None)


@pytest.mark.parametrize("path", ["/x", "/pages", "/v1", "/v2/info", "/favicon.ico", "/v1swap"])
def test_a_path_outside_the_api_is_refused_in_the_same_form(target: Target, path: str) -> None:
    response = target.mint.http.get(path)
    assert response.status_code in (400, 404)
    assert set(response.json()) == {"detail", "code"}


@pytest.mark.parametrize("prefix", [f"{MINT_QUOTE}/", f"{MELT_QUOTE}/", "/v1/keys/"])
@pytest.mark.parametrize(
    "name",
    ["unknown", "%00", "%ff%fe", "%ed%a0%80", "..%2f..", "a" * 20_000, "%F0%9F%8D%95", "%27%20OR%201=1", "x?x=1", "*"],
    ids=lambda name: name[:20],
)
def test_an_unknown_quote_or_keyset_is_refused(target: Target, prefix: str, name: str) -> None:
    target.refused("GET", prefix + name)


def test_a_quote_of_one_kind_is_none_of_the_other(target: Target) -> None:
    target.refused("GET", f"{MELT_QUOTE}/{target.good[MINT]['quote']}")
    target.refused("GET", f"{MINT_QUOTE}/{target.good[MELT]['quote']}")
    target.post(MINT, changed(target.good[MINT], "quote", target.good[MELT]["quote"]))
    target.post(MELT, changed(target.good[MELT], "quote", target.good[MINT]["quote"]))


@pytest.mark.parametrize(
    "value", ["respond-async", "RESPOND-ASYNC, wait=10", "", ";;;,,,", "a" * 5000, "respond-async=x"]
)
def test_any_prefer_header_is_read_or_ignored(target: Target, value: str) -> None:
    target.refused("POST", MELT, content=b"{}", headers={"prefer": value})


# --- invoices -----------------------------------------------------------------------------------------------------


def foreign(currency: str) -> str:
    """An invoice of another network, in every other way a good one."""
    invoice = bolt11.Invoice(
        currency=currency,
        created_at=int(time.time()),
        payment_hash="ab" * 32,
        payment_secret="cd" * 32,
        amount_msat=10_000,
        description="foreign",
        expiry_s=3600,
        min_final_cltv=10,
    )
    return bolt11.encode(invoice, PrivateKey())


OFFER = (
    "lno1qgsqvgnwgcg35z6ee2h3yczraddm72xrfua9uve2rlrm9deu7xyfzrcgqyqs5pr5v4"
    "ehg93pqfnwgkvdr57yzh6h92zg3qctvrm7w38djg67kzcm4yeg8vc4cq63s"
)


@pytest.mark.parametrize(
    "request_",
    [
        "junk",
        "lnbcrt1junk",
        "lnbcrt1" + "q" * 200,
        foreign("bc"),
        foreign("tb"),
        OFFER,
        "  ",
        "\0",
        "lnbcrt\0",
        "☕" * 100,
        "bitcoin:bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080",
        "lightning:",
        "a" * 8192,
    ],
    ids=lambda text: repr(text[:12]),
)
def test_what_is_no_invoice_of_this_network_is_refused(target: Target, request_: str) -> None:
    answer = target.post(MELT_QUOTE, {"request": request_, "unit": "sat"}, Code.QUOTE_REJECTED)
    assert "token" not in answer.json()["detail"]  # the node's words have the whole request in them


def test_an_invoice_with_a_wrong_checksum_is_refused(target: Target) -> None:
    text = str(target.mint.invoice())
    wrong = text[:-1] + ("q" if text[-1] != "q" else "p")
    target.post(MELT_QUOTE, {"request": wrong, "unit": "sat"}, Code.QUOTE_REJECTED)


def test_an_expired_invoice_is_refused(target: Target) -> None:
    expired = target.mint.node.outside_invoice(1000, created_at=int(time.time()) - 100, expiry_s=10)
    target.post(MELT_QUOTE, {"request": str(expired), "unit": "sat"}, Code.QUOTE_EXPIRED)


def test_an_invoice_above_the_limit_is_refused(target: Target) -> None:
    large = target.mint.invoice(1_000_001)
    target.post(MELT_QUOTE, {"request": str(large), "unit": "sat"}, Code.AMOUNT_OUTSIDE_LIMITS)


def test_a_part_of_an_amountless_invoice_is_refused(target: Target) -> None:
    body = {"request": str(target.mint.node.outside_invoice(None)), "unit": "sat", "options": {"mpp": {"amount": 5000}}}
    target.post(MELT_QUOTE, body)


# --- a mint without upper limits ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def limitless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A mint whose operator has set no maximum."""
    with running(Mint(tmp_path_factory.mktemp("limitless"), units="sat,msat", max_mint=0, max_melt=0)) as mint:
        yield Target(mint, Purse(mint), {})


ALL_BITCOIN_MSAT = 2_100_000_000_000_000_000


@pytest.mark.parametrize("amount_msat", [ALL_BITCOIN_MSAT + 1000, 2**62, 2**63 - 1, 2**63])
@pytest.mark.parametrize(("unit", "per_unit"), [("sat", 1000), ("msat", 1)])
def test_without_a_maximum_amounts_beyond_all_bitcoin_are_still_refused(
    limitless: Target, amount_msat: int, unit: str, per_unit: int
) -> None:
    code = Code.AMOUNT_OUTSIDE_LIMITS
    limitless.post(MINT_QUOTE, {"amount": amount_msat // per_unit, "unit": unit}, code)
    limitless.post(MINT_QUOTE, {"amount": amount_msat, "unit": unit}, code)
    anything = str(limitless.mint.node.outside_invoice(None))
    options = {"amountless": {"amount_msat": amount_msat}}
    limitless.post(MELT_QUOTE, {"request": anything, "unit": unit, "options": options}, code)
    limitless.mint.check()


# --- logs ---------------------------------------------------------------------------------------------------------


def test_nothing_of_a_bad_request_is_logged(target: Target) -> None:
    position = target.mint.node.log_position
    marker = "do-not-log-this-secret"
    inputs = [{**target.good[SWAP]["inputs"][0], "secret": marker}]
    target.post(SWAP, changed(target.good[SWAP], "inputs", inputs))
    target.refused("GET", f"{MINT_QUOTE}/{marker}")
    target.refused("POST", SWAP, content=f'{{"{marker}'.encode())
    said = [str(line) for line in target.mint.node.log(since=position)]
    assert not [line for line in said if re.search(marker, line)]
