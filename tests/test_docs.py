"""The documentation tells the truth, where a machine can tell: reference, states, the words of the log, links."""

from __future__ import annotations

import ast
import re
from enum import StrEnum
from functools import cache
from pathlib import Path

import pytest

from contrib.docs import reference
from ledger.models import MeltQuoteState, MintQuoteState, ProofState
from plugin.options import OPTIONS

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "contrib" / "docs"
PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted(DOCS.glob("*.md"))]
NEW = "run python3 -m contrib.docs"


@cache
def declared() -> tuple[frozenset[str], frozenset[str]]:
    """The names of all options and commands."""
    told = reference.manifest()
    return (
        frozenset(str(option["name"]) for option in told["options"]),
        frozenset(str(command["name"]) for command in told["rpcmethods"]),
    )


def test_the_reference_is_up_to_date() -> None:
    assert reference.PAGE.read_text() == reference.make(), NEW


def test_the_reference_explains_every_option() -> None:
    page = reference.PAGE.read_text()
    for option in OPTIONS:
        assert f"| `{option.name}` |" in page


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_options_and_commands_that_are_named_exist(page: Path) -> None:
    options, commands = declared()
    files = {"cashu-ts", "cashu-first", "cashu-before", "cashu-last"}
    for name in set(re.findall(r"(?<![\w/.-])cashu(?:-[a-z0-9]+)+", page.read_text())):
        if not any(name.startswith(file) for file in files):
            assert name in options | commands, f"{page.name} names {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{page.name}: {target}"
        if anchor:
            titles = re.findall(r"^#+ (.*)$", found.read_text(), re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
            assert anchor in anchors, f"{page.name}: {target}"


@pytest.mark.parametrize(
    ("title", "states"), [("Mint quotes", MintQuoteState), ("Melt quotes", MeltQuoteState), ("Proofs", ProofState)]
)
def test_the_states_that_are_drawn_are_those_of_the_code(title: str, states: type[StrEnum]) -> None:
    text = (DOCS / "how-it-works.md").read_text()
    section = text.partition(f"## {title}\n")[2].partition("\n## ")[0]
    drawing = section.partition("stateDiagram-v2\n")[2].partition("```")[0]
    drawn = {state for line in drawing.splitlines() for state in re.findall(r"[A-Z]{3,}", line.partition(":")[0])}
    assert drawn == set(states)


@cache
def words_of_the_code() -> tuple[str, ...]:
    """All constant text in the code."""
    found = []
    for room in ("plugin", "ledger"):
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(node.value)
    return tuple(found)


def quoted() -> list[str]:
    """What operating.md says that the log says."""
    text = (DOCS / "operating.md").read_text()
    blocks = re.findall(r"^```log\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    reasons = re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)
    return [line for block in blocks for line in block.splitlines()] + reasons


@pytest.mark.parametrize("line", quoted())
def test_the_log_says_what_the_documentation_says(line: str) -> None:
    words = words_of_the_code()
    parts = [part.strip(" :") for part in re.split(r"…|cashu-[a-z-]+=", line)]
    parts = [part for part in parts if len(part) > 3]
    assert parts
    for part in parts:
        assert any(part in text for text in words), f"nothing in the code says {part!r}"


def test_the_log_is_quoted() -> None:
    assert len(quoted()) > 15
