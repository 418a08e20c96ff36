"""As much of BOLT 12 as a wallet needs in order not to believe the mint: what an offer asks for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from contrib.wallet.errors import InvoiceError

_ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_PREFIX = "lno1"
_CURRENCY = 6
_AMOUNT = 8


@dataclass(frozen=True, slots=True)
class Offer:
    """A decoded offer; `amount_msat` is None if it names no amount in bitcoin."""

    amount_msat: int | None


def looks_like_offer(text: str) -> bool:
    """Whether `text` is meant to be an offer, or a name that stands for one (BIP 353)."""
    return plain(text).startswith(_PREFIX) or looks_like_name(text)


def looks_like_name(text: str) -> bool:
    """Whether `text` is meant to be a name like `alice@example.com`."""
    return "@" in text


def plain(text: str) -> str:
    """The offer without a `lightning:` scheme, in one line and in lower case."""
    return re.sub(r"\+\s*", "", text.strip().lower().removeprefix("lightning:"))


def decode(text: str) -> Offer:
    """Read an offer. Raises InvoiceError if it is none. (Nothing tells a mistyped one: there is no checksum.)"""
    offer = plain(text)
    if not offer.startswith(_PREFIX):
        raise InvoiceError("not a bolt12 offer: it does not begin like one")
    try:
        words = [_ALPHABET.index(char) for char in offer.removeprefix(_PREFIX)]
    except ValueError:
        raise InvoiceError("not a bolt12 offer: it has characters that bech32 does not know") from None
    value = 0
    for word in words:
        value = value << 5 | word
    bits = len(words) * 5
    records = dict(_records((value >> bits % 8).to_bytes(bits // 8, "big")))
    if _AMOUNT not in records or _CURRENCY in records:
        return Offer(None)
    return Offer(int.from_bytes(records[_AMOUNT], "big"))


def _records(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position < len(data):
        kind, position = _size(data, position)
        length, position = _size(data, position)
        if position + length > len(data):
            raise InvoiceError("the offer is cut off inside a field")
        yield kind, data[position : position + length]
        position += length


def _size(data: bytes, position: int) -> tuple[int, int]:
    first = data[position : position + 1]
    extra = {b"\xfd": 2, b"\xfe": 4, b"\xff": 8}.get(first, 0)
    number = data[position + 1 : position + 1 + extra] if extra else first
    if len(number) != (extra or 1):
        raise InvoiceError("the offer is cut off inside a field")
    return int.from_bytes(number, "big"), position + 1 + extra
