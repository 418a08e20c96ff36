"""A mint's info as wallets need it that are older than batches (NUT-29) and on-chain payments (NUT-30): everything else
is passed on."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx

HEAD_END = b"\r\n\r\n"
CHUNK = 1 << 16
ONCHAIN = "onchain"


@contextmanager
def without_batches(url: str) -> Iterator[str]:
    """The same mint, but its info tells nothing of batches and on-chain payments: gives the URL."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_serve, args=(server, url), daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


def _serve(server: socket.socket, url: str) -> None:
    with suppress(OSError):
        while True:
            client, _ = server.accept()
            threading.Thread(target=_answer, args=(client, url), daemon=True).start()


def _answer(client: socket.socket, url: str) -> None:
    """One request: the info is made here, everything else is passed on."""
    with client, suppress(OSError):
        data = b""
        while HEAD_END not in data:
            if not (more := client.recv(CHUNK)):
                return
            data += more
        if data.startswith(b"GET /v1/info "):
            client.sendall(_info(url))
            return
        head, _, body = data.partition(HEAD_END)
        if b"\r\nupgrade:" not in head.lower():  # else another request may follow on this connection
            head += b"\r\nConnection: close"
        address = httpx.URL(url)
        with socket.create_connection((address.host, address.port or 80)) as mint:
            mint.sendall(head + HEAD_END + body)
            threading.Thread(target=_pump, args=(client, mint), daemon=True).start()
            _pump(mint, client)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(CHUNK):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


def _info(url: str) -> bytes:
    info = httpx.get(f"{url}/v1/info").json()
    nuts = info["nuts"]
    replayed = nuts["19"]["cached_endpoints"]
    nuts["19"]["cached_endpoints"] = [e for e in replayed if e["path"].rpartition("/")[2] not in ("batch", ONCHAIN)]
    for nut, member in (("4", "methods"), ("5", "methods"), ("17", "supported")):
        nuts[nut][member] = [entry for entry in nuts[nut][member] if entry["method"] != ONCHAIN]
    body = json.dumps(info).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close"
    return head.encode() + HEAD_END + body
