"""`cashu-backup` and `cashu-restore-check`: a copy of the ledger made while the mint serves, and whether one could be
used."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import Any

from ledger.errors import StartError
from ledger.identity import require_newest
from ledger.store import backup
from plugin.commands.parameters import Answer, Call, CommandError, Tell, services
from plugin.mint import Mint

MAX_PATH = 4096
PERCENT = 100
"""Progress is told in so many steps."""
KEEP_ALSO = (
    "the node's hsm_secret: the mint's keys come out of it",
    "the node's own database: it holds the channels, and the payments that the mint looks up",
)

log = logging.getLogger(__name__)


async def make(mint: Mint, call: Call) -> Answer:
    """Copy the mint's ledger, while it serves, to the new file {path}, and verify the copy.

    A relative {path} starts at the node's network directory. An existing file is never replaced."""
    ledger = services(mint).ledger
    target = _path(mint, call["path"])
    if mint.backing_up.locked():
        raise CommandError("another backup is being made: wait until it is done")
    async with mint.backing_up:
        log.info("a backup of the ledger to %s begins", target)
        made_at = int(time.time())
        try:
            copy = await asyncio.to_thread(ledger.backup, target, _in_steps(call.tell))
        except backup.BackupError as error:
            log.warning("there is no backup of the ledger to %s: %s", target, error)
            raise CommandError(str(error)) from error
    log.info("the backup of the ledger to %s is done: %d bytes, commit %d", target, copy.size, copy.record.commits)
    return {
        **_describe(copy),
        "made_at": made_at,
        "sentence": f"This is the ledger after commit {copy.record.commits}, and whole. {_books(copy)}",
        "keep_also": list(KEEP_ALSO),
    }


async def check(mint: Mint, call: Call) -> Answer:
    """Tell whether the file {path} is a sound ledger of this node's mint, and how new; changes nothing.

    Works also when the mint does not start because its ledger is missing or old."""
    copy_path = _path(mint, call["path"])
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


def _describe(copy: backup.Copy) -> Answer:
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
