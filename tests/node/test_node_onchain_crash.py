"""kill -9 at every step of an on-chain melt, on a real node and chain: paid once, or given back; never both."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress

import httpx
import pytest

from tests.node.harness import Network, wait_for
from tests.node.onchain import AMOUNT, COIN_SAT, CONFIRMATIONS, Chain, ChainPurse, OnchainMint, onchain_mint

pytestmark = pytest.mark.slow

BEFORE_IT_IS_BUILT = (
    "plugin.methods.payouts:Payouts.pay",
    "plugin.node.chain:Chain.fund",
    "plugin.node.chain:Chain.add_output",
    "plugin.node.chain:Chain.sign",
    "ledger.ledger:Ledger.note_built",
)
AFTER_IT_IS_BUILT = (
    "plugin.node.chain:Chain.reserve",
    "plugin.node.chain:Chain.send",
    "ledger.ledger:Ledger.note_broadcast",
)
SETTLE = "ledger.ledger:Ledger.settle_melt"
CREDIT = "ledger.operations.deposit:credit"
POINTS = (*BEFORE_IT_IS_BUILT, *AFTER_IT_IS_BUILT, SETTLE, CREDIT)
BOTH = pytest.mark.parametrize("node", [False, True], ids=["plugin", "node"])


@pytest.fixture(scope="module")
def chain(network: Network) -> Chain:
    """The chain."""
    return Chain(network)


@pytest.fixture(scope="module")
def mint(network: Network) -> Iterator[OnchainMint]:
    """The mint that dies in these tests."""
    with onchain_mint(network, POINTS) as mint:
        yield mint


@pytest.fixture
def purse(mint: OnchainMint, chain: Chain) -> Iterator[ChainPurse]:
    """A purse with ecash; the wallet has coins besides."""
    purse = ChainPurse(mint, chain)
    before = mint.outstanding_sat()
    chain.give_coins(mint, COIN_SAT, COIN_SAT)
    purse.fund(2 * AMOUNT)
    yield purse
    assert mint.outstanding_sat() - before == purse.balance


def finish(mint: OnchainMint, purse: ChainPurse, chain: Chain, node: bool) -> str:
    """Let the melt that died go on to its end; the txid. There was never but one transaction."""
    payout = purse.prepare()
    with suppress(httpx.TransportError):
        purse.post(payout)
    mint.wait_dead()
    mint.come_back(node=node)
    txid = purse.wait_sent(payout)
    assert chain.rpc.getrawmempool() == [txid]
    chain.mine(CONFIRMATIONS, mint)
    purse.assert_paid_outside(payout)
    return txid


@BOTH
@pytest.mark.parametrize("point", BEFORE_IT_IS_BUILT)
def test_before_the_transaction_is_kept_another_one_is_made(
    mint: OnchainMint, purse: ChainPurse, chain: Chain, point: str, node: bool
) -> None:
    mint.arm(point)
    finish(mint, purse, chain, node)


@BOTH
@pytest.mark.parametrize("point", AFTER_IT_IS_BUILT)
def test_after_the_transaction_is_kept_it_is_the_one_that_pays(
    mint: OnchainMint, purse: ChainPurse, chain: Chain, point: str, node: bool
) -> None:
    mint.arm(point)
    finish(mint, purse, chain, node)


@BOTH
def test_it_was_mined_while_the_mint_was_away(mint: OnchainMint, purse: ChainPurse, chain: Chain, node: bool) -> None:
    payout = purse.prepare()
    mint.arm("ledger.ledger:Ledger.note_broadcast")
    with suppress(httpx.TransportError):
        purse.post(payout)
    mint.wait_dead()
    wait_for(chain.rpc.getrawmempool, "the transaction to be sent")
    if node:
        mint.kill()
        chain.mine(CONFIRMATIONS)
        mint.start()
    else:
        chain.mine(CONFIRMATIONS, mint)
        mint.start_plugin()
    mint.wait_ready()
    purse.assert_paid_outside(payout)
    assert chain.rpc.getrawmempool() == []


@BOTH
def test_a_melt_is_settled_once(mint: OnchainMint, purse: ChainPurse, chain: Chain, node: bool) -> None:
    payout = purse.prepare()
    purse.post(payout)
    txid = purse.wait_sent(payout)
    mint.arm(SETTLE)
    chain.mine(CONFIRMATIONS, wait_for_mempool=txid)
    mint.wait_dead()
    mint.come_back(node=node)
    purse.assert_paid_outside(payout)


@BOTH
def test_a_deposit_is_credited_once(mint: OnchainMint, purse: ChainPurse, chain: Chain, node: bool) -> None:
    quote = purse.request_address()
    txid = chain.pay(quote.request, AMOUNT)
    mint.arm(CREDIT)
    chain.mine(CONFIRMATIONS, wait_for_mempool=txid)
    mint.wait_dead()
    mint.come_back(node=node)
    purse.wait_credit(quote, AMOUNT)
    chain.mine(1, mint)
    assert purse.look_at(quote).amount_paid == AMOUNT
    purse.collect(quote, AMOUNT)


@pytest.mark.parametrize("delay_ms", [0, 5, 10, 15, 20, 30, 50])
def test_a_node_killed_while_it_builds_and_sends(
    mint: OnchainMint, purse: ChainPurse, chain: Chain, delay_ms: int
) -> None:
    """kill -9 of lightningd some milliseconds after PENDING, and the plugin goes with it."""
    payout = purse.prepare()
    purse.post(payout)
    time.sleep(delay_ms / 1000)
    mint.kill()
    sent_before = chain.rpc.getrawmempool()
    mint.start()
    mint.wait_ready()
    txid = purse.wait_sent(payout)
    assert chain.rpc.getrawmempool() == [txid]
    assert sent_before in ([], [txid])
    chain.mine(CONFIRMATIONS, mint)
    purse.assert_paid_outside(payout)


def test_the_nodes_database_and_the_ledger_agree_in_the_end(mint: OnchainMint, chain: Chain) -> None:
    """No coin is left reserved, but by what died before it had built anything."""
    chain.mine(13, mint)
    assert not [coin for coin in mint.coins() if coin["reserved"]]
    assert mint.cashu_info()["onchain_melts"] == []
