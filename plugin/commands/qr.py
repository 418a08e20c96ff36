"""`cashu-qr`: a QR code in the terminal, to add the mint to a wallet on a phone."""

from __future__ import annotations

import io

import segno

from plugin.commands.parameters import Answer, Call, CommandError, services, text
from plugin.mint import Mint

MAX_TEXT = 1000
"""Longest text: its code still fits into a terminal of some hundred columns."""
BORDER = 2
EVERYWHERE = ("://0.0.0.0:", "://[::]:")


async def draw(mint: Mint, call: Call) -> Answer:
    """Draw a QR code of {text}; without it, of the mint's URL: the first of cashu-urls, or where it listens.

    It is dark on light in a terminal with light letters on a dark ground. Wallets scan it to add the mint."""
    asked = call["text"]
    urls = services(mint).settings.urls
    if not asked and not urls and any(nowhere in mint.url for nowhere in EVERYWHERE):
        raise CommandError(
            f"{mint.url} stands for all of this machine's addresses, and is none that a phone could use: say by which "
            "one the mint is reached, here as `text`, or for good with the option cashu-urls"
        )
    shown = text("text", asked, MAX_TEXT) if asked else (urls[0] if urls else mint.url)
    drawn = io.StringIO()
    segno.make_qr(shown).terminal(drawn, compact=True, border=BORDER)
    # lightning-cli writes the only field of a simple answer as it is, without its name.
    return {"qr": f"{drawn.getvalue()}\n{shown}", "format-hint": "simple"}
