"""CDK's wallet with offers; see `test_cdk.py` for what it needs from the mint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.wallets import installs
from tests.wallets.conftest import GetMint, require
from tests.wallets.info_proxy import without_batches
from tests.wallets.mints import PLACES, run_script

SCRIPT = Path(__file__).parent / "cdk" / "bolt12.py"


@pytest.mark.parametrize("place", PLACES)
def test_offers(place: str, shared_mint: GetMint) -> None:
    program = require(installs.cdk)
    mint = shared_mint(place, v1_ids=True)
    with without_batches(mint.url) as url:
        run_script([program.python, SCRIPT], replace(mint, url=url))
