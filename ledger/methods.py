"""What the ledger must know of payment methods; how they move value is the plugin's matter."""

from __future__ import annotations

BOLT11 = "bolt11"
BOLT12 = "bolt12"
ONCHAIN = "onchain"

REUSABLE = frozenset({BOLT12, ONCHAIN})
"""Their mint quotes can be paid many times, and issued bit by bit: any amount up to what is left (NUT-25, NUT-30)."""
