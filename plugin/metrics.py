"""What the mint measures of itself, for Prometheus.

Two kinds. What happens often is counted where it happens, by children that are bound to their labels beforehand: half
a microsecond each. What can be looked up is looked up when somebody asks (`Scrape`), from the books that the ledger
keeps: that costs the same however old the mint is, asks the node nothing, and changes nothing.

Every label has a closed set of values: routes, codes, operations, methods, units. Nothing that a client sends becomes a
label.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ledger.audit import Audit
from ledger.errors import Code, LedgerError, StorageError
from ledger.events import Event, MeltQuoteChanged
from ledger.models import MeltQuoteState
from ledger.operations.melt_quote import PendingMelt
from ledger.operations.status import Status
from ledger.store.operation import Operation
from ledger.store.writer import Batch
from plugin.methods.reasons import Reason
from plugin.version import VERSION

REQUEST_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60)
SETTLEMENT_BUCKETS_S = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200, 43_200, 172_800)
"""From a payment inside the node to an on-chain one, or one that its payee holds back for days."""
COMMIT_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
METHODS_SEEN = frozenset({"GET", "POST", "OPTIONS", "HEAD"})
NO_ROUTE = "none"
MAX_TIMED_MELTS = 20_000
"""Most melts in flight whose time is taken; above it some are not measured."""


@dataclass(frozen=True, slots=True)
class Scrape:
    """What can be looked up: asked for with every scrape, and answered from memory and from one snapshot of the
    ledger. `status` is None until the mint is ready; `refused`, `failed_tasks`: counted since the start, by name."""

    ready: bool
    failed: bool
    paused: Mapping[str, bool] = field(default_factory=dict)
    status: Status | None = None
    stuck: int = 0
    websockets: int = 0
    waiting_operations: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)
    failed_tasks: Mapping[str, int] = field(default_factory=dict)
    ledger_path: Path | None = None


disable_created_metrics()  # type: ignore[no-untyped-call]  # a series more for each counter, which nobody asks for


class Metrics:
    """Everything that is measured, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "nutbolt_http_requests",
            "Answered HTTP requests, by route, method and status.",
            ["route", "method", "status"],
            registry=self.registry,
        )
        self._request_seconds = Histogram(
            "nutbolt_http_request_duration_seconds",
            "Time from a request's head to its answer. A melt without prefer_async waits for its payment.",
            ["route"],
            buckets=REQUEST_BUCKETS_S,
            registry=self.registry,
        )
        refusals = Counter(
            "nutbolt_refusals", "Requests that were refused, by the NUTs' error code.", ["code"], registry=self.registry
        )
        self._refusals = {code: refusals.labels(str(int(code))) for code in Code}
        operations = Counter(
            "nutbolt_ledger_operations",
            "Operations of the ledger: done, refused by its rules, or failed (not durable).",
            ["operation", "result"],
            registry=self.registry,
        )
        self._operations = {
            (operation, result): operations.labels(operation.value, result)
            for operation in Operation
            for result in ("done", "refused", "failed")
        }
        self._batch = Histogram(
            "nutbolt_commit_operations",
            "Operations in one commit of the ledger.",
            buckets=BATCH_BUCKETS,
            registry=self.registry,
        )
        self._commit_seconds = Histogram(
            "nutbolt_commit_duration_seconds",
            "Time of one commit of the ledger, its operations and the write to the disk.",
            buckets=COMMIT_BUCKETS_S,
            registry=self.registry,
        )
        self._outcomes = Counter(
            "nutbolt_melts_decided",
            "Melts that ended, by payment method, outcome, and why those failed that did.",
            ["method", "outcome", "reason"],
            registry=self.registry,
        )
        self._settlement = Histogram(
            "nutbolt_melt_settlement_seconds",
            "Time from a melt's PENDING to its outcome.",
            ["method"],
            buckets=SETTLEMENT_BUCKETS_S,
            registry=self.registry,
        )
        self._audited = Gauge(
            "nutbolt_audit_balanced",
            "Whether the last cashu-audit since the start found the books balanced; nothing before the first.",
            ["kind"],
            registry=self.registry,
        )
        self._audited_at = Gauge(
            "nutbolt_audit_timestamp_seconds", "When the last cashu-audit ran; 0 for never.", registry=self.registry
        )
        version = Gauge("nutbolt_version_info", "The mint's version.", ["version"], registry=self.registry)
        version.labels(VERSION).set(1)
        ProcessCollector(registry=self.registry)
        self._request_children: dict[tuple[str, str, int], Counter] = {}
        self._route_children: dict[str, Histogram] = {}
        self._begun: dict[str, float] = {}

    def look_up(self, scrape: Callable[[], Scrape]) -> None:
        """From now on, every scrape also shows this."""
        self.registry.register(_Looked(scrape))

    # --- the API --------------------------------------------------------------------------------------------------

    def answered(self, route: str | None, method: str, status: int, seconds: float) -> None:
        """A request was answered. `route`: the rule that its path fits, if any."""
        name = route or NO_ROUTE
        key = (name, method if method in METHODS_SEEN else "other", status)
        requests = self._request_children.get(key)
        if requests is None:
            requests = self._request_children[key] = self._requests.labels(*map(str, key))
            self._route_children.setdefault(name, self._request_seconds.labels(name))
        requests.inc()
        self._route_children[name].observe(seconds)

    def refused(self, code: Code) -> None:
        """A request was refused by the mint's rules."""
        self._refusals[code].inc()

    # --- the ledger -----------------------------------------------------------------------------------------------

    def committed(self, batch: Batch) -> None:
        """An observer of the writer; called in its thread."""
        self._batch.observe(len(batch.outcomes))
        self._commit_seconds.observe(batch.seconds)
        for operation, error in batch.outcomes:
            self._operations[operation, _result(error)].inc()

    def audited(self, books: Audit, covered: bool) -> None:
        """The operator had the books recomputed."""
        self._audited.labels("books").set(not books.faults)
        self._audited.labels("covered").set(covered)
        self._audited_at.set_to_current_time()

    # --- melts ----------------------------------------------------------------------------------------------------

    def in_flight(self, melts: list[PendingMelt], now: int) -> None:
        """These were in flight when the mint started."""
        for melt in melts[:MAX_TIMED_MELTS]:
            self._begun.setdefault(melt.quote, time.monotonic() - max(0, now - melt.begun_at))

    def on_event(self, event: Event) -> None:
        """A subscriber to the ledger's events; called in the writer's thread."""
        if not isinstance(event, MeltQuoteChanged):
            return
        quote = event.quote
        if quote.state is MeltQuoteState.PENDING:
            if len(self._begun) < MAX_TIMED_MELTS:
                self._begun.setdefault(quote.quote, time.monotonic())
            return
        paid = quote.state is MeltQuoteState.PAID
        reason = "" if paid else Reason.of(quote.error).value
        self._outcomes.labels(quote.method, "paid" if paid else "failed", reason).inc()
        if (begun := self._begun.pop(quote.quote, None)) is not None:
            self._settlement.labels(quote.method).observe(time.monotonic() - begun)


def _result(error: BaseException | None) -> str:
    if error is None:
        return "done"
    return "refused" if isinstance(error, LedgerError) else "failed"


class _Looked(Collector):
    """Metrics that are looked up at each scrape."""

    def __init__(self, look: Callable[[], Scrape]) -> None:
        self._look = look

    def describe(self) -> Iterator[Metric]:
        """Nothing is looked up to register it."""
        yield from _families(Scrape(False, False))

    def collect(self) -> Iterator[Metric]:
        """What there is now. What can't be read now (the disk fails) is left out; all else is shown."""
        try:
            scrape = self._look()
        except StorageError:
            scrape = Scrape(False, True)
        yield from _families(scrape)


def _families(scrape: Scrape) -> Iterator[Metric]:
    yield _gauge("ready", "Whether the mint serves wallets.", scrape.ready)
    yield _gauge("failed", "Whether the mint refuses to start (see cashu-info): a lost or old ledger.", scrape.failed)
    yield _labelled("paused", "Whether the operator has paused this.", "what", scrape.paused)
    yield _gauge("websocket_connections", "Open WebSocket connections.", scrape.websockets)
    yield _gauge("writer_queue_length", "Operations that wait for the ledger's writer.", scrape.waiting_operations)
    yield _gauge("stuck_melts", "Melts that stay pending because the evidence about them is gone.", scrape.stuck)
    yield _counted("rate_limit_refusals", "Requests over a client's budget.", "budget", scrape.refused)
    yield _counted("task_failures", "Supervised tasks that failed.", "task", scrape.failed_tasks)
    yield from _disk(scrape.ledger_path)
    yield from _books(scrape.status)


def _books(status: Status | None) -> Iterator[Metric]:
    outstanding = GaugeMetricFamily("nutbolt_outstanding", "Ecash in wallets' hands, in its unit.", labels=["unit"])
    earned = GaugeMetricFamily("nutbolt_earned_msat", "What the mint has above what it owes.")
    owed = GaugeMetricFamily("nutbolt_owed_msat", "Ecash in wallets' hands, and paid for and not issued.")
    balanced = GaugeMetricFamily("nutbolt_books_balanced", "Whether the books as they are kept are consistent.")
    pending = GaugeMetricFamily("nutbolt_pending_melts", "Melts in flight.")
    pending_msat = GaugeMetricFamily("nutbolt_pending_melts_msat", "What their destinations shall receive.")
    oldest = GaugeMetricFamily("nutbolt_oldest_pending_melt_seconds", "Age of the oldest melt in flight; 0 for none.")
    flows = [
        CounterMetricFamily(f"nutbolt_{name}_msat", text, labels=["method", "unit"])
        for name, text in (
            ("received", "What came in for mint quotes."),
            ("paid_out", "What the destinations of melts received."),
            ("routing_fees", "What others took for carrying payments, miners included."),
        )
    ]
    if status is not None:
        for unit, amount in status.outstanding.items():
            outstanding.add_metric([unit], amount)
        for family, value in (
            (earned, status.earned_msat),
            (owed, status.owed_msat),
            (balanced, status.balanced),
            (pending, status.pending),
            (pending_msat, status.pending_msat),
            (oldest, status.oldest_pending_s),
        ):
            family.add_metric([], value)
        for books in status.methods:
            for flow, msat in zip(
                flows, (books.received_msat, books.paid_out_msat, books.routing_fees_msat), strict=True
            ):
                flow.add_metric([books.method, books.unit], msat)
    yield from (outstanding, earned, owed, balanced, pending, pending_msat, oldest, *flows)


def _disk(path: Path | None) -> Iterator[Metric]:
    size = GaugeMetricFamily("nutbolt_ledger_bytes", "Size of the ledger's file and of its write-ahead log.")
    free = GaugeMetricFamily("nutbolt_disk_free_bytes", "Free space on the disk of the ledger.")
    if path is not None:
        try:
            files = (path, path.with_name(path.name + "-wal"))
            size.add_metric([], sum(file.stat().st_size for file in files if file.exists()))
            disk = os.statvfs(path.parent)
            free.add_metric([], disk.f_bavail * disk.f_frsize)
        except OSError:
            pass  # then they are missing, which the alerts notice
    yield size
    yield free


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"nutbolt_{name}", text, value=float(value))


def _labelled(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(f"nutbolt_{name}", text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], float(value))
    return family


def _counted(name: str, text: str, label: str, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(f"nutbolt_{name}", text, labels=[label])
    for key, value in sorted(values.items()):
        family.add_metric([key], value)
    return family
