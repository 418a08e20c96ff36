"""Offers: those of this node, those of the outside node, and the invoices that are fetched for them."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import coincurve

from contrib.sandbox import bolt12, news
from contrib.sandbox.bolt12 import Bolt12Error, Invoice, Offer, Path
from contrib.sandbox.errors import (
    INVALID_PARAMS,
    LIGHTNINGD,
    OFFER_ALREADY_DISABLED,
    OFFER_ALREADY_ENABLED,
    OFFER_ALREADY_EXISTS,
    OFFER_BAD_INVREQ_REPLY,
    OFFER_EXPIRED,
    OFFER_ROUTE_NOT_FOUND,
    OFFER_TIMEOUT,
    OFFER_USED_SINGLE_USE,
    RpcError,
)
from contrib.sandbox.invoices import UNPAID, Record
from contrib.sandbox.outside import OutsideInvoice, derive, sha256_hex
from contrib.sandbox.script import Behaviour, Notifications

if TYPE_CHECKING:
    from contrib.sandbox.node import Node

REFUSED = "Remote node sent failure message"
MAX_OVERPAYMENT = 5
"""An issuer gives invoices over up to this many times the amount of its offer."""
_OWN = "offer"
_OUTSIDE = "outside-offer"


@dataclass(frozen=True)
class OutsideOffer:
    """An offer of the outside node. Behaves as its string."""

    bolt12: str
    id: str

    def __str__(self) -> str:
        return self.bolt12


@dataclass(frozen=True)
class FetchBehaviour:
    """What becomes of one `fetchinvoice`. Without any the issuer gives the invoice that it was asked for."""

    delay_s: float = 0.0
    error: tuple[int, str] | None = None
    """Code and text with which it fails."""
    silent: bool = False
    """The issuer does not answer: 1005 after the time that the caller gives it."""
    amount_msat: int | None = None
    """The issuer writes another amount into the invoice than it was asked for."""
    expiry_s: int | None = None
    """How long the invoice can be paid; negative: it has expired already."""
    path: Path | None = None
    """Where the invoice's blinded path begins, and what it costs."""
    repeats: bool = False
    """The issuer gives the last invoice of the offer once more."""

    @classmethod
    def refused(cls, code: int = OFFER_BAD_INVREQ_REPLY, message: str = REFUSED) -> FetchBehaviour:
        """No invoice."""
        return cls(error=(code, message))


@dataclass
class OwnOffer:
    """An offer of this node."""

    id: str
    bolt12: str
    label: str | None
    single_use: bool
    active: bool = True
    used: bool = False

    def to_json(self) -> dict[str, Any]:
        """As `listoffers` shows it."""
        shown: dict[str, Any] = {
            "offer_id": self.id,
            "active": self.active,
            "single_use": self.single_use,
            "bolt12": self.bolt12,
            "force_paths": False,
            "used": self.used,
        }
        if self.label is not None:
            shown["label"] = self.label
        description = bolt12.read_offer(self.bolt12).description
        return shown if description is None else {**shown, "description": description}


@dataclass
class _Issued:
    """What the outside node has given invoices for."""

    behaviour: Behaviour | None = None
    invoices: list[OutsideInvoice] = field(default_factory=list)


@dataclass(frozen=True)
class Asked:
    """What a payer asks of an issuer."""

    offer: Offer
    amount_msat: int
    quantity: int | None = None
    payer_note: str | None = None

    def records(self, payer: coincurve.PrivateKey, network: str) -> dict[int, bytes]:
        """The payer's records."""
        records = {
            bolt12.METADATA: secrets.token_bytes(16),
            bolt12.INVREQ_CHAIN: bytes.fromhex(bolt12.CHAINS[network]),
            bolt12.INVREQ_AMOUNT: bolt12.number_bytes(self.amount_msat),
            bolt12.INVREQ_PAYER_ID: payer.public_key.format(),
        }
        if self.quantity is not None:
            records[bolt12.INVREQ_QUANTITY] = bolt12.number_bytes(self.quantity)
        if self.payer_note is not None:
            records[bolt12.INVREQ_PAYER_NOTE] = self.payer_note.encode()
        return records


class Offers:
    """Every offer that the node has made or can get invoices for."""

    def __init__(self, node: Node, key: coincurve.PrivateKey) -> None:
        self._node = node
        self._key = key
        self._own: dict[str, OwnOffer] = {}
        self._outside: dict[str, _Issued] = {}
        self._scripts: dict[str, deque[FetchBehaviour]] = {}
        self._next: deque[FetchBehaviour] = deque()

    def load(self) -> None:
        """Take over the offers of an earlier run."""
        self._own.update((key, OwnOffer(**saved)) for key, saved in self._node.store.all(_OWN))
        self._outside.update((key, _Issued()) for key, _ in self._node.store.all(_OUTSIDE))

    # -- this node's -------------------------------------------------------------------------------------------------

    def create(self, offer: Offer, label: str | None, *, single_use: bool) -> dict[str, Any]:
        """The `offer` command; of equal content there is only one."""
        known = self._own.get(offer.id)
        if known is not None and not known.active:
            raise RpcError(OFFER_ALREADY_EXISTS, "Already exists, but isn't active")
        if known is not None:
            return {**known.to_json(), "created": False}
        made = OwnOffer(offer.id, offer.text, label, single_use)
        self._save(made)
        if self._node.settings.auto and offer.amount_msat is not None:
            delay_s = self._node.settings.auto_delay_s
            self._node.loop.call_later(delay_s, self._pay_automatically, offer, offer.amount_msat)
        return {**made.to_json(), "created": True}

    def select(self, offer_id: str | None, *, active_only: bool) -> list[dict[str, Any]]:
        """The `listoffers` command."""
        chosen = [offer for offer in self._own.values() if offer_id in (None, offer.id)]
        return [offer.to_json() for offer in chosen if offer.active or not active_only]

    def disable(self, offer_id: str) -> dict[str, Any]:
        """The `disableoffer` command; the invoices that were given out for it can't be paid any more either."""
        offer = self._get(offer_id)
        if not offer.active:
            raise RpcError(OFFER_ALREADY_DISABLED, "offer is not active")
        self._disable(offer)
        return offer.to_json()

    def enable(self, offer_id: str) -> dict[str, Any]:
        """The `enableoffer` command."""
        offer = self._get(offer_id)
        if offer.active:
            raise RpcError(OFFER_ALREADY_ENABLED, "offer already active")
        if offer.single_use and offer.used:
            raise RpcError(OFFER_USED_SINGLE_USE, "cannot activate an used single use offer")
        offer.active = True
        self._save(offer)
        return offer.to_json()

    def note_paid(self, record: Record) -> None:
        """An invoice of this node was paid."""
        offer = None if record.offer_id is None else self._own.get(record.offer_id)
        if offer is None:
            return
        offer.used = True
        if offer.single_use and offer.active:
            self._disable(offer)
        self._save(offer)

    def invoice_of_own(self, asked: Asked, behaviour: FetchBehaviour | None = None) -> Record:
        """This node gives an invoice for an offer of its own, or refuses."""
        offer = self._own.get(asked.offer.id)
        complaint = self._complaint(offer, asked)
        if offer is None or complaint is not None:
            raise RpcError(OFFER_BAD_INVREQ_REPLY, REFUSED, {"error": f"Failed invreq lnr1…: {complaint}"})
        payer, preimage = coincurve.PrivateKey(), secrets.token_hex(32)
        invoice = self._issue(asked, payer, self._key, sha256_hex(preimage), behaviour or FetchBehaviour())
        record = Record(
            created_index=0,
            label=f"{offer.id}-{payer.public_key.format().hex()}-0",
            bolt11=invoice.text,
            payment_hash=invoice.payment_hash,
            preimage=preimage,
            description=asked.offer.description,
            expires_at=invoice.expires_at,
            amount_msat=invoice.amount_msat,
            offer_id=offer.id,
            payer_note=asked.payer_note,
        )
        self._node.invoices.add(record)
        self._node.notify_all([news.invoice_creation(record)], Notifications())
        return record

    @staticmethod
    def _complaint(offer: OwnOffer | None, asked: Asked) -> str | None:
        least = asked.offer.amount_msat
        if offer is None:
            return "Unknown offer"
        if not offer.active:
            return "Offer no longer available"
        if asked.offer.expires_at is not None and asked.offer.expires_at < time.time():
            return "Offer expired"
        least = None if least is None else least * (asked.quantity or 1)
        if least is not None and asked.amount_msat < least:
            return f"Amount must be at least {least}msat"
        if least is not None and asked.amount_msat > least * MAX_OVERPAYMENT:
            return f"Amount vastly exceeds {least}msat"
        return None

    def _disable(self, offer: OwnOffer) -> None:
        offer.active = False
        self._save(offer)
        for record in self._node.invoices.of_offer(offer.id):
            if record.status == UNPAID:
                self._node.invoices.cancel(record)

    def _get(self, offer_id: str) -> OwnOffer:
        offer = self._own.get(offer_id)
        if offer is None:
            raise RpcError(LIGHTNINGD, "Unknown offer")
        return offer

    def _save(self, offer: OwnOffer) -> None:
        self._own[offer.id] = offer
        self._node.store.put(_OWN, offer.id, dict(vars(offer)))

    def _pay_automatically(self, offer: Offer, amount_msat: int) -> None:
        own = self._own.get(offer.id)
        if not self._node.up or own is None or not own.active:
            return
        if amount_msat > self._node.channel.receivable_msat:
            self._node.log("unusual", "sandbox", "an offer is over more than the channel can receive: not paid")
            return
        self._node.receive(self.invoice_of_own(Asked(offer, amount_msat)), amount_msat, Notifications())
        self._node.flush()

    # -- the outside node's --------------------------------------------------------------------------------------------

    def add_outside(self, offer: Offer, behaviour: Behaviour | None) -> OutsideOffer:
        """The outside node has made an offer; `behaviour`: what becomes of the payment of each invoice for it."""
        self._outside[offer.id] = _Issued(behaviour)
        self._node.store.put(_OUTSIDE, offer.id, {})
        return OutsideOffer(offer.text, offer.id)

    def invoices_of_outside(self, offer_id: str) -> list[OutsideInvoice]:
        """What was given out for an offer of the outside node since the sandbox started."""
        return list(self._outside[offer_id].invoices)

    def script(self, behaviour: FetchBehaviour, offer_id: str | None, times: int) -> None:
        """Remember what is to become of the next fetches."""
        queue = self._next if offer_id is None else self._scripts.setdefault(offer_id, deque())
        queue.extend([behaviour] * times)

    # -- fetchinvoice --------------------------------------------------------------------------------------------------

    async def fetch(
        self, text: str, amount_msat: int | None, quantity: int | None, timeout_s: int, payer_note: str | None
    ) -> dict[str, Any]:
        """The `fetchinvoice` command."""
        asked = self.ask(text, amount_msat, quantity, payer_note)
        behaviour = self._take_script(asked.offer.id)
        if behaviour.delay_s:
            await asyncio.sleep(behaviour.delay_s)
        if behaviour.silent:
            await asyncio.sleep(timeout_s)
            raise RpcError(OFFER_TIMEOUT, "Timeout waiting for response")
        if behaviour.error is not None:
            raise RpcError(*behaviour.error)
        if asked.offer.issuer_id == self._node.id:
            invoice = bolt12.read_invoice(self.invoice_of_own(asked, behaviour).bolt11)
        else:
            invoice = self._invoice_of_outside(asked, behaviour)
        changes = {} if invoice.amount_msat == asked.amount_msat else {"amount_msat": invoice.amount_msat}
        return {"invoice": invoice.text, "changes": changes}

    def ask(self, text: str, amount_msat: int | None, quantity: int | None, payer_note: str | None) -> Asked:
        """What the payer's own node makes sure of before it asks."""
        try:
            offer = bolt12.read_offer(text)
            if bolt12.CHAINS[self._node.network] not in offer.chains:
                raise Bolt12Error("wrong chain")
        except Bolt12Error as error:
            raise RpcError(INVALID_PARAMS, f"offer: Unparsable offer: {error}: invalid token '\"{text}\"'") from None
        if offer.expires_at is not None and offer.expires_at < time.time():
            raise RpcError(OFFER_EXPIRED, "Offer expired")
        if offer.quantity_max is not None and quantity is None:
            raise RpcError(INVALID_PARAMS, "quantity parameter required")
        if offer.quantity_max is None and quantity is not None:
            raise RpcError(INVALID_PARAMS, "quantity parameter unnecessary")
        if offer.quantity_max and quantity is not None and quantity > offer.quantity_max:
            raise RpcError(INVALID_PARAMS, f"quantity must be <= {offer.quantity_max}")
        if offer.recurs:
            raise RpcError(INVALID_PARAMS, "needs recurrence_counter")
        if amount_msat is None and offer.amount_msat is None:
            raise RpcError(INVALID_PARAMS, "amount_msat parameter required")
        if amount_msat is None:
            amount_msat = (offer.amount_msat or 0) * (quantity or 1)
        return Asked(offer, amount_msat, quantity, payer_note)

    def _take_script(self, offer_id: str) -> FetchBehaviour:
        own = self._scripts.get(offer_id)
        if own:
            return own.popleft()
        return self._next.popleft() if self._next else FetchBehaviour()

    def _invoice_of_outside(self, asked: Asked, behaviour: FetchBehaviour) -> Invoice:
        node, issued = self._node, self._outside.get(asked.offer.id)
        if issued is None and node.settings.foreign.enabled:
            issued = self._outside[asked.offer.id] = _Issued()
        if issued is None:
            text = f"could not route or connect directly to {asked.offer.issuer_id}: no address known for peer"
            raise RpcError(OFFER_ROUTE_NOT_FOUND, f"Failed: {text}")
        if behaviour.repeats and issued.invoices:
            return bolt12.read_invoice(issued.invoices[-1].bolt11)
        preimage, payment_hash = node.outside.new_preimage()
        payer = coincurve.PrivateKey(derive(node.secret, f"payer of {payment_hash}"))
        invoice = self._issue(asked, payer, node.outside.key, payment_hash, behaviour)
        issued.invoices.append(OutsideInvoice(invoice.text, payment_hash, preimage, invoice.amount_msat))
        if issued.behaviour is not None:
            node.xpay.script(issued.behaviour, payment_hash, 1)
        return invoice

    def _issue(
        self,
        asked: Asked,
        payer: coincurve.PrivateKey,
        key: coincurve.PrivateKey,
        payment_hash: str,
        behaviour: FetchBehaviour,
    ) -> Invoice:
        amount_msat = asked.amount_msat if behaviour.amount_msat is None else behaviour.amount_msat
        expiry_s = bolt12.RELATIVE_EXPIRY_S if behaviour.expiry_s is None else behaviour.expiry_s
        created_at = int(time.time()) + min(expiry_s, 0)
        content = {
            bolt12.INVOICE_CREATED_AT: bolt12.number_bytes(created_at),
            bolt12.INVOICE_PAYMENT_HASH: bytes.fromhex(payment_hash),
            bolt12.INVOICE_AMOUNT: bolt12.number_bytes(amount_msat),
        }
        if expiry_s != bolt12.RELATIVE_EXPIRY_S:
            content[bolt12.INVOICE_RELATIVE_EXPIRY] = bolt12.number_bytes(max(expiry_s, 0))
        path = behaviour.path or Path(key.public_key.format().hex())
        return bolt12.make_invoice(asked.offer, asked.records(payer, self._node.network), content, path, key)
