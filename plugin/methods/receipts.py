"""Payments received: read from the node in the order of its pay index, and credited to their quotes.

A notification is only the hint to read on. Reading goes on from the index that the ledger has stored, so nothing that
was paid while the mint was down is missed, and nothing is credited twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from ledger.errors import StorageError
from ledger.ids import label_of
from ledger.ledger import Ledger
from ledger.methods import BOLT12
from ledger.models import MintQuote
from ledger.operations import mint
from ledger.store.operation import Operation
from ledger.store.transaction import Transaction
from plugin.node.rpc import NodeUnavailableError, OutcomeUnknownError, RpcError
from plugin.node.view import Node, PaidInvoice

RETRY_S = 2.0
"""Pause before reading on, when the node could not be asked."""

log = logging.getLogger(__name__)


class Receipts:
    """Credits the node's paid invoices."""

    def __init__(self, ledger: Ledger, node: Node) -> None:
        self._ledger = ledger
        self._node = node
        self._hint = asyncio.Event()
        self._making: dict[str, asyncio.Event] = {}
        with ledger.read() as db:
            self._index = mint.pay_index(db)

    @contextmanager
    def making(self, label: str) -> Iterator[None]:
        """While a quote is being made: its invoice or offer exists already, but the quote can't be credited yet.

        `label` is the invoice's label, or the offer's id: the node labels the invoices of an offer by itself."""
        made = self._making[label] = asyncio.Event()
        try:
            yield
        finally:
            del self._making[label]
            made.set()

    def hint(self) -> None:
        """Some invoice of the node was paid."""
        self._hint.set()

    async def run(self) -> None:
        """Read on after each hint, for ever."""
        while True:
            await self._hint.wait()
            self._hint.clear()
            try:
                await self.catch_up()
            except (RpcError, NodeUnavailableError, OutcomeUnknownError, StorageError) as error:
                log.info("can't read the node's paid invoices now: %s", error)
                await asyncio.sleep(RETRY_S)
                self._hint.set()

    async def catch_up(self) -> None:
        """Credit everything that was paid since the last time."""
        passed_by = self._index
        while (paid := await self._node.next_paid_invoice(self._index)) is not None:
            if await self._credit(paid) is not None:
                passed_by = paid.pay_index
            self._index = paid.pay_index
        if passed_by != self._index:  # invoices of others: noted once, not with a commit for each
            index = self._index
            await asyncio.wrap_future(
                self._ledger.submit(Operation.PAY_INDEX, lambda tx: mint.advance_pay_index(tx, index))
            )

    async def find_deleted(self) -> None:
        """Credit invoices that were paid while the mint was off, and deleted since (by `autoclean` or `delinvoice`):
        the node's accounts still tell of them. Called once at the start, after `catch_up`."""
        _, last = await self._node.counters()
        with self._ledger.read() as db:
            after = mint.moves_index(db)
        received: Counter[bytes] = Counter()
        while after is not None and (moves := await self._node.credits(after)):
            after = moves[-1].index
            for move in moves:
                received[move.payment_hash] += move.msat
        for payment_hash, msat in received.items():
            with self._ledger.read() as db:
                found = mint.unpaid_with_hash(db, payment_hash) if msat else None
            if found is not None and not await self._node.has_invoice(payment_hash):
                receipt = mint.Receipt(payment_hash, msat)
                await asyncio.wrap_future(
                    self._ledger.submit(Operation.CREDIT, partial(_credit_found, *found, receipt))
                )
                log.warning(
                    "a mint quote's invoice was paid and is deleted: credited %d msat, hash %s",
                    msat,
                    payment_hash.hex(),
                )
        note = partial(_note_moves, last if after is None else after)
        await asyncio.wrap_future(self._ledger.submit(Operation.MOVES_INDEX, note))

    async def _credit(self, paid: PaidInvoice) -> MintQuote | None:
        label = paid.label if paid.offer_id is None else paid.offer_id
        if (made := self._making.get(label)) is not None:
            await made.wait()
        with self._ledger.read() as db:
            found = mint.find(db, label)
        if found is None or (found[0] == BOLT12) != (paid.offer_id is not None):
            return None
        method, quote_id = found

        def credit(tx: Transaction) -> MintQuote | None:
            mint.advance_pay_index(tx, paid.pay_index)
            receipt = mint.Receipt(paid.payment_hash, paid.received_msat)
            return mint.credit(tx, method, quote_id, receipt)

        quote = await asyncio.wrap_future(self._ledger.submit(Operation.CREDIT, credit))
        place = f"hash {paid.payment_hash.hex()}, {method} quote {label_of(quote_id)}"
        log.info("mint quote paid: %d msat, %s", paid.received_msat, place)
        return quote


def _credit_found(method: str, quote_id: str, receipt: mint.Receipt, tx: Transaction) -> None:
    mint.credit(tx, method, quote_id, receipt)


def _note_moves(index: int, tx: Transaction) -> None:
    mint.set_moves_index(tx, index)
