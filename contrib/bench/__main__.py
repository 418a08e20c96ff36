"""Measure the mint, and write down what came out: `contrib/docs/benchmarks.json`, and the page made from it.

    python3 -m contrib.bench                        # beside nutshell's mint: every flow, about ten minutes
    python3 -m contrib.bench --only swap_8_8        # one flow; nothing is written
    python3 -m contrib.bench --quick                # see that it runs; nothing is written
    python3 -m contrib.bench async                  # ten thousand melts pending at once, about five minutes
    python3 -m contrib.bench growth                 # ledgers with a long history, about fifteen minutes and 7 GB
    python3 -m contrib.bench render                 # only make the page again

Sets itself up in a virtual environment beside the checkout.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
import time

from contrib import bootstrap
from contrib.bench import PARTS

OPTIONS_OF = {"compare": ["only", "without_nutshell"], "async": ["pending"], "growth": ["sizes"]}
LEAST_PENDING = 100
LEAST_SPENT = 1000


def main() -> None:
    """Set up, measure, write down."""
    options = _options()
    bootstrap.enter("bench")
    from contrib.bench import page, watching  # noqa: PLC0415 - need the environment

    if options.part == "render":
        page.render_again()
        return
    if importlib.util.find_spec(PARTS[options.part]) is None:
        sys.exit(f"{options.part}: this measurement is not here")
    module = importlib.import_module(PARTS[options.part])
    begun, theft = time.monotonic(), watching.Theft()
    part = page.dated(module.run(options), time.monotonic() - begun, theft.percent())
    print(module.render(part), flush=True)
    if not (options.quick or options.only or options.without_nutshell or options.pending or options.sizes):
        page.write_part(options.part, part)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m contrib.bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("part", nargs="?", choices=[*PARTS, "render"], default="compare", help="compare if not said")
    parser.add_argument("--only", metavar="FLOW", help="compare: measure one flow; nothing is written")
    parser.add_argument("--quick", action="store_true", help="see that it runs; nothing is written")
    parser.add_argument(
        "--without-nutshell", action="store_true", help="compare: measure this mint alone; nothing is written"
    )
    parser.add_argument("--pending", metavar="N", type=melts, help="async: so many melts; nothing is written")
    parser.add_argument(
        "--sizes",
        metavar="N,N",
        type=sizes,
        help="growth: ledgers of so many spent proofs; nothing is written",
    )
    options = parser.parse_args()
    for part, names in OPTIONS_OF.items():
        for name in names:
            if getattr(options, name) and options.part != part:
                parser.error(f"--{name.replace('_', '-')} is for {part}, not for {options.part}")
    return options


def melts(text: str) -> int:
    """How many are to be pending. Raises ArgumentTypeError."""
    if (count := int(text)) < LEAST_PENDING:
        raise argparse.ArgumentTypeError(f"{count} is too few: at least {LEAST_PENDING}")
    return count


def sizes(text: str) -> list[int]:
    """Of ledgers, in spent proofs. Raises ArgumentTypeError."""
    if min(found := [int(size) for size in text.split(",")]) < LEAST_SPENT:
        raise argparse.ArgumentTypeError(f"{min(found)} is too few: at least {LEAST_SPENT}")
    return found


if __name__ == "__main__":
    main()
