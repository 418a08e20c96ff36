"""What the operator sees of the mint at a glance, for the page at `/operator`: the ledger's reports, the balance and
its history, and how things stand.

Nothing is read before somebody asks, and nothing twice: an answer stays as it is until the ledger changes, and steps of
time that are over are never counted again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import asdict
from typing import NamedTuple

from ledger import report
from ledger.ledger import Ledger
from ledger.report import Flow
from ledger.units import to_msat
from plugin.methods.verdict import Verdicts
from plugin.node.rpc import NodeUnavailableError, OutcomeUnknownError, RpcError
from plugin.node.runes import Runes
from plugin.operator.health import Facts, check
from plugin.operator.history import History
from plugin.operator.pulse import Pulse
from plugin.operator.views import (
    BalanceView,
    CheckView,
    FailureView,
    FeesView,
    FlowView,
    KeysetView,
    NoteView,
    OverviewResponse,
    PendingView,
    Span,
    WaitingView,
)
from plugin.options import Settings
from plugin.solvency import Balance, Books, Solvency
from plugin.version import VERSION

STALE_S = 30
"""So old an answer may be when nothing has happened in the ledger: the node's side changes without it."""
SETTLED_S = 120
"""A step of time counts as over so long after its end: what happened in it is committed by then."""

log = logging.getLogger(__name__)


class Steps(NamedTuple):
    """A span of time: so many steps of so many seconds."""

    number: int
    step_s: int


SPANS: dict[Span, Steps] = {
    "day": Steps(24, 3600),
    "week": Steps(28, 6 * 3600),
    "month": Steps(30, 24 * 3600),
    "year": Steps(52, 7 * 24 * 3600),
}
"""So many points has a chart, however much has happened."""


class _Answer(NamedTuple):
    beat: int
    at: int
    text: str


class Flows:
    """The flows of one span. Those of steps that are over are kept."""

    def __init__(self, steps: Steps) -> None:
        self._step_s = steps.step_s
        self._kept: list[Flow] = []
        self._kept_until = 0

    def read(self, fetch: Callable[[int], list[Flow]], since: int, now: int) -> list[Flow]:
        """All flows since then; `fetch` reads those since another time."""
        first = max(since, self._kept_until)
        flows = [flow for flow in self._kept if flow.at >= since] + fetch(first)
        self._kept_until = max(first, (now - SETTLED_S) // self._step_s * self._step_s)
        self._kept = [flow for flow in flows if flow.at < self._kept_until]
        return flows


class Overview:
    """Makes the answers. `runes` says who may see them, `pulse` when there may be new ones."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        solvency: Solvency,
        verdicts: Verdicts,
        history: History,
        pulse: Pulse,
        runes: Runes,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._solvency = solvency
        self._verdicts = verdicts
        self._history = history
        self.pulse = pulse
        self.runes = runes
        self._making = asyncio.Lock()
        self._answers: dict[Span, _Answer] = {}
        self._flows = {span: Flows(steps) for span, steps in SPANS.items()}

    async def answer(self, span: Span) -> str:
        """An `OverviewResponse` as JSON."""
        async with self._making:
            before, now = self._answers.get(span), self._ledger.now()
            if before is not None and before.beat == self.pulse.count and 0 <= now - before.at < STALE_S:
                return before.text
            beat = self.pulse.count  # what comes after this is news
            text = (await self._make(span, now)).model_dump_json()
            self._answers[span] = _Answer(beat, now, text)
            return text

    async def _make(self, span: Span, now: int) -> OverviewResponse:
        balance: Balance | None = None
        try:
            balance = await self._solvency.balance()
        except (RpcError, NodeUnavailableError, OutcomeUnknownError) as error:
            log.info("the operator's page does without the node's side: %s", error)
        return await asyncio.to_thread(self._read, span, now, balance)

    def _read(self, span: Span, now: int, balance: Balance | None) -> OverviewResponse:
        """In a worker thread: the rows."""
        steps = SPANS[span]
        since = (now // steps.step_s - steps.number + 1) * steps.step_s
        books = self._solvency.books() if balance is None else balance.books
        with self._ledger.read() as db:
            flows = self._flows[span].read(lambda since: report.flows(db, since, now + 1, steps.step_s), since, now)
            failures = report.failures(db, since)
            waiting = report.waiting(db)
            fees = report.fees(db)
        keysets = []
        for kept in books.keysets:
            known = self._ledger.keysets.get(kept.id)
            keysets.append(
                KeysetView(
                    id=kept.id,
                    unit=kept.unit,
                    active=kept.active,
                    input_fee_ppk=known.input_fee_ppk,
                    final_expiry=known.final_expiry,
                    issued=kept.issued,
                    redeemed=kept.redeemed,
                    outstanding=kept.outstanding,
                    fees=kept.fees,
                )
            )
        facts = Facts(
            now=now,
            balance=balance,
            books=books,
            oldest_begun_at=waiting[0].begun_at if waiting else None,
            stuck=len(self._verdicts.stuck()),
            max_outstanding_msat=to_msat(self._settings.max_outstanding, "sat"),
            policy=self._ledger.policy,
            keysets=tuple(self._ledger.keysets),
            units=self._settings.units,
        )
        return OverviewResponse(
            time=now,
            name=self._settings.name,
            version=VERSION,
            span=span,
            since=since,
            step_s=steps.step_s,
            balance=_balance_view(books, balance),
            fees=FeesView(input_msat=fees.input_msat, paid_msat=fees.paid_msat, earned_msat=books.earned_msat),
            history=[NoteView(**asdict(note)) for note in self._history.points(since, steps.step_s)],
            flows=[FlowView(**asdict(flow)) for flow in flows],
            pending=PendingView(
                count=books.melts, sum_msat=books.melts_msat, melts=[WaitingView(**asdict(melt)) for melt in waiting]
            ),
            failures=[FailureView(**asdict(failure)) for failure in failures],
            keysets=keysets,
            health=[CheckView(**asdict(found)) for found in check(facts)],
        )


def _balance_view(books: Books, balance: Balance | None) -> BalanceView:
    view = BalanceView(
        owed_msat=books.owed_msat, outstanding_msat=books.outstanding_msat, unissued_msat=books.unissued_msat
    )
    if balance is not None:
        view.owned_msat = balance.owned.total_msat
        view.channels_msat = balance.owned.funds.channels_msat
        view.onchain_msat = balance.owned.funds.onchain_msat
        view.on_the_way_msat = balance.owned.on_the_way_msat
        view.sendable_msat = balance.liquidity.sendable_msat
        view.receivable_msat = balance.liquidity.receivable_msat
    return view
