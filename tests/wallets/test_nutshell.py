"""Nutshell's wallet, the reference in Python, driven through its command line."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from contrib.sandbox import Behaviour
from tests.wallets import installs
from tests.wallets.conftest import GetMint, require
from tests.wallets.mints import Mint

TIME_LIMIT_S = 60
COMMAND_LINE = "from cashu.wallet.cli.cli import cli; cli()"
BOTH_FEES = pytest.mark.parametrize("mint", [0, 100], indirect=True, ids=["0ppk", "100ppk"])


class Purse:
    """One of the wallets in a directory."""

    def __init__(self, program: installs.Program, mint: Mint, directory: Path, name: str, unit: str = "sat") -> None:
        self._program = program
        self._mint = mint
        self._directory = directory
        self._name = name
        self._unit = unit

    def run(self, *arguments: str, fails: bool = False, typed: str = "") -> str:
        """A command; returns what it prints. It must end well, or not (`fails`)."""
        environment = {
            **os.environ,
            "HOME": str(self._directory),
            "CASHU_DIR": str(self._directory / "cashu"),
            "MINT_URL": self._mint.url,
            "TOR": "FALSE",
            "NO_PROXY": "127.0.0.1",
        }
        who = ("--host", self._mint.url, "--wallet", self._name, "--unit", self._unit, "--yes")
        done = subprocess.run(
            [str(self._program.python), "-c", COMMAND_LINE, *who, *arguments],
            cwd=self._directory,
            env=environment,
            input=typed,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIME_LIMIT_S,
        )
        text = done.stdout + done.stderr
        if (done.returncode != 0) is not fails:
            pytest.fail(f"cashu {' '.join(arguments)} ended with {done.returncode}\n{text}", pytrace=False)
        return text

    def fund(self, amount: int) -> None:
        """Mint ecash into the empty purse: the wallet hears of the payment by the WebSocket."""
        said = self.run("invoice", str(amount))
        assert "Invoice paid." in said
        assert balance(said) == amount

    def send(self, amount: int, *options: str) -> str:
        """A token."""
        return _last(r"(cashuB\S+)", self.run("send", str(amount), *options))

    def receive(self, token: str) -> int:
        """How much a token was worth."""
        return int(_last(r"Received ([\d,]+)", self.run("receive", token)).replace(",", ""))


def balance(said: str) -> int:
    """What a command says is left."""
    return int(_last(r"Balance: ([\d,]+)", said).replace(",", ""))


def _last(pattern: str, text: str) -> str:
    found: list[str] = re.findall(pattern, text)
    assert found, text
    return found[-1]


GetPurse = Callable[..., Purse]


@pytest.fixture
def program() -> installs.Program:
    return require(installs.nutshell)


@pytest.fixture
def mint(program: installs.Program, request: pytest.FixtureRequest, shared_mint: GetMint) -> Mint:
    """A mint whose invoices are paid by themselves; its input fee is 100 ppk where the test has no parameter for it."""
    return shared_mint(getattr(request, "param", 100), auto=True)


@pytest.fixture
def purse(program: installs.Program, mint: Mint, tmp_path: Path) -> GetPurse:
    """Gives the purse of that name."""
    return lambda name="alice", unit="sat": Purse(program, mint, tmp_path, name, unit)


@BOTH_FEES
def test_mint_send_receive(purse: GetPurse) -> None:
    alice, bob = purse("alice"), purse("bob")
    alice.fund(1000)
    token = alice.send(77, "--include-fees", "--dleq")
    assert "cashuB" in alice.run("pending")
    assert bob.receive(token) == 77
    assert "(Code: 11001)" in alice.run("receive", token, fails=True)
    alice.run("burn", "-a")
    assert "cashuB" not in alice.run("pending")
    assert 1000 - 77 - 2 <= balance(alice.run("balance")) <= 1000 - 77


def test_selfpay(purse: GetPurse) -> None:
    alice = purse()
    alice.fund(1000)
    alice.run("selfpay")
    assert 990 <= balance(alice.run("balance")) < 1000


def test_p2pk(purse: GetPurse) -> None:
    alice, bob, carol = purse("alice"), purse("bob"), purse("carol")
    alice.fund(200)
    lock = _last(r"(P2PK:[0-9a-f]{66})", bob.run("lock", "p2pk"))
    token = alice.send(64, "--lock", lock)
    assert "(Code: 20008)" in carol.run("receive", token, fails=True)
    assert bob.receive(token) == 63  # what was sent, less the fee for spending it


@pytest.mark.parametrize("options", [[], ["--async"]], ids=["sync", "async"])
def test_pay(options: list[str], purse: GetPurse, mint: Mint) -> None:
    """`--async` changes nothing that can be seen: this wallet waits for the outcome either way."""
    alice = purse()
    alice.fund(1000)
    invoice = mint.node.outside_invoice(300_000)
    said = alice.run("pay", *options, invoice.bolt11)
    assert f"(Preimage: {invoice.preimage})" in said
    assert 1000 - 300 - 5 <= balance(said) <= 1000 - 300


def test_pay_that_fails(purse: GetPurse, mint: Mint) -> None:
    alice = purse()
    alice.fund(1000)
    refused = mint.node.outside_invoice(300_000, behaviour=Behaviour.failure())
    assert "(Code: 20004)" in alice.run("pay", refused.bolt11)
    said = alice.run("pay", mint.node.outside_invoice(900_000).bolt11)
    assert "Invoice paid." in said


def test_restore(purse: GetPurse) -> None:
    alice = purse("alice")
    alice.fund(500)
    said = alice.run("send", "77", "--include-fees")
    purse("bob").receive(_last(r"(cashuB\S+)", said))
    words = _last(r"Mnemonic:\n - (.+)", alice.run("info", "--mnemonic"))
    found = purse("found").run("restore", "--batch", "25", "--to", "2", typed=f"{words}\n")
    assert balance(found) == balance(said)


def test_a_second_unit(purse: GetPurse, mint: Mint) -> None:
    alice = purse(unit="msat")
    alice.fund(50_000)
    said = alice.run("pay", mint.node.outside_invoice(10_000).bolt11)
    assert 40_000 - 5_000 <= balance(said) <= 40_000
