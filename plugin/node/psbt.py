"""Bitcoin transactions and partially signed ones (BIP 174, 370, 371), as far as a payer must read them.

The node builds and signs; nothing else in its commands shows what. So what it has built is read here before it is sent.
Whatever is not understood is refused.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

TXID_BYTES = 32
HEADER_BYTES = 80
HEADER_TIME = slice(68, 72)
MAX_ITEMS = 100_000
"""Most inputs, outputs or witness items that are read of one transaction."""

_MAGIC = b"psbt\xff"
_GLOBAL_TX, _GLOBAL_VERSION = b"\x00", b"\x02"
_GLOBAL_LOCKTIME, _GLOBAL_INPUTS, _GLOBAL_OUTPUTS, _GLOBAL_PSBT_VERSION = b"\x03", b"\x04", b"\x05", b"\xfb"
_IN_FULL_TX, _IN_OUTPUT, _IN_PARTIAL_SIGNATURE, _IN_FINAL_WITNESS = b"\x00", b"\x01", 0x02, b"\x08"
_IN_TXID, _IN_VOUT, _IN_SEQUENCE, _IN_MIN_TIME, _IN_MIN_HEIGHT = b"\x0e", b"\x0f", b"\x10", b"\x11", b"\x12"
_IN_TAP_SIGNATURE = b"\x13"
_OUT_AMOUNT, _OUT_SCRIPT = b"\x03", b"\x04"
_SEQUENCE_FINAL = 0xFFFFFFFF

_Map = dict[bytes, bytes]


class MalformedError(ValueError):
    """Not the transaction, block or PSBT that it should be."""


@dataclass(frozen=True, slots=True, order=True)
class Outpoint:
    """An output of a transaction. `txid` is in the order in which it is written."""

    txid: bytes
    vout: int

    def __str__(self) -> str:
        return f"{self.txid.hex()}:{self.vout}"

    @classmethod
    def read(cls, text: str) -> Outpoint:
        """From `txid:vout`. Raises ValueError for another form."""
        txid, _, vout = text.partition(":")
        return cls(bytes.fromhex(txid), int(vout))


@dataclass(frozen=True, slots=True)
class Input:
    """What a transaction spends."""

    outpoint: Outpoint
    sequence: int
    script: bytes = b""
    """Its scriptSig: empty for native segwit."""


@dataclass(frozen=True, slots=True)
class Output:
    """What a transaction pays."""

    amount_sat: int
    script: bytes


@dataclass(frozen=True, slots=True)
class Transaction:
    """A transaction without its witnesses."""

    version: int
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    locktime: int

    @property
    def txid(self) -> bytes:
        """Its id, in the order in which it is written."""
        return _hash256(self.serialize())[::-1]

    def serialize(self, witnesses: tuple[tuple[bytes, ...], ...] | None = None) -> bytes:
        """As it goes into a block; with `witnesses`, one for each input, as it is sent."""
        inputs = b"".join(
            i.outpoint.txid[::-1] + _le(i.outpoint.vout, 4) + _sized(i.script) + _le(i.sequence, 4) for i in self.inputs
        )
        outputs = b"".join(_le(o.amount_sat, 8) + _sized(o.script) for o in self.outputs)
        marker = b"" if witnesses is None else b"\x00\x01"
        stacks = b"".join(_size(len(stack)) + b"".join(map(_sized, stack)) for stack in witnesses or ())
        return b"".join(
            (
                *(_le(self.version, 4), marker, _size(len(self.inputs)), inputs),
                *(_size(len(self.outputs)), outputs, stacks, _le(self.locktime, 4)),
            )
        )

    @classmethod
    def parse(cls, data: bytes) -> Transaction:
        """Raises MalformedError unless the data is exactly one transaction."""
        reader = _Reader(data)
        tx = reader.transaction()
        reader.require_end()
        return tx


@dataclass(frozen=True, slots=True)
class Psbt:
    """A partially signed transaction. `spent` and `witnesses` belong to its inputs; None where it doesn't tell."""

    tx: Transaction
    spent: tuple[Output | None, ...]
    witnesses: tuple[tuple[bytes, ...] | None, ...]

    @property
    def fee_sat(self) -> int:
        """What its inputs have more than its outputs. Raises MalformedError if an input's amount isn't told."""
        amounts = [output.amount_sat for output in self.spent if output is not None]
        if len(amounts) != len(self.tx.inputs):
            raise MalformedError("the amount of an input is missing")
        return sum(amounts) - sum(output.amount_sat for output in self.tx.outputs)

    @property
    def signed(self) -> bytes | None:
        """The transaction as it can be sent; None while a signature is missing."""
        witnesses = tuple(witness for witness in self.witnesses if witness is not None)
        return self.tx.serialize(witnesses) if len(witnesses) == len(self.tx.inputs) else None

    @classmethod
    def parse(cls, text: str) -> Psbt:
        """From base64, version 0 or 2. Raises MalformedError."""
        try:
            data = base64.b64decode(text, validate=True)
        except ValueError as error:  # binascii.Error is one, and text that is not ASCII another
            raise MalformedError(f"not base64: {error}") from None
        if not data.startswith(_MAGIC):
            raise MalformedError("not a PSBT")
        reader = _Reader(data, len(_MAGIC))
        top = reader.map()
        version = int.from_bytes(top.get(_GLOBAL_PSBT_VERSION, b""), "little")
        if version == 0:
            tx = Transaction.parse(_require(top, _GLOBAL_TX))
            inputs = [reader.map() for _ in tx.inputs]
            for _ in tx.outputs:
                reader.map()
        elif version == 2:
            inputs = [reader.map() for _ in range(_count(top, _GLOBAL_INPUTS))]
            outputs = [reader.map() for _ in range(_count(top, _GLOBAL_OUTPUTS))]
            tx = _tx_of_v2(top, inputs, outputs)
        else:
            raise MalformedError(f"a PSBT of version {version}")
        reader.require_end()
        spent = tuple(_spent(i, fields) for i, fields in zip(tx.inputs, inputs, strict=True))
        witnesses = tuple(_witness(fields, output) for fields, output in zip(inputs, spent, strict=True))
        return cls(tx, spent, witnesses)


def block_transactions(block: bytes) -> Iterator[Transaction]:
    """Every transaction of a block. Raises MalformedError."""
    reader = _Reader(block, HEADER_BYTES)
    for _ in range(reader.count()):
        yield reader.transaction()
    reader.require_end()


def block_time(block: bytes) -> int:
    """The time in a block's header, in unix seconds."""
    return int.from_bytes(block[HEADER_TIME], "little")


class _Reader:
    """Reads fields one after another. Raises MalformedError where the data ends too early."""

    def __init__(self, data: bytes, position: int = 0) -> None:
        self._data = data
        self._position = position

    def take(self, count: int) -> bytes:
        taken = self._data[self._position : self._position + count]
        if len(taken) != count:
            raise MalformedError("the data ends too early")
        self._position += count
        return taken

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count), "little")

    def size(self) -> int:
        first = self.number(1)
        return first if first < 0xFD else self.number(1 << (first - 0xFC))

    def count(self) -> int:
        number = self.size()
        if number > MAX_ITEMS:
            raise MalformedError(f"{number} items")
        return number

    def sized(self) -> bytes:
        return self.take(self.size())

    def require_end(self) -> None:
        if self._position != len(self._data):
            raise MalformedError("there is more than there should be")

    def map(self) -> _Map:
        """A map of a PSBT: keys with their types in front, up to an empty one. No key stands twice."""
        found: _Map = {}
        while key := self.sized():
            if key in found:
                raise MalformedError("a key stands twice")
            found[key] = self.sized()
        return found

    def transaction(self) -> Transaction:
        version = self.number(4)
        inputs, has_witnesses = self.count(), False
        if inputs == 0:
            has_witnesses = self.number(1) == 1
            if not has_witnesses:  # no inputs and no outputs: a PSBT that is still empty
                return Transaction(version, (), (), self.number(4))
            inputs = self.count()
        spends = tuple(self._input() for _ in range(inputs))
        pays = tuple(Output(self.number(8), self.sized()) for _ in range(self.count()))
        if has_witnesses:
            for _ in spends:
                for _ in range(self.count()):
                    self.sized()
        return Transaction(version, spends, pays, self.number(4))

    def _input(self) -> Input:
        outpoint = Outpoint(self.take(TXID_BYTES)[::-1], self.number(4))
        script = self.sized()
        return Input(outpoint, self.number(4), script)


def _tx_of_v2(top: _Map, inputs: list[_Map], outputs: list[_Map]) -> Transaction:
    if any(_IN_MIN_TIME in fields or _IN_MIN_HEIGHT in fields for fields in inputs):
        raise MalformedError("an input asks for a locktime of its own")
    return Transaction(
        _number(_require(top, _GLOBAL_VERSION)),
        tuple(
            Input(
                Outpoint(_require(fields, _IN_TXID)[::-1], _number(_require(fields, _IN_VOUT))),
                _number(fields[_IN_SEQUENCE]) if _IN_SEQUENCE in fields else _SEQUENCE_FINAL,
            )
            for fields in inputs
        ),
        tuple(Output(_number(_require(fields, _OUT_AMOUNT)), _require(fields, _OUT_SCRIPT)) for fields in outputs),
        _number(top.get(_GLOBAL_LOCKTIME, b"")),
    )


def _spent(spend: Input, fields: _Map) -> Output | None:
    """The output that an input spends. If it is told in both ways, both must agree."""
    told = None
    if (data := fields.get(_IN_OUTPUT)) is not None:
        reader = _Reader(data)
        told = Output(reader.number(8), reader.sized())
        reader.require_end()
    if (data := fields.get(_IN_FULL_TX)) is not None:
        tx = Transaction.parse(data)
        if tx.txid != spend.outpoint.txid or spend.outpoint.vout >= len(tx.outputs):
            raise MalformedError("an input comes with another transaction than the one that it spends")
        full = tx.outputs[spend.outpoint.vout]
        if told is not None and told != full:
            raise MalformedError("an input comes with two different outputs")
        told = full
    return told


def _witness(fields: _Map, spent: Output | None) -> tuple[bytes, ...] | None:
    """The witness of a signed input: final, or that of a key path spend, or that of a public key hash."""
    if (data := fields.get(_IN_FINAL_WITNESS)) is not None:
        reader = _Reader(data)
        stack = tuple(reader.sized() for _ in range(reader.count()))
        reader.require_end()
        return stack
    if spent is not None and is_p2tr(spent.script) and (signature := fields.get(_IN_TAP_SIGNATURE)) is not None:
        return (signature,)
    if spent is not None and is_p2wpkh(spent.script):
        signed = [(signature, key[1:]) for key, signature in fields.items() if key[0] == _IN_PARTIAL_SIGNATURE]
        return signed[0] if len(signed) == 1 else None
    return None


def is_p2wpkh(script: bytes) -> bool:
    """Whether a script is a version 0 public key hash."""
    return len(script) == 22 and script.startswith(b"\x00\x14")


def is_p2tr(script: bytes) -> bool:
    """Whether a script is a taproot output."""
    return len(script) == 34 and script.startswith(b"\x51\x20")


def _require(fields: _Map, key: bytes) -> bytes:
    if key not in fields:
        raise MalformedError(f"field {key.hex()} is missing")
    return fields[key]


def _count(fields: _Map, key: bytes) -> int:
    return _Reader(_require(fields, key)).count()


def _number(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _le(number: int, count: int) -> bytes:
    return number.to_bytes(count, "little")


def _size(number: int) -> bytes:
    if number < 0xFD:
        return _le(number, 1)
    count = 2 if number < 1 << 16 else 4 if number < 1 << 32 else 8
    return _le(0xFC + count.bit_length() - 1, 1) + _le(number, count)


def _sized(data: bytes) -> bytes:
    return _size(len(data)) + data


def _hash256(data: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()
