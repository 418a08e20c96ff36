"""`GET /metrics`, on a listener of its own (`cashu-metrics-listen`), which is off unless asked for.

Never on the wallets' listener: behind a reverse proxy or Tor on the same machine every caller comes from the loopback
interface, so no look at the caller's address could keep the figures private there.
"""

from __future__ import annotations

import asyncio
import logging
import socket

from hypercorn.asyncio import serve
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from quart import Quart, Response

from plugin.http.connection import Connections, ServerConfig
from plugin.http.limits import RateLimits
from plugin.http.server import SHUTDOWN_GRACE_S, is_exposed
from plugin.metrics import Metrics

log = logging.getLogger(__name__)

MAX_SCRAPERS = 20
"""Most connections at once."""
MAX_BODY_BYTES = 1024


def create_app(metrics: Metrics) -> Quart:
    """An application that shows the figures and does nothing else."""
    app = Quart("nutbolt metrics", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    turn = asyncio.Lock()

    @app.get("/metrics")
    async def show() -> Response:
        async with turn:  # one reader of the ledger at a time: the others are the wallets'
            text = await asyncio.to_thread(generate_latest, metrics.registry)
        return Response(text, headers={"content-type": CONTENT_TYPE_LATEST, "cache-control": "no-store"})

    return app


async def run(metrics: Metrics, sock: socket.socket, stop: asyncio.Event, limits: RateLimits) -> None:
    """Serve until `stop`."""
    if is_exposed(sock):
        log.warning("cashu-metrics-listen: whoever reaches %s sees the mint's figures", sock.getsockname()[0])
    config = ServerConfig()
    config.connections = Connections(limits, MAX_SCRAPERS)
    config.bind = [f"fd://{sock.fileno()}"]
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn")
    config.include_server_header = False
    config.graceful_timeout = SHUTDOWN_GRACE_S
    config.shutdown_timeout = SHUTDOWN_GRACE_S
    await serve(create_app(metrics), config, shutdown_trigger=stop.wait)
