"""Rules about proofs that hold wherever proofs are spent: in a swap (NUT-03) and in a melt (NUT-05)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import cast

import pytest

from ledger.errors import Code, LedgerError
from ledger.models import MAX_ARRAY_LENGTH, Proof, ProofState
from tests.ledger.helpers import METHOD, NO_POINT, NOW, Mint, Wallet, done, melt_request, refused, swap_request, unblind

Spend = Callable[[Sequence[Proof]], Future[object]]
Spender = Callable[[Mint, Wallet, int], Spend]


def by_swap(mint: Mint, wallet: Wallet, amount: int) -> Spend:
    outputs = wallet.draw_sum(mint.keyset(), amount)
    return lambda proofs: cast("Future[object]", mint.ledger.swap(swap_request(proofs, outputs)))


def by_melt(mint: Mint, _wallet: Wallet, amount: int) -> Spend:
    quote = mint.melt_quote(amount).quote
    return lambda proofs: cast("Future[object]", mint.ledger.begin_melt(METHOD, melt_request(quote, proofs), 100))


@pytest.fixture(params=[by_swap, by_melt], ids=["swap", "melt"])
def spender(request: pytest.FixtureRequest) -> Spender:
    """Both ways to spend: given an amount, what takes the proofs."""
    chosen: Spender = request.param
    return chosen


def test_inputs_must_not_be_empty(mint: Mint, bob: Wallet, spender: Spender) -> None:
    spend = spender(mint, bob, 1)
    with refused(mint, Code.TRANSACTION_REJECTED):
        done(spend([]))


def test_more_inputs_than_the_limit_are_refused(mint: Mint, alice: Wallet, bob: Wallet, spender: Spender) -> None:
    (proof,) = mint.fund(alice, 1)
    spend = spender(mint, bob, MAX_ARRAY_LENGTH + 1)
    with refused(mint, Code.TOO_MANY_INPUTS):
        done(spend([proof.model_copy(update={"secret": str(n)}) for n in range(MAX_ARRAY_LENGTH + 1)]))


def test_as_many_inputs_as_the_limit_are_accepted(mint: Mint, alice: Wallet, bob: Wallet, spender: Spender) -> None:
    proofs = mint.fund(alice, *[1] * MAX_ARRAY_LENGTH)
    done(spender(mint, bob, MAX_ARRAY_LENGTH)(proofs))
    assert ProofState.UNSPENT not in mint.states(proofs)


@pytest.mark.parametrize(
    "change",
    [{}, {"witness": "{}"}, {"C": NO_POINT}, {"amount": 4}, {"id": "another keyset"}],
    ids=["whole", "other witness", "other C", "other amount", "other keyset"],
)
def test_the_same_secret_twice_is_a_duplicate_whatever_else_differs(
    mint: Mint, alice: Wallet, bob: Wallet, spender: Spender, change: dict[str, object]
) -> None:
    (proof,) = mint.fund(alice, 8)
    spend = spender(mint, bob, 16)
    with refused(mint, Code.DUPLICATE_INPUTS):
        done(spend([proof, proof.model_copy(update=change)]))


@pytest.mark.parametrize("form", ["unknown v1", "unknown v2", "unknown v3", "short", "upper case", "nonsense"])
def test_an_unknown_keyset_is_refused(mint: Mint, alice: Wallet, bob: Wallet, spender: Spender, form: str) -> None:
    (proof,) = mint.fund(alice, 8)
    keyset_id = {
        "unknown v1": "00" + "ab" * 7,
        "unknown v2": "01" + "ab" * 32,
        "unknown v3": "02" + proof.id[2:],
        "short": proof.id[:16],
        "upper case": proof.id.upper(),
        "nonsense": "keyset",
    }[form]
    spend = spender(mint, bob, 8)
    with refused(mint, Code.KEYSET_UNKNOWN):
        done(spend([proof.model_copy(update={"id": keyset_id})]))


def test_an_expired_keyset_is_refused_from_the_second_after_its_expiry(
    mint: Mint, alice: Wallet, bob: Wallet, spender: Spender
) -> None:
    mint.rotate(expiry=NOW + 100)
    early, late = mint.fund(alice, 8, 8)
    mint.rotate()
    mint.clock.advance(100)
    done(spender(mint, bob, 8)([early]))
    mint.clock.advance(1)
    spend = spender(mint, bob, 8)
    with refused(mint, Code.KEYSET_EXPIRED):
        done(spend([late]))


def test_an_inactive_keyset_is_accepted(mint: Mint, alice: Wallet, bob: Wallet, spender: Spender) -> None:
    proofs = mint.fund(alice, 8)
    mint.rotate()
    done(spender(mint, bob, 8)(proofs))
    assert mint.states(proofs) != [ProofState.UNSPENT]


def test_inputs_of_several_units_are_refused(mint: Mint, alice: Wallet, bob: Wallet, spender: Spender) -> None:
    proofs = [*mint.fund(alice, 8), *mint.fund(alice, 8, unit="msat")]
    spend = spender(mint, bob, 16)
    with refused(mint, Code.SEVERAL_UNITS):
        done(spend(proofs))


def test_inputs_of_another_unit_are_refused(mint: Mint, alice: Wallet, bob: Wallet, spender: Spender) -> None:
    proofs = mint.fund(alice, 8, unit="msat")
    spend = spender(mint, bob, 8)
    with refused(mint, Code.UNITS_DIFFER):
        done(spend(proofs))


@pytest.mark.parametrize("amount", [0, 3, 2**61, 2**63])
def test_an_amount_that_the_keyset_does_not_have_is_an_invalid_proof(
    mint: Mint, alice: Wallet, bob: Wallet, spender: Spender, amount: int
) -> None:
    (proof,) = mint.fund(alice, 1)
    spend = spender(mint, bob, 1)
    with refused(mint, Code.PROOF_INVALID):
        done(spend([proof.model_copy(update={"amount": amount})]))


@pytest.mark.parametrize("fault", ["other secret", "other C", "negated C", "no point", "more amount", "other keyset"])
def test_a_proof_must_verify_with_the_key_of_its_keyset_and_amount(
    mint: Mint, alice: Wallet, bob: Wallet, spender: Spender, fault: str
) -> None:
    proof, other = mint.fund(alice, 8, 8)
    amount = 16 if fault == "more amount" else 8
    other_keyset = mint.rotate()
    changes: dict[str, dict[str, object]] = {
        "other secret": {"secret": proof.secret + " "},
        "other C": {"C": other.C},
        "negated C": {"C": ("03" if proof.C.startswith("02") else "02") + proof.C[2:]},
        "no point": {"C": NO_POINT},
        "more amount": {"amount": 16},
        "other keyset": {"id": other_keyset.id},
    }
    spend = spender(mint, bob, amount)
    with refused(mint, Code.PROOF_INVALID):
        done(spend([proof.model_copy(update=changes[fault])]))


def test_one_bad_proof_spoils_the_others(mint: Mint, alice: Wallet, bob: Wallet, spender: Spender) -> None:
    good, bad = mint.fund(alice, 8, 8)
    spend = spender(mint, bob, 16)
    with refused(mint, Code.PROOF_INVALID):
        done(spend([good, bad.model_copy(update={"C": good.C})]))


@pytest.mark.parametrize("first", [by_swap, by_melt], ids=["after swap", "after settled melt"])
def test_a_spent_proof_is_refused(mint: Mint, alice: Wallet, bob: Wallet, spender: Spender, first: Spender) -> None:
    spent, fresh = mint.fund(alice, 8, 8)
    done(first(mint, bob, 8)([spent]))
    for pending in mint.ledger.pending_melts():
        mint.settle(pending)
    spend = spender(mint, bob, 16)
    with refused(mint, Code.PROOFS_SPENT):
        done(spend([fresh, spent]))
    assert mint.states([spent, fresh]) == [ProofState.SPENT, ProofState.UNSPENT]


def test_a_spent_proof_stays_spent_under_another_witness(
    mint: Mint, alice: Wallet, bob: Wallet, spender: Spender
) -> None:
    (proof,) = mint.fund(alice, 8)
    done(by_swap(mint, bob, 8)([proof]))
    spend = spender(mint, bob, 8)
    with refused(mint, Code.PROOFS_SPENT):
        done(spend([proof.model_copy(update={"witness": "another"})]))


def test_a_proof_held_by_a_melt_is_refused(mint: Mint, alice: Wallet, bob: Wallet, spender: Spender) -> None:
    held, fresh = mint.fund(alice, 8, 8)
    done(by_melt(mint, bob, 8)([held]))
    spend = spender(mint, bob, 16)
    with refused(mint, Code.PROOFS_PENDING):
        done(spend([fresh, held]))


def test_among_spent_and_pending_proofs_the_spent_one_decides(
    mint: Mint, alice: Wallet, bob: Wallet, spender: Spender
) -> None:
    held, spent = mint.fund(alice, 8, 8)
    done(by_melt(mint, bob, 8)([held]))
    done(by_swap(mint, bob, 8)([spent]))
    spend = spender(mint, bob, 16)
    with refused(mint, Code.PROOFS_SPENT):
        done(spend([held, spent]))


def test_a_spent_proof_among_hundreds_is_found(mint: Mint, alice: Wallet, bob: Wallet, spender: Spender) -> None:
    proofs = mint.fund(alice, *[1] * 600)
    done(by_swap(mint, bob, 1)(proofs[-1:]))
    spend = spender(mint, bob, 600)
    with refused(mint, Code.PROOFS_SPENT):
        done(spend(proofs))


@pytest.mark.parametrize("secret", ["", "€ \U0001f95c", "nul \0 inside", '["P2PK", {}] "quoted" \\u0041', "a" * 4096])
def test_a_secret_is_any_text(mint: Mint, bob: Wallet, spender: Spender, secret: str) -> None:
    keyset = mint.keyset()
    drawn = bob.draw(keyset, 8, secret)
    answer = mint.issue(mint.paid_quote(8).quote, [drawn])
    proof = unblind(keyset, drawn, answer.signatures[0])
    done(spender(mint, bob, 8)([proof]))
    assert mint.states([proof]) != [ProofState.UNSPENT]
    assert mint.value("SELECT secret FROM proofs") == secret


def test_c_may_be_in_upper_case(mint: Mint, alice: Wallet, bob: Wallet, spender: Spender) -> None:
    (proof,) = mint.fund(alice, 8)
    done(spender(mint, bob, 8)([proof.model_copy(update={"C": proof.C.upper()})]))
    assert mint.states([proof]) != [ProofState.UNSPENT]


def test_inputs_of_several_keysets_of_one_unit_go_together(
    mint: Mint, alice: Wallet, bob: Wallet, spender: Spender
) -> None:
    proofs = mint.fund(alice, 8)
    mint.rotate()
    proofs += mint.fund(alice, 4, 1)
    done(spender(mint, bob, 13)(proofs))
    assert ProofState.UNSPENT not in mint.states(proofs)


# --- fees (NUT-02) ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ppk", "inputs", "fee"),
    [(1, 1, 1), (100, 10, 1), (100, 11, 2), (999, 1, 1), (999, 2, 2), (1000, 3, 3), (1001, 1, 2), (0, 5, 0)],
)
def test_the_input_fee_is_rounded_up_once_over_all_inputs(
    mint: Mint, alice: Wallet, bob: Wallet, spender: Spender, ppk: int, inputs: int, fee: int
) -> None:
    mint.rotate(fee=ppk)
    proofs = mint.fund(alice, *[8] * inputs)
    mint.rotate(fee=0)
    too_much = spender(mint, bob, 8 * inputs - fee + 1)
    with refused(mint, Code.NOT_BALANCED):
        done(too_much(proofs))
    done(spender(mint, bob, 8 * inputs - fee)(proofs))
    assert ProofState.UNSPENT not in mint.states(proofs)


def test_each_input_pays_the_fee_of_its_own_keyset(mint: Mint, alice: Wallet, bob: Wallet, spender: Spender) -> None:
    mint.rotate(fee=300)
    proofs = mint.fund(alice, 8, 8)
    mint.rotate(fee=401)
    proofs += mint.fund(alice, 8)
    mint.rotate(fee=5000)
    fee = 2  # (300 + 300 + 401) / 1000 rounded up; each keyset on its own would also be 2, each input 3
    too_much = spender(mint, bob, 24 - fee + 1)
    with refused(mint, Code.NOT_BALANCED):
        done(too_much(proofs))
    done(spender(mint, bob, 24 - fee)(proofs))


def test_fees_of_several_keysets_are_summed_before_rounding(
    mint: Mint, alice: Wallet, bob: Wallet, spender: Spender
) -> None:
    mint.rotate(fee=999)
    proofs = mint.fund(alice, 8)
    mint.rotate(fee=1)
    proofs += mint.fund(alice, 8)
    done(spender(mint, bob, 15)(proofs))
    for pending in mint.ledger.pending_melts():
        mint.settle(pending)
    assert sum(books.fees for books in mint.audit().keysets) == 1


def test_inputs_that_do_not_even_pay_their_fee_are_not_balanced(
    mint: Mint, alice: Wallet, bob: Wallet, spender: Spender
) -> None:
    mint.rotate(fee=2000)
    proofs = mint.fund(alice, 1, 1)
    spend = spender(mint, bob, 1)
    with refused(mint, Code.NOT_BALANCED):
        done(spend(proofs))


# --- what changes while a request waits for the writer -----------------------------------------------------------


def test_a_keyset_that_expires_while_its_proofs_wait_is_refused(
    mint: Mint, alice: Wallet, bob: Wallet, spender: Spender
) -> None:
    mint.rotate(expiry=NOW + 100)
    proofs = mint.fund(alice, 8)
    mint.rotate()
    spend = spender(mint, bob, 8)
    with mint.held_writer():
        waiting = spend(proofs)
        mint.clock.advance(101)
    with pytest.raises(LedgerError) as caught:
        done(waiting)
    assert caught.value.code is Code.KEYSET_EXPIRED
    assert mint.states(proofs) == [ProofState.UNSPENT]
