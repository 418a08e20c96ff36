"""Command parameters: by position or by name, read and refused as lightningd does."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from contrib.sandbox.errors import INVALID_PARAMS, RpcError, invalid_token
from contrib.sandbox.jsonstream import EscapedText

U64_MAX = 2**64 - 1
U32_MAX = 2**32 - 1
MAX_LABEL_BYTES = 128

Reader = Callable[[str, Any], Any]


@dataclass(frozen=True)
class Param:
    """One parameter of a command."""

    name: str
    read: Reader
    required: bool = False
    default: Any = None


class Args(dict[str, Any]):
    """Parameters after reading; absent ones have their default."""


def required(name: str, read: Reader) -> Param:
    """A parameter that must be given."""
    return Param(name, read, required=True)


def optional(name: str, read: Reader, default: Any = None) -> Param:
    """A parameter that may be left out or null."""
    return Param(name, read, default=default)


def read_params(given: Any, spec: Sequence[Param]) -> Args:
    """Match what a client sent to a command's parameters; raises :class:`RpcError` -32602."""
    by_name: dict[str, Any] = {}
    if isinstance(given, list):
        if len(given) > len(spec):
            raise RpcError(INVALID_PARAMS, f"too many parameters: got {len(given)}, expected {len(spec)}")
        by_name = {param.name: value for param, value in zip(spec, given, strict=False)}
    elif isinstance(given, dict):
        known = {param.name for param in spec}
        for name in given:
            if name not in known:
                raise RpcError(
                    INVALID_PARAMS,
                    f"unknown parameter: {name}, this may be caused by a failure to autodetect key=value-style"
                    " parameters. Please try using the -k flag and explicit key=value pairs of parameters.",
                )
        by_name = given
    elif given is not None:
        raise RpcError(INVALID_PARAMS, "Expected array or object for params")
    args = Args()
    for param in spec:
        value = by_name.get(param.name)
        if value is not None:
            args[param.name] = param.read(param.name, value)
        elif param.required:
            raise RpcError(INVALID_PARAMS, f"missing required parameter: {param.name}")
        else:
            args[param.name] = param.default
    return args


def any_value(_name: str, value: Any) -> Any:
    """Whatever was sent."""
    return value


def string(name: str, value: Any) -> str:
    """A string; numbers and booleans are taken by their text."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    raise invalid_token(name, value, "should be a string")


def plain_string(name: str, value: Any) -> str:
    """Only a JSON string, without control characters, and without escapes of the form \\uXXXX."""
    if (
        not isinstance(value, str)
        or isinstance(value, EscapedText)
        or any(ord(char) < 0x20 and char not in "\n\t\r\b\f" for char in value)
    ):
        raise invalid_token(name, value, "should be a string (without \\u)")
    return value


def label(name: str, value: Any) -> str:
    """An invoice's or payment's label."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise invalid_token(name, value, "should be a string or number")
    return value if isinstance(value, str) else json.dumps(value)


def u64(name: str, value: Any) -> int:
    """An unsigned 64 bit number."""
    number = _integer(value)
    if number is None or not 0 <= number <= U64_MAX:
        raise invalid_token(name, value, "should be an unsigned 64 bit integer")
    return number


def u32(name: str, value: Any) -> int:
    """An unsigned 32 bit number."""
    number = _integer(value)
    if number is None or not 0 <= number <= U32_MAX:
        raise invalid_token(name, value, "should be an integer")
    return number


def boolean(name: str, value: Any) -> bool:
    """true or false, also as a string."""
    if isinstance(value, bool):
        return value
    if value in ("true", "false"):
        return bool(value == "true")
    raise invalid_token(name, value, "should be 'true' or 'false'")


def strings(name: str, value: Any) -> list[str]:
    """An array of strings."""
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise invalid_token(name, value, "should be an array of strings")
    return list(value)


def sha256(name: str, value: Any) -> str:
    """A 32 byte hash in hex."""
    if not isinstance(value, str) or not re.fullmatch(r"[0-9a-fA-F]{64}", value):
        raise invalid_token(name, value, "should be a 32 byte hex value")
    return value.lower()


def node_id(name: str, value: Any) -> str:
    """A node's public key."""
    if not isinstance(value, str) or not re.fullmatch(r"0[23][0-9a-fA-F]{64}", value):
        raise invalid_token(name, value, "should be a node id")
    return value.lower()


def hex_bytes(name: str, value: Any) -> bytes:
    """Binary data in hex."""
    if isinstance(value, str) and re.fullmatch(r"([0-9a-fA-F]{2})*", value):
        return bytes.fromhex(value)
    raise invalid_token(name, value, "should be a hex value")


def msat(name: str, value: Any) -> int:
    """An amount: plain millisatoshis, or with one of the units msat, sat, btc."""
    amount = _amount(value)
    if amount is None:
        raise invalid_token(name, value, "should be a millisatoshi amount")
    return amount


def msat_or_any(name: str, value: Any) -> int | str:
    """A positive amount or the word "any"."""
    if value == "any":
        return "any"
    amount = _amount(value)
    if not amount:
        raise invalid_token(name, value, "should be positive msat or 'any'")
    return amount


def one_of(complaint: str, *choices: str) -> Reader:
    """One of some words."""

    def read(name: str, value: Any) -> str:
        if value not in choices:
            raise invalid_token(name, value, complaint)
        return str(value)

    return read


def _integer(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,20}", value):
        return int(value)
    return None


def _amount(value: Any) -> int | None:
    whole = _integer(value)
    if whole is not None:
        return whole if 0 <= whole <= U64_MAX else None
    if not isinstance(value, str):
        return None
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(msat|sat|btc)", value)
    if not match:
        return None
    try:
        amount = Decimal(match.group(1)) * {"msat": 1, "sat": 1000, "btc": 100_000_000_000}[match.group(2)]
    except InvalidOperation:
        return None
    return int(amount) if amount == amount.to_integral_value() else None
