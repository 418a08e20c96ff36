"""Answers for people: the same figures as the JSON, as lines and tables."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

INDENT = "  "
SENTENCE = "sentence"


def render(answer: Mapping[str, Any]) -> str:
    """The sentence of the answer first, if it has one; then its figures, its groups, and its lists as tables."""
    lines = [str(answer[SENTENCE]), ""] if SENTENCE in answer else []
    lines += _fields({name: value for name, value in answer.items() if name != SENTENCE})
    return "\n".join(lines)


def _fields(fields: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    plain = {name: value for name, value in fields.items() if not isinstance(value, dict | list)}
    width = max((len(name) for name in plain), default=0)
    for name, value in plain.items():
        yield f"{indent}{name:<{width}}  {_value(name, value)}"
    for name, value in fields.items():
        if isinstance(value, dict):
            yield f"{indent}{name}:"
            yield from _fields(value, indent + INDENT)
        elif isinstance(value, list):
            yield f"{indent}{name}:{'' if value else '  none'}"
            yield from _rows(value, indent + INDENT)


def _rows(rows: Sequence[Any], indent: str) -> Iterator[str]:
    if not all(isinstance(row, dict) for row in rows):
        yield from (f"{indent}{_value('', row)}" for row in rows)
        return
    if any(isinstance(value, dict | list) for row in rows for value in row.values()):
        for number, row in enumerate(rows):  # no cell could hold that: a paragraph for each
            yield from [""] * (number > 0)
            yield from _fields(row, indent)
        return
    columns = list(dict.fromkeys(name for row in rows for name in row))
    table = [columns, *([_value(name, row.get(name)) for name in columns] for row in rows)]
    widths = [max(len(line[place]) for line in table) for place in range(len(columns))]
    for line in table if rows else []:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        yield (indent + INDENT.join(cells)).rstrip()


def _value(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and (name.endswith("_at") or name in ("expiry", "final_expiry")):
        try:
            return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        except (OverflowError, ValueError, OSError):  # a year beyond all calendars
            return str(value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)
