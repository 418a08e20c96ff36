"""Payments in parts: xpay's error is not the end while a part is under way.

The mint has two channels, neither of which can carry the payment alone. To make xpay give up with money still out, the
receiver rejects the part that arrives first and holds the other.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from ledger.models import MeltQuoteOptions, MeltQuoteState, MppOption, ProofState
from tests.node.harness import SOON_S, Invoice, Mint, Network, wait_for
from tests.node.purse import Attempt, Purse, funded_purse

CAPACITY = 1_000_000
SHARE = 300_000
FUNDS = 500_000
"""Minted over each of the two channels: then the mint can send a little less than 800 000 over each."""
AMOUNT = 900_000


@pytest.fixture
def wide_mint(network: Network) -> Iterator[Mint]:
    """A mint with one channel to the hub and one to the receiver."""
    with network.mint(channels={"hub": (CAPACITY, SHARE), "receiver": (CAPACITY, SHARE)}) as mint:
        yield mint


@pytest.fixture
def wide_purse(wide_mint: Mint, network: Network) -> Purse:
    """One million sat of that mint."""
    purse = Purse(wide_mint)
    purse.fund(FUNDS, network.hub.pay)
    purse.fund(FUNDS, network.receiver.pay)
    return purse


def statuses(mint: Mint, invoice: Invoice) -> list[str]:
    """The states of the payment's parts, in alphabetical order."""
    return sorted(row["status"] for row in mint.payment_rows(invoice.payment_hash))


def start_half_rejected(mint: Mint, purse: Purse, network: Network) -> tuple[Attempt, Invoice]:
    """A melt of which one part was rejected and the other is held: xpay has answered with an error."""
    invoice = network.receiver.invoice(AMOUNT)
    network.receiver.plan(invoice, "reject", "hold")
    attempt = purse.start_async(invoice.bolt11)
    network.receiver.wait_held(invoice)
    wait_for(lambda: statuses(mint, invoice) == ["failed", "pending"], "one part to fail")
    time.sleep(2)  # xpay's error is on its way within milliseconds
    assert purse.look(attempt).state == MeltQuoteState.PENDING
    assert purse.states(attempt.inputs) == {ProofState.PENDING}
    return attempt, invoice


def test_two_parts_arrive(wide_mint: Mint, wide_purse: Purse, network: Network) -> None:
    """Both parts succeed: PAID, and the change is what the routing fees of both left."""
    invoice = network.receiver.invoice(AMOUNT)
    attempt = wide_purse.prepare(invoice.bolt11)
    answer = wide_purse.post(attempt)
    assert answer.state == MeltQuoteState.PAID
    assert answer.payment_preimage == invoice.preimage
    wide_purse.finish(attempt, answer)
    rows = wide_mint.payment_rows(invoice.payment_hash)
    assert len(rows) > 1, "the payment was meant to need two parts"
    fee_msat = sum(row["amount_sent_msat"] for row in rows) - AMOUNT * 1000
    assert wide_purse.balance == 2 * FUNDS - AMOUNT - -(-fee_msat // 1000)
    assert wide_mint.outstanding_sat() == wide_purse.balance


def test_an_error_of_xpay_is_not_final_when_the_other_part_is_claimed(
    wide_mint: Mint, wide_purse: Purse, network: Network
) -> None:
    """The receiver claims the held part after xpay's error: the melt is PAID, nothing was given back meanwhile."""
    attempt, invoice = start_half_rejected(wide_mint, wide_purse, network)
    network.receiver.release(invoice, "claim")
    quote = wide_purse.wait_final(attempt, SOON_S)
    assert quote.state == MeltQuoteState.PAID
    assert quote.payment_preimage == invoice.preimage
    assert wide_purse.states(attempt.inputs) == {ProofState.SPENT}
    assert statuses(wide_mint, invoice) == ["complete", "failed"]
    assert wide_mint.outstanding_sat() == wide_purse.balance


def test_an_error_of_xpay_is_final_when_the_other_part_fails_too(
    wide_mint: Mint, wide_purse: Purse, network: Network
) -> None:
    """The receiver rejects the held part as well: only then the melt is UNPAID and the proofs are free."""
    attempt, invoice = start_half_rejected(wide_mint, wide_purse, network)
    network.receiver.release(invoice, "reject")
    quote = wide_purse.wait_final(attempt, SOON_S)
    assert quote.state == MeltQuoteState.UNPAID
    assert quote.error
    assert wide_purse.states(attempt.inputs) == {ProofState.UNSPENT}
    assert statuses(wide_mint, invoice) == ["failed", "failed"]
    assert wide_mint.outstanding_sat() == wide_purse.balance == 2 * FUNDS


def test_a_part_is_waited_for_across_a_kill_of_the_plugin(wide_mint: Mint, wide_purse: Purse, network: Network) -> None:
    """Killed after xpay's error with a part still out, the plugin comes back, waits for it, and the melt is PAID."""
    attempt, invoice = start_half_rejected(wide_mint, wide_purse, network)
    wide_mint.kill_plugin()
    wide_mint.start_plugin()
    wide_mint.wait_ready()
    assert wide_purse.look(attempt).state == MeltQuoteState.PENDING
    network.receiver.release(invoice, "claim")
    assert wide_purse.wait_final(attempt, SOON_S).state == MeltQuoteState.PAID
    assert wide_mint.outstanding_sat() == wide_purse.balance


def test_two_mints_pay_one_invoice(shared_mint: Mint, own_mint: Mint, network: Network) -> None:
    """Each of two mints pays a part (NUT-15): neither is paid before the other's part is there, then both are."""
    purses = [funded_purse(mint, network) for mint in (shared_mint, own_mint)]
    invoice = network.receiver.invoice(3000)
    attempts = []
    for purse, part_msat in zip(purses, (1_000_000, 2_000_000), strict=True):
        attempt = purse.prepare(invoice.bolt11, options=MeltQuoteOptions(mpp=MppOption(amount=part_msat)))
        assert attempt.quote.amount * 1000 == part_msat
        attempts.append(attempt)
    assert purses[0].post(attempts[0], prefer_async=True).state == MeltQuoteState.PENDING
    time.sleep(1)
    assert purses[0].look(attempts[0]).state == MeltQuoteState.PENDING
    assert purses[1].post(attempts[1], prefer_async=True).state == MeltQuoteState.PENDING
    for purse, attempt in zip(purses, attempts, strict=True):
        quote = purse.wait_final(attempt)
        assert quote.state == MeltQuoteState.PAID
        assert quote.payment_preimage == invoice.preimage
        cost = 10_000 - purse.balance
        assert quote.amount <= cost <= quote.amount + quote.fee_reserve
    assert network.receiver.is_paid(invoice)
