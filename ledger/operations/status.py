"""How the mint stands, from the books as they are kept: cheap enough to be asked for every few seconds."""

from __future__ import annotations

from dataclasses import dataclass

import apsw

from ledger import audit
from ledger.audit import MethodBooks
from ledger.operations import exposure, melt_quote


@dataclass(frozen=True, slots=True)
class Status:
    """At one moment. `outstanding` by unit; `earned_msat`: what the mint has above what it owes, with what it lost
    taken off. `balanced`: no keyset has redeemed more than it issued, and no more is owed than came in and did not go
    out: what every commit must leave true. Whether the books are what the rows say, only an audit tells."""

    outstanding: dict[str, int]
    owed_msat: int
    earned_msat: int
    balanced: bool
    pending: int
    pending_msat: int
    oldest_pending_s: int
    methods: tuple[MethodBooks, ...]


def read(db: apsw.Connection, now: int) -> Status:
    """From one snapshot."""
    keysets, methods = audit.keyset_books(db), audit.method_books(db)
    owed_msat = exposure.owed_msat(db)
    kept_msat = sum(books.kept_msat for books in methods)
    begun_at = melt_quote.oldest_begun_at(db)
    return Status(
        outstanding=audit.outstanding(db),
        owed_msat=owed_msat,
        earned_msat=audit.surplus_msat(db) - owed_msat,
        balanced=kept_msat >= owed_msat and all(books.outstanding >= 0 for books in keysets),
        pending=melt_quote.count_pending(db),
        pending_msat=melt_quote.sum_pending_msat(db),
        oldest_pending_s=0 if begun_at is None else max(0, now - begun_at),
        methods=tuple(methods),
    )
