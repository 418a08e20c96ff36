"""Why melts fail: what wallets are told, and the few kinds of it that are counted."""

from __future__ import annotations

from enum import StrEnum

GHOST = "the node stopped before the payment was sent, and can't pay this invoice again: ask for a new invoice"
NOT_SENT = "the payment was not sent, or came back"
PAID_BEFORE = "this node has paid the invoice already"
PENDING_BEFORE = "this node has another payment of the invoice in flight"
TOO_LITTLE_NOW = "the mint has too little confirmed bitcoin to pay this now: try again after the next block"
COINS_UNFIT = "the node can't pay this from its coins now: try again later"
COINS_SPENT = "the mint's coins for it were spent otherwise"
BY_XPAY = {
    203: "the destination refused the payment",
    205: "no route to the destination with enough capacity",
    206: "no route to the destination within the fee reserve",
    207: "the invoice has expired",
    209: "the payment failed on its way",
    210: "no route worked in the time for attempts",
    219: PAID_BEFORE,
}
"""By xpay's error codes."""


class Reason(StrEnum):
    """Kinds of failures."""

    REFUSED = "refused by the destination"
    NO_ROUTE = "no route"
    TOO_EXPENSIVE = "route above the fee reserve"
    EXPIRED = "invoice expired"
    ON_ITS_WAY = "failed on its way"
    TIMED_OUT = "out of time"
    PAID_OR_PENDING = "paid or pending otherwise"
    NOT_SENT = "not sent"
    NO_COINS = "too little on the chain"
    COINS_SPENT = "coins spent otherwise"
    OTHER = "other"

    @classmethod
    def of(cls, text: str | None) -> Reason:
        """The kind of what a wallet was told."""
        return _KINDS.get(text or "", cls.OTHER)


_KINDS = {
    BY_XPAY[203]: Reason.REFUSED,
    BY_XPAY[205]: Reason.NO_ROUTE,
    BY_XPAY[206]: Reason.TOO_EXPENSIVE,
    BY_XPAY[207]: Reason.EXPIRED,
    BY_XPAY[209]: Reason.ON_ITS_WAY,
    BY_XPAY[210]: Reason.TIMED_OUT,
    PAID_BEFORE: Reason.PAID_OR_PENDING,
    PENDING_BEFORE: Reason.PAID_OR_PENDING,
    GHOST: Reason.NOT_SENT,
    NOT_SENT: Reason.NOT_SENT,
    TOO_LITTLE_NOW: Reason.NO_COINS,
    COINS_UNFIT: Reason.NO_COINS,
    COINS_SPENT: Reason.COINS_SPENT,
}
