"""Deposits: outputs on the chain that pay an onchain mint quote (NUT-30).

    seen (watched) ── enough confirmations ──> credited

An output counts only if it was seen before its quote's expiry and is large enough by itself; once seen, it is watched
until it is credited, however long that takes. One whose transaction was replaced stays watched and never is: the node
tells nobody that an output is gone, nor when one comes back in another block.
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
OPEN_S = 7 * 24 * 3600
"""An address counts as open for so long at most, so that no crowd of unpaid ones is in the way for ever."""


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
    # A method that is bound says too little for the index of addresses: it is one of onchain quotes only.
    row = fetch_one(db, "SELECT id FROM mint_quotes WHERE method = 'onchain' AND request = ?", (address,))
    return None if row is None else str(row[0])


def note_seen(tx: Transaction, quote_id: str, deposit: Deposit) -> bool:
    """Watch an output from now on, if it was seen in time. One seen before keeps the time when it was first seen.

    False: it came after the quote's expiry, and never counts."""
    n, expiry = fetch_all(tx.db, "SELECT n, expiry FROM mint_quotes WHERE id = ? AND method = ?", (quote_id, ONCHAIN))[
        0
    ]
    if fetch_one(tx.db, "SELECT 1 FROM deposits WHERE outpoint = ?", (deposit.outpoint,)) is not None:
        return True
    if expiry is not None and deposit.seen_at > expiry:
        return False
    tx.db.execute(
        "INSERT INTO deposits (outpoint, mint_quote, amount_sat, seen_at) VALUES (?, ?, ?, ?)",
        (deposit.outpoint, n, deposit.amount_sat, deposit.seen_at),
    )
    return True


def watched(db: apsw.Connection) -> list[tuple[str, Deposit]]:
    """The outputs that are not credited yet, with the ids of their quotes."""
    rows = fetch_all(
        db,
        "SELECT q.id, d.outpoint, d.amount_sat, d.seen_at FROM deposits d INDEXED BY deposits_watched"
        " JOIN mint_quotes q ON q.n = d.mint_quote WHERE d.watched = 1 ORDER BY d.rowid",
    )
    return [
        (quote_id, Deposit(outpoint[:32], int.from_bytes(outpoint[32:], "big"), amount_sat, seen_at))
        for quote_id, outpoint, amount_sat, seen_at in rows
    ]


def credit(tx: Transaction, quote_id: str, deposit: Deposit) -> MintQuote | None:
    """The output has enough confirmations: credit it to its quote, once."""
    tx.db.execute("UPDATE deposits SET watched = 0 WHERE outpoint = ?", (deposit.outpoint,))
    assert tx.db.changes() == 1, "an output was credited that nobody has seen"
    receipt = mint.Receipt(deposit.outpoint, deposit.amount_sat * MSAT_PER_SAT)
    return mint.credit(tx, ONCHAIN, quote_id, receipt)


def count_open(db: apsw.Connection, now: int) -> int:
    """How many of the addresses given out lately may still be paid for the first time."""
    return int(
        db.execute(
            "SELECT count(*) FROM mint_quotes WHERE method = 'onchain' AND amount_paid = 0 AND created_at > ?"
            " AND (expiry IS NULL OR expiry >= ?)",
            (now - OPEN_S, now),
        ).get
    )


def chain_index(db: apsw.Connection) -> int:
    """The node's index of the last on-chain move that was looked at."""
    return int(db.execute("SELECT chain_index FROM ledger").get)


def set_chain_index(tx: Transaction, index: int) -> None:
    """Remember how far the node's on-chain moves have been read. To read again does no harm."""
    tx.db.execute("UPDATE ledger SET chain_index = ?", (index,))


def has_watched(db: apsw.Connection) -> bool:
    """Whether any output waits to be credited."""
    return fetch_one(db, "SELECT 1 FROM deposits WHERE watched = 1 LIMIT 1") is not None
