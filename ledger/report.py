"""Figures for the operator: what came in, what went out, what failed, what is in flight.

One function for each figure, SQL over rows. Each looks at a window of time or at a limited number of rows, through an
index, so that none costs more as the ledger grows; what is owed as a whole stands in the books (`ledger.audit`).
Times are unix seconds; a window is from `since` (included) to `until` (not included).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import apsw

from ledger.ids import handle_of
from ledger.store.query import fetch_all
from ledger.units import to_msat

MAX_FAILURES = 10_000
"""The newest failures that are looked at."""
MAX_REASONS = 12
"""The most frequent reasons that are told."""
MAX_REASON_LENGTH = 160
MAX_PENDING = 50
"""The longest waiting melts that are listed."""

_PARTICULARS = re.compile(r"\b[0-9a-f]{12,}\b|\b(ln|bc|tb)[a-z0-9]{20,}\b|\d+([x.:]\d+)*", re.IGNORECASE)
"""What makes two failures with the same reason look different: ids, hashes, amounts, channels."""


@dataclass(frozen=True, slots=True)
class Flow:
    """What one payment method moved in one step of time that began `at`. `fees_msat`: what others took for carrying
    payments out, miners included; `receipts` and `payments` count them."""

    at: int
    method: str
    in_msat: int = 0
    out_msat: int = 0
    fees_msat: int = 0
    receipts: int = 0
    payments: int = 0


@dataclass(frozen=True, slots=True)
class Failure:
    """A reason for which melts failed for certain. `last_at`: when the newest of these was begun."""

    method: str
    reason: str
    count: int
    last_at: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """A melt in flight. `handle`: see `ledger.ids`; `amount` is in `unit`."""

    handle: str
    method: str
    unit: str
    amount: int
    begun_at: int


@dataclass(frozen=True, slots=True)
class Fees:
    """Since the ledger began. `input_msat`: taken for spending ecash (NUT-02); `paid_msat`: what others took for
    carrying payments, miners included."""

    input_msat: int
    paid_msat: int


def flows(db: apsw.Connection, since: int, until: int, step_s: int) -> list[Flow]:
    """What came in and went out, by steps of time and methods, in order. Steps begin at multiples of `step_s`."""
    rows = fetch_all(
        db,
        """
        WITH moved (at, method, in_msat, out_msat, fees_msat, receipts, payments) AS (
            SELECT r.received_at, q.method, r.received_msat, 0, 0, 1, 0
                FROM receipts r INDEXED BY receipts_time JOIN mint_quotes q ON q.n = r.mint_quote
                WHERE r.received_at >= :since AND r.received_at < :until
            UNION ALL
            SELECT paid_at, method, 0, min(sent_msat, amount_msat), max(0, sent_msat - amount_msat), 0, 1
                FROM melt_quotes INDEXED BY melt_quotes_paid
                WHERE state = 'PAID' AND paid_at >= :since AND paid_at < :until
        )
        SELECT at / :step * :step AS step, method, sum(in_msat), sum(out_msat), sum(fees_msat), sum(receipts),
            sum(payments)
        FROM moved GROUP BY step, method ORDER BY step, method
        """,
        {"since": since, "until": until, "step": step_s},
    )
    return [Flow(*row) for row in rows]


def failures(db: apsw.Connection, since: int) -> list[Failure]:
    """Why melts that were begun since then failed, the most frequent reason first. Counts each melt whose last attempt
    failed: one that was tried again and paid is none."""
    rows = fetch_all(
        db,
        """
        SELECT method, error, count(*), max(begun_at) FROM (
            SELECT method, error, begun_at FROM melt_quotes INDEXED BY melt_quotes_failed
            WHERE error IS NOT NULL AND begun_at >= ? ORDER BY begun_at DESC LIMIT ?
        ) GROUP BY method, error
        """,
        (since, MAX_FAILURES),
    )
    found: dict[tuple[str, str], Failure] = {}
    for method, error, count, last_at in rows:
        key = (method, reason_of(error))
        before = found.get(key, Failure(*key, 0, 0))
        found[key] = Failure(*key, before.count + count, max(before.last_at, last_at))
    return sorted(found.values(), key=lambda failure: (-failure.count, failure.method, failure.reason))[:MAX_REASONS]


def reason_of(error: str) -> str:
    """An error without what is particular to one payment."""
    return _PARTICULARS.sub("…", error)[:MAX_REASON_LENGTH]


def waiting(db: apsw.Connection) -> list[Waiting]:
    """The melts in flight, those that were begun first in front."""
    rows = fetch_all(
        db,
        "SELECT id, attempt, method, unit, amount, begun_at FROM melt_quotes INDEXED BY melt_quotes_pending"
        " WHERE state = 'PENDING' ORDER BY begun_at, n LIMIT ?",
        (MAX_PENDING,),
    )
    return [Waiting(handle_of(quote_id, attempt), *rest) for quote_id, attempt, *rest in rows]


def fees(db: apsw.Connection) -> Fees:
    """What was taken and paid, from the books."""
    taken = fetch_all(db, "SELECT unit, sum(fees) FROM keysets GROUP BY unit")
    ((paid_msat,),) = fetch_all(db, "SELECT coalesce(sum(routing_fees_msat), 0) FROM method_books")
    return Fees(sum(to_msat(amount, unit) for unit, amount in taken), paid_msat)
