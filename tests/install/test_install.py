"""Each way to install the mint, for real: in an empty home, into a real node, until wallets are served; and away again.

Slow: everything is downloaded and built anew."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from pyln.client import RpcError

from tests.install.clean import PATIENCE_S, CleanNode, CleanUser, clean_node
from tests.node.harness import Network, wait_for
from tests.plugin.harness import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2 * PATIENCE_S)]


@pytest.fixture
def uv(user: CleanUser) -> CleanUser:
    """The user has uv."""
    user.run("python3", "-m", "venv", user.home / "uv")
    user.run(user.home / "uv" / "bin" / "pip", "install", "--quiet", "uv")
    (user.home / ".local" / "bin").mkdir(parents=True)
    (user.home / ".local" / "bin" / "uv").symlink_to(user.home / "uv" / "bin" / "uv")
    return user


def assert_gone(clean: CleanNode) -> None:
    with pytest.raises(RpcError, match="Unknown command"):
        clean.node.call("cashu-info")


@pytest.mark.skipif(shutil.which("reckless") is None, reason="reckless is not on PATH")
@pytest.mark.parametrize("manager", ["pip", "uv"])
def test_reckless_installs_it_and_takes_it_away(
    network: Network, source: Path, default_port: int, manager: str, request: pytest.FixtureRequest
) -> None:
    user: CleanUser = request.getfixturevalue("user" if manager == "pip" else "uv")
    with clean_node(network, user) as clean:
        clean.config.touch()  # else reckless asks whether it may make one
        reckless = ["reckless", f"--lightning={clean.directory}", "--network=regtest"]
        user.run(*reckless, "source", "add", source)
        assert "nutbolt enabled" in user.run(*reckless, "install", "nutbolt")
        info = clean.wait_serving()
        assert info["url"] == f"http://127.0.0.1:{default_port}"

        # From now on it starts with the node, and its options may stand in the node's configuration.
        clean.restart(f"cashu-listen=127.0.0.1:{free_port()}", "cashu-name=Installed by reckless")
        assert clean.wait_serving()["name"] == "Installed by reckless"

        # Without the plugin lightningd would not know them, and not start.
        lines = [line for line in clean.config.read_text().splitlines() if not line.startswith("cashu-")]
        clean.config.write_text("\n".join(lines) + "\n")
        assert "uninstalled" in user.run(*reckless, "uninstall", "nutbolt")
        wait_for(lambda: not (clean.directory / "reckless" / "nutbolt").exists(), "its folder to be gone")
        assert_gone(clean)
        assert (clean.directory / "regtest" / "cashu.sqlite3").exists(), "what the mint owes is not forgotten"
        clean.restart()
        assert_gone(clean)


def test_a_clone_and_one_command(network: Network, user: CleanUser, source: Path) -> None:
    user.run("git", "clone", "--quiet", source, "nutbolt")
    clone = user.home / "nutbolt"
    port = free_port()
    with clean_node(network, user) as clean:
        said = user.run(
            "python3",
            "-m",
            "contrib.run",
            f"--lightning-dir={clean.directory}",
            "--network=regtest",
            f"--cashu-listen=127.0.0.1:{port}",
            cwd=clone,
        )
        assert f"The mint runs in the node, at http://127.0.0.1:{port}" in said
        clean.wait_serving()
        line = f"plugin={clone}/nutbolt.py"
        assert line in said
        clean.restart(line, f"cashu-listen=127.0.0.1:{port}")
        assert clean.wait_serving()["url"] == f"http://127.0.0.1:{port}"


def test_a_clone_with_an_environment_beside_it(network: Network, user: CleanUser, source: Path) -> None:
    user.run("git", "clone", "--quiet", source, "nutbolt")
    clone = user.home / "nutbolt"
    user.run("python3", "-m", "venv", ".venv", cwd=clone)
    user.run(".venv/bin/pip", "install", "--quiet", "-r", "requirements.txt", cwd=clone)
    with clean_node(network, user) as clean:
        clean.restart(f"plugin={clone}/nutbolt.py", f"cashu-listen=127.0.0.1:{free_port()}")
        clean.wait_serving()
        user.run(*clean.cli, "plugin", "stop", "nutbolt.py")
        assert_gone(clean)


def test_pip_into_an_environment_of_its_own(network: Network, user: CleanUser, source: Path) -> None:
    user.run("python3", "-m", "venv", "mint")
    user.run("mint/bin/pip", "install", "--quiet", source)
    with clean_node(network, user) as clean:
        clean.restart(f"plugin={user.home}/mint/bin/nutbolt", f"cashu-listen=127.0.0.1:{free_port()}")
        clean.wait_serving()
        user.run(*clean.cli, "plugin", "stop", "nutbolt")
        assert_gone(clean)


def test_uv_tool_install_and_uninstall(network: Network, uv: CleanUser, source: Path) -> None:
    uv.run("uv", "tool", "install", "--quiet", f"git+file://{source}")
    entry = uv.home / ".local" / "bin" / "nutbolt"
    with clean_node(network, uv) as clean:
        clean.restart(f"plugin={entry}", f"cashu-listen=127.0.0.1:{free_port()}")
        clean.wait_serving()
        uv.run(*clean.cli, "plugin", "stop", "nutbolt")
        uv.run("uv", "tool", "uninstall", "nutbolt")
        assert not entry.exists()
