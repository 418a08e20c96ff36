"""What the ledger remembers of the node that it lives in."""

from __future__ import annotations

from dataclasses import dataclass

import apsw

from ledger.store.query import fetch_all
from ledger.store.transaction import Transaction


@dataclass(frozen=True, slots=True)
class NodeRun:
    """One run of the node, as far as it was seen. `started_at` (unix seconds) is not later than its true start."""

    number: int
    started_at: int


def note_start(tx: Transaction, node_started: bool) -> NodeRun:
    """Count a start of the node. If only the plugin was started, the node's last known start stays: it may have
    been restarted since without us, but never have started earlier."""
    if node_started:
        tx.db.execute("UPDATE ledger SET node_run = node_run + 1, node_started_at = ?", (tx.now,))
    return get(tx.db)


def get(db: apsw.Connection) -> NodeRun:
    """The present run."""
    return NodeRun(*fetch_all(db, "SELECT node_run, node_started_at FROM ledger")[0])
