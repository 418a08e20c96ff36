"""Deposits: outputs on the chain that pay an onchain mint quote (NUT-30).

    seen (watched) ── enough confirmations ──> credited
       │      ^
       └ gone ┘   its transaction was replaced, or its block was; it may come back

An output counts only if it was seen before its quote's expiry and is large enough by itself; once seen, it is watched
until it is credited or gone, however long that takes.
"""

from __future__ import annotations

from dataclasses import dataclass

import apsw

from ledger.methods import ONCHAIN
from ledger.models import MintQuote
from ledger.operations import mint
from ledger.store.query import fetch_all, fetch_one
from ledger.store.transaction import Transaction

OUTPOINT_BYTES = 36
MSAT_PER_SAT = 1000


@dataclass(frozen=True, slots=True)
class Deposit:
    """An output that pays a quote's address. `seen_at`: unix seconds when the node first saw it."""

    txid: bytes
    vout: int
    amount_sat: int
    seen_at: int

    @property
    def outpoint(self) -> bytes:
        """The key of its row: the txid as it is written, then the number of the output."""
        return self.txid + self.vout.to_bytes(OUTPOINT_BYTES - len(self.txid), "big")


def find(db: apsw.Connection, address: str) -> str | None:
    """The id of the mint quote that has this address."""
    row = fetch_one(db, "SELECT id FROM mint_quotes WHERE method = ? AND request = ?", (ONCHAIN, address))
    return None if row is None else str(row[0])


def note_seen(tx: Transaction, quote_id: str, deposit: Deposit) -> bool:
    """Watch an output from now on, if it was seen in time. One seen before keeps the time when it was first seen.

    False: it came after the quote's expiry, and never counts."""
    n, expiry = fetch_all(tx.db, "SELECT n, expiry FROM mint_quotes WHERE id = ? AND method = ?", (quote_id, ONCHAIN))[
        0
    ]
    known = fetch_one(tx.db, "SELECT 1 FROM deposits WHERE outpoint = ?", (deposit.outpoint,))
    if known is None and expiry is not None and deposit.seen_at > expiry:
        return False
    tx.db.execute(
        "INSERT INTO deposits (outpoint, mint_quote, amount_sat, seen_at) VALUES (?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET watched = NOT EXISTS (SELECT 1 FROM receipts WHERE payment_id = excluded.outpoint)",
        (deposit.outpoint, n, deposit.amount_sat, deposit.seen_at),
    )
    return True


def watched(db: apsw.Connection) -> list[tuple[str, Deposit]]:
    """The outputs that are neither credited nor gone, with the ids of their quotes."""
    rows = fetch_all(
        db,
        "SELECT q.id, d.outpoint, d.amount_sat, d.seen_at FROM deposits d JOIN mint_quotes q ON q.n = d.mint_quote"
        " WHERE d.watched = 1 ORDER BY d.rowid",
    )
    return [
        (quote_id, Deposit(outpoint[:32], int.from_bytes(outpoint[32:], "big"), amount_sat, seen_at))
        for quote_id, outpoint, amount_sat, seen_at in rows
    ]


def credit(tx: Transaction, quote_id: str, deposit: Deposit) -> MintQuote | None:
    """The output has enough confirmations: credit it to its quote, once."""
    _unwatch(tx, deposit)
    receipt = mint.Receipt(deposit.outpoint, deposit.amount_sat * MSAT_PER_SAT)
    return mint.credit(tx, ONCHAIN, quote_id, receipt)


def note_gone(tx: Transaction, deposit: Deposit) -> None:
    """The output is on the chain no longer. Should it come back, `note_seen` watches it again."""
    _unwatch(tx, deposit)


def _unwatch(tx: Transaction, deposit: Deposit) -> None:
    tx.db.execute("UPDATE deposits SET watched = 0 WHERE outpoint = ?", (deposit.outpoint,))


def count_open(db: apsw.Connection, now: int) -> int:
    """How many addresses have been given out that may still be paid for the first time."""
    return int(
        db.execute(
            "SELECT count(*) FROM mint_quotes WHERE method = ? AND amount_paid = 0 AND (expiry IS NULL OR expiry >= ?)",
            (ONCHAIN, now),
        ).get
    )


def chain_index(db: apsw.Connection) -> int:
    """The node's index of the last on-chain move that was looked at."""
    return int(db.execute("SELECT chain_index FROM ledger").get)


def advance_chain_index(tx: Transaction, index: int) -> None:
    """Remember how far the node's on-chain moves have been read."""
    tx.db.execute("UPDATE ledger SET chain_index = max(chain_index, ?)", (index,))
