"""The plugin protocol on standard input, by pyln, made to outlive messages that Python can't read.

Whoever may call one of our commands may write any JSON into its parameters, and lightningd passes it on as it is: with
numbers of thousands of digits, or nested thousands deep, Python's parser refuses it. That must be an error for the
caller, not the end of the mint.
"""

from __future__ import annotations

import json
import logging
import re
from typing import Any

from pyln.client import Plugin

INVALID_PARAMS = -32602
"""JSON-RPC's code for parameters that can't be used."""

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}:,]|[^\s\[\]{}:,"]+', re.DOTALL)

log = logging.getLogger(__name__)


class PatientPlugin(Plugin):
    """pyln's plugin, which answers what it can't read with an error, and refuses without a stack trace."""

    def _write_locked(self, obj: Any) -> None:
        # pyln adds `"traceback": "NoneType: None"` to each error of a command: to people that looks like a crash.
        if isinstance(error := obj.get("error"), dict):
            error.pop("traceback", None)
        super()._write_locked(obj)

    def _multi_dispatch(self, msgs: list[bytes]) -> bytes:
        for payload in msgs[:-1]:
            try:
                super()._multi_dispatch([payload, b""])
            except (ValueError, RecursionError) as error:
                self._refuse(payload, error)
        return msgs[-1]

    def _refuse(self, payload: bytes, error: Exception) -> None:
        log.warning("a message of the node can't be read: %s", error)
        request_id = find_id(payload)
        if request_id is not None:
            text = "the parameters can't be read: a number is too long, or they are nested too deep"
            answer = {"jsonrpc": "2.0", "id": request_id, "error": {"code": INVALID_PARAMS, "message": text}}
            self._write_locked(answer)


def find_id(payload: bytes) -> Any:
    """The id of a request, found without parsing the rest. None if it has none, or is no JSON object."""
    depth = 0
    previous: list[bytes] = []
    for match in _TOKEN.finditer(payload):
        token = match[0]
        if depth == 1 and previous[-2:] == [b'"id"', b":"] and token not in (b"{", b"["):
            try:
                found = json.loads(token)
            except ValueError:
                return None
            return found if isinstance(found, (str, int)) else None
        if token in (b"{", b"["):
            depth += 1
        elif token in (b"}", b"]"):
            depth -= 1
        previous = [*previous[-1:], token]
    return None
