"""The history that `contrib.bench growth` writes is one that the ledger could have written itself."""

from __future__ import annotations

from pathlib import Path

from contrib.bench import history
from ledger.audit import audit
from tests.ledger.helpers import NOW, Mint, Wallet

STORIES = 40


def test_the_books_of_a_long_history_balance_and_the_mint_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    mint = Mint(path)
    before = mint.fund(Wallet("alice"), 8)
    mint.close()
    rows = history.write(path, STORIES * history.SPENT, NOW)
    assert rows.proofs == STORIES * history.SPENT
    assert rows.melt_quotes == rows.mint_quotes - 1 == STORIES * 3 // 2
    mint.open()
    with mint.ledger.read() as db:
        found = audit(db)
    assert found.faults == ()
    assert found.outstanding_msat == found.received_msat - found.paid_out_msat - found.routing_fees_msat
    assert mint.fund(Wallet("bob"), 8, 8) != before
    mint.close()
