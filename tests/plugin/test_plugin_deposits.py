"""Deposits on the chain: credited when they are deep enough, once, and only what counts."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from contrib.wallet import messages
from ledger.errors import Code
from tests.plugin.conftest import MakeMint
from tests.plugin.harness import Mint, wait_for
from tests.plugin.onchain import CONFIRMATIONS, OPTIONS, ChainPurse

__all__ = ["OPTIONS"]
AMOUNT = 20_000
MINIMUM = int(OPTIONS["onchain_min"])


@pytest.fixture
def purse(mint: Mint) -> Iterator[ChainPurse]:
    """A purse of the shared mint, which is checked after the test."""
    yield ChainPurse(mint)
    mint.check()


def settled(purse: ChainPurse) -> None:
    """Wait until the mint has processed everything so far: a deposit of another quote, made now, is credited."""
    witness = purse.request_address()
    purse.chain.deposit(witness.request, MINIMUM, blocks=CONFIRMATIONS)
    purse.wait_credit(witness, MINIMUM)


def test_a_deposit_is_credited_at_its_confirmations_and_not_before(purse: ChainPurse) -> None:
    quote = purse.request_address()
    assert (quote.amount_paid, quote.amount_issued, quote.method) == (0, 0, "onchain")
    before = purse.request_address()
    purse.chain.deposit(before.request, AMOUNT, blocks=1)
    purse.chain.deposit(quote.request, AMOUNT, blocks=CONFIRMATIONS - 1)
    purse.wait_credit(before, AMOUNT)  # so the same block was looked at
    assert purse.look_at(quote).amount_paid == 0
    purse.chain.mine()
    assert purse.wait_credit(quote, AMOUNT).updated_at > quote.updated_at
    proofs = purse.collect_onchain(quote, AMOUNT)
    assert sum(proof.amount for proof in proofs) == AMOUNT
    purse.swap(proofs)


def test_an_address_may_be_paid_often_and_issued_bit_by_bit(purse: ChainPurse) -> None:
    quote = purse.request_address()
    purse.chain.deposit(quote.request, AMOUNT)
    purse.chain.deposit(quote.request, 2 * AMOUNT, blocks=CONFIRMATIONS)
    purse.wait_credit(quote, 3 * AMOUNT)
    purse.collect_onchain(quote, AMOUNT - 1)
    purse.chain.deposit(quote.request, AMOUNT, blocks=CONFIRMATIONS)
    purse.wait_credit(quote, 4 * AMOUNT)
    outputs = purse.outputs(3 * AMOUNT + 2)
    assert purse.refused("/v1/mint/onchain", purse.issue_body(quote, outputs))[0] == Code.NOT_BALANCED
    purse.collect_onchain(quote, 3 * AMOUNT + 1)
    outputs = purse.outputs(1)
    assert purse.refused("/v1/mint/onchain", purse.issue_body(quote, outputs))[0] == Code.QUOTE_ISSUED
    now = purse.look_at(quote)
    assert (now.amount_paid, now.amount_issued) == (4 * AMOUNT, 4 * AMOUNT)


def test_nothing_is_issued_without_the_signature(purse: ChainPurse) -> None:
    quote = purse.request_address()
    body = {"quote": quote.quote, "outputs": [m.model_dump() for m in messages(purse.outputs(AMOUNT))]}
    assert purse.refused("/v1/mint/onchain", body)[0] == Code.SIGNATURE_INVALID
    purse.chain.deposit(quote.request, AMOUNT, blocks=CONFIRMATIONS)
    purse.wait_credit(quote, AMOUNT)
    assert purse.refused("/v1/mint/onchain", body)[0] == Code.SIGNATURE_INVALID
    purse.collect_onchain(quote, AMOUNT)


def test_small_outputs_never_count_and_are_never_added_up(purse: ChainPurse) -> None:
    quote = purse.request_address()
    for _ in range(3):
        purse.chain.deposit(quote.request, MINIMUM - 1)
    purse.chain.deposit(quote.request, MINIMUM, blocks=CONFIRMATIONS)
    purse.wait_credit(quote, MINIMUM)
    settled(purse)
    assert purse.look_at(quote).amount_paid == MINIMUM


def test_coins_that_pay_no_quote_pass_by(purse: ChainPurse) -> None:
    purse.chain.give_coins(AMOUNT)
    before = purse.mint.info()["outstanding"]
    settled(purse)
    assert purse.mint.info()["outstanding"] == before


def test_a_deposit_in_a_block_that_is_replaced_waits_for_another_block(purse: ChainPurse) -> None:
    """Its confirmations begin anew, and the node tells nobody that it came again."""
    quote = purse.request_address()
    txid = purse.chain.deposit(quote.request, AMOUNT, blocks=CONFIRMATIONS - 1)
    purse.chain.reorganise(CONFIRMATIONS - 1, CONFIRMATIONS + 2)
    settled(purse)  # whose blocks have the deposit in them again, from the first on
    purse.wait_credit(quote, AMOUNT)
    told = [n for n in purse.mint.node.notifications("coin_movement") if n.payload["utxo"].startswith(txid)]
    assert len(told) == 1
    purse.collect_onchain(quote, AMOUNT)


def test_a_deposit_that_was_reorganised_away_is_not_credited_by_its_old_height(purse: ChainPurse) -> None:
    quote = purse.request_address()
    txid = purse.chain.deposit(quote.request, AMOUNT, blocks=CONFIRMATIONS - 1)
    purse.chain.reorganise(CONFIRMATIONS - 1, without=[txid])
    settled(purse)
    purse.chain.mine(2 * CONFIRMATIONS)
    settled(purse)
    assert purse.look_at(quote).amount_paid == 0
    assert [row["status"] for row in purse.chain.funds() if row["txid"] == txid] == ["unconfirmed"]


def test_a_rival_of_equal_height_changes_nothing_yet(purse: ChainPurse) -> None:
    quote = purse.request_address()
    txid = purse.chain.deposit(quote.request, AMOUNT, blocks=CONFIRMATIONS - 1)
    purse.chain.reorganise(CONFIRMATIONS - 1, CONFIRMATIONS - 1, without=[txid])
    purse.chain.mine(1, empty=True)  # the rival is longer now
    settled(purse)
    assert purse.look_at(quote).amount_paid == 0


def test_a_deposit_that_was_credited_stays_credited(purse: ChainPurse) -> None:
    """A reorganisation deeper than the confirmations is the mint's risk."""
    quote = purse.request_address()
    txid = purse.chain.deposit(quote.request, AMOUNT, blocks=CONFIRMATIONS)
    purse.wait_credit(quote, AMOUNT)
    purse.chain.reorganise(CONFIRMATIONS, without=[txid])
    settled(purse)
    purse.collect_onchain(quote, AMOUNT)
    settled(purse)
    assert purse.look_at(quote).amount_paid == AMOUNT


def test_a_deposit_that_was_replaced_before_it_confirmed_is_never_seen(purse: ChainPurse) -> None:
    quote = purse.request_address()
    purse.chain.replace(purse.chain.deposit(quote.request, AMOUNT))
    purse.chain.mine(CONFIRMATIONS)
    settled(purse)
    assert purse.look_at(quote).amount_paid == 0


def test_a_deposit_that_the_wallet_has_spent_already_is_credited(purse: ChainPurse) -> None:
    """Its height isn't told any more; the list of transactions has it."""
    quote = purse.request_address()
    txid = purse.chain.deposit(quote.request, AMOUNT, blocks=1)
    (found,) = [row for row in purse.chain.funds() if row["txid"] == txid]
    spend = purse.mint.node.rpc(
        "utxopsbt",
        satoshi=f"{MINIMUM}sat",
        feerate="1000perkw",
        startweight=166,
        utxos=[f"{txid}:{found['output']}"],
        excess_as_change=True,
    )["psbt"]
    signed = purse.mint.node.rpc("signpsbt", psbt=spend)["signed_psbt"]
    purse.mint.node.rpc("sendpsbt", psbt=signed)
    purse.chain.mine(CONFIRMATIONS - 1)
    assert [row["status"] for row in purse.chain.funds(spent=True) if row["txid"] == txid] == ["spent"]
    purse.wait_credit(quote, AMOUNT)


@pytest.mark.parametrize("kill", [True, False], ids=["killed", "stopped"])
@pytest.mark.parametrize("node", [True, False], ids=["node", "plugin"])
def test_what_came_while_the_mint_was_off_is_credited_at_its_start(purse: ChainPurse, node: bool, kill: bool) -> None:
    first, second = purse.request_address(), purse.request_address()
    mint = purse.mint
    purse.chain.deposit(first.request, AMOUNT, blocks=1)

    def meanwhile() -> None:
        mint.node.chain.deposit(second.request, AMOUNT, blocks=CONFIRMATIONS - 1)

    if node:
        mint.restart_node(kill=kill, while_down=meanwhile)
    else:
        mint.node.kill_plugin() if kill else mint.node.stop_plugin()
        meanwhile()
        mint.start_plugin()
    purse.wait_credit(first, AMOUNT)
    assert purse.look_at(second).amount_paid == 0
    purse.chain.mine()
    purse.wait_credit(second, AMOUNT)


def test_what_is_first_seen_after_the_expiry_never_counts(make_mint: MakeMint) -> None:
    """By the time of the block. What was seen before is waited for, however long it takes."""
    day = 24 * 3600
    mint = make_mint(onchain_expiry_days=1, **OPTIONS)
    purse = ChainPurse(mint)
    early, late = purse.request_address(), purse.request_address()
    assert early.expiry is not None
    assert 0 < early.expiry - time.time() <= day
    purse.chain.deposit(early.request, AMOUNT)
    purse.chain.mine(mined_at=early.expiry - 60)
    wait_for(lambda: _watched(mint) == 1, "the first deposit to be seen")
    purse.chain.set_clock_ahead(2 * day)
    purse.chain.deposit(late.request, AMOUNT)
    purse.chain.deposit(early.request, AMOUNT)
    purse.chain.mine(mined_at=early.expiry + 60)
    purse.chain.mine(CONFIRMATIONS)
    purse.wait_credit(early, AMOUNT)
    mint.node.wait_for_log("after its quote's expiry")
    assert purse.look_at(late).amount_paid == 0
    assert purse.collect_onchain(early, AMOUNT)


@pytest.mark.parametrize(("block_s", "node_s"), [(-60, 7200), (7200, -60)], ids=["node was off", "block from ahead"])
def test_the_earlier_of_block_and_node_tells_when_it_was_seen(make_mint: MakeMint, block_s: int, node_s: int) -> None:
    """A node that was off sees a block late; a block's time may be up to two hours ahead."""
    mint = make_mint(onchain_expiry_days=1, **OPTIONS)
    purse = ChainPurse(mint)
    quote = purse.request_address()
    assert quote.expiry is not None
    purse.chain.set_clock_ahead(quote.expiry - int(time.time()) + node_s)
    purse.chain.deposit(quote.request, AMOUNT)
    purse.chain.mine(mined_at=quote.expiry + block_s)
    purse.chain.mine(CONFIRMATIONS)
    purse.wait_credit(quote, AMOUNT)


def _watched(mint: Mint) -> int:
    with mint.ledger() as db:
        return int(db.execute("SELECT count(*) FROM deposits WHERE watched").get)


def test_without_an_expiry_an_address_is_good_for_ever(make_mint: MakeMint) -> None:
    purse = ChainPurse(make_mint(onchain_expiry_days=0, **OPTIONS))
    assert purse.request_address().expiry is None


def test_while_nothing_is_under_way_the_node_is_asked_nothing(make_mint: MakeMint) -> None:
    purse = ChainPurse(make_mint(**OPTIONS))
    quote = purse.request_address()
    purse.chain.deposit(quote.request, AMOUNT, blocks=CONFIRMATIONS)
    purse.wait_credit(quote, AMOUNT)
    settled(purse)
    node = purse.mint.node
    quiet = node.calls_position
    purse.chain.mine(5)
    purse.chain.give_coins(AMOUNT)  # events come in their order: by now the blocks have been heard of
    node.wait_for_call("listchainmoves", since=quiet)
    asked = [call.method for call in node.calls(since=quiet) if call.method != "datastore"]
    assert asked[0] == "listchainmoves"


def test_too_many_unpaid_addresses_are_refused(make_mint: MakeMint) -> None:
    mint = make_mint(started=False, **OPTIONS)
    mint.change_inside(constants={"plugin.methods.onchain:MAX_OPEN_ADDRESSES": 2})
    mint.start()
    purse = ChainPurse(mint)
    paid = purse.request_address()
    purse.request_address()
    body = {"unit": "sat", "pubkey": paid.pubkey}
    code, detail = purse.refused("/v1/mint/quote/onchain", body)
    assert (code, "unpaid" in detail) == (Code.QUOTE_REJECTED, True)
    purse.chain.deposit(paid.request, AMOUNT, blocks=CONFIRMATIONS)
    purse.wait_credit(paid, AMOUNT)
    purse.request_address()


def test_a_node_with_an_older_database_is_read_again(purse: ChainPurse) -> None:
    """Its moves are counted from where the copy was made: none of them may be taken for one that was read before."""
    mint = purse.mint
    settled(purse)
    settled(purse)
    quote = purse.request_address()
    mint.node.kill_plugin()
    purse.chain.forget_moves()
    purse.chain.deposit(quote.request, AMOUNT, blocks=CONFIRMATIONS)
    mint.start_plugin()
    purse.wait_credit(quote, AMOUNT)
