"""Token texts (NUT-00)."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contrib.wallet import TokenError, WalletProof, tokens
from contrib.wallet.proofs import ProofDleq
from contrib.wallet.tokens import Token

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "vectors" / "nut00.json").read_text())


def from_v4_vector(vector: dict[str, Any]) -> Token:
    body = vector["token"]
    proofs = [
        WalletProof(amount=p["a"], id=group["i"], secret=p["s"], C=p["c"]) for group in body["t"] for p in group["p"]
    ]
    return Token(body["m"], body["u"], tuple(proofs), body.get("d"))


@pytest.mark.parametrize("vector", VECTORS["token_v4"], ids=lambda v: v["name"])
def test_v4(vector: dict[str, Any]) -> None:
    token = from_v4_vector(vector)
    assert tokens.decode(vector["serialized"]) == token
    assert tokens.encode(token) == vector["serialized"].rstrip("=")


@pytest.mark.parametrize("vector", VECTORS["token_v4_raw"], ids=lambda v: v["name"])
def test_v4_raw(vector: dict[str, Any]) -> None:
    token = from_v4_vector(vector)
    assert tokens.decode(bytes.fromhex(vector["raw_hex"])) == token
    assert tokens.encode_raw(token).hex() == vector["raw_hex"]


@pytest.mark.parametrize("vector", VECTORS["token_v3"], ids=lambda v: v["name"])
def test_v3(vector: dict[str, Any]) -> None:
    body = vector["token"]
    token = tokens.decode(vector["serialized"])
    assert token.mint == body["token"][0]["mint"]
    assert (token.unit, token.memo) == (body["unit"], body["memo"])
    assert [p.model_dump(exclude_none=True) for p in token.proofs] == body["token"][0]["proofs"]
    assert tokens.encode_v3(token).rstrip("=") == vector["serialized"].rstrip("=")


@pytest.mark.parametrize("vector", VECTORS["token_v3_valid"], ids=lambda v: v["name"])
def test_v3_padding(vector: dict[str, Any]) -> None:
    assert tokens.decode(vector["serialized"]).amount == 10


@pytest.mark.parametrize("vector", VECTORS["token_v3_invalid"], ids=lambda v: v["name"])
def test_v3_invalid(vector: dict[str, Any]) -> None:
    with pytest.raises(TokenError):
        tokens.decode(vector["serialized"])


def test_uri_and_white_space() -> None:
    text = VECTORS["token_v4"][0]["serialized"]
    assert tokens.decode(f" cashu:{text}\n") == tokens.decode(text)


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {"t": [], "m": "http://m", "u": "sat"},
        {"t": [{"i": b"12345678", "p": [{"a": -1, "s": "x", "c": b"\2" * 33}]}], "m": "http://m", "u": "sat"},
        {"t": [{"i": b"12345678", "p": [{"a": 1, "s": "x", "c": b"\2" * 32}]}], "m": "http://m", "u": "sat"},
        {"t": [{"i": "text", "p": [{"a": 1, "s": "x", "c": b"\2" * 33}]}], "m": "http://m", "u": "sat"},
        {"t": [{"i": b"12345678", "p": [{"a": 1, "s": "x", "c": b"\2" * 33}] * 2}], "m": "http://m", "u": "sat"},
        {"t": [{"i": b"12345678", "p": [{"a": 1, "s": "x", "c": b"\2" * 33}]}], "m": 5, "u": "sat"},
    ],
)
def test_malformed_v4(body: Any) -> None:
    with pytest.raises(TokenError):
        tokens.decode("cashuB" + base64.urlsafe_b64encode(cbor2.dumps(body)).decode())


@given(st.binary(max_size=200), st.sampled_from(["cashuA", "cashuB"]))
def test_garbage_is_a_token_error(data: bytes, prefix: str) -> None:
    with pytest.raises(TokenError):
        tokens.decode(prefix + base64.urlsafe_b64encode(data).decode())


@given(st.text(max_size=60))
def test_any_text_is_a_token_error(text: str) -> None:
    for prefix in ("", "cashuA", "cashuB"):
        with pytest.raises(TokenError):
            tokens.decode(prefix + text)


PROOFS = st.builds(
    WalletProof,
    amount=st.integers(0, 2**63),
    id=st.sampled_from(["00ad268c4d1f5826", "0142c60353a71a2b"]),
    secret=st.text(st.characters(codec="utf-8"), max_size=80),
    C=st.just("02" + "11" * 32),
    witness=st.none() | st.text(st.characters(codec="utf-8"), max_size=20),
    dleq=st.none() | st.builds(ProofDleq, e=st.just("0a" * 32), s=st.just("0b" * 32), r=st.just("0c" * 32)),
)


@given(
    st.lists(PROOFS, min_size=1, max_size=5, unique_by=lambda p: p.secret),
    st.none() | st.text(st.characters(codec="utf-8"), max_size=20),
)
def test_round_trip(proofs: list[WalletProof], memo: str | None) -> None:
    proofs.sort(key=lambda p: p.id)  # proofs of one keyset stand together in version 4
    token = Token("https://mint.example", "sat", tuple(proofs), memo)
    for text in (tokens.encode(token), tokens.encode_v3(token), tokens.encode_raw(token)):
        assert tokens.decode(text) == token


def test_version_2_ids_are_shortened() -> None:
    proof = WalletProof(amount=1, id="01" + "ab" * 32, secret="x", C="02" + "11" * 32)
    token = tokens.decode(tokens.encode(Token("https://mint.example", "sat", (proof,))))
    assert token.proofs[0].id == "01" + "ab" * 7
