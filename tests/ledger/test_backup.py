"""Backups of a ledger that is in use: whole, of one commit, verified, and never anything else under their name."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from ledger.errors import StartError
from ledger.identity import require_newest
from ledger.store import backup
from ledger.store.backup import BackupError
from tests.ledger.helpers import Mint, Wallet, done, swap_request

ROOT = Path(__file__).parents[2]


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "backups"
    folder.mkdir()
    return folder / "copy.sqlite3"


def make(mint: Mint, target: Path) -> backup.Copy:
    return mint.ledger.backup(target, lambda copied, total: None)


def files(target: Path) -> set[str]:
    return {path.name for path in target.parent.iterdir()}


def test_a_backup_is_the_ledger_as_it_was(mint: Mint, alice: Wallet, target: Path) -> None:
    mint.fund(alice, 8, 16)
    progress: list[tuple[int, int]] = []
    copy = mint.ledger.backup(target, lambda copied, total: progress.append((copied, total)))
    assert copy.record == mint.ledger.record()
    assert copy.books.outstanding_msat == 24_000
    assert copy.books.faults == ()
    assert progress[-1][0] == progress[-1][1] > 0
    assert copy.size == target.stat().st_size
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert files(target) == {target.name}
    mint.close()
    mint.path, before = target, mint.path
    shutil.copy(target, target.with_suffix(".kept"))
    mint.open()
    rows = mint.dump()
    mint.close()
    mint.path = before
    mint.open()
    assert mint.dump() == rows


def test_what_is_written_during_a_backup_is_not_in_it(
    mint: Mint, alice: Wallet, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every step is followed by a commit: the copying neither starts again nor mixes the states."""
    proofs = mint.fund(alice, *[1] * 20)
    commits = mint.ledger.record().commits
    monkeypatch.setattr(backup, "STEP_PAGES", 1)
    steps = 0

    def write(copied: int, total: int) -> None:
        nonlocal steps
        steps += 1
        assert copied == steps
        if proofs:
            drawn = alice.draw_sum(mint.keyset(), 1)
            done(mint.ledger.swap(swap_request([proofs.pop()], drawn)))

    copy = mint.ledger.backup(target, write)
    assert copy.record.commits == commits
    assert mint.ledger.record().commits == commits + 20
    assert copy.books.faults == ()
    assert copy.books.keysets[0].issued == 20


def test_the_wal_can_be_emptied_as_soon_as_all_is_copied(
    mint: Mint, alice: Wallet, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check of a large copy takes much longer than the copying: the WAL must not grow for that long."""
    mint.fund(alice, 8)
    busy: list[object] = []

    def verify_and_try(connection: apsw.Connection) -> object:
        with closing(apsw.Connection(str(mint.path))) as other:
            busy.extend(row[0] for row in other.execute("PRAGMA wal_checkpoint(TRUNCATE)"))
        return verify(connection)

    verify = backup._verify
    monkeypatch.setattr(backup, "_verify", verify_and_try)
    make(mint, target)
    assert busy == [0]


@pytest.mark.parametrize("kind", ["file", "folder", "link to nothing"])
def test_nothing_is_replaced(mint: Mint, target: Path, kind: str) -> None:
    if kind == "file":
        target.write_text("somebody's")
    elif kind == "folder":
        target.mkdir()
    else:
        target.symlink_to("nowhere")
    with pytest.raises(BackupError, match="exists already"):
        make(mint, target)
    assert files(target) == {target.name}
    if kind == "file":
        assert target.read_text() == "somebody's"


def test_what_appears_under_the_name_meanwhile_is_not_replaced(mint: Mint, target: Path) -> None:
    def appear(copied: int, total: int) -> None:
        target.write_text("somebody's")

    with pytest.raises(BackupError, match="exists already"):
        mint.ledger.backup(target, appear)
    assert target.read_text() == "somebody's"
    assert files(target) == {target.name}


def test_where_there_are_no_hard_links_a_backup_is_renamed(
    mint: Mint, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise OSError(backup.NO_LINKS[0], "no links here")

    monkeypatch.setattr(os, "link", no_links)
    assert backup.check(make(mint, target).path).record == mint.ledger.record()
    assert files(target) == {target.name}


@pytest.mark.parametrize("suffix", backup.SIDE_SUFFIXES)
def test_a_name_that_sqlite_would_take_for_its_own_is_refused(mint: Mint, suffix: str) -> None:
    with pytest.raises(BackupError, match="can't be called"):
        make(mint, mint.path.with_name(mint.path.name + suffix + suffix))


@pytest.mark.parametrize("suffix", backup.SIDE_SUFFIXES)
def test_a_name_beside_which_a_part_of_another_file_lies_is_refused(mint: Mint, target: Path, suffix: str) -> None:
    """SQLite would read an old WAL of that name into the new copy."""
    side = target.with_name(target.name + suffix)
    side.write_bytes(b"")
    with pytest.raises(BackupError, match="move it away"):
        make(mint, target)
    side.unlink()
    make(mint, target)


@pytest.mark.parametrize(
    "path", ["/nowhere/at/all", "/dev/null/copy", "/proc/copy", "x" * 300, "a\0b"], ids=lambda path: repr(path[:14])
)
def test_a_path_that_cannot_be_written_is_refused_with_a_sentence(mint: Mint, target: Path, path: str) -> None:
    with pytest.raises(BackupError, match=r"no folder|could not be made"):
        make(mint, target.parent / path)
    assert files(target) == set()


def test_a_copy_that_is_damaged_gets_no_name(mint: Mint, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(connection: apsw.Connection) -> None:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_schema SET rootpage = 2 WHERE name = 'issues'")
        connection.execute("PRAGMA writable_schema = RESET")

    verify = backup._verify

    def damage_and_verify(connection: apsw.Connection) -> object:
        damaged(connection)
        return verify(connection)

    monkeypatch.setattr(backup, "_verify", damage_and_verify)
    with pytest.raises(BackupError):
        make(mint, target)
    assert files(target) == set()


def test_books_that_do_not_balance_are_told_and_kept(mint: Mint, target: Path) -> None:
    """A copy of a ledger with a fault is worth more than none."""
    mint.execute("UPDATE keysets SET issued = issued + 1")
    assert make(mint, target).books.faults
    assert backup.check(target).books.faults
    mint.execute("UPDATE keysets SET issued = issued - 1")


def test_what_a_killed_backup_left_behind_does_not_matter(mint: Mint, target: Path) -> None:
    folder = target.with_name(f".{target.name}{backup.UNFINISHED_SUFFIX}")
    folder.mkdir()
    (folder / "copy").write_text("half")
    (folder / "copy-wal").write_text("half")
    make(mint, target)
    assert files(target) == {target.name}


def test_a_folder_that_holds_something_else_is_left_alone(mint: Mint, target: Path) -> None:
    folder = target.with_name(f".{target.name}{backup.UNFINISHED_SUFFIX}")
    folder.mkdir()
    (folder / "photos").write_text("somebody's")
    with pytest.raises(BackupError, match="could not be made"):
        make(mint, target)
    assert (folder / "photos").read_text() == "somebody's"
    assert not target.exists()


KILLED = """
import os, signal, sys
from pathlib import Path
from ledger.store import backup
point = sys.argv[3]
if point == "copying":
    backup.STEP_PAGES = 1
    backup.make(Path(sys.argv[1]), Path(sys.argv[2]), lambda n, total: n > 3 and os.kill(os.getpid(), signal.SIGKILL))
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
setattr(backup, point, die)
backup.make(Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.parametrize("point", ["copying", "_verify", "_to_disk", "_publish"])
def test_a_process_killed_in_the_middle_leaves_nothing_that_looks_like_a_backup(
    mint: Mint, alice: Wallet, target: Path, point: str
) -> None:
    mint.fund(alice, 8)
    run = subprocess.run([sys.executable, "-c", KILLED, str(mint.path), str(target), point], cwd=ROOT, check=False)
    assert run.returncode == -signal.SIGKILL
    assert not target.exists()
    (left,) = files(target)
    assert left.startswith(".")
    assert stat.S_IMODE((target.parent / left).stat().st_mode) == 0o700
    assert make(mint, target).record == mint.ledger.record()
    assert files(target) == {target.name}


# --- the check ----------------------------------------------------------------------------------------------------


def test_the_check_of_a_backup_changes_nothing(mint: Mint, alice: Wallet, target: Path) -> None:
    mint.fund(alice, 8)
    made = make(mint, target)
    content = target.read_bytes()
    assert backup.check(target) == made
    assert target.read_bytes() == content
    assert files(target) == {target.name}


def test_the_file_in_use_can_be_checked_too(mint: Mint, alice: Wallet) -> None:
    mint.fund(alice, 8)
    assert backup.check(mint.path).record == mint.ledger.record()


def test_a_backup_tells_how_far_it_is_behind(mint: Mint, alice: Wallet, target: Path) -> None:
    make(mint, target)
    mint.fund(alice, 8)
    ours, now = backup.check(target).record, mint.ledger.record()
    with pytest.raises(StartError, match=rf"the last {now.commits - ours.commits} are missing"):
        require_newest(ours, now)


@pytest.mark.parametrize("what", ["nothing", "a folder", "text", "another database", "half", "newer"])
def test_what_is_no_ledger_is_refused_with_a_sentence(mint: Mint, target: Path, what: str) -> None:
    match what:
        case "a folder":
            target.mkdir()
        case "text":
            target.write_text("not a database, but somebody's notes\n" * 200)
        case "another database":
            other = apsw.Connection(str(target))
            other.execute("CREATE TABLE notes (n)")
            other.close()
        case "newer":
            make(mint, target)
            newer = apsw.Connection(str(target))
            newer.pragma("user_version", 999)
            newer.close()
        case "half":
            make(mint, target)
            os.truncate(target, target.stat().st_size // 2)
    with pytest.raises(BackupError, match=r"no file|no ledger|damaged|newer release"):
        backup.check(target)
