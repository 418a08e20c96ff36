"""What the ledger knows of proofs and outputs: checkstate (NUT-07) and restore (NUT-09). They only read."""

from __future__ import annotations

import apsw

from ledger import curve
from ledger.errors import Code, LedgerError
from ledger.models import (
    MAX_ARRAY_LENGTH,
    MAX_WITNESSES_LENGTH,
    CheckStateRequest,
    CheckStateResponse,
    ProofState,
    ProofStateEntry,
    RestoreRequest,
    RestoreResponse,
)
from ledger.operations import inputs, outputs


def check(db: apsw.Connection, request: CheckStateRequest) -> CheckStateResponse:
    """The state of each `Y`, in order. Raises 11014 for too many, also of witnesses, and 11000 for one that has not the
    form of a point.

    One that has it, and yet is none, is UNSPENT like others of which nothing is known: to compute whether it is one
    would take a third of the time of all, and nothing hangs on it."""
    if len(request.Ys) > MAX_ARRAY_LENGTH:
        raise LedgerError(Code.TOO_MANY_INPUTS, f"{len(request.Ys)} Ys; at most {MAX_ARRAY_LENGTH} are accepted")
    ys = [bytes.fromhex(y) for y in request.Ys]
    if not all(map(curve.is_point_like, ys)):
        raise LedgerError(Code.TRANSACTION_REJECTED, "a Y is not a compressed point")
    known = inputs.states(db, ys)
    unseen = (ProofState.UNSPENT, None)
    states, length = [], 0
    for y in ys:
        state, witness = known.get(y, unseen)
        length += len(witness or "")
        states.append(ProofStateEntry(Y=y.hex(), state=state, witness=witness))
    if length > MAX_WITNESSES_LENGTH:
        raise LedgerError(
            Code.TOO_MANY_INPUTS,
            f"the witnesses of these Ys have {length} characters; at most {MAX_WITNESSES_LENGTH} are answered at once",
        )
    return CheckStateResponse(states=states)


def restore(db: apsw.Connection, request: RestoreRequest) -> RestoreResponse:
    """The signatures given on these `B_` before, whatever their keyset's state; others are left out. Raises 11015."""
    if len(request.outputs) > MAX_ARRAY_LENGTH:
        raise LedgerError(
            Code.TOO_MANY_OUTPUTS, f"{len(request.outputs)} outputs; at most {MAX_ARRAY_LENGTH} are accepted"
        )
    known = outputs.find(db, [bytes.fromhex(output.B_) for output in request.outputs])
    found, signatures = [], []
    for output in request.outputs:
        signature = known.get(bytes.fromhex(output.B_))
        if signature is not None:
            found.append(output)
            signatures.append(signature)
    return RestoreResponse(outputs=found, signatures=signatures)
