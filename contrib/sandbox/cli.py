"""`python -m contrib.sandbox cli METHOD [ARGUMENTS]`: commands of the node, for those without lightning-cli."""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from contrib.sandbox import places
from contrib.sandbox.jsonstream import GarbageError, JsonStream, dump

SOCKET_NAME = "lightning-rpc"
_READ_BYTES = 1 << 16


def main(arguments: Sequence[str]) -> int:
    """Run one command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m contrib.sandbox cli", description=__doc__)
    parser.add_argument("--dir", type=Path, help="the sandbox's directory (default: the one started last)")
    parser.add_argument("--network", default="regtest")
    parser.add_argument("method")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="values in order, or name=value")
    given = parser.parse_args(arguments)
    directory = given.dir or places.last_directory()
    path = directory / given.network / SOCKET_NAME
    try:
        response = call(path, given.method, read_arguments(given.arguments))
    except (OSError, ValueError) as error:
        print(f"can't talk to a sandbox at {path}: {error}", file=sys.stderr)
        return 2
    answer = response.get("result", response.get("error"))
    print(json.dumps(answer, indent=3, ensure_ascii=False))
    return 0 if "result" in response else 1


def call(path: Path, method: str, params: Any) -> dict[str, Any]:
    """One request on a connection of its own; returns the response."""
    stream = JsonStream()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(_short(path))
        connection.sendall(dump({"jsonrpc": "2.0", "id": "sandbox-cli", "method": method, "params": params}))
        while data := connection.recv(_READ_BYTES):
            for message in stream.feed(data):
                return message
    raise GarbageError("the connection was closed without a reply")


def read_arguments(words: Sequence[str]) -> list[Any] | dict[str, Any]:
    """By name if the first word looks like it, else by position."""
    if words and re.match(r"[a-z][a-z0-9_-]*=", words[0]):
        pairs = [word.partition("=") for word in words]
        return {name: read_value(value) for name, _, value in pairs}
    return [read_value(word) for word in words]


def read_value(word: str) -> Any:
    """JSON if it is JSON, else the word itself."""
    try:
        return json.loads(word)
    except ValueError:
        return word


def _short(path: Path) -> str:
    """Socket paths must be short; a relative one often is when the absolute one is not."""
    candidates = [str(path.absolute())]
    with contextlib.suppress(ValueError):
        candidates.append(str(path.absolute().relative_to(Path.cwd())))
    return min(candidates, key=len)
