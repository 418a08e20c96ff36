"""What the operator pauses, and the message of the day: durable, and nothing that was promised is taken back."""

from __future__ import annotations

from ledger.errors import Code
from ledger.ids import new_quote_id
from ledger.operations.mint import NewMintQuote
from ledger.operations.policy import Policy
from tests.ledger.helpers import METHOD, NOW, Mint, Wallet, done, melt_request, refused


def ask(mint: Mint) -> str:
    quote_id = new_quote_id()
    done(mint.ledger.create_mint_quote(NewMintQuote(quote_id, METHOD, "sat", quote_id, 8, NOW + 60, None)))
    return quote_id


def test_a_pause_of_minting_refuses_new_quotes_and_honours_those_that_are_paid(mint: Mint, alice: Wallet) -> None:
    paid, unpaid = mint.paid_quote(8), ask(mint)
    done(mint.ledger.pause(minting=True))
    assert mint.ledger.policy == Policy(minting_paused_at=NOW)
    with refused(mint, Code.MINTING_DISABLED):
        ask(mint)
    with refused(mint, Code.MINTING_DISABLED):
        mint.ledger.require_room(1, 0)
    assert not mint.ledger.has_room(1, 0)
    proofs = [*mint.issue(paid.quote, alice.draw_sum(mint.keyset(), 8)).signatures]
    assert len(proofs) == 1
    mint.pay(unpaid, 8000)
    mint.issue(unpaid, alice.draw_sum(mint.keyset(), 8))
    done(mint.ledger.pause(minting=False))
    assert mint.ledger.policy == Policy()
    ask(mint)


def test_a_pause_of_melting_refuses_new_melts_and_lets_those_in_flight_go_on(mint: Mint, alice: Wallet) -> None:
    flying, waiting = mint.melt_quote(8), mint.melt_quote(16)
    first, second = mint.fund(alice, 8, 2), mint.fund(alice, 16, 2)
    pending = mint.begin(flying.quote, first)
    done(mint.ledger.pause(melting=True))
    with refused(mint, Code.QUOTE_REJECTED):
        mint.melt_quote(32)
    with refused(mint, Code.QUOTE_REJECTED):
        mint.begin(waiting.quote, second)
    again = done(mint.ledger.begin_melt(METHOD, melt_request(flying.quote, first), 10))
    assert (again.melt, again.quote.state) == (None, "PENDING")
    with refused(mint, Code.QUOTE_PENDING):
        done(mint.ledger.begin_melt(METHOD, melt_request(flying.quote, second), 10))
    assert mint.settle(pending).state == "PAID"
    mint.swap(second, alice.draw_sum(mint.keyset(), 18))
    ask(mint)


def test_a_failed_melt_cannot_be_tried_again_during_a_pause(mint: Mint, alice: Wallet) -> None:
    quote, proofs = mint.melt_quote(8), mint.fund(alice, 8, 2)
    pending = mint.begin(quote.quote, proofs)
    done(mint.ledger.pause(melting=True))
    assert mint.release(pending).state == "UNPAID"
    with refused(mint, Code.QUOTE_REJECTED):
        mint.begin(quote.quote, proofs)
    done(mint.ledger.pause(melting=False))
    mint.settle(mint.begin(quote.quote, proofs))


def test_each_is_paused_by_itself_and_since_when_it_was_first(mint: Mint) -> None:
    done(mint.ledger.pause(minting=True))
    mint.clock.advance(60)
    assert done(mint.ledger.pause(minting=True, melting=True)) == Policy(NOW, NOW + 60)
    assert done(mint.ledger.pause(minting=False)) == Policy(None, NOW + 60)
    assert done(mint.ledger.pause()) == Policy(None, NOW + 60)


def test_it_all_survives_a_restart(mint: Mint) -> None:
    done(mint.ledger.pause(minting=True, melting=True))
    done(mint.ledger.set_motd("closed on Sunday"))
    mint.reopen()
    assert mint.ledger.policy == Policy(NOW, NOW, "closed on Sunday")
    assert done(mint.ledger.set_motd(None)).motd is None
    mint.reopen()
    assert mint.ledger.policy == Policy(NOW, NOW, None)
