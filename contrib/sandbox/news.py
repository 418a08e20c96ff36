"""Notifications: what they look like on a real node, oddities included."""

from __future__ import annotations

from typing import Any

from contrib.sandbox.errors import PAY_UNPARSEABLE_ONION
from contrib.sandbox.invoices import Record
from contrib.sandbox.payments import PENDING, Row
from contrib.sandbox.script import PartFailure

XPAY = "cln-xpay"

News = tuple[str, dict[str, Any], str | None]
"""A notification to come: topic, payload, and the plugin it comes from (None: the node itself)."""


def sendpay_success(row: Row) -> News:
    """A part has arrived."""
    return "sendpay_success", row.to_json(), None


def sendpay_failure(row: Row, cause: PartFailure) -> News:
    """A part has come back. The node loads the row before it changes it, so the status in it reads pending."""
    shown = row.to_json()
    onion = shown.pop("erroronion", None)
    shown.pop("completed_at", None)
    shown.pop("updated_index", None)
    shown["status"] = PENDING
    if onion is not None and cause.notified_code == PAY_UNPARSEABLE_ONION:
        shown["onionreply"] = onion
    return "sendpay_failure", {"code": cause.notified_code, "message": cause.notified_message, "data": shown}, None


def pay_part_start(
    payment_hash: str, groupid: int, partid: int, total_msat: int, attempt_msat: int, hops: list[dict[str, Any]]
) -> News:
    """xpay begins an attempt. One that lightningd then refuses never gets its end."""
    payload = {
        "payment_hash": payment_hash,
        "groupid": groupid,
        "partid": partid,
        "total_payment_msat": total_msat,
        "attempt_msat": attempt_msat,
        "hops": hops,
    }
    return "pay_part_start", payload, XPAY


def pay_part_end(row: Row, duration_s: float, cause: PartFailure | None, failed_node: str | None, height: int) -> News:
    """xpay has seen the end of an attempt; no cause means success."""
    identity = {"payment_hash": row.payment_hash, "groupid": row.groupid, "partid": row.partid}
    if cause is None:
        return "pay_part_end", {"status": "success", "duration": duration_s, **identity}, XPAY
    payload: dict[str, Any] = {
        "status": "failure",
        **identity,
        "failed_msg": cause.onion_message(row.amount_msat, height),
    }
    payload["duration"] = duration_s
    if failed_node is not None:
        payload["failed_node_id"] = failed_node
    return "pay_part_end", {**payload, "error_code": cause.error_code, "error_message": cause.error_message}, XPAY


def invoice_creation(record: Record) -> News:
    """An invoice was made; the preimage is told to everybody."""
    payload: dict[str, Any] = {} if record.amount_msat is None else {"msat": record.amount_msat}
    payload |= {"preimage": record.preimage, "label": record.label}
    if record.offer_id is not None:
        payload["offer_id"] = record.offer_id
    return "invoice_creation", payload, None


def invoice_payment(record: Record) -> News:
    """An invoice was paid: no hash, no pay_index."""
    payload = {"msat": record.amount_received_msat, "preimage": record.preimage, "label": record.label}
    return "invoice_payment", payload, None


def coin_movement(move: dict[str, Any]) -> News:
    """Money has moved over the channel."""
    shown: dict[str, Any] = {"version": 2, "type": "channel_mvt"}
    for name, value in move.items():
        shown[name] = value
        if name == "primary_tag":
            shown["extra_tags"] = []
    return "coin_movement", shown, None
