"""The node's runes: `createrune`, `checkrune`, `blacklistrune`, as far as a plugin can tell the difference.

A rune here looks like a real one, but its authcode is random, and its restrictions are kept beside it. Of a
restriction's tests those are known that need nothing but the method and the time: `=`, `/`, `^`, `$`, `~`, `<`, `>` on
`method` and `time`.
"""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from contrib.sandbox import params
from contrib.sandbox.commands import Result, command
from contrib.sandbox.errors import INVALID_PARAMS, RpcError, invalid_token
from contrib.sandbox.params import Args, optional, required
from contrib.sandbox.rpc_server import Request

if TYPE_CHECKING:
    from contrib.sandbox.node import Node

NOT_AUTHORIZED = 1501
NOT_PERMITTED = 1502
BLACKLISTED = 1503
AUTHCODE_BYTES = 32
_KIND = "rune"
_TESTS: dict[str, tuple[Callable[[str, str], bool], str]] = {
    "=": (lambda have, want: have == want, "is not equal to"),
    "/": (lambda have, want: have != want, "is equal to"),
    "^": (lambda have, want: have.startswith(want), "does not start with"),
    "$": (lambda have, want: have.endswith(want), "does not end with"),
    "~": (lambda have, want: want in have, "does not contain"),
    "<": (lambda have, want: int(have) < int(want), "is greater or equal to"),
    ">": (lambda have, want: int(have) > int(want), "is less or equal to"),
}


def restrictions(name: str, value: Any) -> list[list[str]]:
    """A list of lists of alternatives, or the word `readonly`."""
    if value == "readonly":
        return [["method^list", "method^get", "method=summary"], ["method/listdatastore"]]
    if not isinstance(value, list) or not all(
        isinstance(r, list) and all(isinstance(a, str) for a in r) for r in value
    ):
        raise invalid_token(name, value, "should be an array of arrays of strings")
    return value


@command("createrune", optional("rune", params.string), optional("restrictions", restrictions))
async def _createrune(node: Node, _request: Request, args: Args) -> Result:
    before = [] if args["rune"] is None else _find(node, args["rune"])["restrictions"]
    number = len(list(node.store.all(_KIND)))
    all_restrictions: list[list[str]] = [*before, *(args["restrictions"] or [])]
    made = {"number": number, "restrictions": all_restrictions, "blacklisted": False}
    text = "&".join([f"={number}", *("|".join(alternatives) for alternatives in all_restrictions)])
    rune = base64.urlsafe_b64encode(secrets.token_bytes(AUTHCODE_BYTES) + text.encode()).decode()
    node.store.put(_KIND, rune, made)
    return {"rune": rune, "unique_id": str(number)}


@command(
    "checkrune",
    required("rune", params.string),
    optional("nodeid", params.node_id),
    optional("method", params.string),
    optional("params", params.any_value),
)
async def _checkrune(node: Node, _request: Request, args: Args) -> Result:
    rune = _find(node, args["rune"])
    if rune["blacklisted"]:
        raise RpcError(BLACKLISTED, "Not authorized: Blacklisted rune")
    for alternatives in rune["restrictions"]:
        complaints = [_complaint(alternative, args["method"]) for alternative in alternatives]
        if all(complaints):
            raise RpcError(NOT_PERMITTED, f"Not permitted: {' AND '.join(map(str, complaints))}")
    return {"valid": True}


@command("blacklistrune", optional("start", params.u64), optional("end", params.u64))
async def _blacklistrune(node: Node, _request: Request, args: Args) -> Result:
    start = args["start"]
    end = start if args["end"] is None else args["end"]
    for text, rune in list(node.store.all(_KIND)):
        if start is not None and start <= rune["number"] <= end:
            node.store.put(_KIND, text, {**rune, "blacklisted": True})
    numbers = sorted(rune["number"] for _, rune in node.store.all(_KIND) if rune["blacklisted"])
    return {"blacklist": [{"start": number, "end": number} for number in numbers]}


def _find(node: Node, text: str) -> dict[str, Any]:
    found: dict[str, Any] | None = node.store.get(_KIND, text)
    if found is not None:
        return found
    try:
        decoded = base64.urlsafe_b64decode(text)
    except ValueError:
        decoded = b""
    if len(decoded) < AUTHCODE_BYTES:
        raise invalid_token("rune", text, "should be base64 string")
    raise RpcError(NOT_AUTHORIZED, "Not authorized: Not derived from master")


def _complaint(alternative: str, method: str | None) -> str | None:
    for position, sign in enumerate(alternative):
        if sign in _TESTS:
            field, wanted = alternative[:position], alternative[position + 1 :]
            have = {"method": method, "time": str(int(time.time()))}.get(field)
            if have is None:
                return f"{field} not present"
            passes, complaint = _TESTS[sign]
            return None if passes(have, wanted) else f"{field} {complaint} {wanted}"
    raise RpcError(INVALID_PARAMS, f"restrictions: unknown restriction {alternative}")
