"""Loaded by the plugin's interpreter before its entry file: lets a test change the plugin from inside.

Python imports a module of this name at start-up if it finds one on PYTHONPATH. The file that `NUTBOLT_INSIDE` names
says what to do, by "module:name" or "module:Class.method", once that module has been imported:

    {"set": {"plugin.methods.verdict:ROUTING_GRACE_S": 1},     replace a constant
     "die": ["plugin.methods.verdict:Verdicts.pay"],           kill -9 the process when this is called, once it is armed
     "print": ["plugin.commands:info"],                        write to stdout in every way when this is called

     "clock": "/path"}                                         seconds by which the clock is wrong, read from this file

A point to die at is armed by writing its name into the file beside the plan that ends in `.armed`.
"""

from __future__ import annotations

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


WRAPPERS = {"die": _die, "print": _print}


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
