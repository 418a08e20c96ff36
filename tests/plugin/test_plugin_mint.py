"""Money in: mint quotes are credited once for what the node received, whenever and however it was told."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256

import pytest
from coincurve import PrivateKey

from contrib.sandbox import Notifications
from contrib.wallet import MintError, Wallet, messages, unblind
from ledger.errors import Code
from ledger.ids import label_of
from ledger.models import MintQuoteState
from ledger.operations.mint import signed_message, signed_message_legacy
from tests.plugin.conftest import MakeMint
from tests.plugin.harness import UNSPENT, Mint, Purse, wait_for

CONSTANTS = {"plugin.methods.receipts:RETRY_S": 0.3}

NEWS = {
    "once": Notifications(),
    "three times": Notifications(repeat=3),
    "late": Notifications(delay_s=0.3),
    "late and repeated": Notifications(repeat=2, delay_s=0.3),
}


def code_of(call: Callable[[], object]) -> Code:
    """The code with which a request is refused."""
    with pytest.raises(MintError) as refused:
        call()
    return Code(refused.value.code)


# --- a quote ------------------------------------------------------------------------------------------------------


def test_a_new_quote_shows_an_invoice_over_its_amount(mint: Mint, purse: Purse) -> None:
    quote = purse.request_mint(123)
    assert (quote.amount, quote.unit, quote.method, quote.state) == (123, "sat", "bolt11", MintQuoteState.UNPAID)
    assert (quote.amount_paid, quote.amount_issued, quote.pubkey) == (0, 0, None)
    decoded = mint.node.rpc("decode", string=quote.request)
    assert decoded["amount_msat"] == 123_000
    assert quote.expiry == decoded["created_at"] + decoded["expiry"]


def test_the_invoices_label_is_made_from_the_quotes_id_which_the_node_does_not_know(mint: Mint, purse: Purse) -> None:
    first, second = purse.request_mint(), purse.request_mint()
    assert mint.node.rpc("listinvoices", label=label_of(first.quote))["invoices"][0]["bolt11"] == first.request
    assert first.quote[14] == "7"
    assert first.quote[-16:] != second.quote[-16:]


@pytest.mark.parametrize(
    "description", ["coffee ☕ for two", "", 'with "quotes" and \\ slashes', "two\nlines\t", "é" * 319]
)
def test_a_description_is_in_the_invoice(mint: Mint, purse: Purse, description: str) -> None:
    quote = purse.request_mint(description=description)
    assert mint.node.rpc("decode", string=quote.request)["description"] == description


def test_paying_makes_it_paid_and_collecting_makes_it_issued(mint: Mint, purse: Purse) -> None:
    quote = purse.request_mint(100)
    mint.node.pay_invoice(quote.request)
    paid = purse.wait_credited(quote)
    assert paid.state == MintQuoteState.PAID
    assert paid.updated_at > quote.updated_at
    assert sum(p.amount for p in purse.collect(quote)) == 100
    issued = purse.client.mint_quote(quote.quote)
    assert (issued.state, issued.amount_issued) == (MintQuoteState.ISSUED, 100)
    assert issued.updated_at > paid.updated_at


def test_an_unpaid_quote_gives_no_ecash(purse: Purse) -> None:
    quote = purse.request_mint()
    assert code_of(lambda: purse.collect(quote)) == Code.QUOTE_NOT_PAID


def test_an_issued_quote_gives_no_more_ecash(mint: Mint, purse: Purse) -> None:
    quote = purse.request_mint()
    mint.node.pay_invoice(quote.request)
    purse.wait_credited(quote)
    purse.collect(quote)
    assert code_of(lambda: purse.collect(quote)) == Code.QUOTE_ISSUED


def test_less_than_all_may_be_collected_and_the_rest_later(mint: Mint, purse: Purse) -> None:
    quote = purse.request_mint(100)
    mint.node.pay_invoice(quote.request)
    purse.wait_credited(quote)
    purse.collect(quote, 60)
    assert purse.client.mint_quote(quote.quote).state == MintQuoteState.PAID
    assert code_of(lambda: purse.collect(quote, 41)) == Code.NOT_BALANCED
    purse.collect(quote, 40)
    assert purse.client.mint_quote(quote.quote).state == MintQuoteState.ISSUED


def test_the_same_request_for_ecash_gets_the_same_signatures(mint: Mint, purse: Purse) -> None:
    quote = purse.request_mint(100)
    mint.node.pay_invoice(quote.request)
    purse.wait_credited(quote)
    outputs = messages(purse.outputs(100))
    assert purse.client.mint(quote.quote, outputs) == purse.client.mint(quote.quote, outputs)


def test_an_expired_unpaid_quote_gives_no_ecash(make_mint: MakeMint) -> None:
    mint = make_mint(started=False)
    mint.change_inside(constants={"plugin.methods.bolt11:INVOICE_EXPIRY_S": 1})
    mint.start()
    purse = Purse(mint)
    quote = purse.request_mint()

    def refusal() -> Code | None:
        code = code_of(lambda: purse.collect(quote))
        return code if code != Code.QUOTE_NOT_PAID else None

    assert wait_for(refusal, "the quote to expire") == Code.QUOTE_EXPIRED


def test_a_quote_that_was_paid_in_time_gives_ecash_after_its_expiry(make_mint: MakeMint) -> None:
    mint = make_mint(started=False)
    mint.change_inside(constants={"plugin.methods.bolt11:INVOICE_EXPIRY_S": 1})
    mint.start()
    purse = Purse(mint)
    quote, expired = purse.request_mint(), purse.request_mint()
    mint.node.pay_invoice(quote.request)
    purse.wait_credited(quote)
    wait_for(lambda: code_of(lambda: purse.collect(expired)) == Code.QUOTE_EXPIRED, "the other quote to expire")
    assert sum(p.amount for p in purse.collect(quote)) == 100


# --- notifications ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("news", NEWS.values(), ids=list(NEWS))
def test_a_payment_is_credited_once_however_its_notification_travels(
    mint: Mint, purse: Purse, news: Notifications
) -> None:
    quote = purse.request_mint()
    mint.node.pay_invoice(quote.request, notifications=news)
    purse.wait_credited(quote)
    purse.collect(quote)
    assert purse.client.mint_quote(quote.quote).amount_paid == 100


@pytest.mark.parametrize("overpaid", [100_001, 150_000, 200_000])
def test_what_was_overpaid_is_credited_rounded_down(mint: Mint, purse: Purse, overpaid: int) -> None:
    quote = purse.request_mint(100)
    mint.node.pay_invoice(quote.request, overpaid)
    credited = overpaid // 1000
    assert purse.wait_credited(quote, credited).state == MintQuoteState.PAID
    assert sum(p.amount for p in purse.collect(quote, credited)) == credited


def test_a_payment_without_notification_is_credited_with_the_next_one(mint: Mint, purse: Purse) -> None:
    first, second = purse.request_mint(), purse.request_mint()
    mint.node.pay_invoice(first.request, notifications=Notifications.dropped())
    assert purse.client.mint_quote(first.quote).amount_paid == 0
    mint.node.pay_invoice(second.request)
    purse.wait_credited(first)
    purse.wait_credited(second)


def test_invoices_of_the_operator_are_passed_by(mint: Mint, purse: Purse) -> None:
    quotes = []
    for number in range(5):
        foreign = mint.node.rpc("invoice", amount_msat=7_000, label=f"foreign {number}", description="")
        mint.node.pay_invoice(foreign["bolt11"])
        quotes.append(purse.request_mint())
        mint.node.pay_invoice(quotes[-1].request)
    for quote in quotes:
        purse.wait_credited(quote)
    mint.restart_plugin(kill=True)
    assert {purse.client.mint_quote(quote.quote).amount_paid for quote in quotes} == {100}


@pytest.mark.parametrize("label", ["", "x" * 100, "ünïcödé", "0", "'; DROP TABLE mint_quotes; --"])
def test_any_label_of_a_foreign_invoice_is_passed_by(mint: Mint, purse: Purse, label: str) -> None:
    foreign = mint.node.rpc("invoice", amount_msat="any", label=f"any {label}", description="")
    mint.node.pay_invoice(foreign["bolt11"], 5_000)
    quote = purse.request_mint()
    mint.node.pay_invoice(quote.request)
    purse.wait_credited(quote)


def test_a_made_up_notification_credits_nothing(mint: Mint, purse: Purse) -> None:
    quote = purse.request_mint()
    mint.node.notify("invoice_payment", {"msat": 100_000, "preimage": "00" * 32, "label": label_of(quote.quote)})
    other = purse.request_mint()
    mint.node.pay_invoice(other.request)
    purse.wait_credited(other)
    assert purse.client.mint_quote(quote.quote).amount_paid == 0


def test_a_node_that_cannot_be_asked_now_is_asked_again(mint: Mint, purse: Purse) -> None:
    quote = purse.request_mint()
    mint.node.fail_rpc("waitanyinvoice", -1, "not now")
    mint.node.pay_invoice(quote.request)
    purse.wait_credited(quote)


def test_a_payment_that_is_quicker_than_its_quote_is_credited(make_mint: MakeMint) -> None:
    mint = make_mint(node={"auto": True, "auto_delay_s": 0.0})
    purse = Purse(mint)
    for quote in [purse.request_mint() for _ in range(20)]:
        purse.wait_credited(quote)


# --- while the plugin is away -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
@pytest.mark.parametrize("node", [False, True], ids=["plugin", "node"])
def test_what_was_paid_while_the_plugin_was_away_is_credited_at_its_start(
    mint: Mint, purse: Purse, kill: bool, node: bool
) -> None:
    before, during, twice = purse.request_mint(), purse.request_mint(), purse.request_mint()
    mint.node.pay_invoice(before.request, notifications=Notifications.dropped())
    mint.node.pay_invoice(twice.request)
    purse.wait_credited(twice)
    (mint.node.kill_plugin if kill else mint.node.stop_plugin)()
    mint.node.pay_invoice(during.request)
    foreign = mint.node.rpc("invoice", amount_msat=1000, label=f"away {kill} {node}", description="")
    mint.node.pay_invoice(foreign["bolt11"])
    if node:
        mint.restart_node(kill=kill)
    else:
        mint.start_plugin()
    for quote in (before, during, twice):
        assert purse.client.mint_quote(quote.quote).amount_paid == 100  # at once: the catch-up comes before serving
        assert purse.states(purse.collect(quote)) == {UNSPENT}


def test_a_quote_survives_a_restart_and_is_paid_later(mint: Mint, purse: Purse) -> None:
    quote = purse.request_mint()
    mint.restart_node(kill=True)
    mint.node.pay_invoice(quote.request)
    purse.wait_credited(quote)
    purse.collect(quote)


# --- locked quotes (NUT-20) ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("message", [signed_message, signed_message_legacy], ids=["current", "older"])
def test_a_quote_locked_to_a_key_needs_a_signature_by_it(
    mint: Mint, purse: Purse, message: Callable[..., bytes]
) -> None:
    key = PrivateKey()
    quote = purse.request_mint(pubkey=key.public_key.format().hex())
    assert quote.pubkey == key.public_key.format().hex()
    mint.node.pay_invoice(quote.request)
    purse.wait_credited(quote)
    outputs = purse.outputs(100)
    wire = messages(outputs)

    def collect(signer: PrivateKey | None) -> object:
        digest = sha256(message(quote.quote, wire)).digest()
        signature = None if signer is None else signer.sign_schnorr(digest).hex()
        return unblind(outputs, purse.client.mint(quote.quote, wire, signature=signature), purse.keysets)

    assert code_of(lambda: collect(None)) == Code.SIGNATURE_INVALID
    assert code_of(lambda: collect(PrivateKey())) == Code.SIGNATURE_INVALID
    assert purse.client.mint_quote(quote.quote).amount_issued == 0
    assert collect(key)


# --- a wallet -----------------------------------------------------------------------------------------------------


def test_a_wallet_goes_the_whole_way_on_a_node_that_does_everything_by_itself(make_mint: MakeMint) -> None:
    mint = make_mint(node={"auto": True}, input_fee_ppk=100)
    with Wallet(mint.url) as alice, Wallet(mint.url) as bob:
        quote = alice.request_mint(1000)
        alice.wait_mint(quote.quote, 60)
        alice.mint(quote.quote)
        bob.receive(alice.send(300))
        pending = bob.melt(str(mint.node.outside_invoice(100_000)), prefer_async=True)
        assert wait_for(lambda: bob.check_melt(pending.quote).state == "PAID", "the melt to be paid")
        assert alice.balance() + bob.balance() == mint.info()["outstanding"]["sat"]
        restored = Wallet(mint.url, words=alice.words)
        restored.restore()
        assert restored.balance() == alice.balance()
        restored.close()
