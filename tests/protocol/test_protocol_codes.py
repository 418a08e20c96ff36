"""Every error code of the NUTs that this mint can give, given over HTTP."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from contrib.sandbox import Behaviour
from contrib.wallet import WalletProof
from tests.plugin.harness import Melt, Mint, Purse, wait_for
from tests.protocol.helpers import code_of, fresh_outputs, ok, paid_quote, swap_body, wire, wire_outputs

OPTIONS = {"units": "sat,msat", "min_mint": 0, "max_mint": 100_000}

TABLE = {
    entry["code"]: entry["description"]
    for entry in json.loads((Path(__file__).parents[1] / "vectors" / "error_codes.json").read_text())["codes"]
}
IMPOSSIBLE = {
    20003: "minting can't be disabled",
    30001: "there is no clear auth (NUT-21)",
    30002: "there is no clear auth (NUT-21)",
    31001: "there is no blind auth (NUT-22)",
    31002: "there is no blind auth (NUT-22)",
    31003: "there is no blind auth (NUT-22)",
    31004: "there is no blind auth (NUT-22)",
}
TOO_MANY = 1001
TOO_MANY_QUOTES = 101
UNKNOWN_KEYSET = "01" + "5a" * 32


class Scene:
    """A mint, and purses for its two units."""

    def __init__(self, mint: Mint) -> None:
        self.mint = mint
        self.purse = Purse(mint)
        self.msat = Purse(mint, "msat")

    def swap(self, inputs: list[Any], outputs: list[Any]) -> httpx.Response:
        return self.mint.http.post("/v1/swap", json={"inputs": inputs, "outputs": outputs})

    def quote_mint(self, **body: Any) -> httpx.Response:
        return self.mint.http.post("/v1/mint/quote/bolt11", json={"amount": 8, "unit": "sat"} | body)

    def quote_melt(self, request: str, **body: Any) -> httpx.Response:
        return self.mint.http.post("/v1/melt/quote/bolt11", json={"request": request, "unit": "sat"} | body)

    def issue(self, quote: str, outputs: list[Any], **body: Any) -> httpx.Response:
        return self.mint.http.post("/v1/mint/bolt11", json={"quote": quote, "outputs": outputs} | body)

    def batch(self, quotes: list[str], outputs: list[Any]) -> httpx.Response:
        return self.mint.http.post("/v1/mint/bolt11/batch", json={"quotes": quotes, "outputs": outputs})

    def melt(self, melt: Melt) -> httpx.Response:
        return self.mint.http.post("/v1/melt/bolt11", json=melt.body)

    def proof(self, purse: Purse | None = None) -> WalletProof:
        (proof,) = (purse or self.purse).fund(8)
        return proof

    def outputs(self, *amounts: int, keyset_id: str | None = None) -> list[Any]:
        return wire_outputs(fresh_outputs(self.purse, amounts or (8,), keyset_id))

    def finish(self, melt: Melt) -> None:
        """Let a held payment fail."""
        self.mint.node.release(str(melt.invoice), ok=False)
        self.purse.assert_failed(melt)

    def rotate(self, **options: Any) -> Purse:
        """A purse of a new keyset."""
        self.mint.node.rpc("cashu-rotate", unit="sat", **options)
        return Purse(self.mint)


def proof_verification_failed(scene: Scene) -> httpx.Response:
    other = scene.proof()
    return scene.swap(wire([scene.proof()], C=other.C), scene.outputs())


def proofs_already_spent(scene: Scene) -> httpx.Response:
    proof = scene.proof()
    ok(scene.swap(wire([proof]), scene.outputs()))
    answer = scene.swap(wire([proof]), scene.outputs())
    assert "already spent" in answer.json()["detail"]
    return answer


def proofs_are_pending(scene: Scene) -> httpx.Response:
    held = scene.purse.hold()
    answer = scene.mint.http.post("/v1/swap", json=swap_body(scene.purse, held.inputs))
    scene.finish(held)
    return answer


def outputs_already_signed(scene: Scene) -> httpx.Response:
    outputs = scene.outputs()
    ok(scene.issue(paid_quote(scene.purse, 8), outputs))
    answer = scene.swap(wire([scene.proof()]), outputs)
    assert "outputs have already been signed before" in answer.json()["detail"]
    return answer


def outputs_are_pending(scene: Scene) -> httpx.Response:
    held = scene.purse.hold()
    answer = scene.swap(wire([scene.proof()]), wire_outputs(held.blanks[:1], amount=8))
    scene.finish(held)
    return answer


def transaction_is_not_balanced(scene: Scene) -> httpx.Response:
    return scene.swap(wire([scene.proof()]), scene.outputs(4))


def amount_outside_of_limits(scene: Scene) -> httpx.Response:
    return scene.quote_mint(amount=100_001)


def duplicate_inputs(scene: Scene) -> httpx.Response:
    return scene.swap(wire([scene.proof()]) * 2, scene.outputs(16))


def duplicate_outputs(scene: Scene) -> httpx.Response:
    return scene.swap(wire([scene.proof()]), scene.outputs(4) * 2)


def several_units(scene: Scene) -> httpx.Response:
    return scene.swap(wire([scene.proof(), scene.proof(scene.msat)]), scene.outputs(16))


def units_differ(scene: Scene) -> httpx.Response:
    return scene.swap(wire([scene.proof(scene.msat)]), scene.outputs())


def amountless_invoice(scene: Scene) -> httpx.Response:
    return scene.quote_melt(scene.mint.node.outside_invoice(None).bolt11)


def amount_differs_from_the_invoice(scene: Scene) -> httpx.Response:
    return scene.quote_melt(scene.mint.invoice(100).bolt11, options={"amountless": {"amount_msat": 99_000}})


def unit_not_supported(scene: Scene) -> httpx.Response:
    return scene.quote_mint(unit="usd")


def too_many_inputs(scene: Scene) -> httpx.Response:
    (proof,) = wire([scene.proof()])
    return scene.swap([proof | {"secret": str(number)} for number in range(TOO_MANY)], scene.outputs())


def too_many_outputs(scene: Scene) -> httpx.Response:
    return scene.swap(wire([scene.proof()]), scene.outputs() * TOO_MANY)


def duplicate_quotes(scene: Scene) -> httpx.Response:
    return scene.batch([paid_quote(scene.purse, 8)] * 2, scene.outputs(16))


def batch_too_large(scene: Scene) -> httpx.Response:
    return scene.batch([f"quote {number}" for number in range(TOO_MANY_QUOTES)], scene.outputs())


def keyset_not_known(scene: Scene) -> httpx.Response:
    return scene.swap(wire([scene.proof()]), scene.outputs(keyset_id=UNKNOWN_KEYSET))


def keyset_is_inactive(scene: Scene) -> httpx.Response:
    old = scene.purse.outputs(8)
    return scene.swap(wire(scene.rotate().fund(8)), wire_outputs(old))


def keyset_has_expired(scene: Scene) -> httpx.Response:
    expiry = int(time.time()) + 2
    purse = scene.rotate(final_expiry=expiry)
    (proof,) = purse.fund(8)
    new = scene.rotate()
    wait_for(lambda: time.time() > expiry + 1, "the keyset to expire")
    return scene.swap(wire([proof]), wire_outputs(new.outputs(8)))


def quote_is_not_paid(scene: Scene) -> httpx.Response:
    return scene.issue(scene.purse.request_mint(8).quote, scene.outputs())


def quote_is_issued(scene: Scene) -> httpx.Response:
    quote = paid_quote(scene.purse, 8)
    ok(scene.issue(quote, scene.outputs()))
    return scene.issue(quote, scene.outputs())


def payment_failed(scene: Scene) -> httpx.Response:
    return scene.melt(scene.purse.prepare(scene.mint.invoice(100, Behaviour.failure())))


def quote_is_pending(scene: Scene) -> httpx.Response:
    held = scene.purse.hold()
    answer = scene.melt(scene.purse.prepare(str(held.invoice), quote=held.quote))
    scene.finish(held)
    return answer


def invoice_already_paid(scene: Scene) -> httpx.Response:
    melt = scene.purse.prepare(scene.mint.invoice(100))
    ok(scene.melt(melt))
    return scene.quote_melt(str(melt.invoice))


def quote_is_expired(scene: Scene) -> httpx.Response:
    invoice = scene.mint.invoice(100, expiry_s=3)
    melt = scene.purse.prepare(invoice)
    wait_for(lambda: time.time() > melt.quote.expiry + 1, "the quote to expire")
    return scene.melt(melt)


def signature_is_missing(scene: Scene) -> httpx.Response:
    key = scene.purse.keyset.keys[1].hex()
    return scene.issue(paid_quote(scene.purse, 8, pubkey=key), scene.outputs())


def pubkey_is_invalid(scene: Scene) -> httpx.Response:
    return scene.quote_mint(pubkey="02" + "ff" * 32)


PROVOKED: dict[int, Callable[[Scene], httpx.Response]] = {
    10001: proof_verification_failed,
    11001: proofs_already_spent,
    11002: proofs_are_pending,
    11003: outputs_already_signed,
    11004: outputs_are_pending,
    11005: transaction_is_not_balanced,
    11006: amount_outside_of_limits,
    11007: duplicate_inputs,
    11008: duplicate_outputs,
    11009: several_units,
    11010: units_differ,
    11011: amountless_invoice,
    11012: amount_differs_from_the_invoice,
    11013: unit_not_supported,
    11014: too_many_inputs,
    11015: too_many_outputs,
    11016: duplicate_quotes,
    11017: batch_too_large,
    12001: keyset_not_known,
    12002: keyset_is_inactive,
    12003: keyset_has_expired,
    20001: quote_is_not_paid,
    20002: quote_is_issued,
    20004: payment_failed,
    20005: quote_is_pending,
    20006: invoice_already_paid,
    20007: quote_is_expired,
    20008: signature_is_missing,
    20009: pubkey_is_invalid,
}


@pytest.fixture
def scene(mint: Mint) -> Iterator[Scene]:
    yield Scene(mint)
    mint.check()


@pytest.mark.parametrize(
    ("code", "provoke"), PROVOKED.items(), ids=lambda value: getattr(value, "__name__", str(value))
)
def test_the_code_is_given(scene: Scene, code: int, provoke: Callable[[Scene], httpx.Response]) -> None:
    assert code_of(provoke(scene)) == code


@pytest.mark.parametrize("code", TABLE)
def test_every_code_of_the_table_is_provoked_or_known_to_be_impossible(code: int) -> None:
    assert (code in PROVOKED) != (code in IMPOSSIBLE)


def test_no_other_code_is_claimed() -> None:
    assert {*PROVOKED, *IMPOSSIBLE} == set(TABLE)


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("/v1/swap", {}, 10000),
        ("/v1/swap", {"inputs": [], "outputs": []}, 11000),
        ("/v1/mint/bolt11", {"quote": "unknown", "outputs": []}, 20000),
        ("/v1/restore", {"outputs": [{}]}, 10000),
        ("/v1/melt/bolt11", {"quote": "unknown", "inputs": []}, 20000),
        ("/v1/melt/quote/bolt11", {"request": "lnbc1", "unit": "sat"}, 20000),
        ("/v1/checkstate", {"Ys": ["02" + "ff" * 32]}, 11000),
    ],
)
def test_what_the_table_has_no_code_for_is_a_round_number(mint: Mint, path: str, body: Any, code: int) -> None:
    assert code not in TABLE
    assert code_of(mint.http.post(path, json=body)) == code
