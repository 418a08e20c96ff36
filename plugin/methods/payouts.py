"""The one decider of on-chain payments: builds a melt's transaction, sends it, and finds out what became of it.

    reserve coins ── build, read, sign ── note_built ── send ── … in a block, deep enough ── settle
          │                  │                │
          └── fails: released, with a reason  └── from here on: only ever sent again, byte for byte

Before `note_built` is on disk nobody but the node has seen the transaction: whatever fails there gives the ecash back.
From then on an error proves nothing, so the same transaction is sent with every block until it is in one. As every copy
spends the same coins, it can't pay twice. The only way back is proof that it can't come to pass any more: a block, with
enough others on top, in which another transaction spends one of its coins.

A block, a start, a request: each is only a hint to run the same steps, which may be repeated.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from ledger.errors import StorageError
from ledger.ledger import Ledger
from ledger.operations.melt import Payment as Paid
from ledger.operations.melt_quote import Built, PendingPayout
from ledger.operations.payout import MIN_CONFLICT_DEPTH, Conflict
from ledger.units import to_msat
from plugin.methods import reasons
from plugin.node.chain import AddressInvalidError, Chain, Move
from plugin.node.coins import Coin, Payment, choose
from plugin.node.psbt import MalformedError, Outpoint, Output, Psbt, block_transactions, is_p2tr
from plugin.node.rpc import RpcError

BUILD_RESERVE_BLOCKS = 12
"""For how long coins are reserved while a transaction is built: if we die over it, they are free again soon."""
SENT_RESERVE_BLOCKS = 4032
"""For how long they are once it may be sent. Expired, the node would use them again, and replace our transaction."""
EXTEND_BELOW_BLOCKS = 2016
"""A reservation that ends sooner is prolonged."""
MOVES_PAGE = 1000
SCAN_BLOCKS = 100
"""Most blocks that are searched for what spent a coin, where the node's own list of transactions does not tell."""
SCAN_BEFORE_BLOCKS = 6
"""How much earlier than the block where a coin was first seen spent it may be spent now, after a reorganisation."""
MAX_PROBLEM_LENGTH = 200
MSAT_PER_SAT = 1000

log = logging.getLogger(__name__)


class UnfitError(Exception):
    """What the node has built is not what was asked for, or costs too much; says why."""


@dataclass(frozen=True, slots=True)
class View:
    """The chain and the node's wallet at one moment. `spends`: moves by which coins left the wallet."""

    height: int
    coins: Mapping[Outpoint, Coin]
    heights: Mapping[bytes, int]
    spends: Sequence[Move]


@dataclass(frozen=True, slots=True)
class Sight:
    """What is seen of a transaction at a height of the chain. `mined`: the height of its block; 0 for none."""

    height: int
    mined: int = 0
    conflict: Conflict | None = None


class Payouts:
    """Sends the transactions of on-chain melts and decides about them. One object for all melts of the mint."""

    def __init__(
        self,
        ledger: Ledger,
        chain: Chain,
        *,
        synced_height: Callable[[], Awaitable[int | None]],
        network: str,
        confirmations: int,
    ) -> None:
        self._ledger = ledger
        self._chain = chain
        self.synced_height = synced_height
        """Gives the height of the chain; None while the node has not caught up with it."""
        self._network = network
        self.confirmations = confirmations
        """Blocks after which a payment counts as made."""
        self._height = 0
        self._problems: dict[str, str] = {}
        self._lock = asyncio.Lock()  # one transaction at a time: two could choose the same coins

    def are_pending(self) -> bool:
        """Whether any on-chain melt is in flight."""
        return bool(self._ledger.pending_payouts())

    def report(self) -> list[dict[str, int | str | None]]:
        """The melts in flight, for the operator."""
        now = self._ledger.now()
        return [
            {
                "handle": melt.handle,
                "txid": None if melt.built is None else melt.built.txid.hex(),
                "amount": melt.amount,
                "unit": melt.unit,
                "age_s": now - melt.begun_at,
                "feerate_perkw": melt.feerate_perkw,
                "blocks_waited": 0 if melt.built is None else max(0, self._height - melt.built.height),
                "problem": self._problems.get(melt.quote),
            }
            for melt in self._ledger.pending_payouts()
        ]

    async def sights(self, height: int) -> dict[str, Sight]:
        """What is seen of each transaction in flight, by its melt's quote id; changes nothing. Raises as `look`."""
        melts = [melt for melt in self._ledger.pending_payouts() if melt.built is not None]
        if not melts:
            return {}
        view = await self._view(height, min(melt.chain_index for melt in melts))
        return {melt.quote: await self._sight(melt.built, view) for melt in melts if melt.built is not None}

    def problem(self, melt: PendingPayout) -> str | None:
        """What keeps a melt from going on."""
        return self._problems.get(melt.quote)

    @asynccontextmanager
    async def deciding(self, melt: PendingPayout) -> AsyncIterator[PendingPayout | None]:
        """While the operator decides: nothing is built or sent. Gives the melt as it is then; None if it is over."""
        async with self._lock:
            yield self._ledger.pending_payout(melt.quote)
            if self._ledger.pending_payout(melt.quote) is None:
                self._problems.pop(melt.quote, None)

    # --- hints ----------------------------------------------------------------------------------------------------

    async def pay(self, quote_id: str) -> bool:
        """Hint: this melt has begun. False if the node was not ready for it: then look again soon.

        Raises RpcError, NodeUnavailableError, OutcomeUnknownError or StorageError: likewise."""
        async with self._lock:
            melt = self._ledger.pending_payout(quote_id)
            if melt is None or melt.built is not None:
                return True
            height = await self.synced_height()
            if height is None:
                self._note_problem(melt, "the node is catching up with the chain")
                return False
            await self._build_and_send(melt, height)
            return True

    async def look(self, height: int) -> None:
        """Hint: the chain has this height now. Raises as `pay` does."""
        async with self._lock:
            self._height = height
            melts = self._ledger.pending_payouts()
            marks = [melt.chain_index for melt in melts if melt.built is not None]
            view = await self._view(height, min(marks)) if marks else None
            for melt in melts:
                if melt.built is None:
                    await self._build_and_send(melt, height)
                elif view is not None:
                    try:
                        await self._judge(melt, melt.built, view)
                    except (RpcError, MalformedError) as error:
                        self._note_problem(melt, str(error))

    # --- building -------------------------------------------------------------------------------------------------

    async def _build_and_send(self, melt: PendingPayout, height: int) -> None:
        built = await self._build(melt, height)
        if isinstance(built, str):
            await asyncio.wrap_future(self._ledger.release_melt(melt, built))
            self._problems.pop(melt.quote, None)
            log.info("melt failed: %d %s on the chain: %s", melt.amount, melt.unit, built)
            return
        try:
            melt = await asyncio.wrap_future(self._ledger.note_built(melt, built))
        except StorageError:
            await self._free(built.psbt)
            raise
        await self._hold(built)
        await self._send(melt, built)

    async def _build(self, melt: PendingPayout, height: int) -> Built | str:
        """The signed transaction, its coins reserved; or why there is none, nothing reserved."""
        amount_sat = melt.amount_msat // MSAT_PER_SAT
        try:
            script = await self._chain.script_of(melt.request, amount_sat, self._network)
        except AddressInvalidError as error:
            return str(error)
        payment = Payment(amount_sat, script, melt.feerate_perkw)
        coins = choose((await self._chain.coins(spent=False)).values(), payment)
        if coins is None:
            return reasons.TOO_LITTLE_NOW
        try:
            funded = await self._chain.fund(payment, coins, BUILD_RESERVE_BLOCKS)
        except RpcError as error:
            log.info("the node does not fund a payment: %s", error)
            return reasons.COINS_UNFIT
        try:
            unsigned = await self._chain.add_output(funded, amount_sat, melt.request)
            vout, fee_sat = read_payment(unsigned, payment, coins, to_msat(melt.fee_reserve, melt.unit) // MSAT_PER_SAT)
            signed = await self._chain.sign(unsigned)
            return Built(require_signed(signed, unsigned), vout, signed, fee_sat, height)
        except UnfitError as error:
            reason = str(error)
        except (RpcError, MalformedError) as error:
            log.warning("the node makes no transaction: %s", error)
            reason = "the node could not make the transaction"
        await self._free(funded)
        return reason

    async def _free(self, psbt: str) -> None:
        try:
            await self._chain.unreserve(psbt, BUILD_RESERVE_BLOCKS)
        except RpcError as error:
            log.info("coins stay reserved for %d blocks: %s", BUILD_RESERVE_BLOCKS, error)

    async def _hold(self, built: Built) -> None:
        """Keep the node from using the coins otherwise."""
        try:
            await self._chain.reserve(built.psbt, SENT_RESERVE_BLOCKS)
        except RpcError as error:  # spent in the node's eyes, in a block that is gone
            log.info("the coins of %s can't be reserved: %s", built.txid.hex(), error)

    async def _send(self, melt: PendingPayout, built: Built) -> None:
        """Broadcast, for the first time or again. Past the wallet if it doesn't want to: it refuses a transaction whose
        block was reorganised away, or whose reservation was taken away, and bitcoind doesn't."""
        try:
            await self._chain.send(built.psbt)
        except RpcError as error:
            raw = Psbt.parse(built.psbt).signed
            assert raw is not None
            if not await self._send_past_the_wallet(raw):
                self._note_problem(melt, error.message)
                return
        self._problems.pop(melt.quote, None)
        await self._note_broadcast(melt, built)

    async def _send_past_the_wallet(self, raw: bytes) -> bool:
        try:
            return await self._chain.send_raw(raw)
        except RpcError:
            return False

    async def _note_broadcast(self, melt: PendingPayout, built: Built) -> None:
        if melt.broadcast_at is None:
            await asyncio.wrap_future(self._ledger.note_broadcast(melt))
            log.info("melt broadcast: %d %s, txid %s", melt.amount, melt.unit, built.txid.hex())

    # --- deciding -------------------------------------------------------------------------------------------------

    async def _view(self, height: int, after_move: int) -> View:
        coins = await self._chain.coins(spent=True)
        heights = await self._chain.heights()
        spends: list[Move] = []
        while moves := await self._chain.moves(after_move, MOVES_PAGE):
            spends += [move for move in moves if move.spent_by is not None]
            after_move = moves[-1].index
        return View(height, coins, heights, spends)

    async def _judge(self, melt: PendingPayout, built: Built, view: View) -> None:
        """Settle or discard what is decided for good; send again what isn't in a block."""
        sight = await self._sight(built, view)
        if sight.mined:
            self._problems.pop(melt.quote, None)
            await self._note_broadcast(melt, built)
            if view.height - sight.mined + 1 >= self.confirmations:
                await self._settle(melt, built)
        elif sight.conflict is not None:
            await self._note_conflict(melt, built, sight.conflict)
        else:
            coins = _coins_of(built)
            if any(_needs_reservation(view.coins.get(coin), view.height) for coin in coins):
                await self._hold(built)
            await self._send(melt, built)

    async def _sight(self, built: Built, view: View) -> Sight:
        """Where a transaction is, or what has taken its place."""
        if mined := view.heights.get(built.txid, 0):
            return Sight(view.height, mined)
        found = await self._find_spend(built, _coins_of(built), view)
        if found is None:
            return Sight(view.height)
        spent_by, height = found
        if spent_by == built.txid:
            return Sight(view.height, height)
        return Sight(view.height, conflict=Conflict(spent_by, height, view.height - height + 1))

    async def _settle(self, melt: PendingPayout, built: Built) -> None:
        paid = Paid(None, melt.amount_msat + built.fee_sat * MSAT_PER_SAT)
        await asyncio.wrap_future(self._ledger.settle_melt(melt, paid))
        log.info("melt paid: %d %s, fee %d sat, txid %s", melt.amount, melt.unit, built.fee_sat, built.txid.hex())

    async def _note_conflict(self, melt: PendingPayout, built: Built, conflict: Conflict) -> None:
        text = f"{conflict.spent_by.hex()} in block {conflict.height} has spent a coin of {built.txid.hex()}"
        if conflict.depth < max(self.confirmations, MIN_CONFLICT_DEPTH):
            self._note_problem(melt, text)
            return
        await asyncio.wrap_future(self._ledger.discard_payout(melt, conflict, reasons.COINS_SPENT))
        self._problems.pop(melt.quote, None)
        log.error("melt failed: %d %s on the chain: %s; its ecash is free again", melt.amount, melt.unit, text)

    async def _find_spend(self, built: Built, coins: Iterable[Outpoint], view: View) -> tuple[bytes, int] | None:
        """Which transaction spends one of these coins in a block of the present chain, and its height.

        The node's moves only tell where to look: what they say may be of a block that is gone."""
        ours = set(coins)
        for move in view.spends:
            if move.outpoint not in ours or move.spent_by is None:
                continue
            listed = view.heights.get(move.spent_by)
            if listed == 0 or (listed is None and move.height == 0):
                continue  # in no block now
            for height in [listed] if listed else _around(move.height, view.height):
                block = await self._chain.block(height)
                if block is None:
                    continue
                spent_by = await asyncio.to_thread(spender_in, block, move.outpoint)
                if spent_by is not None:
                    return spent_by, height
        return None

    def _note_problem(self, melt: PendingPayout, problem: str) -> None:
        text = " ".join(problem.split())[:MAX_PROBLEM_LENGTH]
        if self._problems.get(melt.quote) != text:
            self._problems[melt.quote] = text
            txid = "not made yet" if melt.built is None else melt.built.txid.hex()
            log.warning("a melt (transaction %s) stays pending: %s", txid, text)


def read_payment(psbt: str, payment: Payment, coins: Sequence[Coin], most_fee_sat: int) -> tuple[int, int]:
    """Which output of a transaction is the payment, and its fee.

    Raises UnfitError or MalformedError unless it spends exactly these coins, and pays nothing but the payment and at
    most one change, for no higher fee than that."""
    read = Psbt.parse(psbt)
    wanted = {coin.outpoint: Output(coin.amount_sat, coin.script) for coin in coins}
    spent = {spend.outpoint: output for spend, output in zip(read.tx.inputs, read.spent, strict=True)}
    if spent != wanted or len(read.tx.inputs) != len(wanted) or any(spend.script for spend in read.tx.inputs):
        raise UnfitError("the node's transaction spends other coins than it should")
    outputs = read.tx.outputs
    places = [n for n, output in enumerate(outputs) if output == Output(payment.amount_sat, payment.script)]
    others = [output for output in outputs if output != Output(payment.amount_sat, payment.script)]
    if len(places) != 1 or len(others) > 1 or not all(is_p2tr(output.script) for output in others):
        raise UnfitError("the node's transaction pays something else than it should")
    if not 0 <= read.fee_sat <= most_fee_sat:
        raise UnfitError(
            f"the fee would be {read.fee_sat} sat, the reserve is {most_fee_sat} sat: the mint's coins have changed, "
            "ask for a new quote"
        )
    return places[0], read.fee_sat


def require_signed(signed: str, unsigned: str) -> bytes:
    """The txid of a transaction that was signed and not otherwise changed. Raises MalformedError for another one."""
    before, after = Psbt.parse(unsigned), Psbt.parse(signed)
    if after.tx != before.tx or after.spent != before.spent:
        raise MalformedError("another transaction than this was signed")
    if after.signed is None:
        raise MalformedError("a signature is missing")
    return after.tx.txid


def spender_in(block: bytes, coin: Outpoint) -> bytes | None:
    """The id of the transaction in a block that spends a coin."""
    for tx in block_transactions(block):
        if any(spend.outpoint == coin for spend in tx.inputs):
            return tx.txid
    return None


def _coins_of(built: Built) -> list[Outpoint]:
    return [spend.outpoint for spend in Psbt.parse(built.psbt).tx.inputs]


def _needs_reservation(coin: Coin | None, height: int) -> bool:
    if coin is None or coin.status != "confirmed":
        return False
    return coin.reserved_to is None or coin.reserved_to - height < EXTEND_BELOW_BLOCKS


def _around(first: int, tip: int) -> list[int]:
    """The heights where something may be that was first seen at `first`: there first, then the newest."""
    others = range(tip, max(first - SCAN_BEFORE_BLOCKS, tip - SCAN_BLOCKS), -1)
    return [first, *(height for height in others if height != first)]
