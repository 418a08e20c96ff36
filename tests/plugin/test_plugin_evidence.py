"""What decides about a payment: the node's rows, whatever xpay says and whichever news arrive, how often and when."""

from __future__ import annotations

from typing import Any

import pytest

from contrib.sandbox import (
    DESTINATION_REFUSED,
    TEMPORARY_CHANNEL_FAILURE,
    Behaviour,
    Notifications,
    Part,
    PartFailure,
    Reply,
    ReplyTime,
)
from contrib.wallet import MintUnreachableError
from ledger.errors import Code
from tests.plugin.harness import AT_ONCE_S, PAID, PENDING, UNPAID, Mint, Purse

CONSTANTS = {"plugin.methods.verdict:RETRY_S": 0.5}
SEND = "plugin.methods.verdict:Verdicts.pay"
POINTS = (SEND,)

CAUSES = pytest.mark.parametrize("cause", [DESTINATION_REFUSED, TEMPORARY_CHANNEL_FAILURE], ids=["203", "209"])
ERRORS = pytest.mark.parametrize("code", [203, 205, 206, 207, 209, 210, 219, -3, -4, -32602])
OUTCOMES = pytest.mark.parametrize("ok", [True, False], ids=["claimed", "failed"])

NEWS = {
    "once": Notifications(),
    "three times": Notifications(repeat=3),
    "after the reply": Notifications(after_reply=True),
    "late": Notifications(delay_s=0.3),
    "late and repeated": Notifications(repeat=2, delay_s=0.2),
    "never": Notifications.dropped(),
}


def assert_decided(purse: Purse, melt: Any, ok: bool, **paid: Any) -> None:
    """The melt comes to the end that its payment came to."""
    if ok:
        purse.assert_paid(melt, **paid)
    else:
        purse.assert_failed(melt)


# --- an error of xpay is not final --------------------------------------------------------------------------------


@ERRORS
@OUTCOMES
def test_an_error_of_xpay_with_a_part_in_flight_decides_nothing(mint: Mint, purse: Purse, code: int, ok: bool) -> None:
    melt = purse.hold(behaviour=Behaviour.error_in_flight(code))
    purse.assert_stays_pending(melt, 0.3)
    mint.node.release(str(melt.invoice), ok=ok)
    assert_decided(purse, melt, ok)


@CAUSES
@OUTCOMES
def test_a_failed_part_decides_nothing_while_another_is_held(
    mint: Mint, purse: Purse, cause: PartFailure, ok: bool
) -> None:
    behaviour = Behaviour(parts=(Part.failure(cause), Part.hold()))
    melt = purse.prepare(mint.invoice(1000, behaviour), blanks=12)
    purse.post(melt, prefer_async=True)
    mint.node.wait_until(lambda: [r["status"] for r in mint.node.rows(str(melt.invoice))] == ["failed", "pending"])
    purse.assert_stays_pending(melt, 0.3)
    mint.node.release(str(melt.invoice), ok=ok)
    assert_decided(purse, melt, ok, sent_msat=501_000)


@OUTCOMES
def test_a_synchronous_request_waits_on_after_an_error_with_a_part_in_flight(
    mint: Mint, purse: Purse, ok: bool
) -> None:
    melt = purse.prepare(mint.invoice(behaviour=Behaviour.error_in_flight(203)))
    waiting = purse.post_soon(melt)
    mint.node.wait_for_part(str(melt.invoice))
    purse.assert_stays_pending(melt, 0.3)
    assert not waiting.done()
    mint.node.release(str(melt.invoice), ok=ok)
    if ok:
        assert waiting.result(60).state == PAID
    else:
        failed = waiting.exception(60)
        assert getattr(failed, "code", None) == Code.PAYMENT_FAILED


def test_of_two_held_parts_the_first_claim_decides_and_both_count_as_sent(mint: Mint, purse: Purse) -> None:
    melt = purse.hold(1000, Behaviour.hold(parts=2))
    mint.node.release(str(melt.invoice), partid=2)
    purse.assert_paid(melt, fee_msat=2000)
    mint.node.release(str(melt.invoice), ok=False)
    assert purse.look(melt).state == PAID


def test_of_two_held_parts_one_that_fails_decides_nothing(mint: Mint, purse: Purse) -> None:
    melt = purse.hold(1000, Behaviour.hold(parts=2))
    mint.node.release(str(melt.invoice), ok=False, partid=1)
    purse.assert_stays_pending(melt, 0.3)
    mint.node.release(str(melt.invoice), ok=False, partid=2)
    purse.assert_failed(melt)


@OUTCOMES
def test_a_reply_that_waits_for_every_part_changes_nothing(mint: Mint, purse: Purse, ok: bool) -> None:
    melt = purse.hold(behaviour=Behaviour(parts=(Part.hold(),), reply=Reply.truthful(when=ReplyTime.SETTLED)))
    mint.node.release(str(melt.invoice), ok=ok)
    assert_decided(purse, melt, ok)


# --- news ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("news", NEWS.values(), ids=list(NEWS))
@OUTCOMES
def test_the_outcome_does_not_depend_on_how_notifications_travel(
    mint: Mint, purse: Purse, news: Notifications, ok: bool
) -> None:
    part = Part.success() if ok else Part.failure()
    melt = purse.post_async(mint.invoice(behaviour=Behaviour(parts=(part,), notifications=news)))
    assert_decided(purse, melt, ok)


@pytest.mark.parametrize("news", NEWS.values(), ids=list(NEWS))
@OUTCOMES
def test_the_outcome_of_a_held_part_does_not_depend_on_how_notifications_travel(
    mint: Mint, purse: Purse, news: Notifications, ok: bool
) -> None:
    melt = purse.hold(behaviour=Behaviour(parts=(Part.hold(),), notifications=news))
    mint.node.release(str(melt.invoice), ok=ok)
    assert_decided(purse, melt, ok)


def test_a_success_is_learned_from_its_notification_before_the_reply(mint: Mint, purse: Purse) -> None:
    melt = purse.post_async(mint.invoice(behaviour=Behaviour(reply=Reply.truthful(delay_s=120))))
    purse.assert_paid(melt)


def test_a_failure_waits_for_the_reply_because_xpay_may_try_again(mint: Mint, purse: Purse) -> None:
    behaviour = Behaviour(parts=(Part.failure(),), reply=Reply.truthful(delay_s=1.5))
    melt = purse.post_async(mint.invoice(behaviour=behaviour))
    mint.node.wait_until(lambda: any(r["status"] == "failed" for r in mint.node.rows(str(melt.invoice))))
    purse.assert_stays_pending(melt, 0.5)
    purse.assert_failed(melt)


def test_a_notification_of_failure_is_not_believed(mint: Mint, purse: Purse) -> None:
    melt = purse.hold()
    (row,) = mint.node.rows(str(melt.invoice))
    mint.node.notify("sendpay_failure", {"code": 202, "message": "made up", "data": row})
    purse.assert_stays_pending(melt, 0.3)
    mint.node.release(str(melt.invoice))
    purse.assert_paid(melt)


@pytest.mark.parametrize("label", [None, "operator"])
def test_a_notification_of_success_with_another_label_is_not_ours(mint: Mint, purse: Purse, label: str | None) -> None:
    melt = purse.hold()
    (row,) = mint.node.rows(str(melt.invoice))
    assert melt.invoice is not None
    row |= {"status": "complete", "payment_preimage": melt.invoice.preimage, "label": label}
    mint.node.notify("sendpay_success", {k: v for k, v in row.items() if v is not None})
    purse.assert_stays_pending(melt, 0.3)
    mint.node.release(str(melt.invoice))
    purse.assert_paid(melt)


def test_a_notification_of_success_with_a_wrong_preimage_is_not_believed(mint: Mint, purse: Purse) -> None:
    melt = purse.hold()
    (row,) = mint.node.rows(str(melt.invoice))
    mint.node.notify("sendpay_success", row | {"status": "complete", "payment_preimage": "00" * 32})
    purse.assert_stays_pending(melt, 0.3)
    mint.node.release(str(melt.invoice))
    purse.assert_paid(melt)


def test_notifications_about_payments_of_others_change_nothing(mint: Mint, purse: Purse) -> None:
    melt = purse.hold()
    mint.node.rpc("xpay", invstring=str(mint.invoice()), label="operator")
    mint.node.rpc("xpay", invstring=str(mint.invoice()))
    purse.assert_stays_pending(melt, 0.3)
    mint.node.release(str(melt.invoice))
    purse.assert_paid(melt)


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        ("sendpay_success", {}),
        ("sendpay_success", {"payment_hash": "zz", "payment_preimage": 7}),
        ("sendpay_failure", {"code": 204}),
        ("sendpay_failure", {"data": {"payment_hash": None}}),
    ],
)
def test_a_notification_of_unknown_form_is_only_a_hint(
    mint: Mint, purse: Purse, topic: str, payload: dict[str, Any]
) -> None:
    mint.expect_broken("a notification of the node has an unknown form")
    melt = purse.hold(behaviour=Behaviour(parts=(Part.hold(),), notifications=Notifications.dropped()))
    mint.node.notify(topic, payload)
    mint.node.wait_for_log("unknown form")
    purse.assert_stays_pending(melt, 0.3)
    mint.node.release(str(melt.invoice))
    purse.assert_paid(melt)


def test_a_success_of_which_all_news_were_lost_is_found_when_a_connection_breaks(mint: Mint, purse: Purse) -> None:
    behaviour = Behaviour(parts=(Part.hold(),), reply=Reply.silent(), notifications=Notifications.dropped())
    melt = purse.hold(behaviour=behaviour)
    mint.node.release(str(melt.invoice))
    purse.assert_pending(melt)
    mint.node.close_rpc_connections()
    purse.assert_paid(melt)


# --- the node can't be asked --------------------------------------------------------------------------------------


@OUTCOMES
@pytest.mark.parametrize("times", [1, 3])
def test_a_question_that_the_node_does_not_answer_is_asked_again(
    mint: Mint, purse: Purse, ok: bool, times: int
) -> None:
    melt = purse.hold()
    mint.node.fail_rpc("listsendpays", -1, "not now", times=times)
    mint.node.release(str(melt.invoice), ok=ok)
    assert_decided(purse, melt, ok)


@pytest.mark.parametrize("method", ["decode", "listsendpays", "wait"])
def test_a_quote_that_the_node_cannot_help_with_now_is_to_be_asked_for_again(
    mint: Mint, purse: Purse, method: str
) -> None:
    invoice = mint.invoice()
    mint.node.fail_rpc(method, -1, "not now")
    response = mint.http.post("/v1/melt/quote/bolt11", json={"request": str(invoice), "unit": "sat"})
    assert response.status_code == (400 if method == "decode" else 503)
    assert purse.quote(invoice).state == UNPAID


def test_an_answer_that_comes_late_is_waited_for(mint: Mint, purse: Purse) -> None:
    melt = purse.hold()
    mint.node.pause_rpc("listsendpays")
    mint.node.release(str(melt.invoice))
    purse.assert_stays_pending(melt, 0.5)
    mint.node.resume_rpc("listsendpays")
    purse.assert_paid(melt)


def test_a_broken_connection_under_the_question_is_mended(mint: Mint, purse: Purse) -> None:
    melt = purse.hold()
    position = mint.node.calls_position
    mint.node.pause_rpc("listsendpays")
    mint.node.release(str(melt.invoice))
    mint.node.wait_for_call("listsendpays", since=position)
    mint.node.close_rpc_connections()
    mint.node.resume_rpc("listsendpays")
    purse.assert_paid(melt)


def test_a_connection_that_breaks_with_payments_on_it_loses_none_of_them(mint: Mint, purse: Purse) -> None:
    melts = [purse.hold() for _ in range(6)]
    mint.node.close_rpc_connections()
    for melt in melts:
        purse.assert_pending(melt)
    for number, melt in enumerate(melts):
        mint.node.release(str(melt.invoice), ok=bool(number % 2))
    for number, melt in enumerate(melts):
        assert_decided(purse, melt, bool(number % 2))


# --- the node was restarted ---------------------------------------------------------------------------------------


def test_a_payment_that_was_not_sent_before_the_node_was_restarted_failed_for_certain(mint: Mint, purse: Purse) -> None:
    melt = purse.prepare(mint.invoice())
    mint.arm(SEND)
    with pytest.raises(MintUnreachableError):
        purse.post(melt)
    mint.wait_dead()
    mint.restart_node(kill=True)
    purse.assert_failed(melt, why="not sent")  # without the two minutes for an xpay that may be routing
    purse.post(melt)
    purse.assert_paid(melt)


# --- nobody polls -------------------------------------------------------------------------------------------------


def test_held_payments_cause_no_call_to_the_node(mint: Mint, purse: Purse) -> None:
    melts = [purse.hold() for _ in range(5)]
    waiting = purse.post_soon(melts[0])
    mint.node.wait_until(lambda: len(mint.node.calls("xpay")) >= 5)
    purse.assert_stays_pending(melts[0], 0.5)
    position = mint.node.calls_position
    for melt in melts:
        purse.assert_stays_pending(melt, 0.6)
    asked = [call.method for call in mint.node.calls(since=position)]
    assert asked in ([], ["datastore"])  # the ledger's record is told to the node now and then
    for melt in melts:
        mint.node.release(str(melt.invoice))
        purse.assert_paid(melt)
    assert waiting.result(60).state == PAID


def test_looking_at_quotes_and_proofs_never_asks_the_node(mint: Mint, purse: Purse) -> None:
    held, unpaid = purse.hold(), purse.request_mint()
    position = mint.node.calls_position
    for _ in range(10):
        assert purse.client.mint_quote(unpaid.quote).amount_paid == 0
        assert purse.look(held).state == PENDING
        purse.states(held.inputs)
        purse.client.restore([blank.message for blank in held.blanks])
        purse.client.info()
        purse.client.keys()
        mint.info()
    assert [call.method for call in mint.node.calls(since=position)] in ([], ["datastore"])
    mint.node.release(str(held.invoice))
    purse.assert_paid(held)


def test_a_definite_failure_is_known_soon(mint: Mint, purse: Purse) -> None:
    melt = purse.post_async(mint.invoice(behaviour=Behaviour.refused()))
    purse.wait_final(melt, AT_ONCE_S)
    purse.assert_failed(melt)
