"""What the plugin's process does without, because it would cost memory and nothing here uses it."""

from __future__ import annotations

import sys
from types import ModuleType

PACKAGE = "pyln.client"
UNUSED = ("gossmap", "gossmapstats")
"""Readers of the node's gossip file. `pyln.client` imports them whoever imports it, and with them `pyln.proto`,
cryptography and bitstring: 13 MiB."""


def without_gossip() -> None:
    """Let `pyln.client` be imported without its readers of gossip; their names are there, and stand for None.

    Call it before anything imports `pyln.client`; afterwards it does nothing."""
    if PACKAGE in sys.modules:
        return
    for name in UNUSED:
        placeholder = ModuleType(f"{PACKAGE}.{name}")
        placeholder.__getattr__ = _nothing  # type: ignore[method-assign]
        sys.modules[placeholder.__name__] = placeholder


def _nothing(name: str) -> None:
    if name.startswith("__"):  # what Python itself asks of a module
        raise AttributeError(name)
