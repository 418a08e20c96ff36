"""On-chain mints and melts on a real node and a real chain: what comes in is credited, what goes out is paid once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ledger.errors import Code
from ledger.models import MeltQuoteState
from tests.node.harness import Network, wait_for
from tests.node.onchain import AMOUNT, COIN_SAT, CONFIRMATIONS, Chain, ChainPurse, OnchainMint, onchain_mint

CONFLICT_DEPTH = 6


@pytest.fixture(scope="module")
def chain(network: Network) -> Chain:
    """The chain."""
    return Chain(network)


@pytest.fixture(scope="module")
def mint(network: Network) -> Iterator[OnchainMint]:
    """The mint that these tests share."""
    with onchain_mint(network) as mint:
        yield mint


@pytest.fixture
def purse(mint: OnchainMint, chain: Chain) -> Iterator[ChainPurse]:
    """A purse with ecash; the wallet has coins besides."""
    purse = ChainPurse(mint, chain)
    before = mint.outstanding_sat()
    chain.give_coins(mint, COIN_SAT, COIN_SAT)
    purse.fund(3 * AMOUNT)
    yield purse
    assert mint.outstanding_sat() - before == purse.balance


def test_a_deposit_is_credited_at_its_confirmations(mint: OnchainMint, chain: Chain) -> None:
    purse = ChainPurse(mint, chain)
    quote = purse.request_address()
    txid = chain.pay(quote.request, AMOUNT)
    chain.mine(CONFIRMATIONS - 1, mint, wait_for_mempool=txid)
    other = purse.request_address()
    chain.pay(other.request, AMOUNT)
    assert purse.look_at(quote).amount_paid == 0
    chain.mine(1, mint, wait_for_mempool=1)
    purse.wait_credit(quote, AMOUNT)
    assert purse.look_at(other).amount_paid == 0
    chain.mine(CONFIRMATIONS - 1, mint)
    purse.wait_credit(other, AMOUNT)
    before = mint.outstanding_sat()
    purse.collect(quote, AMOUNT - 1)
    purse.collect(quote, 1)
    assert mint.outstanding_sat() - before == AMOUNT


def test_a_melt_is_paid_and_the_rest_comes_back(mint: OnchainMint, purse: ChainPurse, chain: Chain) -> None:
    payout = purse.prepare()
    purse.post(payout)
    txid = purse.wait_sent(payout)
    purse.assert_pending(payout)
    (shown,) = mint.cashu_info()["onchain_melts"]
    assert (shown["txid"], shown["amount"], shown["problem"]) == (txid, AMOUNT, None)
    chain.mine(CONFIRMATIONS - 1, mint, wait_for_mempool=txid)
    purse.assert_pending(payout)
    chain.mine(1, mint)
    purse.assert_paid_outside(payout)
    assert mint.cashu_info()["onchain_melts"] == []


@pytest.mark.parametrize("kind", ["legacy", "p2sh-segwit", "bech32", "bech32m"])
def test_every_kind_of_address_is_paid(mint: OnchainMint, purse: ChainPurse, chain: Chain, kind: str) -> None:
    payout = purse.prepare(address=str(chain.rpc.getnewaddress("", kind)))
    purse.post(payout)
    chain.mine(CONFIRMATIONS, mint, wait_for_mempool=purse.wait_sent(payout))
    purse.assert_paid_outside(payout)


@pytest.mark.parametrize(
    "address", ["bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", "garbage", " "]
)
def test_what_is_no_address_here_is_refused(purse: ChainPurse, address: str) -> None:
    body = {"request": address, "unit": "sat", "amount": AMOUNT}
    code, detail = purse.refused("/v1/melt/quote/onchain", body)
    assert (code, detail) == (Code.QUOTE_REJECTED, "request is no bitcoin address of network regtest")


def test_two_melts_at_once_never_use_the_same_coin(network: Network, chain: Chain) -> None:
    with onchain_mint(network) as mint:
        purse = ChainPurse(mint, chain)
        purse.fund(2 * AMOUNT)
        purse.fund(2 * AMOUNT)
        own = mint.call("newaddr", addresstype="p2tr")["p2tr"]
        chain.mine(1, mint, wait_for_mempool=mint.call("withdraw", destination=own, satoshi="all")["txid"])
        assert len(mint.coins()) == 1
        first, second = purse.prepare(), purse.prepare()
        purse.post(first)
        purse.post(second)
        chain.sync(mint)
        wait_for(lambda: MeltQuoteState.UNPAID in (purse.look(first).state, purse.look(second).state), "one to fail")
        failed, paid = (first, second) if purse.look(first).state == MeltQuoteState.UNPAID else (second, first)
        assert "after the next block" in (purse.assert_failed(failed).error or "")
        chain.mine(CONFIRMATIONS, mint, wait_for_mempool=purse.wait_sent(paid))
        purse.assert_paid_outside(paid)
        assert chain.received_sat(failed.address) == 0
        purse.assert_books()


def test_from_one_mint_to_another(mint: OnchainMint, purse: ChainPurse, network: Network, chain: Chain) -> None:
    """Wallet to wallet: one melts to the address where the other mints."""
    with onchain_mint(network) as other:
        friend = ChainPurse(other, chain)
        quote = friend.request_address()
        payout = purse.prepare(address=quote.request)
        purse.post(payout)
        chain.mine(CONFIRMATIONS, mint, other, wait_for_mempool=purse.wait_sent(payout))
        purse.assert_paid(payout)
        friend.wait_credit(quote, AMOUNT)
        friend.collect(quote, AMOUNT)
        friend.assert_books()


def test_a_melt_to_an_address_of_the_same_mint(mint: OnchainMint, purse: ChainPurse, chain: Chain) -> None:
    quote = purse.request_address()
    payout = purse.prepare(address=quote.request)
    purse.post(payout)
    chain.mine(CONFIRMATIONS, mint, wait_for_mempool=purse.wait_sent(payout))
    purse.assert_paid(payout)
    purse.wait_credit(quote, AMOUNT)
    purse.collect(quote, AMOUNT)


def test_what_the_node_keeps_for_its_channels_is_not_paid_out(network: Network, chain: Chain) -> None:
    """With a channel, min-emergency-msat must be left: refused when the quote is asked for."""
    with network.mint(cashu_onchain_confirmations=CONFIRMATIONS, cashu_onchain_min=1000) as mint:
        purse = ChainPurse(mint, chain)
        body = {"request": chain.address(), "unit": "sat", "amount": AMOUNT}
        code, detail = purse.refused("/v1/melt/quote/onchain", body)
        assert (code, "too little bitcoin" in detail) == (Code.QUOTE_REJECTED, True)
        chain.give_coins(mint, AMOUNT + 20_000)
        assert purse.refused("/v1/melt/quote/onchain", body)[0] == Code.QUOTE_REJECTED
        chain.give_coins(mint, AMOUNT)
        purse.fund(2 * AMOUNT)
        payout = purse.prepare()
        purse.post(payout)
        chain.mine(CONFIRMATIONS, wait_for_mempool=purse.wait_sent(payout))
        purse.assert_paid_outside(payout)
        purse.assert_books()


# --- the chain changes ------------------------------------------------------------------------------------------------


def test_a_deposit_whose_block_is_replaced_waits_for_another_one(mint: OnchainMint, chain: Chain) -> None:
    purse = ChainPurse(mint, chain)
    quote = purse.request_address()
    txid = chain.pay(quote.request, AMOUNT)
    chain.mine(CONFIRMATIONS - 1, mint, wait_for_mempool=txid)
    chain.forget(CONFIRMATIONS - 1)
    chain.mine_empty(CONFIRMATIONS + 2, mint)
    other = purse.request_address()
    assert purse.look_at(quote).amount_paid == 0
    chain.pay(other.request, AMOUNT)
    chain.mine(1, mint, wait_for_mempool=2)
    chain.mine(CONFIRMATIONS - 1, mint)
    purse.wait_credit(quote, AMOUNT)
    purse.wait_credit(other, AMOUNT)


def test_a_deposit_that_was_spent_otherwise_after_a_reorganisation_never_counts(
    mint: OnchainMint, chain: Chain
) -> None:
    purse = ChainPurse(mint, chain)
    quote = purse.request_address()
    txid = chain.pay(quote.request, AMOUNT)
    chain.mine(CONFIRMATIONS - 1, mint, wait_for_mempool=txid)
    chain.forget(CONFIRMATIONS - 1)
    chain.rpc.abandontransaction(txid) if txid not in chain.rpc.getrawmempool() else None
    bumped = chain.rpc.bumpfee(txid, {"outputs": [{chain.address(): f"{AMOUNT / 2e8:.8f}"}]})["txid"]
    chain.mine(2 * CONFIRMATIONS, mint, wait_for_mempool=bumped)
    other = purse.request_address()
    chain.pay(other.request, AMOUNT)
    chain.mine(CONFIRMATIONS, mint, wait_for_mempool=1)
    purse.wait_credit(other, AMOUNT)
    assert purse.look_at(quote).amount_paid == 0


def test_a_melt_whose_block_is_replaced_counts_from_its_next_one(
    mint: OnchainMint, purse: ChainPurse, chain: Chain
) -> None:
    payout = purse.prepare()
    purse.post(payout)
    txid = purse.wait_sent(payout)
    chain.mine(CONFIRMATIONS - 1, mint, wait_for_mempool=txid)
    chain.forget(CONFIRMATIONS - 1)
    chain.mine_empty(CONFIRMATIONS + 2, mint)
    purse.assert_pending(payout)
    wait_for(lambda: txid in chain.rpc.getrawmempool(), "the transaction to wait again")
    chain.mine(1, mint)
    purse.assert_pending(payout)
    chain.mine(CONFIRMATIONS - 1, mint)
    assert (purse.assert_paid_outside(payout).outpoint or "").startswith(txid)


def test_a_mempool_that_was_lost_is_filled_again(
    mint: OnchainMint, purse: ChainPurse, network: Network, chain: Chain
) -> None:
    """bitcoind restarts without it, and the node sends nothing again by itself."""
    payout = purse.prepare(address=network.island.call("newaddr", addresstype="p2tr")["p2tr"])
    purse.post(payout)
    txid = purse.wait_sent(payout)
    network.restart_bitcoind_without_mempool()
    assert chain.rpc.getrawmempool() == []
    chain.mine_empty(1, mint)
    wait_for(lambda: chain.rpc.getrawmempool() == [txid], "the transaction to be sent again")
    chain.mine(CONFIRMATIONS, mint)
    purse.assert_paid(payout)


def test_only_a_deep_conflict_gives_the_ecash_back(mint: OnchainMint, purse: ChainPurse, chain: Chain) -> None:
    """The operator replaces the transaction, against the reservation."""
    payout = purse.prepare()
    purse.post(payout)
    txid = purse.wait_sent(payout)
    spent = chain.rpc.getrawtransaction(txid, 1)["vin"][0]
    rival = mint.call(
        "utxopsbt",
        satoshi="10000sat",
        feerate="20000perkw",
        startweight=166,
        utxos=[f"{spent['txid']}:{spent['vout']}"],
        reservedok=True,
        excess_as_change=True,
    )["psbt"]
    rival = mint.call("addpsbtoutput", satoshi="10000sat", initialpsbt=rival, destination=chain.address())["psbt"]
    other = mint.call("sendpsbt", psbt=mint.call("signpsbt", psbt=rival)["signed_psbt"])["txid"]
    chain.mine(1, mint, wait_for_mempool=other)
    wait_for(lambda: other in (mint.cashu_info()["onchain_melts"][0]["problem"] or ""), "the conflict to be shown")
    chain.mine(CONFLICT_DEPTH - 2, mint)
    purse.assert_pending(payout)
    mint.expected_problem = f"{other} in block"
    chain.mine(1, mint)
    assert "spent otherwise" in (purse.assert_failed(payout).error or "")
    assert chain.received_sat(payout.address) == 0
