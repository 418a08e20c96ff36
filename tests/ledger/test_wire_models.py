"""What wallets may send: whole numbers only, points in hex, bounded texts, and fields that nobody knows."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from ledger import models
from ledger.models import (
    MAX_DESCRIPTION_LENGTH,
    MAX_INVOICE_LENGTH,
    MAX_QUOTE_ID_LENGTH,
    MAX_SECRET_LENGTH,
    MAX_UNIT_LENGTH,
    MAX_WITNESS_LENGTH,
    BlindedMessage,
    BlindSignature,
    CheckStateRequest,
    DleqProof,
    MeltQuoteBolt11Request,
    MeltRequest,
    MintQuoteBolt11Request,
    MintRequest,
    Proof,
    SignaturesResponse,
    Wire,
)

POINT = "02" + "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
OUTPUT = {"amount": 8, "id": "00" * 33, "B_": POINT}
INPUT = {"amount": 8, "id": "00" * 33, "secret": "secret", "C": POINT}
MINT_QUOTE = {"amount": 8, "unit": "sat"}
MELT_QUOTE = {"request": "lnbc1", "unit": "sat"}
MELT = {"quote": "id", "inputs": [INPUT]}
MINT = {"quote": "id", "outputs": [OUTPUT]}


def parse(model: type[Wire], fields: dict[str, Any]) -> Wire:
    """As a request's body is parsed."""
    return model.model_validate_json(json.dumps(fields))


@pytest.mark.parametrize(
    "amount", [True, False, "8", 8.0, 8.5, -8, None, 2**63 + 1, 2**70, [8], float("nan"), float("inf")], ids=repr
)
@pytest.mark.parametrize(
    ("model", "fields"), [(BlindedMessage, OUTPUT), (Proof, INPUT), (MintQuoteBolt11Request, MINT_QUOTE)]
)
def test_an_amount_is_a_whole_number_of_63_bits(model: type[Wire], fields: dict[str, Any], amount: object) -> None:
    with pytest.raises(ValidationError):
        parse(model, {**fields, "amount": amount})


@pytest.mark.parametrize("amount", [0, 1, 2**53 + 1, 2**63 - 1, 2**63])
def test_an_amount_up_to_the_largest_denomination_is_kept_exactly(amount: int) -> None:
    parsed = BlindedMessage.model_validate_json(json.dumps({**OUTPUT, "amount": amount}))
    assert parsed.amount == amount


@pytest.mark.parametrize("option", [{"amountless": {"amount_msat": 0}}, {"mpp": {"amount": 0}}, {"mpp": {}}])
def test_an_option_names_an_amount_above_zero(option: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        parse(MeltQuoteBolt11Request, {**MELT_QUOTE, "options": option})


@pytest.mark.parametrize(
    "point", ["", POINT[2:], POINT + "00", POINT[:-1] + "g", POINT + "\n", " " + POINT[1:], 2, None]
)
def test_a_point_is_66_hex_digits(point: object) -> None:
    for model, fields in ((BlindedMessage, {**OUTPUT, "B_": point}), (Proof, {**INPUT, "C": point})):
        with pytest.raises(ValidationError):
            parse(model, fields)
    with pytest.raises(ValidationError):
        parse(CheckStateRequest, {"Ys": [POINT, point]})


@pytest.mark.parametrize(
    ("model", "fields", "field", "limit"),
    [
        (Proof, INPUT, "secret", MAX_SECRET_LENGTH),
        (Proof, INPUT, "witness", MAX_WITNESS_LENGTH),
        (Proof, INPUT, "id", 66),
        (BlindedMessage, OUTPUT, "id", 66),
        (MintRequest, MINT, "quote", MAX_QUOTE_ID_LENGTH),
        (MintRequest, MINT, "signature", 256),
        (MeltRequest, MELT, "quote", MAX_QUOTE_ID_LENGTH),
        (MintQuoteBolt11Request, MINT_QUOTE, "description", MAX_DESCRIPTION_LENGTH),
        (MintQuoteBolt11Request, MINT_QUOTE, "unit", MAX_UNIT_LENGTH),
        (MintQuoteBolt11Request, MINT_QUOTE, "pubkey", 256),
        (MeltQuoteBolt11Request, MELT_QUOTE, "request", MAX_INVOICE_LENGTH),
        (MeltQuoteBolt11Request, MELT_QUOTE, "unit", MAX_UNIT_LENGTH),
    ],
)
def test_every_text_has_a_limit(model: type[Wire], fields: dict[str, Any], field: str, limit: int) -> None:
    parse(model, {**fields, field: "a" * limit})
    with pytest.raises(ValidationError):
        parse(model, {**fields, field: "a" * (limit + 1)})


@pytest.mark.parametrize(
    ("model", "fields", "field"),
    [
        (Proof, INPUT, "id"),
        (BlindedMessage, OUTPUT, "id"),
        (MintRequest, MINT, "quote"),
        (MeltRequest, MELT, "quote"),
        (MintQuoteBolt11Request, MINT_QUOTE, "unit"),
        (MeltQuoteBolt11Request, MELT_QUOTE, "request"),
    ],
)
@pytest.mark.parametrize("value", ["", None, 7, ["id"]], ids=repr)
def test_a_text_that_must_be_there_is_there(
    model: type[Wire], fields: dict[str, Any], field: str, value: object
) -> None:
    with pytest.raises(ValidationError):
        parse(model, {**fields, field: value})
    with pytest.raises(ValidationError):
        parse(model, {name: kept for name, kept in fields.items() if name != field})


def test_prefer_async_is_true_or_false_and_nothing_like_it() -> None:
    for value in (True, False, None):
        assert MeltRequest.model_validate_json(json.dumps({**MELT, "prefer_async": value})).prefer_async is value
    for other in (1, "true", "yes"):
        with pytest.raises(ValidationError):
            parse(MeltRequest, {**MELT, "prefer_async": other})


def test_a_secret_is_kept_as_it_was_after_unescaping() -> None:
    body = '{"amount": 8, "id": "00", "C": "' + POINT + '", "secret": "[\\"P2PK\\", \\u20ac \\ud83e\\udd5c \\u0000]"}'
    assert Proof.model_validate_json(body).secret == '["P2PK", € \U0001f95c \0]'


def test_half_a_surrogate_pair_is_no_text() -> None:
    with pytest.raises(ValidationError):
        Proof.model_validate_json(json.dumps({**INPUT, "secret": "\ud83e"}))
    with pytest.raises(ValidationError):
        Proof.model_validate({**INPUT, "secret": "\ud83e"})


def test_unknown_fields_are_ignored() -> None:
    dleq = {"e": "00" * 32, "s": "00" * 32, "r": "00" * 32}
    proof = Proof.model_validate_json(json.dumps({**INPUT, "dleq": dleq, "p2pk_e": POINT}))
    assert proof == Proof.model_validate(INPUT)
    assert not {"dleq", "p2pk_e"} & set(proof.model_dump())


def test_hex_is_kept_as_it_was_sent() -> None:
    assert POINT.upper() == BlindedMessage.model_validate({**OUTPUT, "B_": POINT.upper()}).B_


def test_a_request_cannot_be_changed_once_it_is_checked() -> None:
    proof = Proof.model_validate(INPUT)
    with pytest.raises(ValidationError):
        proof.amount = 16  # type: ignore[misc]


def test_signatures_go_out_with_their_dleq() -> None:
    signature = BlindSignature(amount=2**63, id="00", C_=POINT, dleq=DleqProof(e="01", s="02"))
    sent = json.loads(SignaturesResponse(signatures=[signature]).model_dump_json())
    assert sent == {"signatures": [{"amount": 2**63, "id": "00", "C_": POINT, "dleq": {"e": "01", "s": "02"}}]}


REQUESTS = [
    model
    for name, model in vars(models).items()
    if name.endswith("Request") and isinstance(model, type) and issubclass(model, Wire)
]
ARRAYS = [
    (model, name)
    for model in REQUESTS
    for name, field in model.model_fields.items()
    if "list[" in str(field.annotation)
]


def test_the_arrays_of_requests_are_known() -> None:
    assert {name for _, name in ARRAYS} == {"inputs", "outputs", "quotes", "quote_amounts", "signatures", "Ys"}


@pytest.mark.parametrize(("model", "name"), ARRAYS)
@pytest.mark.parametrize("entry", ["{}", "0.5", "[]"])
def test_an_array_full_of_bad_entries_is_described_by_its_first(model: type[Wire], name: str, entry: str) -> None:
    """A megabyte of them would be described in a gigabyte."""
    body = f'{{"{name}": [{",".join([entry] * 1000)}]}}'
    with pytest.raises(ValidationError) as refused:
        model.model_validate_json(body)
    assert any(error["loc"][:2] == (name, 0) for error in refused.value.errors())
    assert refused.value.error_count() < 20
