"""BOLT 12 offers and invoices: writing them, reading them, and the shape in which `decode` shows them.

Both are streams of records (type, length, value) in bech32 without a checksum. An offer has no signature; an invoice
repeats the offer's records and is signed. Only what the sandbox needs: no blinded path has more than one hop.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import coincurve

OFFER_PREFIX = "lno"
INVOICE_PREFIX = "lni"
CHAINS = {
    "bitcoin": "6fe28c0ab6f1b372c1a6a246ae63f74f931e8365e15a089c68d6190000000000",
    "testnet": "43497fd7f826957108f4a30fd9cec3aeba79972084e90ead01ea330900000000",
    "testnet4": "43f08bdab050e35b567c864b91f47f50ae725ae2de53bcfbbaf284da00000000",
    "signet": "f61eee3b63a380a477a063af32b2bbc97c9ff9f01f2c4225e973988108000000",
    "regtest": "06226e46111a0b59caaf126043eb5bbf28c34f3a5e332a1fc7b2b73cf188910f",
}
"""Network name to genesis block hash; an offer that names no chain is for bitcoin."""
RELATIVE_EXPIRY_S = 7200
FEATURES = bytes.fromhex("020000")
"""basic_mpp optional."""

METADATA = 0
OFFER_CHAINS = 2
OFFER_CURRENCY = 6
OFFER_AMOUNT = 8
OFFER_DESCRIPTION = 10
OFFER_EXPIRY = 14
OFFER_ISSUER = 18
OFFER_QUANTITY_MAX = 20
OFFER_ISSUER_ID = 22
INVREQ_CHAIN = 80
INVREQ_AMOUNT = 82
INVREQ_QUANTITY = 86
INVREQ_PAYER_ID = 88
INVREQ_PAYER_NOTE = 89
INVOICE_PATHS = 160
INVOICE_PAYINFO = 162
INVOICE_CREATED_AT = 164
INVOICE_RELATIVE_EXPIRY = 166
INVOICE_PAYMENT_HASH = 168
INVOICE_AMOUNT = 170
INVOICE_FEATURES = 174
INVOICE_NODE_ID = 176
SIGNATURE = 240
OFFER_RECURRENCE = 1_000_000_024
_OFFER_RANGES = (range(1, 80), range(1_000_000_000, 2_000_000_000))
_SIGNATURE_RANGE = range(240, 1001)

_CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_POINT_BYTES = 33

Records = Mapping[int, bytes]


class Bolt12Error(ValueError):
    """Not readable; the text is what lightningd says about it."""


@dataclass(frozen=True)
class Path:
    """A blinded path with one hop, and what it costs."""

    node_id: str
    fee_base_msat: int = 0
    fee_proportional_millionths: int = 0
    cltv_expiry_delta: int = 5
    htlc_minimum_msat: int = 0
    htlc_maximum_msat: int = 21_000_000 * 100_000_000_000


@dataclass(frozen=True)
class Offer:
    """An offer. Equal records, equal id."""

    text: str
    records: Records

    @property
    def id(self) -> str:
        """By which Core Lightning knows it."""
        return hashlib.sha256(_write_records(self.records)).hexdigest()

    @property
    def chains(self) -> list[str]:
        """Genesis block hashes."""
        chains = self.records.get(OFFER_CHAINS, bytes.fromhex(CHAINS["bitcoin"]))
        return [chains[at : at + 32].hex() for at in range(0, len(chains), 32)]

    @property
    def amount_msat(self) -> int | None:
        """None if the payer chooses, or if it is priced in a currency."""
        return None if self.currency is not None else self._number(OFFER_AMOUNT)

    @property
    def currency(self) -> str | None:
        """Another currency than bitcoin."""
        return self._text(OFFER_CURRENCY)

    @property
    def description(self) -> str | None:
        """What it is for."""
        return self._text(OFFER_DESCRIPTION)

    @property
    def expires_at(self) -> int | None:
        """Unix time after which no invoice is given for it."""
        return self._number(OFFER_EXPIRY)

    @property
    def quantity_max(self) -> int | None:
        """How many may be bought at once; 0: any number."""
        return self._number(OFFER_QUANTITY_MAX)

    @property
    def issuer_id(self) -> str:
        """The node that gives invoices for it."""
        return self.records[OFFER_ISSUER_ID].hex()

    @property
    def recurs(self) -> bool:
        """Whether it is for repeated payments."""
        return OFFER_RECURRENCE in self.records

    def to_json(self) -> dict[str, Any]:
        """As the `decode` command shows it."""
        return {"type": "bolt12 offer", "offer_id": self.id, **_show_offer(self), "valid": True}

    def _number(self, kind: int) -> int | None:
        return int.from_bytes(self.records[kind], "big") if kind in self.records else None

    def _text(self, kind: int) -> str | None:
        return self.records[kind].decode() if kind in self.records else None


@dataclass(frozen=True)
class Invoice:
    """An invoice for an offer, with the names that xpay uses for those of BOLT 11 as well."""

    text: str
    records: Records

    @property
    def offer(self) -> Offer:
        """The offer that it is for."""
        return Offer("", {kind: value for kind, value in self.records.items() if _is_offers(kind)})

    @property
    def payment_hash(self) -> str:
        """What is paid."""
        return self.records[INVOICE_PAYMENT_HASH].hex()

    @property
    def payee(self) -> str:
        """Who has signed it."""
        return self.records[INVOICE_NODE_ID].hex()

    @property
    def amount_msat(self) -> int:
        """What is to be paid."""
        return int.from_bytes(self.records[INVOICE_AMOUNT], "big")

    @property
    def expires_at(self) -> int:
        """Unix time after which it must not be paid any more."""
        return self._created_at + self._relative_expiry_s

    @property
    def chain(self) -> str:
        """Genesis block hash."""
        return self.records.get(INVREQ_CHAIN, bytes.fromhex(CHAINS["bitcoin"])).hex()

    @property
    def _created_at(self) -> int:
        return int.from_bytes(self.records[INVOICE_CREATED_AT], "big")

    @property
    def _relative_expiry_s(self) -> int:
        found = self.records.get(INVOICE_RELATIVE_EXPIRY)
        return RELATIVE_EXPIRY_S if found is None else int.from_bytes(found, "big")

    def to_json(self) -> dict[str, Any]:
        """As the `decode` command shows it."""
        shown: dict[str, Any] = {"type": "bolt12 invoice", **_show_offer(self.offer)}
        shown["invreq_metadata"] = self.records[METADATA].hex()
        shown["invreq_payer_id"] = self.records[INVREQ_PAYER_ID].hex()
        shown["invreq_chain"] = self.chain
        for name, kind in (("invreq_amount_msat", INVREQ_AMOUNT), ("invreq_quantity", INVREQ_QUANTITY)):
            if kind in self.records:
                shown[name] = int.from_bytes(self.records[kind], "big")
        if INVREQ_PAYER_NOTE in self.records:
            shown["invreq_payer_note"] = self.records[INVREQ_PAYER_NOTE].decode()
        return shown | {
            "invoice_paths": _show_paths(self.records),
            "invoice_created_at": self._created_at,
            "invoice_relative_expiry": self._relative_expiry_s,
            "invoice_payment_hash": self.payment_hash,
            "invoice_amount_msat": self.amount_msat,
            "invoice_features": self.records[INVOICE_FEATURES].hex(),
            "invoice_node_id": self.payee,
            "signature": self.records[SIGNATURE].hex(),
            "valid": True,
        }


def is_offer(text: str) -> bool:
    """Whether this is meant to be an offer."""
    return text.lower().startswith(f"{OFFER_PREFIX}1")


def is_invoice(text: str) -> bool:
    """Whether this is meant to be a BOLT 12 invoice."""
    return text.lower().startswith(f"{INVOICE_PREFIX}1")


def field_of(invstring: str) -> str:
    """The name of the field that shows an invoice in rows."""
    return "bolt12" if is_invoice(invstring) else "bolt11"


def make_offer(
    issuer_id: str,
    network: str,
    *,
    amount: int | None = None,
    currency: str | None = None,
    description: str | None = None,
    expires_at: int | None = None,
    issuer: str | None = None,
    quantity_max: int | None = None,
    recurs: bool = False,
) -> Offer:
    """A new offer; `amount` is in msat, or in the minor unit of `currency`."""
    numbers = {OFFER_AMOUNT: amount, OFFER_EXPIRY: expires_at, OFFER_QUANTITY_MAX: quantity_max}
    texts = {OFFER_CURRENCY: currency, OFFER_DESCRIPTION: description, OFFER_ISSUER: issuer}
    records = {kind: number_bytes(value) for kind, value in numbers.items() if value is not None}
    records |= {kind: value.encode() for kind, value in texts.items() if value is not None}
    records[OFFER_ISSUER_ID] = bytes.fromhex(issuer_id)
    if network != "bitcoin":
        records[OFFER_CHAINS] = bytes.fromhex(CHAINS[network])
    if recurs:
        records[OFFER_RECURRENCE] = bytes([1]) + number_bytes(1)  # every day
    records = dict(sorted(records.items()))
    return Offer(_encode(OFFER_PREFIX, records), records)


def make_invoice(offer: Offer, request: Records, invoice: Records, path: Path, key: coincurve.PrivateKey) -> Invoice:
    """An invoice for an offer, signed with `key`: `request` has the payer's records, `invoice` those of the payee."""
    node_id = key.public_key.format()
    records = dict(offer.records) | dict(request) | dict(invoice)
    records[INVOICE_PATHS] = bytes.fromhex(path.node_id) + node_id + b"\x01" + node_id + (0).to_bytes(2, "big")
    records[INVOICE_PAYINFO] = (
        path.fee_base_msat.to_bytes(4, "big")
        + path.fee_proportional_millionths.to_bytes(4, "big")
        + path.cltv_expiry_delta.to_bytes(2, "big")
        + path.htlc_minimum_msat.to_bytes(8, "big")
        + path.htlc_maximum_msat.to_bytes(8, "big")
        + (0).to_bytes(2, "big")
    )
    records[INVOICE_FEATURES] = FEATURES
    records[INVOICE_NODE_ID] = node_id
    records = dict(sorted(records.items()))
    records[SIGNATURE] = key.sign_schnorr(_signature_hash(records))
    records = dict(sorted(records.items()))
    return Invoice(_encode(INVOICE_PREFIX, records), records)


def replace_amount(text: str, amount_msat: int) -> str:
    """An unsigned invoice with another amount."""
    records = {**_decode(INVOICE_PREFIX, text), INVOICE_AMOUNT: number_bytes(amount_msat)}
    return _encode(INVOICE_PREFIX, dict(sorted(records.items())))


@lru_cache(maxsize=20_000)
def read_offer(text: str) -> Offer:
    """Read an offer; raises :class:`Bolt12Error`."""
    text = text.lower()
    records = _decode(OFFER_PREFIX, text)
    if not all(_is_offers(kind) for kind in records):
        raise Bolt12Error("invalid offer data")
    if OFFER_ISSUER_ID not in records:
        raise Bolt12Error("Offer does not contain issuer_id or paths")
    return Offer(text, records)


@lru_cache(maxsize=20_000)
def read_invoice(text: str) -> Invoice:
    """Read an invoice and check its signature; raises :class:`Bolt12Error`."""
    text = text.lower()
    records = _decode(INVOICE_PREFIX, text)
    needed = {INVOICE_PATHS, INVOICE_PAYINFO, INVOICE_CREATED_AT, INVOICE_PAYMENT_HASH, INVOICE_AMOUNT}
    if not needed | {INVOICE_FEATURES, INVOICE_NODE_ID, SIGNATURE, METADATA, INVREQ_PAYER_ID} <= set(records):
        raise Bolt12Error("invalid invoice data")
    node_id = coincurve.PublicKeyXOnly(records[INVOICE_NODE_ID][1:])
    if not node_id.verify(records[SIGNATURE], _signature_hash(records)):
        raise Bolt12Error("invalid signature")
    return Invoice(text, records)


def number_bytes(number: int) -> bytes:
    """A number in as few bytes as it needs."""
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def merkle_root(records: Records) -> bytes:
    """What a signature of records covers: all of them but itself."""
    streams = [(kind, _write_record(kind, value)) for kind, value in records.items() if kind not in _SIGNATURE_RANGE]
    nonce_tag = b"LnNonce" + streams[0][1]
    nodes = [_branch(_tagged(b"LnLeaf", raw), _tagged(nonce_tag, _write_size(kind))) for kind, raw in streams]
    while len(nodes) > 1:
        pairs = [nodes[at : at + 2] for at in range(0, len(nodes), 2)]
        nodes = [_branch(*pair) if len(pair) == 2 else pair[0] for pair in pairs]
    return nodes[0]


def _is_offers(kind: int) -> bool:
    return any(kind in numbers for numbers in _OFFER_RANGES)


def _show_offer(offer: Offer) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    if OFFER_CHAINS in offer.records:
        shown["offer_chains"] = offer.chains
    if offer.currency is not None:
        shown |= {"offer_currency": offer.currency, "currency_minor_unit": 2}
        shown["offer_amount"] = int.from_bytes(offer.records[OFFER_AMOUNT], "big")
    elif offer.amount_msat is not None:
        shown["offer_amount_msat"] = offer.amount_msat
    if offer.description is not None:
        shown["offer_description"] = offer.description
    if OFFER_ISSUER in offer.records:
        shown["offer_issuer"] = offer.records[OFFER_ISSUER].decode()
    if offer.expires_at is not None:
        shown["offer_absolute_expiry"] = offer.expires_at
    if offer.quantity_max is not None:
        shown["offer_quantity_max"] = offer.quantity_max
    if offer.recurs:
        shown["offer_recurrence"] = {"time_unit": 1, "time_unit_name": "days", "period": 1, "compulsory_field": True}
    shown["offer_issuer_id"] = offer.issuer_id
    return shown


def _show_paths(records: Records) -> list[dict[str, Any]]:
    path, costs = records[INVOICE_PATHS], records[INVOICE_PAYINFO]
    numbers = [int.from_bytes(costs[start:end], "big") for start, end in ((0, 4), (4, 8), (8, 10), (10, 18), (18, 26))]
    names = (
        "fee_base_msat",
        "fee_proportional_millionths",
        "cltv_expiry_delta",
        "htlc_minimum_msat",
        "htlc_maximum_msat",
    )
    return [
        {
            "first_node_id": path[:_POINT_BYTES].hex(),
            "first_path_key": path[_POINT_BYTES : 2 * _POINT_BYTES].hex(),
            "payinfo": {**dict(zip(names, numbers, strict=True)), "features": ""},
            "path": [
                {
                    "blinded_node_id": path[2 * _POINT_BYTES + 1 : 3 * _POINT_BYTES + 1].hex(),
                    "encrypted_recipient_data": "",
                }
            ],
        }
    ]


def _signature_hash(records: Records) -> bytes:
    return _tagged(b"lightninginvoicesignature", merkle_root(records))


def _tagged(tag: bytes, message: bytes) -> bytes:
    digest = hashlib.sha256(tag).digest()
    return hashlib.sha256(digest + digest + message).digest()


def _branch(one: bytes, other: bytes) -> bytes:
    return _tagged(b"LnBranch", min(one, other) + max(one, other))


# --- records and characters -------------------------------------------------------------------------------------------


def _encode(prefix: str, records: Records) -> str:
    data = _write_records(records)
    padding = -len(data) * 8 % 5
    number = int.from_bytes(data, "big") << padding
    count = (len(data) * 8 + padding) // 5
    return f"{prefix}1" + "".join(_CHARSET[number >> 5 * position & 31] for position in reversed(range(count)))


def _decode(prefix: str, text: str) -> dict[int, bytes]:
    human, separator, characters = text.partition("1")
    if not separator or not characters or any(character not in _CHARSET for character in characters):
        raise Bolt12Error("invalid bech32 string")
    if human != prefix:
        raise Bolt12Error(f"unexpected prefix {human}")
    number = 0
    for character in characters:
        number = number << 5 | _CHARSET.index(character)
    bits = len(characters) * 5
    data = (number >> bits % 8).to_bytes(bits // 8, "big")
    records: dict[int, bytes] = {}
    for kind, value in _read_records(data):
        if records and kind <= max(records):
            raise Bolt12Error("invalid data: records out of order")
        records[kind] = value
    return records


def _read_records(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position < len(data):
        kind, position = _read_size(data, position)
        length, position = _read_size(data, position)
        if position + length > len(data):
            raise Bolt12Error("invalid data: truncated")
        yield kind, data[position : position + length]
        position += length


def _write_records(records: Records) -> bytes:
    return b"".join(_write_record(kind, value) for kind, value in records.items())


def _write_record(kind: int, value: bytes) -> bytes:
    return _write_size(kind) + _write_size(len(value)) + value


def _write_size(number: int) -> bytes:
    if number < 0xFD:
        return bytes([number])
    if number < 1 << 16:
        return b"\xfd" + number.to_bytes(2, "big")
    return b"\xfe" + number.to_bytes(4, "big")


def _read_size(data: bytes, position: int) -> tuple[int, int]:
    first = data[position : position + 1]
    if not first:
        raise Bolt12Error("invalid data: truncated")
    extra = {0xFD: 2, 0xFE: 4, 0xFF: 8}.get(first[0], 0)
    if not extra:
        return first[0], position + 1
    number = data[position + 1 : position + 1 + extra]
    if len(number) < extra:
        raise Bolt12Error("invalid data: truncated")
    return int.from_bytes(number, "big"), position + 1 + extra
