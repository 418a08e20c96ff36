"""The `wait` command: per subsystem three counters (created, updated, deleted) and who waits for them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from contrib.sandbox.store import Store

SUBSYSTEMS = ("forwards", "sendpays", "invoices", "htlcs", "chainmoves", "channelmoves", "networkevents")
INDEXES = ("created", "updated", "deleted")

_KIND = "index"


@dataclass
class Waits:
    """All counters. They are persistent and only ever grow."""

    store: Store
    _values: dict[tuple[str, str], int] = field(default_factory=dict)
    _waiting: dict[tuple[str, str], list[tuple[int, asyncio.Future[dict[str, Any]]]]] = field(default_factory=dict)

    def load(self) -> None:
        """Take over the counters of an earlier run."""
        for key, value in self.store.all(_KIND):
            subsystem, index = key.split(".")
            self._values[subsystem, index] = value

    def value(self, subsystem: str, index: str) -> int:
        """The counter as it stands."""
        return self._values.get((subsystem, index), 0)

    def bump(self, subsystem: str, index: str, details: dict[str, Any]) -> int:
        """Count one event and answer everybody who waited for it."""
        key = (subsystem, index)
        value = self._values[key] = self.value(subsystem, index) + 1
        self.store.put(_KIND, f"{subsystem}.{index}", value)
        waiting = self._waiting.get(key)
        if waiting:
            self._waiting[key] = [entry for entry in waiting if entry[0] > value]
            reply = {"subsystem": subsystem, index: value, subsystem: details}
            for wanted, future in waiting:
                if wanted <= value and not future.done():
                    future.set_result(reply)
        return value

    def forget(self, subsystem: str, index: str) -> None:
        """Count from the beginning again."""
        self._values.pop((subsystem, index), None)
        self.store.delete(_KIND, f"{subsystem}.{index}")

    async def wait(self, subsystem: str, index: str, wanted: int) -> dict[str, Any]:
        """Answer at once when the counter is already there, else when it gets there."""
        value = self.value(subsystem, index)
        if value >= wanted:
            return {"subsystem": subsystem, index: value}
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault((subsystem, index), []).append((wanted, future))
        return await future

    def forget_waiters(self) -> None:
        """The node went down: nobody waits any more."""
        self._waiting.clear()
