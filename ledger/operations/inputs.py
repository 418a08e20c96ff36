"""Inputs of a transaction: checking proofs, and writing them as spent or held (NUT-00, NUT-02, NUT-03, NUT-07)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import apsw

from ledger import conditions, curve
from ledger.errors import Code, LedgerError
from ledger.events import ProofsChanged
from ledger.keysets import Keyset, Keysets, input_fee
from ledger.models import MAX_ARRAY_LENGTH, Proof, ProofState, ProofStateEntry
from ledger.store.query import fetch_all
from ledger.store.transaction import Transaction

IN_CHUNK = 500
"""Values in one SQL `IN (…)`."""


@dataclass(frozen=True, slots=True)
class Input:
    """A proof whose signature has been verified."""

    y: bytes
    keyset: Keyset
    amount: int
    secret: str
    c: bytes
    witness: str | None


@dataclass(frozen=True, slots=True)
class Inputs:
    """Verified proofs of one unit. `amount` and `fee` are in that unit."""

    proofs: tuple[Input, ...]
    unit: str
    amount: int
    fee: int


def check_form(keysets: Keysets, proofs: Sequence[Proof], now: int) -> tuple[list[Keyset], str, int, int]:
    """All that can be said of proofs without the curve: (keyset of each, unit, amount, input fee).

    Raises 11014, 11007, 12001, 12003, 11009, 10001 for an amount that its keyset doesn't have, and 11000 for none.
    """
    if not proofs:
        raise LedgerError(Code.TRANSACTION_REJECTED, "inputs are empty")
    if len(proofs) > MAX_ARRAY_LENGTH:
        raise LedgerError(Code.TOO_MANY_INPUTS, f"{len(proofs)} inputs; at most {MAX_ARRAY_LENGTH} are accepted")
    if len({proof.secret for proof in proofs}) != len(proofs):
        raise LedgerError(Code.DUPLICATE_INPUTS, "the same proof stands twice among the inputs")
    chosen = [keysets.for_inputs(proof.id, now) for proof in proofs]
    unit = one_unit(chosen, "inputs")
    for proof, keyset in zip(proofs, chosen, strict=True):
        if proof.amount not in keyset.private_keys:
            raise LedgerError(Code.PROOF_INVALID, f"keyset {keyset.id} has no key for the amount {proof.amount}")
    fee = input_fee(keyset.input_fee_ppk for keyset in chosen)
    return chosen, unit, sum(proof.amount for proof in proofs), fee


def verify(keysets: Keysets, proofs: Sequence[Proof], now: int) -> Inputs:
    """Check form and signatures of proofs. Raises what `check_form` does, and 10001 for a bad signature."""
    chosen, unit, amount, fee = check_form(keysets, proofs, now)
    verified = tuple(_verify_one(proof, keyset) for proof, keyset in zip(proofs, chosen, strict=True))
    return Inputs(verified, unit, amount, fee)


def _verify_one(proof: Proof, keyset: Keyset) -> Input:
    y = curve.hash_to_point(proof.secret.encode())
    c = bytes.fromhex(proof.C)
    try:
        valid = curve.verify(keyset.private_keys[proof.amount], y, c)
    except ValueError as error:
        raise LedgerError(Code.PROOF_INVALID, f"C of an input is not a point on the curve: {error}") from error
    if not valid:
        raise LedgerError(Code.PROOF_INVALID, "an input's signature is not from this mint")
    witness = proof.witness if conditions.has_condition(proof.secret) else None  # shown by NUT-07, as sent
    return Input(y.format(), keyset, proof.amount, proof.secret, c, witness)


def one_unit(keysets: Iterable[Keyset], what: str) -> str:
    """The unit that all these keysets share. Raises 11009 if there are several."""
    units = {keyset.unit for keyset in keysets}
    if len(units) != 1:
        raise LedgerError(Code.SEVERAL_UNITS, f"the {what} are of several units: {', '.join(sorted(units))}")
    return units.pop()


def require_unspent(tx: Transaction, inputs: Inputs) -> None:
    """Raises 11001 for a proof that was spent, 11002 for one held by a pending melt, 12003 if a keyset expired."""
    for keyset in {proof.keyset.id for proof in inputs.proofs}:
        tx.keysets.for_inputs(keyset, tx.now)
    known = states(tx.db, [proof.y for proof in inputs.proofs])
    if any(state is ProofState.SPENT for state, _ in known.values()):
        raise LedgerError(Code.PROOFS_SPENT, "an input is already spent")
    if known:
        raise LedgerError(Code.PROOFS_PENDING, "an input is pending in a melt")


def states(db: apsw.Connection, ys: Sequence[bytes]) -> dict[bytes, tuple[ProofState, str | None]]:
    """State and witness of the proofs that the ledger has seen; the others are unspent (NUT-07)."""
    known: dict[bytes, tuple[ProofState, str | None]] = {}
    for start in range(0, len(ys), IN_CHUNK):
        chunk = ys[start : start + IN_CHUNK]
        marks = ",".join("?" * len(chunk))
        rows = fetch_all(db, f"SELECT y, spent_at, witness FROM proofs WHERE y IN ({marks})", chunk)  # noqa: S608
        for y, spent_at, witness in rows:
            known[y] = (ProofState.PENDING, None) if spent_at is None else (ProofState.SPENT, witness)
    return known


def insert(tx: Transaction, inputs: Inputs, *, operation: int | None = None, melt_quote: int | None = None) -> None:
    """Write proofs: spent by an operation, or held by a melt."""
    spent_at = None if operation is None else tx.now
    tx.db.executemany(
        "INSERT INTO proofs (y, keyset, amount, secret, c, witness, spent_at, operation, melt_quote)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [(p.y, p.keyset.n, p.amount, p.secret, p.c, p.witness, spent_at, operation, melt_quote) for p in inputs.proofs],
    )
    state = ProofState.PENDING if operation is None else ProofState.SPENT
    witnesses = [None if operation is None else p.witness for p in inputs.proofs]
    publish_states(tx, state, zip((p.y for p in inputs.proofs), witnesses, strict=True))


def publish_states(tx: Transaction, state: ProofState, proofs: Iterable[tuple[bytes, str | None]]) -> None:
    """Announce that these proofs (Y, witness) are now in `state`."""
    tx.publish(ProofsChanged(tuple(ProofStateEntry(Y=y.hex(), state=state, witness=w) for y, w in proofs)))


def book_redeemed(tx: Transaction, amounts: Iterable[tuple[int, int]], fee: int, fee_keyset: int) -> None:
    """Add redeemed (keyset n, amount) pairs to the books, and the input fee to the first input's keyset."""
    totals: dict[int, int] = {}
    for keyset, amount in amounts:
        totals[keyset] = totals.get(keyset, 0) + amount
    tx.db.executemany(
        "UPDATE keysets SET redeemed = redeemed + ? WHERE n = ?", [(total, n) for n, total in totals.items()]
    )
    if fee:
        tx.db.execute("UPDATE keysets SET fees = fees + ? WHERE n = ?", (fee, fee_keyset))
