"""The page about reliability is what its figures say, and every test that it names is there."""

from __future__ import annotations

import ast
import importlib.util
import json
from pathlib import Path

import pytest

from contrib.reliability import ATTACKS, page
from contrib.reliability.bugs import BUGS
from contrib.reliability.report import Report

ROOT = Path(__file__).resolve().parent.parent
REPORT = Report(
    "Races", "Many at once.", {"races": 12345, "p": "1 | 2"}, 1, ("one | two",), ("kind", "n"), [("a", "1")]
)


def test_the_page_is_made_from_its_figures() -> None:
    assert page.PAGE.read_text() == page.render(page.read(), BUGS)


def test_the_figures_are_of_attacks_that_are_here_and_lost_nothing() -> None:
    for name, part in page.read().items():
        assert name in ATTACKS
        assert importlib.util.find_spec(f"contrib.reliability.{name}") is not None
        assert part["losses"] == 0, part["findings"]


@pytest.mark.parametrize("guard", [guard for bug in BUGS for guard in bug.guards])
def test_a_test_that_guards_against_a_bug_is_there(guard: str) -> None:
    path, _, name = guard.partition("::")
    tree = ast.parse((ROOT / path).read_text())
    functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    classes = {target.id for node in tree.body for target in getattr(node, "targets", []) if hasattr(target, "id")}
    assert name in functions | classes


def test_an_attack_that_is_run_again_replaces_its_own_part_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "DATA", tmp_path / "r.json")
    monkeypatch.setattr(page, "PAGE", tmp_path / "r.md")
    for name, seconds in (("races", 1), ("histories", 2), ("races", 3)):
        page.write_part(name, page.part_of(REPORT, seconds))
    written = json.loads(page.DATA.read_text())
    assert [(name, part["seconds"]) for name, part in written.items()] == [("histories", 2), ("races", 3)]
    assert page.PAGE.read_text() == page.render(written, BUGS)
    assert "| races | 12 345 |" in page.PAGE.read_text()
    assert "1 \\| 2" in page.PAGE.read_text()
