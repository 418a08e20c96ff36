"""The node's commands about itself, its datastore and its plugin."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from contrib.sandbox import params
from contrib.sandbox.commands import COMMANDS, Result, command
from contrib.sandbox.datastore import MODES, read_key
from contrib.sandbox.errors import (
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    RpcError,
    SandboxError,
    invalid_token,
)
from contrib.sandbox.outside import derive
from contrib.sandbox.params import Args, optional, required
from contrib.sandbox.plugin_process import State
from contrib.sandbox.rpc_server import Request

if TYPE_CHECKING:
    from contrib.sandbox.node import Node


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
