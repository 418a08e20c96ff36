"""One connection of a client: how long it may take for what, how much it may keep in memory, how many there may be.

Hypercorn leaves most of this to a reverse proxy, which not every mint has, and which often lets the rest through.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import lru_cache
from typing import Any, ClassVar, Protocol, cast

import h11
from hypercorn import protocol
from hypercorn.asyncio import run as hypercorn_run
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol import h11 as hypercorn_h11
from hypercorn.protocol import ws_stream
from hypercorn.protocol.events import Body as BodyData
from hypercorn.protocol.events import Data, StreamClosed
from hypercorn.protocol.events import Event as ProtocolEvent
from hypercorn.protocol.events import Request as ProtocolRequest
from hypercorn.protocol.events import Response as ProtocolResponse
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable
from quart.asgi import ASGIHTTPConnection
from quart.wrappers import Request
from quart.wrappers.request import Body
from wsproto.connection import Connection as WsConnection
from wsproto.events import CloseConnection, Message
from wsproto.events import Event as WsEvent
from wsproto.extensions import Extension
from wsproto.frame_protocol import CloseReason

from plugin.http.clients import Client
from plugin.http.heads import Parser, is_sound
from plugin.http.limits import EXTENSION as LIMITS
from plugin.http.limits import REQUESTS, RateLimits, TooManyRequestsError
from plugin.http.tls import Tls

MAX_CONNECTIONS = 12_000
"""Most connections at once, of all clients; fewer if the system allows fewer open files."""
MAX_CONNECTIONS_OF_CLIENT = 200
"""Of one peer, unless it is a trusted proxy: that one speaks for many."""
RESERVED_FILES = 256
"""Open files that are left for the node's socket, the ledger and all else."""
FIRST_REQUEST_S = 20
"""How long a new connection may take until its first request's head has come."""
SEND_TIMEOUT_S = 30
"""A client that takes nothing of what is sent to it for this long is disconnected."""
LONGEST_SEND_S = 300
"""So is one that goes on taking, but not all of it within this time."""
MAX_BODIES_BYTES = 64 * 1024 * 1024
"""Most memory for request bodies that are on their way, of all requests together."""
MAX_BODIES_BYTES_OF_CLIENT = 16 * 1024 * 1024
"""Of one client's."""
SMALL_BODY_BYTES = 64 * 1024
"""Bodies up to this have room of their own, half as much again: few requests are longer, and many clients together
could fill the rest with long ones."""
MAX_ANSWERS_BYTES = 64 * 1024 * 1024
"""Most memory for long answers that wait for their clients to take them, of all together."""
MAX_ANSWERS_BYTES_OF_CLIENT = 8 * 1024 * 1024
"""Of one client's."""
LONG_ANSWER_BYTES = 64 * 1024
"""Only longer ones are counted: so much a connection takes without waiting."""

MAX_FRAMES_AT_ONCE = 256
"""Frames that are no whole message, in one piece of what a WebSocket's client sends; more of them end it."""

HEADS_KEPT = 128
"""Heads of answers that are remembered, each for as long as its date: h11 looks at each name and value of a new one,
which is a tenth of what a document costs."""
CLOSE = (b"connection", b"close")
BEGAN = "nutbolt.began"
"""Where a request's scope says when its head had come, by `time.perf_counter`."""

EarlyData = BodyData | Data

log = logging.getLogger(__name__)


class BusyError(Exception):
    """The mint has too much to do with others at the moment."""


class Connections:
    """The connections that are open."""

    def __init__(self, limits: RateLimits, most: int) -> None:
        self.limits = limits
        self._most = most
        self._open = 0
        self._of_client: Counter[str] = Counter()
        self._is_full = False
        self._answers = 0
        self._answers_of: Counter[str] = Counter()

    @contextmanager
    def admit(self, peer: str | None) -> Iterator[bool]:
        """Count a connection while it is open. False: there are too many, of this peer or of all."""
        key = None if self.limits.clients.trusts(peer) else self.limits.clients.peer(peer).key
        if not self._has_room(peer, key):
            yield False
            return
        self._open += 1
        if key is not None:
            _count(self._of_client, key, 1)
        try:
            yield True
        finally:
            self._open -= 1
            if key is not None:
                _count(self._of_client, key, -1)

    def _has_room(self, peer: str | None, key: str | None) -> bool:
        if (is_full := self._open >= self._most) != self._is_full:
            self._is_full = is_full
            if is_full:
                log.warning("%d connections are open: further ones are refused", self._open)
        if is_full or key is None:
            return not is_full
        client = self.limits.clients.peer(peer)
        return self._of_client[key] < self.limits.share(client, MAX_CONNECTIONS_OF_CLIENT, self._most)

    @contextmanager
    def sending(self, peer: str | None, size: int) -> Iterator[bool]:
        """Count an answer while it waits for its client. False: too many wait already, of this peer's or of all. One of
        a peer's always may."""
        if size <= LONG_ANSWER_BYTES:
            yield True
            return
        key, share = "", MAX_ANSWERS_BYTES
        if not self.limits.clients.trusts(peer):
            client = self.limits.clients.peer(peer)
            key, share = client.key, self.limits.share(client, MAX_ANSWERS_BYTES_OF_CLIENT, MAX_ANSWERS_BYTES)
        if self._answers + size > MAX_ANSWERS_BYTES or 0 < self._answers_of[key] > share - size:
            yield False
            return
        self._count_answer(key, size)
        try:
            yield True
        finally:
            self._count_answer(key, -size)

    def _count_answer(self, key: str, size: int) -> None:
        self._answers += size
        _count(self._answers_of, key, size)


def _count(counter: Counter[str], key: str, change: int) -> None:
    """Keep no keys that count nothing."""
    counter[key] += change
    if not counter[key]:
        del counter[key]


def most_connections() -> int:
    """How many connections there can be. Allows this process as many open files as that takes, or as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_CONNECTIONS + RESERVED_FILES
    unlimited = resource.RLIM_INFINITY
    if soft != unlimited and soft < wanted:
        soft = wanted if hard == unlimited else min(hard, wanted)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return MAX_CONNECTIONS if soft == unlimited else max(1, min(MAX_CONNECTIONS, soft - RESERVED_FILES))


class ServerConfig(Config):
    """Hypercorn's configuration, and what its connections need of ours."""

    connections: Connections
    counter: Intake | None = None
    """What answers some requests before the application is asked."""
    tls: Tls | None = None
    """Else it is plain HTTP."""

    @property
    def ssl_enabled(self) -> bool:
        """Whether the sockets speak TLS."""
        return self.tls is not None

    def create_ssl_context(self) -> ssl.SSLContext | None:
        """Ours, which knows when the certificate is renewed."""
        return None if self.tls is None else self.tls.context


class BoundedBuffer(ws_stream.WebsocketBuffer):
    """Keeps nothing of a message that is too long. Hypercorn asks its sender to close the connection, but goes on
    collecting what comes from one that does not."""

    def extend(self, event: Message[Any]) -> None:
        """Raises FrameTooLargeError, from the first piece too many until the end of the message."""
        if self.length + len(event.data) > self.max_length:
            self.value, self.length = None, self.max_length
            raise ws_stream.FrameTooLargeError
        super().extend(event)


class MeteredBody(Body):
    """A request's body. Quart limits each one, but not how many there are."""

    _in_memory = 0
    _of_sender: ClassVar[Counter[str]] = Counter()
    _sender = ""
    _share = MAX_BODIES_BYTES

    def belongs_to(self, client: Client, limits: RateLimits) -> None:
        """Before anything of it comes: others shall have room left, whatever this client sends. One body always has."""
        self._sender = client.key
        share = limits.share(client, MAX_BODIES_BYTES_OF_CLIENT, MAX_BODIES_BYTES)
        self._share = max(share, self._max_content_length or 0)

    def append(self, data: bytes) -> None:
        """Keep the next piece, or nothing more at all if there is too much of all bodies."""
        if self._must_raise is None and not self._has_room(len(data)):
            self.refuse(BusyError("too many large requests are under way"))
        before = len(self._data)
        super().append(data)
        self._count(len(self._data) - before)

    def clear(self) -> None:
        """Forget it: it was read, or nobody wants it."""
        self._count(-len(self._data))
        super().clear()
        if self._must_raise is not None:
            self._must_raise.__traceback__ = None  # its frames know us: a cycle, and the whole request hangs on it

    def refuse(self, reason: Exception) -> None:
        """Take nothing more: who waits for it gets this."""
        self.clear()
        self._must_raise = reason
        self.set_complete()

    @property
    def is_refused(self) -> bool:
        """Whether there is no use in waiting for the rest."""
        return self._must_raise is not None

    def _has_room(self, size: int) -> bool:
        is_small = len(self._data) + size <= SMALL_BODY_BYTES
        most = MAX_BODIES_BYTES * 3 // 2 if is_small else MAX_BODIES_BYTES
        return MeteredBody._in_memory + size <= most and self._of_sender[self._sender] + size <= self._share

    def _count(self, change: int) -> None:
        if change:
            MeteredBody._in_memory += change
            _count(self._of_sender, self._sender, change)


class MeteredRequest(Request):
    """A request with such a body."""

    body_class = MeteredBody


class MeteredHttp(ASGIHTTPConnection):
    """The way of a request through the application, at whose end its body is forgotten, also if nobody has read it."""

    _request: Request | None = None

    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        self.scope[BEGAN] = time.perf_counter()  # type: ignore[literal-required]
        try:
            await super().__call__(receive, send)
        finally:
            if self._request is not None:
                self._request.body.clear()
                # Both are cycles, and all of the request hangs on them: "not found" was raised by frames that know the
                # request, and the request knows of us.
                self._request.routing_exception = None
                self._request = None

    def _create_request_from_scope(self, send: ASGISendCallable) -> Request:
        self._request = super()._create_request_from_scope(send)
        limits: RateLimits = self.app.extensions[LIMITS]
        peer = self.scope.get("client")
        client = limits.clients.identify(None if peer is None else peer[0], self.scope["headers"])
        cast(MeteredBody, self._request.body).belongs_to(client, limits)
        return self._request


class Stream(Protocol):
    """One request, to which the rest of what its client sends is given as events of Hypercorn's streams."""

    async def begin(self) -> None: ...

    async def handle(self, event: ProtocolEvent) -> None: ...


class Intake(Protocol):
    """What answers some requests itself, and gives no stream for the others."""

    def stream(self, protocol: StrictHttp1, request: h11.Request) -> Stream | None: ...


class StrictHttp1(H11Protocol):
    """No HTTP/2 without TLS, which only a proxy could speak: one connection would carry a hundred requests at once,
    past the limits for connections. And no heads of requests over which Hypercorn or Quart would stumble."""

    config: ServerConfig

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.connection = Parser(h11.SERVER, max_incomplete_event_size=self.config.h11_max_incomplete_size)

    async def _check_protocol(self, event: h11.Request) -> None:
        pass

    async def _create_stream(self, request: h11.Request) -> None:
        if not is_sound(request):
            await self._send_error_response(400)
            await self.send(Closed())
            return
        counter = self.config.counter
        stream = None if counter is None else counter.stream(self, request)
        if stream is None:
            await super()._create_stream(request)
        else:
            self.stream = cast(Any, stream)
            self.keep_alive_requests += 1
            await self.context.mark_request()
            await stream.begin()

    async def stream_send(self, event: ProtocolEvent) -> None:
        """Say that the connection ends with an answer that did not wait for the rest of the request."""
        if isinstance(event, ProtocolResponse) and self._is_early:
            event = replace(event, headers=[*event.headers, CLOSE])
        await super().stream_send(event)

    @property
    def _is_early(self) -> bool:
        return cast(h11.Connection, self.connection).their_state is h11.SEND_BODY

    async def answer(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        """Send a whole answer at once, and be ready for the next request."""
        connection = cast(h11.Connection, self.connection)
        headers += self.config.response_headers("h11")
        if self.keep_alive_requests >= self.config.keep_alive_max_requests or self._is_early:
            headers.append(CLOSE)
        try:
            data = connection.send(_head(status, tuple(headers))) or b""
            data += connection.send(h11.Data(data=body)) or b""
            data += connection.send(h11.EndOfMessage()) or b""
        except h11.LocalProtocolError:
            if connection.their_state is not h11.ERROR:
                raise
        else:
            await self.send(RawData(data=data))
        more, _ = connection.trailing_data
        await self._maybe_recycle()
        if more:  # a client that sends many requests at once, to be answered one after the other: others first
            await asyncio.sleep(0)


@lru_cache(HEADS_KEPT)
def _head(status: int, headers: tuple[tuple[bytes, bytes], ...]) -> h11.Response:
    return h11.Response(status_code=status, headers=list(headers))


class TooManyFramesError(Exception):
    """A WebSocket's client sends frames that are no messages, and too many of them."""


class MeteredFrames:
    """wsproto's connection, whose frames are counted: those that are no whole message (pings, pieces of one) cost time
    as well, and nobody else would count them. `charge` is called for each, and raises if it is too much."""

    def __init__(self, connection: WsConnection, charge: Callable[[], None]) -> None:
        self._connection = connection
        self._charge = charge

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def events(self) -> Iterator[WsEvent]:
        """Raises TooManyFramesError and TooManyRequestsError."""
        others = 0
        for event in self._connection.events():
            if not (isinstance(event, Message) and event.message_finished):
                others += 1
                if others > MAX_FRAMES_AT_ONCE:
                    raise TooManyFramesError
                self._charge()
            yield event


class StrictWebSocket(ws_stream.WSStream):
    """A WebSocket whose client keeps to the order of things. When frames come before the connection is accepted,
    Hypercorn tells nobody, and we would wait for the next one for ever. Nor does it ever close one that it has refused.
    """

    config: ServerConfig

    async def _accept(self, message: Any) -> None:
        await super()._accept(message)
        limits = self.config.connections.limits
        peer = self.scope["client"]
        client = limits.clients.identify(None if peer is None else peer[0], self.scope["headers"])
        self.connection = cast(Any, MeteredFrames(self.connection, lambda: limits.charge(client, REQUESTS)))

    async def handle(self, event: ProtocolEvent) -> None:
        """Refuse what comes too early, and too many frames."""
        try:
            await self._handle(event)
        except (TooManyFramesError, TooManyRequestsError):
            await self._send_wsproto_event(CloseConnection(code=CloseReason.POLICY_VIOLATION))
            self.closed = True
            if self.app_put is not None:
                await self.app_put({"type": "websocket.disconnect", "code": CloseReason.POLICY_VIOLATION})
            await self.send(StreamClosed(stream_id=self.stream_id))

    async def _handle(self, event: ProtocolEvent) -> None:
        if self.closed:
            return
        if isinstance(event, EarlyData) and not self.handshake.accepted:
            self.closed = True  # first of all: it must not be accepted any more
            await self._send_error_response(400)
            if self.app_put is not None:
                await self.app_put({"type": "websocket.disconnect", "code": CloseReason.ABNORMAL_CLOSURE})
            await self.send(StreamClosed(stream_id=self.stream_id))
            return
        await super().handle(event)
        if self.closed and isinstance(event, ProtocolRequest):
            await self.send(StreamClosed(stream_id=self.stream_id))


def no_extensions(_asked: Iterable[str], _known: list[Extension]) -> bytes | None:
    """No compression of WebSocket messages: they are short, and 64 KiB that unpack to 64 MiB would keep everybody
    waiting. Wallets that ask for it do without."""
    return None


class ImpatientServer(TCPServer):
    """One connection. Hypercorn alone waits for ever for a client that does not read, and keeps the socket of one that
    has left for its keep-alive time."""

    config: ServerConfig
    _has_asked = False
    _peer: str | None = None

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._closed = asyncio.Event()
        self._idle_since: float | None = self.loop.time()
        """None while a request is answered."""

    async def run(self) -> None:
        """Serve the connection, if there is room for it."""
        if self.config.tls is not None and (made := self.writer.get_extra_info("ssl_object")) is not None:
            self.config.tls.context.over(made)
        name = self.writer.get_extra_info("peername")
        self._peer = name[0] if isinstance(name, tuple) else None
        with self.config.connections.admit(self._peer) as admitted:
            if admitted:
                try:
                    await super().run()
                finally:
                    self.__dict__.pop("protocol", None)  # it knows of us: a cycle, and the whole connection hangs on it
            else:
                self.writer.transport.abort()

    async def _read_data(self) -> None:
        """Read until the client has left, or we have closed the connection: what came before that may wait for its turn
        then, in Hypercorn, and for ever."""
        reading = self.loop.create_task(super()._read_data())
        closing = self.loop.create_task(self._closed.wait())
        try:
            await asyncio.wait((reading, closing), return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                reading.result()
            else:
                reading.cancel()
                await asyncio.wait((reading,))
                await self.protocol.handle(Closed())
        finally:
            reading.cancel()
            closing.cancel()
        await self.idle_task.stop()

    async def protocol_send(self, event: Event) -> None:
        """Send, as long as the client goes on taking it."""
        if isinstance(event, Updated):
            self._idle_since = self.loop.time() if event.idle else None
            self._has_asked |= not event.idle
            return
        size = len(event.data) if isinstance(event, RawData) else 0
        with self.config.connections.sending(self._peer, size) as has_room, self._watched():
            if has_room:
                await super().protocol_send(event)
            else:
                self.writer.transport.abort()
                await self.protocol.handle(Closed())
        if isinstance(event, Closed) or self.writer.transport.is_closing():
            self._closed.set()

    async def _idle_timeout(self) -> None:
        """End the connection when it has been idle for too long, or the mint stops. Runs as long as the connection;
        Hypercorn would begin a new task after each request."""
        while not self.context.terminated.is_set() and (left_s := self._idle_left_s()) > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.context.terminated.wait(), left_s)
        if self._idle_since is not None:  # else the answer that is under way ends it
            await asyncio.shield(self._initiate_server_close())

    def _idle_left_s(self) -> float:
        """When to look again whether the client has anything to ask."""
        limit_s = self.config.keep_alive_timeout if self._has_asked else FIRST_REQUEST_S
        return limit_s if self._idle_since is None else self._idle_since + limit_s - self.loop.time()

    async def _close(self) -> None:
        # The other side of TLS may say no farewell in time, or go on talking: Hypercorn doesn't expect either.
        with self._watched(), suppress(OSError):
            await super()._close()

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Cut the connection off if nothing leaves it between two looks, or not all in the end."""
        watch = _SendingWatch(self.loop, self.writer.transport)
        try:
            yield
        finally:
            watch.end()


class _SendingWatch:
    """Looks at what waits to be sent. A class, because functions that name themselves are cycles: one for each answer
    is much work for the collector of garbage."""

    __slots__ = ("_loop", "_timer", "_transport", "_until")

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.WriteTransport) -> None:
        self._loop, self._transport = loop, transport
        self._until = loop.time() + LONGEST_SEND_S
        self._timer = loop.call_later(SEND_TIMEOUT_S / 2, self._look, None)

    def _look(self, before: int | None) -> None:
        if (waiting := self._transport.get_write_buffer_size()) == before or self._loop.time() > self._until:
            self._transport.abort()
        else:
            self._timer = self._loop.call_later(SEND_TIMEOUT_S / 2, self._look, waiting)

    def end(self) -> None:
        """All was sent, or there is nobody any more who would take it."""
        self._timer.cancel()


# Hypercorn has no setting for any of these.
ws_stream.WebsocketBuffer = BoundedBuffer  # type: ignore[misc]
hypercorn_h11.WSStream = StrictWebSocket  # type: ignore[attr-defined]
ws_stream.server_extensions_handshake = no_extensions  # type: ignore[attr-defined, assignment]
hypercorn_run.TCPServer = ImpatientServer  # type: ignore[attr-defined, assignment]
protocol.H11Protocol = StrictHttp1  # type: ignore[attr-defined, assignment]
