"""Random histories of several wallets against a plain model of what they own and what the mint owes.

After every step the audit finds no fault and the books are the model's; at the end every proof, output and quote is in
the state that the model says. A step may be anything that a wallet, the node or the operator can do at that moment,
sensible or not; the model knows with which code the ledger must refuse it.
"""

from __future__ import annotations

import functools
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ledger import curve
from ledger.errors import Code, StorageError
from ledger.keysets import Keyset, input_fee
from ledger.models import (
    BlindSignature,
    MeltQuoteState,
    Proof,
    ProofState,
    SignaturesResponse,
)
from ledger.operations.melt import Payment
from ledger.operations.melt_quote import PendingPayment
from ledger.units import MSAT_PER_UNIT, split, to_msat
from tests.ledger.helpers import METHOD, Drawn, Mint, Wallet, done, melt_request, mint_request, refused, unblind

WALLETS = ("alice", "bob", "carol")
UNITS = ("sat", "msat")
MAX_PENDING = 3
INVOICES = 4
"""So few payment hashes that quotes of one invoice meet."""

T = TypeVar("T")

STALE = [[ProofState.PENDING], [ProofState.PENDING, ProofState.UNSPENT]]
mostly = st.sampled_from([True, True, True, False])
seldom = st.sampled_from([False] * 7 + [True])


@pytest.fixture(autouse=True, scope="module")
def _keys_are_derived_once() -> Iterator[None]:
    """All histories have the same seed: deriving its keys again and again would take most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curve, "public_key", functools.cache(curve.public_key))
        yield


# --- the model ----------------------------------------------------------------------------------------------------


@dataclass
class ModelKeyset:
    """One keyset with its books."""

    keyset: Keyset
    issued: int = 0
    redeemed: int = 0


@dataclass
class Coin:
    """A proof in a wallet."""

    proof: Proof
    state: ProofState = ProofState.UNSPENT


@dataclass
class ModelMintQuote:
    """A mint quote. `updates` counts its changes."""

    id: str
    unit: str
    amount: int
    expiry: int | None
    paid: int = 0
    issued: int = 0
    updated_at: int = 0
    payments: int = 0


@dataclass
class ModelMelt:
    """A melt quote with what its attempt holds. `attempts` are the handles by which it can be settled or released."""

    id: str
    unit: str
    invoice: int
    amount: int
    reserve: int
    expiry: int
    state: MeltQuoteState = MeltQuoteState.UNPAID
    coins: list[Coin] = field(default_factory=list)
    blanks: list[Drawn] = field(default_factory=list)
    fee: int = 0
    owner: str = ""
    attempts: list[PendingPayment] = field(default_factory=list)
    change: list[BlindSignature] = field(default_factory=list)


@dataclass
class Model:
    """What the mint owes, to whom."""

    keysets: dict[str, ModelKeyset] = field(default_factory=dict)
    coins: dict[str, list[Coin]] = field(default_factory=lambda: {name: [] for name in WALLETS})
    drawn: list[Drawn] = field(default_factory=list)
    signatures: dict[str, BlindSignature] = field(default_factory=dict)
    held_outputs: set[str] = field(default_factory=set)
    mint_quotes: list[ModelMintQuote] = field(default_factory=list)
    melts: list[ModelMelt] = field(default_factory=list)
    received_msat: int = 0
    paid_out_msat: int = 0
    routing_msat: int = 0

    def outstanding_msat(self) -> int:
        books = self.keysets.values()
        return sum(to_msat(each.issued - each.redeemed, each.keyset.unit) for each in books)

    def unissued_msat(self) -> int:
        return sum(to_msat(quote.paid - quote.issued, quote.unit) for quote in self.mint_quotes)

    def loss(self) -> bool:
        """Whether the mint has paid more in routing fees than it earned."""
        owed_msat = self.outstanding_msat() + self.unissued_msat()
        return owed_msat > self.received_msat - self.paid_out_msat - self.routing_msat

    def melt_of_invoice(self, invoice: int, state: MeltQuoteState) -> bool:
        return any(melt.invoice == invoice and melt.state is state for melt in self.melts)

    def pending(self) -> list[ModelMelt]:
        return [melt for melt in self.melts if melt.state is MeltQuoteState.PENDING]


def first(*checks: tuple[bool, Code]) -> Code | None:
    """The code of the first check that applies."""
    return next((code for applies, code in checks if applies), None)


# --- the machine --------------------------------------------------------------------------------------------------


class Histories(RuleBasedStateMachine):
    """Each rule is a step of a history."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.mint = Mint(self.folder / "ledger.sqlite3", UNITS)
        self.mint.database.writer.pragma("synchronous", "OFF")  # no history here ends in a crash
        self.wallets = {name: Wallet(name) for name in WALLETS}
        self.model = Model()
        for keyset in self.mint.ledger.keysets:
            self.model.keysets[keyset.id] = ModelKeyset(keyset)

    @initialize(fees=st.lists(st.sampled_from([0, 100, 1500]), min_size=2, max_size=2))
    def begin_with_ecash(self, fees: list[int]) -> None:
        """Every wallet owns something from the start."""
        for unit, fee in zip(UNITS, fees, strict=True):
            self.rotate_keyset(unit, fee, None)
            for name in WALLETS:
                quote = self.new_mint_quote(unit, 31, None)
                self.pay(quote, 0, 1)
                self.issue_outputs(name, quote, [1, 2, 4, 8, 16])

    # helpers

    def now(self) -> int:
        return int(self.mint.clock.now)

    def expired(self, keyset_id: str) -> bool:
        return self.model.keysets[keyset_id].keyset.is_expired(self.now())

    def refused_or_done(self, code: Code | None, act: Callable[[], T]) -> T | None:
        """Do something; with a code: see it refused with that, and nothing changed."""
        if code is None:
            return act()
        with refused(self.mint, code):
            act()
        return None

    def draw(self, name: str, unit: str, amounts: Iterable[int]) -> list[Drawn]:
        drawn = self.wallets[name].draw_all(self.mint.keyset(unit), amounts)
        self.model.drawn += drawn
        return drawn

    def output_code(self, outputs: Sequence[Drawn]) -> Code | None:
        """Why these outputs can't be signed because of what was signed before."""
        b_s = {each.message.B_ for each in outputs}
        return first(
            (bool(b_s & self.model.signatures.keys()), Code.OUTPUTS_SIGNED),
            (bool(b_s & self.model.held_outputs), Code.OUTPUTS_PENDING),
        )

    def input_code(self, coins: Sequence[Coin]) -> Code | None:
        """Why these proofs can't be spent because of what was spent before."""
        states = {coin.state for coin in coins}
        return first(
            (ProofState.SPENT in states, Code.PROOFS_SPENT), (ProofState.PENDING in states, Code.PROOFS_PENDING)
        )

    def receive(self, name: str, outputs: Sequence[Drawn], signatures: Sequence[BlindSignature]) -> None:
        """The wallet gets its signatures."""
        for drawn, signature in zip(outputs, signatures, strict=True):
            books = self.model.keysets[signature.id]
            books.issued += signature.amount
            self.model.signatures[drawn.message.B_] = signature
            self.model.coins[name].append(Coin(unblind(books.keyset, drawn, signature)))

    def redeem(self, coins: Iterable[Coin]) -> None:
        for coin in coins:
            coin.state = ProofState.SPENT
            self.model.keysets[coin.proof.id].redeemed += coin.proof.amount

    # mint quotes

    def new_mint_quote(self, unit: str, amount: int, lifetime: int | None) -> ModelMintQuote:
        expiry = None if lifetime is None else self.now() + lifetime
        quote = self.mint.mint_quote(amount, unit, expiry=expiry)
        model = ModelMintQuote(quote.quote, unit, amount, expiry, updated_at=self.now())
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
        """A quote is asked for. It or another one is paid: exactly, over or under; and the node says so repeatedly."""
        quote = self.new_mint_quote(unit, amount, lifetime)
        if an_older_one:
            quote = data.draw(st.sampled_from(self.model.mint_quotes))
        if paid:
            self.pay(quote, delta, times)

    def pay(self, quote: ModelMintQuote, delta: int, times: int) -> None:
        msat = max(0, to_msat(quote.amount, quote.unit) + delta)
        quote.payments += 1
        payment_id = f"payment {quote.payments} of {quote.id}".encode()
        for _ in range(times):
            self.mint.pay(quote.id, msat, payment_id)
        quote.paid += msat // MSAT_PER_UNIT[quote.unit]
        quote.updated_at = max(quote.updated_at + 1, self.now())
        self.model.received_msat += msat

    @rule(
        name=st.sampled_from(WALLETS),
        data=st.data(),
        again=seldom,
        more=seldom,
        part=st.booleans(),
        old_output=seldom,
    )
    def issue(self, name: str, data: st.DataObject, again: bool, more: bool, part: bool, old_output: bool) -> None:
        """A wallet wants all that is left of a quote, or a part of it, or more; perhaps with an output used before."""
        unissued = [quote for quote in self.model.mint_quotes if not 0 < quote.paid == quote.issued]
        if not unissued and not again:
            unissued.append(self.new_mint_quote("sat", 40, None))
            self.pay(unissued[0], 0, 1)
        quote = data.draw(st.sampled_from(self.model.mint_quotes if again else unissued))
        left = quote.paid - quote.issued
        amount = data.draw(st.integers(1, left)) if part and left else max(1, left + more)
        self.issue_outputs(name, quote, split(amount), self.used_before(data, quote.unit, old_output))

    def used_before(self, data: st.DataObject, unit: str, wanted: bool) -> list[Drawn]:
        """If wanted, an output that was drawn before for the active keyset of that unit."""
        active = self.mint.keyset(unit).id
        drawn = [each for each in self.model.drawn if each.message.id == active]
        held = [each for each in drawn if each.message.B_ in self.model.held_outputs]
        only_held: bool = data.draw(st.booleans())
        drawn = held if held and only_held else drawn
        return [data.draw(st.sampled_from(drawn))] if wanted and drawn else []

    def issue_outputs(
        self, name: str, quote: ModelMintQuote, amounts: list[int], used_before: list[Drawn] | None = None
    ) -> None:
        outputs = self.draw(name, quote.unit, amounts[len(used_before or []) :]) + (used_before or [])
        total = sum(each.message.amount for each in outputs)
        left = quote.paid - quote.issued
        code = first(
            (not quote.paid and quote.expiry is not None and quote.expiry < self.now(), Code.QUOTE_EXPIRED),
            (not quote.paid, Code.QUOTE_NOT_PAID),
            (not left, Code.QUOTE_ISSUED),
            (self.expired(self.mint.keyset(quote.unit).id), Code.KEYSET_EXPIRED),
            (total > left, Code.NOT_BALANCED),
        ) or self.output_code(outputs)
        request = mint_request(quote.id, outputs)
        answer = self.refused_or_done(code, lambda: done(self.mint.ledger.issue(METHOD, request)))
        if answer is not None:
            quote.issued += total
            quote.updated_at = max(quote.updated_at + 1, self.now())
            self.receive(name, outputs, answer.signatures)
            self.same_again(answer, lambda: done(self.mint.ledger.issue(METHOD, request)))

    def same_again(self, answer: SignaturesResponse, ask: Callable[[], SignaturesResponse]) -> None:
        rows = self.mint.dump()
        assert ask() == answer
        assert self.mint.dump() == rows

    # swap

    def choose_coins(self, data: st.DataObject, name: str, unit: str) -> list[Coin]:
        """Some of a wallet's coins, spent ones too, and one of them twice now and then."""
        coins = [c for c in self.model.coins[name] if self.model.keysets[c.proof.id].keyset.unit == unit]
        wanted: list[ProofState] = data.draw(st.sampled_from([[ProofState.UNSPENT]] * 6 + [list(ProofState)] + STALE))
        coins = [coin for coin in coins if coin.state in wanted] or coins
        if not coins:
            return []
        indices = st.integers(0, len(coins) - 1)
        chosen: list[int] = data.draw(st.lists(indices, min_size=1, max_size=6, unique=True))
        if data.draw(seldom) and data.draw(seldom):
            chosen.append(chosen[0])
        return [coins[n] for n in chosen]

    def form_code(self, coins: Sequence[Coin]) -> Code | None:
        secrets = {coin.proof.secret for coin in coins}
        return first(
            (not coins, Code.TRANSACTION_REJECTED),
            (len(secrets) < len(coins), Code.DUPLICATE_INPUTS),
            (any(self.expired(coin.proof.id) for coin in coins), Code.KEYSET_EXPIRED),
        )

    def fee(self, coins: Sequence[Coin]) -> int:
        return input_fee(self.model.keysets[coin.proof.id].keyset.input_fee_ppk for coin in coins)

    @rule(
        name=st.sampled_from(WALLETS),
        receiver=st.sampled_from(WALLETS),
        unit=st.sampled_from(UNITS),
        data=st.data(),
        wrong=st.sampled_from([0] * 8 + [1, -1]),
        forged=seldom,
        old_output=seldom,
    )
    def swap(
        self, name: str, receiver: str, unit: str, data: st.DataObject, wrong: int, forged: bool, old_output: bool
    ) -> None:
        """A wallet pays another one: honestly, or not balanced, forged, double-spent, with outputs used before."""
        coins = self.choose_coins(data, name, unit)
        value = sum(coin.proof.amount for coin in coins) - self.fee(coins)
        used_before = self.used_before(data, unit, old_output)
        rest = value + wrong - sum(each.message.amount for each in used_before)
        outputs = self.draw(receiver, unit, split(rest) if rest > 0 else [1]) + used_before
        total = sum(each.message.amount for each in outputs)
        proofs = [coin.proof for coin in coins]
        is_forged = forged and bool(proofs)
        if is_forged:
            proofs[-1] = proofs[-1].model_copy(update={"secret": proofs[-1].secret + "!"})
        b_s = [each.message.B_ for each in outputs]
        code = (
            (None if is_forged and len({c.proof.secret for c in coins}) < len(coins) else self.form_code(coins))
            or first(
                (len(set(b_s)) < len(b_s), Code.DUPLICATE_OUTPUTS),
                (self.expired(self.mint.keyset(unit).id), Code.KEYSET_EXPIRED),
                (total != value, Code.NOT_BALANCED),
                (is_forged, Code.PROOF_INVALID),
            )
            or self.input_code(coins)
            or self.output_code(outputs)
        )
        answer = self.refused_or_done(code, lambda: self.mint.swap(proofs, outputs))
        if answer is not None:
            self.redeem(coins)
            self.receive(receiver, outputs, answer.signatures)
            self.same_again(answer, lambda: self.mint.swap(proofs, outputs))

    # melts

    def ask_melt_quote(self, unit: str, amount: int, reserve: int, known_invoice: int | None, lifetime: int) -> None:
        """Some invoices are asked for again and again, the others are new."""
        invoice = INVOICES + len(self.model.melts) if known_invoice is None else known_invoice
        code = first(
            (self.model.melt_of_invoice(invoice, MeltQuoteState.PAID), Code.INVOICE_PAID),
            (self.model.melt_of_invoice(invoice, MeltQuoteState.PENDING), Code.QUOTE_PENDING),
        )
        expiry, payment_hash = self.now() + lifetime, f"invoice {invoice}".encode()
        quote = self.refused_or_done(
            code, lambda: self.mint.melt_quote(amount, reserve, unit, payment_hash=payment_hash, expiry=expiry)
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
    ) -> None:
        """A wallet asks for a quote, and executes it or another one: it may be in flight, paid or expired by now."""
        self.ask_melt_quote(unit, amount, reserve, known_invoice, lifetime)
        if not self.model.melts:
            return
        failed = [melt for melt in self.model.melts if melt.attempts and melt.state is MeltQuoteState.UNPAID]
        melt = self.model.melts[-1]
        if old_quote:
            retry: bool = data.draw(mostly)
            melt = data.draw(st.sampled_from(failed if retry and failed else self.model.melts))
        coins = self.choose_coins(data, name, melt.unit)
        if enough:
            coins = self.enough_coins(name, melt) or coins
        outputs = self.draw(name, melt.unit, [1] * blanks) + self.used_before(data, melt.unit, old_output)
        attempts = len(melt.attempts)
        if coins:
            self.begin_melt(name, melt, coins, outputs)
        if outcome and len(melt.attempts) > attempts:
            self.hear(melt, melt.attempts[-1], outcome == "paid", data.draw(st.integers(0, 12_000)), full=True)

    def begin_melt(self, name: str, melt: ModelMelt, coins: list[Coin], outputs: list[Drawn]) -> None:
        total, fee = sum(coin.proof.amount for coin in coins), self.fee(coins)
        b_s = [each.message.B_ for each in outputs]
        code = (
            first(
                (melt.state is MeltQuoteState.PENDING, Code.QUOTE_PENDING),
                (melt.state is MeltQuoteState.PAID, Code.INVOICE_PAID),
                (self.model.melt_of_invoice(melt.invoice, MeltQuoteState.PAID), Code.INVOICE_PAID),
                (self.model.melt_of_invoice(melt.invoice, MeltQuoteState.PENDING), Code.QUOTE_PENDING),
                (melt.expiry < self.now(), Code.QUOTE_EXPIRED),
            )
            or self.form_code(coins)
            or first(
                (len(set(b_s)) < len(b_s), Code.DUPLICATE_OUTPUTS),
                (bool(outputs) and self.expired(self.mint.keyset(melt.unit).id), Code.KEYSET_EXPIRED),
                (total < melt.amount + melt.reserve + fee, Code.NOT_BALANCED),
                (len(self.model.pending()) >= MAX_PENDING, Code.QUOTE_REJECTED),
            )
            or self.input_code(coins)
            or self.output_code(outputs)
        )
        request = melt_request(melt.id, [coin.proof for coin in coins], outputs)
        begun = self.refused_or_done(code, lambda: done(self.mint.ledger.begin_melt(METHOD, request, MAX_PENDING)))
        if begun is None:
            return
        assert isinstance(begun.melt, PendingPayment)
        melt.attempts.append(begun.melt)
        melt.state, melt.coins, melt.blanks, melt.fee, melt.owner = MeltQuoteState.PENDING, coins, outputs, fee, name
        self.model.held_outputs |= set(b_s)
        for coin in coins:
            coin.state = ProofState.PENDING
        rows = self.mint.dump()
        again = done(self.mint.ledger.begin_melt(METHOD, request, MAX_PENDING))
        assert (again.melt, again.quote, self.mint.dump()) == (None, begun.quote, rows)

    def enough_coins(self, name: str, melt: ModelMelt) -> list[Coin]:
        """Fresh coins that pay for a melt, largest first; none if there are too few."""
        coins = [
            coin
            for coin in self.model.coins[name]
            if coin.state is ProofState.UNSPENT
            and self.model.keysets[coin.proof.id].keyset.unit == melt.unit
            and not self.expired(coin.proof.id)
        ]
        coins.sort(key=lambda coin: coin.proof.amount, reverse=True)
        for count in range(1, len(coins) + 1):
            chosen = coins[:count]
            if sum(c.proof.amount for c in chosen) >= melt.amount + melt.reserve + self.fee(chosen):
                return chosen
        return []

    @precondition(lambda self: any(melt.attempts for melt in self.model.melts))
    @rule(
        data=st.data(),
        paid=st.booleans(),
        fee_msat=st.integers(0, 12_000),
        full=mostly,
        in_flight=mostly,
    )
    def hear_of_payment(self, data: st.DataObject, paid: bool, fee_msat: int, full: bool, in_flight: bool) -> None:
        """The node says what became of a payment: mostly of one in flight, sometimes of one that is over."""
        begun = [melt for melt in self.model.melts if melt.attempts]
        pending = self.model.pending()
        melt = data.draw(st.sampled_from(pending if in_flight and pending else begun))
        self.hear(melt, data.draw(st.sampled_from(melt.attempts)), paid, fee_msat, full)

    def hear(self, melt: ModelMelt, attempt: PendingPayment, paid: bool, fee_msat: int, full: bool) -> None:
        """`full`: the destination took all of the amount."""
        if not paid:
            self.release(melt, attempt)
            return
        amount_msat = to_msat(melt.amount, melt.unit)
        fee_msat = fee_msat * MSAT_PER_UNIT[melt.unit] // 1000
        self.settle(melt, attempt, amount_msat + fee_msat if full else amount_msat - amount_msat // 3)

    def settle(self, melt: ModelMelt, attempt: PendingPayment, sent_msat: int) -> None:
        """In time, again, for an earlier attempt, or for one given back."""
        if melt.state is not MeltQuoteState.PENDING:
            self.settle_too_late(melt, attempt, sent_msat)
            return
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

    def settle_too_late(self, melt: ModelMelt, attempt: PendingPayment, sent_msat: int) -> None:
        rows, events = self.mint.rows_but_commits(), list(self.mint.events)
        settling = self.mint.ledger.settle_melt(attempt, Payment(None, sent_msat))
        if melt.state is MeltQuoteState.PAID:
            assert done(settling).change == (melt.change or None)
        else:
            with pytest.raises(StorageError):
                done(settling)
        assert (self.mint.rows_but_commits(), self.mint.events) == (rows, events)

    def release(self, melt: ModelMelt, attempt: PendingPayment) -> None:
        """In time, again, for an earlier attempt, or for one that was paid."""
        quote = self.mint.release(attempt)
        if melt.state is MeltQuoteState.PENDING and attempt is melt.attempts[-1]:
            for coin in melt.coins:
                coin.state = ProofState.UNSPENT
            self.model.held_outputs -= {each.message.B_ for each in melt.blanks}
            melt.state = MeltQuoteState.UNPAID
        assert quote.state is melt.state

    # the operator, the clock, the process

    def rotate_keyset(self, unit: str, fee: int, lifetime: int | None) -> None:
        keyset = self.mint.rotate(unit, fee, None if lifetime is None else self.now() + lifetime)
        self.model.keysets[keyset.id] = ModelKeyset(keyset)

    @rule(
        data=st.data(),
        what=st.sampled_from(["rotation", "time", "time", "restore", "restore", "restart"]),
        unit=st.sampled_from(UNITS),
        fee=st.sampled_from([0, 0, 1, 100, 999, 1500]),
        lifetime=st.none() | st.integers(0, 2000),
        seconds=st.integers(1, 400),
    )
    def something_else(
        self, data: st.DataObject, what: str, unit: str, fee: int, lifetime: int | None, seconds: int
    ) -> None:
        """The operator rotates a keyset; quotes and keysets expire; a wallet restores; the mint is restarted."""
        match what:
            case "rotation":
                self.rotate_keyset(unit, fee, lifetime)
            case "time":
                self.mint.clock.advance(seconds)
            case "restore":
                self.check_restore(data.draw(st.lists(st.sampled_from(self.model.drawn), max_size=20)))
            case "restart":
                self.mint.reopen()

    # what holds

    @invariant()
    def the_books_are_the_models(self) -> None:
        audit = self.mint.audit()
        losses = [fault for fault in audit.faults if "are more than received" in fault]
        assert (list(audit.faults), bool(losses)) == (losses, self.model.loss())
        for books in audit.keysets:
            model = self.model.keysets[books.id]
            assert (books.issued, books.redeemed) == (model.issued, model.redeemed)
        assert audit.outstanding_msat == self.model.outstanding_msat() == self.worth_of_coins_msat()
        assert audit.unissued_msat == self.model.unissued_msat()
        assert audit.received_msat == self.model.received_msat
        assert (audit.paid_out_msat, audit.routing_fees_msat) == (self.model.paid_out_msat, self.model.routing_msat)

    def worth_of_coins_msat(self) -> int:
        """What the wallets own, counted coin by coin."""
        return sum(
            to_msat(coin.proof.amount, self.model.keysets[coin.proof.id].keyset.unit)
            for coins in self.model.coins.values()
            for coin in coins
            if coin.state is not ProofState.SPENT
        )

    def check_restore(self, drawn: list[Drawn]) -> None:
        signed = [each for each in drawn if each.message.B_ in self.model.signatures]
        restored = self.mint.restore(drawn)
        assert restored.outputs == [each.message for each in signed]
        assert restored.signatures == [self.model.signatures[each.message.B_] for each in signed]

    def check_all(self) -> None:
        """Every proof, output and quote is as the model says."""
        for coins in self.model.coins.values():
            assert self.mint.states(coin.proof for coin in coins) == [coin.state for coin in coins]
        self.check_restore(self.model.drawn)
        for quote in self.model.mint_quotes:
            shown = self.mint.ledger.mint_quote(METHOD, quote.id)
            assert (shown.amount_paid, shown.amount_issued, shown.updated_at) == (
                quote.paid,
                quote.issued,
                quote.updated_at,
            )
        for melt in self.model.melts:
            melt_quote = self.mint.ledger.melt_quote(METHOD, melt.id)
            assert (melt_quote.state, melt_quote.change) == (melt.state, melt.change or None)
        in_flight = {pending.quote for pending in self.mint.ledger.pending_melts()}
        assert in_flight == {melt.id for melt in self.model.pending()}

    def teardown(self) -> None:
        try:
            self.check_all()
            self.mint.reopen()
            self.check_all()
        finally:
            self.mint.close()
            shutil.rmtree(self.folder)


def histories(count: int, steps: int) -> settings:
    return settings(
        max_examples=count,
        stateful_step_count=steps,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


TestHistories = pytest.mark.timeout(900)(Histories.TestCase)
"""Enough to find what is wrong in general."""
TestHistories.settings = histories(count=20, steps=80)


class ManyHistories(Histories):
    """The same, for a test of its own."""


TestManyHistories = pytest.mark.slow(pytest.mark.timeout(3600)(ManyHistories.TestCase))
"""Enough to find what is wrong in rare cases."""
TestManyHistories.settings = histories(count=100, steps=100)
