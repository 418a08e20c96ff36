"""What makes a condition malformed (10001: nobody can spend it), and what does not make a secret a condition."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ledger.models import ProofState
from tests.ledger.conditions.helpers import (
    ALICE,
    BOB,
    CAROL,
    HASHLOCK,
    RIGHT,
    Spending,
    Way,
    htlc,
    lock,
    malformed,
    melt_of,
    p2pk,
    pubkeys,
    refund,
    signed,
    swap_of,
    unmet,
    well_known,
    witness,
)
from tests.ledger.helpers import NO_POINT, Mint, Wallet

KNOWN_TAGS: dict[str, list[str]] = {
    "sigflag": ["sigflag", "SIG_INPUTS"],
    "pubkeys": ["pubkeys", BOB.hex],
    "n_sigs": ["n_sigs", "1"],
    "locktime": ["locktime", "5"],
    "refund": ["refund", BOB.hex],
    "n_sigs_refund": ["n_sigs_refund", "1"],
}
BAD_KEYS = {
    "x only": ALICE.hex[2:],
    "uncompressed": "04" + ALICE.hex[2:] * 2,
    "other prefix": "05" + ALICE.hex[2:],
    "no point": NO_POINT,
    "too short": ALICE.hex[:-2],
    "too long": ALICE.hex + "00",
    "not hex": "02" + "g" * 64,
    "spaces": " " + ALICE.hex,
    "line feed": ALICE.hex + "\n",
    "full-width digits": "02" + "\uff11" * 64,
    "a number in words": "key",
}
BAD_COUNTS = [
    "0",
    "-1",
    "+1",
    "two",
    "1.0",
    "1e0",
    " 1",
    "1 ",
    "1\n",
    "0x1",
    "4",
    "99999999999999999999999",
    "\uff11",
    "\u00b9",
]
BAD_TAGS: dict[str, Any] = {
    "no list": {"sigflag": "SIG_INPUTS"},
    "a text": "sigflag",
    "a number": 5,
    "true": True,
    "a tag that is a text": ["sigflag"],
    "a tag that is an object": [{"sigflag": "SIG_INPUTS"}],
    "a tag that is null": [None],
    "an empty tag": [[]],
    "a number in a tag": [["locktime", 5]],
    "a number as name": [[5, "x"]],
    "null in a tag": [["memo", None]],
    "a list in a tag": [["pubkeys", [BOB.hex]]],
    "an empty text in a tag": [["memo", ""]],
    "an empty name": [["", "x"]],
    "true in a tag": [["memo", True]],
    "one bad tag among good ones": [["memo", "x"], ["n_sigs", "1"], ["note", 1]],
}
BAD_BODIES: dict[str, Any] = {
    "no nonce": {"data": ALICE.hex},
    "nonce a number": {"nonce": 1, "data": ALICE.hex},
    "nonce null": {"nonce": None, "data": ALICE.hex},
    "no data": {"nonce": "x"},
    "data a number": {"nonce": "x", "data": 2},
    "data null": {"nonce": "x", "data": None},
    "data a list": {"nonce": "x", "data": [ALICE.hex]},
    "empty data": {"nonce": "x", "data": ""},
    "empty object": {},
    "a list": [],
    "a text": "x",
    "a number": 7,
    "null": None,
}


def spend(mint: Mint, wallet: Wallet, way: Way, secret: str) -> Spending:
    return way(mint, wallet, lock(mint, wallet, secret))


def assert_malformed(mint: Mint, wallet: Wallet, secret: str) -> None:
    """Neither swap nor melt take it, whatever witness could meet the condition if it were read leniently."""
    proofs = lock(mint, wallet, secret)
    for way in (swap_of, melt_of):
        spending = way(mint, wallet, proofs)
        for text in (None, signed(secret, ALICE, BOB, CAROL), signed(secret, ALICE, BOB, CAROL, preimage=RIGHT)):
            with malformed(mint):
                spending.run(text)


# --- malformed --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["P2PK", "HTLC"])
@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=list(BAD_BODIES))
def test_the_body_must_have_nonce_and_data(mint: Mint, alice: Wallet, kind: str, body: Any) -> None:
    assert_malformed(mint, alice, well_known(kind, body))


@pytest.mark.parametrize("kind", ["P2PK", "HTLC"])
def test_the_secret_must_have_kind_and_body_and_no_more(mint: Mint, alice: Wallet, kind: str) -> None:
    body = json.loads(p2pk(ALICE) if kind == "P2PK" else htlc())[1]
    for content in ([kind], [kind, body, "more"], [kind, body, None], [kind, body, body]):
        assert_malformed(mint, alice, json.dumps(content))


@pytest.mark.parametrize("tags", BAD_TAGS.values(), ids=list(BAD_TAGS))
def test_tags_are_lists_of_texts_that_are_not_empty(mint: Mint, alice: Wallet, tags: Any) -> None:
    assert_malformed(mint, alice, p2pk(ALICE, tags=tags))
    assert_malformed(mint, alice, htlc(tags=tags))


@pytest.mark.parametrize("tag", KNOWN_TAGS)
def test_each_tag_may_stand_once(mint: Mint, alice: Wallet, tag: str) -> None:
    needed = {"n_sigs_refund": [refund(CAROL)]}.get(tag, [])
    once, again = KNOWN_TAGS[tag], [tag]
    assert_malformed(mint, alice, p2pk(ALICE, *needed, once, once))
    assert_malformed(mint, alice, p2pk(ALICE, *needed, once, again))


@pytest.mark.parametrize("values", [["SIG_NONE"], ["sig_all"], ["SIG_ALL "], ["SIG_INPUTS", "SIG_ALL"], []])
def test_another_sigflag_is_malformed(mint: Mint, alice: Wallet, values: list[str]) -> None:
    assert_malformed(mint, alice, p2pk(ALICE, ["sigflag", *values]))


@pytest.mark.parametrize("count", BAD_COUNTS)
def test_n_sigs_is_a_number_from_one_to_the_number_of_keys(mint: Mint, alice: Wallet, count: str) -> None:
    assert_malformed(mint, alice, p2pk(ALICE, pubkeys(BOB, CAROL), ["n_sigs", count]))
    assert_malformed(mint, alice, p2pk(ALICE, refund(ALICE, BOB, CAROL), ["n_sigs_refund", count]))


@pytest.mark.parametrize("values", [[], ["1", "1"]], ids=["none", "two"])
@pytest.mark.parametrize("tag", ["n_sigs", "n_sigs_refund"])
def test_a_count_has_one_value(mint: Mint, alice: Wallet, tag: str, values: list[str]) -> None:
    assert_malformed(mint, alice, p2pk(ALICE, refund(BOB), [tag, *values]))


@pytest.mark.parametrize(
    "secret",
    [
        p2pk(ALICE, ["n_sigs", "2"]),
        p2pk(ALICE, ["pubkeys"], ["n_sigs", "2"]),
        p2pk(ALICE, pubkeys(BOB), ["n_sigs", "3"]),
        p2pk(ALICE, ["n_sigs_refund", "1"]),
        p2pk(ALICE, ["refund"], ["n_sigs_refund", "1"]),
        p2pk(ALICE, refund(BOB), ["n_sigs_refund", "2"]),
        htlc(["n_sigs", "1"]),
        htlc(["pubkeys"], ["n_sigs", "1"]),
        htlc(pubkeys(ALICE), ["n_sigs", "2"]),
    ],
)
def test_more_signers_than_keys_is_malformed(mint: Mint, alice: Wallet, secret: str) -> None:
    """In an HTLC `data` is no key, so only `pubkeys` count."""
    assert_malformed(mint, alice, secret)


@pytest.mark.parametrize("key", BAD_KEYS.values(), ids=list(BAD_KEYS))
def test_a_key_is_a_compressed_point(mint: Mint, alice: Wallet, key: str) -> None:
    assert_malformed(mint, alice, p2pk(key))
    assert_malformed(mint, alice, p2pk(ALICE, ["pubkeys", BOB.hex, key]))
    assert_malformed(mint, alice, p2pk(ALICE, ["refund", key]))
    assert_malformed(mint, alice, htlc(["pubkeys", key]))


@pytest.mark.parametrize(
    "secret",
    [
        p2pk(ALICE, pubkeys(ALICE)),
        p2pk(ALICE, pubkeys(BOB, BOB)),
        p2pk(ALICE, ["pubkeys", ALICE.twin]),
        p2pk(ALICE, ["pubkeys", BOB.hex, BOB.twin.upper()]),
        p2pk(ALICE, refund(BOB, CAROL, BOB)),
        p2pk(ALICE, ["refund", BOB.hex, BOB.twin]),
        htlc(pubkeys(BOB, BOB)),
        htlc(["pubkeys", BOB.hex, BOB.twin]),
    ],
)
def test_a_key_stands_once_in_a_pathway(mint: Mint, alice: Wallet, secret: str) -> None:
    assert_malformed(mint, alice, secret)


@pytest.mark.parametrize(
    "data", [HASHLOCK[:-1], HASHLOCK[:-2], HASHLOCK + "00", "g" * 64, "0x" + HASHLOCK[2:], ALICE.hex, " " + HASHLOCK]
)
def test_the_hash_of_an_htlc_is_32_bytes_in_hex(mint: Mint, alice: Wallet, data: str) -> None:
    assert_malformed(mint, alice, htlc(data=data))


def test_one_malformed_input_spoils_the_others(mint: Mint, alice: Wallet, way: Way) -> None:
    good, bad = p2pk(ALICE), p2pk(ALICE, ["n_sigs", "0"])
    spending = way(mint, alice, lock(mint, alice, "plain", good, bad))
    with malformed(mint):
        spending.run(None, signed(good, ALICE), signed(bad, ALICE))


# --- well formed, though unusual --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "secret",
    [
        p2pk(ALICE, tags=None),
        p2pk(ALICE, tags=[]),
        p2pk(ALICE, nonce=""),
        p2pk(ALICE, ["pubkeys"]),
        p2pk(ALICE, ["refund"]),
        p2pk(ALICE, ["locktime"]),
        p2pk(ALICE, ["n_sigs", "1"]),
        p2pk(ALICE, ["memo"], ["memo", "a"], ["memo", "b", "c"], ["SIGFLAG", "?"]),
        p2pk(ALICE, more={"deep": [1, 2.5, None]}),
        p2pk(ALICE.hex.upper().replace("X", "x")),
        p2pk(ALICE.twin),
        p2pk(ALICE, pubkeys(BOB), refund(ALICE, BOB)),
        p2pk(ALICE, *(tag for name, tag in KNOWN_TAGS.items() if name != "refund"), refund(CAROL)),
        " \r\n\t" + json.dumps(json.loads(p2pk(ALICE)), indent=2) + "\n",
        p2pk(ALICE).replace("P2PK", "P2\\u0050K").replace("data", "d\\u0061ta"),
        p2pk(ALICE, ["memo", "\u20bf \U0001f95c \u0000"]),
    ],
)
def test_it_is_a_condition_like_any_other(mint: Mint, alice: Wallet, way: Way, secret: str) -> None:
    """Tags may be missing, empty or unknown, keys in any case, and the JSON written in any way; what is signed is the
    text as it came."""
    spending = spend(mint, alice, way, secret)
    rewritten = json.dumps(json.loads(secret), separators=(",", ":"))
    if rewritten != secret:
        with unmet(mint):
            spending.run(signed(rewritten, ALICE))
    spending.run(signed(secret, ALICE))


@pytest.mark.parametrize("data", [HASHLOCK, HASHLOCK.upper()])
def test_the_case_of_a_hash_does_not_matter(mint: Mint, alice: Wallet, way: Way, data: str) -> None:
    spend(mint, alice, way, htlc(data=data)).run(witness(preimage=RIGHT))


# --- ordinary secrets -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "secret",
    [
        "ab" * 32,
        "",
        "P2PK",
        "null",
        "[]",
        "[[]]",
        "7",
        "{}",
        json.dumps({"kind": "P2PK", "data": ALICE.hex}),
        json.dumps("P2PK"),
        json.dumps([["P2PK"], {"nonce": "x", "data": ALICE.hex}]),
        p2pk(ALICE)[:-1],
        p2pk(ALICE) + "x",
        p2pk(ALICE).replace("P2PK", "p2pk"),
        p2pk(ALICE).replace("P2PK", "P2PK "),
        p2pk(ALICE).replace("P2PK", "P2SH"),
        well_known("DLC", {"nonce": "x", "data": "y", "tags": [["n_sigs", "0"]]}),
        json.dumps([None, {}]),
        json.dumps([{"P2PK": 1}, {}]),
        json.dumps([0, {}]),
        "\ufeff" + p2pk(ALICE),
    ],
)
def test_a_secret_of_no_known_kind_needs_no_witness(mint: Mint, alice: Wallet, way: Way, secret: str) -> None:
    """Whoever has the proof can spend it, as NUT-10 allows; a witness is ignored and not kept."""
    spending = spend(mint, alice, way, secret)
    spending.run(witness("00"))
    assert mint.value("SELECT witness FROM proofs WHERE secret = (SELECT secret FROM proofs ORDER BY n DESC)") is None


def test_a_nut10_secret_of_another_kind_shows_no_witness(mint: Mint, alice: Wallet) -> None:
    spending = swap_of(mint, alice, lock(mint, alice, well_known("P2XY", {"nonce": "x", "data": "y"}), "plain"))
    spending.run(witness("00"), witness("00"))
    for entry in mint.state_entries(spending.proofs):
        assert (entry.state, entry.witness) == (ProofState.SPENT, None)
