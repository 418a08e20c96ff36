"""The writer: the one thread that changes the ledger, with group commit.

Operations queue up. The writer takes all that are waiting, runs each in a savepoint of its own inside one
`BEGIN IMMEDIATE … COMMIT`, and answers them after that one commit has reached the disk. So an answer is always
durable, a refused operation leaves no trace, and the busier the mint the fewer disk syncs per operation.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import apsw

from ledger.errors import LedgerError, StorageError
from ledger.events import Event
from ledger.store.operation import Operation
from ledger.store.transaction import Transaction

MAX_BATCH = 256
"""Most operations in one commit."""
MAX_QUEUE = 10_000
"""Most operations waiting; beyond it they are refused at once instead of growing memory."""
SHUTDOWN_WAIT_S = 5.0

log = logging.getLogger(__name__)

T = TypeVar("T")
Work = Callable[[Transaction], T]


class Batch(NamedTuple):
    """A group commit that is over: its operations, with what they raised, and how long it took, disk included."""

    outcomes: tuple[tuple[Operation, BaseException | None], ...]
    seconds: float


Observer = Callable[[Batch], None]


class _Job(NamedTuple):
    operation: Operation
    work: Work[Any]
    future: Future[Any]


class _Done(NamedTuple):
    job: _Job
    result: Any
    tx: Transaction


class Writer:
    """Runs operations one after another; see the module."""

    def __init__(
        self,
        connection: apsw.Connection,
        begin: Callable[[apsw.Connection], Transaction],
        publish: Callable[[Event], None],
    ) -> None:
        self._connection = connection
        self._begin = begin
        self._publish = publish
        self._queue: queue.Queue[_Job | None] = queue.Queue(MAX_QUEUE)
        self._closed = False
        self.remembered = 0
        """Up to which commit the node has a record of the ledger; written down with each commit."""
        self.observer: Observer | None = None
        """Hears of each group commit, in the writer's thread, after all were answered; must not block."""
        self._submitting = threading.Lock()  # nothing is queued behind the end
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many operations are queued."""
        return self._queue.qsize()

    def submit(self, operation: Operation, work: Work[T]) -> Future[T]:
        """Queue an operation, whose work is done in one transaction. The future has its result once that is durable,
        or what the work raised (LedgerError: refused; StorageError: could not be committed)."""
        future: Future[T] = Future()
        with self._submitting:
            if self._closed:
                future.set_exception(StorageError("the ledger is closed"))
                return future
            try:
                self._queue.put_nowait(_Job(operation, work, future))
            except queue.Full:
                future.set_exception(StorageError("too many operations are waiting for the ledger"))
        return future

    def close(self) -> None:
        """Finish what is queued, then stop."""
        with self._submitting:
            self._closed = True
        self._queue.put(None)
        self._thread.join(SHUTDOWN_WAIT_S)

    def _run(self) -> None:
        while True:
            job = self._queue.get()
            if job is None:
                return
            self._run_batch(job)

    def _run_batch(self, first: _Job) -> None:
        began = time.perf_counter()
        taken: list[_Job] = []
        done: list[_Done] = []
        refused: list[tuple[_Job, BaseException]] = []
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            job: _Job | None = first
            while job is not None:
                taken.append(job)
                outcome = self._run_one(job)
                if isinstance(outcome, _Done):
                    done.append(outcome)
                else:
                    refused.append((job, outcome))
                if len(taken) >= MAX_BATCH or (done and done[-1].tx.after_commit):
                    break
                job = self._next()
            number = self._count_commit() if done else 0
            self._connection.execute("COMMIT")
        except apsw.Error as error:
            log.error("the ledger could not commit: %s", error)
            self._roll_back()
            lost = StorageError(f"the ledger could not commit: {error}")
            number, done, refused = 0, [], [(job, lost) for job in taken or [first]]
        seconds = time.perf_counter() - began
        self._answer(number, done, refused)
        if self.observer is not None:
            outcomes = [(finished.job.operation, None) for finished in done]
            try:
                self.observer(Batch((*outcomes, *((job.operation, error) for job, error in refused)), seconds))
            except Exception:
                log.exception("the observer of the ledger's commits failed")

    def _count_commit(self) -> int:
        return int(
            self._connection.execute(
                "UPDATE ledger SET commits = commits + 1, remembered = max(remembered, ?) RETURNING commits",
                (self.remembered,),
            ).get
        )

    def _next(self) -> _Job | None:
        try:
            job = self._queue.get_nowait()
        except queue.Empty:
            return None
        if job is None:  # the end: seen again by _run
            self._queue.put(None)
        return job

    def _run_one(self, job: _Job) -> _Done | BaseException:
        tx = self._begin(self._connection)
        self._connection.execute("SAVEPOINT operation")
        try:
            result = job.work(tx)
        except BaseException as error:
            # After some errors (a full disk) SQLite has rolled back the whole transaction by itself: then this
            # raises, and the batch fails as a whole.
            self._connection.execute("ROLLBACK TO operation")
            self._connection.execute("RELEASE operation")
            if isinstance(error, LedgerError):
                return error.with_traceback(None)  # which knows of the job: a cycle
            log.exception("an operation of the ledger failed (%s); it changed nothing", job.operation)
            return StorageError(f"an operation of the ledger failed ({job.operation}): {error}")
        self._connection.execute("RELEASE operation")
        return _Done(job, result, tx)

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _answer(self, number: int, done: list[_Done], refused: list[tuple[_Job, BaseException]]) -> None:
        for finished in done:
            for change in finished.tx.after_commit:
                change()
        for finished in done:
            for event in finished.tx.events:
                self._publish(replace(event, commit=number))
        for finished in done:
            if finished.job.future.set_running_or_notify_cancel():
                finished.job.future.set_result(finished.result)
        for job, error in refused:
            if job.future.set_running_or_notify_cancel():
                job.future.set_exception(error)
