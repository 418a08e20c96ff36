"""Steps by which value comes in: mint quotes of every method, their payments, and their issue, one by one or in a
batch."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from ledger.errors import Code, StorageError
from ledger.ids import new_quote_id
from ledger.methods import BOLT11, BOLT12, ONCHAIN, REUSABLE
from ledger.models import MintBatchRequest, SignaturesResponse
from ledger.operations import deposit
from ledger.operations import mint as mint_operations
from ledger.operations.deposit import Deposit
from ledger.operations.mint import NewMintQuote, Receipt, signed_message
from ledger.units import MSAT_PER_UNIT, split, to_msat
from tests.ledger.helpers import Drawn, done, messages, mint_request, schnorr
from tests.ledger.histories.base import KEY, PUBKEY, Base, locks, mostly, seldom
from tests.ledger.histories.model import UNITS, WALLETS, ModelDeposit, ModelMintQuote, first


class Minting(Base):
    """Quotes, payments, issues."""

    # --- quotes and payments --------------------------------------------------------------------------------------

    def new_mint_quote(
        self, unit: str, amount: int | None, lifetime: int | None, method: str = BOLT11
    ) -> ModelMintQuote:
        expiry = None if lifetime is None else self.now() + lifetime
        quote_id = new_quote_id()
        pubkey = None if method == BOLT11 else PUBKEY
        new = NewMintQuote(quote_id, method, unit, f"request of {quote_id}", amount, expiry, pubkey)
        done(self.mint.ledger.create_mint_quote(new))
        model = ModelMintQuote(quote_id, method, unit, amount, expiry, updated_at=self.now())
        self.model.mint_quotes.append(model)
        return model

    @rule(
        data=st.data(),
        unit=st.sampled_from(UNITS),
        amount=st.integers(1, 200),
        lifetime=st.none() | st.integers(0, 500),
        paid=mostly,
        an_older_one=seldom,
        delta=st.sampled_from([0, 0, 0, 1, 999, 2000, -1, -1500]),
        times=st.integers(1, 3),
    )
    def get_mint_quote(
        self,
        data: st.DataObject,
        unit: str,
        amount: int,
        lifetime: int | None,
        paid: bool,
        an_older_one: bool,
        delta: int,
        times: int,
    ) -> None:
        """A bolt11 quote is asked for. It or another one is paid: exactly, over or under; and the node says so
        repeatedly."""
        quote = self.new_mint_quote(unit, amount, lifetime)
        if an_older_one:
            quote = data.draw(st.sampled_from([q for q in self.model.mint_quotes if q.method == BOLT11]))
        if paid:
            assert quote.amount is not None
            self.pay(quote, to_msat(quote.amount, quote.unit) + delta, times)

    @rule(
        data=st.data(),
        unit=st.sampled_from(UNITS),
        amount=st.none() | st.integers(1, 100),
        an_older_one=mostly,
        msats=st.lists(st.integers(0, 60_000), max_size=3),
        times=st.integers(1, 3),
    )
    def offer(
        self, data: st.DataObject, unit: str, amount: int | None, an_older_one: bool, msats: list[int], times: int
    ) -> None:
        """A bolt12 quote is paid some times, each with any amount, and each told repeatedly (NUT-25)."""
        older = [quote for quote in self.model.mint_quotes if quote.method == BOLT12]
        if an_older_one and older:
            quote = data.draw(st.sampled_from(older))
        else:
            quote = self.new_mint_quote(unit, amount, None, BOLT12)
        for msat in msats:
            self.pay(quote, msat, times)

    def pay(self, quote: ModelMintQuote, msat: int, times: int) -> None:
        """Pay an invoice of a quote; the node says so some times."""
        self.steps["payments received"] += 1
        quote.payments += 1
        receipt = Receipt(f"payment {quote.payments} of {quote.id}".encode(), max(0, msat))
        for _ in range(times):
            self.mint.run(lambda tx: mint_operations.credit(tx, quote.method, quote.id, receipt))
        self.received(quote, receipt.received_msat)

    def received(self, quote: ModelMintQuote, msat: int) -> None:
        quote.paid += msat // MSAT_PER_UNIT[quote.unit]
        quote.updated_at = max(quote.updated_at + 1, self.now())
        self.model.received_msat += msat

    # --- deposits -------------------------------------------------------------------------------------------------

    @rule(
        data=st.data(),
        unit=st.sampled_from(UNITS),
        lifetime=st.none() | st.integers(0, 500),
        an_older_one=mostly,
        amount_sat=st.integers(1, 100),
        age=st.integers(-100, 300),
        deep=st.booleans(),
    )
    def deposit(
        self,
        data: st.DataObject,
        unit: str,
        lifetime: int | None,
        an_older_one: bool,
        amount_sat: int,
        age: int,
        deep: bool,
    ) -> None:
        """Somebody pays an address: in time or late; perhaps it is deep enough at once (NUT-30)."""
        older = [quote for quote in self.model.mint_quotes if quote.method == ONCHAIN]
        if an_older_one and older:
            quote = data.draw(st.sampled_from(older))
        else:
            quote = self.new_mint_quote(unit, None, lifetime, ONCHAIN)
        quote.payments += 1
        txid = quote.id.encode()[-31:] + bytes([quote.payments % 256])
        output = Deposit(txid, quote.payments, amount_sat, self.now() - age)
        in_time = quote.expiry is None or output.seen_at <= quote.expiry
        self.steps["deposits" if in_time else "deposits, too late"] += 1
        assert self.see(quote, output) == in_time
        if in_time:
            quote.deposits.append(ModelDeposit(output))
            if deep:
                self.credit(quote, quote.deposits[-1])
        else:
            with pytest.raises(StorageError):
                self.mint.run(lambda tx: deposit.credit(tx, quote.id, output))

    def see(self, quote: ModelMintQuote, output: Deposit) -> bool:
        return self.mint.run(lambda tx: deposit.note_seen(tx, quote.id, output))

    def credit(self, quote: ModelMintQuote, seen: ModelDeposit) -> None:
        self.mint.run(lambda tx: deposit.credit(tx, quote.id, seen.output))
        if not seen.credited:
            seen.credited = True
            self.received(quote, seen.output.amount_sat * 1000)

    @precondition(lambda self: any(quote.deposits for quote in self.model.mint_quotes))
    @rule(data=st.data(), replaced=st.booleans(), later=st.integers(0, 1000))
    def follow_deposit(self, data: st.DataObject, replaced: bool, later: int) -> None:
        """A block that held a deposit is replaced, and it is seen again, later: it stays what it was. Or it is deep
        enough, perhaps for the second time."""
        quote = data.draw(st.sampled_from([quote for quote in self.model.mint_quotes if quote.deposits]))
        seen = data.draw(st.sampled_from(quote.deposits))
        self.steps["deposits seen again" if replaced else "deposits credited"] += 1
        if replaced:
            old = seen.output
            assert self.see(quote, Deposit(old.txid, old.vout, old.amount_sat, old.seen_at + later))
        else:
            self.credit(quote, seen)
        with self.mint.ledger.read() as db:
            watched = {output for _, output in deposit.watched(db)}
        everybodys = [each for other in self.model.mint_quotes for each in other.deposits]
        assert watched == {each.output for each in everybodys if not each.credited}

    # --- issue ----------------------------------------------------------------------------------------------------

    @rule(
        name=st.sampled_from(WALLETS),
        data=st.data(),
        again=seldom,
        more=seldom,
        part=st.booleans(),
        old_output=seldom,
        signed=mostly,
        lock=locks,
    )
    def issue(
        self,
        name: str,
        data: st.DataObject,
        again: bool,
        more: bool,
        part: bool,
        old_output: bool,
        signed: bool,
        lock: str,
    ) -> None:
        """A wallet wants all that is left of a quote, or a part of it, or more; perhaps with an output used before, or
        without the signature that it needs."""
        quote = data.draw(st.sampled_from(self.issuable(again)))
        amount = data.draw(st.integers(1, quote.left)) if part and quote.left else max(1, quote.left + more)
        used_before = self.used_before(data, quote.unit, old_output)
        self.issue_outputs(name, quote, split(amount), used_before, signed=signed, lock=lock)

    def issuable(self, again: bool) -> list[ModelMintQuote]:
        """Quotes of which something can be issued, or any."""
        quotes = [quote for quote in self.model.mint_quotes if again or not 0 < quote.paid == quote.issued]
        if not quotes:
            quotes.append(self.new_mint_quote("sat", 40, None))
            self.pay(quotes[0], 40_000, 1)
        return quotes

    def issue_outputs(
        self,
        name: str,
        quote: ModelMintQuote,
        amounts: list[int],
        used_before: list[Drawn] | None = None,
        *,
        signed: bool = True,
        lock: str = "",
    ) -> None:
        outputs = self.draw(name, quote.unit, amounts[len(used_before or []) :], lock) + (used_before or [])
        total = sum(each.message.amount for each in outputs)
        code = (
            self.quote_code(quote, signed)
            or first(
                (self.expired(self.mint.keyset(quote.unit).id), Code.KEYSET_EXPIRED),
                (total > quote.left, Code.NOT_BALANCED),
            )
            or self.output_code(outputs)
        )
        signature = self.signature(quote, outputs, signed)
        request = mint_request(quote.id, outputs, signature)

        def ask() -> SignaturesResponse:
            return done(self.mint.ledger.issue(quote.method, request))

        answer = self.refused_or_done(f"{quote.method} issues", code, ask)
        if answer is not None:
            self.take(quote, total)
            self.receive(name, outputs, answer.signatures)
            self.same_again(answer, ask)

    def quote_code(self, quote: ModelMintQuote, signed: bool) -> Code | None:
        """Why nothing can be issued of a quote."""
        has_expired = quote.expiry is not None and quote.expiry < self.now() and quote.method != ONCHAIN
        return first(
            (quote.is_locked and not signed, Code.SIGNATURE_INVALID),
            (not quote.paid and has_expired, Code.QUOTE_EXPIRED),
            (not quote.paid, Code.QUOTE_NOT_PAID),
            (not quote.left, Code.QUOTE_ISSUED),
        )

    @staticmethod
    def signature(quote: ModelMintQuote, outputs: Sequence[Drawn], signed: bool) -> str | None:
        """By the quote's key, over all outputs (NUT-20)."""
        return schnorr(KEY, signed_message(quote.id, messages(outputs))) if quote.is_locked and signed else None

    def take(self, quote: ModelMintQuote, amount: int) -> None:
        if amount:
            quote.issued += amount
            quote.updated_at = max(quote.updated_at + 1, self.now())

    @rule(
        name=st.sampled_from(WALLETS),
        data=st.data(),
        method=st.sampled_from([BOLT11, BOLT12, ONCHAIN]),
        again=seldom,
        mixed=seldom,
        twice=seldom,
        amounts=st.booleans(),
        wrong=st.sampled_from([0] * 7 + [1, -1]),
        old_output=seldom,
        signed=mostly,
    )
    def issue_batch(
        self,
        name: str,
        data: st.DataObject,
        method: str,
        again: bool,
        mixed: bool,
        twice: bool,
        amounts: bool,
        wrong: int,
        old_output: bool,
        signed: bool,
    ) -> None:
        """Several quotes at once, all or nothing (NUT-29): with amounts or without, of several units, one twice."""
        quotes = [quote for quote in self.model.mint_quotes if quote.method == method and (again or quote.left)]
        quotes = [quote for quote in quotes if mixed or quote.unit == quotes[0].unit]
        if not quotes:
            return
        chosen = data.draw(st.lists(st.sampled_from(quotes), min_size=1, max_size=4, unique_by=id))
        chosen = [*chosen, chosen[0]] if twice else chosen
        asked = [data.draw(st.integers(1, max(1, quote.left))) for quote in chosen] if amounts else None
        most = asked or [q.left if method in REUSABLE or q.amount is None else q.amount for q in chosen]
        unit = chosen[0].unit
        used_before = self.used_before(data, unit, old_output)
        rest = max(1, sum(most) + wrong) - sum(each.message.amount for each in used_before)
        outputs = self.draw(name, unit, split(rest) if rest > 0 else [1]) + used_before
        total = sum(each.message.amount for each in outputs)
        taken = _filled(most, total) if method in REUSABLE else most
        b_s = [each.message.B_ for each in outputs]
        code = (
            first((twice, Code.DUPLICATE_QUOTES))
            or next((code for quote in chosen if (code := self.quote_code(quote, signed))), None)
            or first(
                (len(set(b_s)) < len(b_s), Code.DUPLICATE_OUTPUTS),
                (self.expired(self.mint.keyset(unit).id), Code.KEYSET_EXPIRED),
                (len({quote.unit for quote in chosen}) > 1, Code.SEVERAL_UNITS),
                (any(not 0 < n <= quote.left for n, quote in zip(most, chosen, strict=True)), Code.NOT_BALANCED),
                (sum(taken) != total, Code.NOT_BALANCED),
            )
            or self.output_code(outputs)
        )
        request = MintBatchRequest(
            quotes=[quote.id for quote in chosen],
            quote_amounts=asked,
            outputs=messages(outputs),
            signatures=[self.signature(quote, outputs, signed) for quote in chosen],
        )

        def ask() -> SignaturesResponse:
            return done(self.mint.ledger.issue_batch(method, request))

        answer = self.refused_or_done("batches", code, ask)
        if answer is not None:
            for quote, amount in zip(chosen, taken, strict=True):
                self.take(quote, amount)
            self.receive(name, outputs, answer.signatures)
            self.same_again(answer, ask)


def _filled(most: list[int], total: int) -> list[int]:
    """What each gives when they are asked in their order for no more than `total`."""
    taken = []
    for limit in most:
        taken.append(min(limit, total))
        total -= taken[-1]
    return taken
