"""How much one client may ask for: budgets that fill up again, for each address (see `clients`).

The algorithm (GCRA) and the store, which forgets the address that it has not seen for longest, are throttled-py's:
alone among the libraries of its kind it bounds its memory, and lets a request cost what it causes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import cast

from quart import current_app, has_websocket_context, request, websocket
from throttled import MemoryStore, RateLimiterType, Throttled, per_duration

from plugin.http.clients import Client, Clients
from plugin.http.subscriptions import MAX_CONNECTIONS
from plugin.options import Settings

EXTENSION = "nutbolt.limits"
PERCENT = 100
PER_S = 600
"""Seconds over which rates are counted: rates below one a second are whole numbers that way, at any percentage."""
MAX_CLIENTS = 20_000
"""Most clients whose use of one budget is remembered; beyond that the one that has asked for nothing for longest is
forgotten. Below 10 MB for each budget."""
MAX_WEBSOCKETS = 50
"""Of one client."""
CHARGED_BYTES = 64 * 1024
"""So much of a body or a frame costs as much as a request."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What one client can ask for. `what` it is, for the refusal; `burst`: at once, after a pause; `per_s`: all the
    time."""

    what: str
    burst: int
    per_s: int


REQUESTS = Budget("requests", 600, 20)
"""Requests and frames: one each, and one for each `CHARGED_BYTES`. A wallet that polls asks once a second."""
LOOKUPS = Budget("questions about proofs, outputs and quotes", 60_000, 1000)
"""Entries to be looked up (restore, checkstate, quotes, subscriptions): one each. A wallet that is restored asks for
some ten thousand, twice."""
SIGNATURES = Budget("signatures", 20_000, 200)
"""Signatures to be made or checked (swap, mint, melt): one each."""
NODE = Budget("quotes and payments", 240, 2)
"""What the node must do, and what stays with it: invoices, offers, addresses, routes, payments."""
OPERATOR = Budget("questions with a rune", 120, 2)
"""Data of the operator's page: the node checks a rune for each. An open page asks once a second at most."""

MELT_COST = 1
"""Of a payment; what quotes cost is said by their methods."""


class TooManyRequestsError(Exception):
    """A client has asked for more than its share. `retry_after_s`: when it can ask for this again."""

    def __init__(self, what: str, retry_after_s: int) -> None:
        super().__init__(f"too many {what} from your address: try again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


class RateLimits:
    """The budgets of all clients."""

    def __init__(self, settings: Settings) -> None:
        self.clients = Clients(settings.trusted_proxies)
        self._percent = {False: settings.rate_limit, True: settings.rate_limit_local}
        self._limiters: dict[tuple[Budget, bool], Throttled] = {
            (budget, shared): _limiter(budget, percent)
            for budget in (REQUESTS, LOOKUPS, SIGNATURES, NODE, OPERATOR)
            for shared, percent in self._percent.items()
            if percent
        }
        self._websockets: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        """How often each budget was exceeded."""

    def charge(self, client: Client, budget: Budget, cost: int = 1) -> None:
        """Count what a client asks for. Raises TooManyRequestsError if it is too much; then nothing is counted."""
        limiter = self._limiters.get((budget, client.shared))
        if limiter is None or cost <= 0:
            return
        # More than the whole budget could never be granted.
        answer = limiter.limit(client.key, min(cost, _burst(budget, self._percent[client.shared])))
        if answer.limited:
            self.refused[budget.what] += 1
            raise TooManyRequestsError(budget.what, max(1, math.ceil(answer.state.retry_after)))

    def share(self, client: Client, ordinary: int, most: int) -> int:
        """How many of a thing of which there are `most`, and a client has `ordinary` ones, this client may have: never
        more than half, so that others are served."""
        percent = self._percent[client.shared]
        return min(max(1, ordinary * percent // PERCENT), most // 2) if percent else most

    @contextmanager
    def websocket(self, client: Client) -> Iterator[bool]:
        """Count a WebSocket connection while it is open. False: this client has too many."""
        if self._websockets[client.key] >= self.share(client, MAX_WEBSOCKETS, MAX_CONNECTIONS):
            yield False
            return
        self._websockets[client.key] += 1
        try:
            yield True
        finally:
            self._websockets[client.key] -= 1
            if not self._websockets[client.key]:
                del self._websockets[client.key]


def _limiter(budget: Budget, percent: int) -> Throttled:
    rate = max(1, budget.per_s * PER_S * percent // PERCENT)
    return Throttled(
        using=RateLimiterType.GCRA.value,
        quota=per_duration(timedelta(seconds=PER_S), rate, _burst(budget, percent)),
        store=MemoryStore(options={"MAX_SIZE": MAX_CLIENTS}),
    )


def _burst(budget: Budget, percent: int) -> int:
    return max(1, budget.burst * percent // PERCENT)


# --- in a request -----------------------------------------------------------------------------------------------------


def rate_limits() -> RateLimits:
    """The mint's limits, inside a request."""
    return cast(RateLimits, current_app.extensions[EXTENSION])


def client() -> Client:
    """Who sends the present request."""
    # Not `remote_addr`: a client can send a header of that name.
    scope = websocket.scope if has_websocket_context() else request.scope
    peer = scope.get("client")
    return rate_limits().clients.identify(None if peer is None else peer[0], scope["headers"])


def charge(budget: Budget, cost: int = 1) -> None:
    """Count what the present request asks for. Raises TooManyRequestsError."""
    rate_limits().charge(client(), budget, cost)


def cost_of_bytes(length: int) -> int:
    """Of a body or a frame, above the one of its request."""
    return length // CHARGED_BYTES
