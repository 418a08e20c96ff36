"""Units and their roundings, fee reserves, splits, quote ids."""

from __future__ import annotations

import time
import uuid
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.ids import new_quote_id
from ledger.keysets import DENOMINATIONS
from ledger.units import MSAT_PER_UNIT, fee_reserve_msat, from_msat_down, from_msat_up, split, to_msat

QUICK = settings(max_examples=100, deadline=None, derandomize=True, database=None)
amounts = st.integers(0, 2**63)


@QUICK
@given(msat=amounts, unit=st.sampled_from(sorted(MSAT_PER_UNIT)))
def test_the_mint_rounds_in_its_favour_and_by_less_than_one(msat: int, unit: str) -> None:
    assert to_msat(from_msat_down(msat, unit), unit) <= msat <= to_msat(from_msat_up(msat, unit), unit)
    assert 0 <= from_msat_up(msat, unit) - from_msat_down(msat, unit) <= 1


@pytest.mark.parametrize(("msat", "down", "up"), [(0, 0, 0), (1, 0, 1), (999, 0, 1), (1000, 1, 1), (1001, 1, 2)])
def test_a_sat_is_a_thousand_msat(msat: int, down: int, up: int) -> None:
    assert (from_msat_down(msat, "sat"), from_msat_up(msat, "sat")) == (down, up)
    assert (from_msat_down(msat, "msat"), from_msat_up(msat, "msat")) == (msat, msat)


@QUICK
@given(amount=st.integers(0, 2**61 - 1))
def test_a_split_is_of_ascending_denominations_and_sums_up(amount: int) -> None:
    parts = split(amount)
    assert sum(parts) == amount
    assert parts == sorted(set(parts))
    assert set(parts) <= set(DENOMINATIONS)


@pytest.mark.parametrize(
    ("amount_msat", "percent", "minimum", "reserve"),
    [
        (100_000, "1", 0, 1000),
        (100_000, "1", 2000, 2000),
        (100_000, "0.5", 0, 500),
        (1, "1", 0, 1),
        (199, "0.5", 0, 1),
        (201, "0.5", 0, 2),
        (100_000, "0", 0, 0),
        (0, "1", 7, 7),
        (10**15, "0.0001", 0, 10**9),
        (10**12, "0.00005", 0, 500_000),
        (1, "0.000000001", 0, 1),
        (2**63, "33.333333333333333333333333333333", 0, 3074457345618258603),
    ],
)
def test_the_fee_reserve_is_a_share_rounded_up_and_never_below_its_minimum(
    amount_msat: int, percent: str, minimum: int, reserve: int
) -> None:
    assert fee_reserve_msat(amount_msat, Decimal(percent), minimum) == reserve


def test_quote_ids_are_uuids_of_version_7_made_now() -> None:
    before = time.time_ns() // 1_000_000
    made = uuid.UUID(new_quote_id())
    after = time.time_ns() // 1_000_000
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert before <= made.int >> 80 <= after


def test_quote_ids_differ_in_each_of_their_74_random_bits() -> None:
    ids = [uuid.UUID(new_quote_id()).int for _ in range(200)]
    assert len(set(ids)) == len(ids)
    ones = zeros = 0
    for value in ids:
        ones |= value
        zeros |= ~value
    random_bits = (0xFFF << 64) | ((1 << 62) - 1)
    assert ones & zeros & random_bits == random_bits
