"""A mint in some hundred lines, for the wallet's tests: an httpx transport with the rules of the NUTs behind it.

It keeps everything in memory, pays invoices as it is told (`payments`), and can lose requests or answers
(`lose_request`, `lose_answer`), which is what the wallet must survive. It is not a model of how to write a mint.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

from contrib.wallet import bolt11, quote_lock
from ledger import curve
from ledger.errors import Code, LedgerError
from ledger.keysets import keyset_id_v1, keyset_id_v2
from ledger.models import BlindedMessage

URL = "http://mint.test:3338"
MAX_EXPONENT = 13
FEE_RESERVE = 10
INVOICE_TIME = 1_780_000_000
_ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


def make_invoice(amount_msat: int | None, preimage: bytes) -> str:
    """A bolt11 invoice for regtest whose signature is all zeros (no wallet looks at it)."""
    human = "lnbcrt" + ("" if amount_msat is None else f"{amount_msat * 10}p")
    digest = int.from_bytes(hashlib.sha256(preimage).digest(), "big") << 4
    words = _words(INVOICE_TIME, 7) + [1, 1, 20] + _words(digest, 52) + [0] * 104
    values = [ord(c) >> 5 for c in human] + [0] + [ord(c) & 31 for c in human] + words + [0] * 6
    checksum = _polymod(values) ^ 1
    return human + "1" + "".join(_ALPHABET[w] for w in words + _words(checksum, 6))


def _words(value: int, count: int) -> list[int]:
    return [value >> 5 * (count - 1 - i) & 31 for i in range(count)]


def _polymod(values: list[int]) -> int:
    checksum = 1
    for value in values:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            checksum ^= generator if top >> bit & 1 else 0
    return checksum


@dataclass
class FakeKeyset:
    """Private keys of one keyset; `version` 1 gives an id of the old form."""

    label: str
    unit: str = "sat"
    fee_ppk: int = 0
    active: bool = True
    version: int = 2
    private: dict[int, bytes] = field(init=False)
    id: str = field(init=False)

    def __post_init__(self) -> None:
        amounts = [1 << exponent for exponent in range(MAX_EXPONENT)]
        self.private = {a: hashlib.sha256(f"{self.label}:{a}".encode()).digest() for a in amounts}
        public = {a: curve.public_key(k) for a, k in self.private.items()}
        self.id = keyset_id_v2(public, self.unit, self.fee_ppk, None) if self.version == 2 else keyset_id_v1(public)

    def info(self) -> dict[str, Any]:
        return {"id": self.id, "unit": self.unit, "active": self.active, "input_fee_ppk": self.fee_ppk}

    def wire(self) -> dict[str, Any]:
        return self.info() | {"keys": {str(a): curve.public_key(k).hex() for a, k in self.private.items()}}


class FakeMint(httpx.BaseTransport):
    """The mint. Give it to `MintClient(URL, transport=…)`."""

    def __init__(self, fee_ppk: int = 0, *, version: int = 2, max_array_length: int = 1000) -> None:
        self.keysets = [FakeKeyset("first", fee_ppk=fee_ppk, version=version)]
        self.max_array_length = max_array_length
        self.mint_quotes: dict[str, dict[str, Any]] = {}
        self.melts: dict[str, dict[str, Any]] = {}
        self.spent: set[str] = set()
        self.pending: dict[str, str] = {}
        self.signed: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
        self.payments: Callable[[dict[str, Any]], str] = lambda quote: "PAID"
        self.network_fee = 0
        self.accepts_new_signature = True
        self.nut20 = True
        self.requests: list[tuple[str, str, Any]] = []
        self.lose_request: Callable[[str], bool] = lambda path: False
        self.lose_answer: Callable[[str], bool] = lambda path: False
        self.tamper: Callable[[str, Any], Any] = lambda path, answer: answer
        self._numbers = itertools.count(1)

    # --- transport ----------------------------------------------------------------------------------------------

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if self.lose_request(path):
            raise httpx.ConnectError("the line is dead")
        body = json.loads(request.content) if request.content else None
        self.requests.append((request.method, path, body))
        try:
            answer = self.tamper(path, self._route(request.method, path.removeprefix("/v1/"), body))
            status = 200
        except LedgerError as error:
            answer, status = {"detail": error.detail, "code": int(error.code)}, 400
        if self.lose_answer(path):
            raise httpx.ReadTimeout("the answer was lost")
        return httpx.Response(status, json=answer)

    def count(self, path: str, method: str = "POST") -> int:
        return sum(1 for m, p, _ in self.requests if (m, p) == (method, path))

    def _route(self, method: str, path: str, body: Any) -> Any:
        if method == "GET":
            match path.split("/"):
                case ["info"]:
                    nuts = {"20": {"supported": True}} if self.nut20 else {}
                    return {"name": "fake", "nuts": nuts, "max_array_length": self.max_array_length}
                case ["keys"]:
                    return {"keysets": [k.wire() for k in self.keysets if k.active]}
                case ["keys", keyset_id]:
                    return {"keysets": [self._keyset(keyset_id).wire()]}
                case ["keysets"]:
                    return {"keysets": [k.info() for k in self.keysets]}
                case ["mint", "quote", "bolt11", quote_id]:
                    return self._public_mint_quote(quote_id)
                case ["melt", "quote", "bolt11", quote_id]:
                    return self._public_melt(quote_id)
        handlers: dict[str, Callable[[Any], Any]] = {
            "swap": self._swap,
            "mint/quote/bolt11": self._new_mint_quote,
            "mint/bolt11": self._mint,
            "melt/quote/bolt11": self._new_melt_quote,
            "melt/bolt11": self._melt,
            "checkstate": lambda b: {"states": [{"Y": y, "state": self._state(y)} for y in b["Ys"]]},
            "restore": self._restore,
        }
        return handlers[path](body)

    # --- ecash --------------------------------------------------------------------------------------------------

    def rotate(self, fee_ppk: int = 0) -> FakeKeyset:
        """Only a new keyset is active from now on."""
        for keyset in self.keysets:
            keyset.active = False
        self.keysets.append(FakeKeyset(f"rotated {len(self.keysets)}", fee_ppk=fee_ppk))
        return self.keysets[-1]

    def _keyset(self, keyset_id: str) -> FakeKeyset:
        for keyset in self.keysets:
            if keyset.id == keyset_id:
                return keyset
        raise LedgerError(Code.KEYSET_UNKNOWN, "keyset not known")

    def _state(self, y: str) -> str:
        return "SPENT" if y in self.spent else "PENDING" if y in self.pending else "UNSPENT"

    def _verify(self, inputs: list[dict[str, Any]]) -> tuple[list[str], int]:
        """The points of the inputs and their sum after fees."""
        assert all(set(p) <= {"amount", "id", "secret", "C", "witness"} for p in inputs), "the mint was told too much"
        points = [curve.hash_to_curve(p["secret"].encode()).hex() for p in inputs]
        if len(inputs) > self.max_array_length:
            raise LedgerError(Code.TOO_MANY_INPUTS, "too many inputs")
        if len(set(points)) != len(points):
            raise LedgerError(Code.DUPLICATE_INPUTS, "duplicate inputs")
        for point, proof in zip(points, inputs, strict=True):
            key = self._keyset(proof["id"]).private[proof["amount"]]
            if not curve.verify(key, bytes.fromhex(point), bytes.fromhex(proof["C"])):
                raise LedgerError(Code.PROOF_INVALID, "proof not genuine")
            if point in self.spent:
                raise LedgerError(Code.PROOFS_SPENT, "proofs already spent")
            if point in self.pending:
                raise LedgerError(Code.PROOFS_PENDING, "proofs are pending")
        fee_ppk = sum(self._keyset(p["id"]).fee_ppk for p in inputs)
        return points, sum(p["amount"] for p in inputs) - (fee_ppk + 999) // 1000

    def _check_outputs(self, outputs: list[dict[str, Any]]) -> None:
        if len({o["B_"] for o in outputs}) != len(outputs):
            raise LedgerError(Code.DUPLICATE_OUTPUTS, "duplicate outputs")
        for output in outputs:
            if not self._keyset(output["id"]).active:
                raise LedgerError(Code.KEYSET_INACTIVE, "keyset inactive")
            if output["B_"] in self.signed:
                raise LedgerError(Code.OUTPUTS_SIGNED, "outputs already signed")

    def _sign(self, outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        signatures = []
        for output in outputs:
            made = curve.sign(self._keyset(output["id"]).private[output["amount"]], bytes.fromhex(output["B_"]))
            signature = {
                "amount": output["amount"],
                "id": output["id"],
                "C_": made.c_.hex(),
                "dleq": {"e": made.dleq.e.hex(), "s": made.dleq.s.hex()},
            }
            self.signed[output["B_"]] = (output, signature)
            signatures.append(signature)
        return signatures

    def _swap(self, body: Any) -> Any:
        points, worth = self._verify(body["inputs"])
        self._check_outputs(body["outputs"])
        if worth != sum(o["amount"] for o in body["outputs"]):
            raise LedgerError(Code.NOT_BALANCED, f"inputs are worth {worth} after fees")
        self.spent.update(points)
        return {"signatures": self._sign(body["outputs"])}

    def _restore(self, body: Any) -> Any:
        found = [self.signed[o["B_"]] for o in body["outputs"] if o["B_"] in self.signed]
        return {"outputs": [o for o, _ in found], "signatures": [s for _, s in found]}

    # --- mint ---------------------------------------------------------------------------------------------------

    def _new_mint_quote(self, body: Any) -> Any:
        number = next(self._numbers)
        quote_id = f"mint-quote-{number}"
        self.mint_quotes[quote_id] = {
            "quote": quote_id,
            "request": make_invoice(body["amount"] * 1000, number.to_bytes(32, "big")),
            "amount": body["amount"],
            "unit": body["unit"],
            "pubkey": body.get("pubkey"),
            "paid": False,
            "issued": False,
        }
        return self._public_mint_quote(quote_id)

    def pay_mint_quote(self, quote_id: str) -> None:
        self.mint_quotes[quote_id]["paid"] = True

    def _public_mint_quote(self, quote_id: str) -> Any:
        if quote_id not in self.mint_quotes:
            raise LedgerError(Code.QUOTE_REJECTED, "unknown quote")
        quote = self.mint_quotes[quote_id]
        state = "ISSUED" if quote["issued"] else "PAID" if quote["paid"] else "UNPAID"
        return {k: v for k, v in quote.items() if k not in ("paid", "issued")} | {"state": state, "expiry": None}

    def _mint(self, body: Any) -> Any:
        quote = self.mint_quotes[body["quote"]]
        if not quote["paid"]:
            raise LedgerError(Code.QUOTE_NOT_PAID, "quote not paid")
        if quote["issued"]:
            raise LedgerError(Code.QUOTE_ISSUED, "quote already issued")
        self._check_outputs(body["outputs"])
        if quote["pubkey"] is not None and not self._signature_fits(quote, body):
            raise LedgerError(Code.SIGNATURE_INVALID, "signature missing or invalid")
        if sum(o["amount"] for o in body["outputs"]) != quote["amount"]:
            raise LedgerError(Code.NOT_BALANCED, "wrong sum")
        quote["issued"] = True
        return {"signatures": self._sign(body["outputs"])}

    def _signature_fits(self, quote: dict[str, Any], body: Any) -> bool:
        outputs = [BlindedMessage.model_validate(o) for o in body["outputs"]]
        form = quote_lock.message if self.accepts_new_signature else quote_lock.old_message
        signature = bytes.fromhex(body.get("signature") or "")
        return curve.verify_schnorr(bytes.fromhex(quote["pubkey"]), signature, form(quote["quote"], outputs))

    # --- melt ---------------------------------------------------------------------------------------------------

    def _new_melt_quote(self, body: Any) -> Any:
        amount_msat = bolt11.decode(body["request"]).amount_msat
        if amount_msat is None:
            amount_msat = body["options"]["amountless"]["amount_msat"]
        quote_id = f"melt-quote-{next(self._numbers)}"
        self.melts[quote_id] = {
            "quote": quote_id,
            "request": body["request"],
            "amount": (amount_msat + 999) // 1000,
            "unit": body["unit"],
            "fee_reserve": FEE_RESERVE,
            "state": "UNPAID",
            "expiry": int(time.time()) + 3600,
        }
        return self._public_melt(quote_id)

    def _public_melt(self, quote_id: str) -> Any:
        if quote_id not in self.melts:
            raise LedgerError(Code.QUOTE_REJECTED, "unknown quote")
        return {k: v for k, v in self.melts[quote_id].items() if not k.startswith("_")}

    def _melt(self, body: Any) -> Any:
        quote = self.melts[body["quote"]]
        if quote["state"] != "UNPAID":
            code = Code.QUOTE_PENDING if quote["state"] == "PENDING" else Code.INVOICE_PAID
            raise LedgerError(code, f"quote is {quote['state']}")
        points, worth = self._verify(body["inputs"])
        outputs = body.get("outputs") or []
        self._check_outputs(outputs)
        if worth < quote["amount"] + quote["fee_reserve"]:
            raise LedgerError(Code.NOT_BALANCED, "inputs too small")
        quote |= {"state": "PENDING", "_points": points, "_outputs": outputs, "_worth": worth}
        quote.pop("error", None)
        self.pending |= dict.fromkeys(points, quote["quote"])
        verdict = self.payments(quote)
        if verdict == "PAID":
            self.settle(quote["quote"])
        elif verdict == "FAILED":
            self.release(quote["quote"], None)
            raise LedgerError(Code.PAYMENT_FAILED, "no route")
        return self._public_melt(quote["quote"])

    def settle(self, quote_id: str) -> None:
        """The payment went through."""
        quote = self.melts[quote_id]
        points, outputs = quote.pop("_points"), quote.pop("_outputs")
        overpaid = quote.pop("_worth") - quote["amount"] - self.network_fee
        parts = [1 << bit for bit in range(overpaid.bit_length()) if overpaid >> bit & 1]
        blank = [output | {"amount": part} for output, part in zip(outputs, parts, strict=False)]
        quote |= {"state": "PAID", "payment_preimage": "00" * 32}
        if blank:
            quote["change"] = self._sign(blank)
        for point in points:
            del self.pending[point]
        self.spent.update(points)

    def release(self, quote_id: str, error: str | None) -> None:
        """The payment failed for good."""
        quote = self.melts[quote_id]
        for point in quote.pop("_points"):
            del self.pending[point]
        quote["state"] = "UNPAID"
        if error is not None:
            quote["error"] = error


@contextmanager
def served(mint: FakeMint) -> Iterator[str]:
    """The mint on a real socket; yields its URL. One request at a time, as the fake has no locks."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            try:
                with lock:
                    answer = mint.handle_request(httpx.Request(self.command, "http://mint" + self.path, content=body))
            except httpx.TransportError:
                answer = httpx.Response(502, text="the line is dead")
            try:
                self.send_response(answer.status_code)
                self.send_header("content-length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)
            except OSError:
                self.close_connection = True  # the client is gone, perhaps because the test killed it

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
