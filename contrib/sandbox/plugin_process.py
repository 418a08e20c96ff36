"""The plugin as a child process: the protocol on its stdin and stdout, and the ways in which it dies."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from contrib.sandbox.errors import PLUGIN_TERMINATED, RpcError, SandboxError
from contrib.sandbox.jsonstream import GarbageError, JsonStream, dump

LOG_LEVELS = {
    "trace": "trace",
    "debug": "debug",
    "info": "info",
    "warn": "unusual",
    "unusual": "unusual",
    "error": "broken",
    "broken": "broken",
}
"""Levels a plugin may log with, and how the node calls them. Any other gets the plugin killed."""

STARTUP_TIMEOUT_S = 120.0
_READ_BYTES = 1 << 16


class State(StrEnum):
    """Where in its life a plugin is."""

    STARTING = "starting"
    ACTIVE = "active"
    DISABLED = "disabled"
    DEAD = "dead"


class Host(Protocol):
    """What the plugin needs of its node."""

    def log(self, level: str, source: str, message: str) -> None: ...

    def plugin_notified(self, plugin: PluginProcess, topic: str, params: Any) -> None: ...

    def plugin_died(self, plugin: PluginProcess) -> None: ...

    def flush(self) -> None: ...


@dataclass
class Manifest:
    """What a plugin says of itself."""

    options: dict[str, dict[str, Any]] = field(default_factory=dict)
    methods: dict[str, dict[str, Any]] = field(default_factory=dict)
    subscriptions: frozenset[str] = frozenset()
    hooks: tuple[str, ...] = ()
    topics: frozenset[str] = frozenset()
    dynamic: bool = False
    disable: str | None = None

    def wants(self, topic: str) -> bool:
        """Whether the plugin has subscribed to a topic; "*" is everything but `log`."""
        return topic in self.subscriptions or ("*" in self.subscriptions and topic != "log")

    @classmethod
    def read(cls, result: dict[str, Any]) -> Manifest:
        """From the answer to getmanifest."""
        return cls(
            options={option["name"]: option for option in result.get("options", [])},
            methods={method["name"]: method for method in result.get("rpcmethods", [])},
            subscriptions=frozenset(result.get("subscriptions", [])),
            hooks=tuple(hook["name"] if isinstance(hook, dict) else hook for hook in result.get("hooks", [])),
            topics=frozenset(topic["method"] for topic in result.get("notifications", [])),
            dynamic=bool(result.get("dynamic", False)),
            disable=result.get("disable"),
        )


class PluginProcess:
    """One run of the plugin."""

    def __init__(self, host: Host, path: Path, directory: Path, version: str, extra_env: dict[str, str]) -> None:
        self.path = path
        self.state = State.STARTING
        self.manifest = Manifest()
        self.exit_code: int | None = None
        self.kill_reason: str | None = None
        self.stopped = False
        """Whether somebody has stopped it on purpose."""
        self._host = host
        self._directory = directory
        self._env = {**os.environ, **extra_env, "LIGHTNINGD_PLUGIN": "1", "LIGHTNINGD_VERSION": version}
        self._process: asyncio.subprocess.Process | None = None
        self._pending: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._next_id = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._exited: asyncio.Event = asyncio.Event()

    @property
    def name(self) -> str:
        """The short name, as it appears in the log."""
        return self.path.name

    @property
    def pid(self) -> int | None:
        """Process id of the plugin."""
        return None if self._process is None else self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process is still there."""
        return self._process is not None and not self._exited.is_set()

    async def spawn(self) -> None:
        """Start the process. A Python file runs with the interpreter that runs the sandbox."""
        command = [sys.executable, str(self.path)] if self.path.suffix == ".py" else [str(self.path)]
        if not self.path.exists():
            raise SandboxError(f"no plugin at {self.path}")
        self._process = await asyncio.create_subprocess_exec(
            *command,
            cwd=self._directory,
            env=self._env,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            process_group=0,  # Ctrl-C at a terminal is for the sandbox, which then stops the plugin properly
        )
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._read_stdout()),
            loop.create_task(self._read_stderr()),
            loop.create_task(self._watch()),
        ]

    async def getmanifest(self, *, timeout_s: float = STARTUP_TIMEOUT_S) -> Manifest:
        """Ask the plugin what it is."""
        response = await self._request("getmanifest", {"allow-deprecated-apis": False}, timeout_s)
        if "result" in response:
            self.manifest = Manifest.read(response["result"])
        elif self.alive:
            self.kill("did not answer getmanifest properly")
            await self.wait_forever()
        return self.manifest

    async def init(
        self, options: dict[str, Any], configuration: dict[str, Any], *, timeout_s: float = STARTUP_TIMEOUT_S
    ) -> str | None:
        """Start the plugin's work; returns why it does not want to, or None.

        As on a real node an *error* in reply to init still makes the plugin active.
        """
        response = await self._request("init", {"options": options, "configuration": configuration}, timeout_s)
        result = response.get("result")
        reason = result.get("disable") if isinstance(result, dict) else None
        if self.alive:
            self.state = State.ACTIVE if reason is None else State.DISABLED
        return reason

    async def call(self, method: str, params: Any) -> Any:
        """Forward a command; raises what the plugin answers as an error, or -4 when it dies."""
        response = await self._request(method, params if params is not None else {}, None)
        if "error" in response:
            error = response["error"]
            raise RpcError(error.get("code", PLUGIN_TERMINATED), error.get("message", ""), error.get("data"))
        return response.get("result")

    def notify(self, topic: str, message: dict[str, Any]) -> bool:
        """Send a notification if the plugin wants it and is ready for it; tells whether it was sent."""
        if self.state is not State.ACTIVE or not self.manifest.wants(topic):
            return False
        self._write(message)
        return True

    def close_stdin(self) -> None:
        """EOF: all the plugin hears of a node that has died."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    def kill(self, reason: str | None = None) -> None:
        """SIGKILL."""
        if reason is not None:
            self.kill_reason = reason
            self._host.log("unusual", f"plugin-{self.name}", f"Killing plugin: {reason}")
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def wait(self, timeout_s: float | None) -> bool:
        """Wait for the process to end; False when it did not in time."""
        if self._process is None:
            return True
        try:
            await asyncio.wait_for(self._exited.wait(), timeout_s)
        except TimeoutError:
            return False
        return True

    async def wait_forever(self) -> None:
        """Wait for the process to end, however long that takes."""
        await self._exited.wait()

    async def _request(self, method: str, params: Any, timeout_s: float | None) -> dict[str, Any]:
        self._next_id += 1
        request_id = f"sandbox:{method}#{self._next_id}"
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._pending[request_id] = future
        self._write({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params})
        try:
            return await asyncio.wait_for(future, timeout_s)
        except TimeoutError:
            self.kill(f"timed out before replying to {method}")
            raise SandboxError(f"plugin timed out before replying to {method}") from None
        finally:
            self._pending.pop(request_id, None)

    def _write(self, message: dict[str, Any]) -> None:
        self._host.flush()
        if self._process is None or self._process.stdin is None or self._process.stdin.is_closing():
            return
        self._process.stdin.write(dump(message))

    async def _read_stdout(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        stream = JsonStream()
        while data := await self._process.stdout.read(_READ_BYTES):
            try:
                messages = stream.feed(data)
            except GarbageError as garbage:
                self.kill(f"Failed to parse RPC JSON response '{garbage}'")
                return
            for message in messages:
                complaint = self._take(message)
                if complaint is not None:
                    self.kill(complaint)
                    return

    def _take(self, message: dict[str, Any]) -> str | None:
        """Handle one message; returns why the plugin must die for it, or None."""
        if "jsonrpc" not in message:
            return f"JSON-RPC message does not contain \"jsonrpc\" field: '{message}'"
        if "id" in message:
            future = self._pending.get(str(message["id"]))
            if future is not None and not future.done():
                future.set_result(message)
            return None
        topic, params = message.get("method"), message.get("params")
        if topic is None or params is None:
            return f'Malformed JSON-RPC notification missing "method" or "params": {message}'
        if topic == "log":
            return self._log(params)
        if topic in ("message", "progress"):
            return None
        if topic not in self.manifest.topics:
            self._host.log(
                "unusual",
                f"plugin-{self.name}",
                f'Plugin attempted to send a notification to topic "{topic}" it hasn\'t declared in its manifest,'
                " not forwarding to subscribers.",
            )
            return None
        self._host.plugin_notified(self, topic, params)
        return None

    def _log(self, params: Any) -> str | None:
        message = params.get("message")
        if not isinstance(message, str):
            return 'Log notification from plugin doesn\'t have a string "message" field'
        given = params.get("level", "info")
        level = LOG_LEVELS.get(str(given).lower())
        if level is None:
            return f'Unknown log-level "{given}", valid values are "trace", "debug", "info", "warn", or "error".'
        for line in message.split("\n"):
            self._host.log(level, f"plugin-{self.name}", line)
        return None

    async def _read_stderr(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        rest = b""
        while data := await self._process.stderr.read(_READ_BYTES):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._host.log("stderr", f"plugin-{self.name}", line.decode(errors="replace"))
        if rest:
            self._host.log("stderr", f"plugin-{self.name}", rest.decode(errors="replace"))

    async def _watch(self) -> None:
        assert self._process is not None
        self.exit_code = await self._process.wait()
        # What the plugin said last still counts, unless something else keeps its pipes open.
        await asyncio.wait(self._tasks[:2], timeout=1.0)
        if self.state is not State.DISABLED:
            self.state = State.DEAD
        self._exited.set()
        for request_id, future in list(self._pending.items()):
            if not future.done():
                error = RpcError(PLUGIN_TERMINATED, "Plugin terminated before replying to RPC call.")
                future.set_result({"jsonrpc": "2.0", "id": request_id, "error": error.to_json()})
        self._host.plugin_died(self)
