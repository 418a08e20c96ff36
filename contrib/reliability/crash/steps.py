"""The durable steps, and the stages of each at which a mint can die.

A step is an operation of the ledger, one of the two by which a ledger begins, or a command that changes something at
the node. That no step is missing is proven by `uncovered`: it compares with the source.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path

from ledger.store.database import migrations
from ledger.store.operation import Operation

REPOSITORY = Path(__file__).resolve().parents[3]
INSIDE = REPOSITORY / "contrib" / "inside"
STEPS_INSIDE = (
    "ledger.store.writer:Writer._run_one",
    "ledger.store.writer:Writer._answer",
    "plugin.node.rpc:Connection.call",
    "ledger.store.database:migrate",
    "ledger.identity:create",
)
"""What the points are fastened to, see `contrib/inside/sitecustomize.py`."""

MIGRATE, NEW_LEDGER = "migrate", "new ledger"

OPERATION_STAGES = ("before", "written", "durable", "told")
"""Taken from the queue and nothing written; written, but not committed; committed, and nobody told; all told."""
COMMAND_STAGES = ("before", "sent", "after")
"""Not sent; sent, and not answered as a rule; answered, and nothing made of the answer."""
NEW_LEDGER_STAGES = ("before", "durable")

READ_ONLY = frozenset(
    {
        "check",
        "decode",
        "fetchbip353",
        "getchaininfo",
        "getinfo",
        "getrawblockbyheight",
        "getroutes",
        "listchainmoves",
        "listchannelmoves",
        "listdatastore",
        "listfunds",
        "listhtlcs",
        "listinvoices",
        "listnodes",
        "listpays",
        "listpeerchannels",
        "listsendpays",
        "listtransactions",
        "makesecret",
        "parsefeerate",
        "wait",
        "waitanyinvoice",
    }
)
"""Commands of the node that change nothing there."""

BESIDE_MONEY = frozenset({"checkrune", "deldatastore"})
"""Commands that change nothing on which money depends: how often a rune was used, and which old days the curves of the
operator's page still have. Every other one is a step."""


class Victim(StrEnum):
    """Who is killed. The plugin never outlives its node for long."""

    PLUGIN = "plugin"
    NODE = "node"


@dataclass(frozen=True, slots=True)
class Point:
    """A place to die. `number`: the how manieth time that it is passed."""

    step: str
    stage: str
    number: int = 1

    def __str__(self) -> str:
        return f"{self.step}/{self.stage}"


def stages(step: str) -> tuple[str, ...]:
    """The stages of a step."""
    if step == NEW_LEDGER:
        return NEW_LEDGER_STAGES
    return OPERATION_STAGES if step in set(Operation) else COMMAND_STAGES


def points(step: str, number: int = 1) -> list[Point]:
    """All places to die in a step. To migrate is to take each step of the schema."""
    if step == MIGRATE:
        each = range(1, len(migrations()) + 1)
        return [Point(step, "before"), *(Point(step, stage, n) for n in each for stage in ("written", "durable"))]
    return [Point(step, stage, number) for stage in stages(step)]


@cache
def commands_in_source() -> frozenset[str]:
    """The names of all commands that the plugin sends to the node."""
    sources = [path.read_text() for path in (REPOSITORY / "plugin").rglob("*.py")]
    return frozenset(name for source in sources for name in _commands(ast.parse(source)))


def _commands(tree: ast.AST) -> Iterator[str]:
    """By the first argument of `….call("name", …)` and `….call_long("name", …)`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CALLS:
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield first.value


CALLS = ("call", "call_long")


def all_steps() -> set[str]:
    """Every durable step there is."""
    return {*Operation, MIGRATE, NEW_LEDGER, *(commands_in_source() - READ_ONLY - BESIDE_MONEY)}


def uncovered(covered: Iterable[str]) -> set[str]:
    """The steps that are missing among these."""
    return all_steps() - set(covered)
