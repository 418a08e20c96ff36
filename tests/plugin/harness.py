"""What the tests of this directory are written with: a mint in a stand-in node, and a purse of ecash to use it with."""

from __future__ import annotations

import itertools
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import apsw
import httpx

from contrib.sandbox import Behaviour, LogLine, OutsideInvoice, SandboxNode
from contrib.wallet import (
    MintClient,
    MintError,
    Output,
    WalletProof,
    make_outputs,
    messages,
    unblind,
    unblind_change,
)
from contrib.wallet.keysets import Keyset
from ledger.audit import audit
from ledger.models import MeltQuoteLightning, MeltQuoteState, MeltRequest, MintQuoteBolt11, ProofState
from ledger.units import MSAT_PER_UNIT, split

ENTRY_FILE = Path(__file__).resolve().parents[2] / "nutbolt.py"
INSIDE = Path(__file__).resolve().parents[2] / "contrib" / "inside"

PATIENCE_S = 60.0
"""Nothing here takes this long, not even on a busy machine."""
AT_ONCE_S = 10.0
"""For what takes milliseconds; far below every time that the mint itself waits."""
TICK_S = 0.01

UNPAID, PENDING, PAID = MeltQuoteState.UNPAID, MeltQuoteState.PENDING, MeltQuoteState.PAID
UNSPENT, HELD, SPENT = ProofState.UNSPENT, ProofState.PENDING, ProofState.SPENT

T = TypeVar("T")


def wait_for(ask: Callable[[], T], what: str, timeout_s: float = PATIENCE_S) -> T:
    """Ask until the answer is true, and return it."""
    deadline = time.monotonic() + timeout_s
    while not (answer := ask()):
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s:.0f} s"
        time.sleep(TICK_S)
    return answer


def free_port() -> int:
    """A TCP port of the loopback interface that nobody uses."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def is_free(port: int) -> bool:
    """Whether a process could listen there now."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


class RawPlugin:
    """The entry file as a bare process, spoken to on its stdin and stdout."""

    def __init__(self, directory: Path, *arguments: str, command: Sequence[str] = (), **env: str) -> None:
        self.directory = directory
        self.process = subprocess.Popen(
            [*(command or (sys.executable, str(ENTRY_FILE))), *arguments],
            cwd=directory,
            env={**os.environ, "LIGHTNINGD_PLUGIN": "1", "LIGHTNINGD_VERSION": "v26.06.6", **env},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.messages: list[dict[str, Any]] = []
        """What came that was no answer: log lines."""
        self._ids = itertools.count(1)

    def request(self, method: str, params: Any) -> dict[str, Any]:
        """Send a request and return its answer."""
        request_id = f"test#{next(self._ids)}"
        request = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}
        return self.answer_to(json.dumps(request), request_id)

    def answer_to(self, text: str, request_id: str) -> dict[str, Any]:
        """Send a request as it stands there and return its answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(text + "\n\n")
        self.process.stdin.flush()
        while (message := self._read()).get("id") != request_id:
            self.messages.append(message)
        return message

    def manifest(self) -> dict[str, Any]:
        """The answer to getmanifest."""
        result: dict[str, Any] = self.request("getmanifest", {"allow-deprecated-apis": False})["result"]
        return result

    def init(self, **options: Any) -> Any:
        """The answer to init, in a node whose RPC socket nobody serves. Options are named in full, with `_` for `-`."""
        values = {name.replace("_", "-"): value for name, value in options.items()}
        configuration = {
            "lightning-dir": str(self.directory),
            "rpc-file": "lightning-rpc",
            "startup": True,
            "network": "regtest",
        }
        return self.request("init", {"options": values, "configuration": configuration})["result"]

    def _read(self) -> dict[str, Any]:
        """The next message; fails if anything else than JSON comes."""
        assert self.process.stdout is not None
        while line := self.process.stdout.readline():
            if line.strip():
                message: dict[str, Any] = json.loads(line)
                return message
        raise AssertionError(f"the plugin has ended: {self.process.stderr and self.process.stderr.read()}")

    def end(self, timeout_s: float = AT_ONCE_S) -> tuple[str, str]:
        """End its stdin; returns what it has still to say on stdout and stderr."""
        return self.process.communicate(timeout=timeout_s)

    def __enter__(self) -> RawPlugin:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


class Mint:
    """A node with the plugin, and what a test needs to see of both.

    Options are the plugin's, without their prefix: `input_fee_ppk=100` for `cashu-input-fee-ppk=100`.
    """

    def __init__(self, directory: Path, *, node: Mapping[str, Any] | None = None, **options: Any) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._directory = directory
        self._lines: list[LogLine] = []
        self._plan = directory / "inside.json"
        self._armed = directory / "inside.armed"
        self._clock = directory / "inside.clock"
        settings = {"plugin": ENTRY_FILE, "listpays_lag_s": 0.05, **(node or {})}
        self.node = SandboxNode(
            directory,
            options={
                "cashu-listen": f"127.0.0.1:{self.port}",
                "cashu-methods": "bolt11,bolt12,onchain",
                # All tests ask from one address. Those of the limits switch them on.
                "cashu-rate-limit-local": "0",
            },
            env={"PYTHONPATH": str(INSIDE), "NUTBOLT_INSIDE": str(self._plan)},
            on_log=self._lines.append,
            **settings,
        )
        self.set_options(**options)
        # A connection that is kept open would end with the plugin, unnoticed until the next request.
        once = httpx.Limits(max_keepalive_connections=0)
        self.http = httpx.Client(base_url=self.url, timeout=PATIENCE_S, limits=once)
        self.client = MintClient(
            self.url,
            read_timeout_s=PATIENCE_S,
            melt_timeout_s=PATIENCE_S,
            transport=httpx.HTTPTransport(limits=once),
        )
        self.secrets: set[str] = set()
        """Quote ids, preimages and proofs' secrets: what no log may show."""
        self._log_checked = 0
        self._expected: list[str] = []

    def set_options(self, **options: Any) -> None:
        """Change options; they count from the plugin's next start. None takes one away."""
        for name, value in options.items():
            key = f"cashu-{name.replace('_', '-')}"
            if value is None:
                self.node.options.pop(key, None)
            else:
                self.node.options[key] = value

    def change_inside(
        self, *, constants: Mapping[str, Any] | None = None, die: Sequence[str] = (), stray: Sequence[str] = ()
    ) -> None:
        """Change the plugin from inside, from its next start on (see `contrib/inside/sitecustomize.py`)."""
        plan = {"set": dict(constants or {}), "die": list(die), "print": list(stray), "clock": str(self._clock)}
        self._plan.write_text(json.dumps(plan))

    def shift_clock(self, seconds: float) -> None:
        """From now on the plugin's clock is wrong by so much. It must have been started after `change_inside`."""
        beside = self._clock.with_suffix(".new")
        beside.write_text(str(seconds))
        beside.replace(self._clock)

    # --- life -----------------------------------------------------------------------------------------------------

    def start(self) -> Mint:
        """Start node and plugin, and wait until the mint serves."""
        self.node.start()
        assert self.node.plugin_disabled is None, self.node.plugin_disabled
        self.wait_ready()
        return self

    def stop(self) -> None:
        """Stop everything."""
        self.http.close()
        self.client.close()
        self.node.stop()

    def wait_ready(self) -> None:
        """Wait until the mint has recovered. Until then it answers 503."""
        wait_for(lambda: self.status() == 200, "the mint to be ready")

    def status(self) -> int:
        """The HTTP status of `/v1/info`; 0 if nobody listens."""
        try:
            return httpx.get(f"{self.url}/v1/info", timeout=PATIENCE_S).status_code
        except httpx.TransportError:
            return 0

    def start_plugin(self) -> None:
        """`lightning-cli plugin start`, and wait until the mint serves."""
        self.node.start_plugin()
        assert self.node.plugin_disabled is None, self.node.plugin_disabled
        self.wait_ready()

    def restart_plugin(self, *, kill: bool) -> None:
        """The plugin alone ends, stopped or killed, and is started again; the node goes on."""
        if kill:
            self.node.kill_plugin()
        else:
            self.node.stop_plugin()
        self.start_plugin()

    def restart_node(self, *, kill: bool, while_down: Callable[[], Any] = lambda: None) -> None:
        """The node goes down, and the plugin with it; both come up again."""
        self.node.go_down(kill=kill)
        while_down()
        self.node.come_up()
        assert self.node.plugin_disabled is None, self.node.plugin_disabled
        self.wait_ready()
        self.node.wait_connected()

    def arm(self, point: str) -> None:
        """The plugin kills itself when it comes to this point, one of `change_inside`'s."""
        self._armed.write_text(point)

    def wait_dead(self) -> None:
        """Wait until the plugin has killed itself."""
        self.node.wait_for_plugin_exit(timeout_s=PATIENCE_S)
        self._armed.unlink()

    def info(self) -> dict[str, Any]:
        """`lightning-cli cashu-info`."""
        return self.node.rpc("cashu-info")

    @property
    def lines(self) -> list[LogLine]:
        """Everything that was logged, by the node as well."""
        return list(self._lines)

    # --- looking at it --------------------------------------------------------------------------------------------

    @property
    def ledger_path(self) -> Path:
        """The ledger's file."""
        directory = self._directory.absolute() / self.node.settings.network
        return directory / str(self.node.options.get("cashu-db", "cashu.sqlite3"))

    @contextmanager
    def ledger(self) -> Iterator[apsw.Connection]:
        """One snapshot of the ledger's file, read-only; also while the plugin runs."""
        connection = apsw.Connection(str(self.ledger_path), flags=apsw.SQLITE_OPEN_READONLY)
        connection.set_busy_timeout(10_000)
        try:
            connection.execute("BEGIN")
            yield connection
        finally:
            connection.close()

    def rows(self) -> dict[str, list[Any]]:
        """Every row of the ledger, by table."""
        with self.ledger() as db:
            tables = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            return {table: sorted(map(repr, db.execute(f"SELECT * FROM {table}"))) for table in tables}

    def check(self) -> None:
        """The books balance, nothing was logged as broken that the test didn't expect, and nothing secret at all."""
        lines, expected = self._lines[self._log_checked :], self._expected
        self._log_checked, self._expected = self._log_checked + len(lines), []
        broken = _broken(lines)
        unexpected = [text for text in broken if not any(re.search(pattern, text) for pattern in expected)]
        assert not unexpected, "\n".join(unexpected)
        for pattern in expected:
            assert any(re.search(pattern, text) for text in broken), f"nothing like {pattern!r} was logged"
        leaks = [str(line) for line in lines if _is_of_plugin(line) and any(s in line.message for s in self.secrets)]
        assert not leaks, "\n".join(leaks)
        self.check_books()

    def check_books(self) -> None:
        """Recompute the books from the rows, if there are any."""
        if not os.path.isfile(self.ledger_path):  # noqa: PTH113 - the path of a test may be none
            return
        with self.ledger() as db:
            if db.pragma("user_version"):
                assert audit(db).faults == ()

    def expect_broken(self, pattern: str) -> None:
        """This test provokes a log line of level BROKEN that matches."""
        self._expected.append(pattern)

    # --- money ----------------------------------------------------------------------------------------------------

    def invoice(self, amount_sat: int = 100, behaviour: Behaviour | None = None, **options: Any) -> OutsideInvoice:
        """An invoice of the outside node, and what becomes of its payment (default: it is paid)."""
        made = self.node.outside_invoice(amount_sat * 1000, behaviour=behaviour, **options)
        self.secrets.add(made.preimage)
        return made


def _broken(lines: Sequence[LogLine]) -> list[str]:
    """What was logged as broken, and tracebacks on stderr; lines that were logged together are one text."""
    found = [str(line) for line in lines if line.level != "broken" and "Traceback" in line.message]
    for is_broken, group in itertools.groupby(lines, lambda line: line.level == "broken"):
        if is_broken:
            found.append("\n".join(map(str, group)))
    return found


def _is_of_plugin(line: LogLine) -> bool:
    return line.source.startswith("plugin-")


@dataclass(eq=False)
class Melt:
    """A melt as its wallet prepared it: a quote, the proofs for it, and blank outputs for the change."""

    invoice: OutsideInvoice | None
    quote: MeltQuoteLightning
    inputs: list[WalletProof]
    blanks: list[Output]
    answer: MeltQuoteLightning | None = field(default=None)

    @property
    def request(self) -> MeltRequest:
        """The request, without `prefer_async`."""
        return MeltRequest.model_construct(
            quote=self.quote.quote,
            inputs=list(self.inputs),
            outputs=messages(self.blanks) if self.blanks else None,
            prefer_async=None,
        )

    @property
    def body(self) -> dict[str, Any]:
        """The JSON of the request."""
        return self.request.model_dump(mode="json", exclude_none=True, warnings="none")


class Purse:
    """Ecash of one mint and unit. It is given ecash as it needs it, and spends exactly what it is told to."""

    method = "bolt11"
    """Of its melts."""

    def __init__(self, mint: Mint, unit: str = "sat") -> None:
        self.mint = mint
        self.unit = unit
        self.client = mint.client
        self.load_keysets()

    def load_keysets(self) -> None:
        """Ask for the keysets."""
        ids = [info.id for info in self.client.keysets()]
        self.keysets = {i: Keyset.from_wire(self.client.keys(i)[0]) for i in ids}
        self.keyset = next(k for k in self.keysets.values() if k.unit == self.unit and k.active)

    # --- mint and swap --------------------------------------------------------------------------------------------

    def request_mint(self, amount: int = 100, **options: Any) -> MintQuoteBolt11:
        """A new mint quote."""
        quote = self.client.request_mint_quote(amount, self.unit, **options)
        self.mint.secrets.add(quote.quote)
        return quote

    def wait_credited(self, quote: MintQuoteBolt11, amount: int | None = None) -> MintQuoteBolt11:
        """Wait until the mint has noticed the payment of a mint quote."""
        wanted = quote.amount if amount is None else amount

        def credited() -> MintQuoteBolt11 | None:
            now = self.client.mint_quote(quote.quote)
            return now if now.amount_paid == wanted else None

        found = wait_for(credited, "the mint quote to be credited")
        assert found is not None
        return found

    def outputs(self, amount: int) -> list[Output]:
        """Fresh outputs for an amount."""
        return self.outputs_of(split(amount))

    def outputs_of(self, amounts: Sequence[int]) -> list[Output]:
        """Fresh outputs of these amounts; 0 makes blank ones."""
        made = make_outputs(self.keyset, amounts)
        self.mint.secrets.update(output.secret for output in made)
        return made

    def collect(self, quote: MintQuoteBolt11, amount: int | None = None, **options: Any) -> list[WalletProof]:
        """Have ecash issued for a paid quote."""
        outputs = self.outputs(quote.amount or 0 if amount is None else amount)
        return unblind(outputs, self.client.mint(quote.quote, messages(outputs), **options), self.keysets)

    def fund(self, amount: int) -> list[WalletProof]:
        """Proofs of exactly this amount, minted."""
        quote = self.request_mint(amount)
        self.mint.node.pay_invoice(quote.request)
        self.wait_credited(quote)
        return self.collect(quote)

    def swap(self, proofs: Sequence[WalletProof]) -> list[WalletProof]:
        """Exchange proofs for fresh ones."""
        outputs = self.outputs(sum(p.amount for p in proofs) - self.fee(proofs))
        return unblind(outputs, self.client.swap(proofs, messages(outputs)), self.keysets)

    def fee(self, proofs: Sequence[WalletProof]) -> int:
        """The fee for spending these proofs."""
        return -(-sum(self.keysets[p.id].input_fee_ppk for p in proofs) // 1000)

    def states(self, proofs: Sequence[WalletProof]) -> set[ProofState]:
        """The states that the mint gives for these proofs."""
        return {entry.state for entry in self.client.check_state(p.y for p in proofs)}

    # --- melt -----------------------------------------------------------------------------------------------------

    def quote(self, invoice: OutsideInvoice | str, **options: Any) -> MeltQuoteLightning:
        """A new melt quote."""
        quote = self.client.request_melt_quote(str(invoice), self.unit, method=self.method, **options)
        self.mint.secrets.add(quote.quote)
        return quote

    def quote_soon(self, invoice: OutsideInvoice | str) -> Future[MeltQuoteLightning]:
        """The same from another thread."""
        pool = ThreadPoolExecutor(max_workers=1)
        future = pool.submit(self.quote, invoice)
        pool.shutdown(wait=False)
        return future

    def prepare(
        self,
        invoice: OutsideInvoice | str,
        *,
        extra: int = 0,
        blanks: int | None = None,
        quote: MeltQuoteLightning | None = None,
        **options: Any,
    ) -> Melt:
        """A melt of this invoice, with fresh proofs for it (and `extra` more); as many blank outputs as change may
        need, if `blanks` doesn't say otherwise."""
        quote = quote or self.quote(invoice, **options)
        needed = quote.amount + quote.fee_reserve + extra
        inputs = self.fund(needed)
        while (missing := needed + self.fee(inputs) - sum(p.amount for p in inputs)) > 0:
            inputs += self.fund(missing)
        count = (needed - quote.amount + len(inputs)).bit_length() if blanks is None else blanks
        known = invoice if isinstance(invoice, OutsideInvoice) else None
        return Melt(known, quote, inputs, self.outputs_of([0] * count))

    def post(self, melt: Melt, *, prefer_async: bool | None = None) -> MeltQuoteLightning:
        """`POST /v1/melt/{method}`. Raises MintError."""
        request = melt.request
        melt.answer = self.client.melt(
            request.quote, request.inputs, request.outputs, prefer_async=prefer_async, method=self.method
        )
        return melt.answer

    def post_async(self, invoice: OutsideInvoice) -> Melt:
        """A melt with `prefer_async`, which must be answered PENDING or with its success."""
        melt = self.prepare(invoice)
        assert self.post(melt, prefer_async=True).state in (PENDING, PAID)
        return melt

    def hold(self, amount_sat: int = 100, behaviour: Behaviour | None = None) -> Melt:
        """A melt that is pending, with its part in flight and held."""
        invoice = self.mint.invoice(amount_sat, behaviour or Behaviour.hold())
        melt = self.post_async(invoice)
        self.mint.node.wait_for_part(invoice, timeout_s=PATIENCE_S)
        return melt

    def post_soon(self, melt: Melt, *, prefer_async: bool | None = None) -> Future[MeltQuoteLightning]:
        """The same from another thread."""
        pool = ThreadPoolExecutor(max_workers=1)
        future = pool.submit(self.post, melt, prefer_async=prefer_async)
        pool.shutdown(wait=False)
        return future

    def refusal(self, melt: Melt, *, prefer_async: bool | None = None) -> MintError:
        """`POST /v1/melt/bolt11` that must be refused."""
        try:
            answer = self.post(melt, prefer_async=prefer_async)
        except MintError as error:
            return error
        raise AssertionError(f"not refused, but {answer.state}")

    def look(self, melt: Melt) -> MeltQuoteLightning:
        """`GET` the melt quote."""
        return self.client.melt_quote(melt.quote.quote, method=self.method)

    def wait_final(self, melt: Melt, timeout_s: float = PATIENCE_S) -> MeltQuoteLightning:
        """Wait until a melt is PAID, or UNPAID again."""

        def final() -> MeltQuoteLightning | None:
            quote = self.look(melt)
            return quote if quote.state != PENDING else None

        quote = wait_for(final, "the melt to be decided", timeout_s)
        assert quote is not None
        return quote

    def change(self, melt: Melt, quote: MeltQuoteLightning) -> list[WalletProof]:
        """The change of a paid melt, verified."""
        return unblind_change(melt.blanks, quote.change or [], self.keysets)

    # --- what a melt has come to ----------------------------------------------------------------------------------

    def assert_paid(
        self, melt: Melt, *, fee_msat: int = 1000, sent_msat: int | None = None, preimage: bool = True
    ) -> MeltQuoteLightning:
        """PAID, or soon so: preimage shown, proofs spent, everything overpaid given back as spendable change.

        The destination was paid in full with a routing fee of `fee_msat`, unless `sent_msat` says what was sent."""
        quote = self.wait_final(melt)
        assert quote.state == PAID, quote
        assert quote.error is None
        if melt.invoice is not None:
            assert quote.payment_preimage == (melt.invoice.preimage if preimage else None)
        assert self.states(melt.inputs) == {SPENT}
        change = self.change(melt, quote)
        cost = sum(p.amount for p in melt.inputs) - self.fee(melt.inputs) - sum(p.amount for p in change)
        per_unit = MSAT_PER_UNIT[self.unit]
        assert cost == -(-(quote.amount * per_unit + fee_msat if sent_msat is None else sent_msat) // per_unit)
        if sum(p.amount for p in change) > self.fee(change):
            self.swap(change)
        return quote

    def assert_failed(self, melt: Melt, *, why: str = "") -> MeltQuoteLightning:
        """UNPAID again, or soon so: it says why, and proofs and blank outputs are free."""
        quote = self.wait_final(melt)
        assert quote.state == UNPAID, quote
        assert quote.error
        assert why in quote.error
        assert quote.payment_preimage is None
        assert quote.change is None
        assert self.states(melt.inputs) == {UNSPENT}
        return quote

    def assert_pending(self, melt: Melt) -> MeltQuoteLightning:
        """PENDING, with its proofs held."""
        quote = self.look(melt)
        assert quote.state == PENDING, quote
        assert quote.error is None
        assert self.states(melt.inputs) == {HELD}
        return quote

    def assert_stays_pending(self, melt: Melt, seconds: float = 1.0) -> None:
        """PENDING now and for a while."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.assert_pending(melt)
            time.sleep(0.1)


@contextmanager
def running(mint: Mint) -> Iterator[Mint]:
    """Start a mint, stop it in the end, and check it before and after that."""
    try:
        mint.start()
        yield mint
        mint.check()
    finally:
        mint.stop()
    mint.check()
