"""Tests with foreign wallets: skipped, with the reason, where one can't be had; with REQUIRE_WALLETS=1 they fail."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import TypeVar

import pytest

from tests.wallets import installs
from tests.wallets.mints import Mint, in_sandbox, on_lightningd

Wallet = TypeVar("Wallet")
StartMint = Callable[..., AbstractContextManager[Mint]]
GetMint = Callable[..., Mint]
"""Both take one of the PLACES, the input fee in ppk, and `v1_ids`."""


def require(install: Callable[[], Wallet]) -> Wallet:
    """A wallet, or the end of the test."""
    try:
        return install()
    except installs.UnavailableError as error:
        reason = str(error)
    if os.environ.get("REQUIRE_WALLETS") == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def start_mint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> StartMint:
    """Starts mints. The real network is started when the first one needs it."""

    def start(place: str, input_fee_ppk: int = 0, *, v1_ids: bool = False) -> AbstractContextManager[Mint]:
        directory = tmp_path_factory.mktemp(place)
        if place == "lightningd":
            return on_lightningd(directory, request.getfixturevalue("network"), input_fee_ppk, v1_ids=v1_ids)
        return in_sandbox(directory, input_fee_ppk, v1_ids=v1_ids)

    return start


@pytest.fixture(scope="module")
def shared_mint(start_mint: StartMint) -> Iterator[GetMint]:
    """Gives the mint of that kind that a file's tests share; it is started when the first one asks."""
    with ExitStack() as stack:
        mints: dict[tuple[str, int, bool], Mint] = {}

        def get(place: str, input_fee_ppk: int = 0, *, v1_ids: bool = False) -> Mint:
            kind = (place, input_fee_ppk, v1_ids)
            if kind not in mints:
                mints[kind] = stack.enter_context(start_mint(place, input_fee_ppk, v1_ids=v1_ids))
            return mints[kind]

        yield get


@pytest.fixture
def own_mint(start_mint: StartMint) -> Iterator[GetMint]:
    """Makes a mint for one test."""
    with ExitStack() as stack:
        yield lambda *kind, **more: stack.enter_context(start_mint(*kind, **more))
