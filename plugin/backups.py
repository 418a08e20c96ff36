"""The commands about copies of the ledger: making one while the mint serves, and telling whether one could be used."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ledger.errors import StartError
from ledger.identity import require_newest
from ledger.store import backup
from plugin.commands import CommandError
from plugin.mint import Mint

MAX_PATH = 4096
PERCENT = 100
"""Progress is told in so many steps."""
KEEP_ALSO = (
    "the node's hsm_secret: the mint's keys come out of it",
    "the node's own database: it holds the channels, and the payments that the mint looks up",
)

Tell = Callable[[int, int], None]
"""Tells whoever has asked for the backup how far it is: step and number of steps. Called in a worker thread."""

log = logging.getLogger(__name__)


async def make(mint: Mint, path: Any, tell: Tell) -> dict[str, Any]:
    """Copy the ledger to a new file, in a worker thread: neither wallets nor the writer wait for it."""
    if mint.services is None:
        raise CommandError(f"the mint is not ready: {mint.failure or 'recovering'}")
    target = _path(mint, path)
    if mint.backing_up.locked():
        raise CommandError("another backup is being made: wait until it is done")
    ledger = mint.services.ledger
    async with mint.backing_up:
        log.info("a backup of the ledger to %s begins", target)
        made_at = int(time.time())
        try:
            copy = await asyncio.to_thread(ledger.backup, target, _in_steps(tell))
        except backup.BackupError as error:
            raise CommandError(str(error)) from error
    log.info("the backup of the ledger to %s is done: %d bytes, commit %d", target, copy.size, copy.record.commits)
    return {
        **_describe(copy),
        "made_at": made_at,
        "sentence": f"This is the ledger after commit {copy.record.commits}, and whole. {_books(copy)}",
        "keep_also": list(KEEP_ALSO),
    }


async def check(mint: Mint, path: Any) -> dict[str, Any]:
    """Whether a file could be put in the ledger's place. Needs no mint that runs: only the node."""
    copy_path = _path(mint, path)
    try:
        copy = await asyncio.to_thread(backup.check, copy_path)
        remembered = await mint.remembered()
    except (backup.BackupError, StartError) as error:
        raise CommandError(str(error)) from error
    try:
        require_newest(copy.record, remembered)
        refusal = None
    except StartError as error:
        refusal = str(error)
    if remembered is None:
        verdict = "This node remembers no mint: it would open any ledger whose keys come out of its secret."
    elif refusal is None:
        verdict = f"The mint would go on with it: the node remembers commit {remembered.commits} of this mint."
    else:
        verdict = f"The mint would refuse it: {refusal}"
    return {
        **_describe(copy),
        "remembered_commits": None if remembered is None else remembered.commits,
        "usable": refusal is None,
        "sentence": f"{verdict} {_books(copy)}",
    }


def _path(mint: Mint, path: Any) -> Path:
    if not isinstance(path, str) or not path or len(path) > MAX_PATH or not path.isprintable():
        raise CommandError("path must be the path of a file; a relative one starts at the node's network directory")
    resolved = mint.directory / path
    if path.endswith("/") or resolved.name in ("", ".."):
        raise CommandError(f"{path!r} is a folder: name a file in it")
    return resolved


def _in_steps(tell: Tell) -> backup.Progress:
    """Not more than once for each percent."""
    told = 0

    def on_progress(copied: int, total: int) -> None:
        nonlocal told
        percent = PERCENT * copied // max(1, total)
        if percent > told:
            told = percent
            tell(percent, PERCENT)

    return on_progress


def _describe(copy: backup.Copy) -> dict[str, Any]:
    return {
        "path": str(copy.path),
        "bytes": copy.size,
        "mint_id": copy.record.mint_id,
        "epoch": copy.record.epoch,
        "commits": copy.record.commits,
        "balanced": not copy.books.faults,
        "faults": list(copy.books.faults),
        "owed_msat": copy.books.owed_msat,
    }


def _books(copy: backup.Copy) -> str:
    if copy.books.faults:
        return f"ITS BOOKS DO NOT BALANCE ({len(copy.books.faults)} faults): run cashu-audit."
    return f"Its books balance: it owes {copy.books.owed_msat} msat."
