"""The node as a mint needs to see it: a few typed questions and commands on top of the RPC. Knows nothing of Cashu."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from plugin.node.rpc import NodeRpc, RpcError

INVALID_PARAMS = -32602
NO_INVOICE_PAID = 904
DEAD_OUTGOING_HTLC = "RCVD_REMOVE_ACK_REVOCATION"
"""State of an outgoing HTLC that has been removed for good; `listhtlcs` goes on showing it."""

MOVES_PAGE = 1000
"""Most account moves that are asked for at once."""

NO_MAXIMUM_MSAT = 2**64 - 1
"""For a path that names no largest amount."""

ENDED_CHANNEL_STATES = frozenset({"ONCHAIN", "CLOSED"})
"""Their money is among the coins, or gone."""

BOLT11_PREFIX = {"bitcoin": "bc", "testnet": "tb", "testnet4": "tb", "signet": "tbs", "regtest": "bcrt"}


class InvoiceInvalidError(Exception):
    """The text is no invoice that this node could pay; says why."""


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """From `getinfo`."""

    id: str
    network: str
    version: str


@dataclass(frozen=True, slots=True)
class PathHead:
    """A way to a destination as an invoice describes it: the node where it begins, and what the whole rest of it asks
    for. A blinded path of BOLT12 says just that; the hops of a BOLT11 route hint are added up to it.

    `node_id` is None for a path that names a channel instead."""

    node_id: str | None
    fee_base_msat: int
    fee_proportional_millionths: int
    cltv_expiry_delta: int
    htlc_minimum_msat: int
    htlc_maximum_msat: int


@dataclass(frozen=True, slots=True)
class Funds:
    """What the node owns, in millisatoshis. `channels_msat`: its side of the `channels` that are open; `onchain_msat`:
    the coins that count (see `Node.funds`). The rest says how all coins of its wallet stand."""

    channels: int
    channels_msat: int
    onchain_msat: int
    confirmed_msat: int
    unconfirmed_msat: int
    reserved_msat: int


@dataclass(frozen=True, slots=True)
class Bolt11:
    """A decoded BOLT11 invoice. `amount_msat` is None if it names none; `expires_at` is in unix seconds.

    `paths`: the payee itself, then one for each route hint."""

    payment_hash: bytes
    payee: str
    amount_msat: int | None
    expires_at: int
    paths: tuple[PathHead, ...] = ()


@dataclass(frozen=True, slots=True)
class OwnInvoice:
    """An invoice made by this node."""

    bolt11: str
    payment_hash: bytes
    expires_at: int


@dataclass(frozen=True, slots=True)
class PaidInvoice:
    """An invoice of this node that was paid; `pay_index` counts them over all of the node's invoices. `offer_id` is
    None if it was made for no offer."""

    label: str
    offer_id: str | None
    payment_hash: bytes
    received_msat: int
    pay_index: int


@dataclass(frozen=True, slots=True)
class Credited:
    """An account move: what came in by a part of a payment for an invoice of the node; 0 for any other move."""

    index: int
    payment_hash: bytes
    msat: int


@dataclass(frozen=True, slots=True)
class SendRow:
    """One part (HTLC attempt) of an outgoing payment, from `listsendpays`. `status`: pending, complete or failed;
    `group` is the same for all parts of one xpay."""

    status: str
    label: str | None
    group: int
    amount_msat: int
    sent_msat: int
    preimage: bytes | None
    created_at: int


@dataclass(frozen=True, slots=True)
class Htlc:
    """An HTLC on a channel of this node's. `expiry`: the height from which on it can be taken back; `channel` and
    `peer` (node id) are None where the node doesn't tell."""

    payment_hash: bytes
    amount_msat: int
    expiry: int
    channel: str | None
    peer: str | None


@dataclass(frozen=True, slots=True)
class Sent:
    """What xpay answered: the preimage, and an upper bound of what left the node."""

    preimage: bytes
    sent_msat: int


class Node:
    """Asks and commands lightningd.

    All methods raise NodeUnavailableError, OutcomeUnknownError and RpcError; what they say of errors comes on top."""

    def __init__(self, rpc: NodeRpc) -> None:
        self._rpc = rpc

    async def info(self) -> NodeInfo:
        """Who the node is."""
        info = await self._rpc.call("getinfo")
        return NodeInfo(info["id"], info["network"], info["version"])

    async def secret(self, purpose: str) -> bytes:
        """32 bytes derived from the node's own secret (`makesecret`), the same ones for ever."""
        return bytes.fromhex((await self._rpc.call("makesecret", string=purpose))["secret"])

    async def recall_below(self, key: list[str]) -> dict[str, str]:
        """Every text in the node's datastore whose key begins so and has one part more: by that part."""
        found = (await self._rpc.call("listdatastore", key=key))["datastore"]
        below = [entry for entry in found if "hex" in entry and len(entry["key"]) == len(key) + 1]
        return {entry["key"][-1]: bytes.fromhex(entry["hex"]).decode() for entry in below}

    async def forget(self, key: list[str]) -> None:
        """Delete what is stored there."""
        await self._rpc.call("deldatastore", key=key)

    async def recall(self, key: list[str]) -> str | None:
        """A text from the node's datastore."""
        found = (await self._rpc.call("listdatastore", key=key))["datastore"]
        return bytes.fromhex(found[0]["hex"]).decode() if found and "hex" in found[0] else None

    async def remember(self, key: list[str], text: str) -> None:
        """Store a text in the node's datastore."""
        await self._rpc.call("datastore", key=key, string=text, mode="create-or-replace")

    async def funds(self, own_txids: Collection[str]) -> Funds:
        """What the node owns for certain: its side of open channels, and its coins.

        A coin that is reserved is about to be spent, so it doesn't count; nor does one that is in no block yet, which
        the node goes on listing if it never comes there, unless it comes from one of these transactions."""
        found = await self._rpc.call("listfunds")
        channels = [c["our_amount_msat"] for c in found["channels"] if c["state"] not in ENDED_CHANNEL_STATES]
        counted = confirmed = unconfirmed = reserved = 0
        for output in found["outputs"]:
            msat = output["amount_msat"]
            if output["status"] == "unconfirmed":
                unconfirmed += msat
                counted += msat if output["txid"] in own_txids else 0
            elif output["reserved"]:
                reserved += msat
            elif output["status"] == "confirmed":
                confirmed += msat
                counted += msat
        return Funds(len(channels), sum(channels), counted, confirmed, unconfirmed, reserved)

    # --- receiving ------------------------------------------------------------------------------------------------

    async def create_invoice(self, label: str, amount_msat: int, description: str, expiry_s: int) -> OwnInvoice:
        """Raises RpcError if lightningd refuses, for example, the description."""
        made = await self._rpc.call(
            "invoice", label=label, amount_msat=amount_msat, description=description, expiry=expiry_s
        )
        return OwnInvoice(made["bolt11"], bytes.fromhex(made["payment_hash"]), made["expires_at"])

    async def next_paid_invoice(self, after: int) -> PaidInvoice | None:
        """The first invoice paid after the one with pay index `after`; None if there is none yet. Doesn't wait."""
        try:
            paid = await self._rpc.call("waitanyinvoice", lastpay_index=after, timeout=0)
        except RpcError as error:
            if error.code == NO_INVOICE_PAID:
                return None
            raise
        return PaidInvoice(
            str(paid["label"]),
            paid.get("local_offer_id"),
            bytes.fromhex(paid["payment_hash"]),
            paid["amount_received_msat"],
            paid["pay_index"],
        )

    # --- sending --------------------------------------------------------------------------------------------------

    async def decode_bolt11(self, text: str, info: NodeInfo) -> Bolt11:
        """Raises InvoiceInvalidError for anything but a BOLT11 invoice of this node's network."""
        try:
            decoded = await self._rpc.call("decode", string=text)
        except RpcError:
            raise InvoiceInvalidError("request is not a BOLT11 invoice") from None
        if decoded.get("type") != "bolt11 invoice" or not decoded.get("valid"):
            raise InvoiceInvalidError("request is not a valid BOLT11 invoice")
        if decoded["currency"] != BOLT11_PREFIX.get(info.network):
            raise InvoiceInvalidError(f"the invoice is for another network; this node is on {info.network}")
        return Bolt11(
            bytes.fromhex(decoded["payment_hash"]),
            decoded["payee"],
            decoded.get("amount_msat"),
            decoded["created_at"] + decoded["expiry"],
            tuple(_paths(decoded, info.id)),
        )

    async def pay(
        self,
        invoice: str,
        *,
        amount_msat: int | None,
        partial_msat: int | None,
        maxfee_msat: int,
        label: str,
        maxdelay: int,
        retry_for_s: int,
    ) -> Sent:
        """xpay, of a BOLT11 or BOLT12 invoice. Returns at success; while an HTLC is held it stays open, for days.

        `amount_msat` is for invoices that name none, `partial_msat` for a part of one whose rest others pay.

        RpcError means that xpay has given up, not that nothing was paid: parts may still be in flight.
        """
        params: dict[str, Any] = {
            "invstring": invoice,
            "maxfee": maxfee_msat,
            "label": label,
            "maxdelay": maxdelay,
            "retry_for": retry_for_s,
        }
        if amount_msat is not None:
            params["amount_msat"] = amount_msat
        if partial_msat is not None:
            params["partial_msat"] = partial_msat
        sent = await self._rpc.call_long("xpay", **params)
        return Sent(bytes.fromhex(sent["payment_preimage"]), sent["amount_sent_msat"])

    async def send_rows(self, payment_hash: bytes) -> list[SendRow]:
        """Every part that this node has recorded for a payment hash, whoever started it."""
        rows = (await self._rpc.call("listsendpays", payment_hash=payment_hash.hex()))["payments"]
        return [
            SendRow(
                row["status"],
                row.get("label"),
                row["groupid"],
                row.get("amount_msat", 0),
                row["amount_sent_msat"],
                bytes.fromhex(row["payment_preimage"]) if "payment_preimage" in row else None,
                row["created_at"],
            )
            for row in rows
        ]

    async def is_paying(self, payment_hash: bytes, label: str) -> bool:
        """Whether an xpay with this label is under way, as far as `listpays` says: it shows none before its first part,
        and for some milliseconds it still shows one that has ended."""
        pays = (await self._rpc.call("listpays", payment_hash=payment_hash.hex()))["pays"]
        return any(pay["status"] == "pending" and pay.get("label") == label for pay in pays)

    async def has_live_htlc(self, payment_hash: bytes) -> bool:
        """Whether an HTLC of this hash is on any channel, also on one that is being closed."""
        return bool(await self.live_htlcs({payment_hash}))

    async def live_htlcs(self, payment_hashes: Collection[bytes]) -> list[Htlc]:
        """The HTLCs of these hashes that are on any channel, also on one that is being closed."""
        wanted = {payment_hash.hex() for payment_hash in payment_hashes}
        listed = (await self._rpc.call("listhtlcs"))["htlcs"]
        channels = (await self._rpc.call("listpeerchannels"))["channels"]
        peers = {
            channel["short_channel_id"]: channel["peer_id"] for channel in channels if "short_channel_id" in channel
        }
        found: dict[tuple[str | None, str, int], Htlc] = {}
        for htlc in listed:
            is_live = htlc["direction"] == "out" and htlc["state"] != DEAD_OUTGOING_HTLC
            if is_live and htlc["payment_hash"] in wanted:
                channel = htlc.get("short_channel_id")
                found[channel, htlc["direction"], htlc["id"]] = _htlc(htlc, channel, peers.get(channel))
        for place in channels:
            channel, peer = place.get("short_channel_id"), place["peer_id"]
            for htlc in place.get("htlcs", []):
                if htlc["payment_hash"] in wanted:
                    found.setdefault((channel, htlc["direction"], htlc["id"]), _htlc(htlc, channel, peer))
        return list(found.values())

    async def height(self) -> int:
        """The block up to which the node has followed the chain."""
        return int((await self._rpc.call("getinfo"))["blockheight"])

    async def has_invoice(self, payment_hash: bytes) -> bool:
        """Whether an invoice of this node's own has this hash, in whatever state."""
        return bool((await self._rpc.call("listinvoices", payment_hash=payment_hash.hex()))["invoices"])

    async def credits(self, after: int) -> list[Credited]:
        """Some of the account moves after no. `after`, in their order: what came in for invoices. Nothing deletes them,
        but what invoices of offers came to can't be told from them, and what the node pays itself leaves none."""
        moves = (await self._rpc.call("listchannelmoves", index="created", start=after + 1, limit=MOVES_PAGE))[
            "channelmoves"
        ]
        return [
            Credited(
                move["created_index"],
                bytes.fromhex(move["payment_hash"]) if "payment_hash" in move else b"",
                move["credit_msat"] if move["primary_tag"] == "invoice" else 0,
            )
            for move in moves
        ]

    async def has_paid_invoice(self, payment_hash: bytes) -> bool:
        """Whether an invoice of this node's own has this hash and was paid, by whomever."""
        invoices = (await self._rpc.call("listinvoices", payment_hash=payment_hash.hex()))["invoices"]
        return any(invoice["status"] == "paid" for invoice in invoices)

    async def counters(self) -> tuple[int, int]:
        """The indexes of the last payment row and of the last channel move that the node has made."""
        sends = await self._rpc.call("wait", subsystem="sendpays", indexname="created", nextvalue=0)
        moves = await self._rpc.call("wait", subsystem="channelmoves", indexname="created", nextvalue=0)
        return sends["created"], moves["created"]

    async def lacks_send_rows(self, after: int) -> bool:
        """Whether any payment row made after no. `after` has been deleted since.

        Looked for by the gap that it leaves: the node's own count of deletions leaves out some forms of delpay."""
        kept = (await self._rpc.call("listsendpays", index="created", start=after + 1))["payments"]
        last, _ = await self.counters()
        if last < after:  # its database was put back to an older state
            return True
        return len({row["created_index"] for row in kept if row["created_index"] <= last}) < last - after

    async def debited_msat(self, payment_hash: bytes, after_move: int, except_groups: set[int]) -> int:
        """What left the node's channels for a payment hash, by the account moves after no. `after_move`; what belongs
        to an xpay of `except_groups` doesn't count."""
        moves = (await self._rpc.call("listchannelmoves", index="created", start=after_move + 1))["channelmoves"]
        return sum(
            move["debit_msat"]
            for move in moves
            if move.get("payment_hash") == payment_hash.hex()
            and move["primary_tag"] == "invoice"
            and move.get("group_id") not in except_groups
        )


def _htlc(htlc: dict[str, Any], channel: str | None, peer: str | None) -> Htlc:
    payment_hash = bytes.fromhex(htlc["payment_hash"])
    return Htlc(payment_hash, htlc["amount_msat"], htlc["expiry"], channel, peer)


def _paths(decoded: dict[str, Any], own_id: str) -> Iterator[PathHead]:
    """The payee itself, which may be public, and the route hints, from behind this node where they go over it: what
    leads up to it costs nothing, and it knows its channels by itself."""
    final_cltv = decoded["min_final_cltv_expiry"]
    yield PathHead(decoded["payee"], 0, 0, final_cltv, 0, NO_MAXIMUM_MSAT)
    for hint in decoded.get("routes", []):
        own = [position for position, hop in enumerate(hint) if hop["pubkey"] == own_id]
        hops = hint[own[-1] + 1 :] if own else hint
        if hops:
            yield _added_up(hops, final_cltv)


def _added_up(hops: list[dict[str, Any]], final_cltv: int) -> PathHead:
    """A route hint as one hop; fees are rounded up, as a blinded path rounds them (BOLT 4)."""
    base, millionths, cltv = 0, 0, final_cltv
    for hop in reversed(hops):
        hop_base, hop_millionths = hop["fee_base_msat"], hop["fee_proportional_millionths"]
        base += hop_base + -(-base * hop_millionths // 10**6)
        millionths += hop_millionths + -(-millionths * hop_millionths // 10**6)
        cltv += hop["cltv_expiry_delta"]
    return PathHead(hops[0]["pubkey"], base, millionths, cltv, 0, NO_MAXIMUM_MSAT)
