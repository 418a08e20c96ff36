"""One death, and what came of it: held against the wallet, whoever was paid, the node's money, and the mint's books."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import apsw

from contrib.reliability.crash.flows import Flow
from contrib.reliability.crash.steps import Point, Victim
from contrib.reliability.crash.wallet import ModelWallet
from contrib.reliability.crash.world import TICK_S, World, wait_for
from ledger.audit import audit
from ledger.models import ProofState

REACH_S = 30.0
"""When a flow has ended, all its points have been passed, or are within this time."""
MOST_ASKED = 500
"""Proofs in one question for their states."""


@dataclass(frozen=True, slots=True)
class Money:
    """What the mint and its node say at one moment. `booked`: received less paid out and fees, in msat, by whether it
    was on the chain; `earned_msat`: of this what belongs to no wallet; `unissued_msat`: what a
    wallet has paid for and not fetched."""

    booked_msat: dict[bool, int]
    earned_msat: int
    unissued_msat: int
    channels_msat: int
    coins_msat: int


def look(world: World, wallet: ModelWallet) -> Money:
    """Ask both. The books must balance, and the ecash that is out must be what the wallet has."""
    books: dict[str, Any] = wallet.ask(lambda: world.command("cashu-audit"))
    assert books["balanced"], f"the books do not balance: {books['faults']}"
    assert books["outstanding_msat"] == wallet.balance * 1000, (
        f"the mint owes {books['outstanding_msat']} msat, the wallet has {wallet.balance} sat"
    )
    booked = {False: 0, True: 0}
    for entry in books["methods"]:
        booked[entry["method"] == "onchain"] += (
            entry["received_msat"] - entry["paid_out_msat"] - entry["fees_paid_msat"]
        )
    return Money(booked, books["earned_msat"], books["unissued_msat"], world.channels_msat(), world.coins_sat() * 1000)


def try_flow(world: World, wallet: ModelWallet, flow: Flow) -> None:
    """A flow in peace passes all its points. Raises AssertionError."""
    _begin(wallet)
    run = flow.run(wallet)
    next(run)
    before = look(world, wallet)
    world.forget_trace()
    run_through(world, flow, run)
    reconcile(world, wallet, flow, before)


def run_through(world: World, flow: Flow, run: Iterator[None]) -> None:
    """Let a flow end. Raises AssertionError unless the mint has passed all its points, or soon does."""
    for _ in run:
        pass
    end = time.monotonic() + REACH_S
    while missing := {str(point) for point in flow.points} - set(world.passed()):
        assert time.monotonic() < end, f"{flow.name} does not pass {sorted(missing)}"
        time.sleep(TICK_S)


def try_point(world: World, wallet: ModelWallet, flow: Flow, point: Point, victim: Victim) -> None:
    """A flow during which the mint dies at a point. Raises AssertionError if it doesn't, or if anything is wrong
    afterwards."""
    _begin(wallet)
    run = flow.run(wallet)
    next(run)
    before = look(world, wallet)
    deaths = world.deaths
    world.arm(point, victim)
    next(run, None)
    _die_once(world, deaths, point)
    reconcile(world, wallet, flow, before)


def try_beginning(world: World, flow: Flow, point: Point, victim: Victim) -> ModelWallet:
    """The same for a mint that was never started."""
    world.arm(point, victim)
    world.start()
    wallet = ModelWallet(world)
    _die_once(world, 0, point)
    world.connect()
    before = look(world, wallet)
    for _ in flow.run(wallet):
        pass
    wallet.stock_up()
    reconcile(world, wallet, flow, before)
    return wallet


def _begin(wallet: ModelWallet) -> None:
    wallet.forget()
    wallet.stock_up()


def _die_once(world: World, deaths: int, point: Point) -> None:
    if world.deaths == deaths:
        wait_for(world.has_died, f"the mint to come to {point}", REACH_S)
        world.revive()
    assert world.deaths == deaths + 1, "it died more than once"


def reconcile(world: World, wallet: ModelWallet, flow: Flow, before: Money) -> None:
    """Everybody agrees on what has happened."""
    wallet.load_keysets()
    wait_for(lambda: world.command("cashu-info")["pending_melts"] == 0, "all melts to be decided")
    for request, paid in wallet.payments.decided.items():
        times = world.times_paid(request)
        assert times == (1 if paid else 0), f"a melt is {'PAID' if paid else 'UNPAID'}, but was paid {times} times"
    for proofs, state in ((wallet.proofs, ProofState.UNSPENT), (wallet.spent, ProofState.SPENT)):
        for start in range(0, len(proofs), MOST_ASKED):
            found = wallet.states(proofs[start : start + MOST_ASKED])
            assert found == {state}, f"proofs that must be {state} are {found}"
    after = look(world, wallet)
    assert after.unissued_msat == 0, f"{after.unissued_msat} msat were paid for and can't be issued"
    for onchain, was, now in (
        (False, before.channels_msat + wallet.payments.foreign_msat, after.channels_msat),
        (True, before.coins_msat, after.coins_msat),
    ):
        booked = after.booked_msat[onchain] - before.booked_msat[onchain]
        assert now - was == booked or (onchain and flow.moves_coins), (
            f"the mint booked {booked} msat, the node's {'coins' if onchain else 'channels'} grew by {now - was} msat"
        )
    melts = len(wallet.payments.decided)
    earned_msat = after.earned_msat - before.earned_msat + wallet.payments.lost_msat
    assert 0 <= earned_msat <= melts * 1000, "change was not given back, or too much of it"
    _audit_file(world)
    problems = world.problems()
    assert not problems, "\n".join(problems)


def _audit_file(world: World) -> None:
    """What is on the disk, read by somebody else."""
    db = apsw.Connection(str(world.ledger_path), flags=apsw.SQLITE_OPEN_READONLY)
    db.set_busy_timeout(10_000)
    try:
        db.execute("BEGIN")
        assert audit(db).faults == ()
        assert db.pragma("integrity_check") == "ok"
    finally:
        db.close()
