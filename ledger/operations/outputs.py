"""Outputs of a transaction: checking blinded messages, signing them, storing the promises (NUT-00, NUT-03, NUT-08)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import apsw
from coincurve import PublicKey

from ledger import curve
from ledger.errors import Code, LedgerError
from ledger.keysets import Keyset, Keysets
from ledger.models import MAX_ARRAY_LENGTH, BlindedMessage, BlindSignature, DleqProof
from ledger.operations.inputs import IN_CHUNK, one_unit
from ledger.store.query import fetch_all
from ledger.store.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Output:
    """A blinded message whose keyset may sign. `point`: its `B_`, if that was decoded already."""

    b_: bytes
    keyset: Keyset
    amount: int
    point: PublicKey | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Outputs:
    """Blinded messages of one unit. `amount` is in that unit."""

    messages: tuple[Output, ...]
    unit: str
    amount: int


@dataclass(frozen=True, slots=True)
class Signed:
    """An output with its signature, ready to be stored and answered."""

    output: Output
    signature: curve.BlindSignature

    def to_wire(self) -> BlindSignature:
        """As the wallet receives it."""
        return to_wire(
            self.output.keyset.id,
            self.output.amount,
            self.signature.c_,
            self.signature.dleq.e,
            self.signature.dleq.s,
        )


def check(keysets: Keysets, messages: Sequence[BlindedMessage], now: int, *, blank: bool = False) -> Outputs:
    """Check outputs before anything is signed.

    Blank ones (NUT-08) may be of any amount. Raises 11015, 11008, 12001, 12002, 12003, 11009, and 11000 for an amount
    that the keyset doesn't have or a `B_` that is no point.
    """
    if not messages:
        raise LedgerError(Code.TRANSACTION_REJECTED, "outputs are empty")
    if len(messages) > MAX_ARRAY_LENGTH:
        raise LedgerError(Code.TOO_MANY_OUTPUTS, f"{len(messages)} outputs; at most {MAX_ARRAY_LENGTH} are accepted")
    if len({message.B_.lower() for message in messages}) != len(messages):
        raise LedgerError(Code.DUPLICATE_OUTPUTS, "the same B_ stands twice among the outputs")
    chosen = [keysets.for_outputs(message.id, now) for message in messages]
    unit = one_unit(chosen, "outputs")
    checked = tuple(_check_one(m, keyset, blank) for m, keyset in zip(messages, chosen, strict=True))
    return Outputs(checked, unit, sum(output.amount for output in checked))


def _check_one(message: BlindedMessage, keyset: Keyset, blank: bool) -> Output:
    if not blank and message.amount not in keyset.private_keys:
        raise LedgerError(
            Code.TRANSACTION_REJECTED,
            f"keyset {keyset.id} has no key for the amount {message.amount} of an output",
        )
    b_ = bytes.fromhex(message.B_)
    try:
        point = curve.parse_point(b_)
    except ValueError as error:
        raise LedgerError(Code.TRANSACTION_REJECTED, f"B_ of an output is not a point on the curve: {error}") from error
    return Output(b_, keyset, 0 if blank else message.amount, point)


def sign(outputs: Outputs) -> list[Signed]:
    """Sign every output for its amount. Pure: nothing is promised until it is stored."""
    return [sign_one(output, output.amount) for output in outputs.messages]


def sign_one(output: Output, amount: int) -> Signed:
    """Sign one output for `amount`, which must be one of the keyset's."""
    signature = curve.sign(output.keyset.private_keys[amount], output.point or output.b_)
    return Signed(Output(output.b_, output.keyset, amount), signature)


def require_unsigned(tx: Transaction, outputs: Outputs) -> None:
    """Raises 11003 for an output signed before, 11004 for one held by a pending melt, 12002 or 12003 if a keyset was
    rotated or expired meanwhile."""
    for keyset in {output.keyset.id for output in outputs.messages}:
        tx.keysets.for_outputs(keyset, tx.now)
    known = find(tx.db, [output.b_ for output in outputs.messages])
    if any(signature is not None for signature in known.values()):
        raise LedgerError(Code.OUTPUTS_SIGNED, "outputs have already been signed before")
    if known:
        raise LedgerError(Code.OUTPUTS_PENDING, "an output is pending in a melt")


def find(db: apsw.Connection, b_s: Sequence[bytes]) -> dict[bytes, BlindSignature | None]:
    """The promises for these `B_`; None for one that is held blank. Those never seen are left out."""
    known: dict[bytes, BlindSignature | None] = {}
    for start in range(0, len(b_s), IN_CHUNK):
        chunk = b_s[start : start + IN_CHUNK]
        marks = ",".join("?" * len(chunk))
        rows = fetch_all(
            db,
            "SELECT p.b_, k.id, p.amount, p.c_, p.e, p.s FROM promises p JOIN keysets k ON k.n = p.keyset"  # noqa: S608
            f" WHERE p.b_ IN ({marks})",
            chunk,
        )
        for b_, keyset_id, amount, c_, e, s in rows:
            known[b_] = None if c_ is None else to_wire(keyset_id, amount, c_, e, s)
    return known


def to_wire(keyset_id: str, amount: int, c_: bytes, e: bytes, s: bytes) -> BlindSignature:
    """A stored promise as the wallet receives it."""
    return BlindSignature(amount=amount, id=keyset_id, C_=c_.hex(), dleq=DleqProof(e=e.hex(), s=s.hex()))


def insert(tx: Transaction, signed: Iterable[Signed], *, operation: int) -> None:
    """Store promises and add them to the books."""
    rows = [(s.output, s.signature) for s in signed]
    tx.db.executemany(
        "INSERT INTO promises (b_, keyset, amount, c_, e, s, operation) VALUES (?, ?, ?, ?, ?, ?, ?)",
        [(o.b_, o.keyset.n, o.amount, c_, dleq.e, dleq.s, operation) for o, (c_, dleq) in rows],
    )
    book_issued(tx, ((output.keyset.n, output.amount) for output, _ in rows))


def insert_blank(tx: Transaction, outputs: Outputs, *, melt_quote: int) -> None:
    """Hold blank outputs for the change of a melt."""
    tx.db.executemany(
        "INSERT INTO promises (b_, keyset, melt_quote) VALUES (?, ?, ?)",
        [(output.b_, output.keyset.n, melt_quote) for output in outputs.messages],
    )


def book_issued(tx: Transaction, amounts: Iterable[tuple[int, int]]) -> None:
    """Add issued (keyset n, amount) pairs to the books."""
    totals: dict[int, int] = {}
    for keyset, amount in amounts:
        totals[keyset] = totals.get(keyset, 0) + amount
    tx.db.executemany("UPDATE keysets SET issued = issued + ? WHERE n = ?", [(total, n) for n, total in totals.items()])
