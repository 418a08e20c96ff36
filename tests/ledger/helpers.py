"""What the tests of the ledger share: a wallet, a mint around a ledger file, and the claim that a refusal changes
nothing."""

from __future__ import annotations

import hashlib
import json
import random
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import apsw
import pytest
from coincurve import PrivateKey

from ledger import curve
from ledger.audit import Audit, audit
from ledger.curve import Dleq
from ledger.errors import Code, LedgerError, StorageError
from ledger.events import Event
from ledger.ids import new_quote_id
from ledger.keysets import Keyset
from ledger.ledger import Ledger, open_ledger
from ledger.models import (
    BlindedMessage,
    BlindSignature,
    CheckStateRequest,
    MeltQuoteLightning,
    MeltRequest,
    MintQuoteBolt11,
    MintRequest,
    Proof,
    ProofState,
    ProofStateEntry,
    RestoreRequest,
    RestoreResponse,
    SignaturesResponse,
    SwapRequest,
)
from ledger.operations import mint as mint_operations
from ledger.operations.melt import Payment
from ledger.operations.melt_quote import NewPayment, NodeMark, PendingMelt, PendingPayment
from ledger.operations.mint import NewMintQuote, Receipt
from ledger.store.database import Database
from ledger.store.operation import Operation
from ledger.store.transaction import Transaction
from ledger.units import split, to_msat

ANSWER_S = 60.0
"""Nothing takes that long; a test that waits for ever says less than one that fails."""
NOW = 1_800_000_000
SEED = bytes(range(32))
METHOD = "bolt11"
SOME = Operation.PAY_INDEX
"""The name for what tests do in the writer themselves."""
PREIMAGE = b"\x07" * 32
WITNESS = '{ "signatures":[],\n"preimage" : "' + PREIMAGE.hex() + '" }'
"""Spaced as no library would: a witness must be shown as it was sent."""
VECTORS = Path(__file__).parents[1] / "vectors"
NO_POINT = "02" + "ff" * 32
"""Looks like a compressed point, but its x is not a coordinate."""

T = TypeVar("T")


def vectors(name: str) -> Any:
    """The content of a file of test vectors."""
    return json.loads((VECTORS / f"{name}.json").read_text())


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the ledger has logged. Threads that tests of a node have left behind log as well."""
    return [record.getMessage() for record in caplog.records if record.name.startswith("ledger.")]


def done(future: Future[T]) -> T:
    """The result of an operation."""
    return future.result(ANSWER_S)


def proof_y(proof: Proof) -> str:
    """The point by which the mint knows a proof."""
    return curve.hash_to_curve(proof.secret.encode()).hex()


class Clock:
    """Unix seconds that only a test moves."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


# --- the wallet -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Drawn:
    """An output with what only the wallet knows of it."""

    message: BlindedMessage
    secret: str
    blinding_factor: bytes


class Wallet:
    """Makes outputs and unblinds signatures. Its secrets come from its name, so a failing test fails again."""

    def __init__(self, name: str) -> None:
        self._random = random.Random(name)

    def draw(self, keyset: Keyset, amount: int, secret: str | None = None) -> Drawn:
        """One output."""
        secret = self._random.randbytes(32).hex() if secret is None else secret
        blinding_factor = b"\x01" + self._random.randbytes(31)
        b_ = curve.blind(secret, blinding_factor)
        return Drawn(BlindedMessage(amount=amount, id=keyset.id, B_=b_.hex()), secret, blinding_factor)

    def draw_all(self, keyset: Keyset, amounts: Iterable[int]) -> list[Drawn]:
        """One output for each amount."""
        return [self.draw(keyset, amount) for amount in amounts]

    def draw_sum(self, keyset: Keyset, amount: int) -> list[Drawn]:
        """Outputs that sum to `amount`."""
        return self.draw_all(keyset, split(amount))

    def blanks(self, keyset: Keyset, count: int) -> list[Drawn]:
        """Outputs for change; their amounts mean nothing."""
        return self.draw_all(keyset, [1] * count)


def unblind(keyset: Keyset, drawn: Drawn, signature: BlindSignature) -> Proof:
    """Make the proof, after the checks that a wallet makes: right keyset, a key for the amount, a valid DLEQ."""
    assert signature.id == drawn.message.id == keyset.id
    key = keyset.public_keys[signature.amount]
    dleq = Dleq(bytes.fromhex(signature.dleq.e), bytes.fromhex(signature.dleq.s))
    c_ = bytes.fromhex(signature.C_)
    assert curve.verify_dleq(key, bytes.fromhex(drawn.message.B_), c_, dleq)
    c = curve.unblind(c_, drawn.blinding_factor, key)
    return Proof(amount=signature.amount, id=keyset.id, secret=drawn.secret, C=c.hex())


def messages(drawn: Iterable[Drawn]) -> list[BlindedMessage]:
    """What of the outputs goes over the wire."""
    return [each.message for each in drawn]


def swap_request(inputs: Sequence[Proof], outputs: Iterable[Drawn]) -> SwapRequest:
    """`POST /v1/swap`."""
    return SwapRequest(inputs=list(inputs), outputs=messages(outputs))


def mint_request(quote: str, outputs: Iterable[Drawn], signature: str | None = None) -> MintRequest:
    """`POST /v1/mint/bolt11`."""
    return MintRequest(quote=quote, outputs=messages(outputs), signature=signature)


def melt_request(quote: str, inputs: Sequence[Proof], blanks: Iterable[Drawn] | None = None) -> MeltRequest:
    """`POST /v1/melt/bolt11`."""
    return MeltRequest(quote=quote, inputs=list(inputs), outputs=None if blanks is None else messages(blanks))


def changed(drawn: Drawn, **fields: object) -> Drawn:
    """The same output with other fields on the wire."""
    return Drawn(drawn.message.model_copy(update=fields), drawn.secret, drawn.blinding_factor)


def schnorr(private_key: bytes, message: bytes) -> str:
    """A NUT-20 signature."""
    return PrivateKey(private_key).sign_schnorr(hashlib.sha256(message).digest()).hex()


# --- the mint ---------------------------------------------------------------------------------------------------


class Mint:
    """A ledger in a file, with the clock it reads and the events it published. `unit` has an active keyset without
    fee from the start."""

    def __init__(self, path: Path, units: Sequence[str] = ("sat",)) -> None:
        self.path = path
        self.clock = Clock()
        self.events: list[Event] = []
        self.deaths: list[str] = []
        self.open()
        for unit in units:
            self.rotate(unit)
        self.events.clear()

    # life

    def open(self, seed: bytes = SEED) -> None:
        self.database = Database(self.path)
        try:
            open_ledger(self.database, None, self.clock)
            self.ledger = Ledger(self.database, seed, self.clock, self.deaths.append)
        except BaseException:
            self.database.close()
            raise
        self.ledger.subscribe(self.events.append)

    def close(self) -> None:
        self.ledger.close()

    def reopen(self) -> None:
        self.close()
        self.open()

    # looking inside

    def dump(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every row of every table, and the schema."""
        with self.ledger.read() as db:
            schema = [tuple(row) for row in db.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema")]
            tables = [name for kind, name, _, _ in schema if kind == "table"]
            rows = {table: [tuple(row) for row in db.execute(f"SELECT * FROM {table}")] for table in tables}
            return rows | {"sqlite_schema": schema}

    def rows_but_commits(self) -> dict[str, list[tuple[Any, ...]]]:
        """For calls that are answered and change nothing: they may still count as a commit."""
        rows = self.dump()
        del rows["ledger"]
        return rows

    def value(self, sql: str) -> Any:
        with self.ledger.read() as db:
            return db.execute(sql).get

    def audit(self) -> Audit:
        with self.ledger.read() as db:
            return audit(db)

    def run(self, operation: Callable[[Transaction], T]) -> T:
        return done(self.ledger.submit(SOME, operation))

    def execute(self, sql: str, *bindings: apsw.SQLiteValue) -> None:
        """Change rows behind the ledger's back."""
        self.run(lambda tx: [tx.db.execute(sql, bindings), None][1])

    @contextmanager
    def held_writer(self, fails: bool = False) -> Iterator[None]:
        """Keep the writer busy: what is submitted meanwhile queues up, and is then run in one batch. `fails`: that
        batch can't be committed."""
        busy, go_on = threading.Event(), threading.Event()

        def wait(tx: Transaction) -> None:
            busy.set()
            assert go_on.wait(ANSWER_S)

        holding = self.ledger.submit(SOME, wait)
        assert busy.wait(ANSWER_S)
        try:
            yield
        finally:
            go_on.set()
            assert isinstance(holding.exception(ANSWER_S), StorageError if fails else type(None))

    # operations

    def rotate(self, unit: str = "sat", fee: int = 0, expiry: int | None = None) -> Keyset:
        return done(self.ledger.rotate(unit, fee, expiry))

    def keyset(self, unit: str = "sat") -> Keyset:
        keyset = self.ledger.keysets.active(unit)
        assert keyset is not None
        return keyset

    def mint_quote(
        self,
        amount: int | None,
        unit: str = "sat",
        *,
        pubkey: str | None = None,
        expiry: int | None = None,
        method: str = METHOD,
    ) -> MintQuoteBolt11:
        quote_id = new_quote_id()
        new = NewMintQuote(quote_id, method, unit, f"invoice of {quote_id}", amount, expiry, pubkey)
        return cast(MintQuoteBolt11, done(self.ledger.create_mint_quote(new)))

    def now_mint_quote(self, quote: str) -> MintQuoteBolt11:
        """As `GET` answers it."""
        return cast(MintQuoteBolt11, self.ledger.mint_quote(METHOD, quote))

    def now_melt_quote(self, quote: str) -> MeltQuoteLightning:
        """As `GET` answers it."""
        return cast(MeltQuoteLightning, self.ledger.melt_quote(METHOD, quote))

    def pay(self, quote: str, msat: int, payment_id: bytes | None = None) -> MintQuoteBolt11 | None:
        receipt = Receipt(quote.encode() if payment_id is None else payment_id, msat)
        return cast(MintQuoteBolt11 | None, self.run(lambda tx: mint_operations.credit(tx, METHOD, quote, receipt)))

    def paid_quote(self, amount: int, unit: str = "sat", *, pubkey: str | None = None) -> MintQuoteBolt11:
        quote = self.pay(self.mint_quote(amount, unit, pubkey=pubkey).quote, to_msat(amount, unit))
        assert quote is not None
        return quote

    def issue(self, quote: str, outputs: Iterable[Drawn], signature: str | None = None) -> SignaturesResponse:
        return done(self.ledger.issue(METHOD, mint_request(quote, outputs, signature)))

    def fund(self, wallet: Wallet, *amounts: int, unit: str = "sat") -> list[Proof]:
        """Proofs of these amounts, from the unit's active keyset."""
        keyset = self.keyset(unit)
        drawn = wallet.draw_all(keyset, amounts)
        answer = self.issue(self.paid_quote(sum(amounts), unit).quote, drawn)
        return [unblind(keyset, *pair) for pair in zip(drawn, answer.signatures, strict=True)]

    def fund_locked(self, wallet: Wallet) -> Proof:
        """A proof of 8 whose secret has a condition (NUT-14), and the witness that meets it."""
        hashlock = hashlib.sha256(PREIMAGE).hexdigest()
        secret = json.dumps(["HTLC", {"nonce": new_quote_id(), "data": hashlock}])
        drawn = wallet.draw(self.keyset(), 8, secret)
        (signature,) = self.issue(self.paid_quote(8).quote, [drawn]).signatures
        return unblind(self.keyset(), drawn, signature).model_copy(update={"witness": WITNESS})

    def swap(self, inputs: Sequence[Proof], outputs: Iterable[Drawn]) -> SignaturesResponse:
        return done(self.ledger.swap(swap_request(inputs, outputs)))

    def melt_quote(
        self,
        amount: int,
        fee_reserve: int = 0,
        unit: str = "sat",
        *,
        payment_hash: bytes | None = None,
        expiry: int = NOW + 3600,
    ) -> MeltQuoteLightning:
        quote_id = new_quote_id()
        new = NewPayment(
            id=quote_id,
            method=METHOD,
            unit=unit,
            request=f"invoice of {quote_id}",
            payment_hash=quote_id.encode() if payment_hash is None else payment_hash,
            amount=amount,
            amount_msat=to_msat(amount, unit),
            amountless=False,
            fee_reserve=fee_reserve,
            expiry=expiry,
            mark=NodeMark(3, 7),
        )
        return cast(MeltQuoteLightning, done(self.ledger.create_melt_quote(new)))

    def begin(
        self, quote: str, inputs: Sequence[Proof], blanks: Iterable[Drawn] | None = None, max_pending: int = 100
    ) -> PendingPayment:
        begun = done(self.ledger.begin_melt(METHOD, melt_request(quote, inputs, blanks), max_pending))
        assert isinstance(begun.melt, PendingPayment)
        return begun.melt

    def settle(self, pending: PendingMelt, fee_msat: int = 0, preimage: bytes | None = PREIMAGE) -> MeltQuoteLightning:
        return cast(
            MeltQuoteLightning,
            done(self.ledger.settle_melt(pending, Payment(preimage, pending.amount_msat + fee_msat))),
        )

    def release(self, pending: PendingMelt, error: str = "no route") -> MeltQuoteLightning:
        return cast(MeltQuoteLightning, done(self.ledger.release_melt(pending, error)))

    def states(self, proofs: Iterable[Proof]) -> list[ProofState]:
        return [entry.state for entry in self.state_entries(proofs)]

    def state_entries(self, proofs: Iterable[Proof]) -> list[ProofStateEntry]:
        return self.ledger.check_state(CheckStateRequest(Ys=[proof_y(proof) for proof in proofs])).states

    def restore(self, outputs: Iterable[Drawn]) -> RestoreResponse:
        return self.ledger.restore(RestoreRequest(outputs=messages(outputs)))


@contextmanager
def refused(mint: Mint, code: Code) -> Iterator[None]:
    """The claim that the ledger refuses with `code`, and that neither a row nor a listener notices."""
    rows, events = mint.dump(), list(mint.events)
    with pytest.raises(LedgerError) as caught:
        yield
    assert caught.value.code is code, f"{caught.value!r} instead of {code!r}"
    assert mint.dump() == rows
    assert mint.events == events
