"""Signatures on mint quotes (NUT-20)."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from coincurve import PrivateKey

from contrib.wallet import quote_lock
from ledger import curve
from ledger.models import BlindedMessage

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "vectors" / "nut20.json").read_text())


def outputs_of(entries: list[dict[str, Any]]) -> list[BlindedMessage]:
    return [BlindedMessage.model_validate(entry) for entry in entries]


@pytest.mark.parametrize("vector", VECTORS["amended_message"]["vectors"], ids=lambda v: v["name"])
def test_message(vector: dict[str, Any]) -> None:
    text = quote_lock.message(vector["quote"], outputs_of(vector["outputs"]))
    assert text.hex() == vector["msg_to_sign_hex"]
    assert hashlib.sha256(text).hexdigest() == vector["msg_sha256"]
    signature = quote_lock.sign(PrivateKey(bytes.fromhex(vector["private_key"])), text)
    for one in (signature, vector["signature"]):
        assert curve.verify_schnorr(bytes.fromhex(vector["pubkey"]), bytes.fromhex(one), text)


@pytest.mark.parametrize("vector", VECTORS["vectors"], ids=lambda v: v["name"])
def test_old_message(vector: dict[str, Any]) -> None:
    request = vector["request"]
    text = quote_lock.old_message(request["quote"], outputs_of(request["outputs"]))
    assert text.decode() == vector["msg_to_sign"]
    is_valid = curve.verify_schnorr(bytes.fromhex(vector["pubkey"]), bytes.fromhex(request["signature"]), text)
    assert is_valid == (vector["expect"] == "valid")


def test_amount_bytes_are_minimal() -> None:
    point = "02" + "11" * 32
    text = quote_lock.message("q", [BlindedMessage(amount=0, id="00", B_=point)])
    assert text == b"Cashu_MintQuoteSig_v1\0\0\0\1q\0\0\0\0\0\0\0\x21" + bytes.fromhex(point)
    text = quote_lock.message("q", [BlindedMessage(amount=256, id="00", B_=point)])
    assert b"\0\0\0\2\1\0\0\0\0\x21" in text
