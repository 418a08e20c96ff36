"""Every `lightning-cli cashu-…` command."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

from ledger import audit
from ledger.ids import HANDLE_DIGITS
from ledger.keysets import MAX_INPUT_FEE_PPK
from ledger.operations import exposure, melt_quote
from ledger.units import MSAT_PER_UNIT, to_msat
from plugin.methods.resolver import Force
from plugin.mint import Mint
from plugin.services import Services
from plugin.version import VERSION

COMMAND_WAIT_S = 30
MAX_EXPIRY = 2**40
MAX_REASON = 500
MAX_WHO = 200
HANDLE = rf"[0-9a-f]{{{HANDLE_DIGITS}}}-[0-9]{{1,9}}"


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

    await services.resolver.look_at_given_up()
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
        "lost_msat": books.lost_msat,
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
        "forced": [
            {
                "handle": resolution.handle,
                "method": resolution.method,
                "unit": resolution.unit,
                "amount": resolution.amount,
                "outcome": resolution.outcome.lower(),
                "resolved_at": resolution.resolved_at,
                "who": resolution.who,
                "reason": resolution.reason,
                "evidence": json.loads(resolution.evidence),
                "lost_msat": resolution.lost_msat,
            }
            for resolution in books.forced
        ],
    }


def _sentence(books: audit.Audit, owned_msat: int) -> str:
    owed, owned = f"{books.owed_msat} msat", f"{owned_msat} msat"
    if books.faults:
        return f"THE BOOKS DO NOT BALANCE ({len(books.faults)} faults): stop the plugin and keep the ledger's file."
    if owned_msat < books.owed_msat:
        sentence = f"The books balance, but the mint owes {owed} and the node owns only {owned}."
    else:
        sentence = f"The books balance: the mint owes {owed}, and the node owns {owned}."
    if books.forced:
        sentence += f" Melts ended by force: {len(books.forced)}."
    if books.lost_msat:
        sentence += f" {books.lost_msat} msat WERE LOST: payments that were forced to failed had been made."
    return sentence


async def pending(mint: Mint, handle: Any) -> dict[str, Any]:
    """The melts in flight, and what is known of each."""
    services = _services(mint)
    melts, more = await services.resolver.pending(None if handle is None else _handle(handle))
    return {"melts": melts, "more": more}


async def resolve(
    mint: Mint, handle: Any, outcome: Any, force: Any, reason: Any, preimage: Any, request_id: str
) -> dict[str, Any]:
    """Decide about one melt again by the evidence; with force, end it as the operator says."""
    resolver = _services(mint).resolver
    handle = _handle(handle)
    if not _flag("force", force):
        if any(value is not None for value in (outcome, reason, preimage)):
            raise CommandError(
                "without force=true the node's evidence decides, and only handle may be given; outcome, reason and "
                "preimage are for force=true"
            )
        return await resolver.resolve(handle)
    if outcome not in ("paid", "failed"):
        raise CommandError("with force=true, outcome must be paid or failed")
    if not isinstance(reason, str) or not reason.strip() or not reason.isprintable() or len(reason) > MAX_REASON:
        raise CommandError(f"with force=true, reason must say why, in at most {MAX_REASON} printable characters")
    known = None if preimage is None else _preimage(preimage)
    if known is not None and outcome != "paid":
        raise CommandError("a preimage is for outcome=paid")
    who = f"operator, {request_id}"[:MAX_WHO]
    return await resolver.force(handle, Force(outcome == "paid", reason.strip(), who, known))


def _handle(value: Any) -> str:
    if not isinstance(value, str) or re.fullmatch(HANDLE, value) is None:
        raise CommandError("handle must be one that cashu-pending shows, for example 0123456789ab-1")
    return value


def _flag(name: str, value: Any) -> bool:
    if value in (None, False, "false"):
        return False
    if value in (True, "true"):
        return True
    raise CommandError(f"{name} must be true or false")


def _preimage(value: Any) -> bytes:
    if not isinstance(value, str) or re.fullmatch("[0-9a-fA-F]{64}", value) is None:
        raise CommandError("preimage must be 64 hex digits")
    return bytes.fromhex(value)


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
