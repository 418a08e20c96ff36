"""Continuous replication by Litestream, with the configuration in `contrib`: what comes back from a replica that has
kept up, and from one that lags. Skipped where `litestream` is not on PATH."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from contrib.wallet import MintError
from ledger.errors import Code
from ledger.store import backup
from tests.plugin.conftest import MakeMint
from tests.plugin.harness import PATIENCE_S, Mint, Purse, wait_for
from tests.plugin.test_plugin_backup import check
from tests.plugin.test_plugin_tripwire import assert_refused, remove

CONFIG = Path(__file__).resolve().parents[2] / "contrib" / "litestream.yml"

pytestmark = pytest.mark.skipif(shutil.which("litestream") is None, reason="litestream is not on PATH")


class Replica:
    """A replica of a mint's ledger on another disk."""

    def __init__(self, mint: Mint, directory: Path) -> None:
        self._mint = mint
        self._directory = directory
        self._environment = {
            **os.environ,
            "CASHU_DB": str(mint.ledger_path),
            "CASHU_REPLICA": str(directory / "replica"),
        }
        self._restored = 0

    @contextmanager
    def follow(self) -> Iterator[subprocess.Popen[bytes]]:
        """Replicate, until it is killed."""
        with (self._directory / "log").open("ab") as log:
            process = subprocess.Popen(
                ["litestream", "replicate", "-config", str(CONFIG)], env=self._environment, stdout=log, stderr=log
            )
        try:
            yield process
            assert process.poll() in (None, -signal.SIGKILL), (self._directory / "log").read_text()
        finally:
            process.kill()
            process.wait(PATIENCE_S)

    def restore(self, path: Path) -> bool:
        """Restore the newest state; False if there is none yet."""
        arguments = ["-config", str(CONFIG), "-o", str(path), str(self._mint.ledger_path)]
        run = subprocess.run(
            ["litestream", "restore", *arguments],
            env=self._environment,
            capture_output=True,
            timeout=PATIENCE_S,
            check=False,
        )
        return run.returncode == 0

    def commits(self) -> int:
        """Of the newest state that could be restored; -1 for none."""
        self._restored += 1
        path = self._directory / f"restored-{self._restored}"
        return backup.check(path).record.commits if self.restore(path) else -1

    def wait_up_to_date(self) -> None:
        """Wait until it has the ledger's last commit."""
        wait_for(lambda: self.commits() == commits(self._mint), "the replica to be up to date")


def commits(mint: Mint) -> int:
    with mint.ledger() as db:
        return int(db.execute("SELECT commits FROM ledger").get)


def remembered(mint: Mint) -> int:
    found = check(mint, mint.ledger_path)["remembered_commits"]
    return -1 if found is None else int(found)


def use(mint: Mint, purse: Purse) -> None:
    """Commits, one after another, and a checkpoint by the mint."""
    proofs = purse.fund(8)
    for _ in range(30):
        proofs = purse.swap(proofs)


def test_a_replica_that_has_kept_up_goes_on_in_the_ledgers_place(make_mint: MakeMint, tmp_path: Path) -> None:
    mint = make_mint()
    replica = Replica(mint, tmp_path)
    purse = Purse(mint)
    with replica.follow() as process:
        use(mint, purse)
        mint.restart_plugin(kill=True)  # Litestream doesn't mind
        use(mint, purse)
        spent = purse.fund(8)
        proofs, held = purse.swap(spent), purse.hold(32)
        replica.wait_up_to_date()
        mint.node.kill_plugin()
        process.kill()
    remove(mint.ledger_path)
    assert replica.restore(mint.ledger_path)
    mint.start_plugin()
    with pytest.raises(MintError) as refused:
        purse.swap(spent)
    assert refused.value.code == Code.PROOFS_SPENT
    purse.swap(proofs)
    mint.node.release(str(held.invoice))
    purse.assert_paid(held)
    assert mint.node.rpc("cashu-audit")["balanced"]


def test_a_replica_that_lags_is_refused(make_mint: MakeMint, tmp_path: Path) -> None:
    mint = make_mint()
    replica = Replica(mint, tmp_path)
    purse = Purse(mint)
    with replica.follow() as process:
        spent = purse.fund(8)
        replica.wait_up_to_date()
        process.kill()
        process.wait(PATIENCE_S)
        purse.swap(spent)
        wait_for(lambda: remembered(mint) == commits(mint), "the node to remember the last commit")
        newest = commits(mint)
        mint.node.kill_plugin()
    remove(mint.ledger_path)
    assert replica.restore(mint.ledger_path)
    behind = newest - commits(mint)
    assert behind > 0
    mint.node.start_plugin()
    assert_refused(mint, "old copy", f"the last {behind} are missing")
