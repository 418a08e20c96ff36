"""Melting on a real node: a melt never hangs and never lies, whatever becomes of the payment."""

from __future__ import annotations

import re
import time

import pytest

from contrib.wallet.errors import MintError, MintUnreachableError
from ledger.models import MeltQuoteState, ProofState
from tests.node.harness import SOON_S, Invoice, Mint, Network, wait_for
from tests.node.purse import Attempt, Purse

PAYMENT_FAILED = 20004
QUOTE_PENDING = 20005
INVOICE_PAID = 20006
QUOTE_EXPIRED = 20007

PENDING = MeltQuoteState.PENDING
PAID = MeltQuoteState.PAID
UNPAID = MeltQuoteState.UNPAID

AT_ONCE_S = 2.0
"""For an answer that takes milliseconds, on a machine that is busy."""


def assert_paid(purse: Purse, attempt: Attempt, invoice: Invoice, balance_before: int) -> None:
    """The melt is PAID: preimage shown, proofs spent, change back in the purse, the fee within its reserve."""
    quote = purse.look(attempt)
    assert quote.state == PAID
    assert quote.payment_preimage == invoice.preimage
    assert quote.error is None
    assert purse.states(attempt.inputs) == {ProofState.SPENT}
    cost = balance_before - purse.balance
    assert quote.amount <= cost <= quote.amount + quote.fee_reserve


def assert_failed(purse: Purse, attempt: Attempt, balance_before: int) -> None:
    """The melt failed: the quote is UNPAID and says why, the proofs are free again."""
    quote = purse.look(attempt)
    assert quote.state == UNPAID
    assert quote.error
    assert quote.payment_preimage is None
    assert quote.change is None
    assert purse.states(attempt.inputs) == {ProofState.UNSPENT}
    assert purse.balance == balance_before


def start_held(purse: Purse, network: Network, amount: int = 1000) -> tuple[Attempt, Invoice]:
    """A melt with prefer_async whose payment has arrived and is held."""
    invoice = network.receiver.invoice(amount)
    network.receiver.plan(invoice, "hold")
    attempt = purse.start_async(invoice.bolt11)
    assert attempt.answer is not None
    assert attempt.answer.state == PENDING
    network.receiver.wait_held(invoice)
    return attempt, invoice


# --- payments that succeed ------------------------------------------------------------------------------------------


def test_a_synchronous_melt_answers_with_the_outcome(purse: Purse, network: Network) -> None:
    """Without prefer_async the answer is PAID, with preimage and change."""
    invoice = network.receiver.invoice(1000)
    attempt = purse.prepare(invoice.bolt11)
    answer = purse.post(attempt)
    assert answer.state == PAID
    assert answer == purse.look(attempt)
    purse.finish(attempt, answer)
    assert network.receiver.is_paid(invoice)
    assert_paid(purse, attempt, invoice, 10_000)


def test_an_asynchronous_melt_is_pending_first(purse: Purse, network: Network) -> None:
    """With prefer_async the answer is PENDING, with the whole quote; then it is PAID, with preimage and change."""
    invoice = network.receiver.invoice(1000)
    attempt = purse.start_async(invoice.bolt11)
    assert attempt.answer is not None
    assert attempt.answer.state == PENDING
    assert attempt.answer.request == invoice.bolt11
    assert attempt.answer.fee_reserve == attempt.quote.fee_reserve
    assert purse.wait_final(attempt).state == PAID
    assert network.receiver.is_paid(invoice)
    assert_paid(purse, attempt, invoice, 10_000)


def test_the_older_header_asks_for_the_same(purse: Purse, network: Network) -> None:
    """`Prefer: respond-async` is an alias of the body field."""
    invoice = network.receiver.invoice(1000)
    network.receiver.plan(invoice, "hold")
    attempt = purse.prepare(invoice.bolt11)
    answer = purse.client.call(
        "POST", "/v1/melt/bolt11", json=purse.melt_body(attempt), headers={"Prefer": "respond-async"}
    )
    assert (answer.status_code, answer.json()["state"]) == (200, PENDING)
    network.receiver.wait_held(invoice)
    network.receiver.release(invoice)
    assert purse.wait_final(attempt).state == PAID


def test_an_invoice_without_amount_is_paid_with_the_wallets(purse: Purse, network: Network) -> None:
    """An amountless invoice is paid with the amount of the quote's `amountless` option."""
    invoice = network.receiver.invoice(None)
    attempt = purse.prepare(invoice.bolt11, amount_msat=1_500_000)
    assert attempt.quote.amount == 1500
    purse.finish(attempt, purse.post(attempt))
    assert_paid(purse, attempt, invoice, 10_000)


@pytest.mark.parametrize("prefer_async", [False, True])
def test_the_mints_own_invoice_is_a_payment_like_others(purse: Purse, shared_mint: Mint, prefer_async: bool) -> None:
    """An invoice of this mint is paid inside the node: the melt is PAID without fee, the mint quote is PAID too."""
    friend = Purse(shared_mint)
    outstanding = shared_mint.outstanding_sat()
    mint_quote = friend.request_mint(2000)
    attempt = purse.prepare(mint_quote.request)
    answer = purse.post(attempt, prefer_async=prefer_async)
    assert answer.state == (PENDING if prefer_async else PAID)
    assert purse.wait_final(attempt).state == PAID
    assert purse.balance == 8000
    friend.wait_paid(mint_quote)
    friend.collect(mint_quote)
    assert friend.balance == 2000
    assert shared_mint.outstanding_sat() == outstanding


def test_a_grace_lets_fast_payments_answer_with_the_outcome(network: Network) -> None:
    """With cashu-async-grace-ms a melt that is fast enough is answered PAID at once, a held one PENDING after it."""
    with network.mint(cashu_async_grace_ms=3000) as mint:
        purse = Purse(mint)
        purse.fund(10_000, network.hub.pay)
        attempt = purse.start_async(network.receiver.invoice(1000).bolt11)
        assert attempt.answer is not None
        assert attempt.answer.state == PAID
        invoice = network.receiver.invoice(1000)
        network.receiver.plan(invoice, "hold")
        begun = time.monotonic()
        held = purse.start_async(invoice.bolt11)
        assert time.monotonic() - begun >= 3
        assert held.answer is not None
        assert held.answer.state == PENDING
        network.receiver.release(invoice)
        assert purse.wait_final(held).state == PAID


# --- payments that fail ---------------------------------------------------------------------------------------------


def test_an_unroutable_melt_fails_soon_and_can_be_tried_again(purse: Purse, network: Network) -> None:
    """No route: PENDING, then soon UNPAID with the reason and the proofs free, as often as the wallet tries."""
    invoice = network.island.invoice(1000)
    attempt = purse.prepare(invoice.bolt11)
    for _ in range(3):
        assert purse.post(attempt, prefer_async=True).state == PENDING
        assert purse.wait_final(attempt, SOON_S).state == UNPAID
        assert_failed(purse, attempt, 10_000)
        attempt = purse.prepare_again(attempt.quote)


def test_an_unroutable_melt_is_refused_synchronously(purse: Purse, network: Network) -> None:
    """No route, without prefer_async: 20004 within moments, and the proofs are free."""
    attempt = purse.prepare(network.island.invoice(1000).bolt11)
    begun = time.monotonic()
    with pytest.raises(MintError) as refusal:
        purse.post(attempt)
    assert time.monotonic() - begun < SOON_S
    assert refusal.value.code == PAYMENT_FAILED
    purse.finish(attempt, purse.look(attempt))
    assert_failed(purse, attempt, 10_000)


def test_a_melt_beyond_the_nodes_liquidity_fails_without_telling_balances(network: Network) -> None:
    """The channels held enough for the quote, and don't any more: UNPAID soon. lightningd tells channels and balances;
    the wallet is not told."""
    with network.mint(channels={"hub": (1_000_000, 200_000)}) as mint:
        purse = Purse(mint)
        purse.fund(500_000, network.hub.pay)
        attempt = purse.prepare(network.receiver.invoice(400_000).bolt11)
        mint.pay(network.receiver.invoice(600_000).bolt11)  # the operator spends from the same channel
        purse.post(attempt, prefer_async=True)
        quote = purse.wait_final(attempt, SOON_S)
        assert_failed(purse, attempt, 500_000)
        assert not re.search(r"\d+x\d+x\d+|\d+msat", quote.error or "")


def test_a_refused_melt_gives_the_proofs_back_and_can_be_tried_again(purse: Purse, network: Network) -> None:
    """The destination refuses: UNPAID with the reason, proofs free; when it accepts later, the same quote is paid."""
    invoice = network.receiver.invoice(1000)
    network.receiver.plan(invoice, "reject")
    attempt = purse.start_async(invoice.bolt11)
    assert purse.wait_final(attempt, SOON_S).state == UNPAID
    assert_failed(purse, attempt, 10_000)
    again = purse.prepare_again(attempt.quote)
    purse.post(again, prefer_async=True)
    assert purse.wait_final(again).state == PAID
    assert_paid(purse, again, invoice, 10_000)


def test_a_refused_melt_is_refused_synchronously(purse: Purse, network: Network) -> None:
    """The destination refuses, without prefer_async: 20004, and the proofs are free."""
    invoice = network.receiver.invoice(1000)
    network.receiver.plan(invoice, "reject")
    attempt = purse.prepare(invoice.bolt11)
    with pytest.raises(MintError) as refusal:
        purse.post(attempt)
    assert refusal.value.code == PAYMENT_FAILED
    purse.finish(attempt, purse.look(attempt))
    assert_failed(purse, attempt, 10_000)


def test_an_invoice_that_expires_after_the_quote_is_not_paid(purse: Purse, network: Network) -> None:
    """An invoice that has expired since the quote: refused, or failed soon; the proofs stay free either way."""
    invoice = network.receiver.invoice(1000, expiry=4)
    attempt = purse.prepare(invoice.bolt11)
    time.sleep(5.5)
    with pytest.raises(MintError) as refusal:
        purse.post(attempt)
    assert refusal.value.code in (PAYMENT_FAILED, QUOTE_EXPIRED)
    assert purse.look(attempt).state == UNPAID
    assert purse.states(attempt.inputs) == {ProofState.UNSPENT}


def test_an_invoice_paid_by_somebody_else_gives_the_proofs_back(purse: Purse, network: Network) -> None:
    """The hub pays first: the receiver refuses the mint's payment, and the proofs are free."""
    invoice = network.receiver.invoice(1000)
    attempt = purse.prepare(invoice.bolt11)
    network.hub.pay(invoice.bolt11)
    purse.post(attempt, prefer_async=True)
    assert purse.wait_final(attempt, SOON_S).state == UNPAID
    assert_failed(purse, attempt, 10_000)


def test_an_invoice_that_the_mint_has_paid_is_not_paid_again(purse: Purse, network: Network) -> None:
    """20006 for a second quote of a paid invoice, also for one that was made before the payment."""
    invoice = network.receiver.invoice(1000)
    other = purse.prepare(invoice.bolt11)
    attempt = purse.prepare(invoice.bolt11)
    assert purse.post(attempt).state == PAID
    with pytest.raises(MintError) as refusal:
        purse.prepare(invoice.bolt11)
    assert refusal.value.code == INVOICE_PAID
    with pytest.raises(MintError) as refusal:
        purse.post(other)
    assert refusal.value.code == INVOICE_PAID
    assert purse.states(other.inputs) == {ProofState.UNSPENT}


def test_an_invoice_that_the_node_has_paid_itself_is_not_paid_for_by_a_wallet(
    purse: Purse, shared_mint: Mint, network: Network
) -> None:
    """The operator has paid this invoice with the node's own money: a wallet's proofs are not taken for it."""
    invoice = network.receiver.invoice(1000)
    attempt = purse.prepare(invoice.bolt11)
    shared_mint.pay(invoice.bolt11)
    with pytest.raises(MintError) as refusal:
        purse.post(attempt)
    assert refusal.value.code in (INVOICE_PAID, PAYMENT_FAILED)
    assert purse.look(attempt).state == UNPAID
    assert purse.states(attempt.inputs) == {ProofState.UNSPENT}


# --- payments that are held -----------------------------------------------------------------------------------------


def test_a_held_melt_is_pending_until_it_is_released(purse: Purse, network: Network) -> None:
    """While held: PENDING at once, GET without delay, proofs PENDING. Released: PAID with change."""
    attempt, invoice = start_held(purse, network)
    for _ in range(20):
        begun = time.monotonic()
        assert purse.look(attempt).state == PENDING
        assert time.monotonic() - begun < AT_ONCE_S
    assert purse.states(attempt.inputs) == {ProofState.PENDING}
    network.receiver.release(invoice)
    assert purse.wait_final(attempt, SOON_S).state == PAID
    assert_paid(purse, attempt, invoice, 10_000)


def test_a_held_melt_that_is_rejected_gives_the_proofs_back(purse: Purse, network: Network) -> None:
    """Held, then failed by the destination: UNPAID soon, with the proofs free."""
    attempt, invoice = start_held(purse, network)
    network.receiver.release(invoice, "reject")
    assert purse.wait_final(attempt, SOON_S).state == UNPAID
    assert_failed(purse, attempt, 10_000)


def test_a_second_request_for_a_held_melt_is_refused_at_once(purse: Purse, network: Network) -> None:
    """20005 for the same quote with other proofs, and for another quote of the same invoice."""
    invoice = network.receiver.invoice(1000)
    network.receiver.plan(invoice, "hold")
    for _ in range(3):
        purse.fund(2000, network.hub.pay)  # in small pieces, for three requests
    other = purse.prepare(invoice.bolt11)
    attempt = purse.start_async(invoice.bolt11)
    network.receiver.wait_held(invoice)
    for again in (purse.prepare_again(attempt.quote), other):
        for prefer_async in (False, True):
            begun = time.monotonic()
            with pytest.raises(MintError) as refusal:
                purse.post(again, prefer_async=prefer_async)
            assert refusal.value.code == QUOTE_PENDING
            assert time.monotonic() - begun < AT_ONCE_S
        assert purse.states(again.inputs) == {ProofState.UNSPENT}
    network.receiver.release(invoice)
    assert purse.wait_final(attempt, SOON_S).state == PAID


def test_an_identical_request_joins_the_held_melt(purse: Purse, network: Network) -> None:
    """A wallet that lost the answer and asks again is told PENDING, or waits for the outcome: nothing is paid twice."""
    attempt, invoice = start_held(purse, network)
    begun = time.monotonic()
    assert purse.post(attempt, prefer_async=True).state == PENDING
    assert time.monotonic() - begun < AT_ONCE_S
    with purse.posting(attempt):
        time.sleep(1)
        network.receiver.release(invoice)
    assert attempt.answer is not None
    assert attempt.answer.state == PAID
    purse.finish(attempt, attempt.answer)
    assert_paid(purse, attempt, invoice, 10_000)


def test_a_client_that_goes_away_cancels_nothing(purse: Purse, network: Network) -> None:
    """The wallet hangs up during a synchronous melt; the payment goes on, and the outcome is there to be asked for."""
    invoice = network.receiver.invoice(1000)
    network.receiver.plan(invoice, "hold")
    attempt = purse.prepare(invoice.bolt11)
    with pytest.raises(MintUnreachableError):
        purse.post(attempt, timeout_s=1)
    network.receiver.wait_held(invoice)
    assert purse.look(attempt).state == PENDING
    network.receiver.release(invoice)
    assert purse.wait_final(attempt, SOON_S).state == PAID
    assert_paid(purse, attempt, invoice, 10_000)


def test_a_synchronous_melt_waits_only_so_long(network: Network) -> None:
    """After cashu-sync-wait seconds a melt that is still held is answered 200 PENDING."""
    with network.mint(cashu_sync_wait=2) as mint:
        purse = Purse(mint)
        purse.fund(10_000, network.hub.pay)
        invoice = network.receiver.invoice(1000)
        network.receiver.plan(invoice, "hold")
        attempt = purse.prepare(invoice.bolt11)
        begun = time.monotonic()
        assert purse.post(attempt).state == PENDING
        assert 2 <= time.monotonic() - begun < 2 + SOON_S
        network.receiver.release(invoice)
        assert purse.wait_final(attempt, SOON_S).state == PAID


def test_melts_in_flight_are_limited(network: Network) -> None:
    """Above cashu-max-pending-melts a melt is refused with its proofs free; when one is decided there is room."""
    with network.mint(cashu_max_pending_melts=1) as mint:
        purse = Purse(mint)
        purse.fund(10_000, network.hub.pay)
        attempt, invoice = start_held(purse, network)
        assert mint.cashu_info()["pending_melts"] == 1
        second = purse.prepare(network.receiver.invoice(500).bolt11)
        with pytest.raises(MintError):
            purse.post(second, prefer_async=True)
        assert purse.states(second.inputs) == {ProofState.UNSPENT}
        network.receiver.release(invoice)
        assert purse.wait_final(attempt, SOON_S).state == PAID
        assert purse.post(second).state == PAID


def test_other_wallets_are_served_while_melts_are_held(purse: Purse, shared_mint: Mint, network: Network) -> None:
    """Ten held melts, and a mint, a swap and a melt of another wallet go through."""
    held = []
    for _ in range(10):
        purse.fund(600, network.hub.pay)
        held.append(start_held(purse, network, 500))
    friend = Purse(shared_mint)
    friend.fund(1000, network.hub.pay)
    friend.receive(friend.send(600))
    attempt = friend.prepare(network.receiver.invoice(500).bolt11)
    assert friend.post(attempt).state == PAID
    for attempt, invoice in held:
        network.receiver.release(invoice)
        assert purse.wait_final(attempt, SOON_S).state == PAID


def test_nothing_asks_the_node_while_a_melt_is_held(network: Network) -> None:
    """No polling: while a melt is held, and wallets look at it, the node gets no command at all."""
    with network.mint(node_options={"log-level": ["debug", "io:jsonrpc"]}) as mint:
        purse = Purse(mint)
        purse.fund(10_000, network.hub.pay)
        attempt, invoice = start_held(purse, network)
        time.sleep(2)  # what dispatch and the arrival of the HTLC set off has been done
        start = len(mint.log_lines())
        for _ in range(20):
            assert purse.look(attempt).state == PENDING
            assert purse.states(attempt.inputs) == {ProofState.PENDING}
            time.sleep(0.5)
        assert mint.commands_logged(start) == []
        network.receiver.release(invoice)
        assert purse.wait_final(attempt, SOON_S).state == PAID
        wait_for(lambda: mint.commands_logged(start), "commands to be logged at all")
