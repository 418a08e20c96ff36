"""Lists of quotes for the operator, the newest first, a page at a time.

Nothing in them gives a right: whoever knows a mint quote's id can have its ecash issued (NUT-04), so quotes are named
as the node knows them, by labels and handles that are made from their ids and don't lead back to them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import apsw

from ledger.ids import handle_of, label_of
from ledger.methods import ONCHAIN
from ledger.store.query import fetch_all

MINT_STATES = {
    "unpaid": "amount_paid = 0",
    "paid": "amount_paid > amount_issued",
    "issued": "amount_paid > 0 AND amount_paid = amount_issued",
}
"""`paid`: something is left to be issued."""
MELT_STATES = {"unpaid": "state = 'UNPAID'", "pending": "state = 'PENDING'", "paid": "state = 'PAID'"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which quotes, and how many at most. `before`: only those that are older than no. `before`."""

    method: str | None
    state: str | None
    before: int | None
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """What both kinds have. `n` is its place among all quotes of its kind; amounts are in `unit`, times are unix
    seconds."""

    n: int
    label: str
    method: str
    unit: str
    amount: int | None
    state: str
    created_at: int
    expiry: int | None
    payment_hash: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MintQuoteListed(Listed):
    """A mint quote. `locked`: only the holder of a key can have it issued (NUT-20); `address`: where it is paid on the
    chain."""

    amount_paid: int
    amount_issued: int
    locked: bool
    address: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MeltQuoteListed(Listed):
    """A melt quote. `handle`: what cashu-pending and cashu-resolve call its last attempt, if there was one; `txid`: of
    its transaction on the chain."""

    handle: str | None
    fee_reserve: int | None
    sent_msat: int | None
    begun_at: int | None
    paid_at: int | None
    txid: str | None
    error: str | None


def mint_quotes(db: apsw.Connection, wanted: Wanted) -> list[MintQuoteListed]:
    """Some mint quotes. `state` is one of MINT_STATES."""
    columns = (*_COMMON, "label", "amount_paid", "amount_issued", "pubkey", "request")
    listed = []
    for row in _select(db, "mint_quotes", columns, MINT_STATES, wanted):
        paid, issued = row["amount_paid"], row["amount_issued"]
        quote = MintQuoteListed(
            **_common(row),
            label=row["label"],
            state="unpaid" if paid == 0 else "paid" if paid > issued else "issued",
            amount_paid=paid,
            amount_issued=issued,
            locked=row["pubkey"] is not None,
            address=row["request"] if row["method"] == ONCHAIN else None,
        )
        listed.append(quote)
    return listed


def melt_quotes(db: apsw.Connection, wanted: Wanted) -> list[MeltQuoteListed]:
    """Some melt quotes. `state` is one of MELT_STATES."""
    columns = (*_COMMON, "id", "state", "attempt", *_MELT, "(SELECT txid FROM payouts WHERE melt_quote = n)")
    listed = []
    for row in _select(db, "melt_quotes", columns, MELT_STATES, wanted):
        quote = MeltQuoteListed(
            **_common(row),
            label=label_of(row["id"]),
            state=row["state"].lower(),
            handle=handle_of(row["id"], row["attempt"]) if row["attempt"] else None,
            txid=_hex(row[columns[-1]]),
            **{name: row[name] for name in _MELT},
        )
        listed.append(quote)
    return listed


_COMMON = ("n", "method", "unit", "amount", "created_at", "expiry", "payment_hash")
_MELT = ("fee_reserve", "sent_msat", "begun_at", "paid_at", "error")


def _common(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in _COMMON} | {"payment_hash": _hex(row["payment_hash"])}


def _select(
    db: apsw.Connection, table: str, columns: tuple[str, ...], states: dict[str, str], wanted: Wanted
) -> list[dict[str, Any]]:
    """`columns` and `table` are constants of this file."""
    conditions, bindings = ["1"], list[int | str]()
    if wanted.before is not None:
        conditions.append("n < ?")
        bindings.append(wanted.before)
    if wanted.method is not None:
        conditions.append("method = ?")
        bindings.append(wanted.method)
    if wanted.state is not None:
        conditions.append(states[wanted.state])
    rows = fetch_all(
        db,
        f"SELECT {', '.join(columns)} FROM {table} WHERE {' AND '.join(conditions)}"  # noqa: S608
        " ORDER BY n DESC LIMIT ?",
        (*bindings, wanted.limit),
    )
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _hex(value: bytes | None) -> str | None:
    return None if value is None else value.hex()
