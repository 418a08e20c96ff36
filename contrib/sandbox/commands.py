"""The node's JSON-RPC commands."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contrib.sandbox import bolt11, bolt12, news, params
from contrib.sandbox.channels import (
    CLTV_PER_HOP,
    DUST_LIMIT_MSAT,
    FUNDING_OUTPUT,
    RESERVE_DIVISOR,
    SHORT_CHANNEL_ID,
)
from contrib.sandbox.datastore import MODES, read_key
from contrib.sandbox.errors import (
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    PAY_DESTINATION_PERM_FAIL,
    RpcError,
    SandboxError,
    invalid_token,
)
from contrib.sandbox.invoices import DEFAULT_CLTV, DEFAULT_EXPIRY_S
from contrib.sandbox.outside import DEFAULT_EXPIRY_S as OUTSIDE_EXPIRY_S
from contrib.sandbox.outside import derive
from contrib.sandbox.params import Args, Param, optional, required
from contrib.sandbox.payments import list_pays
from contrib.sandbox.plugin_process import State
from contrib.sandbox.rpc_server import Request
from contrib.sandbox.script import Notifications, behaviour_from_word
from contrib.sandbox.waits import INDEXES, SUBSYSTEMS

if TYPE_CHECKING:
    from contrib.sandbox.node import Node

DEFAULT_RETRY_FOR_S = 60
DEFAULT_MAXDELAY = 2016

Run = Callable[["Node", Request, Args], Awaitable[dict[str, Any]]]
Result = dict[str, Any]


@dataclass(frozen=True)
class Command:
    """One command with its parameters."""

    name: str
    spec: tuple[Param, ...]
    function: Run

    async def run(self, node: Node, request: Request) -> Result:
        """Read the parameters and run it."""
        return await self.function(node, request, params.read_params(request.params, self.spec))

    @property
    def usage(self) -> str:
        """One line, as `help` shows it."""
        return " ".join([self.name, *(param.name if param.required else f"[{param.name}]" for param in self.spec)])


COMMANDS: dict[str, Command] = {}


def command(name: str, *spec: Param) -> Callable[[Run], Run]:
    """Register a function as a command."""

    def register(function: Run) -> Run:
        COMMANDS[name] = Command(name, spec, function)
        return function

    return register


_INDEX = params.one_of("unknown index", *INDEXES)
_STATUS = params.one_of("should be an invoice status", "pending", "complete", "failed")
PAGE = (optional("index", _INDEX), optional("start", params.u64, 0), optional("limit", params.u32))


def check_page(args: Args) -> None:
    """Refuse a start or limit without an index."""
    for name in ("start", "limit"):
        if args[name] and args["index"] is None:
            raise RpcError(INVALID_PARAMS, f"Can only specify {{{name}}} with {{index}}")


# -- about the node ----------------------------------------------------------------------------------------------


@command("getinfo")
async def _getinfo(node: Node, _request: Request, _args: Args) -> Result:
    return {
        "id": node.id,
        "alias": node.settings.alias,
        "color": node.id[:6],
        "num_peers": 1,
        "num_pending_channels": 0,
        "num_active_channels": 1 if node.channel.connected else 0,
        "num_inactive_channels": 0 if node.channel.connected else 1,
        "address": [],
        "binding": [],
        "version": node.settings.version,
        "blockheight": node.told_height,
        "network": node.network,
        "fees_collected_msat": 0,
        "lightning-dir": str(node.network_directory),
        "our_features": {
            "init": "800898880a8a59a1",
            "node": "808898880a8a59a1",
            "channel": "",
            "invoice": "02000002024100",
        },
        **node.settings.warnings,
    }


@command("help", optional("command", params.string))
async def _help(node: Node, _request: Request, args: Args) -> Result:
    shown = [{"command": known.usage} for known in COMMANDS.values()]
    if node.plugin is not None and node.plugin.state is State.ACTIVE:
        for name, method in node.plugin.manifest.methods.items():
            shown.append({"command": f"{name} {method.get('usage', '')}".strip()})
    if args["command"] is None:
        return {"help": sorted(shown, key=lambda entry: entry["command"]), "format-hint": "simple"}
    for entry in shown:
        if entry["command"].split(" ")[0] == args["command"]:
            return {"help": [entry], "format-hint": "simple"}
    raise RpcError(METHOD_NOT_FOUND, f"Unknown command {args['command']}")


@command("listconfigs", optional("config", params.string))
async def _listconfigs(node: Node, _request: Request, args: Args) -> Result:
    configs: dict[str, dict[str, Any]] = {
        "lightning-dir": {"value_str": str(node.directory), "source": "cmdline"},
        "network": {"value_str": node.network, "source": "cmdline"},
        "rpc-file": {"value_str": "lightning-rpc", "source": "default"},
        "allow-deprecated-apis": {"value_bool": False, "source": "cmdline"},
        "alias": {"value_str": node.settings.alias, "source": "cmdline"},
        "max-concurrent-htlcs": {"value_int": 483, "source": "default"},
        "xpay-handle-pay": {"value_bool": True, "source": "default", "plugin": "cln-xpay", "dynamic": True},
        "xpay-slow-mode": {
            "value_bool": node.settings.slow_mode,
            "source": "default",
            "plugin": "cln-xpay",
            "dynamic": True,
        },
        "autoclean-cycle": {"value_int": 3600, "source": "default", "plugin": "autoclean", "dynamic": True},
    }
    if node.plugin is not None:
        for name, option in node.plugin.manifest.options.items():
            configs[name] = _show_option(node, name, option)
    configs |= node.settings.configs
    if args["config"] is None:
        return {"configs": configs}
    if args["config"] not in configs:
        raise invalid_token("config", args["config"], "Unknown config option")
    return {"configs": {args["config"]: configs[args["config"]]}}


@command(
    "setconfig",
    required("config", params.string),
    optional("val", params.string),
    optional("transient", params.boolean),
)
async def _setconfig(node: Node, _request: Request, args: Args) -> Result:
    name = args["config"]
    if name == "xpay-slow-mode":
        node.settings.slow_mode = params.boolean("val", args["val"])
        return {
            "config": {"config": name, "value_bool": node.settings.slow_mode, "plugin": "cln-xpay", "dynamic": True}
        }
    plugin = node.plugin
    option = None if plugin is None else plugin.manifest.options.get(name)
    if plugin is None or option is None:
        raise invalid_token("config", name, "Unknown config option")
    if not option.get("dynamic"):
        raise invalid_token("config", name, "Not a dynamic option")
    # A real node sends every value as a string, whatever the option's type.
    await plugin.call("setconfig", {"config": name, "val": args["val"]})
    node.options[name] = args["val"]
    return {"config": {"config": name, **_show_option(node, name, option)}}


def _show_option(node: Node, name: str, option: dict[str, Any]) -> dict[str, Any]:
    kind = option.get("type", "string")
    value = node.options.get(name, option.get("default"))
    shown: dict[str, Any] = {}
    if kind == "flag":
        shown["set"] = bool(value)
    elif option.get("multi"):
        shown["values_int" if kind == "int" else "values_str"] = value if isinstance(value, list) else [value]
    elif kind == "string-conceal":
        shown["value_str"] = "..."
    elif kind in ("int", "bool"):
        shown[f"value_{kind}"] = value
    else:
        shown["value_str"] = "" if value is None else str(value)
    shown["source"] = "cmdline" if name in node.options else "default"
    shown["plugin"] = str(node.plugin_path)
    if option.get("dynamic"):
        shown["dynamic"] = True
    return shown


@command("makesecret", optional("hex", params.hex_bytes), optional("string", params.plain_string))
async def _makesecret(node: Node, _request: Request, args: Args) -> Result:
    info = _hex_or_string(args)
    return {"secret": derive(node.secret, f"makesecret {info.hex()}").hex()}


@command("notifications", required("enable", params.boolean))
async def _notifications(_node: Node, _request: Request, _args: Args) -> Result:
    return {}


@command("stop")
async def _stop(node: Node, request: Request, _args: Args) -> Result:
    node.notify("warning", {"level": "warn", "source": "lightningd", "log": "JSON-RPC shutdown"})
    request.after_reply.append(node.stop_soon)
    return {"result": "Shutdown complete"}


@command("feerates", required("style", params.one_of("should be 'perkb' or 'perkw'", "perkb", "perkw")))
async def _feerates(_node: Node, _request: Request, args: Args) -> Result:
    rate = 1012 if args["style"] == "perkb" else 253
    names = (
        "opening",
        "mutual_close",
        "unilateral_close",
        "unilateral_anchor_close",
        "penalty",
        "min_acceptable",
        "floor",
    )
    return {args["style"]: {**dict.fromkeys(names, rate), "max_acceptable": rate * 10, "estimates": []}}


# -- datastore ---------------------------------------------------------------------------------------------------


@command(
    "datastore",
    required("key", read_key),
    optional("string", params.plain_string),
    optional("hex", params.hex_bytes),
    optional(
        "mode",
        params.one_of("should be " + ", ".join(f"'{mode}'" for mode in MODES[:-1]) + f", or '{MODES[-1]}'", *MODES),
        "must-create",
    ),
    optional("generation", params.u64),
)
async def _datastore(node: Node, _request: Request, args: Args) -> Result:
    return node.datastore.write(args["key"], _hex_or_string(args), args["mode"], args["generation"])


@command("listdatastore", optional("key", read_key, ()))
async def _listdatastore(node: Node, _request: Request, args: Args) -> Result:
    return {"datastore": node.datastore.read(args["key"])}


@command("deldatastore", required("key", read_key), optional("generation", params.u64))
async def _deldatastore(node: Node, _request: Request, args: Args) -> Result:
    return node.datastore.delete(args["key"], args["generation"])


def _hex_or_string(args: Args) -> bytes:
    if args["string"] is not None and args["hex"] is not None:
        raise RpcError(INVALID_PARAMS, "Cannot have both hex and string")
    if args["string"] is not None:
        return str(args["string"]).encode()
    if args["hex"] is not None:
        return bytes(args["hex"])
    raise RpcError(INVALID_PARAMS, "Must have either hex or string")


# -- invoices ----------------------------------------------------------------------------------------------------


@command("decode", required("string", params.string))
async def _decode(node: Node, _request: Request, args: Args) -> Result:
    text = bolt11.canonical(args["string"])
    if bolt12.is_offer(text) or bolt12.is_invoice(text):
        try:
            return (bolt12.read_offer if bolt12.is_offer(text) else bolt12.read_invoice)(text).to_json()
        except bolt12.Bolt12Error as error:
            raise invalid_token("string", args["string"], str(error)) from None
    try:
        return node.outside.read(text).to_json()
    except bolt11.Bolt11Error as error:
        likely = text.startswith(tuple(f"ln{prefix}" for prefix in bolt11.PREFIXES.values())) and "1" in text
        raise invalid_token("string", args["string"], str(error) if likely else "Unparsable string") from None


@command(
    "invoice",
    required("amount_msat", params.msat_or_any),
    required("label", params.label),
    required("description", params.plain_string),
    optional("expiry", params.u64, DEFAULT_EXPIRY_S),
    optional("fallbacks", params.any_value),
    optional("preimage", params.sha256),
    optional("exposeprivatechannels", params.any_value),
    optional("cltv", params.u32, DEFAULT_CLTV),
    optional("deschashonly", params.boolean, False),
)
async def _invoice(node: Node, _request: Request, args: Args) -> Result:
    record = node.invoices.create(
        amount_msat=None if args["amount_msat"] == "any" else args["amount_msat"],
        label=args["label"],
        description=args["description"],
        expiry_s=args["expiry"],
        preimage=args["preimage"],
        cltv=args["cltv"],
        hash_only=args["deschashonly"],
    )
    node.notify_all([news.invoice_creation(record)], Notifications())
    if node.settings.auto:
        node.pay_later(record)
    shown = {
        "payment_hash": record.payment_hash,
        "expires_at": record.expires_at,
        "bolt11": record.bolt11,
        "payment_secret": bolt11.decode(record.bolt11).payment_secret,
        "created_index": record.created_index,
    }
    if record.amount_msat is not None and record.amount_msat > node.channel.receivable_msat:
        shown["warning_capacity"] = "Insufficient incoming channel capacity to pay invoice"
    return shown


@command(
    "listinvoices",
    optional("label", params.label),
    optional("invstring", params.string),
    optional("payment_hash", params.sha256),
    optional("offer_id", params.sha256),
    *PAGE,
)
async def _listinvoices(node: Node, _request: Request, args: Args) -> Result:
    if sum(args[name] is not None for name in ("label", "invstring", "payment_hash", "offer_id")) > 1:
        raise RpcError(INVALID_PARAMS, "Can only specify one of {label}, {invstring}, {payment_hash} or {offer_id}")
    check_page(args)
    payment_hash = args["payment_hash"]
    if args["invstring"] is not None:
        payment_hash = _payment_hash(bolt11.decode, args["invstring"])
    if args["label"] is not None:
        found = [node.invoices.of_label(args["label"])]
    elif payment_hash is not None:
        found = [node.invoices.of_hash(payment_hash)]
    elif args["offer_id"] is not None:
        found = list(node.invoices.of_offer(args["offer_id"]))
    else:
        found = list(node.invoices.select(index=args["index"], start=args["start"], limit=args["limit"]))
    return {"invoices": [record.to_json() for record in found if record is not None]}


@command(
    "delinvoice",
    required("label", params.label),
    required("status", params.string),
    optional("desconly", params.boolean, False),
)
async def _delinvoice(node: Node, _request: Request, args: Args) -> Result:
    return node.invoices.delete(args["label"], args["status"], description_only=args["desconly"])


@command("waitinvoice", required("label", params.label))
async def _waitinvoice(node: Node, _request: Request, args: Args) -> Result:
    return await node.invoices.wait_one(args["label"])


@command("waitanyinvoice", optional("lastpay_index", params.u64, 0), optional("timeout", params.u64))
async def _waitanyinvoice(node: Node, _request: Request, args: Args) -> Result:
    return await node.invoices.wait_any(args["lastpay_index"], args["timeout"])


# -- payments ----------------------------------------------------------------------------------------------------


@command(
    "xpay",
    required("invstring", params.string),
    optional("amount_msat", params.msat),
    optional("maxfee", params.msat),
    optional("layers", params.any_value),
    optional("retry_for", params.u32, DEFAULT_RETRY_FOR_S),
    optional("partial_msat", params.msat),
    optional("maxdelay", params.u32, DEFAULT_MAXDELAY),
    optional("payer_note", params.string),
    optional("label", params.label),
    optional("localinvreqid", params.sha256),
)
async def _xpay(node: Node, request: Request, args: Args) -> Result:
    return await node.xpay.pay(request, args)


@command(
    "getroutes",
    required("source", params.node_id),
    required("destination", params.node_id),
    required("amount_msat", params.msat),
    required("layers", params.strings),
    required("maxfee_msat", params.msat),
    required("final_cltv", params.u32),
    optional("maxdelay", params.u32, DEFAULT_MAXDELAY),
    optional("maxparts", params.u32),
)
async def _getroutes(node: Node, _request: Request, args: Args) -> Result:
    return node.routes.answer(args)


_SENDPAYS = (
    optional("bolt11", params.string),
    optional("payment_hash", params.sha256),
    optional("status", _STATUS),
    *PAGE,
)


@command("listsendpays", *_SENDPAYS)
async def _listsendpays(node: Node, _request: Request, args: Args) -> Result:
    return {"payments": [row.to_json() for row in _select_rows(node, args)]}


@command("listpays", *_SENDPAYS)
async def _listpays(node: Node, _request: Request, args: Args) -> Result:
    return {"pays": list_pays(_select_rows(node, args), node.xpay.is_running)}


def _payment_hash(read: Callable[[str], bolt11.Invoice], invstring: str) -> str:
    text = bolt11.canonical(invstring)
    try:
        return bolt12.read_invoice(text).payment_hash if bolt12.is_invoice(text) else read(text).payment_hash
    except (bolt11.Bolt11Error, bolt12.Bolt12Error):
        raise RpcError(INVALID_PARAMS, "Invalid invstring: invalid bech32 string") from None


def _select_rows(node: Node, args: Args) -> list[Any]:
    payment_hash = args["payment_hash"]
    if payment_hash is not None and args["bolt11"] is not None:
        raise RpcError(INVALID_PARAMS, "Can only specify one of {bolt11} or {payment_hash}")
    check_page(args)
    if args["bolt11"] is not None:
        payment_hash = _payment_hash(node.outside.read, args["bolt11"])
    if payment_hash is not None and args["start"]:
        raise RpcError(INVALID_PARAMS, "Cannot use start with bolt11 or payment_hash")
    return list(
        node.payments.select(
            payment_hash=payment_hash,
            status=args["status"],
            index=args["index"],
            start=args["start"],
            limit=args["limit"],
        )
    )


@command(
    "delpay",
    required("payment_hash", params.sha256),
    required("status", params.one_of("should be complete or failed", "complete", "failed")),
    optional("partid", params.u64),
    optional("groupid", params.u64),
)
async def _delpay(node: Node, _request: Request, args: Args) -> Result:
    deleted = node.payments.delete(args["payment_hash"], args["status"], args["partid"], args["groupid"])
    return {"payments": [row.to_json() for row in deleted]}


@command(
    "wait",
    required("subsystem", params.one_of("unknown subsystem", *SUBSYSTEMS)),
    required("indexname", _INDEX),
    required("nextvalue", params.u64),
)
async def _wait(node: Node, _request: Request, args: Args) -> Result:
    return await node.waits.wait(args["subsystem"], args["indexname"], args["nextvalue"])


# -- channels ----------------------------------------------------------------------------------------------------


@command("listhtlcs", optional("id", params.string), *PAGE)
async def _listhtlcs(node: Node, _request: Request, args: Args) -> Result:
    check_page(args)
    if args["id"] not in (None, SHORT_CHANNEL_ID, node.channel.channel_id):
        return {"htlcs": []}
    return {"htlcs": node.channel.list_htlcs(start=args["start"], limit=args["limit"])}


@command("listchannelmoves", *PAGE)
async def _listchannelmoves(node: Node, _request: Request, args: Args) -> Result:
    check_page(args)
    return {"channelmoves": node.channel.list_moves(start=args["start"], limit=args["limit"])}


@command("listpeers", optional("id", params.node_id), optional("level", params.string))
async def _listpeers(node: Node, _request: Request, args: Args) -> Result:
    if args["id"] not in (None, node.outside.peer_id):
        return {"peers": []}
    return {
        "peers": [
            {
                "id": node.outside.peer_id,
                "connected": node.channel.connected,
                "num_channels": 1,
                "netaddr": ["127.0.0.1:9735"],
                "features": "800898880a8a59a1",
            }
        ]
    }


@command("listnodes", optional("id", params.node_id))
async def _listnodes(node: Node, _request: Request, args: Args) -> Result:
    known = [node.outside.peer_id, node.outside.node_id, *([node.id] if node.settings.announced else [])]
    return {"nodes": [{"nodeid": node_id} for node_id in known if args["id"] in (None, node_id)]}


@command("listfunds", optional("spent", params.boolean))
async def _listfunds(node: Node, _request: Request, args: Args) -> Result:
    channel = node.channel
    return {
        "outputs": node.coins.list_funds(spent=bool(args["spent"])),
        "channels": [
            {
                "peer_id": node.outside.peer_id,
                "connected": channel.connected,
                "state": "CHANNELD_NORMAL",
                "channel_id": channel.channel_id,
                "short_channel_id": SHORT_CHANNEL_ID,
                "our_amount_msat": channel.to_us_msat,
                "amount_msat": channel.capacity_msat,
                "funding_txid": channel.channel_id,
                "funding_output": FUNDING_OUTPUT,
            }
        ],
    }


@command("listpeerchannels", optional("id", params.node_id), optional("short_channel_id", params.string))
async def _listpeerchannels(node: Node, _request: Request, args: Args) -> Result:
    channel = node.channel
    if args["id"] not in (None, node.outside.peer_id) or args["short_channel_id"] not in (None, SHORT_CHANNEL_ID):
        return {"channels": []}
    reserve_msat = channel.capacity_msat // RESERVE_DIVISOR
    update = {
        "htlc_minimum_msat": 0,
        "htlc_maximum_msat": channel.capacity_msat - reserve_msat,
        "cltv_expiry_delta": CLTV_PER_HOP,
        "fee_base_msat": 1,
        "fee_proportional_millionths": 10,
    }
    shown: dict[str, Any] = {
        "peer_id": node.outside.peer_id,
        "peer_connected": channel.connected,
        "reestablished": channel.connected,
        "channel_type": {"bits": [12, 22], "names": ["static_remotekey/even", "anchors/even"]},
        "updates": {"local": update, "remote": update},
        "state": "CHANNELD_NORMAL",
        "lost_state": False,
        "owner": "channeld",
        "short_channel_id": SHORT_CHANNEL_ID,
        "direction": 0,
        "channel_id": channel.channel_id,
        "funding_txid": channel.channel_id,
        "funding_outnum": FUNDING_OUTPUT,
        "private": False,
        "opener": "local",
        "features": ["option_static_remotekey", "option_anchors"],
        "to_us_msat": channel.to_us_msat,
        "total_msat": channel.capacity_msat,
        "fee_base_msat": 1,
        "fee_proportional_millionths": 10,
        "dust_limit_msat": DUST_LIMIT_MSAT,
        "their_reserve_msat": reserve_msat,
        "our_reserve_msat": reserve_msat,
        "spendable_msat": channel.spendable_msat,
        "receivable_msat": channel.receivable_msat,
        "minimum_htlc_in_msat": 0,
        "minimum_htlc_out_msat": 0,
        "maximum_htlc_out_msat": channel.capacity_msat - reserve_msat,
        "max_accepted_htlcs": 483,
        "status": ["CHANNELD_NORMAL:Channel ready for use."],
        "htlcs": [
            {
                "direction": htlc.direction,
                "id": htlc.id,
                "amount_msat": htlc.amount_msat,
                "expiry": htlc.expiry,
                "payment_hash": htlc.payment_hash,
                "state": htlc.state,
            }
            for htlc in channel.live_htlcs()
        ],
    }
    if not channel.connected:
        del shown["reestablished"], shown["owner"]
    return {"channels": [shown, *({**shown, **differences} for differences in node.settings.further_channels)]}


# -- plugins -----------------------------------------------------------------------------------------------------


@command("plugin", required("subcommand", params.string), optional("plugin", params.string))
async def _plugin(node: Node, _request: Request, args: Args) -> Result:
    subcommand = args["subcommand"]
    plugin = node.plugin
    if subcommand == "stop":
        if args["plugin"] is None:
            raise RpcError(INVALID_PARAMS, "missing required parameter: plugin")
        if plugin is None or not plugin.alive or not _names(plugin.path, args["plugin"]):
            raise RpcError(INVALID_PARAMS, f"Could not find plugin {args['plugin']}")
        if not plugin.manifest.dynamic:
            raise RpcError(INVALID_PARAMS, f"{args['plugin']} cannot be managed when lightningd is up")
        await node.stop_plugin()
        return {"command": "stop", "result": f"Successfully stopped {plugin.name}."}
    if subcommand == "start":
        if args["plugin"] is None:
            raise RpcError(INVALID_PARAMS, "missing required parameter: plugin")
        path = _existing_path(args["plugin"])
        node.plugin_path = path
        try:
            await node.start_plugin(startup=False)
        except SandboxError as error:
            raise RpcError(-3, f"{path}: {error}") from None
        if node.plugin_disabled is not None:
            raise RpcError(-3, f"{path}: disabled itself: {node.plugin_disabled}")
    elif subcommand != "list":
        raise invalid_token("subcommand", subcommand, "Unknown subcommand")
    plugins = []
    if node.plugin is not None and node.plugin.alive:
        plugins.append(
            {
                "name": str(node.plugin.path),
                "active": node.plugin.state is State.ACTIVE,
                "dynamic": node.plugin.manifest.dynamic,
            }
        )
    return {"command": subcommand, "plugins": plugins}


def _existing_path(name: str) -> Path:
    path = Path(name).absolute()
    if not path.exists():
        raise RpcError(INVALID_PARAMS, f"{name} is not executable: No such file or directory")
    return path


def _names(path: Path, name: str) -> bool:
    return name in (str(path), path.name, path.stem)


# -- the world outside -------------------------------------------------------------------------------------------


@command(
    "sandbox-invoice",
    required("amount_msat", params.msat_or_any),
    optional("description", params.string, "sandbox"),
    optional("expiry", params.u64, OUTSIDE_EXPIRY_S),
    optional("behaviour", params.string),
)
async def _sandbox_invoice(node: Node, _request: Request, args: Args) -> Result:
    amount_msat = None if args["amount_msat"] == "any" else args["amount_msat"]
    issued = node.outside.issue(amount_msat, args["description"], args["expiry"], None)
    if args["behaviour"] is not None:
        _script(node, args["behaviour"], issued.payment_hash, 1)
    return {"bolt11": issued.bolt11, "payment_hash": issued.payment_hash}


@command("sandbox-pay", required("bolt11", params.string), optional("amount_msat", params.msat))
async def _sandbox_pay(node: Node, _request: Request, args: Args) -> Result:
    return pay_from_outside(node, args["bolt11"], args["amount_msat"], Notifications())


@command(
    "sandbox-next",
    required("behaviour", params.string),
    optional("times", params.u32, 1),
    optional("payment_hash", params.sha256),
)
async def _sandbox_next(node: Node, _request: Request, args: Args) -> Result:
    _script(node, args["behaviour"], args["payment_hash"], args["times"])
    return {"queued": args["times"]}


@command("sandbox-release", required("payment_hash", params.sha256), optional("partid", params.u64))
async def _sandbox_release(node: Node, _request: Request, args: Args) -> Result:
    return {"released": node.parts.release(args["payment_hash"], ok=True, partid=args["partid"], cause=None)}


@command("sandbox-fail", required("payment_hash", params.sha256), optional("partid", params.u64))
async def _sandbox_fail(node: Node, _request: Request, args: Args) -> Result:
    return {"failed": node.parts.release(args["payment_hash"], ok=False, partid=args["partid"], cause=None)}


@command("sandbox-restart", optional("kill", params.boolean, False))
async def _sandbox_restart(node: Node, request: Request, args: Args) -> Result:
    request.after_reply.append(lambda: node.restart_soon(graceful=not args["kill"]))
    return {"restarting": True}


def pay_from_outside(node: Node, text: str, amount_msat: int | None, spec: Notifications) -> Result:
    """Somebody outside pays an invoice of this node, or is refused; or one for an offer of this node; or one of the
    outside node."""
    if bolt12.is_offer(text):
        text = node.offers.invoice_of_own(node.offers.ask(text, amount_msat, None, None)).bolt11
    invoice: bolt11.Invoice | bolt12.Invoice
    try:
        invoice = bolt12.read_invoice(text) if bolt12.is_invoice(text) else bolt11.decode(bolt11.canonical(text))
    except (bolt11.Bolt11Error, bolt12.Bolt12Error) as error:
        raise RpcError(INVALID_PARAMS, f"Invalid invoice: {error}") from None
    amount_msat = invoice.amount_msat if amount_msat is None else amount_msat
    if amount_msat is None:
        raise RpcError(INVALID_PARAMS, "amount_msat required")
    if (preimage := node.outside.preimage(invoice.payment_hash)) is not None:
        return _pay_outside(node, invoice, preimage, amount_msat)
    complaint = node.invoices.complaint(invoice.payment_hash, amount_msat)
    if complaint is None and amount_msat > node.channel.receivable_msat:
        complaint = f"the channel can receive no more than {node.channel.receivable_msat}msat"
    if complaint is not None:
        raise RpcError(PAY_DESTINATION_PERM_FAIL, complaint)
    record = node.invoices.of_hash(invoice.payment_hash)
    assert record is not None
    node.receive(record, amount_msat, spec)
    return {"payment_preimage": record.preimage, "amount_msat": amount_msat, "pay_index": record.pay_index}


def _pay_outside(node: Node, invoice: bolt11.Invoice | bolt12.Invoice, preimage: str, amount_msat: int) -> Result:
    if not node.outside.accepts(invoice.payment_hash):
        raise RpcError(PAY_DESTINATION_PERM_FAIL, f"Already paid invoice {invoice.payment_hash}")
    if amount_msat >= (invoice.amount_msat or 0):  # else the rest is still to come
        node.outside.mark_paid(invoice.payment_hash)
    return {"payment_preimage": preimage, "amount_msat": amount_msat}


def _script(node: Node, word: str, payment_hash: str | None, times: int) -> None:
    behaviour = behaviour_from_word(word)
    if behaviour is None:
        raise invalid_token("behaviour", word, "should be success, failure, hold, ghost, noroute or an error code")
    node.xpay.script(behaviour, payment_hash, times)
