"""Keysets in the store: loading them, making the first one of a unit, rotating (NUT-02)."""

from __future__ import annotations

from collections.abc import Callable

import apsw

from ledger.errors import StartError
from ledger.keysets import Keyset, Keysets, keyset_id_v1
from ledger.store.query import fetch_all
from ledger.store.transaction import Transaction


def load(db: apsw.Connection, seed: bytes) -> Keysets:
    """Derive all stored keysets. Raises StartError if an id does not come out of this seed."""
    rows = fetch_all(db, "SELECT n, id, unit, counter, active, input_fee_ppk, final_expiry FROM keysets ORDER BY n")
    return Keysets([_load_one(seed, *row) for row in rows])


def _load_one(
    seed: bytes, n: int, keyset_id: str, unit: str, counter: int, active: int, fee: int, expiry: int | None
) -> Keyset:
    keyset = Keyset.derive(
        seed, n=n, unit=unit, counter=counter, active=bool(active), input_fee_ppk=fee, final_expiry=expiry
    )
    if keyset_id == keyset.id:
        return keyset
    if keyset_id == keyset_id_v1(keyset.public_keys):
        return keyset.with_id(keyset_id)
    raise StartError(
        f"keyset {keyset_id} of the ledger does not come out of this node's secret: "
        "the ledger belongs to another node (or another hsm_secret)"
    )


def rotate(
    tx: Transaction,
    seed: bytes,
    unit: str,
    input_fee_ppk: int,
    final_expiry: int | None,
    configured_fee_ppk: int,
    install: Callable[[Keysets], None],
) -> Keyset:
    """Make a new active keyset for `unit`; the ones active till now keep serving as inputs.

    `configured_fee_ppk` is what the operator's option says, from which a single rotation may differ. `install` receives
    the new set of keysets once it is committed.
    """
    counter = tx.db.execute("SELECT coalesce(max(counter) + 1, 0) FROM keysets WHERE unit = ?", (unit,)).get
    n = tx.db.execute("SELECT coalesce(max(n) + 1, 1) FROM keysets").get
    keyset = Keyset.derive(
        seed,
        n=n,
        unit=unit,
        counter=counter,
        active=True,
        input_fee_ppk=input_fee_ppk,
        final_expiry=final_expiry,
    )
    tx.db.execute("UPDATE keysets SET active = 0 WHERE unit = ?", (unit,))
    tx.db.execute(
        "INSERT INTO keysets (n, id, unit, counter, active, input_fee_ppk, final_expiry, configured_fee_ppk,"
        " created_at) VALUES (?, ?, ?, ?, 1, ?, ?, ?, ?)",
        (n, keyset.id, unit, counter, input_fee_ppk, final_expiry, configured_fee_ppk, tx.now),
    )
    keysets = tx.keysets.with_rotation(keyset)
    tx.after_commit.append(lambda: install(keysets))
    return keyset


def configured_fee(db: apsw.Connection, unit: str) -> int | None:
    """What the operator's option said when the unit's newest keyset was made; None if the unit has no keyset."""
    fee = db.execute("SELECT configured_fee_ppk FROM keysets WHERE unit = ? ORDER BY counter DESC LIMIT 1", (unit,)).get
    return None if fee is None else int(fee)
