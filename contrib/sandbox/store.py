"""What survives a restart of the sandbox: JSON values by kind and key, in one SQLite file."""

from __future__ import annotations

import fcntl
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from contrib.sandbox.errors import SandboxError

_SCHEMA = "CREATE TABLE IF NOT EXISTS entries (kind TEXT, key TEXT, value TEXT, PRIMARY KEY (kind, key)) WITHOUT ROWID"


class Store:
    """Changes are collected and written in one transaction by :meth:`flush`.

    The node flushes before any reply or notification leaves it, so nobody has seen anything that a crash of the
    sandbox could take back. A crash of the whole machine may: this is a stand-in, it does not wait for the disk.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = path.with_suffix(".lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise SandboxError(f"another sandbox is running in {path.parent}") from None
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = OFF")
        self._db.execute(_SCHEMA)
        self._changes: dict[tuple[str, str], Any] = {}

    def all(self, kind: str) -> Iterator[tuple[str, Any]]:
        """Every stored value of one kind, with its key."""
        self.flush()
        for key, value in self._db.execute("SELECT key, value FROM entries WHERE kind = ?", (kind,)).fetchall():
            yield key, json.loads(value)

    def get(self, kind: str, key: str) -> Any:
        """One stored value, or None."""
        self.flush()
        row = self._db.execute("SELECT value FROM entries WHERE kind = ? AND key = ?", (kind, key)).fetchone()
        return None if row is None else json.loads(row[0])

    def put(self, kind: str, key: str, value: Any) -> None:
        """Add or replace a value."""
        self._changes[kind, key] = value

    def delete(self, kind: str, key: str) -> None:
        """Remove a value."""
        self._changes[kind, key] = None

    def flush(self) -> None:
        """Write what has changed since the last time."""
        if not self._changes:
            return
        changes, self._changes = self._changes, {}
        self._db.execute("BEGIN")
        for (kind, key), value in changes.items():
            if value is None:
                self._db.execute("DELETE FROM entries WHERE kind = ? AND key = ?", (kind, key))
            else:
                self._db.execute("INSERT OR REPLACE INTO entries VALUES (?, ?, ?)", (kind, key, json.dumps(value)))
        self._db.execute("COMMIT")

    def close(self) -> None:
        """Write everything and let go of the file."""
        self.flush()
        self._db.close()
        self._lock.close()
