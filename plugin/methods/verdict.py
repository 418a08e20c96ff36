"""The one decider of outgoing payments: `resolve(payment_hash)`.

xpay's reply, a notification, start-up, a lost connection: each is only a hint to look. What is looked at are the
node's own rows, one for each part of a payment. Nothing else moves a melt out of PENDING, and the rule is:

* a part was claimed (its preimage fits the hash): PAID;
* a part is in flight, or xpay may still start one: PENDING;
* no part is in flight and none can follow: FAILED;
* rows are missing that should be there, or may be (the node's database was put back to an older state): UNKNOWN. The
  melt stays PENDING and the operator is told.

An error from xpay is not a failure while a part is in flight, and a row of somebody else's payment of the same
invoice (another label) says nothing about ours.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from ledger.errors import StorageError
from ledger.ledger import Ledger
from ledger.operations.melt import Payment
from ledger.operations.melt_quote import PendingPayment
from ledger.operations.node import NodeRun
from ledger.units import to_msat
from plugin.methods import reasons
from plugin.node.events import PartSucceeded
from plugin.node.rpc import NodeUnavailableError, OutcomeUnknownError, RpcError
from plugin.node.view import Node, SendRow, Sent
from plugin.tasks import Supervisor

ROUTING_GRACE_S = 60
"""After a restart of the plugin alone, an xpay of before may still look for a route this long after `retry_for`."""
RECHECK_S = (0.05, 0.2, 1.0, 5.0, 30.0)
"""xpay may tell for some milliseconds after its end that it is running, and ends without a notification. So a melt
whose reply was lost, and that has no part in flight, is looked at again after these times, up to its deadline."""
XPAY_INTERNAL = -3
"""xpay's code for errors of lightningd that it doesn't translate; their own code stands in the text."""
RETRY_S = 5.0
"""When the node could not be asked, or the verdict not be written (the disk is full), we try again after this time."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Paid:
    """The destination was paid."""

    payment: Payment


@dataclass(frozen=True, slots=True)
class Failed:
    """Nothing was paid, and nothing can be any more. `reason` is for the wallet."""

    reason: str


@dataclass(frozen=True, slots=True)
class InFlight:
    """Not decided yet, and `why`, for the operator. `look_again_s`: when no event may come that says so; None if one
    will. `is_sending`: an xpay is, or may be, at work that can start another part."""

    why: str
    look_again_s: float | None = None
    is_sending: bool = False


@dataclass(frozen=True, slots=True)
class Unknown:
    """The evidence is gone. `why` is for the operator."""

    why: str


Verdict = Paid | Failed | InFlight | Unknown


class Claim(NamedTuple):
    """The payment was claimed: its preimage, and what left the node for it (None if only a part of that is known)."""

    preimage: bytes | None
    sent_msat: int | None


@dataclass(slots=True)
class _Attempt:
    """What this process knows of one attempt, beyond the ledger and the node's rows."""

    melt: PendingPayment
    running: bool = False  # our xpay has not answered yet
    error: RpcError | None = None  # our xpay gave up with this: it starts no more parts
    claim: Claim | None = None
    rows_seen: bool = False
    rechecks: int = 0
    unknown_because: str = ""
    first_seen_s: float = field(default_factory=time.monotonic)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Verdicts:
    """Sends payments and decides about them. One object for all melts of the mint."""

    def __init__(self, ledger: Ledger, node: Node, supervisor: Supervisor, *, maxdelay: int, retry_for_s: int) -> None:
        self._ledger = ledger
        self._node = node
        self._supervisor = supervisor
        self._maxdelay = maxdelay
        self._retry_for_s = retry_for_s
        self._run = NodeRun(0, 0)
        self._attempts: dict[bytes, _Attempt] = {}

    # --- hints ----------------------------------------------------------------------------------------------------

    def start(self, run: NodeRun) -> None:
        """Look at every melt that was in flight when the mint stopped. `run` is the node's present run."""
        self._run = run
        self.look_at_all()

    def look_at_all(self) -> None:
        """Hint: anything may have happened."""
        for melt in self._ledger.pending_melts():
            if isinstance(melt, PendingPayment):
                self.hint(melt.payment_hash)

    def hint(self, payment_hash: bytes) -> None:
        """Hint: something may have happened to this payment."""
        self._supervisor.background("verdict", self.resolve(payment_hash))

    def part_succeeded(self, event: PartSucceeded) -> None:
        """Hint, with a preimage: it proves the payment even if the node's rows are deleted before we look."""
        try:
            melt = self._ledger.pending_melt(event.payment_hash)
        except StorageError as error:
            log.error("can't look up a payment that has succeeded, will try again: %s", error)
            self._look_later(event.payment_hash, RETRY_S)
            return
        if melt is None or event.label != melt.label:
            return
        if hashlib.sha256(event.preimage).digest() == event.payment_hash:
            whole = event.amount_msat >= melt.amount_msat
            self._attempt(melt).claim = Claim(event.preimage, event.sent_msat if whole else None)
        self.hint(event.payment_hash)

    def pay(self, melt: PendingPayment) -> None:
        """Send the payment of a melt that has begun, in a task of its own: no client can cancel it."""
        self._attempt(melt).running = True
        self._supervisor.background("payment", self._pay(melt))

    def stuck(self) -> list[dict[str, int | str]]:
        """Melts that stay pending because the evidence about them is gone."""
        return [
            {
                "handle": attempt.melt.handle,
                "payment_hash": payment_hash.hex(),
                "begun_at": attempt.melt.begun_at,
                "reason": attempt.unknown_because,
            }
            for payment_hash, attempt in list(self._attempts.items())  # asked for from other threads, too
            if attempt.unknown_because
        ]

    async def _pay(self, melt: PendingPayment) -> None:
        attempt = self._attempt(melt)
        try:
            sent = await self._node.pay(
                melt.invoice,
                amount_msat=melt.amount_msat if melt.amountless else None,
                partial_msat=melt.amount_msat if melt.partial else None,
                maxfee_msat=to_msat(melt.fee_reserve, melt.unit),
                label=melt.label,
                maxdelay=self._maxdelay,
                retry_for_s=self._retry_for_s,
            )
            attempt.claim = _claim_of(melt, sent)
        except RpcError as error:
            log.debug("xpay gave up: code %d", error.code)
            attempt.error = error
        except NodeUnavailableError as error:
            attempt.error = RpcError("xpay", 0, str(error))  # it was never sent
        except OutcomeUnknownError as error:
            log.info("a payment's outcome is unknown for now: %s", error)
        finally:
            attempt.running = False
        await self.resolve(melt.payment_hash)

    # --- the decision ---------------------------------------------------------------------------------------------

    async def resolve(self, payment_hash: bytes) -> None:
        """Decide about the melt in flight for this hash, if there is one. May be called at any time, and repeatedly."""
        try:
            await self._resolve(payment_hash)
        except (RpcError, NodeUnavailableError, OutcomeUnknownError) as error:
            log.info("can't look at a payment now, will try again: %s", error)
            self._look_later(payment_hash, RETRY_S)
        except StorageError as error:
            log.error("a payment's outcome could not be written, will try again: %s", error)
            self._look_later(payment_hash, RETRY_S)

    async def _resolve(self, payment_hash: bytes) -> None:
        melt = self._ledger.pending_melt(payment_hash)
        if melt is None:
            return
        attempt = self._attempt(melt)
        async with attempt.lock:
            if self._ledger.pending_melt(payment_hash) == melt:  # else decided while we waited for our turn
                await self._execute(attempt, await self._judge(attempt))

    async def look(self, melt: PendingPayment) -> Verdict:
        """What would be decided about a melt in flight now; decides nothing. Raises what the node does."""
        attempt = self._attempts.get(melt.payment_hash)
        is_known = attempt is not None and attempt.melt == melt
        return await self._judge(attempt if attempt is not None and is_known else _Attempt(melt))

    @asynccontextmanager
    async def deciding(self, melt: PendingPayment) -> AsyncIterator[None]:
        """While the operator decides about a melt: nothing else does. Afterwards it is forgotten if it is decided."""
        async with self._attempt(melt).lock:
            yield
            if self._ledger.pending_melt(melt.payment_hash) is None:
                self._attempts.pop(melt.payment_hash, None)

    def _attempt(self, melt: PendingPayment) -> _Attempt:
        attempt = self._attempts.get(melt.payment_hash)
        if attempt is None or (attempt.melt.quote, attempt.melt.attempt) != (melt.quote, melt.attempt):
            attempt = self._attempts[melt.payment_hash] = _Attempt(melt)
        return attempt

    async def _execute(self, attempt: _Attempt, verdict: Verdict) -> None:
        melt = attempt.melt
        match verdict:
            case Paid(payment):
                await asyncio.wrap_future(self._ledger.settle_melt(melt, payment))
                self._attempts.pop(melt.payment_hash, None)
                log.info("melt paid: %d %s, hash %s", melt.amount, melt.unit, melt.payment_hash.hex())
            case Failed(reason):
                await asyncio.wrap_future(self._ledger.release_melt(melt, reason))
                self._attempts.pop(melt.payment_hash, None)
                log.info("melt failed: %d %s, hash %s: %s", melt.amount, melt.unit, melt.payment_hash.hex(), reason)
            case InFlight(look_again_s=look_again_s):
                if look_again_s is not None:
                    attempt.rechecks += 1
                    self._look_later(melt.payment_hash, look_again_s)
            case Unknown(why):
                if not attempt.unknown_because:
                    log.warning("a melt (hash %s) stays pending: %s", melt.payment_hash.hex(), why)
                attempt.unknown_because = why

    def _look_later(self, payment_hash: bytes, delay_s: float) -> None:
        async def look() -> None:
            await asyncio.sleep(delay_s)
            await self.resolve(payment_hash)

        self._supervisor.background("late look", look())

    async def _judge(self, attempt: _Attempt) -> Verdict:
        """What is not said by the rows themselves counts only if they are still the same after all else was asked:
        meanwhile a part may have been claimed (then its HTLC is gone, too), or sent."""
        payment_hash = attempt.melt.payment_hash
        rows = await self._node.send_rows(payment_hash)
        while True:
            verdict = await self._judge_rows(attempt, rows)
            if isinstance(verdict, InFlight) or (isinstance(verdict, Paid) and verdict.payment.preimage):
                return verdict
            seen, rows = rows, await self._node.send_rows(payment_hash)
            if rows == seen:
                return verdict

    async def _judge_rows(self, attempt: _Attempt, everybodys: list[SendRow]) -> Verdict:
        melt = attempt.melt
        rows = [row for row in everybodys if row.label == melt.label]
        if (claim := _claimed(melt, rows) or attempt.claim) is not None:
            return Paid(Payment(claim.preimage, _sent_msat(melt, claim)))
        if attempt.running:
            attempt.rows_seen |= bool(rows)
            return InFlight("the node's xpay is at work on it", is_sending=True)
        if melt.node_run < self._run.forgot:
            # What it lacks, it may have forgotten; and what it has in flight or failed may have been claimed since.
            return Unknown("the node's database was put back to an older state after this payment was begun")
        in_flight = [row for row in rows if row.status == "pending"]
        if in_flight and not await self._are_ghosts(melt, in_flight):
            attempt.rows_seen = True
            may_send = attempt.error is None and self._routing_left_s(attempt) > 0
            return InFlight(f"{len(in_flight)} of its parts are pending at the node", is_sending=may_send)
        sent_parts = any(_is_of_attempt(melt, row) for row in rows)
        if attempt.error is None and (wait_s := await self._may_be_routing_for(attempt, sent_parts)) is not None:
            why = "xpay's answer was lost, so it may still be looking for a route"
            return InFlight(why, wait_s, is_sending=True)
        if attempt.error is None or (attempt.rows_seen and not rows):
            others = {row.group for row in everybodys if row.label != melt.label}
            if debited := await self._node.debited_msat(melt.payment_hash, melt.mark.moves_index, others):
                return Paid(Payment(None, debited))
            if not sent_parts and await self._were_rows_deleted(attempt):
                return Unknown(
                    "the node's rows of this payment may have been deleted (autoclean?), and nothing else tells"
                )
        return Failed(_reason(attempt.error, bool(in_flight)))

    async def _are_ghosts(self, melt: PendingPayment, rows: list[SendRow]) -> bool:
        """Rows left pending for ever by a crash of the node between writing them and sending their HTLCs.

        The node loads its HTLCs from its database before it answers us. So a row older than the node's start for
        which there is no HTLC never got one, and never will."""
        older = melt.node_run < self._run.number
        if not older and any(row.created_at >= self._run.started_at for row in rows):
            return False
        return not await self._node.has_live_htlc(melt.payment_hash)

    async def _may_be_routing_for(self, attempt: _Attempt, sent_parts: bool) -> float | None:
        """Seconds after which to look again, if an xpay of ours whose reply is lost may still be at work; else None.

        xpay does not survive the node, but it survives this plugin. It shows itself once it has sent a part, and it
        starts none after `retry_for`."""
        melt = attempt.melt
        remaining_s = self._routing_left_s(attempt)
        if remaining_s <= 0:
            return None
        if not sent_parts:
            return remaining_s
        if not await self._node.is_paying(melt.payment_hash, melt.label):
            return None
        return min(RECHECK_S[min(attempt.rechecks, len(RECHECK_S) - 1)], remaining_s)

    def _routing_left_s(self, attempt: _Attempt) -> float:
        if attempt.melt.node_run < self._run.number:
            return 0.0
        # Counted from when we first looked, not from `begun_at`: the clock may have been set meanwhile.
        return attempt.first_seen_s + self._retry_for_s + ROUTING_GRACE_S - time.monotonic()

    async def _were_rows_deleted(self, attempt: _Attempt) -> bool:
        """Whether rows of this attempt may have been there. (Rows of an earlier one may be there still.)"""
        return attempt.rows_seen or await self._node.lacks_send_rows(attempt.melt.mark.sends_index)


def _is_of_attempt(melt: PendingPayment, row: SendRow) -> bool:
    """Whether a row is of the present attempt for certain: if there was none before, or it came after it. Times are
    whole seconds, so a retry in the same second as its failed predecessor can't tell their rows apart; a row from the
    future was written when the clock was wrong, before this attempt."""
    return melt.attempt == 1 or melt.begun_at < row.created_at <= time.time()


def _claim_of(melt: PendingPayment, sent: Sent) -> Claim | None:
    if hashlib.sha256(sent.preimage).digest() != melt.payment_hash:
        log.error("xpay answered with a preimage that does not fit hash %s", melt.payment_hash.hex())
        return None
    return Claim(sent.preimage, sent.sent_msat)


def _claimed(melt: PendingPayment, rows: list[SendRow]) -> Claim | None:
    """If a row is complete, the destination was paid. Parts still in flight count as sent: they can be claimed too."""
    complete = [row for row in rows if row.status == "complete"]
    if not complete:
        return None
    preimages = (row.preimage for row in complete if row.preimage is not None)
    preimage = next((p for p in preimages if hashlib.sha256(p).digest() == melt.payment_hash), None)
    if preimage is None:
        log.error("the node has no fitting preimage for a complete payment of hash %s", melt.payment_hash.hex())
    return Claim(preimage, sum(row.sent_msat for row in rows if row.status in ("complete", "pending")))


def _sent_msat(melt: PendingPayment, claim: Claim) -> int:
    """What left the node; the most that may have left it where that isn't known in full."""
    most = melt.amount_msat + to_msat(melt.fee_reserve, melt.unit)
    if claim.sent_msat is None:
        return most
    if claim.sent_msat > most:
        log.error("a payment of hash %s cost more than its fee limit", melt.payment_hash.hex())
    return claim.sent_msat


def _reason(error: RpcError | None, ghost: bool) -> str:
    """Why a payment failed, for its wallet. xpay's own words may tell of the node's channels: they stay here."""
    if ghost:
        return reasons.GHOST
    if error is None:
        return reasons.NOT_SENT
    if error.code == XPAY_INTERNAL and "error 201" in error.message:
        return reasons.PAID_BEFORE
    if error.code == XPAY_INTERNAL and "error 200" in error.message:
        return reasons.PENDING_BEFORE
    return reasons.BY_XPAY.get(error.code, f"the payment failed (code {error.code})")
