"""NUT-19 as durable idempotency: an identical request is one operation, and is answered again, whatever happened
since."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from contrib.sandbox import Behaviour
from contrib.wallet import MintUnreachableError
from ledger.errors import Code
from tests.plugin.harness import PATIENCE_S, Melt, Mint, Purse, wait_for
from tests.protocol.helpers import at_once, code_of, get, ok, paid_quote, swap_body, wire_outputs

TWINS = 20
MELT = "/v1/melt/bolt11"

Request = tuple[str, dict[str, Any]]


def a_swap(purse: Purse) -> Request:
    return "/v1/swap", swap_body(purse, purse.fund(13))


def an_issue(purse: Purse) -> Request:
    return "/v1/mint/bolt11", {"quote": paid_quote(purse, 13), "outputs": wire_outputs(purse.outputs(13))}


def a_batch(purse: Purse) -> Request:
    quotes = [paid_quote(purse, amount) for amount in (5, 8)]
    return "/v1/mint/bolt11/batch", {"quotes": quotes, "outputs": wire_outputs(purse.outputs(13))}


def a_melt(purse: Purse) -> Request:
    return MELT, purse.prepare(purse.mint.invoice(100)).body


KINDS: dict[str, Callable[[Purse], Request]] = {"swap": a_swap, "mint": an_issue, "batch": a_batch, "melt": a_melt}


def post(mint: Mint, request: Request) -> httpx.Response:
    path, body = request
    return mint.http.post(path, json=body)


def melt_path(melt: Melt) -> str:
    return f"/v1/melt/quote/bolt11/{melt.quote.quote}"


def payments(mint: Mint, melt: Melt) -> int:
    """How many times the node was told to pay it."""
    calls = mint.node.calls("xpay")
    return sum(call.params["invstring"] == melt.quote.request for call in calls)


# --- again ------------------------------------------------------------------------------------------------------------


def nothing(_mint: Mint) -> None: ...


def kill(mint: Mint) -> None:
    mint.restart_plugin(kill=True)


def restart_node(mint: Mint) -> None:
    mint.restart_node(kill=False)


def rotate(mint: Mint) -> None:
    mint.node.rpc("cashu-rotate", unit="sat", input_fee_ppk=100)
    mint.node.rpc("cashu-rotate", unit="sat", input_fee_ppk=0)


@pytest.mark.parametrize("happens", [nothing, kill, restart_node, rotate])
def test_an_identical_request_gets_the_same_answer(mint: Mint, purse: Purse, happens: Callable[[Mint], None]) -> None:
    requests = {name: make(purse) for name, make in KINDS.items()}
    first = {name: post(mint, request) for name, request in requests.items()}
    assert {answer.status_code for answer in first.values()} == {200}
    rows = mint.rows()
    happens(mint)
    for name, request in requests.items():
        again = post(mint, request)
        assert (again.status_code, again.text) == (200, first[name].text), name
    assert first["melt"].text == get(mint, f"/v1/melt/quote/bolt11/{requests['melt'][1]['quote']}")
    assert json.loads(first["melt"].text)["state"] == "PAID"
    left_alone = ("proofs", "promises", "operations", "issues", "mint_quotes", "melt_quotes", "receipts")
    now = mint.rows()
    assert {table: now[table] for table in left_alone} == {table: rows[table] for table in left_alone}


@pytest.mark.parametrize("kind", KINDS)
def test_the_way_the_json_is_written_does_not_matter(mint: Mint, purse: Purse, kind: str) -> None:
    path, body = KINDS[kind](purse)
    first = mint.http.post(path, json=body)
    turned = {name: body[name] for name in reversed(body)} | {"memo": "unknown", "prefer_async": kind == "melt"}
    content = json.dumps(turned, indent=3).encode()
    assert mint.http.post(path, content=content).text == first.text
    assert first.status_code == 200


def test_a_request_that_differs_is_another_one(mint: Mint, purse: Purse) -> None:
    codes = {
        "swap": Code.PROOFS_SPENT,
        "mint": Code.QUOTE_ISSUED,
        "batch": Code.QUOTE_ISSUED,
        "melt": Code.INVOICE_PAID,
    }
    for kind, make in KINDS.items():
        path, body = make(purse)
        ok(mint.http.post(path, json=body))
        assert code_of(mint.http.post(path, json=body | {"outputs": body["outputs"][::-1]})) == codes[kind]
        others = wire_outputs(purse.outputs_of([output["amount"] for output in body["outputs"]]))
        assert code_of(mint.http.post(path, json=body | {"outputs": others})) == codes[kind]


def test_a_refusal_is_not_repeated_once_its_reason_is_gone(mint: Mint, purse: Purse) -> None:
    quote = purse.request_mint(13)
    issue = ("/v1/mint/bolt11", {"quote": quote.quote, "outputs": wire_outputs(purse.outputs(13))})
    assert code_of(post(mint, issue)) == Code.QUOTE_NOT_PAID
    mint.node.pay_invoice(quote.request)
    purse.wait_credited(quote)
    ok(post(mint, issue))

    melt = purse.hold(100)
    swap = ("/v1/swap", swap_body(purse, melt.inputs))
    assert code_of(post(mint, swap)) == Code.PROOFS_PENDING
    mint.node.release(str(melt.invoice), ok=False)
    purse.assert_failed(melt)
    ok(post(mint, swap))


# --- twins ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["swap", "mint", "batch"])
def test_twins_that_come_together_are_one_operation(mint: Mint, purse: Purse, kind: str) -> None:
    request = KINDS[kind](purse)
    with mint.ledger() as db:
        operations = db.execute("SELECT count(*) FROM operations").get
    answers = at_once(TWINS, lambda: post(mint, request))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1
    with mint.ledger() as db:
        assert db.execute("SELECT count(*) FROM operations").get == operations + 1


@pytest.mark.parametrize("prefer_async", [False, True])
def test_twin_melts_are_one_payment(mint: Mint, purse: Purse, prefer_async: bool) -> None:
    melt = purse.prepare(mint.invoice(100, Behaviour.hold()))
    body = {**melt.body, "prefer_async": prefer_async}
    with ThreadPoolExecutor(max_workers=TWINS) as pool:
        twins = [pool.submit(mint.http.post, MELT, json=body) for _ in range(TWINS)]
        if prefer_async:
            assert {twin.result(PATIENCE_S).json()["state"] for twin in twins} == {"PENDING"}
        mint.node.wait_for_part(str(melt.invoice), timeout_s=PATIENCE_S)
        if not prefer_async:
            assert not any(twin.done() for twin in twins)
        mint.node.release(str(melt.invoice))
        purse.assert_paid(melt)
        texts = {twin.result(PATIENCE_S).text for twin in twins}
    assert len(texts) == 1
    if not prefer_async:
        assert texts == {get(mint, melt_path(melt))}
    assert payments(mint, melt) == 1


@pytest.mark.parametrize("paid", [True, False])
def test_a_synchronous_twin_waits_for_the_outcome_of_the_first(mint: Mint, purse: Purse, paid: bool) -> None:
    melt = purse.hold(100)
    with ThreadPoolExecutor(max_workers=1) as pool:
        twin = pool.submit(mint.http.post, MELT, json=melt.body)
        again = mint.http.post(MELT, json={**melt.body, "prefer_async": True})
        assert again.json()["state"] == "PENDING"
        assert not twin.done()
        mint.node.release(str(melt.invoice), ok=paid)
        answer = twin.result(PATIENCE_S)
    if paid:
        assert (answer.status_code, answer.text) == (200, get(mint, melt_path(melt)))
        purse.assert_paid(melt)
    else:
        assert code_of(answer) == Code.PAYMENT_FAILED
        purse.assert_failed(melt)
    assert payments(mint, melt) == 1


def test_a_twin_is_never_told_a_state_of_the_past(mint: Mint, purse: Purse) -> None:
    melt = purse.prepare(mint.invoice(100, Behaviour.hold()))
    body = {**melt.body, "prefer_async": True}
    first = mint.http.post(MELT, json=body)
    assert first.json()["state"] == "PENDING"
    mint.node.wait_for_part(str(melt.invoice), timeout_s=PATIENCE_S)
    mint.node.release(str(melt.invoice))
    paid = purse.assert_paid(melt)
    again = mint.http.post(MELT, json=body)
    assert again.text == get(mint, melt_path(melt)) == paid.model_dump_json()
    assert again.json()["change"]


def test_a_twin_after_a_kill_joins_the_payment_that_is_still_in_flight(mint: Mint, purse: Purse) -> None:
    melt = purse.prepare(mint.invoice(100, Behaviour.hold()))
    lost = purse.post_soon(melt)
    mint.node.wait_for_part(str(melt.invoice), timeout_s=PATIENCE_S)
    kill(mint)
    with pytest.raises(MintUnreachableError):
        lost.result(PATIENCE_S)
    with ThreadPoolExecutor(max_workers=1) as pool:
        twin = pool.submit(mint.http.post, MELT, json=melt.body)
        wait_for(lambda: not twin.done() and purse.look(melt).state == "PENDING", "the twin to wait")
        mint.node.release(str(melt.invoice))
        assert twin.result(PATIENCE_S).json()["state"] == "PAID"
    purse.assert_paid(melt)
    assert payments(mint, melt) == 1


# --- other requests for the same quote --------------------------------------------------------------------------------


def test_another_request_for_a_quote_is_refused_while_it_is_pending_and_after_it_is_paid(
    mint: Mint, purse: Purse
) -> None:
    melt = purse.hold(100)
    other = purse.prepare(str(melt.invoice), quote=melt.quote)
    other_blanks = Melt(melt.invoice, melt.quote, melt.inputs, purse.outputs_of([0]))
    for each in (other, other_blanks):
        for prefer_async in (False, True):
            assert purse.refusal(each, prefer_async=prefer_async).code == Code.QUOTE_PENDING
    assert purse.post(melt, prefer_async=True).state == "PENDING"
    mint.node.release(str(melt.invoice))
    paid = purse.assert_paid(melt)
    for each in (other, other_blanks):
        for prefer_async in (False, True):
            assert purse.refusal(each, prefer_async=prefer_async).code == Code.INVOICE_PAID
    assert purse.post(melt, prefer_async=False) == paid
    assert purse.states(other.inputs) == {"UNSPENT"}
    assert payments(mint, melt) == 1


def test_the_same_request_after_a_failure_is_a_new_attempt(mint: Mint, purse: Purse) -> None:
    melt = purse.prepare(mint.invoice(100))
    mint.node.script(Behaviour.failure(), str(melt.invoice))
    mint.node.script(Behaviour.hold(), str(melt.invoice))
    purse.post(melt, prefer_async=True)
    purse.assert_failed(melt)
    assert purse.post(melt, prefer_async=True).state == "PENDING"
    mint.node.wait_for_part(str(melt.invoice), timeout_s=PATIENCE_S)
    assert purse.post(melt, prefer_async=True).state == "PENDING"
    mint.node.release(str(melt.invoice))
    paid = purse.assert_paid(melt)
    assert purse.post(melt) == paid
    assert payments(mint, melt) == 2


def test_a_twin_of_an_earlier_attempt_is_another_request(mint: Mint, purse: Purse) -> None:
    """The proofs of the first attempt came back, and are not taken for those of the second."""
    melt = purse.prepare(mint.invoice(100))
    mint.node.script(Behaviour.failure(), str(melt.invoice))
    mint.node.script(Behaviour.hold(), str(melt.invoice))
    assert purse.refusal(melt).code == Code.PAYMENT_FAILED
    second = purse.prepare(str(melt.invoice), quote=melt.quote)
    purse.post(second, prefer_async=True)
    assert purse.refusal(melt).code == Code.QUOTE_PENDING
    mint.node.wait_for_part(str(melt.invoice), timeout_s=PATIENCE_S)
    mint.node.release(str(melt.invoice))
    purse.assert_paid(Melt(None, second.quote, second.inputs, second.blanks), preimage=False)
    assert purse.refusal(melt).code == Code.INVOICE_PAID
    assert purse.states(melt.inputs) == {"UNSPENT"}
