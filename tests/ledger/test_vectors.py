"""The NUTs' test vectors, as far as they concern a mint's ledger.

Left out, because only wallets do it: tokens of NUT-00 (`token_*`), the count of blank outputs of NUT-08, NUT-13,
NUT-18, NUT-26, NUT-27 and NUT-28. NUT-11, NUT-14, NUT-17 and the batch cases of NUT-29 are not for this file.
"""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from coincurve import PrivateKey, PublicKey

from ledger import curve
from ledger.curve import Dleq
from ledger.errors import Code, LedgerError
from ledger.keysets import input_fee, keyset_id_v1, keyset_id_v2
from ledger.models import MintRequest
from ledger.operations.mint import Signable, require_signature, signed_message, signed_message_legacy
from ledger.units import split
from tests.ledger.helpers import Mint, Wallet, unblind, vectors

NUT00 = vectors("nut00")
NUT01 = vectors("nut01")
NUT02 = vectors("nut02")
NUT08 = vectors("nut08")
NUT12 = vectors("nut12")
NUT20 = vectors("nut20")
NUT29 = vectors("nut29")
ERROR_CODES = vectors("error_codes")

MEANINGS = {
    Code.PROOF_INVALID: "Proof verification failed",
    Code.PROOFS_SPENT: "Proofs already spent",
    Code.PROOFS_PENDING: "Proofs are pending",
    Code.OUTPUTS_SIGNED: "Outputs already signed",
    Code.OUTPUTS_PENDING: "Outputs are pending",
    Code.NOT_BALANCED: "Transaction is not balanced (inputs != outputs)",
    Code.AMOUNT_OUTSIDE_LIMITS: "Amount outside of limit range",
    Code.DUPLICATE_INPUTS: "Duplicate inputs provided",
    Code.DUPLICATE_OUTPUTS: "Duplicate outputs provided",
    Code.SEVERAL_UNITS: "Inputs/Outputs of multiple units",
    Code.UNITS_DIFFER: "Inputs and outputs not of same unit",
    Code.AMOUNTLESS_UNSUPPORTED: "Amountless invoice is not supported",
    Code.AMOUNT_MISMATCH: "Amount in request does not equal invoice",
    Code.UNIT_UNSUPPORTED: "Unit in request is not supported",
    Code.TOO_MANY_INPUTS: "Max inputs exceeded",
    Code.TOO_MANY_OUTPUTS: "Max outputs exceeded",
    Code.DUPLICATE_QUOTES: "Duplicate quote IDs provided",
    Code.BATCH_TOO_LARGE: "Max batch size exceeded",
    Code.KEYSET_UNKNOWN: "Keyset is not known",
    Code.KEYSET_INACTIVE: "Keyset is inactive, cannot sign messages",
    Code.KEYSET_EXPIRED: "Keyset has expired",
    Code.QUOTE_NOT_PAID: "Quote request is not paid",
    Code.QUOTE_ISSUED: "Quote has already been issued",
    Code.MINTING_DISABLED: "Minting is disabled",
    Code.PAYMENT_FAILED: "Lightning payment failed",
    Code.QUOTE_PENDING: "Quote is pending",
    Code.INVOICE_PAID: "Invoice already paid",
    Code.QUOTE_EXPIRED: "Quote is expired",
    Code.SIGNATURE_INVALID: "Signature for mint request invalid",
    Code.PUBKEY_INVALID: "Pubkey required for mint quote",
}
UNASSIGNED = {Code.REQUEST_REJECTED, Code.TRANSACTION_REJECTED, Code.QUOTE_REJECTED}
FIRST_AUTH_CODE = 30000


def name(vector: dict[str, Any]) -> str:
    return str(vector.get("name", ""))


def unhex(keys: dict[str, str]) -> dict[int, bytes]:
    return {int(amount): bytes.fromhex(key) for amount, key in keys.items()}


# --- error_codes ------------------------------------------------------------------------------------------------


def test_every_assigned_error_code_is_known_and_means_what_the_table_says() -> None:
    table = {entry["code"]: entry["description"] for entry in ERROR_CODES["codes"] if entry["code"] < FIRST_AUTH_CODE}
    assert {int(code): meaning for code, meaning in MEANINGS.items()} == table


def test_a_code_outside_the_table_is_one_of_the_three_rejections() -> None:
    assert set(Code) - set(MEANINGS) == UNASSIGNED


# --- NUT-00 -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", NUT00["hash_to_curve"], ids=name)
def test_hash_to_curve(vector: dict[str, Any]) -> None:
    assert curve.hash_to_curve(bytes.fromhex(vector["message_hex"])).hex() == vector["point"]


@pytest.mark.parametrize("vector", NUT00["blinded_messages"], ids=name)
def test_blinded_message(vector: dict[str, Any]) -> None:
    y = PublicKey(curve.hash_to_curve(bytes.fromhex(vector["x_hex"])))
    r = PrivateKey(bytes.fromhex(vector["r"])).public_key
    assert PublicKey.combine_keys([y, r]).format().hex() == vector["B_"]


@pytest.mark.parametrize("vector", NUT00["blind_signatures"], ids=name)
def test_blind_signature(vector: dict[str, Any]) -> None:
    signature = curve.sign(bytes.fromhex(vector["mint_private_key"]), bytes.fromhex(vector["B_"]))
    assert signature.c_.hex() == vector["C_"]


@pytest.mark.parametrize("vector", NUT00["derived_roundtrip"]["vectors"], ids=name)
def test_round_trip_from_secret_to_proof(vector: dict[str, Any]) -> None:
    private_key, r = bytes.fromhex(vector["mint_private_key"]), bytes.fromhex(vector["r"])
    key = curve.public_key(private_key)
    b_ = curve.blind(vector["secret"], r)
    c_ = curve.sign(private_key, b_).c_
    c = curve.unblind(c_, r, key)
    y = curve.hash_to_curve(vector["secret"].encode())
    found = {"Y": y, "K": key, "B_": b_, "C_": c_, "C": c}
    assert {field: point.hex() for field, point in found.items()} == {field: vector[field] for field in found}
    assert curve.verify(private_key, y, c)


# --- NUT-01 -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", NUT01["valid"], ids=name)
def test_valid_keys_are_points(vector: dict[str, Any]) -> None:
    keys = unhex(vector["keys"])
    assert {amount: curve.parse_point(key).format() for amount, key in keys.items()} == keys


@pytest.mark.parametrize("vector", NUT01["invalid"], ids=name)
def test_an_invalid_key_is_no_point(vector: dict[str, Any]) -> None:
    def parses(key: bytes) -> bool:
        try:
            curve.parse_point(key)
        except ValueError:
            return False
        return True

    bad = [amount for amount, key in unhex(vector["keys"]).items() if not parses(key)]
    assert bad == [int(vector["name"].split("_")[1])]


# --- NUT-02 -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", NUT02["keyset_id_v1"], ids=name)
def test_keyset_id_v1(vector: dict[str, Any]) -> None:
    assert keyset_id_v1(unhex(vector["keys"])) == vector["keyset_id"]


@pytest.mark.parametrize("vector", NUT02["keyset_id_v2"], ids=name)
def test_keyset_id_v2(vector: dict[str, Any]) -> None:
    keys = dict(reversed(unhex(vector["keys"]).items()))
    found = keyset_id_v2(keys, vector["unit"].upper(), vector["input_fee_ppk"], vector["final_expiry"])
    assert found == vector["keyset_id"]


@pytest.mark.parametrize("vector", NUT02["fees"]["vectors"], ids=lambda vector: str(vector["inputs_ppk"]))
def test_input_fee(vector: dict[str, Any]) -> None:
    assert input_fee(vector["inputs_ppk"]) == vector["fee"]


# --- NUT-08 -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", NUT08["change_split"], ids=lambda vector: str(vector["overpaid"]))
def test_overpaid_amount_is_split_into_powers_of_two(vector: dict[str, Any]) -> None:
    assert split(vector["overpaid"]) == vector["amounts"]


def test_change_of_the_example_melt(mint: Mint, alice: Wallet) -> None:
    example, expected = NUT08["example"], NUT08["change_split"][0]
    proofs = mint.fund(alice, *split(example["inputs"]))
    blanks = alice.blanks(mint.keyset(), expected["blank_outputs"])
    quote = mint.melt_quote(example["amount"], example["fee_reserve"])
    settled = mint.settle(mint.begin(quote.quote, proofs, blanks), fee_msat=example["actual_fee"] * 1000)
    assert settled.change is not None
    assert [signature.amount for signature in settled.change] == expected["amounts"]
    assert len(settled.change) == expected["signatures_returned"]
    change = [unblind(mint.keyset(), *pair) for pair in zip(blanks, settled.change, strict=False)]
    assert sum(proof.amount for proof in change) == example["overpaid"]


# --- NUT-12 -----------------------------------------------------------------------------------------------------


def uncompressed(point: str) -> bytes:
    return PublicKey(bytes.fromhex(point)).format(compressed=False)


@pytest.mark.parametrize("vector", NUT12["hash_e"])
def test_dleq_challenge(vector: dict[str, Any]) -> None:
    points = [uncompressed(vector[point]) for point in ("R1", "R2", "K", "C_")]
    assert curve.dleq_challenge(*points).hex() == vector["hash"]


@pytest.mark.parametrize("vector", NUT12["deterministic"])
def test_dleq_is_deterministic(vector: dict[str, Any]) -> None:
    private_key = bytes.fromhex(vector["a"])
    points = [uncompressed(vector[point]) for point in ("A", "B_", "C_")]
    assert curve.dleq_nonce(private_key, *points).hex() == vector["r_computed"]
    signature = curve.sign(private_key, PublicKey(points[1]).format())
    assert (signature.c_.hex(), signature.dleq.e.hex(), signature.dleq.s.hex()) == (
        vector["C_"],
        vector["e"],
        vector["s"],
    )


@pytest.mark.parametrize("vector", NUT12["blind_signature"])
def test_dleq_of_a_blind_signature(vector: dict[str, Any]) -> None:
    signature = vector["blind_signature"]
    dleq = Dleq(bytes.fromhex(signature["dleq"]["e"]), bytes.fromhex(signature["dleq"]["s"]))
    a, b_, c_ = (bytes.fromhex(point) for point in (vector["A"], vector["B_"], signature["C_"]))
    assert curve.verify_dleq(a, b_, c_, dleq) is (vector["expect"] == "valid")


@pytest.mark.parametrize("vector", NUT12["proof"])
def test_dleq_of_a_proof(vector: dict[str, Any]) -> None:
    proof, a = vector["proof"], PublicKey(bytes.fromhex(vector["A"]))
    r = bytes.fromhex(proof["dleq"]["r"])
    b_ = curve.blind(proof["secret"], r)
    c_ = PublicKey.combine_keys([PublicKey(bytes.fromhex(proof["C"])), a.multiply(r)]).format()
    dleq = Dleq(bytes.fromhex(proof["dleq"]["e"]), bytes.fromhex(proof["dleq"]["s"]))
    assert curve.verify_dleq(a.format(), b_, c_, dleq) is (vector["expect"] == "valid")


# --- NUT-20 -----------------------------------------------------------------------------------------------------


def accepts(request: MintRequest, pubkey: str) -> bool:
    try:
        require_signature(request.quote, pubkey, request.signature, Signable(request.outputs))
    except LedgerError as error:
        if error.code is not Code.SIGNATURE_INVALID:
            raise
        return False
    return True


@pytest.mark.parametrize("vector", NUT20["vectors"], ids=name)
def test_quote_signature_over_the_older_message(vector: dict[str, Any]) -> None:
    request = MintRequest.model_validate(vector["request"])
    message = signed_message_legacy(request.quote, request.outputs)
    assert message.decode() == vector["msg_to_sign"]
    if "msg_sha256" in vector:
        assert hashlib.sha256(message).hexdigest() == vector["msg_sha256"]
    assert accepts(request, vector["pubkey"]) is (vector["expect"] == "valid")


@pytest.mark.parametrize("vector", NUT20["amended_message"]["vectors"], ids=name)
def test_quote_signature_over_the_amended_message(vector: dict[str, Any]) -> None:
    request = MintRequest.model_validate(vector)
    message = signed_message(request.quote, request.outputs)
    assert message.hex() == vector["msg_to_sign_hex"]
    assert hashlib.sha256(message).hexdigest() == vector["msg_sha256"]
    assert accepts(request, vector["pubkey"]) is (vector["expect"] == "valid")
    assert not accepts(request.model_copy(update={"quote": "another quote"}), vector["pubkey"])


@pytest.mark.parametrize("published", ["corrected", "as_published"])
def test_quote_signature_of_the_batch_vector(published: str) -> None:
    vector = NUT29["nut20_signature"][published]
    (quote,), (signature,) = vector["request"]["quotes"], vector["request"]["signatures"]
    request = MintRequest(quote=quote, outputs=vector["request"]["outputs"], signature=signature)
    assert accepts(request, vector["pubkey"]) is (published == "corrected")
