"""Fixtures of the tests that run the real plugin in a stand-in node."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from contrib.fuzz import server
from tests.plugin.harness import UNSPENT, Mint, Purse, running
from tests.plugin.hostile import CHECK_STATE, Target, attacked

MakeMint = Callable[..., Mint]


@pytest.fixture(autouse=True)
def _for_life() -> Iterator[None]:
    """What a test has from the fuzzer's targets ends with it."""
    yield
    server.FOR_LIFE.close()


@pytest.fixture(scope="module")
def mint(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Mint]:
    """The mint that the tests of a module share, with its OPTIONS; its CONSTANTS are changed inside, and it can die at
    its POINTS."""
    mint = Mint(tmp_path_factory.mktemp("node"), **getattr(request.module, "OPTIONS", {}))
    mint.change_inside(
        constants=getattr(request.module, "CONSTANTS", {}),
        die=getattr(request.module, "POINTS", ()),
    )
    with running(mint):
        yield mint


@pytest.fixture
def purse(mint: Mint) -> Iterator[Purse]:
    """A purse of the shared mint, which is checked after the test."""
    yield Purse(mint)
    mint.check()


@pytest.fixture(scope="module")
def shared_target(mint: Mint) -> Iterator[Target]:
    """What the tests of a module attack. In the end every good request is granted."""
    with attacked(mint) as target:
        yield target


@pytest.fixture
def target(shared_target: Target) -> Iterator[Target]:
    """What a test attacks: afterwards it serves others as ever, and has logged nothing as broken."""
    yield shared_target
    answer = shared_target.mint.http.post(CHECK_STATE, json=shared_target.good[CHECK_STATE])
    assert {entry["state"] for entry in answer.json()["states"]} == {UNSPENT}
    shared_target.mint.check()


@pytest.fixture
def make_mint(tmp_path: Path) -> Iterator[MakeMint]:
    """Makes mints of a test's own. They are stopped and checked in the end; pass `started=False` to start it later."""
    with ExitStack() as stack:
        count = 0

        def make(*, started: bool = True, **options: Any) -> Mint:
            nonlocal count
            count += 1
            mint = Mint(tmp_path / str(count), **options)
            stack.callback(mint.check)
            stack.callback(mint.stop)
            stack.callback(mint.check)
            if started:
                mint.start()
            return mint

        yield make
