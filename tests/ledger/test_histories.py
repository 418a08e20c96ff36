"""Random histories (`histories.machine`): the same ones every day, and more of them in the slow suite. Thousands with a
new seed each time are run by `contrib.reliability.histories`."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest

from ledger import curve
from tests.ledger.histories.machine import Histories, histories


@pytest.fixture(autouse=True, scope="module")
def _keys_are_derived_once() -> Iterator[None]:
    """All histories have the same seed: deriving its keys again and again would take most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curve, "public_key", functools.cache(curve.public_key))
        yield


TestHistories = pytest.mark.timeout(900)(Histories.TestCase)
"""Enough to find what is wrong in general."""
TestHistories.settings = histories(count=40, steps=60)


class ManyHistories(Histories):
    """The same, for a test of its own."""


TestManyHistories = pytest.mark.slow(pytest.mark.timeout(3600)(ManyHistories.TestCase))
"""Enough to find what is wrong in rare cases."""
TestManyHistories.settings = histories(count=100, steps=100)
