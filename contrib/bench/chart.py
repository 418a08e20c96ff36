"""Bars as SVG, small enough to be drawn by hand."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

WIDTH = 760
LABEL_WIDTH = 190
VALUE_WIDTH = 120
BAR = 11
GAP = 10
COLOURS = ("#c2571a", "#8a8f98", "#2f6f4f")
STYLE = "text{font:12px sans-serif;fill:#555} .t{font-weight:bold}"


class Row(NamedTuple):
    """Bars that belong together, one for each series; `note` stands behind the last."""

    label: str
    values: Sequence[float]
    note: str = ""


class Panel(NamedTuple):
    """Rows with one scale."""

    title: str
    series: Sequence[str]
    rows: Sequence[Row]


def draw(panels: Sequence[Panel]) -> str:
    """The panels below each other."""
    lines: list[str] = []
    top = 0
    for panel in panels:
        top = _draw_panel(panel, top + 22, lines)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" role="img">'
    return "\n".join([head, f"<style>{STYLE}</style>", *lines, "</svg>"]) + "\n"


def _draw_panel(panel: Panel, top: int, lines: list[str]) -> int:
    lines.append(f'<text class="t" x="0" y="{top}">{escape(panel.title)}</text>')
    for number, name in enumerate(panel.series):
        x = LABEL_WIDTH + 110 * number
        lines.append(f'<rect x="{x}" y="{top + 8}" width="10" height="10" fill="{COLOURS[number]}"/>')
        lines.append(f'<text x="{x + 15}" y="{top + 17}">{escape(name)}</text>')
    top += 30
    longest = max((value for row in panel.rows for value in row.values), default=1.0) or 1.0
    scale = (WIDTH - LABEL_WIDTH - VALUE_WIDTH) / longest
    for row in panel.rows:
        middle = top + len(row.values) * BAR / 2 + 4
        lines.append(f'<text x="0" y="{middle:.0f}">{escape(row.label)}</text>')
        for number, value in enumerate(row.values):
            y = top + number * BAR
            width = max(1.0, value * scale)
            lines.append(
                f'<rect x="{LABEL_WIDTH}" y="{y}" width="{width:.1f}" height="{BAR - 1}" fill="{COLOURS[number]}"/>'
            )
            note = f" {row.note}" if row.note and number == 0 else ""
            said = escape(f"{_figure(value)}{note}")
            lines.append(f'<text x="{LABEL_WIDTH + width + 5:.1f}" y="{y + 9}" font-size="10">{said}</text>')
        top += len(row.values) * BAR + GAP
    return top + GAP


def _figure(value: float) -> str:
    return f"{value:,.0f}".replace(",", " ") if value >= 20 else f"{value:.2f}"
