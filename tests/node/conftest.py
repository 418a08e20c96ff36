"""Tests on a real node: skipped, with the reason, where there is none; failing instead with REQUIRE_LIGHTNINGD=1."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.node.harness import Mint, Network
from tests.node.purse import Purse, funded_purse

PROGRAMS = ("lightningd", "bitcoind", "bitcoin-cli")
OLDEST_LIGHTNINGD = (26, 6)


def _missing() -> list[str]:
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if importlib.util.find_spec("pyln") is None or importlib.util.find_spec("pyln.testing") is None:
        missing.append("pyln-testing")
    if not missing:
        version = subprocess.run(["lightningd", "--version"], capture_output=True, text=True, check=True).stdout.strip()
        numbers = version.lstrip("v").split("-")[0].split(".")[:2]
        if tuple(int(number) for number in numbers) < OLDEST_LIGHTNINGD:
            missing.append(f"lightningd v26.06 or newer (here: {version})")
    return missing


MISSING = _missing()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Skip or fail each test of this directory if its tools are missing."""
    if MISSING:
        reason = f"tests on a real node need {', '.join(MISSING)}"
        if os.environ.get("REQUIRE_LIGHTNINGD") == "1":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """The chain, and the nodes that the mints pay and are paid by."""
    running = Network(tmp_path_factory.mktemp("node"))
    try:
        running.start()
        yield running
    finally:
        problems = running.stop()
    assert not problems, "\n".join(problems)


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
