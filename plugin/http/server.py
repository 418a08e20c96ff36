"""Hypercorn on a socket that was bound before the event loop began."""

from __future__ import annotations

import asyncio
import logging
import socket
from ipaddress import ip_address

from hypercorn.asyncio import serve
from quart import Quart

from plugin.http.app import counter
from plugin.http.connection import Connections, ServerConfig, most_connections
from plugin.http.limits import RateLimits
from plugin.http.tls import HANDSHAKE_S, Tls
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


def is_exposed(sock: socket.socket) -> bool:
    """Whether it listens on an address that others on the internet may reach."""
    address = ip_address(str(sock.getsockname()[0]).partition("%")[0])
    return address.is_unspecified or address.is_global


async def run(app: Quart, sock: socket.socket, stop: asyncio.Event, limits: RateLimits, tls: Tls | None) -> None:
    """Serve until `stop`; HTTPS if there is `tls`."""
    config = ServerConfig()
    config.tls = tls
    config.ssl_handshake_timeout = HANDSHAKE_S
    config.connections = Connections(limits, most_connections())
    config.counter = counter(app)
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
