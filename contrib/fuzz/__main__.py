"""Fuzz one target: `python -m contrib.fuzz TARGET [CORPUS …] [-libfuzzer_option=…]`."""

from __future__ import annotations

import sys
from functools import partial

import atheris

from contrib.fuzz.mutate import mutate

INSTRUMENTED = ["ledger", "plugin", "hypercorn", "wsproto", "quart", "json"]

OF_JSON = {"requests": 1, "spending": 0, "subscriptions": 0}
"""Targets that read lines of JSON, and how many bytes stand before it."""


def main() -> None:
    """Run libFuzzer on a target, until it is told to end or finds something."""
    with atheris.instrument_imports(include=INSTRUMENTED):
        from contrib.fuzz import targets  # noqa: PLC0415 - as it is imported, it is instrumented

    if len(sys.argv) < 2 or sys.argv[1] not in targets.TARGETS:
        sys.exit(f"usage: python -m contrib.fuzz TARGET [CORPUS …] [-option=…]; targets: {', '.join(targets.TARGETS)}")
    read = targets.TARGETS[sys.argv[1]]()
    arguments = [sys.argv[0], *sys.argv[2:]]
    if sys.argv[1] in OF_JSON:
        atheris.Setup(arguments, read, custom_mutator=partial(mutate, prefix=OF_JSON[sys.argv[1]]))
    else:
        atheris.Setup(arguments, read)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
