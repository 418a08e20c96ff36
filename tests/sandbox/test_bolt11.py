"""Invoices as strings; what is expected here is what a real node's `decode` says."""

from __future__ import annotations

import coincurve
import pytest

from contrib.sandbox import SandboxNode, bolt11
from tests.sandbox.conftest import failure

COFFEE = (
    "lnbc2500u1pvjluezsp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygspp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqs"
    "yqcyq5rqwzqfqypqdq5xysxxatsyp3k7enxv4jsxqzpu9qrsgquk0rl77nj30yxdy8j9vdx85fkpmdla2087ne0xh8nhedh8w27kyke0lp53ut35"
    "3s06fv3qfegext0eh0ymjpf39tuven09sam30g4vgpfna3rh"
)


def test_decodes_an_example_of_the_specification() -> None:
    assert bolt11.decode(COFFEE).to_json() == {
        "type": "bolt11 invoice",
        "currency": "bc",
        "created_at": 1496314658,
        "expiry": 60,
        "payee": "03e7156ae33b0a208d0744199163177e909e80176e55d97a2f221ede0f934dd9ad",
        "amount_msat": 250000000,
        "description": "1 cup coffee",
        "min_final_cltv_expiry": 18,
        "payment_secret": "11" * 32,
        "features": "4100",
        "payment_hash": "0001020304050607080900010203040506070809000102030405060708090102",
        "signature": "3045022100e59e3ffbd3945e4334879158d31e89b076dff54f3fa7979ae79df2db9dcaf5890220"
        "6cbfe1a478b8d2307e92c88139464cb7e6ef26e414c4abe33337961ddc5e8ab1",
        "valid": True,
    }


@pytest.mark.parametrize("amount_msat", [None, 1, 10, 21, 1000, 100_000, 123_456_789, 500_000_000_000])
@pytest.mark.parametrize("description", ["", "plain", "grüße €", "x" * 639])
def test_reads_what_it_writes(amount_msat: int | None, description: str) -> None:
    key = coincurve.PrivateKey(b"\x01" * 32)
    written = bolt11.Invoice(
        currency="bcrt",
        created_at=1_700_000_000,
        payment_hash="22" * 32,
        payment_secret="33" * 32,
        amount_msat=amount_msat,
        description=description,
        expiry_s=86_400,
        min_final_cltv=10,
    )
    read = bolt11.decode(bolt11.encode(written, key))
    assert read.payee == key.public_key.format().hex()
    assert (read.amount_msat, read.description) == (amount_msat, description)
    assert (read.payment_hash, read.payment_secret) == (written.payment_hash, written.payment_secret)
    assert (read.created_at, read.expires_at, read.min_final_cltv) == (1_700_000_000, 1_700_086_400, 10)
    assert read.features == bolt11.FEATURES


def test_upper_case_and_scheme_are_accepted(node: SandboxNode) -> None:
    assert node.rpc("decode", string="LIGHTNING:" + COFFEE.upper())["amount_msat"] == 250_000_000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("junk", "string: Unparsable string: invalid token '\"junk\"'"),
        ("ln", "string: Unparsable string: invalid token '\"ln\"'"),
        ("", "string: Unparsable string: invalid token '\"\"'"),
        ("lnbcrt1xyz", "string: Bad bech32 string: invalid token '\"lnbcrt1xyz\"'"),
    ],
)
def test_junk_is_refused_as_by_a_real_node(node: SandboxNode, text: str, message: str) -> None:
    error = failure(node, "decode", string=text)
    assert (error.code, error.message) == (-32602, message)


def test_a_changed_character_breaks_the_checksum(node: SandboxNode) -> None:
    broken = COFFEE[:40] + ("q" if COFFEE[40] != "q" else "p") + COFFEE[41:]
    assert failure(node, "decode", string=broken).code == -32602
