"""Changing JSON so that it stays JSON: bytes changed at random hardly ever get past a parser."""

from __future__ import annotations

import json
import random
from typing import Any

import atheris

POINT = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 3, 8, 2**31, 2**53, 2**63, 2**63 + 1, 2**64, 1.5, 1e308, [], {}, ""),
    *("0", "1", "2", "-1", "00", POINT, POINT[2:], "03" + POINT[2:], "02" + "00" * 32, "02" + "ff" * 32, "04" * 33),
    *("00" * 64, "ff" * 64, "00" * 32, "SIG_ALL", "SIG_INPUTS", "P2PK", "HTLC", "sat", "msat", "é", "\0", "😀"),
    *("9" * 20, "9" * 21, "1799999999", "1800000001", "\x1f", "a" * 129, "x" * 4097),
)
TAGS = ("sigflag", "pubkeys", "n_sigs", "locktime", "refund", "n_sigs_refund")
BYTES_ONE_IN = 4
"""So often bytes are changed, not JSON: parsers are to be fuzzed as well."""


def mutate(data: bytes, max_size: int, seed: int, *, prefix: int = 0) -> bytes:
    """Change one of the lines of JSON in `data`, behind a prefix of so many bytes; or bytes, if there is none."""
    chance = random.Random(seed)  # noqa: S311 - libFuzzer's own seed
    lines = data[prefix:].split(b"\n")
    place = chance.randrange(len(lines))
    try:
        content = json.loads(lines[place])
    except (ValueError, RecursionError):
        content = None
    if content is None or not chance.randrange(BYTES_ONE_IN):
        return bytes(atheris.Mutate(data, max_size))
    head = data[:prefix]
    if prefix and not chance.randrange(8):
        head = bytes([chance.randrange(256)])
    for _ in range(chance.choice((1, 1, 2, 4))):
        content = _changed(content, chance)
    try:
        lines[place] = json.dumps(content).encode()
    except (ValueError, RecursionError):
        return data
    return (head + b"\n".join(lines))[:max_size]


def _changed(content: Any, chance: random.Random) -> Any:
    """A copy with one thing in it changed."""
    if isinstance(content, dict) and content and chance.randrange(5):
        name = chance.choice(list(content))
        return {**content, name: _changed(content[name], chance)}
    if isinstance(content, list) and content and chance.randrange(4):
        place = chance.randrange(len(content))
        return [*content[:place], _changed(content[place], chance), *content[place + 1 :]]
    match chance.randrange(6):
        case 0 if isinstance(content, dict) and content:
            dropped = chance.choice(list(content))
            return {name: value for name, value in content.items() if name != dropped}
        case 1 if isinstance(content, list):
            return [*content, *(content[:3] or [_tag(chance)])]
        case 2 if isinstance(content, list):
            return [*content, _tag(chance)]
        case 3 if isinstance(content, str) and content:
            place = chance.randrange(len(content))
            return content[:place] + chance.choice('0aF"\\\0 é') + content[place + 1 :]
        case 4 if isinstance(content, int):
            return content + chance.choice((-1, 1, content))
    return chance.choice(VALUES)


def _tag(chance: random.Random) -> list[Any]:
    return [chance.choice(TAGS), *(chance.choice(VALUES) for _ in range(chance.randrange(3)))]
