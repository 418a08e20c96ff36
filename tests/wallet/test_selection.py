"""Which proofs are spent: properties over random purses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contrib.wallet import NotEnoughFundsError, WalletError, WalletProof
from contrib.wallet.keysets import Keyset, fee
from contrib.wallet.selection import select, select_exact, token_amounts

POWERS = {1 << n: b"" for n in range(24)}
KEYSETS = {
    name: Keyset(name, "sat", True, ppk, None, POWERS)
    for name, ppk in {"free": 0, "low": 100, "odd": 333, "whole": 1000, "dear": 5000}.items()
}


def proofs_of(parts: list[tuple[int, str]]) -> list[WalletProof]:
    return [
        WalletProof(amount=1 << exponent, id=name, secret=f"{position}", C="02" + "11" * 32)
        for position, (exponent, name) in enumerate(parts)
    ]


def worth(proofs: list[WalletProof]) -> int:
    return sum(p.amount for p in proofs) - fee(proofs, KEYSETS)


PURSES = st.lists(st.tuples(st.integers(0, 12), st.sampled_from(list(KEYSETS))), max_size=30).map(proofs_of)


@given(PURSES, st.integers(1, 20_000), st.sampled_from([5, 1000]))
def test_select(purse: list[WalletProof], target: int, max_inputs: int) -> None:
    useful = [p for p in purse if 1000 * p.amount > KEYSETS[p.id].input_fee_ppk]
    try:
        chosen = select(purse, target, KEYSETS, max_inputs=max_inputs)
    except NotEnoughFundsError:
        assert worth(useful) < target
        return
    except WalletError:
        # The most valuable ones that are allowed do not reach it.
        useful.sort(key=lambda p: 1000 * p.amount - KEYSETS[p.id].input_fee_ppk)
        assert worth(useful[-max_inputs:]) < target
        return
    assert len({p.secret for p in chosen}) == len(chosen) <= max_inputs
    assert all(p in purse for p in chosen)
    assert worth(chosen) >= target
    for needless in chosen:
        assert worth([p for p in chosen if p is not needless]) < target


@given(PURSES, st.integers(1, 20_000), st.booleans())
def test_select_exact(purse: list[WalletProof], amount: int, include_fees: bool) -> None:
    chosen = select_exact(purse, amount, KEYSETS, include_fees=include_fees)
    if chosen is not None:
        assert len({p.secret for p in chosen}) == len(chosen)
        assert (worth(chosen) if include_fees else sum(p.amount for p in chosen)) == amount


@given(PURSES, st.sets(st.integers(0, 29)))
def test_an_exact_sum_is_found(purse: list[WalletProof], picked: set[int]) -> None:
    amount = sum(p.amount for position, p in enumerate(purse) if position in picked)
    if amount:
        assert select_exact(purse, amount, KEYSETS, include_fees=False) is not None


@given(st.integers(1, 10_000), st.sampled_from(list(KEYSETS.values())))
def test_token_amounts(amount: int, keyset: Keyset) -> None:
    assert sum(token_amounts(amount, keyset, include_fees=False)) == amount
    parts = token_amounts(amount, keyset, include_fees=True)
    own_fee = (len(parts) * keyset.input_fee_ppk + 999) // 1000
    # Never too little; what is too much is less than one proof's fee and its rounding.
    assert amount <= sum(parts) - own_fee <= amount + keyset.input_fee_ppk * 24 // 1000


def test_an_empty_purse() -> None:
    with pytest.raises(NotEnoughFundsError, match="0"):
        select([], 1, KEYSETS)
