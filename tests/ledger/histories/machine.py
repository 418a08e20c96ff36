"""Random histories of several wallets against a plain model of what they own and what the mint owes.

After every step the audit finds no fault and the books are the model's; at the end every proof, output and quote is in
the state that the model says. A step may be anything that a wallet, the node, the chain or the operator can do at that
moment, sensible or not; the model knows with which code the ledger must refuse it.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from tests.ledger.histories.minting import Minting
from tests.ledger.histories.model import UNITS, WALLETS, ModelKeyset
from tests.ledger.histories.payouts import Payouts
from tests.ledger.histories.swaps import Swaps


class Histories(Minting, Swaps, Payouts):
    """Each rule is a step of a history."""

    @initialize(fees=st.lists(st.sampled_from([0, 100, 1500]), min_size=2, max_size=2))
    def begin_with_ecash(self, fees: list[int]) -> None:
        """Every wallet owns something from the start."""
        for unit, fee in zip(UNITS, fees, strict=True):
            self.rotate_keyset(unit, fee, None)
            for name in WALLETS:
                scale = 1 if unit == "sat" else 1024  # msat for payments on the chain, too
                quote = self.new_mint_quote(unit, 31 * scale, None)
                self.pay(quote, 31_000 if unit == "sat" else 31 * scale, 1)
                self.issue_outputs(name, quote, [scale * n for n in (1, 2, 4, 8, 16)])

    def rotate_keyset(self, unit: str, fee: int, lifetime: int | None) -> None:
        keyset = self.mint.rotate(unit, fee, None if lifetime is None else self.now() + lifetime)
        self.model.keysets[keyset.id] = ModelKeyset(keyset)

    @rule(
        data=st.data(),
        what=st.sampled_from(["rotations", "delays", "delays", "restores", "restores", "restarts"]),
        unit=st.sampled_from(UNITS),
        fee=st.sampled_from([0, 0, 1, 100, 999, 1500]),
        lifetime=st.none() | st.integers(0, 2000),
        seconds=st.integers(1, 400),
    )
    def something_else(
        self, data: st.DataObject, what: str, unit: str, fee: int, lifetime: int | None, seconds: int
    ) -> None:
        """The operator rotates a keyset; quotes and keysets expire; a wallet restores; the mint is restarted."""
        self.steps[what] += 1
        match what:
            case "rotations":
                self.rotate_keyset(unit, fee, lifetime)
            case "delays":
                self.mint.clock.advance(seconds)
            case "restores":
                self.check_restore(data.draw(st.lists(st.sampled_from(self.model.drawn), max_size=20)))
            case "restarts":
                self.mint.reopen()


def histories(count: int, steps: int, *, derandomize: bool = True) -> settings:
    """So many histories of so many steps."""
    return settings(
        max_examples=count,
        stateful_step_count=steps,
        deadline=None,
        derandomize=derandomize,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
