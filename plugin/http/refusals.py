"""What a client is told when its request could not be served, whoever served it."""

from __future__ import annotations

import logging
from typing import NamedTuple

from ledger.errors import Code, LedgerError, StorageError
from plugin.http.connection import BusyError
from plugin.http.limits import TooManyRequestsError
from plugin.node.rpc import NodeUnavailableError, OutcomeUnknownError, RpcError

RETRY_AFTER_S = 2
"""When to try again what can't be done now."""
LATE = "the request's body did not arrive in time"
UNAVAILABLE = (StorageError, NodeUnavailableError, OutcomeUnknownError, RpcError)

log = logging.getLogger(__name__)


class Refusal(NamedTuple):
    """An answer that is not what was asked for. `retry_after_s`: when it may be."""

    detail: str
    code: int
    status: int = 400
    retry_after_s: int | None = None


class NotReadyError(Exception):
    """The mint is starting or stopping; the text says which."""


class LateError(Exception):
    """The request's body did not arrive in time."""


def of(error: Exception) -> Refusal:
    """The refusal that tells of this error; what is no refusal of ours is logged."""
    match error:
        case NotReadyError():
            return Refusal(str(error), Code.REQUEST_REJECTED, 503, RETRY_AFTER_S)
        case LateError():
            return Refusal(str(error), Code.REQUEST_REJECTED)
        case LedgerError():
            return Refusal(error.detail, error.code)
        case TooManyRequestsError():
            return Refusal(str(error), Code.REQUEST_REJECTED, 429, error.retry_after_s)
        case BusyError():
            return Refusal(f"{error}: try again", Code.REQUEST_REJECTED, 503, RETRY_AFTER_S)
    if isinstance(error, UNAVAILABLE):
        log.warning("a request could not be served: %s", error)
        detail = "the mint can't do this right now: try again"
        return Refusal(detail, Code.REQUEST_REJECTED, 503, RETRY_AFTER_S)
    log.error("a request failed: %r", error, exc_info=error)
    return Refusal("internal error", Code.REQUEST_REJECTED, 500)
