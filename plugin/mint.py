"""The mint's life: started beside a node, recovered, serving, stopped. Builds every part and joins them."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from ledger.errors import StartError
from ledger.identity import Record
from ledger.ledger import Ledger, open_ledger
from ledger.operations.node import NodeRun
from ledger.store.database import Database
from ledger.store.writer import Batch
from plugin import logs
from plugin.http import app as http_app
from plugin.http import metrics as http_metrics
from plugin.http import server
from plugin.http.limits import RateLimits
from plugin.http.subscriptions import Hub
from plugin.http.tls import Tls
from plugin.lean import shorten_pauses
from plugin.methods.lightning import Lightning, LightningMethod
from plugin.methods.method import Method
from plugin.methods.method import Mint as MintParts
from plugin.methods.onchain import OnchainMethod
from plugin.methods.outcomes import Outcomes
from plugin.methods.pricing import Pricing
from plugin.methods.receipts import Receipts
from plugin.methods.resolver import Resolver
from plugin.methods.table import METHODS
from plugin.methods.verdict import Verdicts
from plugin.metrics import Metrics, Scrape
from plugin.node import process
from plugin.node.chain import Chain
from plugin.node.events import EventQueue, EventsLost, InvoicePaid, NodeEvent, PartFailed, PartSucceeded
from plugin.node.offers import Offers
from plugin.node.routes import Routes
from plugin.node.rpc import NodeRpc, NodeUnavailableError, OutcomeUnknownError, RpcError
from plugin.node.runes import Runes
from plugin.node.view import Node
from plugin.operator.history import History
from plugin.operator.overview import Overview
from plugin.operator.pulse import Pulse
from plugin.options import Settings
from plugin.services import Services
from plugin.solvency import Solvency
from plugin.tasks import Supervisor

RECORD_KEY = ["cashu", "ledger"]
"""Where the node's datastore holds the ledger's record (tripwire)."""
RECORD_EVERY_S = 1
"""The record follows a change at once, but not more often than this: so old a copy of the ledger goes unnoticed."""
LAST_RECORD_WAIT_S = 1.0
KEYSET_LOOK_S = 3600
"""Longest time until the keysets' expiry is compared with the clock again: it may have been set meanwhile."""
SEED_PURPOSE = "cashu-mint/v1/{epoch}"
RETRY_S = 1.0
"""Pause before a step of the start is tried again when the node did not answer."""

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What lightningd tells a plugin at `init`. `node_started`: the node has just started, not the plugin alone; `tls`:
    what the options say of HTTPS, loaded."""

    settings: Settings
    directory: Path
    rpc_socket: Path
    node_started: bool
    tls: Tls | None


class Mint:
    """One mint in one event loop. `on_fatal` is called when it can't go on and the plugin should end."""

    def __init__(
        self,
        surroundings: Surroundings,
        sock: socket.socket,
        on_fatal: Callable[[str], None],
        metrics_socket: socket.socket | None = None,
    ) -> None:
        self._surroundings = surroundings
        self._socket = sock
        self._metrics_socket = metrics_socket
        self._loop = asyncio.get_running_loop()
        self._supervisor = Supervisor(on_fatal)
        self._stop = asyncio.Event()
        self._ledger_changed = asyncio.Event()
        self._keysets_changed = asyncio.Event()
        self._ledger: Ledger | None = None
        self._outcomes = Outcomes(self._loop)
        self._is_node_older = False
        self._why_not_ready: str | None = "the mint is starting"
        self.failure: str | None = None
        """Why the mint refuses to start, for the operator."""
        self.services: Services | None = None
        """Set once it is ready."""
        self.events = EventQueue(self._loop)
        self._rpc = NodeRpc(surroundings.rpc_socket, lambda: self.events.post(EventsLost()))
        self.node = Node(self._rpc)
        self.directory = surroundings.directory
        """The node's, of its network: where relative paths start."""
        self.backing_up = asyncio.Lock()
        """One backup at a time."""
        self._methods = [method for method in METHODS if method.name in surroundings.settings.methods]
        self._rate_limits = RateLimits(surroundings.settings)
        self._metrics = Metrics()
        self._metrics.look_up(self._scrape)
        self._app = http_app.create_app(lambda: self._why_not_ready, self._methods, self._rate_limits, self._metrics)

    @property
    def url(self) -> str:
        """Where it listens."""
        host, port = self._socket.getsockname()[:2]
        scheme = "http" if self._surroundings.tls is None else "https"
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

    # --- life -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until `stop`; recovery goes on beside it."""
        tls = self._surroundings.tls
        if tls is None and server.is_exposed(self._socket):
            log.warning("%s: who is on the way can read and change what wallets send; see cashu-tls-cert", self.url)
        serving = self._supervisor.spawn(
            "http server", server.run(self._app, self._socket, self._stop, self._rate_limits, tls)
        )
        self._supervisor.watch(serving)
        if self._metrics_socket is not None:
            measuring = http_metrics.run(self._metrics, self._metrics_socket, self._stop, self._rate_limits)
            self._supervisor.forever("metrics server", measuring)
        if tls is not None:
            self._supervisor.forever("certificate", tls.follow())
        self._supervisor.background("start", self._start())
        await self._stop.wait()
        self._why_not_ready = "the mint is stopping"
        self._loop.set_exception_handler(_log_quietly)  # clients that are cut off now are no news
        self._outcomes.give_up()
        if self.services is not None:
            self.services.hub.close()
            if self.services.overview is not None:
                self.services.overview.pulse.close()
        await asyncio.wait([serving], timeout=2 * server.SHUTDOWN_GRACE_S)
        await self._supervisor.stop()
        if self.services is not None:
            await self._record_once_more(self.services.ledger)
        await self._rpc.close()
        if self._ledger is not None:
            self._ledger.close()

    async def remembered(self) -> Record | None:
        """What the node remembers of its mint's ledger. Raises StartError if that can't be read."""
        text = await self.node.recall(RECORD_KEY)
        return None if text is None else Record.from_json(text)

    def carry_out(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a command of the operator in the mint's loop; from any thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def stop(self) -> None:
        """End `run`; from any thread."""

        def stop() -> None:
            self._supervisor.let_end()
            self._stop.set()

        self._loop.call_soon_threadsafe(stop)

    async def _start(self) -> None:
        """Open the ledger, catch up with the node, and begin to serve."""
        try:
            ledger = self._ledger = await self._patiently(self._open)
            await self._join(ledger)
        except Exception as error:
            self.failure = str(error)
            self._why_not_ready = "the mint is out of order: its operator can see why with cashu-info"
            log.error("the mint does not start: %s", error, exc_info=not isinstance(error, StartError))

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask the node again until it answers: without it there is no mint."""
        while True:
            try:
                return await ask()
            except (RpcError, NodeUnavailableError, OutcomeUnknownError) as error:
                log.info("waiting for the node: %s", error)
                await asyncio.sleep(RETRY_S)

    async def _open(self) -> Ledger:
        """The ledger that the node's datastore remembers, with the seed that the node derives for it."""
        remembered = await self.remembered()
        path = self._surroundings.directory / self._surroundings.settings.db
        if remembered is not None and not path.exists():
            raise StartError(
                f"the ledger {path} is missing, but this node has a mint already (id {remembered.mint_id}). A new "
                "ledger would accept every spent proof again. Put the file back, or point cashu-db to it."
            )
        database = await asyncio.to_thread(Database, path)
        try:
            record = open_ledger(database, remembered)
            seed = await self.node.secret(SEED_PURPOSE.format(epoch=record.epoch))
            ledger = await asyncio.to_thread(Ledger, database, seed, on_death=self._supervisor.give_up)
            self._is_node_older = ledger.is_node_older(remembered)
            return ledger
        except BaseException:
            database.close()
            raise

    async def _join(self, ledger: Ledger) -> None:
        settings = self._surroundings.settings
        run = await self._note_start(ledger)
        await self._make_keysets(ledger)
        self._supervisor.forever("keysets", self._keep_keysets(ledger))
        ledger.subscribe(self._outcomes.on_event)
        self._metrics.in_flight(ledger.pending_melts(), ledger.now())
        ledger.subscribe(self._metrics.on_event)
        ledger.subscribe(logs.on_event)
        ledger.observe(self._note_commit)
        hub = Hub(ledger, self._loop, [method.name for method in self._methods])
        ledger.subscribe(hub.on_event)
        info = await self._patiently(self.node.info)
        verdicts = Verdicts(
            ledger, self.node, self._supervisor, maxdelay=settings.maxdelay, retry_for_s=settings.retry_for_s
        )
        receipts = Receipts(ledger, self.node)
        await self._patiently(receipts.catch_up)
        await self._patiently(receipts.find_deleted)
        verdicts.start(run)
        parts = MintParts(settings, ledger, self._outcomes, self._supervisor)
        routes = Routes(self._rpc)
        pricing = Pricing(
            routes,
            self._supervisor,
            info.id,
            percent=settings.fee_reserve_percent,
            minimum_msat=settings.fee_reserve_min * 1000,
            maxdelay=settings.maxdelay,
        )
        lightning = Lightning(self.node, Offers(self._rpc), info, pricing, receipts, verdicts)
        methods = {method.name: method for method in self._build(parts, lightning)}
        onchain = next((m for m in methods.values() if isinstance(m, OnchainMethod)), None)
        if onchain is None and ledger.pending_payouts():
            # Switched off, but what was sent must be followed to its end.
            onchain = OnchainMethod(parts, Chain(self._rpc), info)
        followed = [*methods.values(), *([] if onchain is None or onchain.name in methods else [onchain])]
        for method in followed:
            await self._patiently(method.start)
        payouts = None if onchain is None else onchain.payouts
        resolver = Resolver(ledger, self.node, verdicts, payouts, self._supervisor)
        await self._patiently(resolver.look_at_given_up)
        self._supervisor.forever("receipts", receipts.run())
        dispatch = _dispatcher(verdicts, resolver, receipts, followed)
        self._supervisor.forever("node events", self.events.consume(dispatch))
        self._supervisor.forever("ledger record", self._keep_record(ledger))
        solvency = Solvency(ledger, self.node, routes)
        overview = self._overview(ledger, solvency, verdicts) if settings.operator_page else None
        self.services = Services(
            settings, ledger, methods, verdicts, payouts, resolver, hub, solvency, self._metrics, overview
        )
        http_app.install(self._app, self.services)
        shorten_pauses()
        self._why_not_ready = None
        log.info("the mint is ready at %s", self.url)

    def _overview(self, ledger: Ledger, solvency: Solvency, verdicts: Verdicts) -> Overview:
        """What the operator's page is made from; without that page nothing of it runs."""
        pulse = Pulse(self._loop)
        ledger.subscribe(pulse.on_event)
        history = History(self.node, solvency, pulse, ledger.now)
        self._supervisor.background("history of the balance", history.run())  # the mint goes on without it
        runes = Runes(self._rpc)
        return Overview(self._surroundings.settings, ledger, solvency, verdicts, history, pulse, runes)

    def _build(self, parts: MintParts, lightning: Lightning) -> Iterator[Method]:
        for method in self._methods:
            if issubclass(method, LightningMethod):
                yield method(parts, lightning)
            else:
                assert issubclass(method, OnchainMethod)
                yield method(parts, Chain(self._rpc), lightning.info)

    async def _note_start(self, ledger: Ledger) -> NodeRun:
        found = await asyncio.to_thread(process.find, self._rpc.path)
        identity, started_at = (found.identity, found.started_at) if found is not None else (None, 0)
        run = await asyncio.wrap_future(ledger.note_start(self._surroundings.node_started, identity, started_at))
        if self._is_node_older:
            log.error(
                "the node's database is older than it was: melts that were in flight stay pending unless it knows that"
                " they were paid (see stuck_melts of cashu-info)"
            )
            run = await asyncio.wrap_future(ledger.note_rollback())
        await self._patiently(partial(self._remember, ledger))
        return run

    async def _make_keysets(self, ledger: Ledger) -> None:
        """Each unit has a keyset that can sign, and a changed fee option makes new ones; a rotation by command is left
        alone."""
        fee = self._surroundings.settings.input_fee_ppk
        for unit in self._surroundings.settings.units:
            active = ledger.keysets.active(unit)
            if active is None or active.is_expired(ledger.now()) or ledger.configured_fee(unit) != fee:
                made = await asyncio.wrap_future(ledger.rotate(unit, fee))
                log.info("new keyset for %s, input fee %d ppk: %s", unit, fee, made.id)

    async def _keep_keysets(self, ledger: Ledger) -> None:
        """A keyset that expires gets a successor at that moment: a unit without one that signs would take payments for
        ecash that it can't give (NUT-02)."""
        while True:
            self._keysets_changed.clear()
            expiries = [keyset.final_expiry for keyset in ledger.keysets if keyset.active and keyset.final_expiry]
            wait_s = min([expiry + 1 - ledger.now() for expiry in expiries] + [KEYSET_LOOK_S])
            try:
                async with asyncio.timeout(max(0, wait_s)):
                    await self._keysets_changed.wait()
            except TimeoutError:
                await self._make_keysets(ledger)

    def keysets_changed(self) -> None:
        """The operator has rotated a keyset; from any thread."""
        self._loop.call_soon_threadsafe(self._keysets_changed.set)

    # --- what is measured -----------------------------------------------------------------------------------------

    def _scrape(self) -> Scrape:
        """Called in a worker thread. Raises StorageError."""
        services = self.services
        always = Scrape(
            ready=self._why_not_ready is None,
            failed=self.failure is not None,
            refused=dict(self._rate_limits.refused),
            failed_tasks=dict(self._supervisor.failures),
            ledger_path=self._surroundings.directory / self._surroundings.settings.db,
        )
        if services is None:
            return always
        policy = services.ledger.policy
        return replace(
            always,
            paused={"minting": policy.minting_paused_at is not None, "melting": policy.melting_paused_at is not None},
            status=services.ledger.status(),
            stuck=len(services.verdicts.stuck()),
            websockets=services.hub.connections,
            waiting_operations=services.ledger.waiting,
        )

    # --- the tripwire ---------------------------------------------------------------------------------------------

    def _note_commit(self, batch: Batch) -> None:
        """Every commit makes older copies of the ledger stale, also one that no wallet hears of: a rotation, a pause.
        Called in the writer's thread."""
        self._metrics.committed(batch)
        if any(error is None for _, error in batch.outcomes):
            self._loop.call_soon_threadsafe(self._ledger_changed.set)

    async def _record_once_more(self, ledger: Ledger) -> None:
        """At an orderly stop, if the node still listens (it does when only the plugin is stopped)."""
        try:
            async with asyncio.timeout(LAST_RECORD_WAIT_S):
                await self._remember(ledger)
        except (RpcError, NodeUnavailableError, OutcomeUnknownError, TimeoutError):
            log.debug("the node was gone before the ledger's record was up to date")

    async def _keep_record(self, ledger: Ledger) -> None:
        """Let the node's datastore follow the ledger: at the start, and soon after changes."""
        while True:
            await self._patiently(partial(self._remember, ledger))
            await asyncio.sleep(RECORD_EVERY_S)
            await self._ledger_changed.wait()
            self._ledger_changed.clear()

    async def _remember(self, ledger: Ledger) -> None:
        record = ledger.record()
        await self.node.remember(RECORD_KEY, record.to_json())
        ledger.note_remembered(record)


def _log_quietly(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    log.debug("while stopping: %s", context.get("message"))


def _dispatcher(
    verdicts: Verdicts, resolver: Resolver, receipts: Receipts, methods: Iterable[Method]
) -> Callable[[NodeEvent], None]:
    """Which event is a hint for whom."""

    def dispatch(event: NodeEvent) -> None:
        match event:
            case PartSucceeded():
                verdicts.part_succeeded(event)
                resolver.part_succeeded(event)
            case PartFailed(payment_hash):
                verdicts.hint(payment_hash)
            case InvoicePaid():
                receipts.hint()
            case EventsLost():
                receipts.hint()
                verdicts.look_at_all()
                resolver.events_lost()
        for method in methods:
            method.on_event(event)

    return dispatch
