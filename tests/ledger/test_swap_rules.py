"""Swap (NUT-03): what is not said of inputs and outputs in general."""

from __future__ import annotations

import json

import pytest

from ledger.conditions.witness import MAX_VERIFICATIONS
from ledger.errors import Code
from ledger.ledger import curve_work
from ledger.models import MintBatchRequest, ProofState
from ledger.units import split
from tests.ledger.helpers import (
    WITNESS,
    Drawn,
    Mint,
    Wallet,
    changed,
    melt_request,
    mint_request,
    refused,
    swap_request,
    unblind,
)


@pytest.mark.parametrize("outputs", [[8, 4, 2], [8, 4, 4], [8], [16, 1], [1 << 60]])
def test_a_swap_must_balance_exactly(mint: Mint, alice: Wallet, bob: Wallet, outputs: list[int]) -> None:
    proofs = mint.fund(alice, 8, 4, 2, 1)
    with refused(mint, Code.NOT_BALANCED):
        mint.swap(proofs, bob.draw_all(mint.keyset(), outputs))


def test_a_swap_must_balance_after_the_fee_and_not_before(mint: Mint, alice: Wallet, bob: Wallet) -> None:
    mint.rotate(fee=1000)
    proofs = mint.fund(alice, 8)
    for outputs in ([8], [4, 2]):
        with refused(mint, Code.NOT_BALANCED):
            mint.swap(proofs, bob.draw_all(mint.keyset(), outputs))
    mint.swap(proofs, bob.draw_all(mint.keyset(), [4, 2, 1]))


def test_outputs_whose_sum_overflows_64_bits_do_not_balance(mint: Mint, alice: Wallet, bob: Wallet) -> None:
    """16 x 2^60 is 2^64: zero for who counts in 64 bits."""
    proofs = mint.fund(alice, 1)
    with refused(mint, Code.NOT_BALANCED):
        mint.swap(proofs, [*bob.draw_all(mint.keyset(), [1 << 60] * 16), bob.draw(mint.keyset(), 1)])


def test_signatures_stand_in_the_order_of_the_outputs(mint: Mint, alice: Wallet, bob: Wallet) -> None:
    amounts = [4, 16, 1, 8, 1, 2]
    drawn = bob.draw_all(mint.keyset(), amounts)
    answer = mint.swap(mint.fund(alice, 32), drawn)
    proofs = [unblind(mint.keyset(), *pair) for pair in zip(drawn, answer.signatures, strict=True)]
    assert [proof.amount for proof in proofs] == amounts


def test_what_a_swap_signed_can_be_spent_and_what_it_took_is_spent(mint: Mint, alice: Wallet, bob: Wallet) -> None:
    old = mint.fund(alice, 8, 4)
    drawn = bob.draw_sum(mint.keyset(), 12)
    answer = mint.swap(old, drawn)
    new = [unblind(mint.keyset(), *pair) for pair in zip(drawn, answer.signatures, strict=True)]
    assert mint.states(old + new) == [ProofState.SPENT] * 2 + [ProofState.UNSPENT] * 2
    mint.swap(new, bob.draw_sum(mint.keyset(), 12))
    assert mint.states(new) == [ProofState.SPENT] * 2


def test_a_swap_moves_ecash_from_an_inactive_keyset_to_the_active_one(mint: Mint, alice: Wallet, bob: Wallet) -> None:
    old, proofs = mint.keyset(), mint.fund(alice, 8)
    new = mint.rotate()
    mint.swap(proofs, bob.draw_sum(new, 8))
    outstanding = {books.id: books.outstanding for books in mint.audit().keysets}
    assert (outstanding[old.id], outstanding[new.id]) == (0, 8)


def test_the_books_keep_the_input_fee_as_earned(mint: Mint, alice: Wallet, bob: Wallet) -> None:
    keyset = mint.rotate(fee=500)
    proofs = mint.fund(alice, 8, 8, 8)
    mint.swap(proofs, bob.draw_sum(keyset, 22))
    audit = mint.audit()
    (books,) = (books for books in audit.keysets if books.id == keyset.id)
    assert (books.issued, books.redeemed, books.fees, books.outstanding) == (46, 24, 2, 22)
    assert audit.earned_msat == 2000


def test_in_the_msat_unit_one_is_one_msat(mint: Mint, alice: Wallet, bob: Wallet) -> None:
    proofs = mint.fund(alice, *split(1234), unit="msat")
    mint.swap(proofs, bob.draw_sum(mint.keyset("msat"), 1234))
    assert mint.audit().outstanding_msat == 1234


@pytest.mark.parametrize("case", [str.lower, str.upper])
def test_b_may_be_in_either_case_and_is_one_output(mint: Mint, alice: Wallet, bob: Wallet, case: type[str]) -> None:
    drawn = bob.draw(mint.keyset(), 8)
    written = changed(drawn, B_=case(drawn.message.B_))
    answer = mint.swap(mint.fund(alice, 8), [written])
    assert unblind(mint.keyset(), written, answer.signatures[0]).amount == 8
    proofs = mint.fund(alice, 8)
    with refused(mint, Code.OUTPUTS_SIGNED):
        mint.swap(proofs, [drawn])


def test_the_witness_of_a_locked_input_is_kept_as_it_was_sent(mint: Mint, alice: Wallet, bob: Wallet) -> None:
    locked = mint.fund_locked(alice)
    mint.swap([locked], bob.draw_sum(mint.keyset(), 8))
    assert mint.state_entries([locked])[0].witness == WITNESS


def test_a_witness_of_a_plain_secret_is_ignored_and_not_shown(mint: Mint, alice: Wallet, bob: Wallet) -> None:
    (proof,) = mint.fund(alice, 8)
    mint.swap([proof.model_copy(update={"witness": WITNESS})], bob.draw_sum(mint.keyset(), 8))
    assert mint.state_entries([proof])[0].witness is None


def test_many_outputs_in_any_order_keep_their_signatures(mint: Mint, alice: Wallet, bob: Wallet) -> None:
    drawn: list[Drawn] = bob.draw_all(mint.keyset(), [1 << n % 7 for n in range(100)])
    answer = mint.swap(mint.fund(alice, *split(sum(each.message.amount for each in drawn))), drawn)
    for each, signature in zip(drawn, answer.signatures, strict=True):
        unblind(mint.keyset(), each, signature)


def test_the_work_of_a_request_is_counted_by_its_inputs_and_outputs(mint: Mint, alice: Wallet) -> None:
    """By this the plugin decides which requests to work on in a thread of their own."""
    proofs, drawn = mint.fund(alice, 1, 1), alice.draw_all(mint.keyset(), [1, 1, 1])
    assert curve_work(swap_request(proofs, drawn)) == 5
    assert curve_work(mint_request("quote", drawn)) == 3
    assert curve_work(melt_request("quote", proofs)) == 2
    assert curve_work(melt_request("quote", proofs, drawn)) == 5


def test_signatures_to_be_checked_are_work_as_well(mint: Mint, alice: Wallet) -> None:
    """Each may have to be tried with each key of its secret, and of a batch each quote may have one."""
    proof, drawn = mint.fund(alice, 1)[0], alice.draw_all(mint.keyset(), [1])
    plain = swap_request([proof], drawn)
    secret, witness = json.dumps(["P2PK", "02" + "1" * 64, *["03" + "2" * 64] * 9]), json.dumps(["ab" * 64] * 30)
    locked = plain.inputs[0].model_copy(update={"secret": secret, "witness": witness})
    assert curve_work(plain.model_copy(update={"inputs": [locked]})) >= 2 + 30 * 10
    hostile = locked.model_copy(update={"secret": secret * 100, "witness": witness * 100})
    assert curve_work(plain.model_copy(update={"inputs": [hostile] * 100})) == 101 + MAX_VERIFICATIONS
    single = mint_request("quote", drawn)
    assert curve_work(single.model_copy(update={"signature": "00"})) == 2
    batch = MintBatchRequest(quotes=["a", "b", "c"], outputs=single.outputs, signatures=["00" * 64, None, "00" * 64])
    assert curve_work(batch) == 3
