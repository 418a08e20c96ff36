"""What the ledger publishes: after the commit, in commit order, and exactly what a reader then sees (NUT-17)."""

from __future__ import annotations

import logging

import pytest

from ledger.errors import Code
from ledger.events import Event, MeltQuoteChanged, MintQuoteChanged, ProofsChanged
from ledger.models import (
    CheckStateRequest,
    MeltQuote,
    MeltQuoteState,
    MintQuote,
    MintQuoteBolt11,
    MintQuoteState,
    ProofState,
)
from ledger.operations import mint as mint_operations
from ledger.operations import node
from tests.ledger.helpers import METHOD, SOME, WITNESS, Mint, Wallet, done, proof_y, refused, swap_request


def shown(mint: Mint, event: Event) -> Event:
    """The same event as a reader would make it now."""
    with mint.ledger.read() as db:
        commit = mint.ledger.commit_number(db)
    match event:
        case MintQuoteChanged(quote):
            return MintQuoteChanged(mint.ledger.mint_quote(quote.method, quote.quote), commit)
        case MeltQuoteChanged(quote):
            return MeltQuoteChanged(mint.ledger.melt_quote(quote.method, quote.quote), commit)
        case ProofsChanged(states):
            request = CheckStateRequest(Ys=[entry.Y for entry in states])
            return ProofsChanged(tuple(mint.ledger.check_state(request).states), commit)


@pytest.fixture
def seen(mint: Mint) -> list[Event]:
    """For each event, what a reader saw when the event was published. Must equal `mint.events`."""
    seen: list[Event] = []
    mint.ledger.subscribe(lambda event: seen.append(shown(mint, event)))
    return seen


def summary(events: list[Event]) -> list[object]:
    result: list[object] = []
    for event in events:
        match event:
            case MintQuoteChanged(MintQuoteBolt11() as quote):
                result.append(quote.state)
            case MeltQuoteChanged(quote):
                result.append(quote.state)
            case ProofsChanged(states):
                result.append({entry.state for entry in states})
    return result


def quotes_of(events: list[Event]) -> list[MintQuote | MeltQuote]:
    return [event.quote for event in events if not isinstance(event, ProofsChanged)]


def test_a_mint_quote_is_announced_when_paid_and_when_issued(mint: Mint, alice: Wallet, seen: list[Event]) -> None:
    quote = mint.paid_quote(8)
    mint.issue(quote.quote, alice.draw_sum(mint.keyset(), 5))
    mint.issue(quote.quote, alice.draw_sum(mint.keyset(), 3))
    assert summary(mint.events) == [MintQuoteState.PAID, MintQuoteState.PAID, MintQuoteState.ISSUED]
    assert seen == mint.events


def test_a_new_quote_is_not_announced(mint: Mint) -> None:
    mint.mint_quote(8)
    mint.melt_quote(8)
    assert mint.events == []


def test_a_swap_announces_its_inputs_as_spent_with_their_witnesses(
    mint: Mint, alice: Wallet, seen: list[Event]
) -> None:
    first, second = mint.fund_locked(alice), *mint.fund(alice, 4)
    mint.events.clear()
    seen.clear()
    mint.swap([first, second], alice.draw_sum(mint.keyset(), 12))
    (event,) = mint.events
    assert isinstance(event, ProofsChanged)
    assert [(entry.Y, entry.state, entry.witness) for entry in event.states] == [
        (proof_y(first), ProofState.SPENT, WITNESS),
        (proof_y(second), ProofState.SPENT, None),
    ]
    assert seen == mint.events


def test_a_settled_melt_announces_pending_and_then_spent_and_paid_with_its_change(
    mint: Mint, alice: Wallet, seen: list[Event]
) -> None:
    proofs = mint.fund(alice, 8)
    mint.events.clear()
    seen.clear()
    settled = mint.settle(mint.begin(mint.melt_quote(5).quote, proofs, alice.blanks(mint.keyset(), 2)))
    assert summary(mint.events) == [
        {ProofState.PENDING},
        MeltQuoteState.PENDING,
        {ProofState.SPENT},
        MeltQuoteState.PAID,
    ]
    assert settled.change is not None
    assert quotes_of(mint.events)[-1] == settled
    assert seen == mint.events


def test_a_released_melt_announces_its_proofs_as_unspent_and_its_quote_as_unpaid(
    mint: Mint, alice: Wallet, seen: list[Event]
) -> None:
    proofs = mint.fund(alice, 8)
    pending = mint.begin(mint.melt_quote(8).quote, proofs)
    mint.events.clear()
    seen.clear()
    released = mint.release(pending)
    assert summary(mint.events) == [{ProofState.UNSPENT}, MeltQuoteState.UNPAID]
    assert quotes_of(mint.events) == [released]
    assert seen == mint.events


def test_a_refusal_announces_nothing(mint: Mint, alice: Wallet) -> None:
    proofs = mint.fund(alice, 8)
    mint.swap(proofs, alice.draw_sum(mint.keyset(), 8))
    with refused(mint, Code.PROOFS_SPENT):
        mint.swap(proofs, alice.draw_sum(mint.keyset(), 8))


def test_events_of_one_batch_come_in_the_order_of_its_operations(mint: Mint, alice: Wallet) -> None:
    proofs = mint.fund(alice, *[1] * 20)
    requests = [swap_request([proof], alice.draw_sum(mint.keyset(), 1)) for proof in proofs]
    mint.events.clear()
    with mint.held_writer():
        swaps = [mint.ledger.swap(request) for request in requests]
    for swap in swaps:
        done(swap)
    announced = [event.states[0].Y for event in mint.events if isinstance(event, ProofsChanged)]
    assert announced == [proof_y(proof) for proof in proofs]
    assert {event.commit for event in mint.events} == {mint.ledger.record().commits}


def test_the_number_of_a_commit_tells_whether_a_snapshot_has_it(mint: Mint) -> None:
    with mint.ledger.read() as db:
        before = mint.ledger.commit_number(db)
        mint.paid_quote(8)
        assert mint.ledger.commit_number(db) == before
    with mint.ledger.read() as db:
        assert mint.ledger.commit_number(db) == mint.events[-1].commit > before


def test_events_come_before_the_answer(mint: Mint) -> None:
    quote = mint.mint_quote(8)
    at_answer: list[int] = []
    with mint.held_writer():
        payment = mint_operations.Receipt(b"payment", 8000)
        credit = mint.ledger.submit(SOME, lambda tx: mint_operations.credit(tx, METHOD, quote.quote, payment))
        credit.add_done_callback(lambda _: at_answer.append(len(mint.events)))
    done(credit)
    mint.run(lambda tx: None)  # the writer has then called what hangs on the future
    assert at_answer == [1]


def test_every_subscriber_gets_every_event_though_another_one_fails(
    mint: Mint, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(event: Event) -> None:
        raise RuntimeError("a subscriber's bug")

    later: list[Event] = []
    mint.ledger.subscribe(broken)
    mint.ledger.subscribe(later.append)
    with caplog.at_level(logging.ERROR):
        mint.paid_quote(8)
        mint.paid_quote(8)
    assert len(later) == len(mint.events) == 2
    assert "a subscriber to the ledger's events failed" in caplog.text


def test_the_starts_of_the_node_are_counted(mint: Mint) -> None:
    assert done(mint.ledger.note_start(node_started=True)) == node.NodeRun(1, int(mint.clock()))
    started_at = int(mint.clock())
    mint.clock.advance(100)
    mint.reopen()
    assert done(mint.ledger.note_start(node_started=False)) == node.NodeRun(1, started_at)
    assert done(mint.ledger.note_start(node_started=True)) == node.NodeRun(2, started_at + 100)
