"""Notifications of the node, from the thread that reads standard input into the event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MAX_WAITING_EVENTS = 10_000
"""Events held while the mint starts. Beyond it they are dropped, and everything is looked up instead."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PartSucceeded:
    """`sendpay_success`: one part of an outgoing payment was claimed. Comes with the preimage."""

    payment_hash: bytes
    label: str | None
    preimage: bytes
    amount_msat: int
    sent_msat: int

    @classmethod
    def read(cls, payload: dict[str, Any]) -> PartSucceeded:
        """Raises KeyError or ValueError for another form."""
        return cls(
            bytes.fromhex(payload["payment_hash"]),
            payload.get("label"),
            bytes.fromhex(payload["payment_preimage"]),
            payload.get("amount_msat", 0),
            payload["amount_sent_msat"],
        )


@dataclass(frozen=True, slots=True)
class PartFailed:
    """`sendpay_failure`: one part of an outgoing payment failed; others may be in flight, or follow."""

    payment_hash: bytes

    @classmethod
    def read(cls, payload: dict[str, Any]) -> PartFailed:
        """Raises KeyError or ValueError for another form."""
        return cls(bytes.fromhex(payload["data"]["payment_hash"]))


@dataclass(frozen=True, slots=True)
class InvoicePaid:
    """`invoice_payment`: some invoice of the node was paid."""


@dataclass(frozen=True, slots=True)
class BlockAdded:
    """`block_added`: the node has processed a block, perhaps instead of another one of the same height."""

    height: int

    @classmethod
    def read(cls, payload: dict[str, Any]) -> BlockAdded:
        """Raises KeyError or TypeError for another form."""
        return cls(int(payload["height"]))


@dataclass(frozen=True, slots=True)
class CoinsMoved:
    """`coin_movement`, of the on-chain wallet: an output of it came into a block, or was spent in one."""


@dataclass(frozen=True, slots=True)
class EventsLost:
    """More events came than could be held, or a connection to the node broke: look everything up."""


NodeEvent = PartSucceeded | PartFailed | InvoicePaid | BlockAdded | CoinsMoved | EventsLost


class EventQueue:
    """Hands events to one consumer in the loop, in the order in which the node sent them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queue: asyncio.Queue[NodeEvent] = asyncio.Queue(MAX_WAITING_EVENTS)
        self._lost = False

    def post(self, event: NodeEvent) -> None:
        """From any thread."""
        try:
            self._loop.call_soon_threadsafe(self._put, event)
        except RuntimeError:  # the loop is closed: the plugin is stopping
            log.debug("an event came after the end")

    def _put(self, event: NodeEvent) -> None:
        try:
            self._queue.put_nowait(event)
        except asyncio.QueueFull:
            self._lost = True

    async def consume(self, handle: Callable[[NodeEvent], None]) -> None:
        """Call `handle` for each event, for ever."""
        while True:
            event = await self._queue.get()
            if self._lost:
                self._lost = False
                handle(EventsLost())
            handle(event)
