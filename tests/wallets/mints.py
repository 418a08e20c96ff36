"""The mint, in a stand-in node, as the wallets meet it."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import apsw
import httpx
import pytest

from contrib.sandbox import SandboxNode
from ledger.keysets import keyset_id_v1

ENTRY_FILE = Path(__file__).resolve().parents[2] / "nutbolt.py"
READY = r"ready at (http://\S+)"
READY_TIMEOUT_S = 60.0
SCRIPT_TIMEOUT_S = 90
AUTO_DELAY_S = 0.1
"""Longer than it takes to answer with the invoice."""


@dataclass(frozen=True)
class Mint:
    """A mint that runs."""

    url: str
    node: SandboxNode
    input_fee_ppk: int


@contextmanager
def running(directory: Path, input_fee_ppk: int = 0, *, auto: bool = False, v1_ids: bool = False) -> Iterator[Mint]:
    """A mint for sat and msat.

    With `auto` its invoices are paid by themselves, a moment after they were made; with `v1_ids` its keysets go by
    the older form of ids.
    """
    options = {
        "cashu-listen": "127.0.0.1:0",
        "cashu-units": "sat,msat",
        "cashu-input-fee-ppk": str(input_fee_ppk),
    }
    with SandboxNode(directory, plugin=ENTRY_FILE, options=options, auto=auto, auto_delay_s=AUTO_DELAY_S) as node:
        url = _wait_ready(node)
        if v1_ids:
            url = _use_v1_ids(node, directory / node.settings.network / "cashu.sqlite3", url)
        yield Mint(url, node, input_fee_ppk)


def _wait_ready(node: SandboxNode, since: int = 0) -> str:
    """Wait until the mint serves; returns where."""
    assert node.plugin_disabled is None, node.plugin_disabled
    ready = re.search(READY, node.wait_for_log(READY, timeout_s=READY_TIMEOUT_S, since=since).message)
    assert ready is not None
    return ready[1]


def _use_v1_ids(node: SandboxNode, ledger: Path, url: str) -> str:
    """Make the ledger one that comes from an older mint; returns where the mint serves afterwards."""
    keysets = httpx.get(f"{url}/v1/keys").json()["keysets"]
    node.stop_plugin()
    database = apsw.Connection(str(ledger))
    for keyset in keysets:
        older = keyset_id_v1({int(amount): bytes.fromhex(key) for amount, key in keyset["keys"].items()})
        database.execute("UPDATE keysets SET id = ? WHERE id = ?", (older, keyset["id"]))
    database.close()
    since = node.log_position
    node.start_plugin()
    return _wait_ready(node, since)


def run_script(command: Sequence[str | Path], mint: Mint, **environment: str) -> None:
    """Run a wallet's script against a mint. The test fails with what the script says if it ends badly."""
    try:
        done = subprocess.run(
            [str(word) for word in command],
            env={
                **os.environ,
                "MINT_URL": mint.url,
                "NODE_SOCKET": str(mint.node.rpc_path),
                "INPUT_FEE_PPK": str(mint.input_fee_ppk),
                **environment,
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=SCRIPT_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as expired:
        pytest.fail(f"not done within {SCRIPT_TIMEOUT_S} s: {expired.stdout!r} {expired.stderr!r}", pytrace=False)
    if done.returncode != 0:
        pytest.fail(f"ended with {done.returncode}\n{done.stdout}{done.stderr}", pytrace=False)
