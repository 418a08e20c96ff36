"""The matrix: every flow, struck at each of its points, with either victim."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from contrib.reliability.crash.flows import FLOWS, Flow
from contrib.reliability.crash.steps import Point, Victim
from contrib.reliability.crash.trial import run_through, try_beginning, try_flow, try_point
from contrib.reliability.crash.wallet import ModelWallet
from contrib.reliability.crash.world import World

MakeWorld = Callable[[Path], World]


@dataclass(frozen=True, slots=True)
class Trial:
    """One place to die at, in one flow, for one victim."""

    flow: Flow
    point: Point
    victim: Victim

    def __str__(self) -> str:
        number = f"*{self.point.number}" if self.point.number > 1 else ""
        return f"{self.flow.name}: {self.point}{number}, {self.victim} killed"


def trials(*, staged: bool) -> Iterator[Trial]:
    """All of them; without `staged` those that a real node can take part in."""
    for flow in FLOWS.values():
        for point, victim in itertools.product(flow.points, Victim):
            if staged or not flow.staged:
                yield Trial(flow, point, victim)


class Matrix:
    """Performs trials, all in one world as long as nothing goes wrong there; what begins has one of its own."""

    def __init__(self, directory: Path, make_world: MakeWorld) -> None:
        self._directory = directory
        self._make_world = make_world
        self._numbers = itertools.count(1)
        self._running: tuple[World, ModelWallet] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._discard()

    def perform(self, trial: Trial) -> None:
        """Raises AssertionError if anything was lost, doubled, or did not come to its end."""
        if trial.flow.begins:
            world = self._new_world()
            try:
                try_beginning(world, trial.flow, trial.point, trial.victim)
            finally:
                world.stop()
            return
        try:
            try_point(*self.world(), trial.flow, trial.point, trial.victim)
        except BaseException:
            self._discard()
            raise

    def perform_in_peace(self, flow: Flow) -> None:
        """The flow passes all its points. Raises AssertionError."""
        if not flow.begins:
            try_flow(*self.world(), flow)
            return
        world = self._new_world()
        try:
            world.start()
            run_through(world, flow, flow.run(ModelWallet(world)))
        finally:
            world.stop()

    def world(self) -> tuple[World, ModelWallet]:
        """The world that is running, made when it is needed."""
        if self._running is None:
            world = self._new_world()
            try:
                world.start()
                world.connect()
                self._running = world, ModelWallet(world)
            except BaseException:
                world.stop()
                raise
        return self._running

    def _new_world(self) -> World:
        return self._make_world(self._directory / str(next(self._numbers)))

    def _discard(self) -> None:
        if self._running is not None:
            world, self._running = self._running[0], None
            world.stop()
