"""Melts that the operator ends by force, where the node can't tell any more what became of a payment.

The quote moves exactly as it does by evidence (`melt.settle`, `melt.release`); in the same transaction it is written
down who decided, why, and what was known. The books show such melts as their own line, and if a payment that was given
up turns out to have been made, that too.
"""

from __future__ import annotations

from dataclasses import dataclass

import apsw

from ledger.ids import handle_of, label_of
from ledger.models import MeltQuote, MeltQuoteState
from ledger.operations import melt, melt_quote
from ledger.operations.melt import Payment
from ledger.operations.melt_quote import PendingMelt
from ledger.store.query import fetch_all
from ledger.store.transaction import Transaction

PAID = "PAID"
FAILED = "FAILED"
WALLET_TEXT = "the mint's operator has ended this payment as failed"
"""What the wallet reads. The operator's reason is not for it."""


@dataclass(frozen=True, slots=True)
class Order:
    """What the operator orders. `evidence`: what was known at that time, in JSON."""

    who: str
    reason: str
    evidence: str


@dataclass(frozen=True, slots=True)
class GivenUp:
    """A Lightning payment that was forced to failed, and of which nothing else was heard since. `n`: of its row;
    `moves_index`: the node's count of channel moves when the quote was made."""

    n: int
    handle: str
    label: str
    payment_hash: bytes
    moves_index: int


@dataclass(frozen=True, slots=True)
class Forced:
    """One resolution, as the audit shows it. `lost_msat`: what left the node for a payment that was given up."""

    handle: str
    method: str
    unit: str
    amount: int
    outcome: str
    who: str
    reason: str
    evidence: str
    resolved_at: int
    lost_msat: int


def force(tx: Transaction, pending: PendingMelt, order: Order, payment: Payment | None) -> MeltQuote | None:
    """End a melt in flight: as paid by `payment`, as failed without one. None, and no change, if it is over already.

    The caller must know that the node can't change its mind: that no part is in flight and none can follow. Raises
    AssertionError for a failure of a melt whose transaction may be sent."""
    row = melt_quote.find_row(tx.db, pending.method, pending.quote)
    if row.state != MeltQuoteState.PENDING or row.attempt != pending.attempt:
        return None
    assert order.reason
    tx.db.execute(
        "INSERT INTO resolutions (melt_quote, attempt, outcome, who, reason, evidence, resolved_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (row.n, row.attempt, FAILED if payment is None else PAID, order.who, order.reason, order.evidence, tx.now),
    )
    if payment is None:
        return melt.release(tx, pending, WALLET_TEXT)
    return melt.settle(tx, pending, payment)


def given_up(db: apsw.Connection) -> list[GivenUp]:
    """The Lightning payments that may still turn out to have been made: forced to failed, and not tried again."""
    rows = fetch_all(
        db,
        "SELECT r.n, q.id, r.attempt, q.payment_hash, q.moves_index FROM resolutions r"
        " JOIN melt_quotes q ON q.n = r.melt_quote WHERE r.outcome = 'FAILED' AND r.paid_after_all_msat IS NULL"
        " AND q.state = 'UNPAID' AND q.payment_hash IS NOT NULL ORDER BY r.n",
    )
    return [
        GivenUp(n, handle_of(quote, attempt), label_of(quote), payment_hash, moves_index)
        for n, quote, attempt, payment_hash, moves_index in rows
    ]


def note_paid_after_all(tx: Transaction, payment: GivenUp, sent_msat: int) -> bool:
    """A payment that was given up was made: its ecash was given back, and `sent_msat` left the node. False if that is
    known already."""
    tx.db.execute(
        "UPDATE resolutions SET paid_after_all_at = ?, paid_after_all_msat = ?"
        " WHERE n = ? AND outcome = 'FAILED' AND paid_after_all_msat IS NULL",
        (tx.now, sent_msat, payment.n),
    )
    return tx.db.changes() > 0


def forced(db: apsw.Connection) -> list[Forced]:
    """All resolutions, oldest first. One whose quote was tried again and then paid for has lost nothing."""
    rows = fetch_all(
        db,
        "SELECT q.id, r.attempt, q.method, q.unit, q.amount, r.outcome, r.who, r.reason, r.evidence, r.resolved_at,"
        " CASE q.state WHEN 'PAID' THEN 0 ELSE coalesce(r.paid_after_all_msat, 0) END"
        " FROM resolutions r JOIN melt_quotes q ON q.n = r.melt_quote ORDER BY r.n",
    )
    return [Forced(handle_of(quote, attempt), *fields) for quote, attempt, *fields in rows]
