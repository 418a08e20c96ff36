"""What the ledger remembers of the node that it lives in."""

from __future__ import annotations

from dataclasses import dataclass

import apsw

from ledger.store.query import fetch_all
from ledger.store.transaction import Transaction


@dataclass(frozen=True, slots=True)
class NodeRun:
    """One run of the node. Payments recorded before `started_at` (unix seconds) are of an earlier run, and those begun
    in a run before no. `forgot` may be unknown to the node though it made them: its database was put back since."""

    number: int
    started_at: int
    forgot: int = 0


def note_start(tx: Transaction, node_started: bool, process: str | None = None, process_started_at: int = 0) -> NodeRun:
    """Count a start of the node.

    It was restarted if it started us (`node_started`), or if it is another process than the one that we last saw;
    `process` is None where that can't be told. Otherwise only the plugin was started, and the node's run goes on.
    """
    seen = tx.db.execute("SELECT node_process FROM ledger").get
    if node_started:
        tx.db.execute("UPDATE ledger SET node_run = node_run + 1, node_started_at = ?", (tx.now,))
    elif process is not None and seen is not None and process != seen:
        tx.db.execute("UPDATE ledger SET node_run = node_run + 1, node_started_at = ?", (process_started_at,))
    tx.db.execute("UPDATE ledger SET node_process = ?", (process,))
    return get(tx.db)


def note_rollback(tx: Transaction) -> NodeRun:
    """The node's database was put back to an older state: what it counts begins anew from there, so everything is read
    again (which credits nothing twice), and what it lacks of the melts in flight says nothing about them."""
    tx.db.execute(
        "UPDATE ledger SET node_run = node_run + 1, forgot_run = node_run + 1, pay_index = 0, chain_index = 0,"
        " moves_index = 0"
    )
    tx.db.execute("UPDATE payouts SET chain_index = 0")
    return get(tx.db)


def get(db: apsw.Connection) -> NodeRun:
    """The present run."""
    return NodeRun(*fetch_all(db, "SELECT node_run, node_started_at, forgot_run FROM ledger")[0])
