"""What is written down of the attacks: a JSON file with a part for each, and the page that is made from it."""

from __future__ import annotations

import datetime
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import apsw

from contrib import bootstrap, revision
from contrib.reliability import ATTACKS
from contrib.reliability.bugs import BUGS, Bug
from contrib.reliability.report import Report

DATA = bootstrap.ROOT / "contrib" / "docs" / "reliability.json"
PAGE = DATA.with_suffix(".md")

HEAD = """\
# How Nutbolt was attacked

Made by `python3 -m contrib.reliability` from `reliability.json`; not written by hand. Every figure was counted while
the attack ran; a *loss* is ecash or a payment that was lost or doubled, books that don't balance, a crash, or a wrong
answer.
"""

Part = dict[str, Any]
"""What the JSON holds of one attack: its report, and when and on what it ran."""


def part_of(report: Report, seconds: float) -> Part:
    """A report, dated."""
    return {
        **json.loads(json.dumps(asdict(report))),  # tuples become lists, as they will be read
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "seconds": round(seconds),
        "commit": revision.commit(),
        "versions": versions(),
        "cpus": os.cpu_count(),
    }


def read() -> dict[str, Part]:
    """What is written so far, by attack."""
    found: dict[str, Part] = json.loads(DATA.read_text()) if DATA.exists() else {}
    return found


def write_part(name: str, part: Part) -> None:
    """Replace the part of one attack, and make the page again."""
    parts = read() | {name: part}
    DATA.parent.mkdir(exist_ok=True)
    ordered = {name: parts[name] for name in ATTACKS if name in parts}
    DATA.write_text(json.dumps(ordered, indent=1, ensure_ascii=False) + "\n")
    render_again()


def render_again() -> None:
    """Make the page from the JSON."""
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(render(read(), BUGS))


def render(parts: dict[str, Part], bugs: Iterable[Bug]) -> str:
    """The page, in Markdown."""
    bugs = list(bugs)
    summary = [[part["title"], _first_figure(part), str(part["losses"]), part["date"]] for part in parts.values()]
    blocks = [HEAD, *_table(["attack", "", "losses", "date"], summary)]
    blocks += ["", *(render_part(part) for part in parts.values())]
    blocks += ["## Bugs that were found, and what guards against them", ""]
    blocks += _table(
        ["what it was", "found by", "guarded by"],
        [[bug.what, bug.found_by, ", ".join(f"`{guard}`" for guard in bug.guards)] for bug in bugs],
    )
    return "\n".join(blocks).rstrip() + "\n"


def render_part(part: Part) -> str:
    """The section of one attack."""
    lines = [f"## {part['title']}", "", part["what"], ""]
    lines += _table(["", ""], [[name, _figure(value)] for name, value in part["figures"].items()])
    lines += ["", f"**Losses: {part['losses']}**"]
    if part["findings"]:
        lines += ["", *(f"* {finding}" for finding in part["findings"])]
    if part["rows"]:
        lines += ["", *_table(part["columns"], part["rows"])]
    on = ", ".join(f"{name} {version}" for name, version in part["versions"].items())
    lines += ["", f"*{part['date']}, {part['seconds']} s, commit {part['commit']}, {part['cpus']} CPUs; {on}*", ""]
    return "\n".join(lines)


def _first_figure(part: Part) -> str:
    return next((f"{_figure(value)} {name}" for name, value in part["figures"].items()), "")


def _figure(value: float | str) -> str:
    return f"{value:,}".replace(",", " ") if isinstance(value, int) else str(value)


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield "|" + "---|" * len(columns)
    for row in rows:
        yield f"| {' | '.join(map(_cell, row))} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def versions() -> dict[str, str]:
    """Of what the attacks run with."""
    found = {"python": platform.python_version(), "sqlite": apsw.sqlite_lib_version()}
    for program in ("lightningd", "bitcoind"):
        if shutil.which(program):
            said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
            found[program] = said.splitlines()[0].split()[-1] if said else "unknown"
    return found
