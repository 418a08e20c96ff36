"""Whether a ledger can be at a path: asked before anything is written there, so that a mistake in an option harms
nothing: neither somebody else's file, nor the database of another program."""

from __future__ import annotations

import stat
import tempfile
from contextlib import closing
from pathlib import Path

import apsw

from ledger.errors import StartError
from ledger.store.query import fetch_all

MAGIC = b"SQLite format 3\0"
BUSY_TIMEOUT_MS = 1000


def require_usable(path: Path) -> None:
    """Raises StartError if `path` can't be written, or if there is something else than a ledger. Changes nothing; that
    there is no file yet, or an empty one, is no mistake."""
    try:
        why_not = _why_not(path)
    except (OSError, ValueError, apsw.Error) as error:
        why_not = getattr(error, "strerror", None) or str(error)
    if why_not:
        raise StartError(f"cannot open the ledger {path}: {why_not}")


def _why_not(path: Path) -> str:
    _require_writable(path.parent)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return ""
    if not stat.S_ISREG(mode):
        return "it is a folder, name a file in it" if stat.S_ISDIR(mode) else "it is no ordinary file"
    with path.open("r+b") as file:
        head = file.read(len(MAGIC))
    if not head:
        return ""
    if head != MAGIC:
        return "it is no SQLite database. If it was the ledger, it is damaged: keep it, and put a replica in its place"
    with closing(_look(path)) as db:
        tables = {str(name) for (name,) in fetch_all(db, "SELECT name FROM sqlite_schema WHERE type = 'table'")}
    if tables and "ledger" not in tables:
        return "it is the database of another program"
    return ""


def _require_writable(folder: Path) -> None:
    """Raises OSError if no file could be made in this folder, or in the one in which it will be made."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    with tempfile.TemporaryFile(dir=folder):
        pass  # nothing is left of it


def _look(path: Path) -> apsw.Connection:
    """A connection that leaves nothing behind: SQLite would lay a WAL beside a file that has none at the moment."""
    settled = "&immutable=1" if not path.with_name(path.name + "-wal").exists() else ""
    uri = f"{path.absolute().as_uri()}?mode=ro{settled}"
    connection = apsw.Connection(uri, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
    connection.set_busy_timeout(BUSY_TIMEOUT_MS)
    return connection
