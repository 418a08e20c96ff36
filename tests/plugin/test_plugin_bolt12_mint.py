"""Money in by offers: each payment is credited once, whenever it comes, and issued bit by bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from contrib.sandbox import Notifications, RpcError
from contrib.wallet import MintError, MintUnreachableError, messages
from ledger.errors import Code
from ledger.ids import label_of
from ledger.models import MintQuoteBolt12
from tests.plugin.conftest import MakeMint
from tests.plugin.harness import UNSPENT, Mint, wait_for
from tests.plugin.offers import OfferPurse

STORE = "ledger.ledger:Ledger.create_mint_quote"
CREDIT = "ledger.operations.mint:credit"
COMMITTED = "ledger.store.writer:Writer._answer"
ANSWER_MINT = "plugin.http.counter:AnsweringStream._send"
POINTS = (STORE, CREDIT, COMMITTED, ANSWER_MINT)
CONSTANTS = {"plugin.methods.receipts:RETRY_S": 0.3}

NEWS = {
    "once": Notifications(),
    "three times": Notifications(repeat=3),
    "late and repeated": Notifications(repeat=2, delay_s=0.3),
}


@pytest.fixture
def purse(mint: Mint) -> Iterator[OfferPurse]:
    yield OfferPurse(mint)
    mint.check()


def refusal(call: Callable[[], object]) -> MintError:
    with pytest.raises(MintError) as refused:
        call()
    return refused.value


def come_back(mint: Mint) -> None:
    """The plugin has killed itself; it is started again."""
    mint.wait_dead()
    mint.start_plugin()


# --- a quote --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("amount", [123, None])
def test_a_new_quote_shows_an_offer(mint: Mint, purse: OfferPurse, amount: int | None) -> None:
    quote = purse.request_offer(amount, description="for coffee")
    assert (quote.amount, quote.unit, quote.method, quote.expiry) == (amount, "sat", "bolt12", None)
    assert (quote.amount_paid, quote.amount_issued) == (0, 0)
    assert quote.pubkey == purse.keys[quote.quote].public_key.format().hex()
    decoded = mint.node.rpc("decode", string=quote.request)
    assert decoded["type"] == "bolt12 offer"
    assert decoded.get("offer_amount_msat") == (None if amount is None else amount * 1000)
    assert decoded["offer_description"] == "for coffee"
    assert decoded["offer_issuer_id"] == mint.node.id
    assert "offer_absolute_expiry" not in decoded


def test_the_offer_tells_nobody_the_quotes_id(mint: Mint, purse: OfferPurse) -> None:
    quote = purse.request_offer()
    decoded = mint.node.rpc("decode", string=quote.request)
    assert decoded["offer_issuer"] == f"Nutbolt {label_of(quote.quote)}"
    (shown,) = mint.node.rpc("listoffers", offer_id=decoded["offer_id"])["offers"]
    assert quote.quote not in f"{shown}{decoded}"


def test_equal_requests_get_offers_of_their_own(purse: OfferPurse, mint: Mint) -> None:
    pubkey = purse.request_offer().pubkey
    quotes = [purse.request_offer(7, description="the same", pubkey=pubkey) for _ in range(3)]
    assert len({quote.request for quote in quotes}) == 3
    mint.node.pay_invoice(quotes[1].request)
    purse.wait_paid(quotes[1], 7)
    assert [purse.look_offer(quote).amount_paid for quote in quotes] == [0, 7, 0]


@pytest.mark.parametrize(
    "description", ["coffee ☕ for two", "", 'with "quotes" and \\u slashes', "two\nlines", "ä" * 319]
)
def test_a_description_is_in_the_offer(mint: Mint, purse: OfferPurse, description: str) -> None:
    quote = purse.request_offer(description=description)
    assert mint.node.rpc("decode", string=quote.request)["offer_description"] == description


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"pubkey": None}, Code.PUBKEY_INVALID),
        ({"pubkey": "02" + "ff" * 32}, Code.PUBKEY_INVALID),
        ({"pubkey": ""}, Code.PUBKEY_INVALID),
        ({"amount": 0}, Code.AMOUNT_OUTSIDE_LIMITS),
        ({"amount": 1_000_001}, Code.AMOUNT_OUTSIDE_LIMITS),
        ({"description": "a\u0001b"}, Code.REQUEST_REJECTED),
        ({"description": "a\u0000b"}, Code.REQUEST_REJECTED),
    ],
)
def test_a_request_that_cannot_be_met_makes_no_offer(
    mint: Mint, purse: OfferPurse, options: dict[str, Any], code: Code
) -> None:
    before = mint.node.rpc("listoffers")
    assert refusal(lambda: purse.request_offer(**{"amount": 5, **options})).code == code
    assert mint.node.rpc("listoffers") == before


def test_a_unit_that_the_mint_does_not_have_is_refused(mint: Mint) -> None:
    purse = OfferPurse(mint)
    purse.unit = "usd"
    assert refusal(purse.request_offer).code == Code.UNIT_UNSUPPORTED


def test_a_node_that_makes_no_offer_now_is_a_refusal(mint: Mint, purse: OfferPurse) -> None:
    mint.node.fail_rpc("offer", -1, "not now")
    assert refusal(purse.request_offer).code == Code.QUOTE_REJECTED
    purse.request_offer()


def test_a_node_that_nobody_can_find_makes_no_offer(mint: Mint, purse: OfferPurse) -> None:
    """lightningd would make one without a word of warning."""
    mint.node.settings.announced = False
    try:
        assert "nobody could pay its offers" in refusal(purse.request_offer).detail
    finally:
        mint.node.settings.announced = True
    assert [offer["active"] for offer in mint.node.rpc("listoffers")["offers"]][-1] is False
    purse.request_offer()


# --- payments -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("news", NEWS.values(), ids=list(NEWS))
def test_every_payment_of_an_offer_is_credited_once_however_its_notification_travels(
    mint: Mint, purse: OfferPurse, news: Notifications
) -> None:
    quote = purse.request_offer(100)
    stamps = [quote.updated_at]
    for number in range(1, 4):
        mint.node.pay_invoice(quote.request, notifications=news)
        stamps.append(purse.wait_paid(quote, number * 100).updated_at)
    assert sorted(set(stamps)) == stamps
    purse.collect_offer(quote, 300)
    mint.restart_plugin(kill=True)
    assert purse.look_offer(quote).amount_paid == 300


def test_whoever_pays_an_offer_without_amount_says_how_much(mint: Mint, purse: OfferPurse) -> None:
    quote = purse.request_offer(None)
    for amount_msat, credited in [(5_000, 5), (1_999, 6), (999, 6), (123_000, 129)]:
        mint.node.pay_invoice(quote.request, amount_msat)
        purse.wait_paid(quote, credited)  # each payment rounded down by itself
    purse.collect_offer(quote, 129)


def test_more_than_the_offers_amount_is_credited_as_received(mint: Mint, purse: OfferPurse) -> None:
    quote = purse.request_offer(100)
    mint.node.pay_invoice(quote.request, 350_500)
    purse.wait_paid(quote, 350)
    with pytest.raises(RpcError):
        mint.node.pay_invoice(quote.request, 99_999)
    assert refusal(lambda: purse.collect_offer(quote, 351)).code == Code.NOT_BALANCED
    purse.collect_offer(quote, 350)


def test_payments_and_issues_may_alternate(mint: Mint, purse: OfferPurse) -> None:
    quote = purse.request_offer(None)
    assert refusal(lambda: purse.collect_offer(quote, 1)).code == Code.QUOTE_NOT_PAID
    mint.node.pay_invoice(quote.request, 10_000)
    purse.wait_paid(quote, 10)
    assert refusal(lambda: purse.collect_offer(quote, 11)).code == Code.NOT_BALANCED
    purse.collect_offer(quote, 3)
    purse.collect_offer(quote, 7)
    assert refusal(lambda: purse.collect_offer(quote, 1)).code == Code.QUOTE_ISSUED
    mint.node.pay_invoice(quote.request, 5_000)
    purse.wait_paid(quote, 15)
    assert refusal(lambda: purse.collect_offer(quote, 6)).code == Code.NOT_BALANCED
    assert purse.states(purse.collect_offer(quote, 5)) == {UNSPENT}
    now = purse.look_offer(quote)
    assert (now.amount_paid, now.amount_issued) == (15, 15)


def test_msat_are_credited_whole(make_mint: MakeMint) -> None:
    mint = make_mint(units="sat,msat")
    purse = OfferPurse(mint, "msat")
    quote = purse.request_offer(1_234)
    mint.node.pay_invoice(quote.request)
    mint.node.pay_invoice(quote.request, 1_999)
    purse.wait_paid(quote, 3_233)
    purse.collect_offer(quote, 3_233)


def test_other_payments_of_the_node_are_passed_by(mint: Mint, purse: OfferPurse) -> None:
    """The operator's offers; and invoices that the operator labels like those of an offer."""
    quote = purse.request_offer(None)
    offer_id = mint.node.rpc("decode", string=quote.request)["offer_id"]
    foreign = mint.node.rpc("offer", amount="any", description="a coffee for the operator")
    mint.node.pay_invoice(foreign["bolt12"], 7_000)
    for label in (offer_id, f"{offer_id}-0"):
        invoice = mint.node.rpc("invoice", amount_msat=7_000, label=label, description="")
        mint.node.pay_invoice(invoice["bolt11"])
    mint.node.pay_invoice(quote.request, 5_000)
    purse.wait_paid(quote, 5)
    mint.restart_plugin(kill=False)
    assert purse.look_offer(quote).amount_paid == 5


def test_a_disabled_offer_takes_no_more_and_keeps_what_it_got(mint: Mint, purse: OfferPurse) -> None:
    quote = purse.paid_offer(20)
    mint.node.rpc("disableoffer", offer_id=mint.node.rpc("decode", string=quote.request)["offer_id"])
    with pytest.raises(RpcError):
        mint.node.pay_invoice(quote.request, 1_000)
    purse.collect_offer(quote, 20)


def test_offers_that_pay_themselves_are_credited(make_mint: MakeMint) -> None:
    mint = make_mint(node={"auto": True, "auto_delay_s": 0.0})
    purse = OfferPurse(mint)
    for quote in [purse.request_offer(9) for _ in range(20)]:
        purse.wait_paid(quote, 9)


# --- while the plugin is away ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
@pytest.mark.parametrize("node", [False, True], ids=["plugin", "node"])
def test_what_was_paid_while_the_plugin_was_away_is_credited_at_its_start(
    mint: Mint, purse: OfferPurse, kill: bool, node: bool
) -> None:
    quote = purse.request_offer(None)
    mint.node.pay_invoice(quote.request, 1_000)
    purse.wait_paid(quote, 1)
    (mint.node.kill_plugin if kill else mint.node.stop_plugin)()
    mint.node.pay_invoice(quote.request, 10_000)
    mint.node.pay_invoice(quote.request, 100_000)
    if node:
        mint.restart_node(kill=kill)
    else:
        mint.start_plugin()
    assert purse.look_offer(quote).amount_paid == 111  # at once: the catch-up comes before serving
    mint.node.pay_invoice(quote.request, 1_000_000)
    purse.wait_paid(quote, 1_111)
    purse.collect_offer(quote, 1_111)


@pytest.mark.parametrize("point", [CREDIT, COMMITTED])
def test_killed_around_the_crediting_of_a_payment_it_is_credited_once(
    mint: Mint, purse: OfferPurse, point: str
) -> None:
    quote = purse.paid_offer(10)
    mint.arm(point)
    mint.node.pay_invoice(quote.request, 20_000)
    come_back(mint)
    assert purse.look_offer(quote).amount_paid == 30
    mint.restart_plugin(kill=True)
    assert purse.look_offer(quote).amount_paid == 30


def test_killed_between_offer_and_quote_nobody_has_lost_anything(mint: Mint, purse: OfferPurse) -> None:
    """There is an offer then that nobody knows. Should it be paid all the same, the mint owes nothing for it."""
    known = {offer["offer_id"] for offer in mint.node.rpc("listoffers")["offers"]}
    mint.arm(STORE)
    with pytest.raises(MintUnreachableError):
        purse.request_offer()
    come_back(mint)
    (orphan,) = [offer for offer in mint.node.rpc("listoffers")["offers"] if offer["offer_id"] not in known]
    mint.node.pay_invoice(orphan["bolt12"])
    quote = purse.paid_offer(5)
    purse.collect_offer(quote, 5)


def test_an_issue_whose_answer_was_lost_is_answered_again(mint: Mint, purse: OfferPurse) -> None:
    quote = purse.paid_offer(100)
    outputs = purse.outputs(60)
    signature = purse.sign(quote, outputs)

    def issue() -> object:
        return purse.client.mint(quote.quote, messages(outputs), signature=signature, method="bolt12")

    mint.arm(ANSWER_MINT)
    with pytest.raises(MintUnreachableError):
        issue()
    come_back(mint)
    assert purse.look_offer(quote).amount_issued == 60
    assert issue() == issue()
    purse.collect_offer(quote, 40)


# --- at once --------------------------------------------------------------------------------------------------------


def test_parts_that_are_asked_for_at_once_are_no_more_than_all(mint: Mint, purse: OfferPurse) -> None:
    quote = purse.paid_offer(50)

    def take(_: int) -> int:
        try:
            return sum(proof.amount for proof in purse.collect_offer(quote, 8))
        except MintError as error:
            assert error.code in (Code.NOT_BALANCED, Code.QUOTE_ISSUED)
            return 0

    with ThreadPoolExecutor(max_workers=8) as pool:
        assert sum(pool.map(take, range(12))) == 48
    assert purse.look_offer(quote).amount_issued == 48


def test_payments_that_come_while_ecash_is_issued_are_all_counted(mint: Mint, purse: OfferPurse) -> None:
    quote = purse.request_offer(None)
    issued = 0
    with ThreadPoolExecutor(max_workers=4) as pool:
        payments = [pool.submit(mint.node.pay_invoice, quote.request, 3_000) for _ in range(20)]

        def take() -> MintQuoteBolt12 | None:
            nonlocal issued
            now = purse.look_offer(quote)
            if left := now.amount_paid - now.amount_issued:
                issued += sum(proof.amount for proof in purse.collect_offer(quote, left))
            return now if issued == 60 else None

        wait_for(take, "60 to be issued")
        for payment in payments:
            payment.result()
    assert purse.look_offer(quote).amount_issued == 60
