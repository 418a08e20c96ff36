"""Steps in which ecash changes hands."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import rule

from ledger.errors import Code
from ledger.units import split
from tests.ledger.histories.base import Base, locks, mostly, seldom
from tests.ledger.histories.model import UNITS, WALLETS, first


class Swaps(Base):
    """Swaps."""

    @rule(
        name=st.sampled_from(WALLETS),
        receiver=st.sampled_from(WALLETS),
        unit=st.sampled_from(UNITS),
        data=st.data(),
        wrong=st.sampled_from([0] * 8 + [1, -1]),
        forged=seldom,
        old_output=seldom,
        lock=locks,
        opened=mostly,
    )
    def swap(
        self,
        name: str,
        receiver: str,
        unit: str,
        data: st.DataObject,
        wrong: int,
        forged: bool,
        old_output: bool,
        lock: str,
        opened: bool,
    ) -> None:
        """A wallet pays another one: honestly, or not balanced, forged, double-spent, with outputs used before, or with
        locked coins that it does not open."""
        coins = self.choose_coins(data, name, unit)
        value = sum(coin.proof.amount for coin in coins) - self.fee(coins)
        used_before = self.used_before(data, unit, old_output)
        rest = value + wrong - sum(each.message.amount for each in used_before)
        outputs = self.draw(receiver, unit, split(rest) if rest > 0 else [1], lock) + used_before
        total = sum(each.message.amount for each in outputs)
        proofs = self.proofs(coins, opened)
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
            or self.lock_code(coins, opened)
            or self.input_code(coins)
            or self.output_code(outputs)
        )
        answer = self.refused_or_done("swaps", code, lambda: self.mint.swap(proofs, outputs))
        if answer is not None:
            self.redeem(coins)
            self.receive(receiver, outputs, answer.signatures)
            self.same_again(answer, lambda: self.mint.swap(proofs, outputs))
