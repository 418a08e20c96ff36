"""Outputs, signatures and proofs (NUT-00, 08, 12)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from contrib.wallet import (
    ProtocolError,
    WalletProof,
    blank_output_count,
    make_outputs,
    messages,
    unblind,
    unblind_change,
)
from contrib.wallet.keysets import Keyset
from ledger import curve, models
from tests.wallet.fake_mint import FakeKeyset, FakeMint

_FOLDER = Path(__file__).parents[1] / "vectors"
NUT08: dict[str, Any] = json.loads((_FOLDER / "nut08.json").read_text())
NUT12: dict[str, Any] = json.loads((_FOLDER / "nut12.json").read_text())

FAKE = FakeKeyset("outputs")
KEYSET = Keyset.from_wire(models.KeysetKeys.model_validate(FAKE.wire() | {"final_expiry": None}))


def signed(outputs: list[models.BlindedMessage]) -> list[models.BlindSignature]:
    mint = FakeMint()
    mint.keysets = [FAKE]
    return [models.BlindSignature.model_validate(s) for s in mint._sign([o.model_dump() for o in outputs])]


@pytest.mark.parametrize("vector", NUT08["blank_output_count"], ids=lambda v: str(v["fee_reserve"]))
def test_blank_output_count(vector: dict[str, int]) -> None:
    assert blank_output_count(vector["fee_reserve"]) == vector["count"]


@pytest.mark.parametrize("overpaid", range(1, 300))
def test_blank_outputs_suffice(overpaid: int) -> None:
    assert all(less.bit_count() <= blank_output_count(overpaid) for less in range(overpaid + 1))


@pytest.mark.parametrize("vector", NUT12["proof"])
def test_proof_dleq(vector: dict[str, Any]) -> None:
    proof = WalletProof.model_validate(vector["proof"])
    key = bytes.fromhex(vector["A"])
    assert proof.dleq_is_valid(key)
    assert not proof.model_copy(update={"secret": "another"}).dleq_is_valid(key)
    assert not proof.model_copy(update={"dleq": None}).dleq_is_valid(key)
    assert proof.dleq is not None
    for change in ({"e": "00" * 32}, {"r": "00" * 32}, {"r": "zz"}, {"s": "11" * 32}, {"s": ""}):
        broken = proof.model_copy(update={"dleq": proof.dleq.model_copy(update=change)})
        assert not broken.dleq_is_valid(key)


def test_unblind() -> None:
    outputs = make_outputs(KEYSET, [1, 2, 64])
    proofs = unblind(outputs, signed(messages(outputs)), KEYSET)
    assert [p.amount for p in proofs] == [1, 2, 64]
    for proof in proofs:
        assert curve.verify(FAKE.private[proof.amount], bytes.fromhex(proof.y), bytes.fromhex(proof.C))
        assert proof.dleq_is_valid(KEYSET.key(proof.amount))


def test_change_takes_the_amounts_of_the_mint() -> None:
    outputs = make_outputs(KEYSET, [0, 0, 0])
    answer = signed([o.model_copy(update={"amount": a}) for o, a in zip(messages(outputs), [4, 8], strict=False)])
    assert [p.amount for p in unblind_change(outputs, answer, KEYSET)] == [4, 8]
    with pytest.raises(ProtocolError, match="change signatures"):
        unblind_change(outputs[:1], answer, KEYSET)


def test_signatures_that_are_refused() -> None:
    outputs = make_outputs(KEYSET, [4, 8])
    good = signed(messages(outputs))
    other_key = signed([o.model_copy(update={"amount": 2}) for o in messages(outputs)])
    bad: dict[str, list[models.BlindSignature]] = {
        "one is missing": good[:1],
        "another order": good[::-1],
        "another amount": other_key,
        "a key for another amount": [
            s.model_copy(update={"amount": g.amount}) for s, g in zip(other_key, good, strict=True)
        ],
        "another keyset": [s.model_copy(update={"id": "00" * 8}) for s in good],
        "no point": [s.model_copy(update={"C_": "02" + "ff" * 32}) for s in good],
        "no hex": [s.model_copy(update={"C_": "signature"}) for s in good],
        "a DLEQ of the other": [s.model_copy(update={"dleq": good[0].dleq}) for s in good],
        "a short DLEQ": [s.model_copy(update={"dleq": models.DleqProof(e="00", s="00")}) for s in good],
    }
    for what, signatures in bad.items():
        with pytest.raises(ProtocolError):
            pytest.fail(f"{what}: {unblind(outputs, signatures, KEYSET)}")


def test_the_mint_never_sees_a_dleq() -> None:
    proof = WalletProof.model_validate(NUT12["proof"][0]["proof"])
    body = models.SwapRequest.model_construct(inputs=[proof], outputs=[]).model_dump(mode="json", exclude_none=True)
    assert set(body["inputs"][0]) == {"amount", "id", "secret", "C"}
    _ = proof.y  # a cached value must not show up either
    assert "y" not in proof.model_dump()


def test_chosen_secrets() -> None:
    outputs = make_outputs(KEYSET, [1, 2], secret_texts=['["P2PK",{}]', "plain"])
    assert [o.secret for o in outputs] == ['["P2PK",{}]', "plain"]
