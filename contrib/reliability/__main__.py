"""Run the attacks, and write down what they did: `contrib/docs/reliability.json`, and the page made from it.

    python3 -m contrib.reliability                          # all of them, some minutes each
    python3 -m contrib.reliability --only races             # one; what is written of the others stays
    python3 -m contrib.reliability --quick                  # see that they run; nothing is written
    python3 -m contrib.reliability --budget 1800            # half an hour for each
    python3 -m contrib.reliability --render                 # only make the page again

Ends with 1 if anything was lost, or if an attack could not be run to its end.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import shutil
import sys
import time
import traceback
from typing import TYPE_CHECKING

from contrib import bootstrap
from contrib.reliability import ATTACKS

if TYPE_CHECKING:
    from contrib.reliability.report import Report

BUDGET_S = 300.0
QUICK_S = 15.0
NODE_BINARIES = ("lightningd", "bitcoind", "bitcoin-cli")


def main() -> None:
    """Set up, then attack."""
    options = _options()
    bootstrap.enter(*(["node"] if all(map(shutil.which, NODE_BINARIES)) else []), "fuzz")
    from contrib.reliability import page  # noqa: PLC0415 - needs the environment

    chosen = [options.only] if options.only else list(ATTACKS)
    if options.render:
        page.render_again()
        return
    budget_s = options.budget or (QUICK_S if options.quick else BUDGET_S)
    good = True
    for name in chosen:
        if importlib.util.find_spec(f"contrib.reliability.{name}") is None:
            print(f"=== {name}: this attack is not here", flush=True)
            good = good and not options.only
            continue
        good &= _attack(name, budget_s, keep=not options.quick)
    sys.exit(0 if good else 1)


def _attack(name: str, budget_s: float, *, keep: bool) -> bool:
    """Run one; whether nothing was lost. What it reports is written at once: a later one can't take it along."""
    from contrib.reliability import page  # noqa: PLC0415

    print(f"=== {name}, about {budget_s:.0f} s", flush=True)
    begun = time.monotonic()
    try:
        report: Report = importlib.import_module(f"contrib.reliability.{name}").run(budget_s)
    except Exception:
        traceback.print_exc()
        print(f"{name} did not come to its end, and is not written down", flush=True)
        return False
    part = page.part_of(report, time.monotonic() - begun)
    print(page.render_part(part), flush=True)
    if keep:
        page.write_part(name, part)
    return report.losses == 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m contrib.reliability", description=__doc__.splitlines()[0])
    parser.add_argument("--only", metavar="NAME", choices=ATTACKS, help=f"one of {', '.join(ATTACKS)}")
    parser.add_argument("--budget", type=float, metavar="SECONDS", help=f"for each attack; {BUDGET_S:.0f} if not said")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_S:.0f} s for each, and nothing is written")
    parser.add_argument("--render", action="store_true", help="only make the page from what is written")
    return parser.parse_args()


if __name__ == "__main__":
    main()
