"""`getroutes`: shapes and refusals are those of a real node (tests/node asks one the same)."""

from __future__ import annotations

from typing import Any

import pytest

from contrib.sandbox import ForeignInvoices, Hop, Route, SandboxNode
from tests.sandbox.conftest import MakeNode, failure

STRANGER = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
XPAYS_LAYERS = ["auto.localchans", "auto.sourcefree", "xpay"]


def request(node: SandboxNode, **changes: Any) -> dict[str, Any]:
    """The parameters for a payment of 1000 sat to the outside node."""
    return {
        "source": node.id,
        "destination": node.node.outside.node_id,
        "amount_msat": 1_000_000,
        "layers": XPAYS_LAYERS,
        "maxfee_msat": 10_000,
        "final_cltv": 18,
        **changes,
    }


def test_two_hops(node: SandboxNode) -> None:
    node.set_routes(Route(fee_msat=11))
    answer = node.rpc("getroutes", **request(node))
    (route,) = answer["routes"]
    assert list(answer) == ["probability_ppm", "routes"]
    assert list(route) == ["probability_ppm", "amount_msat", "final_cltv", "path"]
    first, second = route["path"]
    assert list(first) == list(second)
    assert first | {"short_channel_id_dir": ""} == {
        "short_channel_id_dir": "",
        "node_id_in": node.id,
        "node_id_out": node.node.outside.peer_id,
        "amount_in_msat": 1_000_011,
        "amount_out_msat": 1_000_011,
        "cltv_in": 24,
        "cltv_out": 24,
    }
    assert second | {"short_channel_id_dir": ""} == {
        "short_channel_id_dir": "",
        "node_id_in": node.node.outside.peer_id,
        "node_id_out": node.node.outside.node_id,
        "amount_in_msat": 1_000_011,
        "amount_out_msat": 1_000_000,
        "cltv_in": 24,
        "cltv_out": 18,
    }


def test_without_sourcefree_the_own_fee_is_in_what_comes_in(node: SandboxNode) -> None:
    node.set_routes(Route(fee_msat=11))
    (route,) = node.rpc("getroutes", **request(node, layers=["auto.localchans"]))["routes"]
    assert [(hop["amount_in_msat"], hop["amount_out_msat"]) for hop in route["path"]] == [
        (1_000_022, 1_000_011),
        (1_000_011, 1_000_000),
    ]


def test_the_peer_is_reached_for_nothing(node: SandboxNode) -> None:
    (route,) = node.rpc("getroutes", **request(node, destination=node.node.outside.peer_id, maxfee_msat=0))["routes"]
    (hop,) = route["path"]
    assert (hop["node_id_out"], hop["amount_out_msat"]) == (node.node.outside.peer_id, 1_000_000)


def test_several_routes_share_the_amount(node: SandboxNode) -> None:
    node.set_routes(Route(5), Route(7), Route(hops=4))
    routes = node.rpc("getroutes", **request(node))["routes"]
    assert [route["amount_msat"] for route in routes] == [333_334, 333_333, 333_333]
    assert [r["path"][0]["amount_out_msat"] - r["amount_msat"] for r in routes] == [5, 7, 0]
    assert [len(route["path"]) for route in routes] == [2, 2, 4]
    assert all(r["path"][-1]["node_id_out"] == node.node.outside.node_id for r in routes)


@pytest.mark.parametrize(
    ("changes", "code", "text"),
    [
        ({"amount_msat": 0}, -32602, "amount must be non-zero"),
        ({"layers": ["auto.no_mpp_support"]}, -32602, "layers: unknown layer"),
        ({"layers": "xpay"}, -32602, "layers: "),
        ({"destination": "02" + "00" * 32}, -32602, "destination: should be a node id"),
        ({"destination": "103x1x0/1"}, -32602, "destination: should be a node id"),
        ({"maxdelay": 2017}, 217, "maximum delay allowed is 2016"),
        ({"maxfee_msat": 999}, 206, "Could not find route without excessive cost"),
        ({"maxdelay": 20}, 206, "Could not find route without excessive delays"),
        ({"maxfee_msat": None}, -32602, "missing required parameter: maxfee_msat"),
        ({"final_cltv": None}, -32602, "missing required parameter: final_cltv"),
        ({"amount_msat": 10**12}, 205, "auto.localchans says max is 490000000000msat"),
    ],
    ids=str,
)
def test_refusals(node: SandboxNode, changes: dict[str, Any], code: int, text: str) -> None:
    error = failure(node, "getroutes", **request(node, **changes))
    assert error.code == code
    assert text in error.message


def test_unknown_and_forgotten_destinations(node: SandboxNode) -> None:
    error = failure(node, "getroutes", **request(node, destination=STRANGER))
    assert (error.code, error.message) == (205, f"Unknown destination node {STRANGER}")
    node.set_routes()
    assert failure(node, "getroutes", **request(node)).code == 205
    node.reset_routes()
    assert node.rpc("getroutes", **request(node))["routes"]


def test_the_way_to_oneself_crashes_askrene(node: SandboxNode) -> None:
    error = failure(node, "getroutes", **request(node, destination=node.id))
    assert (error.code, error.message) == (-1, "child died with signal 6")
    assert any(line.level == "broken" and "cln-askrene" in line.source for line in node.log())


def test_no_peer_no_route(node: SandboxNode) -> None:
    node.set_channel(connected=False)
    error = failure(node, "getroutes", **request(node))
    assert error.code == 205
    assert "All 1 channels to the source are disabled." in error.message


def test_who_pays_strangers_knows_the_way_to_them(make_node: MakeNode) -> None:
    node = make_node(foreign=ForeignInvoices(True))
    (route,) = node.rpc("getroutes", **request(node, destination=STRANGER))["routes"]
    assert route["path"][0]["amount_out_msat"] - 1_000_000 == node.settings.default_fee_msat


def test_hints_stand_in_an_outside_invoice(node: SandboxNode) -> None:
    hop = Hop(bytes.fromhex(node.node.outside.peer_id), 105 << 40 | 1 << 16, 1, 10, 6)
    shown = node.rpc("decode", string=node.outside_invoice(1000, hints=((hop,), (hop, hop))).bolt11)
    one = {
        "pubkey": node.node.outside.peer_id,
        "short_channel_id": "105x1x0",
        "fee_base_msat": 1,
        "fee_proportional_millionths": 10,
        "cltv_expiry_delta": 6,
    }
    assert shown["routes"] == [[one], [one, one]]


def test_further_channels_are_shown(node: SandboxNode) -> None:
    node.settings.further_channels.append({"short_channel_id": "104x1x0", "spendable_msat": 7})
    first, second = node.rpc("listpeerchannels")["channels"]
    assert (second["short_channel_id"], second["spendable_msat"], second["state"]) == ("104x1x0", 7, "CHANNELD_NORMAL")
    assert first["short_channel_id"] == "103x1x0"
