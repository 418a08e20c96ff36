"""Runes: the node's own authorisations (lightning-createrune(7)), and the one question that is asked about them."""

from __future__ import annotations

import asyncio
import base64
import re

from plugin.node.rpc import NodeRpc, RpcError

MAX_LENGTH = 4096
MAX_CHECKS = 8
"""Runes that the node checks at once; further ones wait."""
AUTHCODE_BYTES = 32
_ALTERNATIVE = r"[^!-/:-@\[-^`{-~]*[!=/^$~<>}{#](?:\\.|[^\\|&])*"
RESTRICTIONS = re.compile(rf"{_ALTERNATIVE}(?:[|&]{_ALTERNATIVE})*", re.DOTALL)
"""The text behind the authcode: restrictions joined by `&`, each of alternatives joined by `|`, each of a field's name,
a condition, and a value (github.com/rustyrussell/runes)."""

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
        if not is_formed(rune):
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


def is_formed(rune: str) -> bool:
    """Whether a text has the form of a rune. The node writes what has not, as it is, into its log: a good rune with one
    letter too many, or whatever a stranger wants to stand there."""
    if len(rune) > MAX_LENGTH:
        return False
    try:
        raw = base64.b64decode(rune, altchars=b"-_", validate=True)
        restrictions = raw[AUTHCODE_BYTES:].decode()
    except ValueError:
        return False
    return len(raw) >= AUTHCODE_BYTES and (not restrictions or RESTRICTIONS.fullmatch(restrictions) is not None)
