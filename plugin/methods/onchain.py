"""On-chain: value comes in by the node's addresses and goes out by its on-chain wallet (NUT-30)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from ledger import methods
from ledger.errors import Code, LedgerError, StorageError
from ledger.ids import new_quote_id
from ledger.models import (
    MeltOnchainRequest,
    MeltQuote,
    MeltQuoteOnchain,
    MeltQuoteOnchainRequest,
    MintQuote,
    MintQuoteOnchain,
    MintQuoteOnchainRequest,
)
from ledger.operations import deposit
from ledger.operations.melt_quote import NewFeeOption, NewPayout, PendingMelt
from ledger.operations.mint import NewMintQuote, check_pubkey
from ledger.units import from_msat_up, to_msat
from plugin.methods.deposits import Deposits
from plugin.methods.method import Limits, Method, Mint
from plugin.methods.payouts import MSAT_PER_SAT, Payouts
from plugin.methods.reasons import TOO_LITTLE_NOW
from plugin.node.chain import AddressInvalidError, Chain, FeesUnknownError
from plugin.node.coins import Coin, Payment, choose, fee_reserve_sat, leave_out
from plugin.node.events import BlockAdded, CoinsMoved, EventsLost, NodeEvent
from plugin.node.rpc import NodeUnavailableError, OutcomeUnknownError, RpcError
from plugin.node.view import NodeInfo

MAX_OPEN_ADDRESSES = 10_000
"""Most addresses given out in the last days that nobody has paid yet."""
MELT_QUOTE_EXPIRY_S = 900
"""How long a melt quote can be executed: its feerates were estimated when it was made."""
FEE_TARGETS = (2, 12, 100)
"""Blocks to a confirmation, for which fees are offered."""
MORE_INPUTS = 2
"""So many coins more than at quote time may be needed before the fee reserve doesn't suffice."""
LONGEST_SCRIPT = b"\0" * 34
RETRY_S = (1.0, 5.0, 30.0)
"""Pauses before another look, when the node could not be asked, or is behind the chain, or the ledger could not be
written; the last one repeats."""
SECONDS_PER_DAY = 24 * 3600

TOO_LITTLE = "the mint has too little bitcoin on the chain to pay this"

log = logging.getLogger(__name__)


class OnchainMethod(Method):
    """Quotes by addresses; melts by transactions. What happens on the chain is followed by one task, woken by the
    node's events; while nothing is under way it asks the node nothing."""

    name = methods.ONCHAIN
    mint_quote_request = MintQuoteOnchainRequest
    mint_quote = MintQuoteOnchain
    melt_quote_request = MeltQuoteOnchainRequest
    melt_quote = MeltQuoteOnchain
    melt_request = MeltOnchainRequest
    mint_quote_cost = 10  # unpaid addresses are in the way of the node's wallet when it is restored
    always_async = True

    def __init__(self, mint: Mint, chain: Chain, info: NodeInfo) -> None:
        super().__init__(mint)
        settings = mint.settings
        self._chain = chain
        self._info = info
        self.mint_limits = Limits.of_sat(max(settings.min_mint, settings.onchain_min), settings.max_mint)
        self.melt_limits = Limits.of_sat(max(settings.min_melt, settings.onchain_min), settings.max_melt)
        self.mint_options = {"confirmations": settings.onchain_confirmations}
        self._deposits = Deposits(
            mint.ledger,
            chain,
            minimum_sat=self.mint_limits.minimum_msat // MSAT_PER_SAT,
            confirmations=settings.onchain_confirmations,
        )
        self.payouts = Payouts(
            mint.ledger,
            chain,
            synced_height=self._synced_height,
            network=info.network,
            confirmations=settings.onchain_confirmations,
        )
        self._hint = asyncio.Event()
        self._again: asyncio.TimerHandle | None = None
        self._moved = True
        self._last_added: int | None = None

    # --- quotes ---------------------------------------------------------------------------------------------------

    async def create_mint_quote(self, request: MintQuoteOnchainRequest) -> MintQuote:
        """Give out an address of its own for a new quote.

        Raises 11013, 20003, 20009, and 20000 if too many are open.
        """
        self._check_unit(request.unit)
        if request.pubkey is None:
            raise LedgerError(Code.PUBKEY_INVALID, "an onchain quote must be locked to a key: pubkey is missing")
        check_pubkey(request.pubkey)
        self._require_room(None)
        now = self._ledger.now()
        with self._ledger.read() as db:
            if deposit.count_open(db, now) >= MAX_OPEN_ADDRESSES:
                raise LedgerError(Code.QUOTE_REJECTED, "too many addresses of this mint are unpaid: try again later")
        try:
            address = await self._chain.new_address()
        except RpcError as error:
            raise LedgerError(Code.QUOTE_REJECTED, f"the node gives out no address: {error.message}") from error
        days = self._settings.onchain_expiry_days
        quote = NewMintQuote(
            id=new_quote_id(),
            method=self.name,
            unit=request.unit,
            request=address,
            amount=None,
            expiry=now + days * SECONDS_PER_DAY if days else None,
            pubkey=request.pubkey,
        )
        return await self._store_mint_quote(quote)

    async def create_melt_quote(self, request: MeltQuoteOnchainRequest) -> MeltQuote:
        """Price a payment. Raises 11013, 11006, and 20000 for a bad address, if the node can't pay it now, or while
        melting is paused."""
        self._ledger.policy.require_melting()
        self._check_unit(request.unit)
        amount_msat = to_msat(request.amount, request.unit)
        self.melt_limits.check(amount_msat, request.unit)
        if amount_msat % MSAT_PER_SAT:
            raise LedgerError(Code.AMOUNT_OUTSIDE_LIMITS, "the amount must be whole satoshis to be paid on the chain")
        amount_sat = amount_msat // MSAT_PER_SAT
        try:
            script = await self._chain.script_of(request.request, amount_sat, self._info.network)
        except AddressInvalidError as error:
            raise LedgerError(Code.QUOTE_REJECTED, str(error)) from error
        quote = NewPayout(
            id=new_quote_id(),
            method=self.name,
            unit=request.unit,
            request=request.request,
            amount=request.amount,
            amount_msat=amount_msat,
            expiry=self._ledger.now() + MELT_QUOTE_EXPIRY_S,
            fee_options=tuple(await self._fee_options(amount_sat, script, request.unit)),
        )
        return await asyncio.wrap_future(self._ledger.create_melt_quote(quote))

    async def _fee_options(self, amount_sat: int, script: bytes, unit: str) -> list[NewFeeOption]:
        """What the payment may cost, the fastest first. Raises 20000 if the node can't make it now."""
        try:
            feerates: dict[int, int] = {}
            for blocks in FEE_TARGETS:
                feerates.setdefault(await self._chain.feerate(blocks), blocks)
        except FeesUnknownError:
            raise LedgerError(Code.QUOTE_REJECTED, "the node can't estimate fees now: try again later") from None
        coins = list((await self._chain.coins(spent=False)).values())
        free = self._without_promised(coins)
        options = []
        for feerate, blocks in feerates.items():
            payment = Payment(amount_sat, script, feerate)
            chosen = await self._affordable(payment, free)
            if chosen is not None:
                reserve_msat = fee_reserve_sat(chosen, payment, MORE_INPUTS) * MSAT_PER_SAT
                options.append(NewFeeOption(from_msat_up(reserve_msat, unit), blocks, feerate))
        if not options:
            ours = sum(coin.amount_sat for coin in coins if coin.status in ("confirmed", "unconfirmed"))
            raise LedgerError(Code.QUOTE_REJECTED, TOO_LITTLE_NOW if ours > amount_sat else TOO_LITTLE)
        return options

    def _without_promised(self, coins: Iterable[Coin]) -> list[Coin]:
        """The coins less those for melts that have begun, and whose transactions are about to be built."""
        free = list(coins)
        for melt in self._ledger.pending_payouts():
            if melt.built is None:
                promised = Payment(melt.amount_msat // MSAT_PER_SAT, LONGEST_SCRIPT, melt.feerate_perkw)
                free = leave_out(free, choose(free, promised) or ())
        return free

    async def _affordable(self, payment: Payment, coins: Iterable[Coin]) -> tuple[Coin, ...] | None:
        """Coins for a payment, if the node would make it from them: it may want to keep some for its channels."""
        chosen = choose(coins, payment)
        if chosen is None:
            return None
        try:
            await self._chain.require_affordable(payment, chosen)
        except RpcError as error:
            log.info("the node would not make a payment: %s", error)
            return None
        return chosen

    # --- what happens on the chain --------------------------------------------------------------------------------

    def send(self, melt: PendingMelt) -> None:
        """Build and send the transaction in a task of its own."""
        self._mint.supervisor.background("payout", self._pay(melt.quote))

    async def _pay(self, quote_id: str) -> None:
        try:
            if await self.payouts.pay(quote_id):
                return
        except (RpcError, NodeUnavailableError, OutcomeUnknownError, StorageError) as error:
            log.info("can't send an on-chain payment now, will try again: %s", error)
        self._look_again(RETRY_S[0])

    async def start(self) -> None:
        """Begin to follow the chain, from where it was followed to the last time."""
        await self._deposits.start()
        self._hint.set()
        self._mint.supervisor.forever("chain", self._follow())

    def on_event(self, event: NodeEvent) -> None:
        """Look at the chain when something happened there."""
        match event:
            case CoinsMoved() | EventsLost():
                self._moved = True
                self._hint.set()
            case BlockAdded(height):
                self._last_added = height
                self._hint.set()

    async def _follow(self) -> None:
        """Look after each hint, for ever."""
        failures = 0
        while True:
            await self._hint.wait()
            self._hint.clear()
            try:
                done = await self._look()
            except (RpcError, NodeUnavailableError, OutcomeUnknownError, StorageError) as error:
                log.info("can't look at the chain now, will try again: %s", error)
                done = False
            failures = 0 if done else failures + 1
            if failures:
                self._look_again(RETRY_S[min(failures, len(RETRY_S)) - 1])

    def _look_again(self, delay_s: float) -> None:
        """A hint some time later, in case that none comes before."""
        if self._again is not None:
            self._again.cancel()
        self._again = asyncio.get_running_loop().call_later(delay_s, self._hint.set)

    async def _look(self) -> bool:
        """Look at what is under way; False if the node is behind the chain."""
        if self._moved:
            self._moved = False
            try:
                await self._deposits.notice()
            except BaseException:
                self._moved = True
                raise
        if not self._deposits.is_watching() and not self.payouts.are_pending():
            return True
        height = await self._synced_height()
        if height is None:
            return False
        await self._deposits.credit(height)
        await self.payouts.look(height)
        return True

    async def _synced_height(self) -> int | None:
        return await self._chain.synced_height(self._last_added)
