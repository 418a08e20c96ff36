"""What the steps of a history are made with: a mint and the model of it, coins and outputs, and what always holds."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import ClassVar, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant

from ledger.errors import Code
from ledger.ids import new_quote_id
from ledger.keysets import input_fee
from ledger.models import BlindSignature, Proof, ProofState, SignaturesResponse
from ledger.units import to_msat
from tests.ledger.helpers import PREIMAGE, Drawn, Mint, Wallet, refused, schnorr, unblind
from tests.ledger.histories.model import UNITS, WALLETS, Coin, Model, ModelKeyset, first

MAX_PENDING = 3
KEY = b"\x07" * 32
PUBKEY = "02989c0b76cb563971fdc9bef31ec06c3560f3249d6ee9e5d83c57625596e05f6f"
"""The key of every quote and coin that is locked to one."""
STALE = [[ProofState.PENDING], [ProofState.PENDING, ProofState.UNSPENT]]

mostly = st.sampled_from([True, True, True, False])
seldom = st.sampled_from([False] * 7 + [True])
locks = st.sampled_from(["", "", "", "P2PK", "HTLC"])
"""What the outputs of a step are locked with."""

T = TypeVar("T")


class Base(RuleBasedStateMachine):
    """A history without steps."""

    steps: ClassVar[Counter[str]] = Counter()
    """How many steps of each kind all histories of this process have made."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.mint = Mint(self.folder / "ledger.sqlite3", UNITS)
        self.mint.database.writer.pragma("synchronous", "OFF")  # no history here ends in a crash
        self.wallets = {name: Wallet(name) for name in WALLETS}
        self.model = Model()
        self.steps["histories"] += 1
        for keyset in self.mint.ledger.keysets:
            self.model.keysets[keyset.id] = ModelKeyset(keyset)

    # --- helpers --------------------------------------------------------------------------------------------------

    def now(self) -> int:
        return int(self.mint.clock.now)

    def expired(self, keyset_id: str) -> bool:
        return self.model.keysets[keyset_id].keyset.is_expired(self.now())

    def refused_or_done(self, kind: str, code: Code | None, act: Callable[[], T]) -> T | None:
        """Do something; with a code: see it refused with that, and nothing changed."""
        self.steps[kind if code is None else f"{kind}, refused"] += 1
        if code is None:
            return act()
        with refused(self.mint, code):
            act()
        return None

    def same_again(self, answer: SignaturesResponse, ask: Callable[[], SignaturesResponse]) -> None:
        rows = self.mint.dump()
        assert ask() == answer
        assert self.mint.dump() == rows

    # --- outputs --------------------------------------------------------------------------------------------------

    def draw(self, name: str, unit: str, amounts: Iterable[int], lock: str = "") -> list[Drawn]:
        keyset = self.mint.keyset(unit)
        drawn = [self.wallets[name].draw(keyset, amount, _secret(lock)) for amount in amounts]
        self.model.drawn += drawn
        return drawn

    def used_before(self, data: st.DataObject, unit: str, wanted: bool) -> list[Drawn]:
        """If wanted, an output that was drawn before for the active keyset of that unit."""
        active = self.mint.keyset(unit).id
        drawn = [each for each in self.model.drawn if each.message.id == active]
        held = [each for each in drawn if each.message.B_ in self.model.held_outputs]
        only_held: bool = data.draw(st.booleans())
        drawn = held if held and only_held else drawn
        return [data.draw(st.sampled_from(drawn))] if wanted and drawn else []

    def output_code(self, outputs: Sequence[Drawn]) -> Code | None:
        """Why these outputs can't be signed because of what was signed before."""
        b_s = {each.message.B_ for each in outputs}
        return first(
            (bool(b_s & self.model.signatures.keys()), Code.OUTPUTS_SIGNED),
            (bool(b_s & self.model.held_outputs), Code.OUTPUTS_PENDING),
        )

    def receive(self, name: str, outputs: Sequence[Drawn], signatures: Sequence[BlindSignature]) -> None:
        """The wallet gets its signatures."""
        for drawn, signature in zip(outputs, signatures, strict=True):
            books = self.model.keysets[signature.id]
            books.issued += signature.amount
            self.model.signatures[drawn.message.B_] = signature
            self.model.coins[name].append(Coin(unblind(books.keyset, drawn, signature)))

    # --- coins ----------------------------------------------------------------------------------------------------

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

    def enough_coins(self, name: str, unit: str, needed: int) -> list[Coin]:
        """Fresh coins worth so much after their fee, largest first; none if there are too few."""
        coins = [
            coin
            for coin in self.model.coins[name]
            if coin.state is ProofState.UNSPENT
            and self.model.keysets[coin.proof.id].keyset.unit == unit
            and not self.expired(coin.proof.id)
        ]
        coins.sort(key=lambda coin: coin.proof.amount, reverse=True)
        for count in range(1, len(coins) + 1):
            chosen = coins[:count]
            if sum(c.proof.amount for c in chosen) >= needed + self.fee(chosen):
                return chosen
        return []

    def proofs(self, coins: Sequence[Coin], with_witness: bool) -> list[Proof]:
        """As they are sent; those that are locked with what opens them, or without."""
        return [_opened(coin.proof) if with_witness else coin.proof for coin in coins]

    def lock_code(self, coins: Sequence[Coin], with_witness: bool) -> Code | None:
        """Why these can't be spent if one of them is locked."""
        locked = any(_kind(coin.proof.secret) for coin in coins)
        return first((locked and not with_witness, Code.SIGNATURE_INVALID))

    def form_code(self, coins: Sequence[Coin]) -> Code | None:
        """Why these can't be the inputs of anything."""
        secrets = {coin.proof.secret for coin in coins}
        return first(
            (not coins, Code.TRANSACTION_REJECTED),
            (len(secrets) < len(coins), Code.DUPLICATE_INPUTS),
            (any(self.expired(coin.proof.id) for coin in coins), Code.KEYSET_EXPIRED),
        )

    def input_code(self, coins: Sequence[Coin]) -> Code | None:
        """Why these proofs can't be spent because of what was spent before."""
        states = {coin.state for coin in coins}
        return first(
            (ProofState.SPENT in states, Code.PROOFS_SPENT), (ProofState.PENDING in states, Code.PROOFS_PENDING)
        )

    def fee(self, coins: Sequence[Coin]) -> int:
        return input_fee(self.model.keysets[coin.proof.id].keyset.input_fee_ppk for coin in coins)

    def redeem(self, coins: Iterable[Coin]) -> None:
        for coin in coins:
            coin.state = ProofState.SPENT
            self.model.keysets[coin.proof.id].redeemed += coin.proof.amount

    # --- what holds -----------------------------------------------------------------------------------------------

    @invariant()
    def the_books_are_the_models(self) -> None:
        audit = self.mint.audit()
        losses = [fault for fault in audit.faults if "are more than received" in fault]
        assert (list(audit.faults), bool(losses)) == (losses, self.model.loss())
        owned: Counter[str] = Counter()
        for coins in self.model.coins.values():
            for coin in coins:
                owned[coin.proof.id] += coin.proof.amount if coin.state is not ProofState.SPENT else 0
        for books in audit.keysets:
            model = self.model.keysets[books.id]
            assert (books.issued, books.redeemed) == (model.issued, model.redeemed)
            assert books.outstanding == owned[books.id]
        worth_msat = sum(to_msat(owned[n], model.keyset.unit) for n, model in self.model.keysets.items())
        assert audit.outstanding_msat == self.model.outstanding_msat() == worth_msat
        assert audit.unissued_msat == self.model.unissued_msat()
        assert audit.received_msat == self.model.received_msat
        assert (audit.paid_out_msat, audit.routing_fees_msat) == (self.model.paid_out_msat, self.model.routing_msat)

    def check_restore(self, drawn: list[Drawn]) -> None:
        signed = [each for each in drawn if each.message.B_ in self.model.signatures]
        restored = self.mint.restore(drawn)
        assert restored.outputs == [each.message for each in signed]
        assert restored.signatures == [self.model.signatures[each.message.B_] for each in signed]

    def check_all(self) -> None:
        """Every proof, output and quote is as the model says."""
        for coins in self.model.coins.values():
            assert self.mint.states(coin.proof for coin in coins) == [coin.state for coin in coins]
        for start in range(0, len(self.model.drawn), 1000):
            self.check_restore(self.model.drawn[start : start + 1000])
        for quote in self.model.mint_quotes:
            shown = self.mint.ledger.mint_quote(quote.method, quote.id)
            expected = (quote.paid, quote.issued, quote.updated_at)
            assert (shown.amount_paid, shown.amount_issued, shown.updated_at) == expected
        for melt in self.model.melts:
            melt_quote = self.mint.ledger.melt_quote(melt.method, melt.id)
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


def _secret(lock: str) -> str | None:
    """A secret that is locked (NUT-11, NUT-14); None for an ordinary one."""
    if not lock:
        return None
    data = PUBKEY if lock == "P2PK" else hashlib.sha256(PREIMAGE).hexdigest()
    return json.dumps([lock, {"nonce": new_quote_id(), "data": data}])


def _kind(secret: str) -> str | None:
    return next((kind for kind in ("P2PK", "HTLC") if secret.startswith(f'["{kind}"')), None)


def _opened(proof: Proof) -> Proof:
    match _kind(proof.secret):
        case "P2PK":
            witness = {"signatures": [schnorr(KEY, proof.secret.encode())]}
        case "HTLC":
            witness = {"preimage": PREIMAGE.hex()}  # type: ignore[dict-item]
        case _:
            return proof
    return proof.model_copy(update={"witness": json.dumps(witness)})
