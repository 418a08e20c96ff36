"""Who wants to hear of what (NUT-17): the ledger's events, handed to the connections that subscribed to them.

Nothing is polled. A subscription is registered first and then reads a snapshot; events that come meanwhile wait, and
those that the snapshot has in it already are dropped by their commit number. So a subscriber sees the present state,
then every later change, in order and without a gap.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

import apsw

from ledger.events import Event, MeltQuoteChanged, MintQuoteChanged
from ledger.ledger import Ledger
from ledger.models import CheckStateRequest, Wire
from ledger.operations import melt_quote, mint, state

MAX_CONNECTIONS = 1000
GOING_AWAY = 1001
TOO_SLOW = 1008
MAX_SUBSCRIPTIONS = 100
"""Of one connection."""
MAX_FILTERS = 1000
"""Of one subscription."""
MAX_FILTERS_PER_CONNECTION = 10_000
MAX_FILTERS_OF_CLIENT = 100_000
MAX_FILTERS_OF_ALL = 1_000_000
"""Each takes half a KiB."""
MAX_WAITING_MESSAGES = 12_000
"""Of one connection: room for a snapshot of all its filters. A client that reads too slowly is disconnected."""
MAX_WAITING_LENGTH = 8 * 1024 * 1024
"""Of all those messages, in characters."""
MAX_WAITING_LENGTH_OF_ALL = 64 * 1024 * 1024
"""Of the messages of all connections; beyond it those are disconnected that have more waiting than ..."""
LITTLE_WAITING_LENGTH = 64 * 1024
"""... this."""


PROOF_STATE = "proof_state"


def mint_quotes_of(method: str) -> str:
    """The kind of subscription that tells of a method's mint quotes."""
    return f"{method}_mint_quote"


def melt_quotes_of(method: str) -> str:
    """The same for its melt quotes."""
    return f"{method}_melt_quote"


@dataclass(eq=False, slots=True)
class Subscription:
    """One `subId` of one connection. `waiting` collects events until the snapshot has been sent; `seen` is the commit
    that the snapshot shows: an event of an earlier one may still be on its way then, and is old news."""

    sub_id: str
    kind: str
    filters: tuple[str, ...]
    connection: Connection
    waiting: list[tuple[int, str]] | None = field(default_factory=list)
    seen: int = 0


class Waiting:
    """What waits to be sent by all connections: how many characters."""

    length = 0


class Connection:
    """One WebSocket: its subscriptions and the messages it has still to send."""

    def __init__(self, waiting: Waiting, owner: str = "", most_filters: int = MAX_FILTERS_OF_ALL) -> None:
        self.owner = owner
        """Whose it is; all connections of this one together may have so many filters."""
        self.most_filters = most_filters
        self.subscriptions: dict[str, Subscription] = {}
        self._messages: deque[str] = deque()
        self._length = 0
        self._waiting = waiting
        self._ready = asyncio.Event()
        self.end: tuple[int, str] | None = None
        """Set once it shall be closed: with which code, and why."""

    def send(self, message: str) -> None:
        """Queue a message; one too many marks the connection for its end."""
        if len(self._messages) >= MAX_WAITING_MESSAGES or not self._has_room(len(message)):
            self.forget()
            self.close(TOO_SLOW, "messages are not being read fast enough")
        elif self.end is None:
            self._messages.append(message)
            self._count(len(message))
        self._ready.set()

    def forget(self) -> None:
        """Drop what waits."""
        self._messages.clear()
        self._count(-self._length)

    def close(self, code: int, reason: str) -> None:
        """End the connection once what is queued has been sent."""
        self.end = self.end or (code, reason)
        self._ready.set()

    async def next_message(self) -> str | None:
        """The next message to send; None at the end."""
        while not self._messages and self.end is None:
            self._ready.clear()
            await self._ready.wait()
        if not self._messages:
            return None
        message = self._messages.popleft()
        self._count(-len(message))
        return message

    def _has_room(self, length: int) -> bool:
        mine = self._length + length
        of_all = self._waiting.length + length
        return mine <= MAX_WAITING_LENGTH and (of_all <= MAX_WAITING_LENGTH_OF_ALL or mine <= LITTLE_WAITING_LENGTH)

    def _count(self, change: int) -> None:
        self._length += change
        self._waiting.length += change

    @property
    def filters(self) -> int:
        """How many filters all its subscriptions have."""
        return sum(len(subscription.filters) for subscription in self.subscriptions.values())


class Hub:
    """All connections. Lives in the event loop."""

    def __init__(self, ledger: Ledger, loop: asyncio.AbstractEventLoop, methods: Iterable[str]) -> None:
        self._ledger = ledger
        self._readers: dict[str, Callable[[apsw.Connection, tuple[str, ...]], Iterable[Wire]]] = {
            PROOF_STATE: lambda db, ys: state.check(db, CheckStateRequest(Ys=list(ys))).states
        }
        for method in methods:
            self._readers[mint_quotes_of(method)] = partial(_quotes, mint.get, method)
            self._readers[melt_quotes_of(method)] = partial(_quotes, melt_quote.get, method)
        self._loop = loop
        self._listeners: dict[tuple[str, str], set[Subscription]] = {}
        self._connections: set[Connection] = set()
        self._waiting = Waiting()
        self._filters = 0
        self._filters_of: Counter[str] = Counter()

    # --- events ---------------------------------------------------------------------------------------------------

    def on_event(self, event: Event) -> None:
        """A subscriber to the ledger's events; called in the writer's thread."""
        self._loop.call_soon_threadsafe(self._deliver, event)

    def _deliver(self, event: Event) -> None:
        match event:
            case MintQuoteChanged(quote):
                self._tell(mint_quotes_of(quote.method), quote.quote, quote.model_dump_json(), event.commit)
            case MeltQuoteChanged(quote):
                self._tell(melt_quotes_of(quote.method), quote.quote, quote.model_dump_json(), event.commit)
            case _:
                for entry in event.states:
                    if (PROOF_STATE, entry.Y) in self._listeners:
                        self._tell(PROOF_STATE, entry.Y, entry.model_dump_json(), event.commit)

    def _tell(self, kind: str, key: str, payload: str, commit: int) -> None:
        for subscription in self._listeners.get((kind, key), ()):
            if subscription.waiting is not None:
                subscription.waiting.append((commit, payload))
            elif commit > subscription.seen:
                subscription.connection.send(notification(subscription.sub_id, payload))

    def kinds(self) -> list[str]:
        """What can be subscribed to."""
        return list(self._readers)

    # --- connections ----------------------------------------------------------------------------------------------

    def connect(self, owner: str = "", most_filters: int = MAX_FILTERS_OF_ALL) -> Connection | None:
        """A new connection; None if there are too many. `most_filters`: of all connections of this owner."""
        if len(self._connections) >= MAX_CONNECTIONS:
            return None
        connection = Connection(self._waiting, owner, most_filters)
        self._connections.add(connection)
        return connection

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections)

    def close(self) -> None:
        """The mint is stopping: say so to all."""
        for connection in self._connections:
            connection.close(GOING_AWAY, "the mint is stopping")

    def disconnect(self, connection: Connection) -> None:
        """Forget a connection and its subscriptions."""
        self._connections.discard(connection)
        connection.forget()
        for subscription in list(connection.subscriptions.values()):
            self.unsubscribe(subscription)

    def has_room(self, connection: Connection, filters: int) -> bool:
        """Whether so many filters may be added, of this client and of all."""
        mine = self._filters_of[connection.owner] + filters
        return mine <= connection.most_filters and self._filters + filters <= MAX_FILTERS_OF_ALL

    async def subscribe(self, subscription: Subscription, accepted: str) -> None:
        """Register; then send `accepted`, the present state of every filter, and what changed since.

        Raises LedgerError for an unknown quote or a `Y` without a point's form; then nothing is registered."""
        connection = subscription.connection
        connection.subscriptions[subscription.sub_id] = subscription
        self._count(connection, len(subscription.filters))
        for key in subscription.filters:
            self._listeners.setdefault((subscription.kind, key), set()).add(subscription)
        try:
            subscription.seen, snapshot = await asyncio.to_thread(self._snapshot, subscription)
        except BaseException:
            self.unsubscribe(subscription)
            raise
        connection.send(accepted)
        for payload in snapshot:
            connection.send(notification(subscription.sub_id, payload))
        waiting, subscription.waiting = subscription.waiting or [], None
        for commit, payload in waiting:
            if commit > subscription.seen:
                connection.send(notification(subscription.sub_id, payload))

    def _snapshot(self, subscription: Subscription) -> tuple[int, list[str]]:
        with self._ledger.read() as db:
            seen = self._ledger.commit_number(db)
            read = self._readers[subscription.kind]
            found = [entry.model_dump_json() for entry in read(db, subscription.filters)]
        return seen, found

    def unsubscribe(self, subscription: Subscription) -> None:
        """Forget a subscription."""
        if subscription.connection.subscriptions.pop(subscription.sub_id, None) is not None:
            self._count(subscription.connection, -len(subscription.filters))
        for key in subscription.filters:
            listeners = self._listeners.get((subscription.kind, key), set())
            listeners.discard(subscription)
            if not listeners:
                self._listeners.pop((subscription.kind, key), None)

    def _count(self, connection: Connection, change: int) -> None:
        self._filters += change
        self._filters_of[connection.owner] += change
        if not self._filters_of[connection.owner]:
            del self._filters_of[connection.owner]


def _quotes(
    get: Callable[[apsw.Connection, str, str], Wire], method: str, db: apsw.Connection, quote_ids: tuple[str, ...]
) -> Iterator[Wire]:
    return (get(db, method, quote_id) for quote_id in quote_ids)


def notification(sub_id: str, payload: str) -> str:
    """A NUT-17 notification. `payload` is JSON already: the very text that `GET` answers. There is no `id`: wallets
    take a message with one for an answer."""
    return f'{{"jsonrpc":"2.0","method":"subscribe","params":{{"subId":{json.dumps(sub_id)},"payload":{payload}}}}}'
