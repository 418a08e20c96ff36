"""What the mint owed and what its node owned, hour by hour.

The ledger knows the past of the one, and nobody that of the other: so both are noted together, when something has
changed and not more often than the limit below, in the node's own datastore: there it is where the node's money is, and
nothing about it has to be kept safe. One entry for each day; each hour keeps its last note.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from plugin.node.rpc import NodeUnavailableError, OutcomeUnknownError, RpcError
from plugin.node.view import Node
from plugin.operator.pulse import Pulse
from plugin.solvency import Solvency

KEY = ["cashu", "balances"]
"""In the node's datastore; below it a key for each day."""
HOUR_S = 3600
NOTE_EVERY_S = 300
"""So long after one note nothing is noted; so old a change may be when it is."""
KEEP_DAYS = 366
LATEST = 2**36
"""No time is later (unix seconds): no calendar would know it."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Note:
    """Both sides at one time (unix seconds), in millisatoshis."""

    at: int
    owed_msat: int
    owned_msat: int


class History:
    """The notes of the last year. `clock` gives unix seconds."""

    def __init__(self, node: Node, solvency: Solvency, pulse: Pulse, clock: Callable[[], int]) -> None:
        self._node = node
        self._solvency = solvency
        self._pulse = pulse
        self._clock = clock
        self._by_hour: dict[int, Note] = {}

    async def run(self) -> None:
        """Read what was noted before, then note what changes, for ever."""
        await self._load()
        while True:
            seen = self._pulse.count
            try:
                await self._note()
            except (RpcError, NodeUnavailableError, OutcomeUnknownError) as error:
                log.debug("the balance was not noted: %s", error)
            await asyncio.sleep(NOTE_EVERY_S)
            await self._pulse.after(seen)

    def points(self, since: int, step_s: int) -> list[Note]:
        """The last note of each step of time, in order."""
        last: dict[int, Note] = {}
        for hour in sorted(self._by_hour):
            note = self._by_hour[hour]
            if note.at >= since:
                last[note.at // step_s] = note
        return list(last.values())

    async def _load(self) -> None:
        try:
            days = await self._node.recall_below(KEY)
            for day in sorted(days)[:-KEEP_DAYS]:
                await self._node.forget([*KEY, day])
        except (RpcError, NodeUnavailableError, OutcomeUnknownError) as error:
            log.warning("the balances of the past can't be read: %s", error)
            return
        for text in days.values():
            for note in read(text):
                self._by_hour.setdefault(note.at // HOUR_S, note)

    async def _note(self) -> None:
        owned = await self._solvency.owned()
        books = self._solvency.books()
        note = Note(self._clock(), books.owed_msat, owned.total_msat)
        self._by_hour[note.at // HOUR_S] = note
        self._by_hour = {hour: kept for hour, kept in self._by_hour.items() if kept.at > note.at - KEEP_DAYS * 86400}
        day = _day(note.at)
        await self._node.remember([*KEY, day], write(n for n in self._by_hour.values() if _day(n.at) == day))


def write(notes: Iterable[Note]) -> str:
    """Notes as they are stored."""
    return json.dumps([[note.at, note.owed_msat, note.owned_msat] for note in sorted(notes, key=lambda note: note.at)])


def read(text: str) -> list[Note]:
    """Notes as they were stored; none from a text that has another form: it is nobody's money."""
    try:
        notes = [Note(*(int(number) for number in entry)) for entry in json.loads(text)]
        return [note for note in notes if 0 <= note.at < LATEST]
    except (ValueError, TypeError, OverflowError, RecursionError):
        log.warning("an entry of the past balances in the node's datastore can't be read: it is left out")
        return []


def _day(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).date().isoformat()
