"""Steps by which value goes out: Lightning payments that succeed, fail, or are told of too late."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from ledger.errors import Code, StorageError
from ledger.methods import BOLT11, ONCHAIN
from ledger.models import MeltOnchainRequest, MeltQuoteState, MeltRequest, Proof, ProofState
from ledger.operations.melt import Begun, Payment
from ledger.operations.melt_quote import PendingMelt, PendingPayout
from ledger.units import MSAT_PER_UNIT, split, to_msat
from tests.ledger.helpers import Drawn, done, melt_request, messages
from tests.ledger.histories.base import MAX_PENDING, Base, mostly, seldom
from tests.ledger.histories.model import UNITS, WALLETS, Coin, ModelMelt, first

INVOICES = 4
"""So few payment hashes that quotes of one invoice meet."""


class Melts(Base):
    """Melt quotes, melts, and what becomes of their payments."""

    def ask_melt_quote(self, unit: str, amount: int, reserve: int, known_invoice: int | None, lifetime: int) -> None:
        """Some invoices are asked for again and again, the others are new."""
        invoice = INVOICES + len(self.model.melts) if known_invoice is None else known_invoice
        code = first(
            (self.model.melt_of_invoice(invoice, MeltQuoteState.PAID), Code.INVOICE_PAID),
            (self.model.melt_of_invoice(invoice, MeltQuoteState.PENDING), Code.QUOTE_PENDING),
        )
        expiry, payment_hash = self.now() + lifetime, f"invoice {invoice}".encode()
        quote = self.refused_or_done(
            "melt quotes",
            code,
            lambda: self.mint.melt_quote(amount, reserve, unit, payment_hash=payment_hash, expiry=expiry),
        )
        if quote is not None:
            self.model.melts.append(ModelMelt(quote.quote, unit, invoice, amount, reserve, expiry))

    @rule(
        name=st.sampled_from(WALLETS),
        data=st.data(),
        unit=st.sampled_from(UNITS),
        amount=st.integers(1, 20),
        reserve=st.integers(0, 8),
        known_invoice=st.none() | st.integers(0, INVOICES - 1),
        lifetime=st.integers(0, 3000),
        old_quote=st.booleans(),
        outcome=st.sampled_from(["", "", "paid", "failed"]),
        enough=mostly,
        blanks=st.integers(0, 4),
        old_output=seldom,
        opened=mostly,
    )
    def melt(
        self,
        name: str,
        data: st.DataObject,
        unit: str,
        amount: int,
        reserve: int,
        known_invoice: int | None,
        lifetime: int,
        old_quote: bool,
        outcome: str,
        enough: bool,
        blanks: int,
        old_output: bool,
        opened: bool,
    ) -> None:
        """A wallet asks for a quote, and executes it or another one: it may be in flight, paid or expired by now."""
        self.ask_melt_quote(unit, amount, reserve, known_invoice, lifetime)
        melts = [melt for melt in self.model.melts if melt.method == BOLT11]
        if not melts:
            return
        failed = [melt for melt in melts if melt.attempts and melt.state is MeltQuoteState.UNPAID]
        melt = melts[-1]
        if old_quote:
            retry: bool = data.draw(mostly)
            melt = data.draw(st.sampled_from(failed if retry and failed else melts))
        coins = self.choose_coins(data, name, melt.unit)
        if enough:
            coins = self.enough_coins(name, melt.unit, melt.amount + melt.reserve) or coins
        outputs = self.draw(name, melt.unit, [1] * blanks) + self.used_before(data, melt.unit, old_output)
        attempts = len(melt.attempts)
        if coins:
            self.begin_melt(name, melt, coins, outputs, opened)
        if outcome and len(melt.attempts) > attempts:
            self.hear(melt, melt.attempts[-1], outcome == "paid", data.draw(st.integers(0, 12_000)), full=True)

    def begin_melt(
        self,
        name: str,
        melt: ModelMelt,
        coins: list[Coin],
        outputs: list[Drawn],
        opened: bool,
        fee_index: int | None = None,
    ) -> None:
        total, fee = sum(coin.proof.amount for coin in coins), self.fee(coins)
        b_s = [each.message.B_ for each in outputs]
        reserve = melt.reserve
        offered = True
        if melt.method == ONCHAIN:
            assert fee_index is not None
            offered = fee_index < len(melt.fees) and melt.fee_index in (None, fee_index)
            reserve = melt.fees[fee_index] if offered else 0
        is_lightning = melt.method == BOLT11
        code = (
            first(
                (melt.state is MeltQuoteState.PENDING, Code.QUOTE_PENDING),
                (melt.state is MeltQuoteState.PAID, Code.INVOICE_PAID),
                (
                    is_lightning and self.model.melt_of_invoice(melt.invoice, MeltQuoteState.PAID),
                    Code.INVOICE_PAID,
                ),
                (
                    is_lightning and self.model.melt_of_invoice(melt.invoice, MeltQuoteState.PENDING),
                    Code.QUOTE_PENDING,
                ),
                (melt.expiry < self.now(), Code.QUOTE_EXPIRED),
            )
            or self.form_code(coins)
            or self.lock_code(coins, opened)
            or first(
                (len(set(b_s)) < len(b_s), Code.DUPLICATE_OUTPUTS),
                (bool(outputs) and self.expired(self.mint.keyset(melt.unit).id), Code.KEYSET_EXPIRED),
                (not offered, Code.QUOTE_REJECTED),
                (total < melt.amount + reserve + fee, Code.NOT_BALANCED),
                (len(self.model.pending()) >= MAX_PENDING, Code.QUOTE_REJECTED),
            )
            or self.input_code(coins)
            or self.output_code(outputs)
        )
        request = _request(melt, self.proofs(coins, opened), outputs, fee_index)

        def ask() -> Begun:
            return done(self.mint.ledger.begin_melt(melt.method, request, MAX_PENDING))

        begun = self.refused_or_done(f"{melt.method} melts begun", code, ask)
        if begun is None:
            return
        assert begun.melt is not None
        melt.attempts.append(begun.melt)
        melt.payout = begun.melt if isinstance(begun.melt, PendingPayout) else None
        melt.state, melt.coins, melt.blanks, melt.fee, melt.owner = MeltQuoteState.PENDING, coins, outputs, fee, name
        melt.fee_index, melt.reserve = fee_index, reserve
        self.model.held_outputs |= set(b_s)
        for coin in coins:
            coin.state = ProofState.PENDING
        rows = self.mint.dump()
        again = ask()
        assert (again.melt, again.quote, self.mint.dump()) == (None, begun.quote, rows)

    # --- outcomes -------------------------------------------------------------------------------------------------

    @precondition(lambda self: any(melt.attempts for melt in self.model.melts if melt.method == BOLT11))
    @rule(
        data=st.data(),
        paid=st.booleans(),
        fee_msat=st.integers(0, 12_000),
        full=mostly,
        in_flight=mostly,
    )
    def hear_of_payment(self, data: st.DataObject, paid: bool, fee_msat: int, full: bool, in_flight: bool) -> None:
        """The node says what became of a payment: mostly of one in flight, sometimes of one that is over."""
        begun = [melt for melt in self.model.melts if melt.attempts and melt.method == BOLT11]
        pending = [melt for melt in begun if melt.state is MeltQuoteState.PENDING]
        melt = data.draw(st.sampled_from(pending if in_flight and pending else begun))
        self.hear(melt, data.draw(st.sampled_from(melt.attempts)), paid, fee_msat, full)

    def hear(self, melt: ModelMelt, attempt: PendingMelt, paid: bool, fee_msat: int, full: bool) -> None:
        """`full`: the destination took all of the amount."""
        if not paid:
            self.release(melt, attempt)
            return
        amount_msat = to_msat(melt.amount, melt.unit)
        fee_msat = fee_msat * MSAT_PER_UNIT[melt.unit] // 1000
        self.settle(melt, attempt, amount_msat + fee_msat if full else amount_msat - amount_msat // 3)

    def settle(self, melt: ModelMelt, attempt: PendingMelt, sent_msat: int) -> None:
        """In time, again, for an earlier attempt, or for one given back."""
        if melt.state is not MeltQuoteState.PENDING:
            self.settle_too_late(melt, attempt, sent_msat)
            return
        self.steps[f"{melt.method} melts settled"] += 1
        quote = done(self.mint.ledger.settle_melt(attempt, Payment(b"\x07" * 32, sent_msat)))
        self.redeem(melt.coins)
        inputs = sum(coin.proof.amount for coin in melt.coins)
        overpaid = max(0, inputs - melt.fee - -(-sent_msat // MSAT_PER_UNIT[melt.unit]))
        parts = split(overpaid)
        expected = parts[max(0, len(parts) - len(melt.blanks)) :]
        melt.change = quote.change or []
        assert [signature.amount for signature in melt.change] == expected
        self.model.held_outputs -= {each.message.B_ for each in melt.blanks}
        self.receive(melt.owner, melt.blanks[: len(expected)], melt.change)
        melt.state = MeltQuoteState.PAID
        amount_msat = to_msat(melt.amount, melt.unit)
        self.model.paid_out_msat += min(sent_msat, amount_msat)
        self.model.routing_msat += max(0, sent_msat - amount_msat)

    def settle_too_late(self, melt: ModelMelt, attempt: PendingMelt, sent_msat: int) -> None:
        self.steps[f"{melt.method} melts settled, too late"] += 1
        rows, events = self.mint.rows_but_commits(), list(self.mint.events)
        settling = self.mint.ledger.settle_melt(attempt, Payment(None, sent_msat))
        if melt.state is MeltQuoteState.PAID:
            assert done(settling).change == (melt.change or None)
        else:
            with pytest.raises(StorageError):
                done(settling)
        assert (self.mint.rows_but_commits(), self.mint.events) == (rows, events)

    def release(self, melt: ModelMelt, attempt: PendingMelt) -> None:
        """In time, again, for an earlier attempt, or for one that was paid."""
        self.steps[f"{melt.method} melts released"] += 1
        quote = self.mint.release(attempt)
        if melt.state is MeltQuoteState.PENDING and attempt.attempt == len(melt.attempts):
            self.given_back(melt)
        assert quote.state is melt.state

    def given_back(self, melt: ModelMelt) -> None:
        for coin in melt.coins:
            coin.state = ProofState.UNSPENT
        self.model.held_outputs -= {each.message.B_ for each in melt.blanks}
        melt.state, melt.payout = MeltQuoteState.UNPAID, None


def _request(
    melt: ModelMelt, proofs: list[Proof], outputs: list[Drawn], fee_index: int | None
) -> MeltRequest | MeltOnchainRequest:
    if melt.method == ONCHAIN:
        assert fee_index is not None
        return MeltOnchainRequest(quote=melt.id, inputs=proofs, outputs=messages(outputs), fee_index=fee_index)
    return melt_request(melt.id, proofs, outputs)
