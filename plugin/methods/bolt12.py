"""BOLT12: value comes in by the node's offers and goes out by xpay of an invoice fetched for one (NUT-25).

Never by xpay of an offer: that pays whatever the issuer's invoice says. The invoice is fetched when the quote is made,
so its amount, payment hash and expiry are known before any proof is taken, and it is this very invoice that is paid.
"""

from __future__ import annotations

import re

from ledger import methods
from ledger.errors import Code, LedgerError
from ledger.ids import label_of, new_quote_id
from ledger.models import (
    MeltQuote,
    MeltQuoteBolt12Request,
    MeltQuoteLightning,
    MintQuote,
    MintQuoteBolt12,
    MintQuoteBolt12Request,
)
from ledger.operations.mint import NewMintQuote, check_pubkey
from ledger.units import to_msat
from plugin.methods.lightning import Lightning, LightningMethod, Payable
from plugin.methods.method import Mint
from plugin.node.offers import Bolt12Invoice, Offer, OfferError
from plugin.node.rpc import RpcError


class Bolt12Method(LightningMethod):
    """Quotes by offers; melts by paying invoices of offers."""

    name = methods.BOLT12
    mint_quote_request = MintQuoteBolt12Request
    mint_quote = MintQuoteBolt12
    melt_quote_request = MeltQuoteBolt12Request
    melt_quote = MeltQuoteLightning
    melt_quote_cost = 5  # an invoice is fetched over the network, and few can be under way at once
    mint_options = {"description": True}  # noqa: RUF012 - as declared in Method
    melt_options = {"amountless": True}  # noqa: RUF012

    def __init__(self, mint: Mint, lightning: Lightning) -> None:
        super().__init__(mint, lightning)
        self._offers = lightning.offers

    async def create_mint_quote(self, request: MintQuoteBolt12Request) -> MintQuote:
        """Make an offer for a new quote, which can be paid for ever, and any number of times.

        Raises 11013, 11006, 20003, 20009, and 20000 if the node could not be paid so much or makes no offer.
        """
        self._check_unit(request.unit)
        amount_msat = None if request.amount is None else to_msat(request.amount, request.unit)
        if amount_msat is not None:
            self.mint_limits.check(amount_msat, request.unit)
        if request.pubkey is None:
            raise LedgerError(Code.PUBKEY_INVALID, "an offer can be paid again and again: its quote needs a pubkey")
        check_pubkey(request.pubkey)
        self._require_room(amount_msat)
        if amount_msat is not None:
            await self._pricing.check_receivable(amount_msat)
        quote_id = new_quote_id()
        token = label_of(quote_id)  # makes the offer one of its kind; an offer is public, the quote's id is not
        try:
            offer = await self._offers.create(
                amount_msat, request.description or "", f"{self._settings.name} {token}", token
            )
        except RpcError as error:
            raise LedgerError(Code.QUOTE_REJECTED, f"the node makes no offer: {error.message}") from error
        quote = NewMintQuote(
            id=quote_id,
            method=self.name,
            unit=request.unit,
            request=offer.bolt12,
            amount=request.amount,
            expiry=None,
            pubkey=request.pubkey,
            label=offer.id,
        )
        with self._receipts.making(offer.id):
            if not await self._offers.is_reachable(offer):
                await self._offers.disable(offer)
                raise LedgerError(
                    Code.QUOTE_REJECTED, "the network does not know this mint's node: nobody could pay its offers"
                )
            return await self._store_mint_quote(quote)

    async def create_melt_quote(self, request: MeltQuoteBolt12Request) -> MeltQuote:
        """Fetch an invoice and price its payment.

        Raises 11013, 11006, 11011, 11012, 20005, 20006, 20007, and 20000 for an offer that can't be paid, or while
        melting is paused.
        """
        self._ledger.policy.require_melting()
        self._check_unit(request.unit)
        try:
            name, offer = await self._read(request.request)
            amount_msat = _amount_msat(request, offer)
            self.melt_limits.check(amount_msat, request.unit)
            if offer.expires_at is not None and offer.expires_at <= self._ledger.now():
                raise LedgerError(Code.QUOTE_EXPIRED, "the offer has expired")
            invoice = await self._offers.fetch_invoice(offer, amount_msat, name)
        except OfferError as error:
            raise LedgerError(Code.QUOTE_REJECTED, str(error)) from error
        return await self._store_melt_quote(_payable(request, invoice, amount_msat), request.unit)

    async def _read(self, request: str) -> tuple[str | None, Offer]:
        """The offer that a wallet sent, and the name that it sent instead of it (BIP 353)."""
        text = re.sub(r"^lightning:", "", request.strip(), flags=re.IGNORECASE)
        name = text if "@" in text else None
        if name is not None:
            text = await self._offers.resolve(name)
        text = re.sub(r"\+\s*", "", text)  # long offers may be written in several lines (BOLT12)
        return name, await self._offers.decode(text, self._info.network)


def _amount_msat(request: MeltQuoteBolt12Request, offer: Offer) -> int:
    """What this mint shall pay: the offer's amount, or the one named for an offer that leaves it open (NUT-25)."""
    amountless = request.options.amountless if request.options is not None else None
    if request.options is not None and request.options.mpp is not None:
        raise LedgerError(Code.QUOTE_REJECTED, "only a BOLT11 invoice can be paid in parts (NUT-15)")
    if offer.amount_msat is None:
        if amountless is None:
            raise LedgerError(Code.AMOUNTLESS_UNSUPPORTED, "the offer names no amount: options.amountless is missing")
        return amountless.amount_msat
    if amountless is not None and amountless.amount_msat != offer.amount_msat:
        raise LedgerError(Code.AMOUNT_MISMATCH, "options.amountless differs from the offer's amount")
    return offer.amount_msat


def _payable(request: MeltQuoteBolt12Request, invoice: Bolt12Invoice, amount_msat: int) -> Payable:
    """The payment of an invoice, which must be over what was asked for: an issuer can write anything."""
    if invoice.amount_msat != amount_msat:
        raise LedgerError(
            Code.AMOUNT_MISMATCH,
            f"the offer's issuer was asked for an invoice over {amount_msat} msat, and sent one over "
            f"{invoice.amount_msat} msat",
        )
    return Payable(
        request=request.request,
        invoice=invoice.bolt12,
        payment_hash=invoice.payment_hash,
        payee=invoice.payee,
        amount_msat=amount_msat,
        expires_at=invoice.expires_at,
        paths=invoice.paths,
    )
