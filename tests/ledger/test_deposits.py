"""Deposits: what counts, when, and only once (NUT-30)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from ledger.errors import Code, StorageError
from ledger.events import MintQuoteChanged
from ledger.ids import new_quote_id
from ledger.models import MintQuoteOnchain, MintRequest
from ledger.operations import deposit
from ledger.operations.deposit import OPEN_S, Deposit
from ledger.operations.mint import NewMintQuote, signed_message
from tests.ledger.helpers import NOW, Mint, Wallet, done, messages, refused, schnorr

KEY = b"\x07" * 32
PUBKEY = "02989c0b76cb563971fdc9bef31ec06c3560f3249d6ee9e5d83c57625596e05f6f"
TXID = bytes(range(32))


@pytest.fixture
def mint(tmp_path: Path) -> Iterator[Mint]:
    """A mint for sat and msat."""
    mint = Mint(tmp_path / "ledger.sqlite3", units=("sat", "msat"))
    yield mint
    assert mint.audit().faults == ()
    mint.close()


def quote(mint: Mint, address: str, *, expiry: int | None = NOW + 100, unit: str = "sat") -> str:
    """The id of a quote with this address."""
    new = NewMintQuote(new_quote_id(), "onchain", unit, address, None, expiry, PUBKEY)
    return done(mint.ledger.create_mint_quote(new)).quote


def look(mint: Mint, quote_id: str) -> MintQuoteOnchain:
    """As `GET` answers it."""
    found = mint.ledger.mint_quote("onchain", quote_id)
    assert isinstance(found, MintQuoteOnchain)
    return found


def see(mint: Mint, quote_id: str, output: Deposit) -> bool:
    """The node has seen an output."""
    return mint.run(lambda tx: deposit.note_seen(tx, quote_id, output))


def credit(mint: Mint, quote_id: str, output: Deposit) -> None:
    """It is deep enough."""
    mint.run(lambda tx: deposit.credit(tx, quote_id, output))


def watched(mint: Mint) -> list[tuple[str, Deposit]]:
    """What waits to be credited."""
    with mint.ledger.read() as db:
        assert deposit.has_watched(db) == bool(deposit.watched(db))
        return deposit.watched(db)


def test_a_quote_has_the_fields_of_its_method_and_its_address(mint: Mint) -> None:
    quote_id = quote(mint, "an address")
    assert set(look(mint, quote_id).model_dump()) == {
        *("quote", "request", "unit", "method", "expiry", "pubkey", "amount_paid", "amount_issued", "updated_at")
    }
    with mint.ledger.read() as db:
        assert deposit.find(db, "an address") == quote_id
        assert deposit.find(db, "another") is None


def test_an_address_belongs_to_one_quote(mint: Mint) -> None:
    quote(mint, "an address")
    with pytest.raises(Exception, match="UNIQUE"):
        quote(mint, "an address")


def test_an_output_is_watched_and_then_credited_once(mint: Mint) -> None:
    quote_id = quote(mint, "an address")
    output = Deposit(TXID, 3, 5000, NOW)
    assert see(mint, quote_id, output)
    assert see(mint, quote_id, output)
    assert watched(mint) == [(quote_id, output)]
    assert look(mint, quote_id).amount_paid == 0
    mint.events.clear()
    credit(mint, quote_id, output)
    credit(mint, quote_id, output)
    assert watched(mint) == []
    assert (look(mint, quote_id).amount_paid, mint.audit().received_msat) == (5000, 5_000_000)
    assert [type(event) for event in mint.events] == [MintQuoteChanged]
    assert see(mint, quote_id, output)
    assert watched(mint) == []


def test_outputs_of_one_transaction_are_told_apart(mint: Mint) -> None:
    quote_id = quote(mint, "an address", unit="msat")
    for vout in (0, 1, 256):
        see(mint, quote_id, Deposit(TXID, vout, 1000, NOW))
        credit(mint, quote_id, Deposit(TXID, vout, 1000, NOW))
    assert look(mint, quote_id).amount_paid == 3_000_000


def test_what_is_first_seen_after_the_expiry_never_counts(mint: Mint) -> None:
    quote_id = quote(mint, "an address", expiry=NOW)
    assert see(mint, quote_id, Deposit(TXID, 0, 1000, NOW))
    assert not see(mint, quote_id, Deposit(TXID, 1, 1000, NOW + 1))
    assert see(mint, quote_id, Deposit(TXID, 0, 1000, NOW + 1))  # seen before: the time of then counts
    assert [output.vout for _, output in watched(mint)] == [0]
    with pytest.raises(StorageError, match="nobody has seen"):
        credit(mint, quote_id, Deposit(TXID, 1, 1000, NOW + 1))
    mint.clock.advance(1000)
    credit(mint, quote_id, Deposit(TXID, 0, 1000, NOW))
    assert look(mint, quote_id).amount_paid == 1000


def test_without_an_expiry_everything_counts(mint: Mint) -> None:
    quote_id = quote(mint, "an address", expiry=None)
    assert see(mint, quote_id, Deposit(TXID, 1, 1000, 2**40))


def test_any_part_is_issued_with_a_signature_and_no_more(mint: Mint, alice: Wallet) -> None:
    quote_id = quote(mint, "an address", expiry=NOW)
    request = partial(issue_request, alice, mint, quote_id)
    with refused(mint, Code.QUOTE_NOT_PAID):
        done(mint.ledger.issue("onchain", request(1)))
    mint.clock.advance(1000)  # on the chain it may have been paid in time, and wait for its confirmations
    with refused(mint, Code.QUOTE_NOT_PAID):
        done(mint.ledger.issue("onchain", request(1)))
    see(mint, quote_id, Deposit(TXID, 1, 1000, NOW))
    credit(mint, quote_id, Deposit(TXID, 1, 1000, NOW))
    unsigned = request(10).model_copy(update={"signature": None})
    with refused(mint, Code.SIGNATURE_INVALID):
        done(mint.ledger.issue("onchain", unsigned))
    done(mint.ledger.issue("onchain", request(10)))
    with refused(mint, Code.NOT_BALANCED):
        done(mint.ledger.issue("onchain", request(991)))
    done(mint.ledger.issue("onchain", request(990)))
    with refused(mint, Code.QUOTE_ISSUED):
        done(mint.ledger.issue("onchain", request(1)))


def issue_request(wallet: Wallet, mint: Mint, quote_id: str, amount: int) -> MintRequest:
    """Signed, for fresh outputs."""
    outputs = messages(wallet.draw_sum(mint.keyset(), amount))
    return MintRequest(quote=quote_id, outputs=outputs, signature=schnorr(KEY, signed_message(quote_id, outputs)))


def test_open_addresses_are_counted(mint: Mint) -> None:
    first, _, forever = (quote(mint, f"address {n}", expiry=expiry) for n, expiry in enumerate((NOW, NOW + 9, None)))

    def count(now: int) -> int:
        with mint.ledger.read() as db:
            return deposit.count_open(db, now)

    assert [count(NOW), count(NOW + 1), count(NOW + 10)] == [3, 2, 1]
    assert count(NOW + OPEN_S) == 0, "one without an expiry must not count for ever"
    see(mint, first, Deposit(TXID, 1, 1000, NOW))
    assert count(NOW) == 3
    credit(mint, first, Deposit(TXID, 1, 1000, NOW))
    assert count(NOW) == 2
    assert forever


def test_how_far_the_moves_were_read_is_remembered(mint: Mint) -> None:
    mint.run(lambda tx: deposit.set_chain_index(tx, 7))
    mint.run(lambda tx: deposit.set_chain_index(tx, 5))
    mint.reopen()
    with mint.ledger.read() as db:
        assert deposit.chain_index(db) == 5


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE deposits SET amount_sat = amount_sat + 1",
        "UPDATE deposits SET watched = 1",
        "DELETE FROM deposits",
        "DELETE FROM receipts",
        "UPDATE deposits SET mint_quote = (SELECT max(n) FROM mint_quotes)",
    ],
)
def test_the_audit_finds_what_was_tampered_with(tmp_path: Path, tampering: str) -> None:
    mint = Mint(tmp_path / "ledger.sqlite3")
    quote_id = quote(mint, "an address")
    quote(mint, "another")
    see(mint, quote_id, Deposit(TXID, 1, 1000, NOW))
    credit(mint, quote_id, Deposit(TXID, 1, 1000, NOW))
    assert mint.audit().faults == ()
    mint.execute(tampering)
    assert mint.audit().faults != ()
    mint.close()
