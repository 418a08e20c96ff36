"""The names of all that the writer does: the closed list of the ledger's durable steps."""

from __future__ import annotations

from enum import StrEnum


class Operation(StrEnum):
    """What one transaction of the ledger is for, whichever function it runs."""

    NODE_START = "node start"
    NODE_ROLLBACK = "node rollback"
    ROTATE = "rotate"
    MINT_QUOTE = "mint quote"
    CREDIT = "credit"
    PAY_INDEX = "pay index"
    MOVES_INDEX = "moves index"
    DEPOSITS_SEEN = "deposits seen"
    DEPOSIT_CREDIT = "deposit credit"
    ISSUE = "issue"
    ISSUE_BATCH = "batch issue"
    SWAP = "swap"
    MELT_QUOTE = "melt quote"
    MELT_BEGIN = "melt begin"
    MELT_SETTLE = "melt settle"
    MELT_RELEASE = "melt release"
    PAYOUT_BUILT = "payout built"
    PAYOUT_BROADCAST = "payout broadcast"
    PAYOUT_DISCARD = "payout discard"
    MELT_FORCE = "melt force"
    LOSS_NOTED = "loss noted"
    PAUSE = "pause"
    MOTD = "motd"
