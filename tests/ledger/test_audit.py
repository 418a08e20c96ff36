"""The audit: it balances after any history (see the histories), and it finds every figure that was tampered with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.audit import audit, keyset_books, outstanding
from tests.ledger.helpers import Mint, Wallet


@pytest.fixture
def busy(tmp_path: Path, alice: Wallet) -> Iterator[Mint]:
    """A mint with a row of every kind: paid, issued, swapped, melted and in flight."""
    mint = Mint(tmp_path / "ledger.sqlite3", units=("sat", "msat"))
    mint.rotate(fee=1000)
    mint.pay(mint.mint_quote(5).quote, 5999)
    proofs = mint.fund(alice, 16, 16, 16, 16)
    mint.fund(alice, 512, unit="msat")
    mint.swap(proofs[:1], alice.draw_sum(mint.keyset(), 15))
    mint.settle(mint.begin(mint.melt_quote(8, 2).quote, proofs[1:2], alice.blanks(mint.keyset(), 4)), fee_msat=1500)
    mint.begin(mint.melt_quote(8, 2).quote, proofs[2:3], alice.blanks(mint.keyset(), 4))
    mint.release(mint.begin(mint.melt_quote(8, 2).quote, proofs[3:], alice.blanks(mint.keyset(), 4)))
    assert mint.audit().faults == ()
    yield mint
    mint.close()


def test_the_figures_are_those_of_the_history(busy: Mint) -> None:
    audit = busy.audit()
    free, msat, fee = audit.keysets
    assert (free.issued, free.redeemed, free.fees) == (0, 0, 0)
    assert (msat.unit, msat.issued, msat.outstanding, msat.active) == ("msat", 512, 512, True)
    assert (fee.issued, fee.redeemed, fee.fees) == (64 + 15 + 5, 32, 2)
    assert (audit.received_msat, audit.paid_out_msat, audit.routing_fees_msat) == (5999 + 64_000 + 512, 8000, 1500)
    assert audit.outstanding_msat == (64 + 15 + 5 - 32) * 1000 + 512
    assert audit.unissued_msat == 5000  # of the 5999 msat received for a quote that nobody has issued
    assert audit.owed_msat == audit.outstanding_msat + 5000
    assert audit.earned_msat == 999 + 2000 + 500


def test_outstanding_is_by_unit(busy: Mint) -> None:
    with busy.ledger.read() as db:
        assert outstanding(db) == {"sat": 52, "msat": 512}
        assert sum(books.outstanding for books in keyset_books(db)) == 52 + 512


@pytest.mark.parametrize(
    ("tampering", "fault"),
    [
        ("UPDATE keysets SET issued = issued + 1 WHERE issued > 0", "its promises sum to"),
        ("UPDATE keysets SET redeemed = redeemed + 1 WHERE redeemed > 0", "proofs sum to"),
        ("UPDATE keysets SET issued = 0, redeemed = 0", "its promises sum to"),
        ("UPDATE keysets SET fees = fees + 1 WHERE fees > 0", "sat: input fees 3, the rows give 2"),
        ("UPDATE keysets SET fees = 1 WHERE unit = 'msat'", "msat: input fees 1, the rows give 0"),
        ("UPDATE melt_quotes SET input_fee = 0 WHERE state = 'PAID'", "sat: input fees 2, the rows give 1"),
        ("UPDATE promises SET melt_quote = 1 WHERE c_ IS NULL", "blank outputs are still held for it"),
        ("UPDATE keysets SET redeemed = issued + 1", "redeemed more than was issued"),
        ("DELETE FROM promises WHERE n = 1", "its promises sum to"),
        ("DELETE FROM promises WHERE n = 1", "not what it took from its quotes"),
        ("DELETE FROM proofs WHERE spent_at IS NOT NULL", "proofs sum to"),
        ("DELETE FROM proofs WHERE spent_at IS NULL", "its held proofs do not fit"),
        ("UPDATE promises SET amount = amount * 2 WHERE c_ IS NOT NULL", "its promises sum to"),
        ("UPDATE proofs SET amount = amount * 2", "proofs sum to"),
        ("UPDATE proofs SET spent_at = 1", "proofs sum to"),
        ("UPDATE proofs SET spent_at = NULL WHERE melt_quote IS NOT NULL", "its held proofs do not fit"),
        ("UPDATE melt_quotes SET state = 'UNPAID'", "its held proofs do not fit"),
        ("UPDATE melt_quotes SET state = 'UNPAID' WHERE state = 'PAID'", "are not what the rows sum to"),
        ("UPDATE melt_quotes SET sent_msat = sent_msat + 1 WHERE state = 'PAID'", "are not what the rows sum to"),
        ("UPDATE melt_quotes SET amount_msat = amount_msat + 1 WHERE state = 'PAID'", "are not what the rows sum to"),
        ("UPDATE method_books SET received_msat = received_msat - 1", "are not what the rows sum to"),
        ("UPDATE method_books SET paid_out_msat = paid_out_msat - 1", "are not what the rows sum to"),
        ("UPDATE method_books SET routing_fees_msat = routing_fees_msat - 1", "are not what the rows sum to"),
        ("UPDATE method_books SET received_msat = 0", "are more than received"),
        ("DELETE FROM receipts", "a mint quote's paid or issued amount"),
        ("UPDATE receipts SET received_msat = received_msat + 1", "are not what the rows sum to"),
        ("UPDATE receipts SET amount = amount + 1", "a mint quote's paid or issued amount"),
        ("UPDATE mint_quotes SET amount_paid = amount_paid + 1", "a mint quote's paid or issued amount"),
        ("UPDATE mint_quotes SET amount_issued = 0", "a mint quote's paid or issued amount"),
        ("UPDATE in_flight SET melts = melts + 1", "the melts in flight are not as many"),
        ("UPDATE in_flight SET msat = msat + 1", "or not over as much, as is written down"),
        ("UPDATE melt_quotes SET amount_msat = 1 WHERE state = 'PENDING'", "or not over as much, as is written down"),
    ],
)
def test_tampering_is_found(busy: Mint, tampering: str, fault: str) -> None:
    busy.execute(tampering)
    faults = busy.audit().faults
    assert any(fault in each for each in faults), faults


def test_a_routing_fee_that_the_mint_could_not_earn_back_is_a_fault(tmp_path: Path, alice: Wallet) -> None:
    mint = Mint(tmp_path / "ledger.sqlite3")
    proofs = mint.fund(alice, 8, 4)
    mint.settle(mint.begin(mint.melt_quote(8).quote, proofs[:1]), fee_msat=1)
    audit = mint.audit()
    assert audit.faults == (
        "outstanding 4000 msat and unissued 0 msat are more than received 12000 - paid out 8000 - routing fees 1",
    )
    assert audit.earned_msat == -1
    mint.close()


def test_the_audit_of_an_empty_ledger_balances(tmp_path: Path) -> None:
    mint = Mint(tmp_path / "ledger.sqlite3", units=())
    with mint.ledger.read() as db:
        result = audit(db)
    assert (result.keysets, result.outstanding_msat, result.earned_msat, result.faults) == ((), 0, 0, ())
    mint.close()
