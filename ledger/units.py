"""Units, and the two roundings between millisatoshis and a unit: up for what the mint pays, down for what it gets."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from math import ceil

MSAT_PER_UNIT = {"sat": 1000, "msat": 1}
"""The units that this mint knows, and how many millisatoshis one of each is."""


def from_msat_up(amount_msat: int, unit: str) -> int:
    """Millisatoshis in `unit`, rounded up: what a payment costs the wallet."""
    return -(-amount_msat // MSAT_PER_UNIT[unit])


def from_msat_down(amount_msat: int, unit: str) -> int:
    """Millisatoshis in `unit`, rounded down: what a payment received is worth in ecash."""
    return amount_msat // MSAT_PER_UNIT[unit]


def to_msat(amount: int, unit: str) -> int:
    """An amount of `unit` in millisatoshis."""
    return amount * MSAT_PER_UNIT[unit]


def fee_reserve_msat(amount_msat: int, percent: Decimal, minimum_msat: int) -> int:
    """The larger of `minimum_msat` and `percent` of the amount (rounded up), in millisatoshis."""
    share = ceil(Fraction(percent) * amount_msat / 100)
    return max(minimum_msat, share)


def split(amount: int) -> list[int]:
    """The powers of two that make up `amount`, ascending."""
    return [1 << bit for bit in range(amount.bit_length()) if amount >> bit & 1]
