"""How the mint stands, by the books as they are kept."""

from __future__ import annotations

from ledger.audit import MethodBooks
from tests.ledger.helpers import METHOD, Mint, Wallet


def test_every_figure(mint: Mint, alice: Wallet) -> None:
    empty = mint.ledger.status()
    assert (empty.balanced, empty.owed_msat, empty.pending, empty.oldest_pending_s) == (True, 0, 0, 0)
    quotes = [mint.melt_quote(amount) for amount in (8, 16)]
    pending = mint.begin(quotes[0].quote, mint.fund(alice, 8))
    mint.clock.advance(60)
    mint.begin(quotes[1].quote, mint.fund(alice, 16))
    mint.paid_quote(4)
    status = mint.ledger.status()
    assert (status.pending, status.pending_msat, status.oldest_pending_s) == (2, 24_000, 60)
    assert (status.outstanding["sat"], status.owed_msat, status.earned_msat) == (24, 28_000, 0)
    mint.settle(pending, fee_msat=0)
    status = mint.ledger.status()
    assert (status.pending, status.oldest_pending_s, status.balanced) == (1, 0, True)
    assert status.methods == (MethodBooks(METHOD, "sat", 28_000, 8_000, 0),)


def test_books_that_owe_more_than_came_in_are_noticed(mint: Mint, alice: Wallet) -> None:
    mint.fund(alice, 8)
    mint.execute("UPDATE keysets SET issued = issued + 1 WHERE unit = 'sat'")
    assert mint.ledger.status().balanced is False
    mint.execute("UPDATE keysets SET issued = issued - 1 WHERE unit = 'sat'")
    assert mint.ledger.status().balanced is True


def test_a_keyset_that_redeemed_more_than_it_issued_is_noticed(mint: Mint, alice: Wallet) -> None:
    mint.fund(alice, 8)
    mint.execute("UPDATE keysets SET redeemed = issued + 1 WHERE unit = 'sat'")
    assert mint.ledger.status().balanced is False
    mint.execute("UPDATE keysets SET redeemed = 0 WHERE unit = 'sat'")
