"""BOLT12: value comes in by the node's offers and goes out by xpay of an invoice fetched for one (NUT-25)."""

from __future__ import annotations

from ledger import methods
from ledger.errors import Code, LedgerError
from ledger.models import (
    MeltQuote,
    MeltQuoteBolt12Request,
    MeltQuoteLightning,
    MintQuote,
    MintQuoteBolt12,
    MintQuoteBolt12Request,
)
from plugin.methods.lightning import LightningMethod


class Bolt12Method(LightningMethod):
    """Quotes by offers; melts by paying invoices of offers."""

    name = methods.BOLT12
    mint_quote_request = MintQuoteBolt12Request
    mint_quote = MintQuoteBolt12
    melt_quote_request = MeltQuoteBolt12Request
    melt_quote = MeltQuoteLightning
    mint_options = {"description": True}  # noqa: RUF012 - as declared in Method
    melt_options = {"amountless": True}  # noqa: RUF012

    async def create_mint_quote(self, request: MintQuoteBolt12Request) -> MintQuote:
        """TODO."""
        raise LedgerError(Code.QUOTE_REJECTED, "not yet")

    async def create_melt_quote(self, request: MeltQuoteBolt12Request) -> MeltQuote:
        """TODO."""
        raise LedgerError(Code.QUOTE_REJECTED, "not yet")
