"""The automatic profile, and the sandbox in the foreground."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from contrib.sandbox import ForeignInvoices, SandboxNode
from tests.sandbox.conftest import FAKE_PLUGIN, MakeNode, failure
from tests.sandbox.test_bolt11 import COFFEE


def sha256(preimage: str) -> str:
    return hashlib.sha256(bytes.fromhex(preimage)).hexdigest()


@pytest.fixture
def auto(make_node: MakeNode) -> SandboxNode:
    """A node that pays everything."""
    return make_node(auto=True, auto_delay_s=0.05, foreign=ForeignInvoices(True, "bc", pay_expired=True))


def test_own_invoices_are_paid(auto: SandboxNode) -> None:
    auto.rpc("invoice", amount_msat=1000, label="a", description="")
    assert auto.wait_for_notification("invoice_payment").payload["label"] == "a"


def test_unpaid_invoices_are_paid_after_a_restart(make_node: MakeNode) -> None:
    node = make_node(auto=True, auto_delay_s=0.2)
    node.rpc("invoice", amount_msat=1000, label="a", description="")
    node.stop()
    make_node(auto=True, auto_delay_s=0.05).wait_for_notification("invoice_payment")


def test_a_strangers_invoice_is_paid_under_another_hash(auto: SandboxNode) -> None:
    shown = auto.rpc("decode", string=COFFEE)
    assert shown["currency"] == "bcrt"
    assert shown["payment_hash"] != "0001020304050607080900010203040506070809000102030405060708090102"
    assert shown["amount_msat"] == 250_000_000
    paid = auto.rpc("xpay", invstring=COFFEE, maxfee=2_500_000)
    assert sha256(paid["payment_preimage"]) == shown["payment_hash"]
    assert paid["amount_sent_msat"] - paid["amount_msat"] == 1000
    (row,) = auto.rpc("listsendpays", bolt11=COFFEE)["payments"]
    assert row["payment_hash"] == shown["payment_hash"]
    assert row["bolt11"] == COFFEE
    assert auto.notifications("sendpay_success")[0].payload["payment_hash"] == shown["payment_hash"]
    assert auto.rpc("listhtlcs")["htlcs"][0]["payment_hash"] == shown["payment_hash"]
    assert failure(auto, "xpay", invstring=COFFEE).code == 219


def test_the_hash_is_the_same_after_a_restart(make_node: MakeNode) -> None:
    settings = {"auto": True, "foreign": ForeignInvoices(True, "bc", pay_expired=True)}
    node = make_node(**settings)
    shown = node.rpc("decode", string=COFFEE)
    node.stop()
    assert make_node(**settings).rpc("decode", string=COFFEE)["payment_hash"] == shown["payment_hash"]


def test_expired_invoices(make_node: MakeNode) -> None:
    node = make_node(auto=True, foreign=ForeignInvoices(True, "bc"))
    assert failure(node, "xpay", invstring=COFFEE).code == 207


def test_the_sandboxes_own_outside_invoices_keep_their_hash(auto: SandboxNode) -> None:
    invoice = auto.outside_invoice(1000)
    assert auto.rpc("decode", string=invoice.bolt11)["payment_hash"] == invoice.payment_hash
    assert auto.rpc("xpay", invstring=invoice.bolt11)["payment_preimage"] == invoice.preimage


def test_the_nodes_own_invoices_keep_their_hash(auto: SandboxNode) -> None:
    auto.node.settings.auto_delay_s = 60
    made = auto.rpc("invoice", amount_msat=1000, label="a", description="")
    assert auto.rpc("decode", string=made["bolt11"])["payment_hash"] == made["payment_hash"]
    assert auto.rpc("xpay", invstring=made["bolt11"])["amount_sent_msat"] == 1000
    assert auto.rpc("listinvoices", label="a")["invoices"][0]["status"] == "paid"


def test_other_networks_stay_foreign_unless_asked_for(make_node: MakeNode) -> None:
    node = make_node(auto=True, foreign=ForeignInvoices(True, None, pay_expired=True))
    assert node.rpc("decode", string=COFFEE)["currency"] == "bc"
    assert failure(node, "xpay", invstring=COFFEE).message == "Invalid bolt11 invoice: Prefix bc is not for regtest"


def foreground(tmp_path: Path, *arguments: str) -> subprocess.Popen[str]:
    """The sandbox as people start it, with the small plugin."""
    plugin = tmp_path / "listening.py"
    text = FAKE_PLUGIN.read_text(encoding="utf-8")
    plugin.write_text(
        text.replace("plugin.run()", 'plugin.add_option("cashu-listen", "", "where")\nplugin.run()').replace(
            "fake plugin is up", "the mint is ready at http://127.0.0.1:1"
        ),
        encoding="utf-8",
    )
    return subprocess.Popen(
        [sys.executable, "-m", "contrib.sandbox", "--plugin", str(plugin), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "XDG_DATA_HOME": str(tmp_path / "data")},
    )


def introduction(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line.rstrip())
        if line.startswith("Stop"):
            break
    return lines


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_foreground(tmp_path: Path, number: signal.Signals) -> None:
    process = foreground(tmp_path, "--fresh", "--port", "0")
    lines = introduction(process)
    assert lines[0] == "Mint   http://127.0.0.1:1"
    directory = Path(lines[1].split()[1]).parents[1]
    assert directory.exists()
    environment = {**os.environ, "XDG_DATA_HOME": str(tmp_path / "data")}
    command = [sys.executable, "-m", "contrib.sandbox", "cli", "getinfo"]
    answer = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert json.loads(answer.stdout)["network"] == "regtest"
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert not directory.exists()


def test_foreground_keeps_its_state_unless_fresh(tmp_path: Path) -> None:
    ids = []
    for extra in ([], [], ["--fresh"]):
        process = foreground(tmp_path, "--dir", str(tmp_path / "kept"), "--port", "0", *extra)
        introduction(process)
        node = subprocess.run(
            [sys.executable, "-m", "contrib.sandbox", "cli", "--dir", str(tmp_path / "kept"), "getinfo"],
            capture_output=True,
            text=True,
            check=True,
        )
        ids.append(json.loads(node.stdout)["id"])
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert ids[0] == ids[1] != ids[2]


def test_fresh_does_not_delete_what_is_no_sandbox(tmp_path: Path) -> None:
    (tmp_path / "precious" / "regtest").mkdir(parents=True)
    (tmp_path / "precious" / "regtest" / "hsm_secret").write_text("x")
    process = foreground(tmp_path, "--dir", str(tmp_path / "precious"), "--fresh")
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "does not look like a sandbox" in errors
    assert (tmp_path / "precious" / "regtest" / "hsm_secret").exists()


def test_foreground_ends_with_a_disabled_plugin(tmp_path: Path) -> None:
    process = foreground(tmp_path, "--fresh", "--option", "fake-init=disable")
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "disabled itself: told to" in errors
