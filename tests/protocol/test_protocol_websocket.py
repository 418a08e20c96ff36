"""NUT-17 over the real socket: the answer, then what is, then every change, in the very words of `GET`."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from contrib.sandbox import Behaviour
from ledger.errors import Code
from tests.plugin.conftest import MakeMint
from tests.plugin.harness import AT_ONCE_S, Mint, Purse
from tests.protocol.helpers import (
    MELT_QUOTE,
    MINT_QUOTE,
    PROOF_STATE,
    Socket,
    code_of,
    error_code,
    get,
    locked_proofs,
    ok,
    paid_quote,
    random_ys,
    swap_body,
)

PARSE_ERROR, INVALID_REQUEST, UNKNOWN_METHOD, INVALID_PARAMS = -32700, -32600, -32601, -32602
MAX_SUBSCRIPTIONS, MAX_FILTERS, MAX_FILTERS_PER_CONNECTION, MAX_FRAME_BYTES = 100, 1000, 10_000, 256 * 1024
MESSAGE_TOO_BIG = 1009
GOING_AWAY = 1001
NUT17 = json.loads((Path(__file__).parents[1] / "vectors" / "nut17.json").read_text())


def mint_path(quote: str) -> str:
    return f"/v1/mint/quote/bolt11/{quote}"


def melt_path(quote: str) -> str:
    return f"/v1/melt/quote/bolt11/{quote}"


def state_text(mint: Mint, y: str) -> str:
    """What checkstate answers for one proof."""
    text = mint.http.post("/v1/checkstate", json={"Ys": [y]}).text
    assert text.startswith('{"states":[')
    assert text.endswith("]}")
    return text[len('{"states":[') : -len("]}")]


# --- what is sent -----------------------------------------------------------------------------------------------------


def test_a_mint_quote_is_followed_from_unpaid_to_issued(mint: Mint, purse: Purse, ws: Socket) -> None:
    quote = purse.request_mint(12, description='with a \u20bf and "quotes"')
    sub_id = ws.subscribe(MINT_QUOTE, [quote.quote])
    texts = [ws.next()]
    assert texts[0].payload_text == get(mint, mint_path(quote.quote))
    mint.node.pay_invoice(quote.request)
    texts.append(ws.next())
    assert texts[1].payload_text == get(mint, mint_path(quote.quote))
    purse.collect(quote)
    texts.append(ws.next())
    assert texts[2].payload_text == get(mint, mint_path(quote.quote))
    assert [each.payload["state"] for each in texts] == ["UNPAID", "PAID", "ISSUED"]
    assert {each.sub_id for each in texts} == {sub_id}
    stamps = [each.payload["updated_at"] for each in texts]
    assert sorted(set(stamps)) == stamps
    assert ws.is_silent()


@pytest.mark.parametrize("paid", [True, False])
def test_a_melt_quote_is_followed_from_unpaid_to_its_outcome(mint: Mint, purse: Purse, ws: Socket, paid: bool) -> None:
    invoice = mint.invoice(100, Behaviour.hold())
    melt = purse.prepare(invoice)
    ws.subscribe(MELT_QUOTE, [melt.quote.quote])
    seen = [ws.next()]
    assert seen[0].payload_text == get(mint, melt_path(melt.quote.quote))
    answer = mint.http.post("/v1/melt/bolt11", json={**melt.body, "prefer_async": True})
    seen.append(ws.next())
    assert seen[1].payload_text == answer.text == get(mint, melt_path(melt.quote.quote))
    mint.node.wait_for_part(invoice, timeout_s=AT_ONCE_S)
    mint.node.release(invoice, ok=paid)
    seen.append(ws.next())
    assert seen[2].payload_text == get(mint, melt_path(melt.quote.quote))
    assert [each.payload["state"] for each in seen] == ["UNPAID", "PENDING", "PAID" if paid else "UNPAID"]
    last = seen[2].payload
    assert (last["payment_preimage"], bool(last["change"])) == ((invoice.preimage, True) if paid else (None, False))
    assert ws.is_silent()


def test_proofs_are_followed_one_message_for_each(mint: Mint, purse: Purse, ws: Socket) -> None:
    melt = purse.prepare(mint.invoice(100, Behaviour.hold()))
    ys = [proof.y for proof in melt.inputs]
    assert len(ys) > 1
    ws.subscribe(PROOF_STATE, ys)

    def expect(state: str) -> None:
        found = ws.take(len(ys))
        assert [each.payload for each in found] == [{"Y": y, "state": state, "witness": None} for y in ys]
        assert [each.payload_text for each in found] == [state_text(mint, y) for y in ys]

    expect("UNSPENT")
    purse.post(melt, prefer_async=True)
    expect("PENDING")
    mint.node.wait_for_part(str(melt.invoice), timeout_s=AT_ONCE_S)
    mint.node.release(str(melt.invoice), ok=False)
    expect("UNSPENT")
    mint.http.post("/v1/swap", json=swap_body(purse, melt.inputs))
    expect("SPENT")
    assert ws.is_silent()


def test_a_spent_proof_shows_the_witness_that_spent_it(mint: Mint, purse: Purse, ws: Socket) -> None:
    preimage = "2a" * 32
    hashed = hashlib.sha256(bytes.fromhex(preimage)).hexdigest()
    (proof,) = locked_proofs(purse, json.dumps(["HTLC", {"nonce": "of a test", "data": hashed}]))
    ws.subscribe(PROOF_STATE, [proof.y])
    assert ws.next().payload == {"Y": proof.y, "state": "UNSPENT", "witness": None}
    witness = '{ "preimage":"' + preimage + '" , "note":"\u20bf\\u20bf" }'
    body = swap_body(purse, [proof])
    body["inputs"][0]["witness"] = witness
    ok(mint.http.post("/v1/swap", json=body))
    last = ws.next()
    assert last.payload == {"Y": proof.y, "state": "SPENT", "witness": witness}
    assert last.payload_text == state_text(mint, proof.y)


def test_a_y_in_upper_case_is_the_same_proof(mint: Mint, purse: Purse, ws: Socket) -> None:
    (proof,) = purse.fund(4)
    ws.subscribe(PROOF_STATE, [proof.y.upper()])
    assert ws.next().payload["Y"] == proof.y
    purse.swap([proof])
    assert ws.next().payload == {"Y": proof.y, "state": "SPENT", "witness": None}


def test_several_filters_are_shown_in_order_and_each_once(mint: Mint, purse: Purse, ws: Socket) -> None:
    quotes = [purse.request_mint(amount).quote for amount in (1, 2, 3)]
    ws.subscribe(MINT_QUOTE, [quotes[2], quotes[0], quotes[2], quotes[1], quotes[0]])
    assert [each.payload["quote"] for each in ws.take(3)] == [quotes[2], quotes[0], quotes[1]]
    assert ws.is_silent()


def test_subscriptions_are_told_apart_and_each_gets_every_change(mint: Mint, purse: Purse, ws: Socket) -> None:
    quote = purse.request_mint(8)
    names = ["a", '\u20bf "b"']
    for name in names:
        ws.subscribe(MINT_QUOTE, [quote.quote], name)
        assert ws.next().sub_id == name
    mint.node.pay_invoice(quote.request)
    changes = ws.take(2)
    assert {each.sub_id for each in changes} == set(names)
    assert {each.payload["state"] for each in changes} == {"PAID"}


def test_the_snapshot_is_what_is_now(mint: Mint, purse: Purse, ws: Socket) -> None:
    """Also of what was over long ago: change and preimage are shown for ever."""
    melt = purse.prepare(mint.invoice(100))
    purse.post(melt)
    quote = paid_quote(purse, 4)
    ws.subscribe(MELT_QUOTE, [melt.quote.quote])
    first = ws.next()
    assert first.payload["state"] == "PAID"
    assert first.payload["change"]
    assert first.payload_text == get(mint, melt_path(melt.quote.quote))
    ws.subscribe(MINT_QUOTE, [quote])
    assert ws.next().payload_text == get(mint, mint_path(quote))
    ws.subscribe(PROOF_STATE, [melt.inputs[0].y])
    assert ws.next().payload_text == state_text(mint, melt.inputs[0].y)


def test_after_unsubscribing_nothing_comes_and_the_name_is_free(mint: Mint, purse: Purse, ws: Socket) -> None:
    quote = purse.request_mint(8)
    for _ in range(3):
        name = ws.subscribe(MINT_QUOTE, [quote.quote], "again")
        assert ws.next().payload["state"] == "UNPAID"
        ws.unsubscribe(name)
    mint.node.pay_invoice(quote.request)
    purse.wait_credited(quote)
    assert ws.is_silent()
    assert ws.refused("unsubscribe", {"subId": "again"}) == INVALID_PARAMS


def test_connections_do_not_see_each_others_subscriptions(mint: Mint, purse: Purse, ws: Socket) -> None:
    quote = purse.request_mint(8)
    with Socket(mint) as other:
        ws.subscribe(MINT_QUOTE, [quote.quote], "name")
        assert other.refused("unsubscribe", {"subId": "name"}) == INVALID_PARAMS
        other.subscribe(MINT_QUOTE, [quote.quote], "name")
        assert other.next().payload == ws.next().payload
        other.unsubscribe("name")
    mint.node.pay_invoice(quote.request)
    assert ws.next().payload["state"] == "PAID"


def test_the_messages_of_the_text_are_understood(ws: Socket) -> None:
    ws.send(json.dumps(NUT17["subscribe_request"]))
    assert ws.answer() == NUT17["subscribe_response"]
    assert json.loads(ws.receive()) == NUT17["notifications"][0]
    ws.send(json.dumps(NUT17["unsubscribe_request"]))
    sub_id = NUT17["unsubscribe_request"]["params"]["subId"]
    assert ws.answer() == {"jsonrpc": "2.0", "result": {"status": "OK", "subId": sub_id}, "id": 1}


def test_the_kinds_of_bolt11_are_supported_and_no_others(mint: Mint, purse: Purse, ws: Socket) -> None:
    filters = {
        MINT_QUOTE: purse.request_mint(8).quote,
        MELT_QUOTE: purse.quote(mint.invoice(5)).quote,
        PROOF_STATE: random_ys(1)[0],
    }
    announced = mint.client.info()["nuts"]["17"]["supported"][0]["commands"]
    assert set(announced) == set(filters)
    for kind in NUT17["kinds"]:
        if kind in filters:
            ws.subscribe(kind, [filters[kind]])
            ws.next()
        else:
            params = {"kind": kind, "subId": kind, "filters": [filters[MINT_QUOTE]]}
            assert ws.refused("subscribe", params) == INVALID_PARAMS


# --- errors -----------------------------------------------------------------------------------------------------------

SUBSCRIBE = {"kind": MINT_QUOTE, "subId": "s", "filters": ["x"]}
BAD_CALLS: dict[str, tuple[Any, int]] = {
    "no method": ({"jsonrpc": "2.0", "id": 5, "params": {}}, INVALID_REQUEST),
    "method a number": ({"jsonrpc": "2.0", "id": 5, "method": 1, "params": {}}, INVALID_REQUEST),
    "no version": ({"id": 5, "method": "subscribe", "params": SUBSCRIBE}, INVALID_REQUEST),
    "another version": ({"jsonrpc": "1.0", "id": 5, "method": "subscribe", "params": SUBSCRIBE}, INVALID_REQUEST),
    "params a text": ({"jsonrpc": "2.0", "id": 5, "method": "subscribe", "params": "x"}, INVALID_REQUEST),
    "unknown method": ({"jsonrpc": "2.0", "id": 5, "method": "publish", "params": {}}, UNKNOWN_METHOD),
    "method in upper case": ({"jsonrpc": "2.0", "id": 5, "method": "SUBSCRIBE", "params": SUBSCRIBE}, UNKNOWN_METHOD),
    "no params": ({"jsonrpc": "2.0", "id": 5, "method": "subscribe"}, INVALID_PARAMS),
    "unsubscribe without params": ({"jsonrpc": "2.0", "id": 5, "method": "unsubscribe"}, INVALID_PARAMS),
}
WITHOUT_ID: dict[str, Any] = {
    "a list": [],
    "a batch": [{"jsonrpc": "2.0", "id": 5, "method": "subscribe", "params": SUBSCRIBE}],
    "a number": 5,
    "null": None,
    "a text": "subscribe",
    "empty": {},
    "no id": {"jsonrpc": "2.0", "method": "subscribe", "params": SUBSCRIBE},
    "id null": {"jsonrpc": "2.0", "id": None, "method": "subscribe", "params": SUBSCRIBE},
    "id a fraction": {"jsonrpc": "2.0", "id": 1.5, "method": "subscribe", "params": SUBSCRIBE},
    "id true": {"jsonrpc": "2.0", "id": True, "method": "subscribe", "params": SUBSCRIBE},
    "id a list": {"jsonrpc": "2.0", "id": [1], "method": "subscribe", "params": SUBSCRIBE},
    "id too long": {"jsonrpc": "2.0", "id": "x" * 10_000, "method": "subscribe", "params": SUBSCRIBE},
}
BAD_PARAMS: dict[str, Any] = {
    "nothing": {},
    "no kind": {"subId": "s", "filters": ["x"]},
    "unknown kind": {**SUBSCRIBE, "kind": "bolt11_quote"},
    "another method's kind": {**SUBSCRIBE, "kind": "bolt12_mint_quote"},
    "kind null": {**SUBSCRIBE, "kind": None},
    "no subId": {"kind": MINT_QUOTE, "filters": ["x"]},
    "subId a number": {**SUBSCRIBE, "subId": 5},
    "subId empty": {**SUBSCRIBE, "subId": ""},
    "subId too long": {**SUBSCRIBE, "subId": "x" * 129},
    "subId a surrogate": {**SUBSCRIBE, "subId": "\ud800"},
    "no filters": {"kind": MINT_QUOTE, "subId": "s"},
    "filters empty": {**SUBSCRIBE, "filters": []},
    "filters a text": {**SUBSCRIBE, "filters": "x"},
    "filters an object": {**SUBSCRIBE, "filters": {"x": 1}},
    "a number in filters": {**SUBSCRIBE, "filters": [5]},
    "null in filters": {**SUBSCRIBE, "filters": [None]},
    "an empty filter": {**SUBSCRIBE, "filters": [""]},
    "a filter too long": {**SUBSCRIBE, "filters": ["x" * 129]},
    "a surrogate in filters": {**SUBSCRIBE, "filters": ["\udfff"]},
    "an unknown mint quote": SUBSCRIBE,
    "an unknown melt quote": {**SUBSCRIBE, "kind": MELT_QUOTE},
    "no Y": {**SUBSCRIBE, "kind": PROOF_STATE},
    "a Y that is no point": {**SUBSCRIBE, "kind": PROOF_STATE, "filters": ["02" + "ff" * 32]},
    "a Y of another length": {**SUBSCRIBE, "kind": PROOF_STATE, "filters": ["02" + "11" * 31]},
}
NO_JSON = {
    "empty": "",
    "a word": "hello",
    "cut off": '{"jsonrpc":"2.0","id":5,',
    "two objects": '{"jsonrpc":"2.0","id":5}{"jsonrpc":"2.0","id":6}',
    "deep": "[" * 100_000,
    "deep and closed": "[" * 50_000 + "]" * 50_000,
    "a huge number": "9" * 100_000,
    "binary": b"\xff\xfe\x00\x01",
    "empty binary": b"",
}


@pytest.mark.parametrize(("call", "code"), BAD_CALLS.values(), ids=list(BAD_CALLS))
@pytest.mark.parametrize("call_id", [5, 0, -1, 2**53, "5", "a-b"])
def test_a_bad_call_is_answered_with_its_code_and_id(ws: Socket, call: Any, code: int, call_id: int | str) -> None:
    ws.send(json.dumps({**call, "id": call_id}))
    answer = ws.answer()
    assert (error_code(answer), answer["id"]) == (code, call_id)


@pytest.mark.parametrize("call", WITHOUT_ID.values(), ids=list(WITHOUT_ID))
def test_a_call_without_a_usable_id_is_answered_with_null(ws: Socket, call: Any) -> None:
    ws.send(json.dumps(call))
    answer = ws.answer()
    assert (error_code(answer), answer["id"]) == (INVALID_REQUEST, None)


@pytest.mark.parametrize("params", BAD_PARAMS.values(), ids=list(BAD_PARAMS))
def test_bad_params_are_refused_and_leave_nothing_behind(mint: Mint, purse: Purse, ws: Socket, params: Any) -> None:
    assert ws.refused("subscribe", params) == INVALID_PARAMS
    assert ws.refused("unsubscribe", {"subId": "s"}) == INVALID_PARAMS
    ws.subscribe(PROOF_STATE, random_ys(1), "s")


def test_one_unknown_quote_refuses_the_whole_subscription(mint: Mint, purse: Purse, ws: Socket) -> None:
    quote = purse.request_mint(8)
    melt = purse.quote(mint.invoice(5))
    for filters in ([quote.quote, "unknown"], [quote.quote, melt.quote]):
        assert ws.refused("subscribe", {"kind": MINT_QUOTE, "subId": "s", "filters": filters}) == INVALID_PARAMS
    assert ws.refused("subscribe", {"kind": MELT_QUOTE, "subId": "s", "filters": [quote.quote]}) == INVALID_PARAMS
    mint.node.pay_invoice(quote.request)
    purse.wait_credited(quote)
    assert ws.is_silent()


@pytest.mark.parametrize("frame", NO_JSON.values(), ids=list(NO_JSON))
def test_what_is_no_json_is_answered_as_that(ws: Socket, frame: str | bytes) -> None:
    ws.send(frame)
    answer = ws.answer()
    assert (error_code(answer), answer["id"]) == (PARSE_ERROR, None)
    ws.subscribe(PROOF_STATE, random_ys(1))


def test_json_in_a_binary_frame_is_understood_and_answered_with_text(ws: Socket) -> None:
    (y,) = random_ys(1)
    call = {
        "jsonrpc": "2.0",
        "id": 5,
        "method": "subscribe",
        "params": {**SUBSCRIBE, "kind": PROOF_STATE, "filters": [y]},
    }
    ws.send(json.dumps(call).encode())
    assert ws.answer()["result"]["status"] == "OK"
    assert ws.next().payload["Y"] == y


def test_unknown_members_are_ignored(ws: Socket) -> None:
    (y,) = random_ys(1)
    params = {**SUBSCRIBE, "kind": PROOF_STATE, "filters": [y], "more": {"x": [1]}}
    ws.send(json.dumps({"jsonrpc": "2.0", "id": 5, "method": "subscribe", "params": params, "more": 1}))
    assert ws.answer()["id"] == 5
    assert ws.next().payload["Y"] == y


def test_calls_are_answered_in_their_order(ws: Socket) -> None:
    ys = random_ys(20)
    for number, y in enumerate(ys):
        params = {"kind": PROOF_STATE, "subId": str(number), "filters": [y]}
        ws.send(json.dumps({"jsonrpc": "2.0", "id": number, "method": "subscribe", "params": params}))
    for number, y in enumerate(ys):
        assert ws.answer()["id"] == number
        assert ws.next().payload["Y"] == y


# --- limits -----------------------------------------------------------------------------------------------------------


def test_a_name_in_use_is_refused_and_the_first_subscription_lives_on(mint: Mint, purse: Purse, ws: Socket) -> None:
    quote, other = purse.request_mint(8), purse.request_mint(9)
    ws.subscribe(MINT_QUOTE, [quote.quote], "name")
    assert ws.next().payload["quote"] == quote.quote
    params = {"kind": MINT_QUOTE, "subId": "name", "filters": [other.quote]}
    assert ws.refused("subscribe", params) == INVALID_PARAMS
    mint.node.pay_invoice(other.request)
    mint.node.pay_invoice(quote.request)
    assert ws.next().payload["quote"] == quote.quote


def test_subscriptions_of_a_connection_are_limited(mint: Mint, ws: Socket) -> None:
    (y,) = random_ys(1)
    for number in range(MAX_SUBSCRIPTIONS):
        ws.subscribe(PROOF_STATE, [y], str(number))
        ws.next()
    one_more = {"kind": PROOF_STATE, "subId": "one more", "filters": [y]}
    assert ws.refused("subscribe", one_more) == INVALID_PARAMS
    with Socket(mint) as other:
        other.subscribe(PROOF_STATE, [y])
    ws.unsubscribe("0")
    ws.subscribe(PROOF_STATE, [y], "one more")


def test_filters_of_a_subscription_are_limited(ws: Socket) -> None:
    ys = random_ys(MAX_FILTERS + 1)
    assert ws.refused("subscribe", {"kind": PROOF_STATE, "subId": "s", "filters": ys}) == INVALID_PARAMS
    ws.subscribe(PROOF_STATE, ys[1:], "s")
    assert [each.payload["Y"] for each in ws.take(MAX_FILTERS)] == ys[1:]


def test_filters_of_a_connection_are_limited(ws: Socket) -> None:
    ys = random_ys(MAX_FILTERS)
    for number in range(MAX_FILTERS_PER_CONNECTION // MAX_FILTERS):
        ws.subscribe(PROOF_STATE, ys, str(number))
        for _ in ys:
            ws.receive()
    one_more = {"kind": PROOF_STATE, "subId": "one more", "filters": ys[:1]}
    assert ws.refused("subscribe", one_more) == INVALID_PARAMS
    ws.unsubscribe("0")
    ws.subscribe(PROOF_STATE, ys[:1], "one more")
    assert ws.next().payload["Y"] == ys[0]


def test_a_frame_that_is_too_long_ends_the_connection_and_no_other(mint: Mint, ws: Socket) -> None:
    with Socket(mint) as other:
        ws.send(" " * (MAX_FRAME_BYTES - 10))
        assert error_code(ws.answer()) == PARSE_ERROR
        ws.send(" " * (MAX_FRAME_BYTES + 1))
        assert ws.closed_with() == MESSAGE_TOO_BIG
        other.subscribe(PROOF_STATE, random_ys(1))


def test_a_long_frame_in_many_pieces_ends_the_connection(mint: Mint) -> None:
    with Socket(mint, compression=None) as pieces:
        with pytest.raises(ConnectionClosed):  # at which piece the mint hangs up is its affair
            pieces.send(" " * 10_000 for _ in range(100_000))
        assert pieces.closed_with() in (MESSAGE_TOO_BIG, None)


def test_messages_are_not_compressed_so_that_there_are_no_bombs(mint: Mint) -> None:
    url = mint.url.replace("http", "ws") + "/v1/ws"
    with connect(url, compression="deflate") as connection:
        assert connection.response is not None
        assert "sec-websocket-extensions" not in connection.response.headers


def test_a_plain_request_to_the_socket_is_refused_in_json(mint: Mint) -> None:
    assert code_of(mint.http.get("/v1/ws")) == Code.REQUEST_REJECTED


def test_a_mint_that_stops_says_goodbye(make_mint: MakeMint) -> None:
    mint = make_mint()
    with Socket(mint) as ws:
        ws.subscribe(MINT_QUOTE, [Purse(mint).request_mint(8).quote])
        ws.next()
        mint.restart_plugin(kill=False)
        assert ws.closed_with() == GOING_AWAY
