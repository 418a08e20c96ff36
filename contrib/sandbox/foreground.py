"""`python -m contrib.sandbox`: node and mint in the foreground, for people."""

from __future__ import annotations

import argparse
import contextlib
import re
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from contrib.sandbox import places
from contrib.sandbox.bolt11 import PREFIXES
from contrib.sandbox.errors import SandboxError, SandboxTimeout
from contrib.sandbox.node import STORE_NAME, LogLine
from contrib.sandbox.outside import ForeignInvoices
from contrib.sandbox.sandbox_node import SandboxNode

DEFAULT_PORT = 3338
DEFAULT_AUTO_DELAY_MS = 300
READY_TIMEOUT_S = 60.0
LEVELS = ("trace", "debug", "info", "unusual", "broken")
_READY = r"ready at (https?://\S+)"
_WATCH_S = 0.5


def main(arguments: Sequence[str]) -> int:
    """Run until Ctrl-C, `stop`, or the end of the mint; returns the exit code."""
    given = _parser().parse_args(arguments)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with contextlib.ExitStack() as cleanup:
        try:
            directory = _directory(given, cleanup)
            node = _node(given, directory)
            node.start()
        except (SandboxError, OSError) as error:
            print(f"sandbox: {error}", file=sys.stderr)
            return 1
        cleanup.callback(node.stop)
        if node.plugin_disabled is not None:
            print(f"sandbox: the mint has disabled itself: {node.plugin_disabled}", file=sys.stderr)
            return 1
        places.remember(directory)
        _introduce(given, node)
        code = _watch(node, stop)
        print("\nstopping", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m contrib.sandbox",
        description="A stand-in Core Lightning node with the mint in it. No bitcoin, no channels, no money.",
        epilog="`python -m contrib.sandbox cli METHOD [ARGUMENTS]` runs a command of a running sandbox.",
    )
    add = parser.add_argument
    add("--dir", type=Path, help="where to keep node and ledger (default: a per-user directory)")
    add("--fresh", action="store_true", help="a new node and ledger (without --dir: thrown away at the end)")
    add("--listen", default="127.0.0.1", help="address the mint listens at (default: %(default)s)")
    add("--port", type=int, default=DEFAULT_PORT, help="port the mint listens at (default: %(default)s)")
    add("--units", help="units of the ecash, separated by commas")
    add("--input-fee-ppk", type=int, help="fee for spending proofs, in thousandths of a unit for each")
    add("--option", action="append", default=[], metavar="cashu-…=VALUE", help="any option of the mint; repeatable")
    add("--network", default="regtest", choices=sorted(PREFIXES), help="default: %(default)s")
    add("--plugin", type=Path, default=places.PLUGIN, help="the plugin's entry file (default: the mint)")
    add("--log-level", default="info", choices=LEVELS, help="of the log on stderr (default: %(default)s)")
    auto = parser.add_argument_group("automatic profile, for trying wallets")
    add = auto.add_argument
    add("--auto", action="store_true", help="invoices pay themselves: the mint's, and every one it is asked to pay")
    add("--auto-delay-ms", type=int, default=DEFAULT_AUTO_DELAY_MS, help="how soon (default: %(default)s)")
    add(
        "--auto-network",
        choices=sorted(set(PREFIXES.values())),
        help="also pay invoices with this prefix; `decode` then shows them as of the sandbox's own network",
    )
    add("--auto-pay-expired", action="store_true", help="also pay expired invoices; `decode` prolongs them")
    return parser


def _directory(given: argparse.Namespace, cleanup: contextlib.ExitStack) -> Path:
    if given.dir is None and given.fresh:
        return Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="nutbolt-sandbox-")))
    directory: Path = given.dir or places.data_directory()
    network_directory = directory / given.network
    if given.fresh and network_directory.exists():
        if any(network_directory.iterdir()) and not (network_directory / STORE_NAME).exists():
            raise SandboxError(f"{network_directory} does not look like a sandbox: not deleted")
        shutil.rmtree(network_directory)
    return directory


def _node(given: argparse.Namespace, directory: Path) -> SandboxNode:
    host = f"[{given.listen}]" if ":" in given.listen else given.listen
    options: dict[str, Any] = {"cashu-listen": f"{host}:{given.port}"}
    if given.units is not None:
        options["cashu-units"] = given.units
    if given.input_fee_ppk is not None:
        options["cashu-input-fee-ppk"] = str(given.input_fee_ppk)
    for option in given.option:
        name, separator, value = option.partition("=")
        if not separator:
            raise SandboxError(f"--option {option}: should be name=value")
        options[name.removeprefix("--")] = value
    lowest = LEVELS.index(given.log_level)

    def show(line: LogLine) -> None:
        if line.level not in LEVELS or LEVELS.index(line.level) >= lowest:
            print(line, file=sys.stderr, flush=True)

    return SandboxNode(
        directory,
        plugin=given.plugin,
        options=options,
        network=given.network,
        auto=given.auto,
        auto_delay_s=given.auto_delay_ms / 1000,
        foreign=ForeignInvoices(given.auto, given.auto_network, given.auto_pay_expired),
        on_log=show,
    )


def _introduce(given: argparse.Namespace, node: SandboxNode) -> None:
    url = f"http://{given.listen}:{given.port}"
    with contextlib.suppress(SandboxTimeout):
        ready = re.search(_READY, node.wait_for_log(_READY, timeout_s=READY_TIMEOUT_S).message)
        url = url if ready is None else ready.group(1)
    python = Path(sys.executable)
    shown = python.relative_to(Path.cwd()) if python.is_relative_to(Path.cwd()) else python
    cli = f"{shown} -m contrib.sandbox cli"
    lines = [
        f"Mint   {url}",
        f"Node   {node.rpc_path} (a stand-in: no bitcoin, no channels, no money)",
        f"Try    lightning-cli --lightning-dir={node.directory} --network={given.network} cashu-info",
        f"       {cli} cashu-info",
        f"       {cli} help",
    ]
    if given.auto:
        lines.append("Auto   invoices pay themselves; invoices of other nodes get a payment hash made up here;")
        lines.append(
            "       addresses are paid 100000 sat, and blocks found, when an address is made or a payment sent"
        )
    else:
        lines += [
            f"       {cli} sandbox-pay BOLT11          somebody pays an invoice of the mint",
            f"       {cli} sandbox-invoice 100000      somebody's invoice over 100 sat, to melt to",
            f"       {cli} sandbox-next hold           the next payment is held: sandbox-release, sandbox-fail",
            f"       {cli} sandbox-coins               bitcoin for on-chain payments",
            f"       {cli} sandbox-deposit ADDRESS SAT somebody pays an address, seen with the next block",
            f"       {cli} sandbox-mine 3              three blocks",
        ]
    lines.append("Stop   Ctrl-C")
    print("\n".join(lines), flush=True)


def _watch(node: SandboxNode, stop: threading.Event) -> int:
    """Wait for the end; the mint's own end is an error unless somebody has stopped it."""
    while not stop.wait(_WATCH_S):
        if node.node.went_down.is_set():
            return 0
        plugin = node.node.plugin
        if node.node.up and not node.node.stopping and plugin is not None and not plugin.alive and not plugin.stopped:
            print(f"sandbox: the mint has ended with code {plugin.exit_code}", file=sys.stderr)
            return 1
    return 0
