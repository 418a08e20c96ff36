"""Keyset ids and what a wallet accepts as a keyset (NUT-01, 02)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from contrib.wallet import ProtocolError, TokenError
from contrib.wallet.keysets import Keyset, resolve_id
from ledger import models

_FOLDER = Path(__file__).parents[1] / "vectors"
NUT01: dict[str, Any] = json.loads((_FOLDER / "nut01.json").read_text())
NUT02: dict[str, Any] = json.loads((_FOLDER / "nut02.json").read_text())


def wire(keyset_id: str, keys: dict[str, str], **more: Any) -> models.KeysetKeys:
    defaults: dict[str, Any] = {"unit": "sat", "active": True, "input_fee_ppk": 0, "final_expiry": None}
    return models.KeysetKeys(id=keyset_id, keys=keys, **(defaults | more))


@pytest.mark.parametrize("vector", NUT02["keyset_id_v1"] + NUT02["keyset_id_v2"], ids=lambda v: v["name"])
def test_ids(vector: dict[str, Any]) -> None:
    more = {name: vector[name] for name in ("unit", "input_fee_ppk", "final_expiry") if vector.get(name) is not None}
    keyset = Keyset.from_wire(wire(vector["keyset_id"], vector["keys"], **more))
    assert keyset.id == vector["keyset_id"]
    assert len(keyset.keys) == len(vector["keys"])


@pytest.mark.parametrize("vector", NUT01["invalid"], ids=lambda v: v["name"])
def test_invalid_keys(vector: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError, match="bad key"):
        Keyset.from_wire(wire("00456a94ab4e1c46", vector["keys"]))


@pytest.mark.parametrize(
    "change",
    [{"unit": "usd"}, {"input_fee_ppk": 101}, {"final_expiry": None}, {"id": "02" + "00" * 32}, {"id": "01abcd"}],
    ids=str,
)
def test_an_id_that_does_not_fit(change: dict[str, Any]) -> None:
    vector = NUT02["keyset_id_v2"][0]
    honest = wire(
        vector["keyset_id"],
        vector["keys"],
        unit=vector["unit"],
        input_fee_ppk=vector["input_fee_ppk"],
        final_expiry=vector["final_expiry"],
    )
    Keyset.from_wire(honest)
    with pytest.raises(ProtocolError, match=r"is not what its id says|version"):
        Keyset.from_wire(honest.model_copy(update=change))


@pytest.mark.parametrize("amount", ["0", "-1", "1.0", "", "²", str(2**64)])
def test_bad_amounts(amount: str) -> None:
    keys = NUT02["keyset_id_v1"][0]["keys"]
    with pytest.raises(ProtocolError):
        Keyset.from_wire(wire("00456a94ab4e1c46", {amount: keys["1"]}))


def test_split() -> None:
    keyset = Keyset.from_wire(wire("00456a94ab4e1c46", NUT02["keyset_id_v1"][0]["keys"]))
    assert keyset.split(0) == []
    assert keyset.split(13) == [1, 4, 8]
    assert keyset.split(25) == [1, 8, 8, 8]
    with pytest.raises(ProtocolError):
        Keyset("x", "sat", True, 0, None, {2: b""}).split(3)


def test_short_ids() -> None:
    first, second, old = "01" + "ab" * 32, "01" + "ab" * 7 + "cd" * 25, "00ad268c4d1f5826"
    assert resolve_id(first, [first, second]) == first
    assert resolve_id(first[:16], [first, old]) == first
    assert resolve_id(old, [first, old]) == old
    with pytest.raises(TokenError, match="several"):
        resolve_id(first[:16], [first, second])
    with pytest.raises(TokenError, match="does not know"):
        resolve_id(first[:14], [first])
