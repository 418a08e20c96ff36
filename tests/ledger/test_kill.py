"""kill -9 at any moment: the books balance, what was answered is there, an identical request is answered again."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ledger.models import (
    MeltQuoteLightning,
    MeltQuoteState,
    MeltRequest,
    MintRequest,
    ProofState,
    SignaturesResponse,
    SwapRequest,
)
from tests.ledger.helpers import METHOD, Mint, Wallet, done

ROOT = Path(__file__).parents[2]
ROUNDS = 24
LONGEST_S = 10.0
"""On a slow machine there are fewer rounds."""
FEWEST_ROUNDS = 4
MOST_LINES = 80
HELD = {
    MeltQuoteState.UNPAID: ProofState.UNSPENT,
    MeltQuoteState.PENDING: ProofState.PENDING,
    MeltQuoteState.PAID: ProofState.SPENT,
}

Line = dict[str, Any]


def run_and_kill(path: Path, name: str, lines: int, pause_s: float) -> list[Line]:
    """Let a mint work until it wrote so many lines, and for a moment more; give all that it wrote."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.ledger.crashing_mint", str(path), name], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    written = [child.stdout.readline() for _ in range(lines)]
    time.sleep(pause_s)
    child.send_signal(signal.SIGKILL)
    written += child.stdout.read().splitlines(keepends=True)
    child.stdout.close()
    assert child.wait() == -signal.SIGKILL, "it lived until it was killed"
    return [json.loads(line) for line in written if line.endswith(b"\n")]


def check_answered(mint: Mint, line: Line) -> None:
    """What was answered is in the ledger, and is answered again."""
    match line["kind"]:
        case "quote":
            assert mint.now_mint_quote(line["answer"]["quote"]).amount == 16
        case "payment":
            assert mint.ledger.mint_quote(METHOD, line["quote"]).amount_paid == 16
        case "issue" | "swap":
            assert repeat(mint, line) == SignaturesResponse.model_validate(line["answer"])
        case "settled":
            answer = MeltQuoteLightning.model_validate(line["answer"])
            assert answer.state is MeltQuoteState.PAID
            assert mint.ledger.melt_quote(METHOD, answer.quote) == answer


def repeat(mint: Mint, line: Line) -> SignaturesResponse:
    """Make an issue or swap again, as a wallet does that got no answer."""
    if line["kind"] == "issue":
        return done(mint.ledger.issue(METHOD, MintRequest.model_validate(line["request"])))
    return done(mint.ledger.swap(SwapRequest.model_validate(line["request"])))


def check_asked(mint: Mint, line: Line) -> None:
    """What was asked happened wholly or not at all: then it can be asked again."""
    match line["kind"]:
        case "issue":
            request = MintRequest.model_validate(line["request"])
            answer = repeat(mint, line)
            assert [each.amount for each in answer.signatures] == [each.amount for each in request.outputs]
            assert mint.ledger.mint_quote(METHOD, request.quote).amount_issued == 16
        case "swap":
            swap = SwapRequest.model_validate(line["request"])
            answer = repeat(mint, line)
            assert [each.amount for each in answer.signatures] == [each.amount for each in swap.outputs]
            assert mint.states(swap.inputs) == [ProofState.SPENT] * len(swap.inputs)
        case "begin" | "settled" | "released":
            melt = MeltRequest.model_validate(line["request"])
            state = mint.ledger.melt_quote(METHOD, melt.quote).state
            assert mint.states(melt.inputs) == [HELD[state]]


def check_last_word(mint: Mint, lines: list[Line]) -> None:
    """Each melt is in the state of its last answer, or in the one that was asked for after it."""
    words: dict[str, list[tuple[str, str]]] = {}
    for line in lines:
        if line["kind"] in ("begin", "settled", "released"):
            words.setdefault(line["request"]["quote"], []).append((line["event"], line["kind"]))
    becomes = {
        "begin": MeltQuoteState.PENDING,
        "settled": MeltQuoteState.PAID,
        "released": MeltQuoteState.UNPAID,
    }
    for quote, said in words.items():
        answered = [becomes[kind] for event, kind in said if event == "answered"]
        possible = {answered[-1] if answered else MeltQuoteState.UNPAID}
        if said[-1][0] == "asked":
            possible.add(becomes[said[-1][1]])
        assert mint.ledger.melt_quote(METHOD, quote).state in possible


def reopened(path: Path) -> Mint:
    mint = Mint(path, units=())
    assert mint.audit().faults == ()
    assert mint.database.writer.pragma("integrity_check") == "ok"
    return mint


@pytest.fixture
def chance() -> random.Random:
    """Where the mint is killed; only what the machine's speed adds to it is not repeatable."""
    return random.Random("kill")


def test_a_killed_mint_kept_all_that_it_answered_and_nothing_by_halves(tmp_path: Path, chance: random.Random) -> None:
    path, commits, answers = tmp_path / "ledger.sqlite3", 0, 0
    end = time.monotonic() + LONGEST_S
    for number in range(ROUNDS):
        if number >= FEWEST_ROUNDS and time.monotonic() > end:
            break
        lines = run_and_kill(path, f"round {number}", chance.randrange(2, MOST_LINES), chance.random() / 200)
        mint = reopened(path)
        assert mint.ledger.record().commits >= commits
        check_last_word(mint, lines)
        for line in lines:
            if line["event"] == "answered":
                check_answered(mint, line)
                answers += 1
            else:
                check_asked(mint, line)
        for n, pending in enumerate(mint.ledger.pending_melts()):
            if n % 2:
                mint.settle(pending)
            else:
                mint.release(pending)
        assert mint.audit().faults == ()
        commits = mint.ledger.record().commits
        mint.close()
    assert answers > FEWEST_ROUNDS


def test_a_mint_killed_while_it_opens_its_first_ledger_opens_it_the_next_time(
    tmp_path: Path, chance: random.Random
) -> None:
    for number in range(6):
        path = tmp_path / f"{number}.sqlite3"
        run_and_kill(path, "opening", 1, chance.random() / 50)
        mint = reopened(path)
        if len(mint.ledger.keysets) == 0:
            mint.rotate()
        mint.fund(Wallet("alice"), 8)
        mint.reopen()
        assert mint.audit().outstanding_msat >= 8000
        mint.close()
