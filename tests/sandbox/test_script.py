"""Scripts: the things a network and a node do to payments."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

import pytest

from contrib.sandbox import (
    ON_CHAIN_TIMEOUT,
    TEMPORARY_CHANNEL_FAILURE,
    Behaviour,
    Notifications,
    Part,
    Reply,
    ReplyTime,
    RpcError,
    SandboxNode,
    SandboxTimeout,
)
from tests.sandbox.conftest import MakeNode, failure, topics


class Client:
    """A raw client of the socket."""

    def __init__(self, node: SandboxNode) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(10)
        self.socket.connect(str(node.rpc_path))

    def send(self, method: str, *, request_id: Any = 1, **params: Any) -> None:
        message = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}
        self.socket.sendall(json.dumps(message).encode())

    def receive(self) -> dict[str, Any] | None:
        """The next reply, or None when the connection is closed."""
        data = b""
        while not data.endswith(b"\n\n"):
            more = self.socket.recv(65536)
            if not more:
                return None
            data += more
        reply: dict[str, Any] = json.loads(data)
        return reply


def test_the_error_that_is_not_final(node: SandboxNode) -> None:
    """Part 1 is refused, xpay gives up with 203; part 2 is held, and is claimed afterwards."""
    invoice = node.outside_invoice(10_000)
    node.script(Behaviour(parts=(Part.failure(), Part.hold())), invoice)
    assert failure(node, "xpay", invstring=invoice.bolt11).code == 203
    assert [row["status"] for row in node.rows(invoice)] == ["failed", "pending"]
    assert node.rpc("listpays", payment_hash=invoice.payment_hash)["pays"][0]["status"] == "pending"
    node.release(invoice)
    node.wait_for_notification("sendpay_success")
    (pay,) = node.rpc("listpays", payment_hash=invoice.payment_hash)["pays"]
    assert pay["status"] == "complete"
    assert pay["amount_msat"] == 5000


def test_any_error_while_parts_are_in_flight(node: SandboxNode) -> None:
    invoice = node.outside_invoice(10_000)
    node.script(Behaviour.error_in_flight(205), invoice)
    error = failure(node, "xpay", invstring=invoice.bolt11)
    assert error.code == 205
    assert node.rows(invoice)[0]["status"] == "pending"
    node.release(invoice, ok=False)
    assert node.rows(invoice)[0]["status"] == "failed"


def test_a_retry_that_succeeds(node: SandboxNode) -> None:
    invoice = node.outside_invoice(10_000)
    node.script(Behaviour(parts=(Part.failure(TEMPORARY_CHANNEL_FAILURE), Part(retry=True, after_s=0.05))), invoice)
    paid = node.rpc("xpay", invstring=invoice.bolt11)
    assert (paid["failed_parts"], paid["successful_parts"]) == (1, 1)
    assert [row["status"] for row in node.rows(invoice)] == ["failed", "complete"]
    assert topics(node)[:6] == [
        "pay_part_start",
        "sendpay_failure",
        "pay_part_end",
        "pay_part_start",
        "sendpay_success",
        "pay_part_end",
    ]


def test_failure_on_the_way(node: SandboxNode) -> None:
    invoice = node.outside_invoice(10_000)
    node.script(Behaviour.failure(TEMPORARY_CHANNEL_FAILURE), invoice)
    error = failure(node, "xpay", invstring=invoice.bolt11)
    assert error.code == 209
    assert error.message.startswith("Failed after 1 attempts. Unexpected error (temporary_channel_failure)")


def test_on_chain_failure_can_be_read(node: SandboxNode) -> None:
    invoice = node.outside_invoice(10_000)
    node.script(Behaviour.hold(), invoice)
    running = node.rpc_soon("xpay", invstring=invoice.bolt11)
    node.wait_for_part(invoice)
    node.release(invoice, ok=False, cause=ON_CHAIN_TIMEOUT)
    with pytest.raises(RpcError):
        running.result()
    payload = node.notifications("sendpay_failure")[0].payload
    assert payload["code"] == 204
    assert payload["message"].startswith("failed: WIRE_PERMANENT_CHANNEL_FAILURE")
    assert "onionreply" not in payload["data"]


def test_success_comes_with_the_first_preimage(node: SandboxNode) -> None:
    invoice = node.outside_invoice(10_000)
    node.script(Behaviour(parts=(Part.success(), Part.hold())), invoice)
    paid = node.rpc("xpay", invstring=invoice.bolt11)
    assert paid["amount_sent_msat"] == 12_000
    assert [row["status"] for row in node.rows(invoice)] == ["complete", "pending"]
    (pay,) = node.rpc("listpays", payment_hash=invoice.payment_hash)["pays"]
    assert (pay["status"], pay["number_of_parts"], pay["amount_sent_msat"]) == ("complete", 2, 12_000)


def test_slow_mode_waits_for_all_parts(make_node: MakeNode) -> None:
    node = make_node(slow_mode=True)
    invoice = node.outside_invoice(10_000)
    node.script(Behaviour(parts=(Part.failure(), Part.hold())), invoice)
    running = node.rpc_soon("xpay", invstring=invoice.bolt11)
    node.wait_for_notification("sendpay_failure")
    time.sleep(0.1)
    assert not running.done
    node.release(invoice)
    assert running.result()["payment_preimage"] == invoice.preimage


def test_one_part_can_be_released_alone(node: SandboxNode) -> None:
    invoice = node.outside_invoice(10_000)
    node.script(Behaviour.hold(parts=2), invoice)
    running = node.rpc_soon("xpay", invstring=invoice.bolt11)
    node.wait_for_part(invoice, count=2)
    assert node.release(invoice, partid=2) == 1
    running.result()
    assert [row["status"] for row in node.rows(invoice)] == ["pending", "complete"]


def test_a_ghost_stays(node: SandboxNode) -> None:
    invoice = node.outside_invoice(10_000)
    node.script(Behaviour.ghost(), invoice)
    running = node.rpc_soon("xpay", invstring=invoice.bolt11)
    node.wait_for_part(invoice)
    assert node.rpc("listhtlcs")["htlcs"] == []
    assert node.release(invoice) == 0
    node.restart(kill=True)
    node.wait_connected()
    assert not running.done
    assert node.rows(invoice)[0]["status"] == "pending"
    assert failure(node, "xpay", invstring=invoice.bolt11).code == -3
    error = failure(node, "delpay", payment_hash=invoice.payment_hash, status="failed")
    assert error.code == 208


def test_nothing_exists_before_the_first_part(node: SandboxNode) -> None:
    invoice = node.outside_invoice(10_000)
    node.script(Behaviour(delay_s=0.3), invoice)
    running = node.rpc_soon("xpay", invstring=invoice.bolt11)
    time.sleep(0.1)
    assert node.rpc("listpays")["pays"] == []
    assert topics(node) == []
    running.result()


def test_the_connection_is_closed_instead_of_a_reply(node: SandboxNode) -> None:
    invoice = node.outside_invoice(10_000)
    node.script(Behaviour.lost_reply(Part.hold()), invoice)
    client = Client(node)
    client.send("xpay", invstring=invoice.bolt11)
    assert client.receive() is None
    assert node.rows(invoice)[0]["status"] == "pending"
    node.release(invoice)
    assert node.rows(invoice)[0]["status"] == "complete"


def test_silence(node: SandboxNode) -> None:
    invoice = node.outside_invoice(10_000)
    node.script(Behaviour.lost_reply(silent=True), invoice)
    running = node.rpc_soon("xpay", invstring=invoice.bolt11)
    node.wait_for_notification("sendpay_success")
    with pytest.raises(SandboxTimeout):
        running.result(timeout_s=0.3)


def test_a_delayed_reply(node: SandboxNode) -> None:
    invoice = node.outside_invoice(10_000)
    node.script(Behaviour(reply=Reply.truthful(delay_s=0.3)), invoice)
    running = node.rpc_soon("xpay", invstring=invoice.bolt11)
    node.wait_for_notification("sendpay_success")
    assert not running.done
    running.result()


def test_a_reply_only_when_all_is_settled(node: SandboxNode) -> None:
    invoice = node.outside_invoice(10_000)
    behaviour = Behaviour(parts=(Part.success(), Part.hold()), reply=Reply.truthful(when=ReplyTime.SETTLED))
    node.script(behaviour, invoice)
    running = node.rpc_soon("xpay", invstring=invoice.bolt11)
    node.wait_for_notification("sendpay_success")
    time.sleep(0.05)
    assert not running.done
    node.release(invoice)
    running.result()


def test_the_client_goes_away(node: SandboxNode) -> None:
    invoice = node.outside_invoice(10_000)
    node.script(Behaviour.hold(), invoice)
    client = Client(node)
    client.send("xpay", invstring=invoice.bolt11)
    client.socket.close()
    node.wait_for_part(invoice)
    node.release(invoice)
    node.wait_for_notification("pay_part_end")
    assert node.rows(invoice)[0]["status"] == "complete"


def test_notifications_can_be_dropped_repeated_and_late(node: SandboxNode) -> None:
    dropped, repeated, late = (node.outside_invoice(1000) for _ in range(3))
    node.script(Behaviour(notifications=Notifications.dropped()), dropped)
    node.rpc("xpay", invstring=dropped.bolt11)
    time.sleep(0.15)
    assert topics(node) == []
    node.script(Behaviour(notifications=Notifications(repeat=3)), repeated)
    node.rpc("xpay", invstring=repeated.bolt11)
    assert topics(node).count("sendpay_success") == 3
    node.script(Behaviour(notifications=Notifications(delay_s=0.2)), late)
    node.rpc("xpay", invstring=late.bolt11)
    assert topics(node).count("sendpay_success") == 3
    node.wait_for_notification("sendpay_success", count=4)


@pytest.mark.parametrize("after_reply", [False, True])
def test_notification_before_or_after_the_reply(node: SandboxNode, after_reply: bool) -> None:
    invoice = node.outside_invoice(1000)
    behaviour = Behaviour(reply=Reply.truthful(delay_s=0.3), notifications=Notifications(after_reply=after_reply))
    node.script(behaviour, invoice)
    client = Client(node)
    sent = time.time()
    client.send("xpay", invstring=invoice.bolt11)
    assert client.receive() is not None
    waited_s = node.wait_for_notification("sendpay_success").time - sent
    assert (waited_s >= 0.3) is after_reply
    assert node.rows(invoice)[0]["status"] == "complete"


def test_scripts_for_the_next_payment_and_several_times(node: SandboxNode) -> None:
    first, second, third = (node.outside_invoice(1000) for _ in range(3))
    node.script(Behaviour.refused(205), times=2)
    node.script(Behaviour.failure(), second)
    assert failure(node, "xpay", invstring=first.bolt11).code == 205
    assert failure(node, "xpay", invstring=second.bolt11).code == 203
    assert failure(node, "xpay", invstring=third.bolt11).code == 205
    node.rpc("xpay", invstring=third.bolt11)


def test_an_incoming_payment_nobody_is_told_of(node: SandboxNode) -> None:
    made = node.rpc("invoice", amount_msat=1000, label="a", description="")
    node.pay_invoice(made["bolt11"], notifications=Notifications.dropped())
    assert node.rpc("listinvoices", label="a")["invoices"][0]["status"] == "paid"
    assert node.notifications("invoice_payment") == []


def test_commands_of_the_sandbox_itself(node: SandboxNode) -> None:
    held = node.rpc("sandbox-invoice", amount_msat=5000, description="x", behaviour="hold")
    node.rpc_soon("xpay", invstring=held["bolt11"])
    node.wait_for_part(held["payment_hash"])
    assert node.rpc("sandbox-release", payment_hash=held["payment_hash"]) == {"released": 1}
    other = node.rpc("sandbox-invoice", amount_msat=5000)
    node.rpc("sandbox-next", behaviour="205")
    assert failure(node, "xpay", invstring=other["bolt11"]).code == 205
    node.rpc("sandbox-next", behaviour="hold")
    running = node.rpc_soon("xpay", invstring=other["bolt11"])
    node.wait_for_part(other["payment_hash"])
    assert node.rpc("sandbox-fail", payment_hash=other["payment_hash"]) == {"failed": 1}
    with pytest.raises(RpcError):
        running.result()
    made = node.rpc("invoice", amount_msat=1000, label="a", description="")
    assert node.rpc("sandbox-pay", bolt11=made["bolt11"])["pay_index"] == 1
    assert failure(node, "sandbox-next", behaviour="nonsense").code == -32602


def test_somebody_else_pays(node: SandboxNode) -> None:
    """A part of an invoice of the outside node leaves it payable, all of it does not."""
    shared, whole = node.outside_invoice(5000), node.outside_invoice(5000)
    paid = {"payment_preimage": shared.preimage, "amount_msat": 2000}
    assert node.rpc("sandbox-pay", bolt11=shared.bolt11, amount_msat=2000) == paid
    assert node.rpc("xpay", invstring=shared.bolt11)["payment_preimage"] == shared.preimage
    node.rpc("sandbox-pay", bolt11=whole.bolt11)
    assert failure(node, "xpay", invstring=whole.bolt11).code == 203
    assert failure(node, "sandbox-pay", bolt11=whole.bolt11).code == 203
