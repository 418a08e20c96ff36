"""The transaction of an on-chain melt (NUT-30), while the melt is PENDING.

    begun ── note_built ──> built ── note_broadcast ──> broadcast ── settle ──> PAID
      │                       │                             │
      └ release               └────────── discard ──────────┴──> UNPAID

From `note_built` on a melt is never released; `discard` is the way out for a transaction that was proven dead.
"""

from __future__ import annotations

from dataclasses import dataclass

from ledger.events import MeltQuoteChanged
from ledger.models import MeltQuote, MeltQuoteState
from ledger.operations import melt, melt_quote
from ledger.operations.melt_quote import Built, PendingPayout, Row
from ledger.store.transaction import Transaction

MIN_CONFLICT_DEPTH = 6
"""A transaction counts as dead only if this many blocks say that a coin of it was spent otherwise."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """Evidence that a transaction can never come to pass: another one, in the block of this height, spends a coin of
    it, and `depth` blocks of the best chain say so, that one included."""

    spent_by: bytes
    height: int
    depth: int


def note_built(tx: Transaction, pending: PendingPayout, built: Built) -> PendingPayout:
    """Keep the signed transaction of a melt; only after the commit may it be sent. A melt never gets another one."""
    row = _require_pending(tx, pending)
    tx.db.execute(
        "INSERT INTO payouts (melt_quote, txid, vout, psbt, fee_sat, height, chain_index, built_at)"
        " VALUES (?, ?, ?, ?, ?, ?, (SELECT chain_index FROM ledger), ?)",
        (row.n, built.txid, built.vout, built.psbt, built.fee_sat, built.height, tx.now),
    )
    return _reread(tx, row)


def note_broadcast(tx: Transaction, pending: PendingPayout) -> PendingPayout:
    """The node had the transaction accepted: from now on wallets see its `outpoint`."""
    row = _require_pending(tx, pending)
    tx.db.execute("UPDATE payouts SET broadcast_at = ? WHERE melt_quote = ? AND broadcast_at IS NULL", (tx.now, row.n))
    if tx.db.changes():
        tx.publish(MeltQuoteChanged(melt_quote.to_wire(tx.db, row)))
    return _reread(tx, row)


def discard(tx: Transaction, pending: PendingPayout, conflict: Conflict, error: str) -> MeltQuote:
    """The transaction can never come to pass: forget it, and release the melt. The only way back from `note_built`."""
    row = _require_pending(tx, pending)
    payout = melt_quote.payout_of(tx.db, row.n)
    assert payout is not None
    assert pending.built is not None
    assert payout.txid == pending.built.txid
    assert len(conflict.spent_by) == len(payout.txid)
    assert conflict.spent_by != payout.txid, "a transaction does not conflict with itself"
    assert conflict.depth >= MIN_CONFLICT_DEPTH, "a conflict that may be reorganised away is no evidence"
    tx.db.execute(
        "INSERT INTO dead_payouts (txid, melt_quote, psbt, spent_by, spent_height, died_at) VALUES (?, ?, ?, ?, ?, ?)",
        (payout.txid, row.n, payout.psbt, conflict.spent_by, conflict.height, tx.now),
    )
    tx.db.execute("DELETE FROM payouts WHERE melt_quote = ?", (row.n,))
    return melt.release(tx, pending, error)


def _require_pending(tx: Transaction, pending: PendingPayout) -> Row:
    row = melt_quote.find_row(tx.db, pending.method, pending.quote)
    assert row.state == MeltQuoteState.PENDING
    assert row.attempt == pending.attempt
    return row


def _reread(tx: Transaction, row: Row) -> PendingPayout:
    pending = melt_quote.to_pending(tx.db, row)
    assert isinstance(pending, PendingPayout)
    return pending
