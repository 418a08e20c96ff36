"""Money out by offers: the invoice is fetched when the quote is made, and it is that one which is paid, or none."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from contrib.sandbox import Behaviour, FetchBehaviour
from contrib.sandbox.bolt12 import Path
from contrib.wallet import MintError, MintUnreachableError
from ledger.errors import Code
from ledger.models import MeltQuoteLightning
from tests.plugin.conftest import MakeMint
from tests.plugin.harness import PAID, PENDING, UNPAID, UNSPENT, Melt, Mint, wait_for
from tests.plugin.offers import FETCH_AT_ONCE, OfferPurse

OPTIONS = {"retry_for": 1}
BEGIN = "ledger.ledger:Ledger.begin_melt"
COMMITTED = "ledger.store.writer:Writer._answer"
SEND = "plugin.methods.verdict:Verdicts.pay"
SETTLE = "ledger.ledger:Ledger.settle_melt"
RELEASE = "ledger.ledger:Ledger.release_melt"
QUOTE = "ledger.ledger:Ledger.create_melt_quote"
POINTS = (BEGIN, COMMITTED, SEND, SETTLE, RELEASE, QUOTE)
CONSTANTS = {
    **FETCH_AT_ONCE,
    "plugin.node.offers:FETCH_TIMEOUT_S": 1,
    "plugin.methods.verdict:ROUTING_GRACE_S": 8,
    "plugin.methods.verdict:RETRY_S": 0.5,
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


def fetches(mint: Mint) -> int:
    return len(mint.node.calls("fetchinvoice"))


def hold(purse: OfferPurse) -> Melt:
    """A melt that is pending, with its part in flight and held."""
    melt = purse.prepare_offer(purse.mint.node.outside_offer(100_000, behaviour=Behaviour.hold()))
    assert purse.post(melt, prefer_async=True).state == PENDING
    purse.mint.node.wait_for_part(str(melt.invoice))
    return melt


# --- a payment ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefer_async", [None, True])
def test_an_offer_is_paid(mint: Mint, purse: OfferPurse, prefer_async: bool | None) -> None:
    offer = mint.node.outside_offer(100_000)
    melt = purse.prepare_offer(offer)
    quote = melt.quote
    assert (quote.request, quote.amount, quote.fee_reserve, quote.method) == (str(offer), 100, 2, "bolt12")
    assert (quote.state, quote.payment_preimage) == (UNPAID, None)
    since = mint.node.calls_position
    purse.post(melt, prefer_async=prefer_async)
    purse.assert_paid(melt)
    (call,) = mint.node.calls("xpay", since=since)
    assert call.params["invstring"] == str(melt.invoice)  # never the offer
    assert not {"amount_msat", "partial_msat"} & set(call.params)
    (row,) = mint.node.rows(str(melt.invoice))
    assert (row["bolt12"], row["amount_msat"]) == (str(melt.invoice), 100_000)


def test_an_offer_without_amount_is_paid_with_the_one_that_the_wallet_names(mint: Mint, purse: OfferPurse) -> None:
    melt = purse.prepare_offer(mint.node.outside_offer(None), amount_msat=123_456)
    assert melt.quote.amount == 124  # sat, rounded up
    assert melt.invoice is not None
    assert melt.invoice.amount_msat == 123_456
    purse.post(melt)
    purse.assert_paid(melt, sent_msat=124_456)


def test_the_amount_of_an_offer_may_be_repeated(mint: Mint, purse: OfferPurse) -> None:
    offer = mint.node.outside_offer(100_000)
    assert purse.quote(str(offer), amount_msat=100_000).amount == 100


def test_one_offer_is_paid_by_many_quotes(mint: Mint, purse: OfferPurse) -> None:
    offer = mint.node.outside_offer(None)
    melts = [purse.prepare_offer(offer, amount_msat=1000 * amount) for amount in (1, 10, 100)]
    for melt in melts:
        purse.post(melt)
    for melt in melts:
        purse.assert_paid(melt)
    assert len({str(melt.invoice) for melt in melts}) == 3
    purse.post(melt := purse.prepare_offer(offer, amount_msat=5_000))
    purse.assert_paid(melt)


def test_of_an_offer_for_a_number_of_things_one_is_bought(mint: Mint, purse: OfferPurse) -> None:
    melt = purse.prepare_offer(mint.node.outside_offer(7_000, quantity_max=10))
    purse.post(melt)
    assert purse.assert_paid(melt).amount == 7


@pytest.mark.parametrize(
    "write",
    [
        lambda text: text.upper(),
        lambda text: f"lightning:{text}",
        lambda text: f"LIGHTNING:{text.upper()}",
        lambda text: f" {text}\n",
        lambda text: f"{text[:20]}+\n  {text[20:40]}+{text[40:]}",
    ],
)
def test_an_offer_may_be_written_in_several_ways(mint: Mint, purse: OfferPurse, write: Callable[[str], str]) -> None:
    text = write(str(mint.node.outside_offer(5_000)))
    quote = purse.quote(text)
    assert quote.request == text
    assert quote.amount == 5


def test_a_quote_cannot_be_executed_longer_than_its_invoice(mint: Mint, purse: OfferPurse) -> None:
    offer = mint.node.outside_offer(5_000)
    mint.node.script_fetch(FetchBehaviour(expiry_s=77), offer)
    quote = purse.quote(str(offer))
    decoded = mint.node.rpc("decode", string=str(purse.invoice_of(offer)))
    assert quote.expiry == decoded["invoice_created_at"] + 77
    assert purse.quote(str(offer)).expiry - time.time() < 3601  # the invoice would do for two hours


def test_a_payment_that_fails_can_be_tried_again(mint: Mint, purse: OfferPurse) -> None:
    melt = purse.prepare_offer(mint.node.outside_offer(100_000, behaviour=Behaviour.failure()))
    assert purse.refusal(melt).code == Code.PAYMENT_FAILED
    purse.assert_failed(melt)
    purse.post(melt)
    purse.assert_paid(melt)


def test_a_payment_that_comes_back_after_a_while_gives_the_proofs_back(mint: Mint, purse: OfferPurse) -> None:
    melt = hold(purse)
    purse.assert_pending(melt)
    mint.node.release(str(melt.invoice), ok=False)
    purse.assert_failed(melt)


# --- offers that can't be paid ------------------------------------------------------------------------------------


def offer_of(purse: OfferPurse, amount_msat: int | None = 5_000, **content: Any) -> str:
    return str(purse.mint.node.outside_offer(amount_msat, **content))


BAD: dict[str, tuple[Callable[[OfferPurse], str], Code, str]] = {
    "no offer": (lambda _: "hello", Code.QUOTE_REJECTED, "not a BOLT12 offer"),
    "a cut offer": (lambda purse: offer_of(purse)[:-9], Code.QUOTE_REJECTED, "not a BOLT12 offer"),
    "unknown characters": (lambda purse: offer_of(purse) + "b", Code.QUOTE_REJECTED, "not a BOLT12 offer"),
    "control characters": (lambda purse: f"\u0001{offer_of(purse)}", Code.QUOTE_REJECTED, "not a BOLT12 offer"),
    "other letters": (lambda _: "lno1ß漢字", Code.QUOTE_REJECTED, "not a BOLT12 offer"),
    "a bolt11 invoice": (lambda purse: str(purse.mint.invoice()), Code.QUOTE_REJECTED, "not a valid BOLT12 offer"),
    "a bolt12 invoice": (
        lambda purse: purse.mint.node.rpc("fetchinvoice", offer=offer_of(purse))["invoice"],
        Code.QUOTE_REJECTED,
        "not a valid BOLT12 offer",
    ),
    "expired": (lambda purse: offer_of(purse, expires_at=1_700_000_000), Code.QUOTE_EXPIRED, "expired"),
    "of the main network": (lambda purse: offer_of(purse, network="bitcoin"), Code.QUOTE_REJECTED, "another network"),
    "of the test network": (lambda purse: offer_of(purse, network="testnet"), Code.QUOTE_REJECTED, "another network"),
    "in dollars": (lambda purse: offer_of(purse, 1_000, currency="USD"), Code.QUOTE_REJECTED, "another currency"),
    "recurring": (lambda purse: offer_of(purse, recurs=True), Code.QUOTE_REJECTED, "repeated payments"),
    "no amount": (lambda purse: offer_of(purse, None), Code.AMOUNTLESS_UNSUPPORTED, "names no amount"),
    "too large": (lambda purse: offer_of(purse, 1_000_001_000), Code.AMOUNT_OUTSIDE_LIMITS, "from 1 to 1000000"),
    "a name": (lambda _: "alice@example.com", Code.QUOTE_REJECTED, "can't resolve names"),
}


@pytest.mark.parametrize(("make", "code", "words"), BAD.values(), ids=list(BAD))
def test_an_offer_that_cannot_be_paid_is_refused_before_anybody_is_asked(
    mint: Mint, purse: OfferPurse, make: Callable[[OfferPurse], str], code: Code, words: str
) -> None:
    text, before = make(purse), fetches(mint)
    refused = refusal(lambda: purse.quote(text))
    assert (refused.code, fetches(mint)) == (code, before)
    assert words in refused.detail


@pytest.mark.parametrize("amount_msat", [99_999, 100_001, 1])
def test_another_amount_than_the_offers_is_a_mismatch(mint: Mint, purse: OfferPurse, amount_msat: int) -> None:
    offer, before = mint.node.outside_offer(100_000), fetches(mint)
    assert refusal(lambda: purse.quote(str(offer), amount_msat=amount_msat)).code == Code.AMOUNT_MISMATCH
    assert fetches(mint) == before


@pytest.mark.parametrize(("amount_msat", "code"), [(0, Code.REQUEST_REJECTED), (2**63, Code.AMOUNT_OUTSIDE_LIMITS)])
def test_an_amount_that_is_none_is_refused(mint: Mint, purse: OfferPurse, amount_msat: int, code: Code) -> None:
    body = {
        "request": str(mint.node.outside_offer(None)),
        "unit": "sat",
        "options": {"amountless": {"amount_msat": amount_msat}},
    }
    response = mint.http.post("/v1/melt/quote/bolt12", json=body)
    assert (response.status_code, response.json()["code"]) == (400, code)


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        (FetchBehaviour.refused(1002, "Offer expired"), "expired"),
        (FetchBehaviour.refused(1003, "Failed: no address known for 02ab"), "can't be reached"),
        (FetchBehaviour.refused(1004, "<script>any words of a stranger</script>"), "gives no invoice"),
        (FetchBehaviour.refused(1005, "Timeout waiting for response"), "try again"),
        (FetchBehaviour.refused(-32602, "what this node can't read"), "can't pay this offer"),
        (FetchBehaviour.refused(-1, "anything else"), "can't pay this offer"),
        (FetchBehaviour(silent=True), "try again"),
    ],
)
def test_an_issuer_that_gives_no_invoice_is_a_refusal_in_our_own_words(
    mint: Mint, purse: OfferPurse, behaviour: FetchBehaviour, words: str
) -> None:
    offer = mint.node.outside_offer(5_000)
    mint.node.script_fetch(behaviour, offer, times=2 if words == "try again" else 1)
    refused = refusal(lambda: purse.quote(str(offer)))
    assert refused.code == Code.QUOTE_REJECTED
    assert words in refused.detail
    assert behaviour.error is None or behaviour.error[1] not in refused.detail
    assert purse.quote(str(offer)).amount == 5


def test_an_issuer_that_nobody_knows_is_a_refusal(mint: Mint, purse: OfferPurse) -> None:
    stranger = mint.node.outside_offer(5_000)
    mint.node.do(lambda node: node.offers._outside.pop(stranger.id))
    assert "can't be reached" in refusal(lambda: purse.quote(str(stranger))).detail


@pytest.mark.parametrize("asked_for", [100_001, 500_000, 99_999, 1])
@pytest.mark.parametrize("named", [True, False], ids=["amount in the offer", "amountless"])
def test_an_issuer_that_asks_for_another_amount_gets_nothing(
    mint: Mint, purse: OfferPurse, asked_for: int, named: bool
) -> None:
    offer = mint.node.outside_offer(100_000 if named else None)
    mint.node.script_fetch(FetchBehaviour(amount_msat=asked_for), offer)
    before = mint.rows()["melt_quotes"]
    refused = refusal(lambda: purse.quote(str(offer), **({} if named else {"amount_msat": 100_000})))
    assert refused.code == Code.AMOUNT_MISMATCH
    assert str(asked_for) in refused.detail
    assert mint.rows()["melt_quotes"] == before


def test_an_invoice_that_has_expired_is_refused(mint: Mint, purse: OfferPurse) -> None:
    offer = mint.node.outside_offer(5_000)
    mint.node.script_fetch(FetchBehaviour(expiry_s=-10), offer)
    assert refusal(lambda: purse.quote(str(offer))).code == Code.QUOTE_EXPIRED


def test_a_quote_whose_invoice_expires_is_not_executed(mint: Mint, purse: OfferPurse) -> None:
    offer = mint.node.outside_offer(5_000)
    mint.node.script_fetch(FetchBehaviour(expiry_s=2), offer)
    melt = purse.prepare_offer(offer)
    wait_for(lambda: time.time() > melt.quote.expiry + 1, "the invoice to expire")
    assert purse.refusal(melt).code == Code.QUOTE_EXPIRED
    assert purse.states(melt.inputs) == {UNSPENT}


def test_an_issuer_that_gives_the_same_invoice_twice_is_paid_once(mint: Mint, purse: OfferPurse) -> None:
    offer = mint.node.outside_offer(100_000, behaviour=Behaviour.hold())
    first = purse.prepare_offer(offer)
    mint.node.script_fetch(FetchBehaviour(repeats=True), offer, times=3)
    twin = purse.prepare_offer(offer)
    assert str(twin.invoice) == str(first.invoice)
    purse.post(first, prefer_async=True)
    assert purse.refusal(twin).code == Code.QUOTE_PENDING
    mint.node.wait_for_part(str(first.invoice))
    assert refusal(lambda: purse.quote(str(offer))).code == Code.QUOTE_PENDING
    mint.node.release(str(first.invoice))
    purse.assert_paid(first)
    assert purse.refusal(twin).code == Code.INVOICE_PAID
    assert refusal(lambda: purse.quote(str(offer))).code == Code.INVOICE_PAID
    assert purse.states(twin.inputs) == {UNSPENT}


# --- the mint's own offers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefer_async", [None, True])
def test_an_offer_of_the_mint_itself_is_paid_without_a_fee(
    mint: Mint, purse: OfferPurse, prefer_async: bool | None
) -> None:
    friend = OfferPurse(mint)
    offer = friend.request_offer(None)
    for number in (1, 2):
        melt = purse.prepare(offer.request, amount_msat=100_000)
        assert melt.quote.fee_reserve == 0
        purse.post(melt, prefer_async=prefer_async)
        assert purse.wait_final(melt).state == PAID
        purse.assert_paid(melt, fee_msat=0)
        friend.wait_paid(offer, number * 100)
    friend.collect_offer(offer, 200)


def test_an_offer_of_the_mint_itself_that_is_paid_over_a_peer_needs_a_reserve(mint: Mint, purse: OfferPurse) -> None:
    """A node without public channels puts one of its peers before itself, and then pays that peer's fee, too."""
    offer = OfferPurse(mint).request_offer(50)
    mint.node.script_fetch(FetchBehaviour(path=Path(mint.node.node.outside.peer_id, 1_000)))
    assert purse.quote(offer.request).fee_reserve == 2


@pytest.mark.parametrize(("amount_msat", "code"), [(49_000, Code.AMOUNT_MISMATCH), (51_000, Code.AMOUNT_MISMATCH)])
def test_the_amount_of_the_mints_own_offer_counts_as_well(
    mint: Mint, purse: OfferPurse, amount_msat: int, code: Code
) -> None:
    offer = OfferPurse(mint).request_offer(50)
    assert refusal(lambda: purse.quote(offer.request, amount_msat=amount_msat)).code == code


def test_an_own_offer_that_is_disabled_is_refused(mint: Mint, purse: OfferPurse) -> None:
    offer = OfferPurse(mint).request_offer(50)
    early = purse.prepare(offer.request)
    mint.node.rpc("disableoffer", offer_id=mint.node.rpc("decode", string=offer.request)["offer_id"])
    assert refusal(lambda: purse.quote(offer.request)).code == Code.QUOTE_REJECTED
    assert purse.refusal(early).code == Code.PAYMENT_FAILED
    purse.assert_failed(early)


# --- names (BIP 353) ----------------------------------------------------------------------------------------------


def test_a_name_is_resolved_where_the_node_can(make_mint: MakeMint) -> None:
    mint = make_mint(started=False, node={"bip353": {}})
    mint.change_inside(constants=CONSTANTS)
    mint.start()
    purse = OfferPurse(mint)
    offer = mint.node.outside_offer(None)
    mint.node.settings.bip353 = {"alice@example.com": str(offer)}
    quote = purse.quote("₿alice@example.com", amount_msat=5_000)
    assert (quote.request, quote.amount) == ("₿alice@example.com", 5)
    assert mint.node.calls("fetchinvoice")[-1].params["bip353"] == "₿alice@example.com"
    purse.post(melt := purse.prepare("₿alice@example.com", quote=quote))
    purse.assert_paid(melt)
    assert "can't be resolved" in refusal(lambda: purse.quote("bob@example.com", amount_msat=5_000)).detail
    mint.node.settings.bip353["carol@example.com"] = str(mint.node.outside_offer(None, network="bitcoin"))
    assert "another network" in refusal(lambda: purse.quote("carol@example.com", amount_msat=5_000)).detail


# --- many ---------------------------------------------------------------------------------------------------------


def test_too_many_quotes_at_once_are_refused_and_the_others_are_made(make_mint: MakeMint) -> None:
    mint = make_mint(started=False)
    mint.change_inside(
        constants={"plugin.node.offers:FETCH_INTERVAL_S": 1, "plugin.node.offers:MAX_WAITING_FETCHES": 2}
    )
    mint.start()
    purse, offer = OfferPurse(mint), mint.node.outside_offer(5_000)

    def ask(_: int) -> MeltQuoteLightning | MintError:
        try:
            return purse.quote(str(offer))
        except MintError as error:
            return error

    with ThreadPoolExecutor(max_workers=12) as pool:
        answers = list(pool.map(ask, range(12)))
    refused = [answer for answer in answers if isinstance(answer, MintError)]
    assert all("try again" in error.detail and error.code == Code.QUOTE_REJECTED for error in refused)
    assert len(refused) >= 6
    made = len(answers) - len(refused)
    assert made >= 2
    assert fetches(mint) == made
    assert purse.quote(str(offer)).amount == 5


def test_a_slow_issuer_is_in_nobodys_way(mint: Mint, purse: OfferPurse) -> None:
    slow, quick = mint.node.outside_offer(5_000), mint.node.outside_offer(7_000)
    before = fetches(mint)
    mint.node.script_fetch(FetchBehaviour(silent=True), slow, times=30)
    with ThreadPoolExecutor(max_workers=10) as pool:
        waiting = [pool.submit(lambda: refusal(lambda: purse.quote(str(slow)))) for _ in range(10)]
        wait_for(lambda: fetches(mint) == before + 10, "the slow issuer to be asked")
        assert purse.quote(str(quick)).amount == 7
        assert {future.result(60).code for future in waiting} == {Code.QUOTE_REJECTED}


def test_an_issuer_is_asked_once_more_when_no_answer_came(mint: Mint, purse: OfferPurse) -> None:
    offer = mint.node.outside_offer(5_000)
    mint.node.script_fetch(FetchBehaviour(silent=True), offer)
    assert purse.quote(str(offer)).amount == 5


def test_an_offer_is_not_paid_in_parts(mint: Mint, purse: OfferPurse) -> None:
    offer = mint.node.outside_offer(5_000)
    body = {"request": str(offer), "unit": "sat", "options": {"mpp": {"amount": 1000}}}
    assert mint.http.post("/v1/melt/quote/bolt12", json=body).json()["code"] == Code.QUOTE_REJECTED


# --- kill -9 ------------------------------------------------------------------------------------------------------


def test_killed_before_the_quote_is_stored_a_new_one_is_asked_for(mint: Mint, purse: OfferPurse) -> None:
    offer = mint.node.outside_offer(100_000)
    mint.arm(QUOTE)
    with pytest.raises(MintUnreachableError):
        purse.quote(str(offer))
    come_back(mint)
    purse.post(melt := purse.prepare_offer(offer))
    purse.assert_paid(melt)


@pytest.mark.parametrize("point", [COMMITTED, SEND])
def test_killed_after_the_proofs_are_held_they_are_held_until_it_is_sure_that_nothing_was_sent(
    mint: Mint, purse: OfferPurse, point: str
) -> None:
    melt = purse.prepare_offer(mint.node.outside_offer(100_000))
    mint.arm(point)
    with pytest.raises(MintUnreachableError):
        purse.post(melt, prefer_async=True)
    come_back(mint)
    purse.assert_pending(melt)
    purse.assert_failed(melt, why="not sent")
    purse.post(melt)
    purse.assert_paid(melt)


@pytest.mark.parametrize("ok", [True, False], ids=["paid", "failed"])
def test_killed_around_the_verdict_it_is_carried_out_once(mint: Mint, purse: OfferPurse, ok: bool) -> None:
    melt = hold(purse)
    mint.arm(SETTLE if ok else RELEASE)
    mint.node.release(str(melt.invoice), ok=ok)
    come_back(mint)
    (purse.assert_paid if ok else purse.assert_failed)(melt)


@pytest.mark.parametrize("ok", [True, False], ids=["paid", "failed"])
def test_a_held_payment_outlives_plugin_and_node(mint: Mint, purse: OfferPurse, ok: bool) -> None:
    melt = hold(purse)
    mint.restart_plugin(kill=True)
    purse.assert_pending(melt)
    mint.restart_node(kill=True)
    purse.assert_pending(melt)
    mint.node.release(str(melt.invoice), ok=ok)
    (purse.assert_paid if ok else purse.assert_failed)(melt)


def test_killed_while_it_pays_an_offer_of_its_own_both_sides_agree(mint: Mint, purse: OfferPurse) -> None:
    friend = OfferPurse(mint)
    offer = friend.request_offer(100)
    melt = purse.prepare(offer.request)
    mint.arm(SETTLE)
    with pytest.raises(MintUnreachableError):
        purse.post(melt)
    come_back(mint)
    purse.assert_paid(melt, fee_msat=0)
    friend.wait_paid(offer, 100)
    friend.collect_offer(offer, 100)


def test_twins_are_one_payment(mint: Mint, purse: OfferPurse) -> None:
    offer = mint.node.outside_offer(100_000)
    melt = purse.prepare_offer(offer)
    since = mint.node.calls_position
    waiting = [purse.post_soon(melt) for _ in range(8)]
    answers = [future.result(60) for future in waiting]
    assert len({answer.model_dump_json() for answer in answers}) == 1
    assert len(mint.node.calls("xpay", since=since)) == 1
    purse.assert_paid(melt)
