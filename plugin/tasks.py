"""Background tasks, all of them supervised: none is lost, none fails in silence."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")


class Supervisor:
    """Keeps a reference to each task it starts, and reports those that fail.

    `on_fatal` is called, with a sentence, when something that must run as long as the mint does has ended."""

    def __init__(self, on_fatal: Callable[[str], None]) -> None:
        self._on_fatal = on_fatal
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stopping = False
        self.failures: Counter[str] = Counter()
        """How many tasks of each name have failed."""

    def spawn(self, name: str, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a task that may end. An exception that nobody awaits is logged."""
        # In a context of its own: with the present one it would keep a whole HTTP request as long as a payment takes.
        task = asyncio.create_task(work, name=name, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def background(self, name: str, work: Coroutine[Any, Any, Any]) -> None:
        """Start a task whose result nobody waits for; a failure is logged as a bug."""
        self.spawn(name, work).add_done_callback(self._log_failure)

    def forever(self, name: str, work: Coroutine[Any, Any, Any]) -> None:
        """Start a task without which the mint can't go on."""
        self.watch(self.spawn(name, work))

    def watch(self, task: asyncio.Task[Any]) -> None:
        """The mint can't go on without this task."""
        task.add_done_callback(self._end_of_forever)

    def give_up(self, reason: str) -> None:
        """The mint can't go on, and if it isn't stopping anyway it ends now; from any thread."""
        if not self._stopping:
            self._on_fatal(reason)

    def let_end(self) -> None:
        """From now on any task may end: the mint is stopping."""
        self._stopping = True

    async def stop(self) -> None:
        """Cancel all tasks and wait for them."""
        self.let_end()
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _log_failure(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failures[task.get_name()] += 1
            log.error("%s failed: %r", task.get_name(), error, exc_info=error)

    def _end_of_forever(self, task: asyncio.Task[Any]) -> None:
        if self._stopping:
            return
        self._log_failure(task)
        self.give_up(f"{task.get_name()} has ended")
