"""What xpay does by itself, compared with what was measured on a real node."""

from __future__ import annotations

import hashlib
import time

import pytest

from contrib.sandbox import Behaviour, Part, RpcError, SandboxNode
from tests.sandbox.conftest import MakeNode, failure, topics


def test_success_step_by_step(node: SandboxNode) -> None:
    invoice = node.outside_invoice(100_000)
    paid = node.rpc("xpay", invstring=invoice.bolt11, label="mylabel")
    assert paid == {
        "payment_preimage": invoice.preimage,
        "amount_msat": 100_000,
        "amount_sent_msat": 101_000,
        "failed_parts": 0,
        "successful_parts": 1,
    }
    assert hashlib.sha256(bytes.fromhex(paid["payment_preimage"])).hexdigest() == invoice.payment_hash
    node.wait_for_notification("coin_movement")
    assert topics(node) == ["pay_part_start", "sendpay_success", "pay_part_end", "coin_movement"]
    (row,) = node.rpc("listsendpays", payment_hash=invoice.payment_hash)["payments"]
    assert node.notifications("sendpay_success")[0].payload == row
    assert list(row) == [
        "created_index",
        "id",
        "payment_hash",
        "groupid",
        "updated_index",
        "partid",
        "destination",
        "amount_msat",
        "amount_sent_msat",
        "created_at",
        "completed_at",
        "status",
        "payment_preimage",
        "label",
        "bolt11",
    ]
    assert row["partid"] == 1
    assert 0 <= row["groupid"] < 2**63
    (pay,) = node.rpc("listpays", bolt11=invoice.bolt11)["pays"]
    assert list(pay) == [
        "bolt11",
        "destination",
        "payment_hash",
        "status",
        "created_at",
        "completed_at",
        "label",
        "preimage",
        "amount_msat",
        "amount_sent_msat",
        "created_index",
        "updated_index",
    ]
    (move,) = node.rpc("listchannelmoves")["channelmoves"]
    assert list(move) == [
        "created_index",
        "account_id",
        "credit_msat",
        "debit_msat",
        "timestamp",
        "primary_tag",
        "payment_hash",
        "part_id",
        "group_id",
        "fees_msat",
    ]
    assert (move["debit_msat"], move["fees_msat"], move["primary_tag"]) == (101_000, 1000, "invoice")
    assert node.notifications("coin_movement")[0].payload["extra_tags"] == []


def test_a_held_payment(node: SandboxNode) -> None:
    invoice = node.outside_invoice(100_000)
    node.script(Behaviour.hold(), invoice)
    running = node.rpc_soon("xpay", invstring=invoice.bolt11, retry_for=1)
    node.wait_for_part(invoice)
    (row,) = node.rows(invoice)
    assert row["status"] == "pending"
    assert "updated_index" not in row
    assert "completed_at" not in row
    (pay,) = node.rpc("listpays", payment_hash=invoice.payment_hash)["pays"]
    assert pay["status"] == "pending"
    (htlc,) = node.rpc("listhtlcs")["htlcs"]
    assert (htlc["payment_hash"], htlc["direction"], htlc["state"]) == (
        invoice.payment_hash,
        "out",
        "SENT_ADD_ACK_REVOCATION",
    )
    (live,) = node.rpc("listpeerchannels")["channels"][0]["htlcs"]
    assert set(live) == {"direction", "id", "amount_msat", "expiry", "payment_hash", "state"}
    assert topics(node) == ["pay_part_start"]
    assert not running.done
    assert node.release(invoice) == 1
    assert running.result()["payment_preimage"] == invoice.preimage
    assert node.rpc("listpeerchannels")["channels"][0]["htlcs"] == []
    assert node.rpc("listhtlcs")["htlcs"][0]["state"] == "RCVD_REMOVE_ACK_REVOCATION"


def test_a_second_xpay_while_the_first_is_held(node: SandboxNode) -> None:
    invoice = node.outside_invoice(1000)
    node.script(Behaviour.hold(), invoice)
    node.rpc_soon("xpay", invstring=invoice.bolt11)
    node.wait_for_part(invoice)
    groupid = node.rows(invoice)[0]["groupid"]
    error = failure(node, "xpay", invstring=invoice.bolt11)
    assert (error.code, error.message) == (
        -3,
        f'Unexpected injectpaymentonion error 200: {{"code":200,"message":"Payment with groupid={groupid} still in'
        ' progress, cannot retry before that completes."}',
    )
    starts = node.notifications("pay_part_start")
    assert len(starts) == 2
    assert len(starts[1].payload["hops"]) == 2
    assert len(node.rows(invoice)) == 1


def test_already_paid(node: SandboxNode) -> None:
    invoice = node.outside_invoice(1000)
    node.rpc("xpay", invstring=invoice.bolt11)
    error = failure(node, "xpay", invstring=invoice.bolt11)
    assert (error.code, error.message) == (219, "Already paid this invoice successfully")
    assert topics(node).count("pay_part_start") == 2
    assert topics(node).count("pay_part_end") == 1


def test_already_paid_in_several_parts(node: SandboxNode) -> None:
    invoice = node.outside_invoice(1000)
    node.script(Behaviour.success(parts=2), invoice)
    node.rpc("xpay", invstring=invoice.bolt11)
    node.wait_until(lambda: all(row["status"] == "complete" for row in node.rows(invoice)))
    error = failure(node, "xpay", invstring=invoice.bolt11)
    assert error.code == -3
    assert "error 201" in error.message


def test_destination_refuses(node: SandboxNode) -> None:
    invoice = node.outside_invoice(100_000)
    node.script(Behaviour.failure(), invoice)
    error = failure(node, "xpay", invstring=invoice.bolt11)
    assert (error.code, error.message) == (
        203,
        "Destination said it doesn't know invoice: incorrect_or_unknown_payment_details",
    )
    assert topics(node) == ["pay_part_start", "sendpay_failure", "pay_part_end"]
    payload = node.notifications("sendpay_failure")[0].payload
    assert (payload["code"], payload["message"]) == (202, "Malformed error reply")
    assert payload["data"]["status"] == "pending"
    assert "onionreply" in payload["data"]
    assert "completed_at" not in payload["data"]
    (row,) = node.rows(invoice)
    assert row["status"] == "failed"
    assert "erroronion" in row
    end = node.notifications("pay_part_end")[0].payload
    assert end["failed_msg"] == f"400f{100_000:016x}{node.rpc('getinfo')['blockheight']:08x}"
    assert (end["error_code"], end["error_message"]) == (16399, "incorrect_or_unknown_payment_details")


def test_listpays_lags_behind_a_refusal(make_node: MakeNode) -> None:
    node = make_node(listpays_lag_s=0.3)
    invoice = node.outside_invoice(1000)
    node.script(Behaviour.failure(), invoice)
    failure(node, "xpay", invstring=invoice.bolt11)
    assert node.rows(invoice)[0]["status"] == "failed"
    assert node.rpc("listpays", payment_hash=invoice.payment_hash)["pays"][0]["status"] == "pending"
    time.sleep(0.4)
    (pay,) = node.rpc("listpays", payment_hash=invoice.payment_hash)["pays"]
    assert pay["status"] == "failed"
    assert pay["amount_sent_msat"] == 0
    assert "amount_msat" not in pay


def test_retry_after_failure_gives_two_groups(node: SandboxNode) -> None:
    invoice = node.outside_invoice(1000)
    node.script(Behaviour.failure(), invoice)
    failure(node, "xpay", invstring=invoice.bolt11)
    node.rpc("xpay", invstring=invoice.bolt11)

    def statuses() -> list[str]:
        pays = node.rpc("listpays", payment_hash=invoice.payment_hash)["pays"]
        return [pay["status"] for pay in pays]

    # While xpay has the hash in memory, old failed groups read pending as well.
    node.wait_until(lambda: statuses() == ["failed", "complete"])


def test_no_row_and_no_notification_before_the_first_part(node: SandboxNode) -> None:
    invoice = node.outside_invoice(1000)
    for behaviour, code in ((Behaviour.refused(), 205), (Behaviour.refused(206), 206), (Behaviour.refused(209), 209)):
        node.script(behaviour, invoice)
        assert failure(node, "xpay", invstring=invoice.bolt11).code == code
    assert node.rpc("listsendpays")["payments"] == []
    assert node.rpc("listpays")["pays"] == []
    assert topics(node) == []


def test_a_channel_too_small(node: SandboxNode) -> None:
    invoice = node.outside_invoice(900_000)
    node.set_channel(capacity_msat=1_000_000, to_us_msat=500_000)
    error = failure(node, "xpay", invstring=invoice.bolt11)
    assert error.code == 205
    assert error.message == (
        "Failed: We could not find a usable set of paths. The shortest path is 103x1x0->105x1x0, but 103x1x0/0 layer"
        " auto.localchans says max is 490000msat"
    )
    node.set_channel(capacity_msat=800_000)
    assert failure(node, "xpay", invstring=invoice.bolt11).message.endswith(
        "Total source capacity is only 800000msat (in 1 channels)."
    )
    node.set_channel(capacity_msat=100_000_000, to_us_msat=50_000_000)
    node.rpc("xpay", invstring=invoice.bolt11)
    assert node.rpc("listfunds")["channels"][0]["our_amount_msat"] == 50_000_000 - 901_000


def test_held_money_can_not_be_spent_twice(node: SandboxNode) -> None:
    node.set_channel(capacity_msat=10_000_000, to_us_msat=5_000_000)
    first, second = node.outside_invoice(3_000_000), node.outside_invoice(3_000_000)
    node.script(Behaviour.hold(), first)
    node.rpc_soon("xpay", invstring=first.bolt11)
    node.wait_for_part(first)
    assert failure(node, "xpay", invstring=second.bolt11).code == 205
    node.release(first, ok=False)
    node.rpc("xpay", invstring=second.bolt11)


def test_fees_and_maxfee(node: SandboxNode) -> None:
    invoice = node.outside_invoice(100_000)
    assert node.rpc("xpay", invstring=invoice.bolt11, maxfee=300)["amount_sent_msat"] == 100_300
    invoice = node.outside_invoice(100_000)
    assert node.rpc("xpay", invstring=invoice.bolt11, maxfee=0)["amount_sent_msat"] == 100_000
    invoice = node.outside_invoice(100_000)
    node.script(Behaviour.success(fee_msat=5001), invoice)
    error = failure(node, "xpay", invstring=invoice.bolt11)
    assert (error.code, error.message) == (206, "Failed: Could not find route without excessive cost")
    assert node.rows(invoice) == []
    node.script(Behaviour.success(fee_msat=5001), invoice)
    assert node.rpc("xpay", invstring=invoice.bolt11, maxfee=5001)["amount_sent_msat"] == 105_001


def test_amounts_must_be_given_exactly_where_needed(node: SandboxNode) -> None:
    free = node.outside_invoice(None)
    assert failure(node, "xpay", invstring=free.bolt11).message == "amount_msat required"
    assert node.rpc("xpay", invstring=free.bolt11, amount_msat=500)["amount_msat"] == 500
    fixed = node.outside_invoice(1000)
    assert failure(node, "xpay", invstring=fixed.bolt11, amount_msat=1000).message == "amount_msat unnecessary"
    assert node.rpc("xpay", invstring=fixed.bolt11, partial_msat=400)["amount_msat"] == 400


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"invstring": "foo"}, "Invalid bolt11 invoice: Bad bech32 string"),
        ({}, "missing required parameter: invstring"),
        ({"invstring": "foo", "maxfee": "abc"}, "maxfee: should be a millisatoshi amount: invalid token '\"abc\"'"),
        ({"invstring": "foo", "retry_for": "abc"}, "retry_for: should be an integer: invalid token '\"abc\"'"),
    ],
)
def test_wrong_parameters(node: SandboxNode, params: dict[str, object], message: str) -> None:
    error = failure(node, "xpay", **params)
    assert (error.code, error.message) == (-32602, message)


def test_expired(node: SandboxNode) -> None:
    invoice = node.outside_invoice(1000, expiry_s=60, created_at=int(time.time()) - 100)
    error = failure(node, "xpay", invstring=invoice.bolt11)
    assert error.code == 207
    assert error.message in ("Invoice expired 40 seconds ago", "Invoice expired 41 seconds ago")
    assert node.rpc("decode", string=invoice.bolt11)["valid"] is True


def test_a_strangers_invoice_has_no_route(
    node: SandboxNode, make_node: MakeNode, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stranger = make_node(tmp_path_factory.mktemp("stranger")).outside_invoice(1000)
    error = failure(node, "xpay", invstring=stranger.bolt11)
    payee = node.rpc("decode", string=stranger.bolt11)["payee"]
    assert (error.code, error.message) == (205, f"Failed: Unknown destination node {payee}")


def test_own_invoice(node: SandboxNode) -> None:
    made = node.rpc("invoice", amount_msat=7000, label="self", description="")
    paid = node.rpc("xpay", invstring=made["bolt11"], maxfee=0)
    assert (paid["amount_msat"], paid["amount_sent_msat"]) == (7000, 7000)
    time.sleep(0.15)
    assert topics(node) == ["invoice_creation", "pay_part_start", "sendpay_success", "invoice_payment", "pay_part_end"]
    assert node.notifications("pay_part_start")[0].payload["hops"] == []
    assert node.rpc("listinvoices", label="self")["invoices"][0]["status"] == "paid"
    assert node.rpc("listhtlcs")["htlcs"] == []
    assert node.rpc("listchannelmoves")["channelmoves"] == []
    assert failure(node, "xpay", invstring=made["bolt11"]).code == 219


def test_own_invoice_that_is_gone(node: SandboxNode) -> None:
    made = node.rpc("invoice", amount_msat=7000, label="self", description="")
    node.rpc("delinvoice", label="self", status="unpaid")
    error = failure(node, "xpay", invstring=made["bolt11"])
    assert (error.code, error.message) == (203, "Destination said it doesn't know invoice: Malformed error reply")
    assert node.rows(made["bolt11"])[0]["status"] == "failed"
    assert topics(node)[1:] == ["pay_part_start", "sendpay_failure", "pay_part_end"]


def test_the_status_filter_is_ignored_with_a_hash(node: SandboxNode) -> None:
    invoice = node.outside_invoice(1000)
    node.rpc("xpay", invstring=invoice.bolt11)
    for command, member in (("listsendpays", "payments"), ("listpays", "pays")):
        assert len(node.rpc(command, payment_hash=invoice.payment_hash, status="failed")[member]) == 1
        assert node.rpc(command, status="failed")[member] == []
        assert len(node.rpc(command, status="complete")[member]) == 1


def test_listing_by_index(node: SandboxNode) -> None:
    invoices = [node.outside_invoice(1000) for _ in range(3)]
    for invoice in invoices:
        node.script(Behaviour.hold(), invoice)
        node.rpc_soon("xpay", invstring=invoice.bolt11)
        node.wait_for_part(invoice)
    node.release(invoices[2])
    node.release(invoices[0])
    listed = node.rpc("listsendpays", index="updated", start=1)["payments"]
    assert [row["created_index"] for row in listed] == [3, 1]
    listed = node.rpc("listsendpays", index="created", start=2, limit=1)["payments"]
    assert [row["created_index"] for row in listed] == [2]
    assert failure(node, "listsendpays", start=3).message == "Can only specify {start} with {index}"
    error = failure(node, "listsendpays", index="created", start=1, payment_hash=invoices[0].payment_hash)
    assert error.message == "Cannot use start with bolt11 or payment_hash"


def test_wait_for_sendpays(node: SandboxNode) -> None:
    invoice = node.outside_invoice(1000)
    created = node.rpc_soon("wait", subsystem="sendpays", indexname="created", nextvalue=1)
    updated = node.rpc_soon("wait", subsystem="sendpays", indexname="updated", nextvalue=1)
    node.rpc("xpay", invstring=invoice.bolt11)
    (row,) = node.rows(invoice)
    details = {"status": "pending", "partid": 1, "groupid": row["groupid"], "payment_hash": invoice.payment_hash}
    assert created.result() == {"subsystem": "sendpays", "created": 1, "sendpays": details}
    assert updated.result()["sendpays"]["status"] == "complete"


def test_delpay_counts_only_named_parts(node: SandboxNode) -> None:
    first, second = node.outside_invoice(1000), node.outside_invoice(1000)
    for invoice in (first, second):
        node.rpc("xpay", invstring=invoice.bolt11)

    def deleted() -> int:
        return int(node.rpc("wait", subsystem="sendpays", indexname="deleted", nextvalue=0)["deleted"])

    assert failure(node, "delpay", payment_hash="00" * 32, status="complete").code == 208
    error = failure(node, "delpay", payment_hash=first.payment_hash, status="failed")
    assert error.message.endswith("has complete status but it different from the one provided failed")
    node.rpc("delpay", payment_hash=first.payment_hash, status="complete")
    assert deleted() == 0
    (row,) = node.rows(second)
    node.rpc("delpay", payment_hash=second.payment_hash, status="complete", partid=1, groupid=row["groupid"])
    assert deleted() == 1
    assert node.rpc("listsendpays")["payments"] == []


def test_after_deletion_only_the_destination_protects(node: SandboxNode) -> None:
    invoice = node.outside_invoice(1000)
    node.rpc("xpay", invstring=invoice.bolt11)
    assert node.delete_rows(invoice) == 1
    assert node.rpc("wait", subsystem="sendpays", indexname="deleted", nextvalue=0)["deleted"] == 1
    assert failure(node, "xpay", invstring=invoice.bolt11).code == 203
    assert [row["status"] for row in node.rows(invoice)] == ["failed"]
    node.wait_for_notification("coin_movement")
    assert node.rpc("listchannelmoves")["channelmoves"][0]["payment_hash"] == invoice.payment_hash


def test_amounts_of_parts(node: SandboxNode) -> None:
    invoice = node.outside_invoice(1000)
    node.script(Behaviour(parts=(Part(amount_msat=500), Part(), Part())), invoice)
    paid = node.rpc("xpay", invstring=invoice.bolt11, maxfee=0)
    assert [row["amount_msat"] for row in node.rows(invoice)] == [500, 250, 250]
    assert paid["amount_msat"] == 1000
    node.script(Behaviour(parts=(Part(amount_msat=5000),)))
    other = node.outside_invoice(1000)
    with pytest.raises(RpcError, match="can't deliver"):
        node.rpc("xpay", invstring=other.bolt11)
