"""Writing partially signed transactions, as lightningd's look (BIP 174 version 0; version 2 for a lone output)."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence

from plugin.node.psbt import Output, Transaction, is_p2tr

SIGNATURE_BYTES = 64
DER_BYTES = 71
KEY_BYTES = 33


def unsigned(tx: Transaction, sources: Sequence[bytes], spent: Sequence[Output]) -> str:
    """Version 0. `sources` are the transactions that are spent from, `spent` their outputs."""
    return _write(tx, ({**_source(raw, output)} for raw, output in zip(sources, spent, strict=True)))


def signed(tx: Transaction, sources: Sequence[bytes], spent: Sequence[Output], secret: bytes) -> str:
    """The same with signatures that fit nothing."""
    inputs = []
    for raw, output in zip(sources, spent, strict=True):
        fields = _source(raw, output)
        if is_p2tr(output.script):
            fields[b"\x13"] = (secret * 2)[:SIGNATURE_BYTES]
        else:
            fields[b"\x02\x02" + secret[: KEY_BYTES - 1]] = (secret * 3)[:DER_BYTES]
        inputs.append(fields)
    return _write(tx, inputs)


def lone_output(output: Output) -> str:
    """Version 2, with nothing but one output."""
    top = {b"\x02": (2).to_bytes(4, "little"), b"\x04": b"\x00", b"\x05": b"\x01", b"\xfb": (2).to_bytes(4, "little")}
    place = {b"\x03": output.amount_sat.to_bytes(8, "little"), b"\x04": output.script}
    return _encode([top, place])


def _source(raw: bytes, output: Output) -> dict[bytes, bytes]:
    script = bytes([len(output.script)]) + output.script
    return {b"\x00": raw, b"\x01": output.amount_sat.to_bytes(8, "little") + script}


def _write(tx: Transaction, inputs: Iterable[dict[bytes, bytes]]) -> str:
    return _encode([{b"\x00": tx.serialize()}, *inputs, *({} for _ in tx.outputs)])


def _encode(maps: Sequence[dict[bytes, bytes]]) -> str:
    body = b"".join(b"".join(_sized(key) + _sized(value) for key, value in fields.items()) + b"\0" for fields in maps)
    return base64.b64encode(b"psbt\xff" + body).decode()


def _sized(data: bytes) -> bytes:
    size = bytes([len(data)]) if len(data) < 0xFD else b"\xfd" + len(data).to_bytes(2, "little")
    return size + data
