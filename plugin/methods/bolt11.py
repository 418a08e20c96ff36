"""BOLT11: value comes in by the node's invoices and goes out by xpay (NUT-04, NUT-05, NUT-23)."""

from __future__ import annotations

from ledger import methods
from ledger.errors import Code, LedgerError
from ledger.ids import label_of, new_quote_id
from ledger.models import (
    MeltQuote,
    MeltQuoteBolt11Request,
    MeltQuoteLightning,
    MintQuote,
    MintQuoteBolt11,
    MintQuoteBolt11Request,
)
from ledger.operations.mint import NewMintQuote, check_pubkey
from ledger.units import to_msat
from plugin.methods.lightning import LightningMethod, Payable
from plugin.node.rpc import RpcError
from plugin.node.view import Bolt11, InvoiceInvalidError

INVOICE_EXPIRY_S = 3600
"""How long an invoice for minting can be paid."""


class Bolt11Method(LightningMethod):
    """Quotes by invoices; melts by paying invoices."""

    name = methods.BOLT11
    mint_quote_request = MintQuoteBolt11Request
    mint_quote = MintQuoteBolt11
    melt_quote_request = MeltQuoteBolt11Request
    melt_quote = MeltQuoteLightning
    mint_options = {"description": True}  # noqa: RUF012 - as declared in Method
    melt_options = {"amountless": True}  # noqa: RUF012
    pays_parts = True

    async def create_mint_quote(self, request: MintQuoteBolt11Request) -> MintQuote:
        """Make an invoice for a new quote.

        Raises 11013, 11006, 20003, 20009, and 20000 if the node could not be paid so much or makes no invoice.
        """
        self._check_unit(request.unit)
        amount_msat = to_msat(request.amount, request.unit)
        self.mint_limits.check(amount_msat, request.unit)
        check_pubkey(request.pubkey)
        self._require_room(amount_msat)
        await self._pricing.check_receivable(amount_msat)
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
                method=self.name,
                unit=request.unit,
                request=invoice.bolt11,
                amount=request.amount,
                expiry=invoice.expires_at,
                pubkey=request.pubkey,
                payment_hash=invoice.payment_hash,
            )
            return await self._store_mint_quote(quote)

    async def create_melt_quote(self, request: MeltQuoteBolt11Request) -> MeltQuote:
        """Price a payment. Raises 11013, 11006, 11011, 11012, 20005, 20006, 20007, and 20000 for an invoice that is
        bad or more than the node can pay, or while melting is paused."""
        self._ledger.policy.require_melting()
        self._check_unit(request.unit)
        try:
            invoice = await self._node.decode_bolt11(request.request, self._info)
        except InvoiceInvalidError as error:
            raise LedgerError(Code.QUOTE_REJECTED, str(error)) from error
        amount_msat = _amount_msat(request, invoice)
        partial = amount_msat != (invoice.amount_msat or amount_msat)
        if partial and invoice.payee == self._info.id:
            raise LedgerError(Code.QUOTE_REJECTED, "this node's own invoices can't be paid in parts (NUT-15)")
        payable = Payable(
            request=request.request,
            invoice=request.request,
            payment_hash=invoice.payment_hash,
            payee=invoice.payee,
            amount_msat=amount_msat,
            expires_at=invoice.expires_at,
            amountless=invoice.amount_msat is None,
            partial=partial,
            paths=invoice.paths,
        )
        return await self._store_melt_quote(payable, request.unit)


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
