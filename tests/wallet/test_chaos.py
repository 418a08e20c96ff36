"""Several wallets use the mint at once while its process is killed again and again; in the end every sat is there."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import pytest

from contrib.sandbox import Behaviour, OutsideInvoice, SandboxNode
from contrib.wallet import MintError, MintUnreachableError, NotEnoughFundsError, Wallet, WalletError
from ledger.models import MeltQuoteState
from tests.wallet.test_real_mint import PATIENCE_S, Mint

WALLETS = 4
DURATION_S = 15.0
START = 2000
MIN_ACTS = 20
"""Fewer would mean that hardly anything got through between the kills."""


class User(threading.Thread):
    """Does one thing after another with a wallet, whatever the mint does."""

    def __init__(self, mint: Mint, path: Path, number: int) -> None:
        super().__init__(name=f"user {number}")
        self.mint, self.path = mint, path
        self.random = random.Random(number)
        self.stop_at = time.monotonic() + DURATION_S
        self.failure: BaseException | None = None
        self.done: dict[str, int] = {}
        self.held: list[OutsideInvoice] = []

    def run(self) -> None:
        try:
            while time.monotonic() < self.stop_at:
                # A new wallet object for each turn, as the command line would have it.
                with self.mint.wallet(self.path) as wallet:
                    act = self.random.choice([self.split, self.send, self.melt, self.melt_async, self.hold, self.fund])
                    try:
                        act(wallet)
                        self.done[act.__name__] = self.done.get(act.__name__, 0) + 1
                    except (MintUnreachableError, NotEnoughFundsError):
                        time.sleep(0.05)
                    except MintError as error:
                        if error.code not in (20004,):
                            raise
        except BaseException as error:
            self.failure = error

    def split(self, wallet: Wallet) -> None:
        wallet.split([1, 1, 2, 8])

    def send(self, wallet: Wallet) -> None:
        wallet.receive(wallet.send(self.random.randint(3, 60), include_fees=True))

    def fund(self, wallet: Wallet) -> None:
        quote = wallet.request_mint(50)
        self.mint.node.pay_invoice(quote.request)
        wallet.wait_mint(quote.quote, 2)
        wallet.mint(quote.quote)

    def melt(self, wallet: Wallet) -> None:
        behaviour = self.random.choice([Behaviour.success(), Behaviour.failure()])
        wallet.melt(self.mint.node.outside_invoice(30_000, behaviour=behaviour).bolt11)

    def melt_async(self, wallet: Wallet) -> None:
        behaviour = self.random.choice([Behaviour.success(), Behaviour.failure()])
        invoice = self.mint.node.outside_invoice(20_000, behaviour=behaviour)
        wallet.melt(invoice.bolt11, prefer_async=True)
        wallet.check_pending()

    def hold(self, wallet: Wallet) -> None:
        invoice = self.mint.node.outside_invoice(10_000, behaviour=Behaviour.hold())
        self.held.append(invoice)
        assert wallet.melt(invoice.bolt11, prefer_async=True).state == MeltQuoteState.PENDING


def release_some(node: SandboxNode, users: list[User], dice: random.Random) -> None:
    for user in users:
        for invoice in list(user.held):
            if dice.random() < 0.5:
                node.release(invoice, ok=dice.random() < 0.5)


@pytest.mark.slow
@pytest.mark.parametrize("fee_ppk", [0, 100])
def test_every_sat_is_there(tmp_path: Path, fee_ppk: int) -> None:
    mint = Mint(tmp_path / "node", fee_ppk)
    dice = random.Random(fee_ppk)
    with mint.node as node:
        mint.wait_ready()
        paths = [tmp_path / f"{number}.sqlite" for number in range(WALLETS)]
        for path in paths:
            with mint.wallet(path) as wallet:
                mint.fund(wallet, START)
        users = [User(mint, path, number) for number, path in enumerate(paths)]
        for user in users:
            user.start()
        kills = 0
        while any(user.is_alive() for user in users):
            for _ in range(dice.randint(3, 8)):
                time.sleep(0.3)
                release_some(node, users, dice)
            if dice.random() < 0.5:
                node.kill_plugin()
                time.sleep(dice.uniform(0, 0.2))
                node.start_plugin()
            else:
                node.restart(kill=True, kill_plugin=True)
            kills += 1
        assert [user.failure for user in users] == [None] * WALLETS
        mint.wait_ready()
        node.wait_connected()
        settle(mint, users)
        total = sum(books_of(mint, path) for path in paths)
        outstanding = node.rpc("cashu-info")["outstanding"]["sat"]
        assert total == outstanding, f"after {kills} kills and {[user.done for user in users]}"
        assert sum(sum(user.done.values()) for user in users) > MIN_ACTS, [user.done for user in users]


def settle(mint: Mint, users: list[User]) -> None:
    """Decide every payment, and have every wallet learn of it."""
    deadline = time.monotonic() + PATIENCE_S
    for user in users:
        while True:
            for invoice in user.held:
                mint.node.release(invoice, ok=False)
            with mint.wallet(user.path) as wallet:
                wallet.mint_all()
                wallet.check_pending()
                left = [op for op in wallet.pending() if op.state != "sent"]
            if not left:
                break
            assert time.monotonic() < deadline, left
            time.sleep(0.2)


def books_of(mint: Mint, path: Path) -> int:
    """What a wallet has, in hand and in tokens; its file, its words and the mint must agree on it."""
    with mint.wallet(path) as wallet:
        sums = wallet.balances()
        assert sums.pending == 0
        with mint.wallet(words=wallet.words) as again:
            restored = again.restore()
        assert restored.pending == 0
        assert restored.unspent == sums.available + sums.sent
        for operation in wallet.pending():
            try:
                wallet.reclaim(operation.id)
            except WalletError as error:  # a token worth less than its fee stays a token
                assert "worth nothing" in str(error)
        sums = wallet.balances()
        return sums.available + sums.sent
