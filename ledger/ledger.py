"""The ledger as the plugin uses it: one object that reads snapshots and submits operations to the writer.

Methods that change something return a `concurrent.futures.Future` that is done once the change is durable. The ones
with proofs or outputs do their curve work in the calling thread first, so call them from a worker thread when the
request is large (`curve_work` says how large).
"""

from __future__ import annotations

import hmac
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import apsw

from ledger import conditions, curve, identity
from ledger.errors import LedgerError
from ledger.events import Event, Subscriber
from ledger.identity import Record
from ledger.keysets import Keyset, Keysets
from ledger.models import (
    CheckStateRequest,
    CheckStateResponse,
    MeltQuote,
    MeltRequest,
    MintBatchRequest,
    MintQuote,
    MintQuoteCheckRequest,
    MintRequest,
    RestoreRequest,
    RestoreResponse,
    SignaturesResponse,
    SwapRequest,
)
from ledger.operations import (
    exposure,
    keyset,
    melt,
    melt_quote,
    mint,
    node,
    payout,
    policy,
    replay,
    resolution,
    state,
    status,
    swap,
)
from ledger.operations.melt_quote import Built, PendingMelt, PendingPayment, PendingPayout
from ledger.store import backup
from ledger.store.database import Database
from ledger.store.operation import Operation
from ledger.store.transaction import Transaction
from ledger.store.writer import Observer, T, Work, Writer

PUBKEY_PURPOSE = b"Nutbolt_Pubkey_v1"

log = logging.getLogger(__name__)


def curve_work(request: SwapRequest | MintRequest | MintBatchRequest | MeltRequest) -> int:
    """About how many signatures a request makes the mint compute or check."""
    outputs = len(request.outputs or [])
    if isinstance(request, MintRequest):
        return outputs + (request.signature is not None)
    if isinstance(request, MintBatchRequest):
        return outputs + sum(signature is not None for signature in request.signatures or [])
    return len(request.inputs) + outputs + conditions.most_checks(request.inputs)


class Ledger:
    """An open ledger. `clock` gives unix seconds. `on_death` is called, with a sentence, when nothing can change the
    ledger any more because its writer has ended: in that thread, and before those who wait are answered."""

    def __init__(
        self,
        database: Database,
        seed: bytes,
        clock: Callable[[], float] = time.time,
        on_death: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self._database = database
        self._seed = seed
        self._clock = clock
        self._subscribers: list[Subscriber] = []
        self.pubkey = curve.public_key(hmac.digest(seed, PUBKEY_PURPOSE, "sha256"))
        """The mint's public key (NUT-06)."""
        with database.read() as db:
            self.keysets = keyset.load(db, seed)
            self.policy = policy.load(db)
            """What the operator has decided, as of the last commit that changed it."""
        if melt_quote.recount_pending(database.writer):
            log.error("the melts in flight were not as many, or not over as much, as was written down: counted again")
        self._writer = Writer(database.writer, self._begin, self._publish, on_death)

    # --- life ---------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Finish queued operations and close the database."""
        self._writer.close()
        self._database.close()

    def subscribe(self, subscriber: Subscriber) -> None:
        """Call `subscriber` with every event, after its commit, in commit order, in the writer's thread.

        It must not block and must not raise."""
        self._subscribers.append(subscriber)

    def observe(self, observer: Observer) -> None:
        """Call `observer` with every group commit, in the writer's thread. It must not block."""
        self._writer.observer = observer

    @property
    def waiting(self) -> int:
        """How many operations wait for the writer."""
        return self._writer.waiting

    def status(self) -> status.Status:
        """How the mint stands, from the books as they are kept."""
        with self.read() as db:
            return status.read(db, self.now())

    def _publish(self, event: Event) -> None:
        for subscriber in self._subscribers:
            try:
                subscriber(event)
            except Exception:
                log.exception("a subscriber to the ledger's events failed")

    def _begin(self, db: apsw.Connection) -> Transaction:
        return Transaction(db, self.now(), self.keysets)

    def now(self) -> int:
        """Unix seconds."""
        return int(self._clock())

    @contextmanager
    def read(self) -> Iterator[apsw.Connection]:
        """A snapshot of the committed ledger, for the functions of `ledger.operations` and `ledger.audit`."""
        with self._database.read() as db:
            yield db

    def submit(self, operation: Operation, work: Work[T]) -> Future[T]:
        """Do the work of an operation in the writer."""
        return self._writer.submit(operation, work)

    def backup(self, target: Path, on_progress: backup.Progress) -> backup.Copy:
        """Copy the ledger to a new file while it is in use; call it from a worker thread. Raises BackupError."""
        return backup.make(self._database.path, target, on_progress)

    @staticmethod
    def commit_number(db: apsw.Connection) -> int:
        """The number of the last commit that a snapshot has in it; compare with `commit` of events."""
        return int(db.execute("SELECT commits FROM ledger").get)

    def record(self) -> Record:
        """The ledger's identity and age, for the tripwire."""
        with self.read() as db:
            record = identity.read(db)
        assert record is not None
        return record

    def note_remembered(self, record: Record) -> None:
        """The node has stored this record. The next commit writes that down; it needs none of its own."""
        self._writer.remembered = record.commits

    def is_node_older(self, remembered: Record | None) -> bool:
        """Whether the node's database is older than it was, going by the record that it has."""
        with self.read() as db:
            return identity.is_node_older(db, remembered)

    # --- keysets ------------------------------------------------------------------------------------------------

    def rotate(
        self, unit: str, input_fee_ppk: int, final_expiry: int | None = None, configured_fee_ppk: int | None = None
    ) -> Future[Keyset]:
        """Make a new active keyset for `unit` (NUT-02). `configured_fee_ppk`: the operator's option, if it differs."""
        configured = input_fee_ppk if configured_fee_ppk is None else configured_fee_ppk
        return self.submit(
            Operation.ROTATE,
            lambda tx: keyset.rotate(tx, self._seed, unit, input_fee_ppk, final_expiry, configured, self._install),
        )

    def configured_fee(self, unit: str) -> int | None:
        """The operator's option when the unit's newest keyset was made; None without a keyset."""
        with self.read() as db:
            return keyset.configured_fee(db, unit)

    def _install(self, keysets: Keysets) -> None:
        self.keysets = keysets

    # --- what the operator decides --------------------------------------------------------------------------------

    def pause(self, minting: bool | None = None, melting: bool | None = None) -> Future[policy.Policy]:
        """Pause (True) or unpause (False) minting and melting; None leaves one as it is."""
        return self.submit(Operation.PAUSE, lambda tx: policy.pause(tx, minting, melting, self._adopt))

    def set_motd(self, motd: str | None) -> Future[policy.Policy]:
        """Set the message of the day (NUT-06); None takes it away."""
        return self.submit(Operation.MOTD, lambda tx: policy.set_motd(tx, motd, self._adopt))

    def _adopt(self, decided: policy.Policy) -> None:
        self.policy = decided

    # --- swap (NUT-03), state (NUT-07), restore (NUT-09) ----------------------------------------------------------

    def swap(self, request: SwapRequest) -> Future[SignaturesResponse]:
        """Exchange proofs for signatures; an identical request gets the same answer again."""
        digest = replay.digest(swap.KIND, request)
        with self.read() as db:
            if (response := replay.find(db, digest)) is not None:
                return _done(response)
        prepared = swap.prepare(self.keysets, request, digest, self.now())
        return self.submit(Operation.SWAP, lambda tx: swap.commit(tx, prepared))

    def check_state(self, request: CheckStateRequest) -> CheckStateResponse:
        """States of proofs by `Y`."""
        with self.read() as db:
            return state.check(db, request)

    def restore(self, request: RestoreRequest) -> RestoreResponse:
        """Signatures given before on these outputs."""
        with self.read() as db:
            return state.restore(db, request)

    # --- mint (NUT-04) --------------------------------------------------------------------------------------------

    def require_room(self, amount_msat: int, max_outstanding_msat: int) -> None:
        """Raises 20003 for a mint quote over more than may be outstanding, or while minting is paused, before anything
        is made for it; `create_mint_quote` decides for good."""
        self.policy.require_minting()
        if max_outstanding_msat:
            with self.read() as db:
                exposure.require_room(db, self.now(), amount_msat, max_outstanding_msat)

    def has_room(self, amount_msat: int, max_outstanding_msat: int) -> bool:
        """Whether a mint quote over so much could be made now."""
        if self.policy.minting_paused_at is not None:
            return False
        if not max_outstanding_msat:
            return True
        with self.read() as db:
            return exposure.has_room(db, self.now(), amount_msat, max_outstanding_msat)

    def create_mint_quote(self, quote: mint.NewMintQuote, max_outstanding_msat: int = 0) -> Future[MintQuote]:
        """Store a new mint quote. Raises 20003 if more than this could be outstanding then (0: no limit), or while
        minting is paused."""
        return self.submit(Operation.MINT_QUOTE, lambda tx: mint.create(tx, quote, max_outstanding_msat))

    def mint_quote(self, method: str, quote_id: str) -> MintQuote:
        """A mint quote as it is now. Raises 20000."""
        with self.read() as db:
            return mint.get(db, method, quote_id)

    def issue(self, method: str, request: MintRequest) -> Future[SignaturesResponse]:
        """Sign outputs for a paid quote; an identical request gets the same answer again."""
        digest = replay.digest(mint.KIND + method, request)
        with self.read() as db:  # one snapshot, or a twin of this request could come between the two looks
            if (response := replay.find(db, digest)) is not None:
                return _done(response)
            # Refused without curve work; `commit` decides for good.
            mint.require_mintable(db, method, [(request.quote, request.signature)], request.outputs, self.now())
        prepared = mint.prepare(self.keysets, method, request, digest, self.now())
        return self.submit(Operation.ISSUE, lambda tx: mint.commit(tx, prepared))

    def issue_batch(self, method: str, request: MintBatchRequest) -> Future[SignaturesResponse]:
        """Sign outputs for several paid quotes, all or nothing (NUT-29); an identical request gets the same answer."""
        digest = replay.digest(mint.KIND + "-batch" + method, request)
        signatures = request.signatures or [None] * len(request.quotes)
        with self.read() as db:
            if (response := replay.find(db, digest)) is not None:
                return _done(response)
            mint.check_batch(request.quotes)
            if len(signatures) == len(request.quotes):  # else refused below
                locks = list(zip(request.quotes, signatures, strict=True))
                mint.require_mintable(db, method, locks, request.outputs, self.now())
        prepared = mint.prepare_batch(self.keysets, method, request, digest, self.now())
        return self.submit(Operation.ISSUE_BATCH, lambda tx: mint.commit(tx, prepared))

    def mint_quotes(self, method: str, request: MintQuoteCheckRequest) -> list[MintQuote]:
        """Several mint quotes, in order (NUT-29). Raises 11016, 11017, and 20000 if any is unknown."""
        mint.check_batch(request.quotes)
        with self.read() as db:
            return [mint.get(db, method, quote_id) for quote_id in request.quotes]

    # --- melt (NUT-05) --------------------------------------------------------------------------------------------

    def create_melt_quote(self, quote: melt_quote.NewMeltQuote) -> Future[MeltQuote]:
        """Store a new melt quote. Raises 20000 while melting is paused, 20005 and 20006."""
        return self.submit(Operation.MELT_QUOTE, lambda tx: _create(tx, quote))

    def melt_quote(self, method: str, quote_id: str) -> MeltQuote:
        """A melt quote as it is now. Raises 20000."""
        with self.read() as db:
            return melt_quote.get(db, method, quote_id)

    def begin_melt(
        self, method: str, request: MeltRequest, max_pending: int, max_pending_msat: int = 0
    ) -> Future[melt.Begun]:
        """Hold the proofs of a melt. Its payment may be sent when the future is done, and not before.

        A request identical to the one that began the present attempt changes nothing, and gets the quote as it is."""
        digest = melt.request_digest(method, request)
        with self.read() as db:
            if (quote := melt.begun_before(db, method, request.quote, digest)) is not None:
                return _done(melt.Begun(quote, None))
            # Another request for a quote in flight is refused without curve work; `begin` decides for good.
            melt.require_payable(db, method, request.quote, self.now())
        prepared = melt.prepare(self.keysets, method, request, digest, self.now())
        return self.submit(Operation.MELT_BEGIN, lambda tx: melt.begin(tx, prepared, max_pending, max_pending_msat))

    def settle_melt(self, pending: PendingMelt, payment: melt.Payment) -> Future[MeltQuote]:
        """The payment was made."""
        return self.submit(Operation.MELT_SETTLE, lambda tx: melt.settle(tx, pending, payment))

    def release_melt(self, pending: PendingMelt, error: str) -> Future[MeltQuote]:
        """The payment failed for certain."""
        return self.submit(Operation.MELT_RELEASE, lambda tx: melt.release(tx, pending, error))

    def force_melt(
        self, pending: PendingMelt, order: resolution.Order, payment: melt.Payment | None
    ) -> Future[MeltQuote | None]:
        """The operator ends a melt, as paid or (without a payment) as failed. None if it is over already."""
        return self.submit(Operation.MELT_FORCE, lambda tx: resolution.force(tx, pending, order, payment))

    def note_paid_after_all(self, payment: resolution.GivenUp, sent_msat: int) -> Future[bool]:
        """A payment that the operator had given up was made. False if that is known already."""
        return self.submit(Operation.LOSS_NOTED, lambda tx: resolution.note_paid_after_all(tx, payment, sent_msat))

    def given_up(self) -> list[resolution.GivenUp]:
        """The payments that the operator has given up, and that may still turn out to have been made."""
        with self.read() as db:
            return resolution.given_up(db)

    def pending_melts(self) -> list[PendingMelt]:
        """All melts in flight."""
        with self.read() as db:
            return melt_quote.pending(db)

    def note_built(self, pending: PendingPayout, built: Built) -> Future[PendingPayout]:
        """The transaction of an on-chain melt is signed. It may be sent when the future is done, and not before."""
        return self.submit(Operation.PAYOUT_BUILT, lambda tx: payout.note_built(tx, pending, built))

    def note_broadcast(self, pending: PendingPayout) -> Future[PendingPayout]:
        """The transaction of an on-chain melt is known to bitcoin's network."""
        return self.submit(Operation.PAYOUT_BROADCAST, lambda tx: payout.note_broadcast(tx, pending))

    def discard_payout(self, pending: PendingPayout, conflict: payout.Conflict, error: str) -> Future[MeltQuote]:
        """The transaction of an on-chain melt is dead for good."""
        return self.submit(Operation.PAYOUT_DISCARD, lambda tx: payout.discard(tx, pending, conflict, error))

    def pending_payouts(self) -> list[PendingPayout]:
        """All on-chain melts in flight."""
        with self.read() as db:
            return melt_quote.pending_payouts(db)

    def pending_payout(self, quote_id: str) -> PendingPayout | None:
        """The on-chain melt in flight of this quote."""
        with self.read() as db:
            return melt_quote.pending_payout(db, quote_id)

    def pending_melt(self, payment_hash: bytes) -> PendingPayment | None:
        """The melt in flight for this payment hash."""
        with self.read() as db:
            return melt_quote.pending_by_hash(db, payment_hash)

    # --- the node -------------------------------------------------------------------------------------------------

    def note_start(
        self, node_started: bool, process: str | None = None, process_started_at: int = 0
    ) -> Future[node.NodeRun]:
        """The plugin has started: with the node, or into one that was running (see `node.note_start`)."""
        return self.submit(
            Operation.NODE_START, lambda tx: node.note_start(tx, node_started, process, process_started_at)
        )

    def note_rollback(self) -> Future[node.NodeRun]:
        """The node's database was put back to an older state."""
        return self.submit(Operation.NODE_ROLLBACK, node.note_rollback)


def _create(tx: Transaction, quote: melt_quote.NewMeltQuote) -> MeltQuote:
    policy.load(tx.db).require_melting()
    match quote:
        case melt_quote.NewPayment():
            return melt_quote.create_payment(tx, quote)
        case melt_quote.NewPayout():
            return melt_quote.create_payout(tx, quote)
    raise TypeError(f"a melt quote of an unknown kind: {type(quote)}")


def _done(result: T) -> Future[T]:
    future: Future[T] = Future()
    future.set_result(result)
    return future


def open_ledger(database: Database, remembered: Record | None, clock: Callable[[], float] = time.time) -> Record:
    """Identify the ledger in `database`, making a new one where there was none.

    Raises StartError if the node remembers a newer or another one. The returned record's epoch selects the seed."""
    ours = identity.read(database.writer)
    identity.require_newest(ours, remembered)
    return ours if ours is not None else identity.create(database.writer, int(clock()))


__all__ = ["Ledger", "LedgerError", "curve_work", "open_ledger"]
