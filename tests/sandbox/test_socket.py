"""JSON-RPC on the socket."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from contrib.sandbox import Behaviour, SandboxNode
from contrib.sandbox.cli import call, read_arguments
from contrib.sandbox.jsonstream import GarbageError, JsonStream
from tests.sandbox.conftest import MakeNode
from tests.sandbox.test_script import Client


def test_pipelined_requests_are_matched_by_id(node: SandboxNode) -> None:
    client = Client(node)
    client.send("waitanyinvoice", request_id="slow", lastpay_index=0)
    client.send("getinfo", request_id="fast")
    first = client.receive()
    assert first is not None
    assert first["id"] == "fast"
    made = node.rpc("invoice", amount_msat=1, label="a", description="")
    node.pay_invoice(made["bolt11"])
    second = client.receive()
    assert second is not None
    assert second["id"] == "slow"


def test_unknown_commands_and_malformed_requests(node: SandboxNode) -> None:
    answer = call(node.rpc_path, "nosuch", {})
    assert answer["error"] == {"code": -32601, "message": "Unknown command 'nosuch'"}
    client = Client(node)
    client.socket.sendall(b'{"method":"getinfo","id":1}')
    assert (client.receive() or {})["error"]["code"] == -32600
    client.socket.sendall(b"}{")
    assert (client.receive() or {})["error"]["code"] == -32600
    assert client.receive() is None


def test_calls_are_recorded_with_their_time(node: SandboxNode) -> None:
    before = time.time()
    call(node.rpc_path, "listpays", {"payment_hash": "00" * 32})
    (made,) = node.calls("listpays")
    assert made.params == {"payment_hash": "00" * 32}
    assert before <= made.time <= time.time()
    node.rpc("listpays")
    assert len(node.calls("listpays")) == 1
    position = node.calls_position
    call(node.rpc_path, "getinfo", [])
    assert [entry.method for entry in node.calls(since=position)] == ["getinfo"]
    node.wait_for_call("getinfo")


def test_a_paused_command_stands_still(node: SandboxNode) -> None:
    node.pause_rpc("getinfo")
    client = Client(node)
    client.send("getinfo", request_id=1)
    client.send("listpays", request_id=2)
    assert (client.receive() or {})["id"] == 2
    node.resume_rpc("getinfo")
    assert (client.receive() or {})["id"] == 1


def test_a_command_can_be_made_to_fail(node: SandboxNode) -> None:
    node.fail_rpc("getinfo", -1, "told to")
    assert call(node.rpc_path, "getinfo", [])["error"] == {"code": -1, "message": "told to"}
    assert "result" in call(node.rpc_path, "getinfo", [])


def test_closing_connections_cancels_nothing(node: SandboxNode) -> None:
    invoice = node.outside_invoice(1000)
    node.script(Behaviour.success(after_s=0.2), invoice)
    client = Client(node)
    client.send("xpay", invstring=invoice.bolt11)
    node.wait_for_part(invoice)
    assert node.close_rpc_connections() == 1
    assert client.receive() is None
    node.wait_for_notification("pay_part_end")


def test_a_very_long_path(make_node: MakeNode, tmp_path: Path) -> None:
    directory = tmp_path / ("x" * 60) / ("y" * 60)
    node = make_node(directory)
    assert len(str(node.rpc_path)) > 108
    assert node.rpc_path.exists()


def test_cli(node: SandboxNode) -> None:
    command = [sys.executable, "-m", "contrib.sandbox", "cli", "--dir", str(node.directory)]

    def run(*words: str) -> tuple[int, str]:
        done = subprocess.run([*command, *words], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout

    code, text = run("sandbox-invoice", "5000", "two words")
    assert code == 0
    assert node.rpc("decode", string=json.loads(text)["bolt11"])["description"] == "two words"
    code, text = run("datastore", 'key=["a","b"]', "string=x")
    assert json.loads(text)["generation"] == 0
    code, text = run("nosuch")
    assert code == 1
    assert json.loads(text)["code"] == -32601


def test_arguments() -> None:
    assert read_arguments(["5", "x y", "[1]"]) == [5, "x y", [1]]
    assert read_arguments(["a=5", "b=x=y"]) == {"a": 5, "b": "x=y"}
    assert read_arguments([]) == []


@pytest.mark.parametrize("cut", [1, 7, 50])
def test_stream_reassembles_objects(cut: int) -> None:
    wanted = [{"a": [1, {"b": "}{"}], "c": 'ü\\" 😀'}, {"d": None, "e": True}, {}]
    data = b"\n\n".join(json.dumps(entry, ensure_ascii=cut == 7).encode() for entry in wanted) + b"\n\n"
    stream = JsonStream()
    found = [entry for at in range(0, len(data), cut) for entry in stream.feed(data[at : at + cut])]
    assert found == wanted


@pytest.mark.parametrize("garbage", [b"}", b'{"a" 1}', b"[1]{}", b"hello {}", b'{"a":1{"b":2}', b"\xff{}"])
def test_stream_refuses_garbage(garbage: bytes) -> None:
    with pytest.raises(GarbageError):
        JsonStream().feed(garbage)


@pytest.mark.parametrize(
    "harmless", [b"", b"  \n", b"hello", b'{"a":1', b'{"a":{}', b'{"a":{},"b":tr', b'{"a":{},"b":"x']
)
def test_stream_waits_where_lightningd_waits(harmless: bytes) -> None:
    assert JsonStream().feed(harmless) == []


def test_many_clients_at_once(node: SandboxNode) -> None:
    invoices = [node.outside_invoice(1000) for _ in range(50)]
    replies: list[dict[str, object]] = []

    def pay(text: str) -> None:
        replies.append(call(node.rpc_path, "xpay", {"invstring": text}))

    threads = [threading.Thread(target=pay, args=(invoice.bolt11,)) for invoice in invoices]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(replies) == 50
    assert all("result" in reply for reply in replies)
