"""Reading a NUT-10 secret into a condition."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, NoReturn

from ledger import curve
from ledger.errors import Code, LedgerError

P2PK = "P2PK"
HTLC = "HTLC"
KINDS = (P2PK, HTLC)
"""Other kinds are ordinary secrets to this mint: anyone who has the proof can spend it (NUT-10)."""

_HASH = re.compile(r"[0-9a-fA-F]{64}")
_KEY = re.compile(r"0[23][0-9a-fA-F]{64}")
_NUMBER = re.compile(r"[0-9]{1,20}")


@dataclass(frozen=True, slots=True)
class Condition:
    """A well-formed condition. Keys are 33 bytes; `locktime` is None for a lock that never opens."""

    kind: str
    hashlock: bytes | None  # HTLC: SHA-256 of the preimage
    keys: tuple[bytes, ...]  # main pathway (HTLC: the receiver's)
    needed: int
    refund_keys: tuple[bytes, ...] | None  # None: no refund tag, anyone may spend after the locktime
    refund_needed: int
    locktime: int | None
    sig_all: bool
    terms: str
    """Kind, data and tags in one text: what must be equal between inputs under SIG_ALL."""


def parse(secret: str) -> Condition | None:
    """The condition of a secret; None for an ordinary one. Raises 10001 for a malformed P2PK or HTLC secret."""
    if not secret.lstrip().startswith("["):
        return None
    try:
        content = json.loads(secret)
    except RecursionError:
        _malformed("nested too deeply")
    except ValueError:
        return None
    if not isinstance(content, list) or not content or content[0] not in KINDS:
        return None
    if len(content) != 2 or not isinstance(content[1], dict):
        _malformed("it must be [kind, {…}]")
    return _condition(content[0], content[1])


def _condition(kind: str, body: dict[str, Any]) -> Condition:
    data, tags = body.get("data"), _tags(body.get("tags"))
    if not isinstance(body.get("nonce"), str) or not isinstance(data, str):
        _malformed("nonce and data must be strings")
    listed = [_key(text) for text in tags.get("pubkeys", [])]
    keys = _distinct(listed if kind == HTLC else [_key(data), *listed])
    refund_keys = _distinct([_key(text) for text in tags["refund"]]) if "refund" in tags else None
    sigflag = tags.get("sigflag", ["SIG_INPUTS"])
    if sigflag not in (["SIG_INPUTS"], ["SIG_ALL"]):
        _malformed("sigflag must be SIG_INPUTS or SIG_ALL")
    return Condition(
        kind=kind,
        hashlock=_hash(data) if kind == HTLC else None,
        keys=keys,
        needed=_needed(tags, "n_sigs", keys),
        refund_keys=refund_keys,
        refund_needed=_needed(tags, "n_sigs_refund", refund_keys or ()),
        locktime=_locktime(tags.get("locktime")),
        sig_all=sigflag == ["SIG_ALL"],
        terms=json.dumps([kind, data, body.get("tags") or []]),
    )


def _tags(raw: Any) -> dict[str, list[str]]:
    """Each tag an array of non-empty strings, each of NUT-11's tags at most once. Unknown tags are allowed."""
    if raw is None:
        return {}
    if not isinstance(raw, list):
        _malformed("tags must be an array")
    tags: dict[str, list[str]] = {}
    known = ("sigflag", "pubkeys", "n_sigs", "locktime", "refund", "n_sigs_refund")
    for tag in raw:
        if not isinstance(tag, list) or not tag or not all(isinstance(item, str) and item for item in tag):
            _malformed("a tag must be an array of non-empty strings")
        if tag[0] in tags and tag[0] in known:
            _malformed(f"the tag {tag[0]} stands twice")
        tags[tag[0]] = tag[1:]
    return tags


def _key(text: str) -> bytes:
    if not _KEY.fullmatch(text):
        _malformed("a key must be a compressed public key in hex")
    key = bytes.fromhex(text)
    try:
        curve.parse_point(key)
    except ValueError:
        _malformed("a key is not a point on the curve")
    return key


def _distinct(keys: list[bytes]) -> tuple[bytes, ...]:
    """Keys are compared by x coordinate: 02… and 03… are one signer (NUT-11)."""
    if len({key[1:] for key in keys}) != len(keys):
        _malformed("a key stands twice in one pathway")
    return tuple(keys)


def _needed(tags: dict[str, list[str]], name: str, keys: tuple[bytes, ...]) -> int:
    """How many signers: 1 unless the tag says otherwise; never none, never more than there are keys."""
    if name not in tags:
        return 1
    values = tags[name]
    if len(values) != 1 or not _NUMBER.fullmatch(values[0]) or not 1 <= int(values[0]) <= len(keys):
        _malformed(f"{name} must be a number from 1 to the number of keys")
    return int(values[0])


def _locktime(values: list[str] | None) -> int | None:
    """A value that is no time does not spoil the condition: it means that the lock never opens (NUT-11)."""
    if values is None or len(values) != 1 or not _NUMBER.fullmatch(values[0]):
        return None
    return int(values[0])


def _hash(text: str) -> bytes:
    if not _HASH.fullmatch(text):
        _malformed("data must be a SHA-256 hash, 64 hex digits")
    return bytes.fromhex(text)


def _malformed(why: str) -> NoReturn:
    raise LedgerError(Code.PROOF_INVALID, f"an input's spending condition is malformed: {why}")
