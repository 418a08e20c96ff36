"""What is to happen to a payment: the vocabulary in which tests write their scripts.

A :class:`Behaviour` describes one `xpay` call from its first HTLC to its reply. Most scripts need only one of the
constructors (:meth:`Behaviour.success`, :meth:`~Behaviour.failure`, :meth:`~Behaviour.hold`, …); everything can be
combined by hand::

    Behaviour(
        parts=(Part.failure(), Part.hold()),               # the error that is not final
        notifications=Notifications(repeat=2),
    )
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from contrib.sandbox.errors import (
    PAY_DESTINATION_PERM_FAIL,
    PAY_ROUTE_NOT_FOUND,
    PAY_ROUTE_TOO_EXPENSIVE,
    PAY_TRY_OTHER_ROUTE,
    PAY_UNPARSEABLE_ONION,
    PAY_UNSPECIFIED_ERROR,
    PLUGIN_ERROR,
)

NO_ROUTE = "Failed: We could not find a usable set of paths."
TOO_EXPENSIVE = "Failed: Could not find route without excessive cost"
UNKNOWN_INVOICE = "Destination said it doesn't know invoice: incorrect_or_unknown_payment_details"
UNSPECIFIED = "Failed after 1 attempts. Then routing failed: We could not find a usable set of paths."
STILL_IN_PROGRESS = (
    'Unexpected injectpaymentonion error 200: {"code":200,"message":"Payment with groupid=1 still in progress,'
    ' cannot retry before that completes."}'
)

DEFAULT_MESSAGES = {
    PAY_DESTINATION_PERM_FAIL: UNKNOWN_INVOICE,
    PAY_ROUTE_NOT_FOUND: NO_ROUTE,
    PAY_ROUTE_TOO_EXPENSIVE: TOO_EXPENSIVE,
    PAY_UNSPECIFIED_ERROR: UNSPECIFIED,
    PLUGIN_ERROR: STILL_IN_PROGRESS,
}
"""What xpay says with a code, where a script does not say it itself."""


class Outcome(StrEnum):
    """What becomes of one part."""

    SUCCESS = "success"
    FAILURE = "failure"
    HOLD = "hold"
    """Pending, with an HTLC, until released one way or the other."""
    GHOST = "ghost"
    """A row that is pending for ever with no HTLC behind it: the node died between writing and sending."""


@dataclass(frozen=True)
class PartFailure:
    """How a failed part shows: in `pay_part_end`, and in the code and text of `sendpay_failure`."""

    error_code: int = 0x400F
    error_message: str = "incorrect_or_unknown_payment_details"
    permanent: bool = True
    """True: the destination refused, xpay gives up with 203. False: xpay says 209 when nothing else is left."""
    notified_code: int = PAY_UNPARSEABLE_ONION
    notified_message: str = "Malformed error reply"

    @classmethod
    def of_own_node(cls) -> PartFailure:
        """An invoice of this node that is unknown, paid or expired: xpay can't read what its own node made up."""
        return cls(error_message="Malformed error reply")

    def onion_message(self, amount_msat: int, height: int) -> str:
        """The failure as it comes out of the onion: what the destination refuses goes with amount and height."""
        text = f"{self.error_code:04x}"
        return text + f"{amount_msat:016x}{height:08x}" if self.permanent else text


DESTINATION_REFUSED = PartFailure()
TEMPORARY_CHANNEL_FAILURE = PartFailure(0x1007, "temporary_channel_failure", permanent=False)
MPP_TIMEOUT = PartFailure(0x0017, "mpp_timeout", permanent=False)
ON_CHAIN_TIMEOUT = PartFailure(
    0x4008,
    "permanent_channel_failure",
    permanent=False,
    notified_code=PAY_TRY_OTHER_ROUTE,
    notified_message="failed: WIRE_PERMANENT_CHANNEL_FAILURE (WIRE_PERMANENT_CHANNEL_FAILURE: timed out)",
)


@dataclass(frozen=True)
class Part:
    """One HTLC of a payment."""

    outcome: Outcome = Outcome.SUCCESS
    amount_msat: int | None = None
    """How much it delivers; None: an even share of what the parts with an amount leave over."""
    fee_msat: int | None = None
    """Routing fee; None: the node's default fee, or less where `maxfee` does not allow it."""
    after_s: float = 0.0
    """From sending the part to its outcome."""
    retry: bool = False
    """Sent only when the part before it has failed, with that part's amount."""
    cause: PartFailure = DESTINATION_REFUSED

    @classmethod
    def success(cls, *, after_s: float = 0.0, fee_msat: int | None = None, amount_msat: int | None = None) -> Part:
        """A part that arrives."""
        return cls(Outcome.SUCCESS, amount_msat, fee_msat, after_s)

    @classmethod
    def failure(
        cls, cause: PartFailure = DESTINATION_REFUSED, *, after_s: float = 0.0, amount_msat: int | None = None
    ) -> Part:
        """A part that comes back."""
        return cls(Outcome.FAILURE, amount_msat, None, after_s, cause=cause)

    @classmethod
    def hold(cls, *, fee_msat: int | None = None, amount_msat: int | None = None) -> Part:
        """A part that stays pending until it is released."""
        return cls(Outcome.HOLD, amount_msat, fee_msat)

    @classmethod
    def ghost(cls) -> Part:
        """A row with no HTLC behind it."""
        return cls(Outcome.GHOST)


class ReplyKind(StrEnum):
    """What the caller of xpay gets."""

    TRUTHFUL = "truthful"
    ERROR = "error"
    CLOSED = "closed"
    """The connection is closed instead of a reply."""
    SILENT = "silent"
    """No reply, ever; the connection stays open."""


class ReplyTime(StrEnum):
    """When the caller gets it."""

    NATURAL = "natural"
    """When xpay would: at the first preimage, or when it gives up."""
    DISPATCHED = "dispatched"
    """As soon as the first parts are on their way."""
    SETTLED = "settled"
    """When every part is resolved, as with xpay-slow-mode."""


@dataclass(frozen=True)
class Reply:
    """What xpay answers, and when."""

    kind: ReplyKind = ReplyKind.TRUTHFUL
    when: ReplyTime = ReplyTime.NATURAL
    delay_s: float = 0.0
    code: int = 0
    message: str = ""

    @classmethod
    def truthful(cls, *, when: ReplyTime = ReplyTime.NATURAL, delay_s: float = 0.0) -> Reply:
        """What really happened."""
        return cls(ReplyKind.TRUTHFUL, when, delay_s)

    @classmethod
    def error(
        cls,
        code: int,
        message: str | None = None,
        *,
        when: ReplyTime = ReplyTime.DISPATCHED,
        delay_s: float = 0.0,
    ) -> Reply:
        """An error, whatever the parts do."""
        text = message if message is not None else DEFAULT_MESSAGES.get(code, "Failed")
        return cls(ReplyKind.ERROR, when, delay_s, code, text)

    @classmethod
    def closed(cls, *, when: ReplyTime = ReplyTime.NATURAL, delay_s: float = 0.0) -> Reply:
        """The connection is closed where the reply would have been."""
        return cls(ReplyKind.CLOSED, when, delay_s)

    @classmethod
    def silent(cls) -> Reply:
        """No reply."""
        return cls(ReplyKind.SILENT)


@dataclass(frozen=True)
class Notifications:
    """How the notifications of a payment travel. The rows are never affected, only the news of them."""

    repeat: int = 1
    """How many times each is sent; 0: dropped."""
    delay_s: float = 0.0
    after_reply: bool = False
    """True: held back until the caller has its reply."""

    @classmethod
    def dropped(cls) -> Notifications:
        """None is sent."""
        return cls(repeat=0)


@dataclass(frozen=True)
class Behaviour:
    """Everything about one payment that the world outside decides."""

    parts: tuple[Part, ...] = (Part(),)
    delay_s: float = 0.0
    """Between the call and the first part: the time in which no record exists anywhere."""
    refusal: tuple[int, str] | None = None
    """Code and text of a failure before the first part: no row, no notification."""
    reply: Reply = field(default_factory=Reply)
    notifications: Notifications = field(default_factory=Notifications)

    @classmethod
    def success(cls, *, after_s: float = 0.0, fee_msat: int | None = None, parts: int = 1) -> Behaviour:
        """Paid, after a while."""
        return cls(parts=tuple(Part.success(after_s=after_s, fee_msat=fee_msat) for _ in range(parts)))

    @classmethod
    def failure(cls, cause: PartFailure = DESTINATION_REFUSED, *, after_s: float = 0.0) -> Behaviour:
        """One part goes out and comes back: code 203, or 209 with a cause that is not permanent."""
        return cls(parts=(Part.failure(cause, after_s=after_s),))

    @classmethod
    def hold(cls, *, parts: int = 1, fee_msat: int | None = None) -> Behaviour:
        """Pending until released."""
        return cls(parts=tuple(Part.hold(fee_msat=fee_msat) for _ in range(parts)))

    @classmethod
    def ghost(cls) -> Behaviour:
        """A row that is pending for ever, no HTLC, no reply."""
        return cls(parts=(Part.ghost(),))

    @classmethod
    def refused(cls, code: int = PAY_ROUTE_NOT_FOUND, message: str | None = None, *, after_s: float = 0.0) -> Behaviour:
        """Fails before the first part."""
        text = message if message is not None else DEFAULT_MESSAGES.get(code, "Failed")
        return cls(delay_s=after_s, refusal=(code, text))

    @classmethod
    def error_in_flight(
        cls, code: int = PAY_UNSPECIFIED_ERROR, message: str | None = None, *, parts: tuple[Part, ...] = (Part.hold(),)
    ) -> Behaviour:
        """xpay answers an error while its parts are still out."""
        return cls(parts=parts, reply=Reply.error(code, message))

    @classmethod
    def lost_reply(cls, *parts: Part, silent: bool = False) -> Behaviour:
        """The payment runs, but its caller never hears of it: connection closed, or silence."""
        return cls(
            parts=parts or (Part(),),
            reply=Reply.silent() if silent else Reply.closed(when=ReplyTime.DISPATCHED),
        )


def part_to_json(part: Part) -> dict[str, Any]:
    """For keeping the plan of a part that is in flight over a restart of the sandbox."""
    return asdict(part)


def part_from_json(saved: dict[str, Any]) -> Part:
    """The reverse of :func:`part_to_json`."""
    return Part(**{**saved, "outcome": Outcome(saved["outcome"]), "cause": PartFailure(**saved["cause"])})


_WORDS: dict[str, Callable[[], Behaviour]] = {
    "success": Behaviour.success,
    "failure": Behaviour.failure,
    "hold": Behaviour.hold,
    "ghost": Behaviour.ghost,
    "noroute": Behaviour.refused,
}


def behaviour_from_word(word: str) -> Behaviour | None:
    """The behaviours that can be named on a command line; a number means a refusal with that code."""
    if word in _WORDS:
        return _WORDS[word]()
    if word.removeprefix("-").isdigit():
        return Behaviour.refused(int(word))
    return None
