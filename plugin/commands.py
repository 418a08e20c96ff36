"""Every `lightning-cli cashu-…` command."""

from __future__ import annotations

import asyncio
from typing import Any

from ledger import audit
from ledger.keysets import MAX_INPUT_FEE_PPK
from ledger.operations import exposure, melt_quote
from ledger.units import MSAT_PER_UNIT, to_msat
from plugin.mint import Mint
from plugin.services import Services
from plugin.version import VERSION

COMMAND_WAIT_S = 30
MAX_EXPIRY = 2**40


class CommandError(Exception):
    """A command that can't be carried out; the text says why and what to do."""


def rotate(mint: Mint, unit: str, input_fee_ppk: str | int | None, final_expiry: str | int | None) -> dict[str, Any]:
    """Make a new active keyset for a unit; ecash of the older ones stays good (NUT-02)."""
    services = _services(mint)
    if not isinstance(unit, str) or unit not in MSAT_PER_UNIT:
        raise CommandError(f"unit must be one of: {', '.join(MSAT_PER_UNIT)}")
    fee = _whole("input_fee_ppk", input_fee_ppk, services.settings.input_fee_ppk, MAX_INPUT_FEE_PPK)
    expiry = _whole("final_expiry", final_expiry, None, MAX_EXPIRY)
    if expiry is not None and expiry <= services.ledger.now():
        raise CommandError("final_expiry (unix seconds) must be in the future")
    configured = services.settings.input_fee_ppk
    keyset = services.ledger.rotate(unit, fee or 0, expiry, configured).result(COMMAND_WAIT_S)
    mint.keysets_changed()
    return keyset.info().model_dump()


def _whole(name: str, value: str | int | None, default: int | None, maximum: int) -> int | None:
    if value is None:
        return default
    text = str(value)
    if not text.isascii() or not text.isdigit() or int(text) > maximum:
        raise CommandError(f"{name} must be a whole number from 0 to {maximum}")
    return int(text)


async def audit_books(mint: Mint) -> dict[str, Any]:
    """Recompute the books from the rows, and hold them against what the node owns."""
    services = _services(mint)

    def recompute() -> audit.Audit:
        with services.ledger.read() as db:
            return audit.audit(db)

    books = await asyncio.to_thread(recompute)
    sent = [melt for melt in services.ledger.pending_payouts() if melt.built is not None]
    funds = await mint.node.funds({melt.built.txid.hex() for melt in sent if melt.built is not None})
    # What is on its way out on the chain is owed until it has arrived for good; so it counts as owned as well.
    on_the_way_msat = sum(melt.amount_msat + melt.built.fee_sat * 1000 for melt in sent if melt.built is not None)
    owned_msat = funds.channels_msat + funds.onchain_msat + on_the_way_msat
    covered = owned_msat >= books.owed_msat
    return {
        "balanced": not books.faults,
        "covered": covered,
        "sentence": _sentence(books, owned_msat),
        "faults": list(books.faults),
        "owed_msat": books.owed_msat,
        "outstanding_msat": books.outstanding_msat,
        "unissued_msat": books.unissued_msat,
        "received_msat": books.received_msat,
        "paid_out_msat": books.paid_out_msat,
        "fees_paid_msat": books.routing_fees_msat,
        "earned_msat": books.earned_msat,
        "node": {
            "channels_msat": funds.channels_msat,
            "onchain_msat": funds.onchain_msat,
            "on_the_way_msat": on_the_way_msat,
        },
        "methods": [
            {
                "method": entry.method,
                "unit": entry.unit,
                "received_msat": entry.received_msat,
                "paid_out_msat": entry.paid_out_msat,
                "fees_paid_msat": entry.routing_fees_msat,
            }
            for entry in books.methods
        ],
        "keysets": [
            {
                "id": keyset.id,
                "unit": keyset.unit,
                "issued": keyset.issued,
                "redeemed": keyset.redeemed,
                "outstanding": keyset.outstanding,
                "fees": keyset.fees,
            }
            for keyset in books.keysets
        ],
    }


def _sentence(books: audit.Audit, owned_msat: int) -> str:
    owed, owned = f"{books.owed_msat} msat", f"{owned_msat} msat"
    if books.faults:
        return f"THE BOOKS DO NOT BALANCE ({len(books.faults)} faults): stop the plugin and keep the ledger's file."
    if owned_msat < books.owed_msat:
        return f"The books balance, but the mint owes {owed} and the node owns only {owned}."
    return f"The books balance: the mint owes {owed}, and the node owns {owned}."


def _services(mint: Mint) -> Services:
    if mint.services is None:
        raise CommandError(f"the mint is not ready: {mint.failure or 'recovering'}")
    return mint.services


def info(mint: Mint) -> dict[str, Any]:
    """Whether the mint runs, where, and what it owes."""
    answer: dict[str, Any] = {"version": VERSION, "url": mint.url}
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
