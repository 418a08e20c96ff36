"""Quote ids: secrets that let their holder mint or watch (NUT-04, NUT-05)."""

from __future__ import annotations

import hashlib
import os
import time
import uuid

HANDLE_DIGITS = 12


def new_quote_id() -> str:
    """A UUID version 7: 48 bits of time in ms, 74 random bits from the system's CSPRNG.

    Not `uuid.uuid7()` of the standard library: that one fills part of the random bits with a counter.
    """
    random = int.from_bytes(os.urandom(10), "big")
    value = (time.time_ns() // 1_000_000 & (1 << 48) - 1) << 80
    value |= 0x7 << 76 | (random >> 62 & 0xFFF) << 64  # version, 12 random bits
    value |= 0b10 << 62 | random & (1 << 62) - 1  # variant, 62 random bits
    return str(uuid.UUID(int=value))


def label_of(quote_id: str) -> str:
    """What the node may know of a quote: its label there, which stands in the node's log and lists.

    The id itself is the right to a quote's ecash (NUT-04), so it is told to nobody but the wallet."""
    return f"nutbolt-{hashlib.sha256(quote_id.encode()).hexdigest()[:32]}"


def handle_of(quote_id: str, attempt: int) -> str:
    """What the operator calls one attempt at a melt: the beginning of its label's digest, and the attempt's number.

    A mistyped one fits no melt, and one that was noted before a new attempt doesn't fit that."""
    return f"{hashlib.sha256(quote_id.encode()).hexdigest()[:HANDLE_DIGITS]}-{attempt}"
