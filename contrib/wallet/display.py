"""What the command line prints: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import click

PLAIN_INTERVAL_S = 10.0
"""Where lines cannot be redrawn, an unchanged state is repeated this often only."""


def printable(text: str) -> str:
    """`text` on one line and without control characters: mints and tokens must not be able to steer the terminal."""
    return "".join(char if char.isprintable() else " " for char in text)


class Display:
    """Prints for people, or with `as_json` one JSON object for programs."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    def result(self, data: dict[str, Any], *lines: str) -> None:
        """The command's result: `data` for programs, `lines` for people."""
        if self.as_json:
            click.echo(json.dumps(data))
        else:
            for line in lines:
                click.echo(printable(line))

    def note(self, text: str) -> None:
        """Something that is not the result."""
        if not self.as_json:
            click.echo(printable(text), err=True)

    def error(self, text: str, code: int | None = None) -> None:
        """What went wrong, on one line."""
        if self.as_json:
            click.echo(json.dumps({"error": printable(text), "code": code}), err=True)
        else:
            click.echo(f"error: {printable(text)}", err=True)


class Progress:
    """Elapsed seconds and state while something is waited for: one redrawn line on a terminal, plain lines else."""

    def __init__(self, display: Display, what: str) -> None:
        self._quiet = display.as_json
        self._what = printable(what)
        self._start = time.monotonic()
        self._is_terminal = sys.stderr.isatty()
        self._last_state = ""
        self._last_line_at = 0.0
        self._drawn = False

    def update(self, state: str) -> None:
        """Show `state`."""
        now = time.monotonic()
        line = f"{self._what}: {printable(state)}, {now - self._start:.0f} s"
        if self._quiet:
            return
        if self._is_terminal:
            click.echo(f"\r\x1b[K{line}", nl=False, err=True)
            self._drawn = True
        elif state != self._last_state or now - self._last_line_at >= PLAIN_INTERVAL_S:
            click.echo(line, err=True)
            self._last_line_at = now
        self._last_state = state

    def close(self) -> None:
        """Leave the redrawn line."""
        if self._drawn:
            click.echo(err=True)
            self._drawn = False
