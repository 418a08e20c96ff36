"""Which coins pay, and what the transaction costs. Pure: the same coins give the same choice, so a fee is known before.

Weights are lightningd's, whose estimate is the real weight (BIP 141)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from plugin.node.psbt import Outpoint, is_p2tr, is_p2wpkh

TX_WEIGHT = 42
OUTPUT_WEIGHT = 4 * 9
"""Of an output, besides its script."""
P2TR_INPUT_WEIGHT = 230
P2WPKH_INPUT_WEIGHT = 271
CHANGE_WEIGHT = OUTPUT_WEIGHT + 4 * 34
LEAST_CHANGE_SAT = 330
"""What would be less goes to the fee."""
MAX_INPUTS = 50
"""Of one payment: each input brings its whole earlier transaction along to the node and back."""


@dataclass(frozen=True, slots=True)
class Coin:
    """An output of the node's wallet, as `listfunds` shows it.

    `height`: of its block; None unless its status is `confirmed`. `reserved_to`: the height at which its reservation
    ends; None without one."""

    outpoint: Outpoint
    amount_sat: int
    script: bytes
    address: str | None
    status: str
    height: int | None
    reserved_to: int | None

    @property
    def is_spendable(self) -> bool:
        """Confirmed, not reserved, and of a kind whose weight is known and whose signature leaves the txid as it is."""
        return self.status == "confirmed" and self.reserved_to is None and self.input_weight is not None

    @property
    def input_weight(self) -> int | None:
        """What it adds to a transaction that spends it."""
        if is_p2tr(self.script):
            return P2TR_INPUT_WEIGHT
        return P2WPKH_INPUT_WEIGHT if is_p2wpkh(self.script) else None


@dataclass(frozen=True, slots=True)
class Payment:
    """What is to be paid: an amount to a script, at a feerate."""

    amount_sat: int
    script: bytes
    feerate_perkw: int

    @property
    def start_weight(self) -> int:
        """Of the transaction without its inputs and its change."""
        return TX_WEIGHT + OUTPUT_WEIGHT + 4 * len(self.script)

    def fee_sat(self, weight: int) -> int:
        """What a transaction of this weight costs."""
        return self.feerate_perkw * weight // 1000


def choose(coins: Iterable[Coin], payment: Payment) -> tuple[Coin, ...] | None:
    """The coins for a payment, the largest first, as few as will do; None if they don't suffice."""
    weight, missing, chosen = payment.start_weight, payment.amount_sat, []
    for coin in sorted((c for c in coins if c.is_spendable), key=lambda c: (-c.amount_sat, c.outpoint))[:MAX_INPUTS]:
        assert coin.input_weight is not None
        weight += coin.input_weight
        missing -= coin.amount_sat
        chosen.append(coin)
        if missing + payment.fee_sat(weight) <= 0:
            return tuple(chosen)
    return None


def fee_reserve_sat(coins: Sequence[Coin], payment: Payment, more_inputs: int) -> int:
    """The most that the payment may cost with these coins, with `more_inputs` if others have to be taken, and with
    change, or with what is too little for change."""
    inputs = sum(coin.input_weight or 0 for coin in coins) + more_inputs * P2WPKH_INPUT_WEIGHT
    return payment.fee_sat(payment.start_weight + inputs + CHANGE_WEIGHT) + LEAST_CHANGE_SAT


def leave_out(coins: Iterable[Coin], used: Iterable[Coin]) -> list[Coin]:
    """The coins that are not used."""
    gone = {coin.outpoint for coin in used}
    return [coin for coin in coins if coin.outpoint not in gone]
