"""The node's JSON-RPC commands for offers."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from contrib.sandbox import bolt12, params
from contrib.sandbox.commands import Result, command
from contrib.sandbox.errors import INVALID_PARAMS, METHOD_NOT_FOUND, RpcError
from contrib.sandbox.params import Args, optional, required
from contrib.sandbox.rpc_server import Request
from contrib.sandbox.script import behaviour_from_word

if TYPE_CHECKING:
    from contrib.sandbox.node import Node

DEFAULT_TIMEOUT_S = 60


def _amount(name: str, value: object) -> int | str:
    if value == "any":
        return "any"
    if isinstance(value, str) and value[-3:].isalpha() and value[-3:].isupper():
        raise RpcError(METHOD_NOT_FOUND, "Unknown command 'currencyconvert'")
    return params.msat(name, value)


@command(
    "offer",
    required("amount", _amount),
    optional("description", params.plain_string),
    optional("issuer", params.plain_string),
    optional("label", params.label),
    optional("quantity_max", params.u64),
    optional("absolute_expiry", params.u64),
    optional("single_use", params.boolean, False),
)
async def _offer(node: Node, _request: Request, args: Args) -> Result:
    if args["amount"] == 0:
        raise RpcError(INVALID_PARAMS, "bolt12: Offer contains a zero amount")
    if args["amount"] != "any" and args["description"] is None:
        raise RpcError(
            INVALID_PARAMS, "description: description is required for the user to know what it was they paid for"
        )
    offer = bolt12.make_offer(
        node.id,
        node.network,
        amount=None if args["amount"] == "any" else args["amount"],
        description=args["description"],
        issuer=args["issuer"],
        quantity_max=args["quantity_max"],
        expires_at=args["absolute_expiry"],
    )
    return node.offers.create(offer, args["label"], single_use=args["single_use"])


@command("listoffers", optional("offer_id", params.sha256), optional("active_only", params.boolean, False))
async def _listoffers(node: Node, _request: Request, args: Args) -> Result:
    return {"offers": node.offers.select(args["offer_id"], active_only=args["active_only"])}


@command("disableoffer", required("offer_id", params.sha256))
async def _disableoffer(node: Node, _request: Request, args: Args) -> Result:
    return node.offers.disable(args["offer_id"])


@command("enableoffer", required("offer_id", params.sha256))
async def _enableoffer(node: Node, _request: Request, args: Args) -> Result:
    return node.offers.enable(args["offer_id"])


@command(
    "fetchinvoice",
    required("offer", params.string),
    optional("amount_msat", params.msat),
    optional("quantity", params.u64),
    optional("timeout", params.u32, DEFAULT_TIMEOUT_S),
    optional("payer_note", params.plain_string),
    optional("bip353", params.plain_string),
)
async def _fetchinvoice(node: Node, _request: Request, args: Args) -> Result:
    return await node.offers.fetch(
        args["offer"], args["amount_msat"], args["quantity"], args["timeout"], args["payer_note"]
    )


@command("fetchbip353", required("address", params.string))
async def _fetchbip353(node: Node, _request: Request, args: Args) -> Result:
    names = node.settings.bip353
    if names is None:
        raise RpcError(METHOD_NOT_FOUND, "Unknown command 'fetchbip353'")
    found = names.get(args["address"].removeprefix("₿"))
    if found is None:
        raise RpcError(-1, "Failed to resolve")
    return {"proof": "", "instructions": [{"description": "sandbox"}, {"offer": found}]}


# -- the world outside -----------------------------------------------------------------------------------------------


@command(
    "sandbox-offer",
    required("amount_msat", params.msat_or_any),
    optional("description", params.string, "sandbox"),
    optional("behaviour", params.string),
)
async def _sandbox_offer(node: Node, _request: Request, args: Args) -> Result:
    amount_msat = None if args["amount_msat"] == "any" else args["amount_msat"]
    behaviour = None
    if args["behaviour"] is not None:
        behaviour = behaviour_from_word(args["behaviour"])
        if behaviour is None:
            raise RpcError(INVALID_PARAMS, f"unknown behaviour {args['behaviour']}")
    offer = bolt12.make_offer(
        node.outside.node_id,
        node.network,
        amount=amount_msat,
        description=args["description"],
        issuer=secrets.token_hex(8),
    )
    made = node.offers.add_outside(offer, behaviour)
    return {"bolt12": made.bolt12, "offer_id": made.id}
