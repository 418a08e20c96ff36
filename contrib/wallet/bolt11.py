"""As much of BOLT 11 as a wallet needs in order not to believe the mint: amount, payment hash, expiry.

The signature is not checked: the payer's node does that, and the payee's identity is of no use here.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from fractions import Fraction

from contrib.wallet.errors import InvoiceError

_ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_CHECKSUM_WORDS = 6
_TIMESTAMP_WORDS = 7
_SIGNATURE_WORDS = 104
_PAYMENT_HASH_WORDS = 52
_TAG_PAYMENT_HASH = 1
_TAG_EXPIRY = 6
_DEFAULT_EXPIRY_S = 3600
_HUMAN_PART = re.compile(r"ln(?P<network>bcrt|tbs|bc|tb|sb)(?:(?P<number>[1-9]\d*)(?P<multiplier>[munp]?))?")
_MSAT_PER_BTC = 100_000_000_000
_MULTIPLIERS = {
    "": Fraction(1),
    "m": Fraction(1, 10**3),
    "u": Fraction(1, 10**6),
    "n": Fraction(1, 10**9),
    "p": Fraction(1, 10**12),
}


@dataclass(frozen=True, slots=True)
class Invoice:
    """A decoded invoice; `amount_msat` is None if it names no amount. Times are unix seconds."""

    network: str
    amount_msat: int | None
    payment_hash: bytes
    created_at: int
    expires_at: int

    def is_paid_by(self, preimage: str) -> bool:
        """Whether `preimage` (hex) is the proof of payment. Never raises."""
        try:
            return hashlib.sha256(bytes.fromhex(preimage)).digest() == self.payment_hash
        except ValueError:
            return False


def looks_like_invoice(text: str) -> bool:
    """Whether `text` is meant to be a bolt11 invoice, right or wrong."""
    return plain(text).startswith(("lnbc", "lntb", "lnsb"))


def plain(text: str) -> str:
    """The invoice without a `lightning:` scheme, in lower case."""
    return text.strip().lower().removeprefix("lightning:")


def decode(text: str) -> Invoice:
    """Read an invoice. Raises InvoiceError if it is no bolt11 invoice or its checksum is wrong."""
    invoice = plain(text)
    human, separator, data = invoice.rpartition("1")
    match = _HUMAN_PART.fullmatch(human)
    if not separator or match is None:
        raise InvoiceError("not a bolt11 invoice: it does not begin like one")
    try:
        words = [_ALPHABET.index(char) for char in data]
    except ValueError:
        raise InvoiceError("not a bolt11 invoice: it has characters that bech32 does not know") from None
    if _polymod(human, words) != 1 or len(words) < _TIMESTAMP_WORDS + _SIGNATURE_WORDS + _CHECKSUM_WORDS:
        raise InvoiceError("the invoice's checksum is wrong: it was cut or mistyped")
    body = words[: -_CHECKSUM_WORDS - _SIGNATURE_WORDS]
    created_at = _number(body[:_TIMESTAMP_WORDS])
    payment_hash, expiry_s = _tags(body[_TIMESTAMP_WORDS:])
    if payment_hash is None:
        raise InvoiceError("the invoice has no payment hash")
    return Invoice(match["network"], _amount(match), payment_hash, created_at, created_at + expiry_s)


def _amount(match: re.Match[str]) -> int | None:
    if match["number"] is None:
        return None
    amount_msat = int(match["number"]) * _MULTIPLIERS[match["multiplier"]] * _MSAT_PER_BTC
    if amount_msat.denominator != 1:
        raise InvoiceError("the invoice's amount is not a whole number of msat")
    return amount_msat.numerator


def _tags(words: list[int]) -> tuple[bytes | None, int]:
    payment_hash, expiry_s, position = None, _DEFAULT_EXPIRY_S, 0
    while position + 3 <= len(words):
        tag, length = words[position], words[position + 1] * 32 + words[position + 2]
        value = words[position + 3 : position + 3 + length]
        position += 3 + length
        if len(value) != length:
            raise InvoiceError("the invoice is cut off inside a field")
        if tag == _TAG_PAYMENT_HASH and length == _PAYMENT_HASH_WORDS and payment_hash is None:
            payment_hash = (_number(value) >> 4).to_bytes(32, "big")  # 52 words are 260 bits: 4 of padding
        elif tag == _TAG_EXPIRY:
            expiry_s = _number(value)
    return payment_hash, expiry_s


def _number(words: list[int]) -> int:
    value = 0
    for word in words:
        value = value << 5 | word
    return value


def _polymod(human: str, words: list[int]) -> int:
    values = [ord(char) >> 5 for char in human] + [0] + [ord(char) & 31 for char in human] + words
    checksum = 1
    for value in values:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate(_GENERATOR):
            if top >> bit & 1:
                checksum ^= generator
    return checksum
