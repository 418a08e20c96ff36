"""cashu-ts, the library of most web wallets: one script for each flow, in the stable line and in the one to come."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.wallets import installs
from tests.wallets.conftest import GetMint, require
from tests.wallets.mints import Mint, everywhere, run_script

SCRIPTS = Path(__file__).parent / "cashu_ts"
FLOWS = sorted(path.stem for path in (SCRIPTS / "flows").glob("*.mjs"))
WITHOUT_FEES = {"amountless", "bolt12", "checkstate", "errors", "mint", "mint_batch", "mint_locked", "p2pk_multisig"}
"""Flows in which the input fee plays no part."""
ALONE = {"rotation"}
"""Flows that change the mint for others."""

LINES = pytest.mark.parametrize("line", ["v4", "v5"])


@LINES
@everywhere(FLOWS, WITHOUT_FEES)
def test_flow(line: str, place: str, flow: str, input_fee_ppk: int, shared_mint: GetMint, own_mint: GetMint) -> None:
    run(line, flow, partial(own_mint if flow in ALONE else shared_mint, place, input_fee_ppk))


@LINES
@pytest.mark.parametrize("flow", ["restore", "rotation", "send_receive"])
def test_flow_with_v1_ids(line: str, flow: str, own_mint: GetMint) -> None:
    """A keyset that still goes by an id of the older form, and its rotation to today's. (No affair of the node's.)"""
    run(line, flow, partial(own_mint, "sandbox", 100, v1_ids=True))


def run(line: str, flow: str, get_mint: Callable[[], Mint]) -> None:
    library = require(partial(installs.cashu_ts, line))
    run_script([*library.node, SCRIPTS / "run.mjs", flow], get_mint(), CASHU_TS=library.module.as_uri())
