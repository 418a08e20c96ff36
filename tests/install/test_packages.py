"""What is in the packages that pip and uv install."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import pytest

from tests.install.clean import PATIENCE_S, CleanUser

pytestmark = [pytest.mark.slow, pytest.mark.timeout(PATIENCE_S)]


@pytest.fixture(scope="module")
def built(source: Path, index: None, tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The files of the wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    user = CleanUser(folder / "home")
    user.run("python3", "-m", "venv", "build")
    user.run("build/bin/pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, source)
    (wheel,) = folder.glob("*.whl")
    return set(zipfile.ZipFile(wheel).namelist())


def test_the_wheel_has_all_of_the_mint_code_or_not(built: set[str], source: Path) -> None:
    """The schema's steps, and whatever else lies beside the code, as well as the code."""
    listed = subprocess.run(
        ["git", "ls-files", "plugin", "ledger", "nutbolt.py"], cwd=source, capture_output=True, text=True, check=True
    ).stdout.split()
    assert set(listed) <= built
    assert "ledger/store/schema/0001_ledger.sql" in built


def test_the_wheel_has_nothing_else(built: set[str]) -> None:
    """A package `tests` or `contrib` in site-packages would be in the way of everybody else's."""
    tops = {name.split("/")[0] for name in built}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"plugin", "ledger", "nutbolt.py"}
