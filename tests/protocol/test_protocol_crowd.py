"""WebSocket clients that are many, slow, or mean: they are held back or dropped, and nobody else notices."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from tests.plugin.harness import AT_ONCE_S, PATIENCE_S, Mint, Purse, wait_for
from tests.protocol.helpers import MINT_QUOTE, PROOF_STATE, Socket, locked_proofs, ok, random_ys, swap_body

MAX_CONNECTIONS = 4
CONSTANTS = {
    "plugin.http.subscriptions:MAX_CONNECTIONS": MAX_CONNECTIONS,
    "plugin.http.connection:SEND_TIMEOUT_S": 1,
}
MEGABYTE = 1024 * 1024
BEARABLE_GROWTH = 64 * MEGABYTE
FLOOD = 300 * MEGABYTE
TEXT, CONTINUATION, PING, FINAL, MASKED = 0x1, 0x0, 0x9, 0x80, 0x80
FRAMES_AT_ONCE = 10_000


T = TypeVar("T")


class NoRoomError(Exception):
    """The mint has accepted no connection."""


class RawSocket:
    """A WebSocket by hand, which need not answer, nor read, nor end what it begins."""

    def __init__(self, mint: Mint, receive_buffer: int | None = None) -> None:
        self._socket = socket.socket()
        if receive_buffer is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.settimeout(PATIENCE_S)
        self._socket.connect(("127.0.0.1", mint.port))
        key = base64.b64encode(b"sixteen bytes ..").decode()
        lines = ("Host: x", "Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {key}")
        request = "\r\n".join(("GET /v1/ws HTTP/1.1", *lines, "Sec-WebSocket-Version: 13", "", ""))
        self._socket.sendall(request.encode())
        if self._socket.recv(12) != b"HTTP/1.1 101":
            self._socket.close()
            raise NoRoomError

    def send(self, data: bytes, opcode: int = TEXT | FINAL, timeout_s: float = PATIENCE_S) -> None:
        """A frame. Raises TimeoutError if the mint does not take it."""
        size = len(data)
        if size < 126:
            length = bytes([MASKED | size])
        elif size < 1 << 16:
            length = bytes([MASKED | 126]) + struct.pack(">H", size)
        else:
            length = bytes([MASKED | 127]) + struct.pack(">Q", size)
        self._socket.settimeout(timeout_s)
        self._socket.sendall(bytes([opcode]) + length + bytes(4) + data)

    def send_bytes(self, data: bytes) -> None:
        """What may be several frames. Raises OSError once the mint has closed the connection."""
        self._socket.sendall(data)

    def takes(self, *frames: bytes) -> bool:
        """Send these; whether the mint is still there."""
        try:
            for frame in frames:
                self.send(frame)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """End it."""
        self._socket.close()


def memory(mint: Mint) -> int:
    """Resident memory of the plugin, in bytes."""
    status = Path(f"/proc/{mint.node.plugin_pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


def connected(make: Callable[[], T], why: str = "a place") -> T:
    """Connect as soon as there is room."""

    def attempt() -> T | None:
        try:
            return make()
        except (InvalidStatus, NoRoomError):
            return None

    found = wait_for(attempt, why)
    assert found is not None
    return found


def subscription(filters: list[str], name: str) -> bytes:
    """A frame that subscribes to proofs."""
    params = {"kind": PROOF_STATE, "subId": name, "filters": filters}
    return json.dumps({"jsonrpc": "2.0", "id": name, "method": "subscribe", "params": params}).encode()


def end_of(name: str) -> bytes:
    """A frame that unsubscribes."""
    return json.dumps({"jsonrpc": "2.0", "id": name, "method": "unsubscribe", "params": {"subId": name}}).encode()


def assert_others_are_served(mint: Mint, purse: Purse, other: Socket) -> None:
    """A change reaches another client, and HTTP is answered."""
    quote = purse.request_mint(8)
    other.subscribe(MINT_QUOTE, [quote.quote], quote.quote)
    assert other.next().payload["state"] == "UNPAID"
    mint.node.pay_invoice(quote.request)
    assert other.next().payload["state"] == "PAID"
    assert mint.status() == 200


def test_connections_are_limited_and_leave_room_when_they_end(mint: Mint, purse: Purse) -> None:
    sockets = [Socket(mint) for _ in range(MAX_CONNECTIONS)]
    with pytest.raises(InvalidStatus):
        Socket(mint)
    assert_others_are_served(mint, purse, sockets[0])
    sockets[1].close()
    sockets[1] = connected(lambda: Socket(mint), "the place of one that said goodbye")
    sockets[2].vanish()
    sockets[2] = connected(lambda: Socket(mint), "the place of one that vanished")
    for each in sockets:
        each.close()


def test_a_reader_with_too_many_messages_waiting_is_dropped_and_others_go_on(mint: Mint, purse: Purse) -> None:
    slow = connected(lambda: RawSocket(mint, receive_buffer=4096))
    others = [connected(lambda: Socket(mint)) for _ in range(MAX_CONNECTIONS - 1)]
    ys = random_ys(1000)
    for turn in range(100):
        if not slow.takes(*(make(str(number)) for make in (partial(subscription, ys), end_of) for number in range(10))):
            break
        assert_others_are_served(mint, purse, others[turn % len(others)])
    assert_dropped(mint, purse, slow, others)


def test_a_reader_that_takes_nothing_is_dropped_and_others_go_on(mint: Mint, purse: Purse) -> None:
    """Few messages, but long ones: they fill every buffer on the way."""
    slow = connected(lambda: RawSocket(mint, receive_buffer=4096))
    others = [connected(lambda: Socket(mint)) for _ in range(MAX_CONNECTIONS - 1)]
    y = spent_with_a_long_witness(purse)
    for _ in range(2000):
        slow.takes(subscription([y], "long"), end_of("long"))
    assert_dropped(mint, purse, slow, others)


def assert_dropped(mint: Mint, purse: Purse, slow: RawSocket, others: list[Socket]) -> None:
    """Its place is free, its connection ends though it does nothing for that, and the others are served."""
    connected(lambda: Socket(mint), "the place of the one that does not read").close()
    wait_for(lambda: not slow.takes(end_of("nothing")), "the mint to hang up")
    slow.close()
    for other in others:
        assert_others_are_served(mint, purse, other)
        other.close()


def spent_with_a_long_witness(purse: Purse) -> str:
    """The `Y` of a proof that was spent with the longest witness there can be."""
    preimage = "2a" * 32
    lock = {"nonce": "long", "data": hashlib.sha256(bytes.fromhex(preimage)).hexdigest()}
    (proof,) = locked_proofs(purse, json.dumps(["HTLC", lock]))
    body = swap_body(purse, [proof])
    body["inputs"][0]["witness"] = json.dumps({"preimage": preimage}).ljust(8192)
    ok(purse.mint.http.post("/v1/swap", json=body))
    return proof.y


def test_a_message_without_end_is_not_collected(mint: Mint, purse: Purse) -> None:
    """From a client that is asked to close, and goes on."""
    other = connected(lambda: Socket(mint))
    endless = connected(lambda: RawSocket(mint))
    before = memory(mint)
    endless.send(b" ", opcode=TEXT)
    piece = b" " * MEGABYTE
    for _ in range(FLOOD // MEGABYTE):
        try:
            endless.send(piece, opcode=CONTINUATION, timeout_s=5)
        except OSError:
            break
    assert memory(mint) - before < BEARABLE_GROWTH
    assert_others_are_served(mint, purse, other)
    endless.close()
    other.close()


@pytest.mark.parametrize("opcode", [CONTINUATION, PING], ids=["pieces of a message", "pings"])
def test_empty_frames_without_end_are_not_taken(mint: Mint, purse: Purse, opcode: int) -> None:
    """They cost time and no memory: whoever sends many at once is disconnected."""
    other = connected(lambda: Socket(mint))
    flooding = connected(lambda: RawSocket(mint))
    if opcode == CONTINUATION:
        flooding.send(b" ", opcode=TEXT)
    frames = bytes([opcode | (FINAL if opcode == PING else 0), MASKED, 0, 0, 0, 0]) * FRAMES_AT_ONCE
    with pytest.raises(ConnectionError):
        for _ in range(FLOOD // len(frames)):
            flooding.send_bytes(frames)
    assert_others_are_served(mint, purse, other)
    flooding.close()
    other.close()


def test_calls_faster_than_they_are_handled_wait_outside(mint: Mint, purse: Purse) -> None:
    other = connected(lambda: Socket(mint))
    flooding = connected(lambda: RawSocket(mint))
    before = memory(mint)
    work = subscription([*random_ys(999), "02" + "ff" * 32], "never")
    for _ in range(FLOOD // len(work)):
        try:
            flooding.send(work, timeout_s=1)
        except OSError:
            break
    assert memory(mint) - before < BEARABLE_GROWTH
    assert_others_are_served(mint, purse, other)
    flooding.close()
    places = [connected(lambda: Socket(mint), "its place") for _ in range(MAX_CONNECTIONS - 1)]
    for each in (other, *places):
        each.close()


def test_a_connection_that_its_client_has_closed_is_closed(mint: Mint) -> None:
    """Not kept for the time for which the mint would have waited for another request."""

    def open_files() -> int:
        return len(list(Path(f"/proc/{mint.node.plugin_pid}/fd").iterdir()))

    before = open_files()
    for _ in range(50):
        assert httpx.get(f"{mint.url}/v1/keysets").status_code == 200
    wait_for(lambda: open_files() < before + 10, "the connections to be closed", AT_ONCE_S)


def test_who_does_not_wait_for_the_handshake_takes_no_place_for_ever(mint: Mint) -> None:
    """Frames that come before the connection is accepted end it, at once and for good."""
    lines = ("Host: x", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
    head = "\r\n".join(("GET /v1/ws HTTP/1.1", *lines, "Sec-WebSocket-Version: 13", "", "")).encode()
    for _ in range(5 * MAX_CONNECTIONS):
        with socket.create_connection(("127.0.0.1", mint.port), AT_ONCE_S) as early:
            early.sendall(head + b"\x81\x81\0\0\0\0a")
            early.settimeout(AT_ONCE_S)
            while early.recv(4096):
                pass
    others = [connected(partial(RawSocket, mint), "a place for another one") for _ in range(MAX_CONNECTIONS)]
    for other in others:
        other.close()
    mint.check()


@pytest.mark.parametrize("version", [b"13", b"12"])
def test_a_websocket_that_is_refused_is_closed(mint: Mint, version: bytes) -> None:
    """Not kept until its client goes."""
    head = b"GET /v1/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    with socket.create_connection(("127.0.0.1", mint.port), AT_ONCE_S) as refused:
        refused.sendall(head + b"Sec-WebSocket-Version: " + version + b"\r\n\r\n")
        assert refused.recv(12) == b"HTTP/1.1 400"
        while refused.recv(4096):
            pass


def test_a_slow_http_client_does_not_keep_others_waiting(mint: Mint) -> None:
    """Headers and bodies that never come are waited for, beside everything else."""
    waiting = [socket.create_connection(("127.0.0.1", mint.port)) for _ in range(20)]
    for number, each in enumerate(waiting):
        each.sendall(
            b"POST /v1/swap HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n" + (b"\r\n{" if number % 2 else b"")
        )
    for _ in range(3):
        assert httpx.get(f"{mint.url}/v1/info").status_code == 200
    for each in waiting:
        each.close()
