"""bolt12 on a real node: ecash for payments of offers, and offers paid with ecash, between nodes that know nothing of
the mint, and between mints."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from coincurve import PrivateKey
from pyln.client import RpcError

from contrib.sandbox import bolt12
from contrib.wallet import quote_lock
from contrib.wallet.errors import MintError, WalletError
from contrib.wallet.outputs import messages, unblind
from ledger.errors import Code
from ledger.models import MeltQuoteState, MintQuoteBolt12, ProofState
from tests.node.harness import SOON_S, Mint, Network, wait_for
from tests.node.purse import Attempt, Purse

CHEATER = Path(__file__).resolve().with_name("cheater.py")
PENDING, PAID, UNPAID = MeltQuoteState.PENDING, MeltQuoteState.PAID, MeltQuoteState.UNPAID


class OfferPurse(Purse):
    """A purse that is filled by offers, and pays them."""

    method = "bolt12"

    def __init__(self, mint: Mint) -> None:
        super().__init__(mint)
        self.key = PrivateKey()

    def request_offer(self, amount: int | None, **options: Any) -> MintQuoteBolt12:
        """A new mint quote."""
        pubkey = self.key.public_key.format().hex()
        quote = self.client.request_mint_offer(amount, pubkey=pubkey, **options)
        self._confidential.add(quote.quote)
        return quote

    def wait_credited(self, quote: MintQuoteBolt12, amount: int) -> None:
        """Wait until the mint has noticed so much for a mint quote."""
        wait_for(lambda: self.client.mint_offer(quote.quote).amount_paid == amount, f"{amount} to be credited")

    def collect_offer(self, quote: MintQuoteBolt12, amount: int) -> None:
        """Have ecash issued for a mint quote."""
        outputs = self._outputs(amount)
        signature = quote_lock.sign(self.key, quote_lock.message(quote.quote, messages(outputs)))
        made = self.client.mint(quote.quote, messages(outputs), signature=signature, method="bolt12")
        self._add(unblind(outputs, made, self._keysets))

    def refusal(self, offer: str, amount_msat: int | None = None) -> MintError:
        """What a melt quote is refused with."""
        with pytest.raises(MintError) as refused:
            self.client.request_melt_quote(offer, amount_msat=amount_msat, method="bolt12")
        return refused.value


def with_ecash(mint: Mint, network: Network, amount: int = 10_000) -> OfferPurse:
    """A purse of a mint, with ecash for an invoice that the hub has paid."""
    purse = OfferPurse(mint)
    purse.fund(amount, network.hub.pay)
    return purse


@pytest.fixture
def purse(shared_mint: Mint, network: Network) -> OfferPurse:
    """10 000 sat of the shared mint."""
    return with_ecash(shared_mint, network)


def assert_melted(purse: OfferPurse, attempt: Attempt, before: int, *, paid: bool) -> None:
    """The melt is decided, and so are its proofs and what the purse has."""
    quote = purse.look(attempt)
    assert quote.state == (PAID if paid else UNPAID)
    assert purse.states(attempt.inputs) == {ProofState.SPENT if paid else ProofState.UNSPENT}
    cost = before - purse.balance
    if paid:
        assert quote.amount <= cost <= quote.amount + quote.fee_reserve
        assert quote.payment_preimage
    else:
        assert cost == 0
        assert quote.error


# --- money in -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("payer", ["hub", "receiver"])
def test_every_payment_of_an_offer_becomes_ecash_once(shared_mint: Mint, network: Network, payer: str) -> None:
    """A peer, or a node two hops away, pays an offer several times; the wallet takes the ecash bit by bit."""
    purse, paying = OfferPurse(shared_mint), getattr(network, payer)
    before = shared_mint.outstanding_sat()
    fixed, open_ = purse.request_offer(100, description="coffee ☕"), purse.request_offer(None)
    hashes = {paying.pay_offer(fixed.request) for _ in range(3)}
    assert len(hashes) == 3
    purse.wait_credited(fixed, 300)
    paying.pay_offer(open_.request, 1_234_567)
    paying.pay_offer(open_.request, 999)
    purse.wait_credited(open_, 1_234)
    with pytest.raises(MintError) as refused:
        purse.collect_offer(fixed, 301)
    assert refused.value.code == Code.NOT_BALANCED
    for amount in (1, 250, 49):
        purse.collect_offer(fixed, amount)
    with pytest.raises(MintError) as refused:
        purse.collect_offer(fixed, 1)
    assert refused.value.code == Code.QUOTE_ISSUED
    paying.pay_offer(fixed.request, 300_000)  # more than the offer asks for
    purse.wait_credited(fixed, 600)
    purse.collect_offer(fixed, 300)
    purse.collect_offer(open_, 1_234)
    assert purse.balance == 1_834
    assert shared_mint.outstanding_sat() == before + 1_834


def test_less_than_the_offers_amount_is_not_taken(shared_mint: Mint, network: Network) -> None:
    quote = OfferPurse(shared_mint).request_offer(100)
    with pytest.raises(RpcError):
        network.hub.pay_offer(quote.request, 99_999)


@pytest.mark.parametrize("description", ["coffee ☕ für zwei", 'with "quotes" and \\u slashes', "two\nlines", ""])
def test_descriptions_arrive_as_they_are(shared_mint: Mint, description: str) -> None:
    """In offers and in invoices: lightningd takes no escapes of the form \\uXXXX."""
    purse = OfferPurse(shared_mint)
    offer = purse.request_offer(5, description=description)
    assert shared_mint.call("decode", string=offer.request).get("offer_description", "") == description
    invoice = purse.client.request_mint_quote(5, description=description)
    assert shared_mint.call("decode", string=invoice.request)["description"] == description


def test_a_description_with_control_characters_is_refused(shared_mint: Mint) -> None:
    purse = OfferPurse(shared_mint)
    for ask in (purse.request_offer, purse.client.request_mint_quote):
        with pytest.raises(MintError) as refused:
            ask(5, description="a\u0001b")
        assert refused.value.code == Code.REQUEST_REJECTED


def test_equal_requests_get_offers_of_their_own(shared_mint: Mint, network: Network) -> None:
    """The node makes no two offers of equal content, so their contents differ."""
    purse = OfferPurse(shared_mint)
    quotes = [purse.request_offer(7, description="the same") for _ in range(3)]
    assert len({quote.request for quote in quotes}) == 3
    network.hub.pay_offer(quotes[1].request)
    purse.wait_credited(quotes[1], 7)
    assert [purse.client.mint_offer(quote.quote).amount_paid for quote in quotes] == [0, 7, 0]


def test_an_offer_of_the_operator_is_passed_by(shared_mint: Mint, network: Network) -> None:
    before = shared_mint.outstanding_sat()
    network.hub.pay_offer(shared_mint.offer(7_000)["bolt12"])
    purse = OfferPurse(shared_mint)
    quote = purse.request_offer(5)
    network.hub.pay_offer(quote.request)
    purse.wait_credited(quote, 5)
    purse.collect_offer(quote, 5)
    assert shared_mint.outstanding_sat() == before + 5


def test_a_node_with_private_channels_is_paid_by_its_offers(own_mint: Mint, network: Network) -> None:
    """Its offers and their invoices begin with a blinded path over its peer."""
    purse = OfferPurse(own_mint)
    quote = purse.request_offer(None)
    assert own_mint.call("decode", string=quote.request)["offer_paths"]
    network.receiver.pay_offer(quote.request, 5_000)
    network.receiver.pay_offer(quote.request, 6_000)
    purse.wait_credited(quote, 11)
    purse.collect_offer(quote, 11)


@pytest.mark.parametrize("way", ["before the payment", "after the payment"])
def test_a_plugin_killed_between_payment_and_credit_credits_it_later(
    own_mint: Mint, network: Network, way: str
) -> None:
    """kill -9 of the plugin, which either was gone before the offer was paid, or never came to read of it."""
    purse = OfferPurse(own_mint)
    quote = purse.request_offer(None)
    network.hub.pay_offer(quote.request, 1_000)
    purse.wait_credited(quote, 1)
    if way == "before the payment":
        own_mint.kill_plugin()
        network.hub.pay_offer(quote.request, 10_000)
        network.receiver.pay_offer(quote.request, 100_000)
    else:
        os.kill(own_mint.plugin_pid(), signal.SIGSTOP)
        network.hub.pay_offer(quote.request, 10_000)
        network.receiver.pay_offer(quote.request, 100_000)
        own_mint.kill_plugin()
    own_mint.start_plugin()
    own_mint.wait_ready()
    purse.wait_credited(quote, 111)
    own_mint.kill_plugin()
    own_mint.start_plugin()
    own_mint.wait_ready()
    network.hub.pay_offer(quote.request, 1_000_000)
    purse.wait_credited(quote, 1_111)
    purse.collect_offer(quote, 1_111)
    assert own_mint.outstanding_sat() == purse.balance == 1_111


def test_an_offer_outlives_a_killed_node(own_mint: Mint, network: Network) -> None:
    purse = OfferPurse(own_mint)
    quote = purse.request_offer(None)
    network.hub.pay_offer(quote.request, 10_000)
    own_mint.kill()
    own_mint.start_again()
    purse.wait_credited(quote, 10)
    network.hub.pay_offer(quote.request, 5_000)
    purse.wait_credited(quote, 15)
    purse.collect_offer(quote, 15)


# --- money out ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefer_async", [None, True])
@pytest.mark.parametrize("payee", ["hub", "receiver"])
def test_an_offer_is_paid(network: Network, purse: OfferPurse, payee: str, prefer_async: bool | None) -> None:
    node = getattr(network, payee)
    offer, before = node.offer(1_000_000), purse.balance
    attempt = purse.prepare(offer["bolt12"])
    assert (attempt.quote.amount, attempt.quote.request) == (1000, offer["bolt12"])
    purse.post(attempt, prefer_async=prefer_async)
    purse.wait_final(attempt)
    assert_melted(purse, attempt, before, paid=True)
    (invoice,) = node.invoices_of(offer)
    assert (invoice["status"], invoice["amount_received_msat"]) == ("paid", 1_000_000)
    assert purse.look(attempt).payment_preimage == invoice["payment_preimage"]


def test_one_offer_without_amount_is_paid_by_many_quotes(network: Network, purse: OfferPurse) -> None:
    offer, before = network.receiver.offer(None), purse.balance
    attempts = [purse.prepare(offer["bolt12"], amount_msat=amount) for amount in (1_000, 20_500, 300_000)]
    assert [attempt.quote.amount for attempt in attempts] == [1, 21, 300]
    for attempt in attempts:
        purse.post(attempt, prefer_async=True)
    for attempt in attempts:
        assert purse.wait_final(attempt).state == PAID
    assert sorted(i["amount_received_msat"] for i in network.receiver.invoices_of(offer)) == [1_000, 20_500, 300_000]
    reserves = sum(attempt.quote.fee_reserve for attempt in attempts)
    assert 322 <= before - purse.balance <= 322 + reserves


def test_many_quotes_at_once_are_all_made(network: Network, purse: OfferPurse) -> None:
    """Peers drop onion messages that come too fast, so the mint takes its time."""
    offer = network.receiver.offer(1_000)

    def ask(_: int) -> int:
        return purse.client.request_melt_quote(offer["bolt12"], method="bolt12").amount

    with ThreadPoolExecutor(max_workers=12) as pool:
        assert list(pool.map(ask, range(12))) == [1] * 12
    assert len(network.receiver.invoices_of(offer)) == 12


def test_from_wallet_to_wallet_and_back(shared_mint: Mint, own_mint: Mint, network: Network) -> None:
    """Ecash of one mint pays the offer of a quote at another mint, several times, in both directions."""
    here, there = with_ecash(shared_mint, network), OfferPurse(own_mint)
    to_there = there.request_offer(None)
    for amount in (1_000, 2_000):
        attempt = here.prepare(to_there.request, amount_msat=amount * 1000)
        here.post(attempt, prefer_async=True)
        assert here.wait_final(attempt).state == PAID
    there.wait_credited(to_there, 3_000)
    there.collect_offer(to_there, 3_000)
    to_here = here.request_offer(500)
    for number in (1, 2):
        attempt = there.prepare(to_here.request)
        there.post(attempt)
        there.finish(attempt, there.look(attempt))
        here.wait_credited(to_here, 500 * number)
    here.collect_offer(to_here, 1_000)
    assert there.balance >= 3_000 - 1_000 - 10
    assert own_mint.outstanding_sat() == there.balance


@pytest.mark.parametrize("prefer_async", [None, True])
def test_an_offer_of_the_mint_itself_is_paid_without_a_fee(
    shared_mint: Mint, purse: OfferPurse, prefer_async: bool | None
) -> None:
    friend, before = OfferPurse(shared_mint), purse.balance
    quote = friend.request_offer(None)
    for number in (1, 2):
        attempt = purse.prepare(quote.request, amount_msat=1_000_000)
        assert attempt.quote.fee_reserve == 0
        purse.post(attempt, prefer_async=prefer_async)
        assert purse.wait_final(attempt).state == PAID
        friend.wait_credited(quote, 1_000 * number)
    friend.collect_offer(quote, 2_000)
    assert before == purse.balance + friend.balance


def test_an_offer_of_the_mint_itself_on_a_node_with_private_channels(own_mint: Mint, network: Network) -> None:
    """Its invoices begin at its peer, so lightningd pays them there and back, which costs that peer's fee."""
    purse, friend = with_ecash(own_mint, network), OfferPurse(own_mint)
    quote = friend.request_offer(1_000)
    attempt = purse.prepare(quote.request)
    assert attempt.quote.fee_reserve > 0
    purse.post(attempt)
    purse.wait_final(attempt)
    assert_melted(purse, attempt, 10_000, paid=True)
    assert purse.balance < 9_000
    friend.wait_credited(quote, 1_000)
    friend.collect_offer(quote, 1_000)
    assert own_mint.outstanding_sat() == purse.balance + friend.balance


# --- what can't be paid ---------------------------------------------------------------------------------------------


def test_an_offer_that_cannot_be_paid_is_refused(network: Network, purse: OfferPurse) -> None:
    """Every kind of bad offer has its code; nobody was asked for an invoice."""
    receiver = network.receiver
    expired = receiver.offer(1_000, absolute_expiry=1_700_000_000)
    disabled = receiver.offer(1_000)
    receiver.call("disableoffer", offer_id=disabled["offer_id"])
    used = receiver.offer(1_000, single_use=True)
    network.hub.pay_offer(used["bolt12"])
    node_id = receiver.id
    good = receiver.offer(1_000)["bolt12"]
    for offer, amount_msat, code, words in (
        (expired["bolt12"], None, Code.QUOTE_EXPIRED, "expired"),
        (disabled["bolt12"], None, Code.QUOTE_REJECTED, "gives no invoice"),
        (used["bolt12"], None, Code.QUOTE_REJECTED, "gives no invoice"),
        (bolt12.make_offer(node_id, "bitcoin", description="x").text, 1_000, Code.QUOTE_REJECTED, "another network"),
        (bolt12.make_offer(node_id, "signet", description="x").text, 1_000, Code.QUOTE_REJECTED, "another network"),
        (
            bolt12.make_offer(node_id, "regtest", amount=1_000, currency="USD", description="x").text,
            None,
            Code.QUOTE_REJECTED,
            "another currency",
        ),
        (receiver.offer(1_000, recurrence="1days")["bolt12"], None, Code.QUOTE_REJECTED, "repeated payments"),
        (receiver.offer(None)["bolt12"], None, Code.AMOUNTLESS_UNSUPPORTED, "names no amount"),
        (good, 999, Code.AMOUNT_MISMATCH, "differs"),
        (good, 1_001, Code.AMOUNT_MISMATCH, "differs"),
        (good[:-9], None, Code.QUOTE_REJECTED, "not a BOLT12 offer"),
        ("lno1\u0001", None, Code.QUOTE_REJECTED, "not a BOLT12 offer"),
        ("lno1ß漢字", None, Code.QUOTE_REJECTED, "not a BOLT12 offer"),
        ("hello", None, Code.QUOTE_REJECTED, "not a BOLT12 offer"),
        (receiver.invoice(5).bolt11, None, Code.QUOTE_REJECTED, "not a valid BOLT12 offer"),
        (network.hub.call("fetchinvoice", offer=good)["invoice"], None, Code.QUOTE_REJECTED, "not a valid BOLT12"),
        ("alice@example.com", 1_000, Code.QUOTE_REJECTED, "can't resolve names"),
        (network.island.offer(1_000)["bolt12"], None, Code.QUOTE_REJECTED, "can't be reached"),
    ):
        refused = purse.refusal(offer, amount_msat)
        assert refused.code == code, (offer, refused)
        assert words in refused.detail
        assert len(refused.detail) < 150


@pytest.mark.parametrize("write", [str.upper, lambda t: f"lightning:{t}", lambda t: f"{t[:30]}+\n {t[30:]}"])
def test_an_offer_may_be_written_in_several_ways(
    network: Network, purse: OfferPurse, write: Callable[[str], str]
) -> None:
    text = write(network.receiver.offer(3_000)["bolt12"])
    quote = purse.client.request_melt_quote(text, method="bolt12")
    assert (quote.amount, quote.request) == (3, text)


def test_of_an_offer_for_a_number_of_things_one_is_bought(network: Network, purse: OfferPurse) -> None:
    offer = network.receiver.offer(3_000, quantity_max=5)
    assert purse.client.request_melt_quote(offer["bolt12"], method="bolt12").amount == 3


@pytest.mark.parametrize("asked_for", [50_000, 500_000])
def test_an_issuer_that_asks_for_another_amount_gets_nothing(
    shared_mint: Mint, network: Network, asked_for: int
) -> None:
    """lightningd itself would take such an invoice, and xpay of the offer would pay it."""
    purse = OfferPurse(shared_mint)
    with network.peer_of(shared_mint, CHEATER) as cheater:
        named, open_ = cheater.offer(100_000)["bolt12"], cheater.offer(None)["bolt12"]
        assert purse.client.request_melt_quote(named, method="bolt12").amount == 100
        cheater.call("cheater-ask", amount_msat=asked_for)
        assert shared_mint.call("fetchinvoice", offer=named)["changes"] == {"amount_msat": asked_for}
        for offer, amount_msat in ((named, None), (open_, 100_000)):
            refused = purse.refusal(offer, amount_msat)
            assert refused.code == Code.AMOUNT_MISMATCH
            assert str(asked_for) in refused.detail


def test_an_offer_that_was_disabled_after_the_quote_gives_the_ecash_back(network: Network, purse: OfferPurse) -> None:
    offer, before = network.receiver.offer(1_000_000), purse.balance
    attempt = purse.prepare(offer["bolt12"])
    network.receiver.call("disableoffer", offer_id=offer["offer_id"])
    refused = purse.try_post(attempt)
    assert refused is not None
    assert refused.code == Code.PAYMENT_FAILED
    purse.wait_final(attempt)
    assert_melted(purse, attempt, before, paid=False)


# --- kill -9 --------------------------------------------------------------------------------------------------------


def start_held(purse: OfferPurse, network: Network) -> tuple[Attempt, str]:
    """A melt of an offer whose payment has arrived and is held; and its payment hash."""
    offer = network.receiver.offer(1_000_000)
    attempt = purse.prepare(offer["bolt12"])
    (invoice,) = network.receiver.invoices_of(offer)
    payment_hash = str(invoice["payment_hash"])
    network.receiver.call("receiver-plan", payment_hash=payment_hash, actions=["hold"])
    purse.post(attempt, prefer_async=True)
    wait_for(
        lambda: network.receiver.call("receiver-held", payment_hash=payment_hash)["held"] == 1,
        "the payment to be held",
    )
    return attempt, payment_hash


def release(network: Network, payment_hash: str, action: str) -> None:
    assert network.receiver.call("receiver-release", payment_hash=payment_hash, action=action)["released"] == 1


@pytest.mark.parametrize("action", ["accept", "reject"])
@pytest.mark.parametrize("away", [False, True], ids=["back in time", "away when it is decided"])
def test_a_killed_plugin_finds_out_what_became_of_a_held_melt(
    own_mint: Mint, network: Network, away: bool, action: str
) -> None:
    purse = with_ecash(own_mint, network)
    attempt, payment_hash = start_held(purse, network)
    own_mint.kill_plugin()
    if away:
        release(network, payment_hash, action)
        own_mint.wait_decided(payment_hash)
    own_mint.start_plugin()
    own_mint.wait_ready()
    if not away:
        assert purse.look(attempt).state == PENDING
        assert purse.states(attempt.inputs) == {ProofState.PENDING}
        release(network, payment_hash, action)
    purse.wait_final(attempt, SOON_S)
    assert_melted(purse, attempt, 10_000, paid=action == "accept")
    assert own_mint.outstanding_sat() == purse.balance


@pytest.mark.parametrize("action", ["accept", "reject"])
def test_a_killed_node_finds_out_what_became_of_a_held_melt(own_mint: Mint, network: Network, action: str) -> None:
    purse = with_ecash(own_mint, network)
    attempt, payment_hash = start_held(purse, network)
    own_mint.kill()
    release(network, payment_hash, action)
    own_mint.start_again()
    purse.wait_final(attempt, SOON_S)
    assert_melted(purse, attempt, 10_000, paid=action == "accept")
    assert own_mint.outstanding_sat() == purse.balance


@pytest.mark.parametrize("delay_ms", [0, 5, 15, 40])
def test_a_plugin_killed_around_dispatch_finds_out(network: Network, delay_ms: int) -> None:
    """kill -9 of the plugin just after PENDING: later the melt is what the receiver says."""
    offer = network.receiver.offer(1_000_000)
    with network.mint(cashu_retry_for=1) as mint:
        purse = with_ecash(mint, network)
        attempt = purse.prepare(offer["bolt12"])
        purse.post(attempt, prefer_async=True)
        time.sleep(delay_ms / 1000)
        mint.kill_plugin()
        mint.start_plugin()
        mint.wait_ready()
        purse.wait_final(attempt, 120)
        (invoice,) = network.receiver.invoices_of(offer)
        assert_melted(purse, attempt, 10_000, paid=invoice["status"] == "paid")
        assert mint.outstanding_sat() == purse.balance


def test_a_plugin_killed_while_it_fetches_an_invoice_has_lost_nothing(own_mint: Mint, network: Network) -> None:
    """The issuer does not answer, the plugin is killed, and the same offer is paid afterwards."""
    purse = with_ecash(own_mint, network)
    offer = network.receiver.offer(1_000_000)
    stopped = network.receiver.raw.daemon.proc.pid
    os.kill(stopped, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(max_workers=1) as pool:
            asking = pool.submit(purse.client.request_melt_quote, offer["bolt12"], method="bolt12")
            time.sleep(1)
            assert not asking.done()
            own_mint.kill_plugin()
            assert isinstance(asking.exception(SOON_S), WalletError)
    finally:
        os.kill(stopped, signal.SIGCONT)
    own_mint.start_plugin()
    own_mint.wait_ready()
    attempt = purse.prepare(offer["bolt12"])
    purse.post(attempt)
    purse.wait_final(attempt)
    assert_melted(purse, attempt, 10_000, paid=True)


# --- the stand-in ---------------------------------------------------------------------------------------------------


def test_the_sandbox_writes_offers_and_invoices_as_lightningd_reads_them(shared_mint: Mint) -> None:
    """Id, content and signature: what `decode` shows of them is what the stand-in would show."""
    key = PrivateKey()
    node_id = key.public_key.format().hex()
    offer = bolt12.make_offer(
        node_id, "regtest", amount=5_000, description="ä", issuer="b", expires_at=2_000_000_000, quantity_max=3
    )
    shown = shared_mint.call("decode", string=offer.text)
    assert {name: shown[name] for name in offer.to_json()} == offer.to_json()
    assert shown["valid"]
    request = {
        bolt12.METADATA: b"\1" * 16,
        bolt12.INVREQ_CHAIN: bytes.fromhex(bolt12.CHAINS["regtest"]),
        bolt12.INVREQ_AMOUNT: bolt12.number_bytes(5_000),
        bolt12.INVREQ_QUANTITY: bolt12.number_bytes(1),
        bolt12.INVREQ_PAYER_ID: key.public_key.format(),
    }
    content = {
        bolt12.INVOICE_CREATED_AT: bolt12.number_bytes(int(time.time())),
        bolt12.INVOICE_PAYMENT_HASH: b"\2" * 32,
        bolt12.INVOICE_AMOUNT: bolt12.number_bytes(5_000),
    }
    invoice = bolt12.make_invoice(offer, request, content, bolt12.Path(node_id, 1, 2, 3, 4, 5), key)
    shown = shared_mint.call("decode", string=invoice.text)
    assert shown["valid"]
    expected = invoice.to_json()
    (path,), (shown_path,) = expected.pop("invoice_paths"), shown.pop("invoice_paths")
    assert shown_path["payinfo"] == path["payinfo"]
    assert shown_path["first_node_id"] == path["first_node_id"]
    assert {name: shown[name] for name in expected} == expected
