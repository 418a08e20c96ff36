"""What the wallet does, against the fake mint."""

from __future__ import annotations

import logging
import stat
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from contrib.wallet import (
    InvoiceError,
    MintClient,
    MintError,
    MintUnreachableError,
    NotEnoughFundsError,
    ProtocolError,
    TokenError,
    Wallet,
    WalletError,
    tokens,
)
from contrib.wallet.proofs import ProofDleq
from ledger.errors import Code
from ledger.models import MeltQuoteState, MintQuoteState
from tests.wallet.conftest import OpenWallet, fund, invoice
from tests.wallet.fake_mint import FEE_RESERVE, URL, FakeKeyset, FakeMint, make_invoice

# --- mint ------------------------------------------------------------------------------------------------------------


def test_mint(mint: FakeMint, open_wallet: OpenWallet) -> None:
    wallet = open_wallet(mint)
    quote = wallet.request_mint(100)
    assert quote.pubkey is not None
    with pytest.raises(MintError, match="not paid") as refused:
        wallet.mint(quote.quote)
    assert refused.value.code == Code.QUOTE_NOT_PAID
    mint.pay_mint_quote(quote.quote)
    assert wallet.wait_mint(quote.quote, 5).state == MintQuoteState.PAID
    assert sum(p.amount for p in wallet.mint(quote.quote)) == 100
    assert wallet.balance() == 100
    with pytest.raises(MintError) as refused:
        wallet.mint(quote.quote)
    assert refused.value.code == Code.QUOTE_ISSUED
    assert wallet.pending() == []
    assert wallet.balance() == 100


def test_mint_with_the_older_signature(mint: FakeMint, open_wallet: OpenWallet) -> None:
    mint.accepts_new_signature = False
    assert fund(open_wallet(mint), mint, 5).balance() == 5
    assert mint.count("/v1/mint/bolt11") == 2


def test_quotes_are_locked_with_fresh_keys_if_the_mint_can(mint: FakeMint, open_wallet: OpenWallet) -> None:
    wallet = open_wallet(mint)
    assert wallet.request_mint(1).pubkey != wallet.request_mint(1).pubkey
    assert wallet.request_mint(1, lock=False).pubkey is None
    mint.nut20 = False
    assert open_wallet(mint, "bob").request_mint(1).pubkey is None


def test_mint_all(mint: FakeMint, open_wallet: OpenWallet) -> None:
    wallet = open_wallet(mint)
    quotes = [wallet.request_mint(amount).quote for amount in (1, 2, 4)]
    assert wallet.mint_all() == {}
    for quote in quotes[:2]:
        mint.pay_mint_quote(quote)
    assert wallet.mint_all() == {quotes[0]: 1, quotes[1]: 2}
    assert wallet.mint_all() == {}


@pytest.mark.parametrize(
    "change", [{"amount": 7}, {"unit": "usd"}, {"pubkey": None}, {"request": make_invoice(9000, b"x" * 32)}]
)
def test_a_mint_quote_for_something_else(mint: FakeMint, open_wallet: OpenWallet, change: dict[str, Any]) -> None:
    mint.tamper = lambda path, answer: answer | change if path == "/v1/mint/quote/bolt11" else answer
    with pytest.raises(ProtocolError):
        open_wallet(mint).request_mint(8)


def test_an_older_answer_does_not_undo_a_newer_one(mint: FakeMint, funded: Wallet) -> None:
    quote = funded.request_mint(8)
    for updated_at, amount_paid, kept in ((5, 8, 8), (4, 0, 8), (6, 9, 9)):
        with funded.store.transaction():
            changes = {"updated_at": updated_at, "amount_paid": amount_paid}
            funded.store.put_mint_quote(URL, quote.model_copy(update=changes))
        stored = funded.store.mint_quote(URL, quote.quote)
        assert stored is not None
        assert stored.amount_paid == kept


@pytest.mark.parametrize("amount", [0, -1, 2**63, 1.0, True, "8"])
def test_amounts_that_are_none(mint: FakeMint, open_wallet: OpenWallet, amount: Any) -> None:
    with pytest.raises(WalletError, match="not an amount"):
        open_wallet(mint).request_mint(amount)
    assert mint.requests == []


# --- send and receive ------------------------------------------------------------------------------------------------


def test_send_and_receive(mint: FakeMint, funded: Wallet, open_wallet: OpenWallet) -> None:
    bob = open_wallet(mint, "bob")
    token = funded.send(300, memo="for you")
    assert tokens.decode(token).memo == "for you"
    assert (funded.balance(), funded.balances().sent) == (700, 300)
    assert bob.receive(token) == 300
    assert bob.balance() == 300
    assert [op.state for op in funded.check_pending()] == ["done"]
    assert (funded.balances().sent, funded.pending()) == (0, [])
    with pytest.raises(MintError) as refused:
        open_wallet(mint, "carol").receive(token)
    assert refused.value.code == Code.PROOFS_SPENT
    with pytest.raises(TokenError, match="known already"):
        bob.receive(token)
    with pytest.raises(TokenError, match="known already"):
        funded.receive(token)


def test_send_swaps_only_when_it_must(mint: FakeMint, funded: Wallet) -> None:
    funded.send(512 + 8)
    assert mint.count("/v1/swap") == 0
    funded.send(3)
    assert mint.count("/v1/swap") == 1


@pytest.mark.parametrize("fee_ppk", [1, 100, 1000, 2500])
def test_fees(fee_ppk: int, open_wallet: OpenWallet) -> None:
    mint = FakeMint(fee_ppk)
    alice, bob = fund(open_wallet(mint), mint, 1000), open_wallet(mint, "bob")
    token = tokens.decode(alice.send(77, include_fees=True))
    received = bob.receive(token)
    assert 77 <= received <= 77 + 3
    assert token.amount - received == -(-len(token.proofs) * fee_ppk // 1000)
    assert tokens.decode(alice.send(78)).amount == 78
    with pytest.raises(NotEnoughFundsError):
        alice.send(alice.balance() + 1)
    spendable = alice.balance() - 60 * fee_ppk // 1000 - 1
    assert alice.melt(invoice(spendable - FEE_RESERVE)).state == MeltQuoteState.PAID


def test_a_token_worth_less_than_its_fee(open_wallet: OpenWallet) -> None:
    mint = FakeMint(1000)
    alice = fund(open_wallet(mint), mint, 7)
    with pytest.raises(TokenError, match="worth nothing"):
        open_wallet(mint, "bob").receive(alice.send(1))


def test_reclaim(mint: FakeMint, funded: Wallet, open_wallet: OpenWallet) -> None:
    token = funded.send(100)
    (sent,) = funded.pending()
    assert sent.token == token
    assert [op.state for op in funded.check_pending()] == ["sent"]
    assert funded.reclaim(sent.id) == 100
    assert (funded.balance(), funded.pending()) == (1000, [])
    with pytest.raises(WalletError, match="no sent token"):
        funded.reclaim(sent.id)
    with pytest.raises(MintError):
        open_wallet(mint, "bob").receive(token)


def test_reclaim_too_late(mint: FakeMint, funded: Wallet, open_wallet: OpenWallet) -> None:
    open_wallet(mint, "bob").receive(funded.send(100))
    (sent,) = funded.pending()
    with pytest.raises(MintError, match="spent"):
        funded.reclaim(sent.id)
    assert (funded.balances().available, funded.balances().sent, funded.pending()) == (900, 0, [])


def test_receiving_ones_own_token(mint: FakeMint, funded: Wallet) -> None:
    token = funded.send(100)
    assert funded.receive(token) == 100
    assert (funded.balance(), funded.pending()) == (1000, [])


def test_forged_tokens(mint: FakeMint, funded: Wallet, open_wallet: OpenWallet) -> None:
    token = tokens.decode(funded.send(8))
    (proof,) = token.proofs
    assert proof.dleq is not None
    bob = open_wallet(mint, "bob")
    forged = proof.model_copy(update={"dleq": ProofDleq(e="11" * 32, s="22" * 32, r=proof.dleq.r)})
    with pytest.raises(TokenError, match="forged"):
        bob.receive(tokens.Token(token.mint, token.unit, (forged,)))
    larger = proof.model_copy(update={"amount": 16})
    with pytest.raises(TokenError, match="forged"):
        bob.receive(tokens.Token(token.mint, token.unit, (larger,)))
    assert mint.count("/v1/swap") == 0
    without = proof.model_copy(update={"amount": 16, "dleq": None})
    with pytest.raises(MintError, match="not genuine"):
        bob.receive(tokens.Token(token.mint, token.unit, (without,)))
    assert bob.pending() == []
    assert bob.receive(tokens.Token(token.mint, token.unit, (proof.model_copy(update={"dleq": None}),))) == 8


def test_old_form_of_tokens(mint: FakeMint, funded: Wallet, open_wallet: OpenWallet) -> None:
    token = tokens.decode(funded.send(9))
    full_id = mint.keysets[0].id
    long = tokens.Token(token.mint, "sat", tuple(p.model_copy(update={"id": full_id}) for p in token.proofs))
    assert open_wallet(mint, "bob").receive(tokens.encode_v3(long)) == 9


def test_other_units_and_unknown_keysets(mint: FakeMint, funded: Wallet, open_wallet: OpenWallet) -> None:
    token = tokens.decode(funded.send(8))
    bob = open_wallet(mint, "bob")
    with pytest.raises(TokenError, match="--unit usd"):
        bob.receive(tokens.Token(token.mint, "usd", token.proofs))
    unknown = token.proofs[0].model_copy(update={"id": "01ffffffffffffff"})
    with pytest.raises(TokenError, match="does not know it"):
        bob.receive(tokens.Token(token.mint, "sat", (unknown,)))


def test_a_token_of_another_mint(mint: FakeMint, open_wallet: OpenWallet, monkeypatch: pytest.MonkeyPatch) -> None:
    other_url = "http://other.test:3338"
    other = FakeMint()
    other.keysets = [FakeKeyset("of the other mint")]
    dave = fund(Wallet(other_url, client=MintClient(other_url, transport=other)), other, 64)
    token = dave.send(64)
    alice = open_wallet(mint)
    with pytest.raises(TokenError, match="--trust"):
        alice.receive(token)
    monkeypatch.setattr("contrib.wallet.client.httpx.HTTPTransport", lambda retries: other)
    assert alice.receive(token, trust=True) == 64
    assert alice.balance() == 0
    assert alice.store.balance(other_url, "sat", "unspent") == 64


def test_a_mint_that_shows_the_keyset_of_another(mint: FakeMint, funded: Wallet) -> None:
    """Otherwise the wallet would hand the first mint's proofs to the second."""
    thief = Wallet("http://thief.test", store=funded.store, client=MintClient("http://thief.test", transport=mint))
    with pytest.raises(ProtocolError, match="moved"):
        thief.keyring.refresh()
    assert thief.balance() == 0


def test_a_large_token_comes_in_parts(open_wallet: OpenWallet) -> None:
    mint = FakeMint(max_array_length=100)
    alice, bob = fund(open_wallet(mint), mint, 512), open_wallet(mint, "bob")
    alice.split([1] * 250)
    assert bob.receive(alice.send(alice.balance())) == 512
    assert mint.count("/v1/swap") == 1 + 3
    bob.split([1] * 400)
    with pytest.raises(WalletError, match="more than the 100 proofs"):
        bob.melt(invoice(bob.balance() - FEE_RESERVE))


# --- swap ------------------------------------------------------------------------------------------------------------


def test_split_and_swap(mint: FakeMint, funded: Wallet) -> None:
    made = funded.split([1, 2, 2, 64])
    assert [p.amount for p in made] == [1, 2, 2, 64]
    assert {p.secret for p in made} <= {p.secret for p in funded.proofs()}
    fresh = funded.swap(made)
    assert sum(p.amount for p in fresh) == 69
    with pytest.raises(WalletError, match="not free"):
        funded.swap(made)
    funded.swap()
    assert funded.balance() == 1000


def test_outputs_are_in_ascending_order(mint: FakeMint, funded: Wallet) -> None:
    funded.send(333)
    amounts = [o["amount"] for o in mint.requests[-1][2]["outputs"]]
    assert amounts == sorted(amounts)


def test_rotation_in_the_middle(mint: FakeMint, funded: Wallet, open_wallet: OpenWallet) -> None:
    mint.rotate(fee_ppk=100)
    token = funded.send(3)
    assert {p.id[:16] for p in tokens.decode(token).proofs} == {mint.keysets[1].id[:16]}
    assert open_wallet(mint, "bob").receive(token) == 2
    assert funded.melt(invoice(400)).state == MeltQuoteState.PAID
    quote = funded.request_mint(8)
    mint.pay_mint_quote(quote.quote)
    mint.rotate()
    assert funded.mint(quote.quote)[0].id == mint.keysets[2].id


# --- melt ------------------------------------------------------------------------------------------------------------


def test_melt(mint: FakeMint, funded: Wallet) -> None:
    mint.network_fee = 3
    quote = funded.melt(invoice(100))
    assert quote.state == MeltQuoteState.PAID
    assert funded.balance() == 1000 - 100 - 3
    assert funded.melt_cost(quote.quote) == 103
    assert funded.pending() == []
    assert funded.melt(quote.quote).state == MeltQuoteState.PAID
    assert funded.melt(invoice(100)).state == MeltQuoteState.PAID
    assert mint.count("/v1/melt/bolt11") == 1, "what is paid is not paid again"


def test_proof_of_payment(mint: FakeMint, funded: Wallet) -> None:
    quote = funded.melt(make_invoice(1000, bytes(32)))
    assert funded.preimage_is_valid(quote)
    assert not funded.preimage_is_valid(funded.melt(make_invoice(1000, b"1" * 32)))


def test_amountless(mint: FakeMint, funded: Wallet) -> None:
    with pytest.raises(WalletError, match="no amount"):
        funded.melt(invoice(None))
    assert funded.melt(invoice(None), amount_msat=99_001).amount == 100
    assert funded.balance() == 900


def test_a_melt_that_fails_at_once(mint: FakeMint, funded: Wallet) -> None:
    mint.payments = lambda quote: "FAILED"
    with pytest.raises(MintError) as refused:
        funded.melt(invoice(100))
    assert refused.value.code == Code.PAYMENT_FAILED
    assert (funded.balance(), funded.pending()) == (1000, [])


def test_an_async_melt(mint: FakeMint, funded: Wallet) -> None:
    mint.payments = lambda quote: "PENDING"
    quote = funded.melt(invoice(100), prefer_async=True)
    assert mint.requests[-1][2]["prefer_async"] is True
    assert quote.state == MeltQuoteState.PENDING
    assert funded.balances().pending > 0
    assert funded.melt(quote.quote).state == MeltQuoteState.PENDING
    assert funded.melt(invoice(100)).quote == quote.quote
    assert funded.wait_melt(quote.quote, 0.05).state == MeltQuoteState.PENDING
    mint.network_fee = 1
    mint.settle(quote.quote)
    seen: list[MeltQuoteState] = []
    assert funded.wait_melt(quote.quote, 5, lambda now: seen.append(now.state)).state == MeltQuoteState.PAID
    assert seen == [MeltQuoteState.PAID]
    assert funded.balances().available == 899
    assert mint.count("/v1/melt/bolt11") == 1


def test_an_async_melt_that_fails_and_is_tried_again(mint: FakeMint, funded: Wallet) -> None:
    mint.payments = lambda quote: "PENDING"
    quote = funded.melt(invoice(100), prefer_async=True)
    mint.release(quote.quote, "no route found")
    (operation,) = funded.check_pending()
    assert (operation.state, operation.error) == ("failed", "no route found")
    assert funded.balance() == 1000
    mint.payments = lambda quote: "PAID"
    assert funded.melt(quote.quote, prefer_async=True).state == MeltQuoteState.PAID
    assert funded.balance() == 900


@pytest.mark.parametrize("is_paid", [True, False])
def test_a_melt_decided_between_two_answers(mint: FakeMint, funded: Wallet, is_paid: bool) -> None:
    """The proofs were still pending when the wallet asked for them, the quote was not any more."""
    mint.payments = lambda quote: "PENDING"
    quote = funded.melt(invoice(100), prefer_async=True)

    def decide(path: str) -> bool:
        if path == "/v1/checkstate" and mint.pending:
            mint.settle(quote.quote) if is_paid else mint.release(quote.quote, "no route")
        return False

    mint.lose_answer = decide
    assert funded.check_melt(quote.quote).state == (MeltQuoteState.PAID if is_paid else MeltQuoteState.UNPAID)
    assert funded.pending() == []
    assert funded.balance() == (900 if is_paid else 1000)


def test_waiting_outlasts_a_mint_that_is_away(mint: FakeMint, funded: Wallet) -> None:
    mint.payments = lambda quote: "PENDING"
    quote = funded.melt(invoice(100), prefer_async=True)
    mint.settle(quote.quote)
    failures = iter([True, True, True])
    mint.lose_request = lambda path: next(failures, False)
    assert funded.wait_melt(quote.quote, 5).state == MeltQuoteState.PAID
    mint.lose_request = lambda path: True
    with pytest.raises(MintUnreachableError):
        funded.wait_mint("mint-quote-1", 0.01)


def test_proofs_of_an_expired_keyset_are_not_chosen(mint: FakeMint, funded: Wallet) -> None:
    with funded.store.transaction():
        funded.store._run("UPDATE keysets SET final_expiry = 1")
    funded.keyring._known = funded.store.keysets(funded.mint_url)
    mint.rotate()
    fund(funded, mint, 8)
    assert funded.balance() == 1008
    with pytest.raises(NotEnoughFundsError):
        funded.send(9)
    funded.send(8)


def test_change_that_is_missing_is_restored(mint: FakeMint, funded: Wallet) -> None:
    mint.tamper = lambda path, answer: {k: v for k, v in answer.items() if k != "change"} if "melt" in path else answer
    assert funded.melt(invoice(100)).change is None
    assert funded.balance() == 900


def test_much_overpaid_melts_get_all_change(mint: FakeMint, open_wallet: OpenWallet) -> None:
    wallet = fund(open_wallet(mint), mint, 512)
    wallet.melt(invoice(1))
    assert wallet.balance() == 511


@pytest.mark.parametrize("change", [{"amount": 101}, {"amount": 99}, {"request": invoice(100, 8)}, {"unit": "usd"}])
def test_a_melt_quote_for_something_else(mint: FakeMint, funded: Wallet, change: dict[str, Any]) -> None:
    mint.tamper = lambda path, answer: answer | change if path == "/v1/melt/quote/bolt11" else answer
    with pytest.raises(ProtocolError):
        funded.melt(invoice(100))
    assert mint.count("/v1/melt/bolt11") == 0


def test_what_cannot_be_paid(mint: FakeMint, funded: Wallet) -> None:
    with pytest.raises(NotEnoughFundsError, match="not enough funds"):
        funded.melt(invoice(1000))
    with pytest.raises(InvoiceError, match="checksum"):
        funded.melt(invoice(100)[:-1])
    with pytest.raises(WalletError, match="neither"):
        funded.melt("no-such-quote")
    assert (funded.balance(), funded.pending()) == (1000, [])


def test_proofs_that_another_copy_of_the_wallet_spent(mint: FakeMint, funded: Wallet, open_wallet: OpenWallet) -> None:
    copy = open_wallet(mint, "copy", words=funded.words)
    copy.restore()
    copy.melt(invoice(600))
    with pytest.raises(MintError) as refused:
        funded.melt(invoice(601))
    assert refused.value.code == Code.PROOFS_SPENT
    assert funded.balance() == sum(p.amount for p in funded.proofs()) < 1000
    funded.melt(invoice(funded.balance() - FEE_RESERVE))


# --- restore ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [1, 2])
def test_restore(open_wallet: OpenWallet, version: int) -> None:
    mint = FakeMint(version=version)
    alice = fund(open_wallet(mint), mint, 1000)
    for _ in range(4):
        alice.split([1] * 60)
        alice.swap()
    alice.melt(invoice(100))
    mint.rotate()
    alice.send(5)
    mint.payments = lambda quote: "PENDING"
    melt = alice.melt(invoice(50, 9), prefer_async=True)
    again = open_wallet(mint, "again", words=alice.words)
    found = again.restore()
    assert found.unspent == alice.balance() + 5
    assert found.pending == alice.balances().pending
    assert again.balance() == found.added - found.pending == alice.balance() + 5
    assert again.restore().added == 0
    fund(again, mint, 64)  # would fail on an output that was signed before
    mint.settle(melt.quote)
    assert again.check_pending() == []
    assert again.balances().pending == 0
    assert again.restore().added > 0, "the change has come"
    alice.check_melt(melt.quote)
    assert again.balance() == alice.balance() + 5 + 64


def test_restore_gives_up_after_two_empty_batches(mint: FakeMint, open_wallet: OpenWallet) -> None:
    assert open_wallet(mint).restore().found == 0
    assert mint.count("/v1/restore") == 2


# --- the mint as it is -----------------------------------------------------------------------------------------------


def test_bad_signatures_leave_the_operation_open(mint: FakeMint, funded: Wallet) -> None:
    def spoil(path: str, answer: Any) -> Any:
        if path == "/v1/swap":
            answer["signatures"][0] = answer["signatures"][0] | {"dleq": {"e": "00" * 32, "s": "00" * 32}}
        return answer

    mint.tamper = spoil
    with pytest.raises(ProtocolError, match="DLEQ"):
        funded.split([1])
    assert [op.state for op in funded.pending()] == ["open"]
    mint.tamper = lambda path, answer: answer
    assert [op.state for op in funded.check_pending()] == ["done"]
    assert funded.balance() == 1000


@pytest.mark.parametrize("answer", [[], {}, {"states": []}, {"signatures": "no"}, None, "text"])
def test_nonsense_is_a_protocol_error(answer: Any) -> None:
    client = MintClient(URL, transport=httpx.MockTransport(lambda request: httpx.Response(200, json=answer)))
    for ask in (
        client.keys,
        client.keysets,
        lambda: client.swap([], []),
        lambda: client.mint("q", []),
        lambda: client.mint_quote("q"),
        lambda: client.melt_quote("q"),
        lambda: client.check_state(["02" + "00" * 32]),
        lambda: client.restore([]),
    ):
        with pytest.raises(ProtocolError):
            ask()


@pytest.mark.parametrize(
    ("status", "body", "kind", "text"),
    [
        (400, {"detail": "no", "code": 11001}, MintError, r"no \(code 11001\)"),
        (404, {"detail": "not found"}, MintError, "code 0"),
        (400, ["odd"], MintError, "odd"),
        (503, {"detail": "starting"}, MintUnreachableError, "503: starting"),
        (502, "bad gateway", MintUnreachableError, "502"),
    ],
)
def test_errors(status: int, body: Any, kind: type[WalletError], text: str) -> None:
    client = MintClient(URL, transport=httpx.MockTransport(lambda request: httpx.Response(status, json=body)))
    with pytest.raises(kind, match=text):
        client.info()


def test_html_is_a_protocol_error() -> None:
    client = MintClient(URL, transport=httpx.MockTransport(lambda request: httpx.Response(200, text="<html>")))
    with pytest.raises(ProtocolError, match="not JSON"):
        client.info()


@pytest.mark.parametrize("url", ["", "mint", "ftp://mint", "http://", "http://[::"])
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(WalletError):
        MintClient(url)


# --- the file --------------------------------------------------------------------------------------------------------


def test_only_the_owner_can_read_the_file(mint: FakeMint, open_wallet: OpenWallet, tmp_path: Path) -> None:
    open_wallet(mint)
    assert stat.S_IMODE((tmp_path / "alice.sqlite").stat().st_mode) == 0o600


def test_words_of_a_file(mint: FakeMint, funded: Wallet, open_wallet: OpenWallet) -> None:
    assert open_wallet(mint).words == funded.words
    with pytest.raises(WalletError, match="other words"):
        open_wallet(mint, words="abandon " * 11 + "about")


def test_a_file_that_is_no_wallet(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("this is not a database, and it is long enough to be seen as none\n" * 20)
    with pytest.raises(WalletError, match="cannot open"):
        Wallet(URL, path)
    with pytest.raises(WalletError, match="cannot open"):
        Wallet(URL, tmp_path)


def test_a_mint_that_has_moved(mint: FakeMint, funded: Wallet) -> None:
    new_url = "http://new.test"
    with funded.store.transaction():
        assert funded.store.move_mint(URL, new_url) == 1
    moved = Wallet(new_url, store=funded.store, client=MintClient(new_url, transport=mint))
    assert moved.melt(invoice(100)).state == MeltQuoteState.PAID
    assert moved.balance() == 900


def test_wallets_of_several_threads(mint: FakeMint, funded: Wallet, open_wallet: OpenWallet) -> None:
    """Several wallets on one file, as several processes would be."""
    wallets = [open_wallet(mint) for _ in range(4)]
    failures: list[Exception] = []
    lock = threading.Lock()
    answer = mint.handle_request

    def one_at_a_time(request: httpx.Request) -> httpx.Response:
        with lock:
            return answer(request)

    mint.handle_request = one_at_a_time  # type: ignore[method-assign]

    def work(wallet: Wallet) -> None:
        try:
            for _ in range(5):
                wallet.receive(wallet.send(7))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(wallet,)) for wallet in wallets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert (funded.balance(), funded.pending()) == (1000, [])


def test_a_keyset_that_another_process_brought(mint: FakeMint, funded: Wallet, open_wallet: OpenWallet) -> None:
    mint.rotate()
    open_wallet(mint).swap()
    assert funded.melt(invoice(700)).state == MeltQuoteState.PAID


def test_nothing_secret_is_logged(mint: FakeMint, funded: Wallet, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="contrib.wallet")
    token = funded.send(100)
    mint.payments = lambda quote: "PENDING"
    quote = funded.melt(invoice(10), prefer_async=True)
    mint.tamper = lambda path, answer: {} if "restore" in path or "checkstate" in path else answer
    funded.check_pending()
    assert caplog.records
    assert token not in repr(funded.pending())
    for secret in [token, quote.quote, *(p.secret for p in funded.proofs())]:
        assert secret not in caplog.text
