"""The node's one channel: balance, HTLCs, and the moves of money over it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from contrib.sandbox.store import Store
from contrib.sandbox.waits import Waits

_KIND_HTLC = "htlc"
_KIND_MOVE = "move"
_KIND_CHANNEL = "channel"

SHORT_CHANNEL_ID = "103x1x0"
REMOTE_SHORT_CHANNEL_ID = "105x1x0"
FUNDING_OUTPUT = 0
RESERVE_DIVISOR = 100
DUST_LIMIT_MSAT = 546_000
CLTV_PER_HOP = 6
FINAL_CLTV = 10
OUT_LIVE = "SENT_ADD_ACK_REVOCATION"
OUT_DONE = "RCVD_REMOVE_ACK_REVOCATION"
IN_DONE = "SENT_REMOVE_ACK_REVOCATION"


@dataclass
class Htlc:
    """One HTLC; resolved ones stay listed, as on a real node until the channel is closed."""

    created_index: int
    updated_index: int
    id: int
    expiry: int
    direction: str
    amount_msat: int
    payment_hash: str
    state: str

    @property
    def live(self) -> bool:
        """Still on the channel."""
        return self.state == OUT_LIVE

    def to_json(self) -> dict[str, Any]:
        """As `listhtlcs` shows it."""
        return {
            "created_index": self.created_index,
            "updated_index": self.updated_index,
            "short_channel_id": SHORT_CHANNEL_ID,
            "id": self.id,
            "expiry": self.expiry,
            "direction": self.direction,
            "amount_msat": self.amount_msat,
            "payment_hash": self.payment_hash,
            "state": self.state,
        }


class Channel:
    """Keeps balance and HTLCs; the sum of both sides and all live HTLCs is always the capacity."""

    def __init__(self, store: Store, waits: Waits, capacity_msat: int, to_us_msat: int, channel_id: str) -> None:
        self._store = store
        self._waits = waits
        self.capacity_msat = capacity_msat
        self.to_us_msat = to_us_msat
        self.channel_id = channel_id
        self.connected = True
        self._htlcs: dict[int, Htlc] = {}
        self._live: dict[int, Htlc] = {}
        self._moves: list[dict[str, Any]] = []
        self._in_flight_msat = 0
        self._next_htlc_id = 0

    def load(self) -> None:
        """Take over the channel of an earlier run."""
        saved = self._store.get(_KIND_CHANNEL, "0")
        if saved is not None:
            self.capacity_msat, self.to_us_msat, self._next_htlc_id = saved
        for _, fields in self._store.all(_KIND_HTLC):
            htlc = Htlc(**fields)
            self._htlcs[htlc.created_index] = htlc
            if htlc.live:
                self._live[htlc.created_index] = htlc
                self._in_flight_msat += htlc.amount_msat
        self._htlcs = dict(sorted(self._htlcs.items()))
        self._moves = sorted((move for _, move in self._store.all(_KIND_MOVE)), key=lambda move: move["created_index"])

    def resize(self, capacity_msat: int, to_us_msat: int) -> None:
        """Set the size of the channel and what of it is ours."""
        self.capacity_msat = capacity_msat
        self.to_us_msat = to_us_msat
        self._save()

    @property
    def spendable_msat(self) -> int:
        """What could be sent in one go."""
        return max(0, self.to_us_msat - self.capacity_msat // RESERVE_DIVISOR - self._in_flight_msat)

    @property
    def receivable_msat(self) -> int:
        """What could be received in one go."""
        return max(0, self.capacity_msat - self.to_us_msat - self.capacity_msat // RESERVE_DIVISOR)

    def add_out(self, payment_hash: str, amount_msat: int, blockheight: int) -> Htlc:
        """An HTLC is committed to the peer."""
        htlc = self._add("out", payment_hash, amount_msat, blockheight, OUT_LIVE)
        self._live[htlc.created_index] = htlc
        self._in_flight_msat += amount_msat
        return htlc

    def resolve_out(self, created_index: int, *, fulfilled: bool) -> Htlc:
        """An outgoing HTLC is over: the money has gone, or is back."""
        htlc = self._live.pop(created_index)
        self._in_flight_msat -= htlc.amount_msat
        if fulfilled:
            self.to_us_msat -= htlc.amount_msat
        htlc.state = OUT_DONE
        htlc.updated_index = self._waits.bump("htlcs", "updated", _wait_details(htlc))
        self._store.put(_KIND_HTLC, str(htlc.created_index), dict(vars(htlc)))
        self._save()
        return htlc

    def drop(self, created_index: int) -> None:
        """An HTLC was never committed: it has never been."""
        htlc = self._live.pop(created_index)
        self._in_flight_msat -= htlc.amount_msat
        del self._htlcs[created_index]
        self._store.delete(_KIND_HTLC, str(created_index))

    def receive(self, payment_hash: str, amount_msat: int, blockheight: int) -> Htlc:
        """An incoming HTLC is fulfilled."""
        self.to_us_msat += amount_msat
        return self._add("in", payment_hash, amount_msat, blockheight, IN_DONE)

    def move(self, fields: dict[str, Any], *, credit_msat: int = 0, debit_msat: int = 0) -> dict[str, Any]:
        """Write down that money has moved; returns the move as `listchannelmoves` shows it."""
        details = {"account": self.channel_id, "credit_msat": credit_msat, "debit_msat": debit_msat}
        created_index = self._waits.bump("channelmoves", "created", details)
        move = {
            "created_index": created_index,
            "account_id": self.channel_id,
            "credit_msat": credit_msat,
            "debit_msat": debit_msat,
            **fields,
        }
        self._moves.append(move)
        self._store.put(_KIND_MOVE, str(created_index), move)
        return move

    def live_htlcs(self) -> Iterator[Htlc]:
        """HTLCs that are on the channel now."""
        return iter(self._live.values())

    def list_htlcs(self, *, start: int = 0, limit: int | None = None) -> list[dict[str, Any]]:
        """All HTLCs, resolved ones included."""
        chosen = (htlc.to_json() for htlc in self._htlcs.values() if htlc.created_index >= start)
        return list(itertools.islice(chosen, limit))

    def list_moves(self, *, start: int = 0, limit: int | None = None) -> list[dict[str, Any]]:
        """All moves of money."""
        first = max(0, start - 1)  # moves are never deleted: the one with index 1 is the first
        return list(itertools.islice(self._moves, first, None if limit is None else first + limit))

    def _add(self, direction: str, payment_hash: str, amount_msat: int, blockheight: int, state: str) -> Htlc:
        htlc = Htlc(
            0,
            0,
            self._next_htlc_id,
            blockheight + FINAL_CLTV + CLTV_PER_HOP,
            direction,
            amount_msat,
            payment_hash,
            state,
        )
        self._next_htlc_id += 1
        htlc.created_index = self._waits.bump("htlcs", "created", _wait_details(htlc))
        htlc.updated_index = self._waits.bump("htlcs", "updated", _wait_details(htlc))
        self._htlcs[htlc.created_index] = htlc
        self._store.put(_KIND_HTLC, str(htlc.created_index), dict(vars(htlc)))
        self._save()
        return htlc

    def _save(self) -> None:
        self._store.put(_KIND_CHANNEL, "0", [self.capacity_msat, self.to_us_msat, self._next_htlc_id])


def _wait_details(htlc: Htlc) -> dict[str, Any]:
    return {
        "state": htlc.state,
        "short_channel_id": SHORT_CHANNEL_ID,
        "direction": htlc.direction,
        "htlc_id": htlc.id,
        "cltv_expiry": htlc.expiry,
        "payment_hash": htlc.payment_hash,
        "amount_msat": htlc.amount_msat,
    }
