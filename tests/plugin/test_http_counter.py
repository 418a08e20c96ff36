"""The counter answers as the application does, and sooner."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from quart import Quart

from contrib.fuzz import server
from contrib.fuzz.targets import empty_ledger
from ledger.errors import Code, LedgerError
from ledger.operations.mint import NewMintQuote
from plugin.http import app as http_app
from plugin.http import counter
from plugin.http.connection import MeteredBody
from plugin.http.limits import RateLimits
from plugin.methods.table import METHODS
from plugin.options import parse

DOCUMENTS = ["/v1/info", "/v1/keys", "/v1/keysets"]
POSTS = [
    "/v1/swap",
    "/v1/checkstate",
    "/v1/restore",
    "/v1/mint/bolt11",
    "/v1/mint/onchain",
    "/v1/mint/quote/bolt11",
    "/v1/melt/bolt11",
    "/v1/melt/onchain",
    "/v1/melt/quote/bolt12",
]
GENERATOR = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
POINT = "02" + "11" * 32
MELT = json.dumps({"quote": "q", "inputs": [{"amount": 1, "id": "00", "secret": "s", "C": POINT}]})
QUOTES = ["/v1/mint/quote/bolt11", "/v1/melt/quote/bolt11", "/v1/mint/quote/onchain", "/v1/melt/quote/bolt12"]


@pytest.fixture
def app(tmp_path: Path) -> Quart:
    return server.application(empty_ledger(tmp_path))


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No worker threads: `converse` leaves when nothing happens in the loop."""

    async def call(function: Callable[..., object], *arguments: object) -> object:
        return function(*arguments)

    monkeypatch.setattr(asyncio, "to_thread", call)


def get(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: m", *headers, "", ""]).encode()


def post(path: str, body: str, *headers: str) -> bytes:
    return "\r\n".join(
        [f"POST {path} HTTP/1.1", "Host: m", f"Content-Length: {len(body)}", *headers, "", body]
    ).encode()


Answer = tuple[str, dict[str, str], bytes]


async def ask(app: Quart, *pieces: bytes) -> Answer:
    """Status line, headers but the date, body."""
    head, _, body = (await server.converse(app, list(pieces))).partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    assert int(headers.get("content-length", len(body))) == len(body)
    return status, {name: value for name, value in headers.items() if name != "date"}, body


@pytest.fixture
def answered(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What was answered at the counter."""
    seen: list[object] = []
    choose = counter.Counter.stream

    def stream(*arguments: Any) -> Any:
        chosen = choose(*arguments)
        if chosen is not None:
            seen.append(chosen)
        return chosen

    monkeypatch.setattr(counter.Counter, "stream", stream)
    return seen


ENCODINGS = [
    "identity",
    "gzip, deflate, br",
    "gzip;q=0",
    "*",
    "br;q=1, gzip;q=0.5",
    "deflate\r\nAccept-Encoding: gzip",
    "a" * 195 + ",gzip;q=0",
]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("path", DOCUMENTS)
async def test_a_document_is_the_same_from_both(
    app: Quart, answered: list[object], path: str, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    http_app_services = cast(Any, app.extensions["nutbolt"])
    monkeypatch.setattr(http_app_services.ledger, "_clock", lambda: 1_000_000)
    ours = await ask(app, get(path, f"Accept-Encoding: {encoding}"))
    assert len(answered) == 1
    theirs = await ask(app, get(f"{path}?plainly", f"Accept-Encoding: {encoding}"))
    assert len(answered) == 1
    assert ours == theirs
    assert ours[0] == "HTTP/1.1 200 "
    if ours[1].get("content-encoding") == "gzip":
        assert gzip.decompress(ours[2]).startswith(b"{")


@pytest.mark.parametrize("path", DOCUMENTS)
async def test_who_has_a_document_is_not_sent_it_again(app: Quart, answered: list[object], path: str) -> None:
    tag = (await ask(app, get(path)))[1]["etag"]
    for known in (tag, tag.removeprefix("W/"), f'"other", {tag}', "*", f'"other"\r\nIf-None-Match: {tag}'):
        ours, theirs = [await ask(app, get(form, f"If-None-Match: {known}")) for form in (path, f"{path}?plainly")]
        status, headers, body = ours
        assert (status.split()[1], headers["etag"], body) == ("304", tag, b"")
        assert headers["access-control-allow-origin"] == "*"
        assert ours == theirs
    assert (await ask(app, get(path, 'If-None-Match: "other"')))[2]
    assert len(answered) == 7


async def test_the_tag_of_the_info_stays_while_only_the_time_goes_on(
    app: Quart, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = cast(Any, app.extensions["nutbolt"]).ledger
    answers = []
    for now in (1_000_000, 1_000_000, 1_000_060):
        monkeypatch.setattr(ledger, "_clock", lambda now=now: now)
        answers.append(await ask(app, get("/v1/info")))
    assert b'"time": 1000060' in answers[2][2]
    assert answers[0] == answers[1]
    assert len({headers["etag"] for _, headers, _ in answers}) == 1


async def test_new_keysets_are_shown_at_once(app: Quart) -> None:
    before = await ask(app, get("/v1/keysets"))
    cast(Any, app.extensions["nutbolt"]).ledger.rotate("sat", 100).result()
    after = await ask(app, get("/v1/keysets"))
    assert before[1]["etag"] != after[1]["etag"]
    assert after == await ask(app, get("/v1/keysets?plainly"))
    assert b'"input_fee_ppk":100' in after[2]


BODIES = [
    "",
    "{}",
    "nonsense",
    '{"inputs": [], "outputs": []}',
    f'{{"Ys": ["{POINT}"], "outputs": [], "quote": "none"}}',
    f'{{"outputs": [{{"amount": 1, "id": "00", "B_": "{POINT}"}}], "quote": "none"}}',
]


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("path", POSTS)
async def test_an_answer_and_a_refusal_are_the_same_from_both(
    app: Quart, answered: list[object], path: str, body: str
) -> None:
    ours = await ask(app, post(path, body))
    assert len(answered) == 1
    assert ours == await ask(app, post(f"{path}?plainly", body))
    chunked = f"POST {path} HTTP/1.1\r\nHost: m\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = f"{len(body):x}\r\n{body}\r\n" if body else ""
    assert ours == await ask(app, f"{chunked}{chunk}0\r\n\r\n".encode())
    assert len(answered) == 1


def a_mint_quote(app: Quart, request: str) -> str:
    ledger = cast(Any, app.extensions["nutbolt"]).ledger
    quote = NewMintQuote("some-quote_1", "bolt11", "sat", request, 8, 2**31, None, payment_hash=b"h" * 32)
    return str(ledger.create_mint_quote(quote).result().quote)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("length", [10, 2000])
async def test_a_quote_is_the_same_from_both(app: Quart, answered: list[object], length: int, encoding: str) -> None:
    place = f"/v1/mint/quote/bolt11/{a_mint_quote(app, 'l' * length)}"
    ours = await ask(app, get(place, f"Accept-Encoding: {encoding}"))
    assert len(answered) == 1
    assert ours == await ask(app, get(f"{place}?plainly", f"Accept-Encoding: {encoding}"))
    assert len(answered) == 1
    assert ours[0] == "HTTP/1.1 200 "


@pytest.mark.parametrize("quote_id", ["none", "x" * 64])
@pytest.mark.parametrize("path", QUOTES)
async def test_a_quote_that_is_not_there_is_refused_alike(
    app: Quart, answered: list[object], path: str, quote_id: str
) -> None:
    ours = await ask(app, get(f"{path}/{quote_id}"))
    assert len(answered) == 1
    assert ours == await ask(app, get(f"{path}/{quote_id}?plainly"))
    assert ours[0] == "HTTP/1.1 400 "


@pytest.mark.parametrize("quote_id", ["", "%41", "x" * 65, "a/b", "é"])
async def test_what_no_quote_is_called_is_left_to_the_application(
    app: Quart, answered: list[object], quote_id: str
) -> None:
    status, _, body = await ask(app, f"GET /v1/mint/quote/bolt11/{quote_id} HTTP/1.1\r\nHost: m\r\n\r\n".encode())
    assert status == "HTTP/1.1 400 "
    assert not answered
    assert body or quote_id == "é"  # which is no HTTP at all


async def test_quotes_are_counted_together(app: Quart) -> None:
    """A number for each of them would have no limit."""
    registry = cast(Any, app.extensions[http_app.METRICS]).registry
    route = {"route": "/v1/mint/quote/bolt11/<quote_id>", "method": "GET", "status": "400"}
    for number, path in enumerate(["a", "b", "a?plainly"], start=1):
        await ask(app, get(f"/v1/mint/quote/bolt11/{path}"))
        assert registry.get_sample_value("nutbolt_http_requests_total", route) == number


async def test_a_long_list_is_compressed_for_who_reads_that(app: Quart, answered: list[object]) -> None:
    body = json.dumps({"Ys": [GENERATOR] * 50})
    plain = await ask(app, post("/v1/checkstate", body))
    packed = await ask(app, post("/v1/checkstate", body, "Accept-Encoding: gzip"))
    assert gzip.decompress(packed[2]) == plain[2]
    assert packed == await ask(app, post("/v1/checkstate?plainly", body, "Accept-Encoding: gzip"))
    assert len(answered) == 2


async def test_requests_of_one_connection_are_answered_in_order(app: Quart) -> None:
    asked = [get("/v1/keysets"), post("/v1/swap", "{}"), get("/none"), get("/v1/info"), post("/v1/restore", "{}")]
    answer = await server.converse(app, [b"".join(asked), *[b""] * 5])
    statuses = [int(part.split()[0]) for part in answer.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [200, 400, 404, 200, 400]


async def test_others_get_their_turn_between_requests_that_come_at_once(app: Quart) -> None:
    count, turns = 200, 0

    async def beat() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    beating = asyncio.create_task(beat())
    answer = await server.converse(app, [get("/v1/info") * count])
    beating.cancel()
    assert answer.count(b"HTTP/1.1 200") == count
    assert turns >= count


@pytest.mark.parametrize(("request_", "code"), [(get("/v1/keys"), None), (post("/v1/swap", "{}"), 10000)])
async def test_what_is_answered_here_is_counted(app: Quart, request_: bytes, code: int | None) -> None:
    registry = cast(Any, app.extensions[http_app.METRICS]).registry
    method, path = request_.decode().split()[:2]
    status = "200" if code is None else "400"
    route = {"route": path, "method": method, "status": status}
    refused = ("nutbolt_refusals_total", {"code": str(code or 10000)})
    for number, form in enumerate([request_, request_.replace(b" HTTP", b"?plainly HTTP", 1)], start=1):
        await ask(app, form)
        assert registry.get_sample_value("nutbolt_http_requests_total", route) == number
        assert registry.get_sample_value(*refused) == (0 if code is None else number)


def refusing(reason: str | None, percent: str) -> Callable[[Path], Quart]:
    def make(directory: Path) -> Quart:
        limits = RateLimits(parse({"cashu-rate-limit-local": percent}))
        app = http_app.create_app(lambda: reason, METHODS, limits)
        http_app.install(app, server.application(empty_ledger(directory)).extensions["nutbolt"])
        return app

    return make


@pytest.mark.parametrize("request_", [get("/v1/info"), post("/v1/swap", "{}")], ids=["get", "post"])
async def test_before_it_is_ready_it_says_so(tmp_path: Path, answered: list[object], request_: bytes) -> None:
    app = refusing("the mint is starting", "0")(tmp_path)
    ours = await ask(app, request_)
    assert ours[0].startswith("HTTP/1.1 503")
    assert ours[1]["retry-after"] == "2"
    assert ours == await ask(app, request_.replace(b" HTTP", b"?plainly HTTP", 1))
    assert len(answered) == 1


@pytest.mark.parametrize("path", ["/", "/operator", "/operator/"])
async def test_before_it_is_ready_people_are_told_in_words(tmp_path: Path, path: str) -> None:
    app = refusing("the mint is <starting>", "0")(tmp_path)
    status, headers, body = await ask(app, get(path))
    assert status.startswith("HTTP/1.1 503")
    assert headers["retry-after"] == "2"
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert headers["content-security-policy"].startswith("default-src 'none'; ")
    assert not headers["content-security-policy"].endswith((" ", ";"))
    assert b"but the mint is &lt;starting&gt;." in body
    assert not re.findall(rb"(?:src|href)=", body)  # files are not served yet


@pytest.mark.parametrize("request_", [get("/v1/info"), post("/v1/swap", "{}")], ids=["get", "post"])
async def test_who_asks_too_often_is_refused(tmp_path: Path, answered: list[object], request_: bytes) -> None:
    app = refusing(None, "1")(tmp_path)  # six requests at once
    statuses = [(await ask(app, request_))[0].split()[1] for _ in range(8)]
    assert statuses[:6] == ["200" if request_.startswith(b"GET") else "400"] * 6
    status, headers, body = await ask(app, request_)
    assert status.startswith("HTTP/1.1 429")
    assert int(headers["retry-after"]) >= 1
    assert b"too many requests" in body
    assert (status, body) == tuple((await ask(app, request_.replace(b" HTTP", b"?plainly HTTP", 1)))[::2])


async def test_a_body_that_does_not_come_is_not_waited_for(app: Quart, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counter, "BODY_TIMEOUT_S", 0)
    app.config["BODY_TIMEOUT"] = 0
    late = post("/v1/swap", "{}")[:-1]
    answer = await server.converse(app, [late, *[b""] * 20])
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"did not arrive in time" in answer
    assert answer.count(b"HTTP/1.1 ") == 1
    assert await ask(app, late, *[b""] * 20) == await ask(app, late.replace(b" HTTP", b"?plainly HTTP", 1), *[b""] * 20)
    registry = cast(Any, app.extensions[http_app.METRICS]).registry
    assert not registry.get_sample_value("nutbolt_refusals_total", {"code": "10000"})  # the ledger has refused nothing


@pytest.mark.parametrize("path", ["/v1/swap", "/v1/swap?plainly", "/nothing"])
async def test_an_answer_before_the_request_has_come_says_that_the_connection_ends(tmp_path: Path, path: str) -> None:
    app = refusing("the mint is starting", "0")(tmp_path)
    whole = post(path, "{}")
    status, headers, _ = await ask(app, whole[:-1], b"", b"")
    assert status.startswith("HTTP/1.1 503")
    assert headers["connection"] == "close"
    status, headers, _ = await ask(app, whole, b"", b"")
    assert status.startswith("HTTP/1.1 503")
    assert "connection" not in headers


async def test_a_body_that_is_too_long_is_refused_by_the_application(app: Quart, answered: list[object]) -> None:
    head = b"POST /v1/swap HTTP/1.1\r\nHost: m\r\nContent-Length: 1048577\r\n\r\n"
    status, _, body = await ask(app, head)
    assert status.startswith("HTTP/1.1 400")
    assert b"11014" in body
    assert not answered


@pytest.mark.parametrize("end", [-1, None], ids=["before he has said all", "after"])
async def test_who_leaves_leaves_nothing_behind(app: Quart, end: int | None) -> None:
    await server.converse(app, [post("/v1/swap", "{}")[:end]])
    assert MeteredBody._in_memory == 0


@pytest.mark.parametrize("form", ["", "?plainly"], ids=["counter", "framework"])
async def test_while_a_payment_is_waited_for_its_request_is_not_kept(
    app: Quart, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    kept = []

    async def melt(*_request: object) -> None:
        for _ in range(10):
            await asyncio.sleep(0)
        kept.append((MeteredBody._in_memory, tracemalloc.get_traced_memory()[0]))
        raise LedgerError(Code.PAYMENT_FAILED, "the payment failed")

    monkeypatch.setattr(cast(Any, app.extensions["nutbolt"]).methods["bolt11"], "melt", melt)
    request = post(f"/v1/melt/bolt11{form}", MELT + " " * 1_000_000)
    pieces = [request[start : start + 60_000] for start in range(0, len(request), 60_000)]
    tracemalloc.start()
    try:
        await server.converse(app, [*pieces, *[b""] * 5])
    finally:
        tracemalloc.stop()
    ((bodies, all_together),) = kept
    assert bodies == 0
    assert all_together < 500_000


async def test_nobody_waits_for_a_payment_on_behalf_of_who_has_left(
    app: Quart, answered: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = []

    async def melt(*_: object) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ends.append(asyncio.current_task())

    monkeypatch.setattr(cast(Any, app.extensions["nutbolt"]).methods["bolt11"], "melt", melt)
    monkeypatch.setattr(counter, "LAST_ANSWER_S", 0.01)
    assert await server.converse(app, [post("/v1/melt/bolt11", MELT)]) == b""
    assert len(ends) == len(answered) == 1


@pytest.mark.parametrize("turns", [0, 20], ids=["at once", "while it is served"])
async def test_who_ends_his_side_of_the_connection_is_answered(
    app: Quart, answered: list[object], monkeypatch: pytest.MonkeyPatch, turns: int
) -> None:
    async def melt(*_: object) -> None:
        await asyncio.sleep(0.05)
        raise LedgerError(Code.PAYMENT_FAILED, "the payment failed")

    monkeypatch.setattr(cast(Any, app.extensions["nutbolt"]).methods["bolt11"], "melt", melt)
    answer = await server.converse(app, [post("/v1/melt/bolt11", MELT)], turns)
    assert answer.startswith(b"HTTP/1.1 400")
    assert answer.endswith(b'{"detail":"the payment failed","code":20004}')
    assert len(answered) == 1
    assert MeteredBody._in_memory == 0
