"""Parts of outgoing payments on their way: sent, held, resolved, and told about.

A part outlives the command that has sent it. What becomes of it is decided outside, so it also goes on while the node
is down; the node learns of it when its peer is connected again.
"""

from __future__ import annotations

import asyncio
import functools
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from contrib.sandbox import news
from contrib.sandbox.channels import REMOTE_SHORT_CHANNEL_ID, SHORT_CHANNEL_ID
from contrib.sandbox.errors import SandboxError
from contrib.sandbox.payments import PENDING, Row
from contrib.sandbox.script import (
    DESTINATION_REFUSED,
    Notifications,
    Outcome,
    Part,
    PartFailure,
    part_from_json,
    part_to_json,
)

if TYPE_CHECKING:
    from contrib.sandbox.node import Node

ERROR_ONION_BYTES = 292
COIN_MOVEMENT_DELAY_S = 0.07
"""A real node writes the move down this much after the part was resolved."""

_KIND = "in-flight"


@dataclass(frozen=True)
class Attempt:
    """What all parts of one xpay command have in common."""

    payment_hash: str
    groupid: int
    destination: str
    total_msat: int
    label: str | None
    bolt11: str
    notifications: Notifications
    replied: asyncio.Event
    """Set when the caller has its reply."""


@dataclass(eq=False)
class LivePart:
    """A part that has left and is not resolved yet."""

    row: Row
    part: Part
    htlc: int | None
    """created_index of its HTLC; None for a ghost, and for a payment to oneself."""
    outcome: asyncio.Future[bool]
    attempt: Attempt | None
    """None once the command that has sent it is gone."""
    cause: PartFailure = DESTINATION_REFUSED
    started: float = field(default_factory=time.monotonic)


class Parts:
    """Every part in flight, by payment hash."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._live: dict[str, list[LivePart]] = {}
        self._deferred: list[tuple[LivePart, bool, PartFailure | None]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def load(self) -> None:
        """Parts of an earlier run of the sandbox that are still on their way."""
        for created_index, saved in list(self._node.store.all(_KIND)):
            row = self._node.payments.get(int(created_index))
            if row is not None and row.status == PENDING:
                part = part_from_json(saved["part"])
                self._plan(LivePart(row, part, saved["htlc"], self._node.loop.create_future(), None))

    def of_hash(self, payment_hash: str) -> list[LivePart]:
        """Parts of a payment that are on their way, ghosts included."""
        return list(self._live.get(payment_hash, []))

    def count(self) -> int:
        """How many parts are on their way."""
        return sum(len(parts) for parts in self._live.values())

    def start(self, attempt: Attempt, partid: int, amount_msat: int, hops: list[dict[str, Any]]) -> None:
        """xpay announces an attempt, before lightningd has agreed to it."""
        begun = news.pay_part_start(
            attempt.payment_hash, attempt.groupid, partid, attempt.total_msat, amount_msat, hops
        )
        self._node.notify_all([begun], Notifications(repeat=attempt.notifications.repeat))

    def send(self, attempt: Attempt, part: Part, partid: int, amount_msat: int, fee_msat: int) -> LivePart:
        """A part leaves: its row and its HTLC appear together."""
        node = self._node
        sent_msat = amount_msat + fee_msat
        self.start(attempt, partid, amount_msat, self.hops(amount_msat, fee_msat))
        row = self.add_row(attempt, partid, amount_msat, sent_msat)
        ghost = part.outcome is Outcome.GHOST
        htlc = None if ghost else node.channel.add_out(attempt.payment_hash, sent_msat, node.blockheight).created_index
        live = LivePart(row, part, htlc, node.loop.create_future(), attempt, cause=part.cause)
        if not ghost:
            node.store.put(_KIND, str(row.created_index), {"part": part_to_json(part), "htlc": htlc})
        self._plan(live)
        return live

    def pay_self(self, attempt: Attempt) -> LivePart:
        """A payment to the node itself: no HTLC, no fee, and done when this returns."""
        node = self._node
        amount_msat = attempt.total_msat
        self.start(attempt, 1, amount_msat, [])
        row = self.add_row(attempt, 1, amount_msat, amount_msat)
        live = LivePart(row, Part(), None, node.loop.create_future(), attempt)
        record = node.invoices.of_hash(attempt.payment_hash)
        if record is None or node.invoices.complaint(attempt.payment_hash, amount_msat) is not None:
            live.cause = PartFailure.of_own_node()
            node.payments.fail(row, secrets.token_hex(ERROR_ONION_BYTES))
            live.outcome.set_result(False)
            self._announce(live, [news.sendpay_failure(row, live.cause)], ok=False)
            return live
        node.invoices.pay(record, amount_msat)
        node.offers.note_paid(record)
        node.payments.complete(row, record.preimage)
        live.outcome.set_result(True)
        self._announce(live, [news.sendpay_success(row), news.invoice_payment(record)], ok=True)
        return live

    def release(self, payment_hash: str, *, ok: bool, partid: int | None, cause: PartFailure | None) -> int:
        """Let parts arrive or come back, whatever their script says; returns how many."""
        chosen = [
            live for live in self.of_hash(payment_hash) if live.htlc is not None and partid in (None, live.row.partid)
        ]
        for live in chosen:
            self.resolve(live, ok=ok, cause=cause)
        return len(chosen)

    def resolve(self, live: LivePart, *, ok: bool, cause: PartFailure | None = None) -> None:
        """The outcome of a part reaches the node: row, HTLC and balance change together, then the news go out."""
        node = self._node
        if not node.up or not node.channel.connected:
            self._deferred.append((live, ok, cause))
            return
        row = live.row
        if live not in self._live.get(row.payment_hash, []):
            return
        preimage = node.outside.preimage(row.payment_hash) if ok else None
        if ok and preimage is None:
            raise SandboxError(f"nobody knows a preimage for {row.payment_hash}, so it can't be paid")
        self._forget(live)
        if cause is not None:
            live.cause = cause
        if live.htlc is not None:
            node.channel.resolve_out(live.htlc, fulfilled=ok)
        if preimage is not None:
            node.payments.complete(row, preimage)
            node.outside.mark_paid(row.payment_hash)
            self._announce(live, [news.sendpay_success(row)], ok=True)
        else:
            node.payments.fail(row, secrets.token_hex(ERROR_ONION_BYTES))
            self._announce(live, [news.sendpay_failure(row, live.cause)], ok=False)
        live.outcome.set_result(ok)
        node.flush()

    def catch_up(self) -> None:
        """The peer is connected (again): now the node learns what was resolved in the meantime."""
        deferred, self._deferred = self._deferred, []
        for live, ok, cause in deferred:
            self.resolve(live, ok=ok, cause=cause)

    def orphan(self) -> None:
        """The node goes down: whoever has sent the parts won't see their end."""
        for task in self._tasks:
            task.cancel()
        self._tasks.clear()
        for live in self._all():
            live.attempt = None

    def make_ghosts(self, window_s: float) -> None:
        """The node dies before the youngest HTLCs were committed: only their rows remain, and for ever."""
        now = time.monotonic()
        for live in [live for live in self._all() if now - live.started < window_s]:
            if live.htlc is not None:
                self._node.channel.drop(live.htlc)
                self._forget(live)

    def add_row(self, attempt: Attempt, partid: int, amount_msat: int, sent_msat: int) -> Row:
        """The record of a part."""
        return self._node.payments.add(
            payment_hash=attempt.payment_hash,
            groupid=attempt.groupid,
            partid=partid,
            destination=attempt.destination,
            amount_msat=amount_msat,
            amount_sent_msat=sent_msat,
            total_msat=attempt.total_msat,
            label=attempt.label,
            bolt11=attempt.bolt11,
        )

    def hops(self, amount_msat: int, fee_msat: int) -> list[dict[str, Any]]:
        """The way to the outside node: over the peer, who takes the fee."""
        sent_msat = amount_msat + fee_msat
        return [
            _hop(self._node.outside.peer_id, SHORT_CHANNEL_ID, 0, sent_msat, sent_msat),
            _hop(self._node.outside.node_id, REMOTE_SHORT_CHANNEL_ID, 1, sent_msat, amount_msat),
        ]

    def _plan(self, live: LivePart) -> None:
        self._live.setdefault(live.row.payment_hash, []).append(live)
        outcome = live.part.outcome
        if outcome in (Outcome.SUCCESS, Outcome.FAILURE):
            ok = outcome is Outcome.SUCCESS
            self._node.loop.call_later(live.part.after_s, functools.partial(self.resolve, live, ok=ok))

    def _forget(self, live: LivePart) -> None:
        payment_hash = live.row.payment_hash
        remaining = [other for other in self._live[payment_hash] if other is not live]
        if remaining:
            self._live[payment_hash] = remaining
        else:
            del self._live[payment_hash]
        self._node.store.delete(_KIND, str(live.row.created_index))

    def _all(self) -> Iterator[LivePart]:
        return (live for parts in self._live.values() for live in parts)

    def _announce(self, live: LivePart, messages: list[news.News], *, ok: bool) -> None:
        attempt = live.attempt
        spec = Notifications() if attempt is None else attempt.notifications
        if attempt is not None:
            messages.append(self._part_end(live, ok=ok))
        if attempt is not None and spec.after_reply:
            task = self._node.loop.create_task(self._announce_later(attempt, messages))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            self._node.notify_all(messages, spec)
        if ok and live.htlc is not None:
            self._node.loop.call_later(COIN_MOVEMENT_DELAY_S, self._tell_move, self._move(live), spec)

    async def _announce_later(self, attempt: Attempt, messages: list[news.News]) -> None:
        await attempt.replied.wait()
        self._node.notify_all(messages, attempt.notifications)

    def _tell_move(self, move: dict[str, Any], spec: Notifications) -> None:
        self._node.notify_all([news.coin_movement(move)], spec)

    def _part_end(self, live: LivePart, *, ok: bool) -> news.News:
        failed_node = None
        if live.htlc is not None:
            failed_node = live.row.destination if live.cause.permanent else self._node.outside.peer_id
        cause = None if ok else live.cause
        return news.pay_part_end(live.row, time.monotonic() - live.started, cause, failed_node, self._node.blockheight)

    def _move(self, live: LivePart) -> dict[str, Any]:
        row = live.row
        fields = {
            "timestamp": int(time.time()),
            "primary_tag": "invoice",
            "payment_hash": row.payment_hash,
            "part_id": row.partid,
            "group_id": row.groupid,
            "fees_msat": row.amount_sent_msat - row.amount_msat,
        }
        return self._node.channel.move(fields, debit_msat=row.amount_sent_msat)


def _hop(node_id: str, scid: str, direction: int, in_msat: int, out_msat: int) -> dict[str, Any]:
    return {
        "next_node": node_id,
        "short_channel_id": scid,
        "direction": direction,
        "channel_in_msat": in_msat,
        "channel_out_msat": out_msat,
    }
