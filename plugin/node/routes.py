"""What the node knows of its channels, and of the ways to others: what it can send and receive, and what that costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from plugin.node.rpc import NodeRpc

ROUTE_TOO_EXPENSIVE = 206
"""`getroutes` knows routes, but none within `maxfee_msat` (or `maxdelay`). Another error tells less: 205 is said of a
destination that the gossip doesn't show, and of channels of others that are only believed to be too small."""

LAYERS = ["auto.localchans", "auto.sourcefree", "xpay"]
"""What xpay itself routes with: our channels as they are now, without our own fee, and what it has learned from
payments before. xpay makes its layer when it starts."""
USABLE_STATES = ("CHANNELD_NORMAL", "CHANNELD_AWAITING_SPLICE")
"""States in which a channel takes new HTLCs."""


@dataclass(frozen=True, slots=True)
class Liquidity:
    """What all usable channels together can send and receive now."""

    sendable_msat: int
    receivable_msat: int


@dataclass(frozen=True, slots=True)
class Route:
    """A route in one part or several. `direct`: no other node between this one and the destination."""

    fee_msat: int
    direct: bool


class Routes:
    """Asks lightningd. All methods raise NodeUnavailableError, OutcomeUnknownError and RpcError."""

    def __init__(self, rpc: NodeRpc) -> None:
        self._rpc = rpc

    async def liquidity(self) -> Liquidity:
        """Counts channels whose peer is connected. More than this can't pass them, less may be what gets through."""
        channels = (await self._rpc.call("listpeerchannels"))["channels"]
        usable = [c for c in channels if c["peer_connected"] and c["state"] in USABLE_STATES]
        return Liquidity(
            sum(channel.get("spendable_msat", 0) for channel in usable),
            sum(channel.get("receivable_msat", 0) for channel in usable),
        )

    async def find(
        self, source: str, destination: str, amount_msat: int, *, maxfee_msat: int, final_cltv: int, maxdelay: int
    ) -> Route:
        """The route that xpay would begin with. `source` is this node, and must not be the destination: askrene
        crashes over that.

        Raises RpcError, with ROUTE_TOO_EXPENSIVE or another code, and ValueError for an answer of an unknown form."""
        assert source != destination
        answer = await self._rpc.call(
            "getroutes",
            source=source,
            destination=destination,
            amount_msat=amount_msat,
            layers=LAYERS,
            maxfee_msat=maxfee_msat,
            final_cltv=final_cltv,
            maxdelay=maxdelay,
        )
        try:
            return _read(answer["routes"])
        except (LookupError, TypeError) as error:
            raise ValueError(f"getroutes answers in an unknown form: {error!r}") from error


def _read(routes: list[dict[str, Any]]) -> Route:
    """The first hop of a path is over our own channel: what leaves it is what we pay."""
    if not routes:
        raise ValueError("getroutes answers without a route")
    fee_msat = sum(route["path"][0]["amount_out_msat"] - route["amount_msat"] for route in routes)
    return Route(fee_msat, all(len(route["path"]) == 1 for route in routes))
