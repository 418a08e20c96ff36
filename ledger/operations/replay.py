"""Answering an identical request again (NUT-19), from the rows that the first one wrote."""

from __future__ import annotations

import hashlib

import apsw

from ledger.models import SignaturesResponse, Wire
from ledger.operations.outputs import to_wire
from ledger.store.query import fetch_all
from ledger.store.transaction import Transaction


def digest(kind: str, request: Wire) -> bytes:
    """What makes two requests identical: the operation and every field that the mint reads."""
    return hashlib.sha256(kind.encode() + b"\0" + request.model_dump_json().encode()).digest()


def find(db: apsw.Connection, request_digest: bytes) -> SignaturesResponse | None:
    """The answer that a request with this digest got, or None if there was none."""
    operation = db.execute("SELECT n FROM operations WHERE digest = ?", (request_digest,)).get
    if operation is None:
        return None
    rows = fetch_all(
        db,
        "SELECT k.id, p.amount, p.c_, p.e, p.s FROM promises p JOIN keysets k ON k.n = p.keyset"
        " WHERE p.operation = ? ORDER BY p.n",
        (operation,),
    )
    return SignaturesResponse(signatures=[to_wire(*row) for row in rows])


def record(tx: Transaction, kind: str, request_digest: bytes) -> int:
    """Note a new operation; returns its row number, to which proofs and promises refer."""
    tx.db.execute("INSERT INTO operations (kind, digest, created_at) VALUES (?, ?, ?)", (kind, request_digest, tx.now))
    return tx.db.last_insert_rowid()
