"""The node's on-chain wallet as a mint needs to see it. Knows nothing of Cashu.

lightningd's view is what counts here, and some things about it are not as they seem (all measured on v26.06):

* after its start it replays its last blocks, and until then its coins look unconfirmed: see `synced_height`;
* its account moves are only ever added to: a reorganised block takes none back, and one that comes again adds none;
* `getinfo` tells a new height only some time after `block_added`, but all else is up to date by then;
* an error of `sendpsbt` says nothing about the transaction: it may be in the mempool, or in a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from plugin.node.coins import Coin, Payment
from plugin.node.psbt import MalformedError, Outpoint, Psbt, block_time
from plugin.node.rpc import NodeRpc, RpcError

FEES_UNKNOWN = 501
BELOW_DUST = 302
MAX_ADDRESS_LENGTH = 100
"""No address is longer: the longest are 90 characters (BIP 173)."""
WALLET = "wallet"
DEPOSIT = "deposit"


class AddressInvalidError(Exception):
    """The text is no address that this node could pay; says why."""


class FeesUnknownError(Exception):
    """The node can't estimate fees: bitcoind has seen too few blocks, or transactions."""


@dataclass(frozen=True, slots=True)
class Move:
    """An output that came into the wallet's view in a block, or that was spent in one (`spent_by`: the txid).

    `height` and `seen_at` (unix seconds) are of the first time; no later change of the chain changes them."""

    index: int
    account: str
    tag: str
    outpoint: Outpoint
    amount_sat: int
    height: int
    seen_at: int
    spent_by: bytes | None

    @property
    def is_deposit(self) -> bool:
        """Whether the wallet has got this output."""
        return self.account == WALLET and self.tag == DEPOSIT and self.spent_by is None


class Chain:
    """Asks and commands lightningd about its on-chain wallet.

    All methods raise NodeUnavailableError, OutcomeUnknownError and RpcError; what they say of errors comes on top."""

    def __init__(self, rpc: NodeRpc) -> None:
        self._rpc = rpc

    # --- looking --------------------------------------------------------------------------------------------------

    async def synced_height(self, last_added: int | None) -> int | None:
        """The height of the chain; None while the node has not processed all that bitcoind has.

        `last_added`: of the last `block_added`, if there was one yet. Raises RpcError if bitcoind is down."""
        tip = (await self._rpc.call("getchaininfo", last_height=0))["blockcount"]
        height = (await self._rpc.call("getinfo"))["blockheight"] if last_added is None else last_added
        return int(height) if height >= tip else None

    async def coins(self, *, spent: bool) -> dict[Outpoint, Coin]:
        """The outputs of the wallet; with `spent` all that it ever had."""
        outputs = (await self._rpc.call("listfunds", spent=spent))["outputs"]
        coins = (_coin(output) for output in outputs)
        return {coin.outpoint: coin for coin in coins}

    async def heights(self) -> dict[bytes, int]:
        """The wallet's transactions, by id, with the heights of their blocks; 0 for one that is in none (any more)."""
        transactions = (await self._rpc.call("listtransactions"))["transactions"]
        return {bytes.fromhex(tx["hash"]): tx.get("blockheight", 0) for tx in transactions}

    async def moves(self, after: int, limit: int) -> list[Move]:
        """Account moves on the chain, from the one after no. `after` on."""
        page = await self._rpc.call("listchainmoves", index="created", start=after + 1, limit=limit)
        return [_move(move) for move in page["chainmoves"]]

    async def count_moves(self) -> int:
        """The index of the last account move on the chain."""
        counted = await self._rpc.call("wait", subsystem="chainmoves", indexname="created", nextvalue=0)
        return int(counted["created"])

    async def block(self, height: int) -> bytes | None:
        """The block of the best chain at this height, as bitcoind has it; None above its tip."""
        text = (await self._rpc.call("getrawblockbyheight", height=height))["block"]
        return None if text is None else bytes.fromhex(text)

    async def time_of_block(self, height: int) -> int | None:
        """What its header says, in unix seconds."""
        block = await self.block(height)
        return None if block is None else block_time(block)

    # --- receiving ------------------------------------------------------------------------------------------------

    async def new_address(self) -> str:
        """An address of the wallet that was never given out. Taproot: what the node uses itself, cheap to spend."""
        return str((await self._rpc.call("newaddr", addresstype="p2tr"))["p2tr"])

    # --- sending --------------------------------------------------------------------------------------------------

    async def script_of(self, address: str, amount_sat: int, network: str) -> bytes:
        """What pays an address. Raises AddressInvalidError for anything but an address of the node's network."""
        if len(address) > MAX_ADDRESS_LENGTH:
            raise AddressInvalidError(f"request is no bitcoin address of network {network}")
        try:
            made = await self._rpc.call("addpsbtoutput", satoshi=f"{amount_sat}sat", destination=address)
        except RpcError as error:
            if error.code == BELOW_DUST:
                raise AddressInvalidError("the amount is too small to be paid on the chain (dust)") from None
            raise AddressInvalidError(f"request is no bitcoin address of network {network}") from None
        try:
            (output,) = Psbt.parse(made["psbt"]).tx.outputs
        except (MalformedError, ValueError) as error:
            raise AddressInvalidError(f"the node makes no output for the address: {error}") from None
        return output.script

    async def feerate(self, blocks: int) -> int:
        """Satoshis for 1000 units of weight that get a transaction into one of the next `blocks` blocks, and that is
        not below what is relayed. Raises FeesUnknownError."""
        try:
            wanted = (await self._rpc.call("parsefeerate", feerate=f"{blocks}blocks"))["perkw"]
            least = (await self._rpc.call("parsefeerate", feerate="minimum"))["perkw"]
        except RpcError as error:
            if error.code == FEES_UNKNOWN:
                raise FeesUnknownError from None
            raise
        return int(max(wanted, least))

    async def require_affordable(self, payment: Payment, coins: Sequence[Coin]) -> None:
        """Raises RpcError if the node would not make this payment from these coins; changes nothing."""
        await self._rpc.call("check", command_to_check="utxopsbt", **_funding(payment, coins))

    async def fund(self, payment: Payment, coins: Sequence[Coin], reserve_blocks: int) -> str:
        """Reserve coins for a payment: a PSBT with them and its change, if there is any, but not its own output."""
        funding = _funding(payment, coins)
        return str((await self._rpc.call("utxopsbt", **funding, reserve=reserve_blocks))["psbt"])

    async def add_output(self, psbt: str, amount_sat: int, address: str) -> str:
        """The same with one more output."""
        made = await self._rpc.call("addpsbtoutput", satoshi=f"{amount_sat}sat", initialpsbt=psbt, destination=address)
        return str(made["psbt"])

    async def sign(self, psbt: str) -> str:
        """Sign. Raises RpcError for coins that aren't reserved."""
        return str((await self._rpc.call("signpsbt", psbt=psbt))["signed_psbt"])

    async def reserve(self, psbt: str, blocks: int) -> None:
        """Reserve its coins for so many blocks more."""
        await self._rpc.call("reserveinputs", psbt=psbt, exclusive=False, reserve=blocks)

    async def unreserve(self, psbt: str, blocks: int) -> None:
        """Take so many blocks off the reservation of its coins."""
        await self._rpc.call("unreserveinputs", psbt=psbt, reserve=blocks)

    async def send(self, psbt: str) -> None:
        """Finalise and broadcast; may be repeated. RpcError does not mean that it wasn't broadcast."""
        await self._rpc.call("sendpsbt", psbt=psbt, reserve=0)

    async def send_raw(self, transaction: bytes) -> bool:
        """Broadcast, past the wallet; tells whether bitcoind says that it has it in its mempool."""
        answer = await self._rpc.call("sendrawtransaction", tx=transaction.hex(), allowhighfees=False)
        return bool(answer["success"])


def _funding(payment: Payment, coins: Sequence[Coin]) -> dict[str, Any]:
    return {
        "satoshi": f"{payment.amount_sat}sat",
        "feerate": f"{payment.feerate_perkw}perkw",
        "startweight": payment.start_weight,
        "utxos": [str(coin.outpoint) for coin in coins],
        "excess_as_change": True,
    }


def _coin(output: dict[str, Any]) -> Coin:
    return Coin(
        Outpoint(bytes.fromhex(output["txid"]), output["output"]),
        output["amount_msat"] // 1000,
        bytes.fromhex(output["scriptpubkey"]),
        output.get("address"),
        output["status"],
        output.get("blockheight") if output["status"] == "confirmed" else None,
        output["reserved_to_block"] if output.get("reserved") else None,
    )


def _move(move: dict[str, Any]) -> Move:
    return Move(
        move["created_index"],
        move["account_id"],
        move["primary_tag"],
        Outpoint.read(move["utxo"]),
        move["output_msat"] // 1000,
        move["blockheight"],
        move["timestamp"],
        bytes.fromhex(move["spending_txid"]) if "spending_txid" in move else None,
    )
