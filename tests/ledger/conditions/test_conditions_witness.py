"""Witnesses are kept as sent, and shown once the proof is spent (NUT-07): that is how a hashlock's preimage travels."""

from __future__ import annotations

import pytest

from ledger.events import ProofsChanged
from ledger.models import ProofState
from tests.ledger.conditions.helpers import (
    ALICE,
    RIGHT,
    SIG_ALL,
    Way,
    htlc,
    lock,
    locktime,
    melt_of,
    p2pk,
    pubkeys,
    signed,
    swap_of,
    well_known,
    witness,
)
from tests.ledger.helpers import NOW, PREIMAGE, Mint, Wallet

ODD_WITNESS = '{ "preimage" :\t"' + RIGHT.hex().upper() + '",\n "signatures":[ ], "note": "\\u20bf \U0001f95c" } '


def test_a_swap_shows_the_witness_as_it_was_sent(mint: Mint, alice: Wallet) -> None:
    secret = p2pk(ALICE)
    spending = swap_of(mint, alice, lock(mint, alice, secret, htlc(), "plain"))
    texts = [signed(secret, ALICE), ODD_WITNESS, witness("00")]
    spending.run(*texts)
    shown = [(entry.state, entry.witness) for entry in mint.state_entries(spending.proofs)]
    assert shown == [(ProofState.SPENT, texts[0]), (ProofState.SPENT, texts[1]), (ProofState.SPENT, None)]


def test_a_restart_does_not_lose_the_witness(mint: Mint, alice: Wallet) -> None:
    spending = swap_of(mint, alice, lock(mint, alice, htlc()))
    spending.run(ODD_WITNESS)
    mint.reopen()
    (entry,) = mint.state_entries(spending.proofs)
    assert entry.witness == ODD_WITNESS


@pytest.mark.parametrize("ends", ["settled", "released"])
def test_a_pending_melt_shows_no_witness_before_it_is_paid(mint: Mint, alice: Wallet, ends: str) -> None:
    spending = melt_of(mint, alice, lock(mint, alice, htlc(), "plain"))
    spending.run(ODD_WITNESS)
    (pending,) = mint.ledger.pending_melts()
    held = [(entry.state, entry.witness) for entry in mint.state_entries(spending.proofs)]
    assert held == [(ProofState.PENDING, None)] * 2
    if ends == "settled":
        mint.settle(pending, preimage=PREIMAGE)
        expected = [(ProofState.SPENT, ODD_WITNESS), (ProofState.SPENT, None)]
    else:
        mint.release(pending)
        expected = [(ProofState.UNSPENT, None)] * 2
    assert [(entry.state, entry.witness) for entry in mint.state_entries(spending.proofs)] == expected


@pytest.mark.parametrize("way_name", ["swap", "melt"])
def test_subscribers_are_told_what_checkstate_answers(mint: Mint, alice: Wallet, way_name: str) -> None:
    spending = (swap_of if way_name == "swap" else melt_of)(mint, alice, lock(mint, alice, htlc(), "plain"))
    mint.events.clear()
    spending.run(ODD_WITNESS)
    told = [event.states for event in mint.events if isinstance(event, ProofsChanged)]
    assert told == [tuple(mint.state_entries(spending.proofs))]
    if way_name == "melt":
        mint.events.clear()
        mint.settle(mint.ledger.pending_melts()[0])
        told = [event.states for event in mint.events if isinstance(event, ProofsChanged)]
        assert told == [tuple(mint.state_entries(spending.proofs))]
        assert told[0][0].witness == ODD_WITNESS


def test_with_sig_all_the_first_input_has_the_witness(mint: Mint, alice: Wallet) -> None:
    spending = swap_of(mint, alice, lock(mint, alice, *(htlc(pubkeys(ALICE), SIG_ALL) for _ in range(3))))
    text = witness(ALICE.sign(spending.message), preimage=RIGHT)
    spending.run(text)
    assert [entry.witness for entry in mint.state_entries(spending.proofs)] == [text, None, None]


def test_a_witness_that_was_not_needed_is_shown_all_the_same(mint: Mint, alice: Wallet) -> None:
    """After the locktime anyone may spend; what was sent with it belongs to the record."""
    spending = swap_of(mint, alice, lock(mint, alice, htlc(locktime(NOW - 1)), htlc(locktime(NOW - 1))))
    spending.run(witness(preimage=RIGHT), None)
    shown = [entry.witness for entry in mint.state_entries(spending.proofs)]
    assert shown == [witness(preimage=RIGHT), None]


def test_a_refused_witness_is_not_kept(mint: Mint, alice: Wallet, way: Way) -> None:
    spending = way(mint, alice, lock(mint, alice, htlc()))
    with pytest.raises(Exception, match="preimage"):
        spending.run(witness(preimage=b"\x01" * 32))
    (entry,) = mint.state_entries(spending.proofs)
    assert (entry.state, entry.witness) == (ProofState.UNSPENT, None)
    assert mint.value("SELECT count(*) FROM proofs") == 0


def test_secrets_of_other_kinds_have_no_witness_to_show(mint: Mint, alice: Wallet, way: Way) -> None:
    secrets = ["plain", well_known("P2XX", {"nonce": "x", "data": "y"}), p2pk(ALICE)[:-1]]
    spending = way(mint, alice, lock(mint, alice, *secrets))
    spending.run(*[ODD_WITNESS] * 3)
    assert mint.value("SELECT count(*) FROM proofs WHERE witness IS NOT NULL") == 0
