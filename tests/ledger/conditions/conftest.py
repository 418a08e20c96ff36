"""Fixtures of the tests of spending conditions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ledger.conditions.helpers import Way, melt_of, swap_of
from tests.ledger.helpers import Mint


@pytest.fixture
def mint(tmp_path: Path) -> Iterator[Mint]:
    """A mint for sat, without fee. It does not wait for the disk: durability is not the subject here, and the rules are
    many. Its books must balance at the end."""
    mint = Mint(tmp_path / "ledger.sqlite3")
    mint.database.writer.pragma("synchronous", "OFF")
    yield mint
    assert mint.audit().faults == ()
    mint.close()


@pytest.fixture(params=[swap_of, melt_of], ids=["swap", "melt"])
def way(request: pytest.FixtureRequest) -> Way:
    """The two ways to spend a proof; the rules are the same."""
    chosen: Way = request.param
    return chosen
