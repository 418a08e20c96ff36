"""What happened. The writer publishes these after the commit, in commit order (NUT-17 will send them as they are)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ledger.models import MeltQuote, MintQuote, ProofStateEntry


@dataclass(frozen=True, slots=True)
class MintQuoteChanged:
    """A mint quote was paid or issued; `quote` is what `GET` now answers."""

    quote: MintQuote


@dataclass(frozen=True, slots=True)
class MeltQuoteChanged:
    """A melt quote went PENDING, PAID or back to UNPAID; `quote` is what `GET` now answers."""

    quote: MeltQuote


@dataclass(frozen=True, slots=True)
class ProofsChanged:
    """Proofs are held by a melt, spent, or free again; as checkstate now answers (NUT-07)."""

    states: tuple[ProofStateEntry, ...]


Event = MintQuoteChanged | MeltQuoteChanged | ProofsChanged
Subscriber = Callable[[Event], None]
