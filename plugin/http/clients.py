"""Whose request it is: the address by which clients are told apart, for rate limits.

The peer's address counts. Only a peer that the operator named as a proxy (`cashu-trusted-proxies`) is believed when it
says for whom it speaks, and of what it says only the last address that no trusted proxy has: everything before that can
be written by the client itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

IPV6_PREFIX = 64
"""A customer of a provider has at least such a network to itself: addresses in one count as one client."""
THIS_MACHINE = "this machine"
"""The key of everybody who comes from the loopback interface."""
MAX_HOPS = 50
"""Most addresses that are read of what a proxy forwards."""

_FORWARDED_FOR = re.compile(r'(?:^|;)\s*for\s*=\s*("[^"]*"|[^;]*)', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Client:
    """Who asks. `key` is the same for all addresses that count as one client; `shared`: it stands for all clients that
    reach the mint through something on its own machine (Tor, a proxy that is not trusted)."""

    key: str
    shared: bool


class Clients:
    """Tells clients apart. `trusted`: networks of proxies."""

    def __init__(self, trusted: Sequence[Network]) -> None:
        self._trusted = tuple(trusted)

    def trusts(self, peer: str | None) -> bool:
        """Whether this peer is a trusted proxy: then it speaks for many clients."""
        address = _parse(peer or "")
        return address is not None and self._is_trusted(address)

    def peer(self, peer: str | None) -> Client:
        """The client that a peer is, if it speaks for itself."""
        return _client(_parse(peer or ""))

    def identify(self, peer: str | None, headers: Iterable[tuple[bytes, bytes]]) -> Client:
        """The client behind a request of this peer. `headers`: names (in any case) and values, as they came."""
        address = _parse(peer or "")
        if address is None or not self._is_trusted(address):
            return _client(address)
        forwarded_for: list[str] = []
        forwarded: list[str] = []
        for name, value in headers:
            match name.lower():
                case b"x-forwarded-for":
                    forwarded_for += value.decode("latin1").split(",")
                case b"forwarded":
                    forwarded += value.decode("latin1").split(",")
        # A proxy writes one of the two, and lets the client's own version of the other pass: the usual one counts.
        hops = forwarded_for or [_forwarded_for(element) for element in forwarded]
        return _client(self._last_untrusted(hops, address))

    def _last_untrusted(self, hops: list[str], peer: Address) -> Address:
        """The last address of these that is no trusted proxy, or the one after something that is no address."""
        client = peer
        for hop in hops[: -MAX_HOPS - 1 : -1]:
            address = _parse(hop)
            if address is None:
                break
            client = address
            if not self._is_trusted(address):
                break
        return client

    def _is_trusted(self, address: Address) -> bool:
        return any(address in network for network in self._trusted)


def _client(address: Address | None) -> Client:
    if address is None or address.is_loopback:
        return Client(THIS_MACHINE, shared=True)
    if isinstance(address, IPv6Address):
        return Client(str(ip_network((address, IPV6_PREFIX), strict=False)), shared=False)
    return Client(str(address), shared=False)


def _forwarded_for(element: str) -> str:
    """The address in one element of `Forwarded` (RFC 7239)."""
    found = _FORWARDED_FOR.search(element)
    return "" if found is None else found[1].strip().strip('"')


def _parse(text: str) -> Address | None:
    """An address, with or without brackets and port."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])  # an interface's name is no part of who somebody is
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
