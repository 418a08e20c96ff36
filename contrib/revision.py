"""Which commit was measured: the pages of figures say it."""

from __future__ import annotations

import subprocess

from contrib import bootstrap


def commit() -> str:
    """Short, with a + if the tree is not what was committed; pages of figures themselves don't count."""
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!contrib/docs")
    return (_git("rev-parse", "--short", "HEAD") or "unknown") + ("+" if changed else "")


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=bootstrap.ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
