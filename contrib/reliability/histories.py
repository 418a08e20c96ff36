"""Random histories: wallets, payments by every method, failures, delays, repeats, rotations and restarts, against a
plain model.

Several wallets, the node, the chain and the operator do what they can do at a moment, sensible or not, to a ledger and
to a plain Python model of it: all three methods, single issues and batches, swaps of plain and of locked coins, melts
that are paid, fail, or are told of too late, transactions that are built, broadcast, settled or dead. After every step
the books are recomputed from the rows and compared with the model's, keyset by keyset with the coins in the wallets;
every refusal must have the code that the model says and change nothing, and every identical request its old answer.
"""

from __future__ import annotations

import functools
import logging
import os
import secrets
import time
import traceback
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context

from hypothesis import seed
from hypothesis.stateful import run_state_machine_as_test

from contrib.reliability.report import Report
from ledger import curve
from tests.ledger.histories.machine import Histories, histories

BATCH = 20
"""Histories with one seed."""
STEPS = 80


def run(budget_s: float) -> Report:
    """Batch after batch on all processors, each with a seed of its own, from one that is printed."""
    start = secrets.randbelow(2**32)
    print(f"seed {start}", flush=True)
    counts: Counter[str] = Counter()
    findings: list[str] = []
    end = time.monotonic() + budget_s
    workers = os.cpu_count() or 1
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_prepare_worker) as pool:
        running: set[Future[tuple[Counter[str], str | None]]] = set()
        batches = 0
        while running or batches == 0 or (time.monotonic() < end and not findings):
            while len(running) < workers and (batches < workers or (time.monotonic() < end and not findings)):
                running.add(pool.submit(_run_batch, start + batches))
                batches += 1
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                made, finding = future.result()
                counts += made
                findings += [finding] if finding else []
            print(f"{counts['histories']} histories, {_steps(counts)} steps, {len(findings)} wrong", flush=True)
    tried = counts.pop("histories")
    return Report(
        title="Random histories",
        what=__doc__.partition("\n\n")[2].replace("\n", " ").strip(),
        figures={
            "histories": tried,
            "steps": _steps(counts),
            "of them refused, each with the right code": sum(n for kind, n in counts.items() if "refused" in kind),
            "seed": str(start),
        },
        losses=len(findings),
        findings=tuple(findings),
        columns=("step", "times"),
        rows=[(kind, str(count)) for kind, count in sorted(counts.items())],
    )


def _steps(counts: Counter[str]) -> int:
    return sum(count for kind, count in counts.items() if kind != "histories")


def _prepare_worker() -> None:
    """All histories have the same mint's seed: deriving its keys again and again would take most of the time. What the
    ledger logs of operations that must never be asked for is expected."""
    logging.getLogger("ledger").setLevel(logging.CRITICAL)
    curve.public_key = functools.cache(curve.public_key)


def _run_batch(number: int) -> tuple[Counter[str], str | None]:
    """Some histories with a seed; what they did, and what was wrong."""
    Histories.steps.clear()
    machine = seed(number)(type("Histories", (Histories,), {}))
    try:
        run_state_machine_as_test(machine, settings=histories(BATCH, STEPS, derandomize=False))
    except Exception as error:
        traceback.print_exc()
        return Counter(Histories.steps), f"seed {number}: {error!r}"
    return Counter(Histories.steps), None
