"""The same requests to mints whose ledgers differ in nothing but the length of their history.

All mints run at once and take turns, a few requests each, so that whatever else the machine does falls on all of them.
The node is the sandbox, and it and the wallet run in this process: what is compared is the mint's own CPU time, and the
time from request to answer. Files are in the system's page cache where nothing else is said, as far as memory goes.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contrib.bench import history
from contrib.bench.watching import cpu_s, in_ms, memory_mib, read_kib
from contrib.sandbox import Behaviour
from contrib.wallet import WalletProof, messages, unblind
from ledger.models import MeltQuoteState
from tests.plugin.harness import Mint, Purse
from tests.protocol.helpers import ok, random_ys, wire

SIZES, QUICK_SIZES = (10_000, 1_000_000, 10_000_000), (1_000, 100_000)
ROUNDS, QUICK_ROUNDS = 40, 4
SWAPS, CHECKS, MELTS = 8, 4, 4
"""Of each in a round."""
COINS = 8
COIN = 8
CHECKED = 100
SAMPLE = 2000
"""Spent proofs out of the whole history about which checkstate asks."""
STARTS = 3
POLL_S = 0.002
READ_BYTES = 1 << 20
SEED = 6
MOST = 1.3
"""What a cost may grow by."""
MINT_OPTIONS: dict[str, Any] = {"fee_reserve_min": 0, "fee_reserve_percent": 0, "max_mint": 0}


@dataclass(eq=False)
class Subject:
    """A mint with a history, and a wallet of its own. Times in seconds."""

    mint: Mint
    rows: history.Rows
    file_mib: int
    start_cold_s: float = 0.0
    start_read_kib: float = 0.0
    """From the disk, at such a start."""
    start_s: float = 0.0
    memory_mib: float = 0.0
    audit_s: float = 0.0
    purse: Purse = field(init=False)
    coins: list[list[WalletProof]] = field(default_factory=list)
    spent: list[str] = field(default_factory=list)
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    cpu_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    @contextmanager
    def measured(self, flow: str) -> Iterator[Callable[[Callable[[], Any]], Any]]:
        """Count CPU time; what is called by what this yields is timed."""

        def timed(work: Callable[[], Any]) -> Any:
            begun = time.perf_counter()
            result = work()
            self.seconds[flow].append(time.perf_counter() - begun)
            return result

        before = cpu_s(self.mint)
        yield timed
        self.cpu_s[flow] += cpu_s(self.mint) - before

    def figures(self) -> dict[str, Any]:
        """What came out."""
        flows = {
            flow: {**in_ms(times), "cpu_ms": round(self.cpu_s[flow] / len(times) * 1000, 2), "requests": len(times)}
            for flow, times in self.seconds.items()
        }
        return {
            "spent_proofs": self.rows.proofs,
            "promises": self.rows.promises,
            "melt_quotes": self.rows.melt_quotes,
            "file_mib": self.file_mib,
            "start_cold_s": round(self.start_cold_s, 2),
            "start_read_kib": round(self.start_read_kib),
            "start_s": round(self.start_s, 2),
            "memory_at_start_mib": round(self.memory_mib, 1),
            "memory_after_mib": round(memory_mib(self.mint), 1),
            "audit_s": round(self.audit_s, 2),
            "flows": flows,
        }


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure mints with histories of `options.sizes` spent proofs."""
    sizes = options.sizes or (QUICK_SIZES if options.quick else SIZES)
    rounds = QUICK_ROUNDS if options.quick else ROUNDS
    with tempfile.TemporaryDirectory(prefix="nutbolt-growth-") as directory, ExitStack() as stack:
        subjects = [_grown(Path(directory) / str(size), size, stack) for size in sizes]
        for subject in subjects:
            _fund(subject)
        for flow in (_swap, _check, _melt):  # once for nothing: connections, threads, caches
            for subject in subjects:
                flow(subject)
                subject.seconds.clear()
                subject.cpu_s.clear()
        for _ in range(rounds):
            for flow in (_swap, _check, _melt):
                for subject in subjects:
                    flow(subject)
        for subject in subjects:
            _info(subject)
            subject.mint.check()  # the books balance, too
        return {"sizes": [subject.figures() for subject in subjects]}


def _grown(directory: Path, size: int, stack: ExitStack) -> Subject:
    print(f"a ledger of {size:,} spent proofs …", flush=True)
    mint = Mint(directory, **MINT_OPTIONS)
    stack.callback(mint.stop)
    mint.start()
    mint.node.stop_plugin()
    rows = history.write(mint.ledger_path, size, int(time.time()))
    subject = Subject(mint, rows, mint.ledger_path.stat().st_size >> 20)
    for _ in range(STARTS):
        _forget(mint.ledger_path)
        subject.start_cold_s = min(subject.start_cold_s or 1e9, _start(mint))
        subject.start_read_kib = read_kib(mint)
        mint.node.stop_plugin()
    _start(mint)
    for _ in range(STARTS):
        mint.node.stop_plugin()
        subject.start_s = min(subject.start_s or 1e9, _start(mint))
    subject.memory_mib = memory_mib(mint)
    _read(mint.ledger_path)
    begun = time.perf_counter()
    audit = mint.node.rpc("cashu-audit", timeout_s=3600)
    subject.audit_s = time.perf_counter() - begun
    assert audit["balanced"], audit["faults"]
    with mint.ledger() as db:
        chance = random.Random(SEED)  # noqa: S311 - the same each time
        numbers = [chance.randrange(rows.proofs) + 1 for _ in range(SAMPLE)]
        subject.spent = [bytes(db.execute("SELECT y FROM proofs WHERE n = ?", (n,)).get).hex() for n in numbers]
    subject.purse = Purse(mint)
    return subject


def _start(mint: Mint) -> float:
    """Start the plugin; seconds until it serves."""
    begun = time.perf_counter()
    mint.node.start_plugin()
    while mint.status() != 200:
        time.sleep(POLL_S)
    return time.perf_counter() - begun


def _forget(path: Path) -> None:
    """Take a file out of the page cache."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def _read(path: Path) -> None:
    """Bring a file into the page cache."""
    with path.open("rb") as file:
        while file.read(READ_BYTES):
            pass


def _fund(subject: Subject) -> None:
    """Ecash for the swaps, which hand it on; the melts' is minted for each."""
    subject.coins = [_coins(subject.purse) for _ in range(SWAPS)]


def _coins(purse: Purse) -> list[WalletProof]:
    quote = purse.request_mint(COINS * COIN)
    purse.mint.node.pay_invoice(quote.request)
    purse.wait_credited(quote)
    outputs = purse.outputs_of([COIN] * COINS)
    return unblind(outputs, purse.client.mint(quote.quote, messages(outputs)), purse.keysets)


def _swap(subject: Subject) -> None:
    purse = subject.purse
    fresh = [purse.outputs_of([COIN] * COINS) for _ in subject.coins]
    with subject.measured("swap 8 to 8") as timed:
        answers = [
            timed(lambda i=inputs, o=outputs: purse.client.swap(i, messages(o)))  # type: ignore[misc]
            for inputs, outputs in zip(subject.coins, fresh, strict=True)
        ]
    subject.coins = [unblind(o, signatures, purse.keysets) for o, signatures in zip(fresh, answers, strict=True)]


def _check(subject: Subject) -> None:
    asked = []
    for _ in range(CHECKS):
        asked.append(random.sample(subject.spent, CHECKED // 2) + random_ys(CHECKED - CHECKED // 2))
    with subject.measured("checkstate of 100, half of them spent") as timed:
        for ys in asked:
            found = timed(lambda ys=ys: ok(subject.mint.http.post("/v1/checkstate", json={"Ys": ys})))  # type: ignore[misc]
            assert sum(entry["state"] == "SPENT" for entry in found["states"]) == CHECKED // 2


def _melt(subject: Subject) -> None:
    purse, mint = subject.purse, subject.mint
    bodies = []
    for proof in _coins(purse)[:MELTS]:
        invoice = mint.invoice(COIN, Behaviour.success(fee_msat=0))
        bodies.append({"quote": purse.quote(invoice).quote, "inputs": wire([proof])})
    with subject.measured("melt, its payment included") as timed:
        for body in bodies:
            answer = timed(lambda body=body: ok(mint.http.post("/v1/melt/bolt11", json=body)))  # type: ignore[misc]
            assert answer["state"] == MeltQuoteState.PAID


def _info(subject: Subject) -> None:
    with subject.measured("cashu-info") as timed:
        for _ in range(ROUNDS):
            timed(subject.mint.info)


def render(part: dict[str, Any]) -> str:
    """A table: one column for each ledger, and how much more the largest costs than the smallest."""
    sizes = part["sizes"]
    first, last = sizes[0], sizes[-1]
    rows = [["spent proofs", *(f"{size['spent_proofs']:,}" for size in sizes), "largest / smallest"]]
    rows.append(["---", *["---:"] * (len(sizes) + 1)])

    def row(title: str, value: Callable[[dict[str, Any]], float], *, ratio: bool = True) -> None:
        growth = f"{value(last) / value(first):.2f}" if ratio else ""
        rows.append([title, *(f"{value(size):,}" for size in sizes), growth])

    row("the ledger's file, MiB", lambda s: s["file_mib"], ratio=False)
    row("start until it serves, s", lambda s: s["start_s"])
    row("the same, nothing of the file in memory, s", lambda s: s["start_cold_s"])
    row("read from the disk then, KiB", lambda s: s["start_read_kib"])
    row("resident memory after a start, MiB", lambda s: s["memory_at_start_mib"])
    for flow in first["flows"]:
        row(f"{flow}: CPU, ms", lambda s, flow=flow: s["flows"][flow]["cpu_ms"])  # type: ignore[misc]
        row(f"{flow}: p50, ms", lambda s, flow=flow: s["flows"][flow]["p50_ms"])  # type: ignore[misc]
        row(f"{flow}: p99, ms", lambda s, flow=flow: s["flows"][flow]["p99_ms"])  # type: ignore[misc]
    row("`cashu-audit`, which reads everything, s", lambda s: s["audit_s"], ratio=False)
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in rows)
    return f"""## As the ledger grows

The same requests to mints whose ledgers differ in the length of their history; they run at once and take turns. A cost
that grows by more than {MOST} from the shortest to the longest is a fault. CPU time is the mint's, all threads.

{table}
"""


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", type=lambda text: [int(size) for size in text.split(",")], default=None)
    parser.add_argument("--quick", action="store_true")
    print(render(run(parser.parse_args())))
