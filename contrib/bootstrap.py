"""Set-up for the two commands of the README: a virtual environment beside the checkout, made and kept by itself.

Only the standard library is used here, and any Python 3 can read it far enough to say that it is too old.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

OLDEST_PYTHON = (3, 11)
ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv"
PYTHON = ENVIRONMENT / "bin" / "python"


def enter(*extras: str) -> None:
    """Go on in the project's virtual environment, with these optional dependencies installed.

    Makes or updates it if need be, then starts the calling script again in it. Ends the process with a sentence if
    that can't be done."""
    if sys.version_info < OLDEST_PYTHON:
        sys.exit(f"Nutbolt needs Python 3.11 or newer; this is {sys.version.split()[0]}.")
    wanted = _fingerprint(extras)
    stamp = ENVIRONMENT / f"nutbolt-{'-'.join(extras)}.stamp"
    if not PYTHON.exists() or not stamp.exists() or stamp.read_text() != wanted:
        _install(extras)
        stamp.write_text(wanted)
    if Path(sys.prefix).resolve() != ENVIRONMENT.resolve():
        os.execv(PYTHON, [str(PYTHON), *sys.orig_argv[1:]])  # noqa: S606 - our own interpreter


def _fingerprint(extras: tuple[str, ...]) -> str:
    return hashlib.sha256((ROOT / "pyproject.toml").read_bytes() + repr((extras, str(ROOT))).encode()).hexdigest()


def _install(extras: tuple[str, ...]) -> None:
    project = f"{ROOT}[{','.join(extras)}]"
    print(f"Installing into {ENVIRONMENT} …", file=sys.stderr, flush=True)
    if not PYTHON.exists():
        _make_environment()
    if _run(str(PYTHON), "-m", "pip", "--version", quiet=True):
        command = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--editable", project]
    else:
        command = ["uv", "pip", "install", "--quiet", "--python", str(PYTHON), "--editable", project]
    if not _run(*command):
        sys.exit(f"Could not install the dependencies; what failed was: {' '.join(command)}")


def _make_environment() -> None:
    """With the standard library; some systems ship it without ensurepip, then with uv if that is there."""
    if _run(sys.executable, "-m", "venv", str(ENVIRONMENT), quiet=True):
        return
    shutil.rmtree(ENVIRONMENT, ignore_errors=True)
    if shutil.which("uv") and _run("uv", "venv", "--quiet", "--python", sys.executable, str(ENVIRONMENT)):
        return
    sys.exit(
        f"{sys.executable} can't make virtual environments. Install the package for it "
        "(on Debian and Ubuntu: python3-venv), or uv, and try again."
    )


def _run(*command: str, quiet: bool = False) -> bool:
    output = subprocess.DEVNULL if quiet else sys.stderr
    try:
        return subprocess.run(command, stdout=output, stderr=output, check=False).returncode == 0
    except OSError:
        return False
