"""Which proofs to spend. Pure functions; all sums are exact, in thousandths of the unit where fees are involved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from contrib.wallet.errors import NotEnoughFundsError, WalletError
from contrib.wallet.keysets import Keyset, fee
from contrib.wallet.proofs import WalletProof
from ledger.models import MAX_ARRAY_LENGTH

_FEE_ROUNDS = 8
"""How often a token's own fee is fitted to the number of its proofs before a swap is made instead."""


def select(
    proofs: Sequence[WalletProof],
    target: int,
    keysets: Mapping[str, Keyset],
    *,
    max_inputs: int = MAX_ARRAY_LENGTH,
) -> list[WalletProof]:
    """Proofs that are worth `target` after the fee for spending them, none of them needlessly.

    Whole amounts cover the target and the rounded-up fee if and only if
    `sum(1000 * amount - fee_ppk) >= 1000 * target`: so each proof has a worth of its own, and worths add up.
    Raises NotEnoughFundsError if all of them do not reach it, WalletError if it takes more than `max_inputs`.
    """
    worth = {p.secret: 1000 * p.amount - keysets[p.id].input_fee_ppk for p in proofs}
    # A proof that costs more than it brings is never of use.
    useful = sorted((p for p in proofs if worth[p.secret] > 0), key=lambda p: worth[p.secret], reverse=True)
    goal = 1000 * target
    available = sum(worth[p.secret] for p in useful)
    if available < goal:
        raise NotEnoughFundsError(target, available // 1000, keysets[useful[0].id].unit if useful else "")
    for chosen in (_close_fit(useful, worth, goal), _largest_first(useful, worth, goal)):
        if len(chosen) <= max_inputs:
            return chosen
    raise WalletError(
        f"{target} would take more than the {max_inputs} proofs that the mint accepts at once: "
        "send smaller amounts to yourself first"
    )


def select_exact(
    proofs: Sequence[WalletProof], amount: int, keysets: Mapping[str, Keyset], *, include_fees: bool
) -> list[WalletProof] | None:
    """Proofs of exactly `amount`, with `include_fees` of `amount` after their own fee; None if a swap is needed.

    Powers of two need no search: the greedy choice finds an exact sum if there is one.
    """
    target = amount
    for _ in range(_FEE_ROUNDS):
        chosen, rest = [], target
        for proof in sorted(proofs, key=lambda p: p.amount, reverse=True):
            if proof.amount <= rest:
                chosen.append(proof)
                rest -= proof.amount
        if rest:
            return None
        fitted = amount + fee(chosen, keysets) if include_fees else amount
        if fitted == target:
            return chosen
        target = fitted
    return None


def token_amounts(amount: int, keyset: Keyset, *, include_fees: bool) -> list[int]:
    """Denominations for a token worth `amount`; with `include_fees` the receiver's swap of it is paid for too."""
    target = amount
    while True:
        amounts = keyset.split(target)
        own_fee = -(-len(amounts) * keyset.input_fee_ppk // 1000) if include_fees else 0
        if target - own_fee >= amount:
            return amounts
        target = max(target + 1, amount + own_fee)


def _close_fit(useful: Sequence[WalletProof], worth: Mapping[str, int], goal: int) -> list[WalletProof]:
    """From the largest down whatever still fits, then the smallest that closes the gap."""
    chosen, rest = [], goal
    left: list[WalletProof] = []
    for proof in useful:
        if worth[proof.secret] <= rest:
            chosen.append(proof)
            rest -= worth[proof.secret]
        else:
            left.append(proof)
    while rest > 0:
        covering = [proof for proof in left if worth[proof.secret] >= rest]
        proof = covering[-1] if covering else left[0]
        left.remove(proof)
        chosen.append(proof)
        rest -= worth[proof.secret]
    return _without_needless(chosen, worth, -rest)


def _largest_first(useful: Sequence[WalletProof], worth: Mapping[str, int], goal: int) -> list[WalletProof]:
    """The fewest proofs."""
    chosen, rest = [], goal
    for proof in useful:
        if rest <= 0:
            break
        chosen.append(proof)
        rest -= worth[proof.secret]
    return _without_needless(chosen, worth, -rest)


def _without_needless(chosen: list[WalletProof], worth: Mapping[str, int], excess: int) -> list[WalletProof]:
    kept = []
    for proof in sorted(chosen, key=lambda p: worth[p.secret], reverse=True):
        if worth[proof.secret] <= excess:
            excess -= worth[proof.secret]
        else:
            kept.append(proof)
    return kept
