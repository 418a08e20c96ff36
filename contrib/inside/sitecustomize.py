"""Loaded by the plugin's interpreter before its entry file: lets a test change the plugin from inside.

Python imports a module of this name at start-up if it finds one on PYTHONPATH. The file that `NUTBOLT_INSIDE` names
says what to do, by "module:name" or "module:Class.method", once that module has been imported:

    {"set": {"plugin.methods.verdict:ROUTING_GRACE_S": 1},     replace a constant
     "die": ["plugin.methods.verdict:Verdicts.pay"],           kill -9 the process when this is called, once it is armed
     "print": ["plugin.commands.status:describe"],            write to stdout in every way when this is called
     "steps": ["plugin.node.rpc:Connection.call"],             the durable steps that this takes are points to die at
     "clock": "/path"}                                         seconds by which the clock is wrong, read from this file

A point to die at is armed by writing its name into the file beside the plan that ends in `.armed`.

A point of a durable step is named `STEP/STAGE`, and can be followed by the number of the time that counts (else 1) and
by `node`: then it is the node that is killed, and the plugin goes on until it notices. Each point that is passed is
noted in the file that ends in `.trace`. The steps are `STEPS` below.
"""

from __future__ import annotations

import asyncio
import functools
import importlib.abc
import importlib.machinery
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

PLAN_VARIABLE = "NUTBOLT_INSIDE"


def _die(target: str, wrapped: Callable[..., Any]) -> Callable[..., Any]:
    armed = Path(os.environ[PLAN_VARIABLE]).with_suffix(".armed")

    @functools.wraps(wrapped)
    def dying(*arguments: Any, **named: Any) -> Any:
        if armed.exists() and armed.read_text() == target:
            os.kill(os.getpid(), signal.SIGKILL)
        return wrapped(*arguments, **named)

    return dying


def _print(_target: str, wrapped: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(wrapped)
    def printing(*arguments: Any, **named: Any) -> Any:
        print("a stray print", flush=True)
        os.write(1, b"stray bytes on descriptor 1\n")
        sys.stdout.write('{"jsonrpc": "2.0", "method": "log", "params": {"level": "no such level"}}\n\n')
        sys.stdout.flush()
        return wrapped(*arguments, **named)

    return printing


# --- durable steps --------------------------------------------------------------------------------------------------

SENDING_S = 0.005
"""After this a command has left the process."""

_NODE = os.getppid()
_passed: dict[str, int] = {}
_node_is_killed = False


def _pass(step: str, stage: str) -> None:
    """A point is reached: note it, and die if it is the one that is armed."""
    point = f"{step}/{stage}"
    plan = Path(os.environ[PLAN_VARIABLE])
    with plan.with_suffix(".trace").open("ab", buffering=0) as trace:
        trace.write(f"{point}\n".encode())
    try:
        armed, number, victim = plan.with_suffix(".armed").read_text().split("\t")
    except (OSError, ValueError):
        _passed.clear()
        return
    if armed != point:
        return
    _passed[point] = _passed.get(point, 0) + 1
    if _passed[point] == int(number):
        _kill_node() if victim == "node" else os.kill(os.getpid(), signal.SIGKILL)


def _is_armed(point: str) -> bool:
    armed = Path(os.environ[PLAN_VARIABLE]).with_suffix(".armed")
    return armed.exists() and armed.read_text().startswith(point + "\t")


def _kill_node() -> None:
    """Once, and nobody else: an orphan has another parent."""
    global _node_is_killed  # noqa: PLW0603
    is_node = Path(f"/proc/{_NODE}/comm").read_text().strip() == "lightningd"
    if is_node and os.getppid() == _NODE and not _node_is_killed:
        _node_is_killed = True
        os.kill(_NODE, signal.SIGKILL)


def _run_one(wrapped: Callable[..., Any]) -> Callable[..., Any]:
    def run_one(writer: Any, job: Any) -> Any:
        _pass(job.operation, "before")
        outcome = wrapped(writer, job)
        if not isinstance(outcome, BaseException):
            _pass(job.operation, "written")
        return outcome

    return run_one


def _answer(wrapped: Callable[..., Any]) -> Callable[..., Any]:
    def answer(writer: Any, number: int, done: Any, refused: Any) -> None:
        for finished in done:
            _pass(finished.job.operation, "durable")
        wrapped(writer, number, done, refused)
        for finished in done:
            _pass(finished.job.operation, "told")

    return answer


def _call(wrapped: Callable[..., Any]) -> Callable[..., Any]:
    async def call(connection: Any, method: str, params: Any) -> Any:
        _pass(method, "before")
        running = asyncio.ensure_future(wrapped(connection, method, params))
        if _is_armed(f"{method}/sent"):
            await asyncio.sleep(SENDING_S)
        _pass(method, "sent")
        try:
            answer = await running
        except Exception as error:
            if type(error).__name__ == "RpcError":
                _pass(method, "after")
            raise
        _pass(method, "after")
        return answer

    return call


def _migrate(wrapped: Callable[..., Any]) -> Callable[..., Any]:
    def written() -> bool:
        _pass("migrate", "written")
        return False  # it may be committed

    def durable(*_: Any) -> int:
        _pass("migrate", "durable")
        return 0

    def migrate(connection: Any) -> None:
        _pass("migrate", "before")
        connection.set_commit_hook(written)
        connection.set_wal_hook(durable)
        wrapped(connection)
        connection.set_commit_hook(None)
        connection.wal_autocheckpoint(1000)  # SQLite's own: the hook took its place

    return migrate


def _create(wrapped: Callable[..., Any]) -> Callable[..., Any]:
    def create(*arguments: Any) -> Any:
        _pass("new ledger", "before")
        record = wrapped(*arguments)
        _pass("new ledger", "durable")
        return record

    return create


STEPS = {
    "ledger.store.writer:Writer._run_one": _run_one,
    "ledger.store.writer:Writer._answer": _answer,
    "plugin.node.rpc:Connection.call": _call,
    "ledger.store.database:migrate": _migrate,
    "ledger.identity:create": _create,
}


def _steps(target: str, wrapped: Callable[..., Any]) -> Callable[..., Any]:
    return STEPS[target](wrapped)


WRAPPERS = {"die": _die, "print": _print, "steps": _steps}


class Changes(importlib.abc.MetaPathFinder):
    """Applies the plan to modules as they are imported."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self._plan = plan
        self._modules = {target.partition(":")[0] for part in plan.values() for target in part}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The ordinary spec, with a loader that changes the module afterwards."""
        if fullname not in self._modules:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            self._change(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec

    def _change(self, module: ModuleType) -> None:
        for kind, part in self._plan.items():
            for target in part:
                name, _, path = target.partition(":")
                if name != module.__name__:
                    continue
                *parents, last = path.split(".")
                owner: Any = functools.reduce(getattr, parents, module)
                value = part[target] if kind == "set" else WRAPPERS[kind](target, getattr(owner, last))
                setattr(owner, last, value)


def _shift_clock(path: Path) -> None:
    right = time.time

    def wrong() -> float:
        try:
            return right() + float(path.read_text())
        except FileNotFoundError:
            return right()

    time.time = wrong


if PLAN_VARIABLE in os.environ and Path(os.environ[PLAN_VARIABLE]).exists():
    plan = json.loads(Path(os.environ[PLAN_VARIABLE]).read_text())
    if clock := plan.pop("clock", None):
        _shift_clock(Path(clock))
    sys.meta_path.insert(0, Changes(plan))
