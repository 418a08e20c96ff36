"""JSON-RPC on a Unix socket: many requests in progress on one connection, replies matched by id."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contrib.sandbox.errors import INVALID_REQUEST, RpcError
from contrib.sandbox.jsonstream import GarbageError, JsonStream, dump

BACKLOG = 128
MAX_SOCKET_PATH_BYTES = 100
"""A Unix socket's path must fit in some 104 to 108 bytes; longer ones are bound through a directory descriptor."""


class CloseConnection(Exception):  # noqa: N818
    """Raised by a command that is to be answered by closing the connection."""


@dataclass
class Request:
    """One command on its way."""

    method: str
    params: Any
    id: Any
    connection: Connection | None = None
    after_reply: list[Callable[[], None]] = field(default_factory=list)
    """Called when the reply has been written."""


Handler = Callable[[Request], Awaitable[dict[str, Any]]]


class Connection(asyncio.Protocol):
    """One client. When it goes away its commands go on."""

    def __init__(self, server: RpcServer) -> None:
        self._server = server
        self._stream = JsonStream(marks_escapes=True)
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has come."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._server.connections.add(self)

    def connection_lost(self, _exc: Exception | None) -> None:
        """A client has gone."""
        self._transport = None
        self._server.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        """Start whatever commands are complete."""
        try:
            messages = self._stream.feed(data)
        except GarbageError as garbage:
            self._send(
                {
                    "jsonrpc": "2.0",
                    "id": None,
                    "error": RpcError(INVALID_REQUEST, f"Invalid token in json input: '{garbage}'").to_json(),
                }
            )
            self.close()
            return
        for message in messages:
            self._server.start(self, message)

    def answer(self, request_id: Any, member: str, value: Any) -> None:
        """Send a reply."""
        self._send({"jsonrpc": "2.0", "id": request_id, member: value})

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Hang up at once, without sending what is still to be sent."""
        if self._transport is not None:
            self._transport.abort()

    def _send(self, message: dict[str, Any]) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(dump(message))


class RpcServer:
    """The listener and all its connections."""

    def __init__(self, path: Path, handle: Handler, before_reply: Callable[[], None]) -> None:
        self.path = path
        self.connections: set[Connection] = set()
        self._handle = handle
        self._before_reply = before_reply
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Listen."""
        loop = asyncio.get_running_loop()
        listener = _bind(self.path)
        self._server = await loop.create_unix_server(lambda: Connection(self), sock=listener, backlog=BACKLOG)

    def refuse(self) -> None:
        """No new connections from now on."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def close(self, *, abort: bool) -> None:
        """No connections at all from now on; what they asked for is forgotten."""
        self.refuse()
        for task in self._tasks:
            task.cancel()
        self._tasks.clear()
        self.drop_connections(abort=abort)

    def drop_connections(self, *, abort: bool) -> None:
        """Hang up on everybody; their commands go on."""
        for connection in list(self.connections):
            if abort:
                connection.abort()
            else:
                connection.close()

    def start(self, connection: Connection, message: dict[str, Any]) -> None:
        """Begin one command."""
        request = Request(message.get("method", ""), message.get("params"), message.get("id"), connection)
        if message.get("jsonrpc") != "2.0" or not isinstance(request.method, str) or "id" not in message:
            error = RpcError(INVALID_REQUEST, 'jsonrpc: "2.0", method and id must be given')
            connection.answer(request.id, "error", error.to_json())
            return
        task = asyncio.get_running_loop().create_task(self._run(connection, request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, connection: Connection, request: Request) -> None:
        try:
            reply: tuple[str, Any] | None = ("result", await self._handle(request))
        except RpcError as error:
            reply = ("error", error.to_json())
        except CloseConnection:
            reply = None
        self._before_reply()
        if reply is None:
            connection.close()
        else:
            connection.answer(request.id, *reply)
        for callback in request.after_reply:
            callback()


def _bind(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if len(os.fsencode(path)) <= MAX_SOCKET_PATH_BYTES:
            listener.bind(str(path))
        else:
            directory = os.open(path.parent, os.O_RDONLY)
            try:
                listener.bind(f"/proc/self/fd/{directory}/{path.name}")
            finally:
                os.close(directory)
        path.chmod(0o600)
    except OSError:
        listener.close()
        raise
    return listener
