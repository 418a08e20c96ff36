"""`cashu-audit`: the books, recomputed from the rows and held against what the node owns."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest

from contrib.sandbox import RpcError
from tests.plugin.conftest import MakeMint
from tests.plugin.harness import Mint, Purse


def audit(mint: Mint) -> dict[str, Any]:
    return mint.node.rpc("cashu-audit")


@pytest.fixture
def fresh(make_mint: MakeMint) -> Iterator[Mint]:
    yield make_mint(input_fee_ppk=100)


def test_the_books_of_a_mint_that_nobody_used_balance(fresh: Mint) -> None:
    books = audit(fresh)
    assert (books["balanced"], books["covered"], books["faults"]) == (True, True, [])
    assert books["outstanding_msat"] == books["received_msat"] == books["paid_out_msat"] == 0
    assert books["methods"] == []


def test_every_figure_of_the_books(fresh: Mint) -> None:
    purse = Purse(fresh)
    proofs = purse.swap(purse.fund(64))  # one proof: 1 sat
    assert sum(proof.amount for proof in proofs) == 63
    melt = purse.prepare(fresh.invoice(20))
    purse.post(melt)
    paid = purse.assert_paid(melt)
    change = sum(signature.amount for signature in paid.change or [])
    inputs = sum(proof.amount for proof in melt.inputs)
    books = audit(fresh)
    (method,) = books["methods"]
    (keyset,) = books["keysets"]
    minted = method["received_msat"] // 1000
    assert method == {
        "method": "bolt11",
        "unit": "sat",
        "received_msat": minted * 1000,
        "paid_out_msat": 20_000,
        "fees_paid_msat": method["fees_paid_msat"],
    }
    input_fees = 1 + purse.fee(melt.inputs)
    assert keyset["fees"] == input_fees
    assert keyset["issued"] == minted + 63 + change
    assert keyset["redeemed"] == 64 + inputs
    assert keyset["outstanding"] * 1000 == books["outstanding_msat"] == (minted - 1 - inputs + change) * 1000
    assert (books["received_msat"], books["paid_out_msat"]) == (minted * 1000, 20_000)
    earned = minted * 1000 - 20_000 - method["fees_paid_msat"] - books["outstanding_msat"]
    assert books["earned_msat"] == earned >= input_fees * 1000
    owned = books["node"]["channels_msat"] + books["node"]["onchain_msat"]
    assert books["sentence"] == (
        f"The books balance: the mint owes {books['outstanding_msat']} msat, and the node owns {owned} msat."
    )


def test_what_was_paid_for_and_not_issued_yet_is_owed_as_well(fresh: Mint) -> None:
    purse = Purse(fresh)
    quote = purse.request_mint(64)
    fresh.node.pay_invoice(quote.request)
    purse.wait_credited(quote)
    books = audit(fresh)
    assert (books["outstanding_msat"], books["unissued_msat"], books["owed_msat"]) == (0, 64_000, 64_000)
    assert books["earned_msat"] == 0
    assert "owes 64000 msat" in books["sentence"]


def test_a_node_that_owns_less_than_the_mint_owes_is_said_to(fresh: Mint) -> None:
    Purse(fresh).fund(64)
    fresh.node.do(lambda node: setattr(node.channel, "to_us_msat", 63_999))
    books = audit(fresh)
    assert (books["balanced"], books["covered"]) == (True, False)
    assert "owes 64000 msat and the node owns only 63999 msat" in books["sentence"]


def test_rows_that_do_not_fit_the_books_are_found(fresh: Mint) -> None:
    Purse(fresh).fund(64)
    change_books(fresh, 1)
    books = audit(fresh)
    change_books(fresh, -1)
    assert not books["balanced"]
    assert books["sentence"].startswith("THE BOOKS DO NOT BALANCE")
    assert any("issued 65" in fault for fault in books["faults"])


def test_it_takes_no_arguments(fresh: Mint) -> None:
    with pytest.raises(RpcError, match="takes only format"):
        fresh.node.rpc("cashu-audit", deep=True)


def change_books(mint: Mint, amount: int) -> None:
    mint.node.stop_plugin()
    mint.node.wait_for_plugin_exit()
    with sqlite3.connect(mint.ledger_path) as db:
        db.execute("UPDATE keysets SET issued = issued + ?", (amount,))
    mint.start_plugin()
