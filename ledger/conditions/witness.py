"""Reading a witness, and counting who signed."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ledger import curve
from ledger.errors import Code, LedgerError

MAX_VERIFICATIONS = 5_000
"""Signature checks in one request: about a second of work. Only requests made to be slow come near it."""

_PREIMAGE = re.compile(r"[0-9a-fA-F]{64}")


@dataclass(frozen=True, slots=True)
class Witness:
    """What a wallet brings to meet a condition. Unreadable parts are left out: they meet nothing."""

    signatures: tuple[bytes, ...] = ()
    preimage: bytes | None = None
    is_present: bool = False


class Budget:
    """Counts the signature checks of a request. Raises 10000 beyond the limit."""

    def __init__(self) -> None:
        self._left = MAX_VERIFICATIONS

    def take(self) -> None:
        """Before each check."""
        self._left -= 1
        if self._left < 0:
            raise LedgerError(Code.REQUEST_REJECTED, "too many signatures to check: spend fewer inputs at once")


def read(text: str | None) -> Witness:
    """Never raises: a malformed witness is one that meets nothing."""
    if not text:
        return Witness()
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return Witness()
    if not isinstance(content, dict):
        return Witness()
    raw = content.get("signatures")
    signatures = tuple(s for item in raw if (s := _signature(item)) is not None) if isinstance(raw, list) else ()
    return Witness(signatures, _preimage(content.get("preimage")), bool(content))


def _preimage(item: object) -> bytes | None:
    return bytes.fromhex(item) if isinstance(item, str) and _PREIMAGE.fullmatch(item) else None


def _signature(item: object) -> bytes | None:
    if not isinstance(item, str):
        return None
    try:
        signature = bytes.fromhex(item)
    except ValueError:
        return None
    return signature if len(signature) == curve.SIGNATURE_BYTES else None


def enough_signers(
    keys: Sequence[bytes], needed: int, signatures: Sequence[bytes], digest: bytes, budget: Budget
) -> bool:
    """Whether `needed` distinct keys have signed. Counts keys, not signatures; further signatures do no harm."""
    waiting = list(keys)
    for signature in dict.fromkeys(signatures):
        signer = _signer(waiting, signature, digest, budget)
        if signer is not None:
            waiting.remove(signer)
        if len(keys) - len(waiting) >= needed:
            return True
    return False


def _signer(keys: Sequence[bytes], signature: bytes, digest: bytes, budget: Budget) -> bytes | None:
    for key in keys:
        budget.take()
        if curve.verify_schnorr_digest(key, signature, digest):
            return key
    return None
