"""The mints and purses of the tests on a real node."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.node.harness import Mint, Network
from tests.node.purse import Purse, funded_purse


@pytest.fixture(scope="session")
def shared_mint(network: Network) -> Iterator[Mint]:
    """A mint with a public channel, for the tests that leave it running."""
    with network.mint(announced=True) as mint:
        yield mint


@pytest.fixture
def purse(shared_mint: Mint, network: Network) -> Purse:
    """10 000 sat of the shared mint."""
    return funded_purse(shared_mint, network)


@pytest.fixture
def own_mint(network: Network) -> Iterator[Mint]:
    """A mint for one test that stops or kills it."""
    with network.mint() as mint:
        yield mint


@pytest.fixture
def own_purse(own_mint: Mint, network: Network) -> Purse:
    """10 000 sat of the test's own mint."""
    return funded_purse(own_mint, network)
