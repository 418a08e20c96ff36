"""Checkpoints: what was committed to the write-ahead log is carried over into the database's file, beside the writer.

SQLite would do it in the commit that fills the log, and whoever waits for that one, and all behind it, would wait for
the pages of a thousand more: they lie all over a large ledger. A commit is durable before and without it.
"""

from __future__ import annotations

import logging
import threading
from contextlib import suppress

import apsw

CHECKPOINT_PAGES = 1000
"""Length of the log, in pages of 4 KiB, from which on it is carried over."""
MOST_PAGES = 8000
"""Length from which on the writer does it itself, so that the log is emptied however fast it is written: 32 MiB. Only a
backup, while it is copied, lets it grow beyond that."""
CLOSE_WAIT_S = 5.0

log = logging.getLogger(__name__)


class Checkpointer:
    """Checkpoints in a thread and on a connection of its own. `writer`: the connection that commits."""

    def __init__(self, writer: apsw.Connection, connection: apsw.Connection) -> None:
        self._connection = connection
        self._due = threading.Event()
        self._closed = False
        self._one_at_a_time = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="ledger-checkpoints", daemon=True)
        self._thread.start()
        writer.set_wal_hook(self._on_commit)

    def close(self) -> None:
        """Stop, and close the connection. Closing the last connection to a database is a checkpoint as well."""
        self._closed = True
        self._due.set()
        self._thread.join(CLOSE_WAIT_S)
        with self._one_at_a_time:
            self._connection.close()

    def _on_commit(self, writer: apsw.Connection, _database: str, pages: int) -> int:
        """Called by SQLite in the writer's thread, when a commit is durable: an error here would be told as a failure
        of that commit."""
        if pages >= MOST_PAGES:
            with self._one_at_a_time, suppress(apsw.Error):
                writer.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        elif pages >= CHECKPOINT_PAGES:
            self._due.set()
        return apsw.SQLITE_OK

    def _run(self) -> None:
        while True:
            self._due.wait()
            self._due.clear()
            if self._closed:
                return
            with self._one_at_a_time:
                self._carry_over()

    def _carry_over(self) -> None:
        try:
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except apsw.BusyError:
            log.debug("somebody else is making a checkpoint")
        except apsw.Error as error:
            log.error("the ledger's write-ahead log can't be carried over into its file, and grows: %s", error)
