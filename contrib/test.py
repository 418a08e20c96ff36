"""Everything that must be green: formatting, lint, types, and all tests.

    python3 -m contrib.test                          # all of it
    python3 -m contrib.test tests/ledger             # these tests only (arguments go to pytest)
    python3 -m contrib.test -m slow                  # what takes too long for every day: loads, kills, chaos
    python3 -m contrib.test -m "not slow" -n 3 --cov # with coverage, also of the plugin's own processes

Tests on a real node run where lightningd, bitcoind and bitcoin-cli are on PATH, and are skipped visibly elsewhere;
with REQUIRE_LIGHTNINGD=1 they fail instead. Tests in a browser run where there is a Chromium.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from contrib import bootstrap

WORKERS = 3
RERUNS = 2
NODE_BINARIES = ("lightningd", "bitcoind", "bitcoin-cli")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def main() -> None:
    """Set up, then run every check; the first that fails ends it."""
    has_node = all(shutil.which(binary) for binary in NODE_BINARIES)
    has_browser = any(shutil.which(program) for program in BROWSERS)
    node = "node" if has_node or os.environ.get("REQUIRE_LIGHTNINGD") else "dev"
    bootstrap.enter(node, *(["browser"] if has_browser else []))
    chosen = sys.argv[1:]
    if not chosen:
        _check("ruff", "format", "--check")
        _check("ruff", "check")
        _check("mypy")
        # Most of the time goes into waiting for processes: more workers than cores, a file's tests in one of them,
        # the files in the order of `testpaths`: what takes long comes first, so that no worker is late at the end.
        # A test of several processes can fail on a machine that is too busy: it gets a second try, and the summary
        # tells. What fails for a reason fails again.
        options = [
            f"--numprocesses={WORKERS}",
            "--dist=loadfile",
            "--no-loadscope-reorder",
            f"--reruns={RERUNS}",
            "-m",
            "not slow",
        ]
        _check("pytest", *options)
    else:
        _check("pytest", *chosen)


def _check(tool: str, *arguments: str) -> None:
    print(f"\n=== {tool} {' '.join(arguments)}", flush=True)
    code = subprocess.run(
        [sys.executable, "-m", tool, *arguments], cwd=bootstrap.ROOT, env=_environment(), check=False
    ).returncode
    if code != 0:
        sys.exit(code)


def _environment() -> dict[str, str]:
    """Modules are compiled once, whatever the user prefers: the tests start a mint some thousand times."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return environment | {"PYTHONPYCACHEPREFIX": str(bootstrap.ENVIRONMENT / "pycache")}


if __name__ == "__main__":
    main()
