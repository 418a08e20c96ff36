"""Minting and swapping on a real node: ecash is issued for what the node was paid, once, and for nothing else."""

from __future__ import annotations

import httpx
import pytest

from contrib.wallet.errors import MintError
from ledger.models import MintQuoteState, ProofState
from tests.node.harness import Mint, Network, Node, wait_for
from tests.node.purse import Purse

QUOTE_NOT_PAID = 20001
QUOTE_ISSUED = 20002
PROOFS_SPENT = 11001


def test_cashu_info_says_what_the_mint_is_doing(shared_mint: Mint, purse: Purse) -> None:
    """`lightning-cli cashu-info` tells state, address, units, keysets, the ecash owed and the melts in flight."""
    info = shared_mint.cashu_info()
    assert info["state"] == "ready"
    assert info["url"] == shared_mint.url
    assert info["units"] == ["sat"]
    assert [keyset.id for keyset in purse.client.keysets()] == [keyset["id"] for keyset in info["keysets"]]
    assert info["outstanding"]["sat"] >= purse.balance
    assert isinstance(info["pending_melts"], int)


def test_info_names_the_methods(shared_mint: Mint) -> None:
    """`GET /v1/info` offers bolt11 in sat for minting and melting."""
    nuts = httpx.get(f"{shared_mint.url}/v1/info").json()["nuts"]
    for nut in ("4", "5"):
        assert ("bolt11", "sat") in [(entry["method"], entry["unit"]) for entry in nuts[nut]["methods"]]
        assert not nuts[nut]["disabled"]


@pytest.mark.parametrize("payer", ["hub", "receiver"])
def test_a_paid_invoice_is_issued_once(shared_mint: Mint, network: Network, payer: str) -> None:
    """A wallet mints what a peer, or a node two hops away, has paid; a second issue is refused."""
    purse = Purse(shared_mint)
    paying: Node = getattr(network, payer)
    before = shared_mint.outstanding_sat()
    quote = purse.request_mint(1234)
    paying.pay(quote.request)
    assert purse.wait_paid(quote).amount_paid == 1234
    purse.collect(quote)
    assert purse.balance == 1234
    assert shared_mint.outstanding_sat() == before + 1234
    with pytest.raises(MintError) as refusal:
        purse.collect(quote)
    assert refusal.value.code == QUOTE_ISSUED
    assert purse.client.mint_quote(quote.quote).state == MintQuoteState.ISSUED


def test_an_unpaid_invoice_is_not_issued(shared_mint: Mint) -> None:
    """Nothing is issued for a quote whose invoice nobody paid."""
    purse = Purse(shared_mint)
    quote = purse.request_mint(100)
    with pytest.raises(MintError) as refusal:
        purse.collect(quote)
    assert refusal.value.code == QUOTE_NOT_PAID


def test_a_foreign_invoice_of_the_node_is_not_credited(shared_mint: Mint, network: Network) -> None:
    """Payments for the node's other invoices pass by: no ecash comes of them, and later quotes are still credited."""
    before = shared_mint.outstanding_sat()
    foreign = shared_mint.invoice(500)
    network.hub.pay(foreign.bolt11)
    purse = Purse(shared_mint)
    purse.fund(100, network.hub.pay)
    assert shared_mint.outstanding_sat() == before + 100


def test_an_overpaid_invoice_is_credited_as_received(shared_mint: Mint, network: Network) -> None:
    """A node accepts up to twice the invoice's amount; the wallet may have all of that issued, and no more."""
    purse = Purse(shared_mint)
    quote = purse.request_mint(1000)
    decoded = network.hub.call("decode", string=quote.request)
    (channel,) = network.hub.call("listpeerchannels", id=shared_mint.id)["channels"]
    hop = {"id": shared_mint.id, "channel": channel["short_channel_id"], "amount_msat": 1_900_000, "delay": 60}
    network.hub.call(
        "sendpay",
        route=[hop],
        payment_hash=decoded["payment_hash"],
        payment_secret=decoded["payment_secret"],
    )
    network.hub.call("waitsendpay", payment_hash=decoded["payment_hash"])
    assert purse.wait_paid(quote).amount_paid == 1900
    with pytest.raises(MintError):
        purse.collect(quote, 1901)
    purse.collect(quote, 1900)
    assert purse.balance == 1900


def test_a_quote_paid_while_the_plugin_is_stopped_is_credited_at_start(own_mint: Mint, network: Network) -> None:
    """What the node was paid while the mint was away is credited when it comes back."""
    purse = Purse(own_mint)
    quote = purse.request_mint(777)
    own_mint.stop_plugin()
    assert not own_mint.answers()
    network.hub.pay(quote.request)
    own_mint.start_plugin()
    own_mint.wait_ready()
    purse.wait_paid(quote)
    purse.collect(quote)
    assert own_mint.outstanding_sat() == purse.balance == 777


def test_a_quote_paid_before_the_node_was_killed_is_credited_once(own_mint: Mint, network: Network) -> None:
    """A payment that arrives just before kill -9 of the node is credited after the restart, and only once."""
    purse = Purse(own_mint)
    quote = purse.request_mint(777)
    network.hub.pay(quote.request)
    own_mint.kill()
    own_mint.start_again()
    purse.wait_paid(quote)
    purse.collect(quote)
    own_mint.kill()
    own_mint.start_again()
    with pytest.raises(MintError) as refusal:
        purse.collect(quote)
    assert refusal.value.code == QUOTE_ISSUED
    assert own_mint.outstanding_sat() == purse.balance == 777


def test_ecash_changes_hands(shared_mint: Mint, purse: Purse) -> None:
    """One wallet sends a part of its ecash, another receives it; the sent proofs are spent then."""
    friend = Purse(shared_mint)
    before = shared_mint.outstanding_sat()
    sent = purse.send(3000)
    assert purse.states(sent) == {ProofState.UNSPENT}
    friend.receive(sent)
    assert (purse.balance, friend.balance) == (7000, 3000)
    assert purse.states(sent) == {ProofState.SPENT}
    assert friend.states(friend.proofs) == {ProofState.UNSPENT}
    with pytest.raises(MintError) as refusal:
        purse.receive(sent)
    assert refusal.value.code == PROOFS_SPENT
    assert shared_mint.outstanding_sat() == before


def test_keys_survive_a_restart_of_the_node(own_mint: Mint, own_purse: Purse) -> None:
    """Keysets come from the node's own secret: after a restart they are the same, and old ecash is good."""
    before = [keyset.id for keyset in own_purse.client.keysets()]
    own_mint.stop()
    own_mint.start_again()
    assert [keyset.id for keyset in own_purse.client.keysets()] == before
    own_purse.receive(own_purse.send(own_purse.balance))
    assert own_mint.outstanding_sat() == own_purse.balance == 10_000


def test_input_fees_stay_with_the_mint(network: Network) -> None:
    """With an input fee, a swap costs what the keyset says, and the books show it."""
    with network.mint(cashu_input_fee_ppk=500) as mint:
        purse = Purse(mint)
        purse.fund(1023, network.hub.pay)  # ten proofs
        purse.receive(purse.send(500))
        assert purse.balance < 1023
        wait_for(lambda: mint.outstanding_sat() == purse.balance, "the books to show the fee")
