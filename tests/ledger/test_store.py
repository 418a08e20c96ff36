"""The writer and its group commit, and the readers' snapshots."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import Any

import apsw
import pytest

from ledger.errors import Code, LedgerError, StorageError
from ledger.models import ProofState
from ledger.operations import mint as mint_operations
from ledger.operations.mint import Receipt
from ledger.store import writer
from ledger.store.database import READERS
from ledger.store.transaction import Transaction
from tests.ledger.helpers import ANSWER_S, METHOD, SOME, Mint, Wallet, done, mint_request, swap_request

MARK = "UPDATE ledger SET pay_index = pay_index + 1"
"""A small change that can be counted."""


def mark(tx: Transaction) -> int:
    """Make the small change; answers how many there were then."""
    tx.db.execute(MARK)
    return int(tx.db.execute("SELECT pay_index FROM ledger").get)


def marks(mint: Mint) -> int:
    return int(mint.value("SELECT pay_index FROM ledger"))


def commits(mint: Mint) -> int:
    return mint.ledger.record().commits


def mark_and_refuse(tx: Transaction) -> None:
    mark(tx)
    raise LedgerError(Code.REQUEST_REJECTED, "refused after it wrote")


def mark_and_break(tx: Transaction) -> None:
    mark(tx)
    raise RuntimeError("a bug, after it wrote")


# --- group commit -------------------------------------------------------------------------------------------------


def test_what_waits_is_committed_together(mint: Mint) -> None:
    before = commits(mint)
    with mint.held_writer():
        futures = [mint.ledger.submit(SOME, mark) for _ in range(100)]
    assert [done(future) for future in futures] == list(range(1, 101))
    assert (marks(mint), commits(mint)) == (100, before + 1)


def test_a_batch_has_a_largest_size(mint: Mint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "MAX_BATCH", 10)
    before = commits(mint)
    with mint.held_writer():
        futures = [mint.ledger.submit(SOME, mark) for _ in range(49)]  # and the one that holds the writer
    assert [done(future) for future in futures] == list(range(1, 50))
    assert commits(mint) == before + 5


def test_many_threads_are_all_answered_and_each_change_is_made_once(mint: Mint) -> None:
    threads, each = 8, 50
    gate = threading.Barrier(threads)

    def run(_: int) -> list[int]:
        gate.wait(ANSWER_S)
        return [done(mint.ledger.submit(SOME, mark)) for _ in range(each)]

    before = commits(mint)
    with ThreadPoolExecutor(threads) as pool:
        answers = [answer for answers in pool.map(run, range(threads)) for answer in answers]
    assert sorted(answers) == list(range(1, threads * each + 1))
    assert marks(mint) == threads * each
    assert before < commits(mint) <= before + threads * each


def test_many_threads_issue_and_swap_side_by_side(mint: Mint) -> None:
    threads, each = 6, 10

    def run(number: int) -> None:
        wallet = Wallet(f"wallet {number}")
        for _ in range(each):
            proofs = mint.fund(wallet, 8, 4)
            mint.swap(proofs, wallet.draw_sum(mint.keyset(), 12))
            assert mint.states(proofs) == [ProofState.SPENT] * 2

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(run, range(threads)))
    audit = mint.audit()
    assert (audit.outstanding_msat, audit.received_msat) == (threads * each * 12_000,) * 2


def test_an_answer_is_given_only_after_its_commit(mint: Mint) -> None:
    seen: list[int] = []
    with mint.held_writer():
        futures = [mint.ledger.submit(SOME, mark) for _ in range(3)]
        for future in futures:
            future.add_done_callback(lambda _: seen.append(marks(mint)))
    mint.run(lambda tx: None)  # the writer has then called what hangs on the futures before
    assert seen == [3, 3, 3]


def test_operations_see_what_those_before_them_did_in_the_same_batch(mint: Mint, alice: Wallet) -> None:
    quote = mint.paid_quote(8).quote
    with mint.held_writer():
        first = mint.ledger.issue("bolt11", mint_request(quote, alice.draw_sum(mint.keyset(), 8)))
        second = mint.ledger.issue("bolt11", mint_request(quote, alice.draw_sum(mint.keyset(), 8)))
    assert len(done(first).signatures) == 1
    with pytest.raises(LedgerError) as caught:
        done(second)
    assert caught.value.code is Code.QUOTE_ISSUED


@pytest.mark.parametrize(
    ("failing", "error"), [(mark_and_refuse, LedgerError), (mark_and_break, StorageError)], ids=["refused", "broken"]
)
def test_a_failing_operation_leaves_no_trace_and_does_not_fail_its_neighbours(
    mint: Mint, failing: Callable[[Transaction], None], error: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    with mint.held_writer():
        before = mint.ledger.submit(SOME, mark)
        failed = mint.ledger.submit(SOME, failing)
        after = mint.ledger.submit(SOME, mark)
    assert (done(before), done(after)) == (1, 2)
    with pytest.raises(error):
        done(failed)
    assert marks(mint) == 2


def test_a_broken_operation_is_logged_and_answers_with_its_cause(mint: Mint, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR), pytest.raises(StorageError, match="a bug, after it wrote"):
        mint.run(mark_and_break)
    assert f"({SOME}); it changed nothing" in caplog.text


def test_a_batch_of_refusals_only_is_not_counted_as_a_commit(mint: Mint) -> None:
    rows = mint.dump()
    with pytest.raises(LedgerError):
        mint.run(mark_and_refuse)
    assert mint.dump() == rows


def test_an_answer_that_nobody_waits_for_any_more_harms_nobody(mint: Mint) -> None:
    with mint.held_writer():
        abandoned, abandoned_refusal = mint.ledger.submit(SOME, mark), mint.ledger.submit(SOME, mark_and_refuse)
        assert abandoned.cancel()
        assert abandoned_refusal.cancel()
        kept = mint.ledger.submit(SOME, mark)
    done(kept)
    assert mint.run(mark) == marks(mint)


# --- commits that fail --------------------------------------------------------------------------------------------


def fill_the_disk(tx: Transaction) -> None:
    """No page may be added to the database any more."""
    tx.db.pragma("max_page_count", tx.db.pragma("page_count"))


def empty_the_disk(tx: Transaction) -> None:
    tx.db.pragma("max_page_count", 1 << 30)


def write_much(tx: Transaction) -> None:
    tx.db.execute("UPDATE mint_quotes SET request = zeroblob(0) || printf('%.*c', 200000, 'x')")


def insert_much(tx: Transaction) -> None:
    tx.db.execute(
        "INSERT INTO operations (kind, digest, created_at) WITH RECURSIVE n (i) AS"
        " (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) SELECT 'x', randomblob(32), 0 FROM n"
    )


@pytest.mark.parametrize("much", [write_much, insert_much])
def test_on_a_full_disk_nobody_is_told_that_it_worked_and_the_ledger_goes_on_afterwards(
    mint: Mint, alice: Wallet, much: Callable[[Transaction], None], caplog: pytest.LogCaptureFixture
) -> None:
    mint.mint_quote(8)
    proofs = mint.fund(alice, 8)
    mint.run(fill_the_disk)
    rows, events = mint.dump(), list(mint.events)
    with mint.held_writer():
        batch: list[Future[Any]] = [
            mint.ledger.submit(SOME, mark),
            mint.ledger.submit(SOME, much),
            mint.ledger.submit(SOME, mark),
        ]
    outcomes = [future.exception(ANSWER_S) for future in batch]
    assert isinstance(outcomes[1], StorageError)
    answered = sum(outcome is None for outcome in outcomes)
    assert all(outcome is None or isinstance(outcome, StorageError) for outcome in outcomes)
    assert marks(mint) == answered, "exactly what was answered is there"
    after = mint.dump()
    assert {table: after[table] for table in after if table != "ledger"} == {
        table: rows[table] for table in rows if table != "ledger"
    }
    assert mint.events == events
    mint.run(empty_the_disk)
    mint.swap(proofs, alice.draw_sum(mint.keyset(), 8))
    assert mint.run(mark) == answered + 1


def test_a_commit_that_fails_is_told_to_all_of_its_batch_and_the_ledger_goes_on_afterwards(
    mint: Mint, alice: Wallet, caplog: pytest.LogCaptureFixture
) -> None:
    proofs = mint.fund(alice, 8)
    swap = swap_request(proofs, alice.draw_sum(mint.keyset(), 8))
    rows, events, keysets = mint.dump(), list(mint.events), list(mint.ledger.keysets)
    mint.database.writer.set_commit_hook(lambda: True)  # SQLite: turn this commit into a rollback
    batch: list[Future[Any]] = []
    with mint.held_writer(fails=True):  # what holds the writer is in the batch too
        batch.append(mint.ledger.submit(SOME, mark))
        batch.append(mint.ledger.swap(swap))
        batch.append(mint.ledger.submit(SOME, mark_and_refuse))
        batch.append(mint.ledger.rotate("sat", 7))
    for future in batch:
        assert isinstance(future.exception(ANSWER_S), StorageError)
    assert (mint.dump(), mint.events, list(mint.ledger.keysets)) == (rows, events, keysets)
    mint.database.writer.set_commit_hook(None)
    assert len(done(mint.ledger.swap(swap)).signatures) == 1
    assert done(mint.ledger.rotate("sat", 7)).counter == 1
    assert marks(mint) == 0


def test_a_commit_that_cannot_be_counted_is_no_commit(mint: Mint) -> None:
    """The tripwire lives on that count."""
    broken = "CREATE TEMP TRIGGER broken BEFORE UPDATE OF commits ON ledger BEGIN SELECT RAISE(FAIL, 'broken'); END"
    mint.database.writer.execute(broken)
    rows = mint.dump()
    with pytest.raises(StorageError, match="could not commit"):
        mint.run(mark)
    assert mint.dump() == rows
    mint.database.writer.execute("DROP TRIGGER broken")
    assert mint.run(mark) == 1


def test_a_transaction_that_cannot_begin_is_told_and_the_ledger_goes_on_afterwards(mint: Mint) -> None:
    connection = mint.database.writer
    connection.set_busy_timeout(0)
    other = type(connection)(str(mint.path))
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageError, match="could not commit"):
        mint.run(mark)
    other.execute("ROLLBACK")
    other.close()
    assert mint.run(mark) == 1


def test_a_constraint_of_the_schema_is_a_failed_operation_and_not_a_failed_batch(mint: Mint) -> None:
    with mint.held_writer():
        good = mint.ledger.submit(SOME, mark)
        bad = mint.ledger.submit(SOME, lambda tx: tx.db.execute("UPDATE keysets SET issued = -1"))
    assert done(good) == 1
    with pytest.raises(StorageError, match="CHECK constraint failed"):
        done(bad)


# --- the writer's end ---------------------------------------------------------------------------------------------


def run_out_of_memory(*_: object) -> Any:
    raise MemoryError("no memory for it")


def end_after_commit(tx: Transaction) -> int:
    tx.after_commit.append(run_out_of_memory)
    return mark(tx)


def assert_dead(mint: Mint) -> None:
    """The owner has heard of it, once, and nobody waits for ever."""
    mint.ledger._writer._thread.join(ANSWER_S)
    (reason,) = mint.deaths
    assert "MemoryError('no memory for it')" in reason
    later = mint.ledger.submit(SOME, mark)
    assert later.done()
    assert str(later.exception()) == reason


def test_a_writer_that_ends_after_a_commit_tells_what_is_durable_and_refuses_what_waits(mint: Mint) -> None:
    with mint.held_writer():
        durable = [mint.ledger.submit(SOME, mark), mint.ledger.submit(SOME, end_after_commit)]
        waiting = [mint.ledger.submit(SOME, mark) for _ in range(3)]
    assert [done(future) for future in durable] == [1, 2]
    assert {str(future.exception(ANSWER_S)) for future in waiting} == set(mint.deaths)
    assert marks(mint) == 2
    assert_dead(mint)
    mint.reopen()
    assert mint.run(mark) == 3


def test_a_writer_that_ends_while_it_publishes_tells_what_is_durable(
    mint: Mint, monkeypatch: pytest.MonkeyPatch
) -> None:
    quote = mint.mint_quote(8)
    monkeypatch.setattr(mint.ledger._writer, "_publish", run_out_of_memory)
    with mint.held_writer():
        payment = Receipt(b"payment", 8000)
        credit = mint.ledger.submit(SOME, lambda tx: mint_operations.credit(tx, METHOD, quote.quote, payment))
        refused = mint.ledger.submit(SOME, mark_and_refuse)
    assert done(credit) == mint.ledger.mint_quote(METHOD, quote.quote)
    assert isinstance(refused.exception(ANSWER_S), LedgerError)
    assert_dead(mint)


def test_a_writer_that_ends_before_its_commit_has_changed_nothing(mint: Mint, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = mint.dump()
    monkeypatch.setattr(mint.ledger._writer, "_count_commit", run_out_of_memory)
    with mint.held_writer(fails=True):
        batch = [mint.ledger.submit(SOME, mark) for _ in range(3)]
        assert batch[1].cancel()
    for future in (batch[0], batch[2]):
        assert isinstance(future.exception(ANSWER_S), StorageError)
    assert mint.dump() == rows
    assert_dead(mint)
    mint.reopen()
    assert mint.run(mark) == 1


def test_of_a_commit_that_the_writer_saw_no_end_of_nobody_is_told_that_it_failed(mint: Mint) -> None:
    mint.database.writer.set_wal_hook(run_out_of_memory)  # SQLite calls it when the commit is on the disk
    with pytest.raises(StorageError, match="whether this was done is not known"):
        mint.run(mark)
    assert marks(mint) == 1
    assert_dead(mint)


def test_a_transaction_that_cannot_be_rolled_back_is_the_writers_end(
    mint: Mint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise apsw.IOError("no memory for it")

    mint.database.writer.set_commit_hook(lambda: True)
    monkeypatch.setattr(mint.ledger._writer, "_roll_back", fail)
    with pytest.raises(StorageError):
        mint.run(mark)
    assert len(mint.deaths) == 1, "told before the answer"


def test_the_owner_hears_of_the_writers_end_before_those_who_wait(mint: Mint) -> None:
    """It ends the process: nobody is to act on an answer that need not be true."""
    answered: list[bool] = []
    with mint.held_writer():
        mint.ledger.submit(SOME, end_after_commit)
        waiting = mint.ledger.submit(SOME, mark)
        mint.ledger._writer._on_death = lambda reason: answered.append(waiting.done())
    assert isinstance(waiting.exception(ANSWER_S), StorageError)
    assert answered == [False]


# --- the queue ----------------------------------------------------------------------------------------------------


def test_beyond_the_queues_limit_operations_are_refused_at_once(mint: Mint) -> None:
    with mint.held_writer():
        waiting = [mint.ledger.submit(SOME, mark) for _ in range(writer.MAX_QUEUE)]
        refused = mint.ledger.submit(SOME, mark)
        assert refused.done()
        assert isinstance(refused.exception(), StorageError)
    assert [done(future) for future in waiting] == list(range(1, writer.MAX_QUEUE + 1))
    assert mint.run(mark) == writer.MAX_QUEUE + 1


def test_closing_finishes_what_was_submitted_and_refuses_what_comes_later(mint: Mint) -> None:
    def writers() -> int:
        return sum(thread.name == "ledger-writer" for thread in threading.enumerate())

    submitted: list[Future[int]] = []
    before = writers()
    with mint.held_writer():
        submitted += [mint.ledger.submit(SOME, mark) for _ in range(20)]
        closing = threading.Thread(target=mint.close)
        closing.start()
    closing.join(ANSWER_S)
    assert writers() == before - 1
    assert [done(future) for future in submitted] == list(range(1, 21))
    late = mint.ledger.submit(SOME, mark)
    with pytest.raises(StorageError, match="closed"):
        done(late)
    mint.open()
    assert marks(mint) == 20


def test_an_operation_that_comes_while_the_ledger_closes_is_answered(
    mint: Mint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It must not land in the queue behind the end, where nobody looks any more."""
    waiting = mint.ledger._writer._queue
    put, closings = waiting.put_nowait, []

    def close_just_before(job: Any) -> None:
        closings.append(threading.Thread(target=mint.ledger._writer.close))
        closings[0].start()
        closings[0].join(0.3)  # as far as it gets meanwhile
        put(job)

    monkeypatch.setattr(waiting, "put_nowait", close_just_before)
    late = mint.ledger.submit(SOME, mark)
    assert late.exception(5) is None or isinstance(late.exception(), StorageError)
    closings[0].join(ANSWER_S)
    mint.reopen()


# --- readers ------------------------------------------------------------------------------------------------------


def test_a_reader_sees_one_snapshot_however_much_is_written_meanwhile(mint: Mint) -> None:
    with mint.ledger.read() as db:
        assert db.execute("SELECT pay_index FROM ledger").get == 0
        for _ in range(3):
            mint.run(mark)
            assert db.execute("SELECT pay_index FROM ledger").get == 0
    assert marks(mint) == 3


def test_a_reader_does_not_see_a_batch_before_its_commit(mint: Mint) -> None:
    seen: list[int] = []
    with mint.held_writer():
        marked = mint.ledger.submit(SOME, mark)
        watched = mint.ledger.submit(SOME, lambda tx: seen.append(marks(mint)))
    done(marked)
    done(watched)
    assert (seen, marks(mint)) == ([0], 1)


def test_a_reader_cannot_write(mint: Mint) -> None:
    rows = mint.dump()
    with mint.ledger.read() as db, pytest.raises(apsw.ReadOnlyError):
        db.execute(MARK)
    assert mint.dump() == rows


def test_a_reader_that_failed_gives_its_connection_back(mint: Mint) -> None:
    def fail() -> None:
        with mint.ledger.read():
            raise RuntimeError("a reader's bug")

    for _ in range(20):
        with pytest.raises(RuntimeError):
            fail()
    assert marks(mint) == 0


def test_a_damaged_page_is_a_storage_error_and_the_connection_is_used_again(mint: Mint) -> None:
    quote = mint.mint_quote(8).quote
    page = mint.value("SELECT rootpage FROM sqlite_schema WHERE name = 'sqlite_autoindex_mint_quotes_1'")
    size = mint.value("PRAGMA page_size")
    mint.close()  # all of it is in the file now
    sound = mint.path.read_bytes()
    at = (page - 1) * size
    mint.path.write_bytes(sound[:at] + b"\xff" * size + sound[at + size :])
    mint.open()
    for _ in range(2 * READERS):
        with pytest.raises(
            StorageError, match=r"cannot read the ledger .*ledger\.sqlite3: database disk image is malformed"
        ):
            mint.ledger.mint_quote(METHOD, quote)
        assert marks(mint) == 0
    mint.close()
    mint.path.write_bytes(sound)
    mint.open()
    assert mint.ledger.mint_quote(METHOD, quote).quote == quote


def test_a_snapshot_that_cannot_be_taken_or_ends_by_itself_is_a_storage_error(mint: Mint) -> None:
    """SQLite ends a transaction by itself after some errors."""

    def fail(db: apsw.Connection) -> None:
        db.execute("ROLLBACK")
        raise apsw.IOError("disk I/O error")

    for _ in range(2 * READERS):
        with pytest.raises(StorageError, match="disk I/O error"), mint.ledger.read() as db:
            fail(db)
    for reader in filter(None, mint.database._readers.queue):
        reader.execute("BEGIN")
    with ExitStack() as reading:
        for _ in range(READERS):
            with pytest.raises(StorageError, match="cannot start a transaction within a transaction"):
                marks(mint)
            reading.enter_context(mint.ledger.read())  # on the same connection: it is sound again
    assert marks(mint) == 0


def test_more_readers_than_connections_take_turns(mint: Mint) -> None:
    together = threading.Semaphore(0)

    def read(number: int) -> int:
        with mint.ledger.read() as db:
            together.release()
            return int(db.execute("SELECT pay_index + ? FROM ledger", (number,)).get)

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(read, range(64))) == list(range(64))


def test_after_closing_nothing_can_be_read_and_nobody_waits_for_ever(mint: Mint) -> None:
    mint.close()
    mint.close()
    for _ in range(2 * READERS):
        with pytest.raises(StorageError, match="closed"):
            marks(mint)
    mint.open()
    assert marks(mint) == 0


def test_closing_waits_for_readers_and_refuses_those_in_the_queue(mint: Mint) -> None:
    with ThreadPoolExecutor(1) as pool:
        with mint.ledger.read() as db:
            closing = pool.submit(mint.close)
            assert db.execute("SELECT pay_index FROM ledger").get == 0
        closing.result(ANSWER_S)
    with pytest.raises(StorageError):
        mint.ledger.record()
    mint.open()


def test_readers_and_the_writer_do_not_wait_for_each_other(mint: Mint) -> None:
    with mint.ledger.read() as db:
        db.execute("SELECT count(*) FROM proofs").get  # noqa: B018 - opens the snapshot
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: done(mint.ledger.submit(SOME, mark)), range(20)))
    assert sorted(answers) == list(range(1, 21))


def test_a_change_of_keysets_is_seen_by_the_next_operation_of_the_queue(mint: Mint) -> None:
    with mint.held_writer():
        rotations = [mint.ledger.rotate("sat", fee) for fee in (1, 2)]
        seen = mint.ledger.submit(SOME, lambda tx: [k.input_fee_ppk for k in tx.keysets if k.unit == "sat"])
    assert [done(rotation).input_fee_ppk for rotation in rotations] == [1, 2]
    assert done(seen) == [0, 1, 2]


def test_a_reader_waits_for_no_other(mint: Mint) -> None:
    """The event loop reads as well: whoever reads for long, in threads, must not hold it up."""
    with ExitStack() as reading:
        readers = [reading.enter_context(mint.ledger.read()) for _ in range(3 * READERS)]
        assert len(set(map(id, readers))) == len(readers)
        assert {reader.execute("SELECT count(*) FROM ledger").get for reader in readers} == {1}
        with pytest.raises(apsw.ReadOnlyError):
            readers[-1].execute(MARK)
    open_ones = []
    for reader in readers:
        with suppress(apsw.ConnectionClosedError):
            open_ones.append(reader.execute("SELECT 1").get)
    assert len(open_ones) == READERS
