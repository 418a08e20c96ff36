"""Offers (BOLT12) as a mint needs them: to make them, and to fetch an invoice for one. Knows nothing of Cashu."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from plugin.node.rpc import NodeRpc, RpcError
from plugin.node.view import PathHead

FETCH_INTERVAL_S = 0.6
"""Peers relay 4 onion messages at once and then one in 250 ms; more are dropped, and nobody is told (`lightningd`).
Question and answer may go over the same peer."""
FETCH_TIMEOUT_S = 8
"""How long the issuer of an offer, or of a name, may take to answer."""
FETCH_ATTEMPTS = 2
"""Onion messages get lost; so many times an issuer is asked."""
MAX_WAITING_FETCHES = 20
"""Requests that wait for their turn; further ones are refused."""

METHOD_NOT_FOUND = -32601
OFFER_EXPIRED = 1002
OFFER_NO_ROUTE = 1003
OFFER_REFUSED = 1004
OFFER_TIMEOUT = 1005
DEFAULT_INVOICE_EXPIRY_S = 7200
"""Of an invoice that doesn't say how long it can be paid (BOLT12)."""

BITCOIN = "6fe28c0ab6f1b372c1a6a246ae63f74f931e8365e15a089c68d6190000000000"
"""The chain of an offer that names none."""
CHAINS = {
    "bitcoin": BITCOIN,
    "testnet": "43497fd7f826957108f4a30fd9cec3aeba79972084e90ead01ea330900000000",
    "testnet4": "43f08bdab050e35b567c864b91f47f50ae725ae2de53bcfbbaf284da00000000",
    "signet": "f61eee3b63a380a477a063af32b2bbc97c9ff9f01f2c4225e973988108000000",
    "regtest": "06226e46111a0b59caaf126043eb5bbf28c34f3a5e332a1fc7b2b73cf188910f",
}
"""Genesis block hashes, as offers name them."""


class OfferError(Exception):
    """The node can't do this with an offer; says why, in words that may be told to a wallet."""


@dataclass(frozen=True, slots=True)
class OwnOffer:
    """An offer made by this node. `id` is part of every invoice that is fetched for it."""

    id: str
    bolt12: str


@dataclass(frozen=True, slots=True)
class Offer:
    """A decoded offer that this node could pay. `amount_msat` is None if the payer says how much; `quantified`: it is
    for a number of things, each at that amount."""

    bolt12: str
    amount_msat: int | None
    expires_at: int | None
    quantified: bool


@dataclass(frozen=True, slots=True)
class Bolt12Invoice:
    """A decoded BOLT12 invoice. `expires_at` is in unix seconds."""

    bolt12: str
    payment_hash: bytes
    payee: str
    amount_msat: int
    expires_at: int
    paths: tuple[PathHead, ...]


class Offers:
    """Asks and commands lightningd.

    All methods raise NodeUnavailableError, OutcomeUnknownError and RpcError; what they say of errors comes on top."""

    def __init__(self, rpc: NodeRpc) -> None:
        self._rpc = rpc
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._next_turn_at = 0.0

    async def create(self, amount_msat: int | None, description: str, issuer: str, label: str) -> OwnOffer:
        """A new offer. Its content must be unlike that of any other: lightningd makes no two offers of equal content.

        Raises RpcError if there is one already, or lightningd refuses a text."""
        amount = "any" if amount_msat is None else f"{amount_msat}msat"
        made = await self._rpc.call("offer", amount=amount, description=description, issuer=issuer, label=label)
        if not made["created"]:
            raise RpcError("offer", 0, "there is an offer of this content already")
        return OwnOffer(made["offer_id"], made["bolt12"])

    async def is_reachable(self, offer: OwnOffer) -> bool:
        """Whether an own offer says how to ask for its invoices, or the network knows. If not it is good for nothing,
        of which lightningd doesn't warn."""
        decoded = await self._rpc.call("decode", string=offer.bolt12)
        if "offer_paths" in decoded:
            return True
        return bool((await self._rpc.call("listnodes", id=decoded["offer_issuer_id"]))["nodes"])

    async def disable(self, offer: OwnOffer) -> None:
        """Give no more invoices for an own offer; those given out can't be paid any more either."""
        await self._rpc.call("disableoffer", offer_id=offer.id)

    async def resolve(self, name: str) -> str:
        """The offer that stands behind a name like `alice@example.com` (BIP 353). Raises OfferError."""
        await self._take_turn()
        try:
            async with asyncio.timeout(FETCH_TIMEOUT_S):
                found = await self._rpc.call("fetchbip353", address=name)
        except TimeoutError:
            raise OfferError("the name could not be resolved in time: try again") from None
        except RpcError as error:
            if error.code == METHOD_NOT_FOUND:
                raise OfferError("this mint's node can't resolve names (BIP 353): send the offer itself") from None
            raise OfferError("the name can't be resolved (BIP 353)") from None
        for instruction in found["instructions"]:
            if "offer" in instruction:
                return str(instruction["offer"])
        raise OfferError("the name stands for no offer (BIP 353)")

    async def decode(self, text: str, network: str) -> Offer:
        """Raises OfferError for anything but an offer that this node could pay, if it has not expired."""
        try:
            decoded = await self._rpc.call("decode", string=text)
        except RpcError:
            raise OfferError("request is not a BOLT12 offer") from None
        if decoded.get("type") != "bolt12 offer" or not decoded.get("valid"):
            raise OfferError("request is not a valid BOLT12 offer")
        if CHAINS.get(network) not in decoded.get("offer_chains", [BITCOIN]):
            raise OfferError(f"the offer is for another network; this node is on {network}")
        if "offer_currency" in decoded:
            raise OfferError("the offer's price is in another currency than bitcoin, which this mint can't pay")
        if decoded.get("offer_paths") == []:  # lightningd v26.06 dies of it when asked for an invoice
            raise OfferError("the offer has an empty list of paths: nobody can be asked for its invoice")
        if any(name.startswith("offer_recurrence") for name in decoded):
            raise OfferError("the offer is for repeated payments, which this mint can't make")
        return Offer(
            text,
            decoded.get("offer_amount_msat"),
            decoded.get("offer_absolute_expiry"),
            "offer_quantity_max" in decoded,
        )

    async def fetch_invoice(self, offer: Offer, amount_msat: int, name: str | None = None) -> Bolt12Invoice:
        """Ask the issuer of an offer for an invoice. What it asks for may differ from `amount_msat`.

        `name`: what the offer was found by (BIP 353). Raises OfferError if there is no invoice to be had."""
        params: dict[str, Any] = {"offer": offer.bolt12, "amount_msat": amount_msat, "timeout": FETCH_TIMEOUT_S}
        if offer.quantified:
            params["quantity"] = 1
        if name is not None:
            params["bip353"] = name
        invoice = await self._fetch(params, FETCH_ATTEMPTS)
        try:
            return _read_invoice(invoice, await self._rpc.call("decode", string=invoice))
        except (RpcError, LookupError, TypeError, ValueError):
            raise OfferError("the offer's issuer gives an invoice that can't be read") from None

    async def _fetch(self, params: dict[str, Any], attempts_left: int) -> str:
        await self._take_turn()
        try:
            return str((await self._rpc.call("fetchinvoice", **params))["invoice"])
        except RpcError as error:
            if error.code == OFFER_TIMEOUT and attempts_left > 1:
                return await self._fetch(params, attempts_left - 1)
            raise OfferError(_REASONS.get(error.code, "this mint's node can't pay this offer")) from None

    async def _take_turn(self) -> None:
        """One after the other, and not too fast. Raises OfferError if too many wait already."""
        if self._waiting >= MAX_WAITING_FETCHES:
            raise OfferError("too many offers are waiting for their invoices: try again in some seconds")
        self._waiting += 1
        try:
            async with self._turn:
                await asyncio.sleep(self._next_turn_at - time.monotonic())
                self._next_turn_at = time.monotonic() + FETCH_INTERVAL_S
        finally:
            self._waiting -= 1


_REASONS = {
    OFFER_EXPIRED: "the offer has expired",
    OFFER_NO_ROUTE: "the offer's issuer can't be reached",
    OFFER_REFUSED: "the offer's issuer gives no invoice for it: it may have been used up or withdrawn",
    OFFER_TIMEOUT: "no answer of the offer's issuer arrived in time: try again",
}
"""Why there is no invoice, for a wallet. The issuer's own words may be anything: they stay here."""


def _read_invoice(text: str, decoded: dict[str, Any]) -> Bolt12Invoice:
    expiry_s = decoded.get("invoice_relative_expiry", DEFAULT_INVOICE_EXPIRY_S)
    return Bolt12Invoice(
        text,
        bytes.fromhex(decoded["invoice_payment_hash"]),
        decoded["invoice_node_id"],
        decoded["invoice_amount_msat"],
        decoded["invoice_created_at"] + expiry_s,
        tuple(_read_path(path) for path in decoded["invoice_paths"]),
    )


def _read_path(path: dict[str, Any]) -> PathHead:
    costs = path["payinfo"]
    return PathHead(
        path.get("first_node_id"),
        costs["fee_base_msat"],
        costs["fee_proportional_millionths"],
        costs["cltv_expiry_delta"],
        costs["htlc_minimum_msat"],
        costs["htlc_maximum_msat"],
    )
