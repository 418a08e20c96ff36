"""Change for what a melt overpaid (NUT-08)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ledger.keysets import Keyset
from ledger.models import BlindSignature, MeltQuoteLightning, MeltQuoteState, ProofState
from ledger.operations.melt import Payment
from ledger.units import split
from tests.ledger.helpers import METHOD, NOW, Drawn, Mint, Wallet, done, unblind


def amounts(quote: MeltQuoteLightning) -> list[int] | None:
    """The amounts of the change."""
    return None if quote.change is None else [signature.amount for signature in quote.change]


def change_value(keyset: Keyset, blanks: Sequence[Drawn], change: Sequence[BlindSignature]) -> int:
    """What the change is worth to the wallet that drew the blank outputs: `change[i]` belongs to `blanks[i]`."""
    return sum(unblind(keyset, *pair).amount for pair in zip(blanks, change, strict=False))


@pytest.mark.parametrize(
    ("inputs", "amount", "reserve", "fee_msat", "change"),
    [
        ([16], 8, 8, 0, [8]),
        ([16], 8, 8, 1000, [1, 2, 4]),
        ([16], 8, 8, 999, [1, 2, 4]),
        ([16], 8, 8, 1, [1, 2, 4]),
        ([16], 8, 8, 1001, [2, 4]),
        ([16], 8, 8, 7999, None),
        ([16], 8, 8, 8000, None),
        ([16, 8], 8, 8, 8000, [8]),
        ([64], 1, 0, 0, [1, 2, 4, 8, 16, 32]),
        ([8], 8, 0, 0, None),
    ],
)
def test_change_is_all_that_was_overpaid(
    mint: Mint, alice: Wallet, inputs: list[int], amount: int, reserve: int, fee_msat: int, change: list[int] | None
) -> None:
    blanks = alice.blanks(mint.keyset(), 8)
    quote = mint.melt_quote(amount, reserve)
    settled = mint.settle(mint.begin(quote.quote, mint.fund(alice, *inputs), blanks), fee_msat=fee_msat)
    assert amounts(mint.now_melt_quote(settled.quote)) == change
    assert change_value(mint.keyset(), blanks, settled.change or []) == sum(change or [])


def test_the_input_fee_is_no_change(mint: Mint, alice: Wallet) -> None:
    mint.rotate(fee=400)
    proofs = mint.fund(alice, 8, 8, 8)
    pending = mint.begin(mint.melt_quote(8, 4).quote, proofs, alice.blanks(mint.keyset(), 8))
    assert amounts(mint.settle(pending, fee_msat=3000)) == split(24 - 2 - 8 - 3)


def test_in_the_msat_unit_nothing_is_rounded(mint: Mint, alice: Wallet) -> None:
    keyset = mint.keyset("msat")
    blanks = alice.blanks(keyset, 12)
    pending = mint.begin(mint.melt_quote(1000, 24, "msat").quote, mint.fund(alice, 1024, unit="msat"), blanks)
    settled = mint.settle(pending, fee_msat=7)
    assert settled.change is not None
    assert change_value(keyset, blanks, settled.change) == 17


def test_a_destination_that_took_less_than_the_invoice_leaves_more_change(mint: Mint, alice: Wallet) -> None:
    pending = mint.begin(mint.melt_quote(64).quote, mint.fund(alice, 64), alice.blanks(mint.keyset(), 8))
    settled = done(mint.ledger.settle_melt(pending, Payment(None, sent_msat=32_500)))
    assert amounts(mint.now_melt_quote(settled.quote)) == split(31)
    audit = mint.audit()
    assert (audit.paid_out_msat, audit.routing_fees_msat, audit.earned_msat) == (32_500, 0, 500)


def test_without_blank_outputs_there_is_no_change(mint: Mint, alice: Wallet) -> None:
    quotes, proofs = [mint.melt_quote(8).quote for _ in range(2)], mint.fund(alice, 16, 16)
    assert mint.settle(mint.begin(quotes[0], proofs[:1], None)).change is None
    assert mint.settle(mint.begin(quotes[1], proofs[1:], [])).change is None


@pytest.mark.parametrize(
    ("blanks", "change"), [(1, [8]), (2, [4, 8]), (3, [2, 4, 8]), (4, [1, 2, 4, 8]), (5, [1, 2, 4, 8])]
)
def test_too_few_blank_outputs_get_the_largest_parts(mint: Mint, alice: Wallet, blanks: int, change: list[int]) -> None:
    drawn = alice.blanks(mint.keyset(), blanks)
    settled = mint.settle(mint.begin(mint.melt_quote(1).quote, mint.fund(alice, 16), drawn))
    assert amounts(mint.now_melt_quote(settled.quote)) == change
    assert settled.change is not None
    assert change_value(mint.keyset(), drawn, settled.change) == sum(change)


def test_the_quote_shows_its_change_for_ever(mint: Mint, alice: Wallet) -> None:
    pending = mint.begin(mint.melt_quote(1).quote, mint.fund(alice, 16), alice.blanks(mint.keyset(), 4))
    settled = mint.settle(pending)
    mint.reopen()
    assert mint.ledger.melt_quote(METHOD, settled.quote) == settled


def test_change_is_shown_only_once_the_quote_is_paid(mint: Mint, alice: Wallet) -> None:
    pending = mint.begin(mint.melt_quote(1).quote, mint.fund(alice, 16), alice.blanks(mint.keyset(), 4))
    assert mint.ledger.melt_quote(METHOD, pending.quote).change is None


def test_change_is_signed_after_a_restart_too(mint: Mint, alice: Wallet) -> None:
    blanks = alice.blanks(mint.keyset(), 4)
    mint.begin(mint.melt_quote(1).quote, mint.fund(alice, 16), blanks)
    mint.reopen()
    (pending,) = mint.ledger.pending_melts()
    settled = mint.settle(pending)
    assert settled.change is not None
    assert change_value(mint.keyset(), blanks, settled.change) == 15


def test_change_is_signed_by_the_keyset_that_was_asked_though_it_was_rotated_meanwhile(
    mint: Mint, alice: Wallet
) -> None:
    old = mint.keyset()
    blanks = alice.blanks(old, 4)
    pending = mint.begin(mint.melt_quote(1).quote, mint.fund(alice, 16), blanks)
    mint.rotate()
    mint.reopen()
    settled = mint.settle(pending)
    assert settled.change is not None
    proofs = [unblind(old, *pair) for pair in zip(blanks, settled.change, strict=True)]
    mint.swap(proofs, alice.draw_sum(mint.keyset(), 15))
    assert mint.states(proofs) == [ProofState.SPENT] * 4


def test_a_melt_is_settled_though_its_keyset_expired_meanwhile(mint: Mint, alice: Wallet) -> None:
    keyset = mint.rotate(expiry=NOW + 100)
    blanks = alice.blanks(keyset, 4)
    proofs = mint.fund(alice, 16)
    pending = mint.begin(mint.melt_quote(1).quote, proofs, blanks)
    mint.clock.advance(1000)
    settled = mint.settle(pending)
    assert (settled.state, amounts(settled)) == (MeltQuoteState.PAID, [1, 2, 4, 8])
    assert mint.states(proofs) == [ProofState.SPENT]


def test_blank_outputs_may_be_of_several_keysets(mint: Mint, alice: Wallet) -> None:
    mint.rotate()
    mint.execute("UPDATE keysets SET active = 1 WHERE unit = 'sat'")
    mint.reopen()
    keysets = [keyset for keyset in mint.ledger.keysets if keyset.unit == "sat"]
    blanks = [alice.draw(keysets[n % 2], 1) for n in range(4)]
    settled = mint.settle(mint.begin(mint.melt_quote(1).quote, mint.fund(alice, 16), blanks))
    assert settled.change is not None
    proofs = [unblind(keysets[n % 2], blanks[n], settled.change[n]) for n in range(4)]
    assert [proof.amount for proof in proofs] == [1, 2, 4, 8]


def test_change_is_restored_and_outputs_without_change_are_not(mint: Mint, alice: Wallet) -> None:
    blanks = alice.blanks(mint.keyset(), 6)
    pending = mint.begin(mint.melt_quote(1).quote, mint.fund(alice, 16), blanks)
    assert mint.restore(blanks).outputs == []
    settled = mint.settle(pending)
    restored = mint.restore(blanks)
    assert restored.outputs == [each.message for each in blanks[:4]]
    assert restored.signatures == settled.change


def test_change_counts_as_issued(mint: Mint, alice: Wallet) -> None:
    mint.settle(mint.begin(mint.melt_quote(1).quote, mint.fund(alice, 16), alice.blanks(mint.keyset(), 4)))
    (books, *_) = mint.audit().keysets
    assert (books.issued, books.redeemed, books.outstanding) == (16 + 15, 16, 15)
