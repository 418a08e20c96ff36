"""Hostile money: see `money` for the scenarios."""

from __future__ import annotations

import pytest

from tests.plugin import money
from tests.plugin.harness import Mint, Purse

OPTIONS = money.OPTIONS
CONSTANTS = money.CONSTANTS


@pytest.mark.parametrize("name", money.DAILY)
def test_a_scenario(mint: Mint, purse: Purse, name: str) -> None:
    assert money.SCENARIOS[name](mint, purse)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in money.SCENARIOS if name not in money.DAILY])
def test_another_scenario(mint: Mint, purse: Purse, name: str) -> None:
    assert money.SCENARIOS[name](mint, purse)
