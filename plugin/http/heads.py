"""The heads of requests: how large one may be, and what Hypercorn or Quart would stumble over."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

import h11

MAX_HEADER_LINES = 100
"""Of one request. To read each takes time, whatever it says."""
MAX_HOST_BYTES = 261
"""A name (RFC 1035), a colon, a port."""

_END = re.compile(rb"\n\r?\n")


class Parser(h11.Connection):
    """h11's parser, which counts lines first."""

    def next_event(self) -> Any:
        """As h11's. Raises RemoteProtocolError, also for too many lines."""
        if self.their_state is h11.IDLE:
            self._count_lines()
        try:
            return super().next_event()
        except h11.RemoteProtocolError as error:
            said, status = str(error), error.error_status_hint
            error.__traceback__ = None  # its frames know it: a cycle, and the whole connection hangs on it
        raise h11.RemoteProtocolError(said, status)

    def _count_lines(self) -> None:
        waiting, _ = self.trailing_data
        if waiting.count(b"\n") > MAX_HEADER_LINES:  # or several requests
            end = _END.search(waiting)
            if waiting.count(b"\n", 0, len(waiting) if end is None else end.end()) > MAX_HEADER_LINES + 2:
                raise h11.RemoteProtocolError(f"more than {MAX_HEADER_LINES} headers", 431)


def is_sound(request: h11.Request) -> bool:
    """Whether the target is a path, a URL with one, or `*` (RFC 9112 3.2), the host a name or an address, and what asks
    for a WebSocket ASCII."""
    try:
        path = urlsplit(request.target.decode("ascii")).path
        for name, value in request.headers:
            if name == b"host":
                if len(value) > MAX_HOST_BYTES:
                    return False  # before anything looks at it: that can take a long time
                host = value.decode("ascii")
                host.lower().encode("idna")  # as werkzeug does, which stumbles otherwise
                urlsplit(f"//{host}")  # what is in brackets must be an address of IPv6
            if name == b"connection" or name.startswith(b"sec-websocket-"):
                value.decode("ascii")
    except ValueError:
        return False
    return path.startswith(("/", "*"))
