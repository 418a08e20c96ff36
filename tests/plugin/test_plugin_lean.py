"""What the plugin's process leaves out, so that it stays small."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.plugin.harness import RawPlugin

NATIVE = "cryptography"
"""Its native library is what the readers of gossip cost most."""


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux shows what a process has loaded")
def test_the_readers_of_gossip_are_not_loaded(tmp_path: Path) -> None:
    with RawPlugin(tmp_path) as plugin:
        assert plugin.manifest()["rpcmethods"]
        loaded = Path(f"/proc/{plugin.process.pid}/maps").read_text()
    assert "coincurve" in loaded or "secp256k1" in loaded
    assert NATIVE not in loaded
