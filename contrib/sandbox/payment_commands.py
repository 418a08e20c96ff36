"""The node's commands about its payments."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from contrib.sandbox import bolt11, bolt12, params
from contrib.sandbox.commands import INDEX, PAGE, Result, check_page, command
from contrib.sandbox.errors import (
    INVALID_PARAMS,
    RpcError,
)
from contrib.sandbox.params import Args, optional, required
from contrib.sandbox.payments import list_pays
from contrib.sandbox.rpc_server import Request
from contrib.sandbox.waits import SUBSYSTEMS

if TYPE_CHECKING:
    from contrib.sandbox.node import Node

DEFAULT_RETRY_FOR_S = 60
DEFAULT_MAXDELAY = 2016

_STATUS = params.one_of("should be an invoice status", "pending", "complete", "failed")


@command(
    "xpay",
    required("invstring", params.string),
    optional("amount_msat", params.msat),
    optional("maxfee", params.msat),
    optional("layers", params.any_value),
    optional("retry_for", params.u32, DEFAULT_RETRY_FOR_S),
    optional("partial_msat", params.msat),
    optional("maxdelay", params.u32, DEFAULT_MAXDELAY),
    optional("payer_note", params.string),
    optional("label", params.label),
    optional("localinvreqid", params.sha256),
)
async def _xpay(node: Node, request: Request, args: Args) -> Result:
    return await node.xpay.pay(request, args)


@command(
    "getroutes",
    required("source", params.node_id),
    required("destination", params.node_id),
    required("amount_msat", params.msat),
    required("layers", params.strings),
    required("maxfee_msat", params.msat),
    required("final_cltv", params.u32),
    optional("maxdelay", params.u32, DEFAULT_MAXDELAY),
    optional("maxparts", params.u32),
)
async def _getroutes(node: Node, _request: Request, args: Args) -> Result:
    return node.routes.answer(args)


_SENDPAYS = (
    optional("bolt11", params.string),
    optional("payment_hash", params.sha256),
    optional("status", _STATUS),
    *PAGE,
)


@command("listsendpays", *_SENDPAYS)
async def _listsendpays(node: Node, _request: Request, args: Args) -> Result:
    return {"payments": [row.to_json() for row in _select_rows(node, args)]}


@command("listpays", *_SENDPAYS)
async def _listpays(node: Node, _request: Request, args: Args) -> Result:
    return {"pays": list_pays(_select_rows(node, args), node.xpay.is_running)}


def payment_hash_of(read: Callable[[str], bolt11.Invoice], invstring: str) -> str:
    """Of an invoice of either kind. Raises RpcError if it is none."""
    text = bolt11.canonical(invstring)
    try:
        return bolt12.read_invoice(text).payment_hash if bolt12.is_invoice(text) else read(text).payment_hash
    except (bolt11.Bolt11Error, bolt12.Bolt12Error):
        raise RpcError(INVALID_PARAMS, "Invalid invstring: invalid bech32 string") from None


def _select_rows(node: Node, args: Args) -> list[Any]:
    payment_hash = args["payment_hash"]
    if payment_hash is not None and args["bolt11"] is not None:
        raise RpcError(INVALID_PARAMS, "Can only specify one of {bolt11} or {payment_hash}")
    check_page(args)
    if args["bolt11"] is not None:
        payment_hash = payment_hash_of(node.outside.read, args["bolt11"])
    if payment_hash is not None and args["start"]:
        raise RpcError(INVALID_PARAMS, "Cannot use start with bolt11 or payment_hash")
    return list(
        node.payments.select(
            payment_hash=payment_hash,
            status=args["status"],
            index=args["index"],
            start=args["start"],
            limit=args["limit"],
        )
    )


@command(
    "delpay",
    required("payment_hash", params.sha256),
    required("status", params.one_of("should be complete or failed", "complete", "failed")),
    optional("partid", params.u64),
    optional("groupid", params.u64),
)
async def _delpay(node: Node, _request: Request, args: Args) -> Result:
    deleted = node.payments.delete(args["payment_hash"], args["status"], args["partid"], args["groupid"])
    return {"payments": [row.to_json() for row in deleted]}


@command(
    "wait",
    required("subsystem", params.one_of("unknown subsystem", *SUBSYSTEMS)),
    required("indexname", INDEX),
    required("nextvalue", params.u64),
)
async def _wait(node: Node, _request: Request, args: Args) -> Result:
    return await node.waits.wait(args["subsystem"], args["indexname"], args["nextvalue"])
