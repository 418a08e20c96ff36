"""`cashu-backup` and `cashu-restore-check`: a copy made while the mint serves, and what can be done with it."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path
from typing import Any

import pytest

from contrib.sandbox import RpcError
from contrib.wallet import MintError
from ledger.errors import Code
from tests.plugin.conftest import MakeMint
from tests.plugin.harness import Mint, Purse, wait_for
from tests.plugin.test_plugin_tripwire import assert_refused, remove, stop_and

PUBLISH = "ledger.store.backup:_publish"
POINTS = (PUBLISH,)


def backup(mint: Mint, path: object) -> dict[str, Any]:
    return mint.node.rpc("cashu-backup", path=str(path))


def check(mint: Mint, path: object) -> dict[str, Any]:
    return mint.node.rpc("cashu-restore-check", path=str(path))


def put_in_place(mint: Mint, path: Path) -> None:
    """What the operator does, while the plugin is stopped."""
    remove(mint.ledger_path)
    shutil.copy(path, mint.ledger_path)


def test_a_backup_of_the_newest_state_is_put_in_place_and_the_mint_goes_on(make_mint: MakeMint, tmp_path: Path) -> None:
    mint, path = make_mint(), tmp_path / "kept.sqlite3"
    purse = Purse(mint)
    spent = purse.fund(8)
    proofs, held = purse.swap(spent), purse.hold(32)
    made = backup(mint, path)
    assert made["path"] == str(path)
    assert made["bytes"] == path.stat().st_size
    assert made["sentence"].startswith(
        f"This is the ledger after commit {made['commits']}, and whole. Its books balance"
    )
    assert any("hsm_secret" in kept for kept in made["keep_also"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    checked = check(mint, path)
    assert (checked["usable"], checked["commits"]) == (True, made["commits"])
    stop_and(mint, lambda: put_in_place(mint, path))
    mint.wait_ready()
    with pytest.raises(MintError) as refused:
        purse.swap(spent)
    assert refused.value.code == Code.PROOFS_SPENT
    purse.swap(proofs)
    mint.node.release(str(held.invoice))
    purse.assert_paid(held)


def test_a_backup_that_is_older_is_refused_and_its_replacement_goes_on(make_mint: MakeMint, tmp_path: Path) -> None:
    mint, old, newest = make_mint(), tmp_path / "old.sqlite3", tmp_path / "newest.sqlite3"
    purse = Purse(mint)
    spent = purse.fund(8)
    made = backup(mint, old)
    proofs = purse.swap(spent)
    mint.node.stop_plugin()  # an orderly end: the node remembers the last commit
    shutil.copy(mint.ledger_path, newest)
    put_in_place(mint, old)
    mint.node.start_plugin()
    assert_refused(
        mint, "old copy", f"it has {made['commits']} commits", "the last", "are missing", "cashu-restore-check"
    )
    judged = check(mint, old)
    missing = judged["remembered_commits"] - made["commits"]
    assert missing > 0
    assert judged["usable"] is False
    assert judged["sentence"].startswith("The mint would refuse it: the ledger is an old copy")
    assert f"the last {missing} are missing" in judged["sentence"]
    judged = check(mint, newest)
    assert judged["usable"] is True
    assert judged["sentence"].startswith("The mint would go on with it")
    with pytest.raises(RpcError, match="not ready"):
        backup(mint, tmp_path / "another.sqlite3")
    stop_and(mint, lambda: put_in_place(mint, newest))
    mint.wait_ready()
    purse.swap(proofs)
    with pytest.raises(MintError) as refused:
        purse.swap(spent)
    assert refused.value.code == Code.PROOFS_SPENT


def test_a_backup_of_another_mint_is_told_apart(make_mint: MakeMint, tmp_path: Path) -> None:
    mint, other, path = make_mint(), make_mint(), tmp_path / "other.sqlite3"
    backup(other, path)
    wait_for(lambda: check(mint, path)["remembered_commits"] is not None, "the record")
    judged = check(mint, path)
    assert (judged["usable"], "another mint" in judged["sentence"]) == (False, True)


def test_a_plugin_killed_in_the_middle_leaves_no_backup(mint: Mint, purse: Purse, tmp_path: Path) -> None:
    path = tmp_path / "kept.sqlite3"
    proofs = purse.fund(8)
    mint.arm(PUBLISH)
    with pytest.raises(RpcError):
        backup(mint, path)
    mint.wait_dead()
    assert not path.exists()
    mint.start_plugin()
    purse.swap(proofs)
    assert backup(mint, path)["balanced"]
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


def test_a_relative_path_starts_where_the_ledger_lies(mint: Mint, purse: Purse) -> None:
    made = backup(mint, "relative.sqlite3")
    assert Path(made["path"]) == mint.ledger_path.with_name("relative.sqlite3")
    assert check(mint, "relative.sqlite3")["commits"] == made["commits"]
    with pytest.raises(RpcError, match="exists already"):
        backup(mint, "relative.sqlite3")


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("cashu.sqlite3", "exists already"),
        ("cashu.sqlite3-journal", "can't be called"),
        ("lightningd.sqlite3-journal", "can't be called"),
        ("", "must be the path"),
        (".", "folder|exists"),
        ("..", "folder"),
        ("new/", "folder"),
        ("no/such/folder/x", "no folder"),
        ("/dev/null", "exists already"),
        ("/proc/x", "could not be made"),
        ("x" * 5000, "must be the path"),
        ("x" * 300, "could not be made|no folder"),
        ("line\nfeed", "must be the path"),
        ("nul\0", "must be the path"),
        (7, "must be the path"),
        (None, "must be the path"),
        (["x"], "must be the path"),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_a_path_that_cannot_be_is_refused_with_a_sentence(mint: Mint, purse: Purse, path: Any, why: str) -> None:
    before = sorted(mint.ledger_path.parent.iterdir())
    with pytest.raises(RpcError, match=why):
        mint.node.rpc("cashu-backup", path=path)
    assert sorted(mint.ledger_path.parent.iterdir()) == before


@pytest.mark.parametrize("path", ["no-such", "", "..", "/dev/null", "nul\0", 7, "x" * 5000], ids=lambda v: repr(v)[:16])
def test_what_cannot_be_checked_is_refused_with_a_sentence(mint: Mint, purse: Purse, path: Any) -> None:
    with pytest.raises(RpcError, match=r"no file|must be the path|folder"):
        mint.node.rpc("cashu-restore-check", path=path)


@pytest.mark.parametrize("command", ["cashu-backup", "cashu-restore-check", "cashu-pending"])
def test_unknown_parameters_are_refused(mint: Mint, purse: Purse, command: str) -> None:
    with pytest.raises(RpcError, match="takes only"):
        mint.node.rpc(command, path="x", force=True)
