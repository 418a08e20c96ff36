"""Melts (NUT-05, NUT-23): begun, then settled or released. What is not said of inputs and outputs in general."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ledger.errors import Code, StorageError
from ledger.models import MeltQuoteLightning, MeltQuoteState, Proof, ProofState
from ledger.operations import node
from ledger.operations.melt import MAX_ERROR_LENGTH
from ledger.operations.melt_quote import PendingPayment
from tests.ledger.helpers import METHOD, NOW, PREIMAGE, WITNESS, Mint, Wallet, done, refused, swap_request

HASH = b"\x11" * 32


def now(mint: Mint, quote: MeltQuoteLightning) -> MeltQuoteLightning:
    """The quote as `GET` answers it."""
    return mint.now_melt_quote(quote.quote)


def begun(mint: Mint, wallet: Wallet, amount: int = 8) -> tuple[MeltQuoteLightning, PendingPayment, list[Proof]]:
    """A melt in flight: its quote, what settles or releases it, and the proofs it holds."""
    quote, proofs = mint.melt_quote(amount), mint.fund(wallet, amount)
    return quote, mint.begin(quote.quote, proofs), proofs


# --- quotes -------------------------------------------------------------------------------------------------------


def test_a_new_quote_is_unpaid_and_says_all_that_it_was_made_of(mint: Mint) -> None:
    quote = mint.melt_quote(21, 3)
    assert quote == MeltQuoteLightning(
        quote=quote.quote,
        request=f"invoice of {quote.quote}",
        amount=21,
        unit="sat",
        method=METHOD,
        fee_reserve=3,
        state=MeltQuoteState.UNPAID,
        expiry=NOW + 3600,
    )
    assert now(mint, quote) == quote


def test_an_unknown_quote_is_refused(mint: Mint, alice: Wallet) -> None:
    proofs = mint.fund(alice, 8)
    with refused(mint, Code.QUOTE_REJECTED):
        mint.ledger.melt_quote(METHOD, "unknown")
    with refused(mint, Code.QUOTE_REJECTED):
        mint.begin("unknown", proofs)


def test_a_quote_is_unknown_to_other_methods(mint: Mint) -> None:
    quote = mint.melt_quote(8)
    with refused(mint, Code.QUOTE_REJECTED):
        mint.ledger.melt_quote("bolt12", quote.quote)


def test_one_invoice_may_have_many_quotes_until_one_is_in_flight(mint: Mint, alice: Wallet) -> None:
    first, second = mint.melt_quote(8, payment_hash=HASH), mint.melt_quote(8, payment_hash=HASH)
    proofs = mint.fund(alice, 8, 8)
    pending = mint.begin(first.quote, proofs[:1])
    with refused(mint, Code.QUOTE_PENDING):
        mint.begin(second.quote, proofs[1:])
    with refused(mint, Code.QUOTE_PENDING):
        mint.melt_quote(8, payment_hash=HASH)
    mint.settle(pending)
    with refused(mint, Code.INVOICE_PAID):
        mint.begin(second.quote, proofs[1:])
    with refused(mint, Code.INVOICE_PAID):
        mint.melt_quote(8, payment_hash=HASH)


def test_another_quote_of_the_invoice_can_be_paid_after_the_first_one_failed(mint: Mint, alice: Wallet) -> None:
    first, second = mint.melt_quote(8, payment_hash=HASH), mint.melt_quote(8, payment_hash=HASH)
    proofs = mint.fund(alice, 8)
    mint.release(mint.begin(first.quote, proofs))
    mint.settle(mint.begin(second.quote, proofs))
    assert (now(mint, first).state, now(mint, second).state) == (MeltQuoteState.UNPAID, MeltQuoteState.PAID)


# --- begin --------------------------------------------------------------------------------------------------------


def test_begin_holds_the_proofs_and_puts_the_quote_to_pending(mint: Mint, alice: Wallet) -> None:
    quote, _, proofs = begun(mint, alice)
    assert now(mint, quote) == quote.model_copy(update={"state": MeltQuoteState.PENDING})
    assert mint.states(proofs) == [ProofState.PENDING]


def test_ecash_held_by_a_melt_is_still_outstanding(mint: Mint, alice: Wallet) -> None:
    begun(mint, alice)
    assert mint.audit().outstanding_msat == 8000


def test_begin_gives_all_that_the_payment_needs(mint: Mint, alice: Wallet) -> None:
    mint.run(lambda tx: node.note_start(tx, node_started=True))
    mint.clock.advance(5)
    quote = mint.melt_quote(8, 2, payment_hash=HASH)
    pending = mint.begin(quote.quote, mint.fund(alice, 8, 2))
    assert (pending.quote, pending.method, pending.unit) == (quote.quote, METHOD, "sat")
    assert (pending.request, pending.payment_hash) == (quote.request, HASH)
    assert (pending.amount, pending.amount_msat, pending.amountless, pending.fee_reserve) == (8, 8000, False, 2)
    assert (pending.attempt, pending.begun_at, pending.node_run) == (1, NOW + 5, 1)
    assert (pending.mark.sends_index, pending.mark.moves_index) == (3, 7)


def test_a_quote_in_flight_is_not_begun_again(mint: Mint, alice: Wallet) -> None:
    quote, _, _ = begun(mint, alice)
    proofs = mint.fund(alice, 8)
    with refused(mint, Code.QUOTE_PENDING):
        mint.begin(quote.quote, proofs)


def test_a_quote_in_flight_is_said_to_be_so_whatever_the_proofs(mint: Mint, alice: Wallet) -> None:
    quote, _, proofs = begun(mint, alice)
    with refused(mint, Code.QUOTE_PENDING):
        mint.begin(quote.quote, [proofs[0].model_copy(update={"secret": "forged"})])


def test_a_paid_quote_is_not_begun_again(mint: Mint, alice: Wallet) -> None:
    quote, pending, _ = begun(mint, alice)
    mint.settle(pending)
    proofs = mint.fund(alice, 8)
    with refused(mint, Code.INVOICE_PAID):
        mint.begin(quote.quote, proofs)


def test_an_expired_quote_is_refused_from_the_second_after_its_expiry(mint: Mint, alice: Wallet) -> None:
    in_time, late = mint.melt_quote(8, expiry=NOW + 10), mint.melt_quote(8, expiry=NOW + 10)
    proofs = mint.fund(alice, 8, 8)
    mint.clock.advance(10)
    mint.begin(in_time.quote, proofs[:1])
    mint.clock.advance(1)
    with refused(mint, Code.QUOTE_EXPIRED):
        mint.begin(late.quote, proofs[1:])


@pytest.mark.parametrize(("ppk", "fee"), [(0, 0), (100, 1), (1000, 3)])
def test_inputs_cover_amount_and_reserve_and_input_fee(mint: Mint, alice: Wallet, ppk: int, fee: int) -> None:
    mint.rotate(fee=ppk)
    proofs = mint.fund(alice, 8, 4, 1)
    too_dear, affordable = mint.melt_quote(10 - fee, 4), mint.melt_quote(10 - fee, 3)
    with refused(mint, Code.NOT_BALANCED):
        mint.begin(too_dear.quote, proofs)
    mint.begin(affordable.quote, proofs)


def test_inputs_may_be_more_than_needed(mint: Mint, alice: Wallet) -> None:
    quote = mint.melt_quote(1)
    pending = mint.begin(quote.quote, mint.fund(alice, 8))
    assert mint.settle(pending).state is MeltQuoteState.PAID


def test_melts_in_flight_are_limited(mint: Mint, alice: Wallet) -> None:
    quotes, proofs = [mint.melt_quote(8) for _ in range(3)], mint.fund(alice, 8, 8, 8)
    pending = [mint.begin(quotes[n].quote, proofs[n : n + 1], max_pending=2) for n in range(2)]
    with refused(mint, Code.QUOTE_REJECTED):
        mint.begin(quotes[2].quote, proofs[2:], max_pending=2)
    mint.settle(pending[0])
    mint.begin(quotes[2].quote, proofs[2:], max_pending=2)


def test_melts_in_flight_are_found_oldest_first_and_by_their_payment_hash(mint: Mint, alice: Wallet) -> None:
    melts = [begun(mint, alice) for _ in range(3)]
    mint.settle(melts[1][1])
    assert mint.ledger.pending_melts() == [melts[0][1], melts[2][1]]
    found = [mint.ledger.pending_melt(pending.payment_hash) for _, pending, _ in melts]
    assert found == [melts[0][1], None, melts[2][1]]
    mint.reopen()
    assert mint.ledger.pending_melts() == [melts[0][1], melts[2][1]]


# --- settle -------------------------------------------------------------------------------------------------------


def test_settle_spends_the_proofs_and_shows_the_preimage(mint: Mint, alice: Wallet) -> None:
    quote, pending, proofs = begun(mint, alice)
    settled = mint.settle(pending)
    assert settled == now(mint, quote)
    assert (settled.state, settled.payment_preimage) == (MeltQuoteState.PAID, PREIMAGE.hex())
    assert mint.states(proofs) == [ProofState.SPENT]
    assert mint.audit().outstanding_msat == 0


def test_a_payment_whose_preimage_is_lost_is_settled_without_it(mint: Mint, alice: Wallet) -> None:
    quote, pending, _ = begun(mint, alice)
    mint.settle(pending, preimage=None)
    assert (now(mint, quote).state, now(mint, quote).payment_preimage) == (MeltQuoteState.PAID, None)


def test_settling_again_changes_nothing(mint: Mint, alice: Wallet) -> None:
    quote, pending, _ = begun(mint, alice)
    first = mint.settle(pending)
    rows, events = mint.rows_but_commits(), list(mint.events)
    assert mint.settle(pending, fee_msat=5000, preimage=None) == first == now(mint, quote)
    assert (mint.rows_but_commits(), mint.events) == (rows, events)


def test_a_payment_of_an_earlier_attempt_settles_the_present_one(mint: Mint, alice: Wallet) -> None:
    """The invoice is paid, once and for all: whatever is held for it now has paid for it."""
    quote, first, proofs = begun(mint, alice)
    mint.release(first)
    mint.begin(quote.quote, proofs)
    mint.settle(first)
    assert now(mint, quote).state is MeltQuoteState.PAID
    assert mint.states(proofs) == [ProofState.SPENT]


def test_a_payment_of_a_released_melt_is_an_alarm_and_changes_nothing(mint: Mint, alice: Wallet) -> None:
    _, pending, proofs = begun(mint, alice)
    mint.release(pending)
    rows, events = mint.dump(), list(mint.events)
    with pytest.raises(StorageError, match="released melt was paid"):
        mint.settle(pending)
    assert (mint.dump(), mint.events) == (rows, events)
    assert mint.states(proofs) == [ProofState.UNSPENT]


def test_a_settled_melt_shows_the_witness_and_a_pending_one_does_not(mint: Mint, alice: Wallet) -> None:
    locked = mint.fund_locked(alice)
    pending = mint.begin(mint.melt_quote(8).quote, [locked])
    assert mint.state_entries([locked])[0].witness is None
    mint.settle(pending)
    assert mint.state_entries([locked])[0].witness == WITNESS


def test_the_books_keep_what_was_paid_out_and_the_routing_fee(mint: Mint, alice: Wallet) -> None:
    pending = mint.begin(mint.melt_quote(8, 4).quote, mint.fund(alice, 8, 4))
    mint.settle(pending, fee_msat=1500)
    audit = mint.audit()
    assert (audit.received_msat, audit.paid_out_msat, audit.routing_fees_msat) == (12_000, 8000, 1500)
    assert (audit.outstanding_msat, audit.earned_msat) == (0, 2500)


def test_a_routing_fee_above_the_reserve_is_the_mints_loss_and_the_melt_is_paid(mint: Mint, alice: Wallet) -> None:
    mint.rotate(fee=1000)
    mint.swap(mint.fund(alice, 8, 8, 8, 8), alice.draw_sum(mint.keyset(), 28))
    mint.rotate(fee=0)
    assert mint.audit().earned_msat == 4000
    pending = mint.begin(mint.melt_quote(8, 1).quote, mint.fund(alice, 8, 1), alice.blanks(mint.keyset(), 2))
    assert mint.settle(pending, fee_msat=3001).change is None
    assert mint.audit().earned_msat == 4000 - 2001


# --- release ------------------------------------------------------------------------------------------------------


def test_release_gives_the_proofs_back_and_says_why(mint: Mint, alice: Wallet) -> None:
    quote, pending, proofs = begun(mint, alice)
    released = mint.release(pending, "no route")
    assert released == now(mint, quote) == quote.model_copy(update={"error": "no route"})
    assert mint.states(proofs) == [ProofState.UNSPENT]
    mint.swap(proofs, alice.draw_sum(mint.keyset(), 8))


def test_release_leaves_no_trace_but_the_attempt_and_its_error(mint: Mint, alice: Wallet) -> None:
    quote, proofs = mint.melt_quote(8), mint.fund(alice, 8, 4)
    before = mint.rows_but_commits()
    mint.release(mint.begin(quote.quote, proofs, alice.blanks(mint.keyset(), 3)))
    after = mint.rows_but_commits()
    assert {table for table in after if after[table] != before[table]} == {"melt_quotes"}


def test_the_error_is_cut_to_a_bearable_length(mint: Mint, alice: Wallet) -> None:
    _, pending, _ = begun(mint, alice)
    assert mint.release(pending, "x" * 10_000).error == "x" * MAX_ERROR_LENGTH


def test_a_failed_quote_may_be_tried_again_with_the_same_proofs_and_outputs(mint: Mint, alice: Wallet) -> None:
    quote, proofs, blanks = mint.melt_quote(5), mint.fund(alice, 8), alice.blanks(mint.keyset(), 2)
    for attempt in (1, 2, 3):
        pending = mint.begin(quote.quote, proofs, blanks)
        assert pending.attempt == attempt
        assert now(mint, quote).error is None
        mint.release(pending)
    settled = mint.settle(mint.begin(quote.quote, proofs, blanks))
    assert settled.change is not None
    assert [signature.amount for signature in settled.change] == [1, 2]


def test_a_failed_quote_may_be_tried_again_with_other_proofs(mint: Mint, alice: Wallet) -> None:
    quote, pending, first = begun(mint, alice)
    mint.release(pending)
    second = mint.fund(alice, 4, 4)
    mint.settle(mint.begin(quote.quote, second))
    assert mint.states(first + second) == [ProofState.UNSPENT, ProofState.SPENT, ProofState.SPENT]


def test_a_failed_quote_is_tried_again_until_it_expires(mint: Mint, alice: Wallet) -> None:
    quote, pending, proofs = begun(mint, alice)
    mint.clock.advance(3601)
    mint.release(pending)
    with refused(mint, Code.QUOTE_EXPIRED):
        mint.begin(quote.quote, proofs)


def test_a_verdict_about_an_earlier_attempt_does_not_release_the_present_one(mint: Mint, alice: Wallet) -> None:
    quote, first, proofs = begun(mint, alice)
    mint.release(first)
    mint.begin(quote.quote, proofs)
    rows, events = mint.rows_but_commits(), list(mint.events)
    assert mint.release(first).state is MeltQuoteState.PENDING
    assert (mint.rows_but_commits(), mint.events) == (rows, events)
    assert mint.states(proofs) == [ProofState.PENDING]


@pytest.mark.parametrize("outcome", [Mint.settle, Mint.release], ids=["settled", "released"])
def test_releasing_a_melt_that_is_over_changes_nothing(
    mint: Mint, alice: Wallet, outcome: Callable[[Mint, PendingPayment], MeltQuoteLightning]
) -> None:
    quote, pending, _ = begun(mint, alice)
    outcome(mint, pending)
    rows, events = mint.rows_but_commits(), list(mint.events)
    assert mint.release(pending, "another reason") == now(mint, quote)
    assert (mint.rows_but_commits(), mint.events) == (rows, events)


def test_proofs_that_were_given_back_can_be_spent_elsewhere_and_then_not_here(mint: Mint, alice: Wallet) -> None:
    quote, pending, proofs = begun(mint, alice)
    mint.release(pending)
    done(mint.ledger.swap(swap_request(proofs, alice.draw_sum(mint.keyset(), 8))))
    with refused(mint, Code.PROOFS_SPENT):
        mint.begin(quote.quote, proofs)
