"""The dashboard, the alerts and the page about them name only metrics that there are, with labels that they have."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from ledger.audit import Audit, MethodBooks
from ledger.errors import Code, LedgerError, StorageError
from ledger.events import MeltQuoteChanged
from ledger.models import MeltQuoteLightning, MeltQuoteState
from ledger.operations.status import Status
from ledger.store.operation import Operation
from ledger.store.writer import Batch
from plugin.http.server import is_exposed
from plugin.methods import reasons
from plugin.methods.reasons import Reason
from plugin.metrics import Metrics, Scrape

ROOT = Path(__file__).resolve().parents[2]
DASHBOARD = ROOT / "contrib" / "grafana" / "nutbolt.json"
ALERTS = ROOT / "contrib" / "prometheus" / "alerts.yml"
PAGE = ROOT / "contrib" / "docs" / "watching.md"

OTHERS = {"up"}
"""What Prometheus itself measures."""
WORDS = {
    *("absent", "and", "by", "count", "for", "histogram_quantile", "increase", "max", "min", "offset", "on", "or"),
    *("rate", "sum", "unless", "without"),
}
"""Functions and keywords of PromQL, as far as they are used."""


@pytest.fixture(scope="module")
def labels() -> dict[str, dict[str, set[str]]]:
    """The labels of each metric that there is, and their values in a mint where everything has happened once."""
    metrics = Metrics()
    books = MethodBooks("bolt11", "sat", 1, 1, 1)
    status = Status({"sat": 1}, 1, 1, True, 1, 1, 1, (books,))
    what = {"minting": True, "melting": True}
    scrape = Scrape(True, False, what, status, 1, 1, 1, {"requests": 1}, {"verdict": 1}, ROOT / "README.md")
    metrics.look_up(lambda: scrape)
    metrics.answered("/v1/info", "GET", 200, 0.1)
    metrics.answered(None, "BREW", 500, 0.1)
    outcomes = (None, LedgerError(Code.PROOFS_SPENT, "spent"), StorageError("full"))
    metrics.committed(Batch(tuple((Operation.SWAP, outcome) for outcome in outcomes), 0.1))
    for state, error in (
        (MeltQuoteState.PAID, None),
        *((MeltQuoteState.UNPAID, text) for text in reasons.BY_XPAY.values()),
    ):
        metrics.on_event(MeltQuoteChanged(quote(MeltQuoteState.PENDING)))
        metrics.on_event(MeltQuoteChanged(quote(state, error)))
    metrics.audited(Audit((), (), 0, 0, 0, 0, 0, (), ()), covered=True)
    found: dict[str, dict[str, set[str]]] = {}
    for family in text_string_to_metric_families(generate_latest(metrics.registry).decode()):
        for sample in family.samples:
            for name, value in sample.labels.items():
                found.setdefault(sample.name, {}).setdefault(name, set()).add(value)
            found.setdefault(sample.name, {})
    return found


def quote(state: MeltQuoteState, error: str | None = None) -> MeltQuoteLightning:
    return MeltQuoteLightning(
        quote="q",
        request="lnbc1",
        amount=1,
        unit="sat",
        method="bolt11",
        state=state,
        expiry=1,
        error=error,
        fee_reserve=1,
    )


def expressions() -> Iterator[str]:
    """Of the alerts and of the dashboard's panels."""
    yield from re.findall(r"^\s*expr: (.+)$", ALERTS.read_text(), re.MULTILINE)
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", []):
            yield target["expr"].replace("$__rate_interval", "5m")


ALL = sorted(set(expressions()))


@pytest.mark.parametrize("expression", ALL)
def test_an_expression_names_what_there_is(expression: str, labels: dict[str, dict[str, set[str]]]) -> None:
    for name, matchers in re.findall(r"([a-z_]+)\{([^}]*)\}", expression):
        for label, _, value in re.findall(r'(\w+)(!?=)"([^"]*)"', matchers):
            if name not in OTHERS:
                assert value in labels[name][label], f"{name} has no {label}={value}"
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\b\d[\w.]*", "", expression)
    grouped = {label.strip() for group in re.findall(r"by \(([^)]*)\)", bare) for label in group.split(",")}
    bare = re.sub(r"by \([^)]*\)", "", bare)
    names = set(re.findall(r"[a-zA-Z_][a-zA-Z0-9_]*", bare)) - WORDS
    assert names
    assert names - OTHERS <= set(labels), "no such metric"
    assert grouped <= {label for name in names - OTHERS for label in labels[name]}


def test_there_are_expressions_of_both() -> None:
    assert len(ALL) > 40


def test_the_page_explains_every_metric_and_no_other(labels: dict[str, dict[str, set[str]]]) -> None:
    explained = set(re.findall(r"`(nutbolt_[a-z_]+)`", PAGE.read_text()))
    shown = {re.sub("_(bucket|count|sum)$", "", name) for name in labels if name.startswith("nutbolt_")}
    assert explained == shown


def test_the_page_says_what_to_do_about_every_alert() -> None:
    alerts = re.findall(r"- alert: (\w+)", ALERTS.read_text())
    page = PAGE.read_text()
    assert alerts
    assert not [alert for alert in alerts if f"**{alert}**" not in page]


def test_promtool_finds_nothing_wrong_with_the_rules() -> None:
    if (promtool := shutil.which("promtool")) is None:
        pytest.skip("promtool is not on PATH (Debian's package prometheus has it)")
    for arguments in (
        ("check", "rules", "alerts.yml"),
        ("check", "config", "prometheus.yml"),
        ("test", "rules", "alerts_test.yml"),  # they come when they should
    ):
        checked = subprocess.run([promtool, *arguments], cwd=ALERTS.parent, capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_reason_that_a_wallet_may_be_told_has_a_kind() -> None:
    told = {value for name, value in vars(reasons).items() if name.isupper() and isinstance(value, str)}
    told |= set(reasons.BY_XPAY.values())
    assert not {text for text in told if Reason.of(text) is Reason.OTHER}
    assert Reason.of("the payment failed (code 4711)") is Reason.OTHER
    assert Reason.of(None) is Reason.OTHER


@pytest.mark.parametrize(("address", "exposed"), [("127.0.0.1", False), ("::1", False), ("0.0.0.0", True)])
def test_a_listener_that_is_open_to_all_is_told_from_one_that_is_not(address: str, exposed: bool) -> None:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as sock:
        sock.bind((address, 0))
        assert is_exposed(sock) is exposed


def test_what_fails_while_it_is_looked_up_hides_nothing_else() -> None:
    metrics = Metrics()

    def fail() -> Scrape:
        raise StorageError("the disk is gone")

    metrics.look_up(fail)
    text = generate_latest(metrics.registry).decode()
    assert "nutbolt_ready 0.0" in text
    assert "nutbolt_version_info" in text
