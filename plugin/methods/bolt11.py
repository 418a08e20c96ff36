"""BOLT11: value comes in by the node's invoices and goes out by xpay (NUT-04, NUT-05, NUT-23)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TypeVar

from ledger.errors import Code, LedgerError, StorageError
from ledger.ids import label_of, new_quote_id
from ledger.ledger import Ledger, curve_work
from ledger.models import (
    MeltQuote,
    MeltQuoteBolt11Request,
    MeltQuoteState,
    MeltRequest,
    MintBatchRequest,
    MintQuote,
    MintQuoteBolt11Request,
    MintRequest,
    SignaturesResponse,
    SwapRequest,
)
from ledger.operations.melt import Begun, NewMeltQuote, NodeMark
from ledger.operations.mint import NewMintQuote, check_pubkey
from ledger.units import fee_reserve_msat, from_msat_up, to_msat
from plugin.methods.outcomes import Outcomes
from plugin.methods.receipts import Receipts
from plugin.methods.verdict import Verdicts
from plugin.node.rpc import RpcError
from plugin.node.view import Bolt11, InvoiceInvalidError, Node, NodeInfo
from plugin.options import MAX_AMOUNT_SAT, Settings
from plugin.tasks import Supervisor

METHOD = "bolt11"
INVOICE_EXPIRY_S = 3600
"""How long an invoice for minting can be paid."""
MELT_QUOTE_EXPIRY_S = 3600
"""How long a melt quote can be executed, unless its invoice expires sooner."""
INLINE_CURVE_WORK = 4
"""Requests with more signatures than this are worked on in a worker thread, beside the event loop."""

T = TypeVar("T")
Request = TypeVar("Request", bound=SwapRequest | MintRequest | MintBatchRequest | MeltRequest)


async def perform(operation: Callable[[Request], Future[T]], request: Request) -> T:
    """Run an operation of the ledger that does curve work, and wait until it is durable."""
    if curve_work(request) > INLINE_CURVE_WORK:
        return await asyncio.wrap_future(await asyncio.to_thread(operation, request))
    return await asyncio.wrap_future(operation(request))


@dataclass(frozen=True, slots=True)
class Limits:
    """The amounts allowed for a method, in millisatoshis. There is always a maximum, or an amount could be too large
    for the node and the ledger."""

    minimum_msat: int
    maximum_msat: int

    def check(self, amount_msat: int, unit: str) -> None:
        """Raises 11006."""
        if not max(1, self.minimum_msat) <= amount_msat <= self.maximum_msat:
            least, most = from_msat_up(max(1, self.minimum_msat), unit), from_msat_up(self.maximum_msat, unit)
            raise LedgerError(Code.AMOUNT_OUTSIDE_LIMITS, f"the amount must be from {least} to {most} {unit}")


class Bolt11Method:
    """Quotes, issues and melts by BOLT11."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        node: Node,
        info: NodeInfo,
        receipts: Receipts,
        verdicts: Verdicts,
        outcomes: Outcomes,
        supervisor: Supervisor,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._node = node
        self._info = info
        self._receipts = receipts
        self._verdicts = verdicts
        self._outcomes = outcomes
        self._supervisor = supervisor
        self._mint_limits = Limits(settings.min_mint * 1000, (settings.max_mint or MAX_AMOUNT_SAT) * 1000)
        self._melt_limits = Limits(settings.min_melt * 1000, (settings.max_melt or MAX_AMOUNT_SAT) * 1000)

    # --- in -------------------------------------------------------------------------------------------------------

    async def create_mint_quote(self, request: MintQuoteBolt11Request) -> MintQuote:
        """Make an invoice for a new quote. Raises 11013, 11006, 20009, and 20000 if the node makes no invoice."""
        self._check_unit(request.unit)
        amount_msat = to_msat(request.amount, request.unit)
        self._mint_limits.check(amount_msat, request.unit)
        check_pubkey(request.pubkey)
        quote_id = new_quote_id()
        label = label_of(quote_id)
        with self._receipts.making(label):
            try:
                invoice = await self._node.create_invoice(
                    label, amount_msat, request.description or "", INVOICE_EXPIRY_S
                )
            except RpcError as error:
                raise LedgerError(Code.QUOTE_REJECTED, f"the node makes no invoice: {error.message}") from error
            quote = NewMintQuote(
                id=quote_id,
                method=METHOD,
                unit=request.unit,
                request=invoice.bolt11,
                amount=request.amount,
                expiry=invoice.expires_at,
                pubkey=request.pubkey,
            )
            return await asyncio.wrap_future(self._ledger.create_mint_quote(quote))

    async def issue(self, request: MintRequest) -> SignaturesResponse:
        """Sign outputs for a paid quote (NUT-04)."""
        return await perform(lambda r: self._ledger.issue(METHOD, r), request)

    async def issue_batch(self, request: MintBatchRequest) -> SignaturesResponse:
        """Sign outputs for several paid quotes (NUT-29)."""
        return await perform(lambda r: self._ledger.issue_batch(METHOD, r), request)

    # --- out ------------------------------------------------------------------------------------------------------

    async def create_melt_quote(self, request: MeltQuoteBolt11Request) -> MeltQuote:
        """Price a payment. Raises 11013, 11006, 11011, 11012, 20005, 20006, 20007, and 20000 for a bad invoice."""
        self._check_unit(request.unit)
        try:
            invoice = await self._node.decode_bolt11(request.request, self._info.network)
        except InvoiceInvalidError as error:
            raise LedgerError(Code.QUOTE_REJECTED, str(error)) from error
        amount_msat = _amount_msat(request, invoice)
        partial = amount_msat != (invoice.amount_msat or amount_msat)
        if partial and invoice.payee == self._info.id:
            raise LedgerError(Code.QUOTE_REJECTED, "this node's own invoices can't be paid in parts (NUT-15)")
        self._melt_limits.check(amount_msat, request.unit)
        now = self._ledger.now()
        if invoice.expires_at <= now:
            raise LedgerError(Code.QUOTE_EXPIRED, "the invoice has expired")
        rows, (sends, moves) = await asyncio.gather(self._node.send_rows(invoice.payment_hash), self._node.counters())
        if any(row.status == "complete" for row in rows):
            raise LedgerError(Code.INVOICE_PAID, "this node has paid the invoice already")
        if any(row.status == "pending" for row in rows):
            raise LedgerError(Code.QUOTE_PENDING, "this node has a payment of the invoice in flight")
        quote = NewMeltQuote(
            id=new_quote_id(),
            method=METHOD,
            unit=request.unit,
            request=request.request,
            payment_hash=invoice.payment_hash,
            amount=from_msat_up(amount_msat, request.unit),
            amount_msat=amount_msat,
            amountless=invoice.amount_msat is None,
            fee_reserve=self._fee_reserve(invoice, amount_msat, request.unit),
            expiry=min(invoice.expires_at, now + MELT_QUOTE_EXPIRY_S),
            mark=NodeMark(sends, moves),
            partial=partial,
        )
        return await asyncio.wrap_future(self._ledger.create_melt_quote(quote))

    def _fee_reserve(self, invoice: Bolt11, amount_msat: int, unit: str) -> int:
        if invoice.payee == self._info.id:
            return 0  # the node pays its own invoices by itself, without a route
        settings = self._settings
        reserve_msat = fee_reserve_msat(amount_msat, settings.fee_reserve_percent, settings.fee_reserve_min * 1000)
        return from_msat_up(reserve_msat, unit)

    async def melt(self, request: MeltRequest, prefer_async: bool) -> MeltQuote:
        """Pay a quote with proofs (NUT-05).

        Answers the quote in its final state if that comes within the time to wait, else PENDING; by then proofs and
        blank outputs are held durably. An identical request joins the one before it. Raises what `begin` refuses, and
        20004 if the payment failed for certain.
        """
        # A client that goes away cancels this coroutine, but neither the hold nor the payment.
        begun = await asyncio.shield(self._supervisor.spawn("melt", self._begin_or_refuse(request)))
        if isinstance(begun, Exception):
            raise begun
        pending, outcome = begun
        wait_s = self._settings.async_grace_ms / 1000 if prefer_async else float(self._settings.sync_wait_s)
        if wait_s > 0:
            await asyncio.wait([outcome], timeout=wait_s)
        if not outcome.done() or outcome.cancelled():
            outcome.cancel()
            return pending
        quote = outcome.result()
        if quote.state is MeltQuoteState.UNPAID:
            raise LedgerError(Code.PAYMENT_FAILED, quote.error or "the payment failed")
        return quote

    async def _begin_or_refuse(
        self, request: MeltRequest
    ) -> tuple[MeltQuote, asyncio.Future[MeltQuote]] | LedgerError | StorageError:
        """A refusal is returned, not raised: the client may be gone, and an exception that nobody awaits is a bug."""
        try:
            return await self._begin(request)
        except (LedgerError, StorageError) as refusal:
            return refusal

    async def _begin(self, request: MeltRequest) -> tuple[MeltQuote, asyncio.Future[MeltQuote]]:
        begun = await perform(self._begin_melt, request)
        outcome = self._outcomes.expect(begun.quote.quote)
        if begun.melt is not None:
            self._verdicts.pay(begun.melt)
            return begun.quote, outcome
        quote = self._ledger.melt_quote(METHOD, begun.quote.quote)  # the outcome may have come before we expected it
        if quote.state is not MeltQuoteState.PENDING:
            outcome.set_result(quote)
        return quote, outcome

    def _begin_melt(self, request: MeltRequest) -> Future[Begun]:
        return self._ledger.begin_melt(METHOD, request, self._settings.max_pending_melts)

    def _check_unit(self, unit: str) -> None:
        if unit not in self._settings.units:
            raise LedgerError(
                Code.UNIT_UNSUPPORTED, f"this mint has no unit {unit!r} for {METHOD}: {', '.join(self._settings.units)}"
            )


def _amount_msat(request: MeltQuoteBolt11Request, invoice: Bolt11) -> int:
    """What this mint shall pay: the invoice's amount, the one named for an amountless one, or a part (NUT-15, 23)."""
    options = request.options
    mpp = options.mpp if options is not None else None
    amountless = options.amountless if options is not None else None
    if mpp is not None and (amountless is not None or invoice.amount_msat is None):
        raise LedgerError(Code.QUOTE_REJECTED, "only an invoice that names an amount can be paid in parts (NUT-15)")
    if invoice.amount_msat is None:
        if amountless is None:
            raise LedgerError(Code.AMOUNTLESS_UNSUPPORTED, "the invoice names no amount: options.amountless is missing")
        return amountless.amount_msat
    if amountless is not None and amountless.amount_msat != invoice.amount_msat:
        raise LedgerError(Code.AMOUNT_MISMATCH, "options.amountless differs from the invoice's amount")
    if mpp is not None and mpp.amount > invoice.amount_msat:
        raise LedgerError(Code.AMOUNT_MISMATCH, "options.mpp is more than the invoice's amount")
    return mpp.amount if mpp is not None else invoice.amount_msat
