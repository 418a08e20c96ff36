"""A mint that can be made to die, in a stand-in node, and the people around it."""

from __future__ import annotations

import json
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx

from contrib.reliability.crash.steps import INSIDE, REPOSITORY, STEPS_INSIDE, Point, Victim
from contrib.sandbox import Behaviour, RpcError, SandboxError, SandboxNode
from contrib.sandbox.node import Node
from contrib.wallet import MintClient

PATIENCE_S = 90.0
"""Nothing here takes this long, not even on a busy machine."""
TICK_S = 0.02
CONFIRMATIONS = 2
RETRY_FOR_S = 1
CONSTANTS: dict[str, Any] = {
    "plugin.methods.verdict:ROUTING_GRACE_S": 2,
    "plugin.methods.verdict:RETRY_S": 0.5,
    "plugin.methods.onchain:RETRY_S": [0.5],
    "plugin.node.offers:FETCH_INTERVAL_S": 0,
}
"""Waits of the mint that are shorter here. In the stand-in an xpay sends its parts at once."""
MINT_OPTIONS: dict[str, Any] = {
    "cashu-methods": "bolt11,bolt12,onchain",
    "cashu-max-mint": 0,
    "cashu-onchain-min": 1000,
    "cashu-onchain-confirmations": CONFIRMATIONS,
    "cashu-retry-for": RETRY_FOR_S,
}

T = TypeVar("T")


def wait_for(ask: Callable[[], T], what: str, timeout_s: float = PATIENCE_S) -> T:
    """Ask until the answer is true, and return it. Raises AssertionError."""
    end = time.monotonic() + timeout_s
    while not (answer := ask()):
        assert time.monotonic() < end, f"{what}: not within {timeout_s:.0f} s"
        time.sleep(TICK_S)
    return answer


@dataclass(frozen=True, slots=True)
class Invoice:
    """An invoice of somebody else's. `payment_hash` in hex."""

    bolt11: str
    payment_hash: str


class World(ABC):
    """One mint and everybody who has to do with it. Amounts are in sat where nothing else is said."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.url = ""
        self._plan = directory / "inside.json"
        self._armed = self._plan.with_suffix(".armed")
        self._trace = self._plan.with_suffix(".trace")
        self._victim = Victim.PLUGIN
        self.deaths = 0
        self.expected: list[str] = []
        """What a flow makes the mint log as broken."""

    @property
    def environment(self) -> dict[str, str]:
        """What the plugin's process must be given to be killable."""
        return {"PYTHONPATH": str(INSIDE), "NUTBOLT_INSIDE": str(self._plan)}

    def prepare(self, constants: dict[str, Any]) -> None:
        """Fasten the points; before the first start."""
        self._plan.write_text(json.dumps({"set": constants, "steps": STEPS_INSIDE}))

    def new_client(self) -> MintClient:
        """Connections that are kept would end with the plugin, unnoticed until the next request."""
        once = httpx.Limits(max_keepalive_connections=0)
        transport = httpx.HTTPTransport(limits=once)
        return MintClient(self.url, read_timeout_s=PATIENCE_S, melt_timeout_s=PATIENCE_S, transport=transport)

    # --- dying ------------------------------------------------------------------------------------------------------

    def arm(self, point: Point, victim: Victim) -> None:
        """From now on the mint dies when it comes to this point."""
        self._victim = victim
        fresh = self._armed.with_suffix(".new")
        fresh.write_text(f"{point}\t{point.number}\t{self._shot(victim)}")
        fresh.rename(self._armed)

    def _shot(self, victim: Victim) -> str:
        """What the plugin does at the point."""
        return victim

    def disarm(self) -> None:
        """No more dying."""
        self._armed.unlink(missing_ok=True)

    def passed(self) -> list[str]:
        """The points that were passed since `forget_trace`."""
        return self._trace.read_text().splitlines() if self._trace.exists() else []

    def forget_trace(self) -> None:
        """What is passed from now on."""
        self._trace.write_bytes(b"")

    def revive(self) -> None:
        """The mint has died, and whoever dies with it; both come back, and the mint is ready again."""
        self.disarm()
        self.deaths += 1
        if self._victim is Victim.NODE:
            self.restart_node()
        else:
            self.start_plugin()
        self.wait_ready()

    def wait_ready(self) -> None:
        """Wait until the mint has recovered."""
        wait_for(lambda: self.status() == 200, "the mint to be ready")

    def status(self) -> int:
        """Of `/v1/info`; 0 if nobody listens."""
        try:
            return httpx.get(f"{self.url}/v1/info", timeout=PATIENCE_S).status_code
        except httpx.TransportError:
            return 0

    @abstractmethod
    def start(self) -> None:
        """Start everything; the mint may die over it."""

    @abstractmethod
    def connect(self) -> None:
        """After the first start: have what it takes to pay and to be paid."""

    @abstractmethod
    def stop(self) -> None:
        """Stop everything."""

    @abstractmethod
    def has_died(self) -> bool:
        """Whether the plugin's process is gone."""

    @abstractmethod
    def start_plugin(self) -> None:
        """Start the plugin that has died, in a node that has gone on; it may die over it."""

    @abstractmethod
    def restart_plugin(self) -> None:
        """Kill the plugin and start it; it may die over it."""

    @abstractmethod
    def restart_node(self) -> None:
        """Kill the node, if it isn't dead, and start it with the plugin."""

    @abstractmethod
    def problems(self) -> list[str]:
        """What a healthy mint would not have logged since the last time."""

    @property
    @abstractmethod
    def ledger_path(self) -> Path:
        """The ledger's file."""

    # --- people -----------------------------------------------------------------------------------------------------

    @abstractmethod
    def command(self, name: str, **params: Any) -> dict[str, Any]:
        """`lightning-cli`. Raises CommandFailedError."""

    @abstractmethod
    def pay(self, request: str, amount: int | None = None) -> None:
        """Somebody pays an invoice or an offer of the node's."""

    @abstractmethod
    def invoice(self, amount: int, *, refused: bool = False) -> Invoice:
        """An invoice of somebody, who takes the payment or, the first time, refuses it."""

    @abstractmethod
    def offer(self, amount: int) -> str:
        """An offer of somebody's."""

    @abstractmethod
    def address(self) -> str:
        """An address of somebody's that was never used."""

    @abstractmethod
    def deposit(self, address: str, amount: int) -> None:
        """Somebody pays an address of the node's."""

    @abstractmethod
    def mine(self, blocks: int) -> None:
        """Blocks are found, with all that waits, and processed by the node."""

    @abstractmethod
    def give_coins(self) -> None:
        """The node's wallet has three more coins, confirmed."""

    # --- what they say ----------------------------------------------------------------------------------------------

    @abstractmethod
    def times_paid(self, request: str) -> int:
        """How often whoever made this invoice, offer or address was paid in full."""

    @abstractmethod
    def channels_msat(self) -> int:
        """The node's side of its channels."""

    @abstractmethod
    def coins_sat(self) -> int:
        """The coins of the node's wallet."""


class CommandFailedError(Exception):
    """A command of the node ended with an error, or without an end."""


class SandboxWorld(World):
    """In a stand-in node."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.prepare(CONSTANTS)
        self._log_checked = 0
        self._addresses = 0
        self._is_up = False
        self.node = SandboxNode(
            directory,
            plugin=REPOSITORY / "nutbolt.py",
            options={"cashu-listen": f"127.0.0.1:{port}", **MINT_OPTIONS},
            env=self.environment,
        )

    def _shot(self, victim: Victim) -> str:
        return Victim.PLUGIN  # the node is in this process: it goes down as soon as the plugin is dead

    def start(self) -> None:
        with suppress(SandboxError):  # the plugin died before it had answered init: then the node is down again
            self.node.start()
            self._is_up = True

    def connect(self) -> None:
        self.node.wait_connected(timeout_s=PATIENCE_S)

    def stop(self) -> None:
        self.node.stop()
        self._is_up = False

    def has_died(self) -> bool:
        return not self._is_up or self.node.node.plugin is None or not self.node.node.plugin.alive

    def start_plugin(self) -> None:
        if not self._is_up:
            self.start()
            return
        with suppress(SandboxError):
            self.node.start_plugin()
        assert self.node.plugin_disabled is None, self.node.plugin_disabled

    def restart_plugin(self) -> None:
        self.node.kill_plugin()
        self.start_plugin()

    def restart_node(self) -> None:
        if not self._is_up:
            self.start()
            return
        self.node.go_down(kill=True)
        self.node.come_up()
        assert self.node.plugin_disabled is None, self.node.plugin_disabled
        self.node.wait_connected(timeout_s=PATIENCE_S)

    def problems(self) -> list[str]:
        lines = self.node.log(since=self._log_checked)
        self._log_checked = self.node.log_position
        expected, self.expected = self.expected, []
        return [
            str(line)
            for line in lines
            if (line.level == "broken" or "Traceback" in line.message)
            and not any(text in line.message for text in expected)
        ]

    @property
    def ledger_path(self) -> Path:
        return self.node.node.network_directory / "cashu.sqlite3"

    # --- people -----------------------------------------------------------------------------------------------------

    def command(self, name: str, **params: Any) -> dict[str, Any]:
        try:
            return self.node.rpc(name, timeout_s=PATIENCE_S, **params)
        except RpcError as error:
            raise CommandFailedError(str(error)) from error

    def pay(self, request: str, amount: int | None = None) -> None:
        self.node.pay_invoice(request, None if amount is None else amount * 1000)

    def invoice(self, amount: int, *, refused: bool = False) -> Invoice:
        made = self.node.outside_invoice(amount * 1000, behaviour=Behaviour.failure() if refused else None)
        return Invoice(made.bolt11, made.payment_hash)

    def offer(self, amount: int) -> str:
        return str(self.node.outside_offer(amount * 1000))

    def address(self) -> str:
        self._addresses += 1
        return self.node.chain.outside_address(self._addresses)

    def deposit(self, address: str, amount: int) -> None:
        self.node.chain.deposit(address, amount)

    def mine(self, blocks: int) -> None:
        self.node.chain.mine(blocks)

    def give_coins(self) -> None:
        self.node.chain.give_coins(*GIVEN_COINS)

    # --- what they say ----------------------------------------------------------------------------------------------

    def times_paid(self, request: str) -> int:
        if request.startswith("lno"):
            return self.node.do(lambda node: _times_offer_paid(node, request))
        if request.startswith("lnbcrt"):
            rows = self.node.rows(request)
            return sum(row["status"] == "complete" for row in rows)
        return self.node.do(lambda node: _times_address_paid(node, request))

    def channels_msat(self) -> int:
        return self.node.do(lambda node: node.channel.to_us_msat)

    def coins_sat(self) -> int:
        return sum(int(row["amount_msat"]) // 1000 for row in self.node.chain.funds())


GIVEN_COINS = (200_000, 200_000, 200_000)


def _times_offer_paid(node: Node, offer: str) -> int:
    from contrib.sandbox import bolt12  # noqa: PLC0415

    invoices = node.offers.invoices_of_outside(bolt12.read_offer(offer).id)
    rows = [row for invoice in invoices for row in node.payments.of_hash(invoice.payment_hash)]
    return sum(row.to_json()["status"] == "complete" for row in rows)


def _times_address_paid(node: Node, address: str) -> int:
    script = node.coins.script_of(address)
    txids = {*node.bitcoin.mempool, *(txid for block in node.bitcoin.blocks for txid in block.txids)}
    return sum(output.script == script for txid in txids for output in node.bitcoin.tx(txid).outputs)


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
