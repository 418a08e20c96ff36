"""An asyncio client of lightningd's JSON-RPC: pipelined on two Unix socket connections, reconnecting by itself.

Payments keep their command open for as long as an HTLC is held, so they have a connection of their own. A command
outlives its connection: whether one that was sent has run is unknown once the connection is lost.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

MAX_REPLY_BYTES = 256 * 1024 * 1024
"""Longest reply that is read; a node with a long history answers some list commands with many megabytes."""
MAX_SOCKET_PATH = 100
"""Unix socket addresses are limited to about 107 bytes."""
CALL_TIMEOUT_S = 60.0
"""For commands that lightningd answers by itself. Payments have no time limit."""
MAX_CALLS = 256
"""Short commands under way at once; further ones wait."""
CONNECT_ATTEMPTS = 5
CONNECT_RETRY_S = 0.2

log = logging.getLogger(__name__)


class RpcError(Exception):
    """lightningd answered with an error: the command ended."""

    def __init__(self, method: str, code: int, message: str) -> None:
        super().__init__(f"{method}: {message} ({code})")
        self.code = code
        self.message = message


class NodeUnavailableError(Exception):
    """The command was not sent: lightningd can't be reached."""


class OutcomeUnknownError(Exception):
    """The command was sent and its answer is lost: it may have run, or may still be running."""


class Connection:
    """One connection; commands are told apart by their ids. Connects at the first call, and again after a loss."""

    def __init__(self, path: str, on_lost: Callable[[], None]) -> None:
        self._path = path
        self._on_lost = on_lost
        self._ids = itertools.count(1)
        self._waiting: dict[str, asyncio.Future[Any]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._connecting = asyncio.Lock()

    async def call(self, method: str, params: dict[str, Any]) -> Any:
        """Raises RpcError, NodeUnavailableError or OutcomeUnknownError."""
        writer = await self._connect()
        call_id = f"nutbolt:{method}#{next(self._ids)}"
        request = {"jsonrpc": "2.0", "id": call_id, "method": method, "params": params}
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[call_id] = future
        try:
            # lightningd takes text with \u escapes for no description, issuer or string
            writer.write(json.dumps(request, ensure_ascii=False).encode())
            await writer.drain()
            reply = await future
        except OSError as error:
            raise OutcomeUnknownError(f"{method}: connection to lightningd lost: {error}") from error
        finally:
            self._waiting.pop(call_id, None)
            if future.done() and not future.cancelled():
                future.exception()  # the loss of the connection may have been told to it and to `drain`: once is enough
        if "error" in reply:
            raise RpcError(method, reply["error"].get("code", 0), reply["error"].get("message", ""))
        return reply["result"]

    async def close(self) -> None:
        """Close; calls under way end with OutcomeUnknownError."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    async def _connect(self) -> asyncio.StreamWriter:
        async with self._connecting:
            if self._writer is not None:
                return self._writer
            reader, writer = await self._open()
            self._writer = writer
            self._reading = asyncio.create_task(self._read(reader, writer), name="rpc reader")
            return writer

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        for attempt in range(CONNECT_ATTEMPTS):
            try:
                return await asyncio.open_unix_connection(self._path, limit=MAX_REPLY_BYTES)
            except OSError as error:
                reason = error
            await asyncio.sleep(CONNECT_RETRY_S * attempt)
        raise NodeUnavailableError(f"cannot reach lightningd at {self._path}: {reason}")

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reason = "connection closed"
        try:
            while True:
                message = json.loads(await reader.readuntil(b"\n\n"))
                future = self._waiting.get(str(message.get("id")))
                if future is not None and not future.done():
                    future.set_result(message)
        except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            reason = str(error)
        finally:
            self._writer = None
            writer.close()
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(OutcomeUnknownError(f"answer lost: {reason}"))
        self._on_lost()


class NodeRpc:
    """lightningd's commands. `on_lost` is called when a connection breaks that was not closed here."""

    def __init__(self, socket: Path, on_lost: Callable[[], None]) -> None:
        # Too long an address works relative to the working directory, which lightningd sets to where its socket is.
        self.path = str(socket) if len(str(socket)) <= MAX_SOCKET_PATH else socket.name
        self._short = Connection(self.path, on_lost)
        self._long = Connection(self.path, on_lost)
        self._slots = asyncio.Semaphore(MAX_CALLS)

    async def call(self, method: str, /, **params: Any) -> Any:
        """A command that is answered soon. Raises RpcError, NodeUnavailableError or OutcomeUnknownError."""
        async with self._slots:
            try:
                async with asyncio.timeout(CALL_TIMEOUT_S):
                    return await self._short.call(method, params)
            except TimeoutError:
                raise OutcomeUnknownError(f"{method}: no answer within {CALL_TIMEOUT_S:.0f} s") from None

    async def call_long(self, method: str, /, **params: Any) -> Any:
        """A command that may stay open for days. Raises as `call` does."""
        return await self._long.call(method, params)

    async def close(self) -> None:
        """Close both connections."""
        await self._short.close()
        await self._long.close()
