"""Requests that come together for the same proofs, outputs, quote or invoice: one wins, the others change nothing.

All of them are prepared before the first one commits, so none can see another while it checks in advance.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import apsw
import pytest

from ledger.errors import Code, LedgerError
from ledger.models import MintBatchRequest, Proof, ProofState, SignaturesResponse
from ledger.operations import replay
from ledger.operations.melt import Payment
from tests.ledger.helpers import (
    ANSWER_S,
    METHOD,
    Drawn,
    Mint,
    Wallet,
    done,
    melt_request,
    messages,
    mint_request,
    swap_request,
)

Start = Callable[[], Future[Any]]
RACERS = 4


def outcome(future: Future[Any]) -> Code | None:
    """The error code of a request, None for one that succeeded."""
    error = future.exception(ANSWER_S)
    if error is None:
        return None
    assert isinstance(error, LedgerError), error
    return error.code


def race(mint: Mint, starts: list[Start]) -> list[Code | None]:
    """The outcomes of requests that all wait for the writer together."""
    with mint.held_writer():
        futures = [start() for start in starts]
    return [outcome(future) for future in futures]


def swapping(mint: Mint, wallet: Wallet, proofs: list[Proof]) -> Start:
    request = swap_request(proofs, wallet.draw_sum(mint.keyset(), sum(proof.amount for proof in proofs)))
    return lambda: mint.ledger.swap(request)


def melting(mint: Mint, wallet: Wallet, proofs: list[Proof]) -> Start:
    request = melt_request(mint.melt_quote(sum(proof.amount for proof in proofs)).quote, proofs)
    return lambda: mint.ledger.begin_melt(METHOD, request, 100)


@pytest.mark.parametrize("first", [swapping, melting])
@pytest.mark.parametrize("second", [swapping, melting])
def test_the_same_proof_is_taken_once(
    mint: Mint,
    alice: Wallet,
    first: Callable[[Mint, Wallet, list[Proof]], Start],
    second: Callable[[Mint, Wallet, list[Proof]], Start],
) -> None:
    contested, *others = mint.fund(alice, 8, 4, 2)
    starts: list[Start] = [first(mint, alice, [contested, others[0]]), second(mint, alice, [others[1], contested])]
    expected = Code.PROOFS_SPENT if first is swapping else Code.PROOFS_PENDING
    assert race(mint, starts) == [None, expected]
    assert mint.states([others[1]]) == [ProofState.UNSPENT]


def signing_in_swap(mint: Mint, wallet: Wallet, drawn: Drawn) -> Start:
    request = swap_request(mint.fund(wallet, 8), [drawn])
    return lambda: mint.ledger.swap(request)


def signing_in_issue(mint: Mint, wallet: Wallet, drawn: Drawn) -> Start:
    request = mint_request(mint.paid_quote(8).quote, [drawn])
    return lambda: mint.ledger.issue(METHOD, request)


def holding_for_change(mint: Mint, wallet: Wallet, drawn: Drawn) -> Start:
    request = melt_request(mint.melt_quote(8).quote, mint.fund(wallet, 8), [drawn])
    return lambda: mint.ledger.begin_melt(METHOD, request, 100)


@pytest.mark.parametrize("first", [signing_in_swap, signing_in_issue, holding_for_change])
@pytest.mark.parametrize("second", [signing_in_swap, signing_in_issue, holding_for_change])
def test_the_same_output_is_signed_or_held_once(
    mint: Mint,
    alice: Wallet,
    first: Callable[[Mint, Wallet, Drawn], Start],
    second: Callable[[Mint, Wallet, Drawn], Start],
) -> None:
    drawn = alice.draw(mint.keyset(), 8)
    starts: list[Start] = [first(mint, alice, drawn), second(mint, alice, drawn)]
    expected = Code.OUTPUTS_PENDING if first is holding_for_change else Code.OUTPUTS_SIGNED
    assert race(mint, starts) == [None, expected]
    assert mint.value("SELECT count(*) FROM promises WHERE b_ = x'" + drawn.message.B_ + "'") == 1


def test_a_quote_is_issued_once(mint: Mint, alice: Wallet) -> None:
    quote = mint.paid_quote(8).quote
    requests = [mint_request(quote, alice.draw_sum(mint.keyset(), 8)) for _ in range(RACERS)]
    starts: list[Start] = [partial(mint.ledger.issue, METHOD, request) for request in requests]
    assert race(mint, starts) == [None] + [Code.QUOTE_ISSUED] * (RACERS - 1)
    assert mint.audit().outstanding_msat == 8000


@pytest.mark.parametrize("is_batch", [False, True], ids=["single", "batch"])
def test_a_twin_that_is_issued_between_two_looks_is_answered_alike(
    mint: Mint, alice: Wallet, monkeypatch: pytest.MonkeyPatch, is_batch: bool
) -> None:
    """The same request is carried out by somebody else just after this one was found to be new."""
    quote, outputs = mint.paid_quote(8).quote, alice.draw_sum(mint.keyset(), 8)
    request, batch = mint_request(quote, outputs), MintBatchRequest(quotes=[quote], outputs=messages(outputs))
    find, twins = replay.find, list[SignaturesResponse]()

    def issue() -> SignaturesResponse:
        return done(mint.ledger.issue_batch(METHOD, batch) if is_batch else mint.ledger.issue(METHOD, request))

    def find_too_early(db: apsw.Connection, digest: bytes) -> SignaturesResponse | None:
        found = find(db, digest)
        monkeypatch.setattr(replay, "find", find)
        twins.append(issue())
        return found

    monkeypatch.setattr(replay, "find", find_too_early)
    assert issue() == twins[0]
    assert mint.audit().outstanding_msat == 8000


def test_a_quote_is_issued_in_parts_up_to_what_was_paid(mint: Mint, alice: Wallet) -> None:
    quote = mint.paid_quote(8).quote
    requests = [mint_request(quote, alice.draw_sum(mint.keyset(), 3)) for _ in range(3)]
    starts: list[Start] = [partial(mint.ledger.issue, METHOD, request) for request in requests]
    assert race(mint, starts) == [None, None, Code.NOT_BALANCED]


def test_a_melt_is_begun_once(mint: Mint, alice: Wallet) -> None:
    quote, proofs = mint.melt_quote(8).quote, mint.fund(alice, *[8] * RACERS)
    requests = [melt_request(quote, [proof]) for proof in proofs]
    starts: list[Start] = [partial(mint.ledger.begin_melt, METHOD, request, 100) for request in requests]
    assert race(mint, starts) == [None] + [Code.QUOTE_PENDING] * (RACERS - 1)
    assert mint.states(proofs) == [ProofState.PENDING] + [ProofState.UNSPENT] * (RACERS - 1)


def test_an_invoice_is_paid_by_one_of_its_quotes(mint: Mint, alice: Wallet) -> None:
    quotes = [mint.melt_quote(8, payment_hash=b"\x11" * 32).quote for _ in range(RACERS)]
    proofs = mint.fund(alice, *[8] * RACERS)
    requests = [melt_request(quote, [proof]) for quote, proof in zip(quotes, proofs, strict=True)]
    starts: list[Start] = [partial(mint.ledger.begin_melt, METHOD, request, 100) for request in requests]
    assert race(mint, starts) == [None] + [Code.QUOTE_PENDING] * (RACERS - 1)


def test_the_limit_of_melts_in_flight_holds_among_those_that_come_together(mint: Mint, alice: Wallet) -> None:
    proofs = mint.fund(alice, *[8] * RACERS)
    requests = [melt_request(mint.melt_quote(8).quote, [proof]) for proof in proofs]
    starts: list[Start] = [partial(mint.ledger.begin_melt, METHOD, request, 2) for request in requests]
    outcomes = race(mint, starts)
    assert outcomes == [None, None, Code.QUOTE_REJECTED, Code.QUOTE_REJECTED]


def test_settle_and_release_of_one_melt_have_one_outcome(mint: Mint, alice: Wallet) -> None:
    pending = mint.begin(mint.melt_quote(8).quote, proofs := mint.fund(alice, 8))
    starts: list[Start] = [
        lambda: mint.ledger.settle_melt(pending, Payment(None, 8000)),
        lambda: mint.ledger.release_melt(pending, "too late"),
        lambda: mint.ledger.settle_melt(pending, Payment(None, 8000)),
    ]
    assert race(mint, starts) == [None, None, None]
    assert mint.states(proofs) == [ProofState.SPENT]
    assert mint.audit().paid_out_msat == 8000


def test_threads_that_spend_the_same_proofs_get_its_value_once(mint: Mint, alice: Wallet) -> None:
    rounds, threads = 8, 4
    for _ in range(rounds):
        proofs = mint.fund(alice, 8, 4)
        starts = [swapping(mint, alice, proofs) for _ in range(threads)]
        gate = threading.Barrier(threads)

        def run(start: Start, gate: threading.Barrier = gate) -> Code | None:
            gate.wait(ANSWER_S)
            return outcome(start())

        with ThreadPoolExecutor(threads) as pool:
            outcomes = list(pool.map(run, starts))
        assert sorted(outcomes, key=str) == [*[Code.PROOFS_SPENT] * (threads - 1), None]
    assert mint.audit().outstanding_msat == rounds * 12_000
