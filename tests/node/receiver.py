#!/usr/bin/env python3
"""A receiver that holds, rejects or claims incoming HTLCs on command: a plugin for the node that the mint pays.

What happens to the HTLCs of a payment hash is planned before they arrive; without a plan they are accepted.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from pyln.client import Plugin, RpcException
from pyln.client.plugin import Request

UNKNOWN_PAYMENT_DETAILS = "400f"
"""Failure code of BOLT 4; amount (8 bytes) and height (4 bytes) follow."""

plugin = Plugin()
plans: dict[str, list[str]] = defaultdict(list)
held: dict[str, list[Request]] = defaultdict(list)


def _answer(action: str, preimage: str | None = None) -> dict[str, str]:
    match action:
        case "accept":
            return {"result": "continue"}
        case "reject":
            return {"result": "fail", "failure_message": UNKNOWN_PAYMENT_DETAILS + "00" * 12}
        case "claim" if preimage:
            return {"result": "resolve", "payment_key": preimage}
    raise RpcException(f"cannot {action}")


@plugin.async_hook("htlc_accepted")
def on_htlc(htlc: dict[str, Any], request: Request, **_: Any) -> None:
    """Treat an incoming HTLC as planned."""
    payment_hash = htlc["payment_hash"]
    plan = plans[payment_hash]
    action = plan.pop(0) if plan else "accept"
    if action == "hold":
        held[payment_hash].append(request)
    else:
        request.set_result(_answer(action))


@plugin.method("receiver-plan")
def receiver_plan(payment_hash: str, actions: list[str]) -> dict[str, Any]:
    """Say what to do with the next HTLCs of this hash, one action each: accept, reject or hold."""
    plans[payment_hash] = list(actions)
    return {}


@plugin.method("receiver-held")
def receiver_held(payment_hash: str) -> dict[str, Any]:
    """How many HTLCs of this hash are held."""
    return {"held": len(held[payment_hash])}


@plugin.method("receiver-release")
def receiver_release(payment_hash: str, action: str, preimage: str | None = None) -> dict[str, Any]:
    """End the hold of all HTLCs of this hash: accept, reject, or claim (with the preimage, whatever is missing)."""
    requests = held.pop(payment_hash, [])
    for request in requests:
        request.set_result(_answer(action, preimage))
    return {"released": len(requests)}


if __name__ == "__main__":
    plugin.run()
