"""What every payment method is: how value enters the mint and leaves it (NUT-04, NUT-05).

A method is one file: a subclass of `Method` that makes quotes and sends payments. What all methods share stands here:
issuing, and the life of a melt from its request to its outcome.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from ledger.errors import Code, LedgerError, StorageError
from ledger.ledger import Ledger, curve_work
from ledger.models import (
    MeltQuote,
    MeltQuoteState,
    MeltRequest,
    MintBatchRequest,
    MintQuote,
    MintRequest,
    SignaturesResponse,
    SwapRequest,
    Wire,
)
from ledger.operations.melt import Begun
from ledger.operations.melt_quote import PendingMelt
from ledger.operations.mint import NewMintQuote
from ledger.units import MSAT_PER_UNIT, from_msat_up
from plugin.methods.outcomes import Outcomes
from plugin.node.events import NodeEvent
from plugin.options import MAX_AMOUNT_SAT, Settings
from plugin.tasks import Supervisor

MSAT_PER_SAT = MSAT_PER_UNIT["sat"]
INLINE_CURVE_WORK = 32
"""Requests with more signatures than this (some 3 ms of work) are worked on in a worker thread, beside the event loop.
For shorter ones that costs more than it gains: each call of libsecp256k1 hands the interpreter lock over, twice."""

log = logging.getLogger(__name__)

Beginning = tuple[MeltQuote, asyncio.Future[MeltQuote]] | LedgerError | StorageError
"""A melt that is PENDING now, and its outcome; or why it isn't."""

T = TypeVar("T")
Request = TypeVar("Request", bound=SwapRequest | MintRequest | MintBatchRequest | MeltRequest)


def _expect_nothing(beginning: asyncio.Task[Beginning]) -> None:
    """The client left while its melt was begun: nobody waits for the outcome, for as long as that may take."""
    if not beginning.cancelled() and beginning.exception() is None:
        begun = beginning.result()
        if isinstance(begun, tuple):
            begun[1].cancel()


async def perform(operation: Callable[[Request], Future[T]], request: Request) -> T:
    """Run an operation of the ledger that does curve work, and wait until it is durable."""
    if curve_work(request) > INLINE_CURVE_WORK:
        return await asyncio.wrap_future(await asyncio.to_thread(operation, request))
    return await asyncio.wrap_future(operation(request))


@dataclass(frozen=True, slots=True)
class Limits:
    """The amounts allowed for a method, in millisatoshis. There is always a maximum, or an amount could be too large
    for the node and the ledger."""

    minimum_msat: int
    maximum_msat: int

    @classmethod
    def of_sat(cls, minimum: int, maximum: int) -> Limits:
        """From options in satoshis; 0 as a maximum means none."""
        return cls(max(1, minimum * 1000), (maximum or MAX_AMOUNT_SAT) * 1000)

    def check(self, amount_msat: int, unit: str) -> None:
        """Raises 11006."""
        if not self.minimum_msat <= amount_msat <= self.maximum_msat:
            least, most = from_msat_up(self.minimum_msat, unit), from_msat_up(self.maximum_msat, unit)
            raise LedgerError(Code.AMOUNT_OUTSIDE_LIMITS, f"the amount must be from {least} to {most} {unit}")


@dataclass(frozen=True, slots=True)
class Mint:
    """The parts of the mint that every method works with."""

    settings: Settings
    ledger: Ledger
    outcomes: Outcomes
    supervisor: Supervisor


class Method(ABC):
    """One payment method. The class tells what its requests and answers look like; an object of it does the work."""

    name: ClassVar[str]
    """As in the paths (`/v1/mint/quote/{name}`) and in `/v1/info`."""
    mint_quote_request: ClassVar[type[Wire]]
    mint_quote: ClassVar[type[MintQuote]]
    melt_quote_request: ClassVar[type[Wire]]
    melt_quote: ClassVar[type[MeltQuote]]
    melt_request: ClassVar[type[MeltRequest]] = MeltRequest
    mint_options: dict[str, Any] = {}  # noqa: RUF012 - never changed, only replaced
    """`options` of its entry among the methods of NUT-04."""
    melt_options: dict[str, Any] = {}  # noqa: RUF012
    """The same for NUT-05."""
    mint_quote_cost: ClassVar[int] = 1
    """What a mint quote costs the node, as against an invoice: for rate limits."""
    melt_quote_cost: ClassVar[int] = 1
    """The same for a melt quote."""
    pays_parts: ClassVar[bool] = False
    """Whether a melt can be a part of a larger payment (NUT-15)."""
    always_async: ClassVar[bool] = False
    """Whether a melt is answered PENDING at once, whatever the wallet prefers (NUT-05)."""

    def __init__(self, mint: Mint) -> None:
        self._mint = mint
        self._settings = mint.settings
        self._ledger = mint.ledger
        self.mint_limits = Limits.of_sat(mint.settings.min_mint, mint.settings.max_mint)
        self.melt_limits = Limits.of_sat(mint.settings.min_melt, mint.settings.max_melt)

    @abstractmethod
    async def create_mint_quote(self, request: Any) -> MintQuote:
        """Make something that can be paid (NUT-04). `request` is a `mint_quote_request`."""

    @abstractmethod
    async def create_melt_quote(self, request: Any) -> MeltQuote:
        """Price a payment (NUT-05). `request` is a `melt_quote_request`."""

    @abstractmethod
    def send(self, melt: PendingMelt) -> None:
        """Send the payment of a melt that has begun, in a task of its own. Called once for each attempt."""

    async def start(self) -> None:  # noqa: B027 - most methods have nothing to catch up with
        """Catch up with what happened while the mint was off; called before the mint serves. May be called again.

        Raises RpcError, NodeUnavailableError or OutcomeUnknownError if the node could not be asked."""

    def on_event(self, event: NodeEvent) -> None:  # noqa: B027 - others listen for them
        """The node says that something happened; called in the event loop, must not wait."""

    # --- the same for all -----------------------------------------------------------------------------------------

    async def issue(self, request: MintRequest) -> SignaturesResponse:
        """Sign outputs for a paid quote (NUT-04)."""
        return await perform(lambda r: self._ledger.issue(self.name, r), request)

    async def issue_batch(self, request: MintBatchRequest) -> SignaturesResponse:
        """Sign outputs for several paid quotes (NUT-29)."""
        return await perform(lambda r: self._ledger.issue_batch(self.name, r), request)

    async def melt(self, request: MeltRequest, prefer_async: bool) -> MeltQuote:
        """Pay a quote with proofs (NUT-05).

        Answers the quote in its final state if that comes within the time to wait, else PENDING; by then proofs and
        blank outputs are held durably. An identical request joins the one before it. Raises what `begin` refuses, and
        20004 if the payment failed for certain.
        """
        # A client that goes away cancels this coroutine, but neither the hold nor the payment.
        beginning = self._mint.supervisor.spawn("melt", self._begin_or_refuse(request))
        try:
            begun = await asyncio.shield(beginning)
        except asyncio.CancelledError:
            beginning.add_done_callback(_expect_nothing)
            raise
        if isinstance(begun, Exception):
            try:
                raise begun
            finally:
                del begun  # it knows of this frame: a cycle
        pending, outcome = begun
        try:
            wait_s = self._wait_s(prefer_async)
            if wait_s > 0:
                await asyncio.wait([outcome], timeout=wait_s)
            if not outcome.done() or outcome.cancelled():
                return pending
            quote = outcome.result()
        finally:
            outcome.cancel()
        if quote.state is MeltQuoteState.UNPAID:
            raise LedgerError(Code.PAYMENT_FAILED, quote.error or "the payment failed")
        return quote

    def _wait_s(self, prefer_async: bool) -> float:
        if self.always_async:
            return 0.0
        return self._settings.async_grace_ms / 1000 if prefer_async else float(self._settings.sync_wait_s)

    async def _begin_or_refuse(self, request: MeltRequest) -> Beginning:
        """A refusal is returned, not raised: the client may be gone, and an exception that nobody awaits is a bug."""
        try:
            return await self._begin(request)
        except (LedgerError, StorageError) as refusal:
            return refusal

    async def _begin(self, request: MeltRequest) -> tuple[MeltQuote, asyncio.Future[MeltQuote]]:
        begun = await perform(self._begin_melt, request)
        outcome = self._mint.outcomes.expect(begun.quote.quote)
        if begun.melt is not None:
            melt = begun.melt
            log.info("melt begun: %d %s, %s", melt.amount, melt.unit, self._traces(melt))
            self.send(melt)
            return begun.quote, outcome
        quote = self._ledger.melt_quote(self.name, begun.quote.quote)  # the outcome may have come before we expected it
        if quote.state is not MeltQuoteState.PENDING:
            outcome.set_result(quote)
        return quote, outcome

    def _traces(self, melt: PendingMelt) -> str:
        """By what the operator finds a melt in the node's lists and log, and in our commands."""
        return f"{self.name} melt {melt.handle}, label {melt.label}"

    def _begin_melt(self, request: MeltRequest) -> Future[Begun]:
        settings = self._settings
        return self._ledger.begin_melt(
            self.name, request, settings.max_pending_melts, settings.max_pending * MSAT_PER_SAT
        )

    def _require_room(self, amount_msat: int | None) -> None:
        """Raises 20003 if a mint quote over so much (None: at least the minimum) would pass `cashu-max-outstanding`, or
        while minting is paused."""
        least_msat = self.mint_limits.minimum_msat if amount_msat is None else amount_msat
        self._ledger.require_room(least_msat, self._settings.max_outstanding * MSAT_PER_SAT)

    async def _store_mint_quote(self, quote: NewMintQuote) -> MintQuote:
        """Raises 20003 if there is no room any more."""
        return await asyncio.wrap_future(
            self._ledger.create_mint_quote(quote, self._settings.max_outstanding * MSAT_PER_SAT)
        )

    def _check_unit(self, unit: str) -> None:
        if unit not in self._settings.units:
            units = ", ".join(self._settings.units)
            raise LedgerError(Code.UNIT_UNSUPPORTED, f"this mint has no unit {unit!r} for {self.name}: {units}")
