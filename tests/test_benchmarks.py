"""The page of measurements is what its figures say."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from contrib.bench import PARTS, compare, page, watching
from contrib.bench.compare import THEM, US
from contrib.bench.flows import FLOWS


def figures(per_s: float, cpu_ms: float) -> dict[str, Any]:
    return {
        "requests": 100,
        "refused": 0,
        "per_s": per_s,
        "cpu_ms": cpu_ms,
        "node_ms": 0.0,
        "p50_ms": 1.0,
        "p99_ms": 2.0,
    }


MEASURED: dict[str, Any] = {
    "mints": {
        US: {"version": "1", "synchronous": "FULL", "rss_start_mib": 70.0, "rss_peak_mib": 75.0},
        THEM: {"version": "2", "synchronous": "FULL", "rss_start_mib": 120.0, "rss_peak_mib": 166.0},
    },
    "rounds": 3,
    "curve_us": {"multiply a point": 30.0},
    "flows": {
        "swap_8_8": {
            "by": {
                US: {"1": figures(200, 2.5), "8": figures(450, 2.0)},
                THEM: {"1": figures(10, 60), "8": figures(15, 70)},
            },
            "floor_ms": 1.3,
        },
        "info": {"by": {US: {"1": figures(3000, 0.3), "8": figures(4000, 0.25)}}},
    },
}


def test_the_page_is_made_from_its_figures() -> None:
    parts = page.read()
    assert page.generated_in(page.PAGE.read_text()) == page.render(parts).strip() + "\n"
    for name, text in page.illustrations(parts).items():
        assert (page.PAGE.parent / name).read_text() == text
    assert set(parts) <= set(PARTS)


def test_ratio_and_efficiency_are_of_the_figures() -> None:
    text = compare.render(MEASURED)
    assert "| swap 8 → 8 | 8 | 450 | 15 | **30.0** | 15 |" in text
    assert "| swap 8 → 8 | 2.00 | 70.0 | 0.00 | 1.30 | **0.65** | 0.52 |" in text
    assert "| `GET /v1/info` | 8 | 4000 |  |  | 5 |" in text  # not measured of the other
    MEASURED["flows"]["swap_8_8"]["by"][THEM]["8"]["refused"] = 7
    assert "| 450 | 15 (7 of 100 refused) |" in compare.render(MEASURED)
    MEASURED["flows"]["swap_8_8"]["by"][THEM]["8"]["refused"] = 0
    assert "30 times" in compare.illustrations(MEASURED)[compare.CHART]


def test_a_measurement_that_is_made_again_leaves_what_was_written_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "DATA", tmp_path / "b.json")
    monkeypatch.setattr(page, "PAGE", tmp_path / "b.md")
    page.PAGE.write_text(f"# Above\n\n{page.BEGIN}\nold\n{page.END}\n\nbelow\n")
    for seconds in (1, 2):
        page.write_part("compare", page.dated(MEASURED, seconds, 1.5))
    text = page.PAGE.read_text()
    assert text.startswith("# Above\n")
    assert text.endswith("\nbelow\n")
    assert "old" not in text
    assert text.count("## Beside nutshell") == text.count("1.5 % of the CPU time taken by the host") == 1
    assert json.loads(page.DATA.read_text())["compare"]["seconds"] == 2
    assert (tmp_path / compare.CHART).read_text() == compare.illustrations(MEASURED)[compare.CHART]


def test_every_flow_is_described() -> None:
    for flow in FLOWS.values():
        assert flow.title
        assert min(flow.counts) >= 40  # else a round is over before it has begun


def test_what_the_host_took_is_a_share_of_all_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    stolen, now = iter([10.0, 13.0]), iter([100.0, 110.0])
    monkeypatch.setattr(watching, "_stolen_s", lambda: next(stolen))
    monkeypatch.setattr(watching, "time", SimpleNamespace(monotonic=lambda: next(now)))
    monkeypatch.setattr(watching, "os", SimpleNamespace(cpu_count=lambda: 2))
    assert watching.Theft().percent() == 15.0


def test_a_system_that_does_not_say_it_took_nothing_that_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_stolen_s", lambda: None)
    assert watching.Theft().percent() is None
