"""The wallet on the chain, with the mint itself on the stand-in node: deposits, and payments that take blocks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from contrib.wallet import MintError, MintUnreachableError, Wallet, WalletError, cli_onchain, onchain_client
from contrib.wallet.cli import main
from contrib.wallet.onchain import OnchainWallet, option_of
from ledger.errors import Code
from ledger.models import MeltQuoteState
from tests.wallet.test_real_mint import PATIENCE_S, Mint

assert cli_onchain
AMOUNT = 20_000
CONFIRMATIONS = 3


@pytest.fixture(scope="module")
def mint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mint]:
    mint = Mint(tmp_path_factory.mktemp("node"), 100)
    with mint.node:
        mint.wait_ready()
        mint.node.chain.give_coins(*[1_000_000] * 8)
        yield mint


def fund(mint: Mint, wallet: Wallet, amount: int = 5 * AMOUNT) -> OnchainWallet:
    """Ecash for a deposit."""
    onchain = OnchainWallet(wallet)
    quote = onchain.request_mint()
    mint.node.chain.deposit(quote.request, amount, blocks=CONFIRMATIONS)
    assert onchain.wait_mint(quote.quote, PATIENCE_S).amount_paid == amount
    assert sum(proof.amount for proof in onchain.mint(quote.quote)) == amount
    return onchain


def confirm(mint: Mint, onchain: OnchainWallet, quote_id: str) -> None:
    """Blocks, once the transaction is sent."""
    mint.node.wait_until(lambda: onchain.check_melt(quote_id).outpoint is not None, timeout_s=PATIENCE_S)
    mint.node.chain.mine(CONFIRMATIONS)


def test_a_deposit_is_issued_when_it_is_confirmed_and_again_for_the_next(mint: Mint) -> None:
    wallet = mint.wallet()
    onchain = OnchainWallet(wallet)
    quote = onchain.request_mint()
    assert onchain.mint(quote.quote) == []
    mint.node.chain.deposit(quote.request, AMOUNT, blocks=CONFIRMATIONS - 1)
    assert onchain.wait_mint(quote.quote, 0.2).amount_paid == 0
    mint.node.chain.mine()
    onchain.wait_mint(quote.quote, PATIENCE_S)
    assert onchain.mint_all() == {quote.quote: AMOUNT}
    assert onchain.mint_all() == {}
    mint.node.chain.deposit(quote.request, 2 * AMOUNT, blocks=CONFIRMATIONS)
    onchain.wait_mint(quote.quote, PATIENCE_S)
    onchain.mint(quote.quote)
    assert wallet.balance() == 3 * AMOUNT


def test_a_payment_is_pending_for_some_blocks_and_its_change_comes_back(mint: Mint) -> None:
    wallet = mint.wallet()
    onchain = fund(mint, wallet)
    quote = onchain.melt_quote(mint.node.chain.outside_address(1), AMOUNT)
    option = option_of(quote, None)
    assert option.fee_index == 1
    quote = onchain.melt(quote, option.fee_index)
    assert (quote.state, quote.selected_fee_index) == (MeltQuoteState.PENDING, 1)
    assert [operation.state for operation in wallet.check_pending()] == ["pending"]
    confirm(mint, onchain, quote.quote)
    paid = onchain.wait_melt(quote.quote, PATIENCE_S)
    assert paid.state == MeltQuoteState.PAID
    fee = mint.node.chain.fee_of((paid.outpoint or "")[:64])
    cost = wallet.melt_cost(quote.quote)
    assert cost is not None
    assert AMOUNT + fee < cost < AMOUNT + fee + 10  # the input fee
    assert wallet.balance() == 5 * AMOUNT - cost
    assert wallet.pending() == []


def test_a_refused_payment_leaves_the_ecash_free(mint: Mint) -> None:
    wallet = mint.wallet()
    onchain = fund(mint, wallet)
    quote = onchain.melt_quote(mint.node.chain.outside_address(2), AMOUNT)
    with pytest.raises(WalletError, match="offers no fee 7"):
        onchain.melt(quote, 7)
    bad = quote.model_copy(update={"fee_options": [quote.fee_options[0].model_copy(update={"fee_index": 9})]})
    with pytest.raises(MintError) as refused:
        onchain.melt(bad, 9)
    assert refused.value.code == Code.QUOTE_REJECTED
    with pytest.raises(MintError):
        onchain.melt_quote("garbage", AMOUNT)
    assert wallet.balance() == 5 * AMOUNT


def test_a_failed_payment_leaves_the_ecash_free_and_says_why(mint: Mint) -> None:
    wallet = mint.wallet()
    onchain = fund(mint, wallet)
    quote = onchain.melt_quote(mint.node.chain.outside_address(3), AMOUNT)
    mint.node.fail_rpc("signpsbt", -1, "no")
    onchain.melt(quote, 0)
    failed = onchain.wait_melt(quote.quote, PATIENCE_S)
    assert (failed.state, failed.error) == (MeltQuoteState.UNPAID, "the node could not make the transaction")
    assert wallet.balance() == 5 * AMOUNT


def test_a_wallet_that_died_over_it_finds_out(mint: Mint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request was taken and its answer is lost: another process finishes what the first began."""
    path = tmp_path / "wallet.sqlite"
    wallet = mint.wallet(path)
    onchain = fund(mint, wallet)
    quote = onchain.melt_quote(mint.node.chain.outside_address(4), AMOUNT)
    real, real_look = onchain_client.melt, onchain_client.melt_quote

    def lost(*arguments: object) -> object:
        real(*arguments)  # type: ignore[arg-type]
        raise MintUnreachableError("lost")

    monkeypatch.setattr(onchain_client, "melt", lost)
    monkeypatch.setattr(onchain_client, "melt_quote", lambda *_: (_ for _ in ()).throw(MintUnreachableError("lost")))
    with pytest.raises(MintUnreachableError):
        onchain.melt(quote, 0)
    wallet.close()
    monkeypatch.setattr(onchain_client, "melt_quote", real_look)
    with mint.wallet(path) as again:
        assert [operation.state for operation in again.recover()] == ["pending"]
        confirm(mint, OnchainWallet(again), quote.quote)
        mint.node.wait_until(lambda: again.check_pending() == [], timeout_s=PATIENCE_S)
        assert again.balance() == 5 * AMOUNT - (again.melt_cost(quote.quote) or 0)
        assert (again.store.mint_quotes(again.mint_url), again.store.melt_quotes(again.mint_url)) == ([], [])


def test_the_commands(mint: Mint, tmp_path: Path) -> None:
    def run(*arguments: str) -> dict[str, object]:
        options = ["--mint", mint.url, "--wallet", str(tmp_path / "wallet.sqlite"), "--json"]
        result = CliRunner().invoke(main, [*options, *arguments])
        assert result.exit_code == 0, result.output
        found: dict[str, object] = json.loads(result.stdout)
        return found

    quote = run("address")
    mint.node.chain.deposit(str(quote["request"]), 5 * AMOUNT, blocks=CONFIRMATIONS)
    mint.node.wait_until(lambda: bool(run("collect")["issued"]), timeout_s=PATIENCE_S)
    paying = run("withdraw", mint.node.chain.outside_address(5), str(AMOUNT), "--fee-index", "2")
    assert (paying["state"], paying["selected_fee_index"]) == ("PENDING", 2)
    with mint.wallet(tmp_path / "wallet.sqlite") as wallet:
        confirm(mint, OnchainWallet(wallet), str(paying["quote"]))
    mint.node.wait_until(lambda: run("pending")["operations"] == [], timeout_s=PATIENCE_S)
    balance = run("balance")["available"]
    assert isinstance(balance, int)
    assert 0 < 4 * AMOUNT - balance < 1000
    run("quotes")
