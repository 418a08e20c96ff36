"""Clean users with the project's source, and the package index that installing needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.install.clean import CleanUser, copy_source
from tests.plugin.harness import is_free

DEFAULT_PORT = 3338


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project as it lies here, as a git repository."""
    return copy_source(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="session")
def index(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Packages can be downloaded."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir", "typing-extensions"]
    folder = tmp_path_factory.mktemp("download")
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    if ran.returncode != 0:
        pytest.skip("no package index can be reached")


@pytest.fixture
def user(tmp_path: Path, index: None) -> CleanUser:
    """Somebody new."""
    return CleanUser(tmp_path / "home")


@pytest.fixture
def default_port() -> int:
    """What is installed without options listens there."""
    if not is_free(DEFAULT_PORT):
        pytest.skip(f"another program uses port {DEFAULT_PORT}")
    return DEFAULT_PORT
