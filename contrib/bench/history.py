"""A ledger with a long history, made of random rows: what a mint has written after so many proofs were spent.

Each *story* is what became of one deposit: its ecash was issued, swapped twice and partly melted; with every second one
there is a mint quote that nobody paid, and a melt quote that was not used. The books of the ledger count them like
everything else, so that an audit finds no fault. No wallet knows these proofs.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import apsw

STATEMENTS = Path(__file__).with_suffix(".sql")
STORY = {"coins": 8, "coin": 8, "melted": 4, "paid": 30, "routing": 1, "change": 1}
"""`coins` proofs of `coin` sat are issued, and swapped for as many; `melted` of them pay `paid` sat, with `routing` sat
of fees and `change`."""
SPENT = 2 * STORY["coins"] + STORY["melted"]
"""Proofs that are spent in a story."""
SPAN_S = 365 * 24 * 3600
CACHE_KIB = 4 * 1024 * 1024
"""SQLite's, while the rows are written: most keys come in random order, as in life."""


@dataclass(frozen=True, slots=True)
class Rows:
    """How many there are in a ledger's larger tables."""

    proofs: int
    promises: int
    operations: int
    mint_quotes: int
    melt_quotes: int


def write(path: Path, spent_proofs: int, now: int) -> Rows:
    """Add a history of so many spent proofs, over the year before `now` (unix seconds), to the ledger of a mint that
    doesn't run. Some four minutes and 6 GB for ten millions."""
    stories = max(1, spent_proofs // SPENT)
    connection = apsw.Connection(str(path))
    # A crash would spoil the file, and nobody loses anything by that.
    connection.pragma("journal_mode", "delete")
    connection.pragma("journal_mode", "off")
    connection.pragma("synchronous", "off")
    connection.pragma("cache_size", -CACHE_KIB)
    values = {**STORY, "stories": stories, "begun": now - SPAN_S, "step": SPAN_S / stories}
    values["keyset"] = connection.execute("SELECT n FROM keysets WHERE unit = 'sat' AND active").get
    for table in ("operations", "mint_quotes", "melt_quotes"):
        values[table] = connection.execute(f"SELECT coalesce(max(n), 0) FROM {table}").get  # noqa: S608 - from above
    with connection:
        connection.execute(STATEMENTS.read_text(), values)
    tables = [field.name for field in fields(Rows)]
    counts = [connection.execute(f"SELECT count(*) FROM {table}").get for table in tables]  # noqa: S608 - from above
    connection.pragma("journal_mode", "wal")
    connection.close()
    return Rows(*counts)
