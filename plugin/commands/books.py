"""`cashu-balance` and `cashu-audit`: what the mint owes, and what its node owns."""

from __future__ import annotations

import asyncio
import json

from ledger import audit
from plugin.commands.parameters import Answer, Call, services
from plugin.mint import Mint


async def balance(mint: Mint, _call: Call) -> Answer:
    """Show what the mint owes by unit and keyset and the fees it earned, against the node's channels and coins.

    By the books as they are kept; cashu-audit recomputes them."""
    return (await services(mint).solvency.balance()).describe()


async def audit_books(mint: Mint, _call: Call) -> Answer:
    """Recompute the mint's books from every row of its ledger, and compare what it owes with what the node owns."""
    running = services(mint)

    def recompute() -> audit.Audit:
        with running.ledger.read() as db:
            return audit.audit(db)

    await running.resolver.look_at_given_up()
    books = await asyncio.to_thread(recompute)
    owned = await running.solvency.owned()
    owned_msat = owned.total_msat
    covered = owned_msat >= books.owed_msat
    running.metrics.audited(books, covered)
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
            "channels_msat": owned.funds.channels_msat,
            "onchain_msat": owned.funds.onchain_msat,
            "on_the_way_msat": owned.on_the_way_msat,
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
