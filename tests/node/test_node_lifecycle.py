"""The plugin as a good guest: it starts, refuses and stops without harm to the node, and keeps secrets out of logs."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from pyln.client import RpcError

from tests.conftest import NETWORK_TIMEOUT_S
from tests.node.harness import ENTRY_FILE, SOON_S, Mint, Network, wait_for
from tests.node.purse import Purse, funded_purse

BAD_OPTIONS = [
    ("cashu-listen", "nowhere"),
    ("cashu-listen", "127.0.0.1:99999"),
    ("cashu-units", "sat,florin"),
    ("cashu-input-fee-ppk", "-1"),
    ("cashu-fee-reserve-percent", "lots"),
    ("cashu-fee-reserve-min", "1.5"),
    ("cashu-min-mint", "1e3"),
    ("cashu-max-melt", "all"),
    ("cashu-sync-wait", "soon"),
    ("cashu-async-grace-ms", "-5"),
    ("cashu-max-pending-melts", "0"),
    ("cashu-maxdelay", "999999"),
    ("cashu-retry-for", ""),
]


def test_whoever_needs_the_network_first_has_time_to_set_it_up(
    network: Network, request: pytest.FixtureRequest
) -> None:
    """The limit of a test counts its fixtures: with the usual one a busy machine failed all tests of a module."""
    assert network
    assert request.node.get_closest_marker("timeout").args == (NETWORK_TIMEOUT_S,)


def test_run_by_hand_it_says_what_it_is(network: Network) -> None:
    """Without LIGHTNINGD_PLUGIN the entry file prints its options and ends well: so plugin managers try it out."""
    assert network
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LIGHTNINGD")}
    run = subprocess.run(
        [sys.executable, ENTRY_FILE], env=environment, capture_output=True, text=True, timeout=SOON_S, check=False
    )
    assert run.returncode == 0
    assert "cashu-listen" in run.stdout + run.stderr


def test_a_bad_option_disables_the_plugin_not_the_node(network: Network) -> None:
    """A node started with a bad option lives; its log has a sentence that names the option, and no traceback."""
    mint = network.plain_mint(cashu_fee_reserve_percent="lots")
    mint.start()
    mint.wait_for_log(r"plugin-nutbolt\.py.*cashu-fee-reserve-percent.*lots")
    assert mint.call("getinfo")["id"] == mint.id
    with pytest.raises(RpcError):
        mint.cashu_info()
    assert not mint.answers()
    assert network.discard(mint) == []


def test_each_option_is_checked_by_name(network: Network) -> None:
    """`plugin start` with a bad value of any option fails with a sentence that names it; the next good start works."""
    mint = network.plain_mint()
    mint.start()
    mint.wait_ready()
    mint.stop_plugin()
    for name, value in BAD_OPTIONS:
        with pytest.raises(RpcError) as refusal:
            mint.start_plugin(**{name: value})
        assert name in str(refusal.value), name
    mint.start_plugin()
    mint.wait_ready()
    assert network.discard(mint) == []


def test_a_busy_port_disables_the_plugin_not_the_node(network: Network) -> None:
    """If another program has the address, the log names cashu-listen, and the node lives."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        mint = network.plain_mint(cashu_listen=f"127.0.0.1:{port}")
        mint.start()
        mint.wait_for_log(r"plugin-nutbolt\.py.*cashu-listen")
        assert mint.call("getinfo")["id"] == mint.id
        assert network.discard(mint) == []


def test_the_plugin_stops_and_starts_swiftly(network: Network) -> None:
    """`plugin stop` frees the port, `plugin start` serves again, both well within what plugin managers wait."""
    mint = network.plain_mint()
    mint.start()
    mint.wait_ready()
    with httpx.Client(base_url=mint.url) as idle:  # a connection that stays open
        idle.get("/v1/info")
        begun = time.monotonic()
        mint.stop_plugin()
        assert not mint.answers()
        mint.start_plugin()
        mint.wait_ready()
        assert time.monotonic() - begun < SOON_S
    assert network.discard(mint) == []


@pytest.mark.parametrize("way", ["stop", "kill"])
def test_the_plugin_goes_with_the_node(network: Network, way: str) -> None:
    """Node stopped or killed: the plugin's process ends soon, with wallets connected and waiting for answers."""
    with network.mint() as mint:
        purse = funded_purse(mint, network)
        invoice = network.receiver.invoice(1000)
        network.receiver.plan(invoice, "hold")
        attempt = purse.prepare(invoice.bolt11)
        process = Path(f"/proc/{mint.plugin_pid()}")
        with purse.posting(attempt):
            network.receiver.wait_held(invoice)
            begun = time.monotonic()
            (mint.stop if way == "stop" else mint.kill)()
            wait_for(lambda: not process.exists(), "the plugin to end", SOON_S)
            assert time.monotonic() - begun < SOON_S
        assert not mint.answers()
        network.receiver.release(invoice)
        mint.start_again()
        purse.wait_final(attempt)
        assert mint.outstanding_sat() == purse.balance


def test_a_missing_ledger_is_not_replaced(own_mint: Mint, own_purse: Purse) -> None:
    """Without its ledger the mint would accept spent proofs again: it refuses, says why, and the node lives."""
    own_mint.expected_problem = "is missing"
    own_mint.stop_plugin()
    elsewhere = own_mint.ledger_path.with_suffix(".away")
    own_mint.ledger_path.rename(elsewhere)
    own_mint.start_plugin()
    wait_for(lambda: own_mint.cashu_info()["state"] == "failed", "the mint to refuse")
    assert str(own_mint.ledger_path) in own_mint.cashu_info()["reason"]
    assert httpx.get(f"{own_mint.url}/v1/keys").status_code == 503
    assert not own_mint.ledger_path.exists()
    own_mint.stop_plugin()
    elsewhere.rename(own_mint.ledger_path)
    own_mint.start_plugin()
    own_mint.wait_ready()
    assert own_mint.outstanding_sat() == own_purse.balance


def test_logs_tell_what_happens_but_no_secrets(own_mint: Mint, own_purse: Purse, network: Network) -> None:
    """After mint, swap, paid and failed melts the plugin has logged no secret, quote id or preimage, nothing BROKEN."""
    own_purse.receive(own_purse.send(2000))
    invoice = network.receiver.invoice(1000)
    paid = own_purse.prepare(invoice.bolt11)
    own_purse.finish(paid, own_purse.post(paid))
    failed = own_purse.start_async(network.island.invoice(1000).bolt11)
    own_purse.wait_final(failed)
    own_mint.stop_plugin()
    own_mint.start_plugin()
    own_mint.wait_ready()
    assert invoice.preimage in own_mint.confidential
    assert len(own_mint.confidential) > 20
    assert [line for line in own_mint.plugin_log_lines() if "cashu" in line or own_mint.url in line]
    assert own_mint.problems() == []


@pytest.mark.parametrize("parameter", ["9" * 5000, "[" * 3000 + "]" * 3000], ids=["digits", "depth"])
def test_parameters_that_can_not_be_read_do_not_end_the_plugin(own_mint: Mint, parameter: str) -> None:
    """lightningd hands on what it was given."""
    pid = own_mint.plugin_pid()
    command = [
        "lightning-cli",
        f"--lightning-dir={own_mint.raw.daemon.lightning_dir}",
        "--network=regtest",
        "cashu-info",
        parameter,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "can't be read" in done.stdout + done.stderr
    assert own_mint.plugin_pid() == pid
    assert own_mint.cashu_info()["state"] == "ready"
