"""Every `cashu-…` option, in one table: declared to lightningd from it, parsed and validated into one `Settings`.

All are declared as strings: a value that lightningd itself finds malformed would stop the node from starting,
whereas a plugin that refuses a value only disables itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any
from urllib.parse import urlsplit

from ledger import methods
from ledger.keysets import MAX_INPUT_FEE_PPK
from ledger.units import MSAT_PER_UNIT
from plugin import icon
from plugin.icon import Icon

MAX_AMOUNT_SAT = 2_100_000_000_000_000
MAX_PENDING_MELTS = 100_000
MAX_NAME_LENGTH = 200
MAX_DESCRIPTION_LENGTH = 2000
MAX_WAIT_S = 3600
MAX_GRACE_MS = 60_000
MAX_MAXDELAY = 2016
MAX_RETRY_FOR_S = 3600
ONCHAIN_DUST_SAT = 1000
"""Smallest amount that can be set for on-chain payments: above what any kind of output needs to be relayed."""
MAX_CONFIRMATIONS = 100
MAX_EXPIRY_DAYS = 3650
MAX_RATE_PERCENT = 1_000_000
MAX_PROXIES = 100
MAX_PORT = 65535
MAX_LONG_DESCRIPTION_LENGTH = 10_000
MAX_CONTACTS = 20
MAX_URLS = 20
MAX_URL_LENGTH = 2000


class OptionError(Exception):
    """An option's value can't be used; the text names the option, the value and what is allowed."""


@dataclass(frozen=True, slots=True)
class Contact:
    """A way to reach the operator (NUT-06): `method` names it (email, nostr, …), `info` is the address there."""

    method: str
    info: str


@dataclass(frozen=True, slots=True)
class Settings:
    """All options. Amounts are in satoshis unless a name says otherwise; 0 as a maximum means no limit."""

    listen: tuple[str, int]
    tls_cert: str
    tls_key: str
    db: str
    name: str
    description: str
    long_description: str
    contact: tuple[Contact, ...]
    urls: tuple[str, ...]
    icon_url: str
    tos_url: str
    metrics_listen: tuple[str, int] | None
    units: tuple[str, ...]
    methods: tuple[str, ...]
    onchain_min: int
    onchain_confirmations: int
    onchain_expiry_days: int
    input_fee_ppk: int
    fee_reserve_percent: Decimal
    fee_reserve_min: int
    min_mint: int
    max_mint: int
    min_melt: int
    max_melt: int
    sync_wait_s: int
    async_grace_ms: int
    max_pending_melts: int
    max_pending: int
    max_outstanding: int
    maxdelay: int
    retry_for_s: int
    rate_limit: int
    rate_limit_local: int
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...]
    icon: Icon | None
    operator_page: bool


@dataclass(frozen=True, slots=True)
class Option:
    """One option: its name, default, what `lightning-cli help` and the reference say, and how it is read."""

    name: str
    field: str
    default: str
    description: str
    parse: Callable[[str], Any]


def _whole(minimum: int, maximum: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if len(text) > 20 or not text.isascii() or not text.isdigit() or not minimum <= int(text) <= maximum:
            raise ValueError(f"must be a whole number from {minimum} to {maximum}")
        return int(text)

    return parse


def _percent(text: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise ValueError("must be a number from 0 to 100") from None
    if not value.is_finite() or not 0 <= value <= 100:
        raise ValueError("must be a number from 0 to 100")
    return value


def _text(limit: int) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if len(text) > limit or not text.isprintable():
            raise ValueError(f"must be at most {limit} printable characters")
        return text

    return parse


def _switch(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError("must be true or false")
    return text.lower() == "true"


def _path(text: str) -> str:
    if not text or "\0" in text:
        raise ValueError("must be a path")
    return text


def _path_or_none(text: str) -> str:
    if "\0" in text:
        raise ValueError("must be a path")
    return text


def _listen(text: str) -> tuple[str, int]:
    host, separator, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    is_number = port.isascii() and port.isdigit() and len(port) <= len(str(MAX_PORT))  # Python reads no longer ones
    if not separator or not host or not is_number or int(port) > MAX_PORT:
        raise ValueError("must be address:port, for example 127.0.0.1:3338 or [::1]:3338")
    return host, int(port)


def _optional_listen(text: str) -> tuple[str, int] | None:
    return _listen(text) if text else None


def _networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if len(names) > MAX_PROXIES:
        raise ValueError(f"must be at most {MAX_PROXIES} addresses")
    try:
        return tuple(ip_network(name) for name in names)
    except ValueError:
        raise ValueError("must be a list of addresses or networks, for example 127.0.0.1,10.0.0.0/8") from None


def _contacts(text: str) -> tuple[Contact, ...]:
    contacts = []
    for entry in text.split(","):
        method, separator, info = (part.strip() for part in entry.partition(":"))
        if not entry.strip():
            continue
        if not separator or re.fullmatch("[a-z0-9_-]{1,30}", method) is None or not info or not info.isprintable():
            raise ValueError("must be a list of method:address, for example email:me@example.org,nostr:npub1…")
        contacts.append(Contact(method, info))
    if len(contacts) > MAX_CONTACTS or len(text) > MAX_DESCRIPTION_LENGTH:
        raise ValueError(f"must be at most {MAX_CONTACTS} ways, and {MAX_DESCRIPTION_LENGTH} characters")
    return tuple(contacts)


def _url(text: str) -> str:
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


def _urls(text: str) -> tuple[str, ...]:
    urls = tuple(_url(entry.strip()) for entry in text.split(",") if entry.strip())
    if len(urls) > MAX_URLS:
        raise ValueError(f"must be at most {MAX_URLS} URLs")
    return urls


def _list_of(*known: str) -> Callable[[str], tuple[str, ...]]:
    def parse(text: str) -> tuple[str, ...]:
        chosen = tuple(name.strip().lower() for name in text.split(",") if name.strip())
        if not chosen or not set(chosen) <= set(known) or len(set(chosen)) != len(chosen):
            raise ValueError(f"must be a list, without repetition, out of: {', '.join(known)}")
        return chosen

    return parse


OPTIONS = (
    Option(
        "cashu-listen",
        "listen",
        "127.0.0.1:3338",
        "Address and port where the mint serves wallets over HTTP.",
        _listen,
    ),
    Option(
        "cashu-metrics-listen",
        "metrics_listen",
        "",
        "Address and port where Prometheus finds the mint's metrics, for example 127.0.0.1:9339; off without one. "
        "Whoever reaches it sees the mint's figures.",
        _optional_listen,
    ),
    Option(
        "cashu-tls-cert",
        "tls_cert",
        "",
        "The certificate for HTTPS, with its chain (PEM); a relative path starts at the node's network directory. "
        "Without it the mint speaks HTTP, which is for this machine, a reverse proxy or Tor. A renewed one is used "
        "within a minute.",
        _path_or_none,
    ),
    Option("cashu-tls-key", "tls_key", "", "The private key of cashu-tls-cert (PEM, not encrypted).", _path_or_none),
    Option(
        "cashu-db",
        "db",
        "cashu.sqlite3",
        "The ledger's file; a relative path starts at the node's network directory.",
        _path,
    ),
    Option("cashu-name", "name", "Nutbolt", "The mint's name, shown by wallets.", _text(MAX_NAME_LENGTH)),
    Option(
        "cashu-description",
        "description",
        "A Cashu mint inside a Core Lightning node",
        "What the mint says of itself to wallets.",
        _text(MAX_DESCRIPTION_LENGTH),
    ),
    Option(
        "cashu-long-description",
        "long_description",
        "",
        "The same at greater length.",
        _text(MAX_LONG_DESCRIPTION_LENGTH),
    ),
    Option(
        "cashu-contact",
        "contact",
        "",
        "How wallets' users reach the operator, separated by commas: email:me@example.org,nostr:npub1…",
        _contacts,
    ),
    Option(
        "cashu-urls",
        "urls",
        "",
        "Where the mint can be reached from outside, separated by commas, the best first: https://mint.example.org.",
        _urls,
    ),
    Option("cashu-icon-url", "icon_url", "", "A picture of the mint, shown by wallets.", _url),
    Option("cashu-tos-url", "tos_url", "", "The mint's terms of service.", _url),
    Option(
        "cashu-units", "units", "sat", "Units of the ecash, separated by commas: sat, msat.", _list_of(*MSAT_PER_UNIT)
    ),
    Option(
        "cashu-methods",
        "methods",
        "bolt11,bolt12",
        "Payment methods that are switched on, separated by commas: bolt11, bolt12, onchain.",
        _list_of(methods.BOLT11, methods.BOLT12, methods.ONCHAIN),
    ),
    Option(
        "cashu-onchain-min",
        "onchain_min",
        "10000",
        "Smallest on-chain payment, in sat: of a deposit, each output by itself, and of a melt.",
        _whole(ONCHAIN_DUST_SAT, MAX_AMOUNT_SAT),
    ),
    Option(
        "cashu-onchain-confirmations",
        "onchain_confirmations",
        "3",
        "Blocks, from the one with its transaction on, after which an on-chain payment counts as made.",
        _whole(1, MAX_CONFIRMATIONS),
    ),
    Option(
        "cashu-onchain-expiry-days",
        "onchain_expiry_days",
        "7",
        "Days for which the address of a mint quote can be paid; 0 for no end. What comes later is not credited.",
        _whole(0, MAX_EXPIRY_DAYS),
    ),
    Option(
        "cashu-input-fee-ppk",
        "input_fee_ppk",
        "0",
        "Fee for spending proofs, in thousandths of a unit for each. A change makes new keysets at the next start.",
        _whole(0, MAX_INPUT_FEE_PPK),
    ),
    Option(
        "cashu-fee-reserve-percent",
        "fee_reserve_percent",
        "1",
        "Reserve for routing fees of a melt, in percent of its amount, when the node knows no route yet. When it does, "
        "the reserve is the route's price and a margin. What is not used is given back as change.",
        _percent,
    ),
    Option(
        "cashu-fee-reserve-min",
        "fee_reserve_min",
        "2",
        "Smallest reserve for routing fees of a melt, in sat, when the node knows no route yet.",
        _whole(0, MAX_AMOUNT_SAT),
    ),
    Option("cashu-min-mint", "min_mint", "1", "Smallest amount of a mint quote, in sat.", _whole(0, MAX_AMOUNT_SAT)),
    Option(
        "cashu-max-mint",
        "max_mint",
        "1000000",
        "Largest amount of a mint quote, in sat; 0 for no limit.",
        _whole(0, MAX_AMOUNT_SAT),
    ),
    Option("cashu-min-melt", "min_melt", "1", "Smallest amount of a melt quote, in sat.", _whole(0, MAX_AMOUNT_SAT)),
    Option(
        "cashu-max-melt",
        "max_melt",
        "1000000",
        "Largest amount of a melt quote, in sat; 0 for no limit.",
        _whole(0, MAX_AMOUNT_SAT),
    ),
    Option(
        "cashu-sync-wait",
        "sync_wait_s",
        "60",
        "Seconds that a melt without prefer_async waits for its outcome before it answers PENDING.",
        _whole(0, MAX_WAIT_S),
    ),
    Option(
        "cashu-async-grace-ms",
        "async_grace_ms",
        "0",
        "Milliseconds that a melt with prefer_async waits for a fast outcome before it answers PENDING.",
        _whole(0, MAX_GRACE_MS),
    ),
    Option(
        "cashu-max-pending-melts",
        "max_pending_melts",
        "200",
        "Most melts in flight at once; further ones are refused until some are resolved.",
        _whole(1, MAX_PENDING_MELTS),
    ),
    Option(
        "cashu-max-pending",
        "max_pending",
        "0",
        "Most that melts in flight may sum up to, in sat; further ones are refused. 0 for no limit.",
        _whole(0, MAX_AMOUNT_SAT),
    ),
    Option(
        "cashu-max-outstanding",
        "max_outstanding",
        "0",
        "Most ecash that wallets may hold, of all units together, in sat: beyond it mint quotes are refused, while "
        "swaps and melts go on. 0 for no limit.",
        _whole(0, MAX_AMOUNT_SAT),
    ),
    Option(
        "cashu-maxdelay",
        "maxdelay",
        "1008",
        "Longest time, in blocks, for which a melt's payment may lock the node's funds.",
        _whole(1, MAX_MAXDELAY),
    ),
    Option(
        "cashu-retry-for",
        "retry_for_s",
        "60",
        "Seconds during which the node starts new attempts at a melt's payment.",
        _whole(1, MAX_RETRY_FOR_S),
    ),
    Option(
        "cashu-rate-limit",
        "rate_limit",
        "100",
        "What one client's address may ask for, in percent of the built-in budgets; 0 for no limit.",
        _whole(0, MAX_RATE_PERCENT),
    ),
    Option(
        "cashu-rate-limit-local",
        "rate_limit_local",
        "2000",
        "The same for all clients together that come from this machine: over Tor, or through a proxy that is not in "
        "cashu-trusted-proxies.",
        _whole(0, MAX_RATE_PERCENT),
    ),
    Option(
        "cashu-trusted-proxies",
        "trusted_proxies",
        "",
        "Addresses or networks of reverse proxies, separated by commas: what they say in X-Forwarded-For or Forwarded "
        "is believed.",
        _networks,
    ),
    Option(
        "cashu-icon",
        "icon",
        "",
        "A PNG, JPEG or WebP file of at most 256 KiB: the mint's picture on its page. A relative path starts at the "
        "node's network directory.",
        icon.read,
    ),
    Option(
        "cashu-operator-page",
        "operator_page",
        "false",
        "Whether there is a page for the operator at /operator, which shows its figures to who has a rune for it.",
        _switch,
    ),
)


def parse(values: Mapping[str, Any]) -> Settings:
    """Read lightningd's option values (by option name). Raises OptionError for the first that can't be used."""
    fields = {}
    for option in OPTIONS:
        value = str(values.get(option.name, option.default))
        try:
            fields[option.field] = option.parse(value)
        except ValueError as error:
            raise OptionError(f"{option.name}={value[:100]!r}: {error}") from None
    settings = Settings(**fields)
    if bool(settings.tls_cert) != bool(settings.tls_key):
        given, lacking = ("cert", "key") if settings.tls_cert else ("key", "cert")
        raise OptionError(f"cashu-tls-{given} is set, but cashu-tls-{lacking} is not: HTTPS needs both")
    for what, minimum, maximum in (
        ("mint", settings.min_mint, settings.max_mint),
        ("melt", settings.min_melt, settings.max_melt),
    ):
        if maximum and minimum > maximum:
            raise OptionError(f"cashu-min-{what}={minimum} is above cashu-max-{what}={maximum}")
        if methods.ONCHAIN in settings.methods and maximum and settings.onchain_min > maximum:
            raise OptionError(
                f"cashu-onchain-min={settings.onchain_min} is above cashu-max-{what}={maximum}: no payment on the "
                "chain would be possible; change one of them, or take onchain out of cashu-methods"
            )
    return settings
