"""Two ways to look at a page: by axe, for those who can't, and by a picture that was looked at before.

The pictures were made by one Chromium with one set of fonts. With others every letter differs: then they are skipped,
with a sentence. `SCREENSHOTS=new` makes them anew, with the browser and fonts that are there: look at each before it is
committed.
"""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest

Axe: Any = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs the extra `browser` (axe)").Axe
Image: Any = pytest.importorskip("PIL.Image", reason="needs the extra `browser` (Pillow)")
ImageChops: Any = pytest.importorskip("PIL.ImageChops")

MADE_WITH = "made_with.json"
COLOURS = 128
"""Of a stored picture: a fifth of the size, and no difference that anybody sees."""
FAR_APART = 60
"""Of 255, in one channel: so different are two pixels of which one is wrong, and not only smoothed otherwise."""
MOST_WRONG = 0.005
"""Part of a picture's pixels."""
HEIGHT_SLACK = 8
"""Pixels by which the whole may be taller or shorter."""
MASK = "#888888"
SAMPLE = "The quick brown fox 0123456789"


def require_accessible(page: Any) -> None:
    """Nothing that axe knows to be an obstacle."""
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def require_picture(page: Any, name: str, folder: Path, mask: list[str] | None = None) -> None:
    """The page looks as in the picture of this name, but for what is behind the mask (selectors)."""
    made_with = _made_with(page)
    hidden = [page.locator(selector) for selector in mask or []]
    shot = page.screenshot(full_page=True, animations="disabled", caret="hide", mask=hidden, mask_color=MASK)
    picture = Image.open(io.BytesIO(shot)).convert("RGB")
    path, note = folder / f"{name}.png", folder / MADE_WITH
    if os.environ.get("SCREENSHOTS") == "new":
        picture.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
        note.write_text(json.dumps(made_with, indent=1) + "\n")
        pytest.skip(f"{path.name} is new: look at it")
    if json.loads(note.read_text()) != made_with:
        pytest.skip(f"the pictures were made with {note.read_text().strip()}, here is {json.dumps(made_with)}")
    before = Image.open(path).convert("RGB")
    assert picture.width == before.width
    assert abs(picture.height - before.height) <= HEIGHT_SLACK, (
        f"{name}: {before.height} pixels tall, now {picture.height}"
    )
    box = (0, 0, picture.width, min(picture.height, before.height))
    wrong = _share_of_wrong(picture.crop(box), before.crop(box))
    if wrong > MOST_WRONG:
        picture.save(now := Path(os.environ.get("TMPDIR", "/tmp")) / f"{name}.now.png")
        pytest.fail(f"{name}: {wrong:.1%} of the picture has changed: compare {path} with {now}")


def _share_of_wrong(one: Any, other: Any) -> float:
    red, green, blue = ImageChops.difference(one, other).split()
    worst = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    wrong: int = sum(worst.histogram()[FAR_APART:])
    return wrong / int(one.width * one.height)


def _made_with(page: Any) -> dict[str, Any]:
    """Chromium's major version, and how wide a text is in the pages' two fonts."""
    widths = page.evaluate(
        """(sample) => ["--text", "--mono"].map((name) => {
            const context = document.createElement("canvas").getContext("2d");
            context.font = `16px ${getComputedStyle(document.documentElement).getPropertyValue(name)}`;
            return Math.round(context.measureText(sample).width * 10) / 10;
        })""",
        SAMPLE,
    )
    return {"chromium": int(page.context.browser.version.split(".")[0]), "widths": widths}
