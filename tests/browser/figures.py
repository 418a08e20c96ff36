"""Figures of a mint that has been busy, the same each time: what the operator's page is photographed with."""

from __future__ import annotations

import math
from typing import Any

NOW = 1_800_000_000
"""A Friday morning in January 2027, UTC."""
STEP_S = 3600
STEPS = 24
SINCE = (NOW // STEP_S - STEPS + 1) * STEP_S
REST_MSAT = 3_000_000_000
PENDING = [("5f1d3c9a70be-1", "bolt11", 21_000, 90_061), ("0c44aa19e7d2-2", "bolt12", 1_250, 754)]


def flows() -> list[dict[str, Any]]:
    """Like tides, with a pause in the night."""
    found = []
    for step in range(STEPS):
        at = SINCE + step * STEP_S
        busy = max(0.0, math.sin((step - 3) / STEPS * 2 * math.pi) + 0.6)
        for method, size in (("bolt11", 1_000_000), ("bolt12", 320_000), ("onchain", 2_000_000 * (step % 9 == 4))):
            came, went = int(busy * size), int(busy * size * (0.5 + 0.4 * math.cos(step)))
            if came or went:
                found.append(
                    {
                        "at": at,
                        "method": method,
                        "in_msat": came * 1000,
                        "out_msat": went * 1000,
                        "fees_msat": went * 3,
                        "receipts": 1 + step % 5,
                        "payments": 1 + step % 3,
                    }
                )
    return found


def overview(**changes: Any) -> dict[str, Any]:
    """An answer of `/operator/data`."""
    owed, history = 6_000_000_000, []
    by_step: dict[int, int] = {}
    for flow in flows():
        by_step[flow["at"]] = by_step.get(flow["at"], 0) + flow["in_msat"] - flow["out_msat"]
    for at, net in sorted(by_step.items()):
        owed += net
        history.append({"at": at + STEP_S - 60, "owed_msat": owed, "owned_msat": owed + REST_MSAT + at % 7 * 10**8})
    history[-1]["at"] = NOW - 60
    last = history[-1]
    return {
        "time": NOW,
        "name": "Harbour Mint",
        "version": "0.1.0",
        "span": "day",
        "since": SINCE,
        "step_s": STEP_S,
        "balance": {
            "owed_msat": last["owed_msat"],
            "outstanding_msat": last["owed_msat"] - 25_000_000,
            "unissued_msat": 25_000_000,
            "owned_msat": last["owned_msat"],
            "channels_msat": last["owned_msat"] - 2_000_000_000,
            "onchain_msat": 2_000_000_000,
            "on_the_way_msat": 0,
            "sendable_msat": last["owned_msat"] - 2_400_000_000,
            "receivable_msat": 4_000_000_000,
        },
        "fees": {"input_msat": 91_000, "paid_msat": 40_127_000, "earned_msat": 61_250_000},
        "history": history,
        "flows": flows(),
        "pending": {
            "count": len(PENDING),
            "sum_msat": sum(amount * 1000 for _, _, amount, _ in PENDING),
            "melts": [
                {"handle": handle, "method": method, "unit": "sat", "amount": amount, "begun_at": NOW - age}
                for handle, method, amount, age in PENDING
            ],
        },
        "failures": [
            {"method": "bolt11", "reason": "no route to the payee was found", "count": 14, "last_at": NOW - 90},
            {"method": "bolt12", "reason": "the payee's node did not answer", "count": 3, "last_at": NOW - 900},
        ],
        "keysets": [
            {
                "id": f"01{number}d4b8a1c7e3f52{'0' * 48}",
                "unit": "sat",
                "active": number == 2,
                "input_fee_ppk": 100 * (number == 2),
                "final_expiry": None if number == 2 else NOW + 90 * 86400,
                "issued": 48_211_904 * number,
                "redeemed": 44_000_123 * number,
                "outstanding": 4_211_781 * number,
                "fees": 91 * (number == 2),
            }
            for number in (1, 2)
        ],
        "health": [
            {"name": "Solvency", "state": "good", "text": "Covered: the mint owes less than its node owns."},
            {"name": "Books", "state": "good", "text": "What came in covers what is owed and what was paid out."},
            {
                "name": "Melts",
                "state": "warn",
                "text": "One has been in flight for 25 hours: cashu-pending says why.",
            },
        ],
        **changes,
    }
