"""What the tests of the protocol share: a WebSocket client that believes nothing, and looks at bare HTTP answers."""

from __future__ import annotations

import itertools
import json
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from coincurve import PrivateKey
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from contrib.wallet import Output, WalletProof, make_outputs, messages, unblind
from ledger import curve
from ledger.models import BlindedMessage
from tests.plugin.harness import PATIENCE_S, Mint, Purse

MINT_QUOTE, MELT_QUOTE, PROOF_STATE = "bolt11_mint_quote", "bolt11_melt_quote", "proof_state"
SILENCE_S = 0.3
"""For the claim that nothing comes; long for a mint that has nothing else to do."""
CORS = "access-control-allow-origin"

T = TypeVar("T")


# --- HTTP -------------------------------------------------------------------------------------------------------------


def code_of(response: httpx.Response) -> int:
    """The code of a refusal, which has the one form that wallets understand (NUT-00)."""
    assert response.status_code == 400, (response.status_code, response.text)
    assert response.headers["content-type"] == "application/json"
    assert response.headers[CORS] == "*"
    body = response.json()
    assert list(body) == ["detail", "code"], body
    assert isinstance(body["detail"], str), body
    assert type(body["code"]) is int, body
    code: int = body["code"]
    return code


def ok(response: httpx.Response) -> Any:
    """The JSON of a 200."""
    assert response.status_code == 200, response.text
    return response.json()


def get(mint: Mint, path: str) -> str:
    """The body of a GET, as text."""
    response = mint.http.get(path)
    assert response.status_code == 200, response.text
    return response.text


def at_once(count: int, act: Callable[[], T]) -> list[T]:
    """Do the same in many threads at the same time."""
    with ThreadPoolExecutor(max_workers=count) as pool:
        return [future.result(PATIENCE_S) for future in [pool.submit(act) for _ in range(count)]]


def in_parallel(acts: Iterable[Callable[[], T]], workers: int = 8) -> list[T]:
    """Do these things, some of them at a time; their results in order."""
    with ThreadPoolExecutor(max_workers=workers) as pool:
        return [future.result(PATIENCE_S) for future in [pool.submit(act) for act in acts]]


# --- what is sent -----------------------------------------------------------------------------------------------------


def wire(proofs: Iterable[WalletProof], **fields: Any) -> list[dict[str, Any]]:
    """Inputs as JSON."""
    shown = ("amount", "id", "secret", "C", "witness")
    return [{name: value for name in shown if (value := getattr(proof, name)) is not None} | fields for proof in proofs]


def wire_outputs(outputs: Iterable[Output] | Iterable[BlindedMessage], **fields: Any) -> list[dict[str, Any]]:
    """Outputs as JSON."""
    bare = [each.message if isinstance(each, Output) else each for each in outputs]
    return [each.model_dump() | fields for each in bare]


def swap_body(purse: Purse, proofs: Sequence[WalletProof]) -> dict[str, Any]:
    """A swap of these proofs for fresh outputs."""
    amount = sum(proof.amount for proof in proofs) - purse.fee(proofs)
    return {"inputs": wire(proofs), "outputs": wire_outputs(purse.outputs(amount))}


def paid_quote(purse: Purse, amount: int, **options: Any) -> str:
    """A mint quote that is paid and not issued."""
    quote = purse.request_mint(amount, **options)
    purse.mint.node.pay_invoice(quote.request)
    return purse.wait_credited(quote).quote


def locked_proofs(purse: Purse, *secrets: str, amount: int = 4) -> list[WalletProof]:
    """Proofs on these secrets."""
    outputs = make_outputs(purse.keyset, [amount] * len(secrets), secret_texts=secrets)
    quote = paid_quote(purse, amount * len(secrets))
    return unblind(outputs, purse.client.mint(quote, messages(outputs)), purse.keysets)


def random_ys(count: int) -> list[str]:
    """Points that may be a proof's `Y`."""
    start = time.time_ns()
    return [curve.hash_to_curve(f"{start} {number}".encode()).hex() for number in range(count)]


class QuoteKey:
    """A key that locks mint quotes (NUT-20)."""

    def __init__(self, number: int = 7) -> None:
        self.private = PrivateKey(number.to_bytes(32, "big"))
        self.hex = self.private.public_key.format().hex()


def fresh_outputs(purse: Purse, amounts: Iterable[int], keyset_id: str | None = None) -> list[Output]:
    """Outputs of these amounts, of the purse's keyset or another."""
    return make_outputs(keyset_id or purse.keyset, list(amounts))


# --- WebSocket --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Notification:
    """A notification, and the text that it came as."""

    sub_id: str
    payload: dict[str, Any]
    text: str

    @property
    def payload_text(self) -> str:
        """The payload as it stands in the message."""
        _, separator, rest = self.text.partition('"payload":')
        assert separator
        assert rest.endswith("}}")
        return rest[:-2]


class Socket:
    """A NUT-17 client: keeps every frame in the order in which it came."""

    def __init__(self, mint: Mint, **options: Any) -> None:
        url = mint.url.replace("http", "ws", 1) + "/v1/ws"
        self._stack = ExitStack()
        opening = connect(url, max_size=None, open_timeout=PATIENCE_S, close_timeout=2, ping_interval=None, **options)
        self._ws: ClientConnection = self._stack.enter_context(opening)
        self._ids = itertools.count(1)
        self._names = itertools.count(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Say goodbye."""
        self._stack.close()

    def vanish(self) -> None:
        """Go without a word, as when the network is lost."""
        self._ws.socket.shutdown(socket.SHUT_RDWR)
        self._stack.close()

    def send(self, frame: str | bytes | Iterable[str]) -> None:
        """Send any frame; of several texts, a message in as many pieces."""
        self._ws.send(frame)

    def receive(self, timeout_s: float = PATIENCE_S) -> str:
        """The next frame, which must be a text."""
        frame = self._ws.recv(timeout=timeout_s)
        assert isinstance(frame, str), frame
        return frame

    def answer(self) -> dict[str, Any]:
        """The next frame, which must be the answer to a call."""
        found: dict[str, Any] = json.loads(self.receive())
        assert "id" in found, found
        return found

    def call(self, method: str, params: Any, call_id: int | str | None = None) -> dict[str, Any]:
        """Call, and return the answer, which must be the next frame."""
        call_id = next(self._ids) if call_id is None else call_id
        self.send(json.dumps({"jsonrpc": "2.0", "id": call_id, "method": method, "params": params}))
        answer = self.answer()
        assert answer["id"] == call_id, answer
        return answer

    def refused(self, method: str, params: Any) -> int:
        """The error code of a call."""
        return error_code(self.call(method, params))

    def subscribe(self, kind: str, filters: Sequence[str], sub_id: str | None = None) -> str:
        """Subscribe; the snapshot follows."""
        sub_id = sub_id or f"subscription {next(self._names)}"
        answer = self.call("subscribe", {"kind": kind, "subId": sub_id, "filters": list(filters)})
        assert answer.pop("id") is not None
        assert answer == {"jsonrpc": "2.0", "result": {"status": "OK", "subId": sub_id}}
        return sub_id

    def unsubscribe(self, sub_id: str) -> None:
        """Unsubscribe; what is still on its way may come before the answer."""
        self.send(json.dumps({"jsonrpc": "2.0", "id": "end", "method": "unsubscribe", "params": {"subId": sub_id}}))
        while (answer := json.loads(self.receive())).get("id") != "end":
            assert answer["params"]["subId"], answer
        assert answer == {"jsonrpc": "2.0", "result": {"status": "OK", "subId": sub_id}, "id": "end"}

    def next(self, timeout_s: float = PATIENCE_S) -> Notification:
        """The next frame, which must be a notification."""
        return read_notification(self.receive(timeout_s))

    def take(self, count: int) -> list[Notification]:
        """So many notifications."""
        return [self.next() for _ in range(count)]

    def is_silent(self) -> bool:
        """Whether nothing comes for a while."""
        try:
            frame = self.receive(SILENCE_S)
        except TimeoutError:
            return True
        raise AssertionError(f"not silent: {frame}")

    def closed_with(self) -> int | None:
        """Wait until the mint hangs up; the code that it gave."""
        try:
            while True:
                self._ws.recv(timeout=PATIENCE_S)
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else None


def read_notification(text: str) -> Notification:
    """A notification has a form without an `id`: wallets take a message with one for an answer."""
    message = json.loads(text)
    assert list(message) == ["jsonrpc", "method", "params"], text
    assert (message["jsonrpc"], message["method"]) == ("2.0", "subscribe"), text
    assert set(message["params"]) == {"subId", "payload"}, text
    return Notification(message["params"]["subId"], message["params"]["payload"], text)


def error_code(answer: dict[str, Any]) -> int:
    """The code of an error answer, which has the form of JSON-RPC 2.0."""
    assert set(answer) == {"jsonrpc", "error", "id"}, answer
    assert answer["jsonrpc"] == "2.0"
    assert set(answer["error"]) == {"code", "message"}
    assert isinstance(answer["error"]["message"], str)
    code: int = answer["error"]["code"]
    return code
