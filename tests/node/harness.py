"""A regtest network for tests: a chain, a line of nodes with balanced channels, and mints hanging on to it.

    mint ── hub ── receiver        island (no channel)

`pyln.testing` runs the processes; it is imported only when a network is built, so that this module can be imported
where it isn't installed.
"""

from __future__ import annotations

import itertools
import os
import re
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx

REPOSITORY = Path(__file__).resolve().parents[2]
ENTRY_FILE = REPOSITORY / "nutbolt.py"
RECEIVER_PLUGIN = Path(__file__).resolve().with_name("receiver.py")

PATIENCE_S = 60.0
"""Nothing here takes this long, not even on a slow machine."""
SOON_S = 10.0
"""A generous bound for what the mint promises "within a second" or "at once"."""
LAST_WORDS = 10
"""Lines of a mint's log that tell why it is not ready."""
CHANNEL_SAT = 10_000_000
COINS_BTC = 20
"""For 200 channels."""

T = TypeVar("T")


def wait_for(ask: Callable[[], T], what: str, timeout_s: float = PATIENCE_S) -> T:
    """Ask until the answer is true, and return it. Fails, naming `what`, if that takes too long."""
    end = time.monotonic() + timeout_s
    for pause_s in itertools.chain((0.01, 0.02, 0.05), itertools.repeat(0.1)):
        answer = ask()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {timeout_s} s (last answer: {answer!r})")
        time.sleep(pause_s)
    raise AssertionError("unreachable")


@dataclass(frozen=True, slots=True)
class Invoice:
    """An invoice whose preimage is known to the test."""

    bolt11: str
    payment_hash: str
    preimage: str
    label: str


class Node:
    """A running lightningd."""

    def __init__(self, raw: Any) -> None:
        from pyln.client import LightningRpc

        self.raw = raw
        self.log_path = Path(raw.daemon.lightning_dir) / "log"
        self.stderr_path = Path(raw.daemon.lightning_dir) / "errlog"
        # Not the node's own `rpc`: that one sends a `check` before every command.
        self._rpc: Any = LightningRpc(raw.rpc.socket_path)  # type: ignore[no-untyped-call]

    def start(self) -> None:
        """Start the daemon and wait until it follows the chain."""
        self.raw.start(stderr_redir=True)

    def call(self, method: str, /, **params: Any) -> Any:
        """Run an RPC command. Raises pyln's RpcError."""
        return self._rpc.call(method, params)

    def set_fee(self, peer: Node, *, base_msat: int, millionths: int) -> None:
        """What this node asks for forwarding to a peer."""
        self.call("setchannel", id=peer.id, feebase=base_msat, feeppm=millionths)

    def knows_fee(self, node: Node, peer: Node, millionths: int) -> bool:
        """Whether this node has heard what another one asks for its channel with a peer."""
        channels = self.call("listchannels", source=node.id)["channels"]
        return any(c["destination"] == peer.id and c["fee_per_millionth"] == millionths for c in channels)

    @property
    def id(self) -> str:
        """The node's public key."""
        return str(self.raw.info["id"])

    def invoice(self, amount_sat: int | None, **options: Any) -> Invoice:
        """Create an invoice, without an amount for None."""
        preimage = secrets.token_hex(32)
        label = f"test-{secrets.token_hex(8)}"
        amount = "any" if amount_sat is None else amount_sat * 1000
        made = self.call("invoice", amount_msat=amount, label=label, description="test", preimage=preimage, **options)
        return Invoice(made["bolt11"], made["payment_hash"], preimage, label)

    def is_paid(self, invoice: Invoice) -> bool:
        """Whether this node was paid this invoice of its own."""
        (found,) = self.call("listinvoices", payment_hash=invoice.payment_hash)["invoices"]
        return bool(found["status"] == "paid")

    def pay(self, bolt11: str, part_msat: int | None = None) -> None:
        """Pay an invoice, or a part of it, and wait until it is paid."""
        self.call("xpay", invstring=bolt11, partial_msat=part_msat)

    def connect(self, peer: Node) -> None:
        """Connect to a peer, if it isn't, and wait until the channels with it can be used."""
        self.call("connect", id=peer.id, host="127.0.0.1", port=peer.raw.port)
        wait_for(lambda: self.can_use_channels_with(peer), "the channel to be usable")

    def can_use_channels_with(self, peer: Node) -> bool:
        """Whether the channels with this peer are open and connected."""
        channels = self.call("listpeerchannels", id=peer.id)["channels"]
        return all(c["state"] == "CHANNELD_NORMAL" and c.get("reestablished") for c in channels)

    def payment_rows(self, payment_hash: str) -> list[dict[str, Any]]:
        """The parts of an outgoing payment as the node has them in its database."""
        rows = self.call("listsendpays", payment_hash=payment_hash)["payments"]
        return [dict(row) for row in rows]

    @contextmanager
    def without_sending(self) -> Iterator[None]:
        """While no transaction of this node gets to the chain; it tries again with each block."""

        def refuse(request: Mapping[str, Any]) -> dict[str, Any]:
            return {"id": request["id"], "result": None, "error": {"code": -26, "message": "held back by the test"}}

        self.raw.daemon.rpcproxy.mock_rpc("sendrawtransaction", refuse)
        try:
            yield
        finally:
            self.raw.daemon.rpcproxy.mock_rpc("sendrawtransaction")

    def log_lines(self, start: int = 0) -> list[str]:
        """The daemon's log from line `start` on."""
        return self.log_path.read_text(errors="replace").splitlines()[start:]

    def wait_for_log(self, pattern: str, start: int = 0) -> str:
        """The first line of the log from line `start` on that matches."""
        regex = re.compile(pattern)
        found = wait_for(
            lambda: [line for line in self.log_lines(start) if regex.search(line)], f"{pattern!r} in the log"
        )
        return found[0]

    def problems(self) -> list[str]:
        """What a healthy node never logs."""
        lines = [line for line in self.log_lines() if "**BROKEN**" in line or "That's weird" in line]
        return [f"{self.log_path}: {line}" for line in lines]

    def offer(self, amount_msat: int | None, **options: Any) -> dict[str, Any]:
        """Make an offer, one of its kind, without an amount for None."""
        amount = "any" if amount_msat is None else amount_msat
        issuer = secrets.token_hex(8)
        return dict(self.call("offer", amount=amount, **{"description": "test", "issuer": issuer, **options}))

    def invoices_of(self, offer: dict[str, Any]) -> list[dict[str, Any]]:
        """The invoices that this node has given out for an offer of its own, oldest first."""
        return list(self.call("listinvoices", offer_id=offer["offer_id"])["invoices"])

    def pay_offer(self, offer: str, amount_msat: int | None = None) -> str:
        """Fetch an invoice for an offer, pay it, and wait until it is paid; returns its payment hash."""
        options = {} if amount_msat is None else {"amount_msat": amount_msat}
        invoice = self.call("fetchinvoice", offer=offer, timeout=10, **options)["invoice"]
        self.call("xpay", invstring=invoice)
        return str(self.call("decode", string=invoice)["invoice_payment_hash"])

    def stop(self) -> None:
        """`lightning-cli stop`, and wait for the end."""
        self.raw.stop(timeout=PATIENCE_S)


class Receiver(Node):
    """The node that is paid, and does not always behave."""

    def plan(self, invoice: Invoice, *actions: str) -> None:
        """Say what happens to the next HTLCs for this invoice: accept, reject, hold."""
        self.call("receiver-plan", payment_hash=invoice.payment_hash, actions=list(actions))

    def wait_held(self, invoice: Invoice, count: int = 1) -> None:
        """Wait until HTLCs for this invoice have arrived and are held."""

        def held() -> bool:
            answer = self.call("receiver-held", payment_hash=invoice.payment_hash)
            return bool(answer["held"] == count)

        wait_for(held, "the payment to be held")

    def release(self, invoice: Invoice, action: str = "accept") -> None:
        """Accept, reject or claim what is held for this invoice. To claim is to take it, complete or not."""
        released = self.call(
            "receiver-release",
            payment_hash=invoice.payment_hash,
            action=action,
            preimage=invoice.preimage,
        )
        assert released["released"], "nothing was held"


class Mint(Node):
    """A node with the plugin: a mint."""

    def __init__(self, raw: Any, options: dict[str, Any], hub: Node | None) -> None:
        super().__init__(raw)
        self.options = options
        self.hub = hub
        self.url = f"http://{options['cashu-listen']}"
        self.confidential: set[str] = set()
        """Proofs' secrets, quote ids and preimages: what the plugin must never write to a log."""
        self.expected_problem: str | None = None
        """What the plugin must log as BROKEN in this test."""
        self._frozen: list[int] = []

    # --- the plugin ---------------------------------------------------------------------------------------------

    @property
    def ledger_path(self) -> Path:
        """The ledger's file."""
        return Path(self.raw.daemon.lightning_dir) / "regtest" / "cashu.sqlite3"

    def wait_ready(self) -> None:
        """Wait until the mint has recovered. Until then it answers 503, or does not listen yet."""

        def ready() -> bool:
            try:
                status = httpx.get(f"{self.url}/v1/info", timeout=SOON_S).status_code
            except httpx.TransportError:
                return False
            assert status in (200, 503), f"/v1/info answered {status}"
            return status == 200

        try:
            wait_for(ready, f"the mint at {self.url} to be ready")
        except AssertionError as error:
            raise AssertionError("\n".join([str(error), *self.plugin_log_lines()[-LAST_WORDS:]])) from error

    def answers(self) -> bool:
        """Whether anything listens at the mint's address."""
        try:
            httpx.get(f"{self.url}/v1/info", timeout=SOON_S)
        except httpx.TransportError:
            return False
        return True

    def cashu_info(self) -> dict[str, Any]:
        """`lightning-cli cashu-info`."""
        return dict(self.call("cashu-info"))

    def outstanding_sat(self) -> int:
        """The ecash that the mint owes, in sat."""
        return int(self.cashu_info()["outstanding"].get("sat", 0))

    def start_plugin(self, **options: Any) -> None:
        """`lightning-cli plugin start`, with the options that the node was started with."""
        self.call("plugin", subcommand="start", plugin=str(ENTRY_FILE), **{**self.options, **options})

    def stop_plugin(self) -> None:
        """`lightning-cli plugin stop`."""
        self.call("plugin", subcommand="stop", plugin=ENTRY_FILE.name)

    def kill_plugin(self) -> None:
        """SIGKILL the plugin, and wait until the node has noticed."""
        lines = len(self.log_lines())
        os.kill(self.plugin_pid(), signal.SIGKILL)
        self.wait_for_log(rf"plugin-{ENTRY_FILE.name}: .*exited", lines)

    def plugin_pid(self) -> int:
        """The plugin's process id."""
        (found,) = self._children(ENTRY_FILE.name)
        return found

    def _children(self, name: str) -> list[int]:
        lightningd = self.raw.daemon.proc.pid
        children = Path(f"/proc/{lightningd}/task/{lightningd}/children").read_text().split()
        return [int(pid) for pid in children if name in Path(f"/proc/{pid}/cmdline").read_text()]

    # --- the node -----------------------------------------------------------------------------------------------

    def kill(self) -> None:
        """SIGKILL lightningd. Its children notice by themselves, unless they are frozen."""
        frozen, self._frozen = self._frozen, []
        self.raw.daemon.kill()
        for pid in frozen:
            os.kill(pid, signal.SIGKILL)

    def start_offline(self) -> None:
        """Start the node without connections, and wait until the mint is ready."""
        self.raw.daemon.opts["offline"] = None
        self.raw.daemon.start(stderr_redir=True)
        del self.raw.daemon.opts["offline"]
        self.wait_ready()

    def freeze_channels(self) -> None:
        """Stop the processes of the channels: lightningd records payments, but nothing reaches a peer."""
        self._frozen = self._children("lightning_channeld")
        assert self._frozen
        for pid in self._frozen:
            os.kill(pid, signal.SIGSTOP)

    def thaw_channels(self) -> None:
        """Let the channels go on."""
        frozen, self._frozen = self._frozen, []
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)

    def wait_recorded(self, payment_hash: str, count: int = 1) -> None:
        """Wait until the node has so many parts of this payment in its database."""
        wait_for(lambda: len(self.payment_rows(payment_hash)) == count, "the payment to be recorded")

    def wait_decided(self, payment_hash: str) -> None:
        """Wait until no part of this payment is pending any more."""

        def decided() -> bool:
            rows = self.payment_rows(payment_hash)
            return bool(rows) and all(row["status"] != "pending" for row in rows)

        wait_for(decided, "the payment to be decided")

    def has_been_paid(self, bolt11: str) -> bool:
        """Whether the node was paid this invoice, one that its plugin has made."""
        (found,) = self.call("listinvoices", invstring=bolt11)["invoices"]
        return bool(found["status"] == "paid")

    def start_again(self) -> None:
        """Start the node after `stop` or `kill`, and wait until the mint is ready and the hub connected."""
        self.start()
        self.wait_ready()
        if self.hub is not None:
            self.connect(self.hub)

    # --- what the plugin logs -----------------------------------------------------------------------------------

    def plugin_log_lines(self, start: int = 0) -> list[str]:
        """What the plugin wrote to the node's log and to stderr."""
        logged = [line for line in self.log_lines(start) if f"plugin-{ENTRY_FILE.name}" in line]
        return logged + self.stderr_path.read_text(errors="replace").splitlines()

    def commands_logged(self, start: int) -> list[str]:
        """What was sent to the node's RPC socket since line `start` of its log; needs log-level io:jsonrpc."""
        regex = re.compile(r" jsonrpc#\d+: \[IN\] ([0-9a-f]+)$")
        found = (regex.search(line) for line in self.log_lines(start))
        return [bytes.fromhex(match[1]).decode(errors="replace") for match in found if match]

    def problems(self) -> list[str]:
        found = [
            line for line in super().problems() if self.expected_problem is None or self.expected_problem not in line
        ]
        for line in self.plugin_log_lines():
            if "Traceback" in line:
                found.append(f"{self.log_path}: {line}")
            found += [f"{self.log_path}: leaks {word}: {line}" for word in self.confidential if word in line]
        return found


class Network:
    """The chain and the nodes that all tests share, and the mints that tests ask for."""

    def __init__(self, directory: Path) -> None:
        from pyln.testing.db import SqliteDbProvider
        from pyln.testing.utils import BitcoinD, LightningNode, NodeFactory

        self._executor = ThreadPoolExecutor(max_workers=8)
        self.bitcoind: Any = BitcoinD(bitcoin_dir=str(directory / "bitcoin"))  # type: ignore[no-untyped-call]
        self._factory: Any = NodeFactory(  # type: ignore[no-untyped-call]
            request=None,
            testname="node",
            bitcoind=self.bitcoind,
            executor=self._executor,
            directory=str(directory),
            db_provider=SqliteDbProvider(str(directory)),
            node_cls=LightningNode,
            jsonschemas={},
        )
        self._unused_port: Callable[[], int] = self._factory.get_unused_port
        self._running: list[Node] = []

    def start(self) -> None:
        """Start the chain and the shared nodes, and open the channel between hub and receiver."""
        self.bitcoind.start()
        self.bitcoind.generate_block(101)
        self.hub = Node(self._raw_node({}))
        self.receiver = Receiver(self._raw_node({"plugin": str(RECEIVER_PLUGIN)}))
        self.island = Node(self._raw_node({}))
        with ThreadPoolExecutor() as pool:
            list(pool.map(self._run, [self.hub, self.receiver, self.island]))
        self._fund(self.hub, self.receiver)
        self.open_channel(self.hub, self.receiver)

    def stop(self) -> list[str]:
        """Stop everything, and say what was wrong with it."""
        problems = [problem for node in list(self._running) for problem in self.discard(node)]
        self.bitcoind.stop()
        self._executor.shutdown(wait=False)
        return problems

    @contextmanager
    def mint(
        self,
        *,
        channels: dict[str, tuple[int, int]] | None = None,
        announced: bool = False,
        node_options: dict[str, Any] | None = None,
        **options: Any,
    ) -> Iterator[Mint]:
        """A new node with the plugin, ready to mint; afterwards it is stopped, and must have been without problems.

        `channels` says with whom (hub, receiver) and how: capacity and the mint's share, in sat. They are private,
        which is faster, unless `announced`; a test that says {} opens them itself. `options` are the plugin's:
        `cashu_name` for `--cashu-name`.
        """
        mint = self.plain_mint(node_options=node_options, **options)
        try:
            mint.start()
            if channels is None:
                channels = {"hub": (CHANNEL_SAT, CHANNEL_SAT // 2)}
            for peer, (capacity, share) in channels.items():
                self.open_channel(getattr(self, peer), mint, capacity, share, announced=announced)
            if channels:
                self.wait_for_route(mint, announced=announced)
            mint.wait_ready()
            yield mint
        finally:
            problems = self.discard(mint)
        assert not problems, "\n".join(problems)

    @contextmanager
    def nodes(self, count: int) -> Iterator[list[Node]]:
        """Further nodes with coins, without channels; afterwards they are stopped, and must have been without
        problems."""
        made = [Node(self._raw_node({})) for _ in range(count)]
        problems = []
        try:
            with ThreadPoolExecutor() as pool:
                list(pool.map(self._run, made))
            self._fund(*made)
            yield made
        finally:
            for node in made:
                problems += self.discard(node)
        assert not problems, "\n".join(problems)

    @contextmanager
    def peer_of(self, mint: Mint, plugin: Path) -> Iterator[Node]:
        """A new node with a plugin, connected to a mint, without channels; afterwards it is stopped."""
        node = Node(self._raw_node({"plugin": str(plugin)}))
        self._run(node)
        try:
            mint.call("connect", id=node.id, host="127.0.0.1", port=node.raw.port)
            yield node
        finally:
            problems = self.discard(node)
        assert not problems, "\n".join(problems)

    def plain_mint(
        self, *, start_with_node: bool = True, node_options: dict[str, Any] | None = None, **options: Any
    ) -> Mint:
        """A node with the plugin, not started yet, without channels."""
        plugin_options = {name.replace("_", "-"): value for name, value in options.items()}
        plugin_options.setdefault("cashu-listen", f"127.0.0.1:{self._unused_port()}")
        plugin_options.setdefault("cashu-methods", "bolt11,bolt12,onchain")
        with_plugin = {"plugin": str(ENTRY_FILE), **plugin_options} if start_with_node else {}
        raw = self._raw_node({**with_plugin, **(node_options or {})})
        mint = Mint(raw, plugin_options, self.hub)
        self._running.append(mint)
        return mint

    @contextmanager
    def bare_node(self, environment: Mapping[str, str]) -> Iterator[Node]:
        """A node without plugin, coins and channels, in this environment and no other; afterwards it is stopped, and
        must have been without problems."""
        raw = self._raw_node({})
        raw.daemon.env = dict(environment)
        node = Node(raw)
        self._run(node)
        try:
            yield node
        finally:
            problems = self.discard(node)
        assert not problems, "\n".join(problems)

    def replace(self, node: Node, other: Node) -> None:
        """The same node in another form is the one to be discarded."""
        self._running[self._running.index(node)] = other

    def discard(self, node: Node) -> list[str]:
        """Stop a node, and say what was wrong with it."""
        self._running.remove(node)
        problems = []
        try:
            node.stop()
        except Exception as error:
            problems.append(f"{node.log_path}: did not stop: {error!r}")
            node.raw.daemon.kill()
        problems += node.problems()
        node.raw.daemon.cleanup_files()
        return problems

    def _raw_node(self, options: dict[str, Any]) -> Any:
        # Not every lightningd has cln-grpc; where it is, pyln-testing need not find it a port.
        options = {"disable-plugin": "cln-grpc", "log-level": "debug", **options}
        raw = self._factory.get_node(start=False, may_reconnect=True, options=options)
        raw.daemon.opts["log-file"] = str(Path(raw.daemon.lightning_dir) / "log")
        raw.daemon.opts["dev-fast-reconnect"] = None
        # Wide enough that blocks mined for new channels never time out a payment that is held elsewhere.
        raw.daemon.opts["cltv-delta"] = 40
        raw.daemon.opts["cltv-final"] = 40
        # Plugins begin with `env python3`: that shall be the interpreter that runs the tests.
        raw.daemon.env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return raw

    def _follow_chain(self, *nodes: Node) -> None:
        height = self.bitcoind.rpc.getblockcount()

        def followed() -> bool:
            infos = [node.call("getinfo") for node in nodes]
            return all(i["blockheight"] >= height and "warning_lightningd_sync" not in i for i in infos)

        wait_for(followed, "the chain to be followed")

    def restart_bitcoind_without_mempool(self) -> None:
        """The chain's node ends and comes back; it forgets what waited for a block, unless it pays its own wallet."""
        self.bitcoind.rpc.stop()  # not its own `stop`: that one ends what stands between it and the nodes, too
        self.bitcoind.proc.wait(PATIENCE_S)
        for path in Path(self.bitcoind.bitcoin_dir).rglob("mempool.dat"):
            path.unlink()
        self.bitcoind.start()

    def pay_address(self, address: str, amount_sat: int) -> str:
        """Somebody pays an address on the chain; the txid."""
        return str(self.bitcoind.rpc.sendtoaddress(address, f"{amount_sat / 10**8:.8f}"))

    def mine(self, blocks: int, *nodes: Node) -> None:
        """Blocks are found, and followed by these nodes."""
        self.bitcoind.generate_block(blocks)
        self._follow_chain(*nodes)

    def wait_for_transaction(self) -> None:
        """Some transaction waits for a block."""
        wait_for(self.bitcoind.rpc.getrawmempool, "a transaction in the mempool")

    def _fund(self, *nodes: Node) -> None:
        """Give nodes the coins for all channels that they will open."""
        for node in nodes:
            address = node.call("newaddr", addresstype="bech32")["bech32"]
            self.bitcoind.rpc.sendtoaddress(address, COINS_BTC)
        self.bitcoind.generate_block(1)
        for node in nodes:
            wait_for(lambda node=node: node.call("listfunds")["outputs"], "the coins to arrive")  # type: ignore[misc]

    def _run(self, node: Node) -> None:
        self._running.append(node)
        node.start()

    def open_channel(
        self,
        funder: Node,
        peer: Node,
        capacity_sat: int = CHANNEL_SAT,
        peers_share_sat: int = CHANNEL_SAT // 2,
        *,
        announced: bool = True,
    ) -> None:
        """Open a channel with a share of it for the peer, and wait until it can be used."""
        if self.bitcoind.rpc.getrawmempool():  # a transaction there may spend what the funder takes for its own
            self.bitcoind.generate_block(1)
        self._follow_chain(funder, peer)  # who is behind opens no channel
        funder.call("connect", id=peer.id, host="127.0.0.1", port=peer.raw.port)
        opened = funder.call(
            "fundchannel",
            id=peer.id,
            amount=capacity_sat,
            push_msat=peers_share_sat * 1000,
            announce=announced,
            minconf=0,
        )
        self.bitcoind.generate_block(6 if announced else 1, wait_for_mempool=opened["txid"])
        self._follow_chain(self.hub, self.receiver, funder, peer)
        wait_for(lambda: funder.can_use_channels_with(peer), "the new channel to be usable")
        wait_for(lambda: peer.can_use_channels_with(funder), "the new channel to be usable")

    def wait_for_route(self, mint: Mint, *, announced: bool = False) -> None:
        """Wait until the mint knows the way to the receiver, and if its channels are public, the reverse."""

        def known() -> bool:
            if announced:
                return self._announced(mint, self.receiver) and self._announced(self.receiver, mint)
            # An offer of a node without public channels begins at a peer of which it must know what it can do.
            incoming = mint.call("listincoming")["incoming"]
            return self._announced(mint, self.receiver) and any("peer_features" in channel for channel in incoming)

        wait_for(known, "the channels to be announced")

    @staticmethod
    def _announced(who: Node, source: Node) -> bool:
        return bool(who.call("listchannels", source=source.id)["channels"])
