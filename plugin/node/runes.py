"""Runes: the node's own authorisations (lightning-createrune(7)), and the one question that is asked about them."""

from __future__ import annotations

import asyncio
import re

from plugin.node.rpc import NodeRpc, RpcError

MAX_LENGTH = 4096
MAX_CHECKS = 8
"""Runes that the node checks at once; further ones wait."""
RUNE = re.compile(rf"[A-Za-z0-9_=-]{{1,{MAX_LENGTH}}}")
"""What a rune can be made of: base64 as in URLs."""

INVALID_PARAMS = -32602
NOT_AUTHORIZED = 1501
NOT_PERMITTED = 1502
BLACKLISTED = 1503
REFUSALS = {
    INVALID_PARAMS: "this is not a rune",
    NOT_AUTHORIZED: "this rune is not one of this node",
    NOT_PERMITTED: "this rune does not permit it",
    BLACKLISTED: "this rune has been blacklisted",
}


class RuneRefusedError(Exception):
    """The node does not accept a rune; the text says why, and names nothing of the rune."""


class Runes:
    """Asks the node about runes."""

    def __init__(self, rpc: NodeRpc) -> None:
        self._rpc = rpc
        self._slots = asyncio.Semaphore(MAX_CHECKS)

    async def require(self, rune: str, method: str) -> None:
        """Raises RuneRefusedError unless this rune permits `method`, which need not be a command of the node.

        The node counts it as a use of the rune, as with its own commands. Raises what `NodeRpc.call` does when the
        node can't be asked."""
        if not rune:
            raise RuneRefusedError("a rune is needed")
        if RUNE.fullmatch(rune) is None:
            raise RuneRefusedError(REFUSALS[INVALID_PARAMS])
        async with self._slots:
            try:
                answer = await self._rpc.call("checkrune", rune=rune, method=method, params={})
            except RpcError as error:
                if error.code in REFUSALS:
                    raise RuneRefusedError(REFUSALS[error.code]) from None
                raise
        if answer.get("valid") is not True:
            raise RuneRefusedError(REFUSALS[NOT_AUTHORIZED])
