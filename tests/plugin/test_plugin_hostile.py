"""Requests that must not be granted, or must be in spite of their looks; what is refused changes not a row."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from coincurve import PrivateKey

from contrib.sandbox import bolt11
from contrib.wallet import messages
from ledger.errors import Code
from tests.plugin.harness import Mint, Purse, running
from tests.plugin.hostile import (
    CHECK_STATE,
    MELT,
    MELT_QUOTE,
    MINT,
    MINT_BATCH,
    MINT_CHECK,
    MINT_QUOTE,
    POSTS,
    RESTORE,
    SWAP,
    Target,
    changed,
)

# --- lists --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "field", "code"),
    [
        (SWAP, "inputs", Code.TOO_MANY_INPUTS),
        (SWAP, "outputs", Code.TOO_MANY_OUTPUTS),
        (MINT, "outputs", Code.TOO_MANY_OUTPUTS),
        (MINT_BATCH, "outputs", Code.TOO_MANY_OUTPUTS),
        (MELT, "inputs", Code.TOO_MANY_INPUTS),
        (MELT, "outputs", Code.TOO_MANY_OUTPUTS),
        (CHECK_STATE, "Ys", Code.TOO_MANY_INPUTS),
        (RESTORE, "outputs", Code.TOO_MANY_OUTPUTS),
    ],
)
def test_1001_entries_are_refused(target: Target, path: str, field: str, code: Code) -> None:
    first = target.good[path][field][0]
    many = [{**first, "secret": f"s{n}"} if field == "inputs" else first for n in range(1001)]
    target.post(path, changed(target.good[path], field, many), code)


@pytest.mark.parametrize("path", [SWAP, MELT])
def test_the_same_input_twice_is_refused(target: Target, path: str) -> None:
    inputs = target.good[path]["inputs"]
    target.post(path, changed(target.good[path], "inputs", [*inputs, inputs[0]]), Code.DUPLICATE_INPUTS)


@pytest.mark.parametrize("path", [SWAP, MELT])
def test_the_same_secret_in_two_inputs_is_refused(target: Target, path: str) -> None:
    inputs = target.good[path]["inputs"]
    twin = {**inputs[0], "C": inputs[1]["C"], "amount": inputs[1]["amount"], "witness": "another"}
    target.post(path, changed(target.good[path], "inputs", [*inputs, twin]), Code.DUPLICATE_INPUTS)


@pytest.mark.parametrize("path", [SWAP, MINT, MINT_BATCH, MELT])
@pytest.mark.parametrize("form", [str, str.upper])
def test_the_same_output_twice_is_refused(target: Target, path: str, form: Callable[[str], str]) -> None:
    outputs = target.good[path]["outputs"]
    twin = {**outputs[0], "B_": form(outputs[0]["B_"])}
    target.post(path, changed(target.good[path], "outputs", [*outputs, twin]), Code.DUPLICATE_OUTPUTS)


def test_the_same_quote_twice_is_refused(target: Target) -> None:
    quote = target.good[MINT_CHECK]["quotes"][0]
    target.post(MINT_CHECK, {"quotes": [quote, quote]}, Code.DUPLICATE_QUOTES)


# --- sums ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extra", [1, -1])
def test_a_swap_that_is_not_balanced_is_refused(target: Target, extra: int) -> None:
    outputs = [m.model_dump(mode="json") for m in messages(target.purse.outputs(24 + extra))]
    target.post(SWAP, changed(target.good[SWAP], "outputs", outputs), Code.NOT_BALANCED)


def test_more_ecash_than_was_paid_for_is_refused(target: Target) -> None:
    outputs = [m.model_dump(mode="json") for m in messages(target.purse.outputs(25))]
    target.post(MINT, changed(target.good[MINT], "outputs", outputs), Code.NOT_BALANCED)


def test_a_sum_beyond_64_bits_is_refused(target: Target) -> None:
    outputs = [m.model_dump(mode="json") for m in messages(target.purse.outputs_of([2**60] * 1000))]
    target.post(MINT, changed(target.good[MINT], "outputs", outputs), Code.NOT_BALANCED)


def test_a_melt_with_too_little_is_refused(target: Target) -> None:
    inputs = target.good[MELT]["inputs"]
    target.post(MELT, changed(target.good[MELT], "inputs", inputs[1:]), Code.NOT_BALANCED)


# --- what must be accepted ----------------------------------------------------------------------------------------


def test_unknown_fields_are_accepted(target: Target) -> None:
    unknown: dict[str, Any] = {
        "x": None,
        "dleq": {"e": "0", "s": "0"},
        "p2pk_e": "02",
        "nested": [[[{}]]],
        "método": "ø",
    }
    for path in (MINT_QUOTE, MELT_QUOTE, CHECK_STATE, RESTORE, MINT_CHECK):
        assert target.mint.http.post(path, json={**target.good[path], **unknown}).status_code == 200
    purse = target.purse
    proofs = [p.model_dump(mode="json", exclude_none=True) | unknown for p in purse.fund(8)]
    outputs = [m.model_dump(mode="json") | unknown for m in messages(purse.outputs(8))]
    assert target.mint.http.post(SWAP, json={"inputs": proofs, "outputs": outputs, **unknown}).status_code == 200


def test_hex_in_upper_case_is_accepted(target: Target) -> None:
    purse = target.purse
    proofs = [p.model_dump(mode="json", exclude_none=True) | {"C": p.C.upper()} for p in purse.fund(8)]
    outputs = [m.model_dump(mode="json") | {"B_": m.B_.upper()} for m in messages(purse.outputs(8))]
    assert target.mint.http.post(SWAP, json={"inputs": proofs, "outputs": outputs}).status_code == 200
    ys = [y.upper() for y in target.good[CHECK_STATE]["Ys"]]
    assert target.mint.http.post(CHECK_STATE, json={"Ys": ys}).status_code == 200
    pubkey = target.good[MINT_QUOTE]["pubkey"].upper()
    body = changed(target.good[MINT_QUOTE], "pubkey", pubkey)
    assert target.mint.http.post(MINT_QUOTE, json=body).json()["pubkey"] == pubkey


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/octet-stream", "nonsense", "a" * 1000])
def test_the_content_type_does_not_matter(target: Target, content_type: str) -> None:
    body = json.dumps(target.good[CHECK_STATE]).encode()
    response = target.mint.http.post(CHECK_STATE, content=body, headers={"content-type": content_type})
    assert response.status_code == 200


def test_a_secret_may_be_any_text(target: Target) -> None:
    purse = target.purse
    from contrib.wallet import make_outputs, unblind

    texts = ["", "NUL \0 inside", "ünïcödé ☕ 𝔸", "line\nend", '{"json": ["like"]}', "x" * 4096, "\u202e\ufeff"]
    quote = purse.request_mint(len(texts))
    target.mint.node.pay_invoice(quote.request)
    purse.wait_credited(quote)
    outputs = make_outputs(purse.keyset, [1] * len(texts), secret_texts=texts)
    proofs = unblind(outputs, purse.client.mint(quote.quote, messages(outputs)), purse.keysets)
    assert sum(p.amount for p in purse.swap(proofs)) == len(texts)


# --- paths and methods --------------------------------------------------------------------------------------------

GETS = ("/v1/info", "/v1/keys", "/v1/keysets", "/v1/keys/00ffffffffffffff", f"{MINT_QUOTE}/x", f"{MELT_QUOTE}/x")


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND", "NONSENSE"])
@pytest.mark.parametrize("path", POSTS)
def test_another_method_than_post_is_refused(target: Target, path: str, method: str) -> None:
    target.refused(method, path)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "NONSENSE"])
@pytest.mark.parametrize("path", GETS)
def test_another_method_than_get_is_refused(target: Target, path: str, method: str) -> None:
    target.refused(method, path, content=b"{}")


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "path",
    [
        "/v1/",
        "/v1/nothing",
        "/v1/mint",
        "/v1/mint/quote",
        "/v1/mint/quote/bolt12",
        "/v1/mint/quote/bolt12/x",
        "/v1/mint/bolt12",
        "/v1/melt/quote/onchain",
        "/v1/melt/BOLT11",
        "/v1/swap/x",
        "/v1/keys/a/b",
        "/v1/%2e%2e/%2e%2e/etc/passwd",
        "/v1/swap%00",
        "/v1/" + "a" * 5000,
    ],
    ids=lambda path: path[:40],
)
def test_an_unknown_path_is_refused(target: Target, path: str, method: str) -> None:
    target.refused(method, path, content=b"{}" if method == "POST" else None)


@pytest.mark.parametrize("path", ["/x", "/pages", "/v1", "/v2/info", "/favicon.ico", "/v1swap"])
def test_a_path_outside_the_api_is_refused_in_the_same_form(target: Target, path: str) -> None:
    response = target.mint.http.get(path)
    assert response.status_code in (400, 404)
    assert set(response.json()) == {"detail", "code"}


@pytest.mark.parametrize("prefix", [f"{MINT_QUOTE}/", f"{MELT_QUOTE}/", "/v1/keys/"])
@pytest.mark.parametrize(
    "name",
    ["unknown", "%00", "%ff%fe", "%ed%a0%80", "..%2f..", "a" * 20_000, "%F0%9F%8D%95", "%27%20OR%201=1", "x?x=1", "*"],
    ids=lambda name: name[:20],
)
def test_an_unknown_quote_or_keyset_is_refused(target: Target, prefix: str, name: str) -> None:
    target.refused("GET", prefix + name)


def test_a_quote_of_one_kind_is_none_of_the_other(target: Target) -> None:
    target.refused("GET", f"{MELT_QUOTE}/{target.good[MINT]['quote']}")
    target.refused("GET", f"{MINT_QUOTE}/{target.good[MELT]['quote']}")
    target.post(MINT, changed(target.good[MINT], "quote", target.good[MELT]["quote"]))
    target.post(MELT, changed(target.good[MELT], "quote", target.good[MINT]["quote"]))


@pytest.mark.parametrize(
    "value", ["respond-async", "RESPOND-ASYNC, wait=10", "", ";;;,,,", "a" * 5000, "respond-async=x"]
)
def test_any_prefer_header_is_read_or_ignored(target: Target, value: str) -> None:
    target.refused("POST", MELT, content=b"{}", headers={"prefer": value})


# --- invoices -----------------------------------------------------------------------------------------------------


def foreign(currency: str) -> str:
    """An invoice of another network, in every other way a good one."""
    invoice = bolt11.Invoice(
        currency=currency,
        created_at=int(time.time()),
        payment_hash="ab" * 32,
        payment_secret="cd" * 32,
        amount_msat=10_000,
        description="foreign",
        expiry_s=3600,
        min_final_cltv=10,
    )
    return bolt11.encode(invoice, PrivateKey())


OFFER = (
    "lno1qgsqvgnwgcg35z6ee2h3yczraddm72xrfua9uve2rlrm9deu7xyfzrcgqyqs5pr5v4"
    "ehg93pqfnwgkvdr57yzh6h92zg3qctvrm7w38djg67kzcm4yeg8vc4cq63s"
)


@pytest.mark.parametrize(
    "request_",
    [
        "junk",
        "lnbcrt1junk",
        "lnbcrt1" + "q" * 200,
        foreign("bc"),
        foreign("tb"),
        OFFER,
        "  ",
        "\0",
        "lnbcrt\0",
        "☕" * 100,
        "bitcoin:bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080",
        "lightning:",
        "a" * 8192,
    ],
    ids=lambda text: repr(text[:12]),
)
def test_what_is_no_invoice_of_this_network_is_refused(target: Target, request_: str) -> None:
    answer = target.post(MELT_QUOTE, {"request": request_, "unit": "sat"}, Code.QUOTE_REJECTED)
    assert "token" not in answer.json()["detail"]  # the node's words have the whole request in them


def test_an_invoice_with_a_wrong_checksum_is_refused(target: Target) -> None:
    text = str(target.mint.invoice())
    wrong = text[:-1] + ("q" if text[-1] != "q" else "p")
    target.post(MELT_QUOTE, {"request": wrong, "unit": "sat"}, Code.QUOTE_REJECTED)


def test_an_expired_invoice_is_refused(target: Target) -> None:
    expired = target.mint.node.outside_invoice(1000, created_at=int(time.time()) - 100, expiry_s=10)
    target.post(MELT_QUOTE, {"request": str(expired), "unit": "sat"}, Code.QUOTE_EXPIRED)


def test_an_invoice_above_the_limit_is_refused(target: Target) -> None:
    large = target.mint.invoice(1_000_001)
    target.post(MELT_QUOTE, {"request": str(large), "unit": "sat"}, Code.AMOUNT_OUTSIDE_LIMITS)


def test_a_part_of_an_amountless_invoice_is_refused(target: Target) -> None:
    body = {"request": str(target.mint.node.outside_invoice(None)), "unit": "sat", "options": {"mpp": {"amount": 5000}}}
    target.post(MELT_QUOTE, body)


# --- a mint without upper limits ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def limitless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A mint whose operator has set no maximum."""
    with running(Mint(tmp_path_factory.mktemp("limitless"), units="sat,msat", max_mint=0, max_melt=0)) as mint:
        yield Target(mint, Purse(mint), {})


ALL_BITCOIN_MSAT = 2_100_000_000_000_000_000


@pytest.mark.parametrize("amount_msat", [ALL_BITCOIN_MSAT + 1000, 2**62, 2**63 - 1, 2**63])
@pytest.mark.parametrize(("unit", "per_unit"), [("sat", 1000), ("msat", 1)])
def test_without_a_maximum_amounts_beyond_all_bitcoin_are_still_refused(
    limitless: Target, amount_msat: int, unit: str, per_unit: int
) -> None:
    code = Code.AMOUNT_OUTSIDE_LIMITS
    limitless.post(MINT_QUOTE, {"amount": amount_msat // per_unit, "unit": unit}, code)
    limitless.post(MINT_QUOTE, {"amount": amount_msat, "unit": unit}, code)
    anything = str(limitless.mint.node.outside_invoice(None))
    options = {"amountless": {"amount_msat": amount_msat}}
    limitless.post(MELT_QUOTE, {"request": anything, "unit": unit, "options": options}, code)
    limitless.mint.check()


# --- logs ---------------------------------------------------------------------------------------------------------


def test_nothing_of_a_bad_request_is_logged(target: Target) -> None:
    position = target.mint.node.log_position
    marker = "do-not-log-this-secret"
    inputs = [{**target.good[SWAP]["inputs"][0], "secret": marker}]
    target.post(SWAP, changed(target.good[SWAP], "inputs", inputs))
    target.refused("GET", f"{MINT_QUOTE}/{marker}")
    target.refused("POST", SWAP, content=f'{{"{marker}'.encode())
    said = [str(line) for line in target.mint.node.log(since=position)]
    assert not [line for line in said if re.search(marker, line)]
