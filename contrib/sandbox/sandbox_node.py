"""The stand-in for tests: a node in a background thread behind a blocking, thread-safe facade."""

from __future__ import annotations

import asyncio
import re
import secrets
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from contrib.sandbox import bolt12
from contrib.sandbox.bolt11 import Hop
from contrib.sandbox.chain_control import ChainControl
from contrib.sandbox.errors import RpcError, SandboxError, SandboxTimeout
from contrib.sandbox.node import Call, LogLine, Node, Notification, Settings
from contrib.sandbox.offers import FetchBehaviour, OutsideOffer
from contrib.sandbox.outside import DEFAULT_EXPIRY_S, OutsideInvoice
from contrib.sandbox.outside_commands import pay_from_outside
from contrib.sandbox.routes import Route
from contrib.sandbox.rpc_server import Request
from contrib.sandbox.script import Behaviour, Notifications, PartFailure

DEFAULT_TIMEOUT_S = 15.0
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 90.0
_POLL_S = 0.01

Result = TypeVar("Result")


class SandboxNode:
    """A stand-in lightningd with an optional plugin.

    ::

        with SandboxNode(tmp_path, plugin=Path("nutbolt.py"), options={"cashu-listen": "127.0.0.1:0"}) as node:
            invoice = node.outside_invoice(5_000)
            node.script(Behaviour.hold(), invoice)
            ...
            node.release(invoice)

    `settings` takes any field of :class:`~contrib.sandbox.node.Settings` that has no argument of its own here.
    Everything may be called from any thread; whatever waits has a timeout and raises
    :class:`~contrib.sandbox.errors.SandboxTimeout`.
    """

    def __init__(
        self,
        directory: Path | str,
        plugin: Path | str | None = None,
        options: Mapping[str, Any] | None = None,
        network: str = "regtest",
        version: str = "v26.06.6",
        auto: bool = False,
        env: Mapping[str, str] | None = None,
        on_log: Callable[[LogLine], None] | None = None,
        **settings: Any,
    ) -> None:
        self.settings = Settings(network=network, version=version, auto=auto, **settings)
        self._directory = Path(directory)
        self._plugin = None if plugin is None else Path(plugin).absolute()
        self._options = dict(options or {})
        self._env = dict(env or {})
        self._on_log = on_log
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._node: Node | None = None

    # -- life cycle ----------------------------------------------------------------------------------------------

    def start(self, *, timeout_s: float = START_TIMEOUT_S) -> Self:
        """Start the node and its plugin; returns when the plugin has answered init (or has disabled itself)."""
        if self._thread is not None:
            raise SandboxError("started already")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run_loop, name="sandbox-node", daemon=True)
        self._thread.start()
        try:
            self._wait(self._create(), timeout_s)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self, *, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Stop everything; harmless when nothing runs."""
        if self._thread is None or self._loop is None:
            return
        try:
            if self._node is not None:
                self._wait(self._node.stop(), timeout_s)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(timeout_s)
            self._loop.close()
            self._thread = self._loop = self._node = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.stop()

    def restart(
        self,
        *,
        kill: bool = False,
        kill_plugin: bool = False,
        down_s: float = 0.0,
        timeout_s: float = START_TIMEOUT_S,
    ) -> None:
        """Restart the node: gracefully, or (`kill`) as after a kill -9 of lightningd.

        The plugin hears `shutdown` if it wants it and the restart is graceful, and EOF in any case; with
        `kill_plugin` it is killed at the same moment, as when the whole machine goes down.
        """
        self._wait(self.node.restart(graceful=not kill, kill_plugin=kill_plugin, down_s=down_s), timeout_s + down_s)

    def go_down(self, *, kill: bool = False, kill_plugin: bool = False, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """The first half of a restart. What is released meanwhile reaches the node after :meth:`come_up`."""
        self._wait(self.node.go_down(graceful=not kill, kill_plugin=kill_plugin), timeout_s)

    def come_up(self, *, timeout_s: float = START_TIMEOUT_S) -> None:
        """The second half of a restart."""
        self._wait(self.node.start(), timeout_s)

    def kill_plugin(self) -> None:
        """SIGKILL for the plugin; the node runs on."""
        self._wait(self.node.kill_plugin(), DEFAULT_TIMEOUT_S)

    def stop_plugin(self, *, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """`lightning-cli plugin stop`."""
        self._wait(self.node.stop_plugin(), timeout_s)

    def start_plugin(self, *, timeout_s: float = START_TIMEOUT_S) -> None:
        """`lightning-cli plugin start`: init says startup=false."""
        self._wait(self.node.start_plugin(startup=False), timeout_s)

    def wait_for_plugin_exit(self, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> int | None:
        """Wait until the plugin's process has ended; returns its exit code."""
        plugin = self.node.plugin
        if plugin is None:
            raise SandboxError("this node has no plugin")
        self.wait_until(lambda: not plugin.alive, timeout_s=timeout_s, what="plugin exit")
        return plugin.exit_code

    # -- what it is ----------------------------------------------------------------------------------------------

    @property
    def node(self) -> Node:
        """The node itself. It lives in another thread: look, don't touch; use :meth:`do` to change something."""
        if self._node is None:
            raise SandboxError("not started")
        return self._node

    @property
    def id(self) -> str:
        """The node's public key."""
        return self.node.id

    @property
    def directory(self) -> Path:
        """The lightning-dir; the network's directory is below it."""
        return self.node.directory

    @property
    def rpc_path(self) -> Path:
        """The JSON-RPC socket."""
        return self.node.rpc.path

    @property
    def options(self) -> dict[str, Any]:
        """The plugin's options; changes count from its next start."""
        return self._options if self._node is None else self._node.options

    @property
    def plugin_disabled(self) -> str | None:
        """Why the plugin has disabled itself, or None."""
        return self.node.plugin_disabled

    @property
    def plugin_active(self) -> bool:
        """Whether the plugin has been initialised and lives."""
        return self.node.plugin is not None and self.node.plugin.state == "active"

    @property
    def plugin_pid(self) -> int | None:
        """The process id of the plugin."""
        return None if self.node.plugin is None else self.node.plugin.pid

    @property
    def plugin_kill_reason(self) -> str | None:
        """Why the node has killed the plugin, or None."""
        return None if self.node.plugin is None else self.node.plugin.kill_reason

    # -- commands ------------------------------------------------------------------------------------------------

    def rpc(self, method: str, /, *, timeout_s: float = DEFAULT_TIMEOUT_S, **params: Any) -> dict[str, Any]:
        """Run a command of the node or of its plugin; raises :class:`~contrib.sandbox.errors.RpcError`.

        Does not go through the socket: neither :meth:`pause_rpc` nor :meth:`fail_rpc` touch it, and
        :meth:`calls` does not count it.
        """
        return self._wait(self.node.handle(Request(method, params, None)), timeout_s)

    def rpc_soon(self, method: str, /, **params: Any) -> Pending:
        """Start a command and come back at once, for those that may take their time (xpay, wait)."""
        return Pending(
            asyncio.run_coroutine_threadsafe(self.node.handle(Request(method, params, None)), self._running_loop())
        )

    def do(self, work: Callable[[Node], Result], *, timeout_s: float = DEFAULT_TIMEOUT_S) -> Result:
        """Run a function in the node's thread."""

        async def run() -> Result:
            result = work(self.node)
            self.node.flush()
            return result

        return self._wait(run(), timeout_s)

    # -- payments ------------------------------------------------------------------------------------------------

    def outside_invoice(
        self,
        amount_msat: int | None,
        *,
        description: str = "sandbox",
        expiry_s: int = DEFAULT_EXPIRY_S,
        created_at: int | None = None,
        behaviour: Behaviour | None = None,
        hints: tuple[tuple[Hop, ...], ...] = (),
    ) -> OutsideInvoice:
        """An invoice of the outside node, with what is to happen when this node pays it (default: success).

        `amount_msat` None makes an amountless one; an earlier `created_at` an expired one; `hints` are private ways
        to the outside node.
        """

        def issue(node: Node) -> OutsideInvoice:
            issued = node.outside.issue(amount_msat, description, expiry_s, created_at, hints)
            if behaviour is not None:
                node.xpay.script(behaviour, issued.payment_hash, 1)
            return issued

        return self.do(issue)

    def pay_invoice(
        self, bolt11: str, amount_msat: int | None = None, *, notifications: Notifications | None = None
    ) -> dict[str, Any]:
        """Somebody outside pays an invoice of this node or of the outside node, with another amount if one is given; or
        fetches an invoice for an offer of this node, and pays that."""
        spec = notifications or Notifications()
        return self.do(lambda node: pay_from_outside(node, bolt11, amount_msat, spec))

    def outside_offer(
        self, amount_msat: int | None, *, behaviour: Behaviour | None = None, network: str | None = None, **content: Any
    ) -> OutsideOffer:
        """An offer of the outside node (None: the payer chooses the amount), with what is to happen whenever an invoice
        for it is paid (default: success). `content`: more of :func:`~contrib.sandbox.bolt12.make_offer`."""

        def make(node: Node) -> OutsideOffer:
            content.setdefault("description", "sandbox")
            content.setdefault("issuer", secrets.token_hex(8))  # no two offers are the same
            offer = bolt12.make_offer(node.outside.node_id, network or node.network, amount=amount_msat, **content)
            return node.offers.add_outside(offer, behaviour)

        return self.do(make)

    def outside_invoices(self, offer: OutsideOffer) -> list[OutsideInvoice]:
        """The invoices that this node has fetched for an offer of the outside node, oldest first."""
        return self.do(lambda node: node.offers.invoices_of_outside(offer.id))

    def script_fetch(self, behaviour: FetchBehaviour, offer: OutsideOffer | None = None, *, times: int = 1) -> None:
        """What is to happen at the next `fetchinvoice` for an offer, or at the next of any."""
        self.do(lambda node: node.offers.script(behaviour, None if offer is None else offer.id, times))

    def script(self, behaviour: Behaviour, payment: OutsideInvoice | str | None = None, *, times: int = 1) -> None:
        """What is to happen at the next xpay of a payment (an invoice or payment hash), or at the next of any.

        Scripts for one payment come first; each is used once unless `times` says more. Without any the payment
        of an outside invoice succeeds, except that the outside node takes its money only once.
        """
        payment_hash = None if payment is None else self.payment_hash(payment)
        self.do(lambda node: node.xpay.script(behaviour, payment_hash, times))

    def release(
        self,
        payment: OutsideInvoice | str,
        ok: bool = True,
        *,
        partid: int | None = None,
        cause: PartFailure | None = None,
    ) -> int:
        """Let the held parts of a payment succeed or fail (all, or one); returns how many there were."""
        payment_hash = self.payment_hash(payment)
        return self.do(lambda node: node.parts.release(payment_hash, ok=ok, partid=partid, cause=cause))

    def wait_for_part(
        self, payment: OutsideInvoice | str, *, count: int = 1, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> None:
        """Wait until so many parts of a payment are in flight."""
        payment_hash = self.payment_hash(payment)
        self.wait_until(
            lambda: len(self.do(lambda node: node.parts.of_hash(payment_hash))) >= count,
            timeout_s=timeout_s,
            what=f"{count} parts of {payment_hash}",
        )

    def rows(self, payment: OutsideInvoice | str) -> list[dict[str, Any]]:
        """`listsendpays` of one payment."""
        payment_hash = self.payment_hash(payment)
        return self.do(lambda node: [row.to_json() for row in node.payments.of_hash(payment_hash)])

    def delete_rows(self, payment: OutsideInvoice | str, *, counted: bool = True) -> int:
        """Remove all rows of a payment, as autoclean does (`counted`: the `deleted` index grows by one per row).

        With counted=False it is as after `delpay HASH STATUS`, which a real node does not count.
        """
        payment_hash = self.payment_hash(payment)

        def delete(node: Node) -> int:
            rows = list(node.payments.of_hash(payment_hash))
            node.payments.remove(rows, counted=counted)
            return len(rows)

        return self.do(delete)

    def set_channel(
        self, *, capacity_msat: int | None = None, to_us_msat: int | None = None, connected: bool | None = None
    ) -> None:
        """Change the channel: too small or not connected means no route (205)."""

        def change(node: Node) -> None:
            capacity = node.channel.capacity_msat if capacity_msat is None else capacity_msat
            to_us = min(node.channel.to_us_msat, capacity) if to_us_msat is None else to_us_msat
            node.channel.resize(capacity, to_us)
            if connected is not None:
                (node.connect if connected else node.disconnect)()

        self.do(change)

    def set_routes(self, *routes: Route, destination: str | None = None) -> None:
        """What `getroutes` finds to a node (None: the outside node), in as many parts as there are routes; without any
        it does not know that node (205). xpay does not look at this: its fees are in its script."""
        self.do(lambda node: node.routes.set(destination or node.outside.node_id, routes))

    def reset_routes(self) -> None:
        """Take back every :meth:`set_routes`."""
        self.do(lambda node: node.routes.reset())

    def wait_connected(self, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        """Wait until the channel is re-established after a restart; before that there is no route (205)."""
        self.wait_until(lambda: self.node.channel.connected, timeout_s=timeout_s, what="connection to the peer")

    def add_block(self) -> None:
        """A block is found."""
        self.chain.mine()

    @property
    def chain(self) -> ChainControl:
        """What happens on the chain."""
        return ChainControl(self.do)

    @staticmethod
    def payment_hash(payment: OutsideInvoice | str) -> str:
        """The hash of a payment given as invoice, BOLT 11 string or hash."""
        from contrib.sandbox import bolt11  # noqa: PLC0415

        if isinstance(payment, OutsideInvoice):
            return payment.payment_hash
        if bolt12.is_invoice(payment):
            return bolt12.read_invoice(payment).payment_hash
        return payment if re.fullmatch(r"[0-9a-f]{64}", payment) else bolt11.decode(payment).payment_hash

    # -- interference --------------------------------------------------------------------------------------------

    def close_rpc_connections(self) -> int:
        """Hang up on everybody on the socket; their commands run on, their replies are lost."""

        def close(node: Node) -> int:
            count = len(node.rpc.connections)
            node.rpc.drop_connections(abort=True)
            return count

        return self.do(close)

    def pause_rpc(self, method: str) -> None:
        """Commands of this name that come over the socket stand still until :meth:`resume_rpc`."""
        self.do(lambda node: node.pause(method))

    def resume_rpc(self, method: str) -> None:
        """Let them go on."""
        self.do(lambda node: node.resume(method))

    def fail_rpc(self, method: str, code: int, message: str, *, times: int = 1, after: int = 0) -> None:
        """The next commands of this name that come over the socket fail; before that, `after` of them are let pass."""
        self.do(lambda node: node.fail_next(method, RpcError(code, message), times, after))

    def heal_rpc(self, method: str) -> None:
        """Commands of this name fail no longer."""
        self.do(lambda node: node.heal(method))

    def notify(self, topic: str, payload: dict[str, Any], *, origin: str | None = None) -> bool:
        """Emit any notification, true or not; tells whether the plugin has been sent it."""
        return self.do(lambda node: node.notify(topic, payload, origin=origin))

    # -- looking and waiting -------------------------------------------------------------------------------------

    def calls(self, method: str | None = None, *, since: int = 0) -> list[Call]:
        """Commands that came over the socket, all or those of one name, with parameters and times."""
        return [
            call
            for call in self.node.calls.since(since)
            if not call.local and (method is None or call.method == method)
        ]

    def log(self, *, since: int = 0) -> list[LogLine]:
        """The node's log with its plugin's, and what the plugin wrote to stderr."""
        return self.node.log_lines.since(since)

    def notifications(self, topic: str | None = None, *, since: int = 0) -> list[Notification]:
        """The notifications so far, all or those of one topic."""
        return [entry for entry in self.node.notifications.since(since) if topic in (None, entry.topic)]

    @property
    def log_position(self) -> int:
        """Where the log ends now: `since` for later."""
        return self.node.log_lines.position

    @property
    def calls_position(self) -> int:
        """Where the list of calls ends now: `since` for later."""
        return self.node.calls.position

    @property
    def notifications_position(self) -> int:
        """Where the list of notifications ends now: `since` for later."""
        return self.node.notifications.position

    def wait_for_log(self, pattern: str, timeout_s: float = DEFAULT_TIMEOUT_S, *, since: int = 0) -> LogLine:
        """Wait for a log line that matches a regular expression (searched in "LEVEL source: message")."""
        expression = re.compile(pattern)
        return self.node.log_lines.wait_for(
            lambda line: expression.search(str(line)) is not None, timeout_s, what=f"log /{pattern}/", start=since
        )

    def wait_for_call(
        self, method: str, timeout_s: float = DEFAULT_TIMEOUT_S, *, since: int = 0, count: int = 1
    ) -> Call:
        """Wait for the count-th command of a name over the socket."""
        return self.node.calls.wait_for(
            lambda call: call.method == method and not call.local,
            timeout_s,
            what=f"call of {method}",
            start=since,
            count=count,
        )

    def wait_for_notification(
        self, topic: str, timeout_s: float = DEFAULT_TIMEOUT_S, *, since: int = 0, count: int = 1
    ) -> Notification:
        """Wait for the count-th notification of a topic."""
        return self.node.notifications.wait_for(
            lambda entry: entry.topic == topic, timeout_s, what=f"notification {topic}", start=since, count=count
        )

    @staticmethod
    def wait_until(
        condition: Callable[[], bool], *, timeout_s: float = DEFAULT_TIMEOUT_S, what: str = "condition"
    ) -> None:
        """Look at a condition until it holds."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() >= deadline:
                raise SandboxTimeout(f"{what}: not within {timeout_s} s")
            time.sleep(_POLL_S)

    # -- the thread ----------------------------------------------------------------------------------------------

    async def _create(self) -> None:
        self._node = Node(self._directory, self.settings, self._plugin, self._options, self._env)
        self._node.on_log = self._on_log
        await self._node.start()

    def _run_loop(self) -> None:
        loop = self._running_loop()
        asyncio.set_event_loop(loop)
        loop.run_forever()
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            raise SandboxError("not started")
        return self._loop

    def _wait(self, work: Coroutine[Any, Any, Result], timeout_s: float) -> Result:
        future = asyncio.run_coroutine_threadsafe(work, self._running_loop())
        try:
            return future.result(timeout_s)
        except TimeoutError:
            if future.done():
                raise
            future.cancel()
            raise SandboxTimeout(f"not done within {timeout_s} s") from None


class Pending:
    """A command under way."""

    def __init__(self, future: Any) -> None:
        self._future = future

    @property
    def done(self) -> bool:
        """Whether the answer is there."""
        return bool(self._future.done())

    def result(self, timeout_s: float = DEFAULT_TIMEOUT_S) -> dict[str, Any]:
        """Wait for the answer; raises what the command raises."""
        try:
            answer: dict[str, Any] = self._future.result(timeout_s)
        except TimeoutError:
            raise SandboxTimeout(f"no answer within {timeout_s} s") from None
        return answer
