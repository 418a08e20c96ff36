"""What a JSON-RPC command of the node is. Modules that register some: `*_commands`, `runes`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from contrib.sandbox import params
from contrib.sandbox.errors import (
    INVALID_PARAMS,
    RpcError,
)
from contrib.sandbox.params import Args, Param, optional
from contrib.sandbox.rpc_server import Request
from contrib.sandbox.waits import INDEXES

if TYPE_CHECKING:
    from contrib.sandbox.node import Node

Run = Callable[["Node", Request, Args], Awaitable[dict[str, Any]]]
Result = dict[str, Any]


@dataclass(frozen=True)
class Command:
    """One command with its parameters."""

    name: str
    spec: tuple[Param, ...]
    function: Run

    async def run(self, node: Node, request: Request) -> Result:
        """Read the parameters and run it."""
        return await self.function(node, request, params.read_params(request.params, self.spec))

    @property
    def usage(self) -> str:
        """One line, as `help` shows it."""
        return " ".join([self.name, *(param.name if param.required else f"[{param.name}]" for param in self.spec)])


COMMANDS: dict[str, Command] = {}


def command(name: str, *spec: Param) -> Callable[[Run], Run]:
    """Register a function as a command."""

    def register(function: Run) -> Run:
        COMMANDS[name] = Command(name, spec, function)
        return function

    return register


INDEX = params.one_of("unknown index", *INDEXES)
PAGE = (optional("index", INDEX), optional("start", params.u64, 0), optional("limit", params.u32))


def check_page(args: Args) -> None:
    """Refuse a start or limit without an index."""
    for name in ("start", "limit"):
        if args[name] and args["index"] is None:
            raise RpcError(INVALID_PARAMS, f"Can only specify {{{name}}} with {{index}}")
