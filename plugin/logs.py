"""Python's logging into lightningd's log. Levels: a warning is UNUSUAL, an error is BROKEN: a bug, or money at risk."""

from __future__ import annotations

import logging
from collections.abc import Callable

from ledger.events import Event, MintQuoteChanged
from ledger.ids import label_of

log = logging.getLogger(__name__)

OWN_LOGGERS = ("plugin", "ledger")
MAX_LINE = 4000


class LightningdHandler(logging.Handler):
    """Sends records through the plugin's protocol."""

    def __init__(self, send: Callable[[str, str], None]) -> None:
        super().__init__()
        self._send = send
        self.setFormatter(logging.Formatter("%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Never raises: a log line must not break what it tells about."""
        try:
            self._send(self.format(record)[:MAX_LINE], _level(record.levelno))
        except (OSError, ValueError):
            return  # the pipe is closed: the node is gone, and we are about to be
        except Exception:
            self.handleError(record)


def _level(number: int) -> str:
    if number >= logging.ERROR:
        return "broken"
    if number >= logging.WARNING:
        return "unusual"
    return "info" if number >= logging.INFO else "debug"


def install(send: Callable[[str, str], None]) -> None:
    """Replace all handlers. Libraries are heard from warnings on, the mint itself from debug on."""
    # What no line shows needs not be found out for each of them: where in the code it was logged, by which thread.
    logging._srcfile = None  # as Python's "Logging HOWTO, Optimization" says
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    root = logging.getLogger()
    root.handlers = [LightningdHandler(send)]
    root.setLevel(logging.WARNING)
    for name in OWN_LOGGERS:
        logging.getLogger(name).setLevel(logging.DEBUG)


def on_event(event: Event) -> None:
    """A subscriber to the ledger's events, for what is over when it is committed; called in the writer's thread."""
    if isinstance(event, MintQuoteChanged) and event.issued:
        quote = event.quote
        log.info("ecash issued: %d %s, %s quote %s", event.issued, quote.unit, quote.method, label_of(quote.quote))
