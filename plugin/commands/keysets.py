"""`cashu-rotate`: a new keyset (NUT-02)."""

from __future__ import annotations

import asyncio

from ledger.keysets import MAX_INPUT_FEE_PPK
from ledger.units import MSAT_PER_UNIT
from plugin.commands.parameters import Answer, Call, CommandError, services, whole
from plugin.mint import Mint

MAX_EXPIRY = 2**40


async def rotate(mint: Mint, call: Call) -> Answer:
    """Make a new active keyset for {unit}, with {input_fee_ppk} and {final_expiry} (unix seconds) if given.

    Ecash of the older keysets stays good; without {input_fee_ppk} the option cashu-input-fee-ppk counts."""
    ledger, configured = services(mint).ledger, services(mint).settings.input_fee_ppk
    unit = call["unit"]
    if not isinstance(unit, str) or unit not in MSAT_PER_UNIT:
        raise CommandError(f"unit must be one of: {', '.join(MSAT_PER_UNIT)}")
    fee = whole("input_fee_ppk", call["input_fee_ppk"], configured, MAX_INPUT_FEE_PPK)
    expiry = whole("final_expiry", call["final_expiry"], None, MAX_EXPIRY)
    if expiry is not None and expiry <= ledger.now():
        raise CommandError("final_expiry (unix seconds) must be in the future")
    keyset = await asyncio.wrap_future(ledger.rotate(unit, fee or 0, expiry, configured))
    mint.keysets_changed()
    return keyset.info().model_dump()
