"""The node's on-chain wallet as a mint needs to see it. Knows nothing of Cashu."""

from __future__ import annotations

from plugin.node.rpc import NodeRpc


class Chain:
    """Asks and commands lightningd about its on-chain wallet.

    All methods raise NodeUnavailableError, OutcomeUnknownError and RpcError; what they say of errors comes on top."""

    def __init__(self, rpc: NodeRpc) -> None:
        self._rpc = rpc
