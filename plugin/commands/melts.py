"""`cashu-pending` and `cashu-resolve`: melts in flight."""

from __future__ import annotations

import re
from typing import Any

from ledger.ids import HANDLE_DIGITS
from plugin.commands.parameters import Answer, Call, CommandError, flag, services
from plugin.methods.resolver import Force
from plugin.mint import Mint

MAX_REASON = 500
MAX_WHO = 200
HANDLE = rf"[0-9a-f]{{{HANDLE_DIGITS}}}-[0-9]{{1,9}}"


async def pending(mint: Mint, call: Call) -> Answer:
    """List the melts in flight, oldest first, or the one with {handle}: what is known of each, and what that means.

    A handle names one attempt at a melt, and nothing that is secret."""
    handle = call["handle"]
    melts, more = await services(mint).resolver.pending(None if handle is None else _handle(handle))
    return {"melts": melts, "more": more}


async def resolve(mint: Mint, call: Call) -> Answer:
    """Decide about the melt {handle} (see cashu-pending) again, from what the node knows now.

    With {force}=true, end it as {outcome} (paid or failed), where the node knows nothing that could still decide
    it; {reason} is written down. A {preimage}, if known, is given to the wallet of a paid one."""
    outcome, reason, preimage = call["outcome"], call["reason"], call["preimage"]
    resolver = services(mint).resolver
    handle = _handle(call["handle"])
    if not flag("force", call["force"]):
        if any(value is not None for value in (outcome, reason, preimage)):
            raise CommandError(
                "without force=true the node's evidence decides, and only handle may be given; outcome, reason and "
                "preimage are for force=true"
            )
        return await resolver.resolve(handle)
    if outcome not in ("paid", "failed"):
        raise CommandError("with force=true, outcome must be paid or failed")
    if not isinstance(reason, str) or not reason.strip() or not reason.isprintable() or len(reason) > MAX_REASON:
        raise CommandError(f"with force=true, reason must say why, in at most {MAX_REASON} printable characters")
    known = None if preimage is None else _preimage(preimage)
    if known is not None and outcome != "paid":
        raise CommandError("a preimage is for outcome=paid")
    who = f"operator, {call.who}"[:MAX_WHO]
    return await resolver.force(handle, Force(outcome == "paid", reason.strip(), who, known))


def _handle(value: Any) -> str:
    if not isinstance(value, str) or re.fullmatch(HANDLE, value) is None:
        raise CommandError("handle must be one that cashu-pending shows, for example 0123456789ab-1")
    return value


def _preimage(value: Any) -> bytes:
    if not isinstance(value, str) or re.fullmatch("[0-9a-fA-F]{64}", value) is None:
        raise CommandError("preimage must be 64 hex digits")
    return bytes.fromhex(value)
