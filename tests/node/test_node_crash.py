"""Stops and kills, of plugin and node, in the middle of melts: afterwards the mint's books agree with the node's truth.

Each test has a node of its own. What really happened is asked of the receiver: was it paid or not?
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from ledger.models import MeltQuoteState, ProofState
from tests.node.harness import PATIENCE_S, SOON_S, Invoice, Mint, Network
from tests.node.purse import Attempt, Purse, funded_purse

PENDING = MeltQuoteState.PENDING
PAID = MeltQuoteState.PAID
UNPAID = MeltQuoteState.UNPAID


def start_held(purse: Purse, network: Network) -> tuple[Attempt, Invoice]:
    """A melt whose payment has arrived and is held."""
    invoice = network.receiver.invoice(1000)
    network.receiver.plan(invoice, "hold")
    attempt = purse.start_async(invoice.bolt11)
    network.receiver.wait_held(invoice)
    return attempt, invoice


def assert_books_agree(mint: Mint, purse: Purse, attempt: Attempt, *, paid: bool) -> None:
    """The decided melt is what really happened, its proofs likewise, and the mint owes what the wallet has."""
    quote = purse.look(attempt)
    assert quote.state == (PAID if paid else UNPAID)
    assert purse.states(attempt.inputs) == {ProofState.SPENT if paid else ProofState.UNSPENT}
    if paid:
        cost = 10_000 - purse.balance
        assert quote.amount <= cost <= quote.amount + quote.fee_reserve
        assert quote.payment_preimage
    else:
        assert purse.balance == 10_000
        assert quote.error
    assert mint.outstanding_sat() == purse.balance
    assert mint.cashu_info()["pending_melts"] == 0


# --- the plugin alone -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["accept", "reject"])
@pytest.mark.parametrize("way", ["stop", "kill"])
def test_the_plugin_comes_back_to_a_held_melt(
    own_mint: Mint, own_purse: Purse, network: Network, way: str, action: str
) -> None:
    """Plugin stopped or killed and started with a melt held: still PENDING; what then happens is noticed at once."""
    attempt, invoice = start_held(own_purse, network)
    (own_mint.stop_plugin if way == "stop" else own_mint.kill_plugin)()
    own_mint.start_plugin()
    own_mint.wait_ready()
    assert own_purse.look(attempt).state == PENDING
    assert own_purse.states(attempt.inputs) == {ProofState.PENDING}
    network.receiver.release(invoice, action)
    own_purse.wait_final(attempt, SOON_S)
    assert_books_agree(own_mint, own_purse, attempt, paid=action == "accept")


@pytest.mark.parametrize("action", ["accept", "reject"])
@pytest.mark.parametrize("way", ["stop", "kill"])
def test_the_plugin_was_away_when_a_held_melt_was_decided(
    own_mint: Mint, own_purse: Purse, network: Network, way: str, action: str
) -> None:
    """The outcome comes while the plugin is stopped or killed: it is found at start, change included."""
    attempt, invoice = start_held(own_purse, network)
    (own_mint.stop_plugin if way == "stop" else own_mint.kill_plugin)()
    network.receiver.release(invoice, action)
    own_mint.wait_decided(invoice.payment_hash)
    own_mint.start_plugin()
    own_mint.wait_ready()
    own_purse.wait_final(attempt, SOON_S)
    assert_books_agree(own_mint, own_purse, attempt, paid=action == "accept")


@pytest.mark.parametrize(
    ("kind", "delay_ms"),
    [("paid", 0), ("paid", 15), ("refused", 15), ("unroutable", 0)],
)
def test_a_plugin_killed_around_dispatch_finds_out(network: Network, kind: str, delay_ms: int) -> None:
    """The plugin is killed just after PENDING, before it can hear of the outcome: it finds the truth later.

    Where the node has no record, an xpay of before may still be looking for a route: that takes its time.
    """
    payee = network.island if kind == "unroutable" else network.receiver
    invoice = payee.invoice(1000)
    if kind == "refused":
        network.receiver.plan(invoice, "reject", "reject")
    with network.mint(cashu_retry_for=1) as mint:
        purse = funded_purse(mint, network)
        attempt = purse.start_async(invoice.bolt11)
        time.sleep(delay_ms / 1000)
        mint.kill_plugin()
        mint.start_plugin()
        mint.wait_ready()
        purse.wait_final(attempt, 2 * PATIENCE_S)
        assert_books_agree(mint, purse, attempt, paid=payee.is_paid(invoice))


def test_a_plugin_killed_while_it_pays_an_invoice_of_its_own_loses_nothing(
    own_mint: Mint, own_purse: Purse, network: Network
) -> None:
    """Both sides of a payment inside the node are found after the kill: melt PAID and mint quote PAID, or neither."""
    assert network
    friend = Purse(own_mint)
    mint_quote = friend.request_mint(1000)
    attempt = own_purse.start_async(mint_quote.request)
    if not own_mint.has_been_paid(mint_quote.request):
        time.sleep(0.05)
    own_mint.kill_plugin()
    own_mint.start_plugin()
    own_mint.wait_ready()
    paid = own_mint.has_been_paid(mint_quote.request)
    assert own_purse.wait_final(attempt, 3 * PATIENCE_S).state == (PAID if paid else UNPAID)
    if paid:
        friend.wait_paid(mint_quote)
        friend.collect(mint_quote)
    assert own_mint.outstanding_sat() == own_purse.balance + friend.balance == 10_000


# --- the node -------------------------------------------------------------------------------------------------------


def _stop(mint: Mint) -> None:
    mint.stop()


def _kill(mint: Mint) -> None:
    mint.kill()


@pytest.mark.parametrize("action", ["accept", "reject"])
@pytest.mark.parametrize("end", [_stop, _kill])
def test_the_node_comes_back_to_a_held_melt(
    own_mint: Mint, own_purse: Purse, network: Network, end: Callable[[Mint], None], action: str
) -> None:
    """Node stopped or killed and started with a melt held: still PENDING; what then happens is noticed at once."""
    attempt, invoice = start_held(own_purse, network)
    end(own_mint)
    own_mint.start_again()
    assert own_purse.look(attempt).state == PENDING
    assert own_purse.states(attempt.inputs) == {ProofState.PENDING}
    network.receiver.release(invoice, action)
    own_purse.wait_final(attempt, SOON_S)
    assert_books_agree(own_mint, own_purse, attempt, paid=action == "accept")


@pytest.mark.parametrize("action", ["accept", "reject"])
@pytest.mark.parametrize("end", [_stop, _kill])
def test_the_node_was_down_when_a_held_melt_was_decided(
    own_mint: Mint, own_purse: Purse, network: Network, end: Callable[[Mint], None], action: str
) -> None:
    """The outcome comes while the node is down: it is found after the restart, change included."""
    attempt, invoice = start_held(own_purse, network)
    end(own_mint)
    network.receiver.release(invoice, action)
    own_mint.start_again()
    own_purse.wait_final(attempt, SOON_S)
    assert_books_agree(own_mint, own_purse, attempt, paid=action == "accept")


@pytest.mark.parametrize("delay_ms", [0, 2, 4, 6, 8, 11, 15, 20, 40])
def test_a_node_killed_around_dispatch_finds_out(
    own_mint: Mint, own_purse: Purse, network: Network, delay_ms: int
) -> None:
    """kill -9 of the node some milliseconds after PENDING: decided after the restart as it really was, ghosts too."""
    invoice = network.receiver.invoice(1000)
    attempt = own_purse.start_async(invoice.bolt11)
    time.sleep(delay_ms / 1000)
    own_mint.kill()
    own_mint.start_again()
    own_purse.wait_final(attempt)
    assert_books_agree(own_mint, own_purse, attempt, paid=network.receiver.is_paid(invoice))


def test_a_node_killed_before_it_answers_loses_nothing(own_mint: Mint, own_purse: Purse, network: Network) -> None:
    """kill -9 of the node during a synchronous melt that is held: the wallet asks later and learns the truth."""
    invoice = network.receiver.invoice(1000)
    network.receiver.plan(invoice, "hold")
    attempt = own_purse.prepare(invoice.bolt11)
    with own_purse.posting(attempt):
        network.receiver.wait_held(invoice)
        own_mint.kill()
    network.receiver.release(invoice)
    own_mint.start_again()
    own_purse.wait_final(attempt, SOON_S)
    assert_books_agree(own_mint, own_purse, attempt, paid=True)


# --- ghosts ---------------------------------------------------------------------------------------------------------
# With its channel's process frozen, lightningd records a payment that no peer ever hears of. Killed then, it comes back
# with a row that is pending for ever, and no HTLC behind it.


def start_ghost(mint: Mint, purse: Purse, attempt: Attempt, invoice: Invoice) -> None:
    """Post a melt, and kill the node when the payment is recorded but nothing was sent."""
    before = len(mint.payment_rows(invoice.payment_hash))
    mint.freeze_channels()
    purse.post(attempt, prefer_async=True)
    mint.wait_recorded(invoice.payment_hash, before + 1)
    mint.kill()


def test_a_ghost_is_recognised(own_mint: Mint, own_purse: Purse, network: Network) -> None:
    """A payment that was recorded but never sent before the node was killed: UNPAID, with the proofs free."""
    invoice = network.receiver.invoice(1000)
    attempt = own_purse.prepare(invoice.bolt11)
    start_ghost(own_mint, own_purse, attempt, invoice)
    own_mint.start_again()
    own_purse.wait_final(attempt)
    assert [row["status"] for row in own_mint.payment_rows(invoice.payment_hash)] == ["pending"]
    assert_books_agree(own_mint, own_purse, attempt, paid=False)


def test_a_ghost_is_recognised_after_an_earlier_failure(own_mint: Mint, own_purse: Purse, network: Network) -> None:
    """The same, when an earlier attempt has left a dead HTLC of the same hash in the node's list."""
    invoice = network.receiver.invoice(1000)
    network.receiver.plan(invoice, "reject")
    first = own_purse.start_async(invoice.bolt11)
    assert own_purse.wait_final(first).state == UNPAID
    attempt = own_purse.prepare_again(first.quote)
    start_ghost(own_mint, own_purse, attempt, invoice)
    own_mint.start_again()
    assert [h for h in own_mint.call("listhtlcs")["htlcs"] if h["payment_hash"] == invoice.payment_hash]
    own_purse.wait_final(attempt)
    assert_books_agree(own_mint, own_purse, attempt, paid=False)


def test_a_ghost_is_recognised_without_its_peer(own_mint: Mint, own_purse: Purse, network: Network) -> None:
    """Decided or not while the peer is away, the verdict is there once the peer is connected."""
    invoice = network.receiver.invoice(1000)
    attempt = own_purse.prepare(invoice.bolt11)
    start_ghost(own_mint, own_purse, attempt, invoice)
    own_mint.start_offline()
    assert own_purse.look(attempt).state in (PENDING, UNPAID)
    own_mint.stop()
    own_mint.start_again()
    own_purse.wait_final(attempt)
    assert_books_agree(own_mint, own_purse, attempt, paid=False)


def test_a_ghost_is_recognised_by_a_plugin_that_starts_after_the_node(network: Network) -> None:
    """The same for a plugin that is not in the node's configuration, but started by hand each time."""
    mint = network.plain_mint(start_with_node=False)
    mint.start()
    mint.start_plugin()
    mint.wait_ready()
    network.open_channel(network.hub, mint, announced=False)
    network.wait_for_route(mint)
    purse = funded_purse(mint, network)
    invoice = network.receiver.invoice(1000)
    attempt = purse.prepare(invoice.bolt11)
    start_ghost(mint, purse, attempt, invoice)
    mint.start()
    mint.connect(network.hub)
    mint.start_plugin()
    mint.wait_ready()
    purse.wait_final(attempt, SOON_S)
    assert_books_agree(mint, purse, attempt, paid=False)
    assert network.discard(mint) == []


def test_a_quote_with_a_ghost_fails_again_but_never_hangs(own_mint: Mint, own_purse: Purse, network: Network) -> None:
    """The node refuses to pay a hash that has a ghost: each new try is decided, and gives the proofs back."""
    invoice = network.receiver.invoice(1000)
    attempt = own_purse.prepare(invoice.bolt11)
    start_ghost(own_mint, own_purse, attempt, invoice)
    own_mint.start_again()
    own_purse.wait_final(attempt)
    again = own_purse.prepare_again(attempt.quote)
    own_purse.try_post(again, prefer_async=True)
    own_purse.wait_final(again, SOON_S)
    assert_books_agree(own_mint, own_purse, again, paid=False)


@pytest.mark.parametrize("way", ["stop", "kill"])
def test_a_payment_that_is_still_to_be_sent_is_no_ghost(
    own_mint: Mint, own_purse: Purse, network: Network, way: str
) -> None:
    """Recorded, no HTLC yet, and only the plugin restarts: the melt stays PENDING, for the payment is still sent."""
    invoice = network.receiver.invoice(1000)
    attempt = own_purse.prepare(invoice.bolt11)
    own_mint.freeze_channels()
    own_purse.post(attempt, prefer_async=True)
    own_mint.wait_recorded(invoice.payment_hash)
    (own_mint.stop_plugin if way == "stop" else own_mint.kill_plugin)()
    own_mint.start_plugin()
    own_mint.wait_ready()
    time.sleep(2)
    assert own_purse.look(attempt).state == PENDING
    assert own_purse.states(attempt.inputs) == {ProofState.PENDING}
    own_mint.thaw_channels()
    own_purse.wait_final(attempt)
    assert_books_agree(own_mint, own_purse, attempt, paid=True)
