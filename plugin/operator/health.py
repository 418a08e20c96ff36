"""Whether all is well, in a sentence for each thing that could be wrong. Pure: facts go in, checks come out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ledger.keysets import Keyset
from ledger.operations.policy import Policy
from plugin.solvency import Balance, Books, in_sat

OLD_MELT_S = 24 * 3600
"""A melt in flight for longer than this is worth a look."""
KEYSET_ENDS_S = 14 * 86400
"""So long before the end of a keyset's ecash it is said."""
FULL_PERCENT = 90
"""Of `cashu-max-outstanding`: from there on it is said."""

State = Literal["good", "warn", "bad"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing: well (`good`), worth a look (`warn`), or wrong (`bad`)."""

    name: str
    state: State
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What it is judged by. `balance` is None if the node can't be asked; `oldest_begun_at` without melts in flight;
    `stuck`: melts of which the node knows nothing any more; `max_outstanding_msat` is 0 without a limit."""

    now: int
    balance: Balance | None
    books: Books
    oldest_begun_at: int | None
    stuck: int
    max_outstanding_msat: int
    policy: Policy
    keysets: tuple[Keyset, ...]
    units: tuple[str, ...]


def check(facts: Facts) -> list[Check]:
    """Everything, in the order in which it matters."""
    return [_solvency(facts), _books(facts), _melts(facts), *_policy(facts), *_room(facts), *_keysets(facts)]


def _solvency(facts: Facts) -> Check:
    if facts.balance is None:
        return Check("Solvency", "bad", "The node can't be asked what it owns: see its log.")
    return Check("Solvency", "good" if facts.balance.covered else "bad", facts.balance.sentence)


def _books(facts: Facts) -> Check:
    if facts.books.earned_msat < 0:
        missing = in_sat(-facts.books.earned_msat)
        return Check("Books", "bad", f"More is owed than came in and is left, by {missing}: look at cashu-audit.")
    return Check("Books", "good", "What came in covers what is owed and what was paid out.")


def _melts(facts: Facts) -> Check:
    if facts.stuck:
        text = f"{facts.stuck} in flight of which the node knows nothing any more: see cashu-pending."
        return Check("Melts", "bad", text)
    if facts.oldest_begun_at is None:
        return Check("Melts", "good", "None is in flight.")
    if facts.now - facts.oldest_begun_at > OLD_MELT_S:
        hours = (facts.now - facts.oldest_begun_at) // 3600
        return Check("Melts", "warn", f"One has been in flight for {hours} hours: cashu-pending says why.")
    return Check("Melts", "good", f"{facts.books.melts} in flight.")


def _policy(facts: Facts) -> Iterator[Check]:
    paused = [
        name
        for name, since in (
            ("minting", facts.policy.minting_paused_at),
            ("melting", facts.policy.melting_paused_at),
        )
        if since is not None
    ]
    if paused:
        yield Check("Paused", "warn", f"You have paused {' and '.join(paused)}: cashu-unpause ends that.")


def _room(facts: Facts) -> Iterator[Check]:
    limit_msat = facts.max_outstanding_msat
    if limit_msat and facts.books.owed_msat * 100 >= limit_msat * FULL_PERCENT:
        share = facts.books.owed_msat * 100 // limit_msat
        yield Check("Room", "warn", f"{share} % of cashu-max-outstanding ({in_sat(limit_msat)}) is used.")


def _keysets(facts: Facts) -> Iterator[Check]:
    for unit in facts.units:
        active = next((keyset for keyset in facts.keysets if keyset.active and keyset.unit == unit), None)
        if active is None:
            yield Check("Keysets", "bad", f"No keyset signs {unit}: make one with cashu-rotate.")
    for keyset in facts.keysets:
        if keyset.final_expiry is not None and 0 <= keyset.final_expiry - facts.now < KEYSET_ENDS_S:
            days = (keyset.final_expiry - facts.now) // 86400
            yield Check("Keysets", "warn", f"The ecash of keyset {keyset.id[:16]}… ends in {days} days.")
