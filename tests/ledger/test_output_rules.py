"""Rules about outputs that hold wherever the mint signs: in a swap (NUT-03), for a mint quote (NUT-04), as change of a
melt (NUT-08)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import cast

import pytest

from ledger.errors import Code, LedgerError
from ledger.models import MAX_ARRAY_LENGTH
from ledger.units import split
from tests.ledger.helpers import (
    METHOD,
    NO_POINT,
    NOW,
    Drawn,
    Mint,
    Wallet,
    changed,
    done,
    melt_request,
    mint_request,
    refused,
    swap_request,
)

Sign = Callable[[Sequence[Drawn]], Future[object]]
Signer = Callable[[Mint, Wallet, int], Sign]


def in_swap(mint: Mint, wallet: Wallet, amount: int) -> Sign:
    proofs = mint.fund(wallet, *split(amount))
    return lambda outputs: cast("Future[object]", mint.ledger.swap(swap_request(proofs, outputs)))


def in_issue(mint: Mint, _wallet: Wallet, amount: int) -> Sign:
    quote = mint.paid_quote(amount).quote
    return lambda outputs: cast("Future[object]", mint.ledger.issue(METHOD, mint_request(quote, outputs)))


def as_change(mint: Mint, wallet: Wallet, amount: int) -> Sign:
    proofs = mint.fund(wallet, *split(amount))
    quote = mint.melt_quote(amount).quote
    return lambda blanks: cast("Future[object]", mint.ledger.begin_melt(METHOD, melt_request(quote, proofs, blanks), 9))


@pytest.fixture(params=[in_swap, in_issue, as_change], ids=["swap", "issue", "change"])
def signer(request: pytest.FixtureRequest) -> Signer:
    """The three ways to get signatures: given an amount, what takes the outputs."""
    chosen: Signer = request.param
    return chosen


@pytest.fixture(params=[in_swap, in_issue], ids=["swap", "issue"])
def exact_signer(request: pytest.FixtureRequest) -> Signer:
    """The two ways in which an output's amount counts."""
    chosen: Signer = request.param
    return chosen


def test_outputs_must_not_be_empty(mint: Mint, alice: Wallet, exact_signer: Signer) -> None:
    sign = exact_signer(mint, alice, 8)
    with refused(mint, Code.TRANSACTION_REJECTED):
        done(sign([]))


def test_more_outputs_than_the_limit_are_refused(mint: Mint, alice: Wallet, signer: Signer) -> None:
    sign = signer(mint, alice, MAX_ARRAY_LENGTH + 1)
    drawn = alice.draw(mint.keyset(), 1)
    with refused(mint, Code.TOO_MANY_OUTPUTS):
        done(sign([changed(drawn, B_=f"02{n:064x}") for n in range(MAX_ARRAY_LENGTH + 1)]))


def test_as_many_outputs_as_the_limit_are_accepted(mint: Mint, alice: Wallet, signer: Signer) -> None:
    outputs = alice.draw_all(mint.keyset(), [1] * MAX_ARRAY_LENGTH)
    done(signer(mint, alice, MAX_ARRAY_LENGTH)(outputs))
    assert mint.value("SELECT count(*) FROM promises WHERE b_ = x'" + outputs[-1].message.B_ + "'") == 1


@pytest.mark.parametrize("change", [{}, {"amount": 2}, {"id": "another keyset"}], ids=["whole", "amount", "keyset"])
def test_the_same_b_twice_is_a_duplicate_whatever_else_differs(
    mint: Mint, alice: Wallet, signer: Signer, change: dict[str, object]
) -> None:
    sign = signer(mint, alice, 8)
    drawn = alice.draw(mint.keyset(), 4)
    with refused(mint, Code.DUPLICATE_OUTPUTS):
        done(sign([drawn, changed(drawn, **change)]))


def test_the_same_b_in_another_case_is_a_duplicate(mint: Mint, alice: Wallet, signer: Signer) -> None:
    sign = signer(mint, alice, 8)
    drawn = alice.draw(mint.keyset(), 4)
    with refused(mint, Code.DUPLICATE_OUTPUTS):
        done(sign([drawn, changed(drawn, B_=drawn.message.B_.upper())]))


@pytest.mark.parametrize("form", ["unknown", "short", "upper case"])
def test_an_unknown_keyset_is_refused(mint: Mint, alice: Wallet, signer: Signer, form: str) -> None:
    known = mint.keyset().id
    keyset_id = {"unknown": "01" + "ab" * 32, "short": known[:16], "upper case": known.upper()}[form]
    sign = signer(mint, alice, 8)
    with refused(mint, Code.KEYSET_UNKNOWN):
        done(sign([changed(alice.draw(mint.keyset(), 8), id=keyset_id)]))


def test_an_inactive_keyset_signs_no_more(mint: Mint, alice: Wallet, signer: Signer) -> None:
    old = mint.keyset()
    mint.rotate()
    sign = signer(mint, alice, 8)
    with refused(mint, Code.KEYSET_INACTIVE):
        done(sign(alice.draw_sum(old, 8)))


def test_one_output_of_an_inactive_keyset_spoils_the_others(mint: Mint, alice: Wallet, signer: Signer) -> None:
    old = mint.keyset()
    mint.rotate()
    sign = signer(mint, alice, 12)
    with refused(mint, Code.KEYSET_INACTIVE):
        done(sign([alice.draw(mint.keyset(), 8), alice.draw(old, 4)]))


def test_an_expired_keyset_signs_no_more_though_it_is_active(mint: Mint, alice: Wallet, signer: Signer) -> None:
    in_time, late = signer(mint, alice, 8), signer(mint, alice, 8)
    expiring = mint.rotate(expiry=NOW + 100)
    mint.clock.advance(100)
    done(in_time(alice.draw_sum(expiring, 8)))
    mint.clock.advance(1)
    with refused(mint, Code.KEYSET_EXPIRED):
        done(late(alice.draw_sum(expiring, 8)))


def test_outputs_of_several_units_are_refused(mint: Mint, alice: Wallet, signer: Signer) -> None:
    sign = signer(mint, alice, 8)
    with refused(mint, Code.SEVERAL_UNITS):
        done(sign([alice.draw(mint.keyset("sat"), 4), alice.draw(mint.keyset("msat"), 4)]))


def test_outputs_of_another_unit_are_refused(mint: Mint, alice: Wallet, signer: Signer) -> None:
    sign = signer(mint, alice, 8)
    with refused(mint, Code.UNITS_DIFFER):
        done(sign(alice.draw_sum(mint.keyset("msat"), 8)))


@pytest.mark.parametrize("amount", [0, 3, 2**61, 2**63])
def test_an_amount_that_the_keyset_does_not_have_is_refused(
    mint: Mint, alice: Wallet, exact_signer: Signer, amount: int
) -> None:
    sign = exact_signer(mint, alice, 8)
    with refused(mint, Code.TRANSACTION_REJECTED):
        done(sign([changed(alice.draw(mint.keyset(), 1), amount=amount)]))


@pytest.mark.parametrize("amount", [0, 1, 3, 2**63])
def test_the_amount_of_a_blank_output_is_ignored(mint: Mint, alice: Wallet, amount: int) -> None:
    sign = as_change(mint, alice, 8)
    done(sign([changed(alice.draw(mint.keyset(), 1), amount=amount)]))
    assert mint.value("SELECT count(*) FROM promises WHERE c_ IS NULL AND amount IS NULL") == 1


def test_a_b_that_is_no_point_is_refused(mint: Mint, alice: Wallet, signer: Signer) -> None:
    sign = signer(mint, alice, 8)
    good, bad = alice.draw_all(mint.keyset(), [4, 4])
    with refused(mint, Code.TRANSACTION_REJECTED):
        done(sign([good, changed(bad, B_=NO_POINT)]))


@pytest.mark.parametrize("before", [in_swap, in_issue, as_change], ids=["of swap", "of issue", "of change"])
def test_an_output_signed_before_is_refused(mint: Mint, alice: Wallet, signer: Signer, before: Signer) -> None:
    signed = alice.draw(mint.keyset(), 8)
    if before is as_change:
        proofs = mint.fund(alice, 8)
        mint.settle(mint.begin(mint.melt_quote(0, 8).quote, proofs, [signed]))
    else:
        done(before(mint, alice, 8)([signed]))
    sign = signer(mint, alice, 16)
    with refused(mint, Code.OUTPUTS_SIGNED):
        done(sign([alice.draw(mint.keyset(), 8), signed]))


def test_an_output_signed_before_is_refused_for_another_amount_or_keyset_too(
    mint: Mint, alice: Wallet, signer: Signer
) -> None:
    signed = alice.draw(mint.keyset(), 8)
    done(in_issue(mint, alice, 8)([signed]))
    keyset = mint.rotate()
    sign = signer(mint, alice, 4)
    with refused(mint, Code.OUTPUTS_SIGNED):
        done(sign([changed(signed, amount=4, id=keyset.id, B_=signed.message.B_.upper())]))


def test_an_output_held_blank_by_a_melt_is_refused(mint: Mint, alice: Wallet, signer: Signer) -> None:
    held = alice.draw(mint.keyset(), 8)
    done(as_change(mint, alice, 8)([held]))
    sign = signer(mint, alice, 16)
    with refused(mint, Code.OUTPUTS_PENDING):
        done(sign([alice.draw(mint.keyset(), 8), held]))


def test_an_output_of_a_released_melt_is_free_again(mint: Mint, alice: Wallet, signer: Signer) -> None:
    held = alice.draw(mint.keyset(), 8)
    done(as_change(mint, alice, 8)([held]))
    for pending in mint.ledger.pending_melts():
        mint.release(pending)
    done(signer(mint, alice, 8)([held]))
    assert mint.value("SELECT count(*) FROM promises WHERE b_ = x'" + held.message.B_ + "'") == 1


def test_a_blank_output_that_got_no_change_is_free_again(mint: Mint, alice: Wallet, signer: Signer) -> None:
    used, unused = alice.draw_all(mint.keyset(), [8, 8])
    mint.settle(mint.begin(mint.melt_quote(0, 8).quote, mint.fund(alice, 8), [used, unused]))
    done(signer(mint, alice, 8)([unused]))
    assert mint.value("SELECT count(*) FROM promises WHERE b_ = x'" + unused.message.B_ + "'") == 1


# --- what changes while a request waits for the writer ------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "code"), [("rotation", Code.KEYSET_INACTIVE), ("expiry", Code.KEYSET_EXPIRED)], ids=["rotated", "expired"]
)
def test_a_keyset_that_ends_while_the_outputs_wait_does_not_sign_them(
    mint: Mint, alice: Wallet, signer: Signer, event: str, code: Code
) -> None:
    sign = signer(mint, alice, 8)
    outputs = alice.draw_sum(mint.rotate(expiry=NOW + 100), 8)
    before = mint.dump()
    with mint.held_writer():
        if event == "rotation":
            mint.ledger.rotate("sat", 0)
        waiting = sign(outputs)
        if event == "expiry":
            mint.clock.advance(101)
    with pytest.raises(LedgerError) as caught:
        done(waiting)
    assert caught.value.code is code
    after = mint.dump()
    assert {table for table in after if after[table] != before[table]} <= {"ledger", "keysets"}
