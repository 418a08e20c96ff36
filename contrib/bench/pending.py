"""Many melts pending at once: what they cost while nothing happens, how soon they are answered, and how soon over.

The sandbox holds every payment until it is told to let it arrive. The wallets are a process of their own, the mint is
one, and this one has the node.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contrib.bench.crowd import Crowd
from contrib.bench.watching import MEMORY_TARGET_MIB, Theft, cpu_s, in_ms, memory_mib
from contrib.sandbox import Behaviour, OutsideInvoice
from contrib.sandbox.node import Node
from contrib.wallet import WalletProof, messages, unblind
from tests.plugin.harness import Mint, Purse, wait_for
from tests.protocol.helpers import in_parallel, ok, wire

PENDING, QUICK_PENDING = 10_000, 400
CLIENTS = 16
"""Who find out how much the mint takes, and prepare."""
SATURATING_SHARE = 0.2
"""Of the melts: they are begun as fast as it goes, the others at half the rate that this goes on for."""
SETTLED, QUICK_SETTLED = 1_000, 100
SETTLED_PER_S = 25
QUIET_S, QUICK_QUIET_S = 60.0, 3.0
REST_S = 3.0
"""After a burst, before anything is measured."""
OUTPUTS = 500
"""In one issue."""
CHANNEL_MSAT = 10**12
PATIENCE_S = 600.0
KIB = 1024
WEBSOCKET_TARGET_MS, MOST_RATIO = 20, 3
MINT_OPTIONS: dict[str, Any] = {"fee_reserve_min": 0, "fee_reserve_percent": 0, "max_mint": 0}


@dataclass(eq=False)
class Planned:
    """A melt of one sat."""

    invoice: OutsideInvoice
    proof: WalletProof
    quote: str = ""

    @property
    def body(self) -> dict[str, Any]:
        """Its request."""
        return {"quote": self.quote, "inputs": wire([self.proof]), "prefer_async": True}


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure."""
    count = options.pending or (QUICK_PENDING if options.quick else PENDING)
    settled = min(count // 2, QUICK_SETTLED if options.quick else SETTLED)
    with tempfile.TemporaryDirectory(prefix="nutbolt-pending-") as directory, ExitStack() as stack:
        node = {"capacity_msat": 2 * CHANNEL_MSAT, "to_us_msat": CHANNEL_MSAT}
        mint = Mint(Path(directory), node=node, max_pending_melts=count, **MINT_OPTIONS)
        stack.callback(mint.stop)
        mint.start()
        plans = _plan(mint, count)
        before = memory_mib(mint)
        part = {"pending": count, **_begin(mint, plans)}
        part["memory_before_mib"], part["memory_after_mib"] = round(before, 1), round(memory_mib(mint), 1)
        part["kib_per_melt"] = round((memory_mib(mint) - before) * KIB / count, 1)
        part["quiet"] = _stay_quiet(mint, QUICK_QUIET_S if options.quick else QUIET_S)
        part["settled"] = _settle(mint, stack, plans, settled)
        part["restart"] = _restart(mint, count - settled)
        part["drained"] = _drain(mint, plans[settled:])
        mint.check()
        return part


def _plan(mint: Mint, count: int) -> list[Planned]:
    """Ecash, invoices that are held, and quotes."""
    print(f"{count:,} quotes …", flush=True)
    purse = Purse(mint)
    proofs: list[WalletProof] = []
    while len(proofs) < count:
        outputs = purse.outputs_of([1] * min(OUTPUTS, count - len(proofs)))
        quote = purse.request_mint(len(outputs))
        mint.node.pay_invoice(quote.request)
        purse.wait_credited(quote)
        proofs += unblind(outputs, purse.client.mint(quote.quote, messages(outputs)), purse.keysets)

    def issue(node: Node) -> list[OutsideInvoice]:
        return [node.outside.issue(1000, "sandbox", 24 * 3600, None, ()) for _ in range(count)]

    plans = [Planned(*pair) for pair in zip(mint.node.do(issue, timeout_s=PATIENCE_S), proofs, strict=True)]
    mint.node.script(Behaviour.hold(fee_msat=0), times=count)

    def ask(plan: Planned) -> None:
        request = {"request": plan.invoice.bolt11, "unit": "sat"}
        plan.quote = ok(mint.http.post("/v1/melt/quote/bolt11", json=request))["quote"]

    in_parallel([lambda plan=plan: ask(plan) for plan in plans], workers=CLIENTS)  # type: ignore[misc]
    return plans


def _begin(mint: Mint, plans: Sequence[Planned]) -> dict[str, Any]:
    """Find the load that saturates the mint, melts begun and their payments sent, then begin the others at half of it.

    Melts can be begun faster than that, but not for long: their payments have to be sent as well."""
    first = int(len(plans) * SATURATING_SHARE)
    place = {"host": "127.0.0.1", "port": mint.port, "path": "/v1/melt/bolt11"}
    begun = time.monotonic()
    burst = _said(work="keep", clients=CLIENTS, bodies=[json.dumps(plan.body) for plan in plans[:first]], **place)
    _wait_sent(mint, first)
    saturating_per_s = first / (time.monotonic() - begun)
    time.sleep(REST_S)
    used = cpu_s(mint)
    middle = first + (len(plans) - first) // 2
    ways = {"evenly": plans[first:middle], "randomly": plans[middle:]}
    posts = {}
    for way, some in ways.items():
        theft = Theft()
        bodies = [json.dumps(plan.body) for plan in some]
        said = _said(work="arrive", evenly=way == "evenly", per_s=saturating_per_s / 2, bodies=bodies, **place)
        rate = round(len(said["times"]) / said["seconds"], 1)
        posts[way] = {"per_s": rate, **in_ms(said["times"]), "stolen_percent": theft.percent()}
    _wait_sent(mint, len(plans))
    time.sleep(REST_S)
    return {
        "most_per_s": round(first / burst["seconds"], 1),
        "saturating_per_s": round(saturating_per_s, 1),
        "posts": posts,
        "cpu_ms_per_melt": round((cpu_s(mint) - used) / (len(plans) - first) * 1000, 2),
    }


def _said(**job: Any) -> Any:
    crowd = Crowd(**job)
    try:
        return crowd.read()
    finally:
        crowd.end()


def _wait_sent(mint: Mint, pending: int) -> None:
    """Until every payment is on its way."""
    wait_for(lambda: mint.node.do(lambda node: node.parts.count()) == pending, "the payments", PATIENCE_S)


def _stay_quiet(mint: Mint, seconds: float) -> dict[str, Any]:
    """What the mint asks its node while nothing happens."""
    position, used = mint.node.calls_position, cpu_s(mint)
    time.sleep(seconds)
    calls = Counter(call.method for call in mint.node.calls(since=position))
    return {
        "seconds": seconds,
        "calls": dict(calls),
        "cpu_ms_per_s": round((cpu_s(mint) - used) / seconds * 1000, 2),
    }


def _settle(mint: Mint, stack: ExitStack, plans: Sequence[Planned], count: int) -> dict[str, Any]:
    """Let some payments arrive, one after the other, and see when the wallets hear of it."""
    crowd = Crowd(work="watch", host="127.0.0.1", port=mint.port, quotes=[p.quote for p in plans], expected=count)
    stack.callback(crowd.end)
    assert crowd.read() == "ready"
    position = mint.node.notifications_position
    due = time.monotonic()
    for plan in plans[:count]:
        due += 1 / SETTLED_PER_S
        time.sleep(max(0.0, due - time.monotonic()))
        mint.node.release(plan.invoice)
    told = crowd.read()
    happened = {
        entry.payload["payment_hash"]: entry.monotonic_s
        for entry in mint.node.notifications("sendpay_success", since=position)
    }
    delays = [told[plan.quote] - happened[plan.invoice.payment_hash] for plan in plans[:count]]
    return {"melts": count, "per_s": SETTLED_PER_S, **in_ms(delays), "max_ms": round(max(delays) * 1000, 1)}


def _restart(mint: Mint, pending: int) -> dict[str, Any]:
    """The plugin is killed, and finds all of them again."""
    position = mint.node.calls_position
    mint.node.kill_plugin()
    begun = time.monotonic()
    mint.start_plugin()
    ready_s = time.monotonic() - begun
    time.sleep(REST_S)
    wait_for(lambda: _is_idle(mint), "the payments to be looked at", PATIENCE_S)
    calls = Counter(call.method for call in mint.node.calls(since=position))
    assert mint.info()["pending_melts"] == pending
    return {
        "pending": pending,
        "ready_s": round(ready_s, 2),
        "calls_per_melt": round(sum(calls.values()) / pending, 2),
        "memory_mib": round(memory_mib(mint), 1),
    }


def _is_idle(mint: Mint) -> bool:
    position = mint.node.calls_position
    time.sleep(REST_S)
    return mint.node.calls_position == position


def _drain(mint: Mint, plans: Sequence[Planned]) -> dict[str, Any]:
    """All others arrive at once."""
    begun = time.monotonic()

    def release(node: Node) -> None:
        for plan in plans:
            node.parts.release(plan.invoice.payment_hash, ok=True, partid=None, cause=None)

    mint.node.do(release, timeout_s=PATIENCE_S)
    wait_for(lambda: mint.info()["pending_melts"] == 0, "all melts to be over", PATIENCE_S)
    seconds = time.monotonic() - begun
    return {"melts": len(plans), "seconds": round(seconds, 1), "per_s": round(len(plans) / seconds)}


def render(part: dict[str, Any]) -> str:
    """A list of figures."""
    settled, quiet, restart = part["settled"], part["quiet"], part["restart"]
    posts = "\n".join(_post_row(way, post) for way, post in part["posts"].items())
    before, after = part["memory_before_mib"], part["memory_after_mib"]
    calls = sum(quiet["calls"].values()) / part["pending"] / quiet["seconds"] * 60
    return f"""## Many melts pending at once

{part["pending"]:,} melts whose payments are held, all in flight at once.

| | measured | shall be |
| --- | ---: | ---: |
| resident memory for each pending melt | {part["kib_per_melt"]} KiB | |
| of the process, before and with all of them | {before} and {after} MiB | ≤ {MEMORY_TARGET_MIB} MiB |
| calls to the node for each pending melt and minute, while nothing happens | {calls:g} | 0 |
| CPU time in that while, for all of them | {quiet["cpu_ms_per_s"]} ms a second | |
| melts begun a second, as fast as it goes ({CLIENTS} at a time) | {part["most_per_s"]} | |
| melts begun a second with their payments sent, which saturates mint and sandbox | {part["saturating_per_s"]} | |
{posts}
| CPU time for each, its payment included | {part["cpu_ms_per_melt"]} ms | |
| from the node's settlement to the wallet's WebSocket, p50 | {settled["p50_ms"]} ms | |
| p99 | {settled["p99_ms"]} ms | < {WEBSOCKET_TARGET_MS} ms |
| the plugin killed with {restart["pending"]:,} pending: ready again after | {restart["ready_s"]} s | |
| calls to the node for each of them then | {restart["calls_per_melt"]} | |
| {part["drained"]["melts"]:,} settled by the node at once: all over after | {part["drained"]["seconds"]} s | |
"""


def _post_row(way: str, post: dict[str, Any]) -> str:
    ratio = post["p99_ms"] / post["p50_ms"]
    stolen = post.get("stolen_percent")
    host = "" if stolen is None else f" (the host took {stolen} % of the CPU time)"
    what = f"`POST` until `PENDING` at half of that, {post['per_s']} a second, sent {way}{host}: p50, p99, their ratio"
    return f"| {what} | {post['p50_ms']} ms, {post['p99_ms']} ms, {ratio:.1f} | ratio < {MOST_RATIO} |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--pending", type=int)
    parser.add_argument("--quick", action="store_true")
    print(render(run(parser.parse_args())))
