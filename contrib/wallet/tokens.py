"""Tokens as text (NUT-00): `cashuB` (version 4, CBOR) is written and read, `cashuA` (version 3, JSON) is read."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import cbor2
from pydantic import ValidationError

from contrib.wallet.errors import TokenError
from contrib.wallet.keysets import short_id
from contrib.wallet.proofs import ProofDleq, WalletProof

PREFIX_V3 = "cashuA"
PREFIX_V4 = "cashuB"
PREFIX_RAW_V4 = b"crawB"
MAX_TOKEN_CHARS = 4 * 1024 * 1024
URI_SCHEMES = ("cashu://", "cashu:", "web+cashu://")


@dataclass(frozen=True, slots=True)
class Token:
    """Proofs of one mint and unit. Their `id` may be the short form that tokens use: see `keysets.resolve_id`."""

    mint: str
    unit: str
    proofs: tuple[WalletProof, ...]
    memo: str | None = None

    @property
    def amount(self) -> int:
        """The sum of the proofs, before any fee, in the minor unit."""
        return sum(proof.amount for proof in self.proofs)


def encode(token: Token) -> str:
    """The `cashuB` text."""
    return PREFIX_V4 + base64.urlsafe_b64encode(_cbor(token)).decode().rstrip("=")


def encode_raw(token: Token) -> bytes:
    """The binary form: `crawB` and CBOR."""
    return PREFIX_RAW_V4 + _cbor(token)


def encode_v3(token: Token) -> str:
    """The older `cashuA` text, for receivers that know no other."""
    body: dict[str, Any] = {
        "token": [{"mint": token.mint, "proofs": [p.model_dump(exclude_none=True) for p in token.proofs]}],
        "unit": token.unit,
    }
    if token.memo is not None:
        body["memo"] = token.memo
    text = json.dumps(body, separators=(",", ":"), ensure_ascii=False)
    return PREFIX_V3 + base64.urlsafe_b64encode(text.encode()).decode()


def decode(text: str | bytes) -> Token:
    """Read a token in any of the three forms. Raises TokenError."""
    try:
        if isinstance(text, bytes):
            if not text.startswith(PREFIX_RAW_V4):
                raise TokenError("not a token: raw tokens begin with crawB")
            return _from_cbor(text[len(PREFIX_RAW_V4) :])
        if len(text) > MAX_TOKEN_CHARS:
            raise TokenError(f"the token is longer than {MAX_TOKEN_CHARS} characters")
        body = text.strip()
        for scheme in URI_SCHEMES:
            body = body.removeprefix(scheme)
        if body.startswith(PREFIX_V4):
            return _from_cbor(_from_base64(body[len(PREFIX_V4) :]))
        if body.startswith(PREFIX_V3):
            return _from_json(_from_base64(body[len(PREFIX_V3) :]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, cbor2.CBORError) as error:
        raise TokenError(f"the token cannot be read ({type(error).__name__}): it was cut or altered") from error
    raise TokenError("not a token: tokens begin with cashuA or cashuB")


def _cbor(token: Token) -> bytes:
    groups: dict[str, list[dict[str, Any]]] = {}
    for proof in token.proofs:
        entry: dict[str, Any] = {"a": proof.amount, "s": proof.secret, "c": bytes.fromhex(proof.C)}
        if proof.dleq is not None:
            entry["d"] = {name: bytes.fromhex(getattr(proof.dleq, name)) for name in ("e", "s", "r")}
        if proof.witness is not None:
            entry["w"] = proof.witness
        groups.setdefault(short_id(proof.id), []).append(entry)
    body: dict[str, Any] = {"t": [{"i": bytes.fromhex(name), "p": entries} for name, entries in groups.items()]}
    if token.memo is not None:
        body["d"] = token.memo
    body["m"] = token.mint
    body["u"] = token.unit
    return cbor2.dumps(body)


def _from_cbor(data: bytes) -> Token:
    body = cbor2.loads(data)
    proofs = [_proof_from_cbor(group["i"].hex(), entry) for group in body["t"] for entry in group["p"]]
    return _token(body["m"], body["u"], proofs, body.get("d"))


def _proof_from_cbor(keyset: str, entry: dict[str, Any]) -> WalletProof:
    dleq = entry.get("d")
    return WalletProof(
        amount=entry["a"],
        id=keyset,
        secret=entry["s"],
        C=entry["c"].hex(),
        witness=entry.get("w"),
        dleq=None if dleq is None else ProofDleq(**{name: dleq[name].hex() for name in ("e", "s", "r")}),
    )


def _from_json(data: bytes) -> Token:
    body = json.loads(data)
    entries = body["token"]
    mints = {entry["mint"] for entry in entries}
    if len(mints) != 1:
        raise TokenError(f"the token has proofs of {len(mints)} mints; only tokens of one mint can be received")
    proofs = [_proof_from_json(proof) for entry in entries for proof in entry["proofs"]]
    return _token(mints.pop(), body.get("unit") or "sat", proofs, body.get("memo"))


def _proof_from_json(entry: dict[str, Any]) -> WalletProof:
    dleq = entry.get("dleq")
    if dleq is not None and "r" not in dleq:
        entry = entry | {"dleq": None}  # without r there is nothing that a receiver could check
    try:
        return WalletProof.model_validate(entry)
    except ValidationError as error:
        raise ValueError(f"proof has {error.error_count()} faults") from error


def _token(mint: Any, unit: Any, proofs: Iterable[WalletProof], memo: Any) -> Token:
    if not isinstance(mint, str) or not isinstance(unit, str) or not isinstance(memo, str | None):
        raise ValueError("mint, unit and memo are texts")
    token = Token(mint, unit, tuple(proofs), memo)
    if not token.proofs:
        raise TokenError("the token is empty")
    if len({proof.secret for proof in token.proofs}) != len(token.proofs):
        raise TokenError("the token holds the same proof twice")
    return token


def _from_base64(text: str) -> bytes:
    # Both alphabets and any padding are in use.
    body = text.rstrip("=").replace("+", "-").replace("/", "_")
    return base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
