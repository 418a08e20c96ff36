"""A thousand melts, and clients that come and go meanwhile: each sees a history without gaps, and how it ends."""

from __future__ import annotations

import itertools
import queue
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest

from contrib.sandbox import DESTINATION_REFUSED, TEMPORARY_CHANNEL_FAILURE, Behaviour, OutsideInvoice
from contrib.wallet import WalletProof, messages, unblind
from tests.plugin.harness import PATIENCE_S, Mint, Purse, wait_for
from tests.protocol.helpers import MELT_QUOTE, Notification, Socket, in_parallel, ok, paid_quote, wire

OPTIONS = {
    "fee_reserve_min": 0,
    "fee_reserve_percent": 0,
    "max_pending_melts": 250,
}
MELTS = 1000
RESTLESS = 3
VISITS = 12
IN_FLIGHT = 200
RELEASED_AT_ONCE = 40
CALLS_PER_ATTEMPT = 8
QUIET_S = 1.0
SEED = 17
CAUSES = {False: DESTINATION_REFUSED, True: TEMPORARY_CHANNEL_FAILURE}

Step = tuple[str, str | None]
"""A state, and the reason of the failure before it."""


@dataclass(eq=False)
class Planned:
    """A melt, and what is to become of each attempt at it."""

    outcomes: tuple[bool, ...]
    invoice: OutsideInvoice
    proof: WalletProof
    quote: str = ""
    attempts: int = 0

    @property
    def history(self) -> list[str]:
        """Its states, from the first to the last."""
        return [
            "UNPAID",
            *itertools.chain.from_iterable(("PENDING", "PAID" if ok else "UNPAID") for ok in self.outcomes),
        ]

    def is_over(self, state: str) -> bool:
        """Whether nothing comes after this state."""
        return state != "PENDING" and self.attempts == len(self.outcomes)


class Watcher:
    """A client that subscribes to all melts. `visits`: what it saw on each of its connections, by quote."""

    def __init__(self, mint: Mint, quotes: Sequence[str]) -> None:
        self._mint = mint
        self._quotes = quotes
        self.visits: list[dict[str, list[Notification]]] = []

    def connect(self) -> Socket:
        """A new visit; it begins with the state of every melt."""
        socket = Socket(self._mint)
        seen: dict[str, list[Notification]] = defaultdict(list)
        self.visits.append(seen)
        socket.subscribe(MELT_QUOTE, self._quotes)
        for quote in self._quotes:
            found = socket.next()
            assert found.payload["quote"] == quote
            seen[quote].append(found)
        return socket

    def note(self, socket: Socket, timeout_s: float) -> Notification | None:
        """The next update."""
        try:
            found = socket.next(timeout_s)
        except TimeoutError:
            return None
        self.visits[-1][found.payload["quote"]].append(found)
        return found


@dataclass
class Stage:
    """What the watchers and the driver know of each other."""

    over: threading.Event = field(default_factory=threading.Event)
    progress: int = 0


def wander(watcher: Watcher, stage: Stage, chance: random.Random) -> None:
    """Visit again and again while melts are resolved; leave in the middle, politely or not."""
    leave_at = sorted(chance.sample(range(MELTS), VISITS))
    for moment in leave_at:
        socket = watcher.connect()
        while stage.progress < moment and not stage.over.is_set():
            watcher.note(socket, 0.05)
        (socket.vanish if chance.random() < 0.5 else socket.close)()
        if stage.over.wait(chance.random() / 10):
            break
    stage.over.wait(PATIENCE_S)
    watcher.connect().close()


def stay(watcher: Watcher, socket: Socket, stage: Stage, updates: queue.Queue[Notification]) -> None:
    """Stay from before the first melt until after the last one."""
    while not stage.over.is_set():
        if (found := watcher.note(socket, 0.05)) is not None:
            updates.put(found)
    while watcher.note(socket, 0.5) is not None:
        pass
    socket.close()


class Driver:
    """Begins melts, and lets their payments arrive or fail in random order; learns of it by the socket alone."""

    def __init__(self, mint: Mint, plans: list[Planned], chance: random.Random) -> None:
        self._mint = mint
        self._by_quote = {plan.quote: plan for plan in plans}
        self._chance = chance
        self._waiting = chance.sample(plans, len(plans))
        self._begun: list[Planned] = []
        self._posts: list[Future[None]] = []

    def run(self, updates: queue.Queue[Notification], stage: Stage) -> None:
        """Until every melt is over."""
        with ThreadPoolExecutor(max_workers=6) as pool:
            in_flight: set[str] = set()
            deadline = time.monotonic() + 3 * PATIENCE_S
            while stage.progress < MELTS:
                assert time.monotonic() < deadline, f"{stage.progress} of {MELTS} melts are over"
                while self._waiting and len(in_flight) < IN_FLIGHT:
                    plan = self._waiting.pop()
                    in_flight.add(plan.quote)
                    self._posts.append(pool.submit(self._begin, plan))
                self._release_some()
                for update in self._news(updates):
                    plan, state = self._by_quote[update.payload["quote"]], update.payload["state"]
                    if state == "PENDING":
                        self._begun.append(plan)
                        continue
                    in_flight.discard(plan.quote)
                    if plan.is_over(state):
                        stage.progress += 1
                    else:
                        self._waiting.insert(self._chance.randrange(len(self._waiting) + 1), plan)
            for post in self._posts:
                post.result(PATIENCE_S)

    @staticmethod
    def _news(updates: queue.Queue[Notification]) -> Iterator[Notification]:
        try:
            yield updates.get(timeout=0.05)
            while True:
                yield updates.get_nowait()
        except queue.Empty:
            return

    def _begin(self, plan: Planned) -> None:
        plan.attempts += 1
        body = {"quote": plan.quote, "inputs": wire([plan.proof]), "prefer_async": True}
        assert ok(self._mint.http.post("/v1/melt/bolt11", json=body))["state"] in ("PENDING", "PAID", "UNPAID")

    def _release_some(self) -> None:
        self._chance.shuffle(self._begun)
        chosen, self._begun = self._begun[:RELEASED_AT_ONCE], self._begun[RELEASED_AT_ONCE:]
        for plan in chosen:
            number = plan.attempts - 1
            if not self._mint.node.release(plan.invoice, plan.outcomes[number], cause=CAUSES[number % 2 == 1]):
                self._begun.append(plan)  # its part is not on its way yet


def fund_ones(purse: Purse, count: int) -> list[WalletProof]:
    """So many proofs of 1."""
    outputs = purse.outputs_of([1] * count)
    return unblind(outputs, purse.client.mint(paid_quote(purse, count), messages(outputs)), purse.keysets)


def plan_all(mint: Mint, purse: Purse, chance: random.Random) -> list[Planned]:
    """The melts with their quotes."""
    plans = []
    for proof in fund_ones(purse, MELTS):
        outcomes = chance.choice([(True,), (True,), (False,), (False, True), (False, False), (False, False, True)])
        invoice = mint.node.outside_invoice(1000)
        mint.node.script(Behaviour.hold(fee_msat=0), invoice, times=len(outcomes))
        plans.append(Planned(outcomes, invoice, proof))

    def ask(plan: Planned) -> None:
        plan.quote = ok(mint.http.post("/v1/melt/quote/bolt11", json={"request": plan.invoice.bolt11, "unit": "sat"}))[
            "quote"
        ]

    in_parallel([lambda plan=plan: ask(plan) for plan in plans], workers=6)  # type: ignore[misc]
    return plans


def place_in_history(history: Sequence[Step], visits: list[list[Step]]) -> None:
    """Each visit must have seen an unbroken piece of the history, none before the last one's end, and the last visit
    its end."""
    position = 0
    for visit in visits:
        assert visit, "a visit without a snapshot"
        last_start = len(history) - len(visit)
        found = next((s for s in range(position, last_start + 1) if history[s : s + len(visit)] == visit), None)
        assert found is not None, f"{visits} in {history}: {visit} does not follow at {position}"
        position = found + len(visit) - 1
    assert position == len(history) - 1, f"{visits} in {history}: the end is missing"


@pytest.mark.timeout(600)
def test_every_update_of_a_thousand_melts_is_seen_in_order_by_clients_that_come_and_go(
    mint: Mint, purse: Purse
) -> None:
    chance = random.Random(SEED)
    plans = plan_all(mint, purse, chance)
    quotes = [plan.quote for plan in plans]
    stage, updates = Stage(), queue.Queue[Notification]()
    steady, restless = Watcher(mint, quotes), [Watcher(mint, quotes) for _ in range(RESTLESS)]
    calls_before = mint.node.calls_position
    socket = steady.connect()
    with ThreadPoolExecutor(max_workers=RESTLESS + 1) as pool:
        watching = [pool.submit(stay, steady, socket, stage, updates)]
        watching += [
            pool.submit(wander, watcher, stage, random.Random(number)) for number, watcher in enumerate(restless)
        ]
        try:
            Driver(mint, plans, chance).run(updates, stage)
        finally:
            stage.over.set()
        for watched in watching:
            watched.result(PATIENCE_S)

    attempts = sum(len(plan.outcomes) for plan in plans)
    calls = Counter(call.method for call in mint.node.calls(since=calls_before))
    assert calls["xpay"] == attempts
    assert sum(calls.values()) <= CALLS_PER_ATTEMPT * attempts, calls

    answers = in_parallel([lambda q=q: mint.http.get(f"/v1/melt/quote/bolt11/{q}").text for q in quotes])  # type: ignore[misc]
    assert len(steady.visits) == 1
    assert min(len(watcher.visits) for watcher in restless) > 1
    for plan, answer in zip(plans, answers, strict=True):
        (whole,) = (visit[plan.quote] for visit in steady.visits)
        history = [step(each) for each in whole]
        assert [state for state, _ in history] == plan.history
        for watcher in (steady, *restless):
            place_in_history(history, [[step(each) for each in visit[plan.quote]] for visit in watcher.visits])
            assert watcher.visits[-1][plan.quote][-1].payload_text == answer


def step(notification: Notification) -> Step:
    payload: dict[str, Any] = notification.payload
    assert (payload["payment_preimage"] is not None) == (payload["state"] == "PAID")
    return payload["state"], payload["error"]


def test_nobody_asks_the_node_while_nothing_happens(mint: Mint, purse: Purse) -> None:
    """However many watch, and come and go: not for the state of payments that are held, and not for snapshots."""
    melts = [purse.hold(1, Behaviour.hold(fee_msat=0)) for _ in range(3)]
    quotes = [melt.quote.quote for melt in melts]
    wait_for(lambda: all(purse.look(melt).state == "PENDING" for melt in melts), "the melts to be pending")
    time.sleep(0.2)  # what their beginning still caused
    before = mint.node.calls_position
    sockets = []
    deadline = time.monotonic() + QUIET_S
    while time.monotonic() < deadline:
        socket = Socket(mint)
        socket.subscribe(MELT_QUOTE, quotes)
        assert {each.payload["state"] for each in socket.take(len(quotes))} == {"PENDING"}
        sockets.append(socket)
    assert [call.method for call in mint.node.calls(since=before) if call.method != "datastore"] == []
    for melt in melts:
        mint.node.release(str(melt.invoice))
    for socket in sockets:
        assert {each.payload["state"] for each in socket.take(len(quotes))} == {"PAID"}
        socket.close()


@pytest.mark.parametrize(
    "visits",
    [
        [["UNPAID", "PENDING", "UNPAID"]],
        [["UNPAID", "PENDING"], ["UNPAID", "PAID"]],
        [["UNPAID", "PENDING"], ["UNPAID"], ["PENDING", "PAID"]],
        [["PENDING", "PENDING", "PAID"]],
        [["PAID"], ["PENDING", "PAID"]],
        [["UNPAID", "PENDING"], []],
    ],
)
def test_a_history_with_a_fault_is_found_out(visits: list[list[str]]) -> None:
    """The test above would be worth nothing otherwise."""
    history: list[Step] = [("UNPAID", None), ("PENDING", None), ("PAID", None)]
    with pytest.raises(AssertionError):
        place_in_history(history, [[(state, None) for state in visit] for visit in visits])
