"""What a melt quote reserves for fees, by the price of its route, and which quotes the node's liquidity refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from coincurve import PrivateKey

from contrib.sandbox import Behaviour, Hop, OutsideInvoice, Part, Route
from contrib.wallet import MintError
from ledger.errors import Code
from ledger.models import MeltQuoteLightning, MeltQuoteOptions, MintQuoteBolt11, MppOption
from plugin.node.routes import LAYERS
from tests.plugin.conftest import MakeMint
from tests.plugin.harness import PAID, Melt, Mint, Purse, wait_for

AMOUNT = 100_000
FALLBACK = 1000
"""One percent of that."""
MARGIN = FALLBACK // 10
DEAREST = 5 * FALLBACK

HEAD, MIDDLE = (PrivateKey(bytes([9, number] * 16)).public_key.format() for number in (1, 2))
HINT = ((Hop(HEAD, 1 << 40, fee_base_msat=2000, fee_proportional_millionths=100, cltv_expiry_delta=34),),)
"""2 sat and 0.01 %: 12 sat for AMOUNT."""
HINT_FEE = 12

NO_ROUTE = {
    "unknown destination": (205, "Unknown destination node 02dead"),
    "no path": (205, "We could not find a usable set of paths. The shortest path is 103x1x0, but 103x1x0/0 says 5msat"),
    "arguments": (-32602, "layers: unknown layer: invalid token 'xpay'"),
    "askrene crashed": (-1, "child died with signal 6"),
    "no askrene": (-32601, "Unknown command 'getroutes'"),
    "a code of tomorrow": (299, "?"),
}


@pytest.fixture(autouse=True)
def _as_before(mint: Mint) -> Iterator[None]:
    """Tests of this module share a mint; each leaves its node as it was."""
    yield
    mint.node.reset_routes()
    channel = mint.node.node.channel
    mint.node.set_channel(capacity_msat=10**12, to_us_msat=10**12 // 2)
    if not channel.connected:
        mint.node.set_channel(connected=True)
    mint.node.settings.further_channels.clear()


def sat(*amounts: int) -> list[Route]:
    """Routes that cost so much, as parts of one payment."""
    return [Route(fee_msat=amount * 1000) for amount in amounts]


def reserve(purse: Purse, amount: int = AMOUNT, **options: Any) -> int:
    """The reserve of a new quote."""
    return purse.quote(purse.mint.invoice(amount, **options)).fee_reserve


def searches(mint: Mint, ask: Callable[[], object]) -> list[dict[str, Any]]:
    """The parameters of every getroutes that something leads to."""
    position = mint.node.calls_position
    ask()
    return [call.params for call in mint.node.calls("getroutes", since=position)]


def refused(ask: Callable[[], object]) -> MintError:
    """A refusal with 20000 that tells nothing of the node's channels."""
    with pytest.raises(MintError) as caught:
        ask()
    assert (caught.value.status, caught.value.code) == (400, Code.QUOTE_REJECTED)
    assert not any(character.isdigit() for character in caught.value.detail)
    return caught.value


# --- the rule -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("price", "reserved"),
    [
        (0, MARGIN),
        (1, 1 + MARGIN),
        (MARGIN, 2 * MARGIN),
        (MARGIN + 1, 2 * MARGIN + 2),
        (FALLBACK // 2, FALLBACK),
        (FALLBACK // 2 + 1, FALLBACK),
        (FALLBACK, FALLBACK),
        (FALLBACK + 1, 1102),
        (DEAREST, DEAREST * 11 // 10),
        (DEAREST + 1, FALLBACK),
    ],
)
def test_the_reserve_is_the_price_and_a_margin(mint: Mint, purse: Purse, price: int, reserved: int) -> None:
    mint.node.set_routes(*sat(price))
    assert reserve(purse) == reserved


def test_the_reserve_for_a_direct_peer_is_nothing_and_the_payment_succeeds(mint: Mint, purse: Purse) -> None:
    mint.node.set_routes(Route(hops=1))
    melt = purse.prepare(mint.invoice(AMOUNT, Behaviour.success(fee_msat=0)))
    assert melt.quote.fee_reserve == 0
    purse.post(melt)
    purse.assert_paid(melt, fee_msat=0)


def test_a_payment_of_which_one_part_goes_further_has_a_margin(mint: Mint, purse: Purse) -> None:
    mint.node.set_routes(Route(hops=1), Route(hops=2))
    assert reserve(purse) == MARGIN


def test_the_fees_of_all_parts_count(mint: Mint, purse: Purse) -> None:
    mint.node.set_routes(*sat(100, 50, 0))
    assert reserve(purse) == 300


def test_the_length_of_a_route_does_not_matter(mint: Mint, purse: Purse) -> None:
    mint.node.set_routes(Route(fee_msat=200_000, hops=5))
    assert reserve(purse) == 400


def test_the_price_is_charged_and_the_margin_comes_back_as_change(mint: Mint, purse: Purse) -> None:
    mint.node.set_routes(*sat(50))
    melt = purse.prepare(mint.invoice(AMOUNT, Behaviour.success(fee_msat=50_000)))
    answer = purse.post(melt)
    assert sum(p.amount for p in purse.change(melt, answer)) == melt.quote.fee_reserve - 50 == MARGIN
    purse.assert_paid(melt, fee_msat=50_000)


def test_the_margin_pays_for_a_second_best_route(mint: Mint, purse: Purse) -> None:
    mint.node.set_routes(*sat(50))
    melt = purse.prepare(mint.invoice(AMOUNT, Behaviour(parts=(Part.success(fee_msat=75_000),) * 2)))
    assert purse.post(melt).state == PAID
    purse.assert_paid(melt, fee_msat=150_000)


def test_a_small_price_is_rounded_up_to_the_unit(mint: Mint, purse: Purse) -> None:
    mint.node.set_routes(Route(fee_msat=1))
    assert reserve(purse, 100) == 1  # 1 msat and a margin of 200


def test_the_unit_of_the_quote_does_not_change_the_price(make_mint: MakeMint) -> None:
    mint = make_mint(units="sat,msat")
    mint.node.set_routes(Route(fee_msat=300_001))
    quote = Purse(mint, "msat").quote(mint.invoice(AMOUNT))
    assert (quote.amount, quote.fee_reserve) == (AMOUNT * 1000, 600_002)


def test_an_own_invoice_needs_no_reserve_and_no_route(mint: Mint, purse: Purse) -> None:
    own = purse.request_mint(1000)
    quotes = []
    assert searches(mint, lambda: quotes.append(purse.quote(own.request))) == []
    assert quotes[0].fee_reserve == 0


def test_an_operator_who_reserves_nothing_does_not_for_a_dear_route_either(make_mint: MakeMint) -> None:
    mint = make_mint(fee_reserve_percent=0, fee_reserve_min=0)
    assert reserve(Purse(mint)) == 0
    assert len(mint.node.calls("getroutes")) == 1


# --- what is asked ------------------------------------------------------------------------------------------------


def test_the_node_is_asked_as_xpay_asks_it(mint: Mint, purse: Purse) -> None:
    invoice = mint.invoice(AMOUNT)
    decoded = mint.node.rpc("decode", string=str(invoice))
    assert searches(mint, lambda: purse.quote(invoice)) == [
        {
            "source": mint.node.id,
            "destination": decoded["payee"],
            "amount_msat": AMOUNT * 1000,
            "layers": LAYERS,
            "maxfee_msat": FALLBACK * 1000,
            "final_cltv": decoded["min_final_cltv_expiry"],
            "maxdelay": 1008,
        }
    ]


def test_a_route_dearer_than_the_fallback_is_looked_for_once_more(mint: Mint, purse: Purse) -> None:
    mint.node.set_routes(*sat(FALLBACK + 1))
    asked = searches(mint, lambda: reserve(purse))
    assert [params["maxfee_msat"] for params in asked] == [FALLBACK * 1000, DEAREST * 1000]


def test_a_part_of_an_invoice_is_priced_by_itself(mint: Mint, purse: Purse) -> None:
    mint.node.set_routes(*sat(0))
    part = MeltQuoteOptions(mpp=MppOption(amount=AMOUNT * 1000 // 4))
    quotes = []
    (asked,) = searches(mint, lambda: quotes.append(purse.quote(mint.invoice(AMOUNT), options=part)))
    assert asked["amount_msat"] == AMOUNT * 1000 // 4
    assert quotes[0].fee_reserve == MARGIN // 4


def test_an_amountless_invoice_is_priced_by_the_wallets_amount(mint: Mint, purse: Purse) -> None:
    invoice = mint.node.outside_invoice(None)
    (asked,) = searches(mint, lambda: purse.quote(invoice, amount_msat=70_500))
    assert asked["amount_msat"] == 70_500


# --- without a price ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "message"), NO_ROUTE.values(), ids=list(NO_ROUTE))
def test_without_a_route_the_fallback_is_reserved(mint: Mint, purse: Purse, code: int, message: str) -> None:
    mint.node.fail_rpc("getroutes", code, message)
    reserves = []
    assert len(searches(mint, lambda: reserves.append(reserve(purse)))) == 1
    assert reserves == [FALLBACK]
    assert reserve(purse) == 1 + MARGIN  # the next quote has a price again


def test_a_route_that_takes_too_long_has_no_price(mint: Mint, purse: Purse) -> None:
    """206 is said of too long a lock as well: a higher limit for the fee does not help, and the fallback counts."""
    mint.node.fail_rpc("getroutes", 206, "Could not find route without excessive delays", times=2)
    assert reserve(purse) == FALLBACK


@pytest.mark.parametrize(
    "answer",
    [{}, {"routes": []}, {"routes": [{}]}, {"routes": [{"amount_msat": 1, "path": []}]}, {"routes": None}],
    ids=["nothing", "no routes", "no path", "empty path", "null"],
)
def test_an_answer_of_an_unknown_form_is_no_price(mint: Mint, purse: Purse, answer: Any) -> None:
    position = mint.node.log_position
    mint.node.do(lambda node: setattr(node.routes, "answer", lambda _args: answer))
    try:
        assert reserve(purse) == FALLBACK
    finally:
        mint.node.do(lambda node: delattr(node.routes, "answer"))
    mint.node.wait_for_log("no price", since=position)


def test_a_slow_answer_is_not_waited_for(make_mint: MakeMint) -> None:
    """The quote comes while the node is still searching, and what the node says then disturbs nobody."""
    mint = make_mint(started=False)
    mint.change_inside(constants={"plugin.methods.pricing:PRICE_WAIT_S": 0.2})
    mint.start()
    purse = Purse(mint)
    mint.node.pause_rpc("getroutes")
    assert reserve(purse) == FALLBACK
    mint.node.fail_rpc("getroutes", 205, "late")
    mint.node.resume_rpc("getroutes")
    wait_for(lambda: reserve(purse) == MARGIN + 1, "a price in time")


def test_quotes_do_not_crowd_the_nodes_route_searches(make_mint: MakeMint) -> None:
    """While two searches hang, no third is begun for any quote; when they have ended, quotes are priced again."""
    mint = make_mint(started=False)
    mint.change_inside(constants={"plugin.methods.pricing:PRICE_WAIT_S": 0.2})
    mint.start()
    purse = Purse(mint)
    mint.node.pause_rpc("getroutes")
    assert [reserve(purse) for _ in range(5)] == [FALLBACK] * 5
    assert len(mint.node.calls("getroutes")) == 2
    mint.node.resume_rpc("getroutes")
    wait_for(lambda: reserve(purse) == MARGIN + 1, "a price in time")


def test_a_node_that_hangs_up_is_no_price(mint: Mint, purse: Purse) -> None:
    mint.node.pause_rpc("getroutes")
    invoice = mint.invoice(AMOUNT)
    position = mint.node.calls_position
    melt = purse.quote_soon(invoice)
    mint.node.wait_for_call("getroutes", since=position)
    mint.node.close_rpc_connections()
    mint.node.resume_rpc("getroutes")
    assert melt.result(60).fee_reserve == FALLBACK


# --- route hints --------------------------------------------------------------------------------------------------


def hinted(mint: Mint, *hints: tuple[Hop, ...], behaviour: Behaviour | None = None) -> OutsideInvoice:
    """An invoice of AMOUNT with route hints, by a node that is not public."""
    mint.node.set_routes()
    invoice = mint.node.outside_invoice(AMOUNT * 1000, hints=hints, behaviour=behaviour)
    mint.secrets.add(invoice.preimage)
    return invoice


def test_a_private_destination_is_priced_to_its_hint_and_by_the_hint(mint: Mint, purse: Purse) -> None:
    invoice = hinted(mint, *HINT)
    mint.node.set_routes(*sat(300), destination=HEAD.hex())
    quotes = []
    direct, over_hint = searches(mint, lambda: quotes.append(purse.quote(invoice)))
    assert quotes[0].fee_reserve == 2 * (300 + HINT_FEE)
    assert direct["destination"] == mint.node.node.outside.node_id
    assert over_hint["destination"] == HEAD.hex()
    assert over_hint["amount_msat"] == (AMOUNT + HINT_FEE) * 1000
    assert over_hint["maxfee_msat"] == (FALLBACK - HINT_FEE) * 1000
    assert over_hint["final_cltv"] == direct["final_cltv"] + 34


def test_a_payment_over_a_hint_succeeds_with_its_reserve(mint: Mint, purse: Purse) -> None:
    invoice = hinted(mint, *HINT, behaviour=Behaviour.success(fee_msat=(300 + HINT_FEE) * 1000))
    mint.node.set_routes(*sat(300), destination=HEAD.hex())
    melt: Melt = purse.prepare(invoice)
    purse.post(melt)
    purse.assert_paid(melt, fee_msat=(300 + HINT_FEE) * 1000)


def test_the_hops_of_a_hint_are_added_up_from_its_end(mint: Mint, purse: Purse) -> None:
    hops = (
        Hop(HEAD, 1 << 40, fee_base_msat=1000, fee_proportional_millionths=1000, cltv_expiry_delta=10),
        Hop(MIDDLE, 2 << 40, fee_base_msat=3000, fee_proportional_millionths=2000, cltv_expiry_delta=20),
    )
    invoice = hinted(mint, hops)
    mint.node.set_routes(*sat(0), destination=HEAD.hex())
    _, over_hint = searches(mint, lambda: purse.quote(invoice))
    # 100 000 sat leave MIDDLE, 3 + 200 more leave HEAD, of which HEAD takes 1 and a thousandth
    exact_msat = 203_000 + 1_000 + 100_203
    assert 0 <= over_hint["amount_msat"] - AMOUNT * 1000 - exact_msat <= AMOUNT // 1000
    assert over_hint["final_cltv"] == 10 + 10 + 20


def test_the_cheapest_of_several_ways_is_the_price(mint: Mint, purse: Purse) -> None:
    free = tuple(Hop(key, 1 << 40, 0, 0, 10) for key in (HEAD, MIDDLE))
    invoice = hinted(mint, free[:1], free[1:])
    for key, price in ((HEAD, 400), (MIDDLE, 200)):
        mint.node.set_routes(*sat(price), destination=key.hex())
    assert purse.quote(invoice).fee_reserve == 400
    mint.node.set_routes(*sat(150))  # the destination itself has become public
    assert purse.quote(invoice).fee_reserve == 300


def test_a_dear_way_does_not_count_where_there_is_another(mint: Mint, purse: Purse) -> None:
    free = tuple(Hop(key, 1 << 40, 0, 0, 10) for key in (HEAD, MIDDLE))
    invoice = hinted(mint, free[:1], free[1:])
    mint.node.set_routes(*sat(FALLBACK + 500), destination=HEAD.hex())
    mint.node.set_routes(*sat(10), destination=MIDDLE.hex())
    assert purse.quote(invoice).fee_reserve == 10 + MARGIN


def test_only_some_of_many_hints_are_priced(mint: Mint, purse: Purse) -> None:
    keys = [PrivateKey(bytes([number] * 32)).public_key.format() for number in range(1, 9)]
    invoice = hinted(mint, *((Hop(key, 1 << 40, 0, 0, 10),) for key in keys))
    asked = searches(mint, lambda: purse.quote(invoice))
    assert [params["destination"] for params in asked[1:]] == [key.hex() for key in keys[:3]]


def test_a_hint_over_this_node_costs_what_lies_behind_it(mint: Mint, purse: Purse) -> None:
    """askrene crashes when it is asked for the way to its own node. Nor does the node pay its own fee."""
    own = Hop(bytes.fromhex(mint.node.id), 1 << 40, 500_000, 0, 10)
    invoice = hinted(mint, (own, *HINT[0]), (own,))
    mint.node.set_routes(*sat(0), destination=HEAD.hex())
    quotes = []
    asked = searches(mint, lambda: quotes.append(purse.quote(invoice)))
    assert [params["destination"] for params in asked] == [mint.node.node.outside.node_id, HEAD.hex()]
    assert quotes[0].fee_reserve == HINT_FEE + MARGIN


@pytest.mark.parametrize(("base", "reserved"), [(1001, 1102), (DEAREST, DEAREST * 11 // 10), (DEAREST + 1, FALLBACK)])
def test_a_hint_that_asks_for_much_is_reserved_for_up_to_the_limit(
    mint: Mint, purse: Purse, base: int, reserved: int
) -> None:
    invoice = hinted(mint, (Hop(HEAD, 1 << 40, base * 1000, 0, 10),))
    mint.node.set_routes(*sat(0), destination=HEAD.hex())
    assert purse.quote(invoice).fee_reserve == reserved


# --- liquidity: melts ---------------------------------------------------------------------------------------------


def set_spendable(mint: Mint, amount_msat: int) -> None:
    """Exactly so much can be sent; and received."""
    mint.node.set_channel(capacity_msat=100 * 10**6, to_us_msat=10**6 + amount_msat)
    (channel,) = mint.node.rpc("listpeerchannels")["channels"]
    assert channel["spendable_msat"] == amount_msat


def set_receivable(mint: Mint, amount_msat: int) -> None:
    """Exactly so much can be received."""
    mint.node.set_channel(capacity_msat=100 * 10**6, to_us_msat=99 * 10**6 - amount_msat)
    (channel,) = mint.node.rpc("listpeerchannels")["channels"]
    assert channel["receivable_msat"] == amount_msat


def further(mint: Mint, **differences: Any) -> None:
    """One more channel, with room for 50 sat."""
    channel = {"short_channel_id": "104x1x0", "spendable_msat": 50_000, "receivable_msat": 50_000, **differences}
    mint.node.settings.further_channels.append(channel)


def test_a_melt_that_the_channels_cannot_send_is_refused_at_its_quote(mint: Mint, purse: Purse) -> None:
    set_spendable(mint, 200_000)
    assert purse.quote(mint.invoice(200)).amount == 200
    asked = searches(mint, lambda: refused(lambda: purse.quote(mint.invoice(201))))
    assert asked == []
    assert "can't send" in refused(lambda: purse.quote(mint.invoice(201))).detail


def test_a_part_counts_by_itself(mint: Mint, purse: Purse) -> None:
    set_spendable(mint, 200_000)
    invoice = mint.invoice(1000)
    for part_msat, allowed in ((200_000, True), (200_001, False)):
        options = MeltQuoteOptions(mpp=MppOption(amount=part_msat))
        if allowed:
            assert purse.quote(invoice, options=options).amount == 200
        else:
            refused(lambda options=options: purse.quote(invoice, options=options))  # type: ignore[misc]


def test_what_is_in_flight_cannot_be_sent_again(mint: Mint, purse: Purse) -> None:
    melt = purse.prepare(mint.invoice(150, Behaviour.hold()))
    set_spendable(mint, 300_000)
    purse.post(melt, prefer_async=True)
    mint.node.wait_for_part(str(melt.invoice))
    refused(lambda: purse.quote(mint.invoice(150)))
    mint.node.release(str(melt.invoice), ok=False)
    purse.assert_failed(melt)
    assert purse.quote(mint.invoice(150)).amount == 150


def test_a_melt_is_refused_while_the_peer_is_away(mint: Mint, purse: Purse) -> None:
    mint.node.set_channel(connected=False)
    refused(lambda: purse.quote(mint.invoice(1)))
    mint.node.set_channel(connected=True)
    assert purse.quote(mint.invoice(1)).amount == 1


@pytest.mark.parametrize(
    ("differences", "counts"),
    [
        ({}, True),
        ({"state": "CHANNELD_AWAITING_SPLICE"}, True),
        ({"peer_connected": False}, False),
        ({"state": "CHANNELD_AWAITING_LOCKIN"}, False),
        ({"state": "CHANNELD_SHUTTING_DOWN"}, False),
        ({"state": "ONCHAIN", "peer_connected": True}, False),
    ],
    ids=["usable", "splicing", "offline", "opening", "closing", "closed"],
)
def test_usable_channels_count_together(mint: Mint, purse: Purse, differences: dict[str, Any], counts: bool) -> None:
    cases: list[tuple[Callable[[Mint, int], None], Callable[[], MeltQuoteLightning | MintQuoteBolt11]]] = [
        (set_spendable, lambda: purse.quote(mint.invoice(250))),
        (set_receivable, lambda: purse.request_mint(250)),
    ]
    for set_channel, ask in cases:
        mint.node.settings.further_channels.clear()
        set_channel(mint, 200_000)
        further(mint, **differences)
        if counts:
            assert ask().amount == 250
        else:
            refused(ask)


def test_an_own_invoice_can_be_paid_without_liquidity(mint: Mint, purse: Purse) -> None:
    own = purse.request_mint(64)
    melt = purse.prepare(own.request)
    set_spendable(mint, 0)
    mint.node.set_channel(connected=False)
    assert purse.quote(own.request).fee_reserve == 0
    purse.post(melt)
    purse.assert_paid(melt, fee_msat=0)


def test_a_melt_of_a_paid_invoice_is_refused_for_that_first(mint: Mint, purse: Purse) -> None:
    melt = purse.prepare(mint.invoice(100))
    purse.post(melt)
    purse.assert_paid(melt)
    set_spendable(mint, 0)
    with pytest.raises(MintError) as caught:
        purse.quote(str(melt.invoice))
    assert caught.value.code == Code.INVOICE_PAID


# --- liquidity: mint quotes ---------------------------------------------------------------------------------------


def test_a_mint_quote_beyond_what_the_channels_can_receive_is_refused(mint: Mint, purse: Purse) -> None:
    set_receivable(mint, 200_000)
    assert purse.request_mint(200).amount == 200
    made = mint.node.calls("invoice")
    assert "can't receive" in refused(lambda: purse.request_mint(201)).detail
    assert mint.node.calls("invoice") == made


def test_a_mint_quote_is_refused_while_the_peer_is_away(mint: Mint, purse: Purse) -> None:
    mint.node.set_channel(connected=False)
    refused(lambda: purse.request_mint(1))
    mint.node.set_channel(connected=True)
    assert purse.request_mint(1).amount == 1


def test_limits_are_told_before_liquidity(make_mint: MakeMint) -> None:
    mint = make_mint(methods="bolt11,bolt12", max_mint=100, max_melt=100)
    mint.node.set_channel(connected=False)
    purse = Purse(mint)
    for ask in (lambda: purse.request_mint(101), lambda: purse.quote(mint.invoice(101))):
        with pytest.raises(MintError) as caught:
            ask()
        assert caught.value.code == Code.AMOUNT_OUTSIDE_LIMITS


@pytest.mark.parametrize("what", ["mint", "melt"])
def test_a_node_that_cannot_be_asked_for_its_channels_makes_no_quote(mint: Mint, purse: Purse, what: str) -> None:
    body = {"unit": "sat", "amount": 10} if what == "mint" else {"unit": "sat", "request": str(mint.invoice(10))}
    mint.node.fail_rpc("listpeerchannels", -1, "not now")
    assert mint.http.post(f"/v1/{what}/quote/bolt11", json=body).status_code == 503
    assert mint.http.post(f"/v1/{what}/quote/bolt11", json=body).status_code == 200
