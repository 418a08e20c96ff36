"""bitcoind as the node meets it: one best chain, a mempool, and reorganisations on command."""

from __future__ import annotations

import hashlib
import itertools
import secrets
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from contrib.sandbox.store import Store
from plugin.node.psbt import Input, Outpoint, Output, Transaction

SUBSIDY_SAT = 5_000_000_000
LEAST_FEERATE_PERKW = 250
SEQUENCE = 0xFFFFFFFD
OUTSIDE_SCRIPT = b"\x00\x14" + b"\x0f" * 20

_KIND = "bitcoin"


@dataclass(frozen=True)
class Block:
    """A block. Its first transaction makes new coins."""

    height: int
    time: int
    txids: tuple[bytes, ...]
    hash: str


@dataclass
class Bitcoin:
    """The chain above a base that nobody looks into."""

    store: Store
    base: int
    down: bool = False
    """bitcoind does not answer."""
    least_feerate_perkw: int = LEAST_FEERATE_PERKW
    """What pays less is not relayed."""
    lose_replies: int = 0
    """So many times more it takes a transaction, and the answer is lost."""
    blocks: list[Block] = field(default_factory=list)
    mempool: dict[bytes, None] = field(default_factory=dict)
    _raw: dict[bytes, bytes] = field(default_factory=dict)
    _txs: dict[bytes, Transaction] = field(default_factory=dict)
    _outside: set[Outpoint] = field(default_factory=set)

    def load(self) -> None:
        """Take over the chain of an earlier run."""
        saved = self.store.get(_KIND, "chain")
        if saved is None:
            return
        self.base = saved["base"]
        for raw in saved["txs"]:
            self._keep(bytes.fromhex(raw))
        self.blocks = [
            Block(height, mined_at, tuple(map(bytes.fromhex, txids)), name)
            for height, mined_at, txids, name in saved["blocks"]
        ]
        self.mempool = {bytes.fromhex(txid): None for txid in saved["mempool"]}
        self._outside = {Outpoint.read(text) for text in saved["outside"]}

    def save(self) -> None:
        """Keep everything for the next run."""
        self.store.put(
            _KIND,
            "chain",
            {
                "base": self.base,
                "txs": [raw.hex() for raw in self._raw.values()],
                "blocks": [(b.height, b.time, [t.hex() for t in b.txids], b.hash) for b in self.blocks],
                "mempool": [txid.hex() for txid in self.mempool],
                "outside": [str(outpoint) for outpoint in self._outside],
            },
        )

    # -- looking -------------------------------------------------------------------------------------------------

    @property
    def height(self) -> int:
        """Of the best chain."""
        return self.base + len(self.blocks)

    def tx(self, txid: bytes) -> Transaction:
        """A transaction that was ever seen."""
        return self._txs[txid]

    def raw(self, txid: bytes) -> bytes:
        """The same as it was sent."""
        return self._raw[txid]

    def block_bytes(self, height: int) -> bytes | None:
        """A block as it goes over the wire; None if there is none. Those of the base are empty."""
        if height > self.height:
            return None
        if height <= self.base:
            return bytes(80) + b"\x00"
        block = self.blocks[height - self.base - 1]
        header = bytes(68) + block.time.to_bytes(4, "little") + bytes(8)
        return header + _count(len(block.txids)) + b"".join(self._raw[txid] for txid in block.txids)

    def unspent(self, outpoint: Outpoint) -> Output | None:
        """An output that nobody spends, neither in the chain nor in the mempool."""
        tx = self._txs.get(outpoint.txid)
        if tx is None or outpoint.txid not in {*self._mined(), *self.mempool} or outpoint.vout >= len(tx.outputs):
            return None
        return None if self._spender(outpoint, [*self._mined(), *self.mempool]) else tx.outputs[outpoint.vout]

    def _mined(self) -> Iterable[bytes]:
        return itertools.chain.from_iterable(block.txids for block in self.blocks)

    def _spender(self, outpoint: Outpoint, among: Iterable[bytes]) -> bytes | None:
        return next((t for t in among if any(i.outpoint == outpoint for i in self._txs[t].inputs)), None)

    # -- transactions --------------------------------------------------------------------------------------------

    def pay_from_outside(self, *outputs: Output, spend: Outpoint | None = None) -> bytes:
        """Somebody out there pays, with a coin of theirs; with `spend` with that one, replacing what used it."""
        coin = spend or Outpoint(secrets.token_bytes(32), 0)
        self._outside.add(coin)
        tx = Transaction(2, (Input(coin, SEQUENCE),), outputs, self.height)
        if (replaced := self._spender(coin, self.mempool)) is not None:
            self.evict(replaced)
        self.mempool[self._keep(tx.serialize(((b"\x01" * 64,),)))] = None
        self.save()
        return tx.txid

    def send(self, raw: bytes) -> str | None:
        """`sendrawtransaction`: why it is refused, or None."""
        if self.down:
            return "error: timeout on transient error: Could not connect to the server 127.0.0.1:18443"
        tx = Transaction.parse(raw)
        refusal = None if tx.txid in self.mempool else self._refusal(tx)
        if refusal is None:
            for spend in tx.inputs:
                replaced = self._spender(spend.outpoint, self.mempool)
                if replaced not in (None, tx.txid):
                    assert replaced is not None
                    self.evict(replaced)
            self.mempool[self._keep(raw)] = None
            self.save()
            if self.lose_replies:
                self.lose_replies -= 1
                refusal = "error: timeout on transient error: Could not connect to the server 127.0.0.1:18443"
        return refusal

    def _refusal(self, tx: Transaction) -> str | None:
        if tx.txid in set(self._mined()):
            if any(self.unspent(Outpoint(tx.txid, n)) for n in range(len(tx.outputs))):
                return "error code: -27\nerror message:\nTransaction outputs already in utxo set"
            return "error code: -25\nerror message:\nbad-txns-inputs-missingorspent"
        fee = self.fee_of(tx)
        if fee is None or any(self._spender(spend.outpoint, self._mined()) for spend in tx.inputs):
            return "error code: -25\nerror message:\nbad-txns-inputs-missingorspent"
        if fee * 1000 < self.least_feerate_perkw * _weight(tx):
            return "error code: -26\nerror message:\nmin relay fee not met"
        for spend in tx.inputs:
            rival = self._spender(spend.outpoint, self.mempool)
            if rival is not None and fee <= (self.fee_of(self._txs[rival]) or 0):
                return f"error code: -26\nerror message:\ninsufficient fee, rejecting replacement {tx.txid.hex()}"
        return None

    def fee_of(self, tx: Transaction) -> int | None:
        """None if it spends what isn't there."""
        spent = []
        for spend in tx.inputs:
            source = self._txs.get(spend.outpoint.txid)
            if source is None or spend.outpoint.txid not in {*self._mined(), *self.mempool}:
                return None
            spent.append(source.outputs[spend.outpoint.vout].amount_sat)
        return sum(spent) - sum(output.amount_sat for output in tx.outputs)

    def evict(self, txid: bytes) -> None:
        """A transaction leaves the mempool, and with it those that spend its outputs."""
        self.mempool.pop(txid, None)
        for other in list(self.mempool):
            if any(spend.outpoint.txid == txid for spend in self._txs[other].inputs):
                self.evict(other)
        self.save()

    # -- blocks --------------------------------------------------------------------------------------------------

    def mine(self, count: int = 1, *, empty: bool = False, mined_at: int | None = None) -> None:
        """Blocks are found: the first with the whole mempool, unless they shall be empty."""
        for _ in range(count):
            txids = [] if empty else list(self.mempool)
            height = self.height + 1
            coinbase = Transaction(
                2,
                (
                    Input(
                        Outpoint(bytes(32), 0xFFFFFFFF),
                        0xFFFFFFFF,
                        height.to_bytes(5, "little") + secrets.token_bytes(8),
                    ),
                ),
                (Output(SUBSIDY_SAT, OUTSIDE_SCRIPT),),
                0,
            )
            first = self._keep(coinbase.serialize(((bytes(32),),)))
            name = hashlib.sha256(first + secrets.token_bytes(8)).hexdigest()
            now = int(time.time()) if mined_at is None else mined_at
            self.blocks.append(Block(height, now, (first, *txids), name))
            for txid in txids:
                del self.mempool[txid]
        self.save()

    def reorganise(self, depth: int, blocks: int | None = None, *, without: Collection[bytes] = ()) -> None:
        """The last `depth` blocks are replaced by empty ones, one more if `blocks` doesn't say how many. What was in
        them is in the mempool again, except `without`."""
        gone, self.blocks = self.blocks[-depth:], self.blocks[: len(self.blocks) - depth]
        back = [txid for block in gone for txid in block.txids[1:] if txid not in without]
        self.mempool = dict.fromkeys([*back, *self.mempool])
        self.mine(depth + 1 if blocks is None else blocks, empty=True)

    def _keep(self, raw: bytes) -> bytes:
        tx = Transaction.parse(raw)
        self._txs[tx.txid], self._raw[tx.txid] = tx, raw
        return tx.txid


def _weight(tx: Transaction) -> int:
    """With the witness of a key path spend for each input."""
    return 4 * len(tx.serialize()) + 2 + 66 * len(tx.inputs)


def _count(number: int) -> bytes:
    return bytes([number]) if number < 0xFD else b"\xfd" + number.to_bytes(2, "little")


def shown(output: Output | None) -> dict[str, Any]:
    """`getutxout`."""
    return {
        "amount": None if output is None else f"{output.amount_sat}sat",
        "script": None if output is None else output.script.hex(),
    }
