"""The chain and the on-chain wallet, with the oddities that were measured on a real node."""

from __future__ import annotations

from typing import Any

import pytest

from contrib.sandbox import SandboxNode
from contrib.sandbox.node import Node
from plugin.node.psbt import Psbt
from tests.sandbox.conftest import MakeNode, failure

COIN_SAT = 100_000


@pytest.fixture
def rich(node: SandboxNode) -> SandboxNode:
    """A node with three coins."""
    node.chain.give_coins(COIN_SAT, COIN_SAT, COIN_SAT)
    return node


def funds(node: SandboxNode, *, spent: bool = False) -> list[dict[str, Any]]:
    outputs: list[dict[str, Any]] = node.rpc("listfunds", spent=spent)["outputs"]
    return outputs


def fund(node: SandboxNode, **options: Any) -> dict[str, Any]:
    """`utxopsbt` of the first free coin."""
    coin = next(row for row in funds(node) if row["status"] == "confirmed" and not row["reserved"])
    wanted = {"satoshi": "20000sat", "feerate": "1000perkw", "startweight": 166, "excess_as_change": True}
    return node.rpc("utxopsbt", **{**wanted, **options}, utxos=[f"{coin['txid']}:{coin['output']}"])


def payment(node: SandboxNode) -> str:
    """A signed PSBT that pays 20 000 sat to somebody."""
    psbt = fund(node)["psbt"]
    address = node.chain.outside_address()
    psbt = node.rpc("addpsbtoutput", satoshi="20000sat", initialpsbt=psbt, destination=address)["psbt"]
    return str(node.rpc("signpsbt", psbt=psbt)["signed_psbt"])


def test_a_deposit_is_seen_with_its_first_block_and_only_then(node: SandboxNode) -> None:
    address = node.rpc("newaddr", addresstype="p2tr")["p2tr"]
    assert address.startswith("bcrt1p")
    txid = node.chain.deposit(address, COIN_SAT)
    assert (funds(node), node.notifications("coin_movement")) == ([], [])
    node.chain.mine(2)
    (row,) = funds(node)
    assert (row["txid"], row["address"], row["status"], row["amount_msat"]) == (txid, address, "confirmed", 10**8)
    (move,) = node.rpc("listchainmoves", index="created", start=1)["chainmoves"]
    assert (move["utxo"], move["primary_tag"], move["blockheight"]) == (f"{txid}:0", "deposit", row["blockheight"])
    heard = [entry.topic for entry in node.notifications() if entry.topic in ("coin_movement", "block_added")]
    assert heard == ["coin_movement", "block_added", "block_added"]


def test_getinfo_is_late(node: SandboxNode) -> None:
    height = node.rpc("getinfo")["blockheight"]

    def mine_and_ask(inside: Node) -> int:
        inside.mine()
        return inside.told_height

    assert node.do(mine_and_ask) == height
    node.wait_until(lambda: node.rpc("getinfo")["blockheight"] == height + 1)


def test_a_block_that_is_replaced_takes_outputs_back_but_no_moves(rich: SandboxNode) -> None:
    height = rich.chain.mine(0)
    rich.chain.reorganise(1, 1)
    assert {row["status"] for row in funds(rich)} == {"confirmed"}, "a rival of equal height is not followed"
    rich.chain.mine(1, empty=True)
    assert {row["status"] for row in funds(rich)} == {"unconfirmed"}
    assert {tx["blockheight"] for tx in rich.rpc("listtransactions")["transactions"]} == {0}
    rich.chain.mine()
    assert {row["blockheight"] for row in funds(rich)} == {height + 2}
    assert {move["blockheight"] for move in rich.rpc("listchainmoves")["chainmoves"]} == {height}


def test_a_payment_from_end_to_end(rich: SandboxNode) -> None:
    signed = payment(rich)
    sent = rich.rpc("sendpsbt", psbt=signed, reserve=0)
    read = Psbt.parse(signed)
    assert (sent["txid"], bytes.fromhex(sent["tx"])) == (read.tx.txid.hex(), read.signed)
    assert read.fee_sat == rich.chain.fee_of(sent["txid"]) == 166 + 230 + 172
    assert rich.rpc("sendpsbt", psbt=signed, reserve=0)["txid"] == sent["txid"]
    assert sorted(row["status"] for row in funds(rich)) == ["confirmed"] * 3 + ["unconfirmed"]
    rich.chain.mine()
    assert len(funds(rich)) == 3
    (spent,) = [row for row in funds(rich, spent=True) if row["status"] == "spent"]
    assert "blockheight" not in spent
    withdrawal, _ = rich.rpc("listchainmoves", index="created", start=4)["chainmoves"]
    assert (withdrawal["primary_tag"], withdrawal["spending_txid"]) == ("withdrawal", sent["txid"])
    error = failure(rich, "sendpsbt", psbt=signed)
    assert error.code == -1
    assert "already in utxo set" in error.message


def test_a_lost_reply_looks_as_if_nothing_was_sent(rich: SandboxNode) -> None:
    signed = payment(rich)
    rich.chain.lose_replies()
    assert "Unsent tx discarded" in failure(rich, "sendpsbt", psbt=signed).message
    txid = Psbt.parse(signed).tx.txid.hex()
    assert rich.chain.mempool() == [txid]
    assert txid not in {tx["hash"] for tx in rich.rpc("listtransactions")["transactions"]}
    assert rich.rpc("getutxout", txid=txid, vout=1)["amount"] == "20000sat"
    assert rich.rpc("sendpsbt", psbt=signed)["txid"] == txid


def test_coins_are_reserved_until_a_height(rich: SandboxNode) -> None:
    made = fund(rich, reserve=2)
    height = rich.chain.mine(0)
    assert [entry["reserved_to_block"] for entry in made["reservations"]] == [height + 2]
    assert sum(row["reserved"] for row in funds(rich)) == 1
    assert failure(rich, "reserveinputs", psbt=made["psbt"]).code == -32602
    rich.rpc("reserveinputs", psbt=made["psbt"], exclusive=False, reserve=1)
    rich.chain.mine(2)
    assert sum(row["reserved"] for row in funds(rich)) == 1
    rich.chain.mine(1)
    assert sum(row["reserved"] for row in funds(rich)) == 0
    assert "is not reserved" in failure(rich, "signpsbt", psbt=made["psbt"]).message
    assert rich.rpc("unreserveinputs", psbt=made["psbt"]) == {"reservations": []}


def test_a_coin_whose_spending_was_taken_back_is_spent_for_commands(rich: SandboxNode) -> None:
    signed = payment(rich)
    rich.rpc("sendpsbt", psbt=signed)
    rich.chain.mine()
    rich.chain.reorganise(1)
    assert "already spent" in failure(rich, "reserveinputs", psbt=signed, exclusive=False).message
    assert {row["status"] for row in funds(rich, spent=True)} == {"confirmed", "unconfirmed"}


@pytest.mark.parametrize(
    ("options", "code"),
    [({"satoshi": "99999sat"}, 301), ({"satoshi": "1000sat", "feerate": "slow"}, None), ({"feerate": "x"}, -32602)],
)
def test_check_says_what_would_be_said(rich: SandboxNode, options: dict[str, Any], code: int | None) -> None:
    coin = funds(rich)[0]
    wanted = {"satoshi": "20000sat", "feerate": "1000perkw", "startweight": 166, "excess_as_change": True}
    asked = {**wanted, **options, "command_to_check": "utxopsbt", "utxos": [f"{coin['txid']}:{coin['output']}"]}
    if code is None:
        assert rich.rpc("check", **asked) == {"command_to_check": "utxopsbt"}
    else:
        assert failure(rich, "check", **asked).code == code
    assert not any(row["reserved"] for row in funds(rich))


def test_what_channels_need_is_kept(node: SandboxNode) -> None:
    node.chain.give_coins(40_000)
    coin = funds(node)[0]
    asked: dict[str, Any] = {
        "feerate": "253perkw",
        "startweight": 166,
        "utxos": [f"{coin['txid']}:{coin['output']}"],
    }
    assert failure(node, "utxopsbt", satoshi="20000sat", excess_as_change=True, **asked).code == 313
    node.rpc("utxopsbt", satoshi="10000sat", excess_as_change=True, **asked)


def test_everything_is_there_again_after_a_restart(make_node: MakeNode) -> None:
    node = make_node()
    node.chain.give_coins(COIN_SAT, COIN_SAT)
    fund(node, reserve=1000)
    before, height = funds(node), node.chain.mine(0)
    node.stop()
    again = make_node(replay_blocks=0)
    assert (funds(again), again.chain.mine(0)) == (before, height)
    assert again.rpc("wait", subsystem="chainmoves", indexname="created", nextvalue=0)["created"] == 2


def test_after_a_restart_the_last_blocks_are_read_again(make_node: MakeNode) -> None:
    node = make_node(replay_blocks=2, replay_delay_s=0.01)
    node.wait_until(lambda: node.do(lambda inside: not inside.is_replaying))
    node.chain.give_coins(COIN_SAT)
    node.chain.mine()
    moves, since = len(node.notifications("coin_movement")), node.notifications_position
    node.restart(kill=True)
    node.wait_for_notification("block_added", since=since, count=2)
    assert len(node.notifications("coin_movement")) == moves
    assert [row["status"] for row in funds(node)] == ["confirmed"]


def test_automatically_addresses_are_paid_and_payments_confirmed(make_node: MakeNode) -> None:
    node = make_node(auto=True, auto_delay_s=0.02)
    assert funds(node)
    address = node.rpc("newaddr")["p2tr"]
    node.wait_until(lambda: address in {row["address"] for row in funds(node)})
    txid = node.rpc("sendpsbt", psbt=payment(node))["txid"]
    node.wait_until(lambda: _listed(node, txid)["blockheight"] > 0)


def _listed(node: SandboxNode, txid: str) -> dict[str, Any]:
    (found,) = [tx for tx in node.rpc("listtransactions")["transactions"] if tx["hash"] == txid]
    assert isinstance(found, dict)
    return found


def test_without_bitcoind_little_is_known(rich: SandboxNode) -> None:
    signed = payment(rich)
    rich.chain.set_down(True)
    assert failure(rich, "getchaininfo", last_height=0).code == 500
    assert rich.rpc("getutxout", txid=funds(rich)[0]["txid"], vout=0) == {"amount": None, "script": None}
    assert "Could not connect" in failure(rich, "sendpsbt", psbt=signed).message
    assert rich.rpc("sendrawtransaction", tx="00" * 10)["success"] is False
    assert rich.rpc("listfunds")["outputs"]
