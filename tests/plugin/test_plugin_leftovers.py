"""What the mint's work leaves to the collector of garbage: it would have to look at all melts in flight to find it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import cast

import pytest

from contrib.bootstrap import ROOT
from tests.plugin import leftovers

LITTLE = [
    "get",
    "post",
    "connection",
    "connection closed",
    "malformed",
    "not ready",
    "too often",
    "refusal of the ledger",
    "search without a route",
]
OF_THE_FRAMEWORK = [
    "framework",
    "connection of the framework",
    "unknown path",
    "wrong method",
    "too long",
    "too long in the framework",
]


@pytest.fixture(scope="module")
def left() -> dict[str, int]:
    ran = subprocess.run(
        [sys.executable, "-m", "tests.plugin.leftovers"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return cast(dict[str, int], json.loads(ran.stdout))


def test_every_way_is_judged(left: dict[str, int]) -> None:
    assert sorted(left) == sorted(LITTLE + OF_THE_FRAMEWORK)


@pytest.mark.parametrize("way", LITTLE)
def test_what_is_done_leaves_nothing_to_the_collector_of_garbage(left: dict[str, int], way: str) -> None:
    assert left[way] < leftovers.COUNT


@pytest.mark.parametrize("way", OF_THE_FRAMEWORK)
def test_of_the_framework_there_is_a_little(left: dict[str, int], way: str) -> None:
    assert left[way] < 16 * leftovers.COUNT
