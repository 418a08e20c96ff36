"""A few clients race for everything, as hundreds of them do in `contrib.reliability.races`."""

from __future__ import annotations

import random

import pytest

from contrib.reliability.races import RACES, Answer, Track, WrongError
from ledger.errors import Code
from tests.plugin.harness import Mint

CLIENTS = 12


@pytest.fixture(scope="module")
def track(mint: Mint) -> Track:
    return Track(mint, CLIENTS, random.Random(1))


@pytest.mark.parametrize("kind", RACES)
def test_a_race(track: Track, kind: str) -> None:
    track.run(kind)
    assert track.counts[kind].requests == CLIENTS
    track.mint.check()


def test_two_winners_none_and_a_wrong_code_are_found_out() -> None:
    won, lost = Answer(None, "{}"), Answer(11001, "spent")
    assert Track.one_wins([lost, won], Code.PROOFS_SPENT) == 1
    for answers in ([won, won], [lost], [won, Answer(0, "500")], [won, Answer(20005, "other")]):
        with pytest.raises(WrongError):
            Track.one_wins(answers, Code.PROOFS_SPENT)
