"""What a test does to the chain, and with the node's coins."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Protocol, TypeVar

from contrib.sandbox import addresses
from contrib.sandbox.bitcoin import OUTSIDE_SCRIPT, SEQUENCE
from contrib.sandbox.node import Node
from plugin.node.psbt import Input, Output, Transaction

Result = TypeVar("Result")
FAR = 1_000_000
"""Blocks that are never mined in a test."""


class Do(Protocol):
    """Runs a function in the node's thread."""

    def __call__(self, work: Callable[[Node], Result], /) -> Result:
        """Its result."""
        ...


class ChainControl:
    """bitcoind, the people who pay the wallet, and an operator who does what they shouldn't."""

    def __init__(self, do: Do) -> None:
        self._do = do

    # -- people --------------------------------------------------------------------------------------------------

    def deposit(self, address: str, amount_sat: int, *, blocks: int = 0) -> str:
        """Somebody pays an address; then so many blocks are found. Returns the txid."""

        def pay(node: Node) -> str:
            txid = node.deposit(address, amount_sat)
            node.mine(blocks)
            return txid.hex()

        return self._do(pay)

    def replace(self, txid: str) -> None:
        """Whoever sent a transaction sends the same coin to somebody else; the first is out of the mempool."""

        def again(node: Node) -> None:
            (spend,) = node.bitcoin.tx(bytes.fromhex(txid)).inputs
            node.bitcoin.pay_from_outside(Output(1000, OUTSIDE_SCRIPT), spend=spend.outpoint)

        self._do(again)

    def give_coins(self, *amounts_sat: int) -> None:
        """The wallet has these coins more, confirmed."""
        self._do(lambda node: node.give_coins(list(amounts_sat)))

    # -- miners --------------------------------------------------------------------------------------------------

    def mine(self, blocks: int = 1, *, empty: bool = False, mined_at: int | None = None) -> int:
        """Blocks are found; the height of the chain then."""

        def mine(node: Node) -> int:
            node.mine(blocks, empty=empty, mined_at=mined_at)
            return node.bitcoin.height

        return self._do(mine)

    def reorganise(self, depth: int, blocks: int | None = None, *, without: Collection[str] = ()) -> None:
        """The last `depth` blocks are replaced by one more that are empty, or by `blocks`. What was in them is in the
        mempool again, except the transactions `without`."""

        def reorganise(node: Node) -> None:
            node.bitcoin.reorganise(depth, blocks, without={bytes.fromhex(txid) for txid in without})
            node.follow_chain()

        self._do(reorganise)

    # -- bitcoind ------------------------------------------------------------------------------------------------

    def set_down(self, down: bool) -> None:
        """bitcoind is gone, or back."""
        self._do(lambda node: setattr(node.bitcoin, "down", down))

    def lose_replies(self, count: int = 1) -> None:
        """It takes the next transactions, and the answers are lost."""
        self._do(lambda node: setattr(node.bitcoin, "lose_replies", count))

    def set_least_feerate(self, perkw: int) -> None:
        """What pays less is not relayed."""
        self._do(lambda node: setattr(node.bitcoin, "least_feerate_perkw", perkw))

    def set_feerates(self, feerates: dict[int, int] | None) -> None:
        """The node's estimates, by blocks; None for none."""
        self._do(lambda node: setattr(node.settings, "feerates", feerates))

    def mempool(self) -> list[str]:
        """The txids of what waits."""
        return self._do(lambda node: [txid.hex() for txid in node.bitcoin.mempool])

    def forget_mempool(self) -> None:
        """bitcoind was restarted without its mempool."""

        def forget(node: Node) -> None:
            for txid in list(node.bitcoin.mempool):
                node.bitcoin.evict(txid)

        self._do(forget)

    def outputs_of(self, txid: str) -> list[tuple[str, int]]:
        """Scripts and amounts that a transaction pays."""
        tx = self._do(lambda node: node.bitcoin.tx(bytes.fromhex(txid)))
        return [(output.script.hex(), output.amount_sat) for output in tx.outputs]

    def fee_of(self, txid: str) -> int:
        """What a transaction pays the miners."""

        def fee(node: Node) -> int:
            found = node.bitcoin.fee_of(node.bitcoin.tx(bytes.fromhex(txid)))
            assert found is not None
            return found

        return self._do(fee)

    # -- lightningd ----------------------------------------------------------------------------------------------

    def set_clock_ahead(self, seconds: int) -> None:
        """From now on the node says of moves that it saw them so much later."""
        self._do(lambda node: setattr(node.coins, "clock_ahead_s", seconds))

    def finish_replay(self) -> None:
        """The node has read again what it takes back at its start."""
        self._do(lambda node: node.finish_replay())

    def forget_moves(self) -> None:
        """The node's database is replaced by an older copy, from before all moves."""
        self._do(lambda node: node.coins.forget_moves())

    # -- the operator --------------------------------------------------------------------------------------------

    def funds(self, *, spent: bool = False) -> list[dict[str, Any]]:
        """The outputs of `listfunds`."""
        return self._do(lambda node: node.coins.list_funds(spent=spent))

    def outside_address(self, number: int = 0) -> str:
        """An address that isn't the node's."""
        return self._do(lambda node: addresses.encode(b"\x00\x14" + number.to_bytes(20, "big"), node.network))

    def spend_otherwise(self, txid: str, *, blocks: int = 1) -> str:
        """Spend the first coin of a transaction with another, higher fee, against all reservations; the new txid."""

        def spend(node: Node) -> str:
            coin = node.bitcoin.tx(bytes.fromhex(txid)).inputs[0].outpoint
            source = node.bitcoin.tx(coin.txid).outputs[coin.vout]
            other = Transaction(2, (Input(coin, SEQUENCE),), (Output(source.amount_sat // 2, OUTSIDE_SCRIPT),), 0)
            assert node.bitcoin.send(other.serialize(((b"\x02" * 64,),))) is None
            node.mine(blocks)
            return other.txid.hex()

        return self._do(spend)

    def free_all_coins(self) -> None:
        """Somebody takes away every reservation."""
        self._do(lambda node: node.coins.set_reservations(0))

    def reserve_all_coins(self) -> None:
        """Somebody reserves every coin."""
        self._do(lambda node: node.coins.set_reservations(node.blockheight + FAR))
