"""One question for all who want to know the same at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Shared(Generic[T]):
    """Asks one question, never twice at once. Who wants to know while it is being asked waits for the next time, and
    all of them share that answer: it is never older than their wish for it."""

    def __init__(self, ask: Callable[[], Awaitable[T]]) -> None:
        self._ask = ask
        self._asked: asyncio.Task[T] | None = None
        self._next: asyncio.Task[T] | None = None

    async def get(self) -> T:
        """The answer to a question that is asked from now on. Raises what asking raises."""
        if self._next is None:
            self._next = asyncio.create_task(self._ask_after(self._asked), name="shared question")
            self._next.add_done_callback(_note_failure)
        # Who gives up takes nothing from the others.
        return await asyncio.shield(self._next)

    async def _ask_after(self, before: asyncio.Task[T] | None) -> T:
        if before is not None:
            await asyncio.wait([before])
        self._asked, self._next = self._next, None
        return await self._ask()


def _note_failure(task: asyncio.Task[T]) -> None:
    """Whoever waits is told; if nobody does any more, it is no bug."""
    if not task.cancelled():
        task.exception()
