"""The application by itself, without a mint behind it."""

from __future__ import annotations

import pytest
from quart_schema.openapi import OpenAPIProvider

from plugin.http.app import create_app
from plugin.http.limits import RateLimits
from plugin.methods.bolt11 import Bolt11Method
from plugin.options import parse


async def test_the_description_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the one answer that takes long, and everybody can ask for it."""
    made = []
    make = OpenAPIProvider.schema

    def count(self: OpenAPIProvider) -> dict[str, object]:
        made.append(self)
        return make(self)

    monkeypatch.setattr(OpenAPIProvider, "schema", count)
    client = create_app(lambda: None, [Bolt11Method], RateLimits(parse({}))).test_client()
    answers = [await client.get("/openapi.json") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert len({await answer.get_data() for answer in answers}) == 1
    assert len(made) == 1
