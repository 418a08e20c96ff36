"""What the mint owes, held against what its node owns: a mint beside a node could only ask to be believed.

By the books as the ledger keeps them, so it costs the same however old the mint is; `cashu-audit` recomputes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import apsw

from ledger import audit
from ledger.audit import KeysetBooks
from ledger.ledger import Ledger
from ledger.operations import exposure, melt_quote
from ledger.units import to_msat
from plugin.node.routes import Liquidity, Routes
from plugin.node.view import Funds, Node

MSAT_PER_SAT = 1000


@dataclass(frozen=True, slots=True)
class Owned:
    """What the node owns. `on_the_way_msat`: what is on its way out on the chain. It is owed until it has arrived for
    good, so it counts as owned as well."""

    funds: Funds
    on_the_way_msat: int

    @property
    def total_msat(self) -> int:
        """What stands against the debts."""
        return self.funds.channels_msat + self.funds.onchain_msat + self.on_the_way_msat


@dataclass(frozen=True, slots=True)
class Books:
    """The ledger's side, at one moment. `unissued_msat`: paid for by wallets, which may still ask for its ecash;
    `earned_msat`: what the mint has above what it owes, fees and roundings less losses; `melts_msat`: what the
    destinations of melts in flight shall receive."""

    keysets: tuple[KeysetBooks, ...]
    outstanding: dict[str, int]
    outstanding_msat: int
    unissued_msat: int
    earned_msat: int
    melts: int
    melts_msat: int

    @property
    def owed_msat(self) -> int:
        """The ecash in wallets' hands, and what they may still have issued."""
        return self.outstanding_msat + self.unissued_msat


@dataclass(frozen=True, slots=True)
class Balance:
    """Both sides."""

    books: Books
    owned: Owned
    liquidity: Liquidity

    @property
    def covered(self) -> bool:
        """Whether the node owns what the mint owes."""
        return self.owned.total_msat >= self.books.owed_msat

    @property
    def sentence(self) -> str:
        """What there is to say about it."""
        owed_msat, owned_msat = self.books.owed_msat, self.owned.total_msat
        owed, owned = in_sat(owed_msat), in_sat(owned_msat)
        if not self.covered:
            missing = in_sat(owed_msat - owned_msat)
            return f"NOT COVERED: the mint owes {owed}, and its node owns {owned}: {missing} are missing."
        said = f"Covered: the mint owes {owed}, and its node owns {owned}, {in_sat(owned_msat - owed_msat)} more."
        if self.liquidity.sendable_msat < owed_msat:
            said += f" Over Lightning {in_sat(self.liquidity.sendable_msat)} of it can leave at the moment."
        return said

    def describe(self) -> dict[str, Any]:
        """All figures, for commands and pages."""
        books, funds = self.books, self.owned.funds
        return {
            "covered": self.covered,
            "sentence": self.sentence,
            "owed_msat": books.owed_msat,
            "owned_msat": self.owned.total_msat,
            "outstanding_msat": books.outstanding_msat,
            "unissued_msat": books.unissued_msat,
            "earned_msat": books.earned_msat,
            "pending_melts": books.melts,
            "pending_msat": books.melts_msat,
            "outstanding": books.outstanding,
            "keysets": [
                {
                    "id": keyset.id,
                    "unit": keyset.unit,
                    "active": keyset.active,
                    "issued": keyset.issued,
                    "redeemed": keyset.redeemed,
                    "outstanding": keyset.outstanding,
                    "fees": keyset.fees,
                }
                for keyset in books.keysets
            ],
            "node": {
                "channels": funds.channels,
                "channels_msat": funds.channels_msat,
                "sendable_msat": self.liquidity.sendable_msat,
                "receivable_msat": self.liquidity.receivable_msat,
                "onchain_msat": funds.onchain_msat,
                "on_the_way_msat": self.owned.on_the_way_msat,
                "coins": {
                    "confirmed_msat": funds.confirmed_msat,
                    "unconfirmed_msat": funds.unconfirmed_msat,
                    "reserved_msat": funds.reserved_msat,
                },
            },
        }


class Solvency:
    """Asks ledger and node. What asks the node raises RpcError, NodeUnavailableError and OutcomeUnknownError."""

    def __init__(self, ledger: Ledger, node: Node, routes: Routes) -> None:
        self._ledger = ledger
        self._node = node
        self._routes = routes

    def books(self) -> Books:
        """What is owed, and earned; asks nobody but the ledger."""
        with self._ledger.read() as db:
            return read_books(db)

    async def owned(self) -> Owned:
        """What the node owns."""
        melts = self._ledger.pending_payouts()
        sent = [(melt.amount_msat, melt.built) for melt in melts if melt.built is not None]
        funds = await self._node.funds({built.txid.hex() for _, built in sent})
        return Owned(funds, sum(amount_msat + built.fee_sat * MSAT_PER_SAT for amount_msat, built in sent))

    async def balance(self) -> Balance:
        """Both sides, looked at one after the other: a payment that comes in between shows on one of them only."""
        owned = await self.owned()
        liquidity = await self._routes.liquidity()
        return Balance(self.books(), owned, liquidity)


def read_books(db: apsw.Connection) -> Books:
    """The ledger's side, from a snapshot of it."""
    outstanding = audit.outstanding(db)
    outstanding_msat = sum(to_msat(amount, unit) for unit, amount in outstanding.items())
    owed_msat = exposure.owed_msat(db)
    return Books(
        keysets=tuple(audit.keyset_books(db)),
        outstanding=outstanding,
        outstanding_msat=outstanding_msat,
        unissued_msat=owed_msat - outstanding_msat,
        earned_msat=audit.surplus_msat(db) - owed_msat,
        melts=melt_quote.count_pending(db),
        melts_msat=melt_quote.sum_pending_msat(db),
    )


def in_sat(amount_msat: int) -> str:
    """An amount for people: `1 234 567 sat`, or `0.999 sat` if it is no whole number of them."""
    whole, rest = divmod(amount_msat, MSAT_PER_SAT)
    return f"{whole:,}".replace(",", " ") + (f".{rest:03} sat" if rest else " sat")
