"""What the HTTP handlers and commands work with, once the mint is up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from quart import current_app

from ledger.ledger import Ledger
from plugin.http.subscriptions import Hub
from plugin.methods.bolt11 import Bolt11Method
from plugin.methods.verdict import Verdicts
from plugin.options import Settings

EXTENSION = "nutbolt"


@dataclass(frozen=True, slots=True)
class Services:
    """A running mint."""

    settings: Settings
    ledger: Ledger
    bolt11: Bolt11Method
    verdicts: Verdicts
    hub: Hub


def services() -> Services:
    """The running mint, inside a request."""
    return cast(Services, current_app.extensions[EXTENSION])
