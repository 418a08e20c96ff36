"""What lies in `contrib` for other programs is what they accept: Tor, systemd. Each is skipped where it is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.plugin.conftest import MakeMint
from tests.plugin.harness import ENTRY_FILE, PATIENCE_S, Purse

CONTRIB = Path(__file__).resolve().parents[2] / "contrib"
PR_SET_MDWE = 65
PR_MDWE_REFUSE_EXEC_GAIN = 1
NOT_HERE = 77
UNIT = """
[Unit]
Description=a node's unit with the hardening of Core Lightning's own
[Service]
ExecStart=/bin/true
PrivateTmp=true
ProtectSystem=full
NoNewPrivileges=true
PrivateDevices=true
MemoryDenyWriteExecute=true
"""


def run(*command: str, **environment: str) -> str:
    ran = subprocess.run(
        command,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout
    return ran.stdout


@pytest.mark.skipif(shutil.which("tor") is None, reason="tor is not on PATH")
def test_tor_accepts_its_lines(tmp_path: Path) -> None:
    text = (CONTRIB / "tor" / "torrc").read_text()
    place = "/var/lib/tor/nutbolt/"
    assert place in text
    torrc = tmp_path / "torrc"
    folder = tmp_path / "service"
    folder.mkdir(mode=0o700)
    torrc.write_text(text.replace(f"HiddenServiceDir {place}", f"HiddenServiceDir {folder}"))
    said = run("tor", "--verify-config", "--defaults-torrc", "/dev/null", "-f", str(torrc), HOME=str(tmp_path))
    assert "Configuration was valid" in said


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not on PATH")
def test_systemd_accepts_the_drop_in(tmp_path: Path) -> None:
    (tmp_path / "lightningd.service.d").mkdir()
    (tmp_path / "lightningd.service").write_text(UNIT)
    shutil.copy(CONTRIB / "systemd" / "nutbolt.conf", tmp_path / "lightningd.service.d")
    said = run("systemd-analyze", "verify", "--man=no", str(tmp_path / "lightningd.service"))
    assert "nutbolt.conf" not in said


CONFINED = f"""#!{sys.executable}
import ctypes, os, sys
if ctypes.CDLL(None).prctl({PR_SET_MDWE}, {PR_MDWE_REFUSE_EXEC_GAIN}, 0, 0, 0) != 0:
    sys.exit({NOT_HERE})
if sys.argv[1:] != ["try"]:
    os.execv(sys.executable, [sys.executable, {str(ENTRY_FILE)!r}, *sys.argv[1:]])
"""
"""The plugin as systemd starts it with MemoryDenyWriteExecute: what runs in it inherits that."""


def test_memory_that_can_be_written_and_run_is_not_needed(make_mint: MakeMint, tmp_path: Path) -> None:
    confined = tmp_path / "nutbolt.py"
    confined.write_text(CONFINED)
    confined.chmod(0o755)
    if subprocess.run([confined, "try"], check=False).returncode == NOT_HERE:
        pytest.skip("this kernel can't forbid it to one process")
    mint = make_mint(node={"plugin": confined})
    purse = Purse(mint)
    assert sum(proof.amount for proof in purse.swap(purse.fund(100))) == 100
    melt = purse.prepare(mint.invoice())
    purse.post(melt)
    purse.assert_paid(melt)
