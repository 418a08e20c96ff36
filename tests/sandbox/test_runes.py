"""Runes in the stand-in: accepted, and refused with the node's codes."""

from __future__ import annotations

import base64
import time
from typing import Any

import pytest

from contrib.sandbox import RpcError, SandboxNode


def refusal(node: SandboxNode, **params: Any) -> int:
    with pytest.raises(RpcError) as caught:
        node.rpc("checkrune", **params)
    return caught.value.code


@pytest.mark.parametrize(
    ("restrictions", "method", "code"),
    [
        (None, "anything", None),
        ([["method=cashu-info"]], "cashu-info", None),
        ([["method=cashu-info"]], "cashu-infos", 1502),
        ([["method=a", "method=b"]], "b", None),
        ([["method=a"], ["method=b"]], "b", 1502),
        ([["method^cashu-"], ["method/cashu-rotate"]], "cashu-info", None),
        ([["method^cashu-"], ["method/cashu-rotate"]], "cashu-rotate", 1502),
        ("readonly", "listpeers", None),
        ("readonly", "listdatastore", 1502),
        ("readonly", "cashu-info", 1502),
        ([["time<10"]], "a", 1502),
        ([[f"time<{int(time.time()) + 10_000}"]], "a", None),
        ([["rate=1"]], "a", 1502),
    ],
)
def test_restrictions(node: SandboxNode, restrictions: object, method: str, code: int | None) -> None:
    rune = node.rpc("createrune", restrictions=restrictions)["rune"]
    if code is None:
        assert node.rpc("checkrune", rune=rune, method=method, params={}) == {"valid": True}
    else:
        assert refusal(node, rune=rune, method=method, params={}) == code


def test_other_texts_are_no_runes(node: SandboxNode) -> None:
    other = base64.urlsafe_b64encode(bytes(40)).decode()
    assert refusal(node, rune=other, method="a") == 1501
    assert refusal(node, rune="x", method="a") == -32602
    assert refusal(node, method="a") == -32602


def test_a_blacklisted_rune_is_refused_and_another_is_not(node: SandboxNode) -> None:
    first, second = node.rpc("createrune"), node.rpc("createrune")
    node.rpc("blacklistrune", start=int(first["unique_id"]))
    assert refusal(node, rune=first["rune"], method="a") == 1503
    assert node.rpc("checkrune", rune=second["rune"], method="a") == {"valid": True}
