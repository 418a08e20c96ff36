"""The command line, against the fake mint on a real socket."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from contrib.wallet.cli import main
from contrib.wallet.display import Display, Progress, printable
from tests.wallet.conftest import invoice
from tests.wallet.fake_mint import FakeMint, served

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def url(mint: FakeMint) -> Iterator[str]:
    with served(mint) as where:
        yield where


Run = Callable[..., Result]


@pytest.fixture
def run(url: str, tmp_path: Path) -> Run:
    """Runs a command of alice's wallet, or of another's; it must succeed unless `fails`."""

    def run_one(*arguments: str, who: str = "alice", fails: bool = False, stdin: str | None = None) -> Result:
        options = ["--mint", url, "--wallet", str(tmp_path / f"{who}.sqlite")]
        result = CliRunner().invoke(main, [*options, *arguments], input=stdin)
        assert result.exit_code == (1 if fails else 0), result.output
        if fails:
            assert result.stderr.splitlines()[-1].startswith(("error: ", '{"error"'))
            assert "Traceback" not in result.output
        return result

    return run_one


@pytest.fixture
def funded_run(run: Run, mint: FakeMint) -> Run:
    fund(run, mint, 1000)
    return run


def fund(run: Run, mint: FakeMint, amount: int) -> None:
    quote = json.loads(run("--json", "invoice", str(amount), "--no-wait").stdout)["quote"]
    mint.pay_mint_quote(quote)
    run("mint", quote)


def test_first_steps(run: Run, mint: FakeMint) -> None:
    result = run("balance")
    assert result.stdout == "0 sat\n"
    assert "write down the words" in result.stderr
    assert run("balance").stderr == ""
    assert len(run("seed").stdout.split()) == 12
    assert "keyset   01" in run("info").stdout
    assert run("quotes").stdout == "no quotes\n"
    assert run("pending").stdout == "nothing is on its way\n"
    assert run("mint").stdout == "no quote is waiting to be issued\n"


def test_invoice_waits_and_issues(run: Run, mint: FakeMint) -> None:
    def pay() -> None:
        while not mint.mint_quotes:
            time.sleep(0.01)
        time.sleep(0.1)
        mint.pay_mint_quote(next(iter(mint.mint_quotes)))

    payer = threading.Thread(target=pay)
    payer.start()
    lines = run("invoice", "21", "--description", "a test").stdout.splitlines()
    payer.join()
    assert lines[0].startswith("lnbcrt")
    assert lines[-1] == "received 21 sat"
    assert run("balance").stdout == "21 sat\n"


def test_an_invoice_that_is_not_paid(run: Run) -> None:
    result = run("invoice", "21", "--timeout", "0.1", fails=True)
    assert "was not paid" in result.stderr
    assert "run: mint mint-quote-1" in result.stderr


def test_mint_commands(run: Run, mint: FakeMint) -> None:
    for _ in range(2):
        run("invoice", "8", "--no-wait")
    mint.pay_mint_quote("mint-quote-1")
    assert "not paid (code 20001)" in run("mint", "mint-quote-2", fails=True).stderr
    assert run("mint").stdout == "received 8 sat for quote mint-quote-1\n"
    states = [line.split()[:2] for line in run("quotes").stdout.splitlines()]
    assert states == [["mint", "ISSUED"], ["mint", "UNPAID"]]


def test_send_and_receive(funded_run: Run) -> None:
    run = funded_run
    token = run("send", "77", "--memo", "lunch").stdout.strip()
    assert token.startswith("cashuB")
    assert run("balance").stdout == "923 sat\n77 sat in tokens that nobody has spent yet\n"
    assert run("receive", "-", who="bob", stdin=token + "\n").stdout == "received 77 sat\n"
    assert "already spent" in run("receive", token, who="carol", fails=True).stderr
    assert "done" in run("pending").stdout
    assert run("balance").stdout == "923 sat\n"


def test_reclaim(funded_run: Run) -> None:
    run = funded_run
    token = run("send", "77").stdout
    line = run("pending").stdout
    assert "not spent yet" in line
    assert run("pending", "--token", line.split()[0]).stdout == token
    assert run("pending", "--reclaim", line.split()[0]).stdout == "took back 77 sat\n"
    assert run("balance").stdout == "1000 sat\n"


def test_pay(funded_run: Run, mint: FakeMint) -> None:
    run = funded_run
    mint.network_fee = 2
    result = run("pay", invoice(100))
    assert result.stdout.splitlines()[0] == "paid 100 sat, 2 sat fees"
    assert "no proof" in result.stdout
    assert "fee at most 10 sat" in result.stderr
    assert "paid, or is paying" in run("pay", invoice(100)).stderr
    assert "over --max-fee" in run("pay", invoice(100, 8), "--max-fee", "5", fails=True).stderr
    assert run("balance").stdout == "898 sat\n"


def pending_until(outcome: Callable[[], None]) -> Callable[[dict[str, Any]], str]:
    """A payment that is pending for a moment from when it begins."""

    def begin(_quote: dict[str, Any]) -> str:
        threading.Timer(0.5, outcome).start()
        return "PENDING"

    return begin


def test_pay_async(funded_run: Run, mint: FakeMint) -> None:
    run = funded_run
    mint.payments = pending_until(lambda: mint.settle("melt-quote-2"))
    result = run("pay", invoice(100), "--async")
    assert "paying: PENDING, 0 s" in result.stderr.splitlines()
    assert result.stdout.startswith("paid 100 sat, 0 sat fees")


def test_pay_without_waiting(funded_run: Run, mint: FakeMint) -> None:
    run = funded_run
    mint.payments = lambda quote: "PENDING"
    assert "`pending` tells" in run("pay", invoice(100), "--async", "--no-wait").stdout
    assert "the mint is paying" in run("pending").stdout
    assert "it goes on" in run("pay", invoice(100), "--timeout", "0.1", fails=True).stderr
    mint.release("melt-quote-2", "no route found")
    assert "failed: no route found" in run("pending").stdout
    assert run("balance").stdout == "1000 sat\n"


def test_a_payment_that_fails_later(funded_run: Run, mint: FakeMint) -> None:
    run = funded_run
    mint.payments = pending_until(lambda: mint.release("melt-quote-2", "no route\x1b[2J found"))
    result = run("pay", invoice(100), "--async", fails=True)
    assert "the payment failed: no route [2J found; the ecash is free again" in result.stderr


def test_a_payment_whose_answer_is_lost(funded_run: Run, mint: FakeMint) -> None:
    run = funded_run
    lost: list[str] = []

    def lose(path: str) -> bool:
        # The mint goes away for a while after it has paid.
        lost.extend([path] if path == "/v1/melt/bolt11" else [])
        return bool(lost)

    mint.lose_answer = lose
    assert "not known yet: see `pending`" in run("pay", invoice(100), fails=True).stderr
    assert "is still open" in run("balance").stderr
    mint.lose_answer = lambda path: False
    assert run("balance").stdout == "900 sat\n"


def test_a_payment_that_fails_at_once(funded_run: Run, mint: FakeMint) -> None:
    mint.payments = lambda quote: "FAILED"
    assert "no route (code 20004)" in funded_run("pay", invoice(100), fails=True).stderr


def test_restore(funded_run: Run) -> None:
    words = funded_run("seed").stdout
    result = funded_run("restore", "--words-from-stdin", who="again", stdin=words)
    assert result.stdout.splitlines()[-1] == "new here: 1000 sat; balance: 1000 sat"
    other = "abandon " * 11 + "about"
    assert "other words" in funded_run("restore", "--words-from-stdin", stdin=other, fails=True).stderr
    assert "BIP-39" in funded_run("restore", "--words-from-stdin", who="new", stdin="a b", fails=True).stderr


def test_json(funded_run: Run, mint: FakeMint) -> None:
    def data(*arguments: str) -> Any:
        return json.loads(funded_run("--json", *arguments).stdout)

    assert data("balance") == {"available": 1000, "pending": 0, "sent": 0, "unit": "sat", "elsewhere": {}}
    assert data("pay", invoice(100))["cost"] == 100
    assert data("pending") == {"operations": []}
    assert data("send", "4")["token"].startswith("cashuB")
    assert data("pending")["operations"][0]["state"] == "sent"
    assert data("restore")["balance"] == 896
    assert set(data("quotes")) == {"mint", "melt"}
    assert data("info")["info"]["name"] == "fake"
    error = json.loads(funded_run("--json", "pay", "lnbc1", fails=True).stderr)
    assert error["code"] is None
    mint.payments = lambda quote: "FAILED"
    assert json.loads(funded_run("--json", "pay", invoice(100, 9), fails=True).stderr)["code"] == 20004


def test_errors_are_one_line(run: Run, tmp_path: Path) -> None:
    for arguments in (["pay", "nonsense"], ["receive", "cashuBxyz"], ["send", "5"], ["moved", "http://old"]):
        assert len(run(*arguments, fails=True, who="new").stderr.splitlines()) <= 2
    dead = CliRunner().invoke(main, ["--mint", "http://127.0.0.1:9", "--wallet", str(tmp_path / "w"), "info"])
    assert dead.exit_code == 1
    assert "is it running" in dead.stderr.splitlines()[-1]
    assert CliRunner().invoke(main, ["send", "0"]).exit_code == 2


def test_a_fault_is_one_line_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contrib.wallet.wallet.Wallet.balances", lambda self: 1 // 0)
    assert "a fault in the wallet (ZeroDivisionError" in run("balance", fails=True).stderr


def test_interrupted(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupt(self: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("contrib.wallet.wallet.Wallet.balances", interrupt)
    result = CliRunner().invoke(main, ["--wallet", str(tmp_path / "w"), "balance"])
    assert result.exit_code == 130
    assert "interrupted" in result.stderr


def test_moved(funded_run: Run, url: str, mint: FakeMint, tmp_path: Path) -> None:
    funded_run("send", "3")
    with served(mint) as new_url:
        options = ["--mint", new_url, "--wallet", str(tmp_path / "alice.sqlite")]
        assert "run `moved`" in CliRunner().invoke(main, [*options, "send", "3"]).stderr
        result = CliRunner().invoke(main, [*options, "moved", url])
        assert result.exit_code == 0, result.output
        assert CliRunner().invoke(main, [*options, "balance"]).stdout.startswith("997 sat")


def test_progress_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    progress = Progress(Display(as_json=False), "paying")
    progress.update("PENDING")
    progress.update("PENDING")
    progress.close()
    shown = capsys.readouterr().err
    assert shown.count("paying: PENDING, 0 s") == 2
    assert shown.endswith("\n")


def test_printable() -> None:
    assert printable("a\nb\x1b[1m\u202ec ☃") == "a b [1m c ☃"


# --- really killed -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "path", "expected"),
    [
        (["send", "77"], "/v1/swap", [1000]),
        (["pay", invoice(100)], "/v1/melt/bolt11", [900]),
        (["pay", "--async", invoice(100)], "/v1/melt/bolt11", [900]),
        (["mint", "mint-quote-2"], "/v1/mint/bolt11", [1008]),
    ],
    ids=["send", "pay", "pay-async", "mint"],
)
@pytest.mark.parametrize("when", ["before", "after"])
def test_kill_9(
    funded_run: Run,
    mint: FakeMint,
    url: str,
    tmp_path: Path,
    arguments: list[str],
    path: str,
    expected: list[int],
    when: str,
) -> None:
    """The process is killed while the mint has its request: before the mint acts on it, or after."""
    run = funded_run
    run("invoice", "8", "--no-wait")
    mint.pay_mint_quote("mint-quote-2")
    children: list[subprocess.Popen[bytes]] = []
    killed: list[str] = []

    def kill(where: str) -> bool:
        if where == path and not killed:
            killed.append(where)
            children[0].send_signal(signal.SIGKILL)
            children[0].wait()
        return False

    setattr(mint, "lose_request" if when == "before" else "lose_answer", kill)
    command = [sys.executable, "-m", "contrib.wallet", "--mint", url, "--wallet", str(tmp_path / "alice.sqlite")]
    with Path(os.devnull).open("w") as nowhere:
        children.append(subprocess.Popen([*command, *arguments], cwd=REPOSITORY, stdout=nowhere, stderr=nowhere))
    assert children[0].wait(60) == -signal.SIGKILL
    result = run("balance")
    assert "an interrupted" in result.stderr
    assert [int(result.stdout.split()[0])] == expected
    assert run("pending").stdout == "nothing is on its way\n"
