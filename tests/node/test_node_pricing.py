"""Prices and liquidity on a real node: what is reserved is enough, and what can't work is refused early.

mint ─┬─ dry ─┬─ target
      └─ wet ─┘
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from contrib.wallet.errors import MintError
from ledger.models import MeltQuoteState, ProofState
from plugin.node.routes import LAYERS
from tests.node.harness import Invoice, Mint, Network, Node, wait_for
from tests.node.purse import Attempt, Purse

QUOTE_REJECTED = 20000

AMOUNT = 100_000
FALLBACK = 1000
"""One percent of that."""
MARGIN = FALLBACK // 10

CAPACITY = 1_000_000
DRY_FEE, WET_FEE = (0, 200), (1000, 900)
"""Base in msat, and millionths: 20 and 91 sat for AMOUNT."""


def refused(ask: Callable[[], object]) -> MintError:
    """A refusal at the quote, which tells nothing of the node's channels."""
    with pytest.raises(MintError) as caught:
        ask()
    assert caught.value.code == QUOTE_REJECTED
    assert "at the moment" in caught.value.detail
    assert not any(character.isdigit() for character in caught.value.detail)
    return caught.value


def melt(purse: Purse, invoice: Invoice, destination: Node) -> tuple[Attempt, int]:
    """Pay an invoice, and get the change; returns the fee that the wallet was charged."""
    attempt = purse.prepare(invoice.bolt11)
    before = purse.balance + sum(proof.amount for proof in attempt.inputs)
    answer = purse.post(attempt)
    assert answer.state == MeltQuoteState.PAID
    purse.finish(attempt, answer)
    assert destination.is_paid(invoice)
    return attempt, before - purse.balance - attempt.quote.amount


def fee_msat(mint: Mint, invoice: Invoice) -> int:
    """What the node paid in routing fees, for all parts that arrived."""
    rows = [row for row in mint.payment_rows(invoice.payment_hash) if row["status"] == "complete"]
    return sum(int(row["amount_sent_msat"]) - int(row["amount_msat"]) for row in rows)


# --- one way ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rich(shared_mint: Mint, network: Network) -> Purse:
    """Half a million sat of the shared mint."""
    purse = Purse(shared_mint)
    purse.fund(500_000, network.hub.pay)
    return purse


def test_a_direct_peer_is_paid_without_a_reserve(rich: Purse, shared_mint: Mint, network: Network) -> None:
    invoice = network.hub.invoice(AMOUNT)
    attempt, cost = melt(rich, invoice, network.hub)
    assert (attempt.quote.fee_reserve, cost, fee_msat(shared_mint, invoice)) == (0, 0, 0)


@pytest.mark.parametrize("amount", [1, 1000, AMOUNT])
def test_two_hops_cost_what_the_hub_asks_and_the_margin_comes_back(
    rich: Purse, shared_mint: Mint, network: Network, amount: int
) -> None:
    """The hub asks for 1 msat and ten millionths, as a node does by default on regtest."""
    invoice = network.receiver.invoice(amount)
    attempt, cost = melt(rich, invoice, network.receiver)
    price_msat = 1 + amount * 1000 * 10 // 10**6
    fallback_msat = max(amount * 10, 2000)
    assert attempt.quote.fee_reserve == -(-(price_msat + max(price_msat, fallback_msat // 10)) // 1000)
    assert fee_msat(shared_mint, invoice) == price_msat
    assert cost == -(-price_msat // 1000)


def test_a_destination_without_a_route_gets_the_fallback(rich: Purse, network: Network) -> None:
    assert rich.client.request_melt_quote(network.island.invoice(AMOUNT).bolt11).fee_reserve == FALLBACK


def test_an_own_invoice_needs_no_reserve(rich: Purse) -> None:
    assert rich.client.request_melt_quote(rich.request_mint(AMOUNT).request).fee_reserve == 0


def test_a_private_destination_is_priced_by_its_hint_and_paid(rich: Purse, shared_mint: Mint, network: Network) -> None:
    """Its channel with the hub is not announced: the invoice says what the hub asks, and the mint is the hub's peer."""
    with network.nodes(1) as (private,):
        network.open_channel(network.hub, private, announced=False)
        network.hub.set_fee(private, base_msat=5000, millionths=300)

        def made() -> Invoice | None:
            invoice = private.invoice(AMOUNT, exposeprivatechannels=True)
            decoded = private.call("decode", string=invoice.bolt11)
            return invoice if any(hop[0]["fee_base_msat"] == 5000 for hop in decoded.get("routes", [])) else None

        invoice = wait_for(made, "an invoice with a hint")
        assert invoice is not None
        attempt, cost = melt(rich, invoice, private)
        assert attempt.quote.fee_reserve == 5 + 30 + MARGIN
        assert (cost, fee_msat(shared_mint, invoice)) == (35, 35_000)


def test_a_private_peer_of_this_node_is_paid_without_a_reserve(
    rich: Purse, shared_mint: Mint, network: Network
) -> None:
    """The hint of its invoice leads over the mint's own node, which it must not look for."""
    with network.nodes(1) as (private,):
        network.open_channel(private, shared_mint, announced=False)
        invoice = private.invoice(1000)
        wait_for(lambda: "private" in str(shared_mint.call("listpeerchannels", id=private.id)), "the channel")
        hinted = private.invoice(1000, exposeprivatechannels=True)
        for each in (invoice, hinted):
            attempt, cost = melt(rich, each, private)
            assert (attempt.quote.fee_reserve, cost) == (0, 0)


# --- two ways ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fork:
    """A mint from which two ways lead to the target, with ecash to pay over them."""

    mint: Mint
    purse: Purse
    dry: Node
    wet: Node
    target: Node


@pytest.fixture
def fork(network: Network) -> Iterator[Fork]:
    """Both ways are open, and each is too small for 900 000 sat."""
    with network.nodes(3) as (dry, wet, target), network.mint(channels={}) as mint:
        for node, (base_msat, millionths) in ((dry, DRY_FEE), (wet, WET_FEE)):
            network.open_channel(node, target, CAPACITY, 0)
            network.open_channel(node, mint, CAPACITY, 300_000, announced=False)
            node.set_fee(target, base_msat=base_msat, millionths=millionths)
        for node, (_, millionths) in ((dry, DRY_FEE), (wet, WET_FEE)):
            wait_for(lambda n=node, m=millionths: mint.knows_fee(n, target, m), "the fees to be known")  # type: ignore[misc]
        purse = Purse(mint)
        purse.fund(500_000, dry.pay)
        purse.fund(500_000, wet.pay)
        yield Fork(mint, purse, dry, wet, target)


def test_a_payment_that_needs_both_ways_succeeds_with_its_reserve(fork: Fork) -> None:
    """getroutes finds both parts, and their fees together are the price."""
    invoice = fork.target.invoice(900_000)
    attempt, cost = melt(fork.purse, invoice, fork.target)
    rows = fork.mint.payment_rows(invoice.payment_hash)
    assert len(rows) > 1, "the payment was meant to need two parts"
    paid_msat = fee_msat(fork.mint, invoice)
    assert cost == -(-paid_msat // 1000)
    assert paid_msat >= 900_000 * DRY_FEE[1] // 1000
    fallback = 9000
    assert cost < attempt.quote.fee_reserve < fallback
    assert fork.mint.outstanding_sat() == fork.purse.balance


def test_the_margin_is_enough_for_the_second_best_way(fork: Fork) -> None:
    """The cheap way runs dry without anybody hearing of it: the payment fails there, and goes over the dear one."""
    spendable = fork.dry.call("listpeerchannels", id=fork.target.id)["channels"][0]["spendable_msat"]
    fork.dry.pay(fork.target.invoice((spendable - 50_000_000) // 1000).bolt11)
    invoice = fork.target.invoice(AMOUNT)
    attempt, cost = melt(fork.purse, invoice, fork.target)
    statuses = sorted(row["status"] for row in fork.mint.payment_rows(invoice.payment_hash))
    assert "failed" in statuses, "the cheap way was meant to fail"
    assert attempt.quote.fee_reserve == 20 + MARGIN
    assert 20 < cost <= attempt.quote.fee_reserve
    later = fork.purse.client.request_melt_quote(fork.target.invoice(AMOUNT).bolt11)
    assert later.fee_reserve > attempt.quote.fee_reserve, "what xpay has learned was meant to be in the next price"


def test_a_route_dearer_than_the_fallback_is_reserved_for_and_paid(fork: Fork) -> None:
    """Three percent on every way: with one percent reserved no payment would go through."""
    for node in (fork.dry, fork.wet):
        node.set_fee(fork.target, base_msat=0, millionths=30_000)
        wait_for(lambda n=node: fork.mint.knows_fee(n, fork.target, 30_000), "the fees to be known")  # type: ignore[misc]
    invoice = fork.target.invoice(AMOUNT)
    attempt, cost = melt(fork.purse, invoice, fork.target)
    assert (cost, attempt.quote.fee_reserve) == (3 * FALLBACK, 3 * FALLBACK * 11 // 10)


# --- liquidity --------------------------------------------------------------------------------------------------------


def limits_msat(mint: Mint) -> tuple[int, int]:
    """What the mint's channels can send and receive."""
    channels = mint.call("listpeerchannels")["channels"]
    return sum(int(c["spendable_msat"]) for c in channels), sum(int(c["receivable_msat"]) for c in channels)


def test_amounts_beyond_the_channels_are_refused_at_the_quote(network: Network) -> None:
    """Exactly from the next sat on, and before the wallet has done anything."""
    with network.mint(channels={"hub": (CAPACITY, 400_000)}) as mint:
        purse = Purse(mint)
        spendable, receivable = (msat // 1000 for msat in limits_msat(mint))
        assert purse.client.request_mint_quote(receivable).amount == receivable
        assert "can't receive" in refused(lambda: purse.client.request_mint_quote(receivable + 1)).detail

        def melt_quote(amount: int) -> Any:
            return purse.client.request_melt_quote(network.receiver.invoice(amount).bolt11)

        assert melt_quote(spendable).amount == spendable
        assert "can't send" in refused(lambda: melt_quote(spendable + 1)).detail


def test_what_only_several_channels_can_receive_is_not_refused(network: Network) -> None:
    """Half as much again as either of two channels can receive: the payer splits."""
    with network.mint(channels={"hub": (CAPACITY, 400_000), "receiver": (CAPACITY, 400_000)}, announced=True) as mint:
        purse = Purse(mint)
        single = max(int(c["receivable_msat"]) for c in mint.call("listpeerchannels")["channels"]) // 1000
        amount = single * 3 // 2
        quote = purse.request_mint(amount)
        network.hub.pay(quote.request)
        purse.wait_paid(quote)
        purse.collect(quote)
        assert purse.balance == amount


def test_a_node_without_channels_serves_only_its_own_invoices(network: Network) -> None:
    mint = network.plain_mint()
    try:
        mint.start()
        mint.wait_ready()
        purse = Purse(mint)
        refused(lambda: purse.request_mint(1))
        refused(lambda: purse.client.request_melt_quote(network.receiver.invoice(1).bolt11))
        own = mint.invoice(1000)
        assert purse.client.request_melt_quote(own.bolt11).fee_reserve == 0
    finally:
        problems = network.discard(mint)
    assert not problems, "\n".join(problems)


def test_quotes_are_refused_while_the_peer_is_offline_and_given_again_after(network: Network) -> None:
    """A peer that is gone counts for nothing, also for a melt that was quoted before; when it is back all is well."""
    with network.nodes(1) as (peer,), network.mint(channels={}) as mint:
        network.open_channel(peer, mint, CAPACITY, 400_000, announced=False)
        purse = Purse(mint)
        purse.fund(20_000, peer.pay)
        invoices = [peer.invoice(1000) for _ in range(3)]
        attempt = purse.prepare(invoices[0].bolt11)
        peer.stop()
        wait_for(lambda: not any(p["connected"] for p in mint.call("listpeers")["peers"]), "the peer to be gone")
        assert min(limits_msat(mint)) > 0
        refused(lambda: purse.request_mint(1))
        refused(lambda: purse.client.request_melt_quote(invoices[1].bolt11))
        assert purse.try_post(attempt) is not None
        assert purse.states(attempt.inputs) == {ProofState.UNSPENT}
        purse.finish(attempt, purse.look(attempt))
        peer.start()
        mint.connect(peer)
        _, cost = melt(purse, invoices[2], peer)
        assert cost == 0


# --- what the stand-in was made after ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "code", "text"),
    [
        ({"amount_msat": 0}, -32602, "amount must be non-zero"),
        ({"layers": ["no such layer"]}, -32602, "layers: unknown layer"),
        ({"destination": "103x1x0/1"}, -32602, "destination: should be a node id"),
        ({"destination": "island"}, 205, "Unknown destination node"),
        ({"maxdelay": 2017}, 217, "maximum delay allowed is 2016"),
        ({"maxfee_msat": 0}, 206, "Could not find route without excessive cost"),
        ({"maxdelay": 20}, 206, "Could not find route without excessive delays"),
        ({"amount_msat": 10**11}, 205, "We could not find a usable set of paths."),
    ],
    ids=str,
)
def test_getroutes_refuses_as_the_stand_in_does(
    shared_mint: Mint, network: Network, changes: dict[str, Any], code: int, text: str
) -> None:
    from pyln.client import RpcError

    request = {
        "source": shared_mint.id,
        "destination": network.receiver.id,
        "amount_msat": 1_000_000,
        "layers": LAYERS,
        "maxfee_msat": 10_000,
        "final_cltv": 18,
        **changes,
    }
    if request["destination"] == "island":
        request["destination"] = network.island.id
    with pytest.raises(RpcError) as caught:
        shared_mint.call("getroutes", **request)
    error: Any = caught.value.error
    assert error["code"] == code
    assert text in error["message"]


def test_xpays_layer_is_there_before_any_payment(network: Network) -> None:
    with network.mint() as mint:
        layers = mint.call("askrene-listlayers")["layers"]
        assert "xpay" in [layer["layer"] for layer in layers]
