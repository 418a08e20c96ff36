"""The node's on-chain wallet: what lightningd knows of the chain, which is not always what is there.

Its view is a chain of its own that follows the best one: not to a rival of equal height, and after a start it takes its
last blocks back and reads them again. Moves are only ever added, an output once spent stays so for most commands, and a
transaction is listed if it was sent here, or pays the wallet (all as measured on v26.06).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from contrib.sandbox import addresses, psbts
from contrib.sandbox.bitcoin import SEQUENCE, Bitcoin, Block
from contrib.sandbox.errors import INVALID_PARAMS, LIGHTNINGD, RpcError
from contrib.sandbox.outside import derive
from plugin.node.psbt import Input, MalformedError, Outpoint, Output, Psbt, Transaction, is_p2tr

if TYPE_CHECKING:
    from contrib.sandbox.node import Node

CANNOT_AFFORD = 301
BELOW_DUST = 302
CANNOT_AFFORD_WITH_EMERGENCY = 313
FEES_UNKNOWN = 501
DUST_SAT = 546
LEAST_CHANGE_SAT = 330
EMERGENCY_SAT = 25_000
"""What must be left, since the node has an anchor channel."""
FLOOR_PERKW = 253
P2TR_OUTPUT_WEIGHT = 172
GETINFO_LAG_S = 0.05
"""`getinfo` tells a new height only when gossipd knows of it, after `block_added`."""

_KIND = "coins"


@dataclass
class Owned:
    """An output of the wallet. `was_spent`: the node has seen it spent in a block, which may be gone."""

    outpoint: Outpoint
    output: Output
    address: str
    reserved_to: int = 0
    was_spent: bool = False

    @property
    def weight(self) -> int:
        """What it adds to a transaction that spends it."""
        return 230 if is_p2tr(self.output.script) else 271


class Coins:
    """The wallet's outputs, addresses, moves and transactions."""

    def __init__(self, node: Node, bitcoin: Bitcoin) -> None:
        self._node = node
        self._bitcoin = bitcoin
        self.view: list[Block] = []
        """The chain as far as the node has processed it."""
        self.told_height = bitcoin.base
        """What `getinfo` says while the node is not reading its last blocks again: it lags."""
        self.clock_ahead_s = 0
        """How much later than now moves say that they were seen."""
        self._addresses: dict[bytes, str] = {}
        self._owned: dict[Outpoint, Owned] = {}
        self._listed: dict[bytes, None] = {}
        self._moves: list[dict[str, Any]] = []

    def load(self) -> None:
        """Take over the wallet of an earlier run."""
        saved = self._node.store.get(_KIND, "wallet")
        if saved is not None:
            self._addresses = {bytes.fromhex(script): address for script, address in saved["addresses"]}
            self._owned = {
                (outpoint := Outpoint.read(text)): Owned(
                    outpoint, Output(amount, bytes.fromhex(script)), address, *more
                )
                for text, amount, script, address, *more in saved["owned"]
            }
            self._listed = {bytes.fromhex(txid): None for txid in saved["listed"]}
            self._moves = saved["moves"]
        self.view = list(self._bitcoin.blocks)
        self.told_height = self.height

    def save(self) -> None:
        """Keep everything for the next run."""
        self._node.store.put(
            _KIND,
            "wallet",
            {
                "addresses": [(script.hex(), address) for script, address in self._addresses.items()],
                "owned": [
                    (str(o.outpoint), o.output.amount_sat, o.output.script.hex(), o.address, o.reserved_to, o.was_spent)
                    for o in self._owned.values()
                ],
                "listed": [txid.hex() for txid in self._listed],
                "moves": self._moves,
            },
        )

    # -- following the chain -------------------------------------------------------------------------------------

    @property
    def height(self) -> int:
        """Up to where the chain is processed."""
        return self._bitcoin.base + len(self.view)

    @property
    def is_behind(self) -> bool:
        """Whether there are blocks that are not processed."""
        return self.view != self._bitcoin.blocks

    def roll_back(self, blocks: int) -> None:
        """The node starts: it takes back its last blocks, to read them again."""
        self.view = self.view[: max(0, len(self.view) - blocks)]

    def follow(self, most: int | None = None) -> bool:
        """Process what is new in the best chain, at most so many blocks; tells whether more is left."""
        best = self._bitcoin.blocks
        common = next(
            (n for n, (ours, theirs) in enumerate(zip(self.view, best, strict=False)) if ours != theirs), None
        )
        if common is not None and len(best) <= len(self.view):
            return False  # a rival that is not longer
        if common is not None:
            self.view = self.view[:common]
        new = best[len(self.view) :]
        for block in new[:most]:
            self._process(block)
        self.save()
        return most is not None and len(new) > most

    def _process(self, block: Block) -> None:
        self.view.append(block)
        txs = [self._bitcoin.tx(txid) for txid in block.txids]
        for tx in txs:
            for spend in tx.inputs:
                if (owned := self._owned.get(spend.outpoint)) is not None:
                    owned.was_spent = True
                    self._move("withdrawal", owned, block, spent_by=tx.txid)
        for tx in txs:
            for owned in self._own(tx):
                self._move("deposit", owned, block)
        self._node.notify("block_added", {"hash": block.hash, "height": block.height})
        self._node.loop.call_later(GETINFO_LAG_S, setattr, self, "told_height", self.height)

    def _own(self, tx: Transaction) -> list[Owned]:
        """The outputs of a transaction that are ours, known from now on, and the transaction with them."""
        found = []
        for vout, output in enumerate(tx.outputs):
            address = self._addresses.get(output.script)
            if address is not None:
                outpoint = Outpoint(tx.txid, vout)
                found.append(self._owned.setdefault(outpoint, Owned(outpoint, output, address)))
                self._listed[tx.txid] = None
        return found

    def _move(self, tag: str, owned: Owned, block: Block, *, spent_by: bytes | None = None) -> None:
        amount_msat = owned.output.amount_sat * 1000
        same = {"primary_tag": tag, "utxo": str(owned.outpoint)} | (
            {} if spent_by is None else {"spending_txid": spent_by.hex()}
        )
        if any(same.items() <= move.items() for move in self._moves):
            return
        credit, debit = (amount_msat, 0) if spent_by is None else (0, amount_msat)
        details = {"account": "wallet", "credit_msat": credit, "debit_msat": debit}
        move = {
            "created_index": self._node.waits.bump("chainmoves", "created", details),
            "account_id": "wallet",
            "credit_msat": credit,
            "debit_msat": debit,
            "timestamp": int(time.time()) + self.clock_ahead_s,
            "primary_tag": tag,
            "extra_tags": [],
            "utxo": str(owned.outpoint),
            **({} if spent_by is None else {"spending_txid": spent_by.hex()}),
            "output_msat": amount_msat,
            "blockheight": block.height,
        }
        self._moves.append(move)
        about = {"version": 2, "coin_type": self._node.currency, "node_id": self._node.id, "type": "chain_mvt"}
        self._node.notify("coin_movement", {**about, **move})

    def _heights(self) -> dict[bytes, int]:
        return {txid: block.height for block in self.view for txid in block.txids}

    def forget_moves(self) -> None:
        """The node's database was replaced by an older copy, from before all moves."""
        self._moves = []
        self._node.waits.forget("chainmoves", "created")
        self.save()

    # -- showing -------------------------------------------------------------------------------------------------

    def list_funds(self, *, spent: bool) -> list[dict[str, Any]]:
        """`listfunds`: outputs."""
        heights = self._heights()
        gone = {spend.outpoint for txid in heights for spend in self._bitcoin.tx(txid).inputs}
        shown = []
        for owned in self._owned.values():
            outpoint, output = owned.outpoint, owned.output
            row: dict[str, Any] = {
                "txid": outpoint.txid.hex(),
                "output": outpoint.vout,
                "amount_msat": output.amount_sat * 1000,
                "scriptpubkey": output.script.hex(),
                "address": owned.address,
            }
            reserved = owned.reserved_to > self.height
            if outpoint in gone:
                if spent:
                    shown.append({**row, "status": "spent", "reserved": False})
                continue
            if outpoint.txid in heights:
                row |= {"status": "confirmed", "blockheight": heights[outpoint.txid]}
            else:
                row["status"] = "unconfirmed"
            row["reserved"] = reserved and not owned.was_spent
            if row["reserved"]:
                row["reserved_to_block"] = owned.reserved_to
            shown.append(row)
        return shown

    def list_transactions(self) -> list[dict[str, Any]]:
        """`listtransactions`, as far as anybody here reads it."""
        heights = self._heights()
        return [
            {
                "hash": txid.hex(),
                "rawtx": self._bitcoin.raw(txid).hex(),
                "blockheight": heights.get(txid, 0),
                "txindex": 1 if txid in heights else 0,
                "locktime": self._bitcoin.tx(txid).locktime,
                "version": self._bitcoin.tx(txid).version,
            }
            for txid in self._listed
        ]

    def list_moves(self, *, start: int, limit: int | None) -> list[dict[str, Any]]:
        """`listchainmoves`."""
        chosen = [move for move in self._moves if move["created_index"] >= start]
        return chosen if limit is None else chosen[:limit]

    # -- addresses -----------------------------------------------------------------------------------------------

    def new_address(self, kind: str = "p2tr") -> str:
        """An address that was never given out."""
        program = derive(self._node.secret, f"address {len(self._addresses)}")
        script = b"\x51\x20" + program if kind == "p2tr" else b"\x00\x14" + program[:20]
        address = self._addresses[script] = addresses.encode(script, self._node.network)
        self.save()
        return address

    def script_of(self, address: str) -> bytes:
        """Raises RpcError as lightningd does."""
        try:
            return addresses.decode(address, self._node.network)
        except addresses.OtherNetworkError:
            raise RpcError(LIGHTNINGD, f"Destination address is not on network {self._node.network}") from None
        except addresses.UnreadableError:
            raise RpcError(
                LIGHTNINGD, "Could not parse destination address, destination should be a valid address"
            ) from None

    # -- building ------------------------------------------------------------------------------------------------

    def fund(
        self,
        amount_sat: int,
        feerate_perkw: int,
        weight: int,
        utxos: Sequence[str],
        reserve: int,
        *,
        only_check: bool = False,
    ) -> dict[str, Any]:
        """`utxopsbt` with excess_as_change."""
        chosen = [self._usable(text) for text in utxos]
        total = sum(owned.output.amount_sat for owned in chosen)
        weight += sum(owned.weight for owned in chosen)
        excess = total - amount_sat - feerate_perkw * weight // 1000
        if excess < 0:
            raise RpcError(
                CANNOT_AFFORD,
                f"Could not afford {amount_sat}sat using UTXOs totalling {total}sat with weight {weight} at feerate "
                f"{feerate_perkw}",
            )
        change = excess - feerate_perkw * P2TR_OUTPUT_WEIGHT // 1000
        change = change if change >= LEAST_CHANGE_SAT else 0
        others = (o for o in self._free() if o not in chosen)
        if sum(owned.output.amount_sat for owned in others) + change < EMERGENCY_SAT:
            raise RpcError(
                CANNOT_AFFORD_WITH_EMERGENCY,
                f"We would not have enough left for min-emergency-msat {EMERGENCY_SAT}sat",
            )
        if only_check:
            return {}
        outputs = (Output(change, self.script_of(self.new_address())),) if change else ()
        inputs = tuple(Input(owned.outpoint, SEQUENCE) for owned in chosen)
        tx = Transaction(2, inputs, outputs, self.height)
        answer = {
            "psbt": self._unsigned(tx),
            "feerate_per_kw": feerate_perkw,
            "estimated_final_weight": weight + (P2TR_OUTPUT_WEIGHT if change else 0),
            "excess_msat": 0,
            **({"change_outnum": 0} if change else {}),
        }
        if reserve:
            answer["reservations"] = self._reserve(chosen, reserve)
        return answer

    def add_output(self, psbt: str | None, amount_sat: int, address: str) -> dict[str, Any]:
        """`addpsbtoutput`."""
        script = self.script_of(address)
        if amount_sat < DUST_SAT:
            raise RpcError(BELOW_DUST, f"Receive amount is below dust limit ({DUST_SAT}sat)")
        output = Output(amount_sat, script)
        if psbt is None:
            return {"psbt": psbts.lone_output(output), "estimated_added_weight": 172, "outnum": 0}
        tx = _read(psbt).tx
        longer = Transaction(tx.version, tx.inputs, (*tx.outputs, output), tx.locktime)
        return {"psbt": self._unsigned(longer), "estimated_added_weight": 172, "outnum": len(tx.outputs)}

    def sign(self, psbt: str) -> dict[str, Any]:
        """`signpsbt`."""
        tx = _read(psbt).tx
        for spend in tx.inputs:
            owned = self._owned.get(spend.outpoint)
            if owned is None or owned.reserved_to <= self.height:
                raise RpcError(LIGHTNINGD, f"Aborting PSBT signing. UTXO {spend.outpoint} is not reserved")
        return {"signed_psbt": psbts.signed(tx, *self._sources(tx), derive(self._node.secret, tx.txid.hex()))}

    def send(self, psbt: str) -> dict[str, Any]:
        """`sendpsbt` of a version 0: it looks at no reservation, and changes none."""
        read = _read(psbt)
        if read.signed is None:
            raise RpcError(LIGHTNINGD, f"PSBT not finalizeable {psbt}")
        refusal = self._bitcoin.send(read.signed)
        if refusal is not None:
            raise RpcError(
                LIGHTNINGD, f"Error broadcasting transaction: {refusal}. Unsent tx discarded {read.signed.hex()}"
            )
        self._listed[read.tx.txid] = None
        self._own(read.tx)
        self.save()
        return {"tx": read.signed.hex(), "txid": read.tx.txid.hex()}

    # -- reservations --------------------------------------------------------------------------------------------

    def reserve(self, psbt: str, blocks: int, *, exclusive: bool) -> dict[str, Any]:
        """`reserveinputs`."""
        chosen = self._inputs(psbt)
        for owned in chosen:
            if exclusive and owned.reserved_to > self.height:
                raise RpcError(INVALID_PARAMS, f"{owned.outpoint} already reserved")
            if owned.was_spent:
                raise RpcError(INVALID_PARAMS, f"{owned.outpoint} already spent")
        return {"reservations": self._reserve(chosen, blocks)}

    def unreserve(self, psbt: str, blocks: int) -> dict[str, Any]:
        """`unreserveinputs`."""
        reservations = []
        for owned in self._inputs(psbt):
            if owned.reserved_to > self.height:
                owned.reserved_to -= blocks
                reservations.append(self._reservation(owned, was_reserved=True))
        self.save()
        return {"reservations": reservations}

    def set_reservations(self, height: int) -> None:
        """Every coin is reserved up to this height: somebody else's doing."""
        for owned in self._owned.values():
            owned.reserved_to = height
        self.save()

    def _reserve(self, chosen: Iterable[Owned], blocks: int) -> list[dict[str, Any]]:
        reservations = []
        for owned in chosen:
            was_reserved = owned.reserved_to > self.height
            owned.reserved_to = (owned.reserved_to if was_reserved else self.height) + blocks
            reservations.append(self._reservation(owned, was_reserved=was_reserved))
        self.save()
        return reservations

    def _reservation(self, owned: Owned, *, was_reserved: bool) -> dict[str, Any]:
        reserved = owned.reserved_to > self.height
        shown = {
            "txid": owned.outpoint.txid.hex(),
            "vout": owned.outpoint.vout,
            "was_reserved": was_reserved,
            "reserved": reserved,
        }
        return {**shown, "reserved_to_block": owned.reserved_to} if reserved else shown

    def _inputs(self, psbt: str) -> list[Owned]:
        found = (self._owned.get(spend.outpoint) for spend in _read(psbt).tx.inputs)
        return [owned for owned in found if owned is not None]

    def _usable(self, text: str) -> Owned:
        owned = self._owned.get(Outpoint.read(text))
        if owned is None:
            raise RpcError(INVALID_PARAMS, f"Unknown UTXO {text}")
        if owned.was_spent:
            raise RpcError(INVALID_PARAMS, f"Already spent UTXO {text}")
        if owned.reserved_to > self.height:
            raise RpcError(INVALID_PARAMS, f"UTXO {text} already reserved")
        return owned

    def _free(self) -> list[Owned]:
        heights = self._heights()
        return [
            owned
            for owned in self._owned.values()
            if owned.outpoint.txid in heights and not owned.was_spent and owned.reserved_to <= self.height
        ]

    def _unsigned(self, tx: Transaction) -> str:
        return psbts.unsigned(tx, *self._sources(tx))

    def _sources(self, tx: Transaction) -> tuple[list[bytes], list[Output]]:
        """The transactions that are spent from, without witnesses, and their outputs."""
        sources = [self._bitcoin.tx(spend.outpoint.txid) for spend in tx.inputs]
        spent = [source.outputs[s.outpoint.vout] for source, s in zip(sources, tx.inputs, strict=True)]
        return [source.serialize() for source in sources], spent


def _read(psbt: str) -> Psbt:
    try:
        return Psbt.parse(psbt)
    except (MalformedError, ValueError):
        raise RpcError(INVALID_PARAMS, "psbt: Expected a PSBT: invalid token") from None
