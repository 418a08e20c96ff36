"""The two ways to meet a condition (NUT-11, NUT-14): the main pathway, always open, and the refund after locktime."""

from __future__ import annotations

import hashlib
from typing import NoReturn

from ledger.conditions.secret import HTLC, Condition
from ledger.conditions.witness import Budget, Witness, enough_signers, read
from ledger.errors import Code, LedgerError


def require_met(condition: Condition, witness_text: str | None, message: bytes, now: int, budget: Budget) -> None:
    """Raises 20008 unless one pathway is met by itself; signatures are not counted across pathways."""
    witness = read(witness_text)
    digest = hashlib.sha256(message).digest()
    if _refund(condition, witness, digest, now, budget) or _main(condition, witness, digest, budget):
        return
    _refuse(condition, witness)


def _main(condition: Condition, witness: Witness, digest: bytes, budget: Budget) -> bool:
    if condition.hashlock is not None:
        if witness.preimage is None or hashlib.sha256(witness.preimage).digest() != condition.hashlock:
            return False
        if not condition.keys:
            return True  # the preimage alone
    return enough_signers(condition.keys, condition.needed, witness.signatures, digest, budget)


def _refund(condition: Condition, witness: Witness, digest: bytes, now: int, budget: Budget) -> bool:
    if condition.locktime is None or now <= condition.locktime:
        return False
    if condition.refund_keys is None:
        return True  # anyone, without a witness
    return enough_signers(condition.refund_keys, condition.refund_needed, witness.signatures, digest, budget)


def _refuse(condition: Condition, witness: Witness) -> NoReturn:
    kind = condition.kind.lower()
    if not witness.is_present:
        # Wallets look for these words.
        detail = f"no witness for {kind}: signatures not provided"
    elif condition.kind == HTLC:
        detail = f"the witness for {kind} does not meet the condition: preimage or signatures"
    else:
        detail = f"the witness for {kind} does not meet the condition: not enough valid signatures"
    raise LedgerError(Code.SIGNATURE_INVALID, detail)
