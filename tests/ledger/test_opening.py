"""Opening a ledger: the lock, the migrations, and the tripwire against lost and old ledgers."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw
import pytest

from ledger.errors import StartError
from ledger.identity import FIRST_EPOCH, Record, require_newest
from ledger.ledger import open_ledger
from ledger.store import database
from ledger.store.database import Database, migrate, migrations
from tests.ledger.helpers import NOW, Clock, Mint, Wallet, said

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite3"


# --- the lock -----------------------------------------------------------------------------------------------------

OPEN_AND_WAIT = """
import sys
from pathlib import Path
from ledger.errors import StartError
from ledger.store.database import Database
try:
    database = Database(Path(sys.argv[1]))
except StartError as error:
    print(error, flush=True)
else:
    print("open", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other_process(path: Path) -> Iterator[Any]:
    """Opens the ledger in another process; gives what that one says, and the process."""
    children: list[subprocess.Popen[str]] = []

    def start() -> tuple[str, subprocess.Popen[str]]:
        child = subprocess.Popen(
            [sys.executable, "-c", OPEN_AND_WAIT, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        children.append(child)
        assert child.stdout is not None
        return child.stdout.readline().strip(), child

    yield start
    for child in children:
        child.kill()
        child.communicate()


def test_a_second_process_is_refused_while_the_first_one_lives(path: Path, other_process: Any) -> None:
    ledger = Database(path)
    said, _ = other_process()
    assert "is in use by another process" in said
    ledger.close()
    said, _ = other_process()
    assert said == "open"


def test_the_lock_of_a_killed_process_is_gone(path: Path, other_process: Any) -> None:
    said, child = other_process()
    assert said == "open"
    with pytest.raises(StartError, match="in use by another process"):
        Database(path)
    child.send_signal(signal.SIGKILL)
    child.wait()
    Database(path).close()


def test_a_second_opening_in_the_same_process_is_refused_too(path: Path) -> None:
    ledger = Database(path)
    with pytest.raises(StartError, match=r"in use .*ledger\.sqlite3\.lock"):
        Database(path)
    ledger.close()


def test_the_ledgers_folder_is_made(tmp_path: Path) -> None:
    path = tmp_path / "not" / "there" / "ledger.sqlite3"
    Database(path).close()
    assert path.exists()


def test_a_file_that_is_no_database_is_not_opened(path: Path) -> None:
    path.write_bytes(b"something else entirely, and not short" * 100)
    with pytest.raises(StartError, match="cannot open the ledger"):
        Database(path)
    assert path.read_bytes().startswith(b"something else")


def test_a_folder_is_no_ledger(path: Path) -> None:
    path.mkdir()
    with pytest.raises(StartError, match="cannot open the ledger"):
        Database(path)


def test_without_write_ahead_logging_there_is_no_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StartError, match="write-ahead logging"):
        Database(Path(":memory:"))


def test_every_connection_is_durable_and_checks_references(path: Path) -> None:
    ledger = Database(path)
    with ledger.read() as reader:
        for connection in (ledger.writer, reader):
            assert connection.pragma("journal_mode") == "wal"
            assert connection.pragma("synchronous") == 2, "FULL"
            assert connection.pragma("foreign_keys") == 1
    ledger.close()


# --- migrations ---------------------------------------------------------------------------------------------------


def schema(connection: apsw.Connection) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in connection.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY name")]


def test_a_new_ledger_has_the_newest_schema(path: Path) -> None:
    ledger = Database(path)
    assert ledger.writer.pragma("user_version") == len(migrations()) > 0
    assert ledger.writer.pragma("integrity_check") == "ok"
    ledger.close()


def test_the_steps_of_the_schema_are_numbered_without_a_gap_and_none_twice() -> None:
    """Their order is that of their names, and a ledger remembers only how many it has taken."""
    names = sorted(path.name for path in (ROOT / "ledger" / "store" / "schema").glob("*.sql"))
    assert [int(name.split("_")[0]) for name in names] == list(range(1, len(migrations()) + 1))


def test_migrating_again_changes_nothing(path: Path) -> None:
    ledger = Database(path)
    before = schema(ledger.writer)
    migrate(ledger.writer)
    ledger.close()
    ledger = Database(path)
    assert schema(ledger.writer) == before
    ledger.close()


def test_only_the_missing_steps_are_applied_and_nothing_is_lost(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mint = Mint(path)
    mint.fund(Wallet("alice"), 8)
    rows = mint.dump()
    mint.close()
    steps = migrations()
    monkeypatch.setattr(database, "migrations", lambda: [*steps, "CREATE TABLE one (a)", "INSERT INTO one VALUES (7)"])
    mint.open()
    assert mint.database.writer.pragma("user_version") == len(steps) + 2
    migrated = mint.dump()
    assert migrated.pop("one") == [(7,)]
    del rows["sqlite_schema"], migrated["sqlite_schema"]
    assert migrated == rows
    mint.close()


def test_an_older_ledger_that_is_brought_up_to_date_is_told_of(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With a large one that takes its time; a new one has nothing to tell."""
    with caplog.at_level("INFO", logger="ledger"):
        Database(path).close()
        assert said(caplog) == []
        steps = migrations()
        monkeypatch.setattr(database, "migrations", lambda: [*steps, "CREATE TABLE one (a)"])
        Database(path).close()
    known = len(steps)
    assert said(caplog) == [f"bringing the ledger from schema version {known} to {known + 1} of {known + 1}"]


def test_a_step_that_fails_leaves_the_ledger_as_the_step_before_left_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = migrations()
    broken = "CREATE TABLE two (a); INSERT INTO two VALUES (1); INSERT INTO missing VALUES (1)"
    monkeypatch.setattr(database, "migrations", lambda: [*steps, "CREATE TABLE one (a)", broken])
    with pytest.raises(StartError, match="missing"):
        Database(path)
    connection = apsw.Connection(str(path))
    assert connection.pragma("user_version") == len(steps) + 1
    tables = {name for kind, name, _ in schema(connection) if kind == "table"}
    assert "one" in tables
    assert "two" not in tables
    connection.close()


def test_the_ledger_of_a_newer_release_is_refused_and_left_alone(path: Path) -> None:
    Database(path).close()
    connection = apsw.Connection(str(path))
    connection.pragma("user_version", len(migrations()) + 1)
    before = schema(connection)
    connection.close()
    with pytest.raises(StartError, match="newer release"):
        Database(path)
    connection = apsw.Connection(str(path))
    assert (schema(connection), connection.pragma("user_version")) == (before, len(migrations()) + 1)
    connection.close()


# --- the tripwire -------------------------------------------------------------------------------------------------


@pytest.fixture
def mint_and_record(path: Path) -> Iterator[tuple[Mint, Record]]:
    """A mint that has some history, and what the node remembers of it."""
    mint = Mint(path)
    mint.fund(Wallet("alice"), 8)
    yield mint, mint.ledger.record()
    mint.close()


def test_a_new_ledger_gets_an_identity_of_its_own(tmp_path: Path) -> None:
    records = []
    for name in ("one", "two"):
        ledger = Database(tmp_path / name)
        records.append(open_ledger(ledger, None, Clock()))
        assert open_ledger(ledger, records[-1], Clock()) == records[-1], "the same when asked again"
        ledger.close()
    assert [(record.epoch, record.commits) for record in records] == [(FIRST_EPOCH, 0)] * 2
    assert records[0].mint_id != records[1].mint_id


def test_a_ledger_knows_when_it_was_made(path: Path) -> None:
    mint = Mint(path)
    assert mint.value("SELECT created_at FROM ledger") == NOW
    mint.close()


def test_commits_count_every_group_commit_and_survive(mint_and_record: tuple[Mint, Record]) -> None:
    mint, record = mint_and_record
    mint.mint_quote(8)
    assert mint.ledger.record() == replace(record, commits=record.commits + 1)
    mint.reopen()
    assert mint.ledger.record() == replace(record, commits=record.commits + 1)


def test_the_remembered_ledger_opens_also_if_it_went_on_since(mint_and_record: tuple[Mint, Record]) -> None:
    mint, record = mint_and_record
    for remembered in (record, replace(record, commits=record.commits - 1), None):
        assert open_ledger(mint.database, remembered) == record


def test_a_missing_ledger_is_refused_and_none_is_made_in_its_place(tmp_path: Path) -> None:
    ledger = Database(tmp_path / "empty")
    for _ in range(2):
        with pytest.raises(StartError, match="the ledger is missing"):
            open_ledger(ledger, Record("remembered", FIRST_EPOCH, 0))
    ledger.close()


def test_an_older_copy_is_refused(path: Path, tmp_path: Path) -> None:
    mint = Mint(path)
    mint.close()
    backup = tmp_path / "backup.sqlite3"
    shutil.copy(path, backup)
    mint.open()
    mint.mint_quote(8)
    record = mint.ledger.record()
    mint.close()
    old = Database(backup)
    with pytest.raises(StartError, match=f"has {record.commits - 1} commits, the node remembers {record.commits}"):
        open_ledger(old, record)
    old.close()


@pytest.mark.parametrize("change", [{"mint_id": "another"}, {"epoch": 2}])
def test_another_ledger_is_refused(mint_and_record: tuple[Mint, Record], change: dict[str, Any]) -> None:
    mint, record = mint_and_record
    with pytest.raises(StartError, match="ledger of another mint"):
        open_ledger(mint.database, replace(record, commits=0, **change))


def test_a_node_without_memory_trusts_the_ledger() -> None:
    require_newest(None, None)
    require_newest(Record("mint", 1, 7), None)


def test_a_record_is_read_back_from_the_datastore_as_it_was_written() -> None:
    record = Record("mint", 3, 2**40)
    assert Record.from_json(record.to_json()) == record


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "7",
        '"mint"',
        "{}",
        '{"mint_id": "m", "epoch": 1}',
        '{"mint_id": "m", "epoch": "x", "commits": 1}',
    ],
)
def test_something_else_in_the_datastore_does_not_start(text: str) -> None:
    with pytest.raises(StartError, match="no record of a mint"):
        Record.from_json(text)


def test_a_record_of_a_newer_release_may_have_more_fields() -> None:
    text = json.dumps({"mint_id": "m", "epoch": 1, "commits": 2, "more": True})
    assert Record.from_json(text) == Record("m", 1, 2)


def test_a_new_ledger_is_for_its_owner_only(tmp_path: Path) -> None:
    """Proofs and quotes are in it, and in what SQLite lays beside it."""
    mint = Mint(tmp_path / "ledger.sqlite3")
    try:
        modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.glob("ledger.sqlite3*")}
        modes.pop("ledger.sqlite3.lock")
        assert set(modes) >= {"ledger.sqlite3", "ledger.sqlite3-wal"}
        assert set(modes.values()) == {0o600}
    finally:
        mint.close()
