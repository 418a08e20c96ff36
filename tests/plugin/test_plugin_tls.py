"""HTTPS at the mint's own port: certificates that can and can't be used, their renewal, and clients that misbehave."""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from plugin.http import tls
from tests.plugin.certificates import make_certificate
from tests.plugin.harness import AT_ONCE_S, Mint, RawPlugin, free_port, wait_for

CONSTANTS = {
    "plugin.http.tls:LOOK_EVERY_S": 0.1,
    "plugin.http.tls:HANDSHAKE_S": 2,
    "plugin.http.connection:SEND_TIMEOUT_S": 0.5,
}


def trust(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate))


class Secure:
    """A mint with HTTPS, and who asks it."""

    def __init__(self, mint: Mint, certificate: Path) -> None:
        self.mint = mint
        self.certificate = certificate
        self.url = f"https://127.0.0.1:{mint.port}"

    def status(self) -> int:
        """Of /v1/info; 0 if it can't be had by HTTPS with this certificate."""
        try:
            return httpx.get(f"{self.url}/v1/info", verify=trust(self.certificate), timeout=AT_ONCE_S).status_code
        except httpx.TransportError:
            return 0

    def shown(self) -> bytes:
        """The certificate that a new connection gets."""
        pem = ssl.get_server_certificate(("127.0.0.1", self.mint.port), timeout=AT_ONCE_S)
        return ssl.PEM_cert_to_DER_cert(pem)

    def handshake(self, context: ssl.SSLContext) -> ssl.SSLSocket:
        """A connection."""
        raw = socket.create_connection(("127.0.0.1", self.mint.port), AT_ONCE_S)
        return context.wrap_socket(raw, server_hostname="127.0.0.1")


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    certificate, key = make_certificate(tmp_path_factory.mktemp("certificates"))
    mint = Mint(tmp_path_factory.mktemp("node"), tls_cert=str(certificate), tls_key=str(key))
    mint.change_inside(constants=CONSTANTS)
    made = Secure(mint, certificate)
    mint.node.start()
    try:
        assert mint.node.plugin_disabled is None, mint.node.plugin_disabled
        wait_for(lambda: made.status() == 200, "the mint to be ready")
        yield made
    finally:
        mint.stop()
    mint.check()


def test_with_a_certificate_it_speaks_https_only(secure: Secure) -> None:
    assert secure.mint.info()["url"] == secure.url
    assert secure.mint.status() == 0, "no plain HTTP"
    with secure.handshake(trust(secure.certificate)) as connection:
        assert connection.version() in ("TLSv1.2", "TLSv1.3")
    assert secure.status() == 200


def test_http2_is_not_offered(secure: Secure) -> None:
    context = trust(secure.certificate)
    context.set_alpn_protocols(["h2", "http/1.1"])
    with secure.handshake(context) as connection:
        assert connection.selected_alpn_protocol() == "http/1.1"


def test_websockets_go_over_tls(secure: Secure) -> None:
    quote = httpx.post(
        f"{secure.url}/v1/mint/quote/bolt11", json={"amount": 8, "unit": "sat"}, verify=trust(secure.certificate)
    ).json()["quote"]
    call = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "subscribe",
        "params": {"kind": "bolt11_mint_quote", "subId": "s", "filters": [quote]},
    }
    address = secure.url.replace("https", "wss") + "/v1/ws"
    with connect(address, ssl=trust(secure.certificate), open_timeout=AT_ONCE_S) as websocket:
        websocket.send(json.dumps(call))
        assert json.loads(websocket.recv(AT_ONCE_S))["result"]["status"] == "OK"


def test_a_renewed_certificate_is_used_without_a_restart(secure: Secure) -> None:
    before = secure.shown()
    with secure.handshake(trust(secure.certificate)) as open_before:
        make_certificate(secure.certificate.parent)
        wait_for(lambda: secure.shown() != before, "the renewed certificate")
        assert secure.status() == 200
        open_before.sendall(b"GET /v1/info HTTP/1.1\r\nHost: mint\r\n\r\n")
        assert open_before.recv(12) == b"HTTP/1.1 200"
    secure.mint.node.wait_for_log("new connections get the renewed certificate")


def test_while_the_renewed_one_can_not_be_used_the_old_one_stays(secure: Secure, tmp_path: Path) -> None:
    folder, before = secure.certificate.parent, secure.shown()
    other, _ = make_certificate(tmp_path, "other")
    secure.certificate.write_bytes(other.read_bytes())
    secure.mint.node.wait_for_log("the renewed certificate can't be used.*not the key")
    assert secure.shown() == before
    make_certificate(folder)
    wait_for(lambda: secure.status() == 200 and secure.shown() != before, "the renewed certificate")


def test_who_speaks_no_tls_or_never_ends_the_handshake_is_cut_off_in_silence(secure: Secure) -> None:
    with ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_connection(("127.0.0.1", secure.mint.port), AT_ONCE_S)) for _ in range(4)
        ]
        sockets[0].sendall(b"GET /v1/info HTTP/1.1\r\nHost: mint\r\n\r\n")
        sockets[1].sendall(b"\x16\x03\x01\x00")
        sockets[2].sendall(bytes(1000))
        for sock in sockets:
            _read_to_the_end(sock)
    assert secure.status() == 200


def test_one_that_leaves_without_farewell_leaves_no_trace(secure: Secure) -> None:
    heard = len(secure.mint.node.log())
    for _ in range(3):
        connection = secure.handshake(trust(secure.certificate))
        connection.sendall(b"GET /v1/keys HTTP/1.1\r\nHost: mint\r\n\r\n")
        connection.shutdown(socket.SHUT_RDWR)
        connection.close()
    with secure.handshake(trust(secure.certificate)) as connection:
        connection.sendall(b"GET /v1/keys HTTP/1.1\r\nHost: mint\r\nConnection: close\r\n\r\n")
        assert connection.recv(12) == b"HTTP/1.1 200"
        time.sleep(1.5)  # the server says farewell, waits for ours in vain, and cuts the connection off
    assert secure.status() == 200
    said = [line for line in secure.mint.node.log()[heard:] if line.level in ("unusual", "broken")]
    assert said == []


def _read_to_the_end(sock: socket.socket) -> None:
    sock.settimeout(AT_ONCE_S)
    try:
        while sock.recv(4096):
            pass
    except ConnectionError:
        pass


def test_more_handshakes_than_allowed_are_not_begun(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tls, "MAX_HANDSHAKES", 2)
    context = tls.Tls(*make_certificate(tmp_path)).context

    def begin() -> ssl.SSLObject:
        return context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)

    first, second = begin(), begin()
    with pytest.raises(ssl.SSLError, match="2 handshakes are under way"):
        begin()
    context.over(first)
    third = begin()
    with pytest.raises(ssl.SSLError):
        begin()
    del third  # it has failed: nobody tells
    fourth = begin()
    monkeypatch.setattr(tls, "HANDSHAKE_S", -1)  # however long ago it began, it is too long
    assert begin() not in (second, fourth)


# --- certificates that can't be used ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Files of all kinds, and a plugin that is asked to use them."""
    folder = tmp_path_factory.mktemp("bad")
    make_certificate(folder)
    make_certificate(folder, "other")
    make_certificate(folder, "locked", password=b"secret")
    (folder / "text").write_text("no PEM at all")
    (folder / "broken").write_text("-----BEGIN CERTIFICATE-----\nno base64\n-----END CERTIFICATE-----\n")
    (folder / "folder").mkdir()
    (folder / "empty").touch()
    with RawPlugin(folder) as plugin:
        plugin.manifest()
        yield plugin


@pytest.mark.parametrize(
    ("certificate", "key", "words"),
    [
        ("none.pem", "mint.key", ["cashu-tls-cert=", "none.pem", "No such file"]),
        ("mint.pem", "none.key", ["cashu-tls-key=", "none.key", "No such file"]),
        ("folder", "mint.key", ["cashu-tls-cert=", "no file"]),
        ("text", "mint.key", ["cashu-tls-cert=", "no certificate"]),
        ("mint.pem", "empty", ["cashu-tls-key=", "no private key"]),
        ("mint.key", "mint.pem", ["cashu-tls-cert=", "no certificate"]),
        ("broken", "mint.key", ["cashu-tls-cert=", "OpenSSL"]),
        ("mint.pem", "other.key", ["cashu-tls-key=", "other.key", "not the key"]),
        ("locked.pem", "locked.key", ["cashu-tls-key=", "encrypted"]),
        ("mint.pem", "", ["cashu-tls-key is not"]),
        ("", "mint.key", ["cashu-tls-cert is not"]),
    ],
)
def test_what_can_not_be_used_disables_the_plugin_with_a_sentence(
    bad: RawPlugin, certificate: str, key: str, words: list[str]
) -> None:
    port = free_port()
    answer = bad.init(cashu_listen=f"127.0.0.1:{port}", cashu_tls_cert=certificate, cashu_tls_key=key)
    for word in words:
        assert word in answer["disable"]
    assert "Traceback" not in answer["disable"]
    assert not [m for m in bad.messages if m["params"]["level"] == "broken"]
