"""The attack by kill -9: `python3 -m contrib.reliability --only crashes`; see `contrib.reliability.crash`."""

from __future__ import annotations

import importlib.util
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from contrib.reliability.crash.matrix import Matrix, Trial, trials
from contrib.reliability.crash.steps import Point, Victim
from contrib.reliability.crash.world import SandboxWorld
from contrib.reliability.report import Report

TITLE = "Crashes: kill -9 at every durable step"
WHAT = """\
Every operation of the ledger, the two steps by which a ledger begins, and every command that changes something at
the node can be interrupted: before it, when it is written but not committed, when it is committed and nobody knows,
when all have been told; before a command, when it has just been sent, and when its answer has come. At each of
these points the plugin or the node is killed with SIGKILL in the middle of what a wallet does, and started again.
(The real lightningd is killed at the very point, and the plugin goes on until it notices; the stand-in goes down as
soon as its plugin is dead.) The wallet repeats word for word what was not answered. In the end each melt must be
PAID and its payee have been paid once, or UNPAID and not at all; every proof of the wallet must be unspent and
every spent one spent, with the signatures that a restore finds; the ecash that is out must be what the wallet has,
to the last sat, change included; what the node's channels and coins have gained must be what the mint has booked;
the audit and SQLite's own check must find nothing."""
NODE_BINARIES = ("lightningd", "bitcoind", "bitcoin-cli")
SANDBOX, REAL = "stand-in", "lightningd"
SEED = "crashes"
"""Of the order of the trials: the same one each time."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a trial. `fault` is empty if nothing was lost; `died`: it was killed where it should be."""

    where: str
    trial: Trial
    fault: str


def run(budget_s: float) -> Report:
    """Go through the matrix in a stand-in node, and in a real one if there is one, in a random order, until all is done
    or the time is up. What there was no time for is in the table as such."""
    plans = [(SANDBOX, list(trials(staged=True)), _sandbox)]
    if _has_node():
        plans.append((REAL, list(trials(staged=False)), _real))
    until = time.monotonic() + budget_s
    with tempfile.TemporaryDirectory(prefix="nutbolt-crashes-") as directory, ThreadPoolExecutor(len(plans)) as pool:

        def attack(
            where: str, plan: list[Trial], make: Callable[[Path], AbstractContextManager[Matrix]]
        ) -> list[Result]:
            with make(Path(directory) / where) as matrix:
                return list(_go_through(where, plan, matrix, until))

        running = [pool.submit(attack, *each) for each in plans]  # both at once: they mostly wait
        results = [result for future in running for result in future.result()]
    return report_of(plans_of={where: plan for where, plan, _ in plans}, results=results)


def _go_through(where: str, plan: list[Trial], matrix: Matrix, until: float) -> Iterator[Result]:
    for trial in in_order(plan):
        if time.monotonic() >= until:
            return
        fault = ""
        try:
            matrix.perform(trial)
        except Exception as error:
            fault = f"{type(error).__name__}: {error}".splitlines()[0]
        yield Result(where, trial, fault)


def in_order(plan: list[Trial]) -> list[Trial]:
    """At random, but every point once for each victim before any is struck in a second flow."""
    order = random.Random(SEED)  # noqa: S311
    times: Counter[tuple[Point, Victim]] = Counter()
    ranked: list[tuple[int, Trial]] = []
    for trial in order.sample(plan, len(plan)):
        times[trial.point, trial.victim] += 1
        ranked.append((times[trial.point, trial.victim], trial))
    return [trial for _, trial in sorted(ranked, key=lambda entry: entry[0])]


def report_of(plans_of: dict[str, list[Trial]], results: list[Result]) -> Report:
    faults = tuple(f"{result.where}, {result.trial}: {result.fault}" for result in results if result.fault)
    figures: dict[str, int | float | str] = {"kills": len(results)}
    for where, plan in plans_of.items():
        mine = [result for result in results if result.where == where]
        figures[f"{where}: kills"] = len(mine)
        figures[f"{where}: of so many places in the matrix"] = len(plan)
    figures["durable steps"] = len({trial.point.step for plan in plans_of.values() for trial in plan})
    figures["points (step and stage)"] = len({str(trial.point) for plan in plans_of.values() for trial in plan})
    figures["flows"] = len({trial.flow.name for plan in plans_of.values() for trial in plan})
    planned = [(where, trial) for where, plan in plans_of.items() for trial in plan]
    return Report(
        title=TITLE,
        what=" ".join(WHAT.split()),
        figures=figures,
        losses=len(faults),
        findings=faults,
        columns=("step", "stage", "killed", *plans_of, "flows", "outcome"),
        rows=tuple(_rows(planned, results, list(plans_of))),
    )


def _rows(
    planned: Iterable[tuple[str, Trial]], results: Iterable[Result], places: list[str]
) -> Iterator[tuple[str, ...]]:
    """One for each point and victim: how many of its places were tried, in which flows."""
    wanted: dict[tuple[str, str, str], list[tuple[str, Trial]]] = {}
    for where, trial in planned:
        key = (trial.point.step, trial.point.stage, str(trial.victim))
        wanted.setdefault(key, []).append((where, trial))
    tried = {(result.where, str(result.trial)): result.fault for result in results}
    for key, group in wanted.items():
        counts = []
        for place in places:
            mine = [trial for where, trial in group if where == place]
            done = sum((place, str(trial)) in tried for trial in mine)
            counts.append(f"{done} of {len(mine)}" if mine else "")
        faults = [tried.get((where, str(trial)), "") for where, trial in group]
        flows = dict.fromkeys(trial.flow.name for where, trial in group if (where, str(trial)) in tried)
        outcome = "LOST" if any(faults) else "nothing lost" if flows else "no time for it"
        yield (*key, *counts, "; ".join(flows), outcome)


def _has_node() -> bool:
    return all(map(shutil.which, NODE_BINARIES)) and importlib.util.find_spec("pyln.testing") is not None


@contextmanager
def _sandbox(directory: Path) -> Iterator[Matrix]:
    with Matrix(directory, SandboxWorld) as matrix:
        yield matrix


@contextmanager
def _real(directory: Path) -> Iterator[Matrix]:
    # The network of real nodes is the tests'; it needs pyln-testing, which may not be installed.
    from tests.node.crash_world import node_matrix  # noqa: PLC0415
    from tests.node.harness import Network  # noqa: PLC0415

    directory.mkdir(parents=True)
    network = Network(directory)
    try:
        network.start()
        with node_matrix(network, directory) as matrix:
            yield matrix
    finally:
        network.stop()
