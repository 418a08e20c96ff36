"""kill -9 of the plugin at every step of an on-chain melt, alone and with the node: nothing is lost or doubled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import httpx
import pytest

from contrib.sandbox.chain_control import ChainControl
from tests.plugin.harness import PENDING, UNPAID, UNSPENT, Mint, wait_for
from tests.plugin.onchain import COIN_SAT, CONFIRMATIONS, ChainPurse, Payout
from tests.plugin.onchain import OPTIONS as ONCHAIN

OPTIONS = ONCHAIN
CONSTANTS = {"plugin.methods.onchain:RETRY_S": [0.5]}

BEGIN = "ledger.ledger:Ledger.begin_melt"
PAY = "plugin.methods.payouts:Payouts.pay"
CHOOSE = "plugin.node.chain:Chain.coins"
FUND = "plugin.node.chain:Chain.fund"
ADD_OUTPUT = "plugin.node.chain:Chain.add_output"
SIGN = "plugin.node.chain:Chain.sign"
NOTE_BUILT = "ledger.ledger:Ledger.note_built"
HOLD = "plugin.node.chain:Chain.reserve"
SEND = "plugin.node.chain:Chain.send"
NOTE_BROADCAST = "ledger.ledger:Ledger.note_broadcast"
JUDGE = "plugin.methods.payouts:Payouts._judge"
SETTLE = "ledger.ledger:Ledger.settle_melt"
DISCARD = "ledger.ledger:Ledger.discard_payout"
NOTICE = "plugin.methods.deposits:Deposits.notice"
CREDIT = "ledger.operations.deposit:credit"
NOTE_SEEN = "ledger.operations.deposit:note_seen"
COMMITTED = "ledger.store.writer:Writer._answer"
BEFORE_IT_IS_BUILT = (PAY, CHOOSE, FUND, ADD_OUTPUT, SIGN, NOTE_BUILT)
AFTER_IT_IS_BUILT = (HOLD, SEND, NOTE_BROADCAST)
POINTS = (
    *(BEGIN, *BEFORE_IT_IS_BUILT, *AFTER_IT_IS_BUILT),
    *(JUDGE, SETTLE, DISCARD, NOTICE, CREDIT, NOTE_SEEN, COMMITTED),
)
BOTH = pytest.mark.parametrize("node", [False, True], ids=["plugin", "node"])


@pytest.fixture
def purse(mint: Mint) -> Iterator[ChainPurse]:
    """A purse of the shared mint, whose wallet has coins."""
    purse = ChainPurse(mint)
    purse.chain.give_coins(COIN_SAT, COIN_SAT)
    yield purse
    mint.check()


def come_back(mint: Mint, *, node: bool) -> None:
    """The plugin has killed itself; it is started again, with the node or alone."""
    mint.wait_dead()
    if node:
        mint.restart_node(kill=True)
    else:
        mint.start_plugin()


def post_into_death(purse: ChainPurse, payout: Payout) -> None:
    """`POST /v1/melt/onchain`; the answer may be lost."""
    with suppress(httpx.TransportError):
        assert purse.post_payout(payout).state == PENDING


def only_transaction(chain: ChainControl) -> str:
    """The one that waits for a block."""
    (txid,) = wait_for(chain.mempool, "the transaction to be sent")
    return txid


@BOTH
def test_before_the_proofs_are_held_nothing_has_happened(mint: Mint, purse: ChainPurse, node: bool) -> None:
    payout = purse.prepare_payout()
    mint.arm(BEGIN)
    post_into_death(purse, payout)
    come_back(mint, node=node)
    assert purse.look_payout(payout).state == UNPAID
    assert purse.states(payout.inputs) == {UNSPENT}
    purse.post_payout(payout)
    purse.wait_sent(payout)
    purse.blocks_until_paid(payout)


@BOTH
@pytest.mark.parametrize("point", BEFORE_IT_IS_BUILT)
def test_before_the_transaction_is_kept_another_one_is_made(
    mint: Mint, purse: ChainPurse, point: str, node: bool
) -> None:
    """What the dead plugin has reserved is free again some blocks later; nobody else has seen its transaction."""
    payout = purse.prepare_payout()
    mint.arm(point)
    post_into_death(purse, payout)
    come_back(mint, node=node)
    assert purse.wait_sent(payout) == only_transaction(purse.chain)
    purse.blocks_until_paid(payout)
    purse.chain.mine(12)
    assert not [row for row in purse.chain.funds() if row["reserved"]]


@BOTH
@pytest.mark.parametrize("point", AFTER_IT_IS_BUILT)
def test_after_the_transaction_is_kept_it_is_the_one_that_pays(
    mint: Mint, purse: ChainPurse, point: str, node: bool
) -> None:
    payout = purse.prepare_payout()
    mint.arm(point)
    post_into_death(purse, payout)
    mint.wait_dead()
    with mint.ledger() as db:
        kept = bytes(db.execute("SELECT txid FROM payouts ORDER BY rowid DESC LIMIT 1").get).hex()
    mint.restart_node(kill=True) if node else mint.start_plugin()
    wait_for(lambda: purse.look_payout(payout).outpoint, "the transaction to be sent")
    assert purse.wait_sent(payout) == only_transaction(purse.chain) == kept
    purse.blocks_until_paid(payout)


@BOTH
def test_it_was_mined_while_the_mint_was_away(mint: Mint, purse: ChainPurse, node: bool) -> None:
    """Killed between the broadcast and the note of it, and started after its confirmations."""
    payout = purse.prepare_payout()
    mint.arm(NOTE_BROADCAST)
    post_into_death(purse, payout)
    mint.wait_dead()
    purse.chain.mine(CONFIRMATIONS)
    mint.restart_node(kill=True) if node else mint.start_plugin()
    purse.assert_payout_paid(payout)
    assert purse.chain.mempool() == []


@BOTH
@pytest.mark.parametrize("point", [JUDGE, SETTLE, COMMITTED])
def test_around_the_settling_it_is_settled_once(mint: Mint, purse: ChainPurse, point: str, node: bool) -> None:
    payout = purse.begin_payout()
    purse.wait_sent(payout)
    purse.chain.mine(CONFIRMATIONS - 1)
    other = purse.request_address()
    purse.chain.deposit(other.request, 1000)  # and of the same block
    mint.arm(point)
    purse.chain.mine()
    come_back(mint, node=node)
    purse.assert_payout_paid(payout)
    purse.chain.mine(CONFIRMATIONS)
    purse.wait_credit(other, 1000)


@BOTH
def test_around_the_discarding_it_is_discarded_once(mint: Mint, purse: ChainPurse, node: bool) -> None:
    payout = purse.begin_payout()
    mint.expect_broken("has spent a coin of")
    mint.arm(DISCARD)
    purse.chain.spend_otherwise(purse.wait_sent(payout), blocks=6)
    come_back(mint, node=node)
    purse.assert_payout_failed(payout, "spent otherwise")


@BOTH
@pytest.mark.parametrize("point", [NOTICE, NOTE_SEEN, CREDIT])
def test_a_deposit_is_credited_once_whenever_the_mint_dies(
    mint: Mint, purse: ChainPurse, point: str, node: bool
) -> None:
    quote = purse.request_address()
    mint.arm(point)
    purse.chain.deposit(quote.request, 5000, blocks=CONFIRMATIONS)
    come_back(mint, node=node)
    purse.wait_credit(quote, 5000)
    mint.restart_plugin(kill=True)
    purse.chain.mine()
    assert purse.look_at(quote).amount_paid == 5000
    purse.collect_onchain(quote, 5000)
