"""On-chain melts: fees that are offered and chosen, the one transaction, and the only ways out of PENDING (NUT-30)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.errors import Code, StorageError
from ledger.events import MeltQuoteChanged
from ledger.ids import new_quote_id
from ledger.models import MeltOnchainRequest, MeltQuoteOnchain, MeltQuoteState, Proof, ProofState
from ledger.operations.melt import Payment
from ledger.operations.melt_quote import Built, NewFeeOption, NewPayout, PendingPayout
from ledger.operations.payout import MIN_CONFLICT_DEPTH, Conflict
from ledger.units import to_msat
from tests.ledger.helpers import NOW, Drawn, Mint, Wallet, done, messages, refused, unblind

OPTIONS = (NewFeeOption(30, 2, 2500), NewFeeOption(10, 12, 1000), NewFeeOption(5, 100, 500))
TXID, OTHER = b"\x0a" * 32, b"\x0b" * 32
BUILT = Built(TXID, 1, "signed", 7, 800)
CONFLICT = Conflict(OTHER, 801, MIN_CONFLICT_DEPTH)


@pytest.fixture
def mint(tmp_path: Path) -> Iterator[Mint]:
    """A mint whose node has counted some moves."""
    mint = Mint(tmp_path / "ledger.sqlite3", units=("sat", "msat"))
    mint.execute("UPDATE ledger SET chain_index = 42")
    yield mint
    assert mint.audit().faults == ()
    mint.close()


def new_quote(mint: Mint, amount: int = 64, *, unit: str = "sat", expiry: int = NOW + 900) -> MeltQuoteOnchain:
    """A quote with three fees."""
    new = NewPayout(
        id=new_quote_id(),
        method="onchain",
        unit=unit,
        request="an address",
        amount=amount,
        amount_msat=to_msat(amount, unit),
        expiry=expiry,
        fee_options=OPTIONS,
    )
    quote = done(mint.ledger.create_melt_quote(new))
    assert isinstance(quote, MeltQuoteOnchain)
    return quote


def look(mint: Mint, quote: MeltQuoteOnchain) -> MeltQuoteOnchain:
    """As `GET` answers it."""
    found = mint.ledger.melt_quote("onchain", quote.quote)
    assert isinstance(found, MeltQuoteOnchain)
    return found


def request(quote: MeltQuoteOnchain, inputs: list[Proof], fee_index: int, blanks: list[Drawn]) -> MeltOnchainRequest:
    """`POST /v1/melt/onchain`."""
    return MeltOnchainRequest(quote=quote.quote, inputs=inputs, outputs=messages(blanks), fee_index=fee_index)


def begin(
    mint: Mint, wallet: Wallet, quote: MeltQuoteOnchain, fee_index: int = 1, inputs: list[Proof] | None = None
) -> tuple[PendingPayout, list[Proof], list[Drawn]]:
    """A melt that is pending, its proofs (of 128 if none are given) and blank outputs."""
    inputs = inputs or mint.fund(wallet, 128)
    blanks = wallet.blanks(mint.keyset(), 7)
    begun = done(mint.ledger.begin_melt("onchain", request(quote, inputs, fee_index, blanks), 10))
    assert isinstance(begun.melt, PendingPayout)
    return begun.melt, inputs, blanks


def test_a_quote_shows_its_fees_in_order(mint: Mint) -> None:
    quote = new_quote(mint)
    assert [tuple(option.model_dump().values()) for option in quote.fee_options] == [
        (0, 30, 2),
        (1, 10, 12),
        (2, 5, 100),
    ]
    assert (quote.selected_fee_index, quote.outpoint, quote.state) == (None, None, MeltQuoteState.UNPAID)
    assert "fee_reserve" not in quote.model_dump()


def test_begin_holds_amount_and_the_chosen_reserve(mint: Mint, alice: Wallet) -> None:
    quote = new_quote(mint)
    inputs = mint.fund(alice, 64, 8, 2)  # enough for index 1, not for 0
    with refused(mint, Code.NOT_BALANCED):
        done(mint.ledger.begin_melt("onchain", request(quote, inputs, 0, []), 10))
    assert look(mint, quote).selected_fee_index is None
    melt, _, _ = begin(mint, alice, quote, 1, inputs)
    assert (melt.feerate_perkw, melt.fee_reserve, melt.built, melt.broadcast_at) == (1000, 10, None, None)
    assert (look(mint, quote).selected_fee_index, look(mint, quote).state) == (1, MeltQuoteState.PENDING)
    assert mint.ledger.pending_payouts() == [melt]
    assert mint.ledger.pending_payout(quote.quote) == melt
    mint.reopen()
    assert mint.ledger.pending_payouts() == [melt]
    mint.release(melt)


@pytest.mark.parametrize("fee_index", [3, 16])
def test_a_fee_that_is_not_offered_is_refused(mint: Mint, alice: Wallet, fee_index: int) -> None:
    quote, inputs = new_quote(mint), mint.fund(alice, 128)
    with refused(mint, Code.QUOTE_REJECTED):
        done(mint.ledger.begin_melt("onchain", request(quote, inputs, fee_index, []), 10))


def test_once_chosen_it_is_never_another(mint: Mint, alice: Wallet) -> None:
    quote = new_quote(mint)
    melt, inputs, _ = begin(mint, alice, quote, 1)
    with refused(mint, Code.QUOTE_PENDING):
        done(mint.ledger.begin_melt("onchain", request(quote, inputs, 2, []), 10))
    mint.release(melt, "no coins")
    assert look(mint, quote).selected_fee_index == 1
    with refused(mint, Code.QUOTE_REJECTED):
        done(mint.ledger.begin_melt("onchain", request(quote, inputs, 2, []), 10))
    again, _, _ = begin(mint, alice, quote, 1, inputs)
    assert again.attempt == 2
    mint.release(again)


def test_an_identical_request_gets_the_present_state(mint: Mint, alice: Wallet) -> None:
    quote = new_quote(mint)
    melt, inputs, blanks = begin(mint, alice, quote)
    same = request(quote, inputs, 1, blanks)
    assert done(mint.ledger.begin_melt("onchain", same, 10)).melt is None
    done(mint.ledger.note_broadcast(done(mint.ledger.note_built(melt, BUILT))))
    answer = done(mint.ledger.begin_melt("onchain", same, 10)).quote
    assert isinstance(answer, MeltQuoteOnchain)
    assert answer.outpoint == f"{TXID.hex()}:1"
    settle(mint, melt)
    assert done(mint.ledger.begin_melt("onchain", same, 10)).quote == look(mint, quote)


def settle(mint: Mint, melt: PendingPayout) -> None:
    """In a block, deep enough."""
    done(mint.ledger.settle_melt(melt, Payment(None, melt.amount_msat + BUILT.fee_sat * 1000)))


def test_the_outpoint_is_shown_from_the_broadcast_on(mint: Mint, alice: Wallet) -> None:
    quote = new_quote(mint)
    melt, _, _ = begin(mint, alice, quote)
    mint.events.clear()
    built = done(mint.ledger.note_built(melt, BUILT))
    assert (built.built, built.chain_index, built.broadcast_at) == (BUILT, 42, None)
    assert (look(mint, quote).outpoint, mint.events) == (None, [])
    mint.clock.advance(5)
    sent = done(mint.ledger.note_broadcast(built))
    mint.clock.advance(5)
    assert done(mint.ledger.note_broadcast(sent)) == sent
    assert sent.broadcast_at == NOW + 5
    (event,) = mint.events
    assert isinstance(event, MeltQuoteChanged)
    assert event.quote == look(mint, quote)
    mint.reopen()
    assert mint.ledger.pending_payouts() == [sent]
    settle(mint, sent)


def test_what_was_built_is_never_released_and_never_built_again(mint: Mint, alice: Wallet) -> None:
    melt, inputs, _ = begin(mint, alice, new_quote(mint))
    built = done(mint.ledger.note_built(melt, BUILT))
    rows = mint.rows_but_commits()
    with pytest.raises(StorageError, match="may be sent"):
        mint.release(melt)
    with pytest.raises(Exception, match="UNIQUE"):
        done(mint.ledger.note_built(melt, BUILT))
    with pytest.raises(Exception, match="UNIQUE"):
        done(mint.ledger.note_built(built, Built(OTHER, 0, "another", 1, 900)))
    assert mint.rows_but_commits() == rows
    assert mint.states(inputs) == [ProofState.PENDING]
    settle(mint, built)


@pytest.mark.parametrize("unit", ["sat", "msat"])
def test_settling_books_the_fee_and_gives_back_the_rest(mint: Mint, alice: Wallet, unit: str) -> None:
    per_sat = 1000 if unit == "msat" else 1
    quote = new_quote(mint, 64 * per_sat, unit=unit)
    inputs = mint.fund(alice, 1 << 17 if unit == "msat" else 128, unit=unit)
    blanks = alice.blanks(mint.keyset(unit), 20)
    begun = done(mint.ledger.begin_melt("onchain", request(quote, inputs, 1, blanks), 10)).melt
    assert isinstance(begun, PendingPayout)
    done(mint.ledger.note_broadcast(done(mint.ledger.note_built(begun, BUILT))))
    settle(mint, begun)
    paid = look(mint, quote)
    assert (paid.state, paid.outpoint) == (MeltQuoteState.PAID, f"{TXID.hex()}:1")
    overpaid = inputs[0].amount - (64 + BUILT.fee_sat) * per_sat
    change = [unblind(mint.keyset(unit), *pair) for pair in zip(blanks, paid.change or [], strict=False)]
    assert sum(proof.amount for proof in change) == overpaid
    audit = mint.audit()
    assert (audit.paid_out_msat, audit.routing_fees_msat) == (64_000, BUILT.fee_sat * 1000)
    assert mint.ledger.pending_payouts() == []
    settle(mint, begun)
    assert mint.audit() == audit


# --- dead -------------------------------------------------------------------------------------------------------------


def test_a_dead_transaction_gives_the_ecash_back_and_is_remembered(mint: Mint, alice: Wallet) -> None:
    quote = new_quote(mint)
    melt, inputs, _ = begin(mint, alice, quote)
    built = done(mint.ledger.note_built(melt, BUILT))
    done(mint.ledger.note_broadcast(built))
    done(mint.ledger.discard_payout(built, CONFLICT, "spent otherwise"))
    again = look(mint, quote)
    assert (again.state, again.outpoint, again.error) == (MeltQuoteState.UNPAID, None, "spent otherwise")
    assert mint.states(inputs) == [ProofState.UNSPENT]
    assert mint.dump()["dead_payouts"] == [(TXID, 1, "signed", OTHER, 801, NOW)]
    second, _, _ = begin(mint, alice, quote, 1, inputs)
    done(mint.ledger.note_built(second, Built(b"\x0c" * 32, 0, "another", 7, 900)))
    settle(mint, second)


@pytest.mark.parametrize(
    "conflict",
    [
        Conflict(TXID, 801, MIN_CONFLICT_DEPTH),
        Conflict(OTHER, 801, MIN_CONFLICT_DEPTH - 1),
        Conflict(OTHER, 801, 0),
        Conflict(b"", 801, MIN_CONFLICT_DEPTH),
    ],
    ids=["itself", "shallow", "none", "nothing"],
)
def test_what_is_no_proof_discards_nothing(mint: Mint, alice: Wallet, conflict: Conflict) -> None:
    melt, inputs, _ = begin(mint, alice, new_quote(mint))
    built = done(mint.ledger.note_built(melt, BUILT))
    with pytest.raises(StorageError):
        done(mint.ledger.discard_payout(built, conflict, "no"))
    assert mint.states(inputs) == [ProofState.PENDING]
    settle(mint, built)


def test_nothing_is_discarded_that_is_not_there(mint: Mint, alice: Wallet) -> None:
    melt, _, _ = begin(mint, alice, new_quote(mint))
    with pytest.raises(StorageError):
        done(mint.ledger.discard_payout(melt, CONFLICT, "no"))
    built = done(mint.ledger.note_built(melt, BUILT))
    settle(mint, built)
    with pytest.raises(StorageError):
        done(mint.ledger.discard_payout(built, CONFLICT, "no"))
    with pytest.raises(StorageError):
        done(mint.ledger.note_built(built, BUILT))


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE payouts SET fee_sat = fee_sat + 1",
        "DELETE FROM payouts",
        "UPDATE melt_quotes SET sent_msat = sent_msat + 1000 WHERE state = 'PAID'",
        "INSERT INTO payouts SELECT 2, x'" + "dd" * 32 + "', 0, '', 0, 0, 0, 0, NULL",
    ],
)
def test_the_audit_finds_what_was_tampered_with(tmp_path: Path, alice: Wallet, tampering: str) -> None:
    mint = Mint(tmp_path / "ledger.sqlite3")
    melt, _, _ = begin(mint, alice, new_quote(mint))
    settle(mint, done(mint.ledger.note_built(melt, BUILT)))
    new_quote(mint)
    assert mint.audit().faults == ()
    mint.execute(tampering)
    assert mint.audit().faults != ()
    mint.close()
