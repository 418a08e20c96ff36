"""What the plugin's process does without: memory that nothing here uses, and pauses that nobody notices but wallets."""

from __future__ import annotations

import gc
import sys
from types import ModuleType

COLLECT_ALL_AFTER = 100
"""Full collections of garbage are made ten times less often than is usual: each looks at all melts in flight, which
takes 40 ms with ten thousand of them, and finds next to nothing. What a request, a connection or a payment leaves is no
cycle, or a small one; tests see to that. What nobody has thought of is found in the end."""
SWITCH_INTERVAL_S = 0.0005
"""How long a thread may keep the others from the interpreter, ten times less than is usual. The writer asks for it
again after each call of SQLite, some twenty times for an operation."""

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


def shorten_pauses() -> None:
    """Let nobody wait for long for the interpreter. The collector of garbage passes over all that is there by now:
    modules, classes, the routes. They stay as long as the process does, and to look at all of them took 50 ms every few
    seconds while requests came."""
    gc.collect()
    gc.freeze()
    often, seldom, _ = gc.get_threshold()
    gc.set_threshold(often, seldom, COLLECT_ALL_AFTER)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
