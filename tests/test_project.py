"""The project's own papers tell the truth: requirements, version, README, and which package may import which."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

from plugin.options import OPTIONS
from plugin.version import VERSION

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
README = (ROOT / "README.md").read_text()


def test_requirements_txt_is_what_pyproject_asks_for() -> None:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == PROJECT["dependencies"]


def test_one_version() -> None:
    assert PROJECT["version"] == VERSION


def test_coincurve_comes_from_one_distribution_only() -> None:
    """Two distributions own the module `coincurve`; installed together they overwrite each other."""
    assert not any(re.match(r"coincurve\b(?!-)", line) for line in PROJECT["dependencies"])


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_the_readme_names_each_option_with_its_default(option: object) -> None:
    name, default = option.name, option.default  # type: ignore[attr-defined]
    row = next(line for line in README.splitlines() if line.startswith("|") and f"`{name}`" in line)
    names, defaults = row.split("|")[1:3]
    if defaults.strip():
        position = re.findall(r"`([^`]+)`", names).index(name)
        assert re.findall(r"`([^`]+)`", defaults)[position] == default


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize(
    ("room", "forbidden"),
    [
        ("ledger", ("plugin", "contrib", "quart", "hypercorn", "pyln", "asyncio")),
        ("plugin/node", ("ledger", "plugin.http", "plugin.methods", "quart")),
        ("plugin/methods", ("plugin.http", "quart")),
        ("plugin", ("contrib",)),
    ],
)
def test_arrows_point_one_way(room: str, forbidden: tuple[str, ...]) -> None:
    wrong = {
        f"{path.relative_to(ROOT)}: {module}"
        for path in (ROOT / room).rglob("*.py")
        for module in _imports(path)
        if any(module == name or module.startswith(name + ".") for name in forbidden)
    }
    assert not wrong


def test_only_the_entry_file_is_executable() -> None:
    """lightningd starts every executable file in its plugin directory, and one level below."""
    candidates = [*ROOT.glob("*"), *ROOT.glob("*/*")]
    executable = {
        p.relative_to(ROOT) for p in candidates if p.is_file() and p.suffix == ".py" and p.stat().st_mode & 0o111
    }
    assert executable == {Path("nutbolt.py")}
