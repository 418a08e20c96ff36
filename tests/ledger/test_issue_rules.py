"""Mint quotes and issuing (NUT-04, NUT-20, NUT-23): what is not said of outputs in general."""

from __future__ import annotations

from functools import partial

import pytest
from coincurve import PrivateKey

from ledger.errors import Code, LedgerError, StorageError
from ledger.ids import label_of
from ledger.models import BlindedMessage, MintQuoteBolt11, MintQuoteState, MintRequest
from ledger.operations import mint as mint_operations
from ledger.operations.mint import NewMintQuote, check_pubkey, signed_message, signed_message_legacy
from tests.ledger.helpers import METHOD, NO_POINT, NOW, Mint, Wallet, done, messages, refused, schnorr, unblind

KEY, OTHER_KEY = (7).to_bytes(32, "big"), (8).to_bytes(32, "big")
PUBKEY = PrivateKey(KEY).public_key.format().hex()


def now(mint: Mint, quote: MintQuoteBolt11) -> MintQuoteBolt11:
    """The quote as `GET` answers it."""
    return mint.now_mint_quote(quote.quote)


# --- quotes -------------------------------------------------------------------------------------------------------


def test_a_new_quote_is_unpaid_and_says_all_that_it_was_made_of(mint: Mint) -> None:
    quote = mint.mint_quote(21, pubkey=PUBKEY, expiry=NOW + 600)
    assert quote == MintQuoteBolt11(
        quote=quote.quote,
        request=f"invoice of {quote.quote}",
        amount=21,
        unit="sat",
        method=METHOD,
        state=MintQuoteState.UNPAID,
        expiry=NOW + 600,
        pubkey=PUBKEY,
        amount_paid=0,
        amount_issued=0,
        updated_at=NOW,
    )
    assert now(mint, quote) == quote


def test_an_unknown_quote_is_refused(mint: Mint, alice: Wallet) -> None:
    with refused(mint, Code.QUOTE_REJECTED):
        mint.ledger.mint_quote(METHOD, "unknown")
    with refused(mint, Code.QUOTE_REJECTED):
        mint.issue("unknown", alice.draw_sum(mint.keyset(), 8))


def test_a_quote_is_unknown_to_other_methods(mint: Mint, alice: Wallet) -> None:
    quote = mint.mint_quote(8, method="bolt12")
    with refused(mint, Code.QUOTE_REJECTED):
        mint.ledger.mint_quote(METHOD, quote.quote)
    with refused(mint, Code.QUOTE_REJECTED):
        mint.issue(quote.quote, alice.draw_sum(mint.keyset(), 8))
    with mint.ledger.read() as db:
        assert mint_operations.find(db, label_of(quote.quote)) == ("bolt12", quote.quote)


def test_a_melt_quote_is_no_mint_quote(mint: Mint) -> None:
    quote = mint.melt_quote(8)
    with refused(mint, Code.QUOTE_REJECTED):
        mint.ledger.mint_quote(METHOD, quote.quote)


def test_a_quote_id_is_never_used_twice(mint: Mint) -> None:
    quote = mint.mint_quote(8)
    rows = mint.dump()
    again = NewMintQuote(quote.quote, "bolt12", "sat", "another invoice", 9, None, None)
    with pytest.raises(StorageError):
        done(mint.ledger.create_mint_quote(again))
    assert mint.dump() == rows


@pytest.mark.parametrize("pubkey", [None, PUBKEY, PUBKEY.upper()])
def test_a_compressed_key_or_none_locks_a_quote(pubkey: str | None) -> None:
    check_pubkey(pubkey)


@pytest.mark.parametrize(
    "pubkey",
    ["", "02", PUBKEY[2:], PUBKEY + "00", "zz" * 33, NO_POINT, "04" + "11" * 64, f"{PUBKEY} ", "é" * 66],
)
def test_a_pubkey_that_is_no_compressed_key_is_refused(pubkey: str) -> None:
    with pytest.raises(LedgerError) as caught:
        check_pubkey(pubkey)
    assert caught.value.code is Code.PUBKEY_INVALID


# --- payments -----------------------------------------------------------------------------------------------------


def test_a_payment_makes_a_quote_paid(mint: Mint) -> None:
    quote = mint.mint_quote(21)
    paid = mint.pay(quote.quote, 21_000)
    assert paid == now(mint, quote)
    assert paid is not None
    assert (paid.state, paid.amount_paid, paid.amount_issued) == (MintQuoteState.PAID, 21, 0)


@pytest.mark.parametrize(("msat", "amount"), [(21_000, 21), (21_999, 21), (22_000, 22), (999, 0), (20_999, 20)])
def test_what_was_received_is_credited_rounded_down(mint: Mint, msat: int, amount: int) -> None:
    quote = mint.mint_quote(21)
    mint.pay(quote.quote, msat)
    assert now(mint, quote).amount_paid == amount
    assert mint.audit().received_msat == msat


def test_a_payment_that_is_notified_again_is_credited_once(mint: Mint) -> None:
    quote = mint.mint_quote(21)
    mint.pay(quote.quote, 21_000, b"payment")
    mint.clock.advance(5)
    rows, events = mint.rows_but_commits(), list(mint.events)
    again = mint.pay(quote.quote, 21_000, b"payment")
    assert again == now(mint, quote)
    assert (mint.rows_but_commits(), mint.events) == (rows, events)


def test_a_payment_is_credited_to_one_quote_only(mint: Mint) -> None:
    first, second = mint.mint_quote(21), mint.mint_quote(21)
    mint.pay(first.quote, 21_000, b"payment")
    mint.pay(second.quote, 21_000, b"payment")
    assert (now(mint, first).amount_paid, now(mint, second).amount_paid) == (21, 0)


def test_a_second_payment_of_the_same_quote_is_credited_too(mint: Mint, alice: Wallet) -> None:
    quote = mint.mint_quote(8)
    mint.pay(quote.quote, 8_000, b"first")
    mint.pay(quote.quote, 8_000, b"second")
    assert now(mint, quote).amount_paid == 16
    mint.issue(quote.quote, alice.draw_sum(mint.keyset(), 16))


def test_a_payment_of_a_foreign_invoice_passes_by(mint: Mint) -> None:
    rows = mint.rows_but_commits()
    assert mint.pay("foreign label", 21_000) is None
    assert mint.rows_but_commits() == rows


def test_a_payment_after_the_quotes_expiry_is_credited_and_issued(mint: Mint, alice: Wallet) -> None:
    quote = mint.mint_quote(8, expiry=NOW + 10)
    mint.clock.advance(11)
    mint.pay(quote.quote, 8_000)
    mint.issue(quote.quote, alice.draw_sum(mint.keyset(), 8))


def test_the_pay_index_never_goes_back(mint: Mint) -> None:
    for index, expected in ((5, 5), (3, 5), (9, 9)):
        mint.run(partial(mint_operations.advance_pay_index, index=index))
        with mint.ledger.read() as db:
            assert mint_operations.pay_index(db) == expected


# --- issuing ------------------------------------------------------------------------------------------------------


def test_an_unpaid_quote_issues_nothing(mint: Mint, alice: Wallet) -> None:
    quote = mint.mint_quote(8)
    with refused(mint, Code.QUOTE_NOT_PAID):
        mint.issue(quote.quote, alice.draw_sum(mint.keyset(), 8))


def test_a_quote_is_said_to_be_expired_only_after_its_expiry_and_unpaid(mint: Mint, alice: Wallet) -> None:
    quote = mint.mint_quote(8, expiry=NOW + 10)
    outputs = alice.draw_sum(mint.keyset(), 8)
    mint.clock.advance(10)
    with refused(mint, Code.QUOTE_NOT_PAID):
        mint.issue(quote.quote, outputs)
    mint.clock.advance(1)
    with refused(mint, Code.QUOTE_EXPIRED):
        mint.issue(quote.quote, outputs)


def test_a_paid_quote_is_issued_after_its_expiry(mint: Mint, alice: Wallet) -> None:
    quote = mint.mint_quote(8, expiry=NOW + 10)
    mint.pay(quote.quote, 8_000)
    mint.clock.advance(1000)
    mint.issue(quote.quote, alice.draw_sum(mint.keyset(), 8))


def test_an_issued_quote_issues_no_more(mint: Mint, alice: Wallet) -> None:
    quote = mint.paid_quote(8)
    mint.issue(quote.quote, alice.draw_sum(mint.keyset(), 8))
    assert now(mint, quote).state is MintQuoteState.ISSUED
    with refused(mint, Code.QUOTE_ISSUED):
        mint.issue(quote.quote, alice.draw_sum(mint.keyset(), 8))


@pytest.mark.parametrize("outputs", [[8, 1], [16], [1 << 60] * 16])
def test_no_more_is_issued_than_was_paid(mint: Mint, alice: Wallet, outputs: list[int]) -> None:
    quote = mint.paid_quote(8)
    with refused(mint, Code.NOT_BALANCED):
        mint.issue(quote.quote, alice.draw_all(mint.keyset(), outputs))


def test_less_may_be_issued_and_the_rest_later(mint: Mint, alice: Wallet) -> None:
    quote = mint.paid_quote(8)
    mint.issue(quote.quote, alice.draw_sum(mint.keyset(), 5))
    partly = now(mint, quote)
    assert (partly.state, partly.amount_paid, partly.amount_issued) == (MintQuoteState.PAID, 8, 5)
    with refused(mint, Code.NOT_BALANCED):
        mint.issue(quote.quote, alice.draw_sum(mint.keyset(), 4))
    mint.issue(quote.quote, alice.draw_sum(mint.keyset(), 3))
    assert now(mint, quote).state is MintQuoteState.ISSUED


def test_an_overpaid_quote_is_issued_to_those_who_know_the_state_only_and_still_gives_the_rest(
    mint: Mint, alice: Wallet
) -> None:
    quote = mint.mint_quote(8)
    mint.pay(quote.quote, 11_000)
    mint.issue(quote.quote, alice.draw_sum(mint.keyset(), 8))
    assert now(mint, quote).state is MintQuoteState.ISSUED
    mint.issue(quote.quote, alice.draw_sum(mint.keyset(), 3))
    with refused(mint, Code.QUOTE_ISSUED):
        mint.issue(quote.quote, alice.draw_sum(mint.keyset(), 1))


@pytest.mark.parametrize(
    ("amount", "paid", "issued", "state"),
    [
        (8, 0, 0, MintQuoteState.UNPAID),
        (8, 4, 0, MintQuoteState.PAID),
        (8, 4, 4, MintQuoteState.ISSUED),
        (8, 8, 7, MintQuoteState.PAID),
        (8, 8, 8, MintQuoteState.ISSUED),
        (8, 11, 7, MintQuoteState.PAID),
        (8, 11, 8, MintQuoteState.ISSUED),
    ],
)
def test_the_state_follows_from_the_amounts(
    mint: Mint, alice: Wallet, amount: int, paid: int, issued: int, state: MintQuoteState
) -> None:
    quote = mint.mint_quote(amount)
    if paid:
        mint.pay(quote.quote, paid * 1000)
    if issued:
        mint.issue(quote.quote, alice.draw_sum(mint.keyset(), issued))
    assert now(mint, quote).state is state


def test_updated_at_grows_strictly_with_every_change(mint: Mint, alice: Wallet) -> None:
    quote = mint.mint_quote(8)
    seen = [quote.updated_at]
    for payment in (b"first", b"second"):
        mint.pay(quote.quote, 8_000, payment)
        seen.append(now(mint, quote).updated_at)
    for _ in range(2):
        mint.issue(quote.quote, alice.draw_sum(mint.keyset(), 8))
        seen.append(now(mint, quote).updated_at)
    assert seen == [NOW, NOW + 1, NOW + 2, NOW + 3, NOW + 4]
    mint.clock.advance(100)
    mint.pay(quote.quote, 8_000, b"third")
    assert now(mint, quote).updated_at == NOW + 100


def test_updated_at_grows_even_if_the_clock_goes_back(mint: Mint, alice: Wallet) -> None:
    quote = mint.mint_quote(8)
    mint.clock.advance(-1000)
    mint.pay(quote.quote, 8_000)
    assert now(mint, quote).updated_at == NOW + 1
    mint.issue(quote.quote, alice.draw_sum(mint.keyset(), 8))
    assert now(mint, quote).updated_at == NOW + 2


def test_signatures_stand_in_the_order_of_the_outputs(mint: Mint, alice: Wallet) -> None:
    amounts = [4, 16, 1, 8, 1, 2]
    drawn = alice.draw_all(mint.keyset(), amounts)
    answer = mint.issue(mint.paid_quote(32).quote, drawn)
    proofs = [unblind(mint.keyset(), *pair) for pair in zip(drawn, answer.signatures, strict=True)]
    assert [proof.amount for proof in proofs] == amounts


def test_a_large_issue_does_not_overflow(mint: Mint, alice: Wallet) -> None:
    proofs = mint.fund(alice, 1 << 60, unit="msat")
    mint.swap(proofs, alice.draw_all(mint.keyset("msat"), [1 << 59, 1 << 59]))
    assert mint.audit().outstanding_msat == 1 << 60


# --- locked quotes (NUT-20) ---------------------------------------------------------------------------------------


def test_a_locked_quote_needs_a_signature(mint: Mint, alice: Wallet) -> None:
    quote = mint.paid_quote(8, pubkey=PUBKEY)
    with refused(mint, Code.SIGNATURE_INVALID):
        mint.issue(quote.quote, alice.draw_sum(mint.keyset(), 8))


def both_messages(quote: str, outputs: list[BlindedMessage]) -> list[bytes]:
    return [signed_message(quote, outputs), signed_message_legacy(quote, outputs)]


@pytest.mark.parametrize("form", [0, 1], ids=["amended", "older"])
def test_a_locked_quote_takes_a_signature_over_either_message(mint: Mint, alice: Wallet, form: int) -> None:
    quote = mint.paid_quote(12, pubkey=PUBKEY)
    outputs = alice.draw_sum(mint.keyset(), 12)
    message = both_messages(quote.quote, messages(outputs))[form]
    mint.issue(quote.quote, outputs, schnorr(KEY, message))


@pytest.mark.parametrize("form", [0, 1], ids=["amended", "older"])
@pytest.mark.parametrize("fault", ["key", "quote", "outputs", "order", "fewer outputs", "more outputs"])
def test_a_signature_is_by_the_quotes_key_over_its_id_and_its_outputs(
    mint: Mint, alice: Wallet, form: int, fault: str
) -> None:
    quote = mint.paid_quote(12, pubkey=PUBKEY)
    outputs = alice.draw_sum(mint.keyset(), 12)
    key = OTHER_KEY if fault == "key" else KEY
    quote_id = mint.mint_quote(12).quote if fault == "quote" else quote.quote
    signed = {
        "outputs": alice.draw_sum(mint.keyset(), 12),
        "order": outputs[::-1],
        "fewer outputs": outputs[:1],
        "more outputs": [*outputs, alice.draw(mint.keyset(), 1)],
    }.get(fault, outputs)
    signature = schnorr(key, both_messages(quote_id, messages(signed))[form])
    with refused(mint, Code.SIGNATURE_INVALID):
        mint.issue(quote.quote, outputs, signature)


def test_the_amended_message_covers_the_amounts_and_the_older_one_does_not(mint: Mint, alice: Wallet) -> None:
    quote = mint.paid_quote(12, pubkey=PUBKEY)
    outputs = alice.draw_sum(mint.keyset(), 12)
    other_amounts = [message.model_copy(update={"amount": 1}) for message in messages(outputs)]
    amended, older = both_messages(quote.quote, other_amounts)
    with refused(mint, Code.SIGNATURE_INVALID):
        mint.issue(quote.quote, outputs, schnorr(KEY, amended))
    mint.issue(quote.quote, outputs, schnorr(KEY, older))


@pytest.mark.parametrize("signature", ["", "zz" * 64, "00" * 64, "00" * 63, "ff" * 64, "0", "é"])
def test_a_malformed_signature_is_an_invalid_one(mint: Mint, alice: Wallet, signature: str) -> None:
    quote = mint.paid_quote(8, pubkey=PUBKEY)
    with refused(mint, Code.SIGNATURE_INVALID):
        mint.issue(quote.quote, alice.draw_sum(mint.keyset(), 8), signature)


def test_after_a_wrong_signature_a_right_one_is_accepted(mint: Mint, alice: Wallet) -> None:
    quote = mint.paid_quote(8, pubkey=PUBKEY)
    outputs = alice.draw_sum(mint.keyset(), 8)
    with refused(mint, Code.SIGNATURE_INVALID):
        mint.issue(quote.quote, outputs, schnorr(OTHER_KEY, b""))
    mint.issue(quote.quote, outputs, schnorr(KEY, signed_message(quote.quote, messages(outputs))))


def test_a_signature_for_a_quote_that_is_not_locked_is_ignored(mint: Mint, alice: Wallet) -> None:
    quote = mint.paid_quote(8)
    mint.issue(quote.quote, alice.draw_sum(mint.keyset(), 8), "nonsense")


def test_the_signature_covers_b_as_it_was_sent(mint: Mint, alice: Wallet) -> None:
    """The older message is text: a wallet that sends upper case signs upper case."""
    quote = mint.paid_quote(8, pubkey=PUBKEY)
    (drawn,) = alice.draw_sum(mint.keyset(), 8)
    message = drawn.message.model_copy(update={"B_": drawn.message.B_.upper()})
    signature = schnorr(KEY, f"{quote.quote}{message.B_}".encode())
    done(mint.ledger.issue(METHOD, MintRequest(quote=quote.quote, outputs=[message], signature=signature)))
