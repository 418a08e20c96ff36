"""Fuzzing: each target of `contrib.fuzz` for its share of the time, guided by the code that its inputs reach."""

from __future__ import annotations

import base64
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from contrib import bootstrap
from contrib.reliability.report import Report

TARGETS = ("requests", "spending", "subscriptions", "transactions", "proxies", "options", "http")
SHARES = {"requests": 3, "spending": 3, "subscriptions": 2, "http": 5}
"""Of the time; 1 for the others."""
LONGEST_INPUT = 8192
LONGEST_S = 10
"""For one input; a slower one is a finding."""
MOST_MEMORY_MIB = 1024
START_S = 60
"""What a target may take beyond its share to start and to try its seeds."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one target. `finding` is empty, or says what went wrong, and for which input."""

    target: str
    runs: int
    edges: int
    corpus: int
    slowest_s: int
    memory_mib: int
    finding: str


def run(budget_s: float) -> Report:
    """Fuzz all targets. Raises RuntimeError if atheris is not installed."""
    if importlib.util.find_spec("atheris") is None:
        raise RuntimeError("fuzzing needs atheris: .venv/bin/pip install -e '.[fuzz]'")
    total = sum(SHARES.get(target, 1) for target in TARGETS)
    with tempfile.TemporaryDirectory(prefix="nutbolt-fuzz-") as directory:
        outcomes = [
            _fuzz(target, Path(directory), max(1, int(budget_s * SHARES.get(target, 1) / total))) for target in TARGETS
        ]
    findings = tuple(f"{outcome.target}: {outcome.finding}" for outcome in outcomes if outcome.finding)
    return Report(
        title="Fuzzing",
        what=(
            "Inputs made by libFuzzer (atheris), guided by coverage and begun with the NUTs' vectors, for whatever "
            "reads what strangers send: bodies of requests up to the database, secrets and witnesses, WebSocket "
            "messages, transactions and PSBTs, proxies' headers, options, and the bytes of a connection to the whole "
            "HTTP server. Checked: only what is declared is raised, no answer is a 500, every connection ends, within "
            f"{LONGEST_S} s and {MOST_MEMORY_MIB} MiB for an input."
        ),
        figures={
            "inputs tried": sum(outcome.runs for outcome in outcomes),
            "edges covered, of all targets": sum(outcome.edges for outcome in outcomes),
            "inputs worth keeping": sum(outcome.corpus for outcome in outcomes),
            "slowest input, s": max(outcome.slowest_s for outcome in outcomes),
            "most memory, MiB": max(outcome.memory_mib for outcome in outcomes),
            "crashes": len(findings),
        },
        losses=len(findings),
        findings=findings,
        columns=("target", "inputs", "edges", "kept", "memory, MiB", "found"),
        rows=[
            (
                outcome.target,
                str(outcome.runs),
                str(outcome.edges),
                str(outcome.corpus),
                str(outcome.memory_mib),
                "a crash" if outcome.finding else "nothing",
            )
            for outcome in outcomes
        ],
    )


def _fuzz(target: str, directory: Path, seconds: int) -> Outcome:
    from contrib.fuzz import seeds  # noqa: PLC0415 - needs the environment

    corpus = directory / target
    corpus.mkdir()
    seeds.write(target, corpus)
    words = directory / "words"
    seeds.write_dictionary(words)
    options = {
        "max_total_time": seconds,
        "max_len": LONGEST_INPUT,
        "timeout": LONGEST_S,
        "rss_limit_mb": MOST_MEMORY_MIB,
        "dict": words,
        "artifact_prefix": f"{directory}/{target}-",
        "print_final_stats": 1,
    }
    command = [sys.executable, "-m", "contrib.fuzz", target, str(corpus)]
    command += [f"-{name}={value}" for name, value in options.items()]
    try:
        process = subprocess.run(
            command,
            cwd=bootstrap.ROOT,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds + START_S,
            env={**os.environ, "TMPDIR": str(directory)},
            check=False,
        )
        said, code = process.stdout + process.stderr, process.returncode
    except subprocess.TimeoutExpired as error:
        said, code = str(error.stderr or b"", "utf-8", "replace") if isinstance(error.stderr, bytes) else "", -1
    return Outcome(
        target,
        _last(r"number_of_executed_units:\s*(\d+)", said),
        _last(r"cov: (\d+)", said),
        _last(r"corp: (\d+)", said),
        _last(r"slowest_unit_time_sec:\s*(\d+)", said),
        _last(r"peak_rss_mb:\s*(\d+)", said),
        _finding(said, sorted(directory.glob(f"{target}-*"))) if code else "",
    )


def _last(pattern: str, text: str) -> int:
    found = re.findall(pattern, text)
    return int(found[-1]) if found else 0


def _finding(said: str, inputs: list[Path]) -> str:
    """What was raised, and the input in base64, which libFuzzer has left in a file."""
    error = re.search(r"=== Uncaught Python exception: ===\n(.*)", said) or re.search(r"ERROR: libFuzzer: (.*)", said)
    data = base64.b64encode(inputs[0].read_bytes()[:2000]).decode() if inputs else "unknown"
    what = error[1][:300] if error else f"it did not end well: {said[-300:]}"
    return f"{what}; input (base64): {data}"
