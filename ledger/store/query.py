"""Reading rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import apsw


def fetch_all(db: apsw.Connection, sql: str, bindings: Sequence[Any] | Mapping[str, Any] = ()) -> list[tuple[Any, ...]]:
    """Every row of a statement."""
    return [tuple(row) for row in db.execute(sql, bindings)]


def fetch_one(db: apsw.Connection, sql: str, bindings: Sequence[Any] = ()) -> tuple[Any, ...] | None:
    """The first row of a statement, or None."""
    return next(iter(fetch_all(db, sql, bindings)), None)
