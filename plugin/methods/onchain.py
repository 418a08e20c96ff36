"""On-chain: value comes in by the node's addresses and goes out by its on-chain wallet (NUT-30)."""

from __future__ import annotations

from ledger import methods
from ledger.errors import Code, LedgerError
from ledger.models import (
    MeltOnchainRequest,
    MeltQuote,
    MeltQuoteOnchain,
    MeltQuoteOnchainRequest,
    MintQuote,
    MintQuoteOnchain,
    MintQuoteOnchainRequest,
)
from ledger.operations.melt import PendingMelt
from plugin.methods.method import Method, Mint
from plugin.node.chain import Chain
from plugin.node.view import NodeInfo


class OnchainMethod(Method):
    """Quotes by addresses; melts by transactions."""

    name = methods.ONCHAIN
    mint_quote_request = MintQuoteOnchainRequest
    mint_quote = MintQuoteOnchain
    melt_quote_request = MeltQuoteOnchainRequest
    melt_quote = MeltQuoteOnchain
    melt_request = MeltOnchainRequest
    always_async = True

    def __init__(self, mint: Mint, chain: Chain, info: NodeInfo) -> None:
        super().__init__(mint)
        self._chain = chain
        self._info = info

    async def create_mint_quote(self, request: MintQuoteOnchainRequest) -> MintQuote:
        """TODO."""
        raise LedgerError(Code.QUOTE_REJECTED, "not yet")

    async def create_melt_quote(self, request: MeltQuoteOnchainRequest) -> MeltQuote:
        """TODO."""
        raise LedgerError(Code.QUOTE_REJECTED, "not yet")

    def send(self, melt: PendingMelt) -> None:
        """TODO."""
