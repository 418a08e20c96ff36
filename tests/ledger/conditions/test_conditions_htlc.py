"""HTLC (NUT-14): preimage and receiver, or the sender after the locktime."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from tests.ledger.conditions.helpers import (
    ALICE,
    BOB,
    CAROL,
    DAVE,
    MALLORY,
    RIGHT,
    Way,
    htlc,
    lock,
    locktime,
    pubkeys,
    refund,
    refusal,
    signed,
    unmet,
    witness,
)
from tests.ledger.helpers import NOW, Mint, Wallet

WRONG = b"\x2b" * 32
WRONG_PREIMAGES: dict[str, Any] = {
    "none": None,
    "wrong": WRONG,
    "too short": RIGHT[:-1],
    "too long": RIGHT + b"\x00",
    "odd digits": RIGHT.hex()[:-1],
    "empty": "",
    "not hex": "g" * 64,
    "spaced": " ".join(f"{byte:02x}" for byte in RIGHT),
    "full-width digits": "\uff12\uff41" * 32,
    "a number": 42,
    "a list": [RIGHT.hex()],
    "an object": {"preimage": RIGHT.hex()},
    "true": True,
    "its hash's own text": "2a" * 32 + "\n",
}


# --- the receiver -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preimage", [RIGHT.hex(), RIGHT.hex().upper()])
@pytest.mark.parametrize("tags", [[], [["pubkeys"]]], ids=["no tag", "empty tag"])
def test_without_keys_the_preimage_is_enough(
    mint: Mint, alice: Wallet, way: Way, tags: list[list[str]], preimage: str
) -> None:
    way(mint, alice, lock(mint, alice, htlc(*tags))).run(witness(preimage=preimage))


@pytest.mark.parametrize("wrong", WRONG_PREIMAGES.values(), ids=list(WRONG_PREIMAGES))
def test_another_preimage_is_refused_with_and_without_keys(mint: Mint, alice: Wallet, way: Way, wrong: Any) -> None:
    open_one, keyed = htlc(), htlc(pubkeys(ALICE))
    for secret in (open_one, keyed):
        spending = way(mint, alice, lock(mint, alice, secret))
        with unmet(mint):
            spending.run(signed(secret, ALICE, preimage=wrong))


def test_preimages_of_another_length_are_refused_though_they_fit_the_hash(mint: Mint, alice: Wallet, way: Way) -> None:
    for preimage in (b"", b"\x01", b"\x2a" * 31, b"\x2a" * 33, b"\x2a" * 64):
        secret = htlc(data=hashlib.sha256(preimage).hexdigest())
        spending = way(mint, alice, lock(mint, alice, secret))
        with unmet(mint):
            spending.run(witness(preimage=preimage))


def test_with_keys_preimage_and_signature_are_needed(mint: Mint, alice: Wallet, way: Way) -> None:
    secret = htlc(pubkeys(ALICE, BOB))
    spending = way(mint, alice, lock(mint, alice, secret))
    for text in (witness(preimage=RIGHT), signed(secret, ALICE), signed(secret, MALLORY, preimage=RIGHT)):
        with unmet(mint):
            spending.run(text)
    spending.run(signed(secret, BOB, preimage=RIGHT))


def test_n_sigs_counts_the_receivers_keys(mint: Mint, alice: Wallet, way: Way) -> None:
    secret = htlc(pubkeys(ALICE, BOB, CAROL), ["n_sigs", "2"])
    spending = way(mint, alice, lock(mint, alice, secret))
    for signers in ([ALICE], [CAROL, MALLORY]):
        with unmet(mint):
            spending.run(signed(secret, *signers, preimage=RIGHT))
    spending.run(signed(secret, CAROL, ALICE, preimage=RIGHT))


def test_the_receivers_pathway_never_closes(mint: Mint, alice: Wallet, way: Way) -> None:
    for moment in (NOW - 1, NOW, NOW + 1):
        secret = htlc(pubkeys(ALICE), locktime(moment), refund(DAVE))
        way(mint, alice, lock(mint, alice, secret)).run(signed(secret, ALICE, preimage=RIGHT))


# --- the sender -------------------------------------------------------------------------------------------------------


def test_the_sender_needs_no_preimage_after_the_locktime_and_cannot_spend_at_it(
    mint: Mint, alice: Wallet, way: Way
) -> None:
    secret = htlc(pubkeys(ALICE), locktime(NOW), refund(DAVE))
    spending = way(mint, alice, lock(mint, alice, secret))
    with unmet(mint):
        spending.run(signed(secret, DAVE))
    with unmet(mint):
        spending.run(signed(secret, DAVE, preimage=RIGHT))
    mint.clock.advance(1)
    spending.run(signed(secret, DAVE))


@pytest.mark.parametrize("wrong", WRONG_PREIMAGES.values(), ids=list(WRONG_PREIMAGES))
def test_a_wrong_preimage_is_not_in_the_senders_way(mint: Mint, alice: Wallet, way: Way, wrong: Any) -> None:
    secret = htlc(pubkeys(ALICE), locktime(NOW - 1), refund(DAVE))
    way(mint, alice, lock(mint, alice, secret)).run(signed(secret, DAVE, preimage=wrong))


def test_the_refund_keys_have_a_count_of_their_own(mint: Mint, alice: Wallet, way: Way) -> None:
    secret = htlc(pubkeys(ALICE), locktime(NOW - 1), refund(BOB, DAVE), ["n_sigs_refund", "2"])
    spending = way(mint, alice, lock(mint, alice, secret))
    for text in (signed(secret, DAVE), signed(secret, DAVE, ALICE), signed(secret, DAVE, preimage=RIGHT)):
        with unmet(mint):
            spending.run(text)
    spending.run(signed(secret, DAVE, BOB))


def test_after_the_locktime_without_refund_keys_anyone_can_spend(mint: Mint, alice: Wallet, way: Way) -> None:
    secret = htlc(pubkeys(ALICE), locktime(NOW))
    spending = way(mint, alice, lock(mint, alice, secret))
    with unmet(mint):
        spending.run(None)
    mint.clock.advance(1)
    spending.run(None)


def test_without_a_locktime_the_sender_never_gets_it_back(mint: Mint, alice: Wallet, way: Way) -> None:
    secret = htlc(pubkeys(ALICE), refund(DAVE))
    spending = way(mint, alice, lock(mint, alice, secret))
    with unmet(mint):
        spending.run(signed(secret, DAVE, preimage=RIGHT))


# --- what the wallet reads --------------------------------------------------------------------------------------------


def test_the_refusal_says_what_is_missing(mint: Mint, alice: Wallet, way: Way) -> None:
    spending = way(mint, alice, lock(mint, alice, htlc()))
    assert "no witness for htlc: signatures not provided" in refusal(spending, None).detail
    for word in ("witness", "htlc", "preimage", "signatures"):
        assert word in refusal(spending, witness(preimage=WRONG)).detail
