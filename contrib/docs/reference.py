"""`reference.md`: every option and command, as the plugin itself tells them to lightningd."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import Any

from contrib import bootstrap

PAGE = bootstrap.ROOT / "contrib" / "docs" / "reference.md"
ENTRY_FILE = bootstrap.ROOT / "nutbolt.py"
MANIFEST_WAIT_S = 60

HEAD = """\
# Options and commands

Made by `python3 -m contrib.docs` from what the plugin tells lightningd; not written by hand.
"""
OPTIONS = """
## Options

In lightningd's configuration without dashes (`cashu-name=My mint`), on its command line with them, or for this time
only in `lightning-cli -k plugin subcommand=start plugin=/path/to/nutbolt.py cashu-name='My mint'`. lightningd knows
them while the plugin is loaded: without the line `plugin=…` it does not start with them. Amounts are in sat, also for
the unit msat. A value that can't be used disables the plugin, with a sentence in the node's log; the node goes on.
[The limits](limits.md) and [payments on the chain](onchain.md) are explained on pages of their own.

| option | default | |
|---|---|---|
"""
COMMANDS = """
## Commands

By `lightning-cli`, or over any of the node's other ways in with a rune for them. `lightning-cli help NAME` shows the
same.
"""


def manifest() -> dict[str, Any]:
    """The plugin's answer to `getmanifest`."""
    environment = {**os.environ, "LIGHTNINGD_PLUGIN": "1", "LIGHTNINGD_VERSION": "v26.06"}
    request = {"jsonrpc": "2.0", "id": "docs", "method": "getmanifest", "params": {}}
    ran = subprocess.run(
        [sys.executable, str(ENTRY_FILE)],
        input=json.dumps(request) + "\n\n",
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        timeout=MANIFEST_WAIT_S,
        check=True,
    )
    messages = [json.loads(text) for text in ran.stdout.split("\n\n") if text.strip()]
    found: dict[str, Any] = next(message["result"] for message in messages if message.get("id") == "docs")
    return found


def make() -> str:
    """The page."""
    told = manifest()
    options = "".join(_option(option) for option in told["options"])
    commands = "".join(_command(command) for command in sorted(told["rpcmethods"], key=lambda each: str(each["name"])))
    return HEAD + OPTIONS + options + COMMANDS + commands


def _option(option: dict[str, Any]) -> str:
    default = f"`{option['default']}`" if option["default"] else ""
    return f"| `{option['name']}` | {default} | {_cell(option['description'])} |\n"


def _command(command: dict[str, Any]) -> str:
    # pyln puts the help below the parameters; older ones beside them.
    parameters, _, below = str(command["usage"]).partition("\n")
    text = below or str(command.get("long_description") or command["description"])
    lines = "\n".join(line.strip() for line in text.strip().splitlines())
    lines = re.sub(r"\{(\w+)\}", r"`\1`", lines)  # as pyln marks the parameters
    usage = f"lightning-cli {command['name']} {parameters.strip()}".strip()
    return f"\n### {command['name']}\n\n```\n{usage}\n```\n\n{lines}\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
