"""cashu-ts, the library of most web wallets: one script for each flow, in the stable line and in the one to come."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from tests.wallets import installs
from tests.wallets.conftest import GetMint, require
from tests.wallets.mints import run_script

SCRIPTS = Path(__file__).parent / "cashu_ts"
FLOWS = sorted(path.stem for path in (SCRIPTS / "flows").glob("*.mjs"))
WITHOUT_FEES = {"amountless", "checkstate", "errors", "mint", "mint_batch", "mint_locked", "p2pk_multisig"}
"""Flows in which the input fee plays no part."""
ALONE = {"rotation"}
"""Flows that change the mint for others."""

CASES = [(flow, fee) for flow in FLOWS for fee in (0, 100) if not (fee and flow in WITHOUT_FEES)]
LINES = pytest.mark.parametrize("line", ["v4", "v5"])


@LINES
@pytest.mark.parametrize(("flow", "input_fee_ppk"), CASES, ids=[f"{flow}-{fee}ppk" for flow, fee in CASES])
def test_flow(line: str, flow: str, input_fee_ppk: int, shared_mint: GetMint, own_mint: GetMint) -> None:
    run(line, flow, (own_mint if flow in ALONE else shared_mint), input_fee_ppk)


@LINES
@pytest.mark.parametrize("flow", ["restore", "rotation", "send_receive"])
def test_flow_with_v1_ids(line: str, flow: str, own_mint: GetMint) -> None:
    """A keyset that still goes by an id of the older form, and its rotation to today's."""
    run(line, flow, partial(own_mint, v1_ids=True), 100)


def run(line: str, flow: str, get_mint: GetMint, input_fee_ppk: int) -> None:
    library = require(partial(installs.cashu_ts, line))
    run_script([*library.node, SCRIPTS / "run.mjs", flow], get_mint(input_fee_ppk), CASHU_TS=library.module.as_uri())
