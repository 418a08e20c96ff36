"""Mint quotes: asked for, paid, issued (NUT-04, NUT-20, NUT-23)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import apsw

from ledger import curve, methods
from ledger.errors import Code, LedgerError
from ledger.events import MintQuoteChanged
from ledger.ids import label_of
from ledger.keysets import Keysets
from ledger.models import (
    BlindedMessage,
    MintBatchRequest,
    MintQuote,
    MintQuoteBolt11,
    MintQuoteBolt12,
    MintQuoteOnchain,
    MintQuoteState,
    MintRequest,
    SignaturesResponse,
)
from ledger.operations import exposure, outputs, policy, replay
from ledger.operations.outputs import Outputs, Signed
from ledger.store.query import fetch_one
from ledger.store.transaction import Transaction
from ledger.units import from_msat_down, to_msat

KIND = "issue"
SIGNATURE_DOMAIN = b"Cashu_MintQuoteSig_v1"
MAX_BATCH_SIZE = 100
"""Most quotes in a batch; announced as `max_batch_size` (NUT-29)."""


@dataclass(frozen=True, slots=True)
class NewMintQuote:
    """A mint quote to be stored. `amount` is in `unit`; `expiry` (unix seconds): `request` is payable until then.

    `label`: how the node knows it, if that is not the label made from its id. `payment_hash`: of its only invoice."""

    id: str
    method: str
    unit: str
    request: str
    amount: int | None
    expiry: int | None
    pubkey: str | None
    label: str | None = None
    payment_hash: bytes | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """A payment received for a mint quote. `payment_id` is unique: the payment hash, or the outpoint on the chain."""

    payment_id: bytes
    received_msat: int


@dataclass(frozen=True, slots=True)
class Claim:
    """One quote of an issue. `amount` is what it gives; None: all of the outputs, in a batch the quote's amount."""

    quote: str
    signature: str | None
    amount: int | None


@dataclass(frozen=True, slots=True)
class Prepared:
    """An issue whose curve work is done; nothing is promised yet."""

    method: str
    claims: tuple[Claim, ...]
    is_batch: bool
    signable: Signable
    digest: bytes
    outputs: Outputs
    signed: list[Signed]


def check_pubkey(pubkey: str | None) -> None:
    """Refuse a NUT-20 key that is no compressed point: 20009."""
    if pubkey is None:
        return
    try:
        # `fromhex` skips white space, so the length of the text is checked too.
        curve.parse_point(bytes.fromhex(pubkey) if len(pubkey) == 2 * curve.POINT_BYTES else b"")
    except ValueError as error:
        raise LedgerError(Code.PUBKEY_INVALID, "pubkey is not a compressed secp256k1 key in hex") from error


def create(tx: Transaction, quote: NewMintQuote, max_outstanding_msat: int = 0) -> MintQuote:
    """Store a new quote. Raises 20003 if its ecash would be more than the operator allows (0: any), or while minting
    is paused."""
    policy.load(tx.db).require_minting()
    amount_msat = to_msat(quote.amount or 1, quote.unit)
    exposure.require_room(tx.db, tx.now, amount_msat, max_outstanding_msat)
    tx.db.execute(
        "INSERT INTO mint_quotes (id, label, method, unit, request, amount, pubkey, expiry, created_at, updated_at,"
        " payment_hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            quote.id,
            quote.label or label_of(quote.id),
            quote.method,
            quote.unit,
            quote.request,
            quote.amount,
            quote.pubkey,
            quote.expiry,
            tx.now,
            tx.now,
            quote.payment_hash,
        ),
    )
    return get(tx.db, quote.method, quote.id)


def get(db: apsw.Connection, method: str, quote_id: str) -> MintQuote:
    """A quote as `GET` answers it. Raises 20000 for an unknown one, also if it belongs to another method."""
    return _wire(_row(db, method, quote_id))


def find(db: apsw.Connection, label: str) -> tuple[str, str] | None:
    """Method and id of the quote that the node knows by this label."""
    row = fetch_one(db, "SELECT method, id FROM mint_quotes WHERE label = ?", (label,))
    return None if row is None else (str(row[0]), str(row[1]))


def _row(db: apsw.Connection, method: str, quote_id: str) -> _Row:
    found = fetch_one(db, f"{_SELECT} WHERE id = ? AND method = ?", (quote_id, method))
    if found is None:
        raise LedgerError(Code.QUOTE_REJECTED, f"this mint has no {method} mint quote of that id")
    return _Row(*found)


class _Row(NamedTuple):
    """A row of `mint_quotes`."""

    n: int
    id: str
    method: str
    unit: str
    request: str
    amount: int | None
    pubkey: str | None
    expiry: int | None
    amount_paid: int
    amount_issued: int
    updated_at: int

    @property
    def mintable(self) -> int:
        """What can be issued now."""
        return self.amount_paid - self.amount_issued


_COLUMNS = ", ".join(_Row._fields)
_SELECT = f"SELECT {_COLUMNS} FROM mint_quotes"  # noqa: S608


def _wire(row: _Row) -> MintQuote:
    common = {
        "quote": row.id,
        "request": row.request,
        "unit": row.unit,
        "method": row.method,
        "expiry": row.expiry,
        "pubkey": row.pubkey,
        "amount_paid": row.amount_paid,
        "amount_issued": row.amount_issued,
        "updated_at": row.updated_at,
    }
    match row.method:
        case methods.BOLT12:
            return MintQuoteBolt12(**common, amount=row.amount)
        case methods.ONCHAIN:
            return MintQuoteOnchain(**common)
        case _:
            assert row.amount is not None
            return MintQuoteBolt11(**common, amount=row.amount, state=_state(row))


def _state(row: _Row) -> MintQuoteState:
    """Wallets that know only the state ask for `amount` once; what was overpaid stays visible in the amounts."""
    if row.amount_paid == 0:
        return MintQuoteState.UNPAID
    target = row.amount_paid if row.amount is None else min(row.amount, row.amount_paid)
    return MintQuoteState.ISSUED if row.amount_issued >= target else MintQuoteState.PAID


def credit(tx: Transaction, method: str, quote_id: str, receipt: Receipt) -> MintQuote | None:
    """Credit a payment to its quote, once for each `payment_id`. None if this ledger has no such quote."""
    row = fetch_one(tx.db, "SELECT n, unit FROM mint_quotes WHERE id = ? AND method = ?", (quote_id, method))
    if row is None:
        return None
    n, unit = row
    amount = from_msat_down(receipt.received_msat, unit)
    tx.db.execute(
        "INSERT INTO receipts (payment_id, mint_quote, received_msat, amount, received_at) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT DO NOTHING",
        (receipt.payment_id, n, receipt.received_msat, amount, tx.now),
    )
    if tx.db.changes() == 0:
        return get(tx.db, method, quote_id)
    tx.db.execute(
        "UPDATE mint_quotes SET amount_paid = amount_paid + ?, updated_at = max(?, updated_at + 1) WHERE n = ?",
        (amount, tx.now, n),
    )
    tx.db.execute(
        "INSERT INTO method_books (method, unit, received_msat) VALUES (?, ?, ?)"
        " ON CONFLICT DO UPDATE SET received_msat = received_msat + excluded.received_msat",
        (method, unit, receipt.received_msat),
    )
    quote = get(tx.db, method, quote_id)
    tx.publish(MintQuoteChanged(quote))
    return quote


def pay_index(db: apsw.Connection) -> int:
    """The node's index of the last invoice payment that was credited or passed by."""
    return int(db.execute("SELECT pay_index FROM ledger").get)


def unpaid_with_hash(db: apsw.Connection, payment_hash: bytes) -> tuple[str, str] | None:
    """Method and id of the quote, not paid yet, whose invoice has this payment hash."""
    row = fetch_one(
        db, "SELECT method, id FROM mint_quotes WHERE payment_hash = ? AND amount_paid = 0", (payment_hash,)
    )
    return None if row is None else (str(row[0]), str(row[1]))


def moves_index(db: apsw.Connection) -> int | None:
    """The node's index of the last channel move that can't tell of an unpaid quote's payment; None if there is no
    such quote, so that none can."""
    if fetch_one(db, "SELECT 1 FROM mint_quotes WHERE payment_hash IS NOT NULL AND amount_paid = 0 LIMIT 1") is None:
        return None
    return int(db.execute("SELECT moves_index FROM ledger").get)


def set_moves_index(tx: Transaction, index: int) -> None:
    """Remember how far the node's channel moves have been read. To read again does no harm."""
    tx.db.execute("UPDATE ledger SET moves_index = ?", (index,))


def advance_pay_index(tx: Transaction, index: int) -> None:
    """Remember how far the node's invoice payments have been read."""
    tx.db.execute("UPDATE ledger SET pay_index = max(pay_index, ?)", (index,))


def prepare(keysets: Keysets, method: str, request: MintRequest, request_digest: bytes, now: int) -> Prepared:
    """Check and sign the outputs of a single issue, without the database. Raises the codes of outputs."""
    claims = (Claim(request.quote, request.signature, None),)
    return _prepare(keysets, method, claims, False, request.outputs, request_digest, now)


def prepare_batch(
    keysets: Keysets, method: str, request: MintBatchRequest, request_digest: bytes, now: int
) -> Prepared:
    """Check and sign the outputs of a batch (NUT-29), without the database.

    Raises 10000 for lists of unequal length, 11016, 11017, and the codes of outputs.
    """
    check_batch(request.quotes)
    signatures = request.signatures if request.signatures is not None else [None] * len(request.quotes)
    amounts = request.quote_amounts if request.quote_amounts is not None else [None] * len(request.quotes)
    if len(signatures) != len(request.quotes) or len(amounts) != len(request.quotes):
        raise LedgerError(Code.REQUEST_REJECTED, "signatures and quote_amounts need one entry for each quote")
    claims = tuple(Claim(*claim) for claim in zip(request.quotes, signatures, amounts, strict=True))
    return _prepare(keysets, method, claims, True, request.outputs, request_digest, now)


def check_batch(quote_ids: Sequence[str]) -> None:
    """Raises 10000 for no quotes at all, 11017 for too many, 11016 for one that stands twice (NUT-29)."""
    if not quote_ids:
        raise LedgerError(Code.REQUEST_REJECTED, "quotes are empty")
    if len(quote_ids) > MAX_BATCH_SIZE:
        raise LedgerError(Code.BATCH_TOO_LARGE, f"{len(quote_ids)} quotes; at most {MAX_BATCH_SIZE} are accepted")
    if len(set(quote_ids)) != len(quote_ids):
        raise LedgerError(Code.DUPLICATE_QUOTES, "the same quote stands twice")


def _prepare(
    keysets: Keysets,
    method: str,
    claims: tuple[Claim, ...],
    is_batch: bool,
    messages: Sequence[BlindedMessage],
    request_digest: bytes,
    now: int,
) -> Prepared:
    checked = outputs.check(keysets, messages, now)
    return Prepared(method, claims, is_batch, Signable(messages), request_digest, checked, outputs.sign(checked))


def commit(tx: Transaction, issue: Prepared) -> SignaturesResponse:
    """Store the signatures and count them as issued from their quotes, all or nothing.

    Raises 20000, 20001, 20002, 20007, 20008, 11009, 11010, 11005, and the codes of outputs.
    """
    if answered := replay.find(tx.db, issue.digest):
        return answered
    rows = [_row(tx.db, issue.method, claim.quote) for claim in issue.claims]
    _require_unit(rows, issue.outputs.unit)
    most = [_take(tx, row, claim, issue) for row, claim in zip(rows, issue.claims, strict=True)]
    taken = _fill(most, issue.outputs.amount) if issue.method in methods.REUSABLE else most
    if sum(taken) != issue.outputs.amount:
        raise LedgerError(Code.NOT_BALANCED, f"outputs {issue.outputs.amount} are not the quotes' {sum(taken)}")
    for row, claim in zip(rows, issue.claims, strict=True):  # costs most: all others wait
        require_signature(row.id, row.pubkey, claim.signature, issue.signable)
    outputs.require_unsigned(tx, issue.outputs)
    operation = replay.record(tx, KIND, issue.digest)
    outputs.insert(tx, issue.signed, operation=operation)
    for row, amount in zip(rows, taken, strict=True):
        if not amount:
            continue
        tx.db.execute("INSERT INTO issues (operation, mint_quote, amount) VALUES (?, ?, ?)", (operation, row.n, amount))
        changed = fetch_one(
            tx.db,
            "UPDATE mint_quotes SET amount_issued = amount_issued + ?, updated_at = max(?, updated_at + 1) WHERE n = ?"  # noqa: S608
            f" RETURNING {_COLUMNS}",
            (amount, tx.now, row.n),
        )
        assert changed is not None
        tx.publish(MintQuoteChanged(_wire(_Row(*changed)), issued=amount))
    return SignaturesResponse(signatures=[signed.to_wire() for signed in issue.signed])


def _fill(most: list[int], amount: int) -> list[int]:
    """How much each quote gives, in their order, when less is asked for than all of them may give (NUT-29)."""
    taken = []
    for limit in most:
        part = min(limit, amount)
        taken.append(part)
        amount -= part
    return taken


def _take(tx: Transaction, row: _Row, claim: Claim, issue: Prepared) -> int:
    """How much this issue takes from a quote, if it may; of a reusable one, the most that it may take."""
    if issue.is_batch and row.pubkey is None and claim.signature is not None:
        raise LedgerError(Code.SIGNATURE_INVALID, "a quote that is not locked to a key must have no signature (NUT-29)")
    _require_mintable(row, tx.now)
    amount = claim.amount
    if amount is None and issue.is_batch:
        amount = row.mintable if row.method in methods.REUSABLE or row.amount is None else row.amount
    elif amount is None:
        amount = issue.outputs.amount
    if not 0 < amount <= row.mintable:
        raise LedgerError(Code.NOT_BALANCED, f"{amount} exceeds the {row.mintable} {row.unit} left to issue")
    return amount


def require_mintable(
    db: apsw.Connection,
    method: str,
    quotes: Sequence[tuple[str, str | None]],
    messages: Sequence[BlindedMessage],
    now: int,
) -> None:
    """Raises 20000, 20008, 20001, 20002 or 20007 if nothing can be issued now for one of these (quote, signature)."""
    signable = Signable(messages)
    for quote_id, signature in quotes:
        row = _row(db, method, quote_id)
        require_signature(row.id, row.pubkey, signature, signable)
        _require_mintable(row, now)


def _require_mintable(row: _Row, now: int) -> None:
    if row.amount_paid == 0:
        if row.expiry is not None and row.expiry < now and row.method != methods.ONCHAIN:
            raise LedgerError(
                Code.QUOTE_EXPIRED, "the quote expired unpaid"
            )  # on the chain it may be paid, unconfirmed
        raise LedgerError(Code.QUOTE_NOT_PAID, "the quote is not paid yet")
    if row.mintable == 0:
        raise LedgerError(Code.QUOTE_ISSUED, "the ecash of this quote is already issued")


def _require_unit(rows: list[_Row], unit: str) -> None:
    units = {row.unit for row in rows}
    if len(units) != 1:
        raise LedgerError(Code.SEVERAL_UNITS, f"the quotes are of several units: {', '.join(sorted(units))}")
    if units != {unit}:
        raise LedgerError(Code.UNITS_DIFFER, f"the quote is in {', '.join(units)}, the outputs in {unit}")


def require_signature(quote_id: str, pubkey: str | None, signature: str | None, outputs: Signable) -> None:
    """A quote locked to a key needs a signature by it, over the current or the older message (NUT-20): 20008."""
    if pubkey is None:
        return
    if signature is None:
        raise LedgerError(Code.SIGNATURE_INVALID, "the quote is locked to a key: signature is missing")
    key = bytes.fromhex(pubkey)
    try:
        raw = bytes.fromhex(signature)
    except ValueError as error:
        raise LedgerError(Code.SIGNATURE_INVALID, "signature is not hex") from error
    if not any(curve.verify_schnorr(key, raw, text(quote_id)) for text in (outputs.message, outputs.message_legacy)):
        raise LedgerError(Code.SIGNATURE_INVALID, "signature does not fit the quote's key and these outputs")


class Signable:
    """Outputs as wallets sign them for a quote (NUT-20). Their part of a message is the same for each quote of a batch:
    it is made once, and only if it is asked for."""

    def __init__(self, messages: Sequence[BlindedMessage]) -> None:
        self._messages = messages

    def message(self, quote_id: str) -> bytes:
        """What a wallet signs (NUT-20 as amended): everything framed by its length, amounts included."""
        return SIGNATURE_DOMAIN + _framed(quote_id.encode()) + self._framed

    def message_legacy(self, quote_id: str) -> bytes:
        """What older wallets sign (NUT-20 before the amendment): the texts joined, amounts not covered."""
        return quote_id.encode() + self._joined

    @cached_property
    def _framed(self) -> bytes:
        parts = []
        for message in self._messages:
            parts.append(_framed(message.amount.to_bytes((message.amount.bit_length() + 7) // 8, "big")))
            parts.append(_framed(bytes.fromhex(message.B_)))
        return b"".join(parts)

    @cached_property
    def _joined(self) -> bytes:
        return "".join(message.B_ for message in self._messages).encode()


def _framed(part: bytes) -> bytes:
    return len(part).to_bytes(4, "big") + part


def signed_message(quote_id: str, messages: Sequence[BlindedMessage]) -> bytes:
    """What a wallet signs for one quote."""
    return Signable(messages).message(quote_id)


def signed_message_legacy(quote_id: str, messages: Sequence[BlindedMessage]) -> bytes:
    """What an older wallet signs for one quote."""
    return Signable(messages).message_legacy(quote_id)
