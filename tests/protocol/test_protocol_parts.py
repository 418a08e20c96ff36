"""Melt quotes for a part of an invoice (NUT-15), and for invoices that name no amount (NUT-23)."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from contrib.sandbox import Behaviour
from ledger.errors import Code
from ledger.models import MeltQuoteLightning
from tests.plugin.harness import PATIENCE_S, Mint, Purse
from tests.protocol.helpers import code_of, ok

OPTIONS = {"units": "sat,msat", "fee_reserve_min": 1, "fee_reserve_percent": 1, "min_melt": 0, "max_melt": 100_000}


def ask(mint: Mint, request: str, options: Any, unit: str = "sat") -> httpx.Response:
    body = {"request": request, "unit": unit, "options": options}
    return mint.http.post("/v1/melt/quote/bolt11", json=body)


def part(amount_msat: Any) -> dict[str, Any]:
    return {"mpp": {"amount": amount_msat}}


def amountless(amount_msat: Any) -> dict[str, Any]:
    return {"amountless": {"amount_msat": amount_msat}}


def paid_with(mint: Mint, request: str) -> dict[str, Any]:
    """The parameters of the one xpay of this invoice."""
    (params,) = (call.params for call in mint.node.calls("xpay") if call.params["invstring"] == request)
    return dict(params)


# --- parts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "amount_msat", "amount", "fee_reserve"),
    [
        ("sat", 30_000, 30, 1),
        ("sat", 30_001, 31, 1),
        ("sat", 999, 1, 1),
        ("sat", 99_999, 100, 1),
        ("msat", 30_001, 30_001, 1000),
    ],
)
def test_a_part_is_priced_by_its_own_amount_and_rounded_up(
    mint: Mint, unit: str, amount_msat: int, amount: int, fee_reserve: int
) -> None:
    quote = ok(ask(mint, mint.invoice(1000).bolt11, part(amount_msat), unit))
    assert (quote["amount"], quote["fee_reserve"], quote["unit"]) == (amount, fee_reserve, unit)
    assert quote["state"] == "UNPAID"


@pytest.mark.parametrize("unit", ["sat", "msat"])
def test_only_the_part_is_paid(mint: Mint, unit: str) -> None:
    purse = Purse(mint, unit)
    invoice = mint.invoice(1000)
    quote = MeltQuoteLightning.model_validate(ok(ask(mint, invoice.bolt11, part(30_001), unit)))
    melt = purse.prepare(invoice, quote=quote)
    purse.post(melt)
    purse.assert_paid(melt, fee_msat=999 if unit == "sat" else 1000)
    params = paid_with(mint, invoice.bolt11)
    assert params["partial_msat"] == 30_001
    assert "amount_msat" not in params
    (row,) = mint.node.rows(invoice)
    assert row["amount_msat"] == 30_001
    mint.check()


def test_a_part_that_waits_for_the_others_is_pending_until_they_come(mint: Mint, purse: Purse) -> None:
    invoice = mint.invoice(1000, Behaviour.hold())
    quote = MeltQuoteLightning.model_validate(ok(ask(mint, invoice.bolt11, part(30_000))))
    melt = purse.prepare(invoice, quote=quote)
    assert purse.post(melt, prefer_async=True).state == "PENDING"
    mint.node.wait_for_part(invoice, timeout_s=PATIENCE_S)
    purse.assert_pending(melt)
    mint.node.release(invoice)
    purse.assert_paid(melt)


def test_a_part_that_is_the_whole_is_no_part(mint: Mint, purse: Purse) -> None:
    invoice = mint.invoice(100)
    quote = MeltQuoteLightning.model_validate(ok(ask(mint, invoice.bolt11, part(100_000))))
    assert quote.amount == 100
    melt = purse.prepare(invoice, quote=quote)
    purse.post(melt)
    purse.assert_paid(melt)
    assert "partial_msat" not in paid_with(mint, invoice.bolt11)


def test_parts_that_make_no_sense_are_refused(mint: Mint, purse: Purse) -> None:
    invoice = mint.invoice(100).bolt11
    nameless = mint.node.outside_invoice(None).bolt11
    own = purse.request_mint(100).request
    for request, options, code in (
        (invoice, part(100_001), Code.AMOUNT_MISMATCH),
        (invoice, part(0), Code.REQUEST_REJECTED),
        (invoice, part(-1), Code.REQUEST_REJECTED),
        (invoice, part("30000"), Code.REQUEST_REJECTED),
        (invoice, part(30_000.0), Code.REQUEST_REJECTED),
        (invoice, part(True), Code.REQUEST_REJECTED),
        (invoice, part(None), Code.REQUEST_REJECTED),
        (invoice, {"mpp": {}}, Code.REQUEST_REJECTED),
        (invoice, {"mpp": 5}, Code.REQUEST_REJECTED),
        (invoice, part(30_000) | amountless(100_000), Code.QUOTE_REJECTED),
        (nameless, part(30_000), Code.QUOTE_REJECTED),
        (nameless, part(30_000) | amountless(30_000), Code.QUOTE_REJECTED),
        (own, part(30_000), Code.QUOTE_REJECTED),
        (mint.invoice(1_000_000).bolt11, part(100_000_001), Code.AMOUNT_OUTSIDE_LIMITS),
    ):
        assert code_of(ask(mint, request, options)) == code, options


def test_the_limit_counts_for_the_part_and_not_for_the_invoice(mint: Mint) -> None:
    assert ok(ask(mint, mint.invoice(1_000_000).bolt11, part(100_000_000)))["amount"] == 100_000


def test_an_invoice_that_was_paid_in_part_here_is_not_paid_again(mint: Mint, purse: Purse) -> None:
    invoice = mint.invoice(1000)
    quote = MeltQuoteLightning.model_validate(ok(ask(mint, invoice.bolt11, part(30_000))))
    purse.post(purse.prepare(invoice, quote=quote))
    assert code_of(ask(mint, invoice.bolt11, part(30_000))) == Code.INVOICE_PAID


def test_parts_are_announced_for_each_unit(mint: Mint) -> None:
    methods = mint.client.info()["nuts"]["15"]["methods"]
    assert methods == [{"method": "bolt11", "unit": unit} for unit in ("sat", "msat")]


# --- no amount --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("unit", "amount_msat", "amount"), [("sat", 30_001, 31), ("msat", 30_001, 30_001)])
def test_an_invoice_without_amount_is_paid_with_the_amount_that_the_wallet_names(
    mint: Mint, unit: str, amount_msat: int, amount: int
) -> None:
    purse = Purse(mint, unit)
    invoice = mint.node.outside_invoice(None)
    quote = MeltQuoteLightning.model_validate(ok(ask(mint, invoice.bolt11, amountless(amount_msat), unit)))
    assert quote.amount == amount
    melt = purse.prepare(invoice, quote=quote)
    purse.post(melt)
    purse.assert_paid(melt, fee_msat=999 if unit == "sat" else 1000)
    params = paid_with(mint, invoice.bolt11)
    assert params["amount_msat"] == amount_msat
    assert "partial_msat" not in params
    mint.check()


def test_amounts_that_do_not_fit_the_invoice_are_refused(mint: Mint) -> None:
    invoice = mint.invoice(100).bolt11
    nameless = mint.node.outside_invoice(None).bolt11
    for request, options, code in (
        (nameless, None, Code.AMOUNTLESS_UNSUPPORTED),
        (nameless, {}, Code.AMOUNTLESS_UNSUPPORTED),
        (nameless, {"amountless": None}, Code.AMOUNTLESS_UNSUPPORTED),
        (nameless, {"amountless": {}}, Code.REQUEST_REJECTED),
        (nameless, amountless(0), Code.REQUEST_REJECTED),
        (nameless, amountless(-5), Code.REQUEST_REJECTED),
        (nameless, amountless("5000"), Code.REQUEST_REJECTED),
        (nameless, amountless(2**70), Code.REQUEST_REJECTED),
        (nameless, amountless(100_000_001), Code.AMOUNT_OUTSIDE_LIMITS),
        (invoice, amountless(99_999), Code.AMOUNT_MISMATCH),
        (invoice, amountless(100_001), Code.AMOUNT_MISMATCH),
    ):
        assert code_of(ask(mint, request, options)) == code, options


@pytest.mark.parametrize("options", [None, {}, {"mpp": None, "amountless": None}, {"unknown": 1}, amountless(100_000)])
def test_options_that_change_nothing_change_nothing(mint: Mint, options: Any) -> None:
    assert ok(ask(mint, mint.invoice(100).bolt11, options))["amount"] == 100


def test_amountless_is_announced(mint: Mint) -> None:
    for method in mint.client.info()["nuts"]["5"]["methods"]:
        assert method["options"].get("amountless", False) == (method["method"] != "onchain")
