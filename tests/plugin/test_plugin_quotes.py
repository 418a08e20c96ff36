"""`cashu-quotes` and `cashu-qr`, and what no command may show or be called."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest

from contrib.sandbox import RpcError
from plugin.commands.table import COMMANDS
from plugin.commands.text import render
from tests.plugin.conftest import MakeMint
from tests.plugin.harness import Melt, Mint, Purse
from tests.plugin.offers import OfferPurse
from tests.plugin.onchain import ChainPurse

OPTIONS = {"onchain_min": 1000}
READ_ONLY_RUNE = ("list", "get", "summary")
"""What the restriction `readonly` of Core Lightning allows: every command whose name begins with one of the first two,
and the third."""


def quotes(mint: Mint, **params: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = mint.node.rpc("cashu-quotes", **params)["quotes"]
    return found


def test_quotes_are_listed_newest_first_by_state_and_method(make_mint: MakeMint) -> None:
    mint = make_mint(**OPTIONS)
    purse = Purse(mint)
    unpaid, paid, issued = (purse.request_mint(amount) for amount in (8, 16, 32))
    for quote in (paid, issued):
        mint.node.pay_invoice(quote.request)
        purse.wait_credited(quote)
    purse.collect(issued)
    offer = OfferPurse(mint).request_offer(5)
    address = ChainPurse(mint).request_address()
    listed = quotes(mint)
    assert [quote["method"] for quote in listed] == ["onchain", "bolt12", "bolt11", "bolt11", "bolt11"]
    assert [quote["state"] for quote in listed] == ["unpaid", "unpaid", "issued", "paid", "unpaid"]
    assert listed[0]["address"] == address.request
    assert [quote["locked"] for quote in listed] == [True, True, False, False, False]
    assert [quote["amount"] for quote in quotes(mint, state="unpaid", method="bolt11")] == [unpaid.amount]
    (by_hash,) = quotes(mint, state="issued")
    assert by_hash["payment_hash"] == mint.node.payment_hash(issued.request)
    labels = {invoice["label"] for invoice in mint.node.rpc("listinvoices")["invoices"]}
    assert {quote["label"] for quote in listed if quote["method"] == "bolt11"} <= labels
    everything = json.dumps(mint.node.rpc("cashu-quotes"))
    assert not [quote for quote in (unpaid, paid, issued, offer, address) if quote.quote in everything]


def test_melts_are_listed_with_what_the_operator_can_act_on(make_mint: MakeMint) -> None:
    mint = make_mint(**OPTIONS)
    purse = Purse(mint)
    melts: list[Melt] = [purse.prepare(mint.invoice(20))]
    purse.post(melts[0])
    melts += [purse.hold(30), purse.prepare(mint.invoice(40))]
    waiting, held, paid = quotes(mint, kind="melt")
    assert [quote["state"] for quote in (waiting, held, paid)] == ["unpaid", "pending", "paid"]
    assert [quote["amount"] for quote in (waiting, held, paid)] == [40, 30, 20]
    assert held["handle"] == mint.node.rpc("cashu-pending")["melts"][0]["handle"]
    assert "handle" not in waiting
    assert paid["sent_msat"] == 21_000
    assert quotes(mint, kind="melt", state="pending") == [held]
    everything = json.dumps(mint.node.rpc("cashu-quotes", kind="melt"))
    assert not [melt for melt in melts if melt.quote.quote in everything]
    assert not [melt for melt in melts if melt.invoice is not None and melt.invoice.preimage in everything]
    mint.node.release(str(melts[1].invoice))
    purse.assert_paid(melts[1])


def test_pages_follow_each_other_without_gap(make_mint: MakeMint) -> None:
    mint = make_mint()
    purse = Purse(mint)
    for amount in range(1, 6):
        purse.request_mint(amount)
    seen: list[int] = []
    page = mint.node.rpc("cashu-quotes", limit=2)
    while page["next"] is not None:
        seen += [quote["amount"] for quote in page["quotes"]]
        page = mint.node.rpc("cashu-quotes", limit=2, before=page["next"])
    assert [*seen, *(quote["amount"] for quote in page["quotes"])] == [5, 4, 3, 2, 1]


@pytest.mark.parametrize(
    ("params", "why"),
    [
        ({"kind": "swap"}, "kind must be one of"),
        ({"state": "pending"}, "state must be one of: unpaid, paid, issued"),
        ({"kind": "melt", "state": "issued"}, "state must be one of: unpaid, pending, paid"),
        ({"method": "bolt10"}, "method must be one of"),
        ({"limit": 0}, "from 1 to 500"),
        ({"limit": 501}, "from 1 to 500"),
        ({"before": -1}, "whole number"),
        ({"before": "9" * 30}, "whole number"),
        ({"quote": "x"}, "takes only kind, state, method, limit, before and format"),
    ],
)
def test_what_it_refuses(mint: Mint, params: dict[str, Any], why: str) -> None:
    with pytest.raises(RpcError, match=why):
        mint.node.rpc("cashu-quotes", **params)


def test_a_qr_code_is_drawn_of_the_url_or_of_a_text(mint: Mint) -> None:
    answer = mint.node.rpc("cashu-qr")
    assert set(answer) == {"qr", "format-hint"}  # a second field would put a name before the first line of the code
    *code, blank, url = answer["qr"].split("\n")
    assert (blank, url) == ("", mint.url)
    lines = [line for line in code if line]
    assert {len(line) for line in lines} == {len(lines[0])}
    assert set("".join(lines)) == set(" ▀▄█")
    other = mint.node.rpc("cashu-qr", text="lnbc1")["qr"]
    assert other != answer["qr"]
    assert other.endswith("lnbc1")
    with pytest.raises(RpcError, match="at most 1000 printable"):
        mint.node.rpc("cashu-qr", text="x" * 1001)


def test_a_mint_on_all_addresses_says_that_it_is_open_and_draws_none_of_them(make_mint: MakeMint) -> None:
    mint = make_mint(started=False)
    mint.set_options(listen=f"0.0.0.0:{mint.port}")
    mint.start()
    mint.node.wait_for_log("who is on the way can read and change what wallets send")
    with pytest.raises(RpcError, match="cashu-urls"):
        mint.node.rpc("cashu-qr")
    assert mint.node.rpc("cashu-qr", text=mint.url)["qr"].endswith(mint.url)


def test_what_wallets_are_told_of_the_operator(make_mint: MakeMint) -> None:
    mint = make_mint(
        long_description="Run by two people.",
        contact="email:me@example.org, nostr:npub1xyz",
        urls="https://mint.example.org,http://abc.onion",
        icon_url="https://mint.example.org/icon.png",
        tos_url="https://mint.example.org/tos",
    )
    info = mint.http.get("/v1/info").json()
    assert info["description_long"] == "Run by two people."
    assert info["contact"] == [
        {"method": "email", "info": "me@example.org"},
        {"method": "nostr", "info": "npub1xyz"},
    ]
    assert info["urls"] == ["https://mint.example.org", "http://abc.onion"]
    assert (info["icon_url"], info["tos_url"]) == ("https://mint.example.org/icon.png", "https://mint.example.org/tos")
    assert mint.node.rpc("cashu-qr")["qr"].endswith("\nhttps://mint.example.org")


def test_what_is_not_said_is_left_out(mint: Mint) -> None:
    info = mint.http.get("/v1/info").json()
    assert not {"description_long", "contact", "motd", "urls", "icon_url", "tos_url"} & set(info)


def test_no_command_of_ours_is_open_to_a_read_only_rune() -> None:
    """Its restriction goes by the beginning of the name, whatever the command shows."""
    assert not [command.name for command in COMMANDS if command.name.startswith(READ_ONLY_RUNE)]


def test_every_command_has_help_with_its_parameters(mint: Mint) -> None:
    usages = {entry["command"].split()[0]: entry["command"] for entry in mint.node.rpc("help")["help"]}
    for command in COMMANDS:
        assert command.work.__doc__
        assert all(f"{{{name}}}" in command.work.__doc__ for name in command.parameters), command.name
        asked = (*command.parameters, "format") if command.for_people else command.parameters
        assert all(f"[{name}]" in usages[command.name] for name in asked), command.name


def test_what_shows_much_can_be_read_by_people(make_mint: MakeMint) -> None:
    mint = make_mint()
    purse = Purse(mint)
    purse.fund(64)
    commands = [command.name for command in COMMANDS if command.for_people]
    for name in commands:
        answer = mint.node.rpc(name, format="text")
        assert set(answer) == {"text", "format-hint"}
        assert set(mint.node.rpc(name, format="json")) == set(mint.node.rpc(name))
    lines = mint.node.rpc("cashu-balance", format="text")["text"].split("\n")
    assert lines[0] == mint.node.rpc("cashu-balance")["sentence"]
    assert re.search(r"^outstanding_msat +64000$", "\n".join(lines), re.MULTILINE)
    table = mint.node.rpc("cashu-quotes", format="text")["text"].split("\n")
    (head,) = (line for line in table if line.lstrip().startswith("n "))
    (row,) = (line for line in table if line.lstrip().startswith("1 "))
    assert row[head.index("state") :].startswith("issued")
    assert row[head.index("created_at") :].startswith(datetime.now(UTC).strftime("%Y-%m-"))
    with pytest.raises(RpcError, match="format must be one of: json, text"):
        mint.node.rpc("cashu-info", format="xml")


def test_rows_that_hold_groups_are_paragraphs() -> None:
    rows = [{"handle": "a-1", "evidence": {"xpay": "in flight", "parts": [{"id": 1}, {"id": 12}]}}, {"handle": "b-1"}]
    assert render({"melts": rows, "more": 0}).split("\n") == [
        "more  0",
        "melts:",
        "  handle  a-1",
        "  evidence:",
        "    xpay  in flight",
        "    parts:",
        "      id",
        "      1",
        "      12",
        "",
        "  handle  b-1",
    ]
