"""The mint behind the reverse proxies of `contrib`, with their configurations as they stand there: HTTPS, HTTP/2,
headers, WebSockets, and whose request it is. Each is skipped where its program is missing."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from ledger.errors import Code
from plugin.http.limits import REQUESTS
from tests.plugin.certificates import make_certificate
from tests.plugin.harness import AT_ONCE_S, PATIENCE_S, Mint, free_port, running, wait_for
from tests.protocol.helpers import CORS

CONTRIB = Path(__file__).resolve().parents[2] / "contrib"
GRANTED = REQUESTS.burst // 100
TRIES = 5 * GRANTED
NAME = "mint.example"

NGINX = """
daemon off;
master_process off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {site};
}}
"""


def substituted(text: str, *pairs: tuple[str, str]) -> str:
    """The text with places of this machine; each must be in it."""
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new)
    return text


def own_address() -> str | None:
    """An address of this machine that is not of the loopback interface."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))  # nothing is sent
        except OSError:
            return None
        address = str(sock.getsockname()[0])
    return None if address.startswith("127.") else address


@dataclass
class Proxied:
    """A mint behind a proxy."""

    program: str
    mint: Mint
    port: int
    certificate: Path

    def client(self, address: str = "127.0.0.1", **options: Any) -> httpx.Client:
        """Somebody who comes from this address of the machine, to the same."""

        def name_it(request: httpx.Request) -> None:
            request.extensions["sni_hostname"] = NAME

        return httpx.Client(
            base_url=f"https://{address}:{self.port}",
            headers={"host": f"{NAME}:{self.port}"},
            event_hooks={"request": [name_it]},
            verify=ssl.create_default_context(cafile=str(self.certificate)),
            timeout=PATIENCE_S,
            **options,
        )


def nginx(folder: Path, port: int, mint_port: int, certificate: Path, key: Path) -> list[str]:
    site = folder / "site.conf"
    site.write_text(
        substituted(
            (CONTRIB / "nginx" / "nutbolt.conf").read_text(),
            ("    listen [::]:443 ssl http2;\n", ""),
            ("listen 443 ", f"listen 0.0.0.0:{port} "),
            ("    server 127.0.0.1:3338;", f"    server 127.0.0.1:{mint_port};"),
            ("server_name mint.example.com;", "server_name _;"),
            ("/etc/letsencrypt/live/mint.example.com/fullchain.pem", str(certificate)),
            ("/etc/letsencrypt/live/mint.example.com/privkey.pem", str(key)),
        )
    )
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, site=site))
    return ["nginx", "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")]


def caddy(folder: Path, port: int, mint_port: int, certificate: Path, key: Path) -> list[str]:
    content = substituted(
        (CONTRIB / "caddy" / "Caddyfile").read_text(),
        ("reverse_proxy 127.0.0.1:3338", f"reverse_proxy 127.0.0.1:{mint_port}"),
        ("mint.example.com {", f"https://{NAME}:{port} {{\n\ttls {certificate} {key}"),
        ("http://:3380", f"http://:{free_port()}"),
    )
    (folder / "Caddyfile").write_text("{\n\tadmin off\n\tauto_https disable_redirects\n}\n" + content)
    return ["caddy", "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]


PROXIES: dict[str, tuple[Callable[..., list[str]], str]] = {
    "nginx": (nginx, "127.0.0.2"),
    "caddy": (caddy, "127.0.0.1"),
}
"""How each is started, and from which address it comes."""


@contextmanager
def started(command: list[str], folder: Path, port: int) -> Iterator[None]:
    environment = {"HOME": str(folder), "PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output)

    def listens() -> bool:
        assert process.poll() is None, (folder / "output").read_text()
        try:
            socket.create_connection(("127.0.0.1", port), AT_ONCE_S).close()
        except OSError:
            return False
        return True

    try:
        wait_for(listens, f"{command[0]} to listen")
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


@pytest.fixture(scope="module", params=list(PROXIES))
def proxied(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    """A mint behind each proxy, with a hundredth of the ordinary budgets, but for who comes from this machine."""
    program = request.param
    if shutil.which(program) is None and shutil.which(program, path="/usr/sbin") is None:
        pytest.skip(f"{program} is not on PATH")
    make, comes_from = PROXIES[program]
    folder = tmp_path_factory.mktemp(program)
    certificate, key = make_certificate(folder, NAME)
    mint = Mint(
        tmp_path_factory.mktemp("node"), rate_limit=1, rate_limit_local=0, trusted_proxies=comes_from, max_pending=5
    )
    with running(mint):
        port = free_port()
        with started(make(folder, port, mint.port, certificate, key), folder, port):
            yield Proxied(program, mint, port, certificate)


def test_wallets_get_what_the_mint_answers_with_its_headers(proxied: Proxied) -> None:
    with proxied.client() as client:
        answer = client.get("/v1/keys", headers={"origin": "https://wallet.example"})
        assert answer.status_code == 200
        assert answer.json() == proxied.mint.http.get("/v1/keys").json()
        assert answer.headers[CORS] == "*"
        assert answer.headers["content-encoding"] == "gzip"
        assert client.options("/v1/swap").status_code in (200, 204)
        assert client.post("/v1/swap", json={}).json().keys() == {"detail", "code"}


def test_http2_ends_at_the_proxy(proxied: Proxied) -> None:
    with proxied.client(http2=True) as client:
        answers = [client.get("/v1/info") for _ in range(3)]
    assert [(answer.status_code, answer.http_version) for answer in answers] == [(200, "HTTP/2")] * 3


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v1/swap", Code.TOO_MANY_INPUTS),
        ("/v1/melt/bolt11", Code.TOO_MANY_INPUTS),
        ("/v1/mint/bolt11", Code.TOO_MANY_OUTPUTS),
        ("/v1/checkstate", Code.REQUEST_REJECTED),
    ],
)
def test_a_body_that_is_too_large_is_refused_in_words_that_wallets_understand(
    proxied: Proxied, path: str, code: Code
) -> None:
    """nginx would get a connection reset, and tell a 502, from a mint that answers before it has read everything."""
    if proxied.program != "nginx":
        pytest.skip("only nginx is told to say it itself")
    with proxied.client() as client:
        answer = client.post(path, content=b"{" + b" " * 1_500_000 + b"}")
    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers[CORS] == "*"


def test_websockets_pass(proxied: Proxied) -> None:
    mint = proxied.mint
    with proxied.client() as client:
        quote = client.post("/v1/mint/quote/bolt11", json={"amount": 8, "unit": "sat"}).json()
    call = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "subscribe",
        "params": {"kind": "bolt11_mint_quote", "subId": "s", "filters": [quote["quote"]]},
    }
    trusting = ssl.create_default_context(cafile=str(proxied.certificate))
    with (
        socket.create_connection(("127.0.0.1", proxied.port), AT_ONCE_S) as sock,
        connect(f"wss://{NAME}:{proxied.port}/v1/ws", sock=sock, ssl=trusting, open_timeout=AT_ONCE_S) as websocket,
    ):
        websocket.send(json.dumps(call))
        assert json.loads(websocket.recv(AT_ONCE_S))["result"]["status"] == "OK"
        mint.node.pay_invoice(quote["request"])
        states = []
        while "PAID" not in states:
            states.append(json.loads(websocket.recv(PATIENCE_S))["params"]["payload"]["state"])


def test_each_client_has_its_own_budget_whatever_it_says_that_it_is(proxied: Proxied) -> None:
    address = own_address()
    if address is None:
        pytest.skip("this machine has only its loopback interface")

    def statuses(address: str) -> list[int]:
        with proxied.client(address) as client:
            lies = [{"x-forwarded-for": f"198.51.100.{n}", "forwarded": f"for=198.51.100.{n}"} for n in range(TRIES)]
            return [client.get("/v1/info", headers=lie).status_code for lie in lies]

    far, here = statuses(address), statuses("127.0.0.1")
    assert set(far[:GRANTED]) == {200}
    assert far[-1] == 429
    assert set(here) == {200}, "who comes from this machine has another budget"
