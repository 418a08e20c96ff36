"""What fuzzing begins with: the NUTs' own vectors, and a few things that nobody would come upon by chance."""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from contrib.fuzz import targets
from contrib.sandbox import psbts
from plugin.node.psbt import Input, Outpoint, Output, Transaction
from plugin.options import OPTIONS

VECTORS = Path(__file__).resolve().parents[2] / "tests" / "vectors"
POINT = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
KEYSET = "009a1f293253e41e"
OUTPUT = {"amount": 8, "id": KEYSET, "B_": POINT}
PROOF = {"amount": 8, "id": KEYSET, "secret": "abc", "C": POINT, "witness": "{}"}
BODIES: tuple[dict[str, Any], ...] = (
    {"inputs": [PROOF, PROOF], "outputs": [OUTPUT]},
    {"quote": "01a2", "outputs": [OUTPUT], "signature": "00" * 64},
    {"quotes": ["a", "b"], "quote_amounts": [8, 8], "outputs": [OUTPUT], "signatures": [None, "00" * 64]},
    {"quote": "01a2", "inputs": [PROOF], "outputs": [OUTPUT], "prefer_async": True, "fee_index": 0},
    {"Ys": [POINT]},
    {"outputs": [OUTPUT]},
    {"quotes": ["a"]},
    {"amount": 8, "unit": "sat", "description": "x", "pubkey": POINT},
    {"request": "lnbc1", "unit": "sat", "options": {"amountless": {"amount_msat": 1}, "mpp": {"amount": 1}}},
    {"request": "bcrt1q", "unit": "sat", "amount": 8},
)
DICTIONARY = (
    *("P2PK", "HTLC", "nonce", "data", "tags", "sigflag", "SIG_ALL", "SIG_INPUTS", "pubkeys", "n_sigs", "locktime"),
    *("refund", "n_sigs_refund", "preimage", "signatures", "inputs", "outputs", "amount", "secret", "witness", "quote"),
    *("jsonrpc", "2.0", "subscribe", "unsubscribe", "params", "kind", "subId", "filters", "proof_state"),
    *("bolt11_mint_quote", "bolt12_melt_quote", "onchain_melt_quote", POINT, "9223372036854775808", "1e999", "NaN"),
    *("GET ", "POST ", " HTTP/1.1\\x0d\\x0a", "Host: m\\x0d\\x0a", "Content-Length: ", "Transfer-Encoding: chunked"),
    *("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: ", "Sec-WebSocket-Version: 13", "Expect: "),
    *("/v1/swap", "/v1/keys", "/v1/ws", "/v1/checkstate", "/v1/mint/quote/bolt11", "\\x0d\\x0a\\x0d\\x0a"),
    *("for=", "[::1]:80", "127.0.0.1", "10.0.0.1", "_hidden", "\\xff\\xff\\xff\\xff", "psbt\\xff"),
)


STUCK = (
    "UE9QU09TVCAvdjEvc3dhcCBIVFRQLzEuMQ0KSG9zdDogbQ0KQ29udGVudC1MZW5ndGg6IDE3Mw0KDQp7InVvdGUiMDI3L2JvbAAAAAAA2gAAZT"
    "I4ZDk1R0VUIC92MTlmMjgxJzViL3dzIEhUVFAvMS4xDQpIb3N0OiBtDQpDb25uZWN0aW9uOiBVcGcxNmY4MTc5OCJyYWRlDQpVcGdyYWRlOiB3"
    "ZWJzb2NrZXQNClNlYy1XZWJTb2NrZXQtVmV9XSwgInByZWZlcl9yc2lvbjogMTMNClNlYy1XZWJTb2NrZXQtS2V5OiBkR2hsSUhOaGJYQnNaU0"
    "J1YjI1alpRPT0NClNlYy1XZWJTb2NrZXQtRXh0ZW5zaW9uczogcGVybWVzc2FnZS1kZWZsYXRlDQphZXINCgAAgYEBAQFfAAABAAB5"
)
"""A connection that never ended: what came after the answer to its first request waited for leave to be read."""


def write(target: str, corpus: Path) -> None:
    """Write a target's seeds into a directory."""
    for number, seed in enumerate(_of(target)):
        (corpus / f"seed-{number}").write_bytes(seed)


def write_dictionary(path: Path) -> None:
    """Write the words that all targets know."""
    path.write_text("".join(f'"{word}"\n' for word in DICTIONARY))


def _of(target: str) -> Iterator[bytes]:
    match target:
        case "requests":
            known = json.dumps(BODIES).replace(KEYSET, keyset_id())
            bodies = [*json.loads(known), *BODIES, *_objects("inputs"), *_objects("outputs")]
            for number in range(14):
                yield from (bytes([number]) + json.dumps(body).encode() for body in bodies)
        case "spending":
            for proof in [PROOF, *_objects("secret")]:
                text = proof.get("witness") or ""
                yield f"{proof['secret']}\n{text if isinstance(text, str) else json.dumps(text)}".encode()
        case "subscriptions":
            params = {"kind": "proof_state", "subId": "a", "filters": [POINT]}
            calls = [{"jsonrpc": "2.0", "id": 1, "method": "subscribe", "params": params}, *_objects("jsonrpc")]
            calls.append({"jsonrpc": "2.0", "id": "x", "method": "unsubscribe", "params": {"subId": "a"}})
            yield from (json.dumps(call).encode() for call in calls)
            yield b"\n".join(json.dumps(call).encode() for call in calls)
        case "transactions":
            yield from _transactions()
        case "proxies":
            yield b'203.0.113.9, 198.51.100.1:80, 10.1.2.3\nfor="[2001:db8::1]:80";proto=https, for=10.0.0.1'
        case "options":
            yield from (bytes([number]) + option.default.encode() for number, option in enumerate(OPTIONS))
        case "http":
            yield from _connections()


def keyset_id() -> str:
    """The keyset of the targets' ledger, whose seed is known."""
    with tempfile.TemporaryDirectory() as directory:
        keyset = targets.empty_ledger(Path(directory)).keysets.active("sat")
        assert keyset is not None
        return keyset.id


def _connections() -> Iterator[bytes]:
    yield base64.b64decode(STUCK)
    yield from (f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode() for host in (".m", "a" * 64, "[::1]:80", "é"))
    for path in (
        "/v1/info",
        "/v1/keys",
        "/v1/keysets",
        "/v1/mint/quote/bolt11/x",
        "/openapi.json",
        "http://m/v1/keys",
        "/",
    ):
        yield f"GET {path} HTTP/1.1\r\nHost: m\r\nAccept-Encoding: gzip\r\nPrefer: respond-async\r\n\r\n".encode()
    for path in (
        "swap",
        "checkstate",
        "restore",
        "mint/bolt11",
        "mint/quote/bolt11",
        "melt/bolt11",
        "mint/quote/bolt11/check",
    ):
        for body in BODIES:
            text = json.dumps(body).encode()
            yield f"POST /v1/{path} HTTP/1.1\r\nHost: m\r\nContent-Length: {len(text)}\r\n\r\n".encode() + text
    yield b"POST /v1/swap HTTP/1.1\r\nHost: m\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nA: b\r\n\r\n"
    upgrade = (
        b"GET /v1/ws HTTP/1.1\r\nHost: m\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    )
    upgrade += b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
    for frame in (b'{"jsonrpc":"2.0","id":1,"method":"subscribe"}', b"x"):
        yield upgrade + frame
        for opcode in (b"\x81", b"\x82", b"\x01", b"\x88", b"\x89"):
            yield upgrade + b"\0\0" + opcode + bytes([0x80 | len(frame), 1, 1, 1, 1]) + bytes(b ^ 1 for b in frame)


def _transactions() -> Iterator[bytes]:
    keyhash, taproot = b"\x00\x14" + b"\x01" * 20, b"\x51\x20" + b"\x02" * 32
    source = Transaction(2, (Input(Outpoint(bytes(32), 0), 0),), (Output(10_000, taproot), Output(5, keyhash)), 0)
    spends = tuple(Input(Outpoint(source.txid, vout), 0) for vout in range(2))
    tx = Transaction(2, spends, (Output(9_000, keyhash), Output(900, taproot)), 800)
    raw = source.serialize()
    yield raw
    yield tx.serialize((((b"s" * 64),), (b"d" * 71, b"k" * 33)))
    yield bytes(80) + b"\x02" + raw + tx.serialize()
    for text in (
        psbts.unsigned(tx, [raw, raw], source.outputs),
        psbts.signed(tx, [raw, raw], source.outputs, bytes(32)),
        psbts.lone_output(Output(9_000, keyhash)),
    ):
        yield text.encode()


def _objects(name: str) -> list[dict[str, Any]]:
    """Every object in the vectors that has this member."""
    found: list[dict[str, Any]] = []

    def look(content: Any) -> None:
        if isinstance(content, dict):
            if name in content:
                found.append(content)
            for value in content.values():
                look(value)
        elif isinstance(content, list):
            for value in content:
                look(value)

    for path in sorted(VECTORS.glob("*.json")):
        look(json.loads(path.read_text()))
    return found
