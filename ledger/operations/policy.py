"""What the operator has decided while the mint runs: what is paused (NUT-04, NUT-05), and the message of the day
(NUT-06). It is durable, and needs no restart.

A pause refuses what is new. It takes nothing back: what was paid is issued, melts in flight go on to their end, and
whoever holds ecash can swap it, restore it, and ask for its state.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import apsw

from ledger.errors import Code, LedgerError
from ledger.store.query import fetch_all
from ledger.store.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Policy:
    """The decisions in force. Times are unix seconds, None: not paused; `motd` is None if there is none."""

    minting_paused_at: int | None = None
    melting_paused_at: int | None = None
    motd: str | None = None

    def require_minting(self) -> None:
        """Raises 20003 for a new mint quote while minting is paused."""
        if self.minting_paused_at is not None:
            raise LedgerError(
                Code.MINTING_DISABLED,
                "the mint's operator has paused minting: nothing new can be asked for; what was paid is still issued",
            )

    def require_melting(self) -> None:
        """Raises 20000 (the NUTs have no code for it) for a new melt while melting is paused."""
        if self.melting_paused_at is not None:
            raise LedgerError(
                Code.QUOTE_REJECTED,
                "the mint's operator has paused melting: keep the ecash and try again later; swaps go on",
            )


Install = Callable[[Policy], None]


def load(db: apsw.Connection) -> Policy:
    """As they are now."""
    return Policy(*fetch_all(db, "SELECT minting_paused_at, melting_paused_at, motd FROM ledger")[0])


def pause(tx: Transaction, minting: bool | None, melting: bool | None, install: Install) -> Policy:
    """Pause (True) or unpause (False) minting and melting; None leaves one as it is. What is paused already stays
    paused since when it was. `install` receives what is in force once it is committed."""
    for column, wanted in (("minting_paused_at", minting), ("melting_paused_at", melting)):
        if wanted is not None:
            value = f"coalesce({column}, :now)" if wanted else "NULL"
            tx.db.execute(f"UPDATE ledger SET {column} = {value}", {"now": tx.now})  # noqa: S608 - names from above
    return _changed(tx, install)


def set_motd(tx: Transaction, motd: str | None, install: Install) -> Policy:
    """Set the message of the day; None takes it away."""
    tx.db.execute("UPDATE ledger SET motd = ?", (motd,))
    return _changed(tx, install)


def _changed(tx: Transaction, install: Install) -> Policy:
    policy = load(tx.db)
    tx.after_commit.append(lambda: install(policy))
    return policy
