"""`cashu-pause`, `cashu-unpause`, `cashu-motd` and `cashu-balance`, and what wallets see of them."""

from __future__ import annotations

from typing import Any

import pytest

from contrib.sandbox import RpcError
from contrib.wallet import MintError
from tests.plugin.conftest import MakeMint
from tests.plugin.harness import PAID, Mint, Purse
from tests.plugin.onchain import ChainPurse

OPTIONS = {"input_fee_ppk": 100, "onchain_min": 1000}


def disabled(mint: Mint) -> tuple[bool, bool]:
    nuts = mint.http.get("/v1/info").json()["nuts"]
    return nuts["4"]["disabled"], nuts["5"]["disabled"]


def code(mint: Mint, path: str, body: dict[str, Any]) -> int:
    answer = mint.http.post(path, json=body)
    assert answer.status_code == 400, answer.text
    return int(answer.json()["code"])


def test_a_pause_holds_over_a_restart_and_what_was_promised_is_kept(make_mint: MakeMint) -> None:
    mint = make_mint(**OPTIONS)
    purse = Purse(mint)
    paid, unpaid = purse.request_mint(64), purse.request_mint(32)
    mint.node.pay_invoice(paid.request)
    purse.wait_credited(paid)
    flying, waiting = purse.hold(), purse.prepare(mint.invoice(20))
    answer = mint.node.rpc("cashu-pause")
    assert (answer["minting"], answer["melting"]) == ("paused", "paused")
    assert "what was paid is still issued" in answer["sentence"]
    mint.restart_plugin(kill=True)
    assert disabled(mint) == (True, True)
    position = mint.node.calls_position
    pubkey = purse.keyset.keys[1].hex()
    for method in ("bolt11", "bolt12", "onchain"):
        asked = {"unit": "sat", "pubkey": pubkey, "amount": 8}
        assert code(mint, f"/v1/mint/quote/{method}", asked) == 20003
    for method, request in (
        ("bolt11", mint.invoice(9).bolt11),
        ("bolt12", str(mint.node.outside_offer(9000))),
        ("onchain", ChainPurse(mint).quote_body()["request"]),
    ):
        body = {"unit": "sat", "request": request, "amount": 5000}
        assert code(mint, f"/v1/melt/quote/{method}", body) == 20000
    assert not {call.method for call in mint.node.calls(since=position)} & {"invoice", "newaddr", "fetchinvoice"}
    refusal = purse.refusal(waiting)
    assert refusal.code == 20000
    assert "paused melting" in str(refusal)
    mint.node.pay_invoice(unpaid.request)
    purse.wait_credited(unpaid)
    proofs = [*purse.collect(paid), *purse.collect(unpaid)]
    purse.swap(proofs)
    mint.node.release(str(flying.invoice))
    purse.assert_paid(flying)
    answer = mint.node.rpc("cashu-unpause", what="melting")
    assert (answer["minting"], answer["melting"]) == ("paused", "open")
    assert disabled(mint) == (True, False)
    assert purse.post(waiting).state == PAID
    with pytest.raises(MintError, match="paused minting"):
        purse.request_mint()
    assert mint.node.rpc("cashu-unpause")["sentence"] == "Nothing is paused."
    assert disabled(mint) == (False, False)
    purse.fund(8)


def test_the_message_of_the_day_is_shown_at_once_and_stays(make_mint: MakeMint) -> None:
    mint = make_mint()
    assert "motd" not in mint.http.get("/v1/info").json()
    assert mint.node.rpc("cashu-motd")["motd"] is None
    text = "Der Mint zieht um: bitte bis Sonntag auszahlen. 🥜"
    assert mint.node.rpc("cashu-motd", message=f" {text} ")["motd"] == text
    assert mint.http.get("/v1/info").json()["motd"] == text
    mint.restart_plugin(kill=True)
    assert mint.http.get("/v1/info").json()["motd"] == text
    assert mint.node.rpc("cashu-motd")["motd"] == text == mint.info()["motd"]
    assert mint.node.rpc("cashu-motd", message="")["motd"] is None
    assert "motd" not in mint.http.get("/v1/info").json()


@pytest.mark.parametrize(
    ("command", "params", "why"),
    [
        ("cashu-pause", {"what": "swaps"}, "what must be one of: minting, melting, both"),
        ("cashu-pause", {"what": ["minting"]}, "what must be one of"),
        ("cashu-unpause", {"when": "now"}, "takes only what"),
        ("cashu-motd", {"message": "x" * 1001}, "at most 1000 printable"),
        ("cashu-motd", {"message": "bell\a"}, "printable"),
        ("cashu-motd", {"message": "\u202edesrever"}, "printable"),
        ("cashu-motd", {"message": " "}, "blank"),
        ("cashu-motd", {"message": 5}, "must be text"),
        ("cashu-balance", {"of": "whom"}, "takes no arguments"),
    ],
)
def test_what_commands_refuse(mint: Mint, command: str, params: dict[str, Any], why: str) -> None:
    with pytest.raises(RpcError, match=why):
        mint.node.rpc(command, **params)
    assert mint.info()["motd"] is None
    assert disabled(mint) == (False, False)


def test_the_balance_is_what_the_audit_finds(make_mint: MakeMint) -> None:
    mint = make_mint(**OPTIONS)
    purse = Purse(mint)
    purse.swap(purse.fund(64))
    quote = purse.request_mint(100)
    mint.node.pay_invoice(quote.request)
    purse.wait_credited(quote)
    purse.post(purse.prepare(mint.invoice(20)))
    held = purse.hold(30)
    mint.node.rpc("cashu-rotate", unit="sat")
    balance, audit = mint.node.rpc("cashu-balance"), mint.node.rpc("cashu-audit")
    for figure in ("owed_msat", "outstanding_msat", "unissued_msat", "earned_msat", "covered"):
        assert balance[figure] == audit[figure], figure
    assert balance["unissued_msat"] == 100_000
    assert balance["earned_msat"] > 0
    assert [keyset["outstanding"] for keyset in balance["keysets"]] == [
        keyset["outstanding"] for keyset in audit["keysets"]
    ]
    assert balance["outstanding"]["sat"] * 1000 == balance["outstanding_msat"]
    assert (balance["pending_melts"], balance["pending_msat"]) == (1, 30_000)
    node = balance["node"]
    assert (node["channels"], node["channels_msat"]) == (1, audit["node"]["channels_msat"])
    assert 0 < node["sendable_msat"] < node["channels_msat"]
    assert balance["owned_msat"] == node["channels_msat"] + node["onchain_msat"]
    assert balance["sentence"].startswith("Covered: the mint owes ")
    mint.node.release(str(held.invoice))
    purse.assert_paid(held)


def test_a_balance_that_is_not_covered_says_so(make_mint: MakeMint) -> None:
    mint = make_mint()
    Purse(mint).fund(64)
    mint.node.do(lambda node: setattr(node.channel, "to_us_msat", 63_999))
    balance = mint.node.rpc("cashu-balance")
    assert balance["covered"] is False
    assert balance["sentence"] == (
        "NOT COVERED: the mint owes 64 sat, and its node owns 63.999 sat: 0.001 sat are missing."
    )


def test_coins_are_told_apart_by_what_can_be_relied_on(make_mint: MakeMint) -> None:
    mint = make_mint(onchain_min=1000)
    purse = ChainPurse(mint)
    purse.chain.give_coins(100_000, 200_000)
    payout = purse.begin_payout(5000)
    purse.wait_sent(payout)
    balance = mint.node.rpc("cashu-balance")
    node = balance["node"]
    coins = node["coins"]
    assert (coins["confirmed_msat"], coins["reserved_msat"]) == (100_000_000, 200_000_000)
    assert node["on_the_way_msat"] > 5_000_000
    assert coins["unconfirmed_msat"] + node["on_the_way_msat"] == coins["reserved_msat"]
    assert node["onchain_msat"] == coins["confirmed_msat"] + coins["unconfirmed_msat"]
    assert balance["covered"] is True
    assert balance["owned_msat"] == node["channels_msat"] + node["onchain_msat"] + node["on_the_way_msat"]
