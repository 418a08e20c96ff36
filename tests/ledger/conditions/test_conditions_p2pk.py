"""P2PK (NUT-11): who may spend, and when."""

from __future__ import annotations

import pytest

from ledger.errors import Code
from tests.ledger.conditions.helpers import (
    ALICE,
    BOB,
    CAROL,
    DAVE,
    ERIN,
    MALLORY,
    Key,
    Way,
    lock,
    locktime,
    p2pk,
    pubkeys,
    refund,
    refusal,
    signed,
    swap_of,
    unmet,
    witness,
)
from tests.ledger.helpers import NOW, Mint, Wallet

NO_WITNESS = [None, "", "{}", "null", "[]", "7", "not JSON", '"signatures"', '["signatures"]']
EMPTY_WITNESS = [witness(), '{"signatures": null}', '{"signatures": {}}', '{"signatures": "ab"}', '{"other": []}']
JUNK_SIGNATURES = [
    "",
    "00",
    "zz" * 64,
    "00" * 63,
    "00" * 64,
    "ff" * 64,
    "00" * 65,
    7,
    None,
    ["00" * 64],
    {"a": "b"},
    True,
]


# --- one key ----------------------------------------------------------------------------------------------------------


def test_its_key_can_spend(mint: Mint, alice: Wallet, way: Way) -> None:
    secret = p2pk(ALICE)
    way(mint, alice, lock(mint, alice, secret)).run(signed(secret, ALICE))


@pytest.mark.parametrize("text", NO_WITNESS)
def test_without_a_witness_it_is_refused_in_the_words_that_wallets_look_for(
    mint: Mint, alice: Wallet, way: Way, text: str | None
) -> None:
    spending = way(mint, alice, lock(mint, alice, p2pk(ALICE)))
    with unmet(mint):
        spending.run(text)
    assert "no witness for p2pk: signatures not provided" in refusal(spending, text).detail


@pytest.mark.parametrize("text", EMPTY_WITNESS)
def test_a_witness_without_signatures_meets_nothing(mint: Mint, alice: Wallet, way: Way, text: str) -> None:
    spending = way(mint, alice, lock(mint, alice, p2pk(ALICE)))
    with unmet(mint):
        spending.run(text)
    assert "witness" in (detail := refusal(spending, text).detail)
    assert "p2pk" in detail
    assert "signatures" in detail


def test_another_key_or_another_message_is_refused(mint: Mint, alice: Wallet, way: Way) -> None:
    secret, other = p2pk(ALICE), p2pk(ALICE)
    spending = way(mint, alice, lock(mint, alice, secret))
    for text in (signed(secret, MALLORY), witness(ALICE.sign(other)), witness(ALICE.sign(secret + " "))):
        with unmet(mint):
            spending.run(text)
    spending.run(signed(secret, ALICE))


def test_each_input_needs_its_own_signature(mint: Mint, alice: Wallet, way: Way) -> None:
    secrets = [p2pk(ALICE), "plain", p2pk(ALICE), p2pk(BOB)]
    spending = way(mint, alice, lock(mint, alice, *secrets))
    first, third, fourth = signed(secrets[0], ALICE), signed(secrets[2], ALICE), signed(secrets[3], BOB)
    for texts in ([first], [first, None, first, fourth], [third, None, first, fourth], [first, None, third, third]):
        with unmet(mint):
            spending.run(*texts)
    spending.run(first, None, third, fourth)


@pytest.mark.parametrize("hex_key", [ALICE.hex, ALICE.twin, ALICE.hex.upper(), BOB.hex, BOB.twin])
def test_only_the_x_coordinate_of_a_key_counts(mint: Mint, alice: Wallet, way: Way, hex_key: str) -> None:
    owner = next(key for key in (ALICE, BOB) if key.hex[2:] == hex_key[2:].lower())
    secret = p2pk(hex_key)
    way(mint, alice, lock(mint, alice, secret)).run(signed(secret, owner))


def test_a_signature_may_be_in_upper_case(mint: Mint, alice: Wallet, way: Way) -> None:
    secret = p2pk(ALICE)
    way(mint, alice, lock(mint, alice, secret)).run(witness(ALICE.sign(secret).upper()))


# --- several keys -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("needed", "signers", "enough"),
    [
        (None, [BOB], True),
        (None, [MALLORY], False),
        ("1", [CAROL], True),
        ("2", [ALICE], False),
        ("2", [ALICE, MALLORY], False),
        ("2", [BOB, CAROL], True),
        ("2", [CAROL, ALICE, BOB], True),
        ("3", [ALICE, BOB], False),
        ("3", [CAROL, BOB, ALICE], True),
    ],
)
def test_as_many_keys_as_n_sigs_must_have_signed(
    mint: Mint, alice: Wallet, way: Way, needed: str | None, signers: list[Key], enough: bool
) -> None:
    secret = p2pk(ALICE, pubkeys(BOB, CAROL), *([] if needed is None else [["n_sigs", needed]]))
    spending = way(mint, alice, lock(mint, alice, secret))
    if enough:
        spending.run(signed(secret, *signers))
    else:
        with unmet(mint):
            spending.run(signed(secret, *signers))


def test_keys_are_counted_and_not_signatures(mint: Mint, alice: Wallet, way: Way) -> None:
    secret = p2pk(ALICE, pubkeys(BOB), ["n_sigs", "2"])
    spending = way(mint, alice, lock(mint, alice, secret))
    several = [ALICE.sign(secret, aux) for aux in (b"1", b"2", b"3")]
    assert len(set(several)) == 3
    for texts in (several, [several[0]] * 3):
        with unmet(mint):
            spending.run(witness(*texts))
    spending.run(witness(*several, BOB.sign(secret)))


def test_further_signatures_do_no_harm(mint: Mint, alice: Wallet, way: Way) -> None:
    """Invalid, repeated, of strangers, of no form at all: a valid set among them is a valid set."""
    secret = p2pk(ALICE, pubkeys(BOB, CAROL), ["n_sigs", "2"])
    good = [ALICE.sign(secret), BOB.sign(secret)]
    other = [*JUNK_SIGNATURES, ALICE.sign("other"), MALLORY.sign(secret), good[0], good[0].upper(), CAROL.sign("x")]
    way(mint, alice, lock(mint, alice, secret)).run(witness(*other, *good, *other, other=1))


def test_eleven_keys_are_possible(mint: Mint, alice: Wallet, way: Way) -> None:
    """As many as NUT-28 has slots, and all have to sign."""
    keys = [Key(number) for number in range(2000, 2011)]
    secret = p2pk(keys[0], pubkeys(*keys[1:]), ["n_sigs", "11"])
    spending = way(mint, alice, lock(mint, alice, secret))
    with unmet(mint):
        spending.run(signed(secret, *keys[:-1]))
    spending.run(signed(secret, *reversed(keys)))


# --- time -------------------------------------------------------------------------------------------------------------


def test_the_refund_keys_can_spend_after_the_locktime_and_not_at_it(mint: Mint, alice: Wallet, way: Way) -> None:
    secret = p2pk(ALICE, locktime(NOW + 10), refund(DAVE, ERIN))
    spending = way(mint, alice, lock(mint, alice, secret))
    for _ in range(2):  # before it, and in the very second
        with unmet(mint):
            spending.run(signed(secret, DAVE))
        mint.clock.advance(10)
    mint.clock.advance(-9)
    assert mint.clock.now == NOW + 11
    spending.run(signed(secret, ERIN))


def test_the_main_pathway_is_open_before_and_after_the_locktime(mint: Mint, alice: Wallet, way: Way) -> None:
    for moment in (NOW - 1, NOW, NOW + 1):
        secret = p2pk(ALICE, locktime(moment), refund(DAVE))
        way(mint, alice, lock(mint, alice, secret)).run(signed(secret, ALICE))


def test_the_refund_has_a_count_of_its_own(mint: Mint, alice: Wallet, way: Way) -> None:
    tags = (pubkeys(BOB, CAROL), ["n_sigs", "3"], refund(DAVE, ERIN), ["n_sigs_refund", "2"], locktime(NOW - 1))
    secret = p2pk(ALICE, *tags)
    spending = way(mint, alice, lock(mint, alice, secret))
    for signers in ([DAVE], [ERIN], [ALICE, BOB]):
        with unmet(mint):
            spending.run(signed(secret, *signers))
    spending.run(signed(secret, ERIN, DAVE))


def test_without_a_count_one_refund_key_is_enough(mint: Mint, alice: Wallet, way: Way) -> None:
    secret = p2pk(ALICE, pubkeys(BOB), ["n_sigs", "2"], refund(DAVE, ERIN), locktime(NOW - 1))
    way(mint, alice, lock(mint, alice, secret)).run(signed(secret, ERIN))


def test_signatures_are_not_added_up_across_the_pathways(mint: Mint, alice: Wallet, way: Way) -> None:
    secret = p2pk(ALICE, pubkeys(BOB), ["n_sigs", "2"], refund(DAVE, ERIN), ["n_sigs_refund", "2"], locktime(NOW - 1))
    spending = way(mint, alice, lock(mint, alice, secret))
    with unmet(mint):
        spending.run(signed(secret, ALICE, DAVE))
    spending.run(signed(secret, ALICE, DAVE, BOB))


def test_a_key_may_stand_in_both_pathways(mint: Mint, alice: Wallet, way: Way) -> None:
    tags = (pubkeys(BOB), ["n_sigs", "2"], refund(ALICE))
    secret = p2pk(ALICE, *tags, locktime(NOW))
    spending = way(mint, alice, lock(mint, alice, secret))
    with unmet(mint):
        spending.run(signed(secret, ALICE))
    mint.clock.advance(1)
    spending.run(signed(secret, ALICE))


def test_after_the_locktime_without_refund_keys_anyone_can_spend(mint: Mint, alice: Wallet, way: Way) -> None:
    secret = p2pk(ALICE, locktime(NOW))
    spending = way(mint, alice, lock(mint, alice, secret))
    for text in (None, signed(secret, MALLORY)):
        with unmet(mint):
            spending.run(text)
    mint.clock.advance(1)
    spending.run(None)


def test_a_refund_tag_without_keys_opens_to_nobody(mint: Mint, alice: Wallet, way: Way) -> None:
    secret = p2pk(ALICE, ["refund"], locktime(NOW - 1))
    spending = way(mint, alice, lock(mint, alice, secret))
    for text in (None, signed(secret, MALLORY)):
        with unmet(mint):
            spending.run(text)
    spending.run(signed(secret, ALICE))


@pytest.mark.parametrize(
    "values", [[], ["soon"], ["-1"], ["1.5"], ["1e3"], [" 1"], ["0x1"], ["1", "2"], ["9" * 30], ["\uff11"]]
)
def test_a_locktime_that_is_no_time_locks_for_ever(mint: Mint, alice: Wallet, way: Way, values: list[str]) -> None:
    secret = p2pk(ALICE, ["locktime", *values], refund(DAVE))
    nobody = p2pk(ALICE, ["locktime", *values])
    spending, open_one = (way(mint, alice, lock(mint, alice, each)) for each in (secret, nobody))
    mint.clock.advance(3000)
    with unmet(mint):
        spending.run(signed(secret, DAVE))
    with unmet(mint):
        open_one.run(None)
    spending.run(signed(secret, ALICE))


def test_a_locktime_of_zero_is_long_past(mint: Mint, alice: Wallet, way: Way) -> None:
    way(mint, alice, lock(mint, alice, p2pk(ALICE, locktime(0)))).run(None)


def test_without_a_locktime_there_is_no_refund(mint: Mint, alice: Wallet, way: Way) -> None:
    secret = p2pk(ALICE, refund(DAVE))
    spending = way(mint, alice, lock(mint, alice, secret))
    with unmet(mint):
        spending.run(signed(secret, DAVE))


# --- where conditions stand among the other rules ---------------------------------------------------------------------


def test_who_cannot_make_the_proof_learns_nothing_of_its_condition(mint: Mint, alice: Wallet, way: Way) -> None:
    """A proof that isn't the mint's is refused as that, whatever its witness."""
    secret = p2pk(ALICE)
    (proof,) = lock(mint, alice, secret)
    forged = proof.model_copy(update={"secret": p2pk(ALICE)})
    error = refusal(way(mint, alice, [forged]), None)
    assert (error.code, "witness" in error.detail) == (Code.PROOF_INVALID, False)


def test_an_unmet_condition_does_not_spend_the_inputs_that_are_met(mint: Mint, alice: Wallet, way: Way) -> None:
    first, second = p2pk(ALICE), p2pk(BOB)
    proofs = lock(mint, alice, first, second)
    both = way(mint, alice, proofs)
    with unmet(mint):
        both.run(signed(first, ALICE))
    swap_of(mint, alice, proofs[:1]).run(signed(first, ALICE))
