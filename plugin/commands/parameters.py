"""What commands are called with, and how it is read."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from plugin.mint import Mint
from plugin.services import Services

Tell = Callable[[int, int], None]
"""Tells the caller how far the work is: step and number of steps. From any thread."""


class CommandError(Exception):
    """A command that can't be carried out; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call. `values` has every parameter of the command, None for one that was not given; `who` is the id of the
    request, which names its sender."""

    values: Mapping[str, Any]
    who: str
    tell: Tell

    def __getitem__(self, name: str) -> Any:
        return self.values[name]


Answer = dict[str, Any]
Work = Callable[[Mint, Call], Coroutine[Any, Any, Answer]]


def services(mint: Mint) -> Services:
    """The parts of a mint that is up. Raises CommandError."""
    if mint.services is None:
        raise CommandError(f"the mint is not ready: {mint.failure or 'recovering'}")
    return mint.services


def whole(name: str, value: Any, default: int | None, maximum: int, minimum: int = 0) -> int | None:
    """A whole number, or the default where none was given. Raises CommandError."""
    if value is None:
        return default
    text = str(value)
    if not text.isascii() or not text.isdigit() or not minimum <= int(text) <= maximum:
        raise CommandError(f"{name} must be a whole number from {minimum} to {maximum}")
    return int(text)


def flag(name: str, value: Any) -> bool:
    """True or false; false where nothing was given. Raises CommandError."""
    if value in (None, False, "false"):
        return False
    if value in (True, "true"):
        return True
    raise CommandError(f"{name} must be true or false")


def one_of(name: str, value: Any, allowed: tuple[str, ...], default: str | None) -> str | None:
    """One of some words. Raises CommandError."""
    if value is None:
        return default
    if not isinstance(value, str) or value not in allowed:
        raise CommandError(f"{name} must be one of: {', '.join(allowed)}")
    return value


def text(name: str, value: Any, limit: int) -> str:
    """Printable text. Raises CommandError."""
    if not isinstance(value, str) or len(value) > limit or not value.isprintable():
        raise CommandError(f"{name} must be text, at most {limit} printable characters")
    return value
