"""Fixtures of the tests of the protocol: the real plugin in a stand-in node."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.plugin.harness import Mint, Purse, running
from tests.protocol.helpers import Socket

MakeMint = Callable[..., Mint]


@pytest.fixture(scope="module")
def mint(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Mint]:
    """The mint that the tests of a module share, with its OPTIONS; its CONSTANTS are changed inside. In the end its
    books must balance, and nothing may have been logged as broken."""
    mint = Mint(tmp_path_factory.mktemp("node"), **getattr(request.module, "OPTIONS", {}))
    mint.change_inside(constants=getattr(request.module, "CONSTANTS", {}))
    with running(mint):
        yield mint


@pytest.fixture
def purse(mint: Mint) -> Iterator[Purse]:
    """A purse of the shared mint, which is checked after the test."""
    yield Purse(mint)
    mint.check()


@pytest.fixture
def ws(mint: Mint) -> Iterator[Socket]:
    """A WebSocket connection to the shared mint."""
    with Socket(mint) as socket:
        yield socket


@pytest.fixture
def make_mint(tmp_path: Path) -> Iterator[Callable[..., Mint]]:
    """Makes a mint of a test's own. It is stopped and checked in the end."""
    with ExitStack() as stack:

        def make(*, constants: dict[str, Any] | None = None, **options: Any) -> Mint:
            mint = Mint(tmp_path / "node", **options)
            mint.change_inside(constants=constants or {})
            return stack.enter_context(running(mint))

        yield make
