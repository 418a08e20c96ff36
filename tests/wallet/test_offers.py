"""The wallet with offers (bolt12), and the mint itself on the stand-in node."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from contrib.sandbox import Behaviour
from contrib.sandbox import bolt12 as node_bolt12
from contrib.wallet import MintError, Wallet, WalletError, bolt12
from contrib.wallet.cli import main
from contrib.wallet.client import MintClient
from contrib.wallet.errors import InvoiceError, ProtocolError
from ledger.errors import Code
from ledger.models import MeltQuoteState
from tests.wallet.test_real_mint import PATIENCE_S, Mint


@pytest.fixture(scope="module")
def mint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mint]:
    mint = Mint(tmp_path_factory.mktemp("node"))
    with mint.node:
        assert mint.node.plugin_disabled is None, mint.node.plugin_disabled
        mint.wait_ready()
        yield mint


def run(mint: Mint, path: Path, *arguments: str, fails: bool = False) -> Result:
    result = CliRunner().invoke(main, ["--mint", mint.url, "--wallet", str(path / "wallet.sqlite"), *arguments])
    assert result.exit_code == (1 if fails else 0), result.output
    return result


def run_json(mint: Mint, path: Path, *arguments: str) -> Any:
    return json.loads(run(mint, path, "--json", *arguments).stdout)


# --- offers as texts --------------------------------------------------------------------------------------------------

NODE = "02" + "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"


CUT = node_bolt12.make_offer(NODE, "regtest", amount=5_000).text[:-9]


@pytest.mark.parametrize(
    ("content", "amount_msat"),
    [
        ({"amount": 5_000}, 5_000),
        ({"amount": 2**40, "description": "d" * 300, "recurs": True}, 2**40),
        ({"description": "any"}, None),
        ({"amount": 100, "currency": "USD"}, None),
    ],
)
def test_the_amount_of_an_offer_is_read(content: dict[str, Any], amount_msat: int | None) -> None:
    text = node_bolt12.make_offer(NODE, "regtest", **content).text
    for written in (text, text.upper(), f"lightning:{text}", f"{text[:9]}+\n {text[9:]}"):
        assert bolt12.looks_like_offer(written)
        assert bolt12.decode(written).amount_msat == amount_msat


@pytest.mark.parametrize("text", ["", "lno", "lnbc1x", "lno1!", "lno1ß", "lno1pg", CUT])
def test_what_is_no_offer_is_refused(text: str) -> None:
    with pytest.raises(InvoiceError):
        bolt12.decode(text)


# --- getting ecash ----------------------------------------------------------------------------------------------------


def test_an_offer_is_issued_for_as_often_as_it_is_paid(mint: Mint) -> None:
    with mint.wallet() as wallet:
        quote = wallet.request_offer(None, "coffee ☕")
        with pytest.raises(WalletError, match="nothing has been paid"):
            wallet.mint(quote.quote)
        for paid, balance in ((100, 100), (23, 123)):
            mint.node.pay_invoice(quote.request, paid * 1000)
            wallet.wait_offer(quote.quote, PATIENCE_S)
            assert sum(proof.amount for proof in wallet.mint(quote.quote)) == paid
            assert wallet.balance() == balance
        mint.node.pay_invoice(quote.request, 50_000)
        wallet.wait_offer(quote.quote, PATIENCE_S)
        assert sum(proof.amount for proof in wallet.mint(quote.quote, 20)) == 20
        assert wallet.mint_all() == {quote.quote: 30}
        assert wallet.mint_all() == {}
        assert wallet.balance() == 173


def test_an_offer_over_an_amount_is_checked(mint: Mint) -> None:
    with mint.wallet() as wallet:
        quote = wallet.request_offer(21)
        assert quote.amount == 21
        mint.node.pay_invoice(quote.request)
        wallet.wait_offer(quote.quote, PATIENCE_S)
        wallet.mint(quote.quote)
        with pytest.raises(WalletError):
            wallet.request_offer(0)


def test_every_offer_has_a_key_of_its_own_and_nobody_else_can_issue(mint: Mint) -> None:
    with mint.wallet() as alice, mint.wallet() as mallory:
        quotes = [alice.request_offer(5) for _ in range(2)]
        assert quotes[0].pubkey != quotes[1].pubkey
        mint.node.pay_invoice(quotes[0].request)
        alice.wait_offer(quotes[0].quote, PATIENCE_S)
        mallory.offer(quotes[0].quote)  # he has seen the quote's id
        with pytest.raises(MintError) as refused:
            mallory.mint(quotes[0].quote)
        assert refused.value.code == Code.SIGNATURE_INVALID
        alice.mint(quotes[0].quote)


@pytest.mark.parametrize("change", [{"amount": 6}, {"pubkey": NODE}, {"unit": "msat"}, {"request": None}])
def test_an_offer_for_something_else_is_refused(
    mint: Mint, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    honest = MintClient.request_mint_offer
    other = node_bolt12.make_offer(NODE, "regtest", amount=6_000).text

    def tampered(self: MintClient, *arguments: Any, **options: Any) -> Any:
        update = {name: other if value is None else value for name, value in change.items()}
        return honest(self, *arguments, **options).model_copy(update=update)

    monkeypatch.setattr(MintClient, "request_mint_offer", tampered)
    with mint.wallet() as wallet, pytest.raises(ProtocolError):
        wallet.request_offer(5)


def test_an_issue_that_was_cut_off_is_finished_later(mint: Mint, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request arrives, the wallet dies before the answer: the next call finds the ecash."""
    honest = MintClient.mint

    class DeathError(BaseException):
        pass

    def dying(self: MintClient, *arguments: Any, **options: Any) -> Any:
        honest(self, *arguments, **options)
        raise DeathError

    with mint.wallet() as wallet:
        quote = wallet.request_offer(None)
        mint.node.pay_invoice(quote.request, 77_000)
        wallet.wait_offer(quote.quote, PATIENCE_S)
        with monkeypatch.context() as patch:
            patch.setattr(MintClient, "mint", dying)
            with pytest.raises(DeathError):
                wallet.mint(quote.quote)
        assert wallet.balance() == 0
        assert sum(proof.amount for proof in wallet.mint(quote.quote)) == 77
        assert wallet.balance() == 77


# --- paying -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefer_async", [False, True])
def test_an_offer_is_paid_as_often_as_it_is_asked_for(mint: Mint, prefer_async: bool) -> None:
    with mint.wallet() as wallet:
        mint.fund(wallet, 1000)
        named, open_ = str(mint.node.outside_offer(100_000)), str(mint.node.outside_offer(None))
        for offer, amount_msat in ((named, None), (named, None), (open_, 30_000), (open_, 20_000)):
            quote = wallet.melt(offer, prefer_async, amount_msat=amount_msat)
            quote = wallet.wait_melt(quote.quote, PATIENCE_S)
            assert quote.state == MeltQuoteState.PAID
            assert wallet.preimage_is_valid(quote) is None
        assert wallet.balance() == 1000 - 250 - 4  # a fee of 1 sat each
        with pytest.raises(WalletError, match="names no amount"):
            wallet.melt(open_)
        with pytest.raises(MintError) as refused:
            wallet.melt(named, amount_msat=99_000)
        assert refused.value.code == Code.AMOUNT_MISMATCH


def test_a_mint_that_asks_for_more_than_the_offer_is_refused(mint: Mint, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = MintClient.request_melt_quote

    def tampered(self: MintClient, *arguments: Any, **options: Any) -> Any:
        quote = honest(self, *arguments, **options)
        return quote.model_copy(update={"amount": quote.amount + 1})

    monkeypatch.setattr(MintClient, "request_melt_quote", tampered)
    with mint.wallet() as wallet:
        for amount_msat, option in ((5_000, None), (None, 5_000)):
            with pytest.raises(ProtocolError):
                wallet.melt_quote(str(mint.node.outside_offer(amount_msat)), amount_msat=option)


def test_a_held_payment_is_found_by_the_next_process(mint: Mint, tmp_path: Path) -> None:
    path = tmp_path / "wallet.sqlite"
    offer = mint.node.outside_offer(100_000, behaviour=Behaviour.hold())
    with mint.wallet(path) as wallet:
        mint.fund(wallet, 200)
        assert wallet.melt(str(offer), prefer_async=True).state == MeltQuoteState.PENDING
    (invoice,) = mint.node.outside_invoices(offer)
    mint.node.wait_for_part(invoice)
    mint.node.release(invoice)
    with mint.wallet(path) as wallet:
        (operation,) = wallet.pending()
        assert operation.quote is not None
        assert wallet.wait_melt(operation.quote, PATIENCE_S).state == MeltQuoteState.PAID
        assert wallet.balance() == 99


def test_from_wallet_to_wallet(mint: Mint) -> None:
    with mint.wallet() as alice, mint.wallet() as bob:
        mint.fund(alice, 100)
        quote = bob.request_offer(None)
        for amount in (30, 20):
            alice.melt(quote.request, amount_msat=amount * 1000)
            bob.wait_offer(quote.quote, PATIENCE_S)
            bob.mint(quote.quote)
        assert (alice.balance(), bob.balance()) == (50, 50)


# --- the command line -------------------------------------------------------------------------------------------------


def test_the_command_line_gets_and_spends_by_offers(mint: Mint, tmp_path: Path) -> None:
    made = run_json(mint, tmp_path, "offer", "--no-wait", "--description", "coffee")
    assert made["request"].startswith("lno1")
    assert (made["amount"], made["expires"]) == (None, None)
    assert "any" in run(mint, tmp_path, "quotes").stdout
    for amount in (300, 200):
        mint.node.pay_invoice(made["request"], amount * 1000)
        with Wallet(mint.url, tmp_path / "wallet.sqlite") as wallet:
            wallet.wait_offer(made["quote"], PATIENCE_S)
        assert run_json(mint, tmp_path, "mint", made["quote"])["issued"] == {made["quote"]: amount}
    assert "ISSUED" in run(mint, tmp_path, "quotes").stdout
    named, open_ = str(mint.node.outside_offer(100_000)), str(mint.node.outside_offer(None))
    paid = run(mint, tmp_path, "pay", named)
    assert "paid 100 sat, 1 sat fees" in paid.stdout
    assert "no proof" not in paid.stdout
    assert run_json(mint, tmp_path, "pay", "--async", open_, "--amount", "50")["state"] == "PAID"
    assert run_json(mint, tmp_path, "pay", open_, "--amount-msat", "7000")["amount"] == 7
    assert "names no amount" in run(mint, tmp_path, "pay", open_, fails=True).stderr
    assert "can't resolve names" in run(mint, tmp_path, "pay", "a@b.example", "--amount", "5", fails=True).stderr
    assert run_json(mint, tmp_path, "balance")["available"] == 500 - 157 - 3


def test_the_command_line_waits_for_the_first_payment(mint: Mint, tmp_path: Path) -> None:
    mint.node.settings.auto = True
    try:
        assert "received 21 sat" in run(mint, tmp_path, "offer", "21").stdout
    finally:
        mint.node.settings.auto = False
    assert "not paid within" in run(mint, tmp_path, "offer", "--timeout", "0.1", fails=True).stderr
