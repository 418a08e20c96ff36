"""Nodes to try: one without a plugin, one with the small plugin of this directory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from contrib.sandbox import RpcError, SandboxNode

FAKE_PLUGIN = Path(__file__).parent / "fake_plugin.py"

MakeNode = Callable[..., SandboxNode]


@pytest.fixture
def make_node(tmp_path: Path) -> Iterator[MakeNode]:
    """Make nodes that are stopped at the end; without a directory they share one, as one node over restarts."""
    nodes: list[SandboxNode] = []

    def make(directory: Path | None = None, **settings: Any) -> SandboxNode:
        node = SandboxNode(directory or tmp_path / "node", **settings)
        nodes.append(node)
        return node.start()

    yield make
    for node in nodes:
        node.stop()


@pytest.fixture
def node(make_node: MakeNode) -> SandboxNode:
    """A node without a plugin."""
    return make_node()


@pytest.fixture
def plugged(make_node: MakeNode) -> SandboxNode:
    """A node with the small plugin."""
    return make_node(plugin=FAKE_PLUGIN)


def failure(node: SandboxNode, method: str, **params: Any) -> RpcError:
    """The error a command answers."""
    with pytest.raises(RpcError) as caught:
        node.rpc(method, **params)
    return caught.value


def topics(node: SandboxNode) -> list[str]:
    """The topics of all notifications so far."""
    return [entry.topic for entry in node.notifications()]
