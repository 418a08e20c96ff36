"""The write-ahead log is carried over into the database's file beside the writer, and stays bounded."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from ledger.store import checkpoint
from ledger.store.checkpoint import CHECKPOINT_PAGES, Checkpointer
from ledger.store.database import Database
from tests.ledger.helpers import Mint, Wallet

PAGE = 4096
PATIENCE_S = 60.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite3"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    database = Database(path)
    database.writer.execute("CREATE TABLE pages (page BLOB)")
    yield database
    database.close()


def commit(database: Database, pages: int) -> None:
    """Durably, so many pages that were never written before."""
    with database.writer:
        database.writer.executemany("INSERT INTO pages VALUES (?)", [(os.urandom(PAGE - 100),) for _ in range(pages)])


def in_file(path: Path) -> int:
    """Pages that the database's file has, without its log."""
    return path.stat().st_size // PAGE


def log_pages(path: Path) -> int:
    """Length of the log's file; it keeps the most that it ever had."""
    return path.with_name(path.name + "-wal").stat().st_size // PAGE


def wait_for(ask: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not ask():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_long_log_is_carried_over_while_nobody_commits(database: Database, path: Path) -> None:
    commit(database, CHECKPOINT_PAGES // 2)
    assert in_file(path) < CHECKPOINT_PAGES // 2
    commit(database, CHECKPOINT_PAGES)
    wait_for(lambda: in_file(path) > CHECKPOINT_PAGES * 3 // 2)


def test_the_writer_carries_it_over_where_the_thread_does_not_keep_up(
    database: Database, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Checkpointer, "_carry_over", lambda _: None)
    monkeypatch.setattr(checkpoint, "MOST_PAGES", 2 * CHECKPOINT_PAGES)
    for _ in range(50):
        commit(database, CHECKPOINT_PAGES // 4)
    assert in_file(path) > 50 * CHECKPOINT_PAGES // 4 - 2 * CHECKPOINT_PAGES
    assert log_pages(path) < 3 * CHECKPOINT_PAGES


def test_a_reader_sees_its_snapshot_whatever_is_carried_over(database: Database, path: Path) -> None:
    commit(database, 3)
    with database.read() as db:
        before = db.execute("SELECT count(*) FROM pages").get
        for _ in range(3):
            commit(database, CHECKPOINT_PAGES)
        assert db.execute("SELECT count(*) FROM pages").get == before
    commit(database, 1)
    wait_for(lambda: in_file(path) > 3 * CHECKPOINT_PAGES)


class Broken:
    """A connection on which no checkpoint succeeds."""

    def wal_checkpoint(self, **_: object) -> None:
        raise apsw.FullError("database or disk is full")


def test_a_checkpoint_that_fails_is_told_and_no_commit_fails_by_it(
    database: Database, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(database._checkpointer, "_connection", Broken())
    commit(database, CHECKPOINT_PAGES)
    wait_for(lambda: "can't be carried over" in caplog.text)
    monkeypatch.setattr(checkpoint, "MOST_PAGES", CHECKPOINT_PAGES)
    assert database._checkpointer._on_commit(Broken(), "main", CHECKPOINT_PAGES) == apsw.SQLITE_OK  # type: ignore[arg-type]
    with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as other:
        assert other.execute("SELECT count(*) FROM pages").get == CHECKPOINT_PAGES
    monkeypatch.undo()


def test_a_ledger_that_is_closed_is_one_file(path: Path) -> None:
    mint = Mint(path)
    mint.fund(Wallet("alice"), 8)
    mint.close()
    assert not list(path.parent.glob("*-wal"))
