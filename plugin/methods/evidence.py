"""What is known of melts in flight, for the operator: facts of the node, and one sentence about each.

It reads what the deciders read, asks them what they would decide, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ledger.operations.melt_quote import PendingMelt, PendingPayment, PendingPayout
from ledger.operations.payout import MIN_CONFLICT_DEPTH
from plugin.methods.payouts import Payouts, Sight
from plugin.methods.verdict import Failed, InFlight, Paid, Unknown, Verdict, Verdicts
from plugin.node.rpc import RpcError
from plugin.node.view import Htlc, Node

MAX_HTLCS = 50
"""Most HTLCs of one payment that are shown; the first to expire come first."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What is known of one melt. `not_failed`, `not_paid`: why it can't be forced to that now; None if it can be."""

    sentence: str
    facts: dict[str, Any]
    not_failed: str | None
    not_paid: str | None


class Evidence:
    """Collects what is known. `payouts` is None while there are no on-chain melts.

    All methods raise NodeUnavailableError, OutcomeUnknownError and RpcError."""

    def __init__(self, node: Node, verdicts: Verdicts, payouts: Payouts | None) -> None:
        self._node = node
        self._verdicts = verdicts
        self._payouts = payouts

    async def of(self, melts: Sequence[PendingMelt]) -> list[Finding]:
        """One finding for each of these melts."""
        hashes = {melt.payment_hash for melt in melts if isinstance(melt, PendingPayment)}
        htlcs = await self._node.live_htlcs(hashes) if hashes else []
        height = await self._node.height()
        sights: dict[str, Sight] | str = {}
        if self._payouts is not None and any(isinstance(melt, PendingPayout) for melt in melts):
            sights = await self._sights(self._payouts)
        found = []
        for melt in melts:
            if isinstance(melt, PendingPayment):
                own = [htlc for htlc in htlcs if htlc.payment_hash == melt.payment_hash]
                found.append(await self._of_payment(melt, own, height))
            else:
                assert isinstance(melt, PendingPayout)
                assert self._payouts is not None
                # One that was begun after the chain was looked at isn't made yet, as far as we have looked.
                sight = sights if isinstance(sights, str) else sights.get(melt.quote, "it was sent just now")
                found.append(self._of_payout(melt, sight, self._payouts))
        return found

    async def _sights(self, payouts: Payouts) -> dict[str, Sight] | str:
        """What is seen of transactions, by quote id; or why nothing can be seen now."""
        try:
            height = await payouts.synced_height()
            return "the node is catching up with the chain" if height is None else await payouts.sights(height)
        except RpcError as error:
            return f"the node can't look at the chain now: {error.message}"

    async def _of_payment(self, melt: PendingPayment, htlcs: list[Htlc], height: int) -> Finding:
        # The rows are read after the HTLCs: a part that was claimed in between has no HTLC any more, and a row.
        verdict = await self._verdicts.look(melt)
        everybodys = await self._node.send_rows(melt.payment_hash)
        rows = [row.status for row in everybodys if row.label == melt.label]
        facts = {
            "payment_hash": melt.payment_hash.hex(),
            "parts": {status: rows.count(status) for status in ("pending", "complete", "failed")},
            "parts_of_others": len(everybodys) - len(rows),
            "height": height,
            "htlcs": [
                {
                    "amount_msat": htlc.amount_msat,
                    "channel": htlc.channel,
                    "peer": htlc.peer,
                    "expiry": htlc.expiry,
                    "blocks_left": max(0, htlc.expiry - height),
                }
                for htlc in sorted(htlcs, key=lambda htlc: htlc.expiry)[:MAX_HTLCS]
            ],
        }
        sentence, why_not = _payment_sentence(verdict, htlcs, height), _why_no_force(verdict, htlcs)
        if isinstance(verdict, Unknown) and await self._node.has_paid_invoice(melt.payment_hash):
            facts["own_invoice_paid"] = True
            sentence += "; its invoice is this node's own, and was paid: by this melt, or by somebody else"
        return Finding(sentence, facts, why_not, why_not)

    def _of_payout(self, melt: PendingPayout, sight: Sight | str, payouts: Payouts) -> Finding:
        problem = payouts.problem(melt)
        facts: dict[str, Any] = {"feerate_perkw": melt.feerate_perkw, "problem": problem}
        if melt.built is None:
            sentence = f"its transaction is not made yet: {problem or 'the node is about to make it'}"
            return Finding(sentence, {"txid": None, **facts}, None, "no transaction was made, so nothing was paid")
        txid = melt.built.txid.hex()
        seen = None if isinstance(sight, str) else sight
        mined = 0 if seen is None else seen.mined
        depth = seen.height - mined + 1 if seen is not None and mined else 0
        conflict = None if seen is None else seen.conflict
        facts |= {
            "txid": txid,
            "fee_sat": melt.built.fee_sat,
            "built_at_height": melt.built.height,
            "broadcast": melt.broadcast_at is not None,
            "block": mined or None,
            "confirmations": depth,
            "confirmations_needed": payouts.confirmations,
            "conflict": None
            if conflict is None
            else {"spent_by": conflict.spent_by.hex(), "block": conflict.height, "depth": conflict.depth},
        }
        not_failed = (
            f"transaction {txid} is signed, so it may be confirmed at any time. Only when another one has spent one of "
            f"its coins, {max(payouts.confirmations, MIN_CONFLICT_DEPTH)} blocks deep, is the ecash given back, and "
            "then by itself"
        )
        if isinstance(sight, str):
            return Finding(f"transaction {txid} is made; {sight}", facts, not_failed, f"{sight}: ask again later")
        if conflict is not None:
            other = f"{conflict.spent_by.hex()} in block {conflict.height}"
            text = f"{other} has spent a coin of transaction {txid}, {conflict.depth} blocks deep"
            return Finding(text, facts, not_failed, f"it can't be paid by its transaction any more: {text}")
        if mined:
            deep = f"transaction {txid} is in block {mined}, {depth} of {payouts.confirmations} blocks deep"
            return Finding(deep, facts, not_failed, f"{deep}: it is settled by itself when it is deep enough")
        waited = max(0, sight.height - melt.built.height)
        if melt.broadcast_at is None:
            return Finding(f"transaction {txid} is made and not accepted yet: {problem}", facts, not_failed, None)
        return Finding(f"transaction {txid} is sent, and in no block for {waited} blocks", facts, not_failed, None)


def _payment_sentence(verdict: Verdict, htlcs: list[Htlc], height: int) -> str:
    match verdict:
        case Paid():
            return "the node says that it was paid; that is about to be written"
        case Failed(reason):
            return f"it has failed, and its ecash is about to be given back: {reason}"
        case Unknown(why):
            return f"nothing tells what became of it: {why}"
        case InFlight(why) if not htlcs:
            return f"{why}; no HTLC of it is on any channel"
    first = min(htlcs, key=lambda htlc: htlc.expiry)
    left = max(0, max(htlc.expiry for htlc in htlcs) - height)
    what = "an HTLC is" if len(htlcs) == 1 else f"{len(htlcs)} HTLCs are"
    peers = sorted({htlc.peer or "a peer that is gone" for htlc in htlcs})
    until = max(htlc.expiry for htlc in htlcs)
    sentence = f"{what} in flight at {', '.join(peers)}, until block {until} at the latest (in {left} blocks)"
    if first.expiry <= height:
        sentence += "; one has expired, and is being taken back on the chain"
    return sentence


def _why_no_force(verdict: Verdict, htlcs: list[Htlc]) -> str | None:
    """A payment can be forced only if nothing that this node knows can change its outcome any more."""
    match verdict:
        case Paid() | Failed():
            return "the node's evidence decides it: resolve it without force"
    if htlcs:
        return "an HTLC of it is in flight, which the destination may claim or not: wait until it is over"
    match verdict:
        case InFlight(why, is_sending=True):
            return f"{why}, and may send another part: wait until it has ended, or restart the node"
    return None
