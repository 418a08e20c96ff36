"""The crash matrix's mint in a real node, and the people around it: the network of these tests."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from contrib.reliability.crash.flows import ONCHAIN_AMOUNT
from contrib.reliability.crash.matrix import Matrix
from contrib.reliability.crash.world import (
    MINT_OPTIONS,
    PATIENCE_S,
    TICK_S,
    CommandFailedError,
    Invoice,
    World,
    wait_for,
)
from tests.node.harness import CHANNEL_SAT, ENTRY_FILE, Network
from tests.node.harness import Invoice as NodeInvoice

CONSTANTS = {"plugin.methods.verdict:ROUTING_GRACE_S": 15, "plugin.methods.verdict:RETRY_S": 1}
"""Still far more than an xpay takes here after its last attempt."""
COIN_SAT = 200_000
LEAST_FUNDS_SAT = 1_000_000
"""What the receiver must be able to pay, before it pays."""
PAY_AGAIN_S = 0.5
START_AGAIN_S = 0.2
STARTED = "Server started with public key"


class NodeWorld(World):
    """In a real node with a private channel to the hub; the receiver is who pays and is paid."""

    def __init__(self, network: Network, directory: Path) -> None:
        super().__init__(directory)
        self._network = network
        self._rpc: Any = network.bitcoind.rpc
        self._invoices: dict[str, NodeInvoice] = {}
        self._offers: dict[str, dict[str, Any]] = {}
        options = {name.replace("-", "_"): value for name, value in MINT_OPTIONS.items()}
        self.mint = network.plain_mint(**options)
        self.url = self.mint.url
        self.prepare(CONSTANTS)
        self.mint.raw.daemon.env |= self.environment
        self._log_checked = 0

    # --- life -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Until the node has started (before that it takes no `plugin start`: it never answers), or is dead again."""
        daemon = self.mint.raw.daemon
        position = len(self.mint.log_lines()) if self.mint.log_path.exists() else 0
        daemon.start(stderr_redir=True, wait_for_initialized=False)

        def started() -> bool:
            if daemon.proc.poll() is not None:
                return True
            lines = self.mint.log_lines(position) if self.mint.log_path.exists() else []
            return any(STARTED in line for line in lines)

        wait_for(started, "the node to start")

    def connect(self) -> None:
        network, mint = self._network, self.mint
        self.wait_ready()
        mint.raw.info = mint.call("getinfo")
        mint.raw.port = mint.raw.info["binding"][0]["port"]
        network.open_channel(network.hub, mint, CHANNEL_SAT, CHANNEL_SAT // 2, announced=False)
        network.wait_for_route(mint)

    def stop(self) -> None:
        self.disarm()
        self._network.discard(self.mint)

    def has_died(self) -> bool:
        daemon = self.mint.raw.daemon
        if daemon.proc.poll() is not None:
            return True
        try:
            children = Path(f"/proc/{daemon.proc.pid}/task/{daemon.proc.pid}/children").read_text().split()
            names = [Path(f"/proc/{pid}/cmdline").read_text() for pid in children]
        except OSError:  # one that has just ended
            return False
        return not any(ENTRY_FILE.name in name for name in names)

    def start_plugin(self) -> None:
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                self.mint.start_plugin()
            except Exception as error:  # pyln's, of several kinds
                if "already registered" not in str(error):  # the node has not noticed yet; else: dead again
                    return
                assert time.monotonic() < end, error
                time.sleep(START_AGAIN_S)
            else:
                return

    def restart_plugin(self) -> None:
        self.mint.kill_plugin()
        self.start_plugin()

    def restart_node(self) -> None:
        self.mint.kill()
        self.start()
        self._connect_again()

    def _connect_again(self) -> None:
        with suppress(Exception):  # it does so by itself as well
            self.mint.call("connect", id=self._network.hub.id, host="127.0.0.1", port=self._network.hub.raw.port)
        wait_for(lambda: self.mint.can_use_channels_with(self._network.hub), "the channel to be usable")

    def problems(self) -> list[str]:
        lines = self.mint.log_lines(self._log_checked)
        self._log_checked += len(lines)
        expected, self.expected = self.expected, []
        return [
            line
            for line in lines
            if ("**BROKEN**" in line or "Traceback" in line) and not any(text in line for text in expected)
        ]

    @property
    def ledger_path(self) -> Path:
        return self.mint.ledger_path

    # --- people -----------------------------------------------------------------------------------------------------

    def command(self, name: str, **params: Any) -> dict[str, Any]:
        try:
            return dict(self.mint.call(name, **params))
        except Exception as error:
            raise CommandFailedError(str(error)) from error

    def pay(self, request: str, amount: int | None = None) -> None:
        """Until it is paid, however often the mint's node dies meanwhile. An invoice can't be paid twice."""
        receiver = self._network.receiver
        self._fill_up()
        invoice = request
        if request.startswith("lno"):
            params: dict[str, Any] = {} if amount is None else {"amount_msat": amount * 1000}
            fetch = lambda: receiver.call("fetchinvoice", offer=request, timeout=5, **params)["invoice"]  # noqa: E731
            invoice = self._insist(fetch)
        self._insist(lambda: receiver.call("xpay", invstring=invoice))

    def _fill_up(self) -> None:
        """Each new mint takes some of what the receiver can pay, and there are hundreds: the hub gives it back."""
        hub, receiver = self._network.hub, self._network.receiver
        channels = receiver.call("listpeerchannels", id=hub.id)["channels"]
        if sum(int(channel["spendable_msat"]) for channel in channels) < LEAST_FUNDS_SAT * 1000:
            hub.pay(receiver.invoice(LEAST_FUNDS_SAT).bolt11)

    def _insist(self, work: Callable[[], Any]) -> Any:
        end = time.monotonic() + PATIENCE_S
        while True:
            with ThreadPoolExecutor(1) as pool:
                future = pool.submit(work)
                while not future.done():
                    if self.has_died():
                        self.revive()
                    time.sleep(TICK_S)
            error = future.exception()
            if error is None:
                return future.result()
            assert time.monotonic() < end, error
            if self.has_died():
                self.revive()
            time.sleep(PAY_AGAIN_S)

    def invoice(self, amount: int, *, refused: bool = False) -> Invoice:
        made = self._network.receiver.invoice(amount)
        if refused:
            self._network.receiver.plan(made, "reject")
        self._invoices[made.bolt11] = made
        return Invoice(made.bolt11, made.payment_hash)

    def offer(self, amount: int) -> str:
        made = self._network.receiver.offer(amount * 1000)
        self._offers[made["bolt12"]] = made
        return str(made["bolt12"])

    def address(self) -> str:
        return str(self._rpc.getnewaddress())

    def deposit(self, address: str, amount: int) -> None:
        self._network.pay_address(address, amount)

    def mine(self, blocks: int) -> None:
        self._network.bitcoind.generate_block(blocks)
        self._follow()

    def _follow(self) -> None:
        """Until the node has processed all blocks, or is dead."""
        height = self._rpc.getblockcount()

        def followed() -> bool:
            if self.has_died():
                return True
            with suppress(Exception):  # dying
                return bool(self.mint.call("getinfo")["blockheight"] >= height)
            return False

        wait_for(followed, "the node to follow the chain")

    def give_coins(self) -> None:
        before = len(self.mint.call("listfunds")["outputs"])
        for _ in range(3):
            self.deposit(self.mint.call("newaddr", addresstype="p2tr")["p2tr"], COIN_SAT)
        self.mine(1)
        wait_for(lambda: len(self.mint.call("listfunds")["outputs"]) >= before + 3, "the coins to arrive")

    # --- what they say ----------------------------------------------------------------------------------------------

    def times_paid(self, request: str) -> int:
        receiver = self._network.receiver
        if request in self._offers:
            return sum(invoice["status"] == "paid" for invoice in receiver.invoices_of(self._offers[request]))
        if request in self._invoices:
            return int(receiver.is_paid(self._invoices[request]))
        received_sat = round(float(self._rpc.getreceivedbyaddress(request, 0)) * 1e8)
        assert received_sat % ONCHAIN_AMOUNT == 0
        return received_sat // ONCHAIN_AMOUNT

    def channels_msat(self) -> int:
        """Once nothing is on its way."""

        def at_rest() -> list[dict[str, Any]] | None:
            found: list[dict[str, Any]] = self.mint.call("listpeerchannels")["channels"]
            return None if any(channel["htlcs"] for channel in found) else found

        channels = wait_for(at_rest, "the channels to be at rest")
        assert channels is not None
        return sum(int(channel["to_us_msat"]) for channel in channels)

    def coins_sat(self) -> int:
        self._follow()
        return sum(int(coin["amount_msat"]) // 1000 for coin in self.mint.call("listfunds")["outputs"])


@contextmanager
def node_matrix(network: Network, directory: Path) -> Iterator[Matrix]:
    """The matrix in this network."""
    numbers = itertools.count(1)
    with Matrix(directory, lambda _: NodeWorld(network, directory / f"inside-{next(numbers)}")) as matrix:
        yield matrix
