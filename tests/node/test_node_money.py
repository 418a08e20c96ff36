"""Hostile money on a real node: a payment held until its channel is closed for it, deleted rows, a node's database put
back to an older copy, an older ledger."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from ledger.models import MeltQuoteState, ProofState
from tests.node.harness import CHANNEL_SAT, PATIENCE_S, RECEIVER_PLUGIN, Invoice, Mint, Network, Receiver, wait_for
from tests.node.purse import Attempt, Purse, funded_purse

pytestmark = pytest.mark.slow

PENDING, PAID, UNPAID = MeltQuoteState.PENDING, MeltQuoteState.PAID, MeltQuoteState.UNPAID
DEAR_SAT = 100_000
"""More than it costs to claim an HTLC on the chain: a node leaves a smaller one there for ever, pending."""
MOST_BLOCKS = 300
"""So many end any HTLC of these nodes."""


def start_held(purse: Purse, receiver: Receiver, amount_sat: int = 1000) -> tuple[Attempt, Invoice]:
    """A melt whose payment has arrived and is held."""
    invoice = receiver.invoice(amount_sat)
    receiver.plan(invoice, "hold")
    attempt = purse.start_async(invoice.bolt11)
    receiver.wait_held(invoice)
    return attempt, invoice


def end_unseen(mint: Mint, receiver: Receiver, invoice: Invoice, action: str) -> None:
    """A held payment ends while the plugin is not there."""
    mint.kill_plugin()
    receiver.release(invoice, action)
    mint.wait_decided(invoice.payment_hash)


def wait_stuck(mint: Mint, invoice: Invoice) -> None:
    """The mint lists the melt for its operator."""

    def listed() -> bool:
        return invoice.payment_hash in {melt["payment_hash"] for melt in mint.cashu_info()["stuck_melts"]}

    wait_for(listed, "the melt to be listed as stuck")


def assert_stays_pending(purse: Purse, attempt: Attempt) -> None:
    """For longer than the mint would wait for an xpay that may be routing."""
    assert purse.look(attempt).state == PENDING
    assert purse.states(attempt.inputs) == {ProofState.PENDING}


# --- a payment that is held for ever ----------------------------------------------------------------------------------


@contextmanager
def direct_receiver(network: Network, mint: Mint) -> Iterator[Receiver]:
    """A node that the mint has a channel with, and nobody else."""
    with network.peer_of(mint, RECEIVER_PLUGIN) as node:
        network.pay_address(mint.call("newaddr", addresstype="bech32")["bech32"], 2 * CHANNEL_SAT)
        network.mine(1, mint)
        wait_for(lambda: mint.call("listfunds")["outputs"], "the coins to arrive")
        network.open_channel(mint, node, announced=False)
        yield Receiver(node.raw)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("ending", ["timeout", "claim"])
def test_a_payment_is_held_until_its_channel_is_closed_for_it(network: Network, ending: str) -> None:
    """The HTLC runs out, the node closes the channel, and the outcome is what becomes of the HTLC on the chain: until
    then PENDING."""
    with network.mint() as mint, direct_receiver(network, mint) as receiver:
        purse = funded_purse(mint, network)
        purse.fund(2 * DEAR_SAT, network.receiver.pay)
        attempt, invoice = start_held(purse, receiver, DEAR_SAT)
        row = mint.payment_rows(invoice.payment_hash)[0]
        assert row["status"] == "pending"

        def closed() -> bool:
            channels = mint.call("listpeerchannels", id=receiver.id)["channels"]
            return all(channel["state"] != "CHANNELD_NORMAL" for channel in channels)

        for _ in range(MOST_BLOCKS):
            network.mine(1, mint)
            assert purse.look(attempt).state == PENDING
            if closed():
                break
        assert closed()
        if ending == "claim":
            network.wait_for_transaction()  # the channel's end
            with mint.without_sending():  # else what gives the HTLC back may be in the block before its claim
                receiver.release(invoice, "claim")
                network.mine(1, mint, receiver)
                network.wait_for_transaction()
        for _ in range(MOST_BLOCKS):
            network.mine(1, mint, receiver)
            if all(row["status"] != "pending" for row in mint.payment_rows(invoice.payment_hash)):
                break
            time.sleep(0.05)  # lets the nodes send what they have to
        quote = purse.wait_final(attempt)
        (row,) = mint.payment_rows(invoice.payment_hash)
        assert (quote.state == PAID) == (row["status"] == "complete")
        assert quote.state == (PAID if ending == "claim" else UNPAID)
        spent = ProofState.SPENT if ending == "claim" else ProofState.UNSPENT
        assert purse.states(attempt.inputs) == {spent}
        assert mint.call("cashu-audit")["balanced"]


# --- autoclean --------------------------------------------------------------------------------------------------------


def clean(mint: Mint, subsystem: str) -> int:
    """`autoclean-once` of everything older than a second; how many it deleted."""
    time.sleep(2.1)
    answer = mint.call("autoclean-once", subsystem=subsystem, age=1)
    return int(answer["autoclean"][subsystem]["cleaned"])


def test_autoclean_deletes_a_payment_that_was_made_while_the_mint_was_off(network: Network) -> None:
    """The node's accounts still tell that it was made, and for how much."""
    with network.mint(cashu_retry_for=1) as mint:
        purse = funded_purse(mint, network)
        attempt, invoice = start_held(purse, network.receiver)
        end_unseen(mint, network.receiver, invoice, "accept")
        assert clean(mint, "succeededpays") >= 1
        assert mint.payment_rows(invoice.payment_hash) == []
        mint.start_plugin()
        mint.wait_ready()
        quote = purse.wait_final(attempt, 2 * PATIENCE_S)  # an xpay of before may still be looking for a route
        assert (quote.state, quote.payment_preimage) == (PAID, None)
        assert purse.states(attempt.inputs) == {ProofState.SPENT}
        assert mint.outstanding_sat() == purse.balance


def test_autoclean_deletes_a_payment_that_failed_while_the_mint_was_off(network: Network) -> None:
    """Nothing tells what became of it: it stays PENDING, and the operator is told."""
    with network.mint(cashu_retry_for=1) as mint:
        purse = funded_purse(mint, network)
        attempt, invoice = start_held(purse, network.receiver)
        end_unseen(mint, network.receiver, invoice, "reject")
        assert clean(mint, "failedpays") >= 1
        mint.stop()
        mint.start_again()
        wait_stuck(mint, invoice)
        assert_stays_pending(purse, attempt)


def test_autoclean_while_payments_are_held_deletes_none_of_them(
    own_mint: Mint, own_purse: Purse, network: Network
) -> None:
    attempt, invoice = start_held(own_purse, network.receiver)
    for subsystem in ("succeededpays", "failedpays", "paidinvoices", "expiredinvoices"):
        clean(own_mint, subsystem)
    assert_stays_pending(own_purse, attempt)
    own_mint.kill_plugin()
    own_mint.start_plugin()
    own_mint.wait_ready()
    assert_stays_pending(own_purse, attempt)
    network.receiver.release(invoice)
    assert own_purse.wait_final(attempt).state == PAID


def test_autoclean_deletes_an_invoice_that_was_paid_while_the_mint_was_off(
    own_mint: Mint, own_purse: Purse, network: Network
) -> None:
    """The node's accounts still tell of it: credited once, as received, in however many parts it came."""
    quote, unpaid = own_purse.request_mint(3000), own_purse.request_mint(7)
    own_mint.kill_plugin()
    network.receiver.pay(quote.request)
    wait_for(lambda: own_mint.has_been_paid(quote.request), "the invoice to be paid")
    assert clean(own_mint, "paidinvoices") >= 1
    assert own_mint.call("listinvoices", invstring=quote.request)["invoices"] == []
    own_mint.start_plugin()
    own_mint.wait_ready()
    own_purse.wait_paid(quote)
    own_purse.collect(quote)
    own_mint.kill_plugin()
    own_mint.start_plugin()
    own_mint.wait_ready()
    assert own_purse.client.mint_quote(quote.quote).amount_paid == 3000
    assert own_purse.client.mint_quote(unpaid.quote).amount_paid == 0
    assert own_mint.outstanding_sat() == own_purse.balance


# --- an older database of the node ------------------------------------------------------------------------------------


class Database:
    """The node's database, with a copy of it made while the node was stopped."""

    def __init__(self, mint: Mint) -> None:
        self._mint = mint
        self._path = Path(mint.raw.daemon.lightning_dir) / "regtest" / "lightningd.sqlite3"
        self._copy = self._path.with_suffix(".copy")
        mint.stop()
        shutil.copy(self._path, self._copy)
        mint.start_again()

    def put_back(self) -> None:
        """Start the node on the copy. Without connections: its peer would close the channel."""
        self._mint.expected_problem = "the node's database is older than it was"
        self._mint.stop()
        for suffix in ("-wal", "-shm", "-journal"):
            with suppress(FileNotFoundError):
                os.unlink(f"{self._path}{suffix}")  # noqa: PTH108
        shutil.copy(self._copy, self._path)
        self._mint.start_offline()


@pytest.mark.parametrize("ending", ["accept", "reject"])
def test_a_node_that_was_rolled_back_gives_no_ecash_back(network: Network, ending: str) -> None:
    """The copy has no row of the payment, which ended unseen after it was made: its absence proves nothing."""
    with network.mint(cashu_retry_for=1) as mint:
        purse = funded_purse(mint, network)
        database = Database(mint)
        attempt, invoice = start_held(purse, network.receiver)
        end_unseen(mint, network.receiver, invoice, ending)
        database.put_back()
        assert mint.payment_rows(invoice.payment_hash) == []
        wait_stuck(mint, invoice)
        mint.kill_plugin()
        mint.start_plugin()
        mint.wait_ready()
        wait_stuck(mint, invoice)
        assert_stays_pending(purse, attempt)


def test_a_node_that_was_rolled_back_with_a_payment_in_flight_gives_no_ecash_back(network: Network) -> None:
    """The copy has the row, pending, and the HTLC; in truth it was claimed since."""
    with network.mint(cashu_retry_for=1) as mint:
        purse = funded_purse(mint, network)
        attempt, invoice = start_held(purse, network.receiver)
        database = Database(mint)
        end_unseen(mint, network.receiver, invoice, "accept")
        mint.start_plugin()
        mint.wait_ready()
        assert purse.wait_final(attempt).state == PAID
        database.put_back()
        (row,) = mint.payment_rows(invoice.payment_hash)
        assert row["status"] == "pending"
        assert purse.look(attempt).state == PAID
        assert purse.states(attempt.inputs) == {ProofState.SPENT}
        assert mint.outstanding_sat() == purse.balance


def test_a_node_that_was_rolled_back_credits_what_is_paid_from_there_on(network: Network) -> None:
    """Its pay index begins anew below what the ledger has read: nothing is passed by, nothing credited twice."""
    with network.mint() as mint:
        purse = funded_purse(mint, network)
        unpaid = purse.request_mint(5)
        database = Database(mint)
        for _ in range(3):
            purse.fund(10, network.receiver.pay)
        balance = purse.balance
        database.put_back()
        assert mint.outstanding_sat() == balance
        mint.call("xpay", invstring=unpaid.request)  # the node pays itself, which needs no peer
        purse.wait_paid(unpaid)
        purse.collect(unpaid)
        assert mint.outstanding_sat() == purse.balance == balance + 5


# --- an older ledger --------------------------------------------------------------------------------------------------


def test_an_older_ledger_is_refused(own_mint: Mint, own_purse: Purse) -> None:
    """A copy from before a swap would take the swapped proofs again: it is not served, and the newest one is."""
    own_mint.expected_problem = "is an old copy"
    path, copy = own_mint.ledger_path, own_mint.ledger_path.with_suffix(".copy")
    newest = own_mint.ledger_path.with_suffix(".newest")
    own_mint.stop_plugin()
    shutil.copy(path, copy)
    own_mint.start_plugin()
    own_mint.wait_ready()
    own_purse.receive(own_purse.send(2000))
    own_mint.stop_plugin()
    shutil.move(path, newest)
    shutil.copy(copy, path)
    own_mint.start_plugin()
    wait_for(lambda: own_mint.cashu_info()["state"] == "failed", "the mint to refuse")
    assert "old copy" in own_mint.cashu_info()["reason"]
    own_mint.stop_plugin()
    shutil.move(newest, path)
    own_mint.start_plugin()
    own_mint.wait_ready()
    assert own_mint.outstanding_sat() == own_purse.balance
