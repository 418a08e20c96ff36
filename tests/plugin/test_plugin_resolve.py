"""`cashu-pending` and `cashu-resolve`: what the operator sees of melts in flight, and how far they may be forced."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from contrib.sandbox import Behaviour, Notifications, Part, Reply, RpcError
from contrib.sandbox.node import Node
from ledger.ids import label_of
from tests.plugin.harness import PAID, UNPAID, Melt, Mint, Purse, wait_for
from tests.plugin.onchain import COIN_SAT, ChainPurse
from tests.plugin.onchain import OPTIONS as ONCHAIN

FORCE = "ledger.operations.resolution:force"
FORCED = "plugin.methods.resolver:_over"
SETTLE = "ledger.operations.melt:settle"
OPTIONS = {"retry_for": 1, **ONCHAIN}
MAX_SHOWN = 2
CONSTANTS = {
    "plugin.methods.verdict:ROUTING_GRACE_S": 1,
    "plugin.methods.verdict:RETRY_S": 0.5,
    "plugin.methods.resolver:MAX_SHOWN": MAX_SHOWN,
}
POINTS = (FORCE, FORCED, SETTLE)
LOSS = "A LOSS"
REASON = "the destination says that it was never paid"


def pending(mint: Mint, handle: str | None = None) -> list[dict[str, Any]]:
    params: dict[str, Any] = {} if handle is None else {"handle": handle}
    answer = mint.node.rpc("cashu-pending", **params)
    assert answer["more"] == 0
    assert not any(secret in json.dumps(answer) for secret in mint.secrets)
    return list(answer["melts"])


def entry(mint: Mint, melt: Melt) -> dict[str, Any]:
    """What is shown of a melt."""
    payment_hash = mint.node.payment_hash(melt.quote.request)
    (found,) = [shown for shown in pending(mint) if shown["evidence"].get("payment_hash") == payment_hash]
    return found


def resolve(mint: Mint, handle: str, **params: Any) -> dict[str, Any]:
    return mint.node.rpc("cashu-resolve", handle=handle, **params)


def force(mint: Mint, handle: str, outcome: str, **params: Any) -> dict[str, Any]:
    return resolve(mint, handle, outcome=outcome, force=True, **{"reason": REASON, **params})


def audit(mint: Mint) -> dict[str, Any]:
    books = mint.node.rpc("cashu-audit")
    assert books["balanced"], books["faults"]
    return books


def forced_lines_of(mint: Mint, handle: str) -> int:
    return sum(line["handle"] == handle for line in audit(mint)["forced"])


def forced_line(mint: Mint, handle: str) -> dict[str, Any]:
    (line,) = [line for line in audit(mint)["forced"] if line["handle"] == handle]
    return dict(line)


def lose_evidence(mint: Mint, purse: Purse) -> tuple[Melt, dict[str, Any]]:
    """A melt whose rows were deleted while the mint was off: nothing tells its outcome. With what is shown of it."""
    melt = purse.hold(
        behaviour=Behaviour(parts=(Part.hold(),), reply=Reply.silent(), notifications=Notifications.dropped())
    )
    mint.node.kill_plugin()
    mint.node.release(str(melt.invoice), ok=False)
    mint.node.delete_rows(str(melt.invoice))
    mint.start_plugin()
    wait_for(lambda: "deleted" in entry(mint, melt)["sentence"], "the evidence to be missed")
    return melt, entry(mint, melt)


def test_a_payment_that_is_held_is_shown_and_can_not_be_forced(mint: Mint, purse: Purse) -> None:
    melt = purse.hold(100)
    shown = entry(mint, melt)
    evidence = shown["evidence"]
    (htlc,) = evidence["htlcs"]
    assert (shown["method"], shown["amount"], shown["unit"], shown["attempt"]) == ("bolt11", 100, "sat", 1)
    assert evidence["parts"] == {"pending": 1, "complete": 0, "failed": 0}
    assert htlc["peer"] == mint.node.do(lambda node: node.outside.peer_id)
    assert htlc["blocks_left"] == htlc["expiry"] - evidence["height"] > 0
    until = f"until block {htlc['expiry']} at the latest (in {htlc['blocks_left']} blocks)"
    assert shown["sentence"] == f"an HTLC is in flight at {htlc['peer']}, {until}"
    answer = resolve(mint, shown["handle"])
    assert (answer["outcome"], answer["forced"]) == ("pending", False)
    assert answer["sentence"] == f"It stays pending: {shown['sentence']}."
    for outcome in ("failed", "paid"):
        with pytest.raises(RpcError, match="an HTLC of it is in flight"):
            force(mint, shown["handle"], outcome)
    purse.assert_pending(melt)
    mint.node.release(str(melt.invoice))
    purse.assert_paid(melt)
    with pytest.raises(RpcError, match="no melt in flight has this handle"):
        resolve(mint, shown["handle"])
    assert audit(mint)["forced"] == []


def test_a_payment_that_may_still_be_sent_can_not_be_forced(mint: Mint, purse: Purse) -> None:
    melt = purse.prepare(mint.invoice())
    mint.node.pause_rpc("xpay")
    try:
        purse.post(melt, prefer_async=True)
        shown = entry(mint, melt)
        assert "xpay is at work" in shown["sentence"]
        with pytest.raises(RpcError, match="may send another part"):
            force(mint, shown["handle"], "failed")
    finally:
        mint.node.resume_rpc("xpay")
    purse.assert_paid(melt)


def test_what_has_been_decided_at_the_node_is_not_forced_but_resolved(mint: Mint, purse: Purse) -> None:
    """The mint could not look when the news came. The operator's say-so counts less than the rows."""
    melt = purse.hold(
        behaviour=Behaviour(parts=(Part.hold(),), reply=Reply.silent(), notifications=Notifications.dropped())
    )
    handle = entry(mint, melt)["handle"]
    mint.node.release(str(melt.invoice))
    mint.node.wait_until(lambda: [row["status"] for row in mint.node.rows(str(melt.invoice))] == ["complete"])
    with pytest.raises(RpcError, match="resolve it without force"):
        force(mint, handle, "failed")
    answer = resolve(mint, handle)
    assert (answer["outcome"], answer["forced"]) == ("paid", False)
    purse.assert_paid(melt)


def test_a_melt_without_evidence_is_forced_to_failed(mint: Mint, purse: Purse) -> None:
    melt, shown = lose_evidence(mint, purse)
    assert shown["sentence"].startswith("nothing tells what became of it")
    assert resolve(mint, shown["handle"])["outcome"] == "pending"
    assert shown["handle"] in [stuck["handle"] for stuck in mint.info()["stuck_melts"]]
    answer = force(mint, shown["handle"], "failed")
    assert (answer["outcome"], answer["forced"]) == ("failed", True)
    quote = purse.assert_failed(melt, why="the mint's operator has ended this payment as failed")
    assert REASON not in str(quote.error)
    line = forced_line(mint, shown["handle"])
    assert (line["outcome"], line["reason"], line["lost_msat"]) == ("failed", REASON, 0)
    assert line["who"].startswith("operator, ")
    assert line["evidence"]["sentence"] == shown["sentence"]
    assert "Melts ended by force: " in audit(mint)["sentence"]
    assert mint.info()["stuck_melts"] == []
    mint.node.script(Behaviour.success(), str(melt.invoice))
    purse.post(melt)
    purse.assert_paid(melt)
    with pytest.raises(RpcError, match="no melt in flight"):
        force(mint, shown["handle"], "failed")


@pytest.mark.parametrize("known", [True, False], ids=["preimage known", "not known"])
def test_a_melt_without_evidence_is_forced_to_paid(mint: Mint, purse: Purse, known: bool) -> None:
    melt, shown = lose_evidence(mint, purse)
    assert melt.invoice is not None
    with pytest.raises(RpcError, match="does not fit the payment hash"):
        force(mint, shown["handle"], "paid", preimage="00" * 32)
    purse.assert_pending(melt)
    force(mint, shown["handle"], "paid", **({"preimage": melt.invoice.preimage} if known else {}))
    # What it cost isn't known: the whole reserve counts as spent, only what was overpaid comes back.
    purse.assert_paid(melt, fee_msat=melt.quote.fee_reserve * 1000, preimage=known)
    assert forced_line(mint, shown["handle"])["outcome"] == "paid"


def test_a_payment_that_was_given_up_and_was_made_is_a_loss_that_is_told(mint: Mint, purse: Purse) -> None:
    """By a notification that comes late."""
    melt, shown = lose_evidence(mint, purse)
    force(mint, shown["handle"], "failed")
    before = audit(mint)
    assert melt.invoice is not None
    mint.expect_broken(LOSS)
    row = {"payment_hash": melt.invoice.payment_hash, "status": "complete", "amount_msat": 100_000}
    row |= {"label": label_of(melt.quote.quote), "amount_sent_msat": 101_000, "payment_preimage": melt.invoice.preimage}
    mint.node.notify("sendpay_success", {"id": 1, "groupid": 1, "created_at": 1, **row})
    wait_for(lambda: forced_line(mint, shown["handle"])["lost_msat"] == 101_000, "the loss to be written down")
    after = audit(mint)
    assert after["lost_msat"] - before["lost_msat"] == 101_000
    assert before["earned_msat"] - after["earned_msat"] == 101_000
    assert "WERE LOST" in after["sentence"]
    mint.node.notify("sendpay_success", {"id": 1, "groupid": 1, "created_at": 1, **row})
    assert audit(mint)["lost_msat"] == after["lost_msat"]
    purse.assert_failed(melt)


@pytest.mark.parametrize("by", ["start", "audit"])
def test_a_loss_is_found_in_the_nodes_rows(mint: Mint, purse: Purse, by: str) -> None:
    """The node's database was put back, say, with the rows that were missing."""
    melt, shown = lose_evidence(mint, purse)
    force(mint, shown["handle"], "failed")
    assert forced_line(mint, shown["handle"])["lost_msat"] == 0
    mint.expect_broken(LOSS)
    if by == "start":
        mint.node.stop_plugin()
    _put_row_back(mint, melt)
    if by == "start":
        mint.start_plugin()
        with mint.ledger() as db:
            assert db.execute("SELECT paid_after_all_msat FROM resolutions ORDER BY n DESC LIMIT 1").get == 100_500
    assert forced_line(mint, shown["handle"])["lost_msat"] == 100_500


def _put_row_back(mint: Mint, melt: Melt) -> None:
    """A complete row of a payment that had none."""
    invoice = melt.invoice
    assert invoice is not None

    def add(node: Node) -> None:
        row = node.payments.add(
            payment_hash=invoice.payment_hash,
            groupid=77,
            partid=1,
            destination=node.outside.peer_id,
            amount_msat=100_000,
            amount_sent_msat=100_500,
            total_msat=100_000,
            label=label_of(melt.quote.quote),
            bolt11=str(invoice),
        )
        node.payments.complete(row, invoice.preimage)

    mint.node.do(add)


@pytest.mark.parametrize(
    ("point", "done"),
    [(SETTLE, False), pytest.param(FORCE, False, marks=pytest.mark.slow), (FORCED, True)],
)
def test_a_plugin_killed_while_it_resolves_has_done_all_or_nothing(
    mint: Mint, purse: Purse, point: str, done: bool
) -> None:
    melt, shown = lose_evidence(mint, purse)
    mint.arm(point)
    with pytest.raises(RpcError):
        force(mint, shown["handle"], "paid")
    mint.wait_dead()
    mint.start_plugin()
    assert purse.look(melt).state == (PAID if done else "PENDING")
    assert forced_lines_of(mint, shown["handle"]) == done
    if not done:
        wait_for(lambda: "deleted" in entry(mint, melt)["sentence"], "the evidence to be missed")
        force(mint, shown["handle"], "failed")
        purse.assert_failed(melt)


@pytest.mark.parametrize(
    ("params", "why"),
    [
        ({}, "handle must be"),
        ({"handle": 7}, "handle must be"),
        ({"handle": "0123456789ab"}, "handle must be"),
        ({"handle": "0123456789ab-1\n"}, "handle must be"),
        ({"handle": "0123456789ab-1"}, "no melt in flight"),
        ({"outcome": "failed"}, "without force"),
        ({"outcome": "failed", "force": "false"}, "without force"),
        ({"reason": "so"}, "without force"),
        ({"force": "yes"}, "force must be"),
        ({"force": True, "reason": "so"}, "outcome must be"),
        ({"force": True, "reason": "so", "outcome": "PAID"}, "outcome must be"),
        ({"force": True, "outcome": "paid"}, "reason must say"),
        ({"force": True, "outcome": "paid", "reason": "  "}, "reason must say"),
        ({"force": True, "outcome": "paid", "reason": 7}, "reason must say"),
        ({"force": True, "outcome": "paid", "reason": "x" * 501}, "reason must say"),
        ({"force": True, "outcome": "paid", "reason": "a\nb"}, "reason must say"),
        ({"force": True, "outcome": "paid", "reason": "so", "preimage": "00"}, "preimage must be"),
        ({"force": True, "outcome": "failed", "reason": "so", "preimage": "00" * 32}, "preimage is for"),
        ({"force": True, "outcome": "paid", "reason": "so"}, "no melt in flight"),
        ({"because": "so"}, "takes only"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_parameters_are_refused_with_a_sentence(mint: Mint, purse: Purse, params: dict[str, Any], why: str) -> None:
    given = {"handle": "0123456789ab-1", **params} if params and "handle" not in params else params
    with pytest.raises(RpcError, match=why):
        mint.node.rpc("cashu-resolve", **given)


def test_pending_of_one_handle_and_of_none(mint: Mint, purse: Purse) -> None:
    melt = purse.hold()
    shown = entry(mint, melt)
    (alone,) = pending(mint, shown["handle"])
    assert alone["handle"] == shown["handle"]
    with pytest.raises(RpcError, match="no melt in flight"):
        pending(mint, "0123456789ab-1")
    mint.node.release(str(melt.invoice), ok=False)
    purse.assert_failed(melt)
    assert pending(mint) == []


def test_an_own_invoice_that_was_paid_is_said_to_be(mint: Mint, purse: Purse) -> None:
    """By force it could be given back although its payment has made ecash: the operator must know."""
    own = purse.request_mint(64)
    melt = purse.prepare(own.request)
    mint.node.script(Behaviour(reply=Reply.silent(), notifications=Notifications.dropped()), own.request)
    mint.node.pause_rpc("listsendpays")
    purse.post(melt, prefer_async=True)
    mint.node.wait_until(lambda: [row["status"] for row in mint.node.rows(own.request)] == ["complete"])
    mint.node.delete_rows(own.request)
    mint.node.kill_plugin()
    mint.node.resume_rpc("listsendpays")
    mint.start_plugin()
    wait_for(lambda: "this node's own, and was paid" in entry(mint, melt)["sentence"], "the invoice to be told of")
    shown = entry(mint, melt)
    assert shown["evidence"]["own_invoice_paid"] is True
    force(mint, shown["handle"], "paid")
    assert purse.look(melt).state == PAID


def test_a_loss_is_looked_for_when_events_were_lost(mint: Mint, purse: Purse) -> None:
    """The connection to the node broke, say, as its rows came back."""
    melt, shown = lose_evidence(mint, purse)
    force(mint, shown["handle"], "failed")
    mint.expect_broken(LOSS)
    before = len(mint.lines)
    _put_row_back(mint, melt)
    mint.node.close_rpc_connections()

    def lost() -> int:
        with mint.ledger() as db:
            return int(
                db.execute(
                    "SELECT coalesce(max(paid_after_all_msat), 0) FROM resolutions WHERE n ="
                    " (SELECT max(n) FROM resolutions)"
                ).get
            )

    wait_for(lambda: lost() == 100_500, "the loss to be written down")
    wait_for(lambda: any(LOSS in line.message for line in mint.lines[before:]), "the loss to be logged, after that")


def test_the_oldest_are_shown_first_and_the_others_counted(mint: Mint, purse: Purse) -> None:
    held = [purse.hold() for _ in range(MAX_SHOWN + 1)]
    answer = mint.node.rpc("cashu-pending")
    hashes = [mint.node.payment_hash(melt.quote.request) for melt in held]
    assert [shown["evidence"]["payment_hash"] for shown in answer["melts"]] == hashes[:MAX_SHOWN]
    assert answer["more"] == 1
    for melt in held:
        mint.node.release(str(melt.invoice))
        purse.assert_paid(melt)


# --- on the chain -------------------------------------------------------------------------------------------------


@pytest.fixture
def chain_purse(mint: Mint) -> Iterator[ChainPurse]:
    """A purse of the shared mint, whose wallet has coins."""
    purse = ChainPurse(mint)
    purse.chain.give_coins(COIN_SAT, COIN_SAT)
    yield purse
    purse.chain.set_down(False)
    mint.check()


def test_a_transaction_is_followed_and_can_not_be_forced_to_failed(mint: Mint, chain_purse: ChainPurse) -> None:
    payout = chain_purse.begin_payout()
    txid = chain_purse.wait_sent(payout)
    (shown,) = pending(mint)
    assert (shown["method"], shown["evidence"]["txid"]) == ("onchain", txid)
    assert shown["sentence"] == f"transaction {txid} is sent, and in no block for 0 blocks"
    assert resolve(mint, shown["handle"])["outcome"] == "pending"
    with pytest.raises(RpcError, match="is signed, so it may be confirmed at any time"):
        force(mint, shown["handle"], "failed")
    chain_purse.chain.mine(2)
    wait_for(lambda: "2 of 3 blocks deep" in pending(mint)[0]["sentence"], "the block to be seen")
    with pytest.raises(RpcError, match="settled by itself"):
        force(mint, shown["handle"], "paid")
    chain_purse.blocks_until_paid(payout, 1)
    assert pending(mint) == []


def test_a_transaction_that_the_node_does_not_see_confirmed_is_forced_to_paid(
    mint: Mint, chain_purse: ChainPurse
) -> None:
    payout = chain_purse.begin_payout()
    chain_purse.wait_sent(payout)
    (shown,) = pending(mint)
    force(mint, shown["handle"], "paid")
    chain_purse.assert_payout_paid(payout)
    assert forced_line(mint, shown["handle"])["outcome"] == "paid"
    chain_purse.chain.mine(3)


def test_a_transaction_that_was_never_made_is_forced_to_failed(mint: Mint, chain_purse: ChainPurse) -> None:
    payout = chain_purse.prepare_payout()
    chain_purse.chain.set_down(True)
    chain_purse.post_payout(payout)
    (shown,) = pending(mint)
    assert shown["sentence"].startswith("its transaction is not made yet")
    with pytest.raises(RpcError, match="no transaction was made"):
        force(mint, shown["handle"], "paid")
    force(mint, shown["handle"], "failed")
    chain_purse.assert_payout_failed(payout, "operator")
    chain_purse.chain.set_down(False)
    assert chain_purse.look_payout(payout).state == UNPAID


def test_a_conflict_is_told_and_decides_when_it_is_deep(mint: Mint, chain_purse: ChainPurse) -> None:
    payout = chain_purse.begin_payout()
    txid = chain_purse.wait_sent(payout)
    other = chain_purse.chain.spend_otherwise(txid)
    wait_for(lambda: other in pending(mint)[0]["sentence"], "the conflict to be told")
    (shown,) = pending(mint)
    conflict = shown["evidence"]["conflict"]
    assert (conflict["spent_by"], conflict["depth"]) == (other, 1)
    with pytest.raises(RpcError, match="can't be paid by its transaction any more"):
        force(mint, shown["handle"], "paid")
    with pytest.raises(RpcError, match="is signed, so it may be confirmed at any time"):
        force(mint, shown["handle"], "failed")
    mint.expect_broken("its ecash is free again")
    chain_purse.chain.mine(5)
    chain_purse.assert_payout_failed(payout)
    assert forced_lines_of(mint, shown["handle"]) == 0
