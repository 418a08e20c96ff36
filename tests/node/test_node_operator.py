"""The operator's commands on a real node: a backup that comes back, one that is too old, and melts in flight."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any, TextIO

import httpx
import pytest

from tests.node.harness import Mint, Network, wait_for
from tests.node.purse import Purse

RpcError: Any = pytest.importorskip("pyln.client").RpcError

pytestmark = pytest.mark.slow

PENDING = "PENDING"
UNPAID = "UNPAID"


def cli(mint: Mint, *arguments: str) -> list[str]:
    """Run lightning-cli as an operator does; the lines that it writes."""
    directory = f"--lightning-dir={mint.raw.daemon.lightning_dir}"
    run = subprocess.run(
        ["lightning-cli", directory, "--network=regtest", *arguments], capture_output=True, text=True, check=True
    )
    return run.stdout.splitlines()


def progress_of(mint: Mint, method: str, **params: Any) -> list[dict[str, Any]]:
    """What a caller who asks for notifications is told while a command runs."""
    told = []
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(Path(mint.raw.daemon.lightning_dir) / "regtest" / "lightning-rpc"))
        with sock.makefile("rw") as stream:
            for number, call in ((1, ("notifications", {"enable": True})), (2, (method, params))):
                name, arguments = call
                stream.write(json.dumps({"jsonrpc": "2.0", "id": number, "method": name, "params": arguments}))
                stream.flush()
                while (message := _read(stream)).get("id") != number:
                    told.append(message)
                assert "result" in message, message
    return told


def _read(stream: TextIO) -> dict[str, Any]:
    """The next message; each is followed by an empty line."""
    text = ""
    while line := stream.readline():
        if not line.strip() and text:
            break
        text += line
    return dict(json.loads(text))


def put_in_place(mint: Mint, path: Path) -> None:
    """While the plugin is stopped."""
    for file in mint.ledger_path.parent.glob(mint.ledger_path.name + "*"):
        file.unlink()
    shutil.copy(path, mint.ledger_path)


def test_a_backup_comes_back_and_an_older_one_does_not(own_mint: Mint, own_purse: Purse, tmp_path: Path) -> None:
    """With progress for who asks for it; `cashu-restore-check` and the tripwire agree."""
    old, newest = tmp_path / "old.sqlite3", tmp_path / "newest.sqlite3"
    told = progress_of(own_mint, "cashu-backup", path=str(old))
    assert [(note["method"], note["params"]["num"], note["params"]["total"]) for note in told] == [
        ("progress", 99, 100)
    ]
    made = own_mint.call("cashu-restore-check", path=str(old))
    assert (made["balanced"], made["usable"]) == (True, True)
    own_purse.receive(own_purse.send(2000))
    own_mint.call("cashu-backup", path=str(newest))
    own_mint.stop_plugin()
    put_in_place(own_mint, newest)
    own_mint.start_plugin()
    own_mint.wait_ready()
    assert own_mint.outstanding_sat() == own_purse.balance
    own_purse.receive(own_purse.send(1000))
    own_mint.expected_problem = "is an old copy"
    own_mint.stop_plugin()
    shutil.copy(own_mint.ledger_path, newest.with_suffix(".newer"))
    put_in_place(own_mint, old)
    own_mint.start_plugin()
    wait_for(lambda: own_mint.cashu_info()["state"] == "failed", "the mint to refuse")
    judged = own_mint.call("cashu-restore-check", path=str(old))
    missing = judged["remembered_commits"] - made["commits"]
    assert f"the last {missing} are missing" in own_mint.cashu_info()["reason"]
    assert f"the last {missing} are missing" in judged["sentence"]
    assert own_mint.call("cashu-restore-check", path=str(newest.with_suffix(".newer")))["usable"]
    own_mint.stop_plugin()
    put_in_place(own_mint, newest.with_suffix(".newer"))
    own_mint.start_plugin()
    own_mint.wait_ready()
    own_purse.receive(own_purse.send(1000))
    assert own_mint.outstanding_sat() == own_purse.balance


def test_a_melt_is_forced_only_when_nothing_can_tell_its_outcome(
    own_mint: Mint, own_purse: Purse, network: Network
) -> None:
    """Held, it can't be; once its rows are deleted it can, and the wallet has its ecash again."""
    assert own_mint.hub is not None
    invoice = network.receiver.invoice(1000)
    network.receiver.plan(invoice, "hold")
    attempt = own_purse.start_async(invoice.bolt11)
    network.receiver.wait_held(invoice)
    (shown,) = own_mint.call("cashu-pending")["melts"]
    (htlc,) = shown["evidence"]["htlcs"]
    assert htlc["peer"] == own_mint.hub.id
    assert htlc["expiry"] == shown["evidence"]["height"] + htlc["blocks_left"]
    assert f"an HTLC is in flight at {own_mint.hub.id}, until block {htlc['expiry']}" in shown["sentence"]
    order = {"handle": shown["handle"], "outcome": "failed", "force": True, "reason": "the payee has shown its books"}
    with pytest.raises(RpcError, match="an HTLC of it is in flight"):
        own_mint.call("cashu-resolve", **order)
    assert own_mint.call("cashu-resolve", handle=shown["handle"])["outcome"] == "pending"
    assert own_purse.look(attempt).state == PENDING
    own_mint.kill_plugin()
    network.receiver.release(invoice, "reject")
    own_mint.wait_decided(invoice.payment_hash)
    own_mint.call("delpay", payment_hash=invoice.payment_hash, status="failed")
    own_mint.stop()
    own_mint.start_again()
    (shown,) = own_mint.call("cashu-pending")["melts"]
    assert "nothing tells what became of it" in shown["sentence"]
    assert own_mint.call("cashu-resolve", handle=shown["handle"])["outcome"] == "pending"
    cli(own_mint, "-k", "cashu-resolve", *(f"{name}={json.dumps(value)}" for name, value in order.items()))
    assert own_purse.look(attempt).state == UNPAID
    (line,) = own_mint.call("cashu-audit")["forced"]
    assert (line["outcome"], line["reason"]) == ("failed", order["reason"])
    assert line["who"].startswith("operator, cli:cashu-resolve")


def test_the_operators_page_opens_with_a_real_rune_and_no_other(network: Network) -> None:
    """The stand-in's runes are made up; these are lightningd's."""
    permits = '[["method=cashu-operator-page"]]'
    with network.mint(channels={}, cashu_operator_page="true") as mint:
        made = mint.call("createrune", restrictions=json.loads(permits))
        other = mint.call("createrune", restrictions=[["method=cashu-info"]])["rune"]
        read_only = mint.call("createrune", restrictions="readonly")["rune"]
        ended = mint.call("createrune", restrictions=[*json.loads(permits), ["time<1000"]])["rune"]
        foreign = network.hub.call("createrune")["rune"]
        with httpx.Client(base_url=mint.url, timeout=60) as http:

            def ask(rune: str) -> tuple[int, str]:
                answer = http.get("/operator/data", headers={"rune": rune})
                return answer.status_code, answer.json().get("detail", "")

            assert ask(made["rune"]) == (200, "")
            assert ask(mint.call("createrune")["rune"]) == (200, "")
            not_permitted = (401, "this rune does not permit it")
            assert [ask(rune) for rune in (other, read_only, ended)] == [not_permitted] * 3
            assert ask(foreign) == (401, "this rune is not one of this node")
            assert ask("x") == ask("A" * 13) == (401, "this is not a rune")
            assert ask(made["rune"][:-4] + "AAAA")[0] == 401
            # It permits nothing else, on the node's own ways in.
            with pytest.raises(RpcError, match="Not permitted"):
                mint.call("checkrune", rune=made["rune"], method="cashu-info", params={})
            with httpx.stream("GET", f"{mint.url}/operator/events", headers={"rune": made["rune"]}) as stream:
                assert next(stream.iter_lines()) == "data: 0"
            mint.call("blacklistrune", start=int(made["unique_id"]))
            assert ask(made["rune"]) == (401, "this rune has been blacklisted")
        assert made["rune"] not in "\n".join(mint.log_lines())
        days = mint.call("listdatastore", key=["cashu", "balances"])["datastore"]
        assert [len(json.loads(day["string"])) for day in days] == [1]
