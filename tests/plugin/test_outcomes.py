"""Waiting for melts: who gives up, or leaves, is not kept until they are over."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from contrib.fuzz.targets import empty_ledger
from ledger.models import MeltQuote, MeltQuoteState, MeltRequest
from plugin.methods.method import Method, Mint
from plugin.methods.outcomes import Outcomes
from plugin.options import parse
from plugin.tasks import Supervisor

QUOTE = MeltQuote(
    quote="q", method="held", request="r", amount=1, unit="sat", state=MeltQuoteState.PENDING, expiry=2**31
)
REQUEST = MeltRequest(quote="q", inputs=[])


class Held(Method):
    """Melts that are not over before they are told to be."""

    name = "held"

    def __init__(self, mint: Mint) -> None:
        super().__init__(mint)
        self.outcomes = mint.outcomes
        self.begins = asyncio.Event()

    async def _begin(self, request: MeltRequest) -> tuple[MeltQuote, asyncio.Future[MeltQuote]]:
        await self.begins.wait()
        return QUOTE, self.outcomes.expect(request.quote)

    create_mint_quote = create_melt_quote = send = cast(Any, None)


@pytest.fixture
async def method(tmp_path: Path) -> Held:
    supervisor = Supervisor(lambda reason: None)
    outcomes = Outcomes(asyncio.get_running_loop())
    return Held(Mint(parse({}), empty_ledger(tmp_path), outcomes, supervisor))


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_wish_for_async_leaves_nobody_waiting(method: Held) -> None:
    method.begins.set()
    assert await method.melt(REQUEST, True) == QUOTE
    await turns()
    assert not method.outcomes._waiting


@pytest.mark.parametrize("begun", [True, False], ids=["while it is waited for", "while it is begun"])
async def test_who_leaves_is_not_kept(method: Held, begun: bool) -> None:
    if begun:
        method.begins.set()
    waiting = [asyncio.create_task(method.melt(REQUEST, False)) for _ in range(3)]
    await turns()
    assert len(method.outcomes._waiting.get("q", ())) == (3 if begun else 0)
    for task in waiting[:2]:
        task.cancel()
    method.begins.set()
    await turns()
    assert len(method.outcomes._waiting["q"]) == 1
    paid = QUOTE.model_copy(update={"state": MeltQuoteState.PAID})
    method.outcomes._wake(paid)
    assert await waiting[2] == paid
    assert not method.outcomes._waiting
