"""Limits for each client, over HTTP and WebSocket: budgets, connections, and what proxies say.

The mint has a hundredth of the ordinary budgets, and a trusted proxy: the test, which can be any client."""

from __future__ import annotations

import json
import selectors
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from plugin.http.limits import LOOKUPS, NODE, REQUESTS, SIGNATURES
from tests.plugin.harness import AT_ONCE_S, Mint, Purse, wait_for
from tests.protocol.helpers import CORS, random_ys, wire, wire_outputs

MakeMint = Callable[..., Mint]

OPTIONS = {"rate_limit": 1, "rate_limit_local": 0, "trusted_proxies": "127.0.0.1"}
CONSTANTS = {
    "plugin.http.limits:MAX_WEBSOCKETS": 300,  # three
    "plugin.http.connection:FIRST_REQUEST_S": 1,
    "plugin.http.connection:MAX_BODIES_BYTES": 2_000_000,
}
GRANTED = {budget: budget.burst // 100 for budget in (REQUESTS, LOOKUPS, SIGNATURES, NODE)}
_numbers = iter(range(1, 1_000_000))


def somebody() -> dict[str, str]:
    """The headers by which a proxy speaks for a client that nobody knows yet."""
    number = next(_numbers)
    return {"x-forwarded-for": f"203.0.{number >> 8}.{number & 255}"}


def assert_refused(answer: httpx.Response) -> None:
    """A 429 as wallets and browsers understand it."""
    assert answer.status_code == 429, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers[CORS] == "*"
    assert "retry-after" in answer.headers["access-control-expose-headers"]
    assert int(answer.headers["retry-after"]) > 0
    body = answer.json()
    assert set(body) == {"detail", "code"}
    assert answer.headers["retry-after"] in body["detail"]
    assert type(body["code"]) is int


def until_refused(ask: Callable[[], httpx.Response]) -> int:
    """How often something is granted."""
    for count in range(1000):
        answer = ask()
        if answer.status_code == 429:
            assert_refused(answer)
            return count
        assert answer.status_code in (200, 400, 404), answer.text
    raise AssertionError("nothing was refused")


# --- budgets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/info", "/v1/keys", "/v1/mint/quote/bolt11/x", "/nothing"])
def test_requests_are_counted_whatever_they_are(mint: Mint, path: str) -> None:
    one, other = somebody(), somebody()
    # One more for what may have filled up meanwhile.
    assert until_refused(lambda: mint.http.get(path, headers=one)) - GRANTED[REQUESTS] in (0, 1, 2)
    assert mint.http.get("/v1/info", headers=other).status_code == 200


def test_a_preflight_is_answered_so_that_a_page_can_see_its_refusal(mint: Mint) -> None:
    one = somebody()
    until_refused(lambda: mint.http.get("/v1/info", headers=one))
    assert mint.http.options("/v1/swap", headers=one).status_code == 200


def test_who_speaks_for_himself_shares_the_budget_of_his_address(mint: Mint, purse: Purse) -> None:
    """Who comes from this machine and through no proxy: here without a limit, as the option says."""
    for _ in range(3 * GRANTED[REQUESTS]):
        assert mint.http.get("/v1/info").status_code == 200
    assert sum(proof.amount for proof in purse.swap(purse.fund(1023))) == 1023


def test_a_large_body_costs_more(mint: Mint) -> None:
    one = somebody()
    body = b" " * (64 * 1024 * (GRANTED[REQUESTS] - 2))
    assert mint.http.post("/v1/swap", content=body, headers=one).status_code == 400
    assert until_refused(lambda: mint.http.get("/v1/info", headers=one)) <= 3


@pytest.mark.parametrize("path", ["/v1/checkstate", "/v1/restore", "/v1/mint/quote/bolt11/check"])
def test_lookups_cost_by_their_number(mint: Mint, purse: Purse, path: str) -> None:
    one = somebody()
    entries = 100
    body: dict[str, Any] = {
        "Ys": random_ys(entries),
        "outputs": wire_outputs(purse.outputs_of([1] * entries)),
        "quotes": [f"q{number}" for number in range(entries)],
    }
    for _ in range(2):
        assert mint.http.post(path, json=body, headers=one).status_code in (200, 400)
    params = {"kind": "proof_state", "subId": "all", "filters": random_ys(GRANTED[LOOKUPS] - 1)}
    with ws(mint, one) as connection:
        connection.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "subscribe", "params": params}))
        assert json.loads(connection.recv(AT_ONCE_S))["error"]["code"] == -32029


def test_signatures_cost_by_their_number_and_nothing_is_done_for_who_has_none_left(mint: Mint, purse: Purse) -> None:
    one = somebody()
    inputs = [proof.model_dump(mode="json") for proof in purse.fund(64)]
    bad = {"inputs": [], "outputs": wire_outputs(purse.outputs_of([1] * GRANTED[SIGNATURES]))}
    assert mint.http.post("/v1/swap", json=bad, headers=one).status_code == 400
    good = {"inputs": inputs, "outputs": wire_outputs(purse.outputs(64))}
    before = mint.rows()
    for path, body in (
        ("/v1/swap", good),
        ("/v1/mint/bolt11", {"quote": "x", "outputs": good["outputs"]}),
        ("/v1/mint/bolt11/batch", {"quotes": ["x"], "outputs": good["outputs"]}),
        ("/v1/melt/bolt11", {"quote": "x", "inputs": inputs}),
    ):
        assert_refused(mint.http.post(path, json=body, headers=one))
    assert mint.rows() == before
    assert mint.http.post("/v1/swap", json=good, headers=somebody()).status_code == 200


def test_what_the_node_must_do_is_counted_and_not_done_when_refused(mint: Mint, purse: Purse) -> None:
    quote = {"amount": 8, "unit": "sat"}
    pubkey = purse.keyset.keys[1].hex()
    one, other, third = somebody(), somebody(), somebody()
    position = mint.node.calls_position
    asked = until_refused(lambda: mint.http.post("/v1/mint/quote/bolt11", json=quote, headers=one))
    assert asked >= GRANTED[NODE]
    assert len([call for call in mint.node.calls(since=position) if call.method == "invoice"]) == asked
    # An address costs more than all that is left of so small a budget, and an invoice that is fetched as well.
    address = {"unit": "sat", "pubkey": pubkey}
    assert until_refused(lambda: mint.http.post("/v1/mint/quote/onchain", json=address, headers=other)) == 1
    melt = {"request": "lno1x", "unit": "sat", "options": {"amountless": {"amount_msat": 1000}}}
    assert until_refused(lambda: mint.http.post("/v1/melt/quote/bolt12", json=melt, headers=third)) == 1


# --- WebSockets -------------------------------------------------------------------------------------------------------


def ws(mint: Mint, headers: dict[str, str]) -> ClientConnection:
    return connect(mint.url.replace("http", "ws") + "/v1/ws", additional_headers=headers, open_timeout=AT_ONCE_S)


def test_a_client_has_a_share_of_the_websockets(mint: Mint) -> None:
    one = somebody()
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(ws(mint, one))
        with ws(mint, one):
            with pytest.raises(InvalidStatus) as refused, ws(mint, one):
                pass
            assert refused.value.response.status_code == 403
            with ws(mint, somebody()):
                pass
        time.sleep(1)  # for the mint to notice; each try costs a request
        with ws(mint, one):
            pass


def test_opening_websockets_counts_as_requests(mint: Mint) -> None:
    one = somebody()
    until_refused(lambda: mint.http.get("/v1/info", headers=one))
    with pytest.raises(InvalidStatus) as refused, ws(mint, one):
        pass
    assert refused.value.response.status_code == 429
    assert int(refused.value.response.headers["retry-after"]) > 0


def test_frames_are_counted_and_too_many_end_the_connection(mint: Mint) -> None:
    with ws(mint, somebody()) as connection:
        with pytest.raises(ConnectionClosed) as closed:
            for _ in range(5 * GRANTED[REQUESTS]):
                connection.send("{}")
                connection.recv(AT_ONCE_S)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008
        assert "try again in" in closed.value.rcvd.reason


def test_filters_of_subscriptions_are_lookups(mint: Mint) -> None:
    ys = random_ys(GRANTED[LOOKUPS] - 1)
    with ws(mint, somebody()) as connection:
        for sub_id, filters in (("a", ys), ("b", random_ys(300))):
            params = {"kind": "proof_state", "subId": sub_id, "filters": filters}
            connection.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "subscribe", "params": params}))
        assert json.loads(connection.recv(AT_ONCE_S))["result"]["subId"] == "a"
        for _ in ys:
            assert json.loads(connection.recv(AT_ONCE_S))["params"]["subId"] == "a"
        refusal = json.loads(connection.recv(AT_ONCE_S))
        assert (refusal["id"], refusal["error"]["code"]) == (1, -32029)
        assert "try again in" in refusal["error"]["message"]


# --- connections ------------------------------------------------------------------------------------------------------


def ends(sock: socket.socket) -> bool:
    """Whether the other side ends a connection, within a time that is long for it."""
    sock.settimeout(AT_ONCE_S)
    try:
        while sock.recv(4096):
            pass
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    return True


@pytest.mark.parametrize("sent", [b"", b"GET /v1/info HTTP/1.1\r\nHost: m", b"\r\n"], ids=["nothing", "half", "empty"])
def test_a_connection_that_asks_nothing_is_ended(mint: Mint, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", mint.port), AT_ONCE_S) as sock:
        sock.sendall(sent)
        assert ends(sock)


def test_bodies_on_their_way_have_a_limit_together(mint: Mint) -> None:
    """Two of three that are never finished are waited for, and the third is refused."""
    head = b"POST /v1/swap HTTP/1.1\r\nHost: mint\r\nContent-Length: 1000000\r\n\r\n"
    slow = [socket.create_connection(("127.0.0.1", mint.port), AT_ONCE_S) for _ in range(3)]
    for sock in slow:
        sock.sendall(head + b" " * 950_000)
    with selectors.DefaultSelector() as selector:
        for sock in slow:
            selector.register(sock, selectors.EVENT_READ, sock)
        answered = [key.data.recv(12) for key, _ in selector.select(AT_ONCE_S)]
    assert answered == [b"HTTP/1.1 503"]
    assert mint.http.get("/v1/keys", headers=somebody()).status_code == 200
    for sock in slow:
        sock.close()

    def asked() -> int:
        return mint.http.post("/v1/swap", content=b" " * 1_000_000).status_code

    wait_for(lambda: [asked() for _ in range(3)] == [400] * 3, "room for bodies again", AT_ONCE_S)
    mint.check()


def test_connections_have_a_limit_for_each_client_and_in_all(make_mint: MakeMint) -> None:
    mint = make_mint(started=False, rate_limit_local=100)
    mint.change_inside(
        constants={
            "plugin.http.connection:MAX_CONNECTIONS": 30,
            "plugin.http.connection:MAX_CONNECTIONS_OF_CLIENT": 10,
        }
    )
    mint.start()

    def held() -> int:
        """How many of many connections are served and kept."""
        sockets = [socket.create_connection(("127.0.0.1", mint.port), AT_ONCE_S) for _ in range(40)]
        served = 0
        for sock in sockets:
            sock.settimeout(AT_ONCE_S)
            try:
                sock.sendall(b"GET /v1/keysets HTTP/1.1\r\nHost: mint\r\n\r\n")
                served += sock.recv(12) == b"HTTP/1.1 200"
            except ConnectionError:
                pass
        for sock in sockets:
            sock.close()
        return served

    assert held() == 10
    mint.node.stop_plugin()
    mint.set_options(trusted_proxies="127.0.0.0/8")
    mint.start_plugin()
    assert held() == 30
    wait_for(lambda: mint.status() == 200, "room again")


def test_without_tls_there_is_no_http2(mint: Mint) -> None:
    """Also not for one who asks for it: a connection carries one request at a time."""
    upgrade = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
    with socket.create_connection(("127.0.0.1", mint.port), AT_ONCE_S) as sock:
        sock.sendall(f"GET /v1/keysets HTTP/1.1\r\nHost: mint\r\n{upgrade}\r\n".encode())
        assert sock.recv(12) == b"HTTP/1.1 200"
    with socket.create_connection(("127.0.0.1", mint.port), AT_ONCE_S) as sock:
        sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
        assert sock.recv(8) == b"HTTP/1.1"


# --- how much ecash there may be --------------------------------------------------------------------------------------


def test_beyond_the_operators_limit_no_quote_is_made_and_all_else_goes_on(make_mint: MakeMint) -> None:
    mint = make_mint(max_outstanding=2000, onchain_min=1000)
    purse = Purse(mint)
    early = purse.request_mint(1900)
    assert mint.http.get("/v1/info").json()["nuts"]["4"]["disabled"] is False
    proofs = purse.fund(1024)
    position = mint.node.calls_position
    pubkey = purse.keyset.keys[1].hex()
    for path, body in (
        ("bolt11", {"amount": 1000, "unit": "sat"}),
        ("bolt12", {"amount": 1000, "unit": "sat", "pubkey": pubkey}),
        ("onchain", {"unit": "sat", "pubkey": pubkey}),
    ):
        answer = mint.http.post(f"/v1/mint/quote/{path}", json=body)
        assert (answer.status_code, answer.json()["code"]) == (400, 20003), answer.text
    asked = {call.method for call in mint.node.calls(since=position)}
    assert not asked & {"invoice", "offer", "newaddr"}
    mint.node.pay_invoice(early.request)
    purse.wait_credited(early)
    assert sum(proof.amount for proof in purse.collect(early)) == 1900
    info = mint.http.get("/v1/info").json()
    assert info["nuts"]["4"]["disabled"] is True
    assert info["nuts"]["5"]["disabled"] is False
    assert mint.http.post("/v1/mint/quote/bolt11", json={"amount": 1, "unit": "sat"}).json()["code"] == 20003
    proofs = purse.swap(proofs)
    status = mint.info()
    assert (status["owed_msat"], status["max_outstanding_msat"]) == (2_924_000, 2_000_000)
    (proof,) = purse.swap(proofs)
    invoice = mint.invoice(1000)
    quote = purse.quote(invoice)
    melt_body = {"quote": quote.quote, "inputs": wire([proof])}
    assert mint.http.post("/v1/melt/bolt11", json=melt_body).json()["state"] == "PAID"
    assert mint.info()["owed_msat"] == 1_900_000


def test_melts_in_flight_have_a_limit_to_their_sum(make_mint: MakeMint) -> None:
    mint = make_mint(max_pending=500)
    purse = Purse(mint)
    held = purse.hold(400)
    assert mint.info()["pending_msat"] == 400_000
    error = purse.refusal(purse.prepare(mint.invoice(101)))
    assert error.code == 20000
    assert "too large a sum" in str(error)
    mint.node.release(str(held.invoice))
    purse.assert_paid(held)
    purse.assert_paid(purse.post_async(mint.invoice(101)))


@pytest.mark.parametrize("what", ["mint", "melt"])
def test_options_that_leave_no_amount_on_the_chain_are_refused(make_mint: MakeMint, what: str) -> None:
    mint = make_mint(started=False, **{f"max_{what}": 9_999})
    mint.node.start()
    assert f"cashu-onchain-min=10000 is above cashu-max-{what}=9999" in str(mint.node.plugin_disabled)
    mint.set_options(methods="bolt11,bolt12")
    mint.node.start_plugin()
    assert mint.node.plugin_disabled is None
