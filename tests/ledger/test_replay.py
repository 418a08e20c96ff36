"""An identical request gets its first answer again (NUT-19), from what the first one wrote."""

from __future__ import annotations

import pytest
from coincurve import PrivateKey

from ledger.errors import Code
from ledger.models import MintRequest, SwapRequest
from ledger.operations.mint import signed_message, signed_message_legacy
from tests.ledger.helpers import (
    METHOD,
    Mint,
    Wallet,
    done,
    melt_request,
    messages,
    mint_request,
    refused,
    schnorr,
    swap_request,
)


def some_swap(mint: Mint, wallet: Wallet) -> SwapRequest:
    return swap_request(mint.fund(wallet, 8, 4), wallet.draw_all(mint.keyset(), [4, 8]))


def some_issue(mint: Mint, wallet: Wallet) -> MintRequest:
    return mint_request(mint.paid_quote(12).quote, wallet.draw_all(mint.keyset(), [4, 8]))


@pytest.mark.parametrize("restarted", [False, True], ids=["at once", "after a restart"])
def test_an_identical_swap_gets_the_same_answer_and_changes_nothing(mint: Mint, alice: Wallet, restarted: bool) -> None:
    request = some_swap(mint, alice)
    first = done(mint.ledger.swap(request))
    if restarted:
        mint.reopen()
    rows, events = mint.dump(), list(mint.events)
    assert done(mint.ledger.swap(request)) == first
    assert (mint.dump(), mint.events) == (rows, events)


@pytest.mark.parametrize("restarted", [False, True], ids=["at once", "after a restart"])
def test_an_identical_issue_gets_the_same_answer_and_changes_nothing(
    mint: Mint, alice: Wallet, restarted: bool
) -> None:
    request = some_issue(mint, alice)
    first = done(mint.ledger.issue(METHOD, request))
    if restarted:
        mint.reopen()
    rows, events = mint.dump(), list(mint.events)
    assert done(mint.ledger.issue(METHOD, request)) == first
    assert (mint.dump(), mint.events) == (rows, events)


def test_a_replay_is_answered_though_keysets_were_rotated_and_expired_since(mint: Mint, alice: Wallet) -> None:
    mint.rotate(expiry=int(mint.clock()) + 10)
    swap, issue = some_swap(mint, alice), some_issue(mint, alice)
    swapped, issued = done(mint.ledger.swap(swap)), done(mint.ledger.issue(METHOD, issue))
    mint.rotate()
    mint.clock.advance(1000)
    assert (done(mint.ledger.swap(swap)), done(mint.ledger.issue(METHOD, issue))) == (swapped, issued)


def test_identical_requests_in_flight_together_get_one_answer(mint: Mint, alice: Wallet) -> None:
    swap, issue = some_swap(mint, alice), some_issue(mint, alice)
    with mint.held_writer():
        swaps = [mint.ledger.swap(swap) for _ in range(3)]
        issues = [mint.ledger.issue(METHOD, issue) for _ in range(3)]
    for twins in (swaps, issues):
        answers = [done(twin) for twin in twins]
        assert answers[0] == answers[1] == answers[2]
    assert mint.value("SELECT count(*) FROM operations WHERE kind = 'swap'") == 1


# --- melts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("restarted", [False, True], ids=["at once", "after a restart"])
@pytest.mark.parametrize("settled", [False, True], ids=["in flight", "paid"])
def test_an_identical_melt_joins_the_first_one_and_sends_nothing(
    mint: Mint, alice: Wallet, settled: bool, restarted: bool
) -> None:
    request = melt_request(mint.melt_quote(5).quote, mint.fund(alice, 8), alice.blanks(mint.keyset(), 2))
    begun = done(mint.ledger.begin_melt(METHOD, request, 9))
    assert begun.melt is not None
    if settled:
        mint.settle(begun.melt)
    if restarted:
        mint.reopen()
    rows, events = mint.dump(), list(mint.events)
    again = done(mint.ledger.begin_melt(METHOD, request.model_copy(update={"prefer_async": True}), 9))
    assert (again.melt, again.quote) == (None, mint.ledger.melt_quote(METHOD, request.quote))
    assert (mint.dump(), mint.events) == (rows, events)


def test_identical_melts_in_flight_together_send_one_payment(mint: Mint, alice: Wallet) -> None:
    request = melt_request(mint.melt_quote(8).quote, mint.fund(alice, 8))
    with mint.held_writer():
        twins = [mint.ledger.begin_melt(METHOD, request, 9) for _ in range(3)]
    begun = [done(twin) for twin in twins]
    assert [each.melt is not None for each in begun] == [True, False, False]
    assert begun[0].quote == begun[1].quote == begun[2].quote


def test_an_identical_melt_after_a_failure_is_a_new_attempt(mint: Mint, alice: Wallet) -> None:
    request = melt_request(mint.melt_quote(8).quote, mint.fund(alice, 8))
    for attempt in (1, 2):
        begun = done(mint.ledger.begin_melt(METHOD, request, 9))
        assert begun.melt is not None
        assert begun.melt.attempt == attempt
        mint.release(begun.melt)


def test_a_melt_that_differs_does_not_join(mint: Mint, alice: Wallet) -> None:
    proofs, blanks = mint.fund(alice, 8), alice.blanks(mint.keyset(), 2)
    request = melt_request(mint.melt_quote(5).quote, proofs, blanks)
    pending = done(mint.ledger.begin_melt(METHOD, request, 9)).melt
    assert pending is not None
    others = [
        request.model_copy(update={"outputs": request.outputs[:1] if request.outputs else None}),
        request.model_copy(update={"inputs": [proofs[0].model_copy(update={"witness": "{}"})]}),
    ]
    for other in others:
        with refused(mint, Code.QUOTE_PENDING):
            done(mint.ledger.begin_melt(METHOD, other, 9))
    mint.settle(pending)
    for other in others:
        with refused(mint, Code.INVOICE_PAID):
            done(mint.ledger.begin_melt(METHOD, other, 9))


# --- what is identical ------------------------------------------------------------------------------------------------


def test_unknown_fields_do_not_make_another_request(mint: Mint, alice: Wallet) -> None:
    request = some_swap(mint, alice)
    first = done(mint.ledger.swap(request))
    again = request.model_dump()
    again["inputs"][0]["dleq"] = {"e": "00", "s": "00", "r": "00"}
    again["memo"] = "?"
    assert done(mint.ledger.swap(SwapRequest.model_validate(again))) == first


def test_a_swap_that_differs_is_no_replay(mint: Mint, alice: Wallet) -> None:
    request = some_swap(mint, alice)
    done(mint.ledger.swap(request))
    reordered = request.model_copy(update={"outputs": request.outputs[::-1]})
    other_outputs = request.model_copy(update={"outputs": messages(alice.draw_all(mint.keyset(), [4, 8]))})
    for other in (reordered, other_outputs):
        with refused(mint, Code.PROOFS_SPENT):
            done(mint.ledger.swap(other))


def test_an_issue_that_differs_is_no_replay(mint: Mint, alice: Wallet) -> None:
    request = some_issue(mint, alice)
    done(mint.ledger.issue(METHOD, request))
    another_quote = request.model_copy(update={"quote": mint.paid_quote(12).quote})
    with refused(mint, Code.OUTPUTS_SIGNED):
        done(mint.ledger.issue(METHOD, another_quote))
    with refused(mint, Code.QUOTE_ISSUED):
        done(mint.ledger.issue(METHOD, request.model_copy(update={"outputs": request.outputs[::-1]})))
    with refused(mint, Code.QUOTE_REJECTED):
        done(mint.ledger.issue("bolt12", request))


def test_the_answer_of_a_locked_quote_is_not_given_to_who_cannot_sign(mint: Mint, alice: Wallet) -> None:
    key = (7).to_bytes(32, "big")
    quote = mint.paid_quote(12, pubkey=PrivateKey(key).public_key.format().hex()).quote
    outputs = alice.draw_all(mint.keyset(), [4, 8])
    first = mint.issue(quote, outputs, schnorr(key, signed_message(quote, messages(outputs))))
    for signature in (None, "00" * 64):
        with refused(mint, Code.SIGNATURE_INVALID):
            mint.issue(quote, outputs, signature)
    with refused(mint, Code.QUOTE_ISSUED):
        mint.issue(quote, outputs, schnorr(key, signed_message_legacy(quote, messages(outputs))))
    assert mint.restore(outputs).signatures == first.signatures


def test_a_refused_request_is_no_answer_to_repeat(mint: Mint, alice: Wallet) -> None:
    quote = mint.mint_quote(12)
    outputs = alice.draw_all(mint.keyset(), [4, 8])
    with refused(mint, Code.QUOTE_NOT_PAID):
        mint.issue(quote.quote, outputs)
    mint.pay(quote.quote, 12_000)
    assert len(mint.issue(quote.quote, outputs).signatures) == 2
