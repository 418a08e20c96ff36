"""Ways to other nodes: what `getroutes` answers. A script says which nodes are known, and what the way there costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import coincurve

from contrib.sandbox.channels import CLTV_PER_HOP, REMOTE_SHORT_CHANNEL_ID, SHORT_CHANNEL_ID
from contrib.sandbox.errors import (
    INVALID_PARAMS,
    LIGHTNINGD,
    PAY_ROUTE_NOT_FOUND,
    PAY_ROUTE_TOO_EXPENSIVE,
    PAY_USER_ERROR,
    RpcError,
    invalid_token,
)
from contrib.sandbox.outside import derive
from contrib.sandbox.params import Args

if TYPE_CHECKING:
    from contrib.sandbox.node import Node

LAYERS = ("auto.localchans", "auto.sourcefree", "auto.include_fees", "xpay")
MAX_DELAY = 2016
OWN_FEE_BASE_MSAT = 1
OWN_FEE_MILLIONTHS = 10
"""What this node asks of others for its channel."""
PROBABILITY_PPM = 999_900
_NO_PATHS = "We could not find a usable set of paths."


@dataclass(frozen=True)
class Route:
    """A path for an even share of a payment; several to the same node are the parts of one answer."""

    fee_msat: int = 0
    hops: int = 2
    """1: over our own channel only, to the peer."""


class Routes:
    """Who is known, and what it costs."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._script: dict[str, tuple[Route, ...]] = {}

    def set(self, destination: str, routes: tuple[Route, ...]) -> None:
        """From now on this is how a node can be reached; not at all, if there are no routes."""
        self._script[destination] = routes

    def reset(self) -> None:
        """Back to what is known without a script: the peer for nothing, the outside node for the default fee."""
        self._script.clear()

    def answer(self, args: Args) -> dict[str, Any]:
        """The `getroutes` command."""
        node, destination = self._node, args["destination"]
        _check(args)
        if destination == args["source"]:
            node.log("broken", "plugin-cln-askrene", "child died with signal 6")
            raise RpcError(LIGHTNINGD, "child died with signal 6")
        if args["source"] != node.id:
            raise RpcError(PAY_ROUTE_NOT_FOUND, f"Unknown source node {args['source']}")
        routes = self._to(destination)
        if not routes:
            raise RpcError(PAY_ROUTE_NOT_FOUND, f"Unknown destination node {destination}")
        fee_msat = sum(route.fee_msat for route in routes)
        self._check_channel(args["amount_msat"] + fee_msat)
        if fee_msat > args["maxfee_msat"]:
            raise RpcError(PAY_ROUTE_TOO_EXPENSIVE, "Could not find route without excessive cost")
        if max(_delay(route, args["final_cltv"]) for route in routes) > args["maxdelay"]:
            raise RpcError(PAY_ROUTE_TOO_EXPENSIVE, "Could not find route without excessive delays")
        share_msat, remainder_msat = divmod(args["amount_msat"], len(routes))
        return {
            "probability_ppm": PROBABILITY_PPM,
            "routes": [
                self._show(route, args, share_msat + (0 if index else remainder_msat))
                for index, route in enumerate(routes)
            ],
        }

    def _to(self, destination: str) -> tuple[Route, ...]:
        node = self._node
        if destination in self._script:
            return self._script[destination]
        if destination == node.outside.peer_id:
            return (Route(hops=1),)
        if destination == node.outside.node_id or node.settings.foreign.enabled:
            return (Route(node.settings.default_fee_msat),)
        return ()

    def _check_channel(self, sent_msat: int) -> None:
        channel = self._node.channel
        if not channel.connected:
            raise RpcError(PAY_ROUTE_NOT_FOUND, f"{_NO_PATHS} All 1 channels to the source are disabled.")
        if sent_msat > channel.spendable_msat:
            raise RpcError(
                PAY_ROUTE_NOT_FOUND,
                f"{_NO_PATHS} The shortest path is {SHORT_CHANNEL_ID}, but {SHORT_CHANNEL_ID}/0 layer auto.localchans"
                f" says max is {channel.spendable_msat}msat",
            )

    def _show(self, route: Route, args: Args, amount_msat: int) -> dict[str, Any]:
        """The first hop is over our own channel, the second takes the fee."""
        node, final_cltv = self._node, args["final_cltv"]
        sent_msat = amount_msat + route.fee_msat
        free = "auto.sourcefree" in args["layers"]
        own_msat = 0 if free else OWN_FEE_BASE_MSAT + sent_msat * OWN_FEE_MILLIONTHS // 10**6
        between = [derive(node.secret, f"hop {number}").hex() for number in range(route.hops - 2)]
        nodes = [node.id, *([node.outside.peer_id, *(f"02{name}" for name in between)] if route.hops > 1 else [])]
        path = []
        for index, (node_in, node_out) in enumerate(zip(nodes, [*nodes[1:], args["destination"]], strict=True)):
            cltv_out = final_cltv + CLTV_PER_HOP * (route.hops - 1 - index)
            path.append(
                {
                    "short_channel_id_dir": (SHORT_CHANNEL_ID if index == 0 else REMOTE_SHORT_CHANNEL_ID) + "/0",
                    "node_id_in": node_in,
                    "node_id_out": node_out,
                    "amount_in_msat": (sent_msat + own_msat, sent_msat, amount_msat)[min(index, 2)],
                    "amount_out_msat": sent_msat if index == 0 else amount_msat,
                    "cltv_in": cltv_out + (CLTV_PER_HOP if index or not free else 0),
                    "cltv_out": cltv_out,
                }
            )
        return {
            "probability_ppm": PROBABILITY_PPM,
            "amount_msat": amount_msat,
            "final_cltv": final_cltv,
            "path": path,
        }


def _check(args: Args) -> None:
    for name in ("source", "destination"):
        try:
            coincurve.PublicKey(bytes.fromhex(args[name]))
        except ValueError:
            raise invalid_token(name, args[name], "should be a node id") from None
    for layer in args["layers"]:
        if layer not in LAYERS:
            raise invalid_token("layers", layer, "unknown layer")
    if args["amount_msat"] == 0:
        raise RpcError(INVALID_PARAMS, "amount must be non-zero")
    if args["maxdelay"] > MAX_DELAY:
        raise RpcError(PAY_USER_ERROR, f"maximum delay allowed is {MAX_DELAY}")


def _delay(route: Route, final_cltv: int) -> int:
    return final_cltv + CLTV_PER_HOP * (route.hops - 1)
