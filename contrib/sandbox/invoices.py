"""Invoices of this node: creating, listing, waiting, being paid."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import coincurve

from contrib.sandbox import bolt11, bolt12
from contrib.sandbox.errors import (
    INVALID_PARAMS,
    INVOICE_EXPIRED_DURING_WAIT,
    INVOICE_LABEL_EXISTS,
    INVOICE_NO_DESCRIPTION,
    INVOICE_NOT_FOUND,
    INVOICE_PREIMAGE_EXISTS,
    INVOICE_STATUS_UNEXPECTED,
    INVOICE_WAIT_TIMED_OUT,
    LIGHTNINGD,
    RpcError,
)
from contrib.sandbox.outside import derive, sha256_hex
from contrib.sandbox.params import MAX_LABEL_BYTES
from contrib.sandbox.store import Store
from contrib.sandbox.waits import Waits

UNPAID = "unpaid"
PAID = "paid"
EXPIRED = "expired"
DEFAULT_EXPIRY_S = 7 * 24 * 3600
DEFAULT_CLTV = 10
MAX_OVERPAYMENT = 2
"""A node takes up to this many times the amount it asked for."""

_KIND = "invoice"


@dataclass
class Record:
    """One invoice. `bolt11` is its text, also if that is one of BOLT 12."""

    created_index: int
    label: str
    bolt11: str
    payment_hash: str
    preimage: str
    description: str | None
    expires_at: int
    amount_msat: int | None = None
    status: str = UNPAID
    updated_index: int = 0
    pay_index: int | None = None
    amount_received_msat: int | None = None
    paid_at: int | None = None
    offer_id: str | None = None
    payer_note: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As `listinvoices` shows it, in the same order of fields."""
        shown: dict[str, Any] = {"label": self.label, bolt12.field_of(self.bolt11): self.bolt11}
        shown["payment_hash"] = self.payment_hash
        if self.amount_msat is not None:
            shown["amount_msat"] = self.amount_msat
        shown["status"] = self.status
        if self.status == PAID:
            shown |= {
                "pay_index": self.pay_index,
                "amount_received_msat": self.amount_received_msat,
                "paid_at": self.paid_at,
                "payment_preimage": self.preimage,
            }
        if self.description is not None:
            shown["description"] = self.description
        shown["expires_at"] = self.expires_at
        for name, value in (("local_offer_id", self.offer_id), ("invreq_payer_note", self.payer_note)):
            if value is not None:
                shown[name] = value
        shown["created_index"] = self.created_index
        if self.updated_index:
            shown["updated_index"] = self.updated_index
        return shown


class Invoices:
    """All invoices, by label, hash and the three indexes."""

    def __init__(self, store: Store, waits: Waits, key: coincurve.PrivateKey, currency: str) -> None:
        self._store = store
        self._waits = waits
        self._key = key
        self._currency = currency
        self._by_label: dict[str, Record] = {}
        self._by_hash: dict[str, Record] = {}
        self._by_created: dict[int, Record] = {}
        self._by_update: dict[int, Record] = {}
        self._by_pay_index: dict[int, Record] = {}
        self._last_pay_index = 0
        self._expiring: list[tuple[int, str]] = []
        self._label_waiters: dict[str, list[asyncio.Future[dict[str, Any]]]] = {}
        self._any_waiters: list[tuple[int, asyncio.Future[dict[str, Any]]]] = []

    def load(self) -> None:
        """Take over the invoices of an earlier run."""
        for record in sorted((Record(**fields) for _, fields in self._store.all(_KIND)), key=lambda r: r.created_index):
            self._by_label[record.label] = record
            self._by_hash[record.payment_hash] = record
            self._by_created[record.created_index] = record
            if record.updated_index:
                self._by_update[record.updated_index] = record
            if record.pay_index is not None:
                self._by_pay_index[record.pay_index] = record
            if record.status == UNPAID:
                heapq.heappush(self._expiring, (record.expires_at, record.label))
        self._last_pay_index = max(self._store.get("meta", "pay_index") or 0, *self._by_pay_index, 0, 0)

    def create(
        self,
        *,
        amount_msat: int | None,
        label: str,
        description: str,
        expiry_s: int,
        preimage: str | None,
        cltv: int,
        hash_only: bool,
    ) -> Record:
        """The `invoice` command."""
        if len(label.encode()) > MAX_LABEL_BYTES:
            raise RpcError(INVALID_PARAMS, f"Label '{label}' over {MAX_LABEL_BYTES} bytes")
        length = len(description.encode())
        if length > bolt11.MAX_DESCRIPTION_BYTES and not hash_only:
            raise RpcError(
                INVALID_PARAMS,
                f"Description greater than {bolt11.MAX_DESCRIPTION_BYTES} bytes invalid (description length {length})",
            )
        if label in self._by_label:
            raise RpcError(INVOICE_LABEL_EXISTS, f"Duplicate label '{label}'")
        preimage = preimage or secrets.token_hex(32)
        payment_hash = sha256_hex(preimage)
        if payment_hash in self._by_hash:
            raise RpcError(INVOICE_PREIMAGE_EXISTS, "preimage already used")
        now = int(time.time())
        content = bolt11.Invoice(
            currency=self._currency,
            created_at=now,
            payment_hash=payment_hash,
            payment_secret=payment_secret(preimage),
            amount_msat=amount_msat,
            description=None if hash_only else description,
            description_hash=sha256_hex(description.encode().hex()) if hash_only else None,
            expiry_s=expiry_s,
            min_final_cltv=cltv,
        )
        text = bolt11.encode(content, self._key)
        record = Record(
            created_index=0,
            label=label,
            bolt11=text,
            payment_hash=payment_hash,
            preimage=preimage,
            description=description,
            expires_at=now + expiry_s,
            amount_msat=amount_msat,
        )
        self.add(record)
        return record

    def add(self, record: Record) -> None:
        """Keep a new invoice, and give it its index."""
        details = {"status": UNPAID, "label": record.label, bolt12.field_of(record.bolt11): record.bolt11}
        record.created_index = self._waits.bump("invoices", "created", details)
        self._by_label[record.label] = record
        self._by_hash[record.payment_hash] = record
        self._by_created[record.created_index] = record
        heapq.heappush(self._expiring, (record.expires_at, record.label))
        self._save(record)

    def of_offer(self, offer_id: str) -> list[Record]:
        """The invoices that were fetched for an offer, oldest first."""
        self.expire()
        return [record for record in self._by_created.values() if record.offer_id == offer_id]

    def cancel(self, record: Record) -> None:
        """Its offer was disabled: it can't be paid any more, whatever it says of its end."""
        self._set_status(record, EXPIRED)

    def of_label(self, label: str) -> Record | None:
        """One invoice by its label."""
        self.expire()
        return self._by_label.get(label)

    def of_hash(self, payment_hash: str) -> Record | None:
        """One invoice by its payment hash."""
        self.expire()
        return self._by_hash.get(payment_hash)

    def unpaid(self) -> list[Record]:
        """Invoices that still can be paid."""
        self.expire()
        return [record for record in self._by_label.values() if record.status == UNPAID]

    def complaint(self, payment_hash: str, amount_msat: int) -> str | None:
        """Why a payment would be refused, or None."""
        record = self.of_hash(payment_hash)
        if record is None:
            return f"Unknown invoice {payment_hash}"
        if record.status != UNPAID:
            return f"Already paid or expired invoice {payment_hash}"
        if record.amount_msat is not None:
            most = record.amount_msat * MAX_OVERPAYMENT
            if amount_msat < record.amount_msat:
                return f"Attempt to pay {payment_hash} with amount {amount_msat}msat < {record.amount_msat}msat"
            if amount_msat > most:
                return f"Attempt to pay {payment_hash} with amount {amount_msat}msat > {most}msat"
        return None

    def pay(self, record: Record, amount_msat: int) -> None:
        """Mark it paid with the next pay index, and answer everybody who waits for that."""
        self._last_pay_index += 1
        record.pay_index = self._last_pay_index
        record.amount_received_msat = amount_msat
        record.paid_at = int(time.time())
        self._store.put("meta", "pay_index", self._last_pay_index)
        self._by_pay_index[record.pay_index] = record
        self._set_status(record, PAID)
        waiting, self._any_waiters = self._any_waiters, []
        for last, future in waiting:
            if record.pay_index > last and not future.done():
                future.set_result(record.to_json())
            elif not future.done():
                self._any_waiters.append((last, future))
        for future in self._label_waiters.pop(record.label, []):
            if not future.done():
                future.set_result(record.to_json())

    def delete(self, label: str, status: str, *, description_only: bool) -> dict[str, Any]:
        """The `delinvoice` command."""
        record = self.of_label(label)
        if record is None:
            raise RpcError(INVOICE_NOT_FOUND, "Unknown invoice")
        if record.status != status:
            raise RpcError(
                INVOICE_STATUS_UNEXPECTED,
                f"Invoice status is {record.status} not {status}",
                {"current_status": record.status, "expected_status": status},
            )
        if description_only:
            if record.description is None:
                raise RpcError(INVOICE_NO_DESCRIPTION, "Invoice description already removed")
            record.description = None
            self._touch(record, {"status": None, "label": label})
            return record.to_json()
        del self._by_label[label]
        del self._by_hash[record.payment_hash]
        del self._by_created[record.created_index]
        self._by_update.pop(record.updated_index, None)
        if record.pay_index is not None:
            del self._by_pay_index[record.pay_index]
        self._store.delete(_KIND, str(record.created_index))
        details = {"status": status, "label": label, bolt12.field_of(record.bolt11): record.bolt11}
        self._waits.bump("invoices", "deleted", details)
        for future in self._label_waiters.pop(label, []):
            if not future.done():
                future.set_exception(RpcError(LIGHTNINGD, "Invoice deleted during wait"))
        return record.to_json()

    def select(self, *, index: str | None, start: int, limit: int | None) -> list[Record]:
        """The invoices `listinvoices` shows when it is asked for no single one."""
        self.expire()
        chosen: Iterator[Record]
        if index == "updated":
            never = (record for record in self._by_label.values() if not record.updated_index)
            later = (
                self._by_update[at]
                for at in range(max(start, 1), self._waits.value("invoices", "updated") + 1)
                if at in self._by_update
            )
            chosen = later if start else itertools.chain(never, later)
        else:
            chosen = (record for record in self._by_created.values() if record.created_index >= start)
        return list(itertools.islice(chosen, limit))

    async def wait_one(self, label: str) -> dict[str, Any]:
        """The `waitinvoice` command."""
        record = self.of_label(label)
        if record is None:
            raise RpcError(LIGHTNINGD, "Label not found")
        if record.status == PAID:
            return record.to_json()
        if record.status == EXPIRED:
            raise _expired(record)
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._label_waiters.setdefault(label, []).append(future)
        return await future

    async def wait_any(self, last_pay_index: int, timeout_s: int | None) -> dict[str, Any]:
        """The `waitanyinvoice` command."""
        for index in range(last_pay_index + 1, self._last_pay_index + 1):
            if index in self._by_pay_index:
                return self._by_pay_index[index].to_json()
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._any_waiters.append((last_pay_index, future))
        try:
            return await asyncio.wait_for(future, timeout_s)
        except TimeoutError:
            raise RpcError(INVOICE_WAIT_TIMED_OUT, "Timed out while waiting for invoice to be paid") from None

    def expire(self) -> None:
        """Flip what has expired by now; called by a timer and before every look."""
        now = time.time()
        while self._expiring and self._expiring[0][0] <= now:
            _, label = heapq.heappop(self._expiring)
            record = self._by_label.get(label)
            if record is None or record.status != UNPAID or record.expires_at > now:
                continue
            self._set_status(record, EXPIRED)
            for future in self._label_waiters.pop(label, []):
                if not future.done():
                    future.set_exception(_expired(record))

    def forget_waiters(self) -> None:
        """The node went down: nobody waits any more."""
        self._label_waiters.clear()
        self._any_waiters.clear()

    def _set_status(self, record: Record, status: str) -> None:
        record.status = status
        self._touch(record, {"status": status, "label": record.label})

    def _touch(self, record: Record, details: dict[str, Any]) -> None:
        self._by_update.pop(record.updated_index, None)
        shown = {name: value for name, value in details.items() if value is not None}
        record.updated_index = self._waits.bump("invoices", "updated", shown)
        self._by_update[record.updated_index] = record
        self._save(record)

    def _save(self, record: Record) -> None:
        self._store.put(_KIND, str(record.created_index), dict(vars(record)))


def payment_secret(preimage: str) -> str:
    """The payment secret that goes with a preimage."""
    return derive(bytes.fromhex(preimage), "payment secret").hex()


def _expired(record: Record) -> RpcError:
    return RpcError(INVOICE_EXPIRED_DURING_WAIT, "invoice expired during wait", record.to_json())
