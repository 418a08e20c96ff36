"""Looking at the process of a mint from outside, at the machine, and at a heap of times."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from pathlib import Path

from tests.plugin.harness import Mint

CPU_CLOCK = 2
"""Of a whole process, in the numbers that Linux gives to the clocks of processes (clock_getcpuclockid)."""
STOLEN = 8
"""Field of the first line of /proc/stat (proc_stat(5)), with its name as field 0."""


def cpu_s(mint: Mint) -> float:
    """CPU time of the mint's process so far, to the nanosecond."""
    assert mint.node.plugin_pid is not None
    return time.clock_gettime(~mint.node.plugin_pid << 3 | CPU_CLOCK)


MEMORY_TARGET_MIB = 80


def memory_mib(mint: Mint) -> float:
    """Resident memory of the mint's process."""
    status = Path(f"/proc/{mint.node.plugin_pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def read_kib(mint: Mint) -> float:
    """What the mint's process has read from the disk, not from the system's page cache."""
    counts = dict(line.split(": ") for line in Path(f"/proc/{mint.node.plugin_pid}/io").read_text().splitlines())
    return int(counts["read_bytes"]) / 1024


class Theft:
    """How much of the machine's CPU time its host gave to others, since this was made; None where nobody says that."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._stolen_s = _stolen_s()

    def percent(self) -> float | None:
        """Of all CPU time that there could have been."""
        now = _stolen_s()
        if now is None or self._stolen_s is None:
            return None
        there_was_s = (time.monotonic() - self._begun) * (os.cpu_count() or 1)
        return round((now - self._stolen_s) / there_was_s * 100, 1)


def _stolen_s() -> float | None:
    try:
        fields = Path("/proc/stat").read_text().splitlines()[0].split()
    except OSError:
        return None
    return int(fields[STOLEN]) / os.sysconf("SC_CLK_TCK") if len(fields) > STOLEN else None


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest of the values that so great a share of them doesn't exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def in_ms(seconds: Sequence[float]) -> dict[str, float]:
    """Median and 99th percentile, in milliseconds."""
    return {"p50_ms": round(quantile(seconds, 0.5) * 1000, 2), "p99_ms": round(quantile(seconds, 0.99) * 1000, 2)}
