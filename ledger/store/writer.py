"""The writer: the one thread that changes the ledger, with group commit.

Operations queue up. The writer takes all that are waiting, runs each in a savepoint of its own inside one
`BEGIN IMMEDIATE … COMMIT`, and answers them after that one commit has reached the disk. So an answer is always
durable, a refused operation leaves no trace, and the busier the mint the fewer disk syncs per operation.

What fails is told to who asked for it, and the writer goes on. If it can't, nothing can change the ledger any more, and
its owner is told.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
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
        on_death: Callable[[str], None],
    ) -> None:
        """`on_death` is called, with a sentence, if the writer ends by itself; in its thread."""
        self._connection = connection
        self._begin = begin
        self._publish = publish
        self._on_death = on_death
        self._queue: queue.Queue[_Job | None] = queue.Queue(MAX_QUEUE)
        self._taken: list[_Job] = []  # the batch that is being worked on
        self._ended: str | None = None  # why nothing is queued any more
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
            if self._ended is not None:
                future.set_exception(StorageError(self._ended))
                return future
            try:
                self._queue.put_nowait(_Job(operation, work, future))
            except queue.Full:
                future.set_exception(StorageError("too many operations are waiting for the ledger"))
        return future

    def close(self) -> None:
        """Finish what is queued, then stop."""
        with self._submitting:
            self._ended = self._ended or "the ledger is closed"
        self._queue.put(None)
        self._thread.join(SHUTDOWN_WAIT_S)

    def _run(self) -> None:
        try:
            while (job := self._queue.get()) is not None:
                self._run_batch(job)
        except BaseException as error:
            self._die(error)

    def _die(self, error: BaseException) -> None:
        """Nothing will change the ledger any more. The owner is told first: it had better be gone before anybody hears
        an answer that need not be true, as a commit that was under way may have reached the disk."""
        reason = f"the ledger's writer has ended: {error!r}"
        try:
            log.error("%s", reason, exc_info=error)
            self._on_death(reason)
        finally:
            waiting: list[_Job | None] = []
            with self._submitting:
                self._ended = reason
                with suppress(queue.Empty):
                    while True:
                        waiting.append(self._queue.get_nowait())
            with suppress(apsw.Error):
                self._roll_back()
            for job in self._taken:
                _fail_unanswered(job, StorageError(f"{reason}; whether this was done is not known"))
            for job in filter(None, waiting):
                _fail_unanswered(job, StorageError(reason))

    def _run_batch(self, first: _Job) -> None:
        began = time.perf_counter()
        taken = self._taken
        taken.append(first)
        done: list[_Done] = []
        refused: list[tuple[_Job, BaseException]] = []
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            job: _Job | None = first
            while job is not None:
                outcome = self._run_one(job)
                if isinstance(outcome, _Done):
                    done.append(outcome)
                else:
                    refused.append((job, outcome))
                if len(taken) >= MAX_BATCH or (done and done[-1].tx.after_commit):
                    break
                if (job := self._next()) is not None:
                    taken.append(job)
            number = self._count_commit() if done else 0
            self._connection.execute("COMMIT")
        except apsw.Error as error:
            log.error("the ledger could not commit: %s", error)
            self._roll_back()
            lost = StorageError(f"the ledger could not commit: {error}")
            number, done, refused = 0, [], [(job, lost) for job in taken]
        seconds = time.perf_counter() - began
        self._answer(number, done, refused)
        if self.observer is not None:
            outcomes = [(finished.job.operation, None) for finished in done]
            try:
                self.observer(Batch((*outcomes, *((job.operation, error) for job, error in refused)), seconds))
            except Exception:
                log.exception("the observer of the ledger's commits failed")
        taken.clear()

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
        try:
            for finished in done:
                for change in finished.tx.after_commit:
                    change()
            for finished in done:
                for event in finished.tx.events:
                    self._publish(replace(event, commit=number))
        finally:  # what is durable is told so, though the writer may end here
            for finished in done:
                if finished.job.future.set_running_or_notify_cancel():
                    finished.job.future.set_result(finished.result)
            for job, error in refused:
                if job.future.set_running_or_notify_cancel():
                    job.future.set_exception(error)


def _fail_unanswered(job: _Job, error: BaseException) -> None:
    if not job.future.done() and (job.future.running() or job.future.set_running_or_notify_cancel()):
        job.future.set_exception(error)
