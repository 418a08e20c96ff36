"""Which process the node is: two starts of the plugin can tell whether the node was restarted in between."""

from __future__ import annotations

import os
import socket
import struct
from dataclasses import dataclass
from pathlib import Path

PEER_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid
START_TIME_FIELD = 22 - 3  # in /proc/PID/stat, counted after the command's name
CONNECT_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class NodeProcess:
    """A process, not to be mistaken for another. `started_at` (unix seconds) is not later than its true start."""

    identity: str
    started_at: int


def find(rpc_socket: str) -> NodeProcess | None:
    """The process that serves this socket, by the credentials that the kernel vouches for. None where there is no
    such thing (elsewhere than on Linux), or the node can't be reached: then nothing is claimed."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(CONNECT_TIMEOUT_S)
            sock.connect(rpc_socket)
            raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER_CREDENTIALS.size)
        pid = PEER_CREDENTIALS.unpack(raw)[0]
        ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[START_TIME_FIELD])
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        booted_at = next(
            int(line.split()[1]) for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime ")
        )
    except (OSError, ValueError, IndexError, StopIteration, AttributeError):
        return None
    return NodeProcess(f"{boot}:{pid}:{ticks}", booted_at + ticks // os.sysconf("SC_CLK_TCK"))
