"""Commands on their way between lightningd and the mint's event loop."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from inspect import Parameter, Signature
from typing import Any

from pyln.client import Plugin
from pyln.client.plugin import Request, RpcException

from ledger.errors import LedgerError, StorageError
from plugin.commands.parameters import Call, CommandError
from plugin.commands.table import COMMANDS, Command
from plugin.methods.resolver import ResolveError
from plugin.mint import Mint
from plugin.node.rpc import NodeUnavailableError, OutcomeUnknownError, RpcError

NOT_RUNNING = -1
INVALID_PARAMS = -32602

EXPECTED_ERRORS = (
    CommandError,
    ResolveError,
    RpcError,
    NodeUnavailableError,
    OutcomeUnknownError,
    StorageError,
    LedgerError,
)
"""Of commands: their text is for the operator."""

log = logging.getLogger(__name__)


def declare(plugin: Plugin, running: Callable[[], Mint | None]) -> None:
    """Declare every command to lightningd. `running` gives the mint, once there is one."""
    for command in COMMANDS:
        plugin.add_method(command.name, _handler(command, running), background=True, description="")


def _handler(command: Command, running: Callable[[], Mint | None]) -> Callable[..., None]:
    """What pyln calls, in the main thread. It reads usage and help from it, too."""
    signature = Signature(
        [
            *(Parameter(name, Parameter.POSITIONAL_OR_KEYWORD) for name in ("plugin", "request")),
            *(Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, default=None) for name in command.parameters),
            Parameter("too_many", Parameter.VAR_POSITIONAL),
            Parameter("unknown", Parameter.VAR_KEYWORD),
        ]
    )

    def handle(*arguments: Any, **named: Any) -> None:
        bound = signature.bind(*arguments, **named)
        bound.apply_defaults()
        request: Request = bound.arguments["request"]
        mint = running()
        if bound.arguments["too_many"] or bound.arguments["unknown"]:
            _refuse(request, f"{command.name} takes {_listed(command.parameters)}")
        elif mint is None:
            _refuse(request, "the mint is not running", NOT_RUNNING)
        else:

            def tell(step: int, steps: int) -> None:
                request.progress(step - 1, steps)  # counted from 0

            values = {name: bound.arguments[name] for name in command.parameters}
            work = command.work(mint, Call(values, str(request.id), tell))
            mint.carry_out(work).add_done_callback(partial(_answer, request))

    handle.__signature__ = signature  # type: ignore[attr-defined]
    handle.__doc__ = inspect.getdoc(command.work)
    return handle


def _listed(parameters: tuple[str, ...]) -> str:
    if not parameters:
        return "no arguments"
    *before, last = parameters
    return f"only {', '.join(before)} and {last}" if before else f"only {last}"


def _answer(request: Request, done: Future[Any]) -> None:
    """Answer a command whose work is over, well or not; called in the thread that did it."""
    error = done.exception()
    if error is None:
        request.set_result(done.result())
    elif isinstance(error, EXPECTED_ERRORS):
        _refuse(request, str(error))
    else:
        log.error("a command failed", exc_info=error)
        _refuse(request, "internal error: see the log")


def _refuse(request: Request, why: str, code: int = INVALID_PARAMS) -> None:
    request.set_exception(RpcException(why, code))  # out of the handler: no traceback goes along
