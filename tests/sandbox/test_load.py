"""The stand-in must not be what is slow."""

from __future__ import annotations

import time

import pytest

from contrib.sandbox import Behaviour, SandboxNode

HELD = 10_000


@pytest.mark.slow
def test_ten_thousand_held_payments(node: SandboxNode) -> None:
    invoices = [node.outside_invoice(1000) for _ in range(HELD)]
    node.script(Behaviour.hold(), times=HELD)
    started = time.monotonic()
    running = [node.rpc_soon("xpay", invstring=invoice.bolt11) for invoice in invoices]
    node.wait_until(lambda: node.do(lambda inner: inner.parts.count()) == HELD, timeout_s=120)
    sent_s = time.monotonic() - started
    started = time.monotonic()
    for invoice in invoices[:200]:
        assert node.rpc("listsendpays", payment_hash=invoice.payment_hash)["payments"][0]["status"] == "pending"
    looked_s = time.monotonic() - started
    for invoice in invoices:
        node.release(invoice)
    for pending in running:
        assert "payment_preimage" in pending.result()
    assert sent_s < 60
    assert looked_s < 2
