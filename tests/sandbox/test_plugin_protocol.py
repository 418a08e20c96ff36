"""What a plugin is told, and what it is killed for."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from contrib.sandbox import RpcError, SandboxError, SandboxNode
from contrib.sandbox.cli import call
from tests.sandbox.conftest import FAKE_PLUGIN, MakeNode, failure


def test_init(make_node: MakeNode, tmp_path: Path) -> None:
    node = make_node(plugin=FAKE_PLUGIN, options={"fake-number": "7", "fake-switch": "true"}, version="v25.12")
    seen = node.rpc("fake-seen")
    assert seen["options"] == {"fake-init": "", "fake-number": 7, "fake-switch": True}
    assert seen["environment"] == {"LIGHTNINGD_PLUGIN": "1", "LIGHTNINGD_VERSION": "v25.12"}
    directory = str(tmp_path / "node" / "regtest")
    assert seen["cwd"] == directory
    configuration = seen["configuration"]
    assert configuration["lightning-dir"] == directory
    assert (configuration["rpc-file"], configuration["network"]) == ("lightning-rpc", "regtest")
    assert set(configuration["feature_set"]) == {"init", "node", "channel", "invoice"}
    assert node.rpc("getinfo")["version"] == "v25.12"
    (started,) = node.notifications("plugin_started")
    assert started.payload["plugin_name"] == "fake_plugin.py"
    assert started.delivered


def test_the_plugins_commands_are_the_nodes_commands(plugged: SandboxNode) -> None:
    assert plugged.rpc("fake-echo", first=1, second="x") == {"first": 1, "second": "x"}
    answer = call(plugged.rpc_path, "fake-echo", ["by position"])
    assert answer["result"] == {"first": "by position", "second": None}
    error = failure(plugged, "fake-error")
    assert (error.code, error.message) == (1234, "told to")
    assert plugged.rpc("fake-rpc", method="getinfo")["id"] == plugged.id
    assert [entry.method for entry in plugged.calls()] == ["fake-echo", "getinfo"]
    commands = [entry["command"] for entry in plugged.rpc("help")["help"]]
    assert any(line.startswith("fake-echo first [second]") for line in commands)
    assert "invoice amount_msat label description [expiry]" in " ".join(commands)


def test_a_dying_plugin_fails_its_commands(plugged: SandboxNode) -> None:
    running = plugged.rpc_soon("fake-slow")
    time.sleep(0.2)
    plugged.kill_plugin()
    with pytest.raises(RpcError) as caught:
        running.result()
    assert (caught.value.code, caught.value.message) == (-4, "Plugin terminated before replying to RPC call.")
    assert failure(plugged, "fake-slow").code == -32601
    assert plugged.notifications("plugin_stopped")


def test_disable(make_node: MakeNode) -> None:
    node = make_node(plugin=FAKE_PLUGIN, options={"fake-init": "disable"})
    assert node.plugin_disabled == "told to"
    assert not node.plugin_active
    assert failure(node, "fake-seen").code == -32601


def test_disable_in_the_manifest(make_node: MakeNode, tmp_path: Path) -> None:
    plugin = tmp_path / "unwilling.py"
    plugin.write_text(
        "import json\n"
        "request = json.loads(input())\n"
        "print(json.dumps({'jsonrpc': '2.0', 'id': request['id'], 'result': {'disable': 'not today'}}), flush=True)\n",
        encoding="utf-8",
    )
    node = make_node(plugin=plugin)
    assert node.plugin_disabled == "not today"
    assert not node.plugin_active


@pytest.mark.parametrize("text", ["import sys; sys.exit('last words')", "raise ValueError('last words')"])
def test_a_plugin_that_ends_while_starting(tmp_path: Path, text: str) -> None:
    plugin = tmp_path / "short_lived.py"
    plugin.write_text(text, encoding="utf-8")
    with pytest.raises(SandboxError, match=r"ended with code 1 while it was starting:(.|\n)*last words"):
        SandboxNode(tmp_path, plugin=plugin).start()


def test_an_error_in_init_leaves_it_active(make_node: MakeNode) -> None:
    node = make_node(plugin=FAKE_PLUGIN, options={"fake-init": "raise"})
    assert node.plugin_disabled is None
    assert node.plugin_active


def test_unknown_options_stop_the_node(tmp_path: Path) -> None:
    node = SandboxNode(tmp_path, plugin=FAKE_PLUGIN, options={"no-such": "1"})
    with pytest.raises(SandboxError, match="no option no-such"):
        node.start()
    node.options.clear()
    node.start()
    node.stop()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a":1}', 'JSON-RPC message does not contain "jsonrpc" field'),
        ('{"a" 1}', "Failed to parse RPC JSON"),
        ('{"jsonrpc":"2.0","method":"foo"}', 'missing "method" or "params"'),
        ('{"jsonrpc":"2.0","method":"log","params":{"message":5}}', 'doesn\'t have a string "message" field'),
    ],
)
def test_garbage_on_stdout_kills(plugged: SandboxNode, text: str, reason: str) -> None:
    plugged.rpc("fake-garbage", text=text)
    assert plugged.wait_for_plugin_exit() == -9
    assert reason in (plugged.plugin_kill_reason or "")
    assert plugged.wait_for_log("Killing plugin").level == "unusual"


def test_a_stray_word_kills_with_the_next_message(plugged: SandboxNode) -> None:
    plugged.rpc("fake-garbage", text="hello")
    time.sleep(0.2)
    assert plugged.plugin_active
    assert failure(plugged, "fake-seen").code == -4
    assert "hello" in (plugged.plugin_kill_reason or "")


def test_undeclared_topics_are_only_logged(plugged: SandboxNode) -> None:
    plugged.rpc("fake-garbage", text='{"jsonrpc":"2.0","method":"foo","params":{}}')
    plugged.wait_for_log('topic "foo" it hasn\'t declared')
    assert plugged.plugin_active


@pytest.mark.parametrize(("level", "shown"), [("info", "info"), ("warn", "unusual"), ("BROKEN", "broken")])
def test_log_levels(plugged: SandboxNode, level: str, shown: str) -> None:
    plugged.rpc("fake-log", message="one\ntwo", level=level)
    assert plugged.wait_for_log("fake_plugin.py: two").level == shown
    assert len(plugged.notifications("warning")) == (0 if level == "info" else 2)


@pytest.mark.parametrize("level", ["warning", "io", "nonsense"])
def test_unknown_log_levels_kill(plugged: SandboxNode, level: str) -> None:
    plugged.rpc("fake-log", message="x", level=level)
    assert plugged.wait_for_plugin_exit() == -9
    assert f'Unknown log-level "{level}"' in (plugged.plugin_kill_reason or "")


def test_stderr_is_kept(plugged: SandboxNode) -> None:
    assert plugged.wait_for_log("a line on stderr").level == "stderr"


def test_settings_at_run_time_are_sent_as_strings(plugged: SandboxNode) -> None:
    plugged.rpc("setconfig", config="fake-switch", val="true")
    assert plugged.rpc("listconfigs", config="fake-switch")["configs"]["fake-switch"]["value_bool"] == "true"
    assert failure(plugged, "setconfig", config="fake-number", val="1").code == -32602


def test_the_nodes_own_method_names_are_taken(tmp_path: Path) -> None:
    plugin = tmp_path / "clashing.py"
    text = FAKE_PLUGIN.read_text(encoding="utf-8").replace('@plugin.method("fake-seen")', '@plugin.method("getinfo")')
    plugin.write_text(text, encoding="utf-8")
    with pytest.raises(SandboxError, match="method getinfo is one of the node's"):
        SandboxNode(tmp_path, plugin=plugin).start()


def test_only_subscribed_topics_are_delivered(plugged: SandboxNode) -> None:
    assert plugged.notify("block_added", {"hash": "00", "height": 1})
    assert not plugged.notify("channel_state_changed", {})
    plugged.add_block()
    plugged.wait_until(lambda: len(plugged.rpc("fake-heard")["heard"]) >= 2)
    topics = [topic for topic, _ in plugged.rpc("fake-heard")["heard"]]
    assert topics == ["plugin_started", "block_added", "block_added"]


def test_plugin_command(plugged: SandboxNode) -> None:
    (entry,) = plugged.rpc("plugin", subcommand="list")["plugins"]
    assert entry == {"name": str(FAKE_PLUGIN), "active": True, "dynamic": True}
    assert plugged.rpc("plugin", subcommand="stop", plugin="fake_plugin.py")["result"] == (
        "Successfully stopped fake_plugin.py."
    )
    assert failure(plugged, "plugin", subcommand="stop", plugin="fake_plugin.py").code == -32602
    assert plugged.rpc("plugin", subcommand="start", plugin=str(FAKE_PLUGIN))["plugins"][0]["active"] is True
    error = failure(plugged, "plugin", subcommand="start", plugin="/nonexist")
    assert error.message == "/nonexist is not executable: No such file or directory"


def test_a_plugin_that_ignores_eof_is_noticed(make_node: MakeNode) -> None:
    node = make_node(plugin=FAKE_PLUGIN, env={"FAKE_STUBBORN": "1"}, plugin_exit_timeout_s=0.5)
    pid = node.plugin_pid
    assert pid is not None
    node.restart()
    node.wait_for_log("did not exit 0.5 s after EOF")
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
