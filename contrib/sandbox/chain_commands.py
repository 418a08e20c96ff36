"""The node's JSON-RPC commands about the chain and its on-chain wallet, and bitcoin's own that it passes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from contrib.sandbox import params
from contrib.sandbox.bitcoin import shown
from contrib.sandbox.coins import FEES_UNKNOWN, FLOOR_PERKW
from contrib.sandbox.commands import COMMANDS, PAGE, Command, Result, check_page, command
from contrib.sandbox.errors import INVALID_PARAMS, METHOD_NOT_FOUND, RpcError, invalid_token
from contrib.sandbox.params import Args, optional, required
from contrib.sandbox.rpc_server import Request
from plugin.node.psbt import Outpoint

if TYPE_CHECKING:
    from contrib.sandbox.node import Node

DEFAULT_RESERVE = 72
DEFAULT_COINS = 10
DEFAULT_COIN_SAT = 1_000_000
BITCOIND_DOWN = 500
_NAMES = {"urgent": 6, "normal": 12, "slow": 100}


def sat(name: str, value: Any) -> int:
    """An amount in sat, or with a unit."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    amount_msat = params.msat(name, value)
    return amount_msat // 1000 if isinstance(value, str) and not value.isdigit() else amount_msat


def feerate(name: str, value: Any) -> str:
    """A feerate's text."""
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise invalid_token(name, value, "should be a feerate")
    return str(value)


def outpoints(name: str, value: Any) -> list[str]:
    """A list of txid:vout."""
    if not isinstance(value, list):
        raise invalid_token(name, value, "should be an array")
    return value


def perkw(node: Node, text: str) -> int:
    """A feerate as lightningd reads it, and as its estimates are."""
    if text == "minimum":
        return FLOOR_PERKW
    for suffix, divisor in (("perkw", 1), ("perkb", 4), ("", 4)):
        number = text.removesuffix(suffix)
        if text.endswith(suffix) and number.isdigit():
            return max(FLOOR_PERKW, int(number) // divisor)
    blocks = _NAMES.get(text) or (int(text.removesuffix("blocks")) if text.removesuffix("blocks").isdigit() else None)
    if blocks is None:
        raise RpcError(INVALID_PARAMS, f"feerate: Expected a feerate: invalid token '{text}'")
    estimates = node.settings.feerates
    if estimates is None:
        raise RpcError(FEES_UNKNOWN, "Cannot estimate fees (yet)")
    known = [rate for target, rate in sorted(estimates.items()) if target <= blocks]
    return max(FLOOR_PERKW, known[-1] if known else FLOOR_PERKW)


# -- lightningd --------------------------------------------------------------------------------------------------


class _Check(Command):
    """`check`: what another command would say, without doing it; here only for the one that anybody asks about."""

    async def run(self, node: Node, request: Request) -> Result:
        given = dict(request.params)
        name = given.pop("command_to_check", None)
        known = COMMANDS.get(name)
        if known is None:
            raise RpcError(METHOD_NOT_FOUND, f"Unknown command '{name}'")
        args = params.read_params(given, known.spec)
        if name == "utxopsbt":
            _fund(node, args, only_check=True)
        return {"command_to_check": name}


async def _never(_node: Node, _request: Request, _args: Args) -> Result:
    raise AssertionError("check runs by itself")


COMMANDS["check"] = _Check("check", (required("command_to_check", params.string),), _never)


@command("newaddr", optional("addresstype", params.one_of("should be an address type", "bech32", "p2tr", "all")))
async def _newaddr(node: Node, _request: Request, args: Args) -> Result:
    kind = args["addresstype"] or "p2tr"
    kinds = ("bech32", "p2tr") if kind == "all" else (kind,)
    made = {one: node.coins.new_address(one) for one in kinds}
    if node.settings.auto:
        for address in made.values():
            node.deposit_later(address)
    return made


@command("listtransactions")
async def _listtransactions(node: Node, _request: Request, _args: Args) -> Result:
    return {"transactions": node.coins.list_transactions()}


@command("listchainmoves", *PAGE)
async def _listchainmoves(node: Node, _request: Request, args: Args) -> Result:
    check_page(args)
    return {"chainmoves": node.coins.list_moves(start=args["start"], limit=args["limit"])}


@command("parsefeerate", required("feerate", feerate))
async def _parsefeerate(node: Node, _request: Request, args: Args) -> Result:
    return {"perkw": perkw(node, args["feerate"])}


@command("feerates", required("style", params.one_of("should be a style", "perkw", "perkb")))
async def _feerates(node: Node, _request: Request, args: Args) -> Result:
    factor = 4 if args["style"] == "perkb" else 1
    estimates = [
        {"blockcount": blocks, "feerate": rate * factor, "smoothed_feerate": rate * factor}
        for blocks, rate in sorted((node.settings.feerates or {}).items())
    ]
    return {args["style"]: {"floor": FLOOR_PERKW * factor, "min_acceptable": FLOOR_PERKW, "estimates": estimates}}


@command(
    "utxopsbt",
    required("satoshi", sat),
    required("feerate", feerate),
    required("startweight", params.u32),
    required("utxos", outpoints),
    optional("reserve", params.u32, DEFAULT_RESERVE),
    optional("excess_as_change", params.boolean, False),
)
async def _utxopsbt(node: Node, _request: Request, args: Args) -> Result:
    return _fund(node, args)


def _fund(node: Node, args: Args, *, only_check: bool = False) -> Result:
    return node.coins.fund(
        args["satoshi"],
        perkw(node, args["feerate"]),
        args["startweight"],
        args["utxos"],
        args["reserve"],
        only_check=only_check,
    )


@command(
    "addpsbtoutput",
    required("satoshi", sat),
    optional("initialpsbt", params.string),
    optional("locktime", params.u32),
    optional("destination", params.string),
)
async def _addpsbtoutput(node: Node, _request: Request, args: Args) -> Result:
    return node.coins.add_output(
        args["initialpsbt"], args["satoshi"], args["destination"] or node.coins.new_address("p2tr")
    )


@command("signpsbt", required("psbt", params.string))
async def _signpsbt(node: Node, _request: Request, args: Args) -> Result:
    return node.coins.sign(args["psbt"])


@command("sendpsbt", required("psbt", params.string), optional("reserve", params.u32, DEFAULT_RESERVE))
async def _sendpsbt(node: Node, _request: Request, args: Args) -> Result:
    sent = node.coins.send(args["psbt"])
    if node.settings.auto:
        node.mine_later()
    return sent


@command(
    "reserveinputs",
    required("psbt", params.string),
    optional("exclusive", params.boolean, True),
    optional("reserve", params.u32, DEFAULT_RESERVE),
)
async def _reserveinputs(node: Node, _request: Request, args: Args) -> Result:
    return node.coins.reserve(args["psbt"], args["reserve"], exclusive=args["exclusive"])


@command("unreserveinputs", required("psbt", params.string), optional("reserve", params.u32, DEFAULT_RESERVE))
async def _unreserveinputs(node: Node, _request: Request, args: Args) -> Result:
    return node.coins.unreserve(args["psbt"], args["reserve"])


# -- bitcoin's own -----------------------------------------------------------------------------------------------


@command("getchaininfo", optional("last_height", params.u32))
async def _getchaininfo(node: Node, _request: Request, _args: Args) -> Result:
    if node.bitcoin.down:
        raise RpcError(BITCOIND_DOWN, "bitcoin-cli getblockchaininfo exited with 1: Could not connect to the server")
    height = node.bitcoin.height
    return {"chain": node.network, "headercount": height, "blockcount": height, "ibd": False}


@command("getrawblockbyheight", required("height", params.u32))
async def _getrawblockbyheight(node: Node, _request: Request, args: Args) -> Result:
    block = None if node.bitcoin.down else node.bitcoin.block_bytes(args["height"])
    return {"blockhash": None if block is None else block[:32].hex(), "block": None if block is None else block.hex()}


@command("getutxout", required("txid", params.string), required("vout", params.u32))
async def _getutxout(node: Node, _request: Request, args: Args) -> Result:
    outpoint = Outpoint(bytes.fromhex(args["txid"]), args["vout"])
    return shown(None if node.bitcoin.down else node.bitcoin.unspent(outpoint))


@command("sendrawtransaction", required("tx", params.hex_bytes), optional("allowhighfees", params.boolean, False))
async def _sendrawtransaction(node: Node, _request: Request, args: Args) -> Result:
    refusal = node.bitcoin.send(args["tx"])
    return {"success": refusal is None, "errmsg": refusal or ""}


# -- the world outside -------------------------------------------------------------------------------------------


@command("sandbox-mine", optional("blocks", params.u32, 1))
async def _sandbox_mine(node: Node, _request: Request, args: Args) -> Result:
    node.mine(args["blocks"])
    return {"blockheight": node.blockheight}


@command("sandbox-deposit", required("address", params.string), required("satoshi", sat))
async def _sandbox_deposit(node: Node, _request: Request, args: Args) -> Result:
    return {"txid": node.deposit(args["address"], args["satoshi"]).hex()}


@command("sandbox-coins", optional("count", params.u32, DEFAULT_COINS), optional("satoshi", sat, DEFAULT_COIN_SAT))
async def _sandbox_coins(node: Node, _request: Request, args: Args) -> Result:
    node.give_coins([args["satoshi"]] * args["count"])
    return {"blockheight": node.blockheight}
