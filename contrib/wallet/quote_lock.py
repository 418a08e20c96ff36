"""NUT-20: signing the issue request of a locked mint quote, in the present form and in the older one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from coincurve import PrivateKey

from ledger.models import BlindedMessage

_DOMAIN = b"Cashu_MintQuoteSig_v1"


def message(quote_id: str, outputs: Iterable[BlindedMessage]) -> bytes:
    """What is signed: the domain, then quote id and each output's amount and point, each with its length."""
    text = _DOMAIN + _framed(quote_id.encode())
    for output in outputs:
        amount = output.amount.to_bytes((output.amount.bit_length() + 7) // 8, "big")
        text += _framed(amount) + _framed(bytes.fromhex(output.B_))
    return text


def old_message(quote_id: str, outputs: Iterable[BlindedMessage]) -> bytes:
    """The form of the older text: quote id and points as hex, joined; amounts are not covered."""
    return (quote_id + "".join(output.B_ for output in outputs)).encode()


def sign(key: PrivateKey, text: bytes) -> str:
    """BIP-340 over the SHA-256 of `text`, in hex."""
    return key.sign_schnorr(hashlib.sha256(text).digest()).hex()


def _framed(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data
