"""The crash matrix on a real node and chain: the plugin or lightningd gets kill -9 at each durable step."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from contrib.reliability.crash.matrix import Matrix, Trial, trials
from tests.node.crash_world import node_matrix
from tests.node.harness import Network

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def matrix(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Matrix]:
    """Performs the trials of this module."""
    with node_matrix(network, tmp_path_factory.mktemp("crash")) as matrix:
        yield matrix


@pytest.mark.parametrize("trial", list(trials(staged=False)), ids=str)
def test_nothing_is_lost_or_doubled(matrix: Matrix, trial: Trial) -> None:
    matrix.perform(trial)
