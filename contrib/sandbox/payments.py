"""Rows of outgoing payments: what `listsendpays`, `listpays` and `delpay` show."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from contrib.sandbox.bolt12 import field_of
from contrib.sandbox.errors import INVALID_PARAMS, PAY_NO_SUCH_PAYMENT, RpcError
from contrib.sandbox.store import Store
from contrib.sandbox.waits import Waits

PENDING = "pending"
COMPLETE = "complete"
FAILED = "failed"

_KIND = "sendpay"


@dataclass
class Row:
    """One part of an outgoing payment."""

    created_index: int
    payment_hash: str
    groupid: int
    partid: int
    destination: str
    amount_msat: int
    amount_sent_msat: int
    created_at: int
    status: str = PENDING
    updated_index: int = 0
    completed_at: int | None = None
    payment_preimage: str | None = None
    label: str | None = None
    bolt11: str | None = None
    erroronion: str | None = None
    total_msat: int = 0

    def to_json(self) -> dict[str, Any]:
        """As `listsendpays` shows it, in the same order of fields."""
        shown: dict[str, Any] = {
            "created_index": self.created_index,
            "id": self.created_index,
            "payment_hash": self.payment_hash,
            "groupid": self.groupid,
        }
        if self.updated_index:
            shown["updated_index"] = self.updated_index
        shown |= {
            "partid": self.partid,
            "destination": self.destination,
            "amount_msat": self.amount_msat,
            "amount_sent_msat": self.amount_sent_msat,
            "created_at": self.created_at,
        }
        if self.completed_at is not None:
            shown["completed_at"] = self.completed_at
        shown["status"] = self.status
        for name in ("payment_preimage", "label", "bolt11", "erroronion"):
            value = getattr(self, name)
            if value is not None:
                shown[field_of(value) if name == "bolt11" else name] = value
        return shown


class Payments:
    """All rows, by hash and by both indexes; nothing here looks through all of them to find one hash."""

    def __init__(self, store: Store, waits: Waits) -> None:
        self._store = store
        self._waits = waits
        self._rows: dict[int, Row] = {}
        self._by_hash: dict[str, list[Row]] = {}
        self._by_update: dict[int, Row] = {}

    def load(self) -> None:
        """Take over the rows of an earlier run."""
        rows = sorted((Row(**fields) for _, fields in self._store.all(_KIND)), key=lambda row: row.created_index)
        for row in rows:
            self._rows[row.created_index] = row
            self._by_hash.setdefault(row.payment_hash, []).append(row)
        for row in sorted(rows, key=lambda row: row.updated_index):
            if row.updated_index:
                self._by_update[row.updated_index] = row

    def add(
        self,
        *,
        payment_hash: str,
        groupid: int,
        partid: int,
        destination: str,
        amount_msat: int,
        amount_sent_msat: int,
        total_msat: int,
        label: str | None,
        bolt11: str,
    ) -> Row:
        """A part is handed over."""
        details = _wait_details(PENDING, partid, groupid, payment_hash)
        row = Row(
            created_index=self._waits.bump("sendpays", "created", details),
            payment_hash=payment_hash,
            groupid=groupid,
            partid=partid,
            destination=destination,
            amount_msat=amount_msat,
            amount_sent_msat=amount_sent_msat,
            created_at=int(time.time()),
            label=label,
            bolt11=bolt11,
            total_msat=total_msat,
        )
        self._rows[row.created_index] = row
        self._by_hash.setdefault(payment_hash, []).append(row)
        self._save(row)
        return row

    def complete(self, row: Row, preimage: str) -> None:
        """The preimage is known."""
        row.payment_preimage = preimage
        self._resolve(row, COMPLETE)

    def fail(self, row: Row, erroronion: str | None) -> None:
        """The HTLC is irrevocably gone."""
        row.erroronion = erroronion
        self._resolve(row, FAILED)

    def of_hash(self, payment_hash: str) -> list[Row]:
        """All rows of a payment hash, oldest first."""
        return self._by_hash.get(payment_hash, [])

    def get(self, created_index: int) -> Row | None:
        """One row."""
        return self._rows.get(created_index)

    def pending(self) -> Iterator[Row]:
        """Rows without an outcome."""
        return (row for row in self._rows.values() if row.status == PENDING)

    def select(
        self, *, payment_hash: str | None, status: str | None, index: str | None, start: int, limit: int | None
    ) -> list[Row]:
        """The rows `listsendpays` shows. With a hash the other filters are ignored, as they are on a real node."""
        if payment_hash is not None:
            return list(self.of_hash(payment_hash))
        chosen = self._from(index, start)
        if status is not None:
            chosen = (row for row in chosen if row.status == status)
        return list(itertools.islice(chosen, limit))

    def delete(self, payment_hash: str, status: str, partid: int | None, groupid: int | None) -> list[Row]:
        """`delpay`: counts as a deletion only when part and group are named (a real node forgets it otherwise)."""
        if (partid is None) != (groupid is None):
            raise RpcError(INVALID_PARAMS, "Must set both partid and groupid, or neither")
        rows = self.of_hash(payment_hash)
        if not rows:
            raise RpcError(PAY_NO_SUCH_PAYMENT, f"Unknown payment with payment_hash: {payment_hash}")
        named = [row for row in rows if partid is None or (row.partid, row.groupid) == (partid, groupid)]
        doomed = [row for row in named if row.status == status]
        if not doomed and named:
            raise RpcError(
                PAY_NO_SUCH_PAYMENT,
                f"Payment with hash {payment_hash} has {named[-1].status} status but it different from the one"
                f" provided {status}",
            )
        if not doomed:
            raise RpcError(PAY_NO_SUCH_PAYMENT, "No payment for that payment_hash with that partid and groupid")
        self.remove(doomed, counted=partid is not None)
        return doomed

    def remove(self, rows: Iterable[Row], *, counted: bool) -> None:
        """Forget rows, whatever their state."""
        for row in list(rows):
            del self._rows[row.created_index]
            self._by_update.pop(row.updated_index, None)
            remaining = [other for other in self._by_hash[row.payment_hash] if other is not row]
            if remaining:
                self._by_hash[row.payment_hash] = remaining
            else:
                del self._by_hash[row.payment_hash]
            self._store.delete(_KIND, str(row.created_index))
            if counted:
                self._waits.bump(
                    "sendpays", "deleted", _wait_details(row.status, row.partid, row.groupid, row.payment_hash)
                )

    def _from(self, index: str | None, start: int) -> Iterator[Row]:
        if index is None or index == "created":
            last = self._waits.value("sendpays", "created")
            return _present(self._rows.get, start, last) if start else iter(self._rows.values())
        if index == "updated":
            never = (row for row in self._rows.values() if not row.updated_index) if not start else iter(())
            last = self._waits.value("sendpays", "updated")
            return itertools.chain(never, _present(self._by_update.get, max(start, 1), last))
        raise RpcError(INVALID_PARAMS, "Cannot list by deleted index")

    def _resolve(self, row: Row, status: str) -> None:
        row.status = status
        row.completed_at = int(time.time())
        self._by_update.pop(row.updated_index, None)
        details = _wait_details(status, row.partid, row.groupid, row.payment_hash)
        row.updated_index = self._waits.bump("sendpays", "updated", details)
        self._by_update[row.updated_index] = row
        self._save(row)

    def _save(self, row: Row) -> None:
        self._store.put(_KIND, str(row.created_index), dict(vars(row)))


def list_pays(rows: Iterable[Row], running: Callable[[str], bool]) -> list[dict[str, Any]]:
    """`listpays`: rows merged per attempt group. A group without success is pending while any xpay has its hash."""
    groups: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.payment_hash, row.groupid), []).append(row)
    return [_show_group(group, running) for group in groups.values()]


def _show_group(group: list[Row], running: Callable[[str], bool]) -> dict[str, Any]:
    first = group[0]
    live = [row for row in group if row.status != FAILED]
    complete = [row for row in group if row.status == COMPLETE]
    if complete:
        status = COMPLETE
    elif live or running(first.payment_hash):
        status = PENDING
    else:
        status = FAILED
    shown: dict[str, Any] = {
        field_of(first.bolt11 or ""): first.bolt11,
        "destination": first.destination,
        "payment_hash": first.payment_hash,
        "status": status,
        "created_at": first.created_at,
    }
    if complete:
        shown["completed_at"] = min(row.completed_at or 0 for row in complete)
    if first.label is not None:
        shown["label"] = first.label
    if complete:
        shown["preimage"] = complete[-1].payment_preimage
    if live:
        shown["amount_msat"] = sum(row.amount_msat for row in live)
    shown["amount_sent_msat"] = sum(row.amount_sent_msat for row in live)
    if len(live) > 1:
        shown["number_of_parts"] = len(live)
    shown["created_index"] = min(row.created_index for row in group)
    updated = max(row.updated_index for row in group)
    if updated:
        shown["updated_index"] = updated
    return shown


def _present(get: Callable[[int], Row | None], start: int, last: int) -> Iterator[Row]:
    for index in range(start, last + 1):
        row = get(index)
        if row is not None:
            yield row


def _wait_details(status: str, partid: int, groupid: int, payment_hash: str) -> dict[str, Any]:
    return {"status": status, "partid": partid, "groupid": groupid, "payment_hash": payment_hash}
