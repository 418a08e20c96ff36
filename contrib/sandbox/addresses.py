"""Bitcoin addresses: read as lightningd reads them, and made for this node's wallet (BIP 173, 350)."""

from __future__ import annotations

import base58
from pyln.proto import bech32

PREFIXES = {"bitcoin": "bc", "testnet": "tb", "testnet4": "tb", "signet": "tb", "regtest": "bcrt"}
_MAINNET = {0: b"\x76\xa9\x14%s\x88\xac", 5: b"\xa9\x14%s\x87"}
_TESTNETS = {111: b"\x76\xa9\x14%s\x88\xac", 196: b"\xa9\x14%s\x87"}
_BECH32M = 0x2BC830A3
_CHECKSUM_LENGTH = 6


class UnreadableError(ValueError):
    """No address at all."""


class OtherNetworkError(ValueError):
    """An address of another network."""


def encode(script: bytes, network: str) -> str:
    """The address of a segwit script."""
    version = 0 if script[0] == 0 else script[0] - 0x50
    data = bytes([version, *(_regroup(script[2:], 8, 5) or ())])
    hrp = PREFIXES[network]
    checksum = _polymod(hrp, data + bytes(_CHECKSUM_LENGTH)) ^ _constant(version)
    digits = data + bytes((checksum >> 5 * (5 - i)) & 31 for i in range(_CHECKSUM_LENGTH))
    return f"{hrp}1{''.join(bech32.CHARSET[digit] for digit in digits)}"


def decode(address: str, network: str) -> bytes:
    """The script of an address. Raises UnreadableError, OtherNetworkError."""
    script = _decode_segwit(address, PREFIXES[network])
    return script if script is not None else _decode_base58(address, network)


def _decode_segwit(address: str, hrp: str) -> bytes | None:
    text = address.lower()
    if address not in (text, text.upper()) or not text.startswith(f"{hrp}1"):
        return None
    data = bytes(bech32.CHARSET.find(char) & 0xFF for char in text[len(hrp) + 1 :])
    if len(data) <= _CHECKSUM_LENGTH or max(data) > 31 or _polymod(hrp, data) != _constant(data[0]):
        return None
    program = _regroup(data[1:-_CHECKSUM_LENGTH], 5, 8)
    if program is None or (data[0] == 0 and len(program) not in (20, 32)) or not 2 <= len(program) <= 40:
        return None
    return bytes([data[0] + 0x50 if data[0] else 0, len(program)]) + program


def _decode_base58(address: str, network: str) -> bytes:
    try:
        payload = base58.b58decode_check(address.encode())
    except ValueError:
        raise UnreadableError(address) from None
    known = _MAINNET if network == "bitcoin" else _TESTNETS
    if len(payload) != 21 or payload[0] not in _MAINNET | _TESTNETS:
        raise UnreadableError(address)
    if payload[0] not in known:
        raise OtherNetworkError(address)
    before, after = known[payload[0]].split(b"%s")
    return before + payload[1:] + after


def _regroup(data: bytes, old: int, new: int) -> bytes | None:
    groups = bech32.convertbits(data, old, new, new < old)  # type: ignore[no-untyped-call]
    return None if groups is None else bytes(groups)


def _polymod(hrp: str, data: bytes) -> int:
    return int(bech32.bech32_polymod(bech32.bech32_hrp_expand(hrp) + data))


def _constant(version: int) -> int:
    return _BECH32M if version else 1
