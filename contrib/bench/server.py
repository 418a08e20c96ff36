"""A mint that is measured: where it serves, and what its process uses."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Server:
    """A mint that runs. `node_cpu_s`: the CPU time so far of a node that it has beside it."""

    name: str
    version: str
    host: str
    port: int
    pid: int
    node_cpu_s: Callable[[], float]

    @property
    def url(self) -> str:
        """Where it serves."""
        return f"http://{self.host}:{self.port}"

    def cpu_s(self) -> float:
        """CPU time of the mint's process so far, of all its threads, in user mode and in the kernel."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_S

    def memory_mib(self) -> tuple[float, float]:
        """Resident memory of the mint's process: now, and at most so far."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        kib = dict(line.split(":", 1) for line in lines)
        return tuple(int(kib[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))  # type: ignore[return-value]
