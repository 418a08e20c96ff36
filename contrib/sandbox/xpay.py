"""The xpay command: from an invoice to parts, and from their outcomes to a reply."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from contrib.sandbox import bolt11, bolt12
from contrib.sandbox.channels import REMOTE_SHORT_CHANNEL_ID, SHORT_CHANNEL_ID
from contrib.sandbox.errors import (
    INVALID_PARAMS,
    PAY_ALREADY_PAID,
    PAY_DESTINATION_PERM_FAIL,
    PAY_IN_PROGRESS,
    PAY_INVOICE_EXPIRED,
    PAY_RHASH_ALREADY_USED,
    PAY_ROUTE_NOT_FOUND,
    PAY_ROUTE_TOO_EXPENSIVE,
    PAY_UNSPECIFIED_ERROR,
    PLUGIN_ERROR,
    RpcError,
    SandboxError,
)
from contrib.sandbox.params import Args
from contrib.sandbox.parts import Attempt, LivePart
from contrib.sandbox.payments import COMPLETE, FAILED, PENDING
from contrib.sandbox.rpc_server import CloseConnection, Request
from contrib.sandbox.script import NO_ROUTE, TOO_EXPENSIVE, Behaviour, Part, ReplyKind, ReplyTime

if TYPE_CHECKING:
    from contrib.sandbox.node import Node

MIN_DEFAULT_MAXFEE_MSAT = 5_000
DEFAULT_MAXFEE_DIVISOR = 100

_GROUPID_BITS = 63


@dataclass(eq=False)
class Run:
    """One xpay command. It dies with the node; the parts it has sent do not."""

    attempt: Attempt
    amount_msat: int
    maxfee_msat: int
    behaviour: Behaviour
    scripted: bool
    reply: asyncio.Future[dict[str, Any]]
    parts: list[LivePart] = field(default_factory=list)
    failures: int = 0
    verdict: dict[str, Any] | RpcError | None = None

    @property
    def payment_hash(self) -> str:
        """Which payment this is about."""
        return self.attempt.payment_hash


class Xpay:
    """Every xpay command of the node, and the scripts for those to come."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._scripts: dict[str, deque[Behaviour]] = {}
        self._next: deque[Behaviour] = deque()
        self._running: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()

    def script(self, behaviour: Behaviour, payment_hash: str | None, times: int) -> None:
        """Remember what is to happen to a payment, or to the next ones."""
        queue = self._next if payment_hash is None else self._scripts.setdefault(payment_hash, deque())
        queue.extend([behaviour] * times)

    def is_running(self, payment_hash: str) -> bool:
        """Whether xpay has this hash in memory: then `listpays` says pending, whatever the rows say."""
        return self._running[payment_hash] > 0

    def forget_runs(self) -> None:
        """The node goes down: no xpay survives that."""
        for task in self._tasks:
            task.cancel()
        self._tasks.clear()
        self._running.clear()

    async def pay(self, request: Request, args: Args) -> dict[str, Any]:
        """The command itself."""
        node = self._node
        invoice, amount_msat = self._read(args)
        behaviour = self._take_script(invoice.payment_hash)
        maxfee_msat = args["maxfee"]
        if maxfee_msat is None:
            maxfee_msat = max(amount_msat // DEFAULT_MAXFEE_DIVISOR, MIN_DEFAULT_MAXFEE_MSAT)
        chosen = behaviour or Behaviour()
        attempt = Attempt(
            payment_hash=invoice.payment_hash,
            groupid=secrets.randbits(_GROUPID_BITS),
            destination=invoice.payee,
            total_msat=amount_msat,
            label=args["label"],
            bolt11=bolt11.canonical(args["invstring"]),
            notifications=chosen.notifications,
            replied=asyncio.Event(),
        )
        run = Run(attempt, amount_msat, maxfee_msat, chosen, behaviour is not None, node.loop.create_future())
        request.after_reply.append(attempt.replied.set)
        task = node.loop.create_task(self._drive(run))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await run.reply

    def _read(self, args: Args) -> tuple[bolt11.Invoice | bolt12.Invoice, int]:
        """The invoice, and how much of it is to be paid."""
        if bolt12.is_invoice(args["invstring"]):
            return self._read_bolt12(args)
        try:
            invoice = self._node.outside.read(bolt11.canonical(args["invstring"]))
            if invoice.currency != self._node.currency:
                raise bolt11.Bolt11Error(f"Prefix {invoice.currency} is not for {self._node.network}")
        except bolt11.Bolt11Error as error:
            raise RpcError(INVALID_PARAMS, f"Invalid bolt11 invoice: {error}") from None
        if invoice.amount_msat is None and args["amount_msat"] is None:
            raise RpcError(INVALID_PARAMS, "amount_msat required")
        if invoice.amount_msat is not None and args["amount_msat"] is not None:
            raise RpcError(INVALID_PARAMS, "amount_msat unnecessary")
        total_msat: int = args["amount_msat"] if invoice.amount_msat is None else invoice.amount_msat
        amount_msat: int = total_msat if args["partial_msat"] is None else args["partial_msat"]
        if amount_msat > total_msat:
            raise RpcError(INVALID_PARAMS, "partial_msat must be less or equal to total amount")
        if amount_msat == 0:
            raise RpcError(INVALID_PARAMS, "Cannot pay bolt11 invoice with zero amount")
        _require_time_left(invoice.expires_at)
        return invoice, amount_msat

    def _read_bolt12(self, args: Args) -> tuple[bolt12.Invoice, int]:
        try:
            invoice = bolt12.read_invoice(args["invstring"])
            if invoice.chain != bolt12.CHAINS[self._node.network]:
                raise bolt12.Bolt12Error("wrong chain")
        except bolt12.Bolt12Error as error:
            raise RpcError(INVALID_PARAMS, f"Invalid bolt12 invoice: {error}") from None
        if args["amount_msat"] is not None:
            raise RpcError(INVALID_PARAMS, "Cannot override amount for bolt12 invoices")
        amount_msat: int = invoice.amount_msat if args["partial_msat"] is None else args["partial_msat"]
        if amount_msat == 0:
            raise RpcError(INVALID_PARAMS, "Invalid bolt12 invoice with zero amount")
        _require_time_left(invoice.expires_at)
        return invoice, amount_msat

    def _take_script(self, payment_hash: str) -> Behaviour | None:
        own = self._scripts.get(payment_hash)
        if own:
            behaviour = own.popleft()
            if not own:
                del self._scripts[payment_hash]
            return behaviour
        return self._next.popleft() if self._next else None

    # -- one run -------------------------------------------------------------------------------------------------

    async def _drive(self, run: Run) -> None:
        """From the command to the last outcome of its parts. Only a running xpay can start further parts."""
        self._running[run.payment_hash] += 1
        try:
            if run.behaviour.delay_s:
                await asyncio.sleep(run.behaviour.delay_s)
            self._start(run)
            if run.behaviour.reply.when is ReplyTime.DISPATCHED:
                self._reply(run)
            await self._follow(run)
            self._reply(run)
            if isinstance(run.verdict, RpcError) and run.verdict.code == PAY_DESTINATION_PERM_FAIL:
                # xpay answers this before it has cleaned up; until then listpays goes on saying pending.
                await asyncio.sleep(self._node.settings.listpays_lag_s)
        except RpcError as error:
            run.verdict = error
            self._reply(run)
        except SandboxError as error:
            self._node.log("broken", "sandbox", str(error))
            run.verdict = RpcError(PAY_UNSPECIFIED_ERROR, f"sandbox: {error}")
            self._reply(run)
        finally:
            self._running[run.payment_hash] -= 1
            if self._running[run.payment_hash] <= 0:
                del self._running[run.payment_hash]

    def _start(self, run: Run) -> None:
        """Find a route, then send the first parts; raises what xpay says when it comes to nothing."""
        node, attempt = self._node, run.attempt
        if run.behaviour.refusal is not None:
            raise RpcError(*run.behaviour.refusal)
        if attempt.destination == node.id:
            self._check_progress(run, run.amount_msat, [])
            run.parts.append(node.parts.pay_self(attempt))
            return
        first = [part for part in run.behaviour.parts if not part.retry]
        if not run.scripted and not node.outside.accepts(run.payment_hash):
            if node.outside.preimage(run.payment_hash) is None:
                raise RpcError(PAY_ROUTE_NOT_FOUND, f"Failed: Unknown destination node {attempt.destination}")
            first = [Part.failure()]
        amounts = _shares(first, run.amount_msat)
        fees = self._fees(run, first)
        self._check_capacity(sum(amounts) + sum(fees))
        self._check_progress(run, amounts[0], node.parts.hops(amounts[0], fees[0]))
        for part, amount_msat, fee_msat in zip(first, amounts, fees, strict=True):
            run.parts.append(node.parts.send(attempt, part, len(run.parts) + 1, amount_msat, fee_msat))

    async def _follow(self, run: Run) -> None:
        """Wait for outcomes, send what the script retries, and decide."""
        retries = deque(part for part in run.behaviour.parts if part.retry)
        waiting = {live.outcome: live for live in run.parts}
        while waiting:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for live in sorted((waiting.pop(future) for future in done), key=lambda live: live.row.partid):
                if live.outcome.result():
                    self._conclude(run, None)
                    continue
                run.failures += 1
                if retries:
                    again = self._retry(run, live, retries.popleft())
                    waiting[again.outcome] = again
                elif run.verdict is None:
                    self._conclude(run, _failure(run, live))

    def _retry(self, run: Run, failed: LivePart, part: Part) -> LivePart:
        amount_msat = failed.row.amount_msat if part.amount_msat is None else part.amount_msat
        fee_msat = self._fees(run, [part])[0]
        again = self._node.parts.send(run.attempt, part, len(run.parts) + 1, amount_msat, fee_msat)
        run.parts.append(again)
        return again

    def _conclude(self, run: Run, error: RpcError | None) -> None:
        """xpay has made up its mind: the first preimage wins, else the first reason to give up."""
        if isinstance(run.verdict, dict) or run.reply.done():
            return
        run.verdict = _receipt(run) if error is None else error
        if run.behaviour.reply.when is ReplyTime.NATURAL and not self._node.settings.slow_mode:
            self._reply(run)

    def _reply(self, run: Run) -> None:
        """Hand the caller what the script says it gets. Only the first call for a run has an effect."""
        plan = run.behaviour.reply
        answer: dict[str, Any] | Exception | None
        if plan.kind is ReplyKind.SILENT:
            answer = None
        elif plan.kind is ReplyKind.CLOSED:
            answer = CloseConnection()
        elif plan.kind is ReplyKind.ERROR:
            answer = RpcError(plan.code, plan.message)
        else:
            answer = run.verdict
        if answer is None or run.reply.done():
            return
        if plan.delay_s:
            self._node.loop.call_later(plan.delay_s, _deliver, run, answer)
        else:
            _deliver(run, answer)

    # -- routes --------------------------------------------------------------------------------------------------

    def _fees(self, run: Run, parts: list[Part]) -> list[int]:
        """The parts' fees; those the script leaves open get the default, as far as maxfee allows."""
        rows = [live.row for live in run.parts if live.row.status != FAILED]
        spent_msat = sum(row.amount_sent_msat - row.amount_msat for row in rows)
        allowed_msat = run.maxfee_msat - spent_msat - sum(part.fee_msat or 0 for part in parts)
        if allowed_msat < 0:
            raise RpcError(PAY_ROUTE_TOO_EXPENSIVE, TOO_EXPENSIVE)
        fees = []
        for part in parts:
            fee_msat = part.fee_msat
            if fee_msat is None:
                fee_msat = min(self._node.settings.default_fee_msat, allowed_msat)
                allowed_msat -= fee_msat
            fees.append(fee_msat)
        return fees

    def _check_capacity(self, needed_msat: int) -> None:
        channel = self._node.channel
        if not channel.connected:
            raise RpcError(PAY_ROUTE_NOT_FOUND, f"{NO_ROUTE} All 1 channels to the source are disabled.")
        if needed_msat > channel.capacity_msat:
            raise RpcError(
                PAY_ROUTE_NOT_FOUND,
                f"{NO_ROUTE} Total source capacity is only {channel.capacity_msat}msat (in 1 channels).",
            )
        if needed_msat > channel.spendable_msat:
            raise RpcError(
                PAY_ROUTE_NOT_FOUND,
                f"{NO_ROUTE} The shortest path is {SHORT_CHANNEL_ID}->{REMOTE_SHORT_CHANNEL_ID}, but"
                f" {SHORT_CHANNEL_ID}/0 layer auto.localchans says max is {channel.spendable_msat}msat",
            )

    def _check_progress(self, run: Run, amount_msat: int, hops: list[dict[str, Any]]) -> None:
        """lightningd's own guard against paying twice; it sees only rows. A refused attempt has a start but no end."""
        refusal = self._refusal(run.attempt, amount_msat)
        if refusal is None:
            return
        self._node.parts.start(run.attempt, 1, amount_msat, hops)
        code, text = refusal
        if code == PAY_ALREADY_PAID:
            raise RpcError(code, text)
        inner = f'{{"code":{code},"message":"{text}"}}'
        raise RpcError(PLUGIN_ERROR, f"Unexpected injectpaymentonion error {code}: {inner}")

    def _refusal(self, attempt: Attempt, amount_msat: int) -> tuple[int, str] | None:
        complete = False
        for row in self._node.payments.of_hash(attempt.payment_hash):
            if row.status == PENDING:
                text = f"Payment with groupid={row.groupid} still in progress, cannot retry before that completes."
                return PAY_IN_PROGRESS, text
            if row.status != COMPLETE:
                continue
            complete = True
            if row.partid == 1 and row.amount_msat != amount_msat:
                text = f"Already succeeded with amount {row.amount_msat}msat (not {amount_msat}msat)"
                return PAY_RHASH_ALREADY_USED, text
            if row.partid == 1:
                return PAY_ALREADY_PAID, "Already paid this invoice successfully"
        return (PAY_RHASH_ALREADY_USED, "Already succeeded other parts") if complete else None


def _require_time_left(expires_at: int) -> None:
    late_s = int(time.time()) - expires_at
    if late_s > 0:
        raise RpcError(PAY_INVOICE_EXPIRED, f"Invoice expired {late_s} seconds ago")


def _receipt(run: Run) -> dict[str, Any]:
    """xpay's answer when it has a preimage. What is still in flight counts as sent."""
    rows = [live.row for live in run.parts if live.row.status in (COMPLETE, PENDING)]
    return {
        "payment_preimage": next(row.payment_preimage for row in rows if row.payment_preimage is not None),
        "amount_msat": run.amount_msat,
        "amount_sent_msat": sum(row.amount_sent_msat for row in rows),
        "failed_parts": run.failures,
        "successful_parts": len(run.parts) - run.failures,
    }


def _failure(run: Run, live: LivePart) -> RpcError:
    """xpay's answer when it gives up after a part has come back; other parts may still be out."""
    cause = live.cause
    if cause.permanent:
        return RpcError(PAY_DESTINATION_PERM_FAIL, f"Destination said it doesn't know invoice: {cause.error_message}")
    return RpcError(
        PAY_UNSPECIFIED_ERROR,
        f"Failed after {len(run.parts)} attempts. Unexpected error ({cause.error_message}) from final node:"
        f" disabling {REMOTE_SHORT_CHANNEL_ID}/1 for this payment. Then routing failed:"
        f" {NO_ROUTE.removeprefix('Failed: ')}",
    )


def _deliver(run: Run, answer: dict[str, Any] | Exception) -> None:
    if run.reply.done():
        return
    if isinstance(answer, dict):
        run.reply.set_result(answer)
    else:
        run.reply.set_exception(answer)


def _shares(parts: list[Part], amount_msat: int) -> list[int]:
    """What each part delivers: what it says, or an even share of the rest (the first takes the odd remainder)."""
    rest = amount_msat - sum(part.amount_msat or 0 for part in parts)
    open_count = sum(part.amount_msat is None for part in parts)
    if not parts or rest < open_count:
        raise SandboxError(f"a script's parts can't deliver {amount_msat} msat")
    shares = []
    remainder = rest % open_count if open_count else 0
    for part in parts:
        if part.amount_msat is not None:
            shares.append(part.amount_msat)
        else:
            shares.append(rest // open_count + remainder)
            remainder = 0
    return shares
