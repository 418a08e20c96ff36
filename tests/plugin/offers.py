"""What the tests of bolt12 are written with: a purse that is filled by offers, and pays them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from coincurve import PrivateKey

from contrib.sandbox import OutsideInvoice, OutsideOffer
from contrib.wallet import Output, WalletProof, messages, quote_lock, unblind
from ledger.models import MintQuoteBolt12
from tests.plugin.harness import Melt, Mint, Purse, wait_for

FETCH_AT_ONCE = {"plugin.node.offers:FETCH_INTERVAL_S": 0}
"""A constant for mints whose peers drop no messages."""


class OfferPurse(Purse):
    """A purse whose mint quotes are offers, each locked to a key of its own, and whose melts pay offers. (What it
    melts comes from invoices, though.)"""

    method = "bolt12"

    def __init__(self, mint: Mint, unit: str = "sat") -> None:
        super().__init__(mint, unit)
        self.keys: dict[str, PrivateKey] = {}

    def request_offer(self, amount: int | None = 100, **options: Any) -> MintQuoteBolt12:
        """A new mint quote."""
        key = PrivateKey()
        quote = self.client.request_mint_offer(
            amount, self.unit, **{"pubkey": key.public_key.format().hex(), **options}
        )
        self.keys[quote.quote] = key
        self.mint.secrets.add(quote.quote)
        return quote

    def look_offer(self, quote: MintQuoteBolt12) -> MintQuoteBolt12:
        """`GET` the mint quote."""
        return self.client.mint_offer(quote.quote)

    def wait_paid(self, quote: MintQuoteBolt12, amount: int) -> MintQuoteBolt12:
        """Wait until the mint has noticed so much for a mint quote."""
        found = wait_for(
            lambda: now if (now := self.look_offer(quote)).amount_paid == amount else None, f"{amount} to be credited"
        )
        assert found is not None
        return found

    def paid_offer(self, amount: int = 100) -> MintQuoteBolt12:
        """A mint quote for which so much was paid."""
        quote = self.request_offer(None)
        self.mint.node.pay_invoice(quote.request, amount * 1000)
        return self.wait_paid(quote, amount)

    def sign(self, quote: MintQuoteBolt12, outputs: Sequence[Output]) -> str:
        """The signature that the quote's key makes for these outputs (NUT-20)."""
        return quote_lock.sign(self.keys[quote.quote], quote_lock.message(quote.quote, messages(outputs)))

    def collect_offer(self, quote: MintQuoteBolt12, amount: int) -> list[WalletProof]:
        """Have ecash issued."""
        outputs = self.outputs(amount)
        signature = self.sign(quote, outputs)
        made = self.client.mint(quote.quote, messages(outputs), signature=signature, method="bolt12")
        return unblind(outputs, made, self.keysets)

    def prepare_offer(self, offer: OutsideOffer, **options: Any) -> Melt:
        """A melt that pays this offer, ready to be posted."""
        melt = self.prepare(str(offer), **options)
        melt.invoice = self.invoice_of(offer)
        return melt

    def invoice_of(self, offer: OutsideOffer) -> OutsideInvoice:
        """The invoice that was fetched last for an offer."""
        invoice = self.mint.node.outside_invoices(offer)[-1]
        self.mint.secrets.add(invoice.preimage)
        return invoice
