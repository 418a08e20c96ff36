"""Melt quotes as they are stored, shown, and read back while their payment is in flight (NUT-05, NUT-23, NUT-25,
NUT-30). What moves them is in `melt` and `payout`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import apsw

from ledger.errors import Code, LedgerError
from ledger.ids import handle_of, label_of
from ledger.methods import ONCHAIN
from ledger.models import (
    BlindSignature,
    FeeOption,
    MeltQuote,
    MeltQuoteLightning,
    MeltQuoteOnchain,
    MeltQuoteState,
)
from ledger.operations import outputs
from ledger.store.query import fetch_all, fetch_one
from ledger.store.transaction import Transaction


@dataclass(frozen=True, slots=True)
class NodeMark:
    """How far the node had counted when a quote was made: evidence for later, if the payment's rows are missing."""

    sends_index: int
    moves_index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMeltQuote:
    """A melt quote to be stored. `amount` is in `unit`."""

    id: str
    method: str
    unit: str
    request: str
    amount: int
    amount_msat: int
    expiry: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPayment(NewMeltQuote):
    """A melt quote for a Lightning payment. `fee_reserve` is in `unit`.

    `invoice`: what is paid, if it is not `request` itself (NUT-25); `amountless`: it names no amount (NUT-23);
    `partial`: it names more, and others pay the rest (NUT-15).
    """

    payment_hash: bytes
    invoice: str | None = None
    amountless: bool
    fee_reserve: int
    mark: NodeMark
    partial: bool = False


@dataclass(frozen=True, slots=True)
class NewFeeOption:
    """One of the fees that an on-chain quote offers. `fee_reserve` is in the quote's unit."""

    fee_reserve: int
    estimated_blocks: int
    feerate_perkw: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPayout(NewMeltQuote):
    """A melt quote for an on-chain payment (NUT-30). The place of an option is its `fee_index`."""

    fee_options: tuple[NewFeeOption, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingMelt:
    """A melt in flight: what is needed to send its payment, and to find out what became of it."""

    quote: str
    method: str
    unit: str
    request: str
    amount: int
    amount_msat: int
    fee_reserve: int
    attempt: int
    begun_at: int

    @property
    def label(self) -> str:
        """How the node knows this melt's payment."""
        return label_of(self.quote)

    @property
    def handle(self) -> str:
        """How the operator calls this attempt; another one of the same quote has another. Not the quote's id: that is
        the wallet's secret."""
        return handle_of(self.quote, self.attempt)


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingPayment(PendingMelt):
    """A melt in flight by a Lightning payment of `invoice`."""

    invoice: str
    payment_hash: bytes
    amountless: bool
    node_run: int
    mark: NodeMark
    partial: bool


@dataclass(frozen=True, slots=True)
class Built:
    """The signed transaction of an on-chain melt, output `vout` of which pays it. There is never another one, unless
    it can't come to pass any more. `height`: of the chain when it was built."""

    txid: bytes
    vout: int
    psbt: str
    fee_sat: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingPayout(PendingMelt):
    """A melt in flight by an on-chain payment. `built` is None until its transaction is made.

    `chain_index`: what has moved its coins since then has a higher index at the node."""

    feerate_perkw: int
    built: Built | None = None
    chain_index: int = 0
    broadcast_at: int | None = None


def create_payment(tx: Transaction, quote: NewPayment) -> MeltQuote:
    """Store a new quote. Raises 20005 or 20006 if the same payment is in flight or made already."""
    require_unpaid_hash(tx.db, quote.payment_hash)
    _insert(
        tx,
        quote,
        invoice=quote.invoice,
        payment_hash=quote.payment_hash,
        amountless=quote.amountless,
        partial=quote.partial,
        fee_reserve=quote.fee_reserve,
        sends_index=quote.mark.sends_index,
        moves_index=quote.mark.moves_index,
    )
    return get(tx.db, quote.method, quote.id)


def create_payout(tx: Transaction, quote: NewPayout) -> MeltQuote:
    """Store a new on-chain quote with its fees (NUT-30)."""
    n = _insert(tx, quote, amountless=False, partial=False, sends_index=0, moves_index=0)
    tx.db.executemany(
        "INSERT INTO fee_options (melt_quote, fee_index, fee_reserve, estimated_blocks, feerate_perkw)"
        " VALUES (?, ?, ?, ?, ?)",
        [
            (n, index, option.fee_reserve, option.estimated_blocks, option.feerate_perkw)
            for index, option in enumerate(quote.fee_options)
        ],
    )
    return get(tx.db, quote.method, quote.id)


def _insert(tx: Transaction, quote: NewMeltQuote, **more: str | bytes | int | None) -> int:
    columns = {
        "id": quote.id,
        "method": quote.method,
        "unit": quote.unit,
        "request": quote.request,
        "amount": quote.amount,
        "amount_msat": quote.amount_msat,
        "expiry": quote.expiry,
        "created_at": tx.now,
        **more,
    }
    marks = ", ".join("?" * len(columns))
    tx.db.execute(
        f"INSERT INTO melt_quotes ({', '.join(columns)}) VALUES ({marks})",  # noqa: S608 - names from above
        tuple(columns.values()),
    )
    return tx.db.last_insert_rowid()


def get(db: apsw.Connection, method: str, quote_id: str) -> MeltQuote:
    """A quote as `GET` answers it, change included. Raises 20000 for an unknown one or one of another method."""
    return to_wire(db, find_row(db, method, quote_id))


class Row(NamedTuple):
    """A row of `melt_quotes`, column by column."""

    n: int
    id: str
    method: str
    unit: str
    request: str
    invoice: str | None
    payment_hash: bytes | None
    amount: int
    amount_msat: int
    amountless: int
    partial: int
    fee_reserve: int | None
    fee_index: int | None
    expiry: int
    state: str
    attempt: int
    digest: bytes | None
    error: str | None
    input_amount: int | None
    input_fee: int | None
    begun_at: int | None
    node_run: int | None
    sends_index: int
    moves_index: int
    preimage: bytes | None


_SELECT = f"SELECT {', '.join(Row._fields)} FROM melt_quotes"  # noqa: S608


def find_row(db: apsw.Connection, method: str, quote_id: str) -> Row:
    row = fetch_one(db, f"{_SELECT} WHERE id = ? AND method = ?", (quote_id, method))
    if row is None:
        raise LedgerError(Code.QUOTE_REJECTED, f"this mint has no {method} melt quote of that id")
    return Row(*row)


def to_wire(db: apsw.Connection, row: Row) -> MeltQuote:
    common = MeltQuote(
        quote=row.id,
        request=row.request,
        amount=row.amount,
        unit=row.unit,
        method=row.method,
        state=MeltQuoteState(row.state),
        expiry=row.expiry,
        change=_change(db, row) if row.state == MeltQuoteState.PAID else None,
        error=row.error,
    )
    if row.method == ONCHAIN:
        payout = payout_of(db, row.n)
        options = fetch_all(
            db,
            "SELECT fee_index, fee_reserve, estimated_blocks FROM fee_options WHERE melt_quote = ? ORDER BY fee_index",
            (row.n,),
        )
        return MeltQuoteOnchain(
            **dict(common),
            fee_options=[
                FeeOption(fee_index=index, fee_reserve=reserve, estimated_blocks=blocks)
                for index, reserve, blocks in options
            ],
            selected_fee_index=row.fee_index,
            outpoint=None if payout is None or payout.broadcast_at is None else payout.outpoint,
        )
    assert row.fee_reserve is not None
    return MeltQuoteLightning(
        **dict(common),
        fee_reserve=row.fee_reserve,
        payment_preimage=row.preimage.hex() if row.preimage is not None else None,
    )


def _change(db: apsw.Connection, row: Row) -> list[BlindSignature] | None:
    promises = fetch_all(
        db,
        "SELECT k.id, p.amount, p.c_, p.e, p.s FROM promises p JOIN keysets k ON k.n = p.keyset"
        " WHERE p.melt_quote = ? AND p.c_ IS NOT NULL ORDER BY p.n",
        (row.n,),
    )
    return [outputs.to_wire(*promise) for promise in promises] or None


class Payout(NamedTuple):
    """A row of `payouts`."""

    txid: bytes
    vout: int
    psbt: str
    fee_sat: int
    height: int
    chain_index: int
    broadcast_at: int | None

    @property
    def outpoint(self) -> str:
        """Where the payment is (NUT-30)."""
        return f"{self.txid.hex()}:{self.vout}"

    @property
    def built(self) -> Built:
        """The transaction."""
        return Built(self.txid, self.vout, self.psbt, self.fee_sat, self.height)


def payout_of(db: apsw.Connection, n: int) -> Payout | None:
    """The transaction of a melt quote, if there is one."""
    row = fetch_one(
        db,
        f"SELECT {', '.join(Payout._fields)} FROM payouts WHERE melt_quote = ?",  # noqa: S608 - names from above
        (n,),
    )
    return None if row is None else Payout(*row)


def pending(db: apsw.Connection) -> list[PendingMelt]:
    """Every melt in flight, oldest first."""
    rows = fetch_all(db, f"{_SELECT} WHERE state = 'PENDING' ORDER BY n")
    return [to_pending(db, Row(*row)) for row in rows]


def pending_by_hash(db: apsw.Connection, payment_hash: bytes) -> PendingPayment | None:
    """The melt in flight for this payment hash; there is at most one."""
    # Both states, as in the index of live hashes; by the index of pending ones all of them would be read.
    row = fetch_one(
        db, f"{_SELECT} WHERE payment_hash = ? AND state IN ('PENDING', 'PAID') AND state = 'PENDING'", (payment_hash,)
    )
    melt = None if row is None else to_pending(db, Row(*row))
    assert melt is None or isinstance(melt, PendingPayment)
    return melt


def pending_payouts(db: apsw.Connection) -> list[PendingPayout]:
    """The on-chain ones among them."""
    rows = fetch_all(db, f"{_SELECT} WHERE state = 'PENDING' AND method = ? ORDER BY n", (ONCHAIN,))
    found = (to_pending(db, Row(*row)) for row in rows)
    return [melt for melt in found if isinstance(melt, PendingPayout)]


def pending_payout(db: apsw.Connection, quote_id: str) -> PendingPayout | None:
    """The on-chain melt in flight of this quote."""
    row = fetch_one(db, f"{_SELECT} WHERE id = ? AND state = 'PENDING' AND method = ?", (quote_id, ONCHAIN))
    melt = None if row is None else to_pending(db, Row(*row))
    assert melt is None or isinstance(melt, PendingPayout)
    return melt


def to_pending(db: apsw.Connection, row: Row) -> PendingMelt:
    assert row.fee_reserve is not None
    common: dict[str, Any] = {
        "quote": row.id,
        "method": row.method,
        "unit": row.unit,
        "request": row.request,
        "amount": row.amount,
        "amount_msat": row.amount_msat,
        "fee_reserve": row.fee_reserve,
        "attempt": row.attempt,
        "begun_at": row.begun_at or 0,
    }
    if row.method == ONCHAIN:
        feerate = db.execute(
            "SELECT feerate_perkw FROM fee_options WHERE melt_quote = ? AND fee_index = ?", (row.n, row.fee_index)
        ).get
        payout = payout_of(db, row.n)
        if payout is None:
            return PendingPayout(**common, feerate_perkw=feerate)
        return PendingPayout(
            **common,
            feerate_perkw=feerate,
            built=payout.built,
            chain_index=payout.chain_index,
            broadcast_at=payout.broadcast_at,
        )
    assert row.payment_hash is not None
    return PendingPayment(
        **common,
        invoice=row.invoice or row.request,
        payment_hash=row.payment_hash,
        amountless=bool(row.amountless),
        node_run=row.node_run or 0,
        mark=NodeMark(row.sends_index, row.moves_index),
        partial=bool(row.partial),
    )


def count_pending(db: apsw.Connection) -> int:
    """How many melts are in flight."""
    return int(db.execute("SELECT melts FROM in_flight").get)


def recount_pending(db: apsw.Connection) -> bool:
    """Count the melts in flight, and write it down if it differed from what was: tells that. There is no transaction
    under way."""
    counted = db.execute("SELECT count(*), coalesce(sum(amount_msat), 0) FROM melt_quotes WHERE state = 'PENDING'").get
    if db.execute("SELECT melts, msat FROM in_flight").get == counted:
        return False
    db.execute("INSERT OR REPLACE INTO in_flight (one, melts, msat) VALUES (1, ?, ?)", counted)
    return True


def sum_pending_msat(db: apsw.Connection) -> int:
    """What the destinations of all melts in flight shall receive."""
    return int(db.execute("SELECT msat FROM in_flight").get)


def oldest_begun_at(db: apsw.Connection) -> int | None:
    """When the oldest melt in flight was begun (unix seconds); None if there is none."""
    found = db.execute("SELECT min(begun_at) FROM melt_quotes WHERE state = 'PENDING'").get
    return None if found is None else int(found)


def require_unpaid_hash(db: apsw.Connection, payment_hash: bytes) -> None:
    state = db.execute(
        "SELECT state FROM melt_quotes WHERE payment_hash = ? AND state IN ('PENDING', 'PAID')",
        (payment_hash,),
    ).get
    if state == MeltQuoteState.PAID:
        raise LedgerError(Code.INVOICE_PAID, "this invoice was already paid by a melt of this mint")
    if state == MeltQuoteState.PENDING:
        raise LedgerError(Code.QUOTE_PENDING, "a payment of this invoice is in flight")
