"""The crash matrix in a stand-in node: it misses no durable step, and nothing is lost or doubled at any of them.

Every day a sample of it; all of it is slow.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from contrib.reliability.crash import steps
from contrib.reliability.crash.flows import FLOWS, Flow
from contrib.reliability.crash.matrix import Matrix, Trial, trials
from contrib.reliability.crash.steps import Point, Victim
from contrib.reliability.crash.trial import look, reconcile
from contrib.reliability.crash.world import SandboxWorld
from contrib.reliability.crashes import Result, in_order, report_of
from ledger.store.operation import Operation

ALL = list(trials(staged=True))
SAMPLE = [
    Trial(FLOWS["mint bolt11"], Point(Operation.CREDIT, "durable"), Victim.NODE),
    Trial(FLOWS["melt bolt12"], Point("xpay", "after"), Victim.PLUGIN),
    Trial(FLOWS["melt onchain"], Point(Operation.PAYOUT_BUILT, "durable"), Victim.NODE),
]


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Matrix]:
    """Performs the trials of this module."""
    with Matrix(tmp_path_factory.mktemp("crash"), SandboxWorld) as matrix:
        yield matrix


# --- it is complete -------------------------------------------------------------------------------------------------


def test_the_matrix_misses_no_durable_step() -> None:
    covered = {trial.point.step for trial in ALL}
    assert steps.uncovered(covered) == set(), "a durable step that no flow is struck at: it needs a flow"
    assert covered <= steps.all_steps(), "a flow names a step that the source doesn't have"


@pytest.mark.parametrize("step", [*Operation, "xpay", "datastore", steps.MIGRATE])
def test_a_step_that_is_missing_would_be_noticed(step: str) -> None:
    assert steps.uncovered(steps.all_steps() - {step}) == {step}


def test_what_only_asks_is_still_asked() -> None:
    """A command that is not used any more must not stand among those that change nothing."""
    assert steps.commands_in_source() >= steps.READ_ONLY | steps.BESIDE_MONEY


def test_nothing_but_the_operators_page_forgets_what_the_node_remembers() -> None:
    """Without its record of the ledger the node would let an older one be opened."""
    callers = {
        path.name
        for path in (steps.REPOSITORY / "plugin").rglob("*.py")
        if ".forget([" in path.read_text() or '"deldatastore"' in path.read_text()
    }
    assert callers == {"history.py", "view.py"}


@pytest.mark.parametrize("flow", FLOWS.values(), ids=list(FLOWS))
def test_a_flow_passes_the_points_at_which_it_is_struck(matrix: Matrix, flow: Flow) -> None:
    matrix.perform_in_peace(flow)


# --- it notices -----------------------------------------------------------------------------------------------------


def test_ecash_that_is_lost_or_doubled_is_noticed(matrix: Matrix) -> None:
    world, wallet = matrix.world()
    wallet.stock_up()
    look(world, wallet)
    lost = wallet.proofs.pop()
    with pytest.raises(AssertionError, match="the wallet has"):
        look(world, wallet)
    wallet.proofs += [lost, lost]
    with pytest.raises(AssertionError, match="the wallet has"):
        look(world, wallet)
    wallet.proofs.pop()


def test_a_payment_that_is_lost_or_doubled_is_noticed(matrix: Matrix) -> None:
    world, wallet = matrix.world()
    wallet.forget()
    wallet.stock_up()
    before = look(world, wallet)
    flow = FLOWS["melt bolt11"]
    for _ in flow.run(wallet):
        pass
    (invoice,) = wallet.payments.decided
    reconcile(world, wallet, flow, before)
    wallet.payments.decided = {invoice: False}
    with pytest.raises(AssertionError, match="UNPAID, but was paid 1 times"):
        reconcile(world, wallet, flow, before)
    wallet.payments.decided = {world.invoice(1).bolt11: True}
    with pytest.raises(AssertionError, match="PAID, but was paid 0 times"):
        reconcile(world, wallet, flow, before)


def test_money_of_the_node_that_the_books_do_not_know_of_is_noticed(matrix: Matrix) -> None:
    world, wallet = matrix.world()
    wallet.forget()
    wallet.stock_up()
    before = look(world, wallet)
    world.pay(world.command("invoice", amount_msat=1000, label="unknown", description="")["bolt11"])
    with pytest.raises(AssertionError, match="channels grew by 1000 msat"):
        reconcile(world, wallet, FLOWS["swap"], before)


# --- it tells -------------------------------------------------------------------------------------------------------


def test_the_report_counts_what_was_lost_and_names_it() -> None:
    good, bad, untried = SAMPLE
    results = [Result("here", good, ""), Result("here", bad, "a coin is gone")]
    report = report_of({"here": SAMPLE}, results)
    assert (report.losses, report.figures["kills"]) == (1, 2)
    assert report.findings == (f"here, {bad}: a coin is gone",)
    assert [row[-1] for row in report.rows] == ["nothing lost", "LOST", "no time for it"]
    assert [row[3] for row in report.rows] == ["1 of 1", "1 of 1", "0 of 1"]
    assert str(untried.point.step) == report.rows[2][0]


def test_the_report_strikes_every_point_before_any_a_second_time() -> None:
    ordered = [(trial.point, trial.victim) for trial in in_order(ALL)]
    different = len(set(ordered))
    assert len(ordered) == len(ALL) > different == len(set(ordered[:different]))


# --- nothing is lost ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trial", SAMPLE, ids=str)
def test_a_sample(matrix: Matrix, trial: Trial) -> None:
    matrix.perform(trial)


@pytest.mark.slow
@pytest.mark.parametrize("trial", ALL, ids=str)
def test_nothing_is_lost_or_doubled(matrix: Matrix, trial: Trial) -> None:
    matrix.perform(trial)
