"""The stand-in must not be what is slow: it carries ten thousand payments that don't end, and still answers."""

from __future__ import annotations

import pytest

from contrib.sandbox import Behaviour, SandboxNode

HELD = 10_000
PATIENCE_S = 300


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ten_thousand_held_payments(node: SandboxNode) -> None:
    invoices = [node.outside_invoice(1000) for _ in range(HELD)]
    node.script(Behaviour.hold(), times=HELD)
    running = [node.rpc_soon("xpay", invstring=invoice.bolt11) for invoice in invoices]
    node.wait_until(
        lambda: node.do(lambda inner: inner.parts.count(), timeout_s=PATIENCE_S) == HELD, timeout_s=PATIENCE_S
    )
    for invoice in invoices[:200]:
        assert node.rpc("listsendpays", payment_hash=invoice.payment_hash)["payments"][0]["status"] == "pending"
    for invoice in invoices:
        node.release(invoice)
    for pending in running:
        assert "payment_preimage" in pending.result(timeout_s=PATIENCE_S)
