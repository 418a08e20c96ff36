"""The operator's last resort: one melt in flight, decided again from the evidence, or ended by force.

By force only where no evidence is left that could still speak: the deciders' own locks are held meanwhile, and what is
in flight, or may still be sent, is refused. A payment that was given up so and turns out to have been made is written
down and logged as what it is, a loss.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from ledger.errors import StorageError
from ledger.ledger import Ledger
from ledger.operations.melt import Payment
from ledger.operations.melt_quote import PendingMelt, PendingPayment, PendingPayout
from ledger.operations.resolution import GivenUp, Order
from ledger.units import to_msat
from plugin.methods.evidence import Evidence, Finding
from plugin.methods.payouts import MSAT_PER_SAT, Payouts
from plugin.methods.verdict import Verdicts
from plugin.node.events import PartSucceeded
from plugin.node.rpc import NodeUnavailableError, OutcomeUnknownError, RpcError
from plugin.node.view import Node
from plugin.tasks import Supervisor

MAX_SHOWN = 100
"""Most melts about which the node is asked at once; the oldest come first."""

log = logging.getLogger(__name__)


class ResolveError(Exception):
    """A melt can't be resolved as the operator wants; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Force:
    """What the operator orders: `paid`, or failed. `preimage`: of a Lightning payment, for its wallet, if known."""

    paid: bool
    reason: str
    who: str
    preimage: bytes | None = None


class Resolver:
    """Shows and resolves melts in flight. All public methods raise what the node and the ledger do, on top."""

    def __init__(
        self, ledger: Ledger, node: Node, verdicts: Verdicts, payouts: Payouts | None, supervisor: Supervisor
    ) -> None:
        self._ledger = ledger
        self._node = node
        self._verdicts = verdicts
        self._payouts = payouts
        self._supervisor = supervisor
        self._evidence = Evidence(node, verdicts, payouts)

    # --- looking --------------------------------------------------------------------------------------------------

    async def pending(self, handle: str | None = None) -> tuple[list[dict[str, Any]], int]:
        """The melts in flight with what is known of each, and how many more there are. With a handle, that one only:
        raises ResolveError if there is none."""
        melts = self._ledger.pending_melts() if handle is None else [self._find(handle)]
        melts.sort(key=lambda melt: melt.begun_at)
        shown = melts[:MAX_SHOWN]
        findings = await self._evidence.of(shown)
        described = [self._describe(melt, finding) for melt, finding in zip(shown, findings, strict=True)]
        return described, len(melts) - len(shown)

    def _find(self, handle: str) -> PendingMelt:
        melt = next((melt for melt in self._ledger.pending_melts() if melt.handle == handle), None)
        if melt is None:
            raise ResolveError("no melt in flight has this handle: it may be decided by now; see cashu-pending")
        return melt

    def _describe(self, melt: PendingMelt, finding: Finding) -> dict[str, Any]:
        return {
            "handle": melt.handle,
            "method": melt.method,
            "amount": melt.amount,
            "fee_reserve": melt.fee_reserve,
            "unit": melt.unit,
            "age_s": max(0, self._ledger.now() - melt.begun_at),
            "attempt": melt.attempt,
            "sentence": finding.sentence,
            "evidence": finding.facts,
        }

    # --- resolving ------------------------------------------------------------------------------------------------

    async def resolve(self, handle: str) -> dict[str, Any]:
        """Have the decider decide about a melt again, from what the node knows now."""
        melt = self._find(handle)
        if isinstance(melt, PendingPayment):
            await self._verdicts.resolve(melt.payment_hash)
        else:
            await self._follow(melt)
        outcome = self._outcome(melt)
        if outcome != "pending":
            return {"handle": handle, "outcome": outcome, "forced": False, "sentence": _over(outcome)}
        (finding,) = await self._evidence.of([melt])
        sentence = f"It stays pending: {finding.sentence}."
        return {"handle": handle, "outcome": outcome, "forced": False, "sentence": sentence, "evidence": finding.facts}

    async def _follow(self, melt: PendingMelt) -> None:
        assert isinstance(melt, PendingPayout)
        assert self._payouts is not None
        if melt.built is None:
            await self._payouts.pay(melt.quote)
        elif (height := await self._payouts.synced_height()) is not None:
            await self._payouts.look(height)

    def _outcome(self, melt: PendingMelt) -> str:
        """Of this attempt. One whose quote was tried again, or is unpaid, has failed."""
        if any(other.handle == melt.handle for other in self._ledger.pending_melts()):
            return "pending"
        return "paid" if self._ledger.melt_quote(melt.method, melt.quote).state == "PAID" else "failed"

    async def force(self, handle: str, force: Force) -> dict[str, Any]:
        """End a melt as the operator says, where the evidence leaves it open. Raises ResolveError where it does not."""
        melt = self._find(handle)
        payment = _payment(melt, force) if force.paid else None
        async with self._deciding(melt):
            (finding,) = await self._evidence.of([melt])
            if (why := finding.not_paid if force.paid else finding.not_failed) is not None:
                raise ResolveError(f"this can't be forced: {why}")
            facts = {**finding.facts, "sentence": finding.sentence}
            order = Order(force.who, force.reason, json.dumps(facts))
            quote = await asyncio.wrap_future(self._ledger.force_melt(melt, order, payment))
        if quote is None:
            raise ResolveError("it was decided meanwhile: see cashu-pending")
        outcome = "paid" if force.paid else "failed"
        log.warning("melt %s was forced to %s by %s; the evidence: %s", handle, outcome, force.who, finding.sentence)
        return {
            "handle": handle,
            "outcome": outcome,
            "forced": True,
            "sentence": f"{_over(outcome)} This was forced; what was known: {finding.sentence}.",
            "evidence": finding.facts,
        }

    @asynccontextmanager
    async def _deciding(self, melt: PendingMelt) -> AsyncIterator[None]:
        """Nobody else decides about this melt meanwhile, nor sends anything for it."""
        if isinstance(melt, PendingPayment):
            async with self._verdicts.deciding(melt):
                yield
            return
        assert isinstance(melt, PendingPayout)
        assert self._payouts is not None
        async with self._payouts.deciding(melt) as now:
            if now != melt:
                raise ResolveError("something has happened to it meanwhile: see cashu-pending")
            yield

    # --- what was given up ----------------------------------------------------------------------------------------

    def part_succeeded(self, event: PartSucceeded) -> None:
        """Hint: it may be of a payment that was given up."""
        for payment in self._ledger.given_up():
            is_it = payment.payment_hash == event.payment_hash and payment.label == event.label
            if is_it and hashlib.sha256(event.preimage).digest() == event.payment_hash:
                self._supervisor.background("given up", self._look_at(payment, event.sent_msat))

    def events_lost(self) -> None:
        """Hint: anything may have happened."""
        self._supervisor.background("given up", self._look_again())

    async def _look_again(self) -> None:
        try:
            await self.look_at_given_up()
        except (RpcError, NodeUnavailableError, OutcomeUnknownError) as error:
            log.info("can't look at payments that were given up; the next start or audit does: %s", error)

    async def look_at_given_up(self) -> None:
        """Ask the node about all payments that were given up."""
        for payment in self._ledger.given_up():
            await self._look_at(payment, 0)

    async def _look_at(self, payment: GivenUp, sent_msat: int) -> None:
        """`sent_msat`: what is known to have left the node, if the rows say nothing."""
        try:
            rows = await self._node.send_rows(payment.payment_hash)
        except (RpcError, NodeUnavailableError, OutcomeUnknownError):
            if not sent_msat:
                raise
            rows = []
        own = [row for row in rows if row.label == payment.label]
        if any(row.status == "complete" for row in own):
            sent_msat = sum(row.sent_msat for row in own if row.status in ("complete", "pending"))
        elif not sent_msat:
            others = {row.group for row in rows if row.label != payment.label}
            sent_msat = await self._node.debited_msat(payment.payment_hash, payment.moves_index, others)
        if not sent_msat:
            return
        try:
            if not await asyncio.wrap_future(self._ledger.note_paid_after_all(payment, sent_msat)):
                return
        except StorageError as error:
            log.error("a loss could not be written down: %s", error)
        log.error(
            "A LOSS: melt %s was forced to failed and its ecash given back, but its payment (hash %s) was made: "
            "%d msat left the node. See cashu-audit.",
            payment.handle,
            payment.payment_hash.hex(),
            sent_msat,
        )


def _payment(melt: PendingMelt, force: Force) -> Payment:
    """What a melt that is forced to paid counts as having cost. Raises ResolveError for a preimage that doesn't fit."""
    if isinstance(melt, PendingPayout):
        if force.preimage is not None:
            raise ResolveError("a payment on the chain has no preimage")
        if melt.built is None:
            raise ResolveError("this can't be forced: no transaction was made, so nothing was paid")
        return Payment(None, melt.amount_msat + melt.built.fee_sat * MSAT_PER_SAT)
    assert isinstance(melt, PendingPayment)
    if force.preimage is not None and hashlib.sha256(force.preimage).digest() != melt.payment_hash:
        raise ResolveError("the preimage does not fit the payment hash")
    # Nobody knows what it cost, so it counts as the most that it may have: no more can be missing in the books.
    return Payment(force.preimage, melt.amount_msat + to_msat(melt.fee_reserve, melt.unit))


def _over(outcome: str) -> str:
    if outcome == "paid":
        return "The melt is paid: its ecash is spent."
    return "The melt has failed: its ecash is free again."
