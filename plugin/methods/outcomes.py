"""Waiting for the outcome of a melt: by the ledger's own events, without asking anybody."""

from __future__ import annotations

import asyncio

from ledger.events import Event, MeltQuoteChanged
from ledger.models import MeltQuote, MeltQuoteState


class Outcomes:
    """Wakes those who wait for a melt when its quote leaves PENDING."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: dict[str, set[asyncio.Future[MeltQuote]]] = {}

    def on_event(self, event: Event) -> None:
        """A subscriber to the ledger's events; called in the writer's thread."""
        if isinstance(event, MeltQuoteChanged) and event.quote.state is not MeltQuoteState.PENDING:
            self._loop.call_soon_threadsafe(self._wake, event.quote)

    def _wake(self, quote: MeltQuote) -> None:
        for future in self._waiting.pop(quote.quote, set()):
            if not future.done():
                future.set_result(quote)

    def expect(self, quote_id: str) -> asyncio.Future[MeltQuote]:
        """A future for the next outcome of this melt. Make it before the payment is sent; cancel it to give up."""
        future: asyncio.Future[MeltQuote] = self._loop.create_future()
        self._waiting.setdefault(quote_id, set()).add(future)
        future.add_done_callback(lambda done: self._forget(quote_id, done))
        return future

    def give_up(self) -> None:
        """The mint is stopping: nobody waits any longer."""
        for futures in list(self._waiting.values()):
            for future in list(futures):
                future.cancel()

    def _forget(self, quote_id: str, future: asyncio.Future[MeltQuote]) -> None:
        waiting = self._waiting.get(quote_id, set())
        waiting.discard(future)
        if not waiting:
            self._waiting.pop(quote_id, None)
