#!/usr/bin/env python3
"""An issuer of offers that writes other amounts into its invoices than it was asked for: a plugin for a payee."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from pyln.client import Plugin

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from contrib.sandbox import bolt12

plugin = Plugin()
cheat: dict[str, int] = {}


@plugin.hook("rpc_command")
def on_command(rpc_command: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Change what the node is about to sign."""
    if rpc_command["method"] != "createinvoice" or not cheat:
        return {"result": "continue"}
    params = dict(rpc_command["params"])
    params["invstring"] = bolt12.replace_amount(params["invstring"], cheat["amount_msat"])
    return {"replace": {**rpc_command, "params": params}}


@plugin.method("cheater-ask")
def cheater_ask(amount_msat: int) -> dict[str, Any]:
    """Ask for this amount from now on."""
    cheat["amount_msat"] = amount_msat
    return {}


if __name__ == "__main__":
    plugin.run()
