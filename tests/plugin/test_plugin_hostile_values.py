"""Requests with one thing wrong, each in turn: 400 with `{"detail", "code"}`, no traceback, and not a row changed."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from coincurve import PrivateKey

from tests.plugin.hostile import (
    CHECK_STATE,
    MELT,
    MELT_QUOTE,
    MINT,
    MINT_BATCH,
    MINT_CHECK,
    MINT_QUOTE,
    RESTORE,
    SWAP,
    Target,
    changed,
)

NOT_ON_CURVE = "02" + "00" * 31 + "05"
GENERATOR_UNCOMPRESSED = PrivateKey((1).to_bytes(32, "big")).public_key.format(compressed=False).hex()

NO_AMOUNTS = {
    "true": True,
    "text": "8",
    "float": 8.0,
    "1e3": 1e3,
    "fraction": 8.5,
    "negative": -1,
    "2^70": 2**70,
    "2^64": 2**64,
    "above 2^63": 2**63 + 1,
    "NaN": float("nan"),
    "infinite": float("inf"),
    "null": None,
    "array": [8],
    "object": {"amount": 8},
}
NO_TEXTS: dict[str, Any] = {"null": None, "number": 7, "true": True, "array": ["a"], "object": {}}
NO_POINTS = {
    **NO_TEXTS,
    "empty": "",
    "short": "02" + "ab" * 31,
    "long": "02" + "ab" * 33,
    "odd": "02" + "ab" * 31 + "a",
    "no hex": "02" + "zz" * 32,
    "0x": "0x" + "ab" * 32,
    "spaces": "02 " + "ab" * 31 + "a",
    "line end": "02" + "ab" * 32 + "\n",
    "NUL": "02" + "ab" * 31 + "\0\0",
    "other digits": "02" + "١" * 64,
    "uncompressed": GENERATOR_UNCOMPRESSED,
}
NO_FORM = {
    "beyond the field": "02" + "ff" * 32,
    "the field's order": "02" + "ff" * 27 + "fefffffc2f",
    "prefix 04": "04" + "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798",
    "prefix 00": "00" * 33,
}
OFF_CURVE = {"not on the curve": NOT_ON_CURVE, **NO_FORM}
NO_KEYSETS = {
    **NO_TEXTS,
    "empty": "",
    "unknown": "01" + "ab" * 32,
    "unknown v1": "00" + "ab" * 7,
    "version 3": "02" + "ab" * 32,
    "too long": "01" + "ab" * 33,
    "hostile": "'; DROP TABLE keysets; --",
}
NO_QUOTES = {
    **NO_TEXTS,
    "empty": "",
    "unknown": "01a203d4-0810-7a08-beb1-35ab37fead95",
    "129 characters": "q" * 129,
    "very long": "q" * 100_000,
    "NUL": "quote\0",
    "hostile": "' OR 1=1; --",
    "path": "../../etc/passwd",
}
NO_LISTS: dict[str, Any] = {
    "null": None,
    "object": {},
    "text": "[]",
    "empty": [],
    "of null": [None],
    "of numbers": [1],
    "of text": ["a"],
}

FIELDS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    (SWAP, "inputs", NO_LISTS),
    (SWAP, "outputs", NO_LISTS),
    (SWAP, "inputs.0.amount", NO_AMOUNTS | {"zero": 0, "no power of two": 3, "other amount": 16, "2^63": 2**63}),
    (SWAP, "inputs.0.id", NO_KEYSETS),
    (SWAP, "inputs.0.secret", NO_TEXTS | {"other": "another", "long": "s" * 4097}),
    (SWAP, "inputs.0.C", NO_POINTS | OFF_CURVE | {"another point": "02" + GENERATOR_UNCOMPRESSED[2:66]}),
    (SWAP, "inputs.0.witness", {"number": 7, "object": {}, "long": "w" * 8193}),
    (SWAP, "outputs.0.amount", NO_AMOUNTS | {"zero": 0, "no power of two": 3, "2^62": 2**62, "2^63": 2**63}),
    (SWAP, "outputs.0.id", NO_KEYSETS),
    (SWAP, "outputs.0.B_", NO_POINTS | OFF_CURVE),
    (MINT_QUOTE, "amount", NO_AMOUNTS | {"zero": 0, "too much": 2_000_000, "2^63": 2**63}),
    (
        MINT_QUOTE,
        "unit",
        NO_TEXTS | {"empty": "", "dollars": "usd", "case": "SAT", "long": "s" * 10_000, "NUL": "sat\0"},
    ),
    (
        MINT_QUOTE,
        "description",
        {"number": 7, "object": {}, "long": "d" * 513, "NUL": "a\0b", "bell": "a\ab", "bytes": "é" * 320},
    ),
    (MINT_QUOTE, "pubkey", {**NO_POINTS, **OFF_CURVE, "null": "null", "x only": "ab" * 32}),
    (MINT, "quote", NO_QUOTES),
    (MINT, "outputs", NO_LISTS),
    (MINT, "outputs.0.amount", NO_AMOUNTS | {"zero": 0, "no power of two": 3, "2^60": 2**60, "2^63": 2**63}),
    (MINT, "outputs.0.id", NO_KEYSETS),
    (MINT, "outputs.0.B_", NO_POINTS | OFF_CURVE),
    (MINT, "signature", {"number": 7, "object": {}, "long": "a" * 257}),
    (MINT_CHECK, "quotes", NO_LISTS | {"many": ["q"] * 1001}),
    (MINT_CHECK, "quotes.0", NO_QUOTES),
    (MINT_BATCH, "quotes", NO_LISTS | {"many": ["q"] * 1001}),
    (MINT_BATCH, "quotes.1", NO_QUOTES),
    (MINT_BATCH, "quote_amounts", {"object": {}, "short": [24], "long": [24, 24, 24], "empty": []}),
    (MINT_BATCH, "quote_amounts.0", NO_AMOUNTS | {"zero": 0, "more": 25, "2^63": 2**63}),
    (MINT_BATCH, "signatures", {"object": {}, "short": [None], "of numbers": [1, 2], "of text": ["00", "00"]}),
    (MINT_BATCH, "outputs.0.amount", NO_AMOUNTS | {"zero": 0}),
    (MELT_QUOTE, "request", NO_TEXTS | {"empty": "", "long": "lnbcrt1" + "q" * 10_000}),
    (MELT_QUOTE, "unit", NO_TEXTS | {"empty": "", "dollars": "usd", "case": "Sat"}),
    (MELT_QUOTE, "options", {"number": 7, "text": "amountless", "array": []}),
    (MELT_QUOTE, "options.amountless", {"number": 7, "empty": {}}),
    (MELT_QUOTE, "options.amountless.amount_msat", NO_AMOUNTS | {"zero": 0, "other amount": 11_000, "2^63": 2**63}),
    (MELT_QUOTE, "options.mpp.amount", NO_AMOUNTS | {"zero": 0, "more than all": 10_001}),
    (MELT, "quote", NO_QUOTES),
    (MELT, "inputs", NO_LISTS),
    (MELT, "inputs.0.amount", NO_AMOUNTS | {"zero": 0, "other amount": 16}),
    (MELT, "inputs.0.id", NO_KEYSETS),
    (MELT, "inputs.0.secret", NO_TEXTS | {"other": "another"}),
    (MELT, "inputs.0.C", NO_POINTS | OFF_CURVE),
    (MELT, "outputs", {name: value for name, value in NO_LISTS.items() if name not in ("null", "empty")}),
    (MELT, "outputs.0.amount", NO_AMOUNTS),
    (MELT, "outputs.0.id", NO_KEYSETS),
    (MELT, "outputs.0.B_", NO_POINTS | OFF_CURVE),
    (MELT, "prefer_async", {"text": "true", "one": 1, "zero": 0, "empty": "", "array": []}),
    (CHECK_STATE, "Ys", {name: value for name, value in NO_LISTS.items() if name != "empty"}),
    (CHECK_STATE, "Ys.0", NO_POINTS | NO_FORM),
    (RESTORE, "outputs", {name: value for name, value in NO_LISTS.items() if name != "empty"}),
    (RESTORE, "outputs.0.B_", NO_POINTS),
    (RESTORE, "outputs.0.id", NO_TEXTS),
)


@pytest.mark.parametrize(
    ("path", "field", "value"),
    [
        pytest.param(path, field, value, id=f"{path} {field} {name}")
        for path, field, values in FIELDS
        for name, value in values.items()
    ],
)
def test_a_request_with_one_bad_value_is_refused(target: Target, path: str, field: str, value: Any) -> None:
    target.post(path, changed(target.good[path], field, value))


@pytest.mark.parametrize("value", ["\ud800", "a\udfffb", "\udc00\ud800"], ids=["high", "inside", "reversed"])
@pytest.mark.parametrize(
    ("path", "field"),
    [
        (SWAP, "inputs.0.secret"),
        (SWAP, "inputs.0.C"),
        (MINT_QUOTE, "description"),
        (MINT_QUOTE, "unit"),
        (MINT, "quote"),
        (MELT_QUOTE, "request"),
        (MELT, "inputs.0.witness"),
        (RESTORE, "outputs.0.B_"),
    ],
)
def test_lone_surrogates_are_refused(target: Target, path: str, field: str, value: str) -> None:
    target.post(path, changed(target.good[path], field, value))


@pytest.mark.parametrize(
    ("path", "field"),
    [
        (path, field)
        for path, fields in {
            SWAP: ("inputs", "outputs", "inputs.0.amount", "inputs.0.id", "inputs.0.secret", "inputs.0.C"),
            MINT_QUOTE: ("amount", "unit"),
            MINT: ("quote", "outputs", "outputs.0.amount", "outputs.0.id", "outputs.0.B_"),
            MINT_CHECK: ("quotes",),
            MINT_BATCH: ("quotes", "outputs"),
            MELT_QUOTE: ("request", "unit"),
            MELT: ("quote", "inputs", "outputs.0.B_"),
            CHECK_STATE: ("Ys",),
            RESTORE: ("outputs", "outputs.0.B_"),
        }.items()
        for field in fields
    ],
)
def test_a_request_without_a_field_that_it_needs_is_refused(target: Target, path: str, field: str) -> None:
    body = copy.deepcopy(target.good[path])
    at: Any = body
    *parents, last = [int(part) if part.isdigit() else part for part in field.split(".")]
    for part in parents:
        at = at[part]
    del at[last]
    target.post(path, body)
