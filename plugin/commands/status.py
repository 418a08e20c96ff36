"""`cashu-info`: whether the mint runs, where, and what it owes."""

from __future__ import annotations

from ledger import audit
from ledger.operations import exposure, melt_quote
from ledger.units import to_msat
from plugin.commands.parameters import Answer, Call
from plugin.mint import Mint
from plugin.version import VERSION


async def info(mint: Mint, _call: Call) -> Answer:
    """Show the mint's state, URL, units, keysets, outstanding ecash, pending melts, and what is paused."""
    return describe(mint)


def describe(mint: Mint) -> Answer:
    """Whether the mint runs, where, and what it owes."""
    answer: Answer = {"version": VERSION, "url": mint.url}
    services = mint.services
    if services is None:
        return {"state": "failed" if mint.failure else "starting", **answer, "reason": mint.failure or "recovering"}
    with services.ledger.read() as db:
        outstanding = audit.outstanding(db)
        pending = melt_quote.count_pending(db)
        pending_msat = melt_quote.sum_pending_msat(db)
        owed_msat = exposure.owed_msat(db)
        books = audit.keyset_books(db)
    return {
        "state": "ready",
        **answer,
        "name": services.settings.name,
        "motd": services.ledger.policy.motd,
        "minting_paused_at": services.ledger.policy.minting_paused_at,
        "melting_paused_at": services.ledger.policy.melting_paused_at,
        "units": list(services.settings.units),
        "outstanding": {unit: outstanding.get(unit, 0) for unit in services.settings.units} | outstanding,
        "owed_msat": owed_msat,
        "max_outstanding_msat": to_msat(services.settings.max_outstanding, "sat") or None,
        "pending_melts": pending,
        "pending_msat": pending_msat,
        "stuck_melts": services.verdicts.stuck(),
        "onchain_melts": services.payouts.report() if services.payouts is not None else [],
        "keysets": [
            {
                "id": keyset.id,
                "unit": keyset.unit,
                "active": keyset.active,
                "input_fee_ppk": services.ledger.keysets.get(keyset.id).input_fee_ppk,
                "final_expiry": services.ledger.keysets.get(keyset.id).final_expiry,
                "issued": keyset.issued,
                "redeemed": keyset.redeemed,
                "outstanding": keyset.outstanding,
            }
            for keyset in books
        ],
    }
