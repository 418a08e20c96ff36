"""What a mint supports, in words for people who have not read the NUTs. Everything comes from `/v1/info`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

METHODS = {
    "bolt11": "Lightning invoice",
    "bolt12": "Lightning offer",
    "onchain": "Bitcoin address",
}
NUTS = {
    "7": ("See what is spent", "A wallet can ask whether its ecash is still good."),
    "8": ("Change for fees", "What a payment's reserve for fees did not need comes back as ecash."),
    "9": ("Restore", "A wallet that was lost comes back from its seed words."),
    "11": ("Locked ecash", "Ecash for one key only: nobody else can spend it."),
    "12": ("Proof of the right key", "Wallets verify that the mint signs for all with the same key."),
    "14": ("Ecash for a secret", "Ecash that is paid to whoever shows a preimage in time."),
    "15": ("Payments in parts", "One invoice, paid from several mints at once."),
    "17": ("News at once", "Wallets hear of a payment when it happens, without asking."),
    "19": ("Safe to repeat", "A request that was lost on the way can be sent again, without paying twice."),
    "20": ("Locked deposits", "Only the wallet that asked for an invoice can take the ecash for it."),
    "29": ("Many at once", "Several paid invoices become ecash in one step."),
}
"""By number. What is missing here is either everywhere (NUT-00 to 06), part of another, or told as a method."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way in or out: a method in a unit, with its limits as text."""

    method: str
    unit: str
    limits: str


@dataclass(frozen=True, slots=True)
class Feature:
    """One thing that wallets can do here."""

    nut: str
    title: str
    text: str


def digits(value: int) -> str:
    """A number with a thin space between groups of three digits."""
    return f"{value:,}".replace(",", "\u202f")


def amount(value: int, unit: str) -> str:
    """The same with its unit."""
    return f"{digits(value)}\u00a0{unit}"


def ways(methods: Iterable[Mapping[str, Any]]) -> list[Way]:
    """The entries of NUT-04 or NUT-05."""
    return [Way(METHODS.get(e["method"], e["method"]), e["unit"], _limits(e)) for e in methods]


def _limits(entry: Mapping[str, Any]) -> str:
    least, most = entry.get("min_amount") or 0, entry.get("max_amount")
    if most is None:
        return f"from {amount(least, entry['unit'])}"
    return f"{digits(least)} to {amount(most, entry['unit'])}"


def features(nuts: Mapping[str, Mapping[str, Any]]) -> list[Feature]:
    """What is switched on, in the order of the numbers."""
    return [Feature(nut, *NUTS[nut]) for nut in sorted(nuts, key=int) if nut in NUTS and _is_on(nuts[nut])]


def _is_on(settings: Mapping[str, Any]) -> bool:
    """NUT-06: most say `supported`; those with methods or cached endpoints are there when they name any."""
    return any(settings.get(key) for key in ("supported", "methods", "cached_endpoints"))


def input_fee(ppk: int, unit: str) -> str:
    """The fee for spending ecash (NUT-02), for people."""
    if not ppk:
        return "none"
    if ppk % 1000 == 0:
        return f"{amount(ppk // 1000, unit)} for each piece of ecash"
    return f"{amount(ppk, unit)} for every 1000 pieces of ecash, rounded up"
