"""Where the plugin can be reached: at the one address that it was told, by default only on this machine."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest

from plugin.options import parse
from tests.plugin.certificates import make_certificate
from tests.plugin.harness import RawPlugin, free_port

LISTENING = "0A"
NET = ("tcp", "tcp6", "udp", "udp6")


def open_to_others(pid: int) -> set[tuple[str, str]]:
    """Protocol and local address (in hex, as the kernel tells it) of every socket at which a process can be reached."""
    names = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            names.append(str(link.readlink()))
        except FileNotFoundError:
            continue  # closed meanwhile
    inodes = {name.removeprefix("socket:[").removesuffix("]") for name in names if name.startswith("socket:[")}
    found = set()
    for protocol in NET:
        table = Path(f"/proc/{pid}/net/{protocol}")
        for line in table.read_text().splitlines()[1:] if table.exists() else ():
            _, local, _, state, *_rest = line.split()
            if line.split()[9] in inodes and (state == LISTENING or protocol.startswith("udp")):
                found.add((protocol, local))
    return found


def test_unless_asked_it_is_for_this_machine_only() -> None:
    host, _ = parse({}).listen
    assert ip_address(host).is_loopback


@pytest.mark.skipif(not Path("/proc/self/net/tcp").exists(), reason="this system does not tell who listens")
@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
def test_it_listens_where_it_was_told_and_nowhere_else(tmp_path: Path, secure: bool) -> None:
    port = free_port()
    options = {"cashu_listen": f"127.0.0.1:{port}"}
    if secure:
        certificate, key = make_certificate(tmp_path)
        options |= {"cashu_tls_cert": str(certificate), "cashu_tls_key": str(key)}
    with RawPlugin(tmp_path) as plugin:
        plugin.manifest()
        assert plugin.init(**options) is None
        assert plugin.request("cashu-info", {})["result"]["state"] == "starting"
        assert open_to_others(plugin.process.pid) == {("tcp", f"0100007F:{port:04X}")}
