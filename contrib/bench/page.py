"""What is written down of the measurements: a JSON file with a part for each, and the page that is made from it.

The page's text above and below the generated part is written by hand, and stays.
"""

from __future__ import annotations

import datetime
import importlib
import json
import os
import platform
from pathlib import Path
from typing import Any

import apsw

from contrib import bootstrap, revision
from contrib.bench import PARTS

DATA = bootstrap.ROOT / "contrib" / "docs" / "benchmarks.json"
PAGE = DATA.with_suffix(".md")
BEGIN = "<!-- made by `python3 -m contrib.bench` from benchmarks.json; not written by hand -->"
END = "<!-- from here on written by hand -->"

Part = dict[str, Any]
"""What the JSON holds of one measurement, and when and on what it ran."""


def dated(part: Part, seconds: float, stolen_percent: float | None) -> Part:
    """A measurement with its date and place; as it will be read again. `stolen_percent`: see `watching.Theft`."""
    found: Part = json.loads(json.dumps(part))
    return found | {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "seconds": round(seconds),
        "commit": revision.commit(),
        "cpu": _cpu(),
        "cpus": os.cpu_count(),
        "load_before": _load_average(),
        "stolen_percent": stolen_percent,
        "versions": {"python": platform.python_version(), "sqlite": apsw.sqlite_lib_version()},
    }


def read() -> dict[str, Part]:
    """What is written so far, by measurement."""
    found: dict[str, Part] = json.loads(DATA.read_text()) if DATA.exists() else {}
    return found


def write_part(name: str, part: Part) -> None:
    """Replace the part of one measurement, and make the page again."""
    parts = read() | {name: part}
    ordered = {name: parts[name] for name in PARTS if name in parts}
    DATA.write_text(json.dumps(ordered, indent=1, ensure_ascii=False) + "\n")
    render_again()


def render_again() -> None:
    """Make the generated part of the page, and its pictures, from the JSON."""
    parts = read()
    PAGE.write_text(put_into(PAGE.read_text() if PAGE.exists() else "", render(parts)))
    for name, text in illustrations(parts).items():
        (PAGE.parent / name).write_text(text)


def illustrations(parts: dict[str, Part]) -> dict[str, str]:
    """All pictures by their file names. A part's module that has some has `illustrations(part)`."""
    found: dict[str, str] = {}
    for name, part in parts.items():
        module = importlib.import_module(PARTS[name])
        if hasattr(module, "illustrations"):
            found |= module.illustrations(part)
    return found


def put_into(page: str, generated: str) -> str:
    """The page with its generated part replaced."""
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n\n{generated}\n{END}{tail or chr(10)}"


def generated_in(page: str) -> str:
    """The generated part of a page."""
    return page.partition(BEGIN)[2].partition(END)[0].strip() + "\n"


def render(parts: dict[str, Part]) -> str:
    """The generated part, in Markdown."""
    blocks = []
    for name, part in parts.items():
        text = importlib.import_module(PARTS[name]).render(part).strip()
        versions = ", ".join(f"{program} {version}" for program, version in part["versions"].items())
        place = f"{part['cpus']} CPUs ({part['cpu']}), load average before: {part['load_before']}"
        if part.get("stolen_percent") is not None:
            place += f", {part['stolen_percent']} % of the CPU time taken by the host"
        blocks.append(
            f"{text}\n\n*{part['date']}, {part['seconds']} s, commit {part['commit']}; {place}; {versions}*\n"
        )
    return "\n".join(blocks)


def _cpu() -> str:
    """The processor's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _load_average() -> float:
    """Of the last five minutes: what else the machine did before."""
    return round(os.getloadavg()[1], 1)
