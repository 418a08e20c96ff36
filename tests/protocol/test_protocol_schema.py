"""The API's description, held against what the mint answers; `contrib.reliability.schema` does more of it."""

from __future__ import annotations

import pytest

from contrib.reliability.schema import Count, examine
from tests.plugin.harness import Mint

pytestmark = pytest.mark.slow
pytest.importorskip("schemathesis", reason="needs the extra `fuzz`")

EXAMPLES = 5


def test_every_answer_is_as_described(mint: Mint) -> None:
    counts: dict[str, Count] = {}
    examine(mint, counts, EXAMPLES, seed=1)
    assert {name: count.failures for name, count in counts.items() if count.failures} == {}
    assert len(counts) == 31
    statuses = {status for count in counts.values() for status in count.statuses}
    assert {200, 400} <= statuses
    mint.check()


def test_an_answer_that_is_not_as_described_is_noticed(mint: Mint) -> None:
    document = mint.http.get("/openapi.json").json()
    document["paths"] = {path: document["paths"][path] for path in ("/v1/keysets", "/v1/swap")}
    schema = document["paths"]["/v1/keysets"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    schema["required"].append("nothing")
    del document["paths"]["/v1/swap"]["post"]["responses"]["400"]
    counts: dict[str, Count] = {}
    examine(mint, counts, EXAMPLES, seed=1, description=document)
    assert all(count.failures for count in counts.values())
    assert set(counts) == {"GET /v1/keysets", "POST /v1/swap"}
