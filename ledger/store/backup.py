"""Backups: a consistent copy of the ledger in one file, made while the mint serves, and the check of such a file.

The copy is made from one WAL snapshot, which no writer waits for and which no write can restart; while it is copied,
the WAL can't be emptied and grows. It is made under another name, in a folder of its own, and gets the name it was
asked for only after it has been verified and has reached the disk: what has that name is whole, whenever the process
dies.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import apsw

from ledger import audit, identity
from ledger.audit import Audit
from ledger.identity import Record
from ledger.store.database import migrations
from ledger.store.query import fetch_all

STEP_PAGES = 256
"""Pages that are copied at a time, 1 MiB of them: as often is progress told."""
BUSY_TIMEOUT_MS = 10_000
MODE = 0o600
"""Of the file: proofs' secrets and quote ids are in it."""
FOLDER_MODE = 0o700
UNFINISHED_SUFFIX = ".unfinished"
"""Of the folder in which a backup is made."""
SIDE_SUFFIXES = ("-journal", "-wal", "-shm")
"""Of files that SQLite takes for its own when they lie beside a database of that name: a backup must not be one."""
MAX_TOLD_FAULTS = 3
NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
"""What a file system says that has no hard links."""

Progress = Callable[[int, int], None]
"""Called in the thread that copies, with the pages that are copied and their number."""


class BackupError(Exception):
    """No backup was made, or a file can't be checked; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Copy:
    """A file that holds a whole ledger: its identity with the number of its last commit, its size, and its books."""

    path: Path
    size: int
    record: Record
    books: Audit


def make(source: Path, target: Path, on_progress: Progress = lambda copied, total: None) -> Copy:
    """Copy the ledger `source`, which may be in use, to the new file `target`. Takes as long as the disk needs.

    Call it once at a time for each target. Raises BackupError if `target` exists or can't be written, and if the copy
    is not what it should be; then nothing has its name."""
    _require_free(target)
    try:
        with _unfinished(target) as copy:
            record, books = _copy(source, copy, on_progress)
            size = copy.stat().st_size
            _to_disk(copy)
            _publish(copy, target)
        _to_disk(target.parent)
    except FileExistsError as error:
        raise BackupError(f"{str(target)!r} exists already: a backup never replaces a file") from error
    except (OSError, ValueError, apsw.Error) as error:
        raise BackupError(f"the backup {str(target)!r} could not be made: {error}") from error
    return Copy(target, size, record, books)


def check(path: Path) -> Copy:
    """Read the copy of a ledger; changes nothing. Raises BackupError if it is none, or is damaged."""
    if not os.path.isfile(path):  # noqa: PTH113 - of Path, it raises for what can't be a path
        raise BackupError(f"there is no file {str(path)!r}")
    # A copy of a file whose WAL was left behind can only be read as it is. Otherwise SQLite reads the WAL as well.
    alone = not path.with_name(path.name + "-wal").exists()
    try:
        uri = path.absolute().as_uri() + ("?immutable=1" if alone else "?mode=ro")
        with closing(apsw.Connection(uri, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)) as connection:
            connection.set_busy_timeout(BUSY_TIMEOUT_MS)
            connection.execute("BEGIN")
            record, books = _verify(connection)
        return Copy(path, path.stat().st_size, record, books)
    except (OSError, ValueError, apsw.Error) as error:
        raise BackupError(f"{str(path)!r} is no ledger that could be used: {error}") from error


def _require_free(target: Path) -> None:
    if target.name.endswith((*SIDE_SUFFIXES, UNFINISHED_SUFFIX)):
        raise BackupError(f"a backup can't be called {target.name!r}: SQLite would take it for a part of another file")
    if os.path.lexists(target):
        raise BackupError(f"{str(target)!r} exists already: a backup never replaces a file")
    for suffix in SIDE_SUFFIXES:
        if os.path.lexists(side := target.with_name(target.name + suffix)):
            raise BackupError(f"{str(side)!r} lies there: SQLite would take it for a part of the backup; move it away")
    if not os.path.isdir(target.parent):  # noqa: PTH112 - as above
        raise BackupError(f"there is no folder {str(target.parent)!r}: make it first")


@contextmanager
def _unfinished(target: Path) -> Iterator[Path]:
    """A new, empty file in a folder that only its owner can enter, on the target's file system. Both are gone in the
    end, and so is what a backup of that name left there that was killed."""
    folder = target.with_name(f".{target.name}{UNFINISHED_SUFFIX}")
    copy = folder / "copy"
    _remove(folder, copy)
    folder.mkdir(mode=FOLDER_MODE)
    try:
        os.close(os.open(copy, os.O_CREAT | os.O_EXCL | os.O_WRONLY, MODE))
        yield copy
    finally:
        _remove(folder, copy)


def _remove(folder: Path, copy: Path) -> None:
    """Only what was made here: if there is more in the folder, it is somebody else's, and stays."""
    for suffix in ("", *SIDE_SUFFIXES):
        copy.with_name(copy.name + suffix).unlink(missing_ok=True)
    if folder.exists():
        folder.rmdir()


def _copy(source: Path, copy: Path, on_progress: Progress) -> tuple[Record, Audit]:
    """Copy a snapshot and verify the copy. Returns what the copy says of itself."""
    with closing(apsw.Connection(str(copy), flags=apsw.SQLITE_OPEN_READWRITE)) as made:
        made.pragma("journal_mode", "memory")
        made.pragma("synchronous", "OFF")  # until it is verified, it may be lost
        expected = _copy_pages(source, made, on_progress)
        if made.pragma("journal_mode", "delete") != "delete":  # one file, whole by itself
            raise BackupError("SQLite did not make one file of the copy")
        record, books = _verify(made)
    if record != expected:
        raise BackupError(f"the copy says that it is {record}, the ledger says {expected}")
    return record, books


def _copy_pages(source: Path, made: apsw.Connection, on_progress: Progress) -> Record | None:
    """Copy every page, and let the ledger go: its WAL can be emptied again. Returns what the ledger says of itself."""
    with closing(apsw.Connection(str(source), flags=apsw.SQLITE_OPEN_READWRITE)) as ledger:
        ledger.set_busy_timeout(BUSY_TIMEOUT_MS)
        ledger.pragma("query_only", True)
        ledger.execute("BEGIN")
        record = identity.read(ledger)  # takes the snapshot: the copying stays on it
        with made.backup("main", ledger, "main") as backup:
            while not backup.done:
                backup.step(STEP_PAGES)
                on_progress(backup.page_count - backup.remaining, backup.page_count)
        return record


def _verify(connection: apsw.Connection) -> tuple[Record, Audit]:
    """Every page of a copy is read and sound, and it is a ledger. Its books need not balance: that is for the
    operator to know."""
    faults = [str(fault) for (fault,) in fetch_all(connection, "PRAGMA integrity_check")]
    if faults != ["ok"]:
        raise BackupError(f"the copy is damaged: {'; '.join(faults[:MAX_TOLD_FAULTS])}")
    if not fetch_all(connection, "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'ledger'"):
        raise BackupError("the file is a database, but no ledger")
    if connection.pragma("user_version") > len(migrations()):
        raise BackupError("the ledger is of a newer release of Nutbolt, which must be installed again")
    record = identity.read(connection)
    if record is None:
        raise BackupError("the ledger has no identity yet: nothing was ever written to it")
    return record, audit.audit(connection)


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _publish(copy: Path, target: Path) -> None:
    """Give the copy its name. Raises FileExistsError if that was taken meanwhile."""
    try:
        os.link(copy, target)  # unlike a rename it never replaces anything
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        if os.path.lexists(target):
            raise FileExistsError(str(target)) from None
        copy.rename(target)
