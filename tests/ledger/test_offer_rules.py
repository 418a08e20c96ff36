"""Mint quotes that can be paid many times, and issued bit by bit (NUT-25, NUT-29, NUT-30)."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from coincurve import PrivateKey

from ledger.errors import Code, LedgerError
from ledger.events import MintQuoteChanged
from ledger.ids import new_quote_id
from ledger.models import (
    BlindedMessage,
    MeltQuoteState,
    MintBatchRequest,
    MintQuoteBolt12,
    MintRequest,
    SignaturesResponse,
)
from ledger.operations import mint as mint_operations
from ledger.operations.melt import Payment
from ledger.operations.melt_quote import NewPayment, NodeMark, PendingPayment
from ledger.operations.mint import (
    NewMintQuote,
    Receipt,
    Signable,
    require_signature,
    signed_message,
    signed_message_legacy,
)
from tests.ledger.helpers import NOW, PREIMAGE, Drawn, Mint, Wallet, done, melt_request, messages, refused, schnorr

BOLT12, BOLT11, ONCHAIN = "bolt12", "bolt11", "onchain"
KEY = b"\x01" * 32
PUBKEY = PrivateKey(KEY).public_key.format().hex()


def offer(mint: Mint, amount: int | None = None, unit: str = "sat", method: str = BOLT12) -> str:
    """A new quote."""
    quote_id = new_quote_id()
    new = NewMintQuote(quote_id, method, unit, f"offer of {quote_id}", amount, None, PUBKEY, f"id of {quote_id}")
    return done(mint.ledger.create_mint_quote(new)).quote


def pay(mint: Mint, quote: str, msat: int, method: str = BOLT12, payment_id: bytes | None = None) -> None:
    """A payment of its own, or the one of this id."""
    receipt = Receipt(payment_id or new_quote_id().encode(), msat)
    assert mint.run(lambda tx: mint_operations.credit(tx, method, quote, receipt)) is not None


def paid(mint: Mint, amount: int, unit: str = "sat") -> str:
    """A quote for which so much was paid."""
    quote = offer(mint, unit=unit)
    pay(mint, quote, amount * (1000 if unit == "sat" else 1))
    return quote


def look(mint: Mint, quote: str) -> tuple[int, int]:
    """What was paid and what was issued."""
    found = mint.ledger.mint_quote(BOLT12, quote)
    assert isinstance(found, MintQuoteBolt12)
    return found.amount_paid, found.amount_issued


def sign(quote: str, outputs: Sequence[Drawn]) -> str:
    return schnorr(KEY, signed_message(quote, messages(outputs)))


def issue(mint: Mint, quote: str, outputs: Sequence[Drawn], method: str = BOLT12) -> SignaturesResponse:
    request = MintRequest(quote=quote, outputs=messages(outputs), signature=sign(quote, outputs))
    return done(mint.ledger.issue(method, request))


def batch(
    mint: Mint, quotes: Sequence[str], outputs: Sequence[Drawn], amounts: list[int] | None = None
) -> SignaturesResponse:
    request = MintBatchRequest(
        quotes=list(quotes),
        quote_amounts=amounts,
        outputs=messages(outputs),
        signatures=[sign(quote, outputs) for quote in quotes],
    )
    return done(mint.ledger.issue_batch(BOLT12, request))


# --- paid -----------------------------------------------------------------------------------------------------------


def test_every_payment_counts_once_and_is_rounded_down_by_itself(mint: Mint) -> None:
    quote = offer(mint, 5)
    for msat, credited in ((5_000, 5), (1_999, 6), (999, 6), (999, 6), (12_000, 18)):
        pay(mint, quote, msat)
        assert look(mint, quote) == (credited, 0)
    pay(mint, quote, 7_000, payment_id=b"one")
    pay(mint, quote, 7_000, payment_id=b"one")
    assert look(mint, quote) == (25, 0)


def test_the_same_payment_is_not_for_two_quotes(mint: Mint) -> None:
    first, second = offer(mint), offer(mint)
    pay(mint, first, 7_000, payment_id=b"one")
    pay(mint, second, 7_000, payment_id=b"one")
    assert (look(mint, first), look(mint, second)) == ((7, 0), (0, 0))


def test_a_quote_is_found_by_what_the_node_calls_its_offer(mint: Mint) -> None:
    quote = offer(mint)
    with mint.ledger.read() as db:
        assert mint_operations.find(db, f"id of {quote}") == (BOLT12, quote)
        assert mint_operations.find(db, quote) is None


def test_two_quotes_cannot_have_one_offer(mint: Mint) -> None:
    quote = offer(mint)
    again = NewMintQuote(new_quote_id(), BOLT12, "sat", "an offer", None, None, PUBKEY, f"id of {quote}")
    with pytest.raises(Exception, match="UNIQUE"):
        done(mint.ledger.create_mint_quote(again))


def test_each_payment_and_each_issue_is_told_with_a_later_stamp(mint: Mint, alice: Wallet) -> None:
    quote = offer(mint)
    mint.events.clear()
    pay(mint, quote, 5_000)
    issue(mint, quote, alice.draw_sum(mint.keyset(), 2))
    pay(mint, quote, 5_000)
    seen = [event.quote for event in mint.events if isinstance(event, MintQuoteChanged)]
    assert [(each.amount_paid, each.amount_issued) for each in seen] == [(5, 0), (5, 2), (10, 2)]
    stamps = [each.updated_at for each in seen]
    assert sorted(set(stamps)) == stamps


# --- issued ---------------------------------------------------------------------------------------------------------


def test_any_amount_up_to_what_is_left_may_be_issued_again_and_again(mint: Mint, alice: Wallet) -> None:
    quote = offer(mint)
    pay(mint, quote, 20_000)
    for amount in (1, 7, 11):
        issue(mint, quote, alice.draw_sum(mint.keyset(), amount))
    with refused(mint, Code.NOT_BALANCED):
        issue(mint, quote, alice.draw_sum(mint.keyset(), 2))
    issue(mint, quote, alice.draw_sum(mint.keyset(), 1))
    with refused(mint, Code.QUOTE_ISSUED):
        issue(mint, quote, alice.draw_sum(mint.keyset(), 1))
    pay(mint, quote, 1_000)
    issue(mint, quote, alice.draw_sum(mint.keyset(), 1))


@pytest.mark.parametrize("msat", [0, 999])
def test_nothing_is_issued_before_something_was_paid(mint: Mint, alice: Wallet, msat: int) -> None:
    quote = offer(mint, 5)
    if msat:
        pay(mint, quote, msat)
    with refused(mint, Code.QUOTE_NOT_PAID):
        issue(mint, quote, alice.draw_sum(mint.keyset(), 1))


def test_the_amount_of_the_quote_is_no_limit(mint: Mint, alice: Wallet) -> None:
    quote = offer(mint, 5)
    pay(mint, quote, 12_000)
    issue(mint, quote, alice.draw_sum(mint.keyset(), 12))


@pytest.mark.parametrize("signature", [None, "", "00" * 64])
def test_each_issue_needs_a_signature_of_its_own(mint: Mint, alice: Wallet, signature: str | None) -> None:
    quote = paid(mint, 8)
    outputs = alice.draw_sum(mint.keyset(), 4)
    request = MintRequest(quote=quote, outputs=messages(outputs), signature=signature)
    with refused(mint, Code.SIGNATURE_INVALID):
        done(mint.ledger.issue(BOLT12, request))
    issue(mint, quote, outputs)
    more = alice.draw_sum(mint.keyset(), 4)
    with refused(mint, Code.SIGNATURE_INVALID):
        old = MintRequest(quote=quote, outputs=messages(more), signature=sign(quote, outputs))
        done(mint.ledger.issue(BOLT12, old))


def test_the_same_request_gets_the_same_answer_although_more_could_be_issued(mint: Mint, alice: Wallet) -> None:
    quote = paid(mint, 8)
    outputs = alice.draw_sum(mint.keyset(), 4)
    request = MintRequest(quote=quote, outputs=messages(outputs), signature=sign(quote, outputs))
    first = done(mint.ledger.issue(BOLT12, request))
    pay(mint, quote, 5_000)
    mint.reopen()
    assert done(mint.ledger.issue(BOLT12, request)) == first
    assert look(mint, quote) == (13, 4)


def test_outputs_in_another_unit_are_refused(mint: Mint, alice: Wallet) -> None:
    quote = paid(mint, 8)
    with refused(mint, Code.UNITS_DIFFER):
        issue(mint, quote, alice.draw_sum(mint.keyset("msat"), 8))


# --- in batches (NUT-29) --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("amounts", "issued", "taken"),
    [
        (None, 18, (5, 6, 7)),
        (None, 8, (5, 3, 0)),
        (None, 5, (5, 0, 0)),
        ([5, 6, 7], 18, (5, 6, 7)),
        ([1, 2, 3], 6, (1, 2, 3)),
        ([1, 2, 3], 4, (1, 2, 1)),
        ([4, 6, 7], 1, (1, 0, 0)),
    ],
)
def test_a_batch_takes_from_its_quotes_in_their_order(
    mint: Mint, alice: Wallet, amounts: list[int] | None, issued: int, taken: tuple[int, ...]
) -> None:
    quotes = [paid(mint, amount) for amount in (5, 6, 7)]
    answer = batch(mint, quotes, alice.draw_sum(mint.keyset(), issued), amounts)
    assert sum(signature.amount for signature in answer.signatures) == issued
    assert tuple(look(mint, quote)[1] for quote in quotes) == taken
    rest = 18 - issued
    if rest:
        left = [quote for quote in quotes if look(mint, quote)[0] > look(mint, quote)[1]]
        batch(mint, left, alice.draw_sum(mint.keyset(), rest))
    assert [look(mint, quote)[1] for quote in quotes] == [5, 6, 7]


@pytest.mark.parametrize(
    ("amounts", "outputs"), [(None, 12), ([5, 6], 12), ([6, 5], 11), ([5, 7], 11), ([1, 1], 3), ([5, 6], 10_000)]
)
def test_a_batch_takes_no_more_than_there_is_or_than_it_says(
    mint: Mint, alice: Wallet, amounts: list[int] | None, outputs: int
) -> None:
    quotes = [paid(mint, 5), paid(mint, 6)]
    with refused(mint, Code.NOT_BALANCED):
        batch(mint, quotes, alice.draw_sum(mint.keyset(), outputs), amounts)


def test_a_batch_is_refused_as_a_whole(mint: Mint, alice: Wallet) -> None:
    full, unpaid, empty, msat = paid(mint, 5), offer(mint), paid(mint, 5), paid(mint, 5_000, "msat")
    issue(mint, empty, alice.draw_sum(mint.keyset(), 5))
    for quotes, code in (
        ([full, unpaid], Code.QUOTE_NOT_PAID),
        ([full, empty], Code.QUOTE_ISSUED),
        ([full, full], Code.DUPLICATE_QUOTES),
        ([full, msat], Code.SEVERAL_UNITS),
        ([full, "unknown"], Code.QUOTE_REJECTED),
        ([full, mint.paid_quote(5).quote], Code.QUOTE_REJECTED),
    ):
        with refused(mint, code):
            batch(mint, quotes, alice.draw_sum(mint.keyset(), 4))


def test_in_a_batch_each_signature_counts_also_of_a_quote_that_gives_nothing(mint: Mint, alice: Wallet) -> None:
    quotes = [paid(mint, 5), paid(mint, 6)]
    outputs = alice.draw_sum(mint.keyset(), 3)
    request = MintBatchRequest(
        quotes=quotes, outputs=messages(outputs), signatures=[sign(quotes[0], outputs), "00" * 64]
    )
    with refused(mint, Code.SIGNATURE_INVALID):
        done(mint.ledger.issue_batch(BOLT12, request))


def test_a_batch_that_is_not_balanced_is_refused_before_the_writer_looks_at_signatures(
    mint: Mint, alice: Wallet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They cost more than all else, while everybody waits for the writer."""
    checked: list[str] = []

    def check(*arguments: Any) -> None:
        checked.append(threading.current_thread().name)
        require_signature(*arguments)

    monkeypatch.setattr(mint_operations, "require_signature", check)
    quotes = [paid(mint, 5), paid(mint, 6)]
    with refused(mint, Code.NOT_BALANCED):
        batch(mint, quotes, alice.draw_sum(mint.keyset(), 12))
    assert checked
    assert "ledger-writer" not in checked
    batch(mint, quotes, alice.draw_sum(mint.keyset(), 11))
    assert checked.count("ledger-writer") == len(quotes)


def test_for_a_batch_its_outputs_are_put_into_messages_once(mint: Mint, alice: Wallet) -> None:
    class Read(list[BlindedMessage]):
        times = 0

        def __iter__(self) -> Iterator[BlindedMessage]:
            self.times += 1
            return super().__iter__()

    drawn = messages(alice.draw_sum(mint.keyset(), 11))
    outputs = Read(drawn)
    signable = Signable(outputs)
    for quote in ("one", "another"):
        assert signable.message(quote) == signed_message(quote, drawn)
        assert outputs.times == 1, "the older message is made for who needs it"
    for quote in ("one", "another"):
        assert signable.message_legacy(quote) == signed_message_legacy(quote, drawn)
    assert outputs.times == 2


# --- other methods --------------------------------------------------------------------------------------------------


def test_quotes_are_unknown_to_other_methods(mint: Mint, alice: Wallet) -> None:
    quote, other = paid(mint, 8), mint.paid_quote(8).quote
    outputs = alice.draw_sum(mint.keyset(), 8)
    for method, quote_id in ((BOLT11, quote), (ONCHAIN, quote), (BOLT12, other)):
        with refused(mint, Code.QUOTE_REJECTED):
            mint.ledger.mint_quote(method, quote_id)
        with refused(mint, Code.QUOTE_REJECTED):
            issue(mint, quote_id, outputs, method)
    assert mint.run(lambda tx: mint_operations.credit(tx, BOLT11, quote, Receipt(b"x", 1_000))) is None


def new_payment(payment_hash: bytes, invoice: str) -> NewPayment:
    return NewPayment(
        id=new_quote_id(),
        method=BOLT12,
        unit="sat",
        request="the offer",
        invoice=invoice,
        payment_hash=payment_hash,
        amount=8,
        amount_msat=8_000,
        amountless=False,
        fee_reserve=0,
        expiry=NOW + 3600,
        mark=NodeMark(0, 0),
    )


def test_one_offer_has_many_melts_and_each_invoice_one(mint: Mint, alice: Wallet) -> None:
    first, second = (
        done(mint.ledger.create_melt_quote(new_payment(bytes([number]) * 32, f"invoice {number}"))).quote
        for number in (1, 2)
    )
    twin = done(mint.ledger.create_melt_quote(new_payment(b"\1" * 32, "invoice 1"))).quote
    pending = []
    for quote in (first, second):
        begun = done(mint.ledger.begin_melt(BOLT12, melt_request(quote, mint.fund(alice, 8)), 100))
        assert isinstance(begun.melt, PendingPayment)
        assert begun.quote.request == "the offer"
        pending.append(begun.melt)
    assert [melt.invoice for melt in pending] == ["invoice 1", "invoice 2"]
    inputs = mint.fund(alice, 8)
    with refused(mint, Code.QUOTE_PENDING):
        done(mint.ledger.begin_melt(BOLT12, melt_request(twin, inputs), 100))
    for melt in pending:
        assert done(mint.ledger.settle_melt(melt, Payment(PREIMAGE, 8_000))).state is MeltQuoteState.PAID
    with refused(mint, Code.INVOICE_PAID):
        done(mint.ledger.begin_melt(BOLT12, melt_request(twin, inputs), 100))
    with pytest.raises(LedgerError) as caught:
        mint.ledger.melt_quote(BOLT11, first)
    assert caught.value.code is Code.QUOTE_REJECTED
