"""What `contrib.bench async` and `growth` measure, in small: that they run, and what must hold on any machine."""

from __future__ import annotations

import argparse

import pytest

from contrib.bench import growth, pending

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

MELTS = 100
SIZES = (400, 4000)


def test_melts_in_flight_ask_the_node_nothing_while_nothing_happens() -> None:
    part = pending.run(argparse.Namespace(pending=MELTS, quick=True))
    assert part["quiet"]["calls"] == {}
    assert part["settled"]["melts"] + part["drained"]["melts"] == MELTS
    assert part["restart"]["calls_per_melt"] < 3
    assert f"| {part['kib_per_melt']} KiB |" in pending.render(part)


def test_mints_with_a_long_history_are_measured() -> None:
    part = growth.run(argparse.Namespace(sizes=SIZES, quick=True))
    assert [size["spent_proofs"] for size in part["sizes"]] == list(SIZES)
    assert all(len(size["flows"]) == 4 for size in part["sizes"])
    assert "| spent proofs | 400 | 4,000 |" in growth.render(part)
