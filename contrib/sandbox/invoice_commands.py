"""The node's commands about its invoices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from contrib.sandbox import bolt11, bolt12, news, params
from contrib.sandbox.commands import PAGE, Result, check_page, command
from contrib.sandbox.errors import (
    INVALID_PARAMS,
    RpcError,
    invalid_token,
)
from contrib.sandbox.invoices import DEFAULT_CLTV, DEFAULT_EXPIRY_S
from contrib.sandbox.params import Args, optional, required
from contrib.sandbox.payment_commands import payment_hash_of
from contrib.sandbox.rpc_server import Request
from contrib.sandbox.script import Notifications

if TYPE_CHECKING:
    from contrib.sandbox.node import Node


@command("decode", required("string", params.string))
async def _decode(node: Node, _request: Request, args: Args) -> Result:
    text = bolt11.canonical(args["string"])
    if bolt12.is_offer(text) or bolt12.is_invoice(text):
        try:
            return (bolt12.read_offer if bolt12.is_offer(text) else bolt12.read_invoice)(text).to_json()
        except bolt12.Bolt12Error as error:
            raise invalid_token("string", args["string"], str(error)) from None
    try:
        return node.outside.read(text).to_json()
    except bolt11.Bolt11Error as error:
        likely = text.startswith(tuple(f"ln{prefix}" for prefix in bolt11.PREFIXES.values())) and "1" in text
        raise invalid_token("string", args["string"], str(error) if likely else "Unparsable string") from None


@command(
    "invoice",
    required("amount_msat", params.msat_or_any),
    required("label", params.label),
    required("description", params.plain_string),
    optional("expiry", params.u64, DEFAULT_EXPIRY_S),
    optional("fallbacks", params.any_value),
    optional("preimage", params.sha256),
    optional("exposeprivatechannels", params.any_value),
    optional("cltv", params.u32, DEFAULT_CLTV),
    optional("deschashonly", params.boolean, False),
)
async def _invoice(node: Node, _request: Request, args: Args) -> Result:
    record = node.invoices.create(
        amount_msat=None if args["amount_msat"] == "any" else args["amount_msat"],
        label=args["label"],
        description=args["description"],
        expiry_s=args["expiry"],
        preimage=args["preimage"],
        cltv=args["cltv"],
        hash_only=args["deschashonly"],
    )
    node.notify_all([news.invoice_creation(record)], Notifications())
    if node.settings.auto:
        node.pay_later(record)
    shown = {
        "payment_hash": record.payment_hash,
        "expires_at": record.expires_at,
        "bolt11": record.bolt11,
        "payment_secret": bolt11.decode(record.bolt11).payment_secret,
        "created_index": record.created_index,
    }
    if record.amount_msat is not None and record.amount_msat > node.channel.receivable_msat:
        shown["warning_capacity"] = "Insufficient incoming channel capacity to pay invoice"
    return shown


@command(
    "listinvoices",
    optional("label", params.label),
    optional("invstring", params.string),
    optional("payment_hash", params.sha256),
    optional("offer_id", params.sha256),
    *PAGE,
)
async def _listinvoices(node: Node, _request: Request, args: Args) -> Result:
    if sum(args[name] is not None for name in ("label", "invstring", "payment_hash", "offer_id")) > 1:
        raise RpcError(INVALID_PARAMS, "Can only specify one of {label}, {invstring}, {payment_hash} or {offer_id}")
    check_page(args)
    payment_hash = args["payment_hash"]
    if args["invstring"] is not None:
        payment_hash = payment_hash_of(bolt11.decode, args["invstring"])
    if args["label"] is not None:
        found = [node.invoices.of_label(args["label"])]
    elif payment_hash is not None:
        found = [node.invoices.of_hash(payment_hash)]
    elif args["offer_id"] is not None:
        found = list(node.invoices.of_offer(args["offer_id"]))
    else:
        found = list(node.invoices.select(index=args["index"], start=args["start"], limit=args["limit"]))
    return {"invoices": [record.to_json() for record in found if record is not None]}


@command(
    "delinvoice",
    required("label", params.label),
    required("status", params.string),
    optional("desconly", params.boolean, False),
)
async def _delinvoice(node: Node, _request: Request, args: Args) -> Result:
    return node.invoices.delete(args["label"], args["status"], description_only=args["desconly"])


@command("waitinvoice", required("label", params.label))
async def _waitinvoice(node: Node, _request: Request, args: Args) -> Result:
    return await node.invoices.wait_one(args["label"])


@command("waitanyinvoice", optional("lastpay_index", params.u64, 0), optional("timeout", params.u64))
async def _waitanyinvoice(node: Node, _request: Request, args: Args) -> Result:
    return await node.invoices.wait_any(args["lastpay_index"], args["timeout"])
