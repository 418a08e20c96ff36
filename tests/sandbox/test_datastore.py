"""The datastore's modes, generations and refusals."""

from __future__ import annotations

import pytest

from contrib.sandbox import SandboxNode
from tests.sandbox.conftest import MakeNode, failure


def test_create_replace_append_and_delete(node: SandboxNode) -> None:
    key = ["cashu", "x"]
    first = node.rpc("datastore", key=key, string="hello")
    assert first == {"key": key, "generation": 0, "hex": "68656c6c6f", "string": "hello"}
    second = node.rpc("datastore", key=key, string="hello2", mode="must-replace", generation=0)
    assert second == {"key": key, "generation": 1, "hex": "68656c6c6f32", "string": "hello2"}
    assert node.rpc("listdatastore", key="cashu") == {"datastore": [second]}
    assert node.rpc("listdatastore", key=key) == {"datastore": [second]}
    assert node.rpc("listdatastore") == {"datastore": [{"key": ["cashu"]}]}
    assert node.rpc("datastore", key="q", hex="ff00") == {"key": ["q"], "generation": 0, "hex": "ff00"}
    appended = node.rpc("datastore", key="q", hex="ff00", mode="must-append")
    assert (appended["generation"], appended["hex"]) == (1, "ff00ff00")
    assert node.rpc("deldatastore", key="q") == {"key": ["q"], "generation": 1, "hex": "ff00ff00"}
    assert node.rpc("listdatastore", key="q") == {"datastore": []}


@pytest.mark.parametrize(
    ("params", "code", "message"),
    [
        ({"key": ["a", "b"], "string": "x"}, 1202, "Key already exists"),
        ({"key": "q", "string": "x", "mode": "must-replace"}, 1203, "Key does not exist"),
        (
            {"key": ["a", "b"], "string": "x", "mode": "must-replace", "generation": 5},
            1204,
            "generation is different",
        ),
        ({"key": ["a"], "string": "x"}, 1205, "Key has children already"),
        ({"key": ["a", "b", "c"], "string": "x"}, 1206, "Parent key [a,b] exists"),
        ({"key": "q"}, -32602, "Must have either hex or string"),
        ({"key": "q", "string": "x", "hex": "00"}, -32602, "Cannot have both hex and string"),
        (
            {"key": "q", "string": "x", "generation": 1},
            -32602,
            "generation only valid with must-replace or must-append",
        ),
    ],
)
def test_refusals(node: SandboxNode, params: dict[str, object], code: int, message: str) -> None:
    node.rpc("datastore", key=["a", "b"], string="x")
    error = failure(node, "datastore", **params)
    assert (error.code, error.message) == (code, message)


def test_refused_deletions(node: SandboxNode) -> None:
    node.rpc("datastore", key="a", string="x")
    assert failure(node, "deldatastore", key="none").code == 1200
    assert failure(node, "deldatastore", key="a", generation=9).code == 1201


def test_survives_the_sandbox(make_node: MakeNode) -> None:
    node = make_node()
    node.rpc("datastore", key=["a", "b"], string="x")
    secret = node.rpc("makesecret", string="s")
    node_id = node.id
    node.stop()
    again = make_node()
    assert again.id == node_id
    assert again.rpc("makesecret", hex="73") == secret
    assert again.rpc("listdatastore", key="a")["datastore"][0]["string"] == "x"
