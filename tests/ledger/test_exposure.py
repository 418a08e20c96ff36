"""How much ecash the operator allows: asked for where a mint quote is made, and nowhere else."""

from __future__ import annotations

from bisect import bisect

import apsw
import pytest

from ledger.errors import Code
from ledger.ids import new_quote_id
from ledger.ledger import Ledger
from ledger.models import MintQuote, Proof
from ledger.operations import exposure
from ledger.operations.melt_quote import PendingMelt
from ledger.operations.mint import NewMintQuote
from tests.ledger.helpers import METHOD, NOW, Mint, Wallet, done, melt_request, refused

LIMIT_MSAT = 1000_000


def owed(mint: Mint) -> int:
    with mint.ledger.read() as db:
        return exposure.owed_msat(db)


def room(mint: Mint) -> int:
    """The most that there is room for."""
    amounts = range(-2 * LIMIT_MSAT, LIMIT_MSAT + 2)
    with mint.ledger.read() as db:
        now = mint.ledger.now()
        too_much = bisect(amounts, False, key=lambda amount: not exposure.has_room(db, now, amount, LIMIT_MSAT))
    return amounts[too_much] - 1


def ask(mint: Mint, amount: int | None, unit: str = "sat", expiry: int | None = NOW + 60) -> MintQuote:
    quote_id = new_quote_id()
    new = NewMintQuote(quote_id, METHOD if amount else "bolt12", unit, quote_id, amount, expiry, None)
    return done(mint.ledger.create_mint_quote(new, LIMIT_MSAT))


def test_what_is_owed_is_ecash_and_what_was_paid_for_in_every_unit(mint: Mint, alice: Wallet) -> None:
    assert owed(mint) == 0
    quote = mint.paid_quote(100)
    assert owed(mint) == 100_000
    mint.issue(quote.quote, alice.draw_sum(mint.keyset(), 100))
    assert owed(mint) == 100_000
    proofs = mint.fund(alice, 64)
    assert owed(mint) == 164_000
    mint.paid_quote(7, "msat")
    assert owed(mint) == 164_007
    assert owed(mint) == mint.audit().owed_msat
    mint.swap(proofs, alice.draw_sum(mint.keyset(), 64))
    assert owed(mint) == 164_007


def test_a_quote_beyond_the_limit_is_refused_and_one_up_to_it_is_not(mint: Mint, alice: Wallet) -> None:
    mint.fund(alice, 512, 256)
    with refused(mint, Code.MINTING_DISABLED):
        ask(mint, 233)
    ask(mint, 232)


def test_what_was_paid_is_issued_also_beyond_the_limit(mint: Mint, alice: Wallet) -> None:
    first, second = ask(mint, 900), ask(mint, 900)  # what isn't paid closes nothing
    for quote in (first, second):
        mint.pay(quote.quote, 900_000)
        mint.issue(quote.quote, alice.draw_sum(mint.keyset(), 900))
    assert owed(mint) == 1_800_000
    assert room(mint) < 0
    for amount in (1, None):
        with refused(mint, Code.MINTING_DISABLED):
            ask(mint, amount)


def test_what_was_paid_and_not_issued_counts(mint: Mint) -> None:
    mint.paid_quote(999)
    with refused(mint, Code.MINTING_DISABLED):
        ask(mint, 2)
    ask(mint, 1)


def test_quotes_that_nobody_pays_take_a_tenth_at_most_and_only_until_they_expire(mint: Mint) -> None:
    assert room(mint) == LIMIT_MSAT
    ask(mint, 50)
    assert room(mint) == LIMIT_MSAT - 50_000
    for _ in range(20):
        ask(mint, 900)
    assert room(mint) == LIMIT_MSAT * 9 // 10
    with refused(mint, Code.MINTING_DISABLED):
        ask(mint, 901)
    mint.clock.now += 61
    assert room(mint) == LIMIT_MSAT


def test_quotes_that_nobody_pays_are_summed_up_only_where_it_depends_on_them(
    mint: Mint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody can make very many of them."""
    ask(mint, 30)
    summed: list[int] = []

    def sum_up(db: apsw.Connection, now: int) -> int:
        summed.append(now)
        return 30_000

    monkeypatch.setattr(exposure, "unpaid_msat", sum_up)
    owed_msat = 500_000
    mint.paid_quote(500)
    left_msat = LIMIT_MSAT - owed_msat
    for amount_msat, has_room, is_summed in (
        (1, True, False),
        (left_msat - LIMIT_MSAT // 10, True, False),
        (left_msat - LIMIT_MSAT // 10 + 1, True, True),
        (left_msat - 30_000, True, True),
        (left_msat - 30_000 + 1, False, True),
        (left_msat, False, True),
        (left_msat + 1, False, False),
    ):
        summed.clear()
        assert mint.ledger.has_room(amount_msat, LIMIT_MSAT) == has_room
        assert bool(summed) == is_summed, amount_msat


def test_a_quote_without_an_amount_needs_some_room(mint: Mint) -> None:
    ask(mint, None, expiry=None)
    assert room(mint) == LIMIT_MSAT
    mint.paid_quote(1000)
    with refused(mint, Code.MINTING_DISABLED):
        ask(mint, None)


def test_ecash_that_was_melted_makes_room(mint: Mint, alice: Wallet) -> None:
    (proof,) = mint.fund(alice, 512)
    assert room(mint) == LIMIT_MSAT - 512_000
    pending = mint.begin(mint.melt_quote(512).quote, [proof])
    assert room(mint) == LIMIT_MSAT - 512_000
    mint.settle(pending)
    assert room(mint) == LIMIT_MSAT


def test_melts_in_flight_have_a_limit_to_their_sum(mint: Mint, alice: Wallet) -> None:
    first, second, third = mint.fund(alice, 64, 64, 64)

    def begin(proof: Proof) -> PendingMelt | None:
        request = melt_request(mint.melt_quote(64).quote, [proof], None)
        return done(mint.ledger.begin_melt(METHOD, request, 100, 128_000)).melt

    pending = begin(first)
    assert begin(second) is not None
    request = melt_request(mint.melt_quote(1).quote, [third], None)
    with refused(mint, Code.QUOTE_REJECTED):
        done(mint.ledger.begin_melt(METHOD, request, 100, 128_000))
    assert pending is not None
    mint.settle(pending)
    assert begin(third) is not None


def test_without_a_limit_nothing_is_asked(mint: Mint, alice: Wallet) -> None:
    mint.fund(alice, 2048)
    mint.mint_quote(10_000)
    ledger: Ledger = mint.ledger
    assert ledger.has_room(10**15, 0)
    ledger.require_room(10**15, 0)
    assert not ledger.has_room(1, 1000)
    with refused(mint, Code.MINTING_DISABLED):
        ledger.require_room(1, 1000)


@pytest.mark.parametrize("index", ["mint_quotes_unissued", "mint_quotes_unpaid"])
def test_the_sums_do_not_read_every_quote(mint: Mint, index: str) -> None:
    """A mint makes millions of quotes."""
    queries = {
        "mint_quotes_unissued": "SELECT unit, sum(amount_paid - amount_issued) FROM mint_quotes"
        " WHERE amount_paid > amount_issued GROUP BY unit",
        "mint_quotes_unpaid": "SELECT unit, sum(amount) FROM mint_quotes WHERE amount_paid = 0 AND amount IS NOT NULL"
        " AND expiry >= 5 GROUP BY unit",
    }
    with mint.ledger.read() as db:
        plan = " ".join(str(row) for row in db.execute("EXPLAIN QUERY PLAN " + queries[index]))
    assert f"COVERING INDEX {index}" in plan
