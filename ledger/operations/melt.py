"""Melts: a payment for proofs. Begun, then settled or released; nothing else moves one (NUT-05, NUT-08).

    UNPAID ── begin ──> PENDING ── settle ──> PAID
       ^                   │
       └───── release ─────┘

`begin` holds the proofs and the blank outputs; only after its commit may the payment be sent. `settle` and `release`
are called by the one decider of payments, for the attempt that it decided about, and may be repeated. An on-chain melt
has more steps while it is PENDING: see `payout`.
"""

from __future__ import annotations

from dataclasses import dataclass

import apsw

from ledger import conditions
from ledger.errors import Code, LedgerError
from ledger.events import MeltQuoteChanged
from ledger.keysets import Keysets
from ledger.methods import ONCHAIN
from ledger.models import MeltOnchainRequest, MeltQuote, MeltQuoteState, MeltRequest, ProofState
from ledger.operations import inputs, melt_quote, outputs, policy, replay
from ledger.operations.inputs import Inputs
from ledger.operations.melt_quote import PendingMelt, Row
from ledger.operations.outputs import Output, Outputs
from ledger.store.query import fetch_all
from ledger.store.transaction import Transaction
from ledger.units import from_msat_up, split

MAX_ERROR_LENGTH = 500


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


def request_digest(method: str, request: MeltRequest) -> bytes:
    """What makes two melt requests identical; whether the wallet waits for the outcome is no part of it."""
    return replay.digest(f"melt {method}", request.model_copy(update={"prefer_async": None}))


def begun_before(db: apsw.Connection, method: str, quote_id: str, digest: bytes) -> MeltQuote | None:
    """The quote as it is now, if an identical request has begun its present attempt (NUT-19)."""
    row = melt_quote.find_row(db, method, quote_id)
    return melt_quote.to_wire(db, row) if row.state != MeltQuoteState.UNPAID and row.digest == digest else None


def prepare(keysets: Keysets, method: str, request: MeltRequest, digest: bytes, now: int) -> Prepared:
    """Check proofs and blank outputs, without the database. Raises their codes, and those of conditions."""
    verified = inputs.verify(keysets, request.inputs, now)
    conditions.require_met(request.inputs, request.outputs or [], now, request.quote)
    blanks = outputs.check(keysets, request.outputs, now, blank=True) if request.outputs else None
    fee_index = request.fee_index if isinstance(request, MeltOnchainRequest) else None
    return Prepared(method, request.quote, digest, verified, blanks, fee_index)


def begin(tx: Transaction, melt: Prepared, max_pending: int, max_pending_msat: int = 0) -> Begun:
    """Hold the proofs and blank outputs, and put the quote to PENDING. After the commit the payment may be sent.

    `max_pending_msat`: what melts in flight may sum up to, this one with them; 0 for any.
    Raises 20000 (unknown quote, melting is paused, or too many melts in flight), 20005, 20006, 20007, 11010, 11005,
    11001 to 11004, 12002, 12003.
    """
    if (quote := begun_before(tx.db, melt.method, melt.quote_id, melt.digest)) is not None:
        return Begun(quote, None)
    row = melt_quote.find_row(tx.db, melt.method, melt.quote_id)
    _require_payable(tx.db, row, tx.now)
    if row.method == ONCHAIN:
        row = _choose_fee(tx, row, melt.fee_index)
    _require_amount(row, melt)
    if melt_quote.count_pending(tx.db) >= max_pending:
        raise LedgerError(Code.QUOTE_REJECTED, "too many melts are in flight at this mint: try again later")
    if max_pending_msat and melt_quote.sum_pending_msat(tx.db) + row.amount_msat > max_pending_msat:
        raise LedgerError(
            Code.QUOTE_REJECTED, "melts over too large a sum are in flight at this mint: try again later, or with less"
        )
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
    row = melt_quote.find_row(tx.db, melt.method, melt.quote_id)
    quote = melt_quote.to_wire(tx.db, row)
    tx.publish(MeltQuoteChanged(quote))
    return Begun(quote, melt_quote.to_pending(tx.db, row))


def _choose_fee(tx: Transaction, row: Row, fee_index: int | None) -> Row:
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
    """Raises 20000, 20005, 20006 or 20007 if this quote can't be paid now, 20000 also while melting is paused."""
    _require_payable(db, melt_quote.find_row(db, method, quote_id), now)


def _require_payable(db: apsw.Connection, row: Row, now: int) -> None:
    if row.state == MeltQuoteState.PENDING:
        raise LedgerError(Code.QUOTE_PENDING, "the payment of this quote is in flight")
    if row.state == MeltQuoteState.PAID:
        raise LedgerError(Code.INVOICE_PAID, "this quote is already paid")
    if row.payment_hash is not None:
        melt_quote.require_unpaid_hash(db, row.payment_hash)
    policy.load(db).require_melting()
    if row.expiry < now:
        raise LedgerError(Code.QUOTE_EXPIRED, "the quote has expired: ask for a new one")


def _require_amount(row: Row, melt: Prepared) -> None:
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
    row = melt_quote.find_row(tx.db, melt.method, melt.quote)
    if row.state == MeltQuoteState.PAID:
        return melt_quote.to_wire(tx.db, row)
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
    quote = melt_quote.get(tx.db, melt.method, melt.quote)
    tx.publish(MeltQuoteChanged(quote))
    return quote


def _spend(tx: Transaction, row: Row) -> None:
    held = fetch_all(
        tx.db,
        "UPDATE proofs SET spent_at = ? WHERE melt_quote = ? AND spent_at IS NULL RETURNING y, keyset, amount, witness",
        (tx.now, row.n),
    )
    inputs.publish_states(tx, ProofState.SPENT, [(y, witness) for y, _, _, witness in held])
    inputs.book_redeemed(tx, [(keyset, amount) for _, keyset, amount, _ in held], row.input_fee or 0, held[0][1])


def _sign_change(tx: Transaction, row: Row, overpaid: int) -> None:
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


def _free_blanks(tx: Transaction, row: Row) -> None:
    tx.db.execute("DELETE FROM promises WHERE melt_quote = ? AND c_ IS NULL", (row.n,))


def release(tx: Transaction, melt: PendingMelt, error: str) -> MeltQuote:
    """The payment failed for certain: give the proofs and blank outputs back, and put the quote to UNPAID.

    `error` tells the wallet why. A verdict about an earlier attempt than the present one changes nothing.
    """
    row = melt_quote.find_row(tx.db, melt.method, melt.quote)
    if row.state != MeltQuoteState.PENDING or row.attempt != melt.attempt:
        return melt_quote.to_wire(tx.db, row)
    assert melt_quote.payout_of(tx.db, row.n) is None, "a melt whose transaction may be sent was released"
    held = fetch_all(tx.db, "DELETE FROM proofs WHERE melt_quote = ? AND spent_at IS NULL RETURNING y", (row.n,))
    inputs.publish_states(tx, ProofState.UNSPENT, [(y, None) for (y,) in held])
    _free_blanks(tx, row)
    tx.db.execute("UPDATE melt_quotes SET state = 'UNPAID', error = ? WHERE n = ?", (error[:MAX_ERROR_LENGTH], row.n))
    quote = melt_quote.get(tx.db, melt.method, melt.quote)
    tx.publish(MeltQuoteChanged(quote))
    return quote
