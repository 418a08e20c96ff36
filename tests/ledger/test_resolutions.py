"""Melts that the operator ends by force: they move as by evidence, who and why stays in the ledger, and losses show."""

from __future__ import annotations

import pytest

from ledger.errors import StorageError
from ledger.events import MeltQuoteChanged
from ledger.models import MeltQuoteState, ProofState
from ledger.operations.melt import Payment
from ledger.operations.melt_quote import PendingMelt
from ledger.operations.resolution import WALLET_TEXT, GivenUp, Order
from tests.ledger import test_payouts as onchain
from tests.ledger.helpers import PREIMAGE, Mint, Wallet, done

ORDER = Order("operator, cli:cashu-resolve#7", "the payee has shown its books", '{"sentence": "nothing tells"}')
RESERVE = 4


def begin(mint: Mint, alice: Wallet) -> PendingMelt:
    """A melt of 64 in flight."""
    inputs = mint.fund(alice, 64, 4)
    return mint.begin(mint.melt_quote(64, RESERVE).quote, inputs, alice.blanks(mint.keyset(), 3))


def force(mint: Mint, pending: PendingMelt, payment: Payment | None = None) -> MeltQuoteState | None:
    quote = done(mint.ledger.force_melt(pending, ORDER, payment))
    return None if quote is None else quote.state


def paid(pending: PendingMelt) -> Payment:
    return Payment(None, pending.amount_msat + RESERVE * 1000)


def given_up(mint: Mint) -> GivenUp:
    (found,) = mint.ledger.given_up()
    return found


def test_failed_by_force_gives_the_ecash_back_and_says_who_and_why(mint: Mint, alice: Wallet) -> None:
    inputs = mint.fund(alice, 64, 4)
    pending = mint.begin(mint.melt_quote(64, RESERVE).quote, inputs)
    mint.events.clear()
    assert force(mint, pending) is MeltQuoteState.UNPAID
    assert mint.now_melt_quote(pending.quote).error == WALLET_TEXT
    assert set(mint.states(inputs)) == {ProofState.UNSPENT}
    assert [type(event) for event in mint.events].count(MeltQuoteChanged) == 1
    books = mint.audit()
    (line,) = books.forced
    assert (line.handle, line.outcome, line.who, line.reason) == (pending.handle, "FAILED", ORDER.who, ORDER.reason)
    assert (line.evidence, line.lost_msat, books.lost_msat, books.earned_msat) == (ORDER.evidence, 0, 0, 0)
    assert given_up(mint).payment_hash == pending.quote.encode()


def test_paid_by_force_spends_the_ecash_and_books_what_it_may_have_cost(mint: Mint, alice: Wallet) -> None:
    pending = begin(mint, alice)
    assert force(mint, pending, paid(pending)) is MeltQuoteState.PAID
    books = mint.audit()
    assert (books.paid_out_msat, books.routing_fees_msat, books.outstanding_msat) == (64_000, RESERVE * 1000, 0)
    assert books.forced[0].outcome == "PAID"
    assert mint.ledger.given_up() == []


@pytest.mark.parametrize("by_force", [True, False], ids=["by force", "by evidence"])
def test_what_is_over_is_not_forced(mint: Mint, alice: Wallet, by_force: bool) -> None:
    pending = begin(mint, alice)
    if by_force:
        force(mint, pending)
    else:
        mint.release(pending)
    forced = mint.audit().forced
    rows = mint.rows_but_commits()
    assert force(mint, pending, paid(pending)) is None
    assert force(mint, pending) is None
    assert mint.rows_but_commits() == rows
    assert mint.audit().forced == forced


def test_an_order_for_one_attempt_says_nothing_about_the_next(mint: Mint, alice: Wallet) -> None:
    inputs = mint.fund(alice, 64, 4)
    quote = mint.melt_quote(64, RESERVE).quote
    first = mint.begin(quote, inputs)
    mint.release(first)
    second = mint.begin(quote, inputs)
    assert first.handle != second.handle
    assert force(mint, first) is None
    assert mint.now_melt_quote(quote).state is MeltQuoteState.PENDING
    assert force(mint, second) is MeltQuoteState.UNPAID


def test_a_transaction_that_may_be_sent_is_not_forced_to_failed(mint: Mint, alice: Wallet) -> None:
    mint.execute("UPDATE ledger SET chain_index = 42")
    pending, _, _ = onchain.begin(mint, alice, onchain.new_quote(mint))
    built = done(mint.ledger.note_built(pending, onchain.BUILT))
    rows = mint.dump()
    with pytest.raises(StorageError, match="a melt whose transaction may be sent"):
        force(mint, built)
    assert mint.dump() == rows
    cost = Payment(None, built.amount_msat + onchain.BUILT.fee_sat * 1000)
    assert force(mint, built, cost) is MeltQuoteState.PAID


def test_a_payment_that_was_given_up_and_was_made_is_a_loss(mint: Mint, alice: Wallet) -> None:
    force(mint, begin(mint, alice))
    payment = given_up(mint)
    assert done(mint.ledger.note_paid_after_all(payment, 65_500)) is True
    assert done(mint.ledger.note_paid_after_all(payment, 65_500)) is False
    assert mint.ledger.given_up() == []
    books = mint.audit()
    assert (books.lost_msat, books.earned_msat, books.outstanding_msat) == (65_500, -65_500, 68_000)


def test_a_loss_that_its_wallet_has_paid_for_in_the_end_is_none(mint: Mint, alice: Wallet) -> None:
    """It tries the quote again; the node has paid already, which settles the new attempt."""
    inputs = mint.fund(alice, 64, 4)
    quote = mint.melt_quote(64, RESERVE).quote
    force(mint, mint.begin(quote, inputs))
    again = mint.begin(quote, inputs)
    assert mint.ledger.given_up() == []  # in flight: its own verdict decides
    mint.release(again)
    done(mint.ledger.note_paid_after_all(given_up(mint), 65_500))
    assert mint.audit().lost_msat == 65_500
    mint.settle(mint.begin(quote, inputs), 1500, PREIMAGE)
    books = mint.audit()
    assert (books.lost_msat, books.paid_out_msat, books.routing_fees_msat) == (0, 64_000, 1500)


@pytest.mark.parametrize("state", ["UNPAID", "PENDING"])
def test_a_forced_payment_whose_quote_is_not_paid_is_a_fault(mint: Mint, alice: Wallet, state: str) -> None:
    pending = begin(mint, alice)
    force(mint, pending, paid(pending))
    mint.execute("UPDATE melt_quotes SET state = ?", state)
    assert any("forced resolution" in fault for fault in mint.audit().faults)
    mint.execute("UPDATE melt_quotes SET state = 'PAID'")
