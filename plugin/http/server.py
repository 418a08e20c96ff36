"""Hypercorn on a socket that was bound before the event loop began."""

from __future__ import annotations

import asyncio
import logging
import socket

from hypercorn.asyncio import serve
from hypercorn.config import Config
from quart import Quart

from plugin.http.websocket import MAX_FRAME_BYTES

BACKLOG = 1024
MAX_HEADER_BYTES = 32 * 1024
KEEP_ALIVE_S = 75
SHUTDOWN_GRACE_S = 1.0
"""How long requests under way may go on once the plugin stops."""


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises OSError, for example if the port is taken."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


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
