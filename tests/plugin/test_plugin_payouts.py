"""On-chain melts: priced from the node's coins, sent once, followed to the end, and refused or given back clearly."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ledger.errors import Code
from tests.plugin.conftest import MakeMint
from tests.plugin.harness import PATIENCE_S, PENDING, UNPAID, Mint, wait_for
from tests.plugin.onchain import AMOUNT, COIN_SAT, CONFIRMATIONS, OPTIONS, ChainPurse, Payout

__all__ = ["OPTIONS"]
CONFLICT_DEPTH = 6
WITHOUT_CHANGE = (AMOUNT + 1500, 30_000)
"""Coins of which the first pays with nothing left but what the fee takes; the other stays for the channels."""


@pytest.fixture
def purse(mint: Mint) -> Iterator[ChainPurse]:
    """A purse of the shared mint, whose wallet has at least three coins that are free."""
    purse = ChainPurse(mint)
    purse.chain.give_coins(COIN_SAT, COIN_SAT, COIN_SAT)
    yield purse
    purse.chain.set_least_feerate(250)
    purse.chain.set_down(False)
    mint.check()


@pytest.fixture
def own(make_mint: MakeMint) -> ChainPurse:
    """A purse of a mint of the test's own, with no coins."""
    return ChainPurse(make_mint(**OPTIONS))


def melts(purse: ChainPurse) -> list[dict[str, Any]]:
    """What `cashu-info` says of on-chain melts."""
    found: list[dict[str, Any]] = purse.mint.info()["onchain_melts"]
    return found


def wait_problem(purse: ChainPurse, pattern: str) -> dict[str, Any]:
    """Wait until `cashu-info` shows a problem like this."""

    def found() -> dict[str, Any] | None:
        return next((melt for melt in melts(purse) if re.search(pattern, melt["problem"] or "")), None)

    melt = wait_for(found, f"cashu-info to show {pattern!r}")
    assert melt is not None
    return melt


# --- the quote --------------------------------------------------------------------------------------------------------


def test_a_quote_offers_the_nodes_feerates_the_fastest_first(purse: ChainPurse) -> None:
    quote = purse.request_payout()
    assert (quote.amount, quote.unit, quote.state, quote.method) == (AMOUNT, "sat", UNPAID, "onchain")
    assert (quote.selected_fee_index, quote.outpoint, quote.change) == (None, None, None)
    assert [option.fee_index for option in quote.fee_options] == [0, 1, 2]
    assert [option.estimated_blocks for option in quote.fee_options] == [2, 12, 100]
    reserves = [option.fee_reserve for option in quote.fee_options]
    assert reserves == sorted(reserves, reverse=True)
    # One p2tr input, a p2wpkh output and p2tr change weigh 568; two more inputs of 271; 330 for too little change.
    assert reserves[1] == (568 + 2 * 271) + 330


def test_equal_feerates_are_one_option(own: ChainPurse) -> None:
    own.chain.give_coins(COIN_SAT)
    own.chain.set_feerates({2: 253})
    assert [option.estimated_blocks for option in own.request_payout().fee_options] == [2]


def test_without_estimates_there_is_no_quote(own: ChainPurse) -> None:
    own.chain.give_coins(COIN_SAT)
    own.chain.set_feerates(None)
    code, detail = own.refused("/v1/melt/quote/onchain", own.quote_body())
    assert (code, detail) == (Code.QUOTE_REJECTED, "the node can't estimate fees now: try again later")


@pytest.mark.parametrize(
    "address",
    [
        "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
        "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx",
        "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa",
        "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080x",
        "garbage",
        " ",
        "bitcoin:bcrt1q",
        "x" * 5000,
        "lnbcrt1",
    ],
)
def test_what_is_no_address_here_is_refused(purse: ChainPurse, address: str) -> None:
    code, detail = purse.refused("/v1/melt/quote/onchain", purse.quote_body(address=address))
    assert (code, detail) == (Code.QUOTE_REJECTED, "request is no bitcoin address of network regtest")


@pytest.mark.parametrize("amount", [0, 1, 545, int(OPTIONS["onchain_min"]) - 1, 1_000_001, 2**63])
def test_dust_and_too_much_are_refused(purse: ChainPurse, amount: int) -> None:
    code, detail = purse.refused("/v1/melt/quote/onchain", purse.quote_body() | {"amount": amount})
    assert (code, detail) == (Code.AMOUNT_OUTSIDE_LIMITS, "the amount must be from 1000 to 1000000 sat")


@pytest.mark.parametrize(
    "body", [{"amount": -1}, {"amount": "50000"}, {"amount": None}, {"request": 7}, {"request": ""}, {"unit": None}]
)
def test_garbage_is_refused(purse: ChainPurse, body: dict[str, Any]) -> None:
    assert purse.refused("/v1/melt/quote/onchain", purse.quote_body() | body)[0] == Code.REQUEST_REJECTED


def test_another_unit_is_refused(purse: ChainPurse) -> None:
    assert purse.refused("/v1/melt/quote/onchain", purse.quote_body() | {"unit": "usd"})[0] == Code.UNIT_UNSUPPORTED


def test_what_the_wallet_does_not_have_is_refused_at_quote_time(own: ChainPurse) -> None:
    code, detail = own.refused("/v1/melt/quote/onchain", own.quote_body())
    assert (code, "too little bitcoin" in detail) == (Code.QUOTE_REJECTED, True)
    own.chain.give_coins(AMOUNT)
    assert own.refused("/v1/melt/quote/onchain", own.quote_body())[0] == Code.QUOTE_REJECTED
    own.chain.give_coins(COIN_SAT)
    own.request_payout()


def test_what_the_node_keeps_for_its_channels_is_not_paid_out(own: ChainPurse) -> None:
    own.chain.give_coins(AMOUNT + 20_000)
    code, _ = own.refused("/v1/melt/quote/onchain", own.quote_body())
    assert code == Code.QUOTE_REJECTED
    own.chain.give_coins(10_000)
    own.request_payout()


def test_a_fee_that_can_not_be_afforded_is_not_offered(own: ChainPurse) -> None:
    own.chain.set_feerates({2: 100_000, 12: 1000})
    own.chain.give_coins(AMOUNT + 30_000)
    assert [option.estimated_blocks for option in own.request_payout().fee_options] == [12]


def test_coins_that_are_not_confirmed_or_reserved_do_not_count(own: ChainPurse) -> None:
    own.chain.give_coins(COIN_SAT)
    payout = own.begin_payout()
    own.wait_sent(payout)
    code, detail = own.refused("/v1/melt/quote/onchain", own.quote_body())
    assert (code, "after the next block" in detail) == (Code.QUOTE_REJECTED, True)
    own.chain.mine()  # the change is confirmed
    own.request_payout()
    own.blocks_until_paid(payout, CONFIRMATIONS - 1)


def test_coins_of_a_melt_that_is_still_to_be_built_do_not_count(own: ChainPurse) -> None:
    own.chain.give_coins(COIN_SAT)
    payout = own.prepare_payout()
    own.chain.set_down(True)
    own.post_payout(payout)
    own.mint.node.wait_for_log("can't send an on-chain payment now")
    assert not any(row["reserved"] for row in own.chain.funds())
    assert own.refused("/v1/melt/quote/onchain", own.quote_body())[0] == Code.QUOTE_REJECTED
    own.chain.give_coins(COIN_SAT)
    own.request_payout()
    own.chain.set_down(False)
    own.wait_sent(payout)
    own.blocks_until_paid(payout)


# --- executing --------------------------------------------------------------------------------------------------------


def test_a_melt_is_pending_until_its_confirmations_and_the_rest_comes_back(purse: ChainPurse) -> None:
    payout = purse.prepare_payout(fee_index=1)
    answer = purse.post_payout(payout)
    assert (answer.state, answer.selected_fee_index, answer.outpoint) == (PENDING, 1, None)
    txid = purse.wait_sent(payout)
    assert txid in purse.chain.mempool()
    purse.assert_payout_pending(payout)
    purse.chain.mine(CONFIRMATIONS)
    quote = purse.assert_payout_paid(payout)
    assert quote.outpoint is not None
    assert quote.outpoint.startswith(txid)
    assert melts(purse) == []


def test_a_block_less_is_not_enough(purse: ChainPurse) -> None:
    """Of two melts that are looked at one after the other the second is mined a block earlier: when it is paid, the
    first was looked at as well."""
    first = purse.begin_payout()
    txid = purse.wait_sent(first)
    purse.chain.forget_mempool()
    second = purse.begin_payout()
    purse.wait_sent(second)
    purse.chain.mine(1)
    wait_for(lambda: purse.chain.mempool() == [txid], "the first to be sent again")
    purse.chain.mine(CONFIRMATIONS - 1)
    purse.assert_payout_paid(second)
    purse.assert_payout_pending(first)
    purse.chain.mine(1)
    purse.assert_payout_paid(first)


@pytest.mark.parametrize("unit", ["sat", "msat"])
def test_change_and_books_in_both_units(make_mint: MakeMint, unit: str) -> None:
    mint = make_mint(units="sat,msat", **OPTIONS)
    purse = ChainPurse(mint, unit)
    purse.chain.give_coins(COIN_SAT)
    payout = purse.begin_payout()
    purse.wait_sent(payout)
    purse.blocks_until_paid(payout)
    with mint.ledger() as db:
        (figures,) = db.execute("SELECT paid_out_msat, routing_fees_msat FROM method_books WHERE method = 'onchain'")
    quote = purse.look_payout(payout)
    assert quote.outpoint is not None
    assert tuple(figures) == (AMOUNT * 1000, purse.chain.fee_of(quote.outpoint[:64]) * 1000)


def test_parts_of_a_satoshi_are_refused(make_mint: MakeMint) -> None:
    purse = ChainPurse(make_mint(units="sat,msat", **OPTIONS), "msat")
    purse.chain.give_coins(COIN_SAT)
    code, detail = purse.refused("/v1/melt/quote/onchain", purse.quote_body() | {"amount": AMOUNT * 1000 + 1})
    assert (code, "whole satoshis" in detail) == (Code.AMOUNT_OUTSIDE_LIMITS, True)


@pytest.mark.parametrize("fee_index", [3, 16, None, -1, "0", 17])
def test_a_fee_index_that_is_not_offered_is_refused(purse: ChainPurse, fee_index: Any) -> None:
    payout = purse.prepare_payout()
    body = payout.body | {"fee_index": fee_index}
    code, detail = purse.refused("/v1/melt/onchain", body)
    assert code == (Code.QUOTE_REJECTED if fee_index in (3, 16) else Code.REQUEST_REJECTED)
    assert "fee_index" in detail
    del body["fee_index"]
    code, detail = purse.refused("/v1/melt/onchain", body)
    assert (code, "fee_index" in detail) == (Code.REQUEST_REJECTED, True)
    assert purse.look_payout(payout).selected_fee_index is None
    purse.swap(payout.inputs)  # nothing holds them


def test_too_few_inputs_choose_no_fee(purse: ChainPurse) -> None:
    payout = purse.prepare_payout(fee_index=1)
    assert purse.refused("/v1/melt/onchain", payout.body | {"fee_index": 0})[0] == Code.NOT_BALANCED
    assert purse.look_payout(payout).selected_fee_index is None
    purse.post_payout(payout)
    purse.wait_sent(payout)
    purse.blocks_until_paid(payout)


def test_an_identical_request_gets_the_present_state_and_another_one_20005(purse: ChainPurse) -> None:
    payout = purse.begin_payout()
    assert purse.post_payout(payout).state == PENDING
    txid = purse.wait_sent(payout)
    assert purse.post_payout(payout).outpoint == purse.look_payout(payout).outpoint
    assert purse.refused("/v1/melt/onchain", payout.body | {"fee_index": 1})[0] == Code.QUOTE_PENDING
    paid = purse.blocks_until_paid(payout)
    assert purse.post_payout(payout) == paid
    assert purse.refused("/v1/melt/onchain", payout.body | {"fee_index": 1})[0] == Code.INVOICE_PAID
    assert purse.chain.mempool() == []
    assert txid == (paid.outpoint or "")[:64]


def test_the_chosen_fee_stays_after_a_failure(own: ChainPurse) -> None:
    own.chain.give_coins(COIN_SAT)
    payout = own.prepare_payout(fee_index=1)
    own.chain.reserve_all_coins()
    own.post_payout(payout)
    own.assert_payout_failed(payout, "too little confirmed bitcoin")
    code, detail = own.refused("/v1/melt/onchain", payout.body | {"fee_index": 2})
    assert (code, detail) == (Code.QUOTE_REJECTED, "fee_index 1 was chosen for this quote and stays")
    own.chain.free_all_coins()
    own.post_payout(payout)
    own.wait_sent(payout)
    own.blocks_until_paid(payout)


def test_two_melts_never_use_the_same_coin(own: ChainPurse) -> None:
    """Both were quoted from the one coin that there is: one is paid, the other gives its ecash back at once."""
    own.chain.give_coins(COIN_SAT)
    payouts = [own.prepare_payout(), own.prepare_payout()]
    with ThreadPoolExecutor() as pool:
        assert {answer.state for answer in pool.map(own.post_payout, payouts)} == {PENDING}
    failed = wait_for(
        lambda: [payout for payout in payouts if own.look_payout(payout).state == UNPAID], "one of them to fail"
    )
    (paid,) = [payout for payout in payouts if payout not in failed]
    own.assert_payout_failed(failed[0], "after the next block")
    own.wait_sent(paid)
    own.blocks_until_paid(paid)
    own.post_payout(failed[0])
    own.wait_sent(failed[0])
    own.blocks_until_paid(failed[0])


def test_many_melts_at_once_use_many_coins(own: ChainPurse) -> None:
    own.chain.give_coins(*[COIN_SAT] * 8)
    payouts = [own.prepare_payout() for _ in range(8)]
    with ThreadPoolExecutor() as pool:
        list(pool.map(own.post_payout, payouts))
    assert len({own.wait_sent(payout) for payout in payouts}) == 8
    own.chain.mine(CONFIRMATIONS)
    for payout in payouts:
        own.assert_payout_paid(payout)


def test_a_melt_of_several_coins(own: ChainPurse) -> None:
    own.chain.give_coins(30_000, 30_000, 30_000)
    payout = own.begin_payout()
    own.wait_sent(payout)
    own.blocks_until_paid(payout)


def test_a_fee_above_the_reserve_is_not_paid(own: ChainPurse) -> None:
    """Quoted from a large coin, which is gone: with many small ones it would cost more than was promised."""
    own.chain.give_coins(COIN_SAT)
    payout = own.prepare_payout()
    other = own.begin_payout()
    own.wait_sent(other)
    own.chain.give_coins(*[5000] * 30)
    own.chain.reserve_all_coins()
    own.chain.give_coins(*[5000] * 30)
    own.post_payout(payout)
    own.assert_payout_failed(payout, "ask for a new quote")
    assert any(not row["reserved"] for row in own.chain.funds())  # they were freed again
    own.chain.mine(CONFIRMATIONS)
    own.assert_payout_paid(other)


def test_paying_another_quotes_address_is_a_deposit(purse: ChainPurse) -> None:
    quote = purse.request_address()
    payout = purse.begin_payout(address=quote.request)
    purse.wait_sent(payout)
    purse.blocks_until_paid(payout)
    purse.wait_credit(quote, AMOUNT)
    purse.collect_onchain(quote, AMOUNT)


def test_a_quote_that_expired_is_not_executed(make_mint: MakeMint) -> None:
    mint = make_mint(started=False, **OPTIONS)
    mint.change_inside(constants={"plugin.methods.onchain:MELT_QUOTE_EXPIRY_S": -5})
    mint.start()
    purse = ChainPurse(mint)
    purse.chain.give_coins(COIN_SAT)
    payout = purse.prepare_payout()
    assert purse.refused("/v1/melt/onchain", payout.body)[0] == Code.QUOTE_EXPIRED


# --- failures of the node before it is built --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "after"), [("addpsbtoutput", 0), ("utxopsbt", 0), ("addpsbtoutput", 1), ("signpsbt", 0)]
)
def test_a_node_that_builds_nothing_gives_the_ecash_back(purse: ChainPurse, command: str, after: int) -> None:
    payout = purse.prepare_payout()
    free = sum(not row["reserved"] for row in purse.chain.funds())
    purse.mint.node.fail_rpc(command, -1, "no", after=after)
    purse.post_payout(payout)
    purse.assert_payout_failed(payout)
    assert sum(not row["reserved"] for row in purse.chain.funds()) == free
    assert purse.chain.mempool() == []
    purse.post_payout(payout)
    purse.wait_sent(payout)
    purse.blocks_until_paid(payout)


@pytest.mark.parametrize("command", ["utxopsbt", "addpsbtoutput", "signpsbt", "reserveinputs", "sendpsbt"])
def test_a_lost_answer_doubles_nothing(purse: ChainPurse, command: str) -> None:
    """The connection breaks while the node is at work: the melt goes on by itself."""
    payout = purse.prepare_payout()
    since = purse.mint.node.calls_position
    purse.mint.node.pause_rpc(command)
    purse.post_payout(payout)
    purse.mint.node.wait_for_call(command, since=since)
    purse.mint.node.close_rpc_connections()
    purse.mint.node.resume_rpc(command)
    purse.wait_sent(payout)
    assert len(purse.chain.mempool()) == 1
    purse.blocks_until_paid(payout)


def test_bitcoind_is_down_when_a_melt_begins(purse: ChainPurse) -> None:
    """It waits, and goes on by itself."""
    payout = purse.prepare_payout()
    purse.chain.set_down(True)
    purse.post_payout(payout)
    purse.mint.node.wait_for_log("can't send an on-chain payment now")
    purse.assert_payout_pending(payout)
    purse.chain.set_down(False)
    purse.wait_sent(payout)
    purse.blocks_until_paid(payout)


def test_a_melt_that_begins_while_the_node_reads_its_blocks_again_waits_for_it(make_mint: MakeMint) -> None:
    """Its coins look unconfirmed then: to fail for that would be a lie."""
    mint = make_mint(node={"replay_delay_s": 3600}, **OPTIONS)
    purse = ChainPurse(mint)
    purse.chain.finish_replay()
    purse.chain.give_coins(COIN_SAT)
    payout = purse.prepare_payout()
    mint.restart_node(kill=True)
    assert [row["status"] for row in purse.chain.funds()] == ["unconfirmed"]
    purse.post_payout(payout)
    wait_problem(purse, "catching up")
    purse.assert_payout_pending(payout)
    purse.chain.finish_replay()
    purse.wait_sent(payout)
    purse.blocks_until_paid(payout)


# --- after it is built ------------------------------------------------------------------------------------------------


def pending_unsent(purse: ChainPurse, pattern: str) -> Payout:
    """A melt whose transaction nobody took."""
    payout = purse.begin_payout()
    wait_problem(purse, pattern)
    assert purse.chain.mempool() == []
    assert purse.assert_payout_pending(payout).outpoint is None
    return payout


def test_a_transaction_that_is_not_relayed_stays_pending_and_is_shown(purse: ChainPurse) -> None:
    purse.chain.set_least_feerate(1_000_000)
    payout = pending_unsent(purse, "min relay fee not met")
    purse.chain.mine(2)
    wait_for(lambda: melts(purse)[0]["blocks_waited"] == 2, "two blocks to be counted")
    (shown,) = melts(purse)
    assert (shown["amount"], shown["unit"], shown["feerate_perkw"]) == (AMOUNT, "sat", 2500)
    assert re.fullmatch("[0-9a-f]{64}", shown["txid"])
    assert 0 <= shown["age_s"] <= PATIENCE_S
    purse.chain.set_least_feerate(250)
    purse.chain.mine()
    assert purse.wait_sent(payout) == shown["txid"]
    assert melts(purse)[0]["problem"] is None
    purse.blocks_until_paid(payout)


def test_a_lost_reply_of_bitcoind_is_found_out(purse: ChainPurse) -> None:
    """It has the transaction, and the node says that it was not sent."""
    purse.chain.lose_replies(2)  # to the wallet, and past it
    payout = purse.begin_payout()
    wait_problem(purse, "Could not connect")
    assert len(purse.chain.mempool()) == 1
    assert purse.assert_payout_pending(payout).outpoint is None
    purse.blocks_until_paid(payout)


def test_a_transaction_that_the_wallet_never_knew_of_is_found_in_its_block(own: ChainPurse) -> None:
    """Without change, and never sent with success: the node's list of transactions lacks it for ever."""
    own.chain.give_coins(*WITHOUT_CHANGE)
    payout = own.prepare_payout()
    own.chain.lose_replies(2)
    own.post_payout(payout)
    wait_problem(own, "Could not connect")
    (txid,) = own.chain.mempool()
    assert len(own.chain.outputs_of(txid)) == 1
    own.chain.mine(CONFIRMATIONS)
    own.assert_payout_paid(payout)
    assert txid not in {tx["hash"] for tx in own.mint.node.rpc("listtransactions")["transactions"]}


def test_a_transaction_without_change_that_moved_to_another_block_is_found(own: ChainPurse) -> None:
    own.chain.give_coins(*WITHOUT_CHANGE)
    payout = own.prepare_payout()
    own.chain.lose_replies(2)
    own.post_payout(payout)
    wait_problem(own, "Could not connect")
    own.mint.node.pause_rpc("sendpsbt")  # so that it stays unknown
    own.mint.node.pause_rpc("sendrawtransaction")
    own.chain.mine()
    own.chain.reorganise(1, 3)
    own.chain.mine(CONFIRMATIONS)
    own.mint.node.resume_rpc("sendpsbt")
    own.mint.node.resume_rpc("sendrawtransaction")
    own.chain.mine()
    own.assert_payout_paid(payout)


def test_a_transaction_that_fell_out_of_the_mempool_is_sent_again(purse: ChainPurse) -> None:
    payout = purse.begin_payout()
    txid = purse.wait_sent(payout)
    purse.chain.forget_mempool()
    purse.chain.mine(1)
    wait_for(lambda: purse.chain.mempool() == [txid], "the transaction to be sent again")
    purse.blocks_until_paid(payout)


def test_a_transaction_whose_block_is_replaced_counts_from_its_next_one(purse: ChainPurse) -> None:
    payout = purse.begin_payout()
    txid = purse.wait_sent(payout)
    purse.chain.mine(CONFIRMATIONS - 1)
    purse.chain.reorganise(CONFIRMATIONS - 1, CONFIRMATIONS + 3)
    purse.assert_payout_pending(payout)
    purse.chain.mine(CONFIRMATIONS - 1)
    purse.assert_payout_pending(payout)
    purse.chain.mine()
    assert purse.assert_payout_paid(payout).outpoint == f"{txid}:1"


def test_a_transaction_whose_block_is_replaced_is_sent_past_the_wallet(purse: ChainPurse) -> None:
    """The wallet takes its coins for spent. Should bitcoind have lost it too, it gets it anew."""
    payout = purse.begin_payout()
    txid = purse.wait_sent(payout)
    purse.chain.mine(1)
    purse.mint.node.fail_rpc("sendpsbt", -1, f"Aborting PSBT signing. UTXO {txid}:0 is not reserved", times=100)
    purse.chain.reorganise(1, 3, without=[txid])
    wait_for(lambda: purse.chain.mempool() == [txid], "the transaction to be sent again")
    purse.mint.node.heal_rpc("sendpsbt")
    purse.blocks_until_paid(payout)


def test_reservations_that_were_taken_away_are_renewed(purse: ChainPurse) -> None:
    payout = purse.begin_payout()
    purse.wait_sent(payout)
    purse.chain.free_all_coins()
    purse.chain.mine(1, empty=True)
    wait_for(lambda: any(row["reserved"] for row in purse.chain.funds()), "the coin to be reserved again")
    purse.blocks_until_paid(payout)


def test_a_reservation_is_prolonged_long_before_its_end(purse: ChainPurse) -> None:
    payout = purse.begin_payout()
    purse.wait_sent(payout)
    height = purse.chain.mine(0)
    (reserved,) = [row for row in purse.chain.funds() if row["reserved"]]
    assert reserved["reserved_to_block"] >= height + 4032
    purse.mint.node.do(lambda node: node.coins.set_reservations(height + 100))
    purse.chain.mine(1, empty=True)

    def prolonged() -> bool:
        return any(row.get("reserved_to_block", 0) >= height + 4032 for row in purse.chain.funds())

    wait_for(prolonged, "the reservation to be prolonged")
    purse.chain.free_all_coins()
    purse.blocks_until_paid(payout)


# --- dead -------------------------------------------------------------------------------------------------------------


def test_only_a_deep_conflict_gives_the_ecash_back(purse: ChainPurse) -> None:
    """Somebody spends the coin otherwise. Until that can't be undone the melt stays pending, and is shown."""
    payout = purse.begin_payout()
    txid = purse.wait_sent(payout)
    other = purse.chain.spend_otherwise(txid)
    wait_problem(purse, f"{other} in block .* has spent a coin of {txid}")
    purse.chain.mine(CONFLICT_DEPTH - 2)
    purse.assert_payout_pending(payout)
    purse.mint.expect_broken(f"{other} in block .* has spent a coin of {txid}")
    purse.chain.mine()
    purse.assert_payout_failed(payout, "spent otherwise")
    purse.post_payout(payout)
    again = purse.wait_sent(payout)
    assert again != txid
    purse.blocks_until_paid(payout)


def test_a_conflict_that_is_reorganised_away_is_none(purse: ChainPurse) -> None:
    payout = purse.begin_payout()
    txid = purse.wait_sent(payout)
    other = purse.chain.spend_otherwise(txid)
    wait_problem(purse, other)
    purse.chain.reorganise(1, CONFLICT_DEPTH + 2, without=[other])
    wait_for(lambda: purse.chain.mempool() == [txid], "the transaction to be sent again")
    purse.blocks_until_paid(payout)


def test_a_rival_in_the_mempool_is_no_proof(purse: ChainPurse) -> None:
    payout = purse.begin_payout()
    txid = purse.wait_sent(payout)
    other = purse.chain.spend_otherwise(txid, blocks=0)
    assert purse.chain.mempool() == [other]
    purse.chain.mine(CONFLICT_DEPTH, empty=True)
    wait_problem(purse, "insufficient fee")
    purse.assert_payout_pending(payout)
    purse.chain.forget_mempool()
    purse.chain.mine(1)
    wait_for(lambda: purse.chain.mempool() == [txid], "the transaction to be sent again")
    purse.blocks_until_paid(payout)


# --- switched off -----------------------------------------------------------------------------------------------------


def test_what_was_sent_is_followed_also_when_the_method_is_switched_off(own: ChainPurse) -> None:
    mint = own.mint
    own.chain.give_coins(COIN_SAT)
    payout = own.begin_payout()
    own.wait_sent(payout)
    mint.set_options(methods="bolt11")
    mint.restart_plugin(kill=True)
    assert len(melts(own)) == 1
    own.chain.mine(CONFIRMATIONS)
    wait_for(lambda: melts(own) == [], "the melt to be settled")
    mint.set_options(methods="bolt11,bolt12,onchain")
    mint.restart_plugin(kill=False)
    own.assert_payout_paid(payout)


# --- what the operator is told of the node's money --------------------------------------------------------------------


def test_the_audit_counts_each_coin_once_while_a_payment_is_on_its_way(own: ChainPurse) -> None:
    own.chain.give_coins(COIN_SAT)
    payout = own.prepare_payout()
    before = owned(own)
    own.post_payout(payout)
    txid = own.wait_sent(payout)
    assert owned(own) == before  # its coin is reserved, its change in no block yet
    own.chain.mine()
    assert owned(own) == before
    own.blocks_until_paid(payout)
    assert owned(own) == before - (AMOUNT + own.chain.fee_of(txid)) * 1000


def test_the_audit_does_not_count_a_deposit_that_a_reorganisation_took(own: ChainPurse) -> None:
    before = owned(own)
    quote = own.request_address()
    txid = own.chain.deposit(quote.request, COIN_SAT, blocks=1)
    wait_for(lambda: owned(own) == before + COIN_SAT * 1000, "the deposit to be counted")
    own.chain.reorganise(1, without=[txid])
    wait_for(lambda: owned(own) == before, "the deposit to be counted no more")


def owned(purse: ChainPurse) -> int:
    books = purse.mint.node.rpc("cashu-audit")
    assert books["balanced"]
    return sum(books["node"].values())
