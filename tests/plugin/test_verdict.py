"""The decider of payments by itself: a ledger that can't be read for a while."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ledger.errors import StorageError
from plugin.methods import verdict
from plugin.methods.verdict import Verdicts
from plugin.node.events import PartSucceeded
from plugin.tasks import Supervisor

HASH = bytes(32)


class DamagedLedger:
    """Can't be read at first; then it knows of no melt."""

    def __init__(self) -> None:
        self.asked = 0
        self.was_read = asyncio.Event()

    def pending_melt(self, _payment_hash: bytes) -> None:
        self.asked += 1
        if self.asked == 1:
            raise StorageError("cannot read the ledger")
        self.was_read.set()


def no_deaths(reason: str) -> None:
    raise AssertionError(reason)


@pytest.mark.parametrize("hint", ["resolve", "part_succeeded"])
async def test_what_could_not_be_read_is_looked_at_again(monkeypatch: pytest.MonkeyPatch, hint: str) -> None:
    monkeypatch.setattr(verdict, "RETRY_S", 0)
    ledger: Any = DamagedLedger()
    verdicts = Verdicts.__new__(Verdicts)
    verdicts._ledger, verdicts._supervisor = ledger, Supervisor(no_deaths)
    if hint == "resolve":
        await verdicts.resolve(HASH)
    else:
        verdicts.part_succeeded(PartSucceeded(HASH, "label", bytes(32), 1, 1))
    async with asyncio.timeout(30):
        await ledger.was_read.wait()
