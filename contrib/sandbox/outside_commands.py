"""Commands of the sandbox itself: the world outside, and what the node is to do next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from contrib.sandbox import bolt11, bolt12, params
from contrib.sandbox.commands import Result, command
from contrib.sandbox.errors import (
    INVALID_PARAMS,
    PAY_DESTINATION_PERM_FAIL,
    RpcError,
    invalid_token,
)
from contrib.sandbox.outside import DEFAULT_EXPIRY_S as OUTSIDE_EXPIRY_S
from contrib.sandbox.params import Args, optional, required
from contrib.sandbox.rpc_server import Request
from contrib.sandbox.script import Notifications, behaviour_from_word

if TYPE_CHECKING:
    from contrib.sandbox.node import Node


@command(
    "sandbox-invoice",
    required("amount_msat", params.msat_or_any),
    optional("description", params.string, "sandbox"),
    optional("expiry", params.u64, OUTSIDE_EXPIRY_S),
    optional("behaviour", params.string),
)
async def _sandbox_invoice(node: Node, _request: Request, args: Args) -> Result:
    amount_msat = None if args["amount_msat"] == "any" else args["amount_msat"]
    issued = node.outside.issue(amount_msat, args["description"], args["expiry"], None)
    if args["behaviour"] is not None:
        _script(node, args["behaviour"], issued.payment_hash, 1)
    return {"bolt11": issued.bolt11, "payment_hash": issued.payment_hash}


@command("sandbox-pay", required("bolt11", params.string), optional("amount_msat", params.msat))
async def _sandbox_pay(node: Node, _request: Request, args: Args) -> Result:
    return pay_from_outside(node, args["bolt11"], args["amount_msat"], Notifications())


@command(
    "sandbox-next",
    required("behaviour", params.string),
    optional("times", params.u32, 1),
    optional("payment_hash", params.sha256),
)
async def _sandbox_next(node: Node, _request: Request, args: Args) -> Result:
    _script(node, args["behaviour"], args["payment_hash"], args["times"])
    return {"queued": args["times"]}


@command("sandbox-release", required("payment_hash", params.sha256), optional("partid", params.u64))
async def _sandbox_release(node: Node, _request: Request, args: Args) -> Result:
    return {"released": node.parts.release(args["payment_hash"], ok=True, partid=args["partid"], cause=None)}


@command("sandbox-fail", required("payment_hash", params.sha256), optional("partid", params.u64))
async def _sandbox_fail(node: Node, _request: Request, args: Args) -> Result:
    return {"failed": node.parts.release(args["payment_hash"], ok=False, partid=args["partid"], cause=None)}


@command("sandbox-restart", optional("kill", params.boolean, False))
async def _sandbox_restart(node: Node, request: Request, args: Args) -> Result:
    request.after_reply.append(lambda: node.restart_soon(graceful=not args["kill"]))
    return {"restarting": True}


def pay_from_outside(node: Node, text: str, amount_msat: int | None, spec: Notifications) -> Result:
    """Somebody outside pays an invoice of this node, or is refused; or one for an offer of this node; or one of the
    outside node."""
    if bolt12.is_offer(text):
        text = node.offers.invoice_of_own(node.offers.ask(text, amount_msat, None, None)).bolt11
    invoice: bolt11.Invoice | bolt12.Invoice
    try:
        invoice = bolt12.read_invoice(text) if bolt12.is_invoice(text) else bolt11.decode(bolt11.canonical(text))
    except (bolt11.Bolt11Error, bolt12.Bolt12Error) as error:
        raise RpcError(INVALID_PARAMS, f"Invalid invoice: {error}") from None
    amount_msat = invoice.amount_msat if amount_msat is None else amount_msat
    if amount_msat is None:
        raise RpcError(INVALID_PARAMS, "amount_msat required")
    if (preimage := node.outside.preimage(invoice.payment_hash)) is not None:
        return _pay_outside(node, invoice, preimage, amount_msat)
    complaint = node.invoices.complaint(invoice.payment_hash, amount_msat)
    if complaint is None and amount_msat > node.channel.receivable_msat:
        complaint = f"the channel can receive no more than {node.channel.receivable_msat}msat"
    if complaint is not None:
        raise RpcError(PAY_DESTINATION_PERM_FAIL, complaint)
    record = node.invoices.of_hash(invoice.payment_hash)
    assert record is not None
    node.receive(record, amount_msat, spec)
    return {"payment_preimage": record.preimage, "amount_msat": amount_msat, "pay_index": record.pay_index}


def _pay_outside(node: Node, invoice: bolt11.Invoice | bolt12.Invoice, preimage: str, amount_msat: int) -> Result:
    if not node.outside.accepts(invoice.payment_hash):
        raise RpcError(PAY_DESTINATION_PERM_FAIL, f"Already paid invoice {invoice.payment_hash}")
    if amount_msat >= (invoice.amount_msat or 0):  # else the rest is still to come
        node.outside.mark_paid(invoice.payment_hash)
    return {"payment_preimage": preimage, "amount_msat": amount_msat}


def _script(node: Node, word: str, payment_hash: str | None, times: int) -> None:
    behaviour = behaviour_from_word(word)
    if behaviour is None:
        raise invalid_token("behaviour", word, "should be success, failure, hold, ghost, noroute or an error code")
    node.xpay.script(behaviour, payment_hash, times)
