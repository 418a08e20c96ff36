"""Spending conditions: NUT-10 secrets of the kinds P2PK (NUT-11) and HTLC (NUT-14).

`require_met` is the one entry; `most_checks` says what it may cost. Conditions become visible only when a proof is
spent, so everything is checked then; what claims to be a condition but is malformed can't be spent at all.
"""

from __future__ import annotations

from collections.abc import Sequence

from ledger import curve
from ledger.conditions import pathways
from ledger.conditions.secret import Condition, parse
from ledger.conditions.witness import MAX_VERIFICATIONS, Budget
from ledger.errors import Code, LedgerError
from ledger.models import BlindedMessage, Proof

__all__ = ["has_condition", "most_checks", "require_met"]

SIGNATURE_HEX_LENGTH = 2 * curve.SIGNATURE_BYTES
KEY_HEX_LENGTH = 2 * curve.POINT_BYTES


def has_condition(secret: str) -> bool:
    """Whether this secret is locked. Raises 10001 for a malformed condition."""
    return parse(secret) is not None


def require_met(proofs: Sequence[Proof], outputs: Sequence[BlindedMessage], now: int, quote_id: str = "") -> None:
    """Check the conditions of all inputs of a swap, or of a melt (then with its quote id).

    Raises 10001 for a malformed condition and 20008 for one that is not met.
    """
    conditions = [parse(proof.secret) for proof in proofs]
    budget = Budget()
    if any(condition is not None and condition.sig_all for condition in conditions):
        condition = _require_equal(conditions)
        message = _sig_all_message(proofs, outputs, quote_id)
        pathways.require_met(condition, proofs[0].witness, message, now, budget)
        return
    for proof, single in zip(proofs, conditions, strict=True):
        if single is not None:
            pathways.require_met(single, proof.witness, proof.secret.encode(), now, budget)


def most_checks(proofs: Sequence[Proof]) -> int:
    """How many signature checks `require_met` may take, without reading anything: each signature of a witness may have
    to be tried with each key of its secret, of which there are at most as many as have room in it."""
    locked = (proof for proof in proofs if proof.witness)
    checks = sum(
        len(proof.witness or "") // SIGNATURE_HEX_LENGTH * max(1, len(proof.secret) // KEY_HEX_LENGTH)
        for proof in locked
    )
    return min(checks, MAX_VERIFICATIONS)


def _require_equal(conditions: Sequence[Condition | None]) -> Condition:
    """With SIG_ALL every input must carry the same kind, data and tags (NUT-11)."""
    first = conditions[0]
    if first is None or any(other is None or other.terms != first.terms for other in conditions):
        raise LedgerError(Code.PROOF_INVALID, "SIG_ALL: all inputs must have the same kind, data and tags")
    return first


def _sig_all_message(proofs: Sequence[Proof], outputs: Sequence[BlindedMessage], quote_id: str) -> bytes:
    """Every input's secret and C, every output's amount and B_, all as sent, and a melt's quote id (NUT-11)."""
    inputs = "".join(proof.secret + proof.C for proof in proofs)
    return (inputs + "".join(f"{output.amount}{output.B_}" for output in outputs) + quote_id).encode()
