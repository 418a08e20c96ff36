"""Swap: proofs in, signatures out, exactly balanced after the input fee (NUT-03)."""

from __future__ import annotations

from dataclasses import dataclass

from ledger import conditions
from ledger.errors import Code, LedgerError
from ledger.keysets import Keysets
from ledger.models import SignaturesResponse, SwapRequest
from ledger.operations import inputs, outputs, replay
from ledger.operations.inputs import Inputs
from ledger.operations.outputs import Outputs, Signed
from ledger.store.transaction import Transaction

KIND = "swap"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A swap whose curve work is done; nothing is promised yet."""

    digest: bytes
    inputs: Inputs
    outputs: Outputs
    signed: list[Signed]


def prepare(keysets: Keysets, request: SwapRequest, request_digest: bytes, now: int) -> Prepared:
    """Check and sign, without the database. Raises the codes of inputs, outputs and conditions, 11010, 11005."""
    _, unit, amount, fee = inputs.check_form(keysets, request.inputs, now)
    checked = outputs.check(keysets, request.outputs, now)
    if unit != checked.unit:
        raise LedgerError(Code.UNITS_DIFFER, f"inputs are in {unit}, outputs in {checked.unit}")
    if amount - fee != checked.amount:
        raise LedgerError(
            Code.NOT_BALANCED, f"inputs {amount} minus fee {fee} is not outputs {checked.amount} ({unit})"
        )
    verified = inputs.verify(keysets, request.inputs, now)
    conditions.require_met(request.inputs, request.outputs, now)
    return Prepared(request_digest, verified, checked, outputs.sign(checked))


def commit(tx: Transaction, swap: Prepared) -> SignaturesResponse:
    """Spend the inputs and store the signatures. Raises 11001 to 11004, 12002, 12003."""
    if answered := replay.find(tx.db, swap.digest):
        return answered
    inputs.require_unspent(tx, swap.inputs)
    outputs.require_unsigned(tx, swap.outputs)
    operation = replay.record(tx, KIND, swap.digest)
    inputs.insert(tx, swap.inputs, operation=operation)
    outputs.insert(tx, swap.signed, operation=operation)
    spent = ((proof.keyset.n, proof.amount) for proof in swap.inputs.proofs)
    inputs.book_redeemed(tx, spent, swap.inputs.fee, swap.inputs.proofs[0].keyset.n)
    return SignaturesResponse(signatures=[signed.to_wire() for signed in swap.signed])
