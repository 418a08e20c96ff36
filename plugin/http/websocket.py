"""`/v1/ws`: subscriptions by JSON-RPC over WebSocket (NUT-17)."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, WebsocketScope
from pydantic import BaseModel, Field, StringConstraints, TypeAdapter, ValidationError
from quart import Blueprint, Quart, Websocket, websocket
from quart.asgi import ASGIWebsocketConnection

from ledger.errors import LedgerError
from plugin.http import limits
from plugin.http.limits import TooManyRequestsError
from plugin.http.subscriptions import (
    MAX_FILTERS,
    MAX_FILTERS_OF_ALL,
    MAX_FILTERS_OF_CLIENT,
    MAX_FILTERS_PER_CONNECTION,
    MAX_SUBSCRIPTIONS,
    PROOF_STATE,
    Connection,
    Hub,
    Subscription,
)
from plugin.services import services

MAX_FRAME_BYTES = 256 * 1024
MAX_WAITING_BYTES = 1024 * 1024
"""Of frames that came and were not handled yet: room for calls with as many filters as a connection may have."""
FRAME_OVERHEAD = 128
MAX_SUB_ID_LENGTH = 128

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
UNKNOWN_METHOD = -32601
INVALID_PARAMS = -32602
TOO_MANY_REQUESTS = -32029
"""In the range that JSON-RPC leaves to servers."""

POLICY_VIOLATION = 1008
TRY_AGAIN_LATER = 1013

blueprint = Blueprint("websocket", __name__)

T = TypeVar("T", bound=BaseModel)

Text = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=MAX_SUB_ID_LENGTH)]
CallId = (
    Annotated[int, Field(strict=True)] | Annotated[str, StringConstraints(strict=True, max_length=MAX_SUB_ID_LENGTH)]
)

_CALL_ID: TypeAdapter[int | str] = TypeAdapter(CallId)


class Frames(asyncio.Queue[str | bytes]):
    """Frames that came, with how much memory they take."""

    size = 0

    def _put(self, item: str | bytes) -> None:
        self.size += len(item) + FRAME_OVERHEAD
        super()._put(item)

    def _get(self) -> str | bytes:
        item = super()._get()
        self.size -= len(item) + FRAME_OVERHEAD
        return item


class Intake(ASGIWebsocketConnection):
    """A connection's frames on their way to `_receive`. Quart alone would keep any number of them."""

    _discarding: ClassVar[set[asyncio.Task[None]]] = set()

    def __init__(self, app: Quart, scope: WebsocketScope) -> None:
        super().__init__(app, scope)
        self.queue: Frames = Frames()
        self._client_left = False

    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        try:
            await super().__call__(receive, send)
        finally:
            if not self._client_left:
                # Hypercorn can't close the connection while frames wait for us that nobody takes any more.
                task = asyncio.create_task(_discard(receive))
                self._discarding.add(task)
                task.add_done_callback(self._discarding.discard)

    async def handle_messages(self, receive: ASGIReceiveCallable) -> None:
        """Returning ends the connection: the client has left, or its frames come faster than they are handled."""
        while self.queue.size <= MAX_WAITING_BYTES:
            event = await receive()
            if event["type"] == "websocket.disconnect":
                self._client_left = True
                return
            if event["type"] == "websocket.receive":
                await self.queue.put(event.get("text") or event.get("bytes") or "")


async def _discard(receive: ASGIReceiveCallable) -> None:
    while (await receive())["type"] != "websocket.disconnect":
        pass


class Call(BaseModel):
    """A request of a wallet."""

    jsonrpc: Literal["2.0"]
    id: CallId
    method: str
    params: dict[str, Any] = {}


class SubscribeParams(BaseModel):
    """Of `subscribe`: `filters` are quote ids, or `Y`s for proof_state."""

    kind: Text
    subId: Text  # noqa: N815 - the name on the wire
    filters: Annotated[list[Text], Field(min_length=1, max_length=MAX_FILTERS)]


class UnsubscribeParams(BaseModel):
    """Of `unsubscribe`."""

    subId: Text  # noqa: N815 - the name on the wire


class CallError(Exception):
    """A call that is answered with an error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@blueprint.websocket("/v1/ws")
async def subscriptions() -> None:
    """One connection: a task that reads calls, and one that sends. The first to end ends both."""
    client, all_limits = limits.client(), limits.rate_limits()
    with all_limits.websocket(client) as admitted:
        hub = services().hub
        most = all_limits.share(client, MAX_FILTERS_OF_CLIENT, MAX_FILTERS_OF_ALL)
        connection = hub.connect(client.key, most) if admitted else None
        if connection is None:
            await websocket.close(TRY_AGAIN_LATER, "too many connections")
        else:
            await _serve(hub, connection)


async def _serve(hub: Hub, connection: Connection) -> None:
    await websocket.accept()
    socket = websocket._get_current_object()  # type: ignore[attr-defined]  # the sender is a task of its own
    tasks = {asyncio.create_task(_receive(hub, connection)), asyncio.create_task(_send(socket, connection))}
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        hub.disconnect(connection)


async def _receive(hub: Hub, connection: Connection) -> None:
    while connection.end is None:
        frame = await websocket.receive()
        try:
            limits.charge(limits.REQUESTS, 1 + limits.cost_of_bytes(len(frame)))
        except TooManyRequestsError as error:
            connection.close(POLICY_VIOLATION, str(error))
        else:
            await _handle(hub, connection, frame)
    await asyncio.Event().wait()  # the sender ends the connection once it has said why


async def _send(socket: Websocket, connection: Connection) -> None:
    while (message := await connection.next_message()) is not None:
        await socket.send(message)
    if connection.end is not None:
        await socket.close(*connection.end)


async def _handle(hub: Hub, connection: Connection, frame: str | bytes) -> None:
    call_id: int | str | None = None
    try:
        try:
            raw = json.loads(frame)
        except (ValueError, RecursionError):
            raise CallError(PARSE_ERROR, "the message is not JSON") from None
        call_id = _id_of(raw)
        call = _read(Call, raw, INVALID_REQUEST)
        await _execute(hub, connection, call)
    except CallError as error:
        answer = {"jsonrpc": "2.0", "error": {"code": error.code, "message": str(error)}, "id": call_id}
        connection.send(json.dumps(answer))


def _id_of(raw: object) -> int | str | None:
    """The id of a call that may be malformed otherwise: without it a wallet waits for its answer for ever."""
    try:
        return _CALL_ID.validate_python(raw.get("id") if isinstance(raw, dict) else None)
    except ValidationError:
        return None


async def _execute(hub: Hub, connection: Connection, call: Call) -> None:
    if call.method == "subscribe":
        await _subscribe(hub, connection, call)
    elif call.method == "unsubscribe":
        params = _read(UnsubscribeParams, call.params, INVALID_PARAMS)
        subscription = connection.subscriptions.get(params.subId)
        if subscription is None:
            raise CallError(INVALID_PARAMS, "there is no subscription with this subId")
        hub.unsubscribe(subscription)
        connection.send(_accepted(call.id, params.subId))
    else:
        raise CallError(UNKNOWN_METHOD, "the methods are subscribe and unsubscribe")


async def _subscribe(hub: Hub, connection: Connection, call: Call) -> None:
    params = _read(SubscribeParams, call.params, INVALID_PARAMS)
    if params.kind not in hub.kinds():
        raise CallError(INVALID_PARAMS, f"kind: should be one of {', '.join(hub.kinds())}")
    filters = tuple(dict.fromkeys(params.filters))
    if params.kind == PROOF_STATE:
        filters = tuple(dict.fromkeys(y.lower() for y in filters))
    if params.subId in connection.subscriptions:
        raise CallError(INVALID_PARAMS, "this subId is in use")
    if len(connection.subscriptions) >= MAX_SUBSCRIPTIONS:
        raise CallError(INVALID_PARAMS, f"a connection can have {MAX_SUBSCRIPTIONS} subscriptions")
    if connection.filters + len(filters) > MAX_FILTERS_PER_CONNECTION:
        raise CallError(INVALID_PARAMS, f"a connection can have {MAX_FILTERS_PER_CONNECTION} filters")
    if not hub.has_room(connection, len(filters)):
        raise CallError(TOO_MANY_REQUESTS, "there are too many subscriptions from your address, or of all")
    subscription = Subscription(params.subId, params.kind, filters, connection)
    try:
        limits.charge(limits.LOOKUPS, len(filters))
        await hub.subscribe(subscription, _accepted(call.id, params.subId))
    except (LedgerError, ValidationError) as error:
        reason = error.detail if isinstance(error, LedgerError) else "a filter is not a Y in hex"
        raise CallError(INVALID_PARAMS, reason) from None
    except TooManyRequestsError as error:
        raise CallError(TOO_MANY_REQUESTS, str(error)) from None


def _read(model: type[T], raw: object, code: int) -> T:
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CallError(code, f"{where}: {first['msg']}" if where else first["msg"]) from None


def _accepted(call_id: int | str, sub_id: str) -> str:
    return json.dumps({"jsonrpc": "2.0", "result": {"status": "OK", "subId": sub_id}, "id": call_id})
