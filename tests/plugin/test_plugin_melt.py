"""Melts as wallets ask for them: synchronous and asynchronous, what they cost, and how they fail for certain."""

from __future__ import annotations

import time
from typing import Any

import pytest

from contrib.sandbox import TEMPORARY_CHANNEL_FAILURE, Behaviour, Part, Route
from contrib.wallet import MintError
from ledger.errors import Code
from ledger.ids import label_of
from ledger.models import MeltQuoteOptions, MppOption
from tests.plugin.harness import HELD, PAID, PENDING, SPENT, UNPAID, UNSPENT, Mint, Purse

GOSSIP = "Failed: 103x1x0/0 layer auto.localchans says max is 4895393996msat of 02deadbeef"
"""What no wallet may read: xpay tells of the node's channels."""

STILL_IN_PROGRESS = (
    'Unexpected injectpaymentonion error 200: {"code":200,"message":"Payment with groupid=4 still in progress"}'
)
SUCCEEDED = 'Unexpected injectpaymentonion error 201: {"code":201,"message":"Already succeeded other parts"}'

FAILURES = {
    "203 refused": (Behaviour.failure(), "refused"),
    "209 on the way": (Behaviour.failure(TEMPORARY_CHANNEL_FAILURE), "on its way"),
    "203 later": (Behaviour.failure(after_s=0.3), "refused"),
    "205 no route": (Behaviour.refused(205, GOSSIP), "no route"),
    "206 too expensive": (Behaviour.refused(206, GOSSIP), "fee reserve"),
    "207 expired": (Behaviour.refused(207, GOSSIP), "expired"),
    "219 paid before": (Behaviour.refused(219, GOSSIP), "already"),
    "-3 with 201": (Behaviour.refused(-3, SUCCEEDED), "already"),
    "-3 with 200": (Behaviour.refused(-3, STILL_IN_PROGRESS), "in flight"),
    "-32602 arguments": (Behaviour.refused(-32602, GOSSIP), "-32602"),
    "-4 xpay died": (Behaviour.refused(-4, "Plugin terminated before replying to RPC call."), "-4"),
    "210 late": (Behaviour.refused(210, GOSSIP, after_s=0.3), "no route worked"),
}


def failures() -> pytest.MarkDecorator:
    """Every way in which a payment fails for certain, and a word that the wallet reads."""
    return pytest.mark.parametrize(("behaviour", "why"), FAILURES.values(), ids=list(FAILURES))


# --- success ------------------------------------------------------------------------------------------------------


def test_a_synchronous_melt_answers_paid_with_preimage_and_change(mint: Mint, purse: Purse) -> None:
    melt = purse.prepare(mint.invoice(100))
    answer = purse.post(melt)
    assert answer.state == PAID
    assert melt.invoice is not None
    assert answer.payment_preimage == melt.invoice.preimage
    assert sum(p.amount for p in purse.change(melt, answer)) == melt.quote.fee_reserve - 1
    purse.assert_paid(melt)


def test_an_asynchronous_melt_answers_pending_and_is_paid_later(mint: Mint, purse: Purse) -> None:
    melt = purse.hold()
    assert melt.answer is not None
    assert melt.answer.state == PENDING
    purse.assert_pending(melt)
    mint.node.release(str(melt.invoice))
    purse.assert_paid(melt)


def test_the_pending_answer_is_the_whole_quote(purse: Purse, mint: Mint) -> None:
    melt = purse.hold()
    answer = mint.http.get(f"/v1/melt/quote/bolt11/{melt.quote.quote}").json()
    assert answer == melt.quote.model_copy(update={"state": PENDING}).model_dump(mode="json")
    mint.node.release(str(melt.invoice))
    purse.assert_paid(melt)


@pytest.mark.parametrize("prefer_async", [None, False, True])
def test_the_answer_to_post_and_get_are_the_same_bytes(mint: Mint, purse: Purse, prefer_async: bool | None) -> None:
    melt = purse.prepare(mint.invoice())
    body = melt.body if prefer_async is None else {**melt.body, "prefer_async": prefer_async}
    posted = mint.http.post("/v1/melt/bolt11", json=body)
    if prefer_async:
        assert posted.json()["state"] in ("PENDING", "PAID")
        purse.wait_final(melt)
        posted = mint.http.post("/v1/melt/bolt11", json=body)
    assert posted.status_code == 200
    assert posted.content == mint.http.get(f"/v1/melt/quote/bolt11/{melt.quote.quote}").content
    assert posted.json()["change"]
    purse.assert_paid(melt)


@pytest.mark.parametrize("fee_msat", [0, 1, 999, 1000, 1001, 2000])
def test_the_routing_fee_is_charged_rounded_up_to_the_unit(mint: Mint, purse: Purse, fee_msat: int) -> None:
    melt = purse.prepare(mint.invoice(150, Behaviour.success(fee_msat=fee_msat)))
    purse.post(melt)
    purse.assert_paid(melt, fee_msat=fee_msat)


@pytest.mark.parametrize("extra", [1, 7, 1000])
def test_change_is_everything_overpaid_not_only_the_unused_reserve(mint: Mint, purse: Purse, extra: int) -> None:
    melt = purse.prepare(mint.invoice(), extra=extra)
    purse.post(melt)
    purse.assert_paid(melt)


def test_too_few_blank_outputs_get_the_largest_parts_of_the_change(mint: Mint, purse: Purse) -> None:
    melt = purse.prepare(mint.invoice(), extra=13, blanks=2)  # change 1 + 13 = 8 + 4 + 2
    change = purse.post(melt).change
    assert change is not None
    assert sorted(c.amount for c in change) == [4, 8]


def test_without_blank_outputs_there_is_no_change(mint: Mint, purse: Purse) -> None:
    melt = purse.prepare(mint.invoice(), extra=13, blanks=0)
    answer = mint.http.post("/v1/melt/bolt11", json=melt.body).json()
    assert answer["state"] == "PAID"
    assert answer["change"] is None


def test_the_node_is_told_label_fee_limit_and_times(mint: Mint, purse: Purse) -> None:
    position = mint.node.calls_position
    melt = purse.prepare(mint.invoice(1000))
    purse.post(melt)
    (call,) = mint.node.calls("xpay", since=position)
    assert call.params == {
        "invstring": str(melt.invoice),
        "label": label_of(melt.quote.quote),
        "maxfee": melt.quote.fee_reserve * 1000,
        "maxdelay": 1008,
        "retry_for": 60,
    }


def test_a_payment_in_several_parts_is_one_melt(mint: Mint, purse: Purse) -> None:
    mint.node.set_routes(*[Route(fee_msat=1000)] * 4)
    try:
        melt = purse.prepare(mint.invoice(1000, Behaviour(parts=tuple(Part.success(fee_msat=1000) for _ in range(4)))))
    finally:
        mint.node.reset_routes()
    purse.post(melt)
    purse.assert_paid(melt, fee_msat=4000)


def test_a_part_that_fails_and_is_retried_with_success_is_paid(mint: Mint, purse: Purse) -> None:
    retried = Part(after_s=0.2, retry=True)
    behaviour = Behaviour(parts=(Part.failure(TEMPORARY_CHANNEL_FAILURE), retried))
    melt = purse.post_async(mint.invoice(behaviour=behaviour))
    purse.assert_paid(melt)


def test_an_amountless_invoice_is_paid_with_the_amount_that_the_wallet_names(mint: Mint, purse: Purse) -> None:
    invoice = mint.node.outside_invoice(None)
    melt = purse.prepare(invoice, amount_msat=70_500)
    assert melt.quote.amount == 71
    purse.post(melt)
    quote = purse.look(melt)
    assert (quote.state, quote.payment_preimage) == (PAID, invoice.preimage)
    (row,) = mint.node.rows(invoice)
    assert row["amount_msat"] == 70_500


def test_an_amountless_invoice_without_an_amount_is_refused(mint: Mint, purse: Purse) -> None:
    with pytest.raises(MintError) as refused:
        purse.quote(mint.node.outside_invoice(None))
    assert refused.value.code == Code.AMOUNTLESS_UNSUPPORTED


def test_another_amount_than_the_invoice_names_is_refused(mint: Mint, purse: Purse) -> None:
    with pytest.raises(MintError) as refused:
        purse.quote(mint.invoice(100), amount_msat=99_000)
    assert refused.value.code == Code.AMOUNT_MISMATCH


@pytest.mark.parametrize("form", [str.upper, lambda text: f"lightning:{text}"], ids=["upper case", "lightning:"])
def test_an_invoice_in_another_form_is_paid(mint: Mint, purse: Purse, form: Any) -> None:
    invoice = mint.invoice()
    melt = purse.prepare(form(str(invoice)))
    purse.post(melt)
    assert purse.look(melt).payment_preimage == invoice.preimage


def test_a_part_of_an_invoice_is_paid_and_others_pay_the_rest(mint: Mint, purse: Purse) -> None:
    invoice = mint.invoice(1000)
    options = MeltQuoteOptions(mpp=MppOption(amount=400_000))
    melt = purse.prepare(invoice, options=options)
    assert melt.quote.amount == 400
    position = mint.node.calls_position
    purse.post(melt)
    purse.assert_paid(melt)
    (call,) = mint.node.calls("xpay", since=position)
    assert call.params["partial_msat"] == 400_000


@pytest.mark.parametrize("ok", [True, False], ids=["paid", "failed"])
def test_a_part_of_an_invoice_that_is_held_comes_to_its_end(mint: Mint, purse: Purse, ok: bool) -> None:
    melt = purse.prepare(mint.invoice(1000, Behaviour.hold()), options=MeltQuoteOptions(mpp=MppOption(amount=400_000)))
    purse.post(melt, prefer_async=True)
    mint.node.wait_for_part(str(melt.invoice))
    purse.assert_pending(melt)
    mint.node.release(str(melt.invoice), ok=ok)
    (purse.assert_paid if ok else purse.assert_failed)(melt)


# --- own invoices -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefer_async", [False, True])
def test_an_invoice_of_this_mint_is_paid_without_fee_and_credited(purse: Purse, prefer_async: bool) -> None:
    mint_quote = purse.request_mint(64)
    melt = purse.prepare(mint_quote.request)
    assert melt.quote.fee_reserve == 0
    purse.post(melt, prefer_async=prefer_async)
    purse.assert_paid(melt, fee_msat=0)
    purse.wait_credited(mint_quote)
    assert sum(p.amount for p in purse.collect(mint_quote)) == 64


def test_an_invoice_of_the_nodes_operator_is_paid_without_fee(mint: Mint, purse: Purse) -> None:
    own = mint.node.rpc("invoice", amount_msat=50_000, label="operator", description="not the mint's")
    melt = purse.prepare(own["bolt11"])
    purse.post(melt)
    purse.assert_paid(melt, fee_msat=0)
    assert mint.node.rpc("listinvoices", label="operator")["invoices"][0]["status"] == "paid"


def test_an_own_invoice_that_is_paid_already_gets_no_quote(mint: Mint, purse: Purse) -> None:
    mint_quote = purse.request_mint(64)
    mint.node.pay_invoice(mint_quote.request)
    with pytest.raises(MintError) as refused:
        purse.quote(mint_quote.request)
    assert refused.value.code == Code.INVOICE_PAID


@pytest.mark.parametrize("prefer_async", [False, True])
def test_an_own_invoice_that_was_paid_from_outside_is_not_paid_again(
    mint: Mint, purse: Purse, prefer_async: bool
) -> None:
    mint_quote = purse.request_mint(64)
    melt = purse.prepare(mint_quote.request)
    mint.node.pay_invoice(mint_quote.request)
    if prefer_async:
        purse.post(melt, prefer_async=True)
    else:
        assert purse.refusal(melt).code == Code.PAYMENT_FAILED
    purse.assert_failed(melt, why="refused")
    assert purse.wait_credited(mint_quote).amount_paid == 64


# --- definite failures --------------------------------------------------------------------------------------------


@failures()
def test_a_definite_failure_is_told_to_the_waiting_wallet(
    mint: Mint, purse: Purse, behaviour: Behaviour, why: str
) -> None:
    melt = purse.prepare(mint.invoice(behaviour=behaviour))
    refusal = purse.refusal(melt)
    assert (refusal.code, refusal.status) == (Code.PAYMENT_FAILED, 400)
    assert why in refusal.detail
    purse.assert_failed(melt, why=why)


@failures()
def test_a_definite_failure_of_an_asynchronous_melt_frees_its_proofs(
    mint: Mint, purse: Purse, behaviour: Behaviour, why: str
) -> None:
    melt = purse.prepare(mint.invoice(behaviour=behaviour))
    assert purse.post(melt, prefer_async=True).state == PENDING
    purse.assert_failed(melt, why=why)
    purse.swap(melt.inputs)


@failures()
def test_a_melt_that_failed_can_be_retried_with_the_same_request(
    mint: Mint, purse: Purse, behaviour: Behaviour, why: str
) -> None:
    melt = purse.prepare(mint.invoice(behaviour=behaviour))
    purse.refusal(melt)
    assert purse.post(melt).state == PAID
    purse.assert_paid(melt)


@failures()
def test_the_reason_of_a_failure_keeps_the_nodes_affairs_to_itself(
    mint: Mint, purse: Purse, behaviour: Behaviour, why: str
) -> None:
    melt = purse.prepare(mint.invoice(behaviour=behaviour))
    detail, error = purse.refusal(melt).detail, purse.look(melt).error
    assert detail == error
    for word in ("x1x0", "layer", "4895393996", "02dead", "groupid", "injectpaymentonion", "Plugin", "xpay"):
        assert word not in detail


def test_a_retry_clears_the_error_of_the_attempt_before(mint: Mint, purse: Purse) -> None:
    melt = purse.prepare(mint.invoice(behaviour=Behaviour.refused()))
    purse.refusal(melt)
    mint.node.script(Behaviour.hold(), melt.invoice)
    purse.post(melt, prefer_async=True)
    purse.assert_pending(melt)
    mint.node.release(str(melt.invoice))
    purse.assert_paid(melt)


def test_a_melt_can_be_retried_with_other_proofs_and_outputs(mint: Mint, purse: Purse) -> None:
    first = purse.prepare(mint.invoice(behaviour=Behaviour.failure()))
    purse.refusal(first)
    second = purse.prepare(str(first.invoice), quote=first.quote)
    purse.post(second)
    second.invoice = first.invoice
    purse.assert_paid(second)
    assert purse.states(first.inputs) == {UNSPENT}


def test_a_melt_can_fail_many_times(mint: Mint, purse: Purse) -> None:
    melt = purse.prepare(mint.invoice())
    mint.node.script(Behaviour.failure(), melt.invoice, times=3)
    for _ in range(3):
        assert purse.refusal(melt).code == Code.PAYMENT_FAILED
        purse.assert_failed(melt)
    purse.post(melt)
    purse.assert_paid(melt)


def test_no_channel_is_no_route(mint: Mint, purse: Purse) -> None:
    melt = purse.prepare(mint.invoice())
    mint.node.set_channel(connected=False)
    try:
        assert purse.refusal(melt).code == Code.PAYMENT_FAILED
    finally:
        mint.node.set_channel(connected=True)
    purse.assert_failed(melt, why="no route")


# --- a melt in flight ---------------------------------------------------------------------------------------------


def test_a_get_is_answered_at_once_while_a_payment_is_held(mint: Mint, purse: Purse) -> None:
    melt = purse.hold()
    begun = time.monotonic()
    for _ in range(20):
        purse.assert_pending(melt)
    assert time.monotonic() - begun < 20
    mint.node.release(str(melt.invoice))
    purse.assert_paid(melt)


def test_a_synchronous_request_waits_while_the_payment_is_held(mint: Mint, purse: Purse) -> None:
    melt = purse.prepare(mint.invoice(behaviour=Behaviour.hold()))
    waiting = purse.post_soon(melt)
    mint.node.wait_for_part(str(melt.invoice))
    purse.assert_stays_pending(melt, 0.5)
    assert not waiting.done()
    mint.node.release(str(melt.invoice))
    assert waiting.result(60).state == PAID
    purse.assert_paid(melt)


def test_a_held_payment_that_comes_back_fails_its_synchronous_request(mint: Mint, purse: Purse) -> None:
    melt = purse.prepare(mint.invoice(behaviour=Behaviour.hold()))
    waiting = purse.post_soon(melt)
    mint.node.wait_for_part(str(melt.invoice))
    mint.node.release(str(melt.invoice), ok=False)
    with pytest.raises(MintError) as failed:
        waiting.result(60)
    assert failed.value.code == Code.PAYMENT_FAILED
    purse.assert_failed(melt)


def test_a_held_payment_that_comes_back_frees_the_proofs_of_its_asynchronous_melt(mint: Mint, purse: Purse) -> None:
    melt = purse.hold()
    mint.node.release(str(melt.invoice), ok=False)
    purse.assert_failed(melt, why="refused")


@pytest.mark.parametrize("prefer_async", [False, True])
def test_another_request_for_a_pending_quote_is_refused_at_once(mint: Mint, purse: Purse, prefer_async: bool) -> None:
    melt = purse.hold()
    other = purse.prepare(str(melt.invoice), quote=melt.quote)
    refusal = purse.refusal(other, prefer_async=prefer_async)
    assert refusal.code == Code.QUOTE_PENDING
    assert purse.states(other.inputs) == {UNSPENT}
    mint.node.release(str(melt.invoice))
    purse.assert_paid(melt)


def test_another_request_for_a_paid_quote_is_refused(mint: Mint, purse: Purse) -> None:
    melt = purse.prepare(mint.invoice())
    purse.post(melt)
    other = purse.prepare(str(melt.invoice), quote=melt.quote)
    assert purse.refusal(other).code == Code.INVOICE_PAID
    assert purse.states(other.inputs) == {UNSPENT}


def test_the_same_request_again_joins_the_one_before(mint: Mint, purse: Purse) -> None:
    melt = purse.hold()
    position = mint.node.calls_position
    assert purse.post(melt, prefer_async=True).state == PENDING
    waiting = purse.post_soon(melt)
    purse.assert_stays_pending(melt, 0.3)
    assert not waiting.done()
    mint.node.release(str(melt.invoice))
    assert waiting.result(60).state == PAID
    assert mint.node.calls("xpay", since=position) == []


def test_the_same_request_again_joins_also_in_failure(mint: Mint, purse: Purse) -> None:
    melt = purse.hold()
    waiting = purse.post_soon(melt)
    purse.assert_stays_pending(melt, 0.3)
    mint.node.release(str(melt.invoice), ok=False)
    with pytest.raises(MintError) as failed:
        waiting.result(60)
    assert failed.value.code == Code.PAYMENT_FAILED


def test_the_same_request_after_the_end_gets_the_same_change(mint: Mint, purse: Purse) -> None:
    melt = purse.prepare(mint.invoice())
    first = purse.post(melt)
    position = mint.node.calls_position
    assert purse.post(melt) == first
    assert purse.post(melt, prefer_async=True) == first
    assert mint.node.calls(since=position) == []


def test_proofs_held_by_a_melt_cannot_be_swapped(mint: Mint, purse: Purse) -> None:
    melt = purse.hold()
    with pytest.raises(MintError) as refused:
        purse.swap(melt.inputs)
    assert refused.value.code == Code.PROOFS_PENDING
    mint.node.release(str(melt.invoice))
    purse.assert_paid(melt)


def test_proofs_held_by_a_melt_cannot_pay_another(mint: Mint, purse: Purse) -> None:
    melt = purse.hold()
    other = purse.prepare(mint.invoice())
    other.inputs = melt.inputs
    assert purse.refusal(other).code == Code.PROOFS_PENDING
    mint.node.release(str(melt.invoice))
    purse.assert_paid(melt)


def test_blank_outputs_held_by_a_melt_cannot_be_signed(mint: Mint, purse: Purse) -> None:
    melt = purse.hold()
    other = purse.prepare(mint.invoice())
    other.blanks = melt.blanks
    assert purse.refusal(other).code == Code.OUTPUTS_PENDING
    mint.node.release(str(melt.invoice))
    purse.assert_paid(melt)


def test_blank_outputs_of_a_failed_melt_can_be_used_elsewhere(mint: Mint, purse: Purse) -> None:
    failed = purse.prepare(mint.invoice(behaviour=Behaviour.failure()))
    purse.refusal(failed)
    other = purse.prepare(mint.invoice())
    other.blanks = failed.blanks
    purse.post(other)
    purse.assert_paid(other)


def test_pending_proofs_are_spent_the_moment_the_payment_is_made(mint: Mint, purse: Purse) -> None:
    melt = purse.hold()
    assert purse.states(melt.inputs) == {HELD}
    mint.node.release(str(melt.invoice))
    purse.wait_final(melt)
    assert purse.states(melt.inputs) == {SPENT}


# --- two quotes, one invoice --------------------------------------------------------------------------------------


def test_two_quotes_for_one_invoice_one_pending(mint: Mint, purse: Purse) -> None:
    invoice = mint.invoice(behaviour=Behaviour.hold())
    first, second = purse.prepare(invoice), purse.prepare(invoice)
    purse.post(first, prefer_async=True)
    assert purse.refusal(second).code == Code.QUOTE_PENDING
    assert purse.states(second.inputs) == {UNSPENT}
    mint.node.wait_for_part(invoice)
    mint.node.release(invoice)
    purse.assert_paid(first)


def test_two_quotes_for_one_invoice_one_paid(mint: Mint, purse: Purse) -> None:
    invoice = mint.invoice()
    first, second = purse.prepare(invoice), purse.prepare(invoice)
    purse.post(first)
    assert purse.refusal(second).code == Code.INVOICE_PAID
    assert purse.look(second).state == UNPAID


def test_two_quotes_for_one_invoice_one_failed(mint: Mint, purse: Purse) -> None:
    invoice = mint.invoice(behaviour=Behaviour.failure())
    first, second = purse.prepare(invoice), purse.prepare(invoice)
    purse.refusal(first)
    purse.post(second)
    purse.assert_paid(second)
    assert purse.refusal(first).code == Code.INVOICE_PAID


@pytest.mark.parametrize(("paid", "code"), [(False, Code.QUOTE_PENDING), (True, Code.INVOICE_PAID)])
def test_no_new_quote_for_an_invoice_in_flight_or_paid(mint: Mint, purse: Purse, paid: bool, code: Code) -> None:
    melt = purse.hold()
    if paid:
        mint.node.release(str(melt.invoice))
        purse.assert_paid(melt)
    with pytest.raises(MintError) as refused:
        purse.quote(str(melt.invoice))
    assert refused.value.code == code
    if not paid:
        mint.node.release(str(melt.invoice))
        purse.assert_paid(melt)


# --- the operator pays by himself ---------------------------------------------------------------------------------


@pytest.mark.parametrize("prefer_async", [False, True])
def test_an_invoice_that_the_operator_has_paid_meanwhile_is_not_paid_with_ecash(
    mint: Mint, purse: Purse, prefer_async: bool
) -> None:
    invoice = mint.invoice()
    melt = purse.prepare(invoice)
    mint.node.rpc("xpay", invstring=str(invoice), label="operator")
    if prefer_async:
        purse.post(melt, prefer_async=True)
    else:
        assert purse.refusal(melt).code == Code.PAYMENT_FAILED
    purse.assert_failed(melt, why="already")


def test_an_invoice_that_the_operator_is_paying_is_not_paid_with_ecash(mint: Mint, purse: Purse) -> None:
    invoice = mint.invoice(behaviour=Behaviour.hold())
    melt = purse.prepare(invoice)
    operator = mint.node.rpc_soon("xpay", invstring=str(invoice), label="operator")
    mint.node.wait_for_part(invoice)
    assert purse.refusal(melt).code == Code.PAYMENT_FAILED
    mint.node.release(invoice)
    operator.result()
    purse.assert_failed(melt, why="in flight")


@pytest.mark.parametrize("label", [{"label": "operator"}, {}], ids=["label", "no label"])
def test_no_quote_for_an_invoice_that_the_operator_has_paid(mint: Mint, purse: Purse, label: dict[str, Any]) -> None:
    invoice = mint.invoice()
    mint.node.rpc("xpay", invstring=str(invoice), **label)
    with pytest.raises(MintError) as refused:
        purse.quote(invoice)
    assert refused.value.code == Code.INVOICE_PAID


# --- the older way to ask for it ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"Prefer": "respond-async"},
        {"prefer": "Respond-Async, wait=10"},
        {"Prefer": "return=minimal , respond-async;x=1"},
        [("Prefer", "return=minimal"), ("Prefer", "respond-async")],
    ],
    ids=["plain", "case", "among others", "two headers"],
)
@pytest.mark.parametrize("path", ["/v1/melt/bolt11", "/v1/melt/bolt11?plainly"], ids=["counter", "framework"])
def test_the_prefer_header_asks_for_an_asynchronous_melt(mint: Mint, purse: Purse, headers: Any, path: str) -> None:
    melt = purse.prepare(mint.invoice(behaviour=Behaviour.hold()))
    answer = mint.http.post(path, json=melt.body, headers=headers)
    assert (answer.status_code, answer.json()["state"]) == (200, "PENDING")
    mint.node.wait_for_part(str(melt.invoice))
    mint.node.release(str(melt.invoice))
    purse.assert_paid(melt)


@pytest.mark.parametrize("header", ["wait=10", "respond-asynchronously", "return=minimal"])
def test_another_prefer_header_does_not(mint: Mint, purse: Purse, header: str) -> None:
    melt = purse.prepare(mint.invoice(behaviour=Behaviour.success(after_s=0.3)))
    answer = mint.http.post("/v1/melt/bolt11", json=melt.body, headers={"Prefer": header})
    assert answer.json()["state"] == "PAID"
    purse.assert_paid(melt)
