"""Invoices of the node: made, listed, paid, waited for."""

from __future__ import annotations

import hashlib
import time

import pytest

from contrib.sandbox import RpcError, SandboxNode
from tests.sandbox.conftest import MakeNode, failure, topics


def test_shape_before_and_after_payment(node: SandboxNode) -> None:
    made = node.rpc("invoice", amount_msat=100_000, label="a", description="desc ü")
    assert list(made) == ["payment_hash", "expires_at", "bolt11", "payment_secret", "created_index"]
    (unpaid,) = node.rpc("listinvoices", label="a")["invoices"]
    assert list(unpaid) == [
        "label",
        "bolt11",
        "payment_hash",
        "amount_msat",
        "status",
        "description",
        "expires_at",
        "created_index",
    ]
    node.pay_invoice(made["bolt11"])
    (paid,) = node.rpc("listinvoices", payment_hash=made["payment_hash"])["invoices"]
    assert list(paid) == [
        "label",
        "bolt11",
        "payment_hash",
        "amount_msat",
        "status",
        "pay_index",
        "amount_received_msat",
        "paid_at",
        "payment_preimage",
        "description",
        "expires_at",
        "created_index",
        "updated_index",
    ]
    assert paid["status"] == "paid"
    assert hashlib.sha256(bytes.fromhex(paid["payment_preimage"])).hexdigest() == made["payment_hash"]
    assert node.rpc("listinvoices", invstring=made["bolt11"])["invoices"] == [paid]
    assert node.rpc("listinvoices", label="none")["invoices"] == []


def test_the_notification_has_no_hash(node: SandboxNode) -> None:
    made = node.rpc("invoice", amount_msat=1000, label="a", description="")
    node.pay_invoice(made["bolt11"], 1500)
    (entry,) = node.notifications("invoice_payment")
    assert set(entry.payload) == {"msat", "preimage", "label"}
    assert entry.payload["msat"] == 1500
    node.wait_for_notification("coin_movement")
    (move,) = node.rpc("listchannelmoves")["channelmoves"]
    assert (move["credit_msat"], move["primary_tag"], move["payment_hash"]) == (1500, "invoice", made["payment_hash"])


@pytest.mark.parametrize(
    ("params", "code", "message"),
    [
        ({"amount_msat": 1, "label": "taken", "description": "d"}, 900, "Duplicate label 'taken'"),
        ({"amount_msat": 1, "label": "b"}, -32602, "missing required parameter: description"),
        (
            {"amount_msat": 0, "label": "b", "description": "d"},
            -32602,
            "amount_msat: should be positive msat or 'any': invalid token '0'",
        ),
        (
            {"amount_msat": "xx", "label": "b", "description": "d"},
            -32602,
            "amount_msat: should be positive msat or 'any': invalid token '\"xx\"'",
        ),
        (
            {"amount_msat": "any", "label": "b", "description": "x" * 640},
            -32602,
            "Description greater than 639 bytes invalid (description length 640)",
        ),
        (
            {"amount_msat": 1, "label": "b", "description": 3},
            -32602,
            "description: should be a string (without \\u): invalid token '3'",
        ),
        ({"amount_msat": 1, "label": "b", "description": "d", "preimage": "11" * 32}, 901, "preimage already used"),
    ],
)
def test_refusals(node: SandboxNode, params: dict[str, object], code: int, message: str) -> None:
    node.rpc("invoice", amount_msat=1, label="taken", description="d", preimage="11" * 32)
    error = failure(node, "invoice", **params)
    assert (error.code, error.message) == (code, message)


def test_unknown_parameters_are_refused(node: SandboxNode) -> None:
    error = failure(node, "invoice", amount_msat=1, label="b", description="d", foo=1)
    assert error.message.startswith("unknown parameter: foo, this may be caused by")


def test_units_and_any(node: SandboxNode) -> None:
    assert node.rpc("invoice", amount_msat="5sat", label="a", description="")["bolt11"].startswith("lnbcrt50n1")
    assert node.rpc("invoice", amount_msat="0.001btc", label="b", description="")["bolt11"].startswith("lnbcrt1m1")
    free = node.rpc("invoice", amount_msat="any", label="c", description="")
    assert "amount_msat" not in node.rpc("decode", string=free["bolt11"])
    with pytest.raises(RpcError):
        node.pay_invoice(free["bolt11"])
    node.pay_invoice(free["bolt11"], 77)
    (paid,) = node.rpc("listinvoices", label="c")["invoices"]
    assert "amount_msat" not in paid
    assert paid["amount_received_msat"] == 77


def test_takes_from_the_amount_to_twice_the_amount(node: SandboxNode) -> None:
    made = node.rpc("invoice", amount_msat=1000, label="a", description="")
    for amount_msat in (999, 2001):
        with pytest.raises(RpcError):
            node.pay_invoice(made["bolt11"], amount_msat)
    assert node.pay_invoice(made["bolt11"], 2000)["pay_index"] == 1
    with pytest.raises(RpcError, match="Already paid or expired"):
        node.pay_invoice(made["bolt11"])


def test_expired_is_final(node: SandboxNode) -> None:
    made = node.rpc("invoice", amount_msat=1000, label="a", description="", expiry=1)
    waiting = node.rpc_soon("waitinvoice", label="a")
    with pytest.raises(RpcError) as caught:
        waiting.result()
    assert (caught.value.code, caught.value.message) == (903, "invoice expired during wait")
    assert caught.value.data["status"] == "expired"
    assert node.rpc("listinvoices", label="a")["invoices"][0]["status"] == "expired"
    with pytest.raises(RpcError):
        node.pay_invoice(made["bolt11"])
    assert "invoice_payment" not in topics(node)


def test_waitanyinvoice_catches_up_then_waits(node: SandboxNode) -> None:
    texts = [node.rpc("invoice", amount_msat=1, label=str(i), description="")["bolt11"] for i in range(3)]
    node.pay_invoice(texts[1])
    node.pay_invoice(texts[0])
    assert node.rpc("waitanyinvoice", lastpay_index=0, timeout=0)["label"] == "1"
    assert node.rpc("waitanyinvoice", lastpay_index=1)["label"] == "0"
    error = failure(node, "waitanyinvoice", lastpay_index=2, timeout=0)
    assert (error.code, error.message) == (904, "Timed out while waiting for invoice to be paid")
    waiting = node.rpc_soon("waitanyinvoice", lastpay_index=2)
    time.sleep(0.1)
    assert not waiting.done
    node.pay_invoice(texts[2])
    assert waiting.result()["pay_index"] == 3


def test_waitinvoice(node: SandboxNode) -> None:
    error = failure(node, "waitinvoice", label="none")
    assert (error.code, error.message) == (-1, "Label not found")
    made = node.rpc("invoice", amount_msat=1, label="a", description="")
    waiting = node.rpc_soon("waitinvoice", label="a")
    node.pay_invoice(made["bolt11"])
    assert waiting.result() == node.rpc("waitinvoice", label="a")


def test_delinvoice_compares_and_swaps(node: SandboxNode) -> None:
    node.rpc("invoice", amount_msat=1, label="a", description="")
    error = failure(node, "delinvoice", label="a", status="paid")
    assert (error.code, error.message) == (906, "Invoice status is unpaid not paid")
    assert error.data == {"current_status": "unpaid", "expected_status": "paid"}
    waiting = node.rpc_soon("waitinvoice", label="a")
    assert node.rpc("delinvoice", label="a", status="unpaid")["label"] == "a"
    with pytest.raises(RpcError, match="Invoice deleted during wait"):
        waiting.result()
    error = failure(node, "delinvoice", label="a", status="unpaid")
    assert (error.code, error.message) == (905, "Unknown invoice")


def test_wait_and_indexes(node: SandboxNode) -> None:
    assert node.rpc("wait", subsystem="invoices", indexname="created", nextvalue=0) == {
        "subsystem": "invoices",
        "created": 0,
    }
    waiting = node.rpc_soon("wait", subsystem="invoices", indexname="updated", nextvalue=1)
    made = node.rpc("invoice", amount_msat=1, label="a", description="")
    node.pay_invoice(made["bolt11"])
    assert waiting.result() == {"subsystem": "invoices", "updated": 1, "invoices": {"status": "paid", "label": "a"}}
    error = failure(node, "wait", subsystem="foo", indexname="created", nextvalue=1)
    assert error.message == "subsystem: unknown subsystem: invalid token '\"foo\"'"
    error = failure(node, "wait", subsystem="sendpays", indexname="foo", nextvalue=1)
    assert error.message == "indexname: unknown index: invalid token '\"foo\"'"


def test_listing_pages(node: SandboxNode) -> None:
    for label in "abc":
        node.rpc("invoice", amount_msat=1, label=label, description="")
    for label in "cb":
        node.pay_invoice(node.rpc("listinvoices", label=label)["invoices"][0]["bolt11"])
    page = node.rpc("listinvoices", index="created", start=2, limit=1)["invoices"]
    assert [entry["label"] for entry in page] == ["b"]
    page = node.rpc("listinvoices", index="updated", start=1)["invoices"]
    assert [entry["label"] for entry in page] == ["c", "b"]
    assert failure(node, "listinvoices", start=2).message == "Can only specify {start} with {index}"
    assert failure(node, "listinvoices", limit=2).message == "Can only specify {limit} with {index}"
    assert failure(node, "listinvoices", label="a", payment_hash="00" * 32).code == -32602


def test_invoices_survive_the_sandbox(make_node: MakeNode) -> None:
    node = make_node()
    made = node.rpc("invoice", amount_msat=1, label="a", description="")
    node.pay_invoice(made["bolt11"])
    other = node.rpc("invoice", amount_msat=1, label="b", description="")
    before = node.rpc("listinvoices")
    node.stop()
    again = make_node()
    assert again.rpc("listinvoices") == before
    assert again.pay_invoice(other["bolt11"])["pay_index"] == 2
