"""Blind signatures: what the vectors don't say. The properties hold for any secret, key and blinding factor."""

from __future__ import annotations

import hashlib

import pytest
from coincurve import PrivateKey, PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import curve
from ledger.curve import Dleq
from ledger.keysets import DENOMINATIONS, derive_private_keys
from tests.ledger.helpers import NO_POINT, SEED

G = PrivateKey((1).to_bytes(32, "big")).public_key.format()
ORDER = curve.GROUP_ORDER.to_bytes(32, "big")
ZERO = bytes(32)

scalars = st.integers(1, curve.GROUP_ORDER - 1).map(lambda value: value.to_bytes(32, "big"))
secrets = st.text(st.characters(exclude_categories=["Cs"]))
QUICK = settings(max_examples=50, deadline=None, derandomize=True, database=None)


@QUICK
@given(secret=secrets, private_key=scalars, blinding_factor=scalars)
def test_an_unblinded_signature_verifies_and_its_dleq_too(
    secret: str, private_key: bytes, blinding_factor: bytes
) -> None:
    key = curve.public_key(private_key)
    b_ = curve.blind(secret, blinding_factor)
    signature = curve.sign(private_key, b_)
    c = curve.unblind(signature.c_, blinding_factor, key)
    assert curve.verify(private_key, curve.hash_to_curve(secret.encode()), c)
    assert curve.verify_dleq(key, b_, signature.c_, signature.dleq)


@QUICK
@given(secret=secrets, private_key=scalars, other_key=scalars, blinding_factor=scalars)
def test_a_signature_by_another_key_does_not_verify(
    secret: str, private_key: bytes, other_key: bytes, blinding_factor: bytes
) -> None:
    if private_key == other_key:
        return
    b_ = curve.blind(secret, blinding_factor)
    signature = curve.sign(other_key, b_)
    c = curve.unblind(signature.c_, blinding_factor, curve.public_key(other_key))
    assert not curve.verify(private_key, curve.hash_to_curve(secret.encode()), c)
    assert not curve.verify_dleq(curve.public_key(private_key), b_, signature.c_, signature.dleq)


@QUICK
@given(secret=secrets, other=secrets, private_key=scalars)
def test_a_signature_is_for_its_own_secret_only(secret: str, other: str, private_key: bytes) -> None:
    if secret == other:
        return
    c = PublicKey(curve.hash_to_curve(secret.encode())).multiply(private_key).format()
    assert curve.verify(private_key, curve.hash_to_curve(secret.encode()), c)
    assert not curve.verify(private_key, curve.hash_to_curve(other.encode()), c)


def test_the_negated_point_is_another_signature() -> None:
    key = (7).to_bytes(32, "big")
    y = curve.hash_to_curve(b"secret")
    c = PublicKey(y).multiply(key).format()
    negated = bytes([c[0] ^ 1]) + c[1:]
    assert curve.verify(key, y, c)
    assert not curve.verify(key, y, negated)


@pytest.mark.parametrize("bad", [b"", G[1:], G + b"\0", bytes(33), b"\x04" + G[1:], b"\x06" + G[1:]])
def test_only_a_compressed_point_is_parsed(bad: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        curve.parse_point(bad)


def test_an_x_off_the_curve_is_no_point() -> None:
    with pytest.raises(ValueError, match=r"."):
        curve.parse_point(bytes.fromhex(NO_POINT))


def test_an_uncompressed_point_is_refused_though_it_is_one() -> None:
    with pytest.raises(ValueError, match=r"33 bytes"):
        curve.parse_point(PublicKey(G).format(compressed=False))


@pytest.mark.parametrize("bad", [b"", b"\1", ZERO, ORDER, b"\xff" * 32, b"\0" + b"\1" * 32])
def test_a_private_key_is_32_bytes_between_zero_and_the_order(bad: bytes) -> None:
    with pytest.raises(ValueError, match=r"private key"):
        curve.public_key(bad)


def test_the_largest_private_key_is_the_order_minus_one() -> None:
    key = (curve.GROUP_ORDER - 1).to_bytes(32, "big")
    assert curve.public_key(key) == b"\x03" + G[1:]


def dleq_of_example() -> tuple[bytes, bytes, curve.BlindSignature]:
    key, b_ = (7).to_bytes(32, "big"), curve.blind("secret", (9).to_bytes(32, "big"))
    return curve.public_key(key), b_, curve.sign(key, b_)


@pytest.mark.parametrize(
    ("e", "s"),
    [
        (b"", None),
        (None, b""),
        (None, b"\1"),
        (ZERO, None),
        (None, ZERO),
        (ORDER, None),
        (None, ORDER),
        (None, b"\xff" * 32),
    ],
)
def test_a_malformed_dleq_is_invalid_and_raises_nothing(e: bytes | None, s: bytes | None) -> None:
    a, b_, signature = dleq_of_example()
    broken = Dleq(signature.dleq.e if e is None else e, signature.dleq.s if s is None else s)
    assert curve.verify_dleq(a, b_, signature.c_, signature.dleq)
    assert not curve.verify_dleq(a, b_, signature.c_, broken)


def test_a_dleq_is_for_one_key_one_message_and_one_signature() -> None:
    a, b_, signature = dleq_of_example()
    assert not curve.verify_dleq(G, b_, signature.c_, signature.dleq)
    assert not curve.verify_dleq(a, G, signature.c_, signature.dleq)
    assert not curve.verify_dleq(a, b_, G, signature.dleq)
    assert not curve.verify_dleq(a, b_, signature.c_, Dleq(signature.dleq.s, signature.dleq.e))


def test_a_point_that_was_decoded_before_is_signed_and_verified_alike() -> None:
    key, b_ = (7).to_bytes(32, "big"), curve.blind("secret", (9).to_bytes(32, "big"))
    assert curve.sign(key, PublicKey(b_)) == curve.sign(key, b_)
    y = curve.hash_to_point(b"secret")
    c = y.multiply(key).format()
    assert y.format() == curve.hash_to_curve(b"secret")
    assert curve.verify(key, y, c)
    assert not curve.verify(key, y, G)
    with pytest.raises(ValueError, match="point"):
        curve.verify(key, y, c[:-1])


def test_signing_the_same_message_again_gives_the_same_signature_and_dleq() -> None:
    key, b_ = (7).to_bytes(32, "big"), curve.blind("secret", (9).to_bytes(32, "big"))
    assert curve.sign(key, b_) == curve.sign(key, b_)


def test_every_message_and_every_key_has_its_own_nonce() -> None:
    keys = list(derive_private_keys(SEED, "sat", 0).values())[:8]
    blinded = [PublicKey(curve.blind(str(n), (n + 1).to_bytes(32, "big"))) for n in range(8)]
    nonces = {
        curve.dleq_nonce(key, *(point.format(compressed=False) for point in (PrivateKey(key).public_key, b_, c_)))
        for key in keys
        for b_ in blinded
        for c_ in [b_.multiply(key)]
    }
    assert len(nonces) == len(keys) * len(blinded)


def test_a_secret_is_hashed_as_text_and_not_as_the_hex_it_may_look_like() -> None:
    secret = "00" * 32
    blinding_factor = (5).to_bytes(32, "big")
    c_ = PublicKey(curve.blind(secret, blinding_factor))
    y = curve.unblind(c_.format(), blinding_factor, G)
    assert y == curve.hash_to_curve(secret.encode()) != curve.hash_to_curve(bytes.fromhex(secret))


def test_a_schnorr_signature_verifies_under_its_key_whatever_the_keys_parity() -> None:
    private_key = PrivateKey((7).to_bytes(32, "big"))
    key = private_key.public_key.format()
    signature = private_key.sign_schnorr(hashlib.sha256(b"message").digest())
    for prefix in (b"\2", b"\3"):
        assert curve.verify_schnorr(prefix + key[1:], signature, b"message")
    assert not curve.verify_schnorr(key, signature, b"another message")
    assert not curve.verify_schnorr(G, signature, b"message")


@pytest.mark.parametrize(
    ("key", "signature"),
    [(G[1:], bytes(64)), (G, b""), (G, bytes(63)), (G, b"\xff" * 64), (bytes.fromhex(NO_POINT), bytes(64))],
)
def test_a_malformed_schnorr_signature_or_key_is_invalid_and_raises_nothing(key: bytes, signature: bytes) -> None:
    assert not curve.verify_schnorr(key, signature, b"message")


def test_derived_keys_differ_by_seed_unit_counter_and_amount() -> None:
    sets = [
        derive_private_keys(SEED, "sat", 0),
        derive_private_keys(SEED, "sat", 1),
        derive_private_keys(SEED, "msat", 0),
        derive_private_keys(SEED[::-1], "sat", 0),
    ]
    keys = {key for each in sets for key in each.values()}
    assert len(keys) == len(sets) * len(DENOMINATIONS)


def test_derived_keys_are_pinned() -> None:
    """Another derivation would make every proof of a running mint invalid."""
    keys = derive_private_keys(SEED, "sat", 0)
    assert list(keys) == [2**order for order in range(61)]
    digest = hashlib.sha256(b"".join(keys.values())).hexdigest()
    assert digest == "98c38b1be2c97b2ccb66f389946c119c329fb013fbf51186a30d233cd46911db"
