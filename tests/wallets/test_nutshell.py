"""Nutshell's wallet, the reference in Python, driven through its command line."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.wallets import installs
from tests.wallets.conftest import GetMint, require
from tests.wallets.mints import PLACES, Mint, run_script

TIME_LIMIT_S = 60
COMMAND_LINE = "from cashu.wallet.cli.cli import cli; cli()"
HTLC_SCRIPT = Path(__file__).parent / "nutshell" / "htlc.py"
WITH_A_FEE = [pytest.param((place, 100), id=f"{place}-100ppk") for place in PLACES]
BOTH_FEES = [pytest.param(("sandbox", 0), id="sandbox-0ppk"), *WITH_A_FEE]


def settings(directory: Path) -> dict[str, str]:
    """Environment variables for the wallets of a directory."""
    return {"HOME": str(directory), "CASHU_DIR": str(directory / "cashu"), "TOR": "FALSE", "NO_PROXY": "127.0.0.1"}


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
        with self._start(*arguments) as wallet:
            text, _ = wallet.communicate(typed)
        return self._ended(wallet, text, fails=fails)

    def fund(self, amount: int) -> None:
        """Mint ecash into the empty purse: somebody pays, and the wallet hears of it by the WebSocket."""
        text = ""
        with self._start("invoice", str(amount)) as wallet:
            assert wallet.stdout is not None
            for line in wallet.stdout:
                text += line
                if invoice := re.match(r"Invoice: (\S+)", line):
                    self._mint.node("sandbox-pay", bolt11=invoice[1])
        said = self._ended(wallet, text)
        assert "Invoice paid." in said
        assert balance(said) == amount

    @contextmanager
    def _start(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """A command under way, which is killed when it takes too long."""
        who = ("--host", self._mint.url, "--wallet", self._name, "--unit", self._unit, "--yes")
        with subprocess.Popen(
            [str(self._program.python), "-c", COMMAND_LINE, *who, *arguments],
            cwd=self._directory,
            env={**os.environ, "MINT_URL": self._mint.url, **settings(self._directory)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as wallet:
            limit = threading.Timer(TIME_LIMIT_S, wallet.kill)
            limit.start()
            try:
                yield wallet
            except BaseException:
                wallet.kill()
                raise
            finally:
                limit.cancel()

    @staticmethod
    def _ended(wallet: subprocess.Popen[str], text: str, *, fails: bool = False) -> str:
        if (wallet.returncode != 0) is not fails:
            pytest.fail(f"{wallet.args!r} ended with {wallet.returncode}\n{text}", pytrace=False)
        return text

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


@pytest.fixture(params=WITH_A_FEE)
def mint(program: installs.Program, request: pytest.FixtureRequest, shared_mint: GetMint) -> Mint:
    """A mint; place and input fee in ppk are its parameter."""
    return shared_mint(*request.param)


@pytest.fixture
def purse(program: installs.Program, mint: Mint, tmp_path: Path) -> GetPurse:
    """Gives the purse of that name."""
    return lambda name="alice", unit="sat": Purse(program, mint, tmp_path, name, unit)


@pytest.mark.parametrize("mint", BOTH_FEES, indirect=True)
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


def test_htlc(purse: GetPurse, program: installs.Program, mint: Mint, tmp_path: Path) -> None:
    purse("alice").fund(200)
    run_script([program.python, HTLC_SCRIPT], mint, **settings(tmp_path))


@pytest.mark.parametrize("options", [[], ["--async"]], ids=["sync", "async"])
def test_pay(options: list[str], purse: GetPurse, mint: Mint) -> None:
    """`--async` changes nothing that can be seen: this wallet waits for the outcome either way."""
    alice = purse()
    alice.fund(1000)
    invoice = mint.node("sandbox-invoice", amount_msat=300_000)
    said = alice.run("pay", *options, invoice["bolt11"])
    preimage = _last(r"\(Preimage: ([0-9a-f]{64})\)", said)
    assert hashlib.sha256(bytes.fromhex(preimage)).hexdigest() == invoice["payment_hash"]
    assert 1000 - 300 - 5 <= balance(said) <= 1000 - 300


def test_pay_that_fails(purse: GetPurse, mint: Mint) -> None:
    alice = purse()
    alice.fund(1000)
    refused = mint.node("sandbox-invoice", amount_msat=300_000, behaviour="failure")
    assert "(Code: 20004)" in alice.run("pay", refused["bolt11"])
    said = alice.run("pay", mint.node("sandbox-invoice", amount_msat=900_000)["bolt11"])
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
    said = alice.run("pay", mint.node("sandbox-invoice", amount_msat=10_000)["bolt11"])
    assert 40_000 - 5_000 <= balance(said) <= 40_000
