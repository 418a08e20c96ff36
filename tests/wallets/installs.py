"""Foreign wallets, installed once into the user's cache, each version into a directory of its own."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import inspect
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent

INSTALL_LIMIT_S = 150
"""A wallet that takes longer to install is given up. Below the time limit of a test, which waits for it."""
OLDEST_NODE_JS = 20
WEBSOCKET_NODE_JS = 22
"""From here on node has `WebSocket` without being asked."""
INSTALLED = "installed"
"""The file that marks a complete directory."""


class UnavailableError(Exception):
    """A wallet can't be had here; the text says why."""


@dataclass(frozen=True)
class CashuTs:
    """A version of `@cashu/cashu-ts`: the module to import, and how to run a script that does."""

    module: Path
    node: tuple[str, ...]


@dataclass(frozen=True)
class Program:
    """A wallet that runs in a virtual environment of its own."""

    python: Path
    directory: Path


def cashu_ts(line: str) -> CashuTs:
    """`@cashu/cashu-ts` of one line (`v4`, `v5`) in the version that its package.json pins.

    The environment variable `CASHU_TS_V4` or `CASHU_TS_V5` asks for another: a version, or the path of a package.
    """
    node, npm = _tool("node"), _tool("npm")
    major = _node_js_major(node)
    manifest = (HERE / "cashu_ts" / line / "package.json").read_text()
    wish = os.environ.get(f"CASHU_TS_{line.upper()}")

    def install(directory: Path, run: Run) -> None:
        (directory / "package.json").write_text(manifest)
        (directory / "wallet.mjs").write_text('export * from "@cashu/cashu-ts"\n')
        wanted = [] if wish is None else [f"@cashu/cashu-ts@{wish}"]
        quiet = ("--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts", "--loglevel=error")
        run([npm, "install", *quiet, "--fetch-retries=1", "--fetch-timeout=20000", *wanted], cwd=directory)

    directory = _installed(f"cashu-ts-{line}", [manifest, wish or "", str(major)], install)
    flags = () if major >= WEBSOCKET_NODE_JS else ("--experimental-websocket", "--no-warnings")
    return CashuTs(directory / "wallet.mjs", (node, *flags))


def nutshell() -> Program:
    """Nutshell's wallet (`cashu`).

    Installed without its own list of dependencies: that names, for its mint, releases that the index no longer has.
    """
    requirements = (HERE / "nutshell" / "requirements.txt").read_text()
    wallet = (HERE / "nutshell" / "wallet.txt").read_text()

    def install(directory: Path, run: Run) -> None:
        _make_environment(directory, run)
        _pip(directory, run, "-r", str(HERE / "nutshell" / "requirements.txt"))
        _pip(directory, run, "--no-deps", "-r", str(HERE / "nutshell" / "wallet.txt"))

    directory = _installed("nutshell", [requirements, wallet, sys.version], install)
    return Program(_python(directory), directory)


def cdk() -> Program:
    """CDK's wallet (`cdk-python`), with the Python bindings that its wheel lacks.

    The bindings are generated from the wheel's library. The generator asks `cargo` for the packages of a Rust
    workspace; there is none, so a stand-in that says so spares everybody the Rust tools.
    """
    requirements = (HERE / "cdk" / "requirements.txt").read_text()

    def install(directory: Path, run: Run) -> None:
        _make_environment(directory, run)
        _pip(directory, run, "-r", str(HERE / "cdk" / "requirements.txt"))
        libraries = list(directory.glob("lib/python*/site-packages/cdk/libcdk_ffi.*"))
        if len(libraries) != 1:
            raise UnavailableError("the wheel of cdk-python has no library for this platform")
        stand_in = directory / "no-rust" / "cargo"
        stand_in.parent.mkdir()
        stand_in.write_text(
            "#!/bin/sh\necho '"
            '{"version": 1, "packages": [], "workspace_members": [], "resolve": null, "workspace_root": "/nowhere",'
            ' "target_directory": "/nowhere"}'
            "'\n"
        )
        stand_in.chmod(0o755)
        generate = [str(directory / "bin" / "uniffi-bindgen"), "generate", "--library", str(libraries[0])]
        path = f"{stand_in.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        run([*generate, "--language", "python", "--no-format", "--out-dir", str(directory)], path=path)
        (directory / "cdk_ffi.py").rename(libraries[0].with_name("cdk.py"))  # where the package looks for it
        run([str(_python(directory)), "-c", "import cdk"])

    directory = _installed("cdk", [requirements, sys.version], install)
    return Program(_python(directory), directory)


# --- how ------------------------------------------------------------------------------------------------------------


class Run:
    """Runs the commands of one installation, all together within the time limit."""

    def __init__(self) -> None:
        self._deadline = time.monotonic() + INSTALL_LIMIT_S

    def __call__(self, command: Sequence[str], *, cwd: Path | None = None, path: str | None = None) -> None:
        """Run a command. Raises UnavailableError with what it complained of."""
        program = Path(command[0]).name
        try:
            done = subprocess.run(
                command,
                cwd=cwd,
                env={**os.environ, **({} if path is None else {"PATH": path})},
                capture_output=True,
                text=True,
                check=False,
                timeout=max(1.0, self._deadline - time.monotonic()),
            )
        except subprocess.TimeoutExpired:
            raise UnavailableError(f"not installed within {INSTALL_LIMIT_S} s ({program})") from None
        except OSError as error:
            raise UnavailableError(f"{program}: {error}") from None
        if done.returncode != 0:
            raise UnavailableError(f"{program}: {_reason(done.stderr)}")


Install = Callable[[Path, Run], None]

_failures: dict[str, UnavailableError] = {}
"""What could not be installed is tried once in a test run, not once in a test."""


def _installed(name: str, inputs: Sequence[str], install: Install) -> Path:
    """The directory of an installation made from these inputs; made now if there is none."""
    fingerprint = hashlib.sha256("\0".join([*inputs, inspect.getsource(install)]).encode()).hexdigest()[:12]
    directory = _cache() / f"{name}-{fingerprint}"
    if directory.name in _failures:
        raise _failures[directory.name]
    try:
        with _alone(directory):
            if not (directory / INSTALLED).exists():
                shutil.rmtree(directory, ignore_errors=True)
                directory.mkdir(parents=True)
                install(directory, Run())
                (directory / INSTALLED).touch()
    except UnavailableError as error:
        _failures[directory.name] = UnavailableError(f"{name} can't be had here: {error}")
        raise _failures[directory.name] from None
    return directory


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "nutbolt" / "wallets"


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """One test run installs, others wait for it."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    with directory.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise UnavailableError(f"{name} is not on PATH")
    return found


def _node_js_major(node: str) -> int:
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    major = version.removeprefix("v").split(".")[0]
    if not major.isdigit() or int(major) < OLDEST_NODE_JS:
        raise UnavailableError(f"node {OLDEST_NODE_JS} or newer is needed (here: {version or 'no answer'})")
    return int(major)


def _make_environment(directory: Path, run: Run) -> None:
    run([sys.executable, "-m", "venv", str(directory)])


def _pip(directory: Path, run: Run, *what: str) -> None:
    quiet = ("--quiet", "--disable-pip-version-check", "--no-input", "--retries=1", "--timeout=20", "--prefer-binary")
    run([str(_python(directory)), "-m", "pip", "install", *quiet, *what])


def _python(directory: Path) -> Path:
    return directory / "bin" / "python"


def _reason(text: str) -> str:
    """What in an installer's complaint says most."""
    if re.search(r"ENOTFOUND|ECONNREFUSED|ETIMEDOUT|EAI_AGAIN|NewConnectionError|ConnectTimeout|ReadTimeout", text):
        return "the registry is out of reach"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    missing = [line for line in lines if "No matching" in line]
    return (missing or lines or ["it failed without a word"])[-1]
