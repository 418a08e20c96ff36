"""The counter: the endpoints that are asked for most, answered without the framework.

Quart and Hypercorn's streams take several times as long for a request as looking up its answer. What comes here is
what needs neither: a GET of a document or a quote, a POST with a body of a known length, each by its plain path.
Everything else goes the ordinary way (`app`), also these endpoints if they are asked for in another form; the functions
that answer are the same, and so is each answer.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial

import h11
from hypercorn.protocol.events import Body as BodyData
from hypercorn.protocol.events import EndBody, StreamClosed
from hypercorn.protocol.events import Event as ProtocolEvent
from pydantic import BaseModel
from quart import Quart

from ledger.errors import LedgerError
from ledger.models import ErrorResponse
from plugin.http import info, keys, melt, mint, refusals, state, swap
from plugin.http.clients import Client
from plugin.http.connection import MeteredBody, StrictHttp1
from plugin.http.limits import REQUESTS, RateLimits, TooManyRequestsError
from plugin.http.refusals import LateError, NotReadyError
from plugin.http.wire import (
    BODY_TIMEOUT_S,
    COMPRESS_FROM_BYTES,
    CORS_HEADERS,
    MAX_BODY_BYTES,
    NOT_MODIFIED,
    Document,
    Visit,
    compressed,
    reads_gzip,
)
from plugin.methods.method import Method
from plugin.metrics import Metrics
from plugin.services import EXTENSION, Services

Headers = list[tuple[bytes, bytes]]
Answering = Callable[[Visit], Awaitable[BaseModel]]
Showing = Callable[[Services], Document]
Finding = Callable[[Services, str], BaseModel]

JSON = (b"content-type", b"application/json")
GZIP: Headers = [(b"content-encoding", b"gzip")]
VARY = (b"vary", b"accept-encoding")
CORS: Headers = [(name.encode(), value.encode()) for name, value in CORS_HEADERS.items()]
MAX_LENGTH_DIGITS = 9
"""Of a `Content-Length` that is looked at; more would be too long anyway."""
LAST_ANSWER_S = 1.0
"""How long one who has ended its side of the connection may still be answered: it may listen on. Most have left, and
would be kept for as long as a payment is waited for."""
QUOTE_ID = re.compile(rb"[0-9A-Za-z_-]{1,64}")
"""What can be looked up without decoding it; the mint's own are of this form."""


class Counter:
    """Knows what is answered here. `why_not_ready`, as in `app.create_app`."""

    def __init__(
        self,
        app: Quart,
        why_not_ready: Callable[[], str | None],
        methods: Iterable[type[Method]],
        rate_limits: RateLimits,
        metrics: Metrics,
    ) -> None:
        self._app = app
        self.metrics = metrics
        self.why_not_ready = why_not_ready
        self.limits = rate_limits
        self._shown: Mapping[bytes, Showing] = {
            b"/v1/info": info.document,
            b"/v1/keys": keys.active_document,
            b"/v1/keysets": keys.keysets_document,
        }
        self._found: dict[bytes, Finding] = {}
        self._answered: dict[bytes, Answering] = {
            b"/v1/swap": swap.exchange,
            b"/v1/checkstate": state.check,
            b"/v1/restore": state.find,
        }
        for method in methods:
            mint_quotes, melt_quotes, mints, melts = (
                f"/v1/{place}/{method.name}".encode() for place in ("mint/quote", "melt/quote", "mint", "melt")
            )
            self._found[mint_quotes] = partial(mint.find_quote, method)
            self._found[melt_quotes] = partial(melt.find_quote, method)
            self._answered[mint_quotes] = partial(mint.create_quote, method)
            self._answered[melt_quotes] = partial(melt.create_quote, method)
            self._answered[mints] = partial(mint.issue, method)
            self._answered[melts] = partial(melt.pay, method)

    @property
    def services(self) -> Services:
        """The running mint; only when it is ready."""
        services: Services = self._app.extensions[EXTENSION]
        return services

    def stream(self, protocol: StrictHttp1, request: h11.Request) -> Stream | None:
        """What answers this request, if that can be done here."""
        if request.method == b"GET":
            return self._asking(protocol, request) if _is_plain(request) else None
        if request.method == b"POST":
            answer = self._answered.get(request.target)
            length = None if answer is None else _length(request)
            if answer is not None and length is not None and length <= MAX_BODY_BYTES:
                return AnsweringStream(self, protocol, request, answer, length)
        return None

    def _asking(self, protocol: StrictHttp1, request: h11.Request) -> Stream | None:
        if (show := self._shown.get(request.target)) is not None:
            return ShowingStream(self, protocol, request, show)
        place, _, quote_id = request.target.rpartition(b"/")
        if (find := self._found.get(place)) is not None and QUOTE_ID.fullmatch(quote_id):
            return FindingStream(self, protocol, request, find)
        return None


class Stream:
    """One request, and the way of its answer. Takes the events of Hypercorn's streams."""

    def __init__(self, counter: Counter, protocol: StrictHttp1, request: h11.Request) -> None:
        self._counter = counter
        self._protocol = protocol
        self._method = request.method.decode("ascii")
        self._route = request.target.decode("ascii")
        """The rule that the path fits."""
        self._begun = time.perf_counter()
        self._headers = list(request.headers)
        self._closed = False
        self._is_answered = False

    @property
    def idle(self) -> bool:
        """As Hypercorn asks for."""
        return False

    async def begin(self) -> None:
        """The head of the request has come."""

    async def handle(self, event: ProtocolEvent) -> None:
        """The rest comes, or the connection has gone."""
        if isinstance(event, StreamClosed):
            self._closed = True

    def _admit(self) -> Client:
        """Who asks. Raises TooManyRequestsError."""
        peer = self._protocol.client
        client = self._counter.limits.clients.identify(None if peer is None else peer[0], self._headers)
        self._counter.limits.charge(client, REQUESTS)
        return client

    def _enter(self) -> Services:
        """The mint, for one who may come in. Raises TooManyRequestsError and NotReadyError."""
        self._admit()
        if (reason := self._counter.why_not_ready()) is not None:
            raise NotReadyError(reason)
        return self._counter.services

    def _header(self, name: bytes) -> str:
        return b",".join(value for key, value in self._headers if key == name).decode("latin1")

    def _reads_gzip(self) -> bool:
        return reads_gzip(self._header(b"accept-encoding"))

    async def _say(self, body: bytes) -> None:
        if len(body) < COMPRESS_FROM_BYTES or not self._reads_gzip():
            await self._send(body)
        else:
            await self._send(await compressed(body), headers=[*GZIP, VARY])

    async def _send(self, body: bytes, status: int = 200, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        length = (b"content-length", str(len(body)).encode())
        await self._hand_out(status, [JSON, length, *headers], body)

    async def _hand_out(self, status: int, headers: Headers, body: bytes) -> None:
        seconds = time.perf_counter() - self._begun
        self._counter.metrics.answered(self._route, self._method, status, seconds)
        self._is_answered = True
        await self._protocol.answer(status, [*headers, *CORS], body)

    async def _refuse(self, error: Exception) -> None:
        if isinstance(error, LedgerError):
            self._counter.metrics.refused(error.code)
        refusal = refusals.of(error)
        body = ErrorResponse(detail=refusal.detail, code=refusal.code).model_dump_json().encode()
        later = [] if refusal.retry_after_s is None else [(b"retry-after", str(refusal.retry_after_s).encode())]
        await self._send(body, refusal.status, later)


class ShowingStream(Stream):
    """A document is asked for."""

    def __init__(self, counter: Counter, protocol: StrictHttp1, request: h11.Request, show: Showing) -> None:
        super().__init__(counter, protocol, request)
        self._show = show

    async def handle(self, event: ProtocolEvent) -> None:
        """Answer when the request has ended, which is at once."""
        await super().handle(event)
        if isinstance(event, EndBody) and not self._closed:
            try:
                document = self._show(self._enter())
            except Exception as error:
                await self._refuse(error)
                return
            await self._hand_over(document)

    async def _hand_over(self, document: Document) -> None:
        headers = [(b"etag", document.etag.encode())]
        if document.is_known_by(self._header(b"if-none-match")):
            await self._hand_out(NOT_MODIFIED, [*headers, VARY], b"")
        elif len(document.body) < COMPRESS_FROM_BYTES or not self._reads_gzip():
            await self._send(document.body, headers=headers)
        else:
            await self._send(document.compressed, headers=[*headers, *GZIP, VARY])


class FindingStream(Stream):
    """A quote is asked for."""

    def __init__(self, counter: Counter, protocol: StrictHttp1, request: h11.Request, find: Finding) -> None:
        super().__init__(counter, protocol, request)
        self._find = find
        place, _, self._quote_id = self._route.rpartition("/")
        self._route = f"{place}/<quote_id>"

    async def handle(self, event: ProtocolEvent) -> None:
        """Answer when the request has ended, which is at once."""
        await super().handle(event)
        if isinstance(event, EndBody) and not self._closed:
            try:
                body = _write(self._find(self._enter(), self._quote_id))
            except Exception as error:
                await self._refuse(error)
                return
            await self._say(body)


class AnsweringStream(Stream):
    """Something is to be done with a body."""

    def __init__(
        self, counter: Counter, protocol: StrictHttp1, request: h11.Request, answering: Answering, length: int
    ) -> None:
        super().__init__(counter, protocol, request)
        self._answering = answering
        self._body = MeteredBody(length, MAX_BODY_BYTES)
        self._timer: asyncio.TimerHandle | None = None
        self._is_served = False
        self._task: asyncio.Task[None] | None = None
        """What works on it, until there is an answer."""

    async def begin(self) -> None:
        """Wait for the body, but not for ever; refuse what needs none to be refused."""
        self._timer = asyncio.get_running_loop().call_later(BODY_TIMEOUT_S, self._too_late)
        try:
            self._visitor = self._admit()
            self._body.belongs_to(self._visitor, self._counter.limits)
        except TooManyRequestsError as error:
            self._body.refuse(error.with_traceback(None))
        if (reason := self._counter.why_not_ready()) is not None and not self._body.is_refused:
            self._body.refuse(NotReadyError(reason))
        if self._body.is_refused:
            self._serve_once()

    async def handle(self, event: ProtocolEvent) -> None:
        """Collect the body; serve when it is complete."""
        await super().handle(event)
        if isinstance(event, BodyData):
            self._body.append(bytes(event.data))
            if self._body.is_refused:
                self._serve_once()
        elif isinstance(event, EndBody):
            self._body.set_complete()
            self._serve_once()
        elif isinstance(event, StreamClosed):
            self._stop_waiting()
            if not self._is_served:
                self._body.clear()
            elif not self._is_answered:
                self._timer = asyncio.get_running_loop().call_later(LAST_ANSWER_S, self._give_up)

    def _give_up(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _too_late(self) -> None:
        self._body.refuse(LateError(refusals.LATE))
        self._serve_once()

    def _serve_once(self) -> None:
        """In a task of its own: the connection goes on being read, and notices when the client leaves."""
        self._stop_waiting()
        if not self._is_served and not self._closed:
            self._is_served = True
            self._protocol.task_group.spawn(self._serve)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    async def _serve(self) -> None:
        try:
            answer = await self._work()
        except Exception as error:
            await self._refuse(error)
            error.__traceback__ = None  # the body may have raised it, and keep it: a cycle
        else:
            await self._say(answer)

    async def _work(self) -> bytes:
        self._task = asyncio.current_task()
        try:
            return _write(await self._answering(await self._visit()))
        finally:
            self._task = None
            self._stop_waiting()
            self._body.clear()

    async def _visit(self) -> Visit:
        data = await self._body
        self._body.clear()  # not only when a payment is over: there is a limit to all bodies together
        return Visit(self._counter.services, self._counter.limits, self._visitor, data, self._header(b"prefer"))


def _write(answer: BaseModel) -> bytes:
    return answer.model_dump_json().encode()


def _is_plain(request: h11.Request) -> bool:
    """Without a body, and no wish for another protocol."""
    return not any(name in (b"content-length", b"transfer-encoding", b"upgrade") for name, _ in request.headers)


def _length(request: h11.Request) -> int | None:
    """Of the body, if its head says it."""
    length = None
    for name, value in request.headers:
        if name in (b"transfer-encoding", b"upgrade"):
            return None
        if name == b"content-length" and value.isdigit() and len(value) <= MAX_LENGTH_DIGITS:
            length = int(value)
    return length
