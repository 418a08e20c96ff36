"""Deposits: outputs that pay the addresses of mint quotes, noticed, followed, and credited once they are deep enough.

The node tells of an output when its first block comes, and never again: neither when a reorganisation takes the block
away, nor when another one brings the output back. So its moves are read once, in their order, to find out what has come
and when; how deep an output is now is looked up with every block.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from functools import partial

from ledger.ids import label_of
from ledger.ledger import Ledger
from ledger.operations import deposit
from ledger.operations.deposit import Deposit
from ledger.store.operation import Operation
from ledger.store.transaction import Transaction
from plugin.node.chain import Chain, Move
from plugin.node.coins import Coin
from plugin.node.psbt import Outpoint

MOVES_PAGE = 1000
"""Most account moves that are asked for at once."""

log = logging.getLogger(__name__)


class Deposits:
    """Watches the addresses of mint quotes."""

    def __init__(self, ledger: Ledger, chain: Chain, *, minimum_sat: int, confirmations: int) -> None:
        self._ledger = ledger
        self._chain = chain
        self._minimum_sat = minimum_sat
        self._confirmations = confirmations
        with ledger.read() as db:
            self._index = deposit.chain_index(db)

    def is_watching(self) -> bool:
        """Whether there is an output that is not credited yet."""
        with self._ledger.read() as db:
            return deposit.has_watched(db)

    async def start(self) -> None:
        """Before the first `notice`. A node that has counted less than we have read is an older copy of itself: what
        it counts from there on is new, so all is read again, which credits nothing twice."""
        counted = await self._chain.count_moves()
        if counted < self._index:
            log.warning("the node has %d on-chain moves, %d were read: all are read again", counted, self._index)
            self._index = 0

    async def notice(self) -> None:
        """Read what has moved since the last time, and watch what pays a quote."""
        while moves := await self._chain.moves(self._index, MOVES_PAGE):
            seen = await self._seen(move for move in moves if move.is_deposit)
            index = moves[-1].index
            late = await asyncio.wrap_future(self._ledger.submit(Operation.DEPOSITS_SEEN, partial(_note, seen, index)))
            self._index = index
            for output in late:
                log.info("output %s came after its quote's expiry: not credited", Outpoint(output.txid, output.vout))

    async def credit(self, height: int) -> None:
        """Credit what is deep enough, now that the chain has this height."""
        with self._ledger.read() as db:
            watched = deposit.watched(db)
        if not watched:
            return
        coins = await self._chain.coins(spent=True)
        heights: dict[bytes, int] | None = None
        for quote_id, output in watched:
            place = Outpoint(output.txid, output.vout)
            coin = coins.get(place)
            mined = None if coin is None else coin.height
            if coin is not None and coin.status == "spent":  # then its height isn't told there
                heights = await self._chain.heights() if heights is None else heights
                mined = heights.get(output.txid) or None
            if mined is not None and height - mined + 1 >= self._confirmations:
                await asyncio.wrap_future(
                    self._ledger.submit(Operation.DEPOSIT_CREDIT, partial(_credit, quote_id, output))
                )
                what = f"output {place}, onchain quote {label_of(quote_id)}"
                log.info("mint quote paid: %d sat, %s", output.amount_sat, what)

    async def _seen(self, moves: Iterable[Move]) -> list[tuple[str, Deposit]]:
        """The outputs among these that pay a quote, with the ids of their quotes."""
        coins: dict[Outpoint, Coin] | None = None
        found = []
        for move in moves:
            coins = await self._chain.coins(spent=True) if coins is None else coins
            coin = coins.get(move.outpoint)
            if coin is None or coin.address is None:
                continue
            with self._ledger.read() as db:
                quote_id = deposit.find(db, coin.address)
            if quote_id is None:
                continue
            if coin.amount_sat < self._minimum_sat:
                log.info("output %s of %d sat is too small to be credited", move.outpoint, coin.amount_sat)
                continue
            seen_at = await self._seen_at(move)
            found.append((quote_id, Deposit(move.outpoint.txid, move.outpoint.vout, coin.amount_sat, seen_at)))
        return found

    async def _seen_at(self, move: Move) -> int:
        """When an output was first seen. The node was there later than the block if it was off meanwhile; a block's
        own time may be some minutes ahead. So the earlier of both."""
        mined_at = await self._chain.time_of_block(move.height)
        return move.seen_at if mined_at is None else min(mined_at, move.seen_at)


def _note(seen: list[tuple[str, Deposit]], index: int, tx: Transaction) -> list[Deposit]:
    """Watch these outputs; returns those that came too late."""
    deposit.set_chain_index(tx, index)
    return [output for quote_id, output in seen if not deposit.note_seen(tx, quote_id, output)]


def _credit(quote_id: str, output: Deposit, tx: Transaction) -> None:
    deposit.credit(tx, quote_id, output)
