"""The real network, for the tests of several directories: skipped, with the reason, where there are no nodes; failing
instead with REQUIRE_LIGHTNINGD=1."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.node.harness import Network

PROGRAMS = ("lightningd", "bitcoind", "bitcoin-cli")
OLDEST_LIGHTNINGD = (26, 6)
NETWORK_TIMEOUT_S = 900
"""Of a test that may be the first to need the network, or the mint of its module: the limit of a test counts its
fixtures as well. Struck in there, it would fail all tests that share them, whatever they test."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give tests on the network the time to set it up, on a busy machine as well."""
    for item in items:
        if "network" in getattr(item, "fixturenames", ()) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(NETWORK_TIMEOUT_S))


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


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """The chain, and the nodes that the mints pay and are paid by."""
    if missing := _missing():
        reason = f"tests on a real node need {', '.join(missing)}"
        if os.environ.get("REQUIRE_LIGHTNINGD") == "1":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    running = Network(tmp_path_factory.mktemp("node"))
    try:
        running.start()
        yield running
    finally:
        problems = running.stop()
    assert not problems, "\n".join(problems)
