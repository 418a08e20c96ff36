"""What a Lightning payment may cost, and whether the node could make or get it at all: looked up when a quote is made.

The price comes from `getroutes`, which is what xpay finds its routes with. It only sets the fee reserve, that is xpay's
fee limit; where xpay finds a cheaper route the rest comes back as change.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from decimal import Decimal

from ledger.errors import Code, LedgerError
from ledger.units import fee_reserve_msat
from plugin.node.routes import ROUTE_TOO_EXPENSIVE, Route, Routes
from plugin.node.rpc import NodeUnavailableError, OutcomeUnknownError, RpcError
from plugin.node.view import PathHead
from plugin.tasks import Supervisor

PRICE_WAIT_S = 2.0
"""Longest that a quote waits for its price; then what is known by then counts, or the fallback."""
MAX_ROUTE_SEARCHES = 2
"""Searches for a price at once; further quotes wait. The node makes four at a time, and payments need them too."""
MAX_PATHS = 4
"""Ways to a destination that are priced; an invoice may name more."""
MARGIN_DIVISOR = 10
"""The margin is at least a tenth: of the fallback, or of the price where that is more."""
MOST_OF_FALLBACK = 5
"""A route that costs more than so many times the fallback has no price."""

log = logging.getLogger(__name__)


def reserve_for(route: Route, fallback_msat: int) -> int:
    """How much to reserve for a payment, given the route that the node would begin with, in millisatoshis.

    * A direct peer: nothing, for there is no fee. Should its channel fail, a new quote prices the way around it.
    * Else the route's fee and a margin, so that xpay may take the second-best route, or more parts, when the first
      fails: as much again, and at least a tenth of the fallback. But together not more than the fallback: without a
      price no more is reserved either.
    * A route that costs more than the fallback: its fee and a tenth of it. With less no payment would go through, and
      the wallet sees what it is asked for.

    The fallback is what cashu-fee-reserve-percent and -min say, and what is reserved when no route is known.
    """
    if route.direct:
        return route.fee_msat
    if route.fee_msat > fallback_msat:
        return route.fee_msat + route.fee_msat // MARGIN_DIVISOR
    margin_msat = max(route.fee_msat, fallback_msat // MARGIN_DIVISOR)
    return min(route.fee_msat + margin_msat, fallback_msat)


class Pricing:
    """Prices payments and checks liquidity. One object for all methods, so that its limits count for all together.

    Refusals are only about what the node's own channels say for certain. They name no figures; but who asks for many
    quotes can narrow down by them how much the node can send and receive in all, as anybody can by trying payments.
    The price of a quote likewise tells how far away a destination is.
    """

    def __init__(
        self,
        routes: Routes,
        supervisor: Supervisor,
        own_id: str,
        *,
        percent: Decimal,
        minimum_msat: int,
        maxdelay: int,
    ) -> None:
        self._routes = routes
        self._supervisor = supervisor
        self._own_id = own_id
        self._percent = percent
        self._minimum_msat = minimum_msat
        self._maxdelay = maxdelay
        self._searches = asyncio.Semaphore(MAX_ROUTE_SEARCHES)

    # --- liquidity ------------------------------------------------------------------------------------------------

    async def check_receivable(self, amount_msat: int) -> None:
        """Raises 20000 if the channels together can't receive so much now; a payer may split the payment."""
        if amount_msat > (await self._routes.liquidity()).receivable_msat:
            raise LedgerError(Code.QUOTE_REJECTED, "the mint's node can't receive that much at the moment")

    async def check_sendable(self, payee: str, amount_msat: int, paths: Sequence[PathHead]) -> None:
        """Raises 20000 if the channels together can't send so much now."""
        if not self._pays_itself(payee, paths) and amount_msat > (await self._routes.liquidity()).sendable_msat:
            raise LedgerError(Code.QUOTE_REJECTED, "the mint's node can't send that much at the moment")

    # --- price ----------------------------------------------------------------------------------------------------

    async def reserve_msat(self, payee: str, amount_msat: int, paths: Sequence[PathHead]) -> int:
        """The fee reserve for a payment to `payee` by one of `paths`. Raises nothing: without a price, the fallback."""
        if self._pays_itself(payee, paths):
            return 0
        fallback_msat = fee_reserve_msat(amount_msat, self._percent, self._minimum_msat)
        route = await self._cheapest(payee, amount_msat, paths[:MAX_PATHS], fallback_msat)
        return fallback_msat if route is None else reserve_for(route, fallback_msat)

    def _pays_itself(self, payee: str, paths: Sequence[PathHead]) -> bool:
        """The node pays its own invoices by itself, without a channel, unless all paths that they name are through
        peers (BOLT12)."""
        return payee == self._own_id and any(path.node_id == self._own_id for path in paths)

    async def _cheapest(
        self, payee: str, amount_msat: int, paths: Sequence[PathHead], fallback_msat: int
    ) -> Route | None:
        """The cheapest of the paths that cost no more than the fallback; if there are only dearer ones, of those."""
        found: list[Route] = []
        try:
            async with asyncio.timeout(PRICE_WAIT_S):
                for maxfee_msat in sorted({fallback_msat, MOST_OF_FALLBACK * fallback_msat}):
                    dearer = [
                        path for path in paths if await self._is_dearer(payee, path, amount_msat, maxfee_msat, found)
                    ]
                    if found or not dearer:
                        break
                    paths = dearer
        except TimeoutError:
            log.debug("no price in time")
        return min(found, key=lambda route: route.fee_msat, default=None)

    async def _is_dearer(
        self, payee: str, path: PathHead, amount_msat: int, maxfee_msat: int, found: list[Route]
    ) -> bool:
        """Adds the path's route to `found`; tells whether it can't only because it costs more than `maxfee_msat`."""
        if path.node_id is None or not path.htlc_minimum_msat <= amount_msat <= path.htlc_maximum_msat:
            return False
        inner_msat = path.fee_base_msat + amount_msat * path.fee_proportional_millionths // 10**6
        if inner_msat > maxfee_msat:
            return True
        if path.node_id == self._own_id:
            found.append(Route(inner_msat, direct=False))
            return False
        try:
            route = await self._search(path.node_id, path, amount_msat + inner_msat, maxfee_msat - inner_msat)
        except RpcError as error:
            log.debug("no price: code %d", error.code)
            return error.code == ROUTE_TOO_EXPENSIVE
        except (NodeUnavailableError, OutcomeUnknownError) as error:
            log.debug("no price: %s", error)
            return False
        except ValueError as error:
            log.warning("no price: %s", error)
            return False
        found.append(Route(route.fee_msat + inner_msat, route.direct and path.node_id == payee))
        return False

    async def _search(self, destination: str, path: PathHead, amount_msat: int, maxfee_msat: int) -> Route:
        """Nothing stops the node's search once it has begun: also when nobody waits any more, it counts to the end."""
        await self._searches.acquire()
        search = self._supervisor.spawn(
            "route search",
            self._routes.find(
                self._own_id,
                destination,
                amount_msat,
                maxfee_msat=maxfee_msat,
                final_cltv=path.cltv_expiry_delta,
                maxdelay=self._maxdelay,
            ),
        )
        search.add_done_callback(self._search_ended)
        await asyncio.wait([search])
        try:
            return search.result()
        finally:
            del search  # what it has raised knows of this frame: a cycle

    def _search_ended(self, search: asyncio.Task[Route]) -> None:
        self._searches.release()
        if not search.cancelled():
            search.exception()  # nobody may be there any more to take it
