"""Checkstate (NUT-07) and restore (NUT-09): they show, and never change."""

from __future__ import annotations

import pytest

from ledger import curve
from ledger.errors import Code
from ledger.models import MAX_ARRAY_LENGTH, CheckStateRequest, ProofState, ProofStateEntry, RestoreRequest
from ledger.operations import state
from tests.ledger.helpers import NO_POINT, WITNESS, Mint, Wallet, changed, messages, proof_y, refused

OFF_CURVE = "02" + "00" * 31 + "05"
UNSEEN = "02" + "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"


def test_states_stand_in_the_order_of_the_request_duplicates_included(mint: Mint, alice: Wallet) -> None:
    spent, held, free = mint.fund(alice, 8, 8, 8)
    mint.swap([spent], alice.draw_sum(mint.keyset(), 8))
    mint.begin(mint.melt_quote(8).quote, [held])
    asked = [free, held, spent, held, free]
    assert mint.states(asked) == [
        ProofState.UNSPENT,
        ProofState.PENDING,
        ProofState.SPENT,
        ProofState.PENDING,
        ProofState.UNSPENT,
    ]
    assert [entry.Y for entry in mint.state_entries(asked)] == [proof_y(proof) for proof in asked]


def test_a_y_never_seen_is_unspent(mint: Mint) -> None:
    response = mint.ledger.check_state(CheckStateRequest(Ys=[UNSEEN]))
    assert response.states == [ProofStateEntry(Y=UNSEEN, state=ProofState.UNSPENT, witness=None)]


def test_a_y_may_be_in_upper_case(mint: Mint, alice: Wallet) -> None:
    (proof,) = mint.fund(alice, 8)
    mint.swap([proof], alice.draw_sum(mint.keyset(), 8))
    (entry,) = mint.ledger.check_state(CheckStateRequest(Ys=[proof_y(proof).upper()])).states
    assert entry.state is ProofState.SPENT


def test_witnesses_are_answered_up_to_so_many(mint: Mint, alice: Wallet, monkeypatch: pytest.MonkeyPatch) -> None:
    proof = mint.fund_locked(alice)
    mint.swap([proof], alice.draw_sum(mint.keyset(), 8))
    monkeypatch.setattr(state, "MAX_WITNESSES_LENGTH", 3 * len(WITNESS))
    asked = [proof_y(proof)] * 4
    answer = mint.ledger.check_state(CheckStateRequest(Ys=asked[:3]))
    assert [entry.witness for entry in answer.states] == [WITNESS] * 3
    with refused(mint, Code.TOO_MANY_INPUTS):
        mint.ledger.check_state(CheckStateRequest(Ys=asked))


@pytest.mark.parametrize("y", [NO_POINT, "04" + UNSEEN[2:], "00" * 33])
def test_a_y_that_is_no_point_is_refused(mint: Mint, y: str) -> None:
    with refused(mint, Code.TRANSACTION_REJECTED):
        mint.ledger.check_state(CheckStateRequest(Ys=[UNSEEN, y]))


def test_a_y_of_the_right_form_that_is_no_point_is_unspent(mint: Mint) -> None:
    with pytest.raises(ValueError, match="public key"):
        curve.parse_point(bytes.fromhex(OFF_CURVE))
    (entry,) = mint.ledger.check_state(CheckStateRequest(Ys=[OFF_CURVE])).states
    assert entry.state is ProofState.UNSPENT


def test_more_ys_than_the_limit_are_refused(mint: Mint) -> None:
    assert len(mint.ledger.check_state(CheckStateRequest(Ys=[UNSEEN] * MAX_ARRAY_LENGTH)).states) == MAX_ARRAY_LENGTH
    with refused(mint, Code.TOO_MANY_INPUTS):
        mint.ledger.check_state(CheckStateRequest(Ys=[UNSEEN] * (MAX_ARRAY_LENGTH + 1)))


def test_no_ys_have_no_states(mint: Mint) -> None:
    assert mint.ledger.check_state(CheckStateRequest(Ys=[])).states == []


def test_states_of_hundreds_of_proofs_are_all_found(mint: Mint, alice: Wallet) -> None:
    proofs = mint.fund(alice, *[1] * 600)
    mint.swap(proofs, alice.draw_all(mint.keyset(), [1] * 600))
    assert mint.states(proofs) == [ProofState.SPENT] * 600


def test_a_proof_is_pending_after_a_restart_too(mint: Mint, alice: Wallet) -> None:
    proofs = mint.fund(alice, 8)
    mint.begin(mint.melt_quote(8).quote, proofs)
    mint.reopen()
    assert mint.states(proofs) == [ProofState.PENDING]


def test_the_state_of_a_proof_of_an_expired_keyset_is_known(mint: Mint, alice: Wallet) -> None:
    mint.rotate(expiry=int(mint.clock()) + 10)
    proofs = mint.fund(alice, 8)
    mint.swap(proofs, alice.draw_sum(mint.keyset(), 8))
    mint.clock.advance(1000)
    assert mint.states(proofs) == [ProofState.SPENT]


# --- restore ------------------------------------------------------------------------------------------------------


def test_restore_gives_what_was_signed_index_by_index_and_leaves_out_the_rest(mint: Mint, alice: Wallet) -> None:
    signed = alice.draw_all(mint.keyset(), [4, 2, 2])
    answer = mint.issue(mint.paid_quote(8).quote, signed)
    never = alice.draw_all(mint.keyset(), [1, 1])
    asked = [signed[2], never[0], signed[0], never[1], signed[1]]
    restored = mint.restore(asked)
    assert restored.outputs == messages([signed[2], signed[0], signed[1]])
    assert restored.signatures == [answer.signatures[2], answer.signatures[0], answer.signatures[1]]


def test_restore_goes_by_b_alone(mint: Mint, alice: Wallet) -> None:
    (signed,) = alice.draw_sum(mint.keyset(), 8)
    answer = mint.issue(mint.paid_quote(8).quote, [signed])
    asked = changed(signed, amount=0, id="another keyset", B_=signed.message.B_.upper())
    restored = mint.restore([asked])
    assert restored.outputs == [asked.message]
    assert restored.signatures == answer.signatures
    assert restored.signatures[0].amount == 8


def test_restore_works_for_swaps_and_inactive_and_expired_keysets_and_spent_proofs(mint: Mint, alice: Wallet) -> None:
    keyset = mint.rotate(expiry=int(mint.clock()) + 10)
    drawn = alice.draw_sum(keyset, 8)
    answer = mint.swap(mint.fund(alice, 8), drawn)
    mint.rotate()
    mint.clock.advance(1000)
    mint.reopen()
    assert mint.restore(drawn).signatures == answer.signatures


def test_restore_of_nothing_is_empty(mint: Mint) -> None:
    response = mint.restore([])
    assert (response.outputs, response.signatures) == ([], [])


def test_restore_of_more_outputs_than_the_limit_is_refused(mint: Mint, alice: Wallet) -> None:
    message = alice.draw(mint.keyset(), 1).message
    mint.ledger.restore(RestoreRequest(outputs=[message] * MAX_ARRAY_LENGTH))
    with refused(mint, Code.TOO_MANY_OUTPUTS):
        mint.ledger.restore(RestoreRequest(outputs=[message] * (MAX_ARRAY_LENGTH + 1)))


def test_restore_of_hundreds_finds_all(mint: Mint, alice: Wallet) -> None:
    drawn = alice.draw_all(mint.keyset(), [1] * 600)
    answer = mint.issue(mint.paid_quote(600).quote, drawn)
    assert mint.restore(drawn).signatures == answer.signatures


def test_showing_changes_nothing(mint: Mint, alice: Wallet) -> None:
    proofs, drawn = mint.fund(alice, 8, 8), alice.draw_sum(mint.keyset(), 8)
    mint.swap(proofs[:1], drawn)
    rows, events = mint.dump(), list(mint.events)
    mint.states(proofs)
    mint.restore([*drawn, alice.draw(mint.keyset(), 1)])
    mint.audit()
    assert (mint.dump(), mint.events) == (rows, events)
