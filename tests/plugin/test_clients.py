"""Whose request it is: which address counts, and whom nobody can make the mint believe."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from plugin.http.clients import MAX_HOPS, THIS_MACHINE, Clients
from plugin.options import parse

NOBODY = Clients(())
PROXIES = Clients([ip_network("127.0.0.1"), ip_network("10.0.0.0/8"), ip_network("fd00::/8")])


def headers(*pairs: tuple[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in pairs]


def key(clients: Clients, peer: str | None, *pairs: tuple[str, str]) -> str:
    return clients.identify(peer, headers(*pairs)).key


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff:ffff:ffff:ffff", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::1", "127.0.0.1", True),
        ("127.0.0.1", "127.8.9.10", True),
    ],
)
def test_which_addresses_are_one_client(one: str, other: str, same: bool) -> None:
    assert (key(NOBODY, one) == key(NOBODY, other)) == same


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1", None, "", "no address"])
def test_who_comes_from_this_machine_shares_one_budget_and_is_not_exempt(peer: str | None) -> None:
    client = NOBODY.identify(peer, headers(("X-Forwarded-For", "192.0.2.7")))
    assert (client.key, client.shared) == (THIS_MACHINE, True)


@pytest.mark.parametrize("name", ["X-Forwarded-For", "x-forwarded-for", "Forwarded", "X-Real-Ip", "Remote-Addr"])
def test_nobody_is_believed_who_is_no_trusted_proxy(name: str) -> None:
    for clients in (NOBODY, PROXIES):
        assert key(clients, "192.0.2.1", (name, "for=198.51.100.1"), (name, "198.51.100.1")) == "192.0.2.1"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("198.51.100.1", "198.51.100.1"),
        (" 198.51.100.1 ", "198.51.100.1"),
        ("198.51.100.1:4711", "198.51.100.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("[2001:db8::1]:4711", "2001:db8::/64"),
        # What the client wrote itself stands before what the proxy has added.
        ("203.0.113.9, 198.51.100.1", "198.51.100.1"),
        ("127.0.0.1, 198.51.100.1", "198.51.100.1"),
        # Several trusted proxies in a row.
        ("203.0.113.9, 198.51.100.1, 10.1.2.3, fd00::5", "198.51.100.1"),
        # Through a proxy from this machine, as from Tor: those who do so share a budget.
        ("127.0.0.1", THIS_MACHINE),
        ("10.1.2.3", "10.1.2.3"),
        # No address: then the proxy that says so counts.
        ("unknown", THIS_MACHINE),
        ("", THIS_MACHINE),
        ("198.51.100.1, unknown", THIS_MACHINE),
        ("198.51.100.1, x, 10.1.2.3", "10.1.2.3"),
        ("198.51.100.1," + "10.1.2.3," * MAX_HOPS + "10.1.2.3", "10.1.2.3"),
    ],
)
def test_a_trusted_proxy_is_believed_as_far_as_it_knows(value: str, expected: str) -> None:
    assert key(PROXIES, "127.0.0.1", ("x-forwarded-for", value)) == expected


def test_a_header_may_come_in_several_lines() -> None:
    lines = [("x-forwarded-for", "203.0.113.9"), ("x-forwarded-for", "198.51.100.1")]
    assert key(PROXIES, "127.0.0.1", *lines) == "198.51.100.1"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("for=198.51.100.1", "198.51.100.1"),
        ("For=198.51.100.1;proto=https;by=10.0.0.1", "198.51.100.1"),
        ('proto=https; for="[2001:db8::1]:4711"', "2001:db8::/64"),
        ("for=203.0.113.9, for=198.51.100.1, for=10.2.3.4", "198.51.100.1"),
        ("for=_hidden", THIS_MACHINE),
        ("proto=https", THIS_MACHINE),
        ("before=198.51.100.1", THIS_MACHINE),
    ],
)
def test_forwarded_is_read_as_well(value: str, expected: str) -> None:
    assert key(PROXIES, "127.0.0.1", ("forwarded", value)) == expected


def test_the_header_that_the_proxy_lets_pass_does_not_help_a_client() -> None:
    """A proxy that writes one of the two hands the other one on as the client has sent it."""
    honest = ("x-forwarded-for", "198.51.100.1")
    assert key(PROXIES, "127.0.0.1", honest, ("forwarded", "for=203.0.113.9")) == "198.51.100.1"
    assert key(PROXIES, "127.0.0.1", honest, ("forwarded", "for=198.51.100.1")) == "198.51.100.1"


def test_an_interface_s_name_makes_no_other_client() -> None:
    clients = Clients(parse({"cashu-trusted-proxies": "127.0.0.1"}).trusted_proxies)
    keys = {
        clients.identify("127.0.0.1", [(b"x-forwarded-for", told)]).key
        for told in (b"2001:db8::1", b"2001:db8::1%eth0", b"[2001:db8::1%" + b"x" * 200 + b"]")
    }
    assert keys == {"2001:db8::/64"}
