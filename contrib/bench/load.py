"""Load for a mint, made by a process of its own (`contrib.bench.generator`)."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

TIMEOUT_S = 120.0
"""Of a whole job."""
ACCEPT_ENCODING = "identity"


class Ask(NamedTuple):
    """A request. `body`: JSON text; None for a GET."""

    path: str
    body: str | None = None
    accept_encoding: str = ACCEPT_ENCODING


class Result(NamedTuple):
    """What a job measured. `latencies_ms`: of each request, in order; `bodies`: of the answers, if they were wanted."""

    seconds: float
    latencies_ms: list[float]
    statuses: list[int]
    bodies: list[str]


class LoadError(Exception):
    """The generator could not do its job."""


def run(host: str, port: int, asks: Sequence[Ask], clients: int, *, keep: bool = False) -> Result:
    """Send all requests, `clients` at a time, from another process. Raises LoadError."""
    with tempfile.TemporaryDirectory(prefix="nutbolt-load-") as directory:
        answer = Path(directory) / "answer.json"
        job = {"host": host, "port": port, "asks": asks, "clients": clients, "keep": keep, "answer": str(answer)}
        done = subprocess.run(
            [sys.executable, "-m", "contrib.bench.generator"],
            input=json.dumps(job),
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_S,
        )
        if done.returncode != 0 or not answer.exists():
            raise LoadError(f"the load generator failed ({done.returncode}): {done.stderr.strip()[-500:]}")
        return Result(**json.loads(answer.read_text()))
