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
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from pyln.client import Plugin
from pyln.client.plugin import Request, RpcException

from ledger.errors import StartError, StorageError
from ledger.store.place import require_usable
from plugin import backups, commands, logs
from plugin.http import server
from plugin.http.tls import CertificateError, Tls
from plugin.methods.resolver import ResolveError
from plugin.mint import Mint, Surroundings
from plugin.node.events import BlockAdded, CoinsMoved, EventsLost, InvoicePaid, NodeEvent, PartFailed, PartSucceeded
from plugin.node.rpc import NodeUnavailableError, OutcomeUnknownError, RpcError
from plugin.options import OPTIONS, OptionError, Settings, parse
from plugin.protocol import PatientPlugin

OLDEST_NODE = (26, 6)
"""Core Lightning v26.06: xpay's labels, and listpays that knows of running payments."""
STOP_WAIT_S = 5.0
BIND_ATTEMPTS = 5
"""After a crash the process before this one may take a moment to go."""
BIND_RETRY_S = 0.2
LOOP_WAIT_S = 10.0
NOT_RUNNING = -1
INVALID_PARAMS = -32602

EXPECTED_ERRORS = (
    commands.CommandError,
    ResolveError,
    RpcError,
    NodeUnavailableError,
    OutcomeUnknownError,
    StorageError,
)
"""Of commands: their text is for the operator."""

log = logging.getLogger(__name__)


class Runner:
    """The mint's thread, from the point of view of the main thread."""

    def __init__(self) -> None:
        self.mint: Mint | None = None
        self._thread: threading.Thread | None = None

    def start(self, surroundings: Surroundings, sock: socket.socket) -> None:
        """Start the loop; returns as soon as it runs, long before the mint is ready."""
        running = threading.Event()

        async def live() -> None:
            self.mint = Mint(surroundings, sock, _die)
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
            runner.start(surroundings, _bind(surroundings.settings))
        except Exception as error:
            # An error answer to init would leave lightningd believing that the plugin is up.
            if not isinstance(error, OptionError | RefusalError):
                log.exception("init failed")
            return {"disable": str(error)}
        return None

    _declare_commands(plugin, runner)
    _declare_last_resort(plugin, runner)
    _declare_notifications(plugin, runner)


def _declare_commands(plugin: Plugin, runner: Runner) -> None:
    @plugin.method("cashu-info")
    def cashu_info(plugin: Plugin, *too_many: Any, **unknown: Any) -> Any:
        """Show the mint's state, URL, units, keysets, outstanding ecash and pending melts."""
        if too_many or unknown:
            raise RpcException("cashu-info takes no arguments", INVALID_PARAMS)
        if runner.mint is None:
            raise RpcException("the mint is not running", NOT_RUNNING)
        return commands.info(runner.mint)

    @plugin.async_method("cashu-rotate")
    def cashu_rotate(
        plugin: Plugin,
        request: Request,
        unit: Any = None,
        input_fee_ppk: Any = None,
        final_expiry: Any = None,
        *too_many: Any,
        **unknown: Any,
    ) -> None:
        """Make a new active keyset for {unit}, with {input_fee_ppk} and {final_expiry} (unix seconds) if given.

        Ecash of the older keysets stays good; without {input_fee_ppk} the option cashu-input-fee-ppk counts."""
        refusal = "the mint is not running"
        if too_many or unknown:
            refusal = f"unknown: {', '.join(map(str, (*too_many, *unknown)))}; takes unit, input_fee_ppk, final_expiry"
        elif runner.mint is not None:
            try:
                request.set_result(commands.rotate(runner.mint, unit, input_fee_ppk, final_expiry))
                return
            except commands.CommandError as error:
                refusal = str(error)
        request.set_exception(RpcException(refusal, INVALID_PARAMS))  # out of the handler: no traceback goes along

    @plugin.async_method("cashu-audit")
    def cashu_audit(plugin: Plugin, request: Request, *too_many: Any, **unknown: Any) -> None:
        """Recompute the mint's books from every row of its ledger, and compare what it owes with what the node owns."""
        if too_many or unknown:
            _refuse(request, "cashu-audit takes no arguments")
        else:
            _carry_out(runner, request, commands.audit_books)


def _declare_last_resort(plugin: Plugin, runner: Runner) -> None:
    @plugin.async_method("cashu-backup")
    def cashu_backup(plugin: Plugin, request: Request, path: Any = None, *too_many: Any, **unknown: Any) -> None:
        """Copy the mint's ledger, while it serves, to the new file {path}, and verify the copy.

        A relative {path} starts at the node's network directory. An existing file is never replaced."""

        def tell(step: int, steps: int) -> None:
            request.progress(step - 1, steps)  # counted from 0

        if too_many or unknown:
            _refuse(request, "cashu-backup takes only path")
        else:
            _carry_out(runner, request, lambda mint: backups.make(mint, path, tell))

    @plugin.async_method("cashu-restore-check")
    def cashu_restore_check(plugin: Plugin, request: Request, path: Any = None, *too_many: Any, **unknown: Any) -> None:
        """Tell whether the file {path} is a sound ledger of this node's mint, and how new; changes nothing.

        Works also when the mint does not start because its ledger is missing or old."""
        if too_many or unknown:
            _refuse(request, "cashu-restore-check takes only path")
        else:
            _carry_out(runner, request, lambda mint: backups.check(mint, path))

    @plugin.async_method("cashu-pending")
    def cashu_pending(plugin: Plugin, request: Request, handle: Any = None, *too_many: Any, **unknown: Any) -> None:
        """List the melts in flight, oldest first, or the one with {handle}: what is known of each, and what that means.

        A handle names one attempt at a melt, and nothing that is secret."""
        if too_many or unknown:
            _refuse(request, "cashu-pending takes only handle")
        else:
            _carry_out(runner, request, lambda mint: commands.pending(mint, handle))

    @plugin.async_method("cashu-resolve")
    def cashu_resolve(
        plugin: Plugin,
        request: Request,
        handle: Any = None,
        outcome: Any = None,
        force: Any = None,
        reason: Any = None,
        preimage: Any = None,
        *too_many: Any,
        **unknown: Any,
    ) -> None:
        """Decide about the melt {handle} (see cashu-pending) again, from what the node knows now.

        With {force}=true, end it as {outcome} (paid or failed), where the node knows nothing that could still decide
        it; {reason} is written down. A {preimage}, if known, is given to the wallet of a paid one."""
        if too_many or unknown:
            _refuse(request, "cashu-resolve takes only handle, outcome, force, reason and preimage")
            return
        who = str(request.id)
        _carry_out(runner, request, lambda mint: commands.resolve(mint, handle, outcome, force, reason, preimage, who))


def _carry_out(runner: Runner, request: Request, work: Callable[[Mint], Coroutine[Any, Any, Any]]) -> None:
    if runner.mint is None:
        _refuse(request, "the mint is not running", NOT_RUNNING)
    else:
        runner.mint.carry_out(work(runner.mint)).add_done_callback(partial(_answer, request))


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


def _answer(request: Request, done: Future[Any]) -> None:
    """Answer a command whose work is over, well or not; called in the thread that did it."""
    error = done.exception()
    if error is None:
        request.set_result(done.result())
    elif isinstance(error, EXPECTED_ERRORS):
        _refuse(request, str(error))
    else:
        log.error("a command failed", exc_info=error)
        _refuse(request, "internal error: see the log")


def _refuse(request: Request, why: str, code: int = INVALID_PARAMS) -> None:
    request.set_exception(RpcException(why, code))


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


def _bind(settings: Settings) -> socket.socket:
    host, port = settings.listen
    for attempts_left in reversed(range(BIND_ATTEMPTS)):
        try:
            return server.bind(host, port)
        except (OSError, UnicodeError) as error:  # UnicodeError: from a host name that can't be one
            if not attempts_left or getattr(error, "errno", None) != errno.EADDRINUSE:
                raise RefusalError(f"cashu-listen={host}:{port}: cannot listen there: {error}") from error
        time.sleep(BIND_RETRY_S)
    raise AssertionError("the last attempt returns or raises")
