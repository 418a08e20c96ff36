"""What has happened so far, written by the node's thread and read, or waited for, by others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from contrib.sandbox.errors import SandboxTimeout

Entry = TypeVar("Entry")


class Journal(Generic[Entry]):
    """A list that keeps its last entries and can be waited on. A position stays valid when old entries go."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: list[Entry] = []
        self._dropped = 0
        self._changed = threading.Condition()

    def append(self, entry: Entry) -> None:
        """Add an entry and wake whoever waits."""
        with self._changed:
            self._entries.append(entry)
            if len(self._entries) > 2 * self._limit:
                surplus = len(self._entries) - self._limit
                del self._entries[:surplus]
                self._dropped += surplus
            self._changed.notify_all()

    @property
    def position(self) -> int:
        """The position behind the last entry."""
        with self._changed:
            return self._dropped + len(self._entries)

    def since(self, position: int = 0) -> list[Entry]:
        """The entries from a position on."""
        with self._changed:
            return self._entries[max(0, position - self._dropped) :]

    def wait_for(
        self, matches: Callable[[Entry], bool], timeout_s: float, *, what: str, start: int = 0, count: int = 1
    ) -> Entry:
        """The count-th matching entry from a position on; raises :class:`SandboxTimeout`."""
        deadline = time.monotonic() + timeout_s
        seen, found = start, 0
        with self._changed:
            while True:
                for entry in self._entries[max(0, seen - self._dropped) :]:
                    if matches(entry):
                        found += 1
                        if found == count:
                            return entry
                seen = self._dropped + len(self._entries)
                if not self._changed.wait(deadline - time.monotonic()) and time.monotonic() >= deadline:
                    raise SandboxTimeout(f"{what}: not within {timeout_s} s ({found} of {count} seen)")
