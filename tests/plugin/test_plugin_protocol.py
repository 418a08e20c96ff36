"""The entry file as a process: what lightningd and its user see of it before there is a mint."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from plugin.options import OPTIONS
from plugin.protocol import find_id
from tests.plugin.harness import AT_ONCE_S, ENTRY_FILE, INSIDE, RawPlugin, free_port, is_free, wait_for

BARE_PYTHON = (sys.executable, "-I", "-S")
"""An interpreter that has nothing but the standard library."""


@pytest.fixture
def raw(tmp_path: Path) -> Iterator[RawPlugin]:
    """The plugin as a bare process in an empty directory."""
    with RawPlugin(tmp_path) as plugin:
        yield plugin


# --- getmanifest --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The plugin's manifest. In the end, asking for it has left no trace."""
    directory = tmp_path_factory.mktemp("manifest")
    with RawPlugin(directory) as plugin:
        yield plugin.manifest()
    assert list(directory.iterdir()) == []


def test_the_manifest_declares_every_option_as_a_string_with_its_default(manifest: dict[str, Any]) -> None:
    declared = {option["name"]: option for option in manifest["options"]}
    assert set(declared) == {option.name for option in OPTIONS}
    for option in OPTIONS:
        assert declared[option.name]["type"] == "string"
        assert declared[option.name]["default"] == option.default
        assert declared[option.name]["description"]


def test_the_manifest_declares_commands_that_a_read_only_rune_does_not_allow(manifest: dict[str, Any]) -> None:
    names = {method["name"] for method in manifest["rpcmethods"]}
    assert "cashu-info" in names
    assert all(name.startswith("cashu-") for name in names)


def test_the_manifest_subscribes_by_name_and_hooks_nothing(manifest: dict[str, Any]) -> None:
    assert set(manifest["subscriptions"]) == {
        "sendpay_success",
        "sendpay_failure",
        "invoice_payment",
        "block_added",
        "coin_movement",
        "shutdown",
    }
    assert manifest["hooks"] == []
    assert manifest["dynamic"] is True


def test_an_argument_of_lightningd_does_not_matter(tmp_path: Path) -> None:
    with RawPlugin(tmp_path, "--developer") as plugin:
        assert plugin.manifest()["options"]


# --- init ---------------------------------------------------------------------------------------------------------


def test_init_is_answered_at_once_though_the_node_does_not_answer(raw: RawPlugin) -> None:
    raw.manifest()
    begun = time.monotonic()
    raw.init(cashu_listen=f"127.0.0.1:{free_port()}")
    assert time.monotonic() - begun < 5


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RawPlugin, int]]:
    """A plugin after init, waiting for a node that does not answer, and its port."""
    port = free_port()
    with RawPlugin(tmp_path_factory.mktemp("waiting")) as plugin:
        plugin.manifest()
        plugin.init(cashu_listen=f"127.0.0.1:{port}")
        yield plugin, port


def test_after_init_the_port_is_bound_and_answers_503(waiting: tuple[RawPlugin, int]) -> None:
    response = httpx.get(f"http://127.0.0.1:{waiting[1]}/v1/info", timeout=AT_ONCE_S)
    assert response.status_code == 503
    assert response.headers["retry-after"]
    assert set(response.json()) == {"detail", "code"}


def test_before_it_is_ready_cashu_info_says_so(waiting: tuple[RawPlugin, int]) -> None:
    info = waiting[0].request("cashu-info", {})["result"]
    assert (info["state"], info["url"]) == ("starting", f"http://127.0.0.1:{waiting[1]}")


def test_before_init_cashu_info_is_an_error_without_a_traceback(raw: RawPlugin) -> None:
    raw.manifest()
    error = raw.request("cashu-info", {})["error"]
    assert error["message"] == "the mint is not running"


def test_port_0_takes_any_port_and_says_which(raw: RawPlugin) -> None:
    raw.manifest()
    raw.init(cashu_listen="127.0.0.1:0")
    url = raw.request("cashu-info", {})["result"]["url"]
    assert httpx.get(f"{url}/v1/info", timeout=AT_ONCE_S).status_code == 503


@pytest.mark.parametrize("address", ["[::1]:0", "localhost:0"])
def test_it_listens_on_other_addresses(raw: RawPlugin, address: str) -> None:
    raw.manifest()
    refusal = raw.init(cashu_listen=address)
    if refusal and "Cannot assign" in str(refusal):
        pytest.skip("this machine has no such address")
    url = raw.request("cashu-info", {})["result"]["url"]
    assert httpx.get(f"{url}/v1/info", timeout=AT_ONCE_S).status_code == 503


# --- options ------------------------------------------------------------------------------------------------------

WHOLE = ("", " 1", "-1", "+1", "1.0", "1e3", "ten", "0x10", "١", "9" * 30, "9" * 5000)
"""No whole numbers, or too large ones."""

BAD_VALUES: dict[str, tuple[Any, ...]] = {
    "cashu-listen": (
        "",
        "3338",
        ":3338",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:http",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        "300.0.0.1:3338",
        "no.such.host.invalid:3338",
        "a..b:3338",
        f"{'a' * 100}:3338",
        f"127.0.0.1:{'3' * 5000}",
    ),
    "cashu-metrics-listen": ("9339", "127.0.0.1", "127.0.0.1:port", "127.0.0.1:65536", ":9339"),
    "cashu-tls-cert": ("a\0b", "alone.pem"),
    "cashu-tls-key": ("a\0b", "alone.pem"),
    "cashu-db": ("", "a\0b", ".", "/dev/null", "/dev/null/ledger"),
    "cashu-name": ("x" * 201, "bell\a", "line\nbreak"),
    "cashu-description": ("x" * 2001, "tab\tbell\a"),
    "cashu-long-description": ("x" * 10_001, "bell\a"),
    "cashu-contact": ("me@example.org", "email:", ":me", "e mail:me", ",".join(["email:me"] * 21), "email:\a"),
    "cashu-urls": ("mint.example.org", "ftp://mint", "http://", "https://a b", "http://[", ",".join(["http://a"] * 21)),
    "cashu-icon-url": ("icon.png", "javascript:alert(1)", "https://" + "x" * 2000, "https://ü.org"),
    "cashu-tos-url": ("tos", "file:///etc/passwd"),
    "cashu-units": ("", " ", ",", "usd", "sat,eur", "sat,sat", "sat msat"),
    "cashu-input-fee-ppk": (*WHOLE, "1000001"),
    "cashu-fee-reserve-percent": ("", "lots", "-1", "100.1", "NaN", "Infinity", "1%", "1,5"),
    "cashu-methods": ("", ",", "bolt10", "bolt11,bolt11", "bolt11 bolt12"),
    "cashu-onchain-min": (*WHOLE, "0", "999"),
    "cashu-onchain-confirmations": (*WHOLE, "0", "101"),
    "cashu-onchain-expiry-days": (*WHOLE, "3651"),
    "cashu-fee-reserve-min": WHOLE,
    "cashu-min-mint": (*WHOLE, "1000001"),
    "cashu-max-mint": WHOLE,
    "cashu-min-melt": (*WHOLE, "1000001"),
    "cashu-max-melt": WHOLE,
    "cashu-sync-wait": (*WHOLE, "3601"),
    "cashu-async-grace-ms": (*WHOLE, "60001"),
    "cashu-max-pending-melts": (*WHOLE, "0"),
    "cashu-maxdelay": (*WHOLE, "0", "2017"),
    "cashu-max-pending": WHOLE,
    "cashu-max-outstanding": WHOLE,
    "cashu-retry-for": (*WHOLE, "0", "3601"),
    "cashu-rate-limit": (*WHOLE, "1000001"),
    "cashu-rate-limit-local": (*WHOLE, "1000001"),
    "cashu-trusted-proxies": (
        "localhost",
        "127.0.0.1:80",
        "127.0.0.1/8",
        "10.0.0.0/33",
        "::1 ::2",
        "127.0.0.1;::1",
        ",".join(["::1"] * 101),
    ),
    "cashu-icon": ("a\0b", ".", "no-such.png", "/dev/null"),
    "cashu-operator-page": ("maybe", "2"),
}


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RawPlugin]:
    """A plugin that is asked to init again and again, and refuses each time."""
    with RawPlugin(tmp_path_factory.mktemp("options")) as plugin:
        plugin.manifest()
        yield plugin


def test_a_bad_value_is_tried_for_every_option() -> None:
    assert set(BAD_VALUES) == {option.name for option in OPTIONS}


@pytest.mark.parametrize("name", list(BAD_VALUES))
def test_a_bad_value_disables_the_plugin_with_a_sentence_that_names_the_option(tried: RawPlugin, name: str) -> None:
    for value in BAD_VALUES[name]:
        heard = len(tried.messages)
        port = {} if name == "cashu-listen" else {"cashu_listen": f"127.0.0.1:{free_port()}"}
        options: dict[str, Any] = {**port, name: value}
        answer = tried.init(**options)
        assert isinstance(answer, dict), f"{name}={value!r} was accepted"
        assert name in answer["disable"]
        assert len(answer["disable"]) < 400
        assert "Traceback" not in answer["disable"]
        assert "set_int_max_str_digits" not in answer["disable"], "a hint for programmers of Python"
        said = [message["params"] for message in tried.messages[heard:]]
        assert [line for line in said if line["level"] == "broken"] == []
        # lightningd says why a plugin disables itself at level `debug`, which nodes don't keep.
        assert [line for line in said if line["level"] == "unusual" and answer["disable"] in line["message"]]


@pytest.mark.parametrize("what", ["mint", "melt"])
def test_a_minimum_above_the_maximum_disables_the_plugin(tried: RawPlugin, what: str) -> None:
    bounds = {f"cashu_min_{what}": "10", f"cashu_max_{what}": "9"}
    answer = tried.init(**{"cashu_listen": f"127.0.0.1:{free_port()}", **bounds})
    assert f"cashu-min-{what}=10 is above cashu-max-{what}=9" in answer["disable"]


# --- its end ------------------------------------------------------------------------------------------------------


def test_the_end_of_stdin_ends_the_process_and_frees_the_port(raw: RawPlugin) -> None:
    port = free_port()
    raw.manifest()
    raw.init(cashu_listen=f"127.0.0.1:{port}")
    raw.end()
    assert raw.process.returncode == 0
    assert is_free(port)


def test_the_end_of_stdin_before_init_ends_the_process(raw: RawPlugin) -> None:
    raw.manifest()
    raw.end()
    assert raw.process.returncode == 0


@pytest.mark.parametrize(
    "request_head",
    [
        b"POST /v1/swap HTTP/1.1\r\nHost: mint\r\nContent-Length: 1000\r\n\r\n{",
        b"GET /v1/ws HTTP/1.1\r\nHost: mint\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        b"GET /v1/in",
    ],
    ids=["half a body", "websocket", "half a line"],
)
def test_open_connections_do_not_delay_the_end(raw: RawPlugin, request_head: bytes) -> None:
    port = free_port()
    raw.manifest()
    raw.init(cashu_listen=f"127.0.0.1:{port}")
    wait_for(lambda: not is_free(port), "the port to be bound")
    sockets = [_connect(port, request_head) for _ in range(5)]
    raw.end()
    assert is_free(port)
    for sock in sockets:
        sock.close()


def _connect(port: int, data: bytes) -> Any:
    import socket

    sock = socket.create_connection(("127.0.0.1", port), AT_ONCE_S)
    sock.sendall(data)
    return sock


def test_the_shutdown_notification_ends_the_process(raw: RawPlugin) -> None:
    raw.manifest()
    raw.init(cashu_listen=f"127.0.0.1:{free_port()}")
    assert raw.process.stdin is not None
    raw.process.stdin.write('{"jsonrpc":"2.0","method":"shutdown","params":{}}\n\n')
    raw.process.stdin.flush()
    assert raw.process.wait(AT_ONCE_S) == 0


def test_stdout_carries_the_protocol_and_nothing_else(tmp_path: Path) -> None:
    plan = tmp_path / "inside.json"
    plan.write_text('{"print": ["plugin.commands.status:describe"]}')
    with RawPlugin(tmp_path, PYTHONPATH=str(INSIDE), NUTBOLT_INSIDE=str(plan)) as plugin:
        plugin.manifest()
        plugin.init(cashu_listen=f"127.0.0.1:{free_port()}")
        assert plugin.request("cashu-info", {})["result"]["state"] == "starting"
        rest, errors = plugin.end()
    assert "stray" not in rest
    assert "a stray print" in errors
    assert "stray bytes on descriptor 1" in errors


# --- without lightningd, without dependencies ---------------------------------------------------------------------


def without_lightningd() -> dict[str, str]:
    """The environment of somebody who tries it out by hand."""
    return {name: value for name, value in os.environ.items() if not name.startswith("LIGHTNINGD")}


def test_run_by_hand_it_tells_what_it_is_and_ends(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, str(ENTRY_FILE)],
        cwd=tmp_path,
        env=without_lightningd(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0
    for option in OPTIONS:
        assert option.name in ran.stdout + ran.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def lonely(tmp_path: Path) -> Path:
    """The entry file without a virtual environment beside it."""
    (tmp_path / "node").mkdir()
    return Path(shutil.copy(ENTRY_FILE, tmp_path))


def test_without_its_dependencies_it_disables_itself_and_says_what_to_do(lonely: Path) -> None:
    with RawPlugin(lonely.parent / "node", command=(*BARE_PYTHON, str(lonely))) as plugin:
        reason = plugin.manifest()["disable"]
    assert sys.executable in reason
    for name in ("pyln", "apsw", "coincurve", "quart"):
        assert name in reason
    assert "pip install" in reason


def test_without_its_dependencies_and_by_hand_it_says_the_same_and_fails(lonely: Path) -> None:
    ran = subprocess.run(
        [*BARE_PYTHON, str(lonely)],
        env=without_lightningd(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode != 0
    assert "pip install" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_without_its_dependencies_it_uses_the_environment_beside_it(lonely: Path) -> None:
    python = lonely.parent / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "{\\"jsonrpc\\":\\"2.0\\",\\"method\\":\\"ran\\",\\"params\\":[\\"$1\\"]}"\n')
    python.chmod(0o755)
    ran = subprocess.run(
        [*BARE_PYTHON, str(lonely)],
        env={**without_lightningd(), "LIGHTNINGD_PLUGIN": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert str(lonely) in ran.stdout


def test_a_refused_command_is_answered_with_a_code_and_a_sentence_only(raw: RawPlugin) -> None:
    raw.manifest()
    raw.init(cashu_listen=f"127.0.0.1:{free_port()}")
    assert set(raw.request("cashu-pause", {"what": "everything"})["error"]) == {"code", "message"}
    assert set(raw.request("cashu-rotate", {"unit": "eur"})["error"]) == {"code", "message"}


@pytest.mark.parametrize(
    "params", ["[" + "9" * 5000 + "]", '{"id": ' + "[" * 100_000 + "]" * 100_000 + "}"], ids=["digits", "depth"]
)
@pytest.mark.parametrize("first", ["id", "params"])
def test_parameters_that_can_not_be_read_are_refused_and_nothing_ends(raw: RawPlugin, params: str, first: str) -> None:
    raw.manifest()
    raw.init(cashu_listen=f"127.0.0.1:{free_port()}")
    known, unreadable = '"id": "it#1", "method": "cashu-info"', f'"params": {params}'
    parts = [known, unreadable] if first == "id" else [unreadable, known]
    answer = raw.answer_to('{"jsonrpc": "2.0", ' + ", ".join(parts) + "}", "it#1")
    assert answer["error"]["code"] == -32602
    assert "result" in raw.request("cashu-info", {})


@pytest.mark.parametrize(
    ("payload", "found"),
    [
        (b'{"id": "a#1", "params": {}}', "a#1"),
        (b'{"params": {"id": "no"}, "id": 7}', 7),
        (b'{"x": "\\"id\\": 3", "y": ["id", "id"], "id": "a\\u0041"}', "aA"),
        (b'{"id": ["no"]}', None),
        (b'{"method": "x"}', None),
        (b'["id", 3]', None),
        (b"{", None),
        (b"", None),
    ],
)
def test_the_id_of_a_request_is_found_without_reading_the_rest(payload: bytes, found: object) -> None:
    assert find_id(payload) == found
