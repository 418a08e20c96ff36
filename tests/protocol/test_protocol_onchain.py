"""NUT-30 as wallets meet it: settings, quotes, subscriptions, replays and batches of the method `onchain`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from contrib.wallet import messages, quote_lock
from ledger.errors import Code
from tests.plugin.harness import Mint
from tests.plugin.onchain import AMOUNT, COIN_SAT, CONFIRMATIONS, KEY, OPTIONS, ChainPurse
from tests.protocol.helpers import Socket, get, ok

__all__ = ["OPTIONS"]
MINT_QUOTE, MELT_QUOTE, PROOF_STATE = "onchain_mint_quote", "onchain_melt_quote", "proof_state"
PUBKEY = KEY.public_key.format().hex()


@pytest.fixture
def purse(mint: Mint) -> Iterator[ChainPurse]:
    """A purse of the shared mint, whose wallet has coins."""
    purse = ChainPurse(mint)
    purse.chain.give_coins(COIN_SAT, COIN_SAT)
    yield purse
    mint.check()


def entry(mint: Mint, nut: str) -> dict[str, Any]:
    """The setting of the method."""
    methods = ok(mint.http.get("/v1/info"))["nuts"][nut]["methods"]
    (found,) = [method for method in methods if method["method"] == "onchain"]
    assert isinstance(found, dict)
    return found


def test_info_tells_minimum_and_confirmations(mint: Mint) -> None:
    minting = entry(mint, "4")
    assert (minting["unit"], minting["min_amount"]) == ("sat", int(OPTIONS["onchain_min"]))
    assert minting["options"] == {"confirmations": CONFIRMATIONS}
    assert entry(mint, "5")["min_amount"] == int(OPTIONS["onchain_min"])
    nuts = ok(mint.http.get("/v1/info"))["nuts"]
    assert {"method": "onchain", "unit": "sat", "commands": [MINT_QUOTE, MELT_QUOTE, PROOF_STATE]} in nuts["17"][
        "supported"
    ]
    cached = {endpoint["path"] for endpoint in nuts["19"]["cached_endpoints"]}
    assert {"/v1/mint/onchain", "/v1/melt/onchain"} <= cached


def test_a_mint_quote_has_exactly_the_fields_of_the_nuts(mint: Mint, purse: ChainPurse) -> None:
    body = {"unit": "sat", "pubkey": PUBKEY}
    quote = ok(mint.http.post("/v1/mint/quote/onchain", json=body))
    mint.secrets.add(quote["quote"])
    assert set(quote) == {
        *("quote", "request", "unit", "method", "expiry", "pubkey", "amount_paid", "amount_issued", "updated_at")
    }
    assert (quote["method"], quote["pubkey"], quote["amount_paid"]) == ("onchain", PUBKEY, 0)
    assert quote["request"].startswith("bcrt1p")
    assert ok(mint.http.get(f"/v1/mint/quote/onchain/{quote['quote']}")) == quote
    other = ok(mint.http.post("/v1/mint/quote/onchain", json=body))
    mint.secrets.add(other["quote"])
    assert other["request"] != quote["request"]


@pytest.mark.parametrize("pubkey", [None, "", "02" + "ff" * 32, "02zz", PUBKEY[2:], 7])
def test_a_mint_quote_needs_a_key(purse: ChainPurse, pubkey: Any) -> None:
    body = {"unit": "sat"} | ({} if pubkey is None else {"pubkey": pubkey})
    code, _ = purse.refused("/v1/mint/quote/onchain", body)
    assert code == (Code.REQUEST_REJECTED if pubkey == 7 else Code.PUBKEY_INVALID)


def test_a_mint_quote_in_another_unit_is_refused(purse: ChainPurse) -> None:
    assert purse.refused("/v1/mint/quote/onchain", {"unit": "usd", "pubkey": PUBKEY})[0] == Code.UNIT_UNSUPPORTED


def test_quotes_are_known_to_their_own_method_only(mint: Mint, purse: ChainPurse) -> None:
    quote, payout = purse.request_address(), purse.request_payout()
    for path in (
        f"/v1/mint/quote/bolt11/{quote.quote}",
        f"/v1/melt/quote/bolt11/{payout.quote}",
        f"/v1/mint/quote/onchain/{payout.quote}",
        f"/v1/melt/quote/onchain/{quote.quote}",
    ):
        response = mint.http.get(path)
        assert (response.status_code, response.json()["code"]) == (400, Code.QUOTE_REJECTED)


def test_a_melt_quote_has_exactly_the_fields_of_the_nuts(mint: Mint, purse: ChainPurse) -> None:
    quote = ok(mint.http.post("/v1/melt/quote/onchain", json=purse.quote_body()))
    mint.secrets.add(quote["quote"])
    assert set(quote) == {
        *("quote", "request", "amount", "unit", "method", "state", "expiry", "change", "error"),
        *("fee_options", "selected_fee_index", "outpoint"),
    }
    assert all(set(option) == {"fee_index", "fee_reserve", "estimated_blocks"} for option in quote["fee_options"])


def test_a_subscriber_sees_a_deposit_as_get_shows_it(mint: Mint, purse: ChainPurse, ws: Socket) -> None:
    quote = purse.request_address()
    path = f"/v1/mint/quote/onchain/{quote.quote}"
    ws.subscribe(MINT_QUOTE, [quote.quote])
    assert ws.next().payload_text == get(mint, path)
    purse.chain.deposit(quote.request, AMOUNT, blocks=CONFIRMATIONS - 1)
    assert ws.is_silent()
    purse.chain.mine()
    notification = ws.next()
    assert notification.payload["amount_paid"] == AMOUNT
    assert notification.payload_text == get(mint, path)
    purse.collect_onchain(quote, AMOUNT)
    assert ws.next().payload["amount_issued"] == AMOUNT


def test_a_subscriber_sees_a_melt_as_get_shows_it(mint: Mint, purse: ChainPurse, ws: Socket) -> None:
    payout = purse.prepare_payout()
    path = f"/v1/melt/quote/onchain/{payout.quote.quote}"
    ws.subscribe(MELT_QUOTE, [payout.quote.quote])
    assert ws.next().payload["state"] == "UNPAID"
    purse.post_payout(payout)
    begun, sent = ws.take(2)
    assert (begun.payload["state"], begun.payload["outpoint"]) == ("PENDING", None)
    assert sent.payload["state"] == "PENDING"
    assert sent.payload_text == get(mint, path)
    assert sent.payload["outpoint"][:64] in purse.chain.mempool()
    purse.chain.mine(CONFIRMATIONS)
    paid = ws.next()
    assert paid.payload["state"] == "PAID"
    assert paid.payload_text == get(mint, path)
    purse.assert_payout_paid(payout)


def test_proofs_of_a_melt_are_seen_held_and_spent(purse: ChainPurse, ws: Socket) -> None:
    payout = purse.prepare_payout()
    first = payout.inputs[0].y
    ws.subscribe(PROOF_STATE, [first])
    assert ws.next().payload["state"] == "UNSPENT"
    purse.post_payout(payout)
    assert ws.next().payload["state"] == "PENDING"
    purse.wait_sent(payout)
    purse.chain.mine(CONFIRMATIONS)
    assert ws.next().payload["state"] == "SPENT"
    purse.assert_payout_paid(payout)


def test_an_issue_is_answered_again_word_for_word(mint: Mint, purse: ChainPurse) -> None:
    quote = purse.request_address()
    purse.chain.deposit(quote.request, AMOUNT, blocks=CONFIRMATIONS)
    purse.wait_credit(quote, AMOUNT)
    body = purse.issue_body(quote, purse.outputs(AMOUNT))
    first = mint.http.post("/v1/mint/onchain", json=body)
    mint.restart_plugin(kill=True)
    again = mint.http.post("/v1/mint/onchain", json=body)
    assert (first.status_code, first.text) == (200, again.text)
    assert purse.look_at(quote).amount_issued == AMOUNT


def test_prefer_async_makes_no_difference(purse: ChainPurse) -> None:
    for prefer_async in (True, False):
        payout = purse.prepare_payout()
        answer = purse.call("POST", "/v1/melt/onchain", payout.body | {"prefer_async": prefer_async})
        assert answer["state"] == "PENDING"
        purse.wait_sent(payout)
        purse.blocks_until_paid(payout)


def test_a_batch_takes_what_each_address_has(mint: Mint, purse: ChainPurse) -> None:
    quotes = [purse.request_address(), purse.request_address()]
    for quote in quotes:
        purse.chain.deposit(quote.request, AMOUNT)
    purse.chain.mine(CONFIRMATIONS)
    for quote in quotes:
        purse.wait_credit(quote, AMOUNT)
    outputs = messages(purse.outputs(2 * AMOUNT - 1))
    body = {
        "quotes": [quote.quote for quote in quotes],
        "outputs": [message.model_dump() for message in outputs],
        "signatures": [quote_lock.sign(KEY, quote_lock.message(quote.quote, outputs)) for quote in quotes],
    }
    ok(mint.http.post("/v1/mint/onchain/batch", json=body))
    assert [purse.look_at(quote).amount_issued for quote in quotes] == [AMOUNT, AMOUNT - 1]
