"""NUT-29 over HTTP: checking and issuing several quotes at once; and NUT-20, the locks on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import httpx
import pytest

from contrib.wallet import Output, quote_lock, unblind
from ledger.errors import Code
from ledger.models import BlindedMessage, BlindSignature
from tests.plugin.harness import Mint, Purse
from tests.protocol.helpers import QuoteKey, code_of, get, ok, paid_quote, wire_outputs

OPTIONS = {"units": "sat,msat", "min_mint": 0}
CHECK, BATCH, MINT = "/v1/mint/quote/bolt11/check", "/v1/mint/bolt11/batch", "/v1/mint/bolt11"
MAX_BATCH_SIZE = 100
ALICE, BOB = QuoteKey(7), QuoteKey(8)

Message = Callable[[str, Sequence[BlindedMessage]], bytes]
MESSAGES: dict[str, Message] = {"amended message": quote_lock.message, "older message": quote_lock.old_message}


def quote_path(quote: str) -> str:
    return f"/v1/mint/quote/bolt11/{quote}"


def states(mint: Mint, quotes: Sequence[str]) -> list[str]:
    return [quote["state"] for quote in ok(mint.http.post(CHECK, json={"quotes": list(quotes)}))]


def batch(mint: Mint, quotes: Sequence[str], outputs: Sequence[Output], **fields: Any) -> httpx.Response:
    return mint.http.post(BATCH, json={"quotes": list(quotes), "outputs": wire_outputs(outputs)} | fields)


def issue(mint: Mint, quote: str, outputs: Sequence[Output], **fields: Any) -> httpx.Response:
    return mint.http.post(MINT, json={"quote": quote, "outputs": wire_outputs(outputs)} | fields)


def sign(key: QuoteKey, message: Message, quote: str, outputs: Sequence[Output]) -> str:
    return quote_lock.sign(key.private, message(quote, [output.message for output in outputs]))


def assert_issued(purse: Purse, outputs: Sequence[Output], answer: httpx.Response) -> None:
    """The signatures belong to the outputs in their order, and are worth what they say."""
    signatures = [BlindSignature.model_validate(each) for each in ok(answer)["signatures"]]
    assert [each.amount for each in signatures] == [output.amount for output in outputs]
    purse.swap(unblind(outputs, signatures, purse.keysets))


# --- check ------------------------------------------------------------------------------------------------------------


def test_check_answers_what_get_does_in_the_order_of_the_request(mint: Mint, purse: Purse) -> None:
    paid, unpaid, issued = paid_quote(purse, 5), purse.request_mint(6).quote, paid_quote(purse, 7, pubkey=None)
    issue(mint, issued, purse.outputs(7))
    for order in ([paid, unpaid, issued], [issued, unpaid, paid], [unpaid]):
        text = mint.http.post(CHECK, json={"quotes": order}).text
        assert text == f"[{','.join(get(mint, quote_path(quote)) for quote in order)}]"
    assert states(mint, [paid, unpaid, issued]) == ["PAID", "UNPAID", "ISSUED"]


def test_check_refuses_as_a_whole(mint: Mint, purse: Purse) -> None:
    known = paid_quote(purse, 5)
    melt = purse.quote(mint.invoice(5)).quote
    for quotes, code in (
        ([], Code.REQUEST_REJECTED),
        ([known, "unknown"], Code.QUOTE_REJECTED),
        ([known, melt], Code.QUOTE_REJECTED),
        ([known, known], Code.DUPLICATE_QUOTES),
        ([known, 5], Code.REQUEST_REJECTED),
        ([known, ""], Code.REQUEST_REJECTED),
        ([known, None], Code.REQUEST_REJECTED),
        ([f"quote {number}" for number in range(MAX_BATCH_SIZE + 1)], Code.BATCH_TOO_LARGE),
        ("text", Code.REQUEST_REJECTED),
    ):
        assert code_of(mint.http.post(CHECK, json={"quotes": quotes})) == code


def test_as_many_quotes_as_announced_can_be_checked_and_issued(mint: Mint, purse: Purse) -> None:
    limit = mint.client.info()["nuts"]["29"]["max_batch_size"]
    assert limit == MAX_BATCH_SIZE
    requests = [purse.request_mint(1) for _ in range(limit)]
    for request in requests:
        mint.node.pay_invoice(request.request)
    for request in requests:
        purse.wait_credited(request)
    quotes = [request.quote for request in requests]
    assert states(mint, quotes) == ["PAID"] * limit
    outputs = purse.outputs(limit)
    assert_issued(purse, outputs, batch(mint, quotes, outputs))
    assert states(mint, quotes) == ["ISSUED"] * limit


# --- batch ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("amounts", [None, [5, 8, 100]])
def test_a_batch_is_signed_in_the_order_of_its_outputs(mint: Mint, purse: Purse, amounts: list[int] | None) -> None:
    quotes = [paid_quote(purse, amount) for amount in (5, 8, 100)]
    outputs = purse.outputs_of([64, 1, 32, 4, 8, 4])
    assert_issued(purse, outputs, batch(mint, quotes, outputs, quote_amounts=amounts))
    assert states(mint, quotes) == ["ISSUED"] * 3


def test_a_batch_of_one_is_a_batch(mint: Mint, purse: Purse) -> None:
    outputs = purse.outputs(8)
    assert_issued(purse, outputs, batch(mint, [paid_quote(purse, 8)], outputs, signatures=[None]))


def test_a_batch_that_breaks_a_rule_changes_nothing(mint: Mint, purse: Purse) -> None:
    """All or nothing: after every refusal each quote can still be issued."""
    first, second = paid_quote(purse, 5), paid_quote(purse, 8)
    unpaid, issued = purse.request_mint(3).quote, paid_quote(purse, 3)
    used = purse.outputs(3)
    ok(issue(mint, issued, used))
    msat = Purse(mint, "msat")
    of_msat = paid_quote(msat, 3)
    melt = purse.quote(mint.invoice(5)).quote
    rows = mint.rows()

    both, three = [first, second], purse.outputs(16)
    thirteen = purse.outputs(13)
    cases: list[tuple[int, httpx.Response]] = [
        (Code.REQUEST_REJECTED, batch(mint, [], thirteen)),
        (Code.DUPLICATE_QUOTES, batch(mint, [first, first], purse.outputs(10))),
        (Code.BATCH_TOO_LARGE, batch(mint, [*both, *(str(number) for number in range(99))], thirteen)),
        (Code.QUOTE_REJECTED, batch(mint, [*both, "unknown"], thirteen)),
        (Code.QUOTE_REJECTED, batch(mint, [*both, melt], thirteen)),
        (Code.QUOTE_NOT_PAID, batch(mint, [*both, unpaid], three)),
        (Code.QUOTE_ISSUED, batch(mint, [*both, issued], three)),
        (Code.SEVERAL_UNITS, batch(mint, [*both, of_msat], three)),
        (Code.UNITS_DIFFER, batch(mint, both, msat.outputs(13))),
        (Code.UNITS_DIFFER, batch(mint, [of_msat], purse.outputs(3))),
        (Code.SEVERAL_UNITS, batch(mint, both, [*purse.outputs(12), *msat.outputs(1)])),
        (Code.NOT_BALANCED, batch(mint, both, purse.outputs(12))),
        (Code.NOT_BALANCED, batch(mint, both, purse.outputs(14))),
        (Code.NOT_BALANCED, batch(mint, both, thirteen, quote_amounts=[5, 9])),
        (Code.NOT_BALANCED, batch(mint, both, thirteen, quote_amounts=[8, 5])),
        (Code.NOT_BALANCED, batch(mint, both, thirteen, quote_amounts=[5, 7])),
        (Code.REQUEST_REJECTED, batch(mint, both, thirteen, quote_amounts=[13])),
        (Code.REQUEST_REJECTED, batch(mint, both, thirteen, quote_amounts=[5, 8, 1])),
        (Code.REQUEST_REJECTED, batch(mint, both, thirteen, quote_amounts=[0, 13])),
        (Code.REQUEST_REJECTED, batch(mint, both, thirteen, quote_amounts=["5", "8"])),
        (Code.REQUEST_REJECTED, batch(mint, both, thirteen, signatures=[None])),
        (Code.REQUEST_REJECTED, batch(mint, both, thirteen, signatures=[None, None, None])),
        (Code.SIGNATURE_INVALID, batch(mint, both, thirteen, signatures=[None, "00" * 64])),
        (Code.TRANSACTION_REJECTED, batch(mint, both, [])),
        (Code.DUPLICATE_OUTPUTS, batch(mint, both, [*thirteen, thirteen[0]])),
        (Code.OUTPUTS_SIGNED, batch(mint, both, [*used, *purse.outputs(10)])),
    ]
    for number, (code, answer) in enumerate(cases):
        assert code_of(answer) == code, number
    assert mint.rows() == rows
    assert_issued(purse, thirteen, batch(mint, both, thirteen, quote_amounts=[5, 8], signatures=[None, None]))


def test_what_one_batch_has_taken_another_cannot_take(mint: Mint, purse: Purse) -> None:
    first, second, third = (paid_quote(purse, amount) for amount in (5, 8, 3))
    ok(batch(mint, [first, second], purse.outputs(13)))
    assert code_of(batch(mint, [second, third], purse.outputs(11))) == Code.QUOTE_ISSUED
    assert code_of(issue(mint, first, purse.outputs(5))) == Code.QUOTE_ISSUED
    assert states(mint, [third]) == ["PAID"]
    ok(issue(mint, third, purse.outputs(3)))


# --- locks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("message", MESSAGES.values(), ids=list(MESSAGES))
def test_a_locked_quote_is_issued_to_its_key(mint: Mint, purse: Purse, message: Message) -> None:
    quote = paid_quote(purse, 13, pubkey=ALICE.hex)
    assert ok(mint.http.get(quote_path(quote)))["pubkey"] == ALICE.hex
    outputs, others = purse.outputs(13), purse.outputs(13)
    good = sign(ALICE, message, quote, outputs)
    for bad in (
        None,
        "",
        "00",
        "zz" * 64,
        "00" * 64,
        good[:-2],
        good + "00",
        sign(BOB, message, quote, outputs),
        sign(ALICE, message, quote, others),
        sign(ALICE, message, quote, outputs[::-1]),
        sign(ALICE, message, quote + "0", outputs),
    ):
        assert code_of(issue(mint, quote, outputs, signature=bad)) == Code.SIGNATURE_INVALID
    assert code_of(issue(mint, quote, outputs)) == Code.SIGNATURE_INVALID
    assert_issued(purse, outputs, issue(mint, quote, outputs, signature=good))


def test_the_amended_message_covers_the_amounts(mint: Mint, purse: Purse) -> None:
    quote = paid_quote(purse, 12, pubkey=ALICE.hex)
    outputs = purse.outputs_of([4, 8])
    swapped = [Output(12 - o.amount, o.keyset_id, o.secret, o.r, o.b_) for o in outputs]
    signature = sign(ALICE, quote_lock.message, quote, outputs)
    assert code_of(issue(mint, quote, swapped, signature=signature)) == Code.SIGNATURE_INVALID
    ok(issue(mint, quote, outputs, signature=signature))


def test_the_points_are_covered_as_they_are_written(mint: Mint, purse: Purse) -> None:
    """The older message covers the text, the amended one the points."""
    for message, good in ((quote_lock.old_message, False), (quote_lock.message, True)):
        quote = paid_quote(purse, 8, pubkey=ALICE.hex)
        outputs = purse.outputs(8)
        rewritten = [each | {"B_": each["B_"].upper()} for each in wire_outputs(outputs)]
        body = {"quote": quote, "outputs": rewritten, "signature": sign(ALICE, message, quote, outputs)}
        answer = mint.http.post(MINT, json=body)
        assert (answer.status_code == 200) == good
        if not good:
            assert code_of(answer) == Code.SIGNATURE_INVALID


@pytest.mark.parametrize("written", [ALICE.hex, ALICE.hex.upper()])
def test_the_key_of_a_quote_is_echoed_as_it_was_sent(mint: Mint, purse: Purse, written: str) -> None:
    body = {"amount": 8, "unit": "sat", "pubkey": written}
    assert ok(mint.http.post("/v1/mint/quote/bolt11", json=body))["pubkey"] == written


@pytest.mark.parametrize(
    "key",
    ["", "02", "02" + "ff" * 32, ALICE.hex[2:], "04" + ALICE.hex[2:] * 2, "zz" * 33, " " + ALICE.hex, ALICE.hex * 4],
)
def test_a_key_that_is_none_is_refused(mint: Mint, key: str) -> None:
    body = {"amount": 8, "unit": "sat", "pubkey": key}
    expected = Code.PUBKEY_INVALID if len(key) <= 256 else Code.REQUEST_REJECTED
    assert code_of(mint.http.post("/v1/mint/quote/bolt11", json=body)) == expected


def test_a_signature_for_a_quote_without_lock_is_ignored(mint: Mint, purse: Purse) -> None:
    outputs = purse.outputs(8)
    assert_issued(purse, outputs, issue(mint, paid_quote(purse, 8), outputs, signature="00" * 64))


@pytest.mark.parametrize("message", MESSAGES.values(), ids=list(MESSAGES))
def test_in_a_batch_each_lock_needs_a_signature_over_all_outputs(mint: Mint, purse: Purse, message: Message) -> None:
    quotes = [paid_quote(purse, 5, pubkey=ALICE.hex), paid_quote(purse, 3), paid_quote(purse, 8, pubkey=BOB.hex)]
    outputs = purse.outputs_of([4, 1, 2, 1, 8])
    good = [sign(ALICE, message, quotes[0], outputs), None, sign(BOB, message, quotes[2], outputs)]
    own_only = [sign(ALICE, message, quotes[0], outputs[:2]), None, sign(BOB, message, quotes[2], outputs[4:])]
    for bad in (
        None,
        [None, None, None],
        [good[0], None, None],
        [good[2], None, good[0]],
        [good[0], None, good[0]],
        own_only,
        [good[0], good[0], good[2]],
    ):
        assert code_of(batch(mint, quotes, outputs, signatures=bad)) == Code.SIGNATURE_INVALID
    assert states(mint, quotes) == ["PAID"] * 3
    assert_issued(purse, outputs, batch(mint, quotes, outputs, signatures=good))


def test_one_batch_may_hold_signatures_over_both_messages(mint: Mint, purse: Purse) -> None:
    quotes = [paid_quote(purse, 5, pubkey=ALICE.hex), paid_quote(purse, 8, pubkey=ALICE.hex)]
    outputs = purse.outputs(13)
    signatures = [sign(ALICE, m, q, outputs) for m, q in zip(MESSAGES.values(), quotes, strict=True)]
    assert_issued(purse, outputs, batch(mint, quotes, outputs, signatures=signatures))
