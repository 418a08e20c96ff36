"""What the wallet's tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from contrib.wallet import MintClient, Wallet, wallet
from tests.wallet.fake_mint import URL, FakeMint, make_invoice

OpenWallet = Callable[..., Wallet]


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wallet, "POLL_FIRST_S", 0.001)


@pytest.fixture
def mint() -> FakeMint:
    return FakeMint()


@pytest.fixture
def open_wallet(tmp_path: Path) -> Iterator[OpenWallet]:
    """Opens wallets at a fake mint; the same name is the same file."""
    opened: list[Wallet] = []

    def open_one(mint: FakeMint, name: str = "alice", words: str | None = None) -> Wallet:
        client = MintClient(URL, transport=mint)
        one = Wallet(URL, tmp_path / f"{name}.sqlite", words=words, client=client)
        opened.append(one)
        return one

    yield open_one
    for one in opened:
        one.close()


@pytest.fixture
def funded(mint: FakeMint, open_wallet: OpenWallet) -> Wallet:
    """A wallet with 1000 sat."""
    return fund(open_wallet(mint), mint, 1000)


def fund(one: Wallet, mint: FakeMint, amount: int) -> Wallet:
    quote = one.request_mint(amount)
    mint.pay_mint_quote(quote.quote)
    one.mint(quote.quote)
    return one


def invoice(amount: int | None, number: int = 7) -> str:
    return make_invoice(None if amount is None else amount * 1000, number.to_bytes(32, "big"))
