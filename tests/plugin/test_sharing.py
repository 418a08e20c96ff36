"""One question for all who want to know the same."""

from __future__ import annotations

import asyncio

import pytest

from contrib.sandbox import Behaviour
from plugin.node.sharing import Shared
from tests.plugin.harness import PATIENCE_S, Mint, Purse, wait_for

ASKING = 50
MELTS = 20


class Question:
    """Answers with how often it was asked, when it is let."""

    def __init__(self) -> None:
        self.asked = 0
        self.may_answer = asyncio.Event()
        self.failing = False

    async def ask(self) -> int:
        self.asked += 1
        answer = self.asked
        await self.may_answer.wait()
        if self.failing:
            raise OSError(answer)
        return answer


async def started(question: Question, times: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while question.asked < times:  # noqa: ASYNC110 - there is nothing to wait for
            await asyncio.sleep(0)


async def test_all_who_come_while_it_is_asked_share_the_next_answer() -> None:
    question = Question()
    shared = Shared(question.ask)
    first = asyncio.create_task(shared.get())
    await started(question, 1)
    others = [asyncio.create_task(shared.get()) for _ in range(ASKING)]
    await asyncio.sleep(0)
    assert question.asked == 1
    question.may_answer.set()
    assert await first == 1
    assert await asyncio.gather(*others) == [2] * ASKING
    assert await shared.get() == 3


async def test_a_failure_is_told_to_all_and_the_next_one_asks_again() -> None:
    question = Question()
    question.failing = True
    question.may_answer.set()
    shared = Shared(question.ask)
    results = await asyncio.gather(*(shared.get() for _ in range(ASKING)), return_exceptions=True)
    assert all(isinstance(result, OSError) for result in results)
    question.failing = False
    assert await shared.get() == question.asked


async def test_one_who_gives_up_leaves_the_others_their_answer() -> None:
    question = Question()
    shared = Shared(question.ask)
    impatient, patient = asyncio.create_task(shared.get()), asyncio.create_task(shared.get())
    await started(question, 1)
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    question.may_answer.set()
    assert await patient == 1


def test_after_a_restart_of_the_node_its_htlcs_are_not_listed_for_each_melt(mint: Mint, purse: Purse) -> None:
    melts = [purse.hold(1, Behaviour.hold(fee_msat=0)) for _ in range(MELTS)]
    position = mint.node.calls_position
    mint.restart_node(kill=True)
    wait_for(lambda: len(mint.node.calls("listsendpays", since=position)) >= MELTS, "all melts to be looked at")
    for melt in melts:
        mint.node.release(str(melt.invoice))
        purse.wait_final(melt)
    assert 0 < len(mint.node.calls("listhtlcs", since=position)) < MELTS // 2
