"""Node and plugin going down and coming back."""

from __future__ import annotations

import time

import pytest

from contrib.sandbox import Behaviour, RpcError, SandboxError, SandboxNode
from tests.sandbox.conftest import FAKE_PLUGIN, MakeNode, failure
from tests.sandbox.test_script import Client


@pytest.mark.parametrize("kill", [False, True])
@pytest.mark.parametrize("ok", [True, False])
@pytest.mark.parametrize("while_down", [True, False])
def test_a_part_in_flight_over_a_restart(plugged: SandboxNode, kill: bool, ok: bool, while_down: bool) -> None:
    invoice = plugged.outside_invoice(10_000)
    plugged.script(Behaviour.hold(), invoice)
    client = Client(plugged)
    client.send("xpay", invstring=invoice.bolt11)
    plugged.wait_for_part(invoice)
    before = plugged.rows(invoice)[0]
    plugged.go_down(kill=kill)
    try:
        assert client.receive() is None
    except ConnectionResetError:
        assert kill
    if while_down:
        plugged.release(invoice, ok=ok)
    start = plugged.notifications_position
    plugged.come_up()
    assert plugged.rows(invoice) == [before]
    assert failure(plugged, "xpay", invstring=invoice.bolt11).code == 205
    plugged.wait_connected()
    if not while_down:
        assert failure(plugged, "xpay", invstring=invoice.bolt11).code == -3
        plugged.release(invoice, ok=ok)
    topic = "sendpay_success" if ok else "sendpay_failure"
    news = plugged.wait_for_notification(topic, since=start)
    assert news.delivered
    data = news.payload if ok else news.payload["data"]
    assert (data["groupid"], data["partid"]) == (before["groupid"], 1)
    time.sleep(0.2)
    since = [entry.topic for entry in plugged.notifications(since=start)]
    assert since.count(topic) == 1
    assert since.count("coin_movement") == int(ok)
    assert "pay_part_end" not in since
    assert plugged.rows(invoice)[0]["status"] == ("complete" if ok else "failed")


def test_htlcs_stay_listed_while_the_channel_is_not_back(make_node: MakeNode) -> None:
    node = make_node(reconnect_delay_s=None)
    invoice = node.outside_invoice(10_000)
    node.script(Behaviour.hold(), invoice)
    node.rpc_soon("xpay", invstring=invoice.bolt11)
    node.wait_for_part(invoice)
    node.restart()
    (channel,) = node.rpc("listpeerchannels")["channels"]
    assert (channel["peer_connected"], "reestablished" in channel) == (False, False)
    assert len(channel["htlcs"]) == 1
    node.set_channel(connected=True)
    assert node.rpc("listpeerchannels")["channels"][0]["reestablished"] is True
    node.wait_for_notification("connect")


def test_a_part_in_flight_over_the_end_of_the_sandbox(make_node: MakeNode) -> None:
    node = make_node()
    held, slow = node.outside_invoice(10_000), node.outside_invoice(10_000)
    node.script(Behaviour.hold(), held)
    node.script(Behaviour.success(after_s=0.5), slow)
    for invoice in (held, slow):
        node.rpc_soon("xpay", invstring=invoice.bolt11)
        node.wait_for_part(invoice)
    spendable = node.rpc("listpeerchannels")["channels"][0]["spendable_msat"]
    node.stop()
    again = make_node()
    assert again.rpc("listpeerchannels")["channels"][0]["spendable_msat"] == spendable
    assert again.rows(held)[0]["status"] == "pending"
    assert again.release(held) == 1
    assert again.rows(held)[0]["payment_preimage"] == held.preimage
    again.wait_for_notification("sendpay_success", count=2)
    assert again.rows(slow)[0]["status"] == "complete"


def test_a_node_killed_at_once_leaves_a_ghost(make_node: MakeNode) -> None:
    node = make_node(ghost_window_s=0.3)
    old, young = node.outside_invoice(10_000), node.outside_invoice(10_000)
    for invoice in (old, young):
        node.script(Behaviour.hold(), invoice)
        node.rpc_soon("xpay", invstring=invoice.bolt11)
        node.wait_for_part(invoice)
        if invoice is old:
            time.sleep(0.4)
    node.restart(kill=True)
    node.wait_connected()
    assert [htlc["payment_hash"] for htlc in node.rpc("listhtlcs")["htlcs"]] == [old.payment_hash]
    assert [row["status"] for row in node.rpc("listsendpays")["payments"]] == ["pending", "pending"]
    assert (node.release(young), node.release(old)) == (0, 1)


def test_restart_command(plugged: SandboxNode) -> None:
    pid = plugged.plugin_pid
    client = Client(plugged)
    client.send("sandbox-restart", kill=True)
    assert (client.receive() or {})["result"] == {"restarting": True}
    plugged.wait_until(lambda: plugged.plugin_active and plugged.plugin_pid != pid)


def test_init_says_whether_the_node_is_starting(plugged: SandboxNode) -> None:
    assert plugged.rpc("fake-seen")["configuration"]["startup"] is True
    plugged.kill_plugin()
    assert not plugged.plugin_active
    assert plugged.wait_for_plugin_exit() == -9
    plugged.start_plugin()
    assert plugged.rpc("fake-seen")["configuration"]["startup"] is False
    plugged.restart()
    assert plugged.rpc("fake-seen")["configuration"]["startup"] is True


def test_payments_go_on_without_the_plugin(plugged: SandboxNode) -> None:
    invoice = plugged.outside_invoice(1000)
    plugged.script(Behaviour.hold(), invoice)
    plugged.rpc_soon("xpay", invstring=invoice.bolt11)
    plugged.wait_for_part(invoice)
    plugged.stop_plugin()
    plugged.release(invoice)
    assert not plugged.notifications("sendpay_success")[0].delivered
    plugged.start_plugin()
    assert "sendpay_success" not in [topic for topic, _ in plugged.rpc("fake-heard")["heard"]]


def test_shutdown_is_for_those_who_want_it(make_node: MakeNode) -> None:
    node = make_node(plugin=FAKE_PLUGIN, env={"FAKE_SHUTDOWN": "1"})
    node.restart()
    node.wait_for_log("fake plugin heard shutdown")
    position = node.log_position
    node.restart(kill=True)
    node.wait_for_log("fake plugin is up", since=position)
    assert not [line for line in node.log(since=position) if "heard shutdown" in line.message]
    position = node.log_position
    node.stop_plugin()
    node.wait_for_log("fake plugin heard shutdown", since=position)


def test_stopping_a_plugin_that_does_not_listen_kills_it(plugged: SandboxNode) -> None:
    plugged.stop_plugin()
    assert plugged.wait_for_plugin_exit() == -9


def test_the_plugin_can_be_killed_with_the_node(plugged: SandboxNode) -> None:
    pid = plugged.plugin_pid
    plugged.restart(kill=True, kill_plugin=True)
    assert plugged.plugin_active
    assert plugged.plugin_pid != pid


def test_stop_command(plugged: SandboxNode) -> None:
    client = Client(plugged)
    client.send("stop")
    assert (client.receive() or {})["result"] == {"result": "Shutdown complete"}
    plugged.wait_for_plugin_exit()
    with pytest.raises(OSError, match=r"refused|No such file"):
        Client(plugged)


def test_waiting_commands_do_not_survive(node: SandboxNode) -> None:
    client = Client(node)
    client.send("waitanyinvoice")
    node.wait_for_call("waitanyinvoice")
    node.restart()
    made = node.rpc("invoice", amount_msat=1, label="a", description="")
    assert node.pay_invoice(made["bolt11"])["pay_index"] == 1
    assert node.rpc("waitanyinvoice", lastpay_index=0)["label"] == "a"


def test_only_one_sandbox_in_a_directory(make_node: MakeNode) -> None:
    node = make_node()
    with pytest.raises(SandboxError, match="another sandbox is running"):
        SandboxNode(node.directory).start()


def test_rpc_on_a_stopped_node_is_an_error(make_node: MakeNode) -> None:
    node = make_node()
    node.stop()
    with pytest.raises(SandboxError):
        node.rpc("getinfo")
    node.stop()


def test_xpay_in_progress_is_never_answered_after_a_restart(node: SandboxNode) -> None:
    invoice = node.outside_invoice(1000)
    node.script(Behaviour(delay_s=0.2), invoice)
    node.rpc_soon("xpay", invstring=invoice.bolt11)
    node.restart(kill=True)
    time.sleep(0.4)
    assert node.rows(invoice) == []
    assert isinstance(failure(node, "waitinvoice", label="none"), RpcError)
