"""Budgets: what is granted and refused, by a clock that the test turns, and in how much memory."""

from __future__ import annotations

import tracemalloc

import pytest

from plugin.http import limits
from plugin.http.clients import Client
from plugin.http.limits import LOOKUPS, NODE, REQUESTS, SIGNATURES, Budget, RateLimits, TooManyRequestsError
from plugin.options import parse

ALICE, BOB = Client("192.0.2.1", shared=False), Client("192.0.2.2", shared=False)
LOCAL = Client("this machine", shared=True)


class Clock:
    """Seconds, by hand."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("throttled.utils.now_mono_f", made)
    return made


def made(**options: str) -> RateLimits:
    return RateLimits(parse({f"cashu-{name.replace('_', '-')}": value for name, value in options.items()}))


def about(count: float) -> object:
    """A budget is a span of time: its last unit may be lost to rounding."""
    return pytest.approx(count, abs=1)


def granted(rate_limits: RateLimits, client: Client, budget: Budget, cost: int = 1, most: int = 100_000) -> int:
    """How many are granted in a row."""
    for count in range(most):
        try:
            rate_limits.charge(client, budget, cost)
        except TooManyRequestsError:
            return count
    return most


@pytest.mark.parametrize("budget", [REQUESTS, LOOKUPS, SIGNATURES, NODE], ids=lambda budget: budget.what)
def test_a_budget_is_spent_and_fills_up_again(clock: Clock, budget: Budget) -> None:
    rate_limits = made()
    assert granted(rate_limits, ALICE, budget) == about(budget.burst)
    assert granted(rate_limits, BOB, budget) == about(budget.burst)
    clock.now += 10
    assert granted(rate_limits, ALICE, budget) == about(10 * budget.per_s)
    clock.now += 3600
    assert granted(rate_limits, ALICE, budget) == about(budget.burst)


def test_a_refusal_says_when_to_come_back_and_costs_nothing(clock: Clock) -> None:
    rate_limits = made()
    assert granted(rate_limits, ALICE, SIGNATURES, 2000) == 10
    for _ in range(5):
        with pytest.raises(TooManyRequestsError) as refused:
            rate_limits.charge(ALICE, SIGNATURES, 2000)
        assert refused.value.retry_after_s == 10
        assert "10 s" in str(refused.value)
    clock.now += 10.1
    rate_limits.charge(ALICE, SIGNATURES, 2000)


def test_what_costs_more_than_the_whole_budget_takes_all_of_it(clock: Clock) -> None:
    rate_limits = made()
    rate_limits.charge(ALICE, NODE, 10 * NODE.burst)
    assert granted(rate_limits, ALICE, NODE) == 0


def test_budgets_are_separate(clock: Clock) -> None:
    rate_limits = made()
    granted(rate_limits, ALICE, NODE)
    assert granted(rate_limits, ALICE, REQUESTS) == about(REQUESTS.burst)


@pytest.mark.parametrize(("percent", "factor"), [("1", 0.01), ("100", 1), ("250", 2.5)])
def test_the_options_are_percentages(clock: Clock, percent: str, factor: float) -> None:
    rate_limits = made(rate_limit=percent, rate_limit_local="300")
    assert granted(rate_limits, ALICE, REQUESTS) == about(REQUESTS.burst * factor)
    assert granted(rate_limits, LOCAL, REQUESTS) == about(REQUESTS.burst * 3)
    assert granted(rate_limits, ALICE, NODE) == about(int(NODE.burst * factor))
    clock.now += 100
    assert granted(rate_limits, ALICE, NODE) == about(100 * NODE.per_s * factor)


def test_each_of_the_options_is_switched_off_by_itself(clock: Clock) -> None:
    assert granted(made(rate_limit="0"), ALICE, NODE, most=1000) == 1000
    assert granted(made(rate_limit="0", rate_limit_local="100"), LOCAL, NODE, most=1000) == about(NODE.burst)
    assert granted(made(rate_limit_local="0"), LOCAL, NODE, most=1000) == 1000
    assert granted(made(rate_limit_local="0"), ALICE, NODE, most=1000) == about(NODE.burst)


def test_who_comes_from_this_machine_has_more_by_default_but_an_end(clock: Clock) -> None:
    assert granted(made(), LOCAL, NODE) == about(20 * NODE.burst)


def test_no_honest_wallet_meets_the_limits(clock: Clock) -> None:
    """One that restores ten thousand outputs, looks at all of them, swaps them, and then polls each second."""
    rate_limits = made()
    for _ in range(100):
        rate_limits.charge(ALICE, REQUESTS)
        rate_limits.charge(ALICE, LOOKUPS, 100)
        rate_limits.charge(ALICE, REQUESTS)
        rate_limits.charge(ALICE, LOOKUPS, 100)
    for _ in range(100):
        rate_limits.charge(ALICE, REQUESTS)
        rate_limits.charge(ALICE, SIGNATURES, 120)
    for _ in range(3600):
        clock.now += 1
        for _ in range(10):
            rate_limits.charge(ALICE, REQUESTS)
        rate_limits.charge(ALICE, NODE)
        rate_limits.charge(ALICE, SIGNATURES, 60)


def test_a_million_addresses_take_no_more_memory_than_the_limit(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_CLIENTS", 1000)
    rate_limits = made()
    granted(rate_limits, ALICE, NODE)

    def ask(first: int, count: int) -> None:
        for number in range(first, first + count):
            rate_limits.charge(Client(f"2001:db8:{number >> 16:x}:{number & 0xFFFF:x}::/64", shared=False), NODE)

    ask(0, 2000)
    tracemalloc.start()
    try:
        ask(2000, 20_000)
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grown < 1_000_000
    assert granted(rate_limits, ALICE, NODE, most=1) == 1  # long forgotten


def test_who_keeps_asking_is_not_forgotten_for_those_who_come_and_go(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_CLIENTS", 1000)
    rate_limits = made()
    granted(rate_limits, ALICE, NODE)
    for number in range(5000):
        rate_limits.charge(Client(f"198.51.100.{number}", shared=False), NODE)
        if number % 100 == 0:
            with pytest.raises(TooManyRequestsError):
                rate_limits.charge(ALICE, NODE)


def test_websockets_are_counted_while_they_are_open() -> None:
    rate_limits = made()
    with rate_limits.websocket(BOB) as admitted:
        assert admitted
    opened = [rate_limits.websocket(ALICE) for _ in range(limits.MAX_WEBSOCKETS)]
    assert all(one.__enter__() for one in opened)
    with rate_limits.websocket(ALICE) as admitted:
        assert not admitted
    with rate_limits.websocket(BOB) as admitted:
        assert admitted
    opened.pop().__exit__(None, None, None)
    with rate_limits.websocket(ALICE) as admitted:
        assert admitted


@pytest.mark.parametrize("percent", ["100", "2000", "1000000"])
def test_one_client_never_has_more_than_half_of_a_thing(percent: str) -> None:
    rate_limits = made(rate_limit=percent, rate_limit_local=percent)
    for client in (ALICE, LOCAL):
        assert 1 <= rate_limits.share(client, 50, 1000) <= 500
