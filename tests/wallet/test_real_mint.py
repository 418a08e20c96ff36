"""The wallet with the mint itself, on the stand-in node: the same flows, nothing faked in between."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from contrib.sandbox import Behaviour, SandboxNode
from contrib.wallet import MintError, Wallet, WalletError
from contrib.wallet.tokens import decode
from ledger.errors import Code
from ledger.models import MeltQuoteState, MintQuoteState

ENTRY_FILE = Path(__file__).parents[2] / "nutbolt.py"
PATIENCE_S = 30.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Mint:
    """A running mint on its node."""

    def __init__(self, directory: Path, input_fee_ppk: int = 0) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        options = {
            "cashu-listen": f"127.0.0.1:{port}",
            "cashu-input-fee-ppk": str(input_fee_ppk),
            "cashu-methods": "bolt11,bolt12,onchain",
        }
        self.node = SandboxNode(directory, plugin=ENTRY_FILE, options=options)

    def wallet(self, path: Path | str = ":memory:", words: str | None = None) -> Wallet:
        return Wallet(self.url, path, words=words)

    def fund(self, wallet: Wallet, amount: int) -> Wallet:
        quote = wallet.request_mint(amount)
        self.node.pay_invoice(quote.request)
        assert wallet.wait_mint(quote.quote, PATIENCE_S).state == MintQuoteState.PAID
        wallet.mint(quote.quote)
        return wallet

    def wait_ready(self) -> None:
        with Wallet(self.url) as wallet:
            deadline = time.monotonic() + PATIENCE_S
            while True:
                try:
                    wallet.client.keysets()
                    break
                except WalletError:
                    assert time.monotonic() < deadline, "the mint does not come up"
                    time.sleep(0.05)


@pytest.fixture(scope="module", params=[0, 100], ids=["free", "100 ppk"])
def mint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mint]:
    mint = Mint(tmp_path_factory.mktemp("node"), request.param)
    with mint.node:
        assert mint.node.plugin_disabled is None, mint.node.plugin_disabled
        mint.wait_ready()
        yield mint


def is_free(mint: Mint, wallet: Wallet) -> bool:
    return wallet.client.keysets()[0].input_fee_ppk == 0


def test_mint_send_receive(mint: Mint) -> None:
    alice, bob = mint.fund(mint.wallet(), 1000), mint.wallet()
    assert alice.balance() == 1000
    token = alice.send(77, include_fees=True, memo="a memo")
    assert bob.receive(token) >= 77
    with pytest.raises(MintError) as refused:
        mint.wallet().receive(token)
    assert refused.value.code == Code.PROOFS_SPENT
    assert [op.state for op in alice.check_pending()] == ["done"]


def test_quotes_that_are_not_paid_or_issued_before(mint: Mint) -> None:
    alice = mint.wallet()
    quote = alice.request_mint(10)
    assert quote.pubkey is not None
    with pytest.raises(MintError) as refused:
        alice.mint(quote.quote)
    assert refused.value.code == Code.QUOTE_NOT_PAID
    mint.node.pay_invoice(quote.request)
    alice.wait_mint(quote.quote, PATIENCE_S)
    alice.mint(quote.quote)
    with pytest.raises(MintError) as refused:
        alice.mint(quote.quote)
    assert refused.value.code == Code.QUOTE_ISSUED
    assert alice.balance() == 10


@pytest.mark.parametrize("prefer_async", [False, True])
def test_melt(mint: Mint, prefer_async: bool) -> None:
    alice = mint.fund(mint.wallet(), 1000)
    quote = alice.melt(mint.node.outside_invoice(100_500).bolt11, prefer_async=prefer_async)
    if quote.state == MeltQuoteState.PENDING:
        quote = alice.wait_melt(quote.quote, PATIENCE_S)
    assert quote.state == MeltQuoteState.PAID
    assert alice.preimage_is_valid(quote)
    cost = alice.melt_cost(quote.quote)
    assert cost is not None
    assert 101 <= cost <= 101 + quote.fee_reserve + 2
    assert alice.balance() == 1000 - cost
    assert alice.pending() == []


def test_an_async_melt_that_is_held_and_fails(mint: Mint) -> None:
    alice = mint.fund(mint.wallet(), 1000)
    invoice = mint.node.outside_invoice(100_000, behaviour=Behaviour.hold())
    quote = alice.melt(invoice.bolt11, prefer_async=True)
    assert quote.state == MeltQuoteState.PENDING
    assert alice.wait_melt(quote.quote, 0.3).state == MeltQuoteState.PENDING
    assert alice.balances().pending > 100
    mint.node.wait_for_part(invoice)
    mint.node.release(invoice, ok=False)
    quote = alice.wait_melt(quote.quote, PATIENCE_S)
    assert quote.state == MeltQuoteState.UNPAID
    assert quote.error
    assert alice.balance() == 1000
    quote = alice.melt(quote, prefer_async=True)
    assert alice.wait_melt(quote.quote, PATIENCE_S).state != MeltQuoteState.PENDING
    assert alice.balances().pending == 0


def test_an_async_melt_that_is_held_and_paid(mint: Mint) -> None:
    alice = mint.fund(mint.wallet(), 1000)
    invoice = mint.node.outside_invoice(100_000, behaviour=Behaviour.hold())
    quote = alice.melt(invoice.bolt11, prefer_async=True)
    assert quote.state == MeltQuoteState.PENDING
    mint.node.wait_for_part(invoice)
    mint.node.release(invoice)
    quote = alice.wait_melt(quote.quote, PATIENCE_S)
    assert quote.state == MeltQuoteState.PAID
    assert alice.preimage_is_valid(quote)
    assert alice.balances().pending == 0


def test_a_sync_melt_that_fails(mint: Mint) -> None:
    alice = mint.fund(mint.wallet(), 1000)
    invoice = mint.node.outside_invoice(100_000, behaviour=Behaviour.failure())
    with pytest.raises(MintError) as refused:
        alice.melt(invoice.bolt11)
    assert refused.value.code == Code.PAYMENT_FAILED
    assert alice.balance() == 1000


def test_amountless(mint: Mint) -> None:
    alice = mint.fund(mint.wallet(), 1000)
    quote = alice.melt(mint.node.outside_invoice(None).bolt11, amount_msat=50_001)
    assert (quote.state, quote.amount) == (MeltQuoteState.PAID, 51)


def test_paying_an_invoice_of_the_mint_itself(mint: Mint) -> None:
    alice, bob = mint.fund(mint.wallet(), 1000), mint.wallet()
    quote = bob.request_mint(100)
    assert alice.melt(quote.request).state == MeltQuoteState.PAID
    assert bob.wait_mint(quote.quote, PATIENCE_S).state == MintQuoteState.PAID
    bob.mint(quote.quote)
    assert bob.balance() == 100


def test_restore(mint: Mint) -> None:
    alice = mint.fund(mint.wallet(), 1000)
    alice.split([1] * 50)
    alice.melt(mint.node.outside_invoice(100_000).bolt11)
    alice.swap()
    held = mint.node.outside_invoice(10_000, behaviour=Behaviour.hold())
    melt = alice.melt(held.bolt11, prefer_async=True)
    again = mint.wallet(words=alice.words)
    found = again.restore()
    assert found.unspent == again.balance() == alice.balance()
    assert found.pending == alice.balances().pending > 0
    mint.node.wait_for_part(held)
    mint.node.release(held)
    alice.wait_melt(melt.quote, PATIENCE_S)
    again.restore()
    again.check_pending()
    assert again.balances() == alice.balances()
    mint.fund(again, 8)


def test_nothing_is_left_after_spending_all(mint: Mint) -> None:
    alice = mint.fund(mint.wallet(), 128)
    bob = mint.wallet()
    received = bob.receive(alice.send(128))
    assert received == (128 if is_free(mint, alice) else 127)
    assert alice.balance() == 0


def test_a_mint_that_dies_during_a_melt(tmp_path: Path) -> None:
    """The plugin is killed while the payment is held; the wallet gets its answer from the next one."""
    mint = Mint(tmp_path / "node")
    with mint.node:
        mint.wait_ready()
        alice = mint.fund(mint.wallet(tmp_path / "wallet"), 1000)
        invoice = mint.node.outside_invoice(100_000, behaviour=Behaviour.hold())
        quote = alice.melt(invoice.bolt11, prefer_async=True)
        mint.node.wait_for_part(invoice)
        mint.node.kill_plugin()
        with pytest.raises(WalletError, match="is it running"):
            alice.check_melt(quote.quote)
        alice.close()
        mint.node.release(invoice)
        mint.node.start_plugin()
        alice = mint.wallet(tmp_path / "wallet")
        assert alice.wait_melt(quote.quote, PATIENCE_S).state == MeltQuoteState.PAID
        assert alice.balance() == 1000 - (alice.melt_cost(quote.quote) or 0)


def test_a_mint_that_dies_during_a_sync_melt(tmp_path: Path) -> None:
    mint = Mint(tmp_path / "node")
    with mint.node:
        mint.wait_ready()
        alice = mint.fund(mint.wallet(), 1000)
        invoice = mint.node.outside_invoice(100_000, behaviour=Behaviour.hold())
        quote = alice.melt_quote(invoice.bolt11)
        assert alice.melt(quote, timeout=1).state == MeltQuoteState.PENDING
        mint.node.restart(kill=True, kill_plugin=True)
        mint.node.release(invoice, ok=False)
        assert alice.wait_melt(quote.quote, PATIENCE_S).state == MeltQuoteState.UNPAID
        assert alice.balance() == 1000


def test_rotation(tmp_path: Path) -> None:
    """Another fee makes a new keyset; the wallet goes on with what it has of the old one."""
    mint = Mint(tmp_path / "node")
    with mint.node:
        mint.wait_ready()
        alice = mint.fund(mint.wallet(), 1000)
        old = {proof.id for proof in alice.proofs()}
        invoice = mint.node.outside_invoice(100_000, behaviour=Behaviour.hold())
        melt = alice.melt(invoice.bolt11, prefer_async=True)
        mint.node.wait_for_part(invoice)
        mint.node.do(lambda node: node.options.update({"cashu-input-fee-ppk": "200"}))
        mint.node.restart()
        mint.wait_ready()
        mint.node.release(invoice)
        assert alice.wait_melt(melt.quote, PATIENCE_S).state == MeltQuoteState.PAID
        assert not {proof.id for proof in alice.swap()} & old
        token = decode(alice.send(333, include_fees=True))
        assert mint.wallet().receive(token) == 333
        assert token.amount == 333 + -(-len(token.proofs) // 5)
        before = alice.balance()
        assert alice.melt(mint.node.outside_invoice(100_000).bolt11).state == MeltQuoteState.PAID
        assert before - 105 <= alice.balance() <= before - 100
