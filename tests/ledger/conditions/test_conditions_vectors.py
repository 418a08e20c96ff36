"""The vectors of NUT-11 and NUT-14, and those of NUT-29 that concern the ledger."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from ledger import conditions
from ledger.errors import Code, LedgerError
from ledger.models import BlindedMessage, MintBatchRequest, MintQuoteCheckRequest, Proof
from ledger.operations.mint import NewMintQuote
from tests.ledger.conditions.helpers import htlc, malformed, p2pk, sig_all_message, swap_of, witness
from tests.ledger.conditions.helpers import lock as locked_proofs
from tests.ledger.helpers import METHOD, NOW, Mint, Wallet, done, messages, refused, unblind, vectors

NUT11 = vectors("nut11")
NUT14 = vectors("nut14")
NUT29 = vectors("nut29")
TRANSACTIONS = NUT11["sig_all_transactions"] + NUT14["sig_all_transactions"]
OTHER_METHOD = "bolt12"


def name(vector: dict[str, Any]) -> str:
    return str(vector["name"])


def case(wanted: str) -> dict[str, Any]:
    found: dict[str, Any] = next(entry for entry in NUT29["cases"] if entry["name"] == wanted)
    return found


def verdict(proofs: list[Proof], outputs: list[BlindedMessage], quote_id: str = "") -> Code | None:
    """The vectors' proofs are of nobody's keyset: only their conditions are judged."""
    try:
        conditions.require_met(proofs, outputs, NOW, quote_id)
    except LedgerError as error:
        return error.code
    return None


# --- NUT-11, NUT-14 ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", NUT11["sig_inputs_proofs"], ids=name)
def test_proof_with_its_own_signatures(vector: dict[str, Any]) -> None:
    found = verdict([Proof.model_validate(vector["proof"])], [])
    assert found == (None if vector["expect"] == "valid" else Code.SIGNATURE_INVALID)


@pytest.mark.parametrize("vector", TRANSACTIONS, ids=name)
def test_transaction_signed_as_a_whole(vector: dict[str, Any]) -> None:
    request = vector["request"]
    proofs = [Proof.model_validate(entry) for entry in request["inputs"]]
    outputs = [BlindedMessage.model_validate(entry) for entry in request["outputs"]]
    quote_id = request.get("quote", "")
    message = sig_all_message(proofs, outputs, quote_id)
    assert message.decode() == vector["msg_to_sign"]
    assert hashlib.sha256(message).hexdigest() == vector["msg_sha256"]
    refusals = {"swap_sig_all_tags_differ": Code.PROOF_INVALID}
    expected = None if vector["expect"] == "valid" else refusals.get(vector["name"], Code.SIGNATURE_INVALID)
    assert verdict(proofs, outputs, quote_id) == expected


@pytest.mark.parametrize("vector", [v for v in TRANSACTIONS if v["kind"] == "melt"], ids=name)
def test_a_signature_for_a_melt_is_of_no_use_for_another_quote_or_a_swap(vector: dict[str, Any]) -> None:
    proofs = [Proof.model_validate(entry) for entry in vector["request"]["inputs"]]
    outputs = [BlindedMessage.model_validate(entry) for entry in vector["request"]["outputs"]]
    for quote_id in ("", vector["request"]["quote"] + "x"):
        assert verdict(proofs, outputs, quote_id) == Code.SIGNATURE_INVALID


@pytest.mark.parametrize("pair", NUT14["hash_preimage"], ids=lambda pair: str(pair["sha256"])[:8])
def test_preimage_of_the_text(mint: Mint, alice: Wallet, pair: dict[str, str]) -> None:
    (proof,) = locked_proofs(mint, alice, htlc(data=pair["sha256"]))
    swap_of(mint, alice, [proof]).run(witness(preimage=pair["preimage"]))


@pytest.mark.parametrize("twin", NUT11["equal_keys"]["keys"])
@pytest.mark.parametrize("pathway", ["main", "refund"])
def test_equal_keys_are_one_key(mint: Mint, alice: Wallet, twin: str, pathway: str) -> None:
    key = NUT11["equal_keys"]["keys"][0]
    tag = ["pubkeys", twin] if pathway == "main" else ["refund", key, twin]
    (proof,) = locked_proofs(mint, alice, p2pk(key, tag))
    with malformed(mint):
        swap_of(mint, alice, [proof]).run(witness())


# --- NUT-29 -----------------------------------------------------------------------------------------------------------


class Batch:
    """Quotes with the ids of a vector, and a batch for them."""

    def __init__(self, mint: Mint, wallet: Wallet) -> None:
        self.mint = mint
        self.wallet = wallet

    def quote(self, quote_id: str, amount: int, method: str = METHOD, pubkey: str | None = None) -> None:
        """A quote; a bolt11 one is paid."""
        new = NewMintQuote(quote_id, method, "sat", f"invoice of {quote_id}", amount, None, pubkey)
        done(self.mint.ledger.create_mint_quote(new))
        if method == METHOD:
            self.mint.pay(quote_id, amount * 1000)

    def request(self, vector: dict[str, Any]) -> MintBatchRequest:
        """The vector's request, with outputs of our keyset in place of its placeholders."""
        drawn = self.wallet.draw_all(self.mint.keyset(), [output["amount"] for output in vector["outputs"]])
        return MintBatchRequest.model_validate(vector | {"outputs": [m.model_dump() for m in messages(drawn)]})

    def issue(self, request: MintBatchRequest) -> Future[Any]:
        """`POST /v1/mint/bolt11/batch`."""
        return self.mint.ledger.issue_batch(METHOD, request)


@pytest.fixture
def batch(mint: Mint, alice: Wallet) -> Batch:
    return Batch(mint, alice)


def test_successful_batch_mint(batch: Batch, mint: Mint, alice: Wallet) -> None:
    vector = case("successful_batch_mint")
    for quote_id, quote in vector["setup"].items():
        batch.quote(quote_id, quote["amount"])
    drawn = alice.draw_all(mint.keyset(), [output["amount"] for output in vector["request"]["outputs"]])
    outputs = [message.model_dump() for message in messages(drawn)]
    request = MintBatchRequest.model_validate(vector["request"] | {"outputs": outputs})
    signatures = done(batch.issue(request)).signatures
    assert [signature.amount for signature in signatures] == [s["amount"] for s in vector["response"]["signatures"]]
    for each, signature in zip(drawn, signatures, strict=True):
        unblind(mint.keyset(), each, signature)
    assert {mint.now_mint_quote(quote_id).state.value for quote_id in vector["setup"]} == {"ISSUED"}


def test_check_unknown_quotes(batch: Batch, mint: Mint) -> None:
    vector = case("check_unknown_quotes")
    batch.quote(vector["request"]["quotes"][0], 5)
    with refused(mint, Code.QUOTE_REJECTED):
        mint.ledger.mint_quotes(METHOD, MintQuoteCheckRequest.model_validate(vector["request"]))


def test_unknown_quote_atomic_failure(batch: Batch, mint: Mint) -> None:
    quotes = case("unknown_quote_atomic_failure")["request_partial"]["quotes"]
    batch.quote(quotes[0], 5)
    with refused(mint, Code.QUOTE_REJECTED):
        done(batch.issue(batch.request({"quotes": quotes, "outputs": [{"amount": 4}, {"amount": 1}]})))


def _setup_nothing(_batch: Batch, _quotes: list[str]) -> None: ...


def _setup_one(batch: Batch, quotes: list[str]) -> None:
    batch.quote(quotes[0], 2)


def _setup_methods(batch: Batch, quotes: list[str]) -> None:
    batch.quote(quotes[0], 5)
    batch.quote(quotes[1], 3, OTHER_METHOD)


def _setup_two(batch: Batch, quotes: list[str]) -> None:
    for quote_id in quotes:
        batch.quote(quote_id, 1)


@pytest.mark.parametrize(
    ("wanted", "setup", "code"),
    [
        ("empty_quotes", _setup_nothing, Code.REQUEST_REJECTED),
        ("duplicate_quote_ids", _setup_one, Code.DUPLICATE_QUOTES),
        ("mixed_payment_methods", _setup_methods, Code.QUOTE_REJECTED),
        ("signature_length_mismatch", _setup_two, Code.REQUEST_REJECTED),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refused_batch(
    batch: Batch, mint: Mint, wanted: str, setup: Callable[[Batch, list[str]], None], code: Code
) -> None:
    vector = case(wanted)
    assert vector.get("error_code", code) == code
    setup(batch, vector["request"]["quotes"])
    with refused(mint, code):
        done(batch.issue(batch.request(vector["request"])))


@pytest.mark.parametrize("published", ["corrected", "as_published"])
def test_quote_signature_in_a_batch(batch: Batch, mint: Mint, published: str) -> None:
    """The vector's keyset is nobody's; the signature covers quote and points only, so ours takes its place."""
    vector = NUT29["nut20_signature"][published]
    (quote_id,) = vector["request"]["quotes"]
    outputs = [output | {"id": mint.keyset().id} for output in vector["request"]["outputs"]]
    batch.quote(quote_id, 2, pubkey=vector["pubkey"])
    request = MintBatchRequest.model_validate(vector["request"] | {"outputs": outputs})
    if published == "corrected":
        assert len(done(batch.issue(request)).signatures) == len(outputs)
    else:
        with refused(mint, Code.SIGNATURE_INVALID):
            done(batch.issue(request))
