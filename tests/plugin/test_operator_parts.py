"""What the operator's page is made from, piece by piece."""

from __future__ import annotations

import asyncio
import base64
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from ledger.keysets import Keyset
from ledger.operations.policy import Policy
from ledger.report import Flow
from plugin.node.routes import Liquidity
from plugin.node.runes import is_formed
from plugin.node.view import Funds
from plugin.operator import health
from plugin.operator.health import Check, Facts
from plugin.operator.history import Note, read, write
from plugin.operator.overview import SETTLED_S, Flows, Overview, Steps
from plugin.operator.pulse import Pulse
from plugin.operator.views import OverviewResponse
from plugin.options import parse
from plugin.solvency import Balance, Books, Owned
from tests.ledger.helpers import Mint as LedgerMint

NOW = 1_800_000_000


def rune(restrictions: str) -> str:
    return base64.urlsafe_b64encode(bytes(32) + restrictions.encode()).decode()


@pytest.mark.parametrize(
    "restrictions",
    [
        "=0",
        "=12-3&method=cashu-operator-page",
        "=1&method^list|method^get|method/getsecret&rate=60",
        "=2&pinv_x!&a=b\\&c",
    ],
)
def test_the_node_is_asked_about_what_has_the_form_of_a_rune(restrictions: str) -> None:
    assert is_formed(rune(restrictions))


GOOD = rune("=12-3&method=cashu-operator-page")


@pytest.mark.parametrize(
    "text",
    [
        *("", GOOD + "A", "x" + GOOD, GOOD + "\n", GOOD[:-1], "é", rune("hello"), rune("=0&"), rune("a line")),
        GOOD * 100,
        base64.b64encode(b"\xff" * 40).decode(),
    ],
)
def test_what_has_not_never_reaches_the_node_s_log(text: str) -> None:
    assert not is_formed(text)


BOOKS = Books(
    keysets=(),
    outstanding={"sat": 90},
    outstanding_msat=90_000,
    unissued_msat=10_000,
    earned_msat=5_000,
    melts=1,
    melts_msat=1_000,
)


def balance(owned_msat: int) -> Balance:
    funds = Funds(
        channels=1,
        channels_msat=owned_msat,
        onchain_msat=0,
        confirmed_msat=0,
        unconfirmed_msat=0,
        reserved_msat=0,
    )
    return Balance(BOOKS, Owned(funds, 0), Liquidity(owned_msat, 0))


def keyset(*, active: bool = True, ends_in_s: int | None = None) -> Keyset:
    """Without keys: nobody signs here."""
    return Keyset(1, "01abc", "sat", 0, active, 0, None if ends_in_s is None else NOW + ends_in_s, {}, {})


FACTS = Facts(
    now=NOW,
    balance=balance(100_000),
    books=BOOKS,
    oldest_begun_at=None,
    stuck=0,
    max_outstanding_msat=0,
    policy=Policy(),
    keysets=(),
    units=(),
)


def checks(**changes: object) -> dict[str, Check]:
    return {check.name: check for check in health.check(replace(FACTS, **changes))}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "name", "state", "word"),
    [
        ({}, "Solvency", "good", "Covered"),
        ({"balance": balance(99_999)}, "Solvency", "bad", "NOT COVERED"),
        ({"balance": None}, "Solvency", "bad", "can't be asked"),
        ({}, "Books", "good", "covers"),
        ({"books": replace(BOOKS, earned_msat=-1)}, "Books", "bad", "0.001 sat"),
        ({}, "Melts", "good", "None"),
        ({"oldest_begun_at": NOW - health.OLD_MELT_S}, "Melts", "good", "1 in flight"),
        ({"oldest_begun_at": NOW - health.OLD_MELT_S - 3600}, "Melts", "warn", "25 hours"),
        ({"oldest_begun_at": NOW, "stuck": 2}, "Melts", "bad", "2 in flight"),
        ({"policy": Policy(minting_paused_at=1)}, "Paused", "warn", "paused minting:"),
        ({"policy": Policy(1, 2)}, "Paused", "warn", "minting and melting"),
        ({"max_outstanding_msat": 100_000}, "Room", "warn", "100 %"),
        ({"max_outstanding_msat": 111_111}, "Room", "warn", "90 %"),
        ({"units": ("sat",)}, "Keysets", "bad", "No keyset signs sat"),
        ({"units": ("sat",), "keysets": (keyset(active=False),)}, "Keysets", "bad", "No keyset signs sat"),
        ({"units": ("sat",), "keysets": (keyset(ends_in_s=3 * 86400),)}, "Keysets", "warn", "ends in 3 days"),
    ],
)
def test_health(changes: dict[str, object], name: str, state: str, word: str) -> None:
    found = checks(**changes)[name]
    assert found.state == state
    assert word in found.text


def test_what_is_not_worth_a_word_is_not_said() -> None:
    keysets = (keyset(), keyset(ends_in_s=-1), keyset(ends_in_s=health.KEYSET_ENDS_S))
    found = checks(max_outstanding_msat=112_000, units=("sat",), keysets=keysets)
    assert set(found) == {"Solvency", "Books", "Melts"}


# --- flows ------------------------------------------------------------------------------------------------------------


def test_each_step_is_read_by_itself_and_one_that_is_over_once() -> None:
    flows, asked = Flows(Steps(3, 1000)), []
    rows = [Flow(at, "bolt11", in_msat=at) for at in (1000, 2000, 3000, 4000)]

    def fetch(since: int, until: int) -> list[Flow]:
        asked.append((since, until))
        return [row for row in rows if since <= row.at < until]

    now = 4000 + SETTLED_S - 1  # the one before has just ended, and may still get rows
    assert flows.read(fetch, 2000, now) == rows[1:]
    assert asked == [(2000, 3000), (3000, 4000), (4000, now + 1)]
    rows[2] = Flow(3000, "bolt11", in_msat=9)
    assert flows.read(fetch, 2000, now + 1) == rows[1:]
    assert asked[3:] == [(3000, 4000), (4000, now + 2)]
    rows[3] = Flow(4000, "bolt11", in_msat=10)
    assert flows.read(fetch, 3000, now + 2) == rows[2:]
    assert asked[5:] == [(4000, now + 3)]
    assert flows.read(fetch, 9000, 9500) == []
    assert flows.read(fetch, 2000, 3000) == []  # a clock that was put back: nothing is known of that time, nor read


# --- the balance's history --------------------------------------------------------------------------------------------


def test_notes_come_back_as_they_were_stored() -> None:
    notes = [Note(NOW, 1, 2), Note(NOW + 1, 2**53 + 1, 0)]
    assert read(write(reversed(notes))) == notes


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "{}",
        "1",
        "[1]",
        "[[1, 2]]",
        "[[1, 2, 3, 4]]",
        '[["a", 1, 2]]',
        "[" * 9999,
        "[[1e400, 1, 1]]",
        "[[1e30, 1, 1]]",
        "[[-1, 1, 1]]",
    ],
)
def test_what_is_no_note_is_left_out(text: str) -> None:
    assert read(text) == []


# --- the pulse --------------------------------------------------------------------------------------------------------


async def test_who_is_late_is_told_once() -> None:
    pulse = Pulse(asyncio.get_running_loop())
    for _ in range(5):
        pulse.beat()
    assert await pulse.after(0) == 5
    waiting = [asyncio.ensure_future(pulse.after(5)) for _ in range(3)]
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    pulse.beat()
    assert await asyncio.gather(*waiting) == [6, 6, 6]


async def test_nobody_waits_beyond_the_end() -> None:
    pulse = Pulse(asyncio.get_running_loop())
    waiting = asyncio.ensure_future(pulse.after(0))
    await asyncio.sleep(0)
    pulse.close()
    assert await waiting == 0
    assert await pulse.after(0) == 0


async def test_listeners_are_counted() -> None:
    pulse = Pulse(asyncio.get_running_loop())
    with pulse.listening(), pulse.listening():
        assert pulse.listeners == 2
    assert pulse.listeners == 0


# --- the whole --------------------------------------------------------------------------------------------------------


async def test_what_lives_in_the_event_loop_is_not_read_beside_it(tmp_path: Path) -> None:
    """Melts and notes come and go there, also while a worker thread reads the ledger's rows."""
    here = threading.get_ident()
    seen = []

    class InLoop:
        """Stands for all that belongs to the event loop."""

        def stuck(self) -> list[object]:
            seen.append(("stuck", threading.get_ident()))
            return []

        def points(self, _since: int, _step_s: int) -> list[Note]:
            seen.append(("points", threading.get_ident()))
            return [Note(NOW, 1, 2)]

        async def balance(self) -> Balance:
            return balance(100_000)

    mint, parts = LedgerMint(tmp_path / "ledger.sqlite3"), cast(Any, InLoop())
    pulse = Pulse(asyncio.get_running_loop())
    overview = Overview(parse({}), mint.ledger, parts, parts, parts, pulse, parts)
    found = OverviewResponse.model_validate_json(await overview.answer("day"))
    mint.close()
    assert [note.owned_msat for note in found.history] == [2]
    assert seen == [("stuck", here), ("points", here)]
