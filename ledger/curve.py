"""Blind signatures on secp256k1: BDHKE (NUT-00), DLEQ proofs (NUT-12) and BIP-340 checks (NUT-20).

Points travel as 33-byte compressed SEC1 encodings, scalars and private keys as 32 bytes big-endian.
Everything here is a pure function; libsecp256k1 does the arithmetic (through coincurve) and releases the
interpreter lock while it does, so larger batches may run in worker threads.
"""

from __future__ import annotations

import hashlib
import hmac
from functools import lru_cache
from typing import NamedTuple

from coincurve import PrivateKey, PublicKey, PublicKeyXOnly

POINT_BYTES = 33
SCALAR_BYTES = 32
SIGNATURE_BYTES = 64

FIELD = (2**256 - 2**32 - 977).to_bytes(32, "big")
GROUP_ORDER = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141

_HASH_TO_CURVE_DOMAIN = b"Secp256k1_HashToCurve_Cashu_"
_HASH_TO_CURVE_TRIES = 1 << 16
_DLEQ_NONCE_DOMAIN = b"Cashu_DLEQ_R_v1"
_DLEQ_NONCE_TRIES = 256
_PUBLIC_KEYS_KEPT = 4096
"""Public keys of private keys that sign: of some sixty keysets."""


class Dleq(NamedTuple):
    """A proof that one private key made both `A = aG` and `C_ = aB_` (NUT-12): two 32-byte scalars."""

    e: bytes
    s: bytes


class BlindSignature(NamedTuple):
    """`C_` (33 bytes) with its DLEQ proof."""

    c_: bytes
    dleq: Dleq


def parse_point(data: bytes) -> PublicKey:
    """Decode a 33-byte compressed point. Raises ValueError for any other length or an x off the curve."""
    if len(data) != POINT_BYTES:
        raise ValueError(f"a compressed point has {POINT_BYTES} bytes, not {len(data)}")
    return PublicKey(data)


def is_point_like(data: bytes) -> bool:
    """Whether these are a compressed point by their form: its sign, and an x of the field. For half of all such x there
    is no point; to find that out (`parse_point`) takes ten times as long."""
    return len(data) == POINT_BYTES and data[0] in (2, 3) and data[1:] < FIELD


def parse_scalar(data: bytes) -> int:
    """Decode a private key. Raises ValueError unless it is 32 bytes in 1 … n-1."""
    value = int.from_bytes(data, "big")
    if len(data) != SCALAR_BYTES or not 0 < value < GROUP_ORDER:
        raise ValueError("a private key is 32 bytes, above zero and below the group order")
    return value


def public_key(private_key: bytes) -> bytes:
    """`kG`, compressed. Raises ValueError for a key outside 1 … n-1."""
    parse_scalar(private_key)
    return PublicKey.from_valid_secret(private_key).format()


def hash_to_curve(message: bytes) -> bytes:
    """The point `Y` that belongs to a secret (NUT-00), compressed; `message` is the secret's UTF-8 text."""
    return hash_to_point(message).format()


def hash_to_point(message: bytes) -> PublicKey:
    """The same, to go on computing with."""
    seed = hashlib.sha256(_HASH_TO_CURVE_DOMAIN + message).digest()
    for counter in range(_HASH_TO_CURVE_TRIES):
        candidate = b"\x02" + hashlib.sha256(seed + counter.to_bytes(4, "little")).digest()
        try:
            return PublicKey(candidate)
        except ValueError:
            continue
    raise ValueError("no curve point found for this secret")  # one chance in 2^65536


def sign(private_key: bytes, b_: bytes | PublicKey) -> BlindSignature:
    """Sign a blinded message: `C_ = kB_` with its DLEQ proof. Raises ValueError for a bad point."""
    blinded = parse_point(b_) if isinstance(b_, bytes) else b_
    c_ = blinded.multiply(private_key)
    return BlindSignature(c_.format(), _prove_dleq(private_key, blinded, c_))


def verify(private_key: bytes, y: bytes | PublicKey, c: bytes) -> bool:
    """Whether `C` is the signature on the secret of `Y`: `C == kY` (NUT-00). Raises ValueError for a bad point."""
    point = parse_point(y) if isinstance(y, bytes) else y
    # A point has one compressed encoding: only one that differs has to be looked at.
    if hmac.compare_digest(point.multiply(private_key).format(), c):
        return True
    parse_point(c)
    return False


def dleq_challenge(r1: bytes, r2: bytes, a: bytes, c_: bytes) -> bytes:
    """The challenge `e` (NUT-12): SHA-256 over the text of the four uncompressed points in hex."""
    return hashlib.sha256((r1 + r2 + a + c_).hex().encode()).digest()


def dleq_nonce(private_key: bytes, a: bytes, b_: bytes, c_: bytes) -> bytes:
    """The deterministic nonce `r` (NUT-12), from uncompressed points; a repeated nonce over two challenges would give
    the key away."""
    for counter in range(_DLEQ_NONCE_TRIES):
        message = _DLEQ_NONCE_DOMAIN + a + b_ + c_ + bytes([counter])
        nonce = hmac.digest(private_key, message, "sha256")
        if 0 < int.from_bytes(nonce, "big") < GROUP_ORDER:
            return nonce
    raise ValueError("no nonce found")


@lru_cache(_PUBLIC_KEYS_KEPT)
def _uncompressed_public_key(private_key: bytes) -> bytes:
    """`kG`, which is part of each proof for this key."""
    return _uncompressed(PublicKey.from_secret(private_key))


def _prove_dleq(private_key: bytes, b_: PublicKey, c_: PublicKey) -> Dleq:
    a, signed = _uncompressed_public_key(private_key), _uncompressed(c_)
    nonce = dleq_nonce(private_key, a, _uncompressed(b_), signed)
    # Not by PrivateKey, which computes the point twice: once more with its y coordinate even (BIP-340).
    r1, r2 = PublicKey.from_valid_secret(nonce), b_.multiply(nonce)
    e = dleq_challenge(_uncompressed(r1), _uncompressed(r2), a, signed)
    s = (int.from_bytes(nonce, "big") + int.from_bytes(e, "big") * int.from_bytes(private_key, "big")) % GROUP_ORDER
    return Dleq(e, s.to_bytes(SCALAR_BYTES, "big"))


def _uncompressed(point: PublicKey) -> bytes:
    return point.format(compressed=False)


def verify_dleq(a: bytes, b_: bytes, c_: bytes, dleq: Dleq) -> bool:
    """What a wallet checks (NUT-12): `R1 = sG - eA`, `R2 = sB_ - eC_`, `e == hash(R1, R2, A, C_)`."""
    if len(dleq.e) != SCALAR_BYTES or len(dleq.s) != SCALAR_BYTES:
        return False
    minus_e = (-int.from_bytes(dleq.e, "big") % GROUP_ORDER).to_bytes(SCALAR_BYTES, "big")
    key, blinded, signed = parse_point(a), parse_point(b_), parse_point(c_)
    try:
        r1 = PublicKey.combine_keys([PrivateKey(dleq.s).public_key, key.multiply(minus_e)])
        r2 = PublicKey.combine_keys([blinded.multiply(dleq.s), signed.multiply(minus_e)])
    except ValueError:  # a zero scalar or the point at infinity: no honest proof has either
        return False
    points = map(_uncompressed, (r1, r2, key, signed))
    return hmac.compare_digest(dleq_challenge(*points), dleq.e)


def blind(secret: str, blinding_factor: bytes) -> bytes:
    """`B_ = Y + rG`: the wallet's side of BDHKE."""
    y = PublicKey(hash_to_curve(secret.encode()))
    return PublicKey.combine_keys([y, PrivateKey(blinding_factor).public_key]).format()


def unblind(c_: bytes, blinding_factor: bytes, key: bytes) -> bytes:
    """`C = C_ - rK`: the wallet's side of BDHKE."""
    minus_r = (GROUP_ORDER - parse_scalar(blinding_factor)).to_bytes(SCALAR_BYTES, "big")
    return PublicKey.combine_keys([parse_point(c_), parse_point(key).multiply(minus_r)]).format()


def verify_schnorr(key: bytes, signature: bytes, message: bytes) -> bool:
    """BIP-340 over SHA-256 of `message`, with the x coordinate of a compressed key. Never raises on bad input."""
    return verify_schnorr_digest(key, signature, hashlib.sha256(message).digest())


def verify_schnorr_digest(key: bytes, signature: bytes, digest: bytes) -> bool:
    """As `verify_schnorr`, for a message that was hashed before: long ones are hashed once for many signatures."""
    if len(key) != POINT_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    try:
        return PublicKeyXOnly(key[1:]).verify(signature, digest)
    except ValueError:
        return False
