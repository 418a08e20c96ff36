"""BOLT 11 invoices: writing them, reading them, and the shape in which `decode` shows them.

The class in pyln-proto knows neither payment secrets nor feature bits nor a minimal final CLTV, and the other
library on PyPI depends on the distribution `coincurve`, which overwrites the files of the one pyln-proto brings.
So this is a small codec of its own on top of pyln-proto's bech32 and coincurve's signatures.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import coincurve
from pyln.proto import bech32

PREFIXES = {"bitcoin": "bc", "testnet": "tb", "testnet4": "tb", "signet": "tbs", "regtest": "bcrt"}
"""Network name to the currency part of an invoice's prefix."""

DEFAULT_EXPIRY_S = 3600
DEFAULT_MIN_FINAL_CLTV = 18
MAX_DESCRIPTION_BYTES = 639
FEATURES = bytes.fromhex("02024100")
"""var_onion and payment_secret compulsory, basic_mpp and route_blinding optional: what a v26.06 node offers."""

_MSAT_PER_BTC = 100_000_000_000
_CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_SIGNATURE_GROUPS = 520 // 5
_TIMESTAMP_GROUPS = 7
_HASH_GROUPS = 52
_PUBKEY_GROUPS = 53
_MAX_FIELD_GROUPS = 1023
_UNITS = (("", 10**12), ("m", 10**9), ("u", 10**6), ("n", 10**3), ("p", 1))
"""Multiplier letters and what one of them is worth in pico-bitcoin, largest first."""


class Bolt11Error(ValueError):
    """Not a readable invoice; the text is what lightningd says about it."""


@dataclass(frozen=True)
class Hop:
    """One hop of a private route hint."""

    pubkey: bytes
    short_channel_id: int
    fee_base_msat: int
    fee_proportional_millionths: int
    cltv_expiry_delta: int


@dataclass(frozen=True)
class Invoice:
    """The content of an invoice. `payee` and `signature` are filled in by :func:`decode`."""

    currency: str
    created_at: int
    payment_hash: str
    payment_secret: str
    amount_msat: int | None = None
    description: str | None = None
    description_hash: str | None = None
    expiry_s: int = DEFAULT_EXPIRY_S
    min_final_cltv: int = DEFAULT_MIN_FINAL_CLTV
    features: bytes = FEATURES
    payee: str = ""
    signature: bytes = b""
    metadata: bytes | None = None
    routes: tuple[tuple[Hop, ...], ...] = ()
    extra: tuple[tuple[str, str], ...] = field(default=())

    @property
    def expires_at(self) -> int:
        """Unix time after which it must not be paid any more."""
        return self.created_at + self.expiry_s

    def to_json(self) -> dict[str, Any]:
        """As the `decode` command shows it, in the same order of fields."""
        shown: dict[str, Any] = {
            "type": "bolt11 invoice",
            "currency": self.currency,
            "created_at": self.created_at,
            "expiry": self.expiry_s,
            "payee": self.payee,
        }
        if self.amount_msat is not None:
            shown["amount_msat"] = self.amount_msat
        if self.description is not None:
            shown["description"] = self.description
        if self.description_hash is not None:
            shown["description_hash"] = self.description_hash
        shown["min_final_cltv_expiry"] = self.min_final_cltv
        shown["payment_secret"] = self.payment_secret
        if self.features:
            shown["features"] = self.features.hex()
        if self.metadata is not None:
            shown["payment_metadata"] = self.metadata.hex()
        if self.routes:
            shown["routes"] = [[_hop_to_json(hop) for hop in route] for route in self.routes]
        if self.extra:
            shown["extra"] = [{"tag": tag, "data": data} for tag, data in self.extra]
        shown["payment_hash"] = self.payment_hash
        shown["signature"] = _der(self.signature).hex()
        shown["valid"] = True
        return shown


def encode(invoice: Invoice, key: coincurve.PrivateKey) -> str:
    """The invoice as a string, signed with `key`."""
    hrp = "ln" + invoice.currency + _write_amount(invoice.amount_msat)
    data = _int_to_groups(invoice.created_at, _TIMESTAMP_GROUPS)
    data += _tagged("s", _bytes_to_groups(bytes.fromhex(invoice.payment_secret)))
    data += _tagged("p", _bytes_to_groups(bytes.fromhex(invoice.payment_hash)))
    if invoice.description_hash is not None:
        data += _tagged("h", _bytes_to_groups(bytes.fromhex(invoice.description_hash)))
    else:
        data += _tagged("d", _bytes_to_groups((invoice.description or "").encode()))
    if invoice.metadata is not None:
        data += _tagged("m", _bytes_to_groups(invoice.metadata))
    if invoice.expiry_s != DEFAULT_EXPIRY_S:
        data += _tagged("x", _int_to_groups(invoice.expiry_s))
    data += _tagged("c", _int_to_groups(invoice.min_final_cltv))
    if invoice.features:
        data += _tagged("9", _int_to_groups(int.from_bytes(invoice.features, "big")))
    for route in invoice.routes:
        data += _tagged("r", _bytes_to_groups(b"".join(_write_hop(hop) for hop in route)))
    signature = key.sign_recoverable(_signed_bytes(hrp, data))
    encoded: str = bech32.bech32_encode(hrp, bytes(data + _bytes_to_groups(signature)))
    return encoded


@lru_cache(maxsize=20_000)
def decode(text: str) -> Invoice:
    """Read an invoice and check its signature; raises :class:`Bolt11Error`."""
    try:
        hrp, groups = bech32.bech32_decode(text)
    except ValueError:
        raise Bolt11Error("Bad bech32 string") from None
    data = list(groups)
    prefix = re.match(r"[^0-9]*", hrp)
    assert prefix is not None
    currency = prefix.group(0)[2:]
    if not hrp.startswith("ln"):
        raise Bolt11Error(f"Prefix '{prefix.group(0)}' does not start with ln")
    if currency not in PREFIXES.values():
        raise Bolt11Error(f"Unknown chain {currency}")
    amount_msat = _read_amount(hrp[prefix.end() :])
    if len(data) < _TIMESTAMP_GROUPS + _SIGNATURE_GROUPS:
        raise Bolt11Error("Can't get 35-bit timestamp: truncated")
    body, signature_groups = data[:-_SIGNATURE_GROUPS], data[-_SIGNATURE_GROUPS:]
    fields = _read_fields(body[_TIMESTAMP_GROUPS:])
    signature = _groups_to_bytes(signature_groups)
    payee = _check_signature(_signed_bytes(hrp, body), signature, fields.payee)
    return Invoice(
        currency=currency,
        created_at=_groups_to_int(body[:_TIMESTAMP_GROUPS]),
        payment_hash=fields.payment_hash,
        payment_secret=fields.payment_secret,
        amount_msat=amount_msat,
        description=fields.description,
        description_hash=fields.description_hash,
        expiry_s=fields.expiry_s,
        min_final_cltv=fields.min_final_cltv,
        features=fields.features,
        payee=payee,
        signature=signature[:64],
        metadata=fields.metadata,
        routes=tuple(fields.routes),
        extra=tuple(fields.extra),
    )


def canonical(text: str) -> str:
    """Lower case and without the URI scheme, as xpay stores it."""
    return re.sub(r"^lightning:", "", text.lower())


@dataclass
class _Fields:
    payment_hash: str = ""
    payment_secret: str = ""
    description: str | None = None
    description_hash: str | None = None
    expiry_s: int = DEFAULT_EXPIRY_S
    min_final_cltv: int = DEFAULT_MIN_FINAL_CLTV
    features: bytes = b""
    metadata: bytes | None = None
    payee: bytes | None = None
    routes: list[tuple[Hop, ...]] = field(default_factory=list)
    extra: list[tuple[str, str]] = field(default_factory=list)


def _read_fields(groups: list[int]) -> _Fields:
    fields = _Fields()
    seen: set[str] = set()
    position = 0
    while position < len(groups):
        if position + 3 > len(groups):
            raise Bolt11Error("Can't get length: truncated")
        tag = _CHARSET[groups[position]]
        length = _groups_to_int(groups[position + 1 : position + 3])
        position += 3
        value = groups[position : position + length]
        if len(value) < length:
            raise Bolt11Error(f"{tag}: truncated")
        position += length
        if not _read_field(fields, tag, value, repeated=tag in seen):
            fields.extra.append((tag, "".join(_CHARSET[group] for group in value)))
        else:
            seen.add(tag)
    if "p" not in seen:
        raise Bolt11Error("No valid 'p' field found")
    if "s" not in seen:
        raise Bolt11Error("Missing required payment secret (s field)")
    if not seen & {"d", "h"}:
        raise Bolt11Error("must have either 'd' or 'h' field")
    return fields


def _read_field(fields: _Fields, tag: str, value: list[int], *, repeated: bool) -> bool:  # noqa: PLR0912
    """Take over one tagged field; False when it is unknown, repeated, or of the wrong length."""
    if tag == "r":
        fields.routes.append(_read_hops(_groups_to_bytes(value)))
        return True
    if tag == "f":
        return True
    if repeated:
        return False
    if tag in "ps" or tag == "h":
        if len(value) != _HASH_GROUPS:
            return False
        text = _groups_to_bytes(value).hex()
        if tag == "p":
            fields.payment_hash = text
        elif tag == "s":
            fields.payment_secret = text
        else:
            fields.description_hash = text
    elif tag == "n":
        if len(value) != _PUBKEY_GROUPS:
            return False
        fields.payee = _groups_to_bytes(value)
    elif tag == "d":
        try:
            fields.description = _groups_to_bytes(value).decode()
        except UnicodeDecodeError:
            raise Bolt11Error("d: invalid utf8") from None
    elif tag == "x":
        fields.expiry_s = _groups_to_int(value)
    elif tag == "c":
        fields.min_final_cltv = _groups_to_int(value)
    elif tag == "9":
        number = _groups_to_int(value)
        fields.features = number.to_bytes((number.bit_length() + 7) // 8, "big")
    elif tag == "m":
        fields.metadata = _groups_to_bytes(value)
    else:
        return False
    return True


def _check_signature(message: bytes, signature: bytes, payee: bytes | None) -> str:
    try:
        if payee is None:
            return coincurve.PublicKey.from_signature_and_message(signature, message).format().hex()
        recovered = coincurve.PublicKey.from_signature_and_message(signature, message)
    except Exception:  # coincurve raises plain Exception, ValueError or TypeError, depending on the flaw
        raise Bolt11Error("signature recovery failed") from None
    if recovered.format() != payee:
        raise Bolt11Error("invalid signature")
    return payee.hex()


def _write_amount(amount_msat: int | None) -> str:
    if amount_msat is None:
        return ""
    pico = amount_msat * 10
    for letter, worth in _UNITS:
        if pico % worth == 0:
            return f"{pico // worth}{letter}"
    raise AssertionError("one pico-bitcoin divides everything")


def _read_amount(text: str) -> int | None:
    if not text:
        return None
    letter = text[-1] if text[-1] in "munp" else ""
    digits = text[: len(text) - len(letter)]
    if not digits.isascii() or not digits.isdigit():
        raise Bolt11Error(f"Invalid amount postfix '{digits}'")
    pico = int(digits) * dict(_UNITS)[letter]
    if pico % 10:
        raise Bolt11Error(f"Invalid sub-millisatoshi amount '{digits}p'")
    if pico // 10 > 21_000_000 * _MSAT_PER_BTC:
        raise Bolt11Error(f"Invalid amount '{digits}'")
    return pico // 10


def _signed_bytes(hrp: str, groups: list[int]) -> bytes:
    return hrp.encode() + _groups_to_bytes(groups, pad=True)


def _tagged(tag: str, groups: list[int]) -> list[int]:
    if len(groups) > _MAX_FIELD_GROUPS:
        raise Bolt11Error(f"{tag}: too long")
    return [_CHARSET.index(tag), len(groups) >> 5, len(groups) & 31, *groups]


def _int_to_groups(number: int, length: int | None = None) -> list[int]:
    count = length if length is not None else max(1, (number.bit_length() + 4) // 5)
    return [(number >> (5 * position)) & 31 for position in reversed(range(count))]


def _groups_to_int(groups: Iterable[int]) -> int:
    number = 0
    for group in groups:
        number = number << 5 | group
    return number


def _bytes_to_groups(data: bytes) -> list[int]:
    padding = -len(data) * 8 % 5
    return _int_to_groups(int.from_bytes(data, "big") << padding, (len(data) * 8 + padding) // 5)


def _groups_to_bytes(groups: list[int], *, pad: bool = False) -> bytes:
    """Regroup to bytes: the last, incomplete byte is dropped, or filled up with zeros when `pad`."""
    bits = len(groups) * 5
    number = _groups_to_int(groups)
    if pad:
        return (number << (-bits % 8)).to_bytes((bits + 7) // 8, "big")
    return (number >> (bits % 8)).to_bytes(bits // 8, "big")


_HOP_BYTES = 51


def _write_hop(hop: Hop) -> bytes:
    return (
        hop.pubkey
        + hop.short_channel_id.to_bytes(8, "big")
        + hop.fee_base_msat.to_bytes(4, "big")
        + hop.fee_proportional_millionths.to_bytes(4, "big")
        + hop.cltv_expiry_delta.to_bytes(2, "big")
    )


def _read_hops(data: bytes) -> tuple[Hop, ...]:
    if len(data) % _HOP_BYTES:
        raise Bolt11Error(f"r: hop {len(data) // _HOP_BYTES} truncated")
    return tuple(
        Hop(
            pubkey=data[at : at + 33],
            short_channel_id=int.from_bytes(data[at + 33 : at + 41], "big"),
            fee_base_msat=int.from_bytes(data[at + 41 : at + 45], "big"),
            fee_proportional_millionths=int.from_bytes(data[at + 45 : at + 49], "big"),
            cltv_expiry_delta=int.from_bytes(data[at + 49 : at + 51], "big"),
        )
        for at in range(0, len(data), _HOP_BYTES)
    )


def _hop_to_json(hop: Hop) -> dict[str, Any]:
    scid = hop.short_channel_id
    return {
        "pubkey": hop.pubkey.hex(),
        "short_channel_id": f"{scid >> 40}x{scid >> 16 & 0xFFFFFF}x{scid & 0xFFFF}",
        "fee_base_msat": hop.fee_base_msat,
        "fee_proportional_millionths": hop.fee_proportional_millionths,
        "cltv_expiry_delta": hop.cltv_expiry_delta,
    }


def _der(signature: bytes) -> bytes:
    """A compact signature in the DER form which `decode` prints."""

    def integer(raw: bytes) -> bytes:
        number = int.from_bytes(raw, "big")
        body = number.to_bytes(number.bit_length() // 8 + 1, "big")
        return bytes([2, len(body)]) + body

    content = integer(signature[:32]) + integer(signature[32:64])
    return bytes([0x30, len(content)]) + content
