"""Hypercorn on a socket that was bound before the event loop began."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hypercorn.asyncio import run as hypercorn_run
from hypercorn.asyncio import serve
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.config import Config
from hypercorn.events import Event
from hypercorn.protocol import ws_stream
from quart import Quart
from wsproto.events import Message

from plugin.http.websocket import MAX_FRAME_BYTES

BACKLOG = 1024
MAX_HEADER_BYTES = 32 * 1024
KEEP_ALIVE_S = 75
PROBE_AFTER_S = 120
PROBE_EVERY_S = 30
PROBES = 4
"""A connection that says nothing is probed after two minutes, and given up when four probes go unanswered."""
SHUTDOWN_GRACE_S = 1.0
"""How long requests under way may go on once the plugin stops."""
SEND_TIMEOUT_S = 30
"""A client that takes nothing of what is sent to it for this long is disconnected."""


class BoundedBuffer(ws_stream.WebsocketBuffer):
    """Keeps nothing of a message that is too long. Hypercorn asks its sender to close the connection, but goes on
    collecting what comes from one that does not."""

    def extend(self, event: Message[Any]) -> None:
        """Raises FrameTooLargeError, from the first piece too many until the end of the message."""
        if self.length + len(event.data) > self.max_length:
            self.value, self.length = None, self.max_length
            raise ws_stream.FrameTooLargeError
        super().extend(event)


class ImpatientServer(TCPServer):
    """One connection. Hypercorn alone waits for ever for a client that does not read, and keeps the socket of one that
    has left for its keep-alive time."""

    async def _read_data(self) -> None:
        await super()._read_data()
        await self.idle_task.stop()

    async def protocol_send(self, event: Event) -> None:
        """Send, as long as the client goes on taking it."""
        with self._watched():
            await super().protocol_send(event)

    async def _close(self) -> None:
        with self._watched():
            await super()._close()

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Cut the connection off if nothing leaves it between two looks."""
        transport = self.writer.transport

        timer: asyncio.TimerHandle

        def look(before: int | None) -> None:
            nonlocal timer
            if (waiting := transport.get_write_buffer_size()) == before:
                transport.abort()
            else:
                timer = self.loop.call_later(SEND_TIMEOUT_S / 2, look, waiting)

        timer = self.loop.call_later(SEND_TIMEOUT_S / 2, look, None)
        try:
            yield
        finally:
            timer.cancel()


# Hypercorn has no setting for either.
ws_stream.WebsocketBuffer = BoundedBuffer  # type: ignore[misc]
hypercorn_run.TCPServer = ImpatientServer  # type: ignore[attr-defined]


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises OSError, for example if the port is taken."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _keep_alive(sock)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def _keep_alive(sock: socket.socket) -> None:
    """Notice clients that have vanished: the connections accepted here inherit this."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", PROBE_AFTER_S), ("TCP_KEEPINTVL", PROBE_EVERY_S), ("TCP_KEEPCNT", PROBES)):
        if hasattr(socket, name):  # not on every system
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


async def run(app: Quart, sock: socket.socket, stop: asyncio.Event) -> None:
    """Serve until `stop`."""
    config = Config()
    config.bind = [f"fd://{sock.fileno()}"]
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn")
    config.include_server_header = False
    config.h11_max_incomplete_size = MAX_HEADER_BYTES
    config.keep_alive_timeout = KEEP_ALIVE_S
    config.graceful_timeout = SHUTDOWN_GRACE_S
    config.shutdown_timeout = SHUTDOWN_GRACE_S
    config.backlog = BACKLOG
    config.websocket_max_message_size = MAX_FRAME_BYTES
    await serve(app, config, shutdown_trigger=stop.wait)
