"""Steps of on-chain melts: built once, sent, deep enough; or dead for good; or given back before they were built."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from ledger.errors import StorageError
from ledger.ids import new_quote_id
from ledger.methods import ONCHAIN
from ledger.models import MeltQuoteState
from ledger.operations.melt_quote import Built, NewFeeOption, NewPayout
from ledger.operations.payout import MIN_CONFLICT_DEPTH, Conflict
from ledger.units import to_msat
from tests.ledger.helpers import done
from tests.ledger.histories.base import mostly, seldom
from tests.ledger.histories.melts import Melts
from tests.ledger.histories.model import UNITS, WALLETS, ModelMelt


class Payouts(Melts):
    """On-chain melts. A `fee` is in the quote's unit, as its reserves are; what the miners get is in sat."""

    @rule(
        name=st.sampled_from(WALLETS),
        data=st.data(),
        unit=st.sampled_from(UNITS),
        amount_sat=st.integers(1, 12),
        fees_sat=st.lists(st.integers(0, 4), min_size=1, max_size=3),
        lifetime=st.integers(0, 3000),
        old_quote=st.booleans(),
        fee_index=st.integers(0, 3),
        enough=mostly,
        blanks=st.integers(0, 4),
        old_output=seldom,
        opened=mostly,
    )
    def melt_onchain(
        self,
        name: str,
        data: st.DataObject,
        unit: str,
        amount_sat: int,
        fees_sat: list[int],
        lifetime: int,
        old_quote: bool,
        fee_index: int,
        enough: bool,
        blanks: int,
        old_output: bool,
        opened: bool,
    ) -> None:
        """A wallet asks for a quote, and executes it or another one, with a fee that is offered or not."""
        scale = 1 if unit == "sat" else 1000
        self.ask_payout(unit, amount_sat * scale, [fee * scale for fee in fees_sat], self.now() + lifetime)
        melts = [melt for melt in self.model.melts if melt.method == ONCHAIN]
        melt = data.draw(st.sampled_from(melts)) if old_quote else melts[-1]
        if not old_quote:
            fee_index %= len(melt.fees)
        coins = self.choose_coins(data, name, melt.unit)
        if enough:
            coins = self.enough_coins(name, melt.unit, melt.amount + max(melt.fees)) or coins
        outputs = self.draw(name, melt.unit, [1] * blanks) + self.used_before(data, melt.unit, old_output)
        if coins:
            self.begin_melt(name, melt, coins, outputs, opened, fee_index)

    def ask_payout(self, unit: str, amount: int, fees: list[int], expiry: int) -> None:
        quote_id = new_quote_id()
        new = NewPayout(
            id=quote_id,
            method=ONCHAIN,
            unit=unit,
            request="an address",
            amount=amount,
            amount_msat=to_msat(amount, unit),
            expiry=expiry,
            fee_options=tuple(NewFeeOption(fee, 2 * n + 1, 1000 - n) for n, fee in enumerate(fees)),
        )
        done(self.mint.ledger.create_melt_quote(new))
        self.model.melts.append(ModelMelt(quote_id, unit, -1, amount, 0, expiry, method=ONCHAIN, fees=tuple(fees)))

    def on_the_way(self) -> list[ModelMelt]:
        """On-chain melts in flight."""
        return [melt for melt in self.model.pending() if melt.method == ONCHAIN]

    @precondition(lambda self: bool(self.on_the_way()))
    @rule(
        data=st.data(),
        step=st.sampled_from(
            ["on", "on", "on", "on", "settle", "settle", "discard", "release", "built again", "shallow"]
        ),
        fee_sat=st.integers(0, 4),
    )
    def follow_payout(self, data: st.DataObject, step: str, fee_sat: int) -> None:
        """A transaction is built, broadcast, deep enough, or dead; and what must never be is refused."""
        melt = data.draw(st.sampled_from(self.on_the_way()))
        payout = melt.payout
        assert payout is not None
        if payout.built is None:
            if step in ("release", "discard"):
                self.release(melt, payout)
            else:
                self.steps["payouts built"] += 1
                number = sum(self.steps.values())
                built = Built(number.to_bytes(32, "big"), number % 3, "signed", fee_sat, 800)
                melt.payout, melt.fee_sat = done(self.mint.ledger.note_built(payout, built)), fee_sat
            return
        amount_msat = to_msat(melt.amount, melt.unit)
        match step:
            case "on" if payout.broadcast_at is None:
                self.steps["payouts broadcast"] += 1
                melt.payout = done(self.mint.ledger.note_broadcast(payout))
                assert self.mint.ledger.melt_quote(ONCHAIN, melt.id).outpoint is not None  # type: ignore[attr-defined]
            case "on":
                assert done(self.mint.ledger.note_broadcast(payout)) == payout
            case "settle":
                self.settle(melt, payout, amount_msat + melt.fee_sat * 1000)
            case "discard":
                self.steps["payouts discarded"] += 1
                conflict = Conflict(b"\xff" * 32, 801, MIN_CONFLICT_DEPTH)
                quote = done(self.mint.ledger.discard_payout(payout, conflict, "dead"))
                assert quote.state is MeltQuoteState.UNPAID
                self.given_back(melt)
            case "release":
                self.never(lambda: self.mint.release(payout))
            case "built again":
                assert payout.built is not None
                other = Built(b"\xee" * 32, 0, "another", 1, 900)
                self.never(lambda: done(self.mint.ledger.note_built(payout, other)))
            case "shallow":
                shallow = Conflict(b"\xff" * 32, 801, MIN_CONFLICT_DEPTH - 1)
                self.never(lambda: done(self.mint.ledger.discard_payout(payout, shallow, "dead?")))

    def never(self, act: Callable[[], object]) -> None:
        """What the plugin must not ask for is refused, and changes nothing."""
        self.steps["payouts, what must not be"] += 1
        rows = self.mint.rows_but_commits()
        with pytest.raises(StorageError):
            act()
        assert self.mint.rows_but_commits() == rows
