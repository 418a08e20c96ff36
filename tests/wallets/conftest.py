"""Tests with foreign wallets: skipped, with the reason, where one can't be had; with REQUIRE_WALLETS=1 they fail."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import pytest

from tests.wallets import installs
from tests.wallets.mints import Mint, running

Wallet = TypeVar("Wallet")
GetMint = Callable[..., Mint]
"""Takes the input fee in ppk, and the other arguments of `running`."""


def require(install: Callable[[], Wallet]) -> Wallet:
    """A wallet, or the end of the test."""
    try:
        return install()
    except installs.UnavailableError as error:
        reason = str(error)
    if os.environ.get("REQUIRE_WALLETS") == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def shared_mint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GetMint]:
    """Gives the mint of that kind that all tests share; it is started when the first one asks."""
    with ExitStack() as stack:
        mints: dict[tuple[int, bool, bool], Mint] = {}

        def get(input_fee_ppk: int = 0, *, auto: bool = False, v1_ids: bool = False) -> Mint:
            kind = (input_fee_ppk, auto, v1_ids)
            if kind not in mints:
                directory = tmp_path_factory.mktemp("node")
                mints[kind] = stack.enter_context(running(directory, input_fee_ppk, auto=auto, v1_ids=v1_ids))
            return mints[kind]

        yield get


@pytest.fixture
def own_mint(tmp_path: Path) -> Iterator[GetMint]:
    """Makes a mint for one test."""
    with ExitStack() as stack:

        def make(input_fee_ppk: int = 0, *, v1_ids: bool = False) -> Mint:
            return stack.enter_context(running(tmp_path / "node", input_fee_ppk, v1_ids=v1_ids))

        yield make
