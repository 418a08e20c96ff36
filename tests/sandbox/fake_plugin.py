"""A small plugin to try the stand-in with: it records what it hears and does what it is told."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from pyln.client import Plugin, RpcException

plugin = Plugin(autopatch=False)
heard: list[tuple[str, Any]] = []
seen: dict[str, Any] = {}


@plugin.init()
def init(options: dict[str, Any], configuration: dict[str, Any], plugin: Plugin, **_: Any) -> Any:
    """Remember what the node says; refuse to start, or fail, if an option wants that."""
    seen.update(options=options, configuration=configuration, cwd=str(Path.cwd()))
    seen["environment"] = {name: value for name, value in os.environ.items() if name.startswith("LIGHTNINGD")}
    mode = options.get("fake-init", "")
    if mode == "disable":
        return {"disable": "told to"}
    if mode == "raise":
        raise RuntimeError("told to")
    plugin.log("fake plugin is up", "info")
    return None


@plugin.method("fake-seen")
def fake_seen() -> dict[str, Any]:
    """What the plugin was told at init."""
    return seen


@plugin.method("fake-heard")
def fake_heard() -> dict[str, Any]:
    """The notifications so far."""
    return {"heard": heard}


@plugin.method("fake-echo")
def fake_echo(first: Any, second: Any = None) -> dict[str, Any]:
    """What it is called with."""
    return {"first": first, "second": second}


@plugin.method("fake-rpc")
def fake_rpc(method: str, params: Any = None) -> Any:
    """Ask the node something."""
    rpc: Any = plugin.rpc
    return rpc.call(method, params or {})


@plugin.method("fake-error")
def fake_error() -> None:
    """Fail."""
    raise RpcException("told to", 1234)


@plugin.method("fake-slow")
def fake_slow() -> dict[str, Any]:
    """Never answer in time."""
    time.sleep(60)
    return {}


@plugin.method("fake-garbage")
def fake_garbage(text: str) -> dict[str, Any]:
    """Write something on the protocol that does not belong there."""
    threading.Timer(0.05, lambda: os.write(1, text.encode())).start()
    return {}


@plugin.method("fake-log")
def fake_log(message: str, level: str) -> dict[str, Any]:
    """Log at any level."""
    line = {"jsonrpc": "2.0", "method": "log", "params": {"level": level, "message": message}}
    threading.Timer(0.05, lambda: os.write(1, json.dumps(line).encode() + b"\n\n")).start()
    return {}


def listen(topic: str) -> None:
    """Record a topic; leave on shutdown."""

    def handler(plugin: Plugin, **payload: Any) -> None:
        payload.pop("request", None)
        heard.append((topic, payload))
        if topic == "shutdown":
            plugin.log("fake plugin heard shutdown", "info")
            os._exit(0)

    plugin.add_subscription(topic, handler)


for name in (
    "sendpay_success",
    "sendpay_failure",
    "invoice_payment",
    "coin_movement",
    "pay_part_start",
    "pay_part_end",
    "connect",
    "block_added",
    "plugin_started",
):
    listen(name)
if os.environ.get("FAKE_SHUTDOWN") == "1":
    listen("shutdown")
plugin.add_option("fake-init", "", "what init does")
plugin.add_option("fake-number", 5, "a number", opt_type="int")
plugin.add_option("fake-switch", False, "a switch", opt_type="bool", dynamic=True)
plugin.add_option("fake-unset", None, "has no default")
if os.environ.get("FAKE_STUBBORN") == "1":
    threading.Thread(target=time.sleep, args=(3600,)).start()
print("a line on stderr", file=sys.stderr)
plugin.run()
