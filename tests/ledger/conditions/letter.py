"""NUT-10, NUT-11 and NUT-14 read literally and slowly, sentence by sentence.

This is what the ledger's conditions are compared with, so it shares no code with them. It takes and gives plain values.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from enum import Enum
from typing import Any

from coincurve import PublicKey, PublicKeyXOnly

DIGITS = "0123456789"
HEX_DIGITS = DIGITS + "abcdefABCDEF"
CHECKED_ONCE = ("sigflag", "pubkeys", "n_sigs", "locktime", "refund", "n_sigs_refund")


class Verdict(Enum):
    """What becomes of a transaction as far as conditions go."""

    SPENDABLE = "spendable"
    UNSPENDABLE = "not met"
    MALFORMED = "malformed: nobody can spend it"


class MalformedError(Exception):
    """A secret of a known kind that breaks a rule."""


@dataclass
class Input:
    """What counts of a proof."""

    secret: str
    C: str
    witness: str | None


@dataclass
class Output:
    """What counts of a blinded message, as sent."""

    amount: int
    B_: str


def judge(inputs: list[Input], outputs: list[Output], quote_id: str, now: int) -> Verdict:
    """The verdict about a swap, or about a melt (then with its quote id)."""
    try:
        spendable = _judge(inputs, outputs, quote_id, now)
    except MalformedError:
        return Verdict.MALFORMED
    return Verdict.SPENDABLE if spendable else Verdict.UNSPENDABLE


def _judge(inputs: list[Input], outputs: list[Output], quote_id: str, now: int) -> bool:
    secrets = [read_secret(each.secret) for each in inputs]
    flags = [secret is not None and sigflag(secret) == "SIG_ALL" for secret in secrets]
    # "If any input is SIG_ALL, all inputs must be: same kind, same data, same tags (nonces differ), else error."
    if any(flags):
        if not all(flags):
            raise MalformedError("SIG_ALL beside something else")
        first = secrets[0]
        assert first is not None
        for secret in secrets:
            assert secret is not None
            if (secret["kind"], secret["data"], secret["tags"]) != (first["kind"], first["data"], first["tags"]):
                raise MalformedError("SIG_ALL with another condition")
        # "Only inputs[0].witness counts. One message."
        message = ""
        for each in inputs:
            message += each.secret + each.C
        for output in outputs:
            message += str(output.amount) + output.B_
        message += quote_id
        return spendable(first, inputs[0].witness, message, now)
    # "Every input of a transaction must satisfy its own condition. Own witness in each input."
    return all(
        secret is None or spendable(secret, each.witness, each.secret, now)
        for secret, each in zip(secrets, inputs, strict=True)
    )


# --- the secret -------------------------------------------------------------------------------------------------------


def read_secret(text: str) -> dict[str, Any] | None:
    """Kind, data and tags; None for a secret without a condition. Raises MalformedError."""
    try:
        content = json.loads(text)
    except ValueError:
        return None
    if not isinstance(content, list) or len(content) == 0:
        return None
    if content[0] != "P2PK" and content[0] != "HTLC":
        return None  # "Unsupported kind: the text allows treating the proof as anyone-can-spend."
    if len(content) != 2 or not isinstance(content[1], dict):
        raise MalformedError('not [kind, {"nonce", "data", "tags"}]')
    body = content[1]
    if not isinstance(body.get("nonce"), str) or not isinstance(body.get("data"), str):
        raise MalformedError("nonce and data are texts")
    tags = body.get("tags")
    if tags is None:
        tags = []  # "tags optional"
    if not isinstance(tags, list):
        raise MalformedError("tags is a list")
    # "Each tag: array of one or more non-empty strings."
    for tag in tags:
        if not isinstance(tag, list) or len(tag) == 0:
            raise MalformedError("a tag is a list that is not empty")
        for item in tag:
            if not isinstance(item, str) or item == "":
                raise MalformedError("in a tag are texts that are not empty")
    # "Each tag at most once, else malformed." Unknown tags are to be tolerated.
    names = [tag[0] for tag in tags]
    for name in CHECKED_ONCE:
        if names.count(name) > 1:
            raise MalformedError(f"{name} twice")
    secret = {"kind": content[0], "data": body["data"], "tags": tags}
    check(secret)
    return secret


def values(secret: dict[str, Any], name: str) -> list[str] | None:
    """The values of a tag; None if there is no such tag."""
    for tag in secret["tags"]:
        if tag[0] == name:
            found: list[str] = tag[1:]
            return found
    return None


def sigflag(secret: dict[str, Any]) -> str:
    """`SIG_INPUTS` (default) or `SIG_ALL`; any other value malformed."""
    found = values(secret, "sigflag")
    if found is None:
        return "SIG_INPUTS"
    if found == ["SIG_INPUTS"] or found == ["SIG_ALL"]:
        return found[0]
    raise MalformedError("sigflag")


def main_keys(secret: dict[str, Any]) -> list[str]:
    """{data} and pubkeys; of an HTLC the pubkeys only: its data is not a key."""
    keys = values(secret, "pubkeys") or []
    return [secret["data"], *keys] if secret["kind"] == "P2PK" else keys


def threshold(secret: dict[str, Any], name: str, keys: list[str]) -> int:
    """Default 1. Malformed: not a positive integer, or larger than the number of keys in its pathway."""
    found = values(secret, name)
    if found is None:
        return 1
    if len(found) != 1 or any(digit not in DIGITS for digit in found[0]) or int(found[0]) < 1:
        raise MalformedError(f"{name} is not a positive integer")
    if int(found[0]) > len(keys):
        raise MalformedError(f"{name} is larger than the number of keys")
    return int(found[0])


def check(secret: dict[str, Any]) -> None:
    """Everything that makes a condition malformed whatever is sent with it."""
    sigflag(secret)
    refund_keys = values(secret, "refund") or []
    for pathway in (main_keys(secret), refund_keys):
        for key in pathway:
            check_key(key)
        # "Duplicate key inside one pathway. Keys compare by lower-case x-coordinate, 02/03 prefix ignored."
        coordinates = [key[2:].lower() for key in pathway]
        if len(coordinates) != len(set(coordinates)):
            raise MalformedError("a key twice in one pathway")
    threshold(secret, "n_sigs", main_keys(secret))
    threshold(secret, "n_sigs_refund", refund_keys)
    if secret["kind"] == "HTLC" and (len(secret["data"]) != 64 or any(c not in HEX_DIGITS for c in secret["data"])):
        raise MalformedError("data is not a hash")


def check_key(key: str) -> None:
    """A compressed public key in hex."""
    if len(key) != 66 or any(digit not in HEX_DIGITS for digit in key) or key[:2] not in ("02", "03"):
        raise MalformedError("not a compressed key")
    try:
        PublicKey(bytes.fromhex(key))
    except ValueError:
        raise MalformedError("not on the curve") from None


def has_expired(secret: dict[str, Any], now: int) -> bool:
    """expired = locktime valid and now > locktime. An invalid value means permanent lock."""
    found = values(secret, "locktime")
    if found is None or len(found) != 1 or any(digit not in DIGITS for digit in found[0]):
        return False
    return now > int(found[0])


# --- the witness ------------------------------------------------------------------------------------------------------


def read_witness(text: str | None) -> dict[str, Any]:
    """A witness that can't be read is one that has nothing in it."""
    try:
        content = json.loads(text or "")
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def signers(keys: list[str], witness: dict[str, Any], message: str) -> int:
    """The number of distinct keys with a valid signature; never the number of signatures."""
    signatures = witness.get("signatures")
    if not isinstance(signatures, list):
        return 0
    digest = hashlib.sha256(message.encode()).digest()
    count = 0
    for key in keys:
        if any(is_valid(key, signature, digest) for signature in signatures):
            count += 1
    return count


def is_valid(key: str, signature: Any, digest: bytes) -> bool:
    """BIP-340, 64 bytes, x-only key."""
    if not isinstance(signature, str) or len(signature) != 128 or any(c not in HEX_DIGITS for c in signature):
        return False
    return bool(PublicKeyXOnly(bytes.fromhex(key[2:])).verify(bytes.fromhex(signature), digest))


def opens_hashlock(secret: dict[str, Any], witness: dict[str, Any]) -> bool:
    """sha256(unhex(preimage)) == unhex(data), preimage exactly 32 bytes."""
    preimage = witness.get("preimage")
    if not isinstance(preimage, str) or len(preimage) != 64 or any(digit not in HEX_DIGITS for digit in preimage):
        return False
    return hashlib.sha256(bytes.fromhex(preimage)).digest() == bytes.fromhex(secret["data"])


def spendable(secret: dict[str, Any], witness_text: str | None, message: str, now: int) -> bool:
    """spendable = main ok or refund ok."""
    witness = read_witness(witness_text)
    keys = main_keys(secret)
    main_ok = signers(keys, witness, message) >= threshold(secret, "n_sigs", keys)
    if secret["kind"] == "HTLC":
        # "No pubkeys: preimage alone is enough."
        main_ok = opens_hashlock(secret, witness) and (len(keys) == 0 or main_ok)
    refund_keys = values(secret, "refund")
    refund_ok = has_expired(secret, now) and (
        refund_keys is None or signers(refund_keys, witness, message) >= threshold(secret, "n_sigs_refund", refund_keys)
    )
    return main_ok or refund_ok
