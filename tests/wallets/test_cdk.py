"""CDK's wallet, compiled from Rust, driven through its Python bindings.

The only release with bindings for Python is 0.14: older than today's form of the v2 keyset ids, and unable to read a
mint's info that names a batch among the endpoints of NUT-19. So it meets a mint with v1 ids, without that line.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.wallets import installs
from tests.wallets.conftest import GetMint, require
from tests.wallets.info_proxy import without_batches
from tests.wallets.mints import everywhere, run_script

SCRIPT = Path(__file__).parent / "cdk" / "flows.py"
FEES_MATTER = ["htlc", "load", "melt", "mint_send_receive", "p2pk", "restore"]
WITHOUT_FEES = ["amountless", "melt_failed", "melt_held", "units"]
"""Flows in which the input fee plays no part."""


@everywhere([*FEES_MATTER, *WITHOUT_FEES], WITHOUT_FEES)
def test_flow(place: str, flow: str, input_fee_ppk: int, shared_mint: GetMint) -> None:
    program = require(installs.cdk)
    mint = shared_mint(place, input_fee_ppk, v1_ids=True)
    with without_batches(mint.url) as url:
        run_script([program.python, SCRIPT, flow], replace(mint, url=url))
