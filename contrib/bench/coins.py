"""The wallet's side of the load: blinded messages and proofs, made in stock."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from ledger import curve


@dataclass(frozen=True, slots=True)
class Blank:
    """An output before it is signed: its secret, its blinding factor, and what is sent."""

    amount: int
    secret: str
    factor: bytes
    b_: str

    @classmethod
    def make(cls, amount: int) -> Self:
        """A new one."""
        secret, factor = secrets.token_hex(32), secrets.token_bytes(31).rjust(32, b"\1")
        return cls(amount, secret, factor, curve.blind(secret, factor).hex())

    def to_wire(self, keyset: str) -> dict[str, Any]:
        """A blinded message (NUT-00)."""
        return {"amount": self.amount, "id": keyset, "B_": self.b_}


@dataclass(frozen=True, slots=True)
class Coin:
    """A proof."""

    amount: int
    secret: str
    c: str

    def to_wire(self, keyset: str) -> dict[str, Any]:
        """A proof (NUT-00)."""
        return {"amount": self.amount, "id": keyset, "secret": self.secret, "C": self.c}

    @property
    def y(self) -> str:
        """By which mints know it (NUT-07)."""
        return curve.hash_to_curve(self.secret.encode()).hex()


def unblind(blanks: Sequence[Blank], answer: str, keys: dict[int, bytes]) -> list[Coin]:
    """The proofs that a mint's answer makes of these blanks. `keys`: the keyset's public keys by amount."""
    signatures = json.loads(answer)["signatures"]
    return [
        Coin(
            blank.amount,
            blank.secret,
            curve.unblind(bytes.fromhex(signature["C_"]), blank.factor, keys[blank.amount]).hex(),
        )
        for blank, signature in zip(blanks, signatures, strict=True)
    ]
