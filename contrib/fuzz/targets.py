"""What is fuzzed. Each target is made once, and then reads any bytes; what it raises is a finding.

So a target swallows exactly what its reader is declared to raise, and checks of the result what is always true."""

from __future__ import annotations

import base64
import json
import logging
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from contrib.fuzz import server
from ledger import conditions
from ledger.conditions import witness
from ledger.errors import Code, LedgerError
from ledger.ledger import Ledger, curve_work, open_ledger
from ledger.models import (
    BlindedMessage,
    CheckStateRequest,
    MeltOnchainRequest,
    MeltRequest,
    MintBatchRequest,
    MintQuoteCheckRequest,
    MintRequest,
    Proof,
    RestoreRequest,
    SwapRequest,
)
from ledger.operations import melt, mint, replay, swap
from ledger.store.database import Database
from plugin.http import limits, websocket
from plugin.http.clients import Clients
from plugin.http.subscriptions import MAX_WAITING_MESSAGES, Connection, Hub, Waiting
from plugin.methods.table import METHODS
from plugin.node.psbt import MalformedError, Psbt, Transaction, block_time, block_transactions
from plugin.options import OPTIONS, OptionError, parse

NOW = 1_800_000_000
CONDITION_CODES = (Code.PROOF_INVALID, Code.SIGNATURE_INVALID, Code.REQUEST_REJECTED)

Reader = Callable[[bytes], None]


def requests() -> Reader:
    """The body of any request: which one says the first byte. What is well-formed goes on to the ledger's own checks,
    up to the database."""
    ledger = empty_ledger()
    quotes = [model for method in METHODS for model in (method.mint_quote_request, method.melt_quote_request)]
    models: list[type[BaseModel]] = [
        *(SwapRequest, MintRequest, MintBatchRequest, MeltRequest, MeltOnchainRequest),
        *(CheckStateRequest, RestoreRequest, MintQuoteCheckRequest),
        *quotes,
    ]

    def read(data: bytes) -> None:
        model = models[data[0] % len(models)] if data else SwapRequest
        try:
            request = model.model_validate_json(data[1:])
        except ValidationError as error:
            error.errors(include_url=False, include_context=False, include_input=False)
            return
        assert model.model_validate_json(request.model_dump_json()) == request
        try:
            _prepare(ledger, request)
        except LedgerError as refusal:
            _require(0 < len(refusal.detail) < 1000, refusal)

    return read


def _prepare(ledger: Ledger, request: Any) -> None:
    if isinstance(request, SwapRequest | MintRequest | MintBatchRequest | MeltRequest):
        assert curve_work(request) >= 0
        digest = replay.digest("fuzz", request)
    match request:
        case SwapRequest():
            swap.prepare(ledger.keysets, request, digest, NOW)
        case MintRequest():
            mint.prepare(ledger.keysets, "bolt11", request, digest, NOW)
        case MintBatchRequest():
            mint.prepare_batch(ledger.keysets, "bolt11", request, digest, NOW)
        case MeltRequest():
            melt.prepare(ledger.keysets, "bolt11", request, digest, NOW)
        case CheckStateRequest():
            ledger.check_state(request)
        case RestoreRequest():
            ledger.restore(request)
        case MintQuoteCheckRequest():
            ledger.mint_quotes("bolt11", request)
        case _:
            mint.check_pubkey(getattr(request, "pubkey", None))


def spending() -> Reader:
    """Secrets, witnesses and outputs: lines of `secret`, `witness`, secret, witness, …"""
    point = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
    outputs = [BlindedMessage(amount=8, id="00", B_=point)]

    def read(data: bytes) -> None:
        lines = data.decode("utf-8", "replace").split("\n")[:20]
        secrets, witnesses = lines[::2], [*lines[1::2], ""]
        proofs = [
            Proof.model_construct(amount=8, id="00", secret=secret[:4096], C=point, witness=text[:8192] or None)
            for secret, text in zip(secrets, witnesses, strict=False)
        ]
        for proof in proofs:
            found = witness.read(proof.witness)
            assert all(len(signature) == 64 for signature in found.signatures)
        try:
            conditions.require_met(proofs, outputs, NOW, "quote")
        except LedgerError as refusal:
            _require(refusal.code in CONDITION_CODES, refusal)

    return read


def subscriptions() -> Reader:
    """Messages of a WebSocket, one a line: each is answered, and what is subscribed stays below the limits."""
    ledger = empty_ledger()
    loop = server.event_loop()
    limits.charge = lambda *_: None  # there is no request here that could be charged
    hub = Hub(ledger, loop, [method.name for method in METHODS])

    async def converse(data: bytes) -> None:
        connection = Connection(Waiting())
        for frame in data.split(b"\n")[:10]:
            text: str | bytes = frame
            if len(frame) % 2:
                text = frame.decode("utf-8", "replace")
            before = len(connection._messages)
            await websocket._handle(hub, connection, text)
            assert before < len(connection._messages) <= MAX_WAITING_MESSAGES
        for message in connection._messages:
            assert json.loads(message)["jsonrpc"] == "2.0"
        hub.disconnect(connection)
        assert not hub._listeners

    def read(data: bytes) -> None:
        loop.run_until_complete(converse(data))

    return read


def transactions() -> Reader:
    """What the chain and the node's wallet give, which others have a part in: a transaction, a block, a PSBT."""

    def read(data: bytes) -> None:
        try:
            tx = Transaction.parse(data)
        except MalformedError:
            pass
        else:
            assert Transaction.parse(tx.serialize()) == tx
            assert len(tx.txid) == 32
        try:
            block_time(data)
            for _ in block_transactions(data):
                pass
        except MalformedError:
            pass
        for text in (data.decode("latin1"), _base64(data)):
            try:
                psbt = Psbt.parse(text)
                assert len(psbt.spent) == len(psbt.witnesses) == len(psbt.tx.inputs)
                assert isinstance(psbt.fee_sat, int)
                assert psbt.signed is None or isinstance(psbt.signed, bytes)
            except MalformedError:
                pass

    return read


def _base64(data: bytes) -> str:
    return base64.b64encode(b"psbt\xff" + data).decode()


def proxies() -> Reader:
    """What a trusted proxy forwards of clients."""
    clients = Clients(parse({"cashu-trusted-proxies": "127.0.0.1,10.0.0.0/8,fd00::/8"}).trusted_proxies)

    def read(data: bytes) -> None:
        headers = [
            (name, value)
            for line in data.split(b"\n")[:20]
            for name, value in ((b"x-forwarded-for", line), (b"forwarded", line[1:]))
        ]
        for chosen in (headers[::2], headers[1::2], headers):
            client = clients.identify("127.0.0.1", chosen)
            assert client.key
            assert len(client.key) < 100
            assert client.shared == (client.key == "this machine")
        assert clients.identify("192.0.2.1", headers).key == "192.0.2.1"

    return read


def options() -> Reader:
    """What an operator may write; the number of the option is the first byte."""

    def read(data: bytes) -> None:
        option = OPTIONS[data[0] % len(OPTIONS)] if data else OPTIONS[0]
        try:
            parse({option.name: data[1:].decode("utf-8", "surrogateescape")})
        except OptionError as refusal:
            _require(len(str(refusal)) < 1000, refusal)

    return read


def http() -> Reader:
    """The bytes of a connection, with pauses after NUL NUL, to the whole HTTP server, from Hypercorn to the handlers
    of a mint that is not ready, or those that ask nobody but the ledger: no answer is a 500, nothing is logged as
    broken, and the connection ends."""
    loop = server.event_loop()
    app = server.application(empty_ledger())
    broken = Broken()
    logging.getLogger().addHandler(broken)
    loop.set_exception_handler(lambda _, context: broken.messages.append(str(context)))

    def read(data: bytes) -> None:
        answer = loop.run_until_complete(server.converse(app, data.split(b"\0\0")[:5]))
        _require(not broken.messages, "\n".join(broken.messages))
        for line in answer.split(b"\r\n"):
            assert not line.startswith(b"HTTP/1.1 500"), answer[:500]

    return read


@dataclass
class Broken(logging.Handler):
    """Collects what would be logged as broken."""

    def __post_init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.messages.append(self.format(record))

    __hash__ = object.__hash__


def _require(holds: bool, what: object) -> None:
    if not holds:
        raise AssertionError(what)


def empty_ledger(directory: Path | None = None) -> Ledger:
    """An empty ledger with a keyset, always the same, which nothing is written to."""
    if directory is None:
        directory = Path(server.FOR_LIFE.enter_context(tempfile.TemporaryDirectory(prefix="nutbolt-fuzz-")))
    database = Database(directory / "ledger.sqlite3")
    open_ledger(database, None)
    ledger = Ledger(database, bytes(32), lambda: NOW)
    server.FOR_LIFE.callback(ledger.close)
    ledger.rotate("sat", 100).result()
    return ledger


TARGETS: dict[str, Callable[[], Reader]] = {
    target.__name__: partial(target)
    for target in (requests, spending, subscriptions, transactions, proxies, options, http)
}
