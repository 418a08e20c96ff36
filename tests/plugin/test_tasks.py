"""Background tasks."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar

import pytest

from plugin.tasks import Supervisor

request: ContextVar[str] = ContextVar("request")


async def test_a_task_keeps_nothing_of_the_request_that_started_it() -> None:
    """A payment may take days."""
    supervisor = Supervisor(pytest.fail)

    async def look() -> str | None:
        return request.get(None)

    request.set("a request with its body")
    assert await asyncio.create_task(look()) is not None
    assert await supervisor.spawn("look", look()) is None
