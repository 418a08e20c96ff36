"""Many at once: of requests that exclude each other exactly one is granted, and clients may go away at any time."""

from __future__ import annotations

import json
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

from contrib.sandbox import Behaviour
from contrib.wallet import MintError, MintUnreachableError, WalletProof, messages, unblind
from ledger.errors import Code
from ledger.models import MeltQuoteState
from tests.plugin.harness import AT_ONCE_S, HELD, PAID, PENDING, SPENT, UNPAID, UNSPENT, Melt, Mint, Purse, wait_for

OPTIONS = {"retry_for": 1}
CONSTANTS = {"plugin.methods.verdict:ROUTING_GRACE_S": 1, "plugin.methods.verdict:RETRY_S": 0.5}

THREADS = 32
WON = "won"

T = TypeVar("T")


def race(runners: Sequence[Callable[[], object]]) -> list[object]:
    """Run all at the same moment; returns for each what it returned, or the code with which it was refused."""
    start = threading.Barrier(len(runners))

    def run(runner: Callable[[], object]) -> object:
        start.wait()
        try:
            return runner()
        except MintError as error:
            return Code(error.code)

    with ThreadPoolExecutor(len(runners)) as pool:
        return list(pool.map(run, runners))


def won(runner: Callable[[], object]) -> Callable[[], object]:
    """The same with only the news that it was granted."""

    def run() -> object:
        runner()
        return WON

    return run


# --- exactly one --------------------------------------------------------------------------------------------------


def test_of_many_swaps_of_the_same_proofs_one_is_granted(mint: Mint, purse: Purse) -> None:
    proofs = purse.fund(127)
    results = race([won(lambda: purse.swap(proofs)) for _ in range(THREADS)])
    assert Counter(results) == {WON: 1, Code.PROOFS_SPENT: THREADS - 1}


def test_of_many_melts_with_the_same_proofs_one_is_granted(mint: Mint, purse: Purse) -> None:
    melts = [purse.prepare(mint.invoice(100, Behaviour.hold())) for _ in range(THREADS)]
    for melt in melts[1:]:
        melt.inputs = melts[0].inputs
    results = race([won(lambda melt=melt: purse.post(melt, prefer_async=True)) for melt in melts])  # type: ignore[misc]
    assert Counter(results) == {WON: 1, Code.PROOFS_PENDING: THREADS - 1}
    winner = melts[results.index(WON)]
    mint.node.wait_for_part(str(winner.invoice))
    mint.node.release(str(winner.invoice))
    purse.assert_paid(winner)
    assert Counter(purse.look(melt).state for melt in melts) == {PAID: 1, UNPAID: THREADS - 1}


def test_of_swaps_and_melts_of_the_same_proofs_one_is_granted(mint: Mint, purse: Purse) -> None:
    melts = [purse.prepare(mint.invoice(100, Behaviour.hold())) for _ in range(THREADS // 2)]
    proofs = melts[0].inputs
    for melt in melts:
        melt.inputs = proofs
    runners = [won(lambda melt=melt: purse.post(melt, prefer_async=True)) for melt in melts]  # type: ignore[misc]
    runners += [won(lambda: purse.swap(proofs)) for _ in range(THREADS // 2)]
    results = race(runners)
    assert results.count(WON) == 1
    assert set(results) <= {WON, Code.PROOFS_SPENT, Code.PROOFS_PENDING}
    for melt in melts:
        if purse.look(melt).state == PENDING:
            mint.node.wait_for_part(str(melt.invoice))
            mint.node.release(str(melt.invoice))
            purse.assert_paid(melt)


def test_of_many_requests_for_one_melt_quote_one_is_granted(mint: Mint, purse: Purse) -> None:
    first = purse.prepare(mint.invoice(behaviour=Behaviour.hold()))
    melts = [first] + [purse.prepare(str(first.invoice), quote=first.quote) for _ in range(THREADS - 1)]
    results = race([won(lambda melt=melt: purse.post(melt, prefer_async=True)) for melt in melts])  # type: ignore[misc]
    assert Counter(results) == {WON: 1, Code.QUOTE_PENDING: THREADS - 1}
    winner = melts[results.index(WON)]
    assert Counter(frozenset(purse.states(melt.inputs)) for melt in melts) == {
        frozenset({HELD}): 1,
        frozenset({UNSPENT}): THREADS - 1,
    }
    mint.node.wait_for_part(str(first.invoice))
    mint.node.release(str(first.invoice))
    purse.assert_paid(winner)


@pytest.mark.parametrize("prefer_async", [False, True])
def test_of_many_quotes_for_one_invoice_one_is_paid(mint: Mint, purse: Purse, prefer_async: bool) -> None:
    invoice = mint.invoice()
    melts = [purse.prepare(invoice) for _ in range(THREADS)]
    position = mint.node.calls_position
    runners = [won(lambda melt=melt: purse.post(melt, prefer_async=prefer_async)) for melt in melts]  # type: ignore[misc]
    results = race(runners)
    assert results.count(WON) == 1
    assert set(results) <= {WON, Code.QUOTE_PENDING, Code.INVOICE_PAID}
    purse.assert_paid(melts[results.index(WON)])
    assert len(mint.node.calls("xpay", since=position)) == 1
    assert len(mint.node.rows(invoice)) == 1


def test_of_many_requests_for_the_ecash_of_one_quote_one_is_granted(mint: Mint, purse: Purse) -> None:
    quote = purse.request_mint(100)
    mint.node.pay_invoice(quote.request)
    purse.wait_credited(quote)
    results = race([won(lambda: purse.collect(quote)) for _ in range(THREADS)])
    assert Counter(results) == {WON: 1, Code.QUOTE_ISSUED: THREADS - 1}


def test_many_requests_for_parts_of_one_quote_get_no_more_than_all(mint: Mint, purse: Purse) -> None:
    quote = purse.request_mint(100)
    mint.node.pay_invoice(quote.request)
    purse.wait_credited(quote)
    results = race([won(lambda: purse.collect(quote, 9)) for _ in range(THREADS)])
    assert Counter(results) == {WON: 11, Code.NOT_BALANCED: THREADS - 11}
    assert purse.client.mint_quote(quote.quote).amount_issued == 99


def test_of_many_swaps_for_the_same_output_one_is_granted(mint: Mint, purse: Purse) -> None:
    outputs = messages(purse.outputs(8))
    funds = [purse.fund(8) for _ in range(THREADS)]
    results = race([won(lambda proofs=proofs: purse.client.swap(proofs, outputs)) for proofs in funds])  # type: ignore[misc]
    assert Counter(results) == {WON: 1, Code.OUTPUTS_SIGNED: THREADS - 1}


# --- the same request many times ----------------------------------------------------------------------------------


def test_many_identical_swaps_get_the_same_signatures(mint: Mint, purse: Purse) -> None:
    proofs, outputs = purse.fund(100), messages(purse.outputs(100))
    results = race([lambda: purse.client.swap(proofs, outputs) for _ in range(THREADS)])
    assert all(result == results[0] for result in results)
    assert not isinstance(results[0], Code)


def test_many_identical_requests_for_ecash_get_the_same_signatures(mint: Mint, purse: Purse) -> None:
    quote = purse.request_mint(100)
    mint.node.pay_invoice(quote.request)
    purse.wait_credited(quote)
    outputs = messages(purse.outputs(100))
    results = race([lambda: purse.client.mint(quote.quote, outputs) for _ in range(THREADS)])
    assert all(result == results[0] for result in results)
    assert not isinstance(results[0], Code)


def test_many_identical_melts_are_one_payment_with_one_answer(mint: Mint, purse: Purse) -> None:
    melt = purse.prepare(mint.invoice(behaviour=Behaviour.success(after_s=0.2)))
    position = mint.node.calls_position
    results = race([lambda: purse.post(melt) for _ in range(THREADS)])
    assert all(result == results[0] for result in results)
    purse.assert_paid(melt)
    assert len(mint.node.calls("xpay", since=position)) == 1


def test_many_melts_at_once_all_come_to_their_own_end(mint: Mint, purse: Purse) -> None:
    melts = [
        purse.prepare(mint.invoice(100, Behaviour.success(after_s=0.01 * n) if n % 2 else Behaviour.failure()))
        for n in range(THREADS)
    ]
    results = race([won(lambda melt=melt: purse.post(melt)) for melt in melts])  # type: ignore[misc]
    assert results == [WON if n % 2 else Code.PAYMENT_FAILED for n in range(THREADS)]
    for n, melt in enumerate(melts):
        (purse.assert_paid if n % 2 else purse.assert_failed)(melt)


# --- clients that go away -----------------------------------------------------------------------------------------


class Client:
    """A wallet that sends a request and goes away."""

    def __init__(self, mint: Mint, path: str, body: object, *, cut: int = 0) -> None:
        content = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: mint\r\nContent-Length: {len(content)}\r\n\r\n".encode()
        self._socket = socket.create_connection(("127.0.0.1", mint.port), AT_ONCE_S)
        self._socket.sendall((head + content)[: len(head) + len(content) - cut])

    def go(self, *, reset: bool = False) -> None:
        """Close the connection, or break it."""
        if reset:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("ok", [True, False], ids=["paid", "failed"])
def test_a_client_that_goes_away_in_the_middle_of_a_melt_changes_nothing(
    mint: Mint, purse: Purse, reset: bool, ok: bool
) -> None:
    melt = purse.prepare(mint.invoice(behaviour=Behaviour.hold()))
    client = Client(mint, "/v1/melt/bolt11", melt.body)
    mint.node.wait_for_part(str(melt.invoice))
    client.go(reset=reset)
    purse.assert_stays_pending(melt, 0.3)
    mint.node.release(str(melt.invoice), ok=ok)
    (purse.assert_paid if ok else purse.assert_failed)(melt)


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_a_client_that_goes_away_at_once_has_melted_or_not(mint: Mint, purse: Purse, reset: bool) -> None:
    melts = [purse.prepare(mint.invoice(2**6 - 1)) for _ in range(20)]  # enough inputs for a worker thread
    for number, melt in enumerate(melts):
        client = Client(mint, "/v1/melt/bolt11", melt.body)
        time.sleep(0.001 * (number % 10))
        client.go(reset=reset)
    for melt in melts:
        quote = purse.wait_final(melt)
        if quote.state == UNPAID and purse.states(melt.inputs) == {UNSPENT} and quote.error is None:
            purse.post(melt)
        purse.assert_paid(melt)


def test_a_client_that_goes_away_before_its_refusal_leaves_no_trace(mint: Mint, purse: Purse) -> None:
    spent = purse.fund(2**10 - 1)
    purse.swap(spent)
    melt = purse.prepare(mint.invoice())
    melt.inputs = spent
    for delay_s in (0.0, 0.001, 0.003, 0.005, 0.01, 0.02):
        client = Client(mint, "/v1/melt/bolt11", melt.body)
        time.sleep(delay_s)
        client.go(reset=True)
    assert purse.refusal(melt).code == Code.PROOFS_SPENT


@pytest.mark.parametrize("method", ["invoice", "decode", "listsendpays", "wait"])
def test_a_client_that_goes_away_while_the_node_is_asked_leaves_no_trace(mint: Mint, purse: Purse, method: str) -> None:
    path = "/v1/mint/quote/bolt11" if method == "invoice" else "/v1/melt/quote/bolt11"
    body = {"unit": "sat", "amount": 8, "request": str(mint.invoice())}
    mint.node.pause_rpc(method)
    position = mint.node.calls_position
    for count, reset in enumerate((False, True), start=1):
        client = Client(mint, path, body)
        mint.node.wait_for_call(method, since=position, count=count)
        client.go(reset=reset)
    mint.node.resume_rpc(method)
    assert mint.http.post(path, json=body).status_code == 200


def test_a_client_that_goes_away_in_the_middle_of_a_swap_has_swapped_or_not(mint: Mint, purse: Purse) -> None:
    for number in range(20):
        proofs = purse.fund(2**9 - 1)
        outputs = purse.outputs(2**9 - 1)
        body = {
            "inputs": [p.model_dump(mode="json", exclude_none=True) for p in proofs],
            "outputs": [m.model_dump(mode="json") for m in messages(outputs)],
        }
        client = Client(mint, "/v1/swap", body)
        time.sleep(0.001 * number)
        client.go(reset=number % 2 == 0)
        answer = mint.http.post("/v1/swap", json=body)  # the same again: done now, or answered again
        assert answer.status_code == 200
        assert purse.states(proofs) == {SPENT}


def test_a_request_cut_off_changes_nothing(mint: Mint, purse: Purse) -> None:
    melt = purse.prepare(mint.invoice())
    before = mint.rows()
    for cut in (1, 10, 100):
        Client(mint, "/v1/melt/bolt11", melt.body, cut=cut).go()
    purse.client.info()
    assert mint.rows() == before
    purse.post(melt)
    purse.assert_paid(melt)


# --- everything at once, with kill -9 -----------------------------------------------------------------------------


class Customer:
    """Does things at random, repeats a request until it is answered, and counts its money."""

    def __init__(self, mint: Mint, seed: int, stop: threading.Event) -> None:
        self.purse = Purse(mint)
        self.proofs: list[WalletProof] = self.purse.fund(512)
        self.paid: list[Melt] = []
        self._random = random.Random(seed)
        self._stop = stop
        self._mint = mint

    def run(self) -> None:
        """Until the stop."""
        while not self._stop.is_set():
            self._random.choice((self._swap, self._melt, self._melt))()

    def _patiently(self, ask: Callable[[], T]) -> T:
        deadline = time.monotonic() + 60
        while True:
            try:
                return ask()
            except MintUnreachableError:
                assert time.monotonic() < deadline
                time.sleep(0.05)

    def _swap(self) -> None:
        proofs, outputs = self.proofs, self.purse.outputs(sum(p.amount for p in self.proofs))
        signatures = self._patiently(lambda: self.purse.client.swap(proofs, messages(outputs)))
        self.proofs = unblind(outputs, signatures, self.purse.keysets)

    def _melt(self) -> None:
        behaviour = self._random.choice(
            [Behaviour.success(), Behaviour.success(after_s=0.1), Behaviour.failure(), Behaviour.refused()]
        )
        invoice = self._mint.invoice(self._random.randint(1, 20), behaviour)
        quote = self._patiently(lambda: self.purse.client.request_melt_quote(str(invoice)))
        if sum(p.amount for p in self.proofs) < quote.amount + quote.fee_reserve:
            return
        blanks = self.purse.outputs_of([0] * 10)
        melt = Melt(invoice, quote, self.proofs, blanks)
        self.proofs = []
        try:
            self._patiently(lambda: self.purse.post(melt, prefer_async=self._random.random() < 0.5))
        except MintError as error:
            assert error.code == Code.PAYMENT_FAILED
        self.settle(melt)

    def settle(self, melt: Melt) -> None:
        """Wait for the end of a melt, and take what is left."""

        def final() -> bool:
            quote = self._patiently(lambda: self.purse.look(melt))
            if quote.state == MeltQuoteState.PENDING:
                return False
            if quote.state == MeltQuoteState.PAID:
                self.proofs = self.purse.change(melt, quote)
                self.paid.append(melt)
            else:
                self.proofs = melt.inputs
            return True

        wait_for(final, "a melt to be decided", 120)


def test_books_balance_and_no_money_is_lost_while_everything_happens_at_once(mint: Mint, purse: Purse) -> None:
    before = mint.info()["outstanding"]["sat"]
    stop = threading.Event()
    customers = [Customer(mint, seed, stop) for seed in range(8)]
    with ThreadPoolExecutor(len(customers)) as pool:
        running = [pool.submit(customer.run) for customer in customers]
        for _ in range(3):
            time.sleep(1.0)
            mint.restart_plugin(kill=True)
        time.sleep(1.0)
        stop.set()
        for each in running:
            each.result(120)
    held = [proof for customer in customers for proof in customer.proofs]
    assert mint.info()["outstanding"]["sat"] == before + sum(p.amount for p in held)
    for customer in customers:
        if customer.proofs:
            assert purse.states(customer.proofs) == {UNSPENT}
    paid = [melt for customer in customers for melt in customer.paid]
    assert paid
    for melt in paid:
        assert purse.states(melt.inputs) == {SPENT}
        assert [row["status"] for row in mint.node.rows(str(melt.invoice))].count("complete") == 1
