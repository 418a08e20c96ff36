"""What happened. The writer publishes these after the commit, in commit order; NUT-17 sends them as they are.

`commit` numbers the group commit that made an event true. A snapshot of the ledger tells its own number
(`Ledger.commit_number`), so a reader knows which events its snapshot has in it already."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ledger.models import MeltQuote, MintQuote, ProofStateEntry


@dataclass(frozen=True, slots=True)
class MintQuoteChanged:
    """A mint quote was paid or issued; `quote` is what `GET` now answers. `issued`: how much of it by this change."""

    quote: MintQuote
    commit: int = 0
    issued: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class MeltQuoteChanged:
    """A melt quote went PENDING, PAID or back to UNPAID; `quote` is what `GET` now answers."""

    quote: MeltQuote
    commit: int = 0


@dataclass(frozen=True, slots=True)
class ProofsChanged:
    """Proofs are held by a melt, spent, or free again; as checkstate now answers (NUT-07)."""

    states: tuple[ProofStateEntry, ...]
    commit: int = 0


Event = MintQuoteChanged | MeltQuoteChanged | ProofsChanged
Subscriber = Callable[[Event], None]
