"""Cutting a stream of bytes into JSON objects, as lightningd does on its socket and on a plugin's stdout."""

from __future__ import annotations

import codecs
import json
from json.decoder import scanstring  # type: ignore[attr-defined]
from json.scanner import py_make_scanner  # type: ignore[attr-defined]
from typing import Any

_EXCERPT = 200
_LITERALS = ("true", "false", "null", "-")
_MAX_ESCAPE = len("\\ud83d\\ude00")


class GarbageError(ValueError):
    """Something that is not, and can't become, a JSON object."""


class EscapedText(str):
    """A string that came with an escape of the form \\uXXXX, which lightningd takes in some places only."""

    __slots__ = ()


def _read_string(text: str, start: int, strict: bool = True) -> tuple[str, int]:
    value, end = scanstring(text, start, strict)
    raw = text[start:end].replace("\\\\", "")
    return (EscapedText(value) if "\\u" in raw else value), end


class _MarkingDecoder(json.JSONDecoder):
    parse_string: Any
    scan_once: Any

    def __init__(self) -> None:
        super().__init__()
        self.parse_string = _read_string
        self.scan_once = py_make_scanner(self)


class JsonStream:
    """Feed it bytes, get objects; an unfinished one waits for its rest.

    lightningd looks at what has come only once there is a closing brace. So a stray word on a plugin's stdout goes
    unnoticed until the plugin says something proper, and then both together are garbage.
    """

    def __init__(self, *, marks_escapes: bool = False) -> None:
        """With `marks_escapes`, strings with an escape are `EscapedText`."""
        self._text = codecs.getincrementaldecoder("utf-8")(errors="surrogateescape")
        self._buffer = ""
        self._decoder = _MarkingDecoder() if marks_escapes else json.JSONDecoder()

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """The objects that are complete now."""
        self._buffer += self._text.decode(data)
        objects: list[dict[str, Any]] = []
        while "}" in self._buffer:
            self._buffer = self._buffer.lstrip()
            if self._buffer[0] != "{":
                raise GarbageError(self._buffer[:_EXCERPT])
            try:
                found, end = self._decoder.raw_decode(self._buffer)
            except json.JSONDecodeError as error:
                if _may_go_on(self._buffer, error):
                    break
                raise GarbageError(self._buffer[:_EXCERPT]) from None
            objects.append(found)
            self._buffer = self._buffer[end:]
        return objects


def dump(message: dict[str, Any]) -> bytes:
    """A message as lightningd writes it, with the empty line that ends it."""
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def _may_go_on(text: str, error: json.JSONDecodeError) -> bool:
    """Whether the text is only cut off, so that what comes next can mend it."""
    rest = text[error.pos :].strip()
    if not rest or error.msg.startswith("Unterminated string"):
        return True
    if "escape" in error.msg:
        return len(rest) < _MAX_ESCAPE
    return any(literal.startswith(rest) for literal in _LITERALS)
