"""Hostile money: what other people, the clock and the operator may do to payments, against the mint in the sandbox.

Every scenario is a test as well (tests/plugin/test_plugin_money.py), and checks what it says: the state of the quote,
of its proofs and of its change, and that the books balance. What needs a real node is in tests/node/test_node_money.py:
a destination that holds a payment until its channel is closed for it, `autoclean`, a node's database that is put back
to an older copy, and an older ledger.
"""

from __future__ import annotations

import tempfile
import time
import traceback
from pathlib import Path

from contrib.reliability.report import Report
from tests.plugin.harness import Mint, Purse
from tests.plugin.money import CONSTANTS, OPTIONS, SCENARIOS


def run(budget_s: float) -> Report:
    """Every scenario once, then all of them again while there is time."""
    end = time.monotonic() + budget_s
    times = dict.fromkeys(SCENARIOS, 0)
    outcomes: dict[str, str] = {}
    findings: list[str] = []
    while not findings and (0 in times.values() or time.monotonic() < end):
        with tempfile.TemporaryDirectory(prefix="nutbolt-money-") as folder:
            mint = Mint(Path(folder))
            mint.change_inside(constants=CONSTANTS)
            try:
                mint.set_options(**OPTIONS)
                mint.start()
                for name, scenario in SCENARIOS.items():
                    if times[name] and time.monotonic() > end:
                        break
                    try:
                        outcomes[name] = scenario(mint, Purse(mint))
                        mint.check()
                    except Exception as wrong:
                        traceback.print_exc()
                        outcomes[name] = "WRONG"
                        findings.append(f"{name}: {wrong!r}")
                    times[name] += 1
                    print(f"{name}: {outcomes[name]}", flush=True)
            finally:
                mint.stop()
    return Report(
        title="Hostile money",
        what=__doc__.replace("\n", " ").strip(),
        figures={"scenarios": len(SCENARIOS), "runs of them": sum(times.values())},
        losses=len(findings),
        findings=tuple(findings),
        columns=("scenario", "outcome", "runs"),
        rows=[(name, outcomes.get(name, "not run"), str(times[name])) for name in SCENARIOS],
    )
