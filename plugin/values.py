"""How the values of options are read. A reader takes the text, and raises ValueError with what is allowed."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from ipaddress import IPv4Network, IPv6Network, ip_network
from urllib.parse import urlsplit

MAX_PROXIES = 100
MAX_PORT = 65535
MAX_CONTACTS = 20
MAX_URLS = 20
MAX_URL_LENGTH = 2000
MAX_CONTACTS_LENGTH = 2000


@dataclass(frozen=True, slots=True)
class Contact:
    """A way to reach the operator (NUT-06): `method` names it (email, nostr, …), `info` is the address there."""

    method: str
    info: str


def whole(minimum: int, maximum: int) -> Callable[[str], int]:
    """A whole number between two."""

    def parse(text: str) -> int:
        if len(text) > 20 or not text.isascii() or not text.isdigit() or not minimum <= int(text) <= maximum:
            raise ValueError(f"must be a whole number from {minimum} to {maximum}")
        return int(text)

    return parse


def percent(text: str) -> Decimal:
    """A number from 0 to 100."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise ValueError("must be a number from 0 to 100") from None
    if not value.is_finite() or not 0 <= value <= 100:
        raise ValueError("must be a number from 0 to 100")
    return value


def text(limit: int) -> Callable[[str], str]:
    """Printable text of at most so many characters."""

    def parse(text: str) -> str:
        if len(text) > limit or not text.isprintable():
            raise ValueError(f"must be at most {limit} printable characters")
        return text

    return parse


def switch(text: str) -> bool:
    """True or false."""
    if text.lower() not in ("true", "false"):
        raise ValueError("must be true or false")
    return text.lower() == "true"


def path(text: str) -> str:
    """A path."""
    if not text or "\0" in text:
        raise ValueError("must be a path")
    return text


def path_or_none(text: str) -> str:
    """A path, or nothing."""
    if "\0" in text:
        raise ValueError("must be a path")
    return text


def listen(text: str) -> tuple[str, int]:
    """Address and port."""
    host, separator, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    is_number = port.isascii() and port.isdigit() and len(port) <= len(str(MAX_PORT))  # Python reads no longer ones
    if not separator or not host or not is_number or int(port) > MAX_PORT:
        raise ValueError("must be address:port, for example 127.0.0.1:3338 or [::1]:3338")
    return host, int(port)


def optional_listen(text: str) -> tuple[str, int] | None:
    """Address and port, or nothing."""
    return listen(text) if text else None


def networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    """Addresses and networks."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if len(names) > MAX_PROXIES:
        raise ValueError(f"must be at most {MAX_PROXIES} addresses")
    try:
        return tuple(ip_network(name) for name in names)
    except ValueError:
        raise ValueError("must be a list of addresses or networks, for example 127.0.0.1,10.0.0.0/8") from None


def contacts(text: str) -> tuple[Contact, ...]:
    """Ways to reach somebody."""
    contacts = []
    for entry in text.split(","):
        method, separator, info = (part.strip() for part in entry.partition(":"))
        if not entry.strip():
            continue
        if not separator or re.fullmatch("[a-z0-9_-]{1,30}", method) is None or not info or not info.isprintable():
            raise ValueError("must be a list of method:address, for example email:me@example.org,nostr:npub1…")
        contacts.append(Contact(method, info))
    if len(contacts) > MAX_CONTACTS or len(text) > MAX_CONTACTS_LENGTH:
        raise ValueError(f"must be at most {MAX_CONTACTS} ways, and {MAX_CONTACTS_LENGTH} characters")
    return tuple(contacts)


def url(text: str) -> str:
    """A URL of the web, or nothing."""
    if not text:
        return ""
    try:
        parts = urlsplit(text)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        is_url = False
    if not is_url or not text.isascii() or not text.isprintable() or " " in text or len(text) > MAX_URL_LENGTH:
        raise ValueError("must be a URL that begins with http:// or https://")
    return text


def urls(text: str) -> tuple[str, ...]:
    """Several of them."""
    urls = tuple(url(entry.strip()) for entry in text.split(",") if entry.strip())
    if len(urls) > MAX_URLS:
        raise ValueError(f"must be at most {MAX_URLS} URLs")
    return urls


def list_of(*known: str) -> Callable[[str], tuple[str, ...]]:
    """Some of these words, none of them twice."""

    def parse(text: str) -> tuple[str, ...]:
        chosen = tuple(name.strip().lower() for name in text.split(",") if name.strip())
        if not chosen or not set(chosen) <= set(known) or len(set(chosen)) != len(chosen):
            raise ValueError(f"must be a list, without repetition, out of: {', '.join(known)}")
        return chosen

    return parse
