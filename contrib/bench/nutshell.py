"""Nutshell's mint (`cashu` on PyPI), in an environment of its own, which is made once and kept in the user's cache."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from contrib.bench.server import Server

VERSION = "0.21.0"
REQUIREMENTS = Path(__file__).with_name("nutshell.txt")
INSTALLED = "installed"
"""The file that marks a complete environment."""
START_LIMIT_S = 90.0

DURABILITY_SCRIPT = "import sqlite3; print(sqlite3.connect(':memory:').execute('PRAGMA synchronous').fetchone()[0])"
SYNCHRONOUS = {"0": "OFF", "1": "NORMAL", "2": "FULL", "3": "EXTRA"}


class NutshellError(Exception):
    """Nutshell's mint can't be had here; the text says why."""


@contextmanager
def running(directory: Path) -> Iterator[Server]:
    """Nutshell's mint, which serves. Everything as it is shipped, but for its fee (none), and FakeWallet's delays
    (none). Raises NutshellError."""
    python = _environment() / "bin" / "python"
    port = _free_port()
    settings = {
        "MINT_LISTEN_HOST": "127.0.0.1",
        "MINT_LISTEN_PORT": str(port),
        "MINT_DATABASE": str(directory / "mint"),
        "MINT_PRIVATE_KEY": secrets.token_hex(32),
        "MINT_BACKEND_BOLT11_SAT": "FakeWallet",
        "MINT_INPUT_FEE_PPK": "0",
        "FAKEWALLET_BRR": "true",
        "FAKEWALLET_DELAY_INCOMING_PAYMENT": "0",
        "FAKEWALLET_DELAY_OUTGOING_PAYMENT": "0",
        "CASHU_DIR": str(directory / "cashu"),
        "TOR": "false",
    }
    directory.mkdir(parents=True, exist_ok=True)
    log = directory / "log"
    with log.open("wb") as output:
        mint = subprocess.Popen(
            [str(python), "-m", "cashu.mint", "--host", "127.0.0.1", "--port", str(port)],
            cwd=directory,
            env={"PATH": os.environ.get("PATH", os.defpath), "HOME": str(directory), **settings},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait(mint, f"http://127.0.0.1:{port}/v1/info", log)
            yield Server("nutshell", VERSION, "127.0.0.1", port, mint.pid, lambda: 0.0)
        finally:
            mint.terminate()
            try:
                mint.wait(10)
            except subprocess.TimeoutExpired:
                mint.kill()
                mint.wait()


def synchronous() -> str:
    """What SQLite does in nutshell's environment: it sets `journal_mode=WAL`, and leaves `synchronous` alone."""
    python = str(_environment() / "bin" / "python")
    said = subprocess.run([python, "-c", DURABILITY_SCRIPT], capture_output=True, text=True, check=True).stdout
    return SYNCHRONOUS.get(said.strip(), said.strip())


def _environment() -> Path:
    """Where nutshell is installed; installs it if need be. Raises NutshellError."""
    wanted = f"{VERSION} {sys.version} {REQUIREMENTS.read_text()}"
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    directory = home / "nutbolt" / "bench" / f"nutshell-{hashlib.sha256(wanted.encode()).hexdigest()[:12]}"
    if not (directory / INSTALLED).exists():
        print(f"Installing nutshell {VERSION} into {directory} …", file=sys.stderr, flush=True)
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        python = str(directory / "bin" / "python")
        pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--prefer-binary")
        _run(sys.executable, "-m", "venv", str(directory))
        _run(*pip, "-r", str(REQUIREMENTS))
        _run(*pip, "--no-deps", f"cashu=={VERSION}")
        (directory / INSTALLED).touch()
    return directory


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["it failed without a word"])[-1]
        raise NutshellError(f"nutshell could not be installed: {reason}")


def _wait(mint: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline:
        if mint.poll() is not None:
            break
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310 - our own address
                return
        except OSError:
            time.sleep(0.2)
    last = log.read_text(errors="replace").strip().splitlines()[-1:]
    raise NutshellError(f"nutshell's mint did not start: {' '.join(last)}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
