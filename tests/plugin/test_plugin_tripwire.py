"""The tripwire: a ledger that is lost, old, another mint's or in use is not served, whatever the node's secret says."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from contrib.wallet import MintError
from ledger.errors import Code
from tests.plugin.conftest import MakeMint
from tests.plugin.harness import Mint, Purse, wait_for

REFUSED = "the mint does not start"


def assert_refused(mint: Mint, *words: str) -> None:
    """The mint is out of order, says why to its operator, and only that much to wallets; the node lives."""
    mint.expect_broken(REFUSED)
    wait_for(lambda: mint.info()["state"] != "starting", "the start to be refused")
    info = mint.info()
    assert info["state"] == "failed", info
    for word in words:
        assert word in info["reason"]
    for method, path in (("GET", "/v1/info"), ("GET", "/v1/keys"), ("POST", "/v1/swap"), ("POST", "/v1/melt/bolt11")):
        response = mint.http.request(method, path, json={} if method == "POST" else None)
        assert (response.status_code, set(response.json())) == (503, {"detail", "code"})
        assert str(mint.ledger_path) not in response.text
    page = mint.http.get("/")
    assert (page.status_code, page.headers["content-type"]) == (503, "text/html; charset=utf-8")
    assert "the mint is out of order: its operator can see why with cashu-info" in page.text
    assert str(mint.ledger_path) not in page.text
    assert mint.node.plugin_active
    assert mint.node.rpc("getinfo")["id"] == mint.node.id


def stop_and(mint: Mint, change: Callable[[], object]) -> None:
    """Stop the plugin, change something, start it again; it may refuse to serve."""
    mint.node.stop_plugin()
    change()
    mint.node.start_plugin()


def remove(path: Path) -> None:
    """Lose a ledger."""
    for file in path.parent.glob(path.name + "*"):
        file.unlink()


def test_the_node_remembers_its_mint(make_mint: MakeMint) -> None:
    mint = make_mint()
    wait_for(lambda: mint.node.rpc("listdatastore", key=["cashu", "ledger"])["datastore"], "the record")
    (entry,) = mint.node.rpc("listdatastore", key=["cashu", "ledger"])["datastore"]
    record = json.loads(entry["string"])
    assert record["mint_id"]
    assert record["commits"] >= 1


def test_what_only_the_operator_does_makes_older_copies_stale_as_well(make_mint: MakeMint, tmp_path: Path) -> None:
    mint = make_mint()
    copy = tmp_path / "copy.sqlite3"
    old = mint.node.rpc("cashu-backup", path=str(copy))["commits"]
    mint.node.rpc("cashu-rotate", unit="sat", input_fee_ppk=100)
    mint.node.rpc("cashu-pause")

    def remembered() -> int:
        (entry,) = mint.node.rpc("listdatastore", key=["cashu", "ledger"])["datastore"]
        return int(json.loads(entry["string"])["commits"])

    wait_for(lambda: remembered() == old + 2, "the node to remember both")
    mint.node.kill_plugin()
    remove(mint.ledger_path)
    shutil.copy(copy, mint.ledger_path)
    mint.node.start_plugin()
    assert_refused(mint, "old copy", "the last 2 are missing")


def test_a_missing_ledger_is_refused_until_it_is_put_back(make_mint: MakeMint, tmp_path: Path) -> None:
    mint = make_mint()
    purse = Purse(mint)
    proofs, spent = purse.fund(100), purse.fund(8)
    purse.swap(spent)
    kept = tmp_path / "kept.sqlite3"
    stop_and(mint, lambda: shutil.move(mint.ledger_path, kept))
    assert_refused(mint, "missing")
    assert not mint.ledger_path.exists()
    stop_and(mint, lambda: shutil.move(kept, mint.ledger_path))
    mint.wait_ready()
    purse.swap(proofs)
    with pytest.raises(MintError) as refused:
        purse.swap(spent)
    assert refused.value.code == Code.PROOFS_SPENT


def test_an_empty_ledger_is_refused(make_mint: MakeMint) -> None:
    mint = make_mint()

    def empty() -> None:
        remove(mint.ledger_path)
        mint.ledger_path.touch()

    stop_and(mint, empty)
    assert_refused(mint, "missing")


def test_an_old_copy_of_the_ledger_is_refused(make_mint: MakeMint, tmp_path: Path) -> None:
    mint = make_mint()
    old = tmp_path / "old.sqlite3"
    stop_and(mint, lambda: shutil.copy(mint.ledger_path, old))
    mint.wait_ready()
    purse = Purse(mint)
    purse.swap(purse.fund(64))
    mint.restart_plugin(kill=True)  # tells the node how far the ledger has come

    def replace() -> None:
        remove(mint.ledger_path)
        shutil.copy(old, mint.ledger_path)

    wait_for(lambda: _remembered(mint) == _commits(mint), "the node to remember the newest commit")
    stop_and(mint, replace)
    assert_refused(mint, "old copy")


def _remembered(mint: Mint) -> int:
    (entry,) = mint.node.rpc("listdatastore", key=["cashu", "ledger"])["datastore"]
    return int(json.loads(entry["string"])["commits"])


def _commits(mint: Mint) -> int:
    with mint.ledger() as db:
        return int(db.execute("SELECT commits FROM ledger").get)


def test_the_ledger_of_another_mint_is_refused(make_mint: MakeMint) -> None:
    mint, other = make_mint(), make_mint()
    other.node.stop_plugin()

    def swap_files() -> None:
        remove(mint.ledger_path)
        shutil.copy(other.ledger_path, mint.ledger_path)

    stop_and(mint, swap_files)
    assert_refused(mint, "another mint")


def test_a_ledger_that_does_not_fit_the_nodes_secret_is_refused(make_mint: MakeMint) -> None:
    mint, moved = make_mint(), make_mint(started=False)
    mint.node.stop_plugin()
    moved.ledger_path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(mint.ledger_path, moved.ledger_path)
    moved.node.start()  # a node that never had a mint
    assert_refused(moved, "secret")


def test_two_plugins_cannot_share_a_ledger(make_mint: MakeMint) -> None:
    mint = make_mint()
    second = make_mint(started=False, db=str(mint.ledger_path))
    second.change_inside(constants={"ledger.store.database:LOCK_WAIT_S": 0.5})
    second.node.start()
    assert_refused(second, "in use")
    purse = Purse(mint)
    purse.swap(purse.fund(8))


def test_a_ledger_of_a_newer_release_is_refused(make_mint: MakeMint) -> None:
    mint = make_mint()

    def age() -> None:
        with sqlite3.connect(mint.ledger_path) as db:
            db.execute("PRAGMA user_version = 999")
        db.close()

    stop_and(mint, age)
    assert_refused(mint, "newer release")
    with sqlite3.connect(mint.ledger_path) as db:
        db.execute("PRAGMA user_version = 1")
    db.close()


def assert_disabled(mint: Mint) -> None:
    """The plugin has disabled itself with a sentence about cashu-db; the node lives, and nobody listens."""
    reason = str(mint.node.plugin_disabled)
    assert reason.startswith("cashu-db=")
    assert "cannot open the ledger" in reason
    assert mint.node.rpc("getinfo")["id"] == mint.node.id
    assert mint.status() == 0
    assert not [line for line in mint.node.log() if "Traceback" in line.message]


def test_a_file_that_is_no_ledger_is_refused_and_left_alone(make_mint: MakeMint) -> None:
    mint = make_mint(started=False, db="notes.txt")
    mint.ledger_path.parent.mkdir(parents=True, exist_ok=True)
    mint.ledger_path.write_text("not a database, but somebody's notes\n" * 100)
    mint.node.start()
    assert_disabled(mint)
    assert mint.ledger_path.read_text().startswith("not a database")
    assert not list(mint.ledger_path.parent.glob("notes.txt?*")), "nothing was laid beside it"
    mint.ledger_path.unlink()


@pytest.mark.parametrize("db", [".", "/", "/dev/null/ledger", "/dev/null", "/proc/1/mint/ledger"])
def test_a_path_that_cannot_be_a_ledger_is_refused_with_a_sentence(make_mint: MakeMint, db: str) -> None:
    mint = make_mint(started=False, db=db)
    mint.node.start()
    assert_disabled(mint)


def test_a_record_that_is_none_is_refused(make_mint: MakeMint) -> None:
    mint = make_mint()
    wait_for(lambda: mint.node.rpc("listdatastore", key=["cashu", "ledger"])["datastore"], "the record")

    def spoil() -> None:
        mint.node.rpc("datastore", key=["cashu", "ledger"], string="spoilt", mode="must-replace")

    stop_and(mint, spoil)
    assert_refused(mint, "spoilt")
    # As operating.md says: the ledger itself knows what the record was.
    with mint.ledger() as db:
        mint_id, epoch, commits = next(iter(db.execute("SELECT mint_id, epoch, commits FROM ledger")))
    record = json.dumps({"mint_id": mint_id, "epoch": epoch, "commits": commits})
    stop_and(mint, lambda: mint.node.rpc("datastore", key=["cashu", "ledger"], string=record, mode="must-replace"))
    mint.wait_ready()


def test_a_ledger_may_lie_elsewhere(make_mint: MakeMint, tmp_path: Path) -> None:
    mint = make_mint(db=str(tmp_path / "deep" / "down" / "ledger.sqlite3"))
    assert mint.ledger_path.exists()
    purse = Purse(mint)
    proofs = purse.fund(8)
    mint.restart_plugin(kill=True)
    purse.swap(proofs)
