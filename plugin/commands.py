"""Every `lightning-cli cashu-…` command."""

from __future__ import annotations

from typing import Any

from ledger import audit
from ledger.operations import melt
from plugin.mint import Mint
from plugin.version import VERSION


def info(mint: Mint) -> dict[str, Any]:
    """Whether the mint runs, where, and what it owes."""
    answer: dict[str, Any] = {"version": VERSION, "url": mint.url}
    services = mint.services
    if services is None:
        return {"state": "failed" if mint.failure else "starting", **answer, "reason": mint.failure or "recovering"}
    with services.ledger.read() as db:
        outstanding = audit.outstanding(db)
        pending = melt.count_pending(db)
        books = audit.keyset_books(db)
    return {
        "state": "ready",
        **answer,
        "name": services.settings.name,
        "units": list(services.settings.units),
        "outstanding": {unit: outstanding.get(unit, 0) for unit in services.settings.units} | outstanding,
        "pending_melts": pending,
        "stuck_melts": services.verdicts.stuck(),
        "keysets": [
            {
                "id": keyset.id,
                "unit": keyset.unit,
                "active": keyset.active,
                "input_fee_ppk": services.ledger.keysets.get(keyset.id).input_fee_ppk,
                "issued": keyset.issued,
                "redeemed": keyset.redeemed,
                "outstanding": keyset.outstanding,
            }
            for keyset in books
        ],
    }
