"""Where a sandbox keeps its things when nobody says where."""

from __future__ import annotations

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PLUGIN = REPOSITORY / "nutbolt.py"

_APPLICATION = "nutbolt-sandbox"
_LAST = "last-directory"


def data_directory() -> Path:
    """The per-user directory for a sandbox that is to be kept."""
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / _APPLICATION


def remember(directory: Path) -> None:
    """Note which sandbox was started last, so that `cli` finds it by itself."""
    try:
        data_directory().mkdir(parents=True, exist_ok=True)
        (data_directory() / _LAST).write_text(str(directory.absolute()), encoding="utf-8")
    except OSError:
        return  # a convenience only: a home that can't be written to is no reason to stop


def last_directory() -> Path:
    """The directory of the sandbox that was started last."""
    try:
        return Path((data_directory() / _LAST).read_text(encoding="utf-8").strip())
    except OSError:
        return data_directory()
