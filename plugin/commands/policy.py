"""`cashu-pause`, `cashu-unpause` and `cashu-motd`: what the operator decides while the mint runs. It holds over
restarts."""

from __future__ import annotations

import asyncio
import logging

from ledger.operations.policy import Policy
from plugin.commands.parameters import Answer, Call, CommandError, one_of, services, text
from plugin.mint import Mint

MINTING, MELTING, BOTH = "minting", "melting", "both"
MAX_MOTD = 1000
"""Longest message of the day, in characters."""
GOES_ON = "Swaps go on, what was paid is still issued, and melts in flight go on to their end."

log = logging.getLogger(__name__)


async def pause(mint: Mint, call: Call) -> Answer:
    """Refuse new mint quotes, new melts, or both, until cashu-unpause, also over restarts: {what} is minting, melting
    or both (default: both).

    Swaps go on, what was paid is still issued, and melts in flight go on to their end."""
    return await _set(mint, call, True)


async def unpause(mint: Mint, call: Call) -> Answer:
    """End a pause of minting, melting, or both: {what} (default: both)."""
    return await _set(mint, call, False)


async def _set(mint: Mint, call: Call, wanted: bool) -> Answer:
    ledger = services(mint).ledger
    what = one_of("what", call["what"], (MINTING, MELTING, BOTH), BOTH)
    policy = await asyncio.wrap_future(
        ledger.pause(wanted if what in (MINTING, BOTH) else None, wanted if what in (MELTING, BOTH) else None)
    )
    services(mint).changed()
    paused = _paused(policy)
    log.info("the operator has %s %s: paused is now %s", "paused" if wanted else "unpaused", what, paused or "nothing")
    return {
        "minting": "open" if policy.minting_paused_at is None else "paused",
        "melting": "open" if policy.melting_paused_at is None else "paused",
        "minting_paused_at": policy.minting_paused_at,
        "melting_paused_at": policy.melting_paused_at,
        "sentence": f"Paused: {paused}. {GOES_ON}" if paused else "Nothing is paused.",
        "format-hint": "simple",
    }


def _paused(policy: Policy) -> str:
    times = {MINTING: policy.minting_paused_at, MELTING: policy.melting_paused_at}
    return " and ".join(name for name, since in times.items() if since is not None)


async def motd(mint: Mint, call: Call) -> Answer:
    """Set the message of the day, which wallets show their users, to {message}; '' takes it away.

    Without {message}, show the present one."""
    ledger = services(mint).ledger
    policy = ledger.policy
    if call["message"] is not None:
        message = text("message", call["message"], MAX_MOTD).strip()
        if call["message"] and not message:
            raise CommandError("message is blank: to take the present one away, give an empty one, ''")
        policy = await asyncio.wrap_future(ledger.set_motd(message or None))
        log.info("the operator has %s the message of the day", "set" if message else "taken away")
    return {"motd": policy.motd, "format-hint": "simple"}
