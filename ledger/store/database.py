"""The SQLite database: opening, migrating, and snapshots for readers.

One writer (`ledger.store.writer`) changes it; readers work on their own connections, each on a WAL snapshot.
"""

from __future__ import annotations

import fcntl
import logging
import os
import queue
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import IO

import apsw

from ledger.errors import StartError, StorageError
from ledger.store.checkpoint import Checkpointer
from ledger.store.place import require_usable

BUSY_TIMEOUT_MS = 10_000
LOCK_WAIT_S = 10.0
"""After a crash the process before this one may take a moment to go."""
LOCK_RETRY_S = 0.1
FILE_MODE = 0o600
SYNCHRONOUS = "FULL"
"""An answer is given only after its commit, so the commit must have reached the disk."""
READERS = 4
"""Reader connections that are kept open. A reader that finds none free opens one more and closes it again: the event
loop reads as well, and must not wait for who reads for long. There are never more of them than threads that read."""

log = logging.getLogger(__name__)


class Database:
    """An open ledger file, locked against a second process. Raises StartError if it can't be used."""

    def __init__(self, path: Path) -> None:
        self.path = path
        require_usable(path)
        try:
            self._lock = _lock(path)
            _make_private(path)
            self.writer = _connect(path)
            migrate(self.writer)
            self._readers: queue.LifoQueue[apsw.Connection | None] = queue.LifoQueue()  # None: closed
            for _ in range(READERS):
                self._readers.put(_connect_reader(path))
            self._checkpointer = Checkpointer(self.writer, _connect(path))
        except (apsw.Error, OSError, ValueError) as error:
            raise StartError(f"cannot open the ledger {path}: {error}") from error

    @contextmanager
    def read(self) -> Iterator[apsw.Connection]:
        """A connection on one consistent snapshot of the committed ledger. Raises StorageError once it is closed, and
        for every error of SQLite while it is used: the disk may fail, or a page be damaged."""
        kept = True
        try:
            connection = self._readers.get_nowait()
        except queue.Empty:
            kept, connection = False, _connect_one_more(self.path)
        if connection is None:
            self._readers.put(None)
            raise StorageError("the ledger is closed")
        try:
            try:
                connection.execute("BEGIN")
                yield connection
            finally:
                if connection.in_transaction:  # some errors end it
                    connection.execute("ROLLBACK")
        except apsw.Error as error:
            raise StorageError(f"cannot read the ledger {self.path}: {error}") from error
        finally:
            if kept:
                self._readers.put(connection)
            else:
                connection.close()

    def close(self) -> None:
        """Close all connections that are kept open, when nobody reads on them any more, and release the lock."""
        for _ in range(READERS):
            reader = self._readers.get()
            if reader is None:
                break
            reader.close()
        self._readers.put(None)
        self._checkpointer.close()
        self.writer.close()
        self._lock.close()


def _lock(path: Path) -> IO[bytes]:
    lock_path = path.with_name(path.name + ".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = lock_path.open("wb")
    except OSError as error:
        raise StartError(f"cannot open the ledger {path}: {error}") from error
    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return handle
        except OSError as error:
            if time.monotonic() >= deadline:
                handle.close()
                raise StartError(f"the ledger {path} is in use by another process (it holds {lock_path})") from error
        time.sleep(LOCK_RETRY_S)


def _make_private(path: Path) -> None:
    """A new file is for its owner only: the secrets of proofs and quotes are in it. What SQLite lays beside a database
    gets the same mode."""
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, FILE_MODE))


def _connect_reader(path: Path) -> apsw.Connection:
    reader = _connect(path)
    reader.pragma("query_only", True)
    return reader


def _connect_one_more(path: Path) -> apsw.Connection:
    try:
        return _connect_reader(path)
    except (apsw.Error, StartError) as error:
        raise StorageError(f"cannot read the ledger {path}: {error}") from error


def _connect(path: Path) -> apsw.Connection:
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(BUSY_TIMEOUT_MS)
    if connection.pragma("journal_mode", "wal") != "wal":
        raise StartError(f"the ledger {path} lies on a file system where SQLite can't use write-ahead logging")
    connection.pragma("synchronous", SYNCHRONOUS)
    connection.pragma("foreign_keys", True)
    return connection


def migrations() -> list[str]:
    """The schema's steps in order; the database's `user_version` counts the ones applied."""
    files = sorted(
        (f for f in resources.files("ledger.store.schema").iterdir() if f.name.endswith(".sql")),
        key=lambda f: f.name,
    )
    return [f.read_text() for f in files]


def migrate(connection: apsw.Connection) -> None:
    """Apply the missing steps, each in a transaction of its own. Raises StartError for a newer database."""
    steps = migrations()
    version = connection.pragma("user_version")
    if version > len(steps):
        raise StartError(
            f"the ledger has schema version {version}, this Nutbolt knows {len(steps)}: "
            "it was used by a newer release, which must be installed again"
        )
    for number, step in enumerate(steps[version:], start=version + 1):
        if version:  # not a new file: a large one takes its time, and the mint does not serve before
            log.info("bringing the ledger from schema version %d to %d of %d", number - 1, number, len(steps))
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.execute(step)
            connection.pragma("user_version", number)
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
