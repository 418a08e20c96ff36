"""How much ecash the mint is answerable for, and the operator's limit on it (`cashu-max-outstanding`).

The limit is asked for where a mint quote is made, and nowhere else: what was paid is issued, and whoever holds ecash
can swap and melt it.
"""

from __future__ import annotations

import apsw

from ledger import audit
from ledger.errors import Code, LedgerError
from ledger.store.query import fetch_all
from ledger.units import to_msat

UNPAID_SHARE = 10
"""Quotes that nobody has paid yet count for at most this part of the limit, a tenth: counted in full, anybody could
close the mint with quotes that he never pays."""


def owed_msat(db: apsw.Connection) -> int:
    """Ecash in wallets' hands, and what was paid for and can still be issued, of all units."""
    outstanding = sum(to_msat(amount, unit) for unit, amount in audit.outstanding(db).items())
    unissued = fetch_all(
        db,
        "SELECT unit, sum(amount_paid - amount_issued) FROM mint_quotes WHERE amount_paid > amount_issued"
        " GROUP BY unit",
    )
    return outstanding + sum(to_msat(amount, unit) for unit, amount in unissued)


def unpaid_msat(db: apsw.Connection, now: int) -> int:
    """What can still be paid of the mint quotes that have an amount and an end, and that nobody has paid yet."""
    rows = fetch_all(
        db,
        "SELECT unit, sum(amount) FROM mint_quotes WHERE amount_paid = 0 AND amount IS NOT NULL AND expiry >= ?"
        " GROUP BY unit",
        (now,),
    )
    return sum(to_msat(amount, unit) for unit, amount in rows)


def has_room(db: apsw.Connection, now: int, amount_msat: int, limit_msat: int) -> bool:
    """Whether so much may still be asked for below the limit, which payments of old offers and deposits on the chain
    can pass."""
    left_msat = limit_msat - owed_msat(db)
    most_unpaid_msat = limit_msat // UNPAID_SHARE
    if amount_msat > left_msat or amount_msat <= left_msat - most_unpaid_msat:
        return amount_msat <= left_msat  # whatever is unpaid: there may be very many quotes to sum up
    return amount_msat <= left_msat - min(unpaid_msat(db, now), most_unpaid_msat)


def require_room(db: apsw.Connection, now: int, amount_msat: int, limit_msat: int) -> None:
    """Refuse a mint quote over more than there is room for: 20003. A limit of 0 is none."""
    if limit_msat and not has_room(db, now, amount_msat, limit_msat):
        raise LedgerError(
            Code.MINTING_DISABLED,
            "the mint's operator limits how much ecash there is, and this would be too much: try a smaller amount, or "
            "again later",
        )
