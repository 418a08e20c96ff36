"""The node's commands about its channel, its peer and its funds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from contrib.sandbox import params
from contrib.sandbox.channels import (
    CLTV_PER_HOP,
    DUST_LIMIT_MSAT,
    FUNDING_OUTPUT,
    RESERVE_DIVISOR,
    SHORT_CHANNEL_ID,
)
from contrib.sandbox.commands import PAGE, Result, check_page, command
from contrib.sandbox.params import Args, optional
from contrib.sandbox.rpc_server import Request

if TYPE_CHECKING:
    from contrib.sandbox.node import Node


@command("listhtlcs", optional("id", params.string), *PAGE)
async def _listhtlcs(node: Node, _request: Request, args: Args) -> Result:
    check_page(args)
    if args["id"] not in (None, SHORT_CHANNEL_ID, node.channel.channel_id):
        return {"htlcs": []}
    return {"htlcs": node.channel.list_htlcs(start=args["start"], limit=args["limit"])}


@command("listchannelmoves", *PAGE)
async def _listchannelmoves(node: Node, _request: Request, args: Args) -> Result:
    check_page(args)
    return {"channelmoves": node.channel.list_moves(start=args["start"], limit=args["limit"])}


@command("listpeers", optional("id", params.node_id), optional("level", params.string))
async def _listpeers(node: Node, _request: Request, args: Args) -> Result:
    if args["id"] not in (None, node.outside.peer_id):
        return {"peers": []}
    return {
        "peers": [
            {
                "id": node.outside.peer_id,
                "connected": node.channel.connected,
                "num_channels": 1,
                "netaddr": ["127.0.0.1:9735"],
                "features": "800898880a8a59a1",
            }
        ]
    }


@command("listnodes", optional("id", params.node_id))
async def _listnodes(node: Node, _request: Request, args: Args) -> Result:
    known = [node.outside.peer_id, node.outside.node_id, *([node.id] if node.settings.announced else [])]
    return {"nodes": [{"nodeid": node_id} for node_id in known if args["id"] in (None, node_id)]}


@command("listfunds", optional("spent", params.boolean))
async def _listfunds(node: Node, _request: Request, args: Args) -> Result:
    channel = node.channel
    return {
        "outputs": node.coins.list_funds(spent=bool(args["spent"])),
        "channels": [
            {
                "peer_id": node.outside.peer_id,
                "connected": channel.connected,
                "state": "CHANNELD_NORMAL",
                "channel_id": channel.channel_id,
                "short_channel_id": SHORT_CHANNEL_ID,
                "our_amount_msat": channel.to_us_msat,
                "amount_msat": channel.capacity_msat,
                "funding_txid": channel.channel_id,
                "funding_output": FUNDING_OUTPUT,
            }
        ],
    }


@command("listpeerchannels", optional("id", params.node_id), optional("short_channel_id", params.string))
async def _listpeerchannels(node: Node, _request: Request, args: Args) -> Result:
    channel = node.channel
    if args["id"] not in (None, node.outside.peer_id) or args["short_channel_id"] not in (None, SHORT_CHANNEL_ID):
        return {"channels": []}
    reserve_msat = channel.capacity_msat // RESERVE_DIVISOR
    update = {
        "htlc_minimum_msat": 0,
        "htlc_maximum_msat": channel.capacity_msat - reserve_msat,
        "cltv_expiry_delta": CLTV_PER_HOP,
        "fee_base_msat": 1,
        "fee_proportional_millionths": 10,
    }
    shown: dict[str, Any] = {
        "peer_id": node.outside.peer_id,
        "peer_connected": channel.connected,
        "reestablished": channel.connected,
        "channel_type": {"bits": [12, 22], "names": ["static_remotekey/even", "anchors/even"]},
        "updates": {"local": update, "remote": update},
        "state": "CHANNELD_NORMAL",
        "lost_state": False,
        "owner": "channeld",
        "short_channel_id": SHORT_CHANNEL_ID,
        "direction": 0,
        "channel_id": channel.channel_id,
        "funding_txid": channel.channel_id,
        "funding_outnum": FUNDING_OUTPUT,
        "private": False,
        "opener": "local",
        "features": ["option_static_remotekey", "option_anchors"],
        "to_us_msat": channel.to_us_msat,
        "total_msat": channel.capacity_msat,
        "fee_base_msat": 1,
        "fee_proportional_millionths": 10,
        "dust_limit_msat": DUST_LIMIT_MSAT,
        "their_reserve_msat": reserve_msat,
        "our_reserve_msat": reserve_msat,
        "spendable_msat": channel.spendable_msat,
        "receivable_msat": channel.receivable_msat,
        "minimum_htlc_in_msat": 0,
        "minimum_htlc_out_msat": 0,
        "maximum_htlc_out_msat": channel.capacity_msat - reserve_msat,
        "max_accepted_htlcs": 483,
        "status": ["CHANNELD_NORMAL:Channel ready for use."],
        "htlcs": [
            {
                "direction": htlc.direction,
                "id": htlc.id,
                "amount_msat": htlc.amount_msat,
                "expiry": htlc.expiry,
                "payment_hash": htlc.payment_hash,
                "state": htlc.state,
            }
            for htlc in channel.live_htlcs()
        ],
    }
    if not channel.connected:
        del shown["reestablished"], shown["owner"]
    return {"channels": [shown, *({**shown, **differences} for differences in node.settings.further_channels)]}
