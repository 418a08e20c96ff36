"""Keysets as a wallet trusts them: ids are recomputed from the keys before anything is signed with them (NUT-02)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from contrib.wallet.errors import ProtocolError, TokenError
from ledger import curve, models
from ledger.keysets import KEYSET_ID_V1_LENGTH, KEYSET_ID_V2_LENGTH, keyset_id_v1, keyset_id_v2

SHORT_ID_HEX = 16
"""Tokens name a keyset by the first 8 bytes of its id; for version 1 that is the whole id."""
MAX_KEYS = 256
"""More keys than this in one keyset are refused; amounts are unsigned 64-bit, so 64 are usual."""


@dataclass(frozen=True, slots=True)
class Keyset:
    """A verified keyset. `keys` maps amounts (minor unit) to compressed points; the fee is in 1/1000 per input."""

    id: str
    unit: str
    active: bool
    input_fee_ppk: int
    final_expiry: int | None
    keys: Mapping[int, bytes]

    @classmethod
    def from_wire(cls, wire: models.KeysetKeys) -> Keyset:
        """Check an entry of `GET /v1/keys`. Raises ProtocolError if the id does not follow from the rest."""
        if not 0 < len(wire.keys) <= MAX_KEYS:
            raise ProtocolError(f"keyset {wire.id} has {len(wire.keys)} keys; 1 to {MAX_KEYS} are accepted")
        keys: dict[int, bytes] = {}
        for text, point in wire.keys.items():
            try:
                if not (text.isascii() and text.isdecimal()):
                    raise ValueError("not a decimal amount")
                amount = int(text)
                keys[amount] = curve.parse_point(bytes.fromhex(point)).format()
            except ValueError as error:
                raise ProtocolError(f"keyset {wire.id}: bad key for amount {text!r}: {error}") from error
            if not 0 < amount <= models.MAX_AMOUNT:
                raise ProtocolError(f"keyset {wire.id}: amount {text} is out of range")
        if len(keys) != len(wire.keys):
            raise ProtocolError(f"keyset {wire.id} names an amount twice")
        if wire.input_fee_ppk < 0:
            raise ProtocolError(f"keyset {wire.id} has a negative fee")
        if wire.id.startswith("01") and len(wire.id) == KEYSET_ID_V2_LENGTH:
            expected = keyset_id_v2(keys, wire.unit, wire.input_fee_ppk, wire.final_expiry)
        elif wire.id.startswith("00") and len(wire.id) == KEYSET_ID_V1_LENGTH:
            expected = keyset_id_v1(keys)
        else:
            raise ProtocolError(f"keyset {wire.id} has an id of a version that this wallet does not know")
        if wire.id != expected:
            raise ProtocolError(f"keyset {wire.id} is not what its id says: its contents give {expected}")
        return cls(wire.id, wire.unit, wire.active, wire.input_fee_ppk, wire.final_expiry, keys)

    def key(self, amount: int) -> bytes:
        """The public key that signs `amount`. Raises ProtocolError if there is none."""
        try:
            return self.keys[amount]
        except KeyError:
            raise ProtocolError(f"keyset {self.id} has no key for the amount {amount}") from None

    def split(self, amount: int) -> list[int]:
        """`amount` in as few of the keyset's denominations as the greedy rule finds, in ascending order.

        Raises ProtocolError if the denominations cannot make it up.
        """
        parts: list[int] = []
        rest = amount
        for denomination in sorted(self.keys, reverse=True):
            count, rest = divmod(rest, denomination)
            parts.extend([denomination] * count)
        if rest or amount < 0:
            raise ProtocolError(f"keyset {self.id} has no denominations for the amount {amount}")
        return parts[::-1]


def fee(proofs: Iterable[models.Proof], keysets: Mapping[str, Keyset]) -> int:
    """The fee for spending `proofs` (minor unit): summed over all, rounded up once (NUT-02)."""
    return -(-sum(keysets[proof.id].input_fee_ppk for proof in proofs) // 1000)


def short_id(keyset_id: str) -> str:
    """How a token names the keyset (NUT-02)."""
    return keyset_id[:SHORT_ID_HEX]


def resolve_id(name: str, known: Iterable[str]) -> str:
    """The full id that a token's `name` stands for. Raises TokenError if none or several of `known` fit."""
    matches = [keyset_id for keyset_id in known if keyset_id == name]
    if not matches and len(name) == SHORT_ID_HEX:
        matches = [keyset_id for keyset_id in known if short_id(keyset_id) == name]
    if len(matches) != 1:
        reason = "the mint does not know it" if not matches else "several keysets of the mint begin like this"
        raise TokenError(f"the token is of keyset {name}: {reason}")
    return matches[0]
