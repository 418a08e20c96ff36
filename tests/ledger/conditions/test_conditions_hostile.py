"""Secrets and witnesses written to do harm: they are refused or harmless, and cost little."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger import conditions, curve
from ledger.conditions.witness import MAX_VERIFICATIONS
from ledger.errors import Code, LedgerError
from ledger.models import MAX_ARRAY_LENGTH, MAX_SECRET_LENGTH, MAX_WITNESS_LENGTH, Proof
from tests.ledger.conditions.helpers import (
    ALICE,
    BOB,
    CAROL,
    HASHLOCK,
    RIGHT,
    SIG_ALL,
    Key,
    Way,
    htlc,
    lock,
    locktime,
    melt_of,
    p2pk,
    pubkeys,
    refusal,
    signed,
    swap_of,
    unmet,
    well_known,
    witness,
)
from tests.ledger.helpers import NOW, Mint, Wallet, refused

EXAMPLES = 400
MANY_KEYS = [Key(9000 + number) for number in range(50)]
MANY_SIGNATURES = 60
VALID = "5a" * 64

DEEP = 3000
HUGE_NUMBER = "9" * 3500
BODY = f'"nonce":"x","data":"{ALICE.hex}"'
HOSTILE_SECRETS = {
    "deep lists": "[" * DEEP + "]" * 0,
    "deep lists, closed": "[" * (DEEP // 2) + "]" * (DEEP // 2),
    "deep objects": '[{"":' * 500 + "0" + "}]" * 500,
    "deep in a condition": f'["P2PK",{{{BODY},"more":{"[" * 1500}{"]" * 1500}}}]',
    "deep tags": f'["P2PK",{{{BODY},"tags":{"[" * 1500}{"]" * 1500}}}]',
    "huge number": f"[{HUGE_NUMBER}]",
    "huge number in a condition": f'["P2PK",{{{BODY},"more":{HUGE_NUMBER}}}]',
    "huge exponent": f'["P2PK",{{{BODY},"more":1e{"9" * 300}}}]',
    "huge count": f'["P2PK",{{{BODY},"tags":[["n_sigs","{HUGE_NUMBER}"]]}}]',
    "huge locktime": f'["P2PK",{{{BODY},"tags":[["locktime","{HUGE_NUMBER}"]]}}]',
    "NaN": f'["P2PK",{{{BODY},"more":NaN}}]',
    "NaN as data": '["P2PK",{"nonce":"x","data":NaN}]',
    "infinite tags": f'["P2PK",{{{BODY},"tags":-Infinity}}]',
    "a number for a name": f'["P2PK",{{{BODY},"tags":[[NaN,"x"]]}}]',
    "surrogates": f'["P2PK",{{{BODY},"tags":[["\\ud800","\\udfff"]]}}]',
    "surrogate for a nonce": f'["P2PK",{{"nonce":"\\ud800","data":"{ALICE.hex}"}}]',
    "surrogate for a key": '["P2PK",{"nonce":"x","data":"\\ud800"}]',
    "surrogate for a hash": '["HTLC",{"nonce":"x","data":"\\udc00\\ud800"}]',
    "surrogate for a flag": f'["P2PK",{{{BODY},"tags":[["sigflag","\\ud800"]]}}]',
    "surrogate for a count": f'["P2PK",{{{BODY},"tags":[["n_sigs","\\ud800"]]}}]',
    "surrogate for a time": f'["P2PK",{{{BODY},"tags":[["locktime","\\ud800"]]}}]',
    "NUL": f'["P2PK",{{{BODY},"tags":[["sigflag","SIG_ALL\\u0000"]]}}]',
    "raw NUL": f'["P2PK\0",{{{BODY}}}]',
    "control characters": f'["P2PK",{{{BODY},\n"tags":[["memo","\n"]]}}]',
    "other digits": f'["P2PK",{{{BODY},"tags":[["n_sigs","\u0661"],["locktime","\u0967"]]}}]',
    "two data": f'["P2PK",{{{BODY},"data":"{BOB.hex}"}}]',
    "two tags": f'["P2PK",{{{BODY},"tags":[["sigflag","SIG_ALL"]],"tags":[]}}]',
    "kind twice": f'["P2PK","P2PK",{{{BODY}}}]',
    "many tags": well_known("P2PK", {"nonce": "x", "data": ALICE.hex, "tags": [["a"]] * 600}),
    "many keys": p2pk(ALICE, pubkeys(*MANY_KEYS)),
    "a comment": f'["P2PK",{{{BODY}}}] // yes',
    "a trailing comma": f'["P2PK",{{{BODY},}}]',
    "single quotes": f"['P2PK',{{'nonce':'x','data':'{ALICE.hex}'}}]",
    "spaces of Unicode": f'\u2003["P2PK",{{{BODY}}}]',
    "as long as a secret can be": well_known("P2PK", {"nonce": "x" * 3900, "data": ALICE.hex}),
}
HOSTILE_WITNESSES = {
    "deep lists": "[" * 8000,
    "deep objects": '{"signatures":' * 500 + "0" + "}" * 500,
    "deep signatures": '{"signatures":' + "[" * 3500 + "]" * 3500 + "}",
    "huge number": "9" * 8000,
    "huge signature": '{"signatures":[' + "9" * 8000 + "]}",
    "huge preimage": '{"preimage":' + "9" * 8000 + "}",
    "NaN": '{"signatures":[NaN,-Infinity],"preimage":NaN}',
    "surrogates": '{"signatures":["\\ud800"],"preimage":"\\udfff","\\ud800":1}',
    "other digits": '{"signatures":["' + "\uff11" * 128 + '"],"preimage":"' + "\u0661" * 64 + '"}',
    "NUL": '{"signatures":["\\u0000"],"preimage":"\\u0000"}',
    "two of each": '{"signatures":[],"signatures":["00"],"preimage":"00","preimage":[]}',
    "a string of JSON": json.dumps(witness("00")),
    "booleans": '{"signatures":true,"preimage":false}',
    "an object of signatures": '{"signatures":{"0":"00"}}',
    "nested signatures": '{"signatures":[["00"],[{}],null]}',
    "thousands of signatures": '{"signatures":[' + "1," * 3900 + "1]}",
    "raw NUL": "\0",
    "control characters": '{"signatures":["\n"]}',
    "not closed": '{"signatures":["',
}


@pytest.fixture
def verifications(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts the signature checks instead of making them: `VALID` is valid, no other is."""
    made = [0]

    def count(_key: bytes, signature: bytes, _digest: bytes) -> bool:
        made[0] += 1
        return signature.hex() == VALID

    monkeypatch.setattr(curve, "verify_schnorr_digest", count)
    return made


def refusal_of(act: Callable[[], object]) -> LedgerError | None:
    """The refusal, or None. Any other exception is a failure of the test."""
    try:
        act()
    except LedgerError as error:
        return error
    return None


# --- nothing but refusals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("secret", HOSTILE_SECRETS.values(), ids=list(HOSTILE_SECRETS))
def test_a_hostile_secret_is_refused_or_harmless(mint: Mint, alice: Wallet, secret: str) -> None:
    (proof,) = lock(mint, alice, secret)
    for text in (None, witness(), signed(secret, BOB, preimage=RIGHT)):
        for way in (melt_of, swap_of):
            spending = way(mint, alice, [proof])
            rows = mint.dump()
            error = refusal_of(partial(spending.run, text))
            if error is None:
                return
            assert error.code in (Code.PROOF_INVALID, Code.SIGNATURE_INVALID)
            assert error.detail.encode()
            assert mint.dump() == rows


@pytest.mark.parametrize("text", HOSTILE_WITNESSES.values(), ids=list(HOSTILE_WITNESSES))
@pytest.mark.parametrize("secret", [p2pk(ALICE), htlc(), p2pk(ALICE, SIG_ALL)], ids=["P2PK", "HTLC", "SIG_ALL"])
def test_a_hostile_witness_meets_nothing(mint: Mint, alice: Wallet, secret: str, text: str) -> None:
    assert len(text) <= MAX_WITNESS_LENGTH
    proofs = lock(mint, alice, secret)
    for way in (swap_of, melt_of):
        spending = way(mint, alice, proofs)
        with unmet(mint):
            spending.run(text)


def test_a_hostile_witness_on_an_ordinary_secret_is_ignored(mint: Mint, alice: Wallet) -> None:
    secrets = [f"plain {number}" for number in range(len(HOSTILE_WITNESSES))]
    swap_of(mint, alice, lock(mint, alice, *secrets)).run(*HOSTILE_WITNESSES.values())


def test_secrets_of_the_greatest_length_can_be_spent(mint: Mint, alice: Wallet) -> None:
    secret = p2pk(ALICE, nonce="")
    secret = secret.replace('"nonce":""', f'"nonce":"{"x" * (MAX_SECRET_LENGTH - len(secret))}"')
    assert len(secret) == MAX_SECRET_LENGTH
    text = signed(secret, ALICE)
    swap_of(mint, alice, lock(mint, alice, secret)).run(text + " " * (MAX_WITNESS_LENGTH - len(text)))


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters(codec=None), max_size=8),
    st.sampled_from(
        ["P2PK", "HTLC", "SIG_ALL", "nonce", "data", "tags", ALICE.hex, HASHLOCK, "1", RIGHT.hex(), "00" * 64]
    ),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.sampled_from(["nonce", "data", "tags", "signatures", "preimage", "x", ""]), inner, max_size=4
        ),
    ),
    max_leaves=8,
)
tag_names = st.sampled_from(["sigflag", "pubkeys", "n_sigs", "locktime", "refund", "n_sigs_refund", "memo"])
tags = st.one_of(values, st.lists(st.one_of(values, st.lists(st.one_of(tag_names, scalars), max_size=3)), max_size=4))
bodies = st.one_of(
    values,
    st.fixed_dictionaries(
        {"nonce": st.one_of(st.just("x"), scalars), "data": st.one_of(st.sampled_from([ALICE.hex, HASHLOCK]), values)},
        optional={"tags": tags, "more": values},
    ),
)
secret_contents = st.one_of(values, st.tuples(st.sampled_from(["P2PK", "HTLC"]), bodies))
witness_contents = st.one_of(
    values, st.fixed_dictionaries({}, optional={"signatures": values, "preimage": values, "x": values})
)


@settings(
    derandomize=True, deadline=None, database=None, max_examples=EXAMPLES, suppress_health_check=list(HealthCheck)
)
@given(st.lists(st.tuples(secret_contents, witness_contents), min_size=1, max_size=3), st.integers(0, 40))
def test_json_of_any_shape_raises_nothing_but_a_refusal(contents: list[tuple[Any, Any]], cut: int) -> None:
    """`cut`: the last characters of the texts are missing, now and then."""
    texts = [(json.dumps(secret), json.dumps(text)) for secret, text in contents]
    if cut <= 4:
        texts = [(secret[: len(secret) - cut], text[: len(text) - cut]) for secret, text in texts]
    proofs = [Proof(amount=1, id="00", secret=secret, C=ALICE.hex, witness=text) for secret, text in texts]
    error = refusal_of(partial(conditions.require_met, proofs, [], NOW))
    assert error is None or error.code in (Code.PROOF_INVALID, Code.SIGNATURE_INVALID)
    for proof in proofs:
        error = refusal_of(partial(conditions.has_condition, proof.secret))
        assert error is None or error.code is Code.PROOF_INVALID


# --- little work ------------------------------------------------------------------------------------------------------


def heavy(*tags: list[str], number: int = 0) -> str:
    """A secret with as many keys as it has room for."""
    secret = p2pk(ALICE, pubkeys(*MANY_KEYS), *tags, nonce=str(number))
    assert len(secret) < MAX_SECRET_LENGTH
    return secret


def junk(*last: str) -> str:
    """A witness with as many signatures as it has room for: of the right form, and not valid, but for the last."""
    text = witness(*(f"{number:0128x}" for number in range(MANY_SIGNATURES)), *last)
    assert len(text) < MAX_WITNESS_LENGTH
    return text


def test_an_input_that_is_not_met_ends_the_work(mint: Mint, alice: Wallet, verifications: list[int]) -> None:
    spending = swap_of(mint, alice, lock(mint, alice, *(heavy(number=number) for number in range(20))))
    with unmet(mint):
        spending.run(*[junk()] * 20)
    assert verifications[0] == MANY_SIGNATURES * (len(MANY_KEYS) + 1)


@pytest.mark.parametrize("way", [swap_of, melt_of], ids=["swap", "melt"])
def test_a_request_with_too_much_to_verify_is_refused(
    mint: Mint, alice: Wallet, verifications: list[int], way: Way
) -> None:
    """Each input is met in the end, but only after thousands of signatures that are not."""
    count = MAX_VERIFICATIONS // (len(MANY_KEYS) * MANY_SIGNATURES) + 1
    spending = way(mint, alice, lock(mint, alice, *(heavy(number=number) for number in range(count))))
    with refused(mint, Code.REQUEST_REJECTED):
        spending.run(*[junk(VALID)] * count)
    assert verifications[0] == MAX_VERIFICATIONS
    assert "fewer inputs" in refusal(spending, *[junk(VALID)] * count).detail


def test_with_sig_all_one_input_is_verified_whatever_the_others_bring(
    mint: Mint, alice: Wallet, verifications: list[int]
) -> None:
    spending = swap_of(mint, alice, lock(mint, alice, *(heavy(SIG_ALL, number=number) for number in range(20))))
    with unmet(mint):
        spending.run(*[junk()] * 20)
    assert verifications[0] == MANY_SIGNATURES * (len(MANY_KEYS) + 1)


def test_no_signature_is_verified_where_none_is_needed(mint: Mint, alice: Wallet, verifications: list[int]) -> None:
    """After the locktime without refund keys, with a wrong preimage, with a malformed condition, with no condition."""
    (expired,) = lock(mint, alice, heavy(locktime(0)))
    swap_of(mint, alice, [expired]).run(junk())
    hashed = melt_of(mint, alice, lock(mint, alice, htlc(pubkeys(*MANY_KEYS))))
    with unmet(mint):
        hashed.run(junk())
    proofs = lock(mint, alice, heavy(number=1), heavy(["n_sigs", "0"], number=2), "plain")
    spending = swap_of(mint, alice, proofs)
    with refused(mint, Code.PROOF_INVALID):
        spending.run(*[junk()] * 3)
    swap_of(mint, alice, proofs[2:]).run(junk())
    assert verifications[0] == 0


def test_the_same_signature_again_costs_nothing(mint: Mint, alice: Wallet, verifications: list[int]) -> None:
    spending = swap_of(mint, alice, lock(mint, alice, heavy()))
    with unmet(mint):
        spending.run(witness(*["ab" * 64] * MANY_SIGNATURES))
    assert verifications[0] == len(MANY_KEYS) + 1


def test_a_request_full_of_multisig_is_within_the_limit() -> None:
    """As many inputs as a request can have, signed by two of three keys in the least favourable order."""
    secret = p2pk(ALICE, pubkeys(BOB, CAROL), ["n_sigs", "2"])
    proof = Proof(amount=1, id="00", secret=secret, C=ALICE.hex, witness=signed(secret, CAROL, BOB))
    conditions.require_met([proof] * MAX_ARRAY_LENGTH, [], NOW)
