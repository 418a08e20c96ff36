"""What an attack reports, whichever it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of one attack. `losses` counts what must never be: ecash or payments lost or doubled, books that
    don't balance, crashes, wrong answers. A report with losses names each of them in `findings`."""

    title: str
    what: str
    """One paragraph: what was attacked, how, and what was checked."""
    figures: dict[str, int | float | str]
    """Counted, never estimated; in the order they are shown."""
    losses: int
    findings: tuple[str, ...] = ()
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = field(default_factory=tuple)
    """A table, if the figures alone don't tell."""
