"""One beat for each change of the ledger: for those who want to look again, but not once for each of a thousand.

Nothing is queued: who is late is told once that there was something.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from ledger.events import Event


class Pulse:
    """Lives in the event loop. `count` grows with each beat."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._next = asyncio.Event()
        self.count = 0
        self.listeners = 0
        """How many streams follow it."""
        self.is_over = False

    def on_event(self, _event: Event) -> None:
        """A subscriber to the ledger's events; called in the writer's thread."""
        self._loop.call_soon_threadsafe(self.beat)

    def beat(self) -> None:
        """Something has changed."""
        self.count += 1
        self._wake()

    def close(self) -> None:
        """The mint stops: nobody waits any longer."""
        self.is_over = True
        self._wake()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Be counted among the listeners."""
        self.listeners += 1
        try:
            yield
        finally:
            self.listeners -= 1

    async def after(self, seen: int) -> int:
        """Wait for a beat after the one that was `seen` (which is a value of `count`), or the end; returns `count`."""
        while self.count == seen and not self.is_over:
            await self._next.wait()
        return self.count

    def _wake(self) -> None:
        self._next.set()
        self._next = asyncio.Event()
