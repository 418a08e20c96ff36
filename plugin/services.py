"""What the HTTP handlers and commands work with, once the mint is up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from quart import current_app

from ledger.ledger import Ledger
from plugin.http.subscriptions import Hub
from plugin.methods.method import Method
from plugin.methods.payouts import Payouts
from plugin.methods.resolver import Resolver
from plugin.methods.verdict import Verdicts
from plugin.metrics import Metrics
from plugin.operator.overview import Overview
from plugin.options import Settings
from plugin.solvency import Solvency

EXTENSION = "nutbolt"


@dataclass(frozen=True, slots=True)
class Services:
    """A running mint. `methods`: those that are switched on, by their names; `payouts`: who decides about on-chain
    melts, if there are any or can be; `solvency`: what is owed, and what the node owns; `metrics`: what is measured;
    `overview`: what the operator's page shows, if there is one."""

    settings: Settings
    ledger: Ledger
    methods: Mapping[str, Method]
    verdicts: Verdicts
    payouts: Payouts | None
    resolver: Resolver
    hub: Hub
    solvency: Solvency
    metrics: Metrics
    overview: Overview | None = None

    def changed(self) -> None:
        """The operator has changed something of which the ledger publishes no event: his page shall show it."""
        if self.overview is not None:
            self.overview.pulse.beat()

    def method(self, name: str) -> Method:
        """The payment method of this name; it must be switched on."""
        return self.methods[name]


def services() -> Services:
    """The running mint, inside a request."""
    return cast(Services, current_app.extensions[EXTENSION])
