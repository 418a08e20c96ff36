"""The plugin as lightningd sees it: options, commands, notifications, start and stop.

The main thread reads standard input (pyln's `run`) and only hands over; the mint lives in an event loop in one other
thread. That thread is a daemon: when standard input ends, which is how lightningd stops plugins, nothing may keep the
process and its port alive.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import re
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from pyln.client import Plugin

from ledger.errors import StartError
from ledger.store.place import require_usable
from plugin import logs
from plugin.commands.declare import declare
from plugin.http import server
from plugin.http.tls import CertificateError, Tls
from plugin.mint import Mint, Surroundings
from plugin.node.events import BlockAdded, CoinsMoved, EventsLost, InvoicePaid, NodeEvent, PartFailed, PartSucceeded
from plugin.options import OPTIONS, OptionError, Settings, parse
from plugin.protocol import PatientPlugin

OLDEST_NODE = (26, 6)
"""Core Lightning v26.06: xpay's labels, and listpays that knows of running payments."""
STOP_WAIT_S = 5.0
BIND_ATTEMPTS = 5
"""After a crash the process before this one may take a moment to go."""
BIND_RETRY_S = 0.2
LOOP_WAIT_S = 10.0

log = logging.getLogger(__name__)


class Runner:
    """The mint's thread, from the point of view of the main thread."""

    def __init__(self) -> None:
        self.mint: Mint | None = None
        self._thread: threading.Thread | None = None

    def start(self, surroundings: Surroundings, sock: socket.socket, metrics_sock: socket.socket | None) -> None:
        """Start the loop; returns as soon as it runs, long before the mint is ready."""
        running = threading.Event()

        async def live() -> None:
            self.mint = Mint(surroundings, sock, _die, metrics_sock)
            running.set()
            await self.mint.run()

        def run() -> None:
            try:
                with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                    runner.run(live())
            except BaseException as error:
                log.exception("the mint's event loop failed")
                _die(repr(error))

        self._thread = threading.Thread(target=run, name="mint", daemon=True)
        self._thread.start()
        running.wait(LOOP_WAIT_S)

    def stop(self) -> None:
        """Stop the mint and wait for it, but not long: it can be killed at any moment without harm."""
        if self.mint is not None and self._thread is not None:
            self.mint.stop()
            self._thread.join(STOP_WAIT_S)

    def post(self, event: NodeEvent) -> None:
        """Hand an event of the node to the mint."""
        if self.mint is not None:
            self.mint.events.post(event)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - optional
    except ImportError:
        return None
    return uvloop.new_event_loop


def _die(reason: str) -> None:
    """End the process: lightningd notes it, and an important plugin takes the node with it."""
    log.error("the plugin ends: %s", reason)
    os._exit(1)


def run(protocol: TextIO) -> None:
    """Speak the plugin protocol on standard input and `protocol` until the node ends it."""
    plugin = PatientPlugin(autopatch=False, dynamic=True)
    plugin.stdout = protocol
    logs.install(plugin.log)
    runner = Runner()
    for option in OPTIONS:
        plugin.add_option(option.name, option.default, option.description)
    _declare(plugin, runner)
    plugin.run()
    # Standard input has ended without a `shutdown`: the node is gone, and may be starting again already. Nothing is
    # lost by leaving at once, and the port and the ledger are free for our successor.
    os._exit(0)


def _declare(plugin: Plugin, runner: Runner) -> None:
    @plugin.init()
    def init(options: dict[str, Any], configuration: dict[str, Any], plugin: Plugin, **_: Any) -> Any:
        try:
            _require_version(os.environ.get("LIGHTNINGD_VERSION", ""))
            surroundings = _surroundings(parse(options), configuration)
            settings = surroundings.settings
            sock = _bind("cashu-listen", settings.listen)
            metrics_sock = settings.metrics_listen and _bind("cashu-metrics-listen", settings.metrics_listen)
            runner.start(surroundings, sock, metrics_sock)
        except Exception as error:
            # An error answer to init would leave lightningd believing that the plugin is up.
            if not isinstance(error, OptionError | RefusalError):
                log.exception("init failed")
            # lightningd itself says it at level `debug` only, unless it was a `plugin start`.
            log.warning("there is no mint: %s", error)
            return {"disable": str(error)}
        return None

    declare(plugin, lambda: runner.mint)
    _declare_notifications(plugin, runner)


def _declare_notifications(plugin: Plugin, runner: Runner) -> None:
    def hand_over(read: Callable[[dict[str, Any]], NodeEvent], payload: dict[str, Any]) -> None:
        try:
            event = read(payload)
        except (KeyError, ValueError, TypeError):
            log.exception("a notification of the node has an unknown form")
            event = EventsLost()
        runner.post(event)

    @plugin.subscribe("sendpay_success")
    def on_success(plugin: Plugin, sendpay_success: dict[str, Any], **_: Any) -> None:
        hand_over(PartSucceeded.read, sendpay_success)

    @plugin.subscribe("sendpay_failure")
    def on_failure(plugin: Plugin, sendpay_failure: dict[str, Any], **_: Any) -> None:
        hand_over(PartFailed.read, sendpay_failure)

    @plugin.subscribe("invoice_payment")
    def on_invoice_payment(plugin: Plugin, invoice_payment: dict[str, Any], **_: Any) -> None:
        runner.post(InvoicePaid())

    @plugin.subscribe("block_added")
    def on_block(plugin: Plugin, block_added: dict[str, Any], **_: Any) -> None:
        hand_over(BlockAdded.read, block_added)

    @plugin.subscribe("coin_movement")
    def on_coin_movement(plugin: Plugin, coin_movement: dict[str, Any], **_: Any) -> None:
        if coin_movement.get("type") == "chain_mvt":
            runner.post(CoinsMoved())

    @plugin.subscribe("shutdown")
    def on_shutdown(plugin: Plugin, **_: Any) -> None:
        runner.stop()
        os._exit(0)


class RefusalError(Exception):
    """The plugin must not run here; the text says why."""


def _require_version(version: str) -> None:
    match = re.match(r"v?(\d+)\.(\d+)", version)
    if match is None:
        return  # built from a commit without a tag: its user knows what they run
    if (int(match[1]), int(match[2])) < OLDEST_NODE:
        raise RefusalError(
            f"Nutbolt needs Core Lightning v{OLDEST_NODE[0]}.{OLDEST_NODE[1]:02d} or newer, this is {version}"
        )


def _surroundings(settings: Settings, configuration: dict[str, Any]) -> Surroundings:
    directory = Path(configuration["lightning-dir"])
    try:
        require_usable(directory / settings.db)
    except StartError as error:
        raise RefusalError(f"cashu-db={settings.db}: {error}") from error
    try:
        tls = Tls(directory / settings.tls_cert, directory / settings.tls_key) if settings.tls_cert else None
    except CertificateError as error:
        raise RefusalError(str(error)) from error
    return Surroundings(settings, directory, directory / configuration["rpc-file"], bool(configuration["startup"]), tls)


def _bind(option: str, address: tuple[str, int]) -> socket.socket:
    host, port = address
    for attempts_left in reversed(range(BIND_ATTEMPTS)):
        try:
            return server.bind(host, port)
        except (OSError, UnicodeError) as error:  # UnicodeError: from a host name that can't be one
            if not attempts_left or getattr(error, "errno", None) != errno.EADDRINUSE:
                raise RefusalError(f"{option}={host}:{port}: cannot listen there: {error}") from error
        time.sleep(BIND_RETRY_S)
    raise AssertionError("the last attempt returns or raises")
