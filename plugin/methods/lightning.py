"""What bolt11 and bolt12 share: a melt is a Lightning payment of an invoice, sent and decided about by `Verdicts`."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from ledger.errors import Code, LedgerError
from ledger.ids import new_quote_id
from ledger.models import MeltQuote
from ledger.operations.melt_quote import NewPayment, NodeMark, PendingMelt, PendingPayment
from ledger.units import from_msat_up
from plugin.methods.method import Method, Mint
from plugin.methods.pricing import Pricing
from plugin.methods.receipts import Receipts
from plugin.methods.verdict import Verdicts
from plugin.node.offers import Offers
from plugin.node.view import Node, NodeInfo, PathHead

MELT_QUOTE_EXPIRY_S = 3600
"""How long a melt quote can be executed, unless its invoice expires sooner."""


@dataclass(frozen=True, slots=True)
class Lightning:
    """The node, and those who price its payments and follow them in and out."""

    node: Node
    offers: Offers
    info: NodeInfo
    pricing: Pricing
    receipts: Receipts
    verdicts: Verdicts


@dataclass(frozen=True, slots=True, kw_only=True)
class Payable:
    """A payment that a wallet asks for. `request` is what it sent, `invoice` what the node would pay for it.

    `amount_msat`: what this mint shall pay; `amountless`: the invoice names no amount; `partial`: it names more;
    `paths`: the ways to the destination, for the price; without any there is none."""

    request: str
    invoice: str
    payment_hash: bytes
    payee: str
    amount_msat: int
    expires_at: int
    amountless: bool = False
    partial: bool = False
    paths: tuple[PathHead, ...] = ()


class LightningMethod(Method):
    """A method whose melts are Lightning payments."""

    def __init__(self, mint: Mint, lightning: Lightning) -> None:
        super().__init__(mint)
        self._node = lightning.node
        self._info = lightning.info
        self._pricing = lightning.pricing
        self._receipts = lightning.receipts
        self._verdicts = lightning.verdicts

    def send(self, melt: PendingMelt) -> None:
        """Hand the payment to the one who decides about it."""
        assert isinstance(melt, PendingPayment)
        self._verdicts.pay(melt)

    def _traces(self, melt: PendingMelt) -> str:
        assert isinstance(melt, PendingPayment)
        return f"{super()._traces(melt)}, hash {melt.payment_hash.hex()}"

    async def _store_melt_quote(self, payable: Payable, unit: str) -> MeltQuote:
        """Price a payment and store its quote. Raises 11006, 20005, 20006, 20007, and 20000 if the node can't pay."""
        self.melt_limits.check(payable.amount_msat, unit)
        now = self._ledger.now()
        if payable.expires_at <= now:
            raise LedgerError(Code.QUOTE_EXPIRED, "the invoice has expired")
        rows, (sends, moves) = await asyncio.gather(self._node.send_rows(payable.payment_hash), self._node.counters())
        if any(row.status == "complete" for row in rows):
            raise LedgerError(Code.INVOICE_PAID, "this node has paid the invoice already")
        if any(row.status == "pending" for row in rows):
            raise LedgerError(Code.QUOTE_PENDING, "this node has a payment of the invoice in flight")
        if payable.payee == self._info.id and await self._node.has_paid_invoice(payable.payment_hash):
            raise LedgerError(Code.INVOICE_PAID, "this invoice of the mint's own node is paid already")
        await self._pricing.check_sendable(payable.payee, payable.amount_msat, payable.paths)
        reserve_msat = await self._pricing.reserve_msat(payable.payee, payable.amount_msat, payable.paths)
        quote = NewPayment(
            id=new_quote_id(),
            method=self.name,
            unit=unit,
            request=payable.request,
            invoice=payable.invoice if payable.invoice != payable.request else None,
            payment_hash=payable.payment_hash,
            amount=from_msat_up(payable.amount_msat, unit),
            amount_msat=payable.amount_msat,
            amountless=payable.amountless,
            fee_reserve=from_msat_up(reserve_msat, unit),
            expiry=min(payable.expires_at, now + MELT_QUOTE_EXPIRY_S),
            mark=NodeMark(sends, moves),
            partial=payable.partial,
        )
        return await asyncio.wrap_future(self._ledger.create_melt_quote(quote))
