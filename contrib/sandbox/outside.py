"""The rest of the network, as one node that issues invoices, is paid, and pays."""

from __future__ import annotations

import hashlib
import hmac
import time
from dataclasses import dataclass, replace
from typing import Any

import coincurve

from contrib.sandbox import bolt11
from contrib.sandbox.store import Store

_KIND = "outside"
DEFAULT_EXPIRY_S = 7 * 24 * 3600
MIN_FINAL_CLTV = 10
EXTENDED_EXPIRY_S = 24 * 3600
"""How far in the future an expired invoice's end is moved when expired invoices are to be paid as well."""


@dataclass(frozen=True)
class OutsideInvoice:
    """An invoice of the outside node. Behaves as its string; `bolt11` is that also if it is one of BOLT 12."""

    bolt11: str
    payment_hash: str
    preimage: str
    amount_msat: int | None

    def __str__(self) -> str:
        return self.bolt11


def derive(secret: bytes, purpose: str) -> bytes:
    """32 bytes that depend on nothing but the node's secret and a purpose."""
    return hmac.new(secret, purpose.encode(), hashlib.sha256).digest()


def sha256_hex(preimage: str) -> str:
    """The payment hash of a preimage."""
    return hashlib.sha256(bytes.fromhex(preimage)).hexdigest()


@dataclass
class ForeignInvoices:
    """Which invoices of strangers are treated as payable, and as what.

    Nobody can pay a stranger's invoice without the network, and nobody can make up a preimage for its payment hash.
    So where strangers' invoices are to be "paid", the node shows another payment hash for them, one whose preimage it
    derives from its own secret, and shows that one everywhere: in `decode`, rows, notifications, HTLCs. The mint, which
    checks preimage against hash, is satisfied; a wallet that compares with the invoice itself will notice.
    """

    enabled: bool = False
    prefix: str | None = None
    """A further currency prefix that is accepted, and shown as the node's own network."""
    pay_expired: bool = False


class Outside:
    """The outside node and what it knows."""

    def __init__(self, store: Store, secret: bytes, currency: str, foreign: ForeignInvoices, own_id: str) -> None:
        self._store = store
        self._secret = secret
        self._currency = currency
        self._foreign = foreign
        self._own_id = own_id
        self.key = coincurve.PrivateKey(derive(secret, "outside node"))
        self.node_id = self.key.public_key.format().hex()
        self.peer_id = coincurve.PrivateKey(derive(secret, "peer")).public_key.format().hex()
        self._issued: dict[str, dict[str, Any]] = {}

    def load(self) -> None:
        """Take over the invoices of an earlier run."""
        self._issued.update(self._store.all(_KIND))

    def issue(
        self,
        amount_msat: int | None,
        description: str,
        expiry_s: int,
        created_at: int | None,
        hints: tuple[tuple[bolt11.Hop, ...], ...] = (),
    ) -> OutsideInvoice:
        """A new invoice of the outside node."""
        preimage, payment_hash = self.new_preimage()
        text = bolt11.encode(
            bolt11.Invoice(
                currency=self._currency,
                created_at=int(time.time()) if created_at is None else created_at,
                payment_hash=payment_hash,
                payment_secret=derive(self._secret, f"secret {payment_hash}").hex(),
                amount_msat=amount_msat,
                description=description,
                expiry_s=expiry_s,
                min_final_cltv=MIN_FINAL_CLTV,
                routes=hints,
            ),
            self.key,
        )
        return OutsideInvoice(text, payment_hash, preimage, amount_msat)

    def new_preimage(self) -> tuple[str, str]:
        """A new preimage with its hash, for which the outside node now waits."""
        preimage = derive(self._secret, f"outside invoice {len(self._issued)} {time.time_ns()}").hex()
        payment_hash = sha256_hex(preimage)
        self._put(payment_hash, {"preimage": preimage, "paid": False})
        return preimage, payment_hash

    def preimage(self, payment_hash: str) -> str | None:
        """The preimage of an invoice which the outside node has issued or a stranger's which is treated so."""
        known = self._issued.get(payment_hash)
        return None if known is None else str(known["preimage"])

    def accepts(self, payment_hash: str) -> bool:
        """Whether the outside node waits for a payment of this hash."""
        known = self._issued.get(payment_hash)
        return known is not None and not known["paid"]

    def mark_paid(self, payment_hash: str) -> None:
        """The outside node has got its money; a further payment of this invoice it refuses."""
        known = self._issued.get(payment_hash)
        if known is not None:
            self._put(payment_hash, {**known, "paid": True})

    def read(self, text: str) -> bolt11.Invoice:
        """An invoice as this node sees it; raises :class:`bolt11.Bolt11Error`."""
        invoice = bolt11.decode(text)
        if not self._foreign.enabled or invoice.payee == self._own_id:
            return invoice
        if invoice.currency == self._foreign.prefix:
            invoice = replace(invoice, currency=self._currency)
        if invoice.currency != self._currency or invoice.payment_hash in self._issued:
            return self._prolong(invoice)
        preimage = derive(self._secret, f"foreign {invoice.payment_hash}").hex()
        payment_hash = sha256_hex(preimage)
        if payment_hash not in self._issued:
            self._put(payment_hash, {"preimage": preimage, "paid": False})
        return self._prolong(replace(invoice, payment_hash=payment_hash))

    def _prolong(self, invoice: bolt11.Invoice) -> bolt11.Invoice:
        now = int(time.time())
        if not self._foreign.pay_expired or invoice.expires_at > now:
            return invoice
        return replace(invoice, expiry_s=now - invoice.created_at + EXTENDED_EXPIRY_S)

    def _put(self, payment_hash: str, known: dict[str, Any]) -> None:
        self._issued[payment_hash] = known
        self._store.put(_KIND, payment_hash, known)
