"""Evidence that is lost: xpay's reply, the node's rows. An unknown outcome is never called a failure.

The mint of these tests waits only 2 seconds for an xpay of which nothing is heard: `retry_for` and a short grace.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from contrib.sandbox import Behaviour, Notifications, Part, Reply, ReplyTime
from tests.plugin.harness import PENDING, Melt, Mint, Purse, wait_for

OPTIONS = {"retry_for": 1}
CONSTANTS = {"plugin.methods.verdict:ROUTING_GRACE_S": 1, "plugin.methods.verdict:RETRY_S": 0.5}

SILENCE = Notifications.dropped()
OUTCOMES = pytest.mark.parametrize("ok", [True, False], ids=["paid", "failed"])
RESTARTS: dict[str, Callable[[Mint], None]] = {
    "plugin stopped": lambda mint: mint.restart_plugin(kill=False),
    "plugin killed": lambda mint: mint.restart_plugin(kill=True),
    "node stopped": lambda mint: mint.restart_node(kill=False),
    "node killed": lambda mint: mint.restart_node(kill=True),
}


def restarts(*names: str) -> pytest.MarkDecorator:
    """Ways in which the plugin starts again."""
    chosen = names or tuple(RESTARTS)
    return pytest.mark.parametrize("restart", [RESTARTS[name] for name in chosen], ids=chosen)


def outcome(ok: bool, after_s: float = 0.0) -> Part:
    """A part that arrives or comes back."""
    return Part.success(after_s=after_s) if ok else Part.failure(after_s=after_s)


def wait_resolved(mint: Mint, melt: Melt) -> None:
    """Wait until the node knows the end of the payment."""
    assert melt.invoice is not None
    mint.node.wait_until(
        lambda: bool(rows := mint.node.rows(str(melt.invoice))) and all(row["status"] != "pending" for row in rows)
    )


def wait_booked(mint: Mint, melt: Melt) -> None:
    """Wait until a payment is in the node's accounts."""
    payment_hash = mint.node.payment_hash(str(melt.invoice))
    mint.node.wait_until(
        lambda: any(m.get("payment_hash") == payment_hash for m in mint.node.rpc("listchannelmoves")["channelmoves"])
    )


def stuck(mint: Mint) -> set[str]:
    """The payment hashes that cashu-info lists as stuck."""
    return {melt["payment_hash"] for melt in mint.info()["stuck_melts"]}


def find_stuck(mint: Mint, melt: Melt) -> None:
    """Wait until a melt is listed as stuck."""
    payment_hash = mint.node.payment_hash(melt.quote.request)
    wait_for(lambda: payment_hash in stuck(mint), "the melt to be listed as stuck")


# --- the reply ----------------------------------------------------------------------------------------------------


@OUTCOMES
def test_a_payment_goes_on_when_the_connection_closes_under_it(mint: Mint, purse: Purse, ok: bool) -> None:
    melt = purse.post_async(mint.invoice(behaviour=Behaviour.lost_reply(outcome(ok, after_s=0.5))))
    if ok:
        purse.assert_paid(melt)
    else:
        purse.assert_failed(melt)


@OUTCOMES
def test_a_synchronous_request_outlives_the_lost_reply(mint: Mint, purse: Purse, ok: bool) -> None:
    melt = purse.prepare(mint.invoice(behaviour=Behaviour.lost_reply(outcome(ok, after_s=0.5))))
    waiting = purse.post_soon(melt)
    assert (waiting.exception(60) is None) == ok
    assert (purse.assert_paid if ok else purse.assert_failed)(melt) is not None


def test_a_held_payment_whose_reply_was_lost_stays_pending(mint: Mint, purse: Purse) -> None:
    melt = purse.hold(behaviour=Behaviour.lost_reply(Part.hold()))
    purse.assert_stays_pending(melt, 2.5)
    mint.node.release(str(melt.invoice))
    purse.assert_paid(melt)


def test_a_success_is_learned_without_any_reply(mint: Mint, purse: Purse) -> None:
    melt = purse.post_async(mint.invoice(behaviour=Behaviour.lost_reply(silent=True)))
    purse.assert_paid(melt)


def test_a_failure_without_any_reply_is_learned_when_the_connection_breaks(mint: Mint, purse: Purse) -> None:
    melt = purse.post_async(mint.invoice(behaviour=Behaviour.lost_reply(Part.failure(), silent=True)))
    wait_resolved(mint, melt)
    purse.assert_stays_pending(melt, 2.5)  # this xpay may start another part, however long it takes
    mint.node.close_rpc_connections()
    purse.assert_failed(melt)


def test_a_payment_of_which_nothing_is_known_fails_only_after_its_time(mint: Mint, purse: Purse) -> None:
    never_sent = Behaviour(refusal=(205, ""), reply=Reply.closed())
    melt = purse.post_async(mint.invoice(behaviour=never_sent))
    purse.assert_stays_pending(melt, 1.0)
    purse.assert_failed(melt, why="not sent")
    purse.post(melt)
    purse.assert_paid(melt)


def test_an_xpay_that_routes_long_after_its_reply_was_lost_is_waited_for(mint: Mint, purse: Purse) -> None:
    behaviour = Behaviour(parts=(Part.hold(),), delay_s=1.0, reply=Reply.closed())
    melt = purse.post_async(mint.invoice(behaviour=behaviour))
    mint.node.wait_for_part(str(melt.invoice))
    mint.node.close_rpc_connections()
    purse.assert_stays_pending(melt, 2.5)
    mint.node.release(str(melt.invoice))
    purse.assert_paid(melt)


def test_a_failed_part_is_not_final_while_listpays_says_that_xpay_is_at_work(mint: Mint, purse: Purse) -> None:
    again = Part(after_s=0.0, retry=True)
    behaviour = Behaviour(parts=(Part.failure(after_s=0.2), again), reply=Reply.closed(when=ReplyTime.DISPATCHED))
    melt = purse.post_async(mint.invoice(behaviour=behaviour))
    purse.assert_paid(melt)


def test_listpays_saying_pending_for_a_while_after_the_end_only_delays_the_verdict(mint: Mint, purse: Purse) -> None:
    mint.node.settings.listpays_lag_s = 0.7
    try:
        behaviour = Behaviour(parts=(Part.failure(),), reply=Reply.closed(when=ReplyTime.DISPATCHED))
        melt = purse.post_async(mint.invoice(behaviour=behaviour))
        purse.assert_failed(melt)
    finally:
        mint.node.settings.listpays_lag_s = 0.05


@restarts()
def test_payments_of_which_all_news_were_lost_are_found_after_a_restart(
    mint: Mint, purse: Purse, restart: Callable[[Mint], None]
) -> None:
    melts = []
    for ok in (True, False):
        for reply in (Reply.closed(when=ReplyTime.DISPATCHED), Reply.closed(), Reply.silent()):
            behaviour = Behaviour(parts=(Part.hold(),), reply=reply, notifications=SILENCE)
            melts.append((purse.hold(behaviour=behaviour), ok))
    for melt, ok in melts:
        mint.node.release(str(melt.invoice), ok=ok)
        wait_resolved(mint, melt)
    restart(mint)
    for melt, ok in melts:
        (purse.assert_paid if ok else purse.assert_failed)(melt)


# --- the rows -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("counted", [True, False], ids=["counted", "not counted"])
def test_a_preimage_in_a_notification_proves_a_payment_whose_rows_are_gone(
    mint: Mint, purse: Purse, counted: bool
) -> None:
    melt = purse.hold(behaviour=Behaviour(parts=(Part.hold(),), reply=Reply.silent()))
    mint.node.pause_rpc("listsendpays")
    mint.node.release(str(melt.invoice))
    mint.node.wait_for_notification("sendpay_success")
    mint.node.delete_rows(str(melt.invoice), counted=counted)
    mint.node.resume_rpc("listsendpays")
    purse.assert_paid(melt)


@pytest.mark.parametrize("counted", [True, False], ids=["counted", "not counted"])
def test_a_preimage_in_the_reply_proves_a_payment_whose_rows_are_gone(mint: Mint, purse: Purse, counted: bool) -> None:
    melt = purse.hold(behaviour=Behaviour(parts=(Part.hold(),), notifications=SILENCE))
    mint.node.pause_rpc("listsendpays")
    mint.node.release(str(melt.invoice))
    wait_resolved(mint, melt)
    mint.node.delete_rows(str(melt.invoice), counted=counted)
    mint.node.resume_rpc("listsendpays")
    purse.assert_paid(melt)


@pytest.mark.parametrize(
    ("counted", "restart"),
    [(True, RESTARTS["plugin killed"]), (False, RESTARTS["node killed"])],
    ids=["counted, plugin killed", "not counted, node killed"],
)
def test_the_nodes_accounts_prove_a_payment_whose_rows_are_gone(
    mint: Mint, purse: Purse, restart: Callable[[Mint], None], counted: bool
) -> None:
    behaviour = Behaviour(parts=(Part.hold(fee_msat=1500),), reply=Reply.silent(), notifications=SILENCE)
    melt = purse.hold(behaviour=behaviour)
    mint.node.release(str(melt.invoice))
    wait_booked(mint, melt)
    mint.node.delete_rows(str(melt.invoice), counted=counted)
    restart(mint)
    purse.assert_paid(melt, fee_msat=1500, preimage=False)


@restarts("plugin killed", "node killed")
def test_a_failed_row_of_an_earlier_attempt_does_not_speak_for_a_later_one_whose_rows_are_gone(
    mint: Mint, purse: Purse, restart: Callable[[Mint], None]
) -> None:
    invoice = mint.invoice(behaviour=Behaviour.failure())
    melt = purse.prepare(invoice)
    purse.refusal(melt)
    mint.node.script(Behaviour(parts=(Part.hold(),), reply=Reply.silent(), notifications=SILENCE), invoice)
    purse.post(melt, prefer_async=True)
    mint.node.wait_for_part(invoice)
    mint.node.release(invoice)
    wait_booked(mint, melt)
    mint.node.rpc("delpay", payment_hash=invoice.payment_hash, status="complete")
    assert [row["status"] for row in mint.node.rows(invoice)] == ["failed"]
    restart(mint)
    purse.assert_paid(melt, preimage=False)


def test_a_payment_whose_rows_vanish_in_flight_stays_pending_and_is_listed(mint: Mint, purse: Purse) -> None:
    melt = purse.hold(behaviour=Behaviour.error_in_flight(209))
    purse.assert_stays_pending(melt, 0.5)  # by then the mint has seen the row
    (row,) = mint.node.rows(str(melt.invoice))
    mint.node.delete_rows(str(melt.invoice))
    mint.node.notify("sendpay_failure", {"code": 202, "message": "", "data": row})
    find_stuck(mint, melt)
    purse.assert_stays_pending(melt, 2.5)


@restarts("plugin killed", "node killed")
def test_a_payment_whose_rows_were_deleted_is_never_released(
    mint: Mint, purse: Purse, restart: Callable[[Mint], None]
) -> None:
    melt = purse.hold(behaviour=Behaviour(parts=(Part.hold(),), reply=Reply.silent(), notifications=SILENCE))
    mint.node.release(str(melt.invoice), ok=False)
    mint.node.delete_rows(str(melt.invoice), counted=True)
    restart(mint)
    find_stuck(mint, melt)
    purse.assert_stays_pending(melt, 0.5)
    assert mint.info()["pending_melts"] >= 1


@restarts("plugin killed", "node killed")
def test_an_own_invoice_that_was_paid_and_whose_rows_are_gone_is_never_released(
    mint: Mint, purse: Purse, restart: Callable[[Mint], None]
) -> None:
    own = purse.request_mint(64)
    melt = purse.prepare(own.request)
    mint.node.script(Behaviour(reply=Reply.silent(), notifications=SILENCE), own.request)
    mint.node.pause_rpc("listsendpays")
    purse.post(melt, prefer_async=True)
    mint.node.wait_until(lambda: [row["status"] for row in mint.node.rows(own.request)] == ["complete"])
    mint.node.delete_rows(own.request, counted=False)
    restart(mint)
    mint.node.resume_rpc("listsendpays")
    find_stuck(mint, melt)
    purse.assert_pending(melt)


def test_a_melt_is_no_longer_listed_as_stuck_once_it_is_decided(mint: Mint, purse: Purse) -> None:
    melt = purse.hold(behaviour=Behaviour.error_in_flight(209))
    purse.assert_stays_pending(melt, 0.5)
    (row,) = mint.node.rows(str(melt.invoice))
    assert melt.invoice is not None
    mint.node.delete_rows(str(melt.invoice))
    mint.node.notify("sendpay_failure", {"code": 202, "message": "", "data": row})
    find_stuck(mint, melt)
    row |= {"status": "complete", "payment_preimage": melt.invoice.preimage}
    mint.node.notify("sendpay_success", row)
    purse.assert_paid(melt)
    assert melt.invoice.payment_hash not in stuck(mint)


def test_rows_of_others_that_are_deleted_do_not_matter(mint: Mint, purse: Purse) -> None:
    other = mint.invoice()
    mint.node.rpc("xpay", invstring=str(other), label="operator")
    melt = purse.hold()
    mint.node.delete_rows(other)
    mint.node.release(str(melt.invoice), ok=False)
    purse.assert_failed(melt)


# --- the operator's own payment is never taken for ours -----------------------------------------------------------


@restarts("plugin killed", "node killed")
def test_a_payment_by_the_operator_is_not_taken_for_one_of_ours_that_was_never_sent(
    mint: Mint, purse: Purse, restart: Callable[[Mint], None]
) -> None:
    invoice = mint.invoice()
    melt = purse.prepare(invoice)
    position = mint.node.calls_position
    mint.node.pause_rpc("xpay")
    assert purse.post(melt, prefer_async=True).state == PENDING
    mint.node.wait_for_call("xpay", since=position)
    mint.node.fail_rpc("xpay", -1, "never came to it")
    mint.node.kill_plugin()
    mint.node.resume_rpc("xpay")
    mint.node.rpc("xpay", invstring=str(invoice), label="operator")
    wait_booked(mint, melt)
    mint.start_plugin()
    if restart is not RESTARTS["plugin killed"]:
        restart(mint)
    purse.assert_failed(melt)


@restarts("plugin killed", "node killed")
def test_an_own_invoice_paid_by_somebody_else_is_not_taken_for_one_that_we_paid(
    mint: Mint, purse: Purse, restart: Callable[[Mint], None]
) -> None:
    own = purse.request_mint(64)
    melt = purse.prepare(own.request)
    position = mint.node.calls_position
    mint.node.pause_rpc("xpay")
    assert purse.post(melt, prefer_async=True).state == PENDING
    mint.node.wait_for_call("xpay", since=position)
    mint.node.fail_rpc("xpay", -1, "never came to it")
    mint.node.kill_plugin()
    mint.node.resume_rpc("xpay")
    mint.node.pay_invoice(own.request)
    mint.start_plugin()
    if restart is not RESTARTS["plugin killed"]:
        restart(mint)
    purse.assert_failed(melt)
    purse.wait_credited(own)
