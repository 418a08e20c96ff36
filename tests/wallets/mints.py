"""The mint, in a stand-in node or in a real one, as the wallets meet it."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw
import httpx
import pytest
from pyln.client import LightningRpc

from contrib.sandbox import SandboxNode
from ledger.keysets import keyset_id_v1
from tests.node.harness import ENTRY_FILE, Network
from tests.wallets.outside import Outside, at_socket

READY = r"ready at (http://\S+)"
READY_TIMEOUT_S = 60.0
SCRIPT_TIMEOUT_S = 90
UNITS = "sat,msat"
METHODS = "bolt11,bolt12,onchain"

PLACES = ("sandbox", "lightningd")
"""Where mints run: in the stand-in, and in a real node that is part of a real network."""


@dataclass(frozen=True)
class Mint:
    """A mint that runs, for sat and msat."""

    url: str
    socket: Path
    """The node's commands, and those of the sandbox for the world outside."""
    input_fee_ppk: int

    def node(self, method: str, **params: Any) -> dict[str, Any]:
        """A command of the node or of the world outside."""
        return dict(LightningRpc(str(self.socket)).call(method, params))  # type: ignore[no-untyped-call]


@contextmanager
def in_sandbox(directory: Path, input_fee_ppk: int = 0, *, v1_ids: bool = False) -> Iterator[Mint]:
    """A mint in a stand-in node. With `v1_ids` its keysets go by the older form of ids."""
    options = {
        "cashu-listen": "127.0.0.1:0",
        "cashu-units": UNITS,
        "cashu-methods": METHODS,
        "cashu-input-fee-ppk": str(input_fee_ppk),
    }
    with SandboxNode(directory, plugin=ENTRY_FILE, options=options) as node:
        url = _wait_ready(node)
        if v1_ids:
            _use_v1_ids(url, directory / node.settings.network / "cashu.sqlite3", node.stop_plugin)
            since = node.log_position
            node.start_plugin()
            url = _wait_ready(node, since)
        yield Mint(url, node.rpc_path, input_fee_ppk)


@contextmanager
def on_lightningd(directory: Path, network: Network, input_fee_ppk: int = 0, *, v1_ids: bool = False) -> Iterator[Mint]:
    """A mint in a real node, which has a channel. In the end nothing may have been logged that should not be."""
    with network.mint(cashu_units=UNITS, cashu_input_fee_ppk=input_fee_ppk) as node:
        if v1_ids:
            _use_v1_ids(node.url, node.ledger_path, node.stop_plugin)
            node.start_plugin()
            node.wait_ready()
        socket = directory / "lightning-rpc"
        with at_socket(Outside(network, node), socket):
            yield Mint(node.url, socket, input_fee_ppk)


def _wait_ready(node: SandboxNode, since: int = 0) -> str:
    """Wait until the mint serves; returns where."""
    assert node.plugin_disabled is None, node.plugin_disabled
    ready = re.search(READY, node.wait_for_log(READY, timeout_s=READY_TIMEOUT_S, since=since).message)
    assert ready is not None
    return ready[1]


def _use_v1_ids(url: str, ledger: Path, stop: Callable[[], None]) -> None:
    """Stop a mint and make its ledger one that comes from an older mint."""
    keysets = httpx.get(f"{url}/v1/keys").json()["keysets"]
    stop()
    database = apsw.Connection(str(ledger))
    for keyset in keysets:
        older = keyset_id_v1({int(amount): bytes.fromhex(key) for amount, key in keyset["keys"].items()})
        database.execute("UPDATE keysets SET id = ? WHERE id = ?", (older, keyset["id"]))
    database.close()


def everywhere(flows: Iterable[str], without_fees: Container[str]) -> pytest.MarkDecorator:
    """Place, flow and input fee in ppk. Fees are the ledger's affair: each flow is run with one in the sandbox only."""
    cases = [
        (place, flow, fee)
        for place in PLACES
        for flow in flows
        for fee in (0, 100)
        if fee == 0 or (place == "sandbox" and flow not in without_fees)
    ]
    ids = [f"{place}-{flow}-{fee}ppk" for place, flow, fee in cases]
    return pytest.mark.parametrize(("place", "flow", "input_fee_ppk"), cases, ids=ids)


def run_script(command: Sequence[str | Path], mint: Mint, **environment: str) -> None:
    """Run a wallet's script against a mint. The test fails with what the script says if it ends badly."""
    try:
        done = subprocess.run(
            [str(word) for word in command],
            env={
                **os.environ,
                "MINT_URL": mint.url,
                "NODE_SOCKET": str(mint.socket),
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
