"""The guide, followed literally: each command of its console blocks, in order, by one shell in an empty home, on a real
node with a channel."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import NETWORK_TIMEOUT_S
from tests.install.clean import PATIENCE_S, ROOT, CleanNode, CleanUser, clean_node
from tests.node.harness import Network, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(NETWORK_TIMEOUT_S + PATIENCE_S)]

GUIDE = ROOT / "contrib" / "docs" / "guide.md"
ADDRESS = "https://github.com/nutbolt/nutbolt"
RESTART = "<!-- restart the node -->"
DONE = "the command has ended:"


def steps() -> list[str]:
    """The commands, and RESTART where the reader restarts the node."""
    found = []
    text = GUIDE.read_text()
    for block in re.finditer(rf"^```console\n(.*?)^```|{RESTART}", text, re.MULTILINE | re.DOTALL):
        if block[0] == RESTART:
            found.append(RESTART)
        else:
            found += [line.removeprefix("$ ") for line in block[1].splitlines() if line.startswith("$ ")]
    return found


class Shell:
    """One shell, as the reader has one."""

    def __init__(self, user: CleanUser, network: Network) -> None:
        self._network = network
        self._process = subprocess.Popen(
            ["bash"],
            cwd=user.home,
            env=user.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, command: str) -> str:
        """Type a command. An invoice that it shows is paid by another node. It must end well."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{command}\nprintf '\\n%s %s\\n' {shlex.quote(DONE)} $?\n")
        self._process.stdin.flush()
        said: list[str] = []
        for line in self._process.stdout:
            if line.startswith(DONE):
                assert line.split()[-1] == "0", f"$ {command}\n{''.join(said)}"
                return "".join(said)
            said.append(line)
            if line.startswith("lnbcrt"):
                self._network.hub.pay(line.strip())
        raise AssertionError(f"$ {command}\n{''.join(said)}")

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def reader(network: Network, user: CleanUser, source: Path) -> Iterator[CleanNode]:
    """Somebody with a node in the usual place, with a channel. The project's address leads to its source."""
    user.run("git", "config", "--global", f"url.file://{source}.insteadOf", ADDRESS)
    with clean_node(network, user) as clean:
        (user.home / ".lightning").symlink_to(clean.directory)
        with (clean.directory / "config").open("a") as file:
            file.write("\nnetwork=regtest\n")
        network.open_channel(network.hub, clean.node)
        yield clean


def test_the_guide_is_followed_to_its_end(reader: CleanNode, network: Network, default_port: int) -> None:
    shell = Shell(reader.user, network)
    told = {}
    try:
        for step in steps():
            if step == RESTART:
                reader.node.stop()
                reader.node.start()
                reader.node.connect(network.hub)
            else:
                told[step] = shell.run(step)
            if step.startswith("lightning-cli plugin start") or step == RESTART or "subcommand=start" in step:
                wait_for(lambda: reader.node.call("cashu-info")["state"] == "ready", "the mint to be ready")
    finally:
        shell.end()
    assert '"url": "http://127.0.0.1:3338"' in told["lightning-cli cashu-info"]
    assert '"name": "My mint"' in told["lightning-cli cashu-info"]
    assert '"outstanding"' in told["lightning-cli cashu-info"]
    assert "1000" in told[".venv/bin/python -m contrib.wallet balance"]
    assert "The books balance" in told["lightning-cli cashu-audit"]
    assert (reader.user.home / "cashu-before-update.sqlite3").exists()
