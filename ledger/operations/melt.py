"""Melts: a payment for proofs. Begun, then settled or released; nothing else moves one (NUT-05, NUT-08).

    UNPAID ── begin ──> PENDING ── settle ──> PAID
       ^                   │
       └───── release ─────┘

An on-chain melt has two more steps while it is PENDING: `note_built`, from which on it is never released, and
`note_broadcast`; `discard` is the way out for a transaction that was proven dead.

`begin` holds the proofs and the blank outputs; only after its commit may the payment be sent. `settle` and `release`
are called by the one decider of payments, for the attempt that it decided about, and may be repeated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import apsw

from ledger import conditions
from ledger.errors import Code, LedgerError
from ledger.events import MeltQuoteChanged
from ledger.ids import label_of
from ledger.keysets import Keysets
from ledger.methods import ONCHAIN
from ledger.models import (
    BlindSignature,
    FeeOption,
    MeltOnchainRequest,
    MeltQuote,
    MeltQuoteLightning,
    MeltQuoteOnchain,
    MeltQuoteState,
    MeltRequest,
    ProofState,
)
from ledger.operations import inputs, outputs, replay
from ledger.operations.inputs import Inputs
from ledger.operations.outputs import Output, Outputs
from ledger.store.query import fetch_all, fetch_one
from ledger.store.transaction import Transaction
from ledger.units import from_msat_up, split

MAX_ERROR_LENGTH = 500
MIN_CONFLICT_DEPTH = 6
"""A transaction counts as dead only if this many blocks say that a coin of it was spent otherwise."""


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


@dataclass(frozen=True, slots=True)
class Conflict:
    """Evidence that a transaction can never come to pass: another one, in the block of this height, spends a coin of
    it, and `depth` blocks of the best chain say so, that one included."""

    spent_by: bytes
    height: int
    depth: int


@dataclass(frozen=True, slots=True)
class Prepared:
    """A melt request whose proofs are verified; nothing is held yet."""

    method: str
    quote_id: str
    digest: bytes
    inputs: Inputs
    blanks: Outputs | None
    fee_index: int | None


@dataclass(frozen=True, slots=True)
class Begun:
    """The quote after `begin`. `melt` is None if an identical request had begun it before: nothing is to be sent."""

    quote: MeltQuote
    melt: PendingMelt | None


@dataclass(frozen=True, slots=True)
class Payment:
    """A payment that was made: its preimage (None if the node lost it), and what left the node, fees included.

    A destination that claims only some parts of a payment gets less than the invoice says, so `sent_msat` may be
    below the amount: then the rest is overpaid like an unused reserve.
    """

    preimage: bytes | None
    sent_msat: int


def create_payment(tx: Transaction, quote: NewPayment) -> MeltQuote:
    """Store a new quote. Raises 20005 or 20006 if the same payment is in flight or made already."""
    _require_unpaid_hash(tx.db, quote.payment_hash)
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
    return _wire(db, _row(db, method, quote_id))


class _Row(NamedTuple):
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


_SELECT = f"SELECT {', '.join(_Row._fields)} FROM melt_quotes"  # noqa: S608


def _row(db: apsw.Connection, method: str, quote_id: str) -> _Row:
    row = fetch_one(db, f"{_SELECT} WHERE id = ? AND method = ?", (quote_id, method))
    if row is None:
        raise LedgerError(Code.QUOTE_REJECTED, f"this mint has no {method} melt quote of that id")
    return _Row(*row)


def _wire(db: apsw.Connection, row: _Row) -> MeltQuote:
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
        payout = _payout(db, row.n)
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


def _change(db: apsw.Connection, row: _Row) -> list[BlindSignature] | None:
    promises = fetch_all(
        db,
        "SELECT k.id, p.amount, p.c_, p.e, p.s FROM promises p JOIN keysets k ON k.n = p.keyset"
        " WHERE p.melt_quote = ? AND p.c_ IS NOT NULL ORDER BY p.n",
        (row.n,),
    )
    return [outputs.to_wire(*promise) for promise in promises] or None


class _Payout(NamedTuple):
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


def _payout(db: apsw.Connection, n: int) -> _Payout | None:
    """The transaction of a melt quote, if there is one."""
    row = fetch_one(
        db,
        f"SELECT {', '.join(_Payout._fields)} FROM payouts WHERE melt_quote = ?",  # noqa: S608 - names from above
        (n,),
    )
    return None if row is None else _Payout(*row)


def pending(db: apsw.Connection) -> list[PendingMelt]:
    """Every melt in flight, oldest first."""
    rows = fetch_all(db, f"{_SELECT} WHERE state = 'PENDING' ORDER BY n")
    return [_pending(db, _Row(*row)) for row in rows]


def pending_by_hash(db: apsw.Connection, payment_hash: bytes) -> PendingPayment | None:
    """The melt in flight for this payment hash; there is at most one."""
    row = fetch_one(db, f"{_SELECT} WHERE payment_hash = ? AND state = 'PENDING'", (payment_hash,))
    melt = None if row is None else _pending(db, _Row(*row))
    assert melt is None or isinstance(melt, PendingPayment)
    return melt


def pending_payouts(db: apsw.Connection) -> list[PendingPayout]:
    """The on-chain ones among them."""
    rows = fetch_all(db, f"{_SELECT} WHERE state = 'PENDING' AND method = ? ORDER BY n", (ONCHAIN,))
    found = (_pending(db, _Row(*row)) for row in rows)
    return [melt for melt in found if isinstance(melt, PendingPayout)]


def pending_payout(db: apsw.Connection, quote_id: str) -> PendingPayout | None:
    """The on-chain melt in flight of this quote."""
    row = fetch_one(db, f"{_SELECT} WHERE id = ? AND state = 'PENDING' AND method = ?", (quote_id, ONCHAIN))
    melt = None if row is None else _pending(db, _Row(*row))
    assert melt is None or isinstance(melt, PendingPayout)
    return melt


def _pending(db: apsw.Connection, row: _Row) -> PendingMelt:
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
        payout = _payout(db, row.n)
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
    return int(db.execute("SELECT count(*) FROM melt_quotes WHERE state = 'PENDING'").get)


def _require_unpaid_hash(db: apsw.Connection, payment_hash: bytes) -> None:
    state = db.execute(
        "SELECT state FROM melt_quotes WHERE payment_hash = ? AND state IN ('PENDING', 'PAID')",
        (payment_hash,),
    ).get
    if state == MeltQuoteState.PAID:
        raise LedgerError(Code.INVOICE_PAID, "this invoice was already paid by a melt of this mint")
    if state == MeltQuoteState.PENDING:
        raise LedgerError(Code.QUOTE_PENDING, "a payment of this invoice is in flight")


def request_digest(method: str, request: MeltRequest) -> bytes:
    """What makes two melt requests identical; whether the wallet waits for the outcome is no part of it."""
    return replay.digest(f"melt {method}", request.model_copy(update={"prefer_async": None}))


def begun_before(db: apsw.Connection, method: str, quote_id: str, digest: bytes) -> MeltQuote | None:
    """The quote as it is now, if an identical request has begun its present attempt (NUT-19)."""
    row = _row(db, method, quote_id)
    return _wire(db, row) if row.state != MeltQuoteState.UNPAID and row.digest == digest else None


def prepare(keysets: Keysets, method: str, request: MeltRequest, digest: bytes, now: int) -> Prepared:
    """Check proofs and blank outputs, without the database. Raises their codes, and those of conditions."""
    verified = inputs.verify(keysets, request.inputs, now)
    conditions.require_met(request.inputs, request.outputs or [], now, request.quote)
    blanks = outputs.check(keysets, request.outputs, now, blank=True) if request.outputs else None
    fee_index = request.fee_index if isinstance(request, MeltOnchainRequest) else None
    return Prepared(method, request.quote, digest, verified, blanks, fee_index)


def begin(tx: Transaction, melt: Prepared, max_pending: int) -> Begun:
    """Hold the proofs and blank outputs, and put the quote to PENDING. After the commit the payment may be sent.

    Raises 20000 (unknown quote, or too many melts in flight), 20005, 20006, 20007, 11010, 11005, 11001 to 11004,
    12002, 12003.
    """
    if (quote := begun_before(tx.db, melt.method, melt.quote_id, melt.digest)) is not None:
        return Begun(quote, None)
    row = _row(tx.db, melt.method, melt.quote_id)
    _require_payable(tx.db, row, tx.now)
    if row.method == ONCHAIN:
        row = _choose_fee(tx, row, melt.fee_index)
    _require_amount(row, melt)
    if count_pending(tx.db) >= max_pending:
        raise LedgerError(Code.QUOTE_REJECTED, "too many melts are in flight at this mint: try again later")
    inputs.require_unspent(tx, melt.inputs)
    if melt.blanks:
        outputs.require_unsigned(tx, melt.blanks)
        outputs.insert_blank(tx, melt.blanks, melt_quote=row.n)
    inputs.insert(tx, melt.inputs, melt_quote=row.n)
    tx.db.execute(
        "UPDATE melt_quotes SET state = 'PENDING', attempt = attempt + 1, digest = ?, error = NULL,"
        " input_amount = ?, input_fee = ?, begun_at = ?, node_run = (SELECT node_run FROM ledger) WHERE n = ?",
        (melt.digest, melt.inputs.amount, melt.inputs.fee, tx.now, row.n),
    )
    row = _row(tx.db, melt.method, melt.quote_id)
    quote = _wire(tx.db, row)
    tx.publish(MeltQuoteChanged(quote))
    return Begun(quote, _pending(tx.db, row))


def _choose_fee(tx: Transaction, row: _Row, fee_index: int | None) -> _Row:
    """The row with the fee reserve of the option that the wallet chose. Raises 20000 for one that isn't offered, and
    for another one than the quote was executed with before (NUT-30)."""
    if row.fee_index is not None and row.fee_index != fee_index:
        raise LedgerError(Code.QUOTE_REJECTED, f"fee_index {row.fee_index} was chosen for this quote and stays")
    reserve = tx.db.execute(
        "SELECT fee_reserve FROM fee_options WHERE melt_quote = ? AND fee_index = ?", (row.n, fee_index)
    ).get
    if reserve is None:
        raise LedgerError(Code.QUOTE_REJECTED, f"fee_index {fee_index} is not offered by this quote")
    tx.db.execute("UPDATE melt_quotes SET fee_index = ?, fee_reserve = ? WHERE n = ?", (fee_index, reserve, row.n))
    return row._replace(fee_index=fee_index, fee_reserve=reserve)


def require_payable(db: apsw.Connection, method: str, quote_id: str, now: int) -> None:
    """Raises 20000, 20005, 20006 or 20007 if this quote can't be paid now."""
    _require_payable(db, _row(db, method, quote_id), now)


def _require_payable(db: apsw.Connection, row: _Row, now: int) -> None:
    if row.state == MeltQuoteState.PENDING:
        raise LedgerError(Code.QUOTE_PENDING, "the payment of this quote is in flight")
    if row.state == MeltQuoteState.PAID:
        raise LedgerError(Code.INVOICE_PAID, "this quote is already paid")
    if row.payment_hash is not None:
        _require_unpaid_hash(db, row.payment_hash)
    if row.expiry < now:
        raise LedgerError(Code.QUOTE_EXPIRED, "the quote has expired: ask for a new one")


def _require_amount(row: _Row, melt: Prepared) -> None:
    if melt.inputs.unit != row.unit:
        raise LedgerError(Code.UNITS_DIFFER, f"the quote is in {row.unit}, the inputs in {melt.inputs.unit}")
    if melt.blanks and melt.blanks.unit != row.unit:
        raise LedgerError(Code.UNITS_DIFFER, f"the quote is in {row.unit}, the outputs in {melt.blanks.unit}")
    assert row.fee_reserve is not None
    needed = row.amount + row.fee_reserve + melt.inputs.fee
    if melt.inputs.amount < needed:
        raise LedgerError(
            Code.NOT_BALANCED,
            f"inputs {melt.inputs.amount} are less than {needed} {row.unit}: amount {row.amount}, "
            f"fee reserve {row.fee_reserve}, input fee {melt.inputs.fee}",
        )


def settle(tx: Transaction, melt: PendingMelt, payment: Payment) -> MeltQuote:
    """The payment was made: spend the proofs, sign the change, and put the quote to PAID.

    Change covers everything overpaid (NUT-08). If the fee came out above the reserve there is none; the payment is
    still settled. Settling again changes nothing. Raises AssertionError if the quote isn't pending and not paid:
    then ecash was given back for a payment that was made.
    """
    row = _row(tx.db, melt.method, melt.quote)
    if row.state == MeltQuoteState.PAID:
        return _wire(tx.db, row)
    assert row.state == MeltQuoteState.PENDING, "a released melt was paid"
    assert row.input_amount is not None
    assert row.input_fee is not None
    _spend(tx, row)
    _sign_change(tx, row, max(0, row.input_amount - row.input_fee - from_msat_up(payment.sent_msat, row.unit)))
    paid_out_msat = min(payment.sent_msat, row.amount_msat)
    tx.db.execute(
        "UPDATE melt_quotes SET state = 'PAID', preimage = ?, sent_msat = ?, paid_at = ? WHERE n = ?",
        (payment.preimage, payment.sent_msat, tx.now, row.n),
    )
    tx.db.execute(
        "INSERT INTO method_books (method, unit, paid_out_msat, routing_fees_msat) VALUES (?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET paid_out_msat = paid_out_msat + excluded.paid_out_msat,"
        " routing_fees_msat = routing_fees_msat + excluded.routing_fees_msat",
        (row.method, row.unit, paid_out_msat, payment.sent_msat - paid_out_msat),
    )
    quote = get(tx.db, melt.method, melt.quote)
    tx.publish(MeltQuoteChanged(quote))
    return quote


def _spend(tx: Transaction, row: _Row) -> None:
    held = fetch_all(
        tx.db,
        "UPDATE proofs SET spent_at = ? WHERE melt_quote = ? AND spent_at IS NULL RETURNING y, keyset, amount, witness",
        (tx.now, row.n),
    )
    inputs.publish_states(tx, ProofState.SPENT, [(y, witness) for y, _, _, witness in held])
    inputs.book_redeemed(tx, [(keyset, amount) for _, keyset, amount, _ in held], row.input_fee or 0, held[0][1])


def _sign_change(tx: Transaction, row: _Row, overpaid: int) -> None:
    """Sign blank outputs in their order for the parts of `overpaid`; too few get the largest parts (NUT-08).

    Their keyset may have been rotated since `begin`: change that was promised is signed all the same.
    """
    blanks = fetch_all(
        tx.db, "SELECT n, b_, keyset FROM promises WHERE melt_quote = ? AND c_ IS NULL ORDER BY n", (row.n,)
    )
    parts = split(overpaid)
    for (n, b_, keyset), amount in zip(blanks, parts[max(0, len(parts) - len(blanks)) :], strict=False):
        output = Output(b_, tx.keysets.numbered(keyset), amount)
        signature = outputs.sign_one(output, amount).signature
        tx.db.execute(
            "UPDATE promises SET amount = ?, c_ = ?, e = ?, s = ? WHERE n = ?",
            (amount, signature.c_, signature.dleq.e, signature.dleq.s, n),
        )
        outputs.book_issued(tx, [(keyset, amount)])
    _free_blanks(tx, row)


def _free_blanks(tx: Transaction, row: _Row) -> None:
    tx.db.execute("DELETE FROM promises WHERE melt_quote = ? AND c_ IS NULL", (row.n,))


def release(tx: Transaction, melt: PendingMelt, error: str) -> MeltQuote:
    """The payment failed for certain: give the proofs and blank outputs back, and put the quote to UNPAID.

    `error` tells the wallet why. A verdict about an earlier attempt than the present one changes nothing.
    """
    row = _row(tx.db, melt.method, melt.quote)
    if row.state != MeltQuoteState.PENDING or row.attempt != melt.attempt:
        return _wire(tx.db, row)
    assert _payout(tx.db, row.n) is None, "a melt whose transaction may be sent was released"
    held = fetch_all(tx.db, "DELETE FROM proofs WHERE melt_quote = ? AND spent_at IS NULL RETURNING y", (row.n,))
    inputs.publish_states(tx, ProofState.UNSPENT, [(y, None) for (y,) in held])
    _free_blanks(tx, row)
    tx.db.execute("UPDATE melt_quotes SET state = 'UNPAID', error = ? WHERE n = ?", (error[:MAX_ERROR_LENGTH], row.n))
    quote = get(tx.db, melt.method, melt.quote)
    tx.publish(MeltQuoteChanged(quote))
    return quote


# --- the transaction of an on-chain melt (NUT-30) ---------------------------------------------------------------------


def note_built(tx: Transaction, melt: PendingPayout, built: Built) -> PendingPayout:
    """Keep the signed transaction of a melt; only after the commit may it be sent. A melt never gets another one."""
    row = _require_pending(tx, melt)
    tx.db.execute(
        "INSERT INTO payouts (melt_quote, txid, vout, psbt, fee_sat, height, chain_index, built_at)"
        " VALUES (?, ?, ?, ?, ?, ?, (SELECT chain_index FROM ledger), ?)",
        (row.n, built.txid, built.vout, built.psbt, built.fee_sat, built.height, tx.now),
    )
    return _payout_of(tx, row)


def note_broadcast(tx: Transaction, melt: PendingPayout) -> PendingPayout:
    """The node had the transaction accepted: from now on wallets see its `outpoint`."""
    row = _require_pending(tx, melt)
    tx.db.execute("UPDATE payouts SET broadcast_at = ? WHERE melt_quote = ? AND broadcast_at IS NULL", (tx.now, row.n))
    if tx.db.changes():
        tx.publish(MeltQuoteChanged(_wire(tx.db, row)))
    return _payout_of(tx, row)


def discard(tx: Transaction, melt: PendingPayout, conflict: Conflict, error: str) -> MeltQuote:
    """The transaction can never come to pass: forget it, and release the melt. The only way back from `note_built`."""
    row = _require_pending(tx, melt)
    payout = _payout(tx.db, row.n)
    assert payout is not None
    assert melt.built is not None
    assert payout.txid == melt.built.txid
    assert len(conflict.spent_by) == len(payout.txid)
    assert conflict.spent_by != payout.txid, "a transaction does not conflict with itself"
    assert conflict.depth >= MIN_CONFLICT_DEPTH, "a conflict that may be reorganised away is no evidence"
    tx.db.execute(
        "INSERT INTO dead_payouts (txid, melt_quote, psbt, spent_by, spent_height, died_at) VALUES (?, ?, ?, ?, ?, ?)",
        (payout.txid, row.n, payout.psbt, conflict.spent_by, conflict.height, tx.now),
    )
    tx.db.execute("DELETE FROM payouts WHERE melt_quote = ?", (row.n,))
    return release(tx, melt, error)


def _require_pending(tx: Transaction, melt: PendingPayout) -> _Row:
    row = _row(tx.db, melt.method, melt.quote)
    assert row.state == MeltQuoteState.PENDING
    assert row.attempt == melt.attempt
    return row


def _payout_of(tx: Transaction, row: _Row) -> PendingPayout:
    melt = _pending(tx.db, row)
    assert isinstance(melt, PendingPayout)
    return melt
