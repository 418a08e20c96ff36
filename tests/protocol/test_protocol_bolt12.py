"""NUT-25 over HTTP and WebSocket: the form of quotes, who may see them, and requests that come again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import httpx
import pytest

from contrib.sandbox import Behaviour
from contrib.wallet import Output
from ledger.errors import Code
from ledger.models import MintQuoteBolt12
from tests.plugin.harness import AT_ONCE_S, Mint, wait_for
from tests.plugin.offers import FETCH_AT_ONCE, OfferPurse
from tests.protocol.helpers import Socket, at_once, code_of, error_code, get, ok, paid_quote, wire_outputs

OPTIONS = {"units": "sat,msat"}
CONSTANTS = FETCH_AT_ONCE
MINT_QUOTE, MELT_QUOTE = "bolt12_mint_quote", "bolt12_melt_quote"
KEY = "02" + "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"


@pytest.fixture
def purse(mint: Mint) -> Iterator[OfferPurse]:
    yield OfferPurse(mint)
    mint.check()


def mint_path(quote: str, method: str = "bolt12") -> str:
    return f"/v1/mint/quote/{method}/{quote}"


def melt_path(quote: str, method: str = "bolt12") -> str:
    return f"/v1/melt/quote/{method}/{quote}"


def issue_body(purse: OfferPurse, quote: MintQuoteBolt12, outputs: Sequence[Output]) -> dict[str, Any]:
    return {"quote": quote.quote, "outputs": wire_outputs(outputs), "signature": purse.sign(quote, outputs)}


def batch_body(purse: OfferPurse, quotes: Sequence[MintQuoteBolt12], outputs: Sequence[Output]) -> dict[str, Any]:
    return {
        "quotes": [quote.quote for quote in quotes],
        "outputs": wire_outputs(outputs),
        "signatures": [purse.sign(quote, outputs) for quote in quotes],
    }


# --- form -------------------------------------------------------------------------------------------------------------


def test_info_offers_the_method(mint: Mint) -> None:
    nuts = ok(mint.http.get("/v1/info"))["nuts"]
    for number, options in (("4", {"description": True}), ("5", {"amountless": True})):
        entries = [entry for entry in nuts[number]["methods"] if entry["method"] == "bolt12"]
        assert {entry["unit"] for entry in entries} == {"sat", "msat"}
        assert all(options.items() <= entry["options"].items() for entry in entries)
    assert "bolt12" in nuts["29"]["methods"]
    assert [MINT_QUOTE, MELT_QUOTE] in [
        entry["commands"][:2] for entry in nuts["17"]["supported"] if entry["method"] == "bolt12"
    ]
    assert {"method": "POST", "path": "/v1/melt/bolt12"} in nuts["19"]["cached_endpoints"]
    assert "bolt12" not in {entry["method"] for entry in nuts["15"]["methods"]}


@pytest.mark.parametrize("amount", [100, None])
def test_a_mint_quote_has_the_fields_of_nut_25(mint: Mint, amount: int | None) -> None:
    body = {"unit": "sat", "pubkey": KEY} | ({} if amount is None else {"amount": amount})
    quote = ok(mint.http.post("/v1/mint/quote/bolt12", json=body))
    assert quote["request"].startswith("lno1")
    expected = {"amount": amount, "unit": "sat", "expiry": None, "pubkey": KEY, "amount_paid": 0, "amount_issued": 0}
    assert {name: quote[name] for name in expected} == expected
    assert "state" not in quote
    assert ok(mint.http.get(mint_path(quote["quote"]))) == quote


def test_null_is_as_good_as_absent(mint: Mint) -> None:
    body = {"amount": None, "unit": "sat", "description": None, "pubkey": KEY}
    assert ok(mint.http.post("/v1/mint/quote/bolt12", json=body))["amount"] is None


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"pubkey": None}, Code.PUBKEY_INVALID),
        ({"pubkey": "02" + "00" * 32}, Code.PUBKEY_INVALID),
        ({"pubkey": KEY[2:]}, Code.PUBKEY_INVALID),
        ({"pubkey": 7}, Code.REQUEST_REJECTED),
        ({"unit": "eur"}, Code.UNIT_UNSUPPORTED),
        ({"unit": None}, Code.REQUEST_REJECTED),
        ({"amount": 0}, Code.AMOUNT_OUTSIDE_LIMITS),
        ({"amount": 1_000_001}, Code.AMOUNT_OUTSIDE_LIMITS),
        ({"amount": -1}, Code.REQUEST_REJECTED),
        ({"amount": "5"}, Code.REQUEST_REJECTED),
        ({"amount": 5.0}, Code.REQUEST_REJECTED),
        ({"amount": True}, Code.REQUEST_REJECTED),
        ({"description": 5}, Code.REQUEST_REJECTED),
        ({"description": "d" * 513}, Code.REQUEST_REJECTED),
    ],
)
def test_a_bad_request_for_a_mint_quote_has_its_code(mint: Mint, change: dict[str, Any], code: Code) -> None:
    body = {"amount": 5, "unit": "sat", "pubkey": KEY} | change
    assert code_of(mint.http.post("/v1/mint/quote/bolt12", json=body)) == code


def test_a_melt_quote_has_the_fields_of_nut_25(mint: Mint) -> None:
    offer = str(mint.node.outside_offer(100_000))
    quote = ok(mint.http.post("/v1/melt/quote/bolt12", json={"request": offer, "unit": "sat"}))
    expected = {"request": offer, "amount": 100, "unit": "sat", "fee_reserve": 2, "state": "UNPAID"}
    assert {name: quote[name] for name in expected} == expected
    assert quote["payment_preimage"] is None
    assert isinstance(quote["expiry"], int)
    assert ok(mint.http.get(melt_path(quote["quote"]))) == quote


@pytest.mark.parametrize(
    "body",
    [
        {"unit": "sat"},
        {"request": 7, "unit": "sat"},
        {"request": "", "unit": "sat"},
        {"request": "l" * 8193, "unit": "sat"},
        {"request": "lno1", "unit": "sat", "options": {"amountless": {"amount_msat": 0}}},
        {"request": "lno1", "unit": "sat", "options": {"amountless": {"amount_msat": "5"}}},
        {"request": "lno1", "unit": "sat", "options": {"amountless": {}}},
        {"request": "lno1", "unit": "sat", "options": []},
    ],
)
def test_a_malformed_request_for_a_melt_quote_is_refused(mint: Mint, body: dict[str, Any]) -> None:
    assert code_of(mint.http.post("/v1/melt/quote/bolt12", json=body)) == Code.REQUEST_REJECTED


def test_a_unit_that_the_mint_does_not_have_is_refused(mint: Mint) -> None:
    body = {"request": str(mint.node.outside_offer(5_000)), "unit": "usd"}
    assert code_of(mint.http.post("/v1/melt/quote/bolt12", json=body)) == Code.UNIT_UNSUPPORTED


# --- other methods ----------------------------------------------------------------------------------------------------


def test_quotes_are_unknown_to_other_methods(mint: Mint, purse: OfferPurse) -> None:
    offer, invoice = purse.paid_offer(5), paid_quote(purse, 5)
    melt12 = purse.prepare_offer(mint.node.outside_offer(5_000))
    melt11 = purse.client.request_melt_quote(str(mint.invoice(5)))
    for path in (
        mint_path(offer.quote, "bolt11"),
        mint_path(invoice),
        mint_path(melt12.quote.quote),
        melt_path(melt12.quote.quote, "bolt11"),
        melt_path(melt11.quote),
        melt_path(offer.quote),
    ):
        assert code_of(mint.http.get(path)) == Code.QUOTE_REJECTED
    outputs = purse.outputs(5)
    assert code_of(mint.http.post("/v1/mint/bolt11", json=issue_body(purse, offer, outputs))) == Code.QUOTE_REJECTED
    body = {"quote": invoice, "outputs": wire_outputs(outputs)}
    assert code_of(mint.http.post("/v1/mint/bolt12", json=body)) == Code.QUOTE_REJECTED
    assert code_of(mint.http.post("/v1/melt/bolt11", json=melt12.body)) == Code.QUOTE_REJECTED
    for method, quote in (("bolt11", offer.quote), ("bolt12", invoice)):
        body = {"quotes": [quote]}
        assert code_of(mint.http.post(f"/v1/mint/quote/{method}/check", json=body)) == Code.QUOTE_REJECTED
    purse.collect_offer(offer, 5)


def test_an_offer_is_no_invoice_and_an_invoice_no_offer(mint: Mint) -> None:
    offer, invoice = str(mint.node.outside_offer(5_000)), str(mint.invoice(5))
    for method, request in (("bolt11", offer), ("bolt12", invoice)):
        body = {"request": request, "unit": "sat"}
        assert code_of(mint.http.post(f"/v1/melt/quote/{method}", json=body)) == Code.QUOTE_REJECTED


# --- checked and issued in batches (NUT-29) ---------------------------------------------------------------------------


def test_quotes_are_checked_together(mint: Mint, purse: OfferPurse) -> None:
    quotes = [purse.paid_offer(5).quote, purse.request_offer().quote]
    text = mint.http.post("/v1/mint/quote/bolt12/check", json={"quotes": quotes}).text
    assert text == f"[{','.join(get(mint, mint_path(quote)) for quote in quotes)}]"


def test_a_batch_takes_from_its_quotes_in_their_order(mint: Mint, purse: OfferPurse) -> None:
    quotes = [purse.paid_offer(5), purse.paid_offer(6)]
    ok(mint.http.post("/v1/mint/bolt12/batch", json=batch_body(purse, quotes, purse.outputs(7))))
    assert [purse.look_offer(quote).amount_issued for quote in quotes] == [5, 2]
    too_much = batch_body(purse, quotes[1:], purse.outputs(5))
    assert code_of(mint.http.post("/v1/mint/bolt12/batch", json=too_much)) == Code.NOT_BALANCED
    ok(mint.http.post("/v1/mint/bolt12/batch", json=batch_body(purse, quotes[1:], purse.outputs(4))))
    done = batch_body(purse, quotes, purse.outputs(1))
    assert code_of(mint.http.post("/v1/mint/bolt12/batch", json=done)) == Code.QUOTE_ISSUED


# --- again (NUT-19) ---------------------------------------------------------------------------------------------------

Request = tuple[str, dict[str, Any]]


def an_issue(purse: OfferPurse) -> Request:
    return "/v1/mint/bolt12", issue_body(purse, purse.paid_offer(20), purse.outputs(13))


def a_batch(purse: OfferPurse) -> Request:
    return "/v1/mint/bolt12/batch", batch_body(purse, [purse.paid_offer(8), purse.paid_offer(9)], purse.outputs(13))


def a_melt(purse: OfferPurse) -> Request:
    return "/v1/melt/bolt12", purse.prepare_offer(purse.mint.node.outside_offer(100_000)).body


KINDS: dict[str, Callable[[OfferPurse], Request]] = {"issue": an_issue, "batch": a_batch, "melt": a_melt}


def post(mint: Mint, request: Request) -> httpx.Response:
    return mint.http.post(request[0], json=request[1])


@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
@pytest.mark.parametrize("kill", [False, True], ids=["at once", "after kill -9"])
def test_an_identical_request_gets_the_same_answer(
    mint: Mint, purse: OfferPurse, kind: Callable[[OfferPurse], Request], kill: bool
) -> None:
    request = kind(purse)
    first = post(mint, request)
    ok(first)
    if kill:
        mint.restart_plugin(kill=True)
    assert post(mint, request).text == first.text


@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
def test_twins_that_come_together_are_one_operation(
    mint: Mint, purse: OfferPurse, kind: Callable[[OfferPurse], Request]
) -> None:
    request = kind(purse)
    since = mint.node.calls_position
    assert len({post_ok.text for post_ok in at_once(10, lambda: post(mint, request)) if ok(post_ok)}) == 1
    assert len(mint.node.calls("xpay", since=since)) == (1 if kind is a_melt else 0)


# --- WebSocket (NUT-17) -----------------------------------------------------------------------------------------------


def test_a_mint_quote_is_followed_through_payments_and_issues(mint: Mint, purse: OfferPurse, ws: Socket) -> None:
    quote = purse.request_offer(None, description='with a ₿ and "quotes"')
    ws.subscribe(MINT_QUOTE, [quote.quote])
    seen = [ws.next()]

    def then(act: Callable[[], object]) -> None:
        act()
        seen.append(ws.next())
        assert seen[-1].payload_text == get(mint, mint_path(quote.quote))

    assert seen[0].payload_text == get(mint, mint_path(quote.quote))
    then(lambda: mint.node.pay_invoice(quote.request, 5_000))
    then(lambda: purse.collect_offer(quote, 3))
    then(lambda: mint.node.pay_invoice(quote.request, 7_000))
    then(lambda: purse.collect_offer(quote, 9))
    amounts = [(each.payload["amount_paid"], each.payload["amount_issued"]) for each in seen]
    assert amounts == [(0, 0), (5, 0), (5, 3), (12, 3), (12, 12)]
    stamps = [each.payload["updated_at"] for each in seen]
    assert sorted(set(stamps)) == stamps
    assert ws.is_silent()


@pytest.mark.parametrize("paid", [True, False])
def test_a_melt_quote_is_followed_to_its_outcome(mint: Mint, purse: OfferPurse, ws: Socket, paid: bool) -> None:
    melt = purse.prepare_offer(mint.node.outside_offer(100_000, behaviour=Behaviour.hold()))
    ws.subscribe(MELT_QUOTE, [melt.quote.quote])
    seen = [ws.next()]
    assert purse.post(melt, prefer_async=True).state == "PENDING"
    seen.append(ws.next())
    mint.node.wait_for_part(str(melt.invoice))
    mint.node.release(str(melt.invoice), ok=paid)
    seen.append(ws.next(AT_ONCE_S))
    assert [each.payload["state"] for each in seen] == ["UNPAID", "PENDING", "PAID" if paid else "UNPAID"]
    assert seen[-1].payload_text == get(mint, melt_path(melt.quote.quote))
    if paid:
        assert melt.invoice is not None
        assert seen[-1].payload["payment_preimage"] == melt.invoice.preimage


def test_a_quote_is_followed_by_its_own_kind_only(mint: Mint, purse: OfferPurse, ws: Socket) -> None:
    quote = purse.request_offer()
    answer = ws.call("subscribe", {"kind": "bolt11_mint_quote", "subId": "x", "filters": [quote.quote]})
    assert error_code(answer) == -32602


def test_both_sides_of_an_own_offer_are_followed(mint: Mint, purse: OfferPurse, ws: Socket) -> None:
    quote = purse.request_offer(50)
    melt = purse.prepare(quote.request)
    ws.subscribe(MINT_QUOTE, [quote.quote])
    ws.next()
    purse.post(melt, prefer_async=True)
    assert ws.next().payload["amount_paid"] == 50
    wait_for(lambda: purse.look(melt).state == "PAID", "the melt to be paid")
