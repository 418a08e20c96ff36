"""Reading invoices (BOLT 11)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contrib.wallet import InvoiceError
from contrib.wallet.bolt11 import decode, looks_like_invoice
from tests.wallet.fake_mint import make_invoice

# From the examples of BOLT 11: 2500 u with an expiry of a minute.
COFFEE = (
    "lnbc2500u1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdq5xysxxatsyp3k7enxv4jsxqzpu"
    "aztrnwngzn3kdzw5hydlzf03qdgm2hdq27cqv3agm2awhz5se903vruatfhq77w3ls4evs3ch9zw97j25emudupq63nyw24cg27h2rspfj9srp"
)


def test_example() -> None:
    invoice = decode(COFFEE)
    assert invoice.network == "bc"
    assert invoice.amount_msat == 250_000_000
    assert invoice.payment_hash.hex() == "0001020304050607080900010203040506070809000102030405060708090102"
    assert invoice.created_at == 1496314658
    assert invoice.expires_at - invoice.created_at == 60
    assert decode("lightning:" + COFFEE.upper()) == invoice


@given(st.none() | st.integers(1, 10**13), st.binary(min_size=32, max_size=32))
def test_round_trip(amount_msat: int | None, preimage: bytes) -> None:
    invoice = decode(make_invoice(amount_msat, preimage))
    assert (invoice.network, invoice.amount_msat) == ("bcrt", amount_msat)
    assert invoice.is_paid_by(preimage.hex())
    assert not invoice.is_paid_by("00")
    assert not invoice.is_paid_by("no hex")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "lnbc",
        "lnbc1",
        "cashuB",
        "lno1pqps7",
        COFFEE[:-1],
        COFFEE.replace("2500u", "2500m"),
        COFFEE[:60] + COFFEE[61:],
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(InvoiceError):
        decode(text)


@given(st.text(max_size=50))
def test_garbage(text: str) -> None:
    for prefix in ("", "lnbcrt1"):
        with pytest.raises(InvoiceError):
            decode(prefix + text)


def test_fractions_of_a_msat_are_refused() -> None:
    with pytest.raises(InvoiceError):
        decode(COFFEE.replace("2500u", "2501p"))


def test_looks_like_invoice() -> None:
    assert looks_like_invoice("LIGHTNING:LNBC1…")
    assert not looks_like_invoice("0192d3c0-7e8a-7c3d-8e9f-1a2b3c4d5e6f")
