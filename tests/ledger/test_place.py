"""Where a ledger can be: everything else is refused, and left as it was."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from ledger.errors import StartError
from ledger.store.database import Database
from ledger.store.place import require_usable
from tests.ledger.helpers import Mint, Wallet


def snapshot(folder: Path) -> dict[str, str]:
    """What lies in a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def notes(path: Path) -> None:
    path.write_text("somebody's notes, and no ledger\n" * 50)


def folder(path: Path) -> None:
    path.mkdir()


def pipe(path: Path) -> None:
    os.mkfifo(path)


def nodes_database(path: Path, *, wal: bool = False) -> None:
    """As lightningd's own: an SQLite database, and `user_version` is 0."""
    db = sqlite3.connect(path)
    if wal:
        db.execute("PRAGMA journal_mode = wal")
    db.executescript("CREATE TABLE channels (id INTEGER); INSERT INTO channels VALUES (7);")
    db.close()


def wal_database(path: Path) -> None:
    nodes_database(path, wal=True)


@pytest.mark.parametrize("make", [notes, folder, pipe, nodes_database, wal_database])
def test_something_else_is_refused_and_left_as_it_was(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "lightningd.sqlite3"
    make(path)
    found, before = names(tmp_path), snapshot(tmp_path) if make is not pipe else {}
    with pytest.raises(StartError, match="cannot open the ledger"):
        Database(path)
    assert names(tmp_path) == found, "no lock, no WAL"
    assert make is pipe or snapshot(tmp_path) == before


def test_the_database_of_a_program_that_is_running_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "lightningd.sqlite3"
    wal_database(path)
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("INSERT INTO channels VALUES (8)")
        before = snapshot(tmp_path)
        with pytest.raises(StartError, match="another program"):
            Database(path)
        assert snapshot(tmp_path).keys() == before.keys()
        assert other.execute("SELECT count(*) FROM channels").fetchone() == (2,)
    other.close()


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match=r"cannot open the ledger .*Not a directory"):
        require_usable(tmp_path / "file" / "deeper" / "ledger.sqlite3")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StartError, match="Permission denied"):
        require_usable(tmp_path / "ledger.sqlite3")


def test_asking_about_a_file_to_be_made_makes_nothing(tmp_path: Path) -> None:
    require_usable(tmp_path / "not" / "there" / "ledger.sqlite3")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "empty").touch()
    require_usable(tmp_path / "empty")
    assert [p.name for p in tmp_path.iterdir()] == ["empty"]


def test_a_ledger_is_no_mistake_in_use_closed_or_left_by_a_killed_mint(tmp_path: Path) -> None:
    mint = Mint(tmp_path / "ledger.sqlite3")
    mint.fund(Wallet("alice"), 8)
    require_usable(mint.path)
    left = tmp_path / "left"
    left.mkdir()
    for path in tmp_path.glob("ledger.sqlite3*"):  # as a kill would leave it: the schema is in the WAL yet
        (left / path.name).write_bytes(path.read_bytes())
    require_usable(left / "ledger.sqlite3")
    mint.close()
    require_usable(mint.path)
