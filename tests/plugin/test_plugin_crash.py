"""kill -9 at every interesting moment, and every kind of restart with melts in flight."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from contrib.sandbox import Behaviour, Part
from contrib.wallet import MintUnreachableError, messages, unblind
from ledger.errors import Code
from tests.plugin.harness import HELD, PAID, PENDING, SPENT, UNPAID, UNSPENT, Melt, Mint, Purse, wait_for

OPTIONS = {"retry_for": 1}
CONSTANTS = {"plugin.methods.verdict:ROUTING_GRACE_S": 12, "plugin.methods.verdict:RETRY_S": 0.5}

BEGIN = "ledger.ledger:Ledger.begin_melt"
COMMITTED = "ledger.store.writer:Writer._answer"
SEND = "plugin.methods.verdict:Verdicts.pay"
SETTLE = "ledger.ledger:Ledger.settle_melt"
RELEASE = "ledger.ledger:Ledger.release_melt"
WAKE = "plugin.methods.outcomes:Outcomes._wake"
ANSWER_MELT = "plugin.http.counter:_write"
ANSWER = "plugin.http.counter:AnsweringStream._send"
POINTS = (BEGIN, COMMITTED, SEND, SETTLE, RELEASE, WAKE, ANSWER_MELT, ANSWER)


def come_back(mint: Mint, *, node: bool = False) -> None:
    """The plugin has killed itself; it is started again, with the node or alone."""
    mint.wait_dead()
    if node:
        mint.restart_node(kill=True)
    else:
        mint.start_plugin()


def post_into_death(purse: Purse, melt: Melt, *, prefer_async: bool | None = None) -> None:
    """`POST /v1/melt/bolt11` of which no answer comes."""
    with pytest.raises(MintUnreachableError):
        purse.post(melt, prefer_async=prefer_async)


# --- the plugin dies at a point of its own --------------------------------------------------------------------------


def test_killed_before_the_proofs_are_held_nothing_has_happened(mint: Mint, purse: Purse) -> None:
    melt = purse.prepare(mint.invoice())
    mint.arm(BEGIN)
    post_into_death(purse, melt)
    come_back(mint)
    assert purse.look(melt).state == UNPAID
    assert purse.states(melt.inputs) == {UNSPENT}
    purse.post(melt)
    purse.assert_paid(melt)


@pytest.mark.parametrize("point", [COMMITTED, SEND])
def test_killed_after_the_proofs_are_held_they_are_held_still(mint: Mint, purse: Purse, point: str) -> None:
    melt = purse.prepare(mint.invoice(behaviour=Behaviour.hold()))
    mint.arm(point)
    post_into_death(purse, melt, prefer_async=True)
    come_back(mint)
    purse.assert_pending(melt)
    purse.assert_failed(melt, why="not sent")


def test_killed_before_a_paid_melt_was_answered_the_same_request_is_answered(mint: Mint, purse: Purse) -> None:
    melt = purse.prepare(mint.invoice())
    mint.arm(ANSWER_MELT)
    post_into_death(purse, melt)
    come_back(mint)
    assert purse.post(melt).state == PAID
    purse.assert_paid(melt)


@pytest.mark.parametrize(("point", "node"), [(SETTLE, False), (SETTLE, True), (COMMITTED, True), (WAKE, False)])
def test_killed_around_the_settling_of_a_payment_it_is_settled_once(
    mint: Mint, purse: Purse, point: str, node: bool
) -> None:
    melt = purse.hold()
    mint.arm(point)
    purse.assert_pending(melt)
    mint.node.release(str(melt.invoice))
    come_back(mint, node=node)
    purse.assert_paid(melt)


@pytest.mark.parametrize("point", [RELEASE, WAKE])
def test_killed_around_the_release_of_a_failed_payment_it_is_released_once(
    mint: Mint, purse: Purse, point: str
) -> None:
    melt = purse.hold()
    mint.arm(point)
    mint.node.release(str(melt.invoice), ok=False)
    come_back(mint)
    purse.assert_failed(melt)
    purse.post(melt)
    purse.assert_paid(melt)


def test_a_swap_whose_answer_was_lost_is_answered_again(mint: Mint, purse: Purse) -> None:
    proofs = purse.fund(100)
    outputs = purse.outputs(100)
    mint.arm(ANSWER)
    with pytest.raises(MintUnreachableError):
        purse.client.swap(proofs, messages(outputs))
    come_back(mint)
    assert purse.states(proofs) == {SPENT}
    fresh = unblind(outputs, purse.client.swap(proofs, messages(outputs)), purse.keysets)
    assert sum(p.amount for p in purse.swap(fresh)) == 100


def test_an_issue_whose_answer_was_lost_is_answered_again(mint: Mint, purse: Purse) -> None:
    quote = purse.request_mint(100)
    mint.node.pay_invoice(quote.request)
    purse.wait_credited(quote)
    outputs = purse.outputs(100)
    mint.arm(ANSWER)
    with pytest.raises(MintUnreachableError):
        purse.client.mint(quote.quote, messages(outputs))
    come_back(mint)
    assert purse.client.mint_quote(quote.quote).amount_issued == 100
    fresh = unblind(outputs, purse.client.mint(quote.quote, messages(outputs)), purse.keysets)
    assert sum(p.amount for p in purse.swap(fresh)) == 100


# --- killed from outside ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after_s", [0.0, 0.1])
def test_a_pending_answer_is_durable(mint: Mint, purse: Purse, after_s: float) -> None:
    melt = purse.prepare(mint.invoice(behaviour=Behaviour.success(after_s=after_s)))
    assert purse.post(melt, prefer_async=True).state == PENDING
    mint.restart_plugin(kill=True)
    assert purse.look(melt).state in (PENDING, PAID)
    assert purse.states(melt.inputs) <= {HELD, SPENT}
    purse.wait_final(melt)
    if mint.node.rows(str(melt.invoice)):
        purse.assert_paid(melt)
    else:  # killed before the payment was sent
        purse.assert_failed(melt, why="not sent")


def test_a_waiting_request_loses_its_answer_but_not_its_payment(mint: Mint, purse: Purse) -> None:
    melt = purse.prepare(mint.invoice(behaviour=Behaviour.hold()))
    waiting = purse.post_soon(melt)
    mint.node.wait_for_part(str(melt.invoice))
    mint.restart_plugin(kill=True)
    assert isinstance(waiting.exception(60), MintUnreachableError)
    waiting = purse.post_soon(melt)  # the same request joins the melt again
    purse.assert_stays_pending(melt, 0.3)
    mint.node.release(str(melt.invoice))
    assert waiting.result(60).state == PAID
    purse.assert_paid(melt)


@pytest.mark.parametrize("ok", [True, False], ids=["paid", "failed"])
def test_an_xpay_that_routes_while_the_plugin_restarts_is_not_given_up(mint: Mint, purse: Purse, ok: bool) -> None:
    part = Part.success() if ok else Part.failure()
    melt = purse.prepare(mint.invoice(behaviour=Behaviour(parts=(part,), delay_s=8.0)))
    purse.post(melt, prefer_async=True)
    mint.node.wait_for_call("xpay")
    mint.restart_plugin(kill=True)
    purse.assert_pending(melt)
    (purse.assert_paid if ok else purse.assert_failed)(melt)


def test_an_xpay_that_finds_no_route_while_the_plugin_restarts_fails_after_its_time(mint: Mint, purse: Purse) -> None:
    melt = purse.prepare(mint.invoice(behaviour=Behaviour.refused(205, after_s=0.5)))
    purse.post(melt, prefer_async=True)
    mint.node.wait_for_call("xpay")
    mint.restart_plugin(kill=True)
    purse.assert_pending(melt)
    purse.assert_failed(melt)


def test_a_melt_survives_many_restarts(mint: Mint, purse: Purse) -> None:
    melt = purse.hold()
    mint.restart_plugin(kill=True)
    mint.restart_plugin(kill=False)
    mint.restart_node(kill=True)
    mint.restart_node(kill=False)
    purse.assert_stays_pending(melt, 0.5)
    mint.node.release(str(melt.invoice))
    purse.assert_paid(melt)


def test_a_node_killed_right_after_dispatch_leaves_a_row_that_is_known_for_a_ghost(mint: Mint, purse: Purse) -> None:
    mint.node.settings.ghost_window_s = 3600
    try:
        melts = [purse.hold() for _ in range(3)]
        time.sleep(1.1)  # rows tell their age in seconds
        mint.restart_node(kill=True)
    finally:
        mint.node.settings.ghost_window_s = 0.0
    for melt in melts:
        assert [row["status"] for row in mint.node.rows(str(melt.invoice))] == ["pending"]
        purse.assert_failed(melt, why="new invoice")
        assert purse.refusal(melt).code == Code.PAYMENT_FAILED  # the node itself refuses for ever
        purse.assert_failed(melt)


@pytest.mark.parametrize("ok", [True, False], ids=["paid", "failed"])
def test_a_payment_resolved_while_its_htlc_is_looked_for_is_no_ghost(mint: Mint, purse: Purse, ok: bool) -> None:
    melt = purse.hold()
    mint.node.go_down(kill=True)
    mint.node.release(str(melt.invoice), ok=ok)
    mint.node.settings.reconnect_delay_s = None
    mint.node.pause_rpc("listhtlcs")
    position = mint.node.calls_position
    try:
        mint.node.come_up()
        mint.node.wait_for_call("listhtlcs", since=position)
        mint.node.set_channel(connected=True)
        mint.node.wait_until(lambda: mint.node.rows(str(melt.invoice))[0]["status"] != "pending")
    finally:
        mint.node.settings.reconnect_delay_s = 0.1
        mint.node.resume_rpc("listhtlcs")
    mint.wait_ready()
    if ok:
        purse.assert_paid(melt)
    else:
        assert "new invoice" not in str(purse.assert_failed(melt).error)


# --- every kind of restart ----------------------------------------------------------------------------------------


@dataclass
class Restart:
    """A way to start again; `node`: the node as well."""

    node: bool
    kill: bool

    def perform(self, mint: Mint, while_down: Callable[[], None]) -> None:
        """Go down, let the world go on, come up again."""
        if self.node:
            mint.restart_node(kill=self.kill, while_down=while_down)
            return
        (mint.node.kill_plugin if self.kill else mint.node.stop_plugin)()
        while_down()
        mint.start_plugin()


@dataclass
class Scene:
    """What was in flight before a restart, by name."""

    restart: Restart
    purse: Purse
    melts: dict[str, Melt]

    def release(self, name: str, *, ok: bool) -> Melt:
        """Claim or fail a held payment now."""
        melt = self.melts[name]
        assert self.purse.mint.node.release(str(melt.invoice), ok=ok)
        return melt


HELD_BEFORE = ("held, claimed later", "held, failed later", "claimed while down", "failed while down")
RESTARTS = {
    "plugin stopped": Restart(node=False, kill=False),
    "plugin killed": Restart(node=False, kill=True),
    "node stopped": Restart(node=True, kill=False),
    "node killed": Restart(node=True, kill=True),
}


@pytest.fixture(scope="module", params=RESTARTS.values(), ids=list(RESTARTS))
def scene(request: pytest.FixtureRequest, mint: Mint) -> Scene:
    """A restart with melts in every state."""
    purse, restart = Purse(mint), request.param
    melts = {name: purse.hold() for name in HELD_BEFORE}
    melts["error, then held"] = purse.hold(behaviour=Behaviour.error_in_flight(203))
    melts["two parts, one failed"] = purse.prepare(
        mint.invoice(1000, Behaviour(parts=(Part.failure(), Part.hold()))), blanks=12
    )
    purse.post(melts["two parts, one failed"], prefer_async=True)
    melts["ghost"] = purse.hold(behaviour=Behaviour.ghost())
    melts["ghost after a failure"] = purse.prepare(mint.invoice(behaviour=Behaviour.failure()))
    purse.refusal(melts["ghost after a failure"])
    mint.node.script(Behaviour.ghost(), melts["ghost after a failure"].invoice)
    purse.post(melts["ghost after a failure"], prefer_async=True)
    mint.node.wait_until(lambda: len(mint.node.rows(str(melts["ghost after a failure"].invoice))) == 2)
    melts["failed before"] = purse.prepare(mint.invoice(behaviour=Behaviour.failure()))
    purse.refusal(melts["failed before"])
    melts["paid before"] = purse.prepare(mint.invoice())
    purse.post(melts["paid before"])
    melts["never sent"] = purse.prepare(mint.invoice())
    position = mint.node.calls_position
    mint.node.pause_rpc("xpay")
    purse.post(melts["never sent"], prefer_async=True)
    mint.node.wait_for_call("xpay", since=position)

    def while_down() -> None:
        if not restart.node:  # else the node has forgotten it, like everything it was asked
            mint.node.fail_rpc("xpay", -1, "never came to it")
        mint.node.resume_rpc("xpay")
        mint.node.release(str(melts["claimed while down"].invoice), ok=True)
        mint.node.release(str(melts["failed while down"].invoice), ok=False)

    restart.perform(mint, while_down)
    return Scene(restart, purse, melts)


def test_after_a_restart_a_held_payment_is_pending_until_it_is_claimed(scene: Scene) -> None:
    scene.purse.assert_pending(scene.melts["held, claimed later"])
    scene.purse.assert_paid(scene.release("held, claimed later", ok=True))


def test_after_a_restart_a_held_payment_is_pending_until_it_comes_back(scene: Scene) -> None:
    scene.purse.assert_pending(scene.melts["held, failed later"])
    scene.purse.assert_failed(scene.release("held, failed later", ok=False))


def test_after_a_restart_a_payment_claimed_meanwhile_is_paid_with_change(scene: Scene) -> None:
    scene.purse.assert_paid(scene.melts["claimed while down"])


def test_after_a_restart_a_payment_that_came_back_meanwhile_is_failed(scene: Scene) -> None:
    scene.purse.assert_failed(scene.melts["failed while down"])


@pytest.mark.parametrize(("name", "sent_msat"), [("error, then held", None), ("two parts, one failed", 501_000)])
def test_after_a_restart_a_held_part_behind_an_error_is_still_waited_for(
    scene: Scene, name: str, sent_msat: int | None
) -> None:
    scene.purse.assert_pending(scene.melts[name])
    scene.purse.assert_paid(scene.release(name, ok=True), sent_msat=sent_msat)


@pytest.mark.parametrize("name", ["ghost", "ghost after a failure"])
def test_a_ghost_is_told_apart_once_the_node_was_restarted_and_not_before(scene: Scene, name: str) -> None:
    melt = scene.melts[name]
    if scene.restart.node:
        scene.purse.assert_failed(melt, why="new invoice")
    else:
        scene.purse.assert_stays_pending(melt, 0.5)


def test_a_payment_never_sent_fails_at_once_if_the_node_was_restarted_else_in_time(scene: Scene) -> None:
    scene.purse.assert_failed(scene.melts["never sent"], why="not sent")


def test_after_a_restart_what_was_decided_is_as_it_was(scene: Scene) -> None:
    assert scene.purse.look(scene.melts["failed before"]).state == UNPAID
    paid = scene.melts["paid before"]
    assert scene.purse.look(paid) == paid.answer
    scene.purse.assert_paid(paid)


def test_after_a_restart_a_failed_melt_can_be_retried(scene: Scene) -> None:
    melt = scene.melts["failed before"]
    scene.purse.post(melt)
    scene.purse.assert_paid(melt)


def test_after_a_restart_nothing_is_wrong_with_the_books(scene: Scene) -> None:
    wait_for(lambda: scene.purse.look(scene.melts["never sent"]).state == UNPAID, "the last one to be decided")
    scene.purse.mint.check()
