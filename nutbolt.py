#!/usr/bin/env python3
"""Nutbolt, a Cashu mint inside a Core Lightning node: the plugin's entry file.

`lightningd --plugin=/path/to/nutbolt.py` runs it. If this Python lacks the dependencies, the virtual environment
`.venv` beside this file is used; without that, the plugin disables itself with a sentence that says what to do.
"""

import importlib.util
import json
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
REQUIRED = (
    "pyln",
    "apsw",
    "coincurve",
    "hypercorn",
    "pydantic",
    "quart",
    "quart_schema",
    "throttled",
    "segno",
    "prometheus_client",
)


def main() -> None:
    """Run the plugin on standard input and output."""
    why_not = _missing()
    if why_not:
        _use_own_environment()
        _disable(why_not)
        return
    # File descriptor 1 is the protocol, and one stray byte on it makes lightningd kill the plugin. So take it away
    # before anything else is imported, and let prints go where the log of a process belongs.
    protocol = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    if str(HERE) not in sys.path:
        sys.path.insert(0, str(HERE))
    from plugin.lean import without_gossip  # noqa: PLC0415 - after the line above

    without_gossip()
    from plugin.main import run  # noqa: PLC0415

    run(protocol)


def _missing() -> str:
    if sys.version_info < (3, 11):  # noqa: UP036 - this file must start on an older one to say so
        return f"Nutbolt needs Python 3.11 or newer, this is {sys.version.split()[0]}"
    missing = [name for name in REQUIRED if importlib.util.find_spec(name) is None]
    if missing:
        return (
            f"{sys.executable} lacks {', '.join(missing)}; "
            f"run: python3 -m venv {HERE}/.venv && {HERE}/.venv/bin/pip install -r {HERE}/requirements.txt"
        )
    return ""


def _use_own_environment() -> None:
    python = HERE / ".venv" / "bin" / "python"
    if python.exists() and Path(sys.prefix).resolve() != (HERE / ".venv").resolve():
        os.execv(python, [str(python), str(HERE / "nutbolt.py"), *sys.argv[1:]])  # noqa: S606 - our own interpreter


def _disable(reason: str) -> None:
    """Answer the first request, getmanifest, so that lightningd logs the reason and goes on without us."""
    if "LIGHTNINGD_PLUGIN" not in os.environ:
        sys.exit(reason)
    request = ""
    for line in sys.stdin:
        request += line
        if not line.strip() and request.strip():
            break
    answer = {"jsonrpc": "2.0", "id": json.loads(request)["id"], "result": {"disable": reason}}
    sys.stdout.write(json.dumps(answer) + "\n\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
