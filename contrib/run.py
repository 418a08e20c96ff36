"""Run the mint: in this machine's Core Lightning node if one is running, else in the sandbox.

python3 -m contrib.run              # choose
python3 -m contrib.run --sandbox    # a stand-in node: no bitcoin, no channels, no money
python3 -m contrib.run --network=testnet --lightning-dir=/path    # passed on to lightning-cli

Further options go to the mint in the node (--cashu-name=…), or to the sandbox: --port, --fresh, --units,
--input-fee-ppk and others (python -m contrib.sandbox --help lists them).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time

from contrib import bootstrap

REAL_MONEY = "bitcoin"
START_LOOKS = 30


def main() -> None:
    """Set up, then start the mint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sandbox", action="store_true", help="use the sandbox even if a node is running")
    parser.add_argument("--network", help="the node's network (as for lightning-cli)")
    parser.add_argument("--lightning-dir", help="the node's directory (as for lightning-cli)")
    parser.add_argument("--yes", action="store_true", help="do not ask before starting a mint with real money")
    arguments, rest = parser.parse_known_args()
    bootstrap.enter("contrib")

    cli = ["lightning-cli"]
    cli += [f"--network={arguments.network}"] if arguments.network else []
    cli += [f"--lightning-dir={arguments.lightning_dir}"] if arguments.lightning_dir else []
    info = None if arguments.sandbox else _ask([*cli, "getinfo"])
    if info is None:
        if not arguments.sandbox:
            print("No running Core Lightning node found (lightning-cli getinfo): starting the sandbox.\n")
        _sandbox(rest)
    else:
        _plug_in(cli, info, rest, sure=arguments.yes)


def _ask(command: list[str]) -> dict[str, object] | None:
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
        content = json.loads(answer.stdout) if answer.returncode == 0 else None
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return content if isinstance(content, dict) else None


def _await_mint(cli: list[str]) -> dict[str, object]:
    """What cashu-info says once the mint is ready or has failed."""
    mint: dict[str, object] = {}
    for _ in range(START_LOOKS):
        mint = _ask([*cli, "cashu-info"]) or {}
        if mint.get("state") in ("ready", "failed"):
            break
        time.sleep(1)
    return mint


def _sandbox(rest: list[str]) -> None:
    os.chdir(bootstrap.ROOT)
    sys.stdout.flush()
    # It takes this one's place: a signal reaches it, and nothing is left behind.
    os.execv(sys.executable, [sys.executable, "-m", "contrib.sandbox", "--auto", *rest])  # noqa: S606


def _plug_in(cli: list[str], info: dict[str, object], options: list[str], *, sure: bool) -> None:
    print(f"Found the node {info.get('alias')} ({info.get('version')}, network {info.get('network')}).")
    if info.get("network") == REAL_MONEY and not sure:
        print("This is real bitcoin: people can send this node money and hold its ecash for it.")
        if not sys.stdin.isatty() or input("Start the mint? [y/N] ").strip().lower() != "y":
            sys.exit("Not started. (--yes starts it without asking, --sandbox uses a stand-in node.)")
    if (running := _ask([*cli, "cashu-info"])) is not None:
        sys.exit(f"The mint runs in this node already: {running.get('state')}, {running.get('url')}")
    entry = bootstrap.ROOT / "nutbolt.py"
    settings = [option.removeprefix("--") for option in options]
    started = subprocess.run(
        [*cli, "-k", "plugin", "subcommand=start", f"plugin={entry}", *settings],
        capture_output=True,
        text=True,
        check=False,
    )
    if started.returncode != 0:
        sys.exit(f"lightningd did not start the plugin: {(started.stdout or started.stderr).strip()}")
    mint = _await_mint(cli)
    if mint.get("state") != "ready":
        sys.exit(f"The plugin runs, but the mint is {mint.get('state', 'silent')}: {mint.get('reason', 'see the log')}")
    line = " ".join(cli)
    print(
        f"The mint runs in the node, at {mint['url']}.\n\n  {line} cashu-info      what it does\n"
        f"  {line} plugin stop nutbolt.py\n\n"
        f"To start it with the node, add this line to the node's config:\n\n  plugin={entry}\n"
    )


if __name__ == "__main__":
    main()
