"""Fixtures of the ledger's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ledger.helpers import Mint, Wallet


@pytest.fixture
def mint(tmp_path: Path) -> Iterator[Mint]:
    """A mint with one active keyset for sat and one for msat, both without fee. Its books must balance at the end."""
    mint = Mint(tmp_path / "ledger.sqlite3", units=("sat", "msat"))
    yield mint
    assert mint.audit().faults == ()
    mint.close()


@pytest.fixture
def alice() -> Wallet:
    """A wallet."""
    return Wallet("alice")


@pytest.fixture
def bob() -> Wallet:
    """Another wallet."""
    return Wallet("bob")
