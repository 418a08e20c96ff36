"""The operator's figures: each is what the rows say, within its window, and found through an index."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import apsw
import pytest

from ledger import report
from ledger.ids import handle_of
from ledger.report import Failure, Fees, Flow, Waiting
from tests.ledger.helpers import NOW, Mint, Wallet

HOUR = 3600


def flows(mint: Mint, since: int = NOW - HOUR, until: int = NOW + 10 * HOUR, step_s: int = HOUR) -> list[Flow]:
    with mint.ledger.read() as db:
        return report.flows(db, since, until, step_s)


def failures(mint: Mint, since: int = 0) -> list[Failure]:
    with mint.ledger.read() as db:
        return report.failures(db, since)


def fail(mint: Mint, wallet: Wallet, error: str) -> None:
    mint.release(mint.begin(mint.melt_quote(8).quote, mint.fund(wallet, 8)), error)


def test_what_comes_in_and_goes_out_by_steps_of_time(mint: Mint, alice: Wallet) -> None:
    proofs = mint.fund(alice, 64, 8)
    mint.paid_quote(7, "msat")
    mint.clock.advance(2 * HOUR)
    quote = mint.melt_quote(60, fee_reserve=4, expiry=NOW + 10**6)
    pending = mint.begin(quote.quote, proofs[:1])
    assert flows(mint) == [Flow(NOW // HOUR * HOUR, "bolt11", in_msat=72_007, receipts=2)]
    mint.clock.advance(HOUR)
    mint.settle(pending, fee_msat=1500)
    later = (NOW + 3 * HOUR) // HOUR * HOUR
    out = Flow(later, "bolt11", out_msat=60_000, fees_msat=1500, payments=1)
    assert flows(mint)[1:] == [out]
    assert flows(mint, since=NOW + 1) == [out]  # by when it was paid, not when it was asked for
    assert flows(mint, until=NOW + 3 * HOUR)[1:] == []
    assert [flow.at for flow in flows(mint, step_s=24 * HOUR)] == [NOW // (24 * HOUR) * 24 * HOUR]


def test_the_flows_of_all_time_are_what_the_books_say(mint: Mint, alice: Wallet) -> None:
    for number in range(3):
        proofs = mint.fund(alice, 32)
        mint.clock.advance(5000)
        mint.settle(mint.begin(mint.melt_quote(20, 12, expiry=NOW + 10**6).quote, proofs), fee_msat=700 * number)
    mint.swap(mint.fund(alice, 16), alice.draw_sum(mint.keyset(), 16))
    found, books = flows(mint, until=NOW + 10**6), mint.audit()
    assert len(found) > 2
    assert sum(flow.in_msat for flow in found) == books.received_msat
    assert sum(flow.out_msat for flow in found) == books.paid_out_msat
    assert sum(flow.fees_msat for flow in found) == books.routing_fees_msat == 2100


def test_failures_are_told_by_reason_without_what_is_particular(mint: Mint, alice: Wallet) -> None:
    fail(mint, alice, "no route to 02aabbccddeeff00112233 for 8000msat through 103x1x0")
    mint.clock.advance(10)
    fail(mint, alice, "no route to 03ffffffffffffffffffff for 9msat through 870123x22x1")
    fail(mint, alice, "the payee is not reachable")
    first, second = failures(mint)
    assert first == Failure("bolt11", "no route to … for …msat through …", 2, NOW + 10)
    assert second == Failure("bolt11", "the payee is not reachable", 1, NOW + 10)
    assert failures(mint, since=NOW + 11) == []


def test_a_melt_that_was_tried_again_and_paid_has_not_failed(mint: Mint, alice: Wallet) -> None:
    proofs, quote = mint.fund(alice, 8), mint.melt_quote(8)
    mint.release(mint.begin(quote.quote, proofs), "no route")
    assert [failure.count for failure in failures(mint)] == [1]
    again = mint.begin(quote.quote, proofs)
    assert failures(mint) == []
    mint.settle(again)
    assert failures(mint) == []


def test_failures_are_limited(mint: Mint, alice: Wallet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "MAX_FAILURES", 3)
    monkeypatch.setattr(report, "MAX_REASONS", 2)
    for error in ("oldest", "- " * 500, "b", "c"):
        fail(mint, alice, error)
        mint.clock.advance(1)
    found = failures(mint)
    assert [failure.reason[:1] for failure in found] == ["-", "b"]
    assert len(found[0].reason) == report.MAX_REASON_LENGTH


def test_the_melts_that_wait_for_longest(mint: Mint, alice: Wallet, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = []
    for amount in (8, 4, 2):
        begun.append(mint.begin(mint.melt_quote(amount).quote, mint.fund(alice, amount)))
        mint.clock.advance(1)
    monkeypatch.setattr(report, "MAX_PENDING", 2)
    with mint.ledger.read() as db:
        found = report.waiting(db)
    assert found == [
        Waiting(handle_of(melt.quote, 1), "bolt11", "sat", amount, NOW + number)
        for number, (melt, amount) in enumerate(zip(begun[:2], (8, 4), strict=True))
    ]
    assert not any(melt.quote in repr(found) for melt in begun)  # the id is the wallet's
    for melt in begun:
        mint.settle(melt)
    with mint.ledger.read() as db:
        assert report.waiting(db) == []


def test_fees_are_those_of_the_books(mint: Mint, alice: Wallet) -> None:
    mint.rotate(fee=1000)
    mint.swap(mint.fund(alice, 8, 8), alice.draw_sum(mint.keyset(), 14))
    with mint.ledger.read() as db:
        assert report.fees(db) == Fees(input_msat=2000, paid_msat=0)


@pytest.mark.parametrize(
    ("ask", "index"),
    [
        (lambda db: report.flows(db, 0, NOW, HOUR), "receipts_time"),
        (lambda db: report.flows(db, 0, NOW, HOUR), "melt_quotes_paid"),
        (lambda db: report.failures(db, 0), "melt_quotes_failed"),
        (report.waiting, "melt_quotes_pending"),
    ],
)
def test_no_figure_reads_a_whole_table(mint: Mint, ask: Callable[[apsw.Connection], object], index: str) -> None:
    """What SQLite says of its plan: through the index, and SEARCH where there is a window of time."""
    asked: list[tuple[str, Any]] = []

    def trace(_cursor: apsw.Cursor, sql: str, bindings: Any) -> bool:
        asked.append((sql, bindings))
        return True

    with mint.ledger.read() as db:
        db.exec_trace = trace
        ask(db)
        db.exec_trace = None
        plan = [str(row[3]) for sql, bindings in asked for row in db.execute(f"EXPLAIN QUERY PLAN {sql}", bindings)]
    assert any(index in step for step in plan), plan
    scans = [step for step in plan if step.startswith("SCAN") and "melt_quotes_pending" not in step]
    assert all(step.split()[1] in ("moved", "(subquery-2)", "(subquery-1)") for step in scans), plan
