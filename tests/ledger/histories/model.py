"""A plain model of what wallets own and what the mint owes them; it knows nothing of how the ledger does it."""

from __future__ import annotations

from dataclasses import dataclass, field

from ledger.errors import Code
from ledger.keysets import Keyset
from ledger.methods import BOLT11
from ledger.models import BlindSignature, MeltQuoteState, Proof, ProofState
from ledger.operations.deposit import Deposit
from ledger.operations.melt_quote import PendingMelt, PendingPayout
from ledger.units import to_msat
from tests.ledger.helpers import Drawn

WALLETS = ("alice", "bob", "carol")
UNITS = ("sat", "msat")


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
class ModelDeposit:
    """An output on the chain that the mint has seen."""

    output: Deposit
    credited: bool = False


@dataclass
class ModelMintQuote:
    """A mint quote. Those that can be paid again and again are locked to a key. `updated_at` as the mint shows it."""

    id: str
    method: str
    unit: str
    amount: int | None
    expiry: int | None
    paid: int = 0
    issued: int = 0
    updated_at: int = 0
    payments: int = 0
    deposits: list[ModelDeposit] = field(default_factory=list)

    @property
    def left(self) -> int:
        """What can be issued."""
        return self.paid - self.issued

    @property
    def is_locked(self) -> bool:
        """Whether an issue needs a signature (NUT-20)."""
        return self.method != BOLT11


@dataclass
class ModelMelt:
    """A melt quote with what its attempt holds. `attempts` are the handles by which it can be settled or released.

    On the chain it has `fees` to choose from, and `reserve` is that of the one that was chosen; `payout` is its handle
    as it is now, and `fee_sat` what its transaction pays."""

    id: str
    unit: str
    invoice: int
    amount: int
    reserve: int
    expiry: int
    method: str = BOLT11
    fees: tuple[int, ...] = ()
    fee_index: int | None = None
    payout: PendingPayout | None = None
    fee_sat: int = 0
    state: MeltQuoteState = MeltQuoteState.UNPAID
    coins: list[Coin] = field(default_factory=list)
    blanks: list[Drawn] = field(default_factory=list)
    fee: int = 0
    owner: str = ""
    attempts: list[PendingMelt] = field(default_factory=list)
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
        """What the books of the keysets say that wallets own."""
        books = self.keysets.values()
        return sum(to_msat(each.issued - each.redeemed, each.keyset.unit) for each in books)

    def unissued_msat(self) -> int:
        """What was paid for and not issued."""
        return sum(to_msat(quote.left, quote.unit) for quote in self.mint_quotes)

    def loss(self) -> bool:
        """Whether the mint has paid more in routing fees than it earned."""
        owed_msat = self.outstanding_msat() + self.unissued_msat()
        return owed_msat > self.received_msat - self.paid_out_msat - self.routing_msat

    def melt_of_invoice(self, invoice: int, state: MeltQuoteState) -> bool:
        """Whether there is a melt of this invoice in that state."""
        return any(melt.invoice == invoice and melt.state is state for melt in self.melts if melt.method == BOLT11)

    def pending(self) -> list[ModelMelt]:
        """The melts in flight."""
        return [melt for melt in self.melts if melt.state is MeltQuoteState.PENDING]


def first(*checks: tuple[bool, Code]) -> Code | None:
    """The code of the first check that applies."""
    return next((code for applies, code in checks if applies), None)
