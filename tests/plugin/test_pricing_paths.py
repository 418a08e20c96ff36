"""Prices of paths as BOLT12 invoices give them: `Pricing` by itself, with a node that knows some routes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from decimal import Decimal

import pytest

from plugin.methods import pricing
from plugin.methods.pricing import MAX_PATHS, MAX_ROUTE_SEARCHES, Pricing
from plugin.node.routes import ROUTE_TOO_EXPENSIVE, Route, Routes
from plugin.node.rpc import NodeRpc, RpcError
from plugin.node.view import PathHead
from plugin.tasks import Supervisor

OWN, PEER, FAR, OTHER = "02aa", "02bb", "02cc", "02dd"
AMOUNT = 100_000_000
FALLBACK = 1_000_000
MARGIN = FALLBACK // 10


class FakeRoutes(Routes):
    """Routes by destination; what is unknown has none. Searches can be made to hang."""

    def __init__(self, routes: Mapping[str, Route]) -> None:
        self._routes = routes
        self.asked: list[tuple[str, int, int, int]] = []
        self.running = 0
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def find(
        self, source: str, destination: str, amount_msat: int, *, maxfee_msat: int, final_cltv: int, maxdelay: int
    ) -> Route:
        assert source == OWN
        assert destination != OWN
        assert maxdelay == 1008
        self.asked.append((destination, amount_msat, maxfee_msat, final_cltv))
        self.running += 1
        await self.go_on.wait()
        self.running -= 1
        route = self._routes.get(destination)
        if route is None:
            raise RpcError("getroutes", 205, "Unknown destination node")
        if route.fee_msat > maxfee_msat:
            raise RpcError("getroutes", ROUTE_TOO_EXPENSIVE, "Could not find route without excessive cost")
        return route


def no_deaths(reason: str) -> None:
    raise AssertionError(reason)


def make(routes: Routes) -> Pricing:
    return Pricing(routes, Supervisor(no_deaths), OWN, percent=Decimal(1), minimum_msat=2000, maxdelay=1008)


def head(node: str, base: int = 0, millionths: int = 0, *, least: int = 0, most: int = 10 * AMOUNT) -> PathHead:
    return PathHead(node, base, millionths, 40, least, most)


async def test_a_blinded_path_costs_the_way_to_its_head_and_what_it_says() -> None:
    routes = FakeRoutes({FAR: Route(70_000, direct=False)})
    assert await make(routes).reserve_msat("02ee", AMOUNT, [head(FAR, 1000, 500)]) == 2 * (70_000 + 51_000)
    assert routes.asked == [(FAR, AMOUNT + 51_000, FALLBACK - 51_000, 40)]


async def test_the_payee_of_a_blinded_path_is_not_looked_for() -> None:
    """Only the path leads to it, however well the payee itself may be known."""
    routes = FakeRoutes({OTHER: Route(0, direct=True)})
    assert await make(routes).reserve_msat(OTHER, AMOUNT, [head(FAR)]) == FALLBACK


async def test_a_path_that_begins_at_this_node_costs_what_it_says_and_nothing_is_searched() -> None:
    routes = FakeRoutes({})
    assert await make(routes).reserve_msat("02ee", AMOUNT, [head(OWN, 300_000)]) == 600_000
    assert await make(routes).reserve_msat("02ee", AMOUNT, [head(OWN)]) == MARGIN
    assert routes.asked == []


async def test_a_free_path_that_begins_at_a_peer_is_as_a_direct_peer_only_if_that_is_the_payee() -> None:
    """A Core Lightning node's own offers begin at itself. Behind another head there may be fees, if that path fails."""
    pricing = make(FakeRoutes({PEER: Route(0, direct=True)}))
    assert await pricing.reserve_msat(PEER, AMOUNT, [head(PEER)]) == 0
    assert await pricing.reserve_msat("02ee", AMOUNT, [head(PEER)]) == MARGIN
    assert await pricing.reserve_msat("02ee", AMOUNT, [head(PEER, 10)]) == MARGIN + 10


@pytest.mark.parametrize(
    ("least", "most", "fits"), [(AMOUNT, AMOUNT, True), (AMOUNT + 1, AMOUNT + 2, False), (0, AMOUNT - 1, False)]
)
async def test_a_path_counts_only_for_amounts_that_it_takes(least: int, most: int, fits: bool) -> None:
    routes = FakeRoutes({FAR: Route(0, direct=False)})
    reserved = await make(routes).reserve_msat("02ee", AMOUNT, [head(FAR, least=least, most=most)])
    assert reserved == (MARGIN if fits else FALLBACK)
    assert bool(routes.asked) == fits


async def test_without_paths_there_is_no_price() -> None:
    assert await make(FakeRoutes({})).reserve_msat("02ee", AMOUNT, ()) == FALLBACK


async def test_a_head_of_another_form_is_passed_over() -> None:
    """`node_id` may be a channel and a side; the node does not search for that."""
    routes = FakeRoutes({FAR: Route(0, direct=False)})
    assert await make(routes).reserve_msat("02ee", AMOUNT, [head("103x1x0/1"), head(FAR)]) == MARGIN


async def test_only_the_dearer_paths_are_asked_again_and_only_if_no_other_is_known() -> None:
    routes = FakeRoutes({FAR: Route(2 * FALLBACK, direct=False)})
    assert await make(routes).reserve_msat("02ee", AMOUNT, [head(OTHER), head(FAR)]) == 2_200_000
    assert [(asked[0], asked[2]) for asked in routes.asked] == [
        (OTHER, FALLBACK),
        (FAR, FALLBACK),
        (FAR, 5 * FALLBACK),
    ]


async def test_a_dearer_path_is_not_asked_again_where_another_is_known() -> None:
    routes = FakeRoutes({FAR: Route(2 * FALLBACK, direct=False), OTHER: Route(FALLBACK, direct=False)})
    assert await make(routes).reserve_msat("02ee", AMOUNT, [head(FAR), head(OTHER)]) == FALLBACK
    assert [asked[0] for asked in routes.asked] == [FAR, OTHER]


async def test_so_many_paths_are_priced_and_no_more() -> None:
    routes = FakeRoutes({})
    await make(routes).reserve_msat("02ee", AMOUNT, [head(f"02{number}") for number in range(2 * MAX_PATHS)])
    assert len(routes.asked) == MAX_PATHS


async def test_what_is_known_when_time_is_up_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second path's search hangs: the price of the first is the price."""
    monkeypatch.setattr(pricing, "PRICE_WAIT_S", 0.2)

    class Hanging(FakeRoutes):
        async def find(self, source: str, destination: str, amount_msat: int, **limits: int) -> Route:
            if destination == OTHER:
                await asyncio.Event().wait()
            return Route(1000, direct=False)

    assert await make(Hanging({})).reserve_msat("02ee", AMOUNT, [head(FAR), head(OTHER)]) == 1000 + MARGIN


async def test_searches_are_limited_and_count_until_the_node_has_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Quotes that gave up leave their searches behind: only when those have ended may others begin."""
    monkeypatch.setattr(pricing, "PRICE_WAIT_S", 0.1)
    routes = FakeRoutes({FAR: Route(0, direct=False)})
    routes.go_on.clear()
    prices = make(routes)
    reserved = await asyncio.gather(*(prices.reserve_msat("02ee", AMOUNT, [head(FAR)]) for _ in range(10)))
    assert reserved == [FALLBACK] * 10
    assert routes.running == len(routes.asked) == MAX_ROUTE_SEARCHES
    assert await prices.reserve_msat("02ee", AMOUNT, [head(FAR)]) == FALLBACK
    assert len(routes.asked) == MAX_ROUTE_SEARCHES
    routes.go_on.set()
    monkeypatch.setattr(pricing, "PRICE_WAIT_S", 60)
    reserved = await asyncio.gather(*(prices.reserve_msat("02ee", AMOUNT, [head(FAR)]) for _ in range(10)))
    assert reserved == [MARGIN] * 10


async def test_a_route_to_oneself_is_never_searched_for() -> None:
    with pytest.raises(AssertionError):
        await Routes(NodeRpc.__new__(NodeRpc)).find(OWN, OWN, 1, maxfee_msat=0, final_cltv=18, maxdelay=1)
