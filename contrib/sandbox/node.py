"""The node: its parts put together, its life cycle, and what it tells its plugin."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import coincurve

from contrib.sandbox import (
    chain_commands,  # noqa: F401 - registers its commands
    channel_commands,  # noqa: F401
    invoice_commands,  # noqa: F401
    news,
    node_commands,  # noqa: F401
    offer_commands,  # noqa: F401
    outside_commands,  # noqa: F401
    payment_commands,  # noqa: F401
    runes,  # noqa: F401
)
from contrib.sandbox.bitcoin import Bitcoin
from contrib.sandbox.bolt11 import FEATURES, PREFIXES
from contrib.sandbox.channels import Channel
from contrib.sandbox.coins import Coins
from contrib.sandbox.commands import COMMANDS
from contrib.sandbox.datastore import Datastore
from contrib.sandbox.errors import METHOD_NOT_FOUND, RpcError, SandboxError
from contrib.sandbox.invoices import Invoices, Record
from contrib.sandbox.journal import Journal
from contrib.sandbox.offers import Offers
from contrib.sandbox.outside import ForeignInvoices, Outside, derive
from contrib.sandbox.parts import Parts
from contrib.sandbox.payments import Payments
from contrib.sandbox.plugin_process import PluginProcess, State
from contrib.sandbox.routes import Routes
from contrib.sandbox.rpc_server import Request, RpcServer
from contrib.sandbox.script import Notifications
from contrib.sandbox.store import Store
from contrib.sandbox.waits import Waits
from contrib.sandbox.xpay import Xpay
from plugin.node.psbt import Output

SOCKET_NAME = "lightning-rpc"
STORE_NAME = "sandbox.sqlite3"
PLUGIN_EXIT_TIMEOUT_S = 30.0
"""How long a node waits for a plugin that has been told to shut down."""
MAX_LOG_LINES = 100_000
MAX_LAST_WORDS = 30
MAX_CALLS = 500_000
MAX_NOTIFICATIONS = 500_000
DEFAULT_CAPACITY_MSAT = 1_000_000_000_000
FEATURE_SET = {"init": "800898880a8a59a1", "node": "808898880a8a59a1", "channel": "", "invoice": FEATURES.hex()}
INCOMING_MOVE_DELAY_S = 0.04
AUTO_DEPOSIT_SAT = 100_000
AUTO_BLOCKS = 6
AUTO_COINS = [1_000_000] * 10
PEER_ADDRESS = {"type": "ipv4", "address": "127.0.0.1", "port": 9735}
_WARNING_LEVELS = {"unusual": "warn", "broken": "error"}
"""Log levels that a node also tells as a `warning` notification, and how they are called there."""


@dataclass
class Settings:
    """What can be set about a node, some of it at any time."""

    network: str = "regtest"
    version: str = "v26.06.6"
    alias: str = "SANDBOX"
    blockheight: int = 800
    """At the very first start."""
    replay_blocks: int = 2
    """So many blocks are taken back at a start, and processed again (30 on a real node on regtest, 15 else)."""
    replay_delay_s: float = 0.02
    feerates: dict[int, int] | None = field(default_factory=lambda: {2: 2500, 12: 1000, 100: 500})
    """Estimates: satoshis for 1000 units of weight, by blocks to a confirmation; None: there are none."""
    warnings: dict[str, str] = field(default_factory=dict)
    """Further members of `getinfo`, such as warning_lightningd_sync."""
    default_fee_msat: int = 1_000
    """Routing fee of parts whose script names none."""
    listpays_lag_s: float = 0.01
    """How long `listpays` still says pending after xpay has answered 203."""
    reconnect_delay_s: float | None = 0.1
    """After a restart the channel is re-established this much after the plugin's init; None: when told to."""
    slow_mode: bool = False
    """xpay-slow-mode: answer only when every part is resolved."""
    auto: bool = False
    """Every invoice of this node is paid by itself, every outside invoice can be paid."""
    auto_delay_s: float = 0.3
    foreign: ForeignInvoices = field(default_factory=ForeignInvoices)
    capacity_msat: int = DEFAULT_CAPACITY_MSAT
    to_us_msat: int | None = None
    """Our side of the channel; None: half of it."""
    further_channels: list[dict[str, Any]] = field(default_factory=list)
    """Further entries of `listpeerchannels`, each by what differs from the one channel; payments don't use them."""
    configs: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Further entries of `listconfigs`, such as the ages of autoclean."""
    ghost_window_s: float = 0.0
    """A kill -9 this soon after a part was sent leaves its row, but not its HTLC (some 15 ms on a real node)."""
    plugin_exit_timeout_s: float = PLUGIN_EXIT_TIMEOUT_S
    """How long a plugin may take to leave when it has been told to; then it is killed."""
    announced: bool = True
    """Whether the network knows this node, so that its offers can be paid."""
    bip353: dict[str, str] | None = None
    """Offers by the names that `fetchbip353` resolves; None: the node has no such command."""
    secret: bytes | None = None
    """32 bytes instead of the random secret a new node makes for itself."""


@dataclass(frozen=True)
class Call:
    """One JSON-RPC command as it came in."""

    time: float
    method: str
    params: Any
    local: bool = False
    """True: asked by the sandbox's own user, not over the socket."""


@dataclass(frozen=True)
class LogLine:
    """One line of the node's log: its own, its plugin's, or what the plugin wrote to stderr (level "stderr")."""

    time: float
    level: str
    source: str
    message: str

    def __str__(self) -> str:
        return f"{self.level.upper()} {self.source}: {self.message}"


@dataclass(frozen=True)
class Notification:
    """One notification the node has emitted, whether or not a plugin has heard it."""

    time: float
    topic: str
    payload: dict[str, Any]
    delivered: bool
    monotonic_s: float
    """When it was sent, by the clock that all processes share (CLOCK_MONOTONIC)."""


class Node:
    """A stand-in lightningd. Everything in here happens in one event loop."""

    def __init__(
        self, directory: Path, settings: Settings, plugin: Path | None, options: dict[str, Any], env: dict[str, str]
    ) -> None:
        if settings.network not in PREFIXES:
            raise SandboxError(f"unknown network {settings.network}")
        self.loop = asyncio.get_running_loop()
        self.settings = settings
        self.network = settings.network
        self.currency = PREFIXES[settings.network]
        self.directory = directory.absolute()
        self.network_directory = self.directory / settings.network
        self.network_directory.mkdir(parents=True, exist_ok=True)
        self.plugin_path = plugin
        self.options = dict(options)
        self.plugin: PluginProcess | None = None
        self.plugin_disabled: str | None = None
        self.up = False
        self.stopping = False
        self.started_at = 0.0
        self.calls: Journal[Call] = Journal(MAX_CALLS)
        self.log_lines: Journal[LogLine] = Journal(MAX_LOG_LINES)
        self.notifications: Journal[Notification] = Journal(MAX_NOTIFICATIONS)
        self.on_log: Callable[[LogLine], None] | None = None
        self.went_down = asyncio.Event()
        """Set when the node has gone down and is not to come up again by itself."""
        self._env = env
        self._paused: dict[str, asyncio.Event] = {}
        self._rpc_failures: dict[str, deque[RpcError | None]] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._expiry_timer: asyncio.TimerHandle | None = None
        self._connect_timer: asyncio.TimerHandle | None = None
        self._replay_timer: asyncio.TimerHandle | None = None
        self.store = Store(self.network_directory / STORE_NAME)
        self.secret = self._load_secret()
        key = coincurve.PrivateKey(derive(self.secret, "node"))
        self.id = key.public_key.format().hex()
        self.waits = Waits(self.store)
        self.bitcoin = Bitcoin(self.store, settings.blockheight)
        self.coins = Coins(self, self.bitcoin)
        self.datastore = Datastore(self.store)
        self.outside = Outside(self.store, self.secret, self.currency, settings.foreign, self.id)
        self.invoices = Invoices(self.store, self.waits, key, self.currency)
        self.offers = Offers(self, key)
        self.payments = Payments(self.store, self.waits)
        capacity_msat = settings.capacity_msat
        to_us_msat = capacity_msat // 2 if settings.to_us_msat is None else settings.to_us_msat
        self.channel = Channel(self.store, self.waits, capacity_msat, to_us_msat, derive(self.secret, "channel").hex())
        self.parts = Parts(self)
        self.xpay = Xpay(self)
        self.routes = Routes(self)
        self.rpc = RpcServer(self.network_directory / SOCKET_NAME, self.handle, self.flush)
        for keeper in (
            self.waits,
            self.bitcoin,
            self.coins,
            self.datastore,
            self.outside,
            self.invoices,
            self.offers,
            self.payments,
            self.channel,
            self.parts,
        ):
            keeper.load()

    @property
    def blockheight(self) -> int:
        """The height of the chain, as far as it is processed."""
        return self.coins.height

    # -- life cycle ----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Come up, with the plugin if there is one; returns when the plugin has answered init."""
        await self.rpc.open()
        self.up = True
        self.stopping = False
        self.started_at = time.time()
        self.log("info", "lightningd", f"Server started with public key {self.id}, alias {self.settings.alias}")
        if self.settings.auto:
            for record in self.invoices.unpaid():
                self.pay_later(record)
        self._tick()
        self.coins.roll_back(self.settings.replay_blocks)
        if self.settings.auto and not self.coins.list_funds(spent=True):
            self.give_coins(AUTO_COINS)
        self._replay_timer = None
        if self.coins.is_behind:
            self._replay_timer = self.loop.call_later(self.settings.replay_delay_s, self._replay)
        if self.plugin_path is not None:
            await self.start_plugin(startup=True)
        if not self.channel.connected and self.settings.reconnect_delay_s is not None:
            self._connect_timer = self.loop.call_later(self.settings.reconnect_delay_s, self.connect)

    def stop_soon(self) -> None:
        """Go down for good, but first let the command that asked for it have its reply."""
        self._later(self._go_down_for_good())

    def restart_soon(self, *, graceful: bool) -> None:
        """Restart, but first let the command that asked for it have its reply."""
        self._later(self.restart(graceful=graceful))

    async def _go_down_for_good(self) -> None:
        await self.go_down(graceful=True)
        self.went_down.set()

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = self.loop.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def stop(self) -> None:
        """`lightning-cli stop`, then the end of the sandbox."""
        await self.go_down(graceful=True)
        self.store.close()

    async def restart(self, *, graceful: bool = True, kill_plugin: bool = False, down_s: float = 0.0) -> None:
        """Go down and come up again; rows, HTLCs and invoices stay, running commands do not."""
        await self.go_down(graceful=graceful, kill_plugin=kill_plugin)
        if down_s:
            await asyncio.sleep(down_s)
        await self.start()

    async def go_down(self, *, graceful: bool, kill_plugin: bool = False) -> None:
        """Stop as `lightning-cli stop` does, or die as with kill -9 (and the plugin with it, if the machine dies)."""
        if not self.up:
            return
        self.stopping = True
        self.xpay.forget_runs()
        self.parts.orphan()
        if not graceful:
            self.parts.make_ghosts(self.settings.ghost_window_s)
        self.waits.forget_waiters()
        self.invoices.forget_waiters()
        if graceful:
            self.rpc.refuse()
            if self.plugin is not None and self.plugin.alive and self.notify("shutdown", {}):
                await self.plugin.wait(self.settings.plugin_exit_timeout_s)
        self.rpc.close(abort=not graceful)
        self.up = False
        for timer in (self._expiry_timer, self._connect_timer, self._replay_timer):
            if timer is not None:
                timer.cancel()
        self.channel.connected = False
        if self.plugin is not None:
            if kill_plugin:
                self.plugin.kill()
            self.plugin.close_stdin()
            if not await self.plugin.wait(self.settings.plugin_exit_timeout_s):
                self.log(
                    "broken",
                    "sandbox",
                    f"plugin did not exit {self.settings.plugin_exit_timeout_s} s after EOF: killed",
                )
                self.plugin.kill()
                await self.plugin.wait_forever()
        self.flush()

    async def start_plugin(self, *, startup: bool = False) -> None:
        """Start the plugin; afterwards it is active, or :attr:`plugin_disabled` says why not."""
        if self.plugin_path is None:
            raise SandboxError("this node has no plugin")
        if self.plugin is not None and self.plugin.alive:
            raise SandboxError("the plugin is running already")
        self.plugin_disabled = None
        plugin = self.plugin = PluginProcess(
            self, self.plugin_path, self.network_directory, self.settings.version, self._env
        )
        await plugin.spawn()
        log_start = self.log_lines.position
        manifest = await plugin.getmanifest()
        reason = manifest.disable
        if reason is None and plugin.alive:
            self._check_manifest(plugin)
            reason = await plugin.init(self._plugin_options(plugin), self._configuration(startup=startup))
        if not plugin.alive and reason is None:
            raise SandboxError(self._obituary(plugin, log_start))
        if reason is not None:
            plugin.state = State.DISABLED
            self.plugin_disabled = reason
            self.log("info", f"plugin-{plugin.name}", f"Killing plugin: disabled itself: {reason}")
            plugin.kill()
            await plugin.wait_forever()
            return
        if plugin.state is State.ACTIVE:
            self.notify(
                "plugin_started",
                {"plugin_name": plugin.name, "plugin_path": str(plugin.path), "methods": list(manifest.methods)},
            )

    def connect(self) -> None:
        """The peer is there, the channel re-established, and with it comes what has happened meanwhile."""
        if self.channel.connected or not self.up:
            return
        self.channel.connected = True
        self.notify("connect", {"id": self.outside.peer_id, "direction": "out", "address": PEER_ADDRESS})
        self.parts.catch_up()

    def disconnect(self) -> None:
        """The peer is gone: no new payments, and no outcome of old ones, until it is back."""
        if not self.channel.connected:
            return
        self.channel.connected = False
        self.notify("disconnect", {"id": self.outside.peer_id})

    async def stop_plugin(self) -> None:
        """`plugin stop`: SIGKILL, or the notification first if the plugin wants it."""
        plugin = self.plugin
        if plugin is None or not plugin.alive:
            raise SandboxError("the plugin is not running")
        plugin.stopped = True
        if self.notify("shutdown", {}):
            if not await plugin.wait(self.settings.plugin_exit_timeout_s):
                plugin.kill("did not exit in time")
        else:
            plugin.kill()
        await plugin.wait_forever()

    async def kill_plugin(self) -> None:
        """SIGKILL, and nobody told it."""
        if self.plugin is None or not self.plugin.alive:
            raise SandboxError("the plugin is not running")
        self.plugin.stopped = True
        self.plugin.kill()
        await self.plugin.wait_forever()

    # -- commands ------------------------------------------------------------------------------------------------

    async def handle(self, request: Request) -> dict[str, Any]:
        """Run one command, its own or the plugin's."""
        local = request.connection is None
        self.calls.append(Call(time.time(), request.method, request.params, local))
        if not local:
            await self._interfere(request.method)
        command = COMMANDS.get(request.method)
        if command is not None:
            return await command.run(self, request)
        plugin = self.plugin
        if plugin is not None and plugin.state is State.ACTIVE and request.method in plugin.manifest.methods:
            result: dict[str, Any] = await plugin.call(request.method, request.params)
            return result
        raise RpcError(METHOD_NOT_FOUND, f"Unknown command '{request.method}'")

    async def _interfere(self, method: str) -> None:
        event = self._paused.get(method)
        if event is not None:
            await event.wait()
        failures = self._rpc_failures.get(method)
        if failures and (error := failures.popleft()) is not None:
            raise error

    def pause(self, method: str) -> None:
        """Commands of this name get no answer, and have no effect, until :meth:`resume`."""
        self._paused.setdefault(method, asyncio.Event())

    def resume(self, method: str) -> None:
        """Let paused commands go on."""
        event = self._paused.pop(method, None)
        if event is not None:
            event.set()

    def fail_next(self, method: str, error: RpcError, times: int, after: int = 0) -> None:
        """The next commands of this name, or the next `after` so many, fail with this error."""
        self._rpc_failures.setdefault(method, deque()).extend([None] * after + [error] * times)

    def heal(self, method: str) -> None:
        """Commands of this name fail no longer."""
        self._rpc_failures.pop(method, None)

    # -- money coming in -----------------------------------------------------------------------------------------

    def receive(self, record: Record, amount_msat: int, spec: Notifications) -> None:
        """The outside node pays an invoice of this node."""
        self.channel.receive(record.payment_hash, amount_msat, self.blockheight)
        self.invoices.pay(record, amount_msat)
        self.offers.note_paid(record)
        self.notify_all([news.invoice_payment(record)], spec)
        fields = {
            "timestamp": int(time.time()),
            "primary_tag": "invoice",
            "payment_hash": record.payment_hash,
            "fees_msat": 0,
        }
        move = self.channel.move(fields, credit_msat=amount_msat)
        self.loop.call_later(INCOMING_MOVE_DELAY_S, self.notify_all, [news.coin_movement(move)], spec)

    def pay_later(self, record: Record) -> None:
        """Automatic profile: somebody pays this invoice a moment later."""
        self.loop.call_later(self.settings.auto_delay_s, self._pay_automatically, record.label)

    def _pay_automatically(self, label: str) -> None:
        record = self.invoices.of_label(label)
        if not self.up or record is None or record.status != "unpaid" or record.amount_msat is None:
            return
        if record.amount_msat > self.channel.receivable_msat:
            self.log("unusual", "sandbox", f"invoice {label} is larger than what the channel can receive: not paid")
            return
        self.receive(record, record.amount_msat, Notifications())
        self.flush()

    # -- the chain -----------------------------------------------------------------------------------------------

    @property
    def told_height(self) -> int:
        """What `getinfo` says."""
        return self.coins.told_height if self._replay_timer is None else self.coins.height

    def mine(self, blocks: int = 1, *, empty: bool = False, mined_at: int | None = None) -> None:
        """Blocks are found, with everything that waits, or empty; `mined_at`: the time that they claim."""
        for _ in range(blocks):
            self.bitcoin.mine(empty=empty, mined_at=mined_at)
            self.follow_chain()

    def follow_chain(self) -> None:
        """The node looks at the chain, unless it is down, or still reading again what it knew before."""
        if self.up and self._replay_timer is None:
            self.coins.follow()
            self.flush()

    def deposit(self, address: str, amount_sat: int) -> bytes:
        """Somebody pays an address; the txid. It takes a block to be seen."""
        return self.bitcoin.pay_from_outside(Output(amount_sat, self.coins.script_of(address)))

    def give_coins(self, amounts_sat: list[int]) -> None:
        """The wallet has these coins, each from a transaction of its own, confirmed."""
        for amount_sat in amounts_sat:
            self.deposit(self.coins.new_address(), amount_sat)
        self.mine()

    def deposit_later(self, address: str) -> None:
        """Automatic profile: somebody pays this address a moment later."""
        self.loop.call_later(self.settings.auto_delay_s, self.deposit, address, AUTO_DEPOSIT_SAT)
        self.mine_later()

    def mine_later(self) -> None:
        """Automatic profile: a moment later everything is confirmed."""
        self.loop.call_later(2 * self.settings.auto_delay_s, self.mine, AUTO_BLOCKS)

    @property
    def is_replaying(self) -> bool:
        """Whether it is still reading its last blocks again."""
        return self._replay_timer is not None

    def finish_replay(self) -> None:
        """All of it is processed at once."""
        if self._replay_timer is not None:
            self._replay_timer.cancel()
            self._replay_timer = None
        self.follow_chain()

    def _replay(self) -> None:
        more = self.coins.follow(1)
        self._replay_timer = self.loop.call_later(self.settings.replay_delay_s, self._replay) if more else None
        self.flush()

    # -- news ----------------------------------------------------------------------------------------------------

    def notify(self, topic: str, payload: dict[str, Any], *, origin: str | None = None) -> bool:
        """Emit one notification; tells whether the plugin has been sent it."""
        message: dict[str, Any] = {"jsonrpc": "2.0", "method": topic, "params": {topic: payload}}
        if origin is not None:
            message["origin"] = origin
        now = time.monotonic()
        delivered = self.up and self.plugin is not None and self.plugin.notify(topic, message)
        self.notifications.append(Notification(time.time(), topic, payload, delivered, now))
        return delivered

    def notify_all(self, messages: list[news.News], spec: Notifications) -> None:
        """Emit notifications in order, as often and as late as a script wants it."""
        if spec.delay_s:
            self.loop.call_later(spec.delay_s, self._notify_repeatedly, messages, spec.repeat)
        else:
            self._notify_repeatedly(messages, spec.repeat)

    def _notify_repeatedly(self, messages: list[news.News], repeat: int) -> None:
        for topic, payload, origin in messages:
            for _ in range(repeat):
                self.notify(topic, payload, origin=origin)

    def log(self, level: str, source: str, message: str) -> None:
        """Add a line to the log."""
        now = time.time()
        line = LogLine(now, level, source, message)
        self.log_lines.append(line)
        if self.on_log is not None:
            self.on_log(line)
        if level in _WARNING_LEVELS:
            stamp = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
            payload = {"level": _WARNING_LEVELS[level], "time": f"{now:.9f}", "timestamp": stamp}
            self.notify("warning", {**payload, "source": source, "log": message})

    def flush(self) -> None:
        """Everything that has happened is written before anybody hears of it."""
        self.store.flush()

    # -- what the plugin does ------------------------------------------------------------------------------------

    def plugin_notified(self, plugin: PluginProcess, topic: str, params: Any) -> None:
        """The plugin has emitted a notification of its own."""
        message = {"jsonrpc": "2.0", "method": topic, "origin": plugin.name, "params": params}
        now = time.monotonic()
        self.notifications.append(Notification(time.time(), topic, params, plugin.notify(topic, message), now))

    def plugin_died(self, plugin: PluginProcess) -> None:
        """The plugin's process has ended, for whatever reason."""
        self.log("info", f"plugin-{plugin.name}", f"exited with code {plugin.exit_code}")
        if plugin.state is State.DEAD and self.up and not self.stopping:
            self.notify("plugin_stopped", {"plugin_name": plugin.name, "plugin_path": str(plugin.path)})

    def _obituary(self, plugin: PluginProcess, log_start: int) -> str:
        """A real node would log one line and go on without the plugin; whoever uses a stand-in wants to know why."""
        last_words = [line.message for line in self.log_lines.since(log_start)][-MAX_LAST_WORDS:]
        return "\n".join([f"the plugin has ended with code {plugin.exit_code} while it was starting:", *last_words])

    def _check_manifest(self, plugin: PluginProcess) -> None:
        if plugin.manifest.hooks:
            self.log("unusual", "sandbox", f"hooks are never called here: {', '.join(plugin.manifest.hooks)}")
        for name in plugin.manifest.methods:
            if name in COMMANDS:
                plugin.kill(f'Could not register method "{name}", a method with that name is already registered')
                raise SandboxError(f"the plugin's method {name} is one of the node's")
        unknown = sorted(set(self.options) - set(plugin.manifest.options))
        if unknown:
            plugin.kill()
            raise SandboxError(f"the plugin has no option {', '.join(unknown)}: a real node would not start")

    def _plugin_options(self, plugin: PluginProcess) -> dict[str, Any]:
        typed: dict[str, Any] = {}
        for name, option in plugin.manifest.options.items():
            value = self.options.get(name, option.get("default"))
            if value is None:
                continue
            values = value if isinstance(value, list) else [value]
            read = [read_option(name, option.get("type", "string"), one) for one in values]
            typed[name] = read if option.get("multi") else read[0]
        return typed

    def _configuration(self, *, startup: bool) -> dict[str, Any]:
        return {
            "lightning-dir": str(self.network_directory),
            "rpc-file": SOCKET_NAME,
            "startup": startup,
            "network": self.network,
            "feature_set": FEATURE_SET,
        }

    def _load_secret(self) -> bytes:
        saved = self.store.get("meta", "secret")
        if saved is not None:
            return bytes.fromhex(saved)
        secret = self.settings.secret or secrets.token_bytes(32)
        self.store.put("meta", "secret", secret.hex())
        return secret

    def _tick(self) -> None:
        """Invoices expire by the clock, not when somebody looks."""
        self.invoices.expire()
        self._expiry_timer = self.loop.call_later(1.0, self._tick)


def read_option(name: str, kind: str, value: Any) -> Any:
    """An option's value with the type the plugin has declared."""
    if kind in ("bool", "flag"):
        if isinstance(value, bool):
            return value
        if str(value).lower() in ("true", "1", "yes"):
            return True
        if str(value).lower() in ("false", "0", "no"):
            return False
        raise SandboxError(f"{name}: not a boolean: {value}")
    if kind == "int":
        if not isinstance(value, bool) and re.fullmatch(r"-?[0-9]+", str(value)):
            return int(value)
        raise SandboxError(f"{name}: not a number: {value}")
    return str(value)
