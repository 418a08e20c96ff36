"""This mint on the sandbox beside nutshell's, in one run under the same load.

The mints take turns, flow by flow and round by round, so that whatever else the machine does meets both. Nothing is
left out of a mint's CPU time: it is its whole process, as /proc tells it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contrib import bootstrap
from contrib.bench import chart, floor, load, nutshell
from contrib.bench.flows import FLOWS, GRANTED, Flow, FlowError, World
from contrib.bench.server import Server
from contrib.bench.watching import MEMORY_TARGET_MIB
from contrib.sandbox import SandboxNode
from ledger.store import database
from plugin.version import VERSION

CLIENTS = (1, 8)
ROUNDS = 3
QUICK_SHARE = 20
"""A quick run makes so much less, once."""
QUIET_S = 0.3
"""Pause before a measurement: what the one before left to be done (a checkpoint, a notification) is over by then."""
LIMIT_PERCENT = 1_000_000
"""The mint's rate limiter works as always, but refuses nobody."""
US, THEM = "nutbolt", "nutshell"
CHART = "benchmarks.svg"

Figures = dict[str, Any]


@contextmanager
def our_mint(directory: Path) -> Iterator[tuple[Server, SandboxNode]]:
    """The mint, as it is shipped, on a stand-in node whose invoices pay themselves."""
    options = {
        "cashu-listen": "127.0.0.1:0",
        "cashu-rate-limit-local": str(LIMIT_PERCENT),
    }
    plugin = bootstrap.ROOT / "nutbolt.py"
    with SandboxNode(directory, plugin=plugin, options=options, auto=True, auto_delay_s=0.0) as node:
        line = node.wait_for_log(r"ready at http://\S+", timeout_s=60.0)
        host, _, port = line.message.partition("http://")[2].split()[0].rpartition(":")
        pid = node.plugin_pid
        assert pid is not None
        yield Server(US, VERSION, host, int(port), pid, _cpu_s_of_other_threads), node


def _cpu_s_of_other_threads() -> float:
    """The node's: it runs in this process, in a thread of its own, and the thread that asks only prepares the load."""
    return time.process_time() - time.thread_time()


@dataclass
class Sample:
    """All rounds of one flow, mint and number of clients."""

    per_s: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    node_ms: list[float] = field(default_factory=list)
    latencies_ms: list[float] = field(default_factory=list)
    refused: int = 0

    def figures(self) -> Figures:
        """Medians of the rounds; percentiles of all requests."""
        ordered = sorted(self.latencies_ms)
        return {
            "requests": len(ordered),
            "refused": self.refused,
            "per_s": round(statistics.median(self.per_s), 1),
            "cpu_ms": round(statistics.median(self.cpu_ms), 3),
            "node_ms": round(statistics.median(self.node_ms), 3),
            "p50_ms": round(_percentile(ordered, 50), 2),
            "p99_ms": round(_percentile(ordered, 99), 2),
        }


def run(options: argparse.Namespace) -> Figures:
    """Measure. Raises FlowError or LoadError if a mint does not do what it should."""
    chosen = {options.only: FLOWS[_known(options.only)]} if options.only else FLOWS
    floors: list[dict[str, float]] = []
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nutbolt-bench-")))
        ours, node = stack.enter_context(our_mint(directory / US))
        worlds = [World(ours, lambda msat: node.outside_invoice(msat).bolt11)]
        start_mib = {US: round(ours.memory_mib()[0], 1)}
        if not options.without_nutshell:
            theirs = stack.enter_context(nutshell.running(directory / THEM))
            worlds.append(World(theirs, lambda msat: node.outside_invoice(msat).bolt11))
            start_mib[THEM] = round(theirs.memory_mib()[0], 1)
        samples = _measure(worlds, chosen, floors, options.quick)
        costs = {call: round(statistics.median(once[call] for once in floors), 2) for call in floors[0]}
        return {
            "mints": {
                world.server.name: {
                    "version": world.server.version,
                    "synchronous": _synchronous(world.server.name),
                    "rss_start_mib": start_mib[world.server.name],
                    "rss_peak_mib": round(world.server.memory_mib()[1], 1),
                }
                for world in worlds
            },
            "rounds": 1 if options.quick else ROUNDS,
            "curve_us": costs,
            "flows": {name: _figures(name, flow, samples, costs) for name, flow in chosen.items()},
        }


def _known(flow: str) -> str:
    if flow not in FLOWS:
        sys.exit(f"there is no flow {flow}; there are {', '.join(FLOWS)}")
    return flow


def _synchronous(mint: str) -> str:
    return nutshell.synchronous() if mint == THEM else database.SYNCHRONOUS


Key = tuple[str, str, int]
"""Flow, mint, clients."""


def _measure(
    worlds: list[World], flows: dict[str, Flow], floors: list[dict[str, float]], quick: bool
) -> dict[Key, Sample]:
    samples: dict[Key, Sample] = {}
    for number in range(1 if quick else ROUNDS):
        for name, flow in flows.items():
            if flow.curve is not None or not floors:
                floors.append(floor.measure())
            for clients in CLIENTS:
                for world in worlds:
                    mint = world.server.name
                    count = flow.counts[mint == THEM] // (QUICK_SHARE if quick else 1)
                    sample = samples.setdefault((name, mint, clients), Sample())
                    _measure_once(world, flow, max(count, clients), clients, sample)
                    said = f"{sample.per_s[-1]:8.1f}/s {sample.cpu_ms[-1]:8.3f} CPU-ms"
                    print(f"{number + 1} {name:16} {clients} {mint:9} {said}", file=sys.stderr, flush=True)
    return samples


def _measure_once(world: World, flow: Flow, count: int, clients: int, sample: Sample) -> None:
    asks = flow.prepare(world, count)
    time.sleep(QUIET_S)
    server = world.server
    cpu_before, node_before = server.cpu_s(), server.node_cpu_s()
    done = load.run(server.host, server.port, asks, clients)
    cpu_after, node_after = server.cpu_s(), server.node_cpu_s()
    refused = [body for status, body in zip(done.statuses, done.bodies, strict=True) if status != GRANTED]
    if refused and server.name == US:
        raise FlowError(f"{US} refuses {len(refused)} of {count}: {refused[0][:300]}")
    sample.refused += len(refused)
    sample.per_s.append((count - len(refused)) / done.seconds)
    sample.cpu_ms.append((cpu_after - cpu_before) * 1000 / count)
    sample.node_ms.append((node_after - node_before) * 1000 / count)
    sample.latencies_ms += done.latencies_ms


def _figures(name: str, flow: Flow, samples: dict[Key, Sample], costs: dict[str, float]) -> Figures:
    found: Figures = {
        "by": {
            mint: {str(clients): samples[name, mint, clients].figures() for clients in CLIENTS}
            for mint in (US, THEM)
            if (name, mint, CLIENTS[0]) in samples
        }
    }
    if flow.curve is not None:
        found["floor_ms"] = round(floor.ms_of(costs, *flow.curve), 3)
    return found


def _percentile(ordered: list[float], percent: int) -> float:
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


# --- the page ---------------------------------------------------------------------------------------------------------

WHAT = """\
## Beside nutshell

The mint on the sandbox, and nutshell's mint ({theirs}) with its FakeWallet, started by the same command and measured in
turns: {rounds} rounds, their medians. One process makes the load for both; its requests were made beforehand. Both
mints are as they are shipped, with input fees, FakeWallet's delays and the refusals of rate limits switched off, and
both answer only what is on the disk: SQLite in WAL mode with `synchronous={sync_us}` here, `{sync_them}` there
(nutshell sets none; this is what its SQLite does by itself).

*CPU* is the time of the mint's whole process for each request, in user mode and in the kernel. Of this mint the node is
another process (the sandbox, in Python): its time is in the column *node*; nutshell's FakeWallet is part of the mint.
The *floor* is what libsecp256k1 alone needs for the same signatures and checks, on one core, measured before each of
these flows (medians, as for the mints); the *efficiency* is the floor divided by the mint's CPU time. *Restore* and
*checkstate* ask for 50 entries that the mint knows and 50 that it doesn't. What is answered to `prefer_async` is
`PENDING`, in both mints; what they do for it after that answer is not counted. What nutshell refuses (its database is
locked at times, and it says 400) is not counted as served; one refusal of ours would end the run."""


def render(part: Figures) -> str:
    """The section of the page."""
    mints = part["mints"]
    theirs = mints.get(THEM, {"version": "not measured", "synchronous": "?"})
    lines = [
        WHAT.format(
            theirs=theirs["version"],
            rounds=part["rounds"],
            sync_us=mints[US]["synchronous"],
            sync_them=theirs["synchronous"],
        ),
        "",
        f"![Requests a second of both mints, and this mint's CPU time beside the curve's]({CHART})",
        "",
        "| flow | clients | requests/s | nutshell's | times | aimed for | p50, p99 ms | nutshell's |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [_speed_row(name, flow, clients) for name, flow in part["flows"].items() for clients in map(str, CLIENTS)]
    lines += [
        "",
        "| flow, 8 clients | CPU ms | nutshell's | node ms | floor ms | efficiency | with 1 client |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [_cost_row(name, flow) for name, flow in part["flows"].items()]
    lines += ["", f"| memory, MiB (shall be ≤ {MEMORY_TARGET_MIB}) | at the start | most |", "|---|---|---|"]
    lines += [f"| {name} | {mint['rss_start_mib']} | {mint['rss_peak_mib']} |" for name, mint in mints.items()]
    calls = ", ".join(f"{what} {us:.1f}" for what, us in part["curve_us"].items())
    lines += ["", f"One call of libsecp256k1, µs: {calls}."]
    return "\n".join(lines)


def _speed_row(name: str, flow: Figures, clients: str) -> str:
    ours, theirs = flow["by"][US][clients], flow["by"].get(THEM, {}).get(clients)
    target = FLOWS[name].target
    cells = [
        FLOWS[name].title,
        clients,
        f"{ours['per_s']:.0f}",
        f"{theirs['per_s']:.0f}{_refused(theirs)}" if theirs else "",
        f"**{ours['per_s'] / theirs['per_s']:.1f}**" if theirs else "",
        f"{target}" if target and clients == "8" else "",
        f"{ours['p50_ms']:.1f}, {ours['p99_ms']:.1f}",
        f"{theirs['p50_ms']:.1f}, {theirs['p99_ms']:.1f}" if theirs else "",
    ]
    return f"| {' | '.join(cells)} |"


def _refused(figures: Figures) -> str:
    return f" ({figures['refused']} of {figures['requests']} refused)" if figures["refused"] else ""


def _cost_row(name: str, flow: Figures) -> str:
    ours, theirs = flow["by"][US], flow["by"].get(THEM)
    floor_ms = flow.get("floor_ms")
    cells = [
        FLOWS[name].title,
        f"{ours['8']['cpu_ms']:.2f}",
        f"{theirs['8']['cpu_ms']:.1f}" if theirs else "",
        f"{ours['8']['node_ms']:.2f}",
        f"{floor_ms:.2f}" if floor_ms else "",
        f"**{floor_ms / ours['8']['cpu_ms']:.2f}**" if floor_ms else "",
        f"{floor_ms / ours['1']['cpu_ms']:.2f}" if floor_ms else "",
    ]
    return f"| {' | '.join(cells)} |"


def illustrations(part: Figures) -> dict[str, str]:
    """The page's pictures by their file names."""
    speed, cost = [], []
    for name, flow in part["flows"].items():
        label = FLOWS[name].title.replace("`", "")
        ours, theirs = flow["by"][US]["8"], flow["by"].get(THEM, {}).get("8")
        if theirs:
            times = f"({ours['per_s'] / theirs['per_s']:.0f} times)"
            speed.append(chart.Row(label, (ours["per_s"], theirs["per_s"]), times))
        if floor_ms := flow.get("floor_ms"):
            values = [ours["cpu_ms"], floor_ms]
            cost.append(chart.Row(label, values, f"({floor_ms / ours['cpu_ms']:.0%} of it the curve)"))
    panels = [
        chart.Panel("Requests a second, 8 clients", (US, THEM), speed),
        chart.Panel("CPU ms for a request", (US, "libsecp256k1 alone"), cost),
    ]
    return {CHART: chart.draw([panel for panel in panels if panel.rows])}
