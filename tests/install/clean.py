"""Somebody who has just logged in on a machine: an empty home, the system's programs, and nothing prepared."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.node.harness import SOON_S, Network, Node, wait_for

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 900
"""For an installation, on a busy machine."""
PASSED_ON = re.compile(
    r"(pip_(index|extra|find|cert|default|trusted).*|ssl_cert.*|.*_proxy|.*_ca_bundle)", re.IGNORECASE
)
"""How this machine reaches package indexes."""


class CleanUser:
    """A user with an empty home."""

    def __init__(self, home: Path) -> None:
        home.mkdir(parents=True)
        self.home = home
        self.environment = {
            **{name: value for name, value in os.environ.items() if PASSED_ON.fullmatch(name)},
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "PATH": os.pathsep.join([str(home / ".local" / "bin"), *_system_path()]),
            "PIP_NO_CACHE_DIR": "1",
        }

    def run(self, *command: str | Path, cwd: Path | None = None, status: int = 0, answer: str = "") -> str:
        """Run a command, and give what it says. Its exit status must be `status`."""
        ran = subprocess.run(
            [str(part) for part in command],
            cwd=cwd or self.home,
            env=self.environment,
            input=answer,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert ran.returncode == status, f"{command} ended with {ran.returncode}:\n{ran.stdout}"
        return ran.stdout


def _system_path() -> list[str]:
    """Where the system keeps programs, and where lightningd is; not the environment in which the tests run."""
    nodes = {str(Path(found).parent) for name in ("lightningd", "bitcoin-cli") if (found := shutil.which(name))}
    return [*sorted(nodes - {"/usr/bin", "/bin"}), "/usr/bin", "/bin"]


def copy_source(folder: Path) -> Path:
    """The project as it lies here, in a git repository of its own called `nutbolt`."""
    source = folder / "nutbolt"
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            target = source / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target)
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.invalid"]
    for command in (["init", "-q", "-b", "main"], ["add", "-A"], [*identity, "commit", "-q", "-m", "as it is"]):
        subprocess.run(["git", *command], cwd=source, check=True)
    return source


class CleanNode:
    """A real node of a clean user, without the mint yet."""

    def __init__(self, node: Node, user: CleanUser) -> None:
        self.node = node
        self.user = user
        self.directory = Path(node.raw.daemon.lightning_dir)
        self.config = self.directory / "regtest" / "config"
        self.cli = ["lightning-cli", f"--lightning-dir={self.directory}", "--network=regtest"]

    def restart(self, *lines: str) -> None:
        """Stop the node, add lines to its configuration, and start it."""
        self.node.stop()
        with self.config.open("a") as file:
            file.write("".join(f"\n{line}" for line in (*lines, "")))  # reckless leaves its last line without an end
        self.node.start()

    def wait_serving(self) -> dict[str, Any]:
        """What cashu-info says of the mint, once it serves."""
        wait_for(lambda: self.node.call("cashu-info")["state"] == "ready", "the mint to be ready")
        info = dict(self.node.call("cashu-info"))
        keysets = httpx.get(f"{info['url']}/v1/keysets", timeout=SOON_S)
        assert keysets.status_code == 200
        assert keysets.json()["keysets"][0]["id"] == info["keysets"][0]["id"]
        return info


@contextmanager
def clean_node(network: Network, user: CleanUser) -> Iterator[CleanNode]:
    """A real node that this user runs; afterwards it is stopped, and must have been without problems."""
    with network.bare_node(user.environment) as node:
        yield CleanNode(node, user)
