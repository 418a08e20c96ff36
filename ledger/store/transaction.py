"""What an operation works with: the connection inside the writer's transaction, the time, the keysets, the events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import apsw

from ledger.events import Event
from ledger.keysets import Keysets


@dataclass(slots=True)
class Transaction:
    """One operation's view of the ledger. Nothing in it outlives the operation except through the commit."""

    db: apsw.Connection
    now: int
    keysets: Keysets
    events: list[Event] = field(default_factory=list)
    after_commit: list[Callable[[], None]] = field(default_factory=list)
    """Changes of memory that must follow the database, such as a new set of keysets. They end the batch: the next
    operation sees them."""

    def publish(self, event: Event) -> None:
        """Tell subscribers once this is committed."""
        self.events.append(event)
