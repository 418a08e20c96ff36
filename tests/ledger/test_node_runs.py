"""Which run of the node the ledger believes in: what was paid before its start can't be routing any more."""

from __future__ import annotations

from ledger.identity import Record
from ledger.operations import node
from tests.ledger.helpers import Mint, done


def start(mint: Mint, node_started: bool, process: str | None = None, started_at: int = 0) -> node.NodeRun:
    return mint.run(lambda tx: node.note_start(tx, node_started, process, started_at))


def test_a_start_with_the_node_is_a_new_run(mint: Mint) -> None:
    first = start(mint, True, "a", 10)
    second = start(mint, True, "b", 20)
    assert second.number == first.number + 1


def test_a_start_into_the_same_process_goes_on_with_its_run(mint: Mint) -> None:
    first = start(mint, True, "a", 10)
    assert start(mint, False, "a", 10) == first


def test_a_start_into_another_process_is_a_new_run_from_that_process_on(mint: Mint) -> None:
    first = start(mint, True, "a", 10)
    second = start(mint, False, "b", 77)
    assert second == node.NodeRun(first.number + 1, 77)
    assert start(mint, False, "b", 77) == second


def test_where_the_process_is_unknown_nothing_is_claimed(mint: Mint) -> None:
    first = start(mint, True, None)
    assert start(mint, False, "b", 77) == first, "the one before may have been the same"
    assert start(mint, False, None) == first
    assert start(mint, False, "c", 88) == first


def test_a_node_that_remembers_less_than_it_said_was_rolled_back(mint: Mint) -> None:
    assert not mint.ledger.is_node_older(None)
    mint.ledger.note_remembered(record := mint.ledger.record())
    assert not mint.ledger.is_node_older(None)  # written down with the next commit
    mint.rotate()
    mint.reopen()
    older = Record(record.mint_id, record.epoch, record.commits - 1)
    assert [mint.ledger.is_node_older(each) for each in (record, older, None)] == [False, True, True]
    newer = Record(record.mint_id, record.epoch, record.commits + 1)
    assert not mint.ledger.is_node_older(newer)


def test_after_a_rollback_all_is_read_again_and_what_was_begun_before_is_doubted(mint: Mint) -> None:
    before = start(mint, True)
    mint.execute("UPDATE ledger SET pay_index = 7, chain_index = 8")
    run = done(mint.ledger.note_rollback())
    assert (run.number, run.started_at, run.forgot) == (before.number + 1, before.started_at, before.number + 1)
    assert mint.value("SELECT pay_index + chain_index FROM ledger") == 0
    mint.reopen()
    assert start(mint, True).forgot == run.forgot
