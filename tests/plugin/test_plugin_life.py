"""A mint's life in its node: it starts, recovers, serves, is stopped and killed, and comes back as it was."""

from __future__ import annotations

import socket
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from contrib.sandbox import Behaviour, RpcError, SandboxNode
from contrib.wallet import MintError, MintUnreachableError
from ledger.errors import Code
from ledger.models import MeltQuoteLightning
from tests.plugin.conftest import MakeMint
from tests.plugin.harness import (
    AT_ONCE_S,
    ENTRY_FILE,
    PAID,
    UNSPENT,
    Mint,
    Purse,
    free_port,
    is_free,
    running,
    wait_for,
)

CONSTANTS = {"plugin.mint:RETRY_S": 0.2}

# --- start --------------------------------------------------------------------------------------------------------


STEPS = ("listdatastore", "makesecret", "getinfo", "waitanyinvoice")
"""What the mint asks of the node before it serves, in this order."""


def test_until_it_has_recovered_it_answers_503_and_then_serves(mint: Mint, purse: Purse) -> None:
    mint.node.stop_plugin()
    for method in STEPS:
        mint.node.pause_rpc(method)
    position = mint.node.calls_position
    mint.node.start_plugin()
    for method in STEPS:
        mint.node.wait_for_call(method, since=position)
        for path in ("/v1/info", "/v1/keys", "/v1/mint/quote/bolt11/x"):
            response = mint.http.get(path)
            assert (response.status_code, set(response.json())) == (503, {"detail", "code"})
        assert mint.http.post("/v1/swap", json={}).status_code == 503
        assert mint.info()["state"] == "starting"
        mint.node.resume_rpc(method)
    mint.wait_ready()
    assert mint.info()["state"] == "ready"


def test_a_node_that_refuses_to_answer_at_first_is_asked_again(mint: Mint, purse: Purse) -> None:
    mint.node.stop_plugin()
    for method in STEPS:
        mint.node.fail_rpc(method, -1, "not yet", times=1)
    mint.start_plugin()
    assert mint.info()["state"] == "ready"


def test_recovery_of_held_melts_does_not_delay_the_start(mint: Mint, purse: Purse) -> None:
    melts = [purse.hold() for _ in range(3)]
    mint.node.stop_plugin()
    mint.node.pause_rpc("listsendpays")
    mint.start_plugin()
    for melt in melts:
        purse.assert_pending(melt)
    mint.node.resume_rpc("listsendpays")
    for melt in melts:
        mint.node.release(str(melt.invoice))
        purse.assert_paid(melt)


def test_cashu_info_tells_what_an_operator_asks(mint: Mint, purse: Purse) -> None:
    before = mint.info()["outstanding"]["sat"]
    proofs = purse.fund(1000)
    held = purse.hold()
    info = mint.info()
    assert (info["state"], info["url"], info["units"]) == ("ready", mint.url, ["sat"])
    assert info["outstanding"]["sat"] == before + 1000 + sum(p.amount for p in held.inputs)
    assert info["pending_melts"] == 1
    assert info["stuck_melts"] == []
    assert [(k["id"], k["unit"], k["active"]) for k in info["keysets"]] == [(purse.keyset.id, "sat", True)]
    mint.node.release(str(held.invoice))
    purse.assert_paid(held)
    purse.swap(proofs)


def test_a_port_that_is_taken_disables_the_plugin_and_not_the_node(make_mint: MakeMint) -> None:
    mint = make_mint(started=False)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", mint.port))
        taken.listen()
        mint.node.start()
        reason = str(mint.node.plugin_disabled)
    assert f"cashu-listen=127.0.0.1:{mint.port}" in reason
    assert mint.node.rpc("getinfo")["id"] == mint.node.id


def test_a_bad_option_disables_the_plugin_and_not_the_node(make_mint: MakeMint) -> None:
    mint = make_mint(started=False, sync_wait="soon")
    mint.node.start()
    assert "cashu-sync-wait" in str(mint.node.plugin_disabled)
    assert mint.node.rpc("getinfo")["id"] == mint.node.id
    assert is_free(mint.port)


@pytest.mark.parametrize("version", ["v26.05", "v25.12.1", "v26.05-17-gdeadbee"])
def test_an_older_node_is_refused(make_mint: MakeMint, version: str) -> None:
    mint = make_mint(started=False, node={"version": version})
    mint.node.start()
    reason = str(mint.node.plugin_disabled)
    assert "v26.06" in reason
    assert version in reason


@pytest.mark.parametrize("version", ["v26.06rc1", "v27.03-3-gdeadbee-modded", "deadbee"])
def test_a_newer_node_or_one_without_a_version_is_served(make_mint: MakeMint, version: str) -> None:
    assert make_mint(node={"version": version}).info()["state"] == "ready"


def test_a_stray_print_from_inside_does_no_harm(make_mint: MakeMint) -> None:
    mint = make_mint(started=False)
    mint.change_inside(stray=["plugin.commands.status:describe", "ledger.ledger:Ledger.melt_quote"])
    mint.start()
    assert mint.info()["state"] == "ready"
    with pytest.raises(MintError):
        mint.client.melt_quote("none")
    assert mint.node.plugin_kill_reason is None
    assert mint.info()["state"] == "ready"
    assert any("a stray print" in str(line) for line in mint.node.log())


# --- stop ---------------------------------------------------------------------------------------------------------


def test_the_death_of_the_node_ends_the_plugin_and_frees_the_port(mint: Mint, purse: Purse) -> None:
    held = purse.hold()
    waiting = purse.post_soon(held)
    mint.node.go_down(kill=True)
    assert mint.node.wait_for_plugin_exit(timeout_s=AT_ONCE_S) == 0
    assert is_free(mint.port)
    assert_told_nothing_final(waiting)
    mint.node.come_up()
    mint.wait_ready()
    mint.node.release(str(held.invoice))
    purse.assert_paid(held)


def assert_told_nothing_final(waiting: Future[MeltQuoteLightning]) -> None:
    """The client that waited was cut off, unless the mint came to say PENDING before it went."""
    cut_off = waiting.exception(AT_ONCE_S)
    assert isinstance(cut_off, MintUnreachableError) if cut_off else waiting.result().state == "PENDING"


@pytest.mark.parametrize("whole_node", [False, True], ids=["plugin stop", "node stop"])
def test_a_shutdown_ends_the_plugin_within_seconds_though_a_request_waits(
    mint: Mint, purse: Purse, whole_node: bool
) -> None:
    held = purse.hold()
    waiting = purse.post_soon(held)
    begun = time.monotonic()
    if whole_node:
        mint.node.go_down()
    else:
        mint.node.stop_plugin()
    assert mint.node.wait_for_plugin_exit() == 0
    assert time.monotonic() - begun < AT_ONCE_S
    assert is_free(mint.port)
    assert_told_nothing_final(waiting)
    if whole_node:
        mint.node.come_up()
        mint.wait_ready()
    else:
        mint.start_plugin()
    mint.node.release(str(held.invoice))
    purse.assert_paid(held)


@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
def test_plugin_stop_and_start_changes_nothing(mint: Mint, purse: Purse, kill: bool) -> None:
    proofs, spent = purse.fund(100), purse.fund(64)
    purse.swap(spent)
    quote, melt_quote = purse.request_mint(), purse.quote(mint.invoice())
    info, keys = mint.info(), purse.client.keys()
    mint.restart_plugin(kill=kill)
    assert mint.info() == info
    assert purse.client.keys() == keys
    assert purse.client.mint_quote(quote.quote) == quote
    assert purse.client.melt_quote(melt_quote.quote) == melt_quote
    assert purse.states(proofs) == {UNSPENT}
    with pytest.raises(MintError) as refused:
        purse.swap(spent)
    assert refused.value.code == Code.PROOFS_SPENT
    purse.swap(proofs)


def test_a_plugin_that_is_killed_while_it_starts_starts_the_next_time(mint: Mint, purse: Purse) -> None:
    proofs = purse.fund(100)
    mint.node.stop_plugin()
    for method in STEPS:
        mint.node.pause_rpc(method)
        position = mint.node.calls_position
        mint.node.start_plugin()
        mint.node.wait_for_call(method, since=position)
        mint.node.kill_plugin()
        mint.node.resume_rpc(method)
    mint.start_plugin()
    purse.swap(proofs)


# --- keysets and units --------------------------------------------------------------------------------------------


def test_another_input_fee_makes_a_new_keyset_at_the_next_start(make_mint: MakeMint) -> None:
    mint = make_mint()
    purse = Purse(mint)
    old, proofs = purse.keyset, purse.fund(100)
    mint.set_options(input_fee_ppk=500)
    mint.restart_plugin(kill=False)
    purse.load_keysets()
    assert purse.keyset.id != old.id
    assert purse.keyset.input_fee_ppk == 500
    assert {k.id: k.active for k in purse.client.keysets()} == {old.id: False, purse.keyset.id: True}
    assert [k.id for k in purse.client.keys()] == [purse.keyset.id]
    fresh = purse.swap(proofs)  # of the old keyset: without fee
    assert sum(p.amount for p in fresh) == 100
    assert sum(p.amount for p in purse.swap(fresh)) == 100 - purse.fee(fresh)


def test_the_same_input_fee_keeps_the_keyset(make_mint: MakeMint) -> None:
    mint = make_mint(input_fee_ppk=100)
    before = mint.client.keysets()
    mint.restart_plugin(kill=False)
    assert mint.client.keysets() == before


def test_the_operator_rotates_a_keyset_by_command(make_mint: MakeMint) -> None:
    mint = make_mint()
    purse = Purse(mint)
    old, proofs = purse.keyset, purse.fund(100)
    made = mint.node.rpc("cashu-rotate", unit="sat")
    purse.load_keysets()
    assert purse.keyset.id == made["id"] != old.id
    assert sum(p.amount for p in purse.swap(proofs)) == 100
    mint.restart_plugin(kill=True)
    assert [k.id for k in purse.client.keys()] == [made["id"]]


@pytest.mark.parametrize(
    "params",
    [
        {"unit": "florin"},
        {"unit": "sat", "input_fee_ppk": -1},
        {"unit": "sat", "input_fee_ppk": "1e3"},
        {"unit": "sat", "input_fee_ppk": True},
        {"unit": "sat", "final_expiry": 1},
        {"unit": ["sat"]},
        {"unit": None},
        {},
        {"unit": "sat", "fee": 1},
    ],
    ids=str,
)
def test_a_rotation_with_bad_parameters_is_refused_without_a_traceback(
    mint: Mint, purse: Purse, params: dict[str, Any]
) -> None:
    before = purse.client.keysets()
    with pytest.raises(RpcError) as refused:
        mint.node.rpc("cashu-rotate", **params)
    assert "Traceback" not in refused.value.message
    assert refused.value.data is None
    assert purse.client.keysets() == before


def test_change_promised_on_a_keyset_that_is_rotated_meanwhile_is_signed(make_mint: MakeMint) -> None:
    mint = make_mint()
    purse = Purse(mint)
    melt = purse.hold()
    mint.set_options(input_fee_ppk=100)
    mint.restart_plugin(kill=True)
    purse.load_keysets()
    mint.node.release(str(melt.invoice))
    quote = purse.wait_final(melt)
    assert sum(p.amount for p in purse.change(melt, quote)) == 1


def test_the_input_fee_is_taken_from_swaps_and_melts(make_mint: MakeMint) -> None:
    mint = make_mint(input_fee_ppk=300)
    purse = Purse(mint)
    proofs = purse.fund(127)
    assert purse.fee(proofs) == 3
    assert sum(p.amount for p in purse.swap(proofs)) == 124
    melt = purse.prepare(mint.invoice())
    purse.post(melt)
    purse.assert_paid(melt)
    assert mint.info()["keysets"][0]["issued"] > 0


def test_every_unit_has_its_own_keyset(make_mint: MakeMint) -> None:
    mint = make_mint(units="sat,msat")
    assert {k.unit for k in mint.client.keys()} == {"sat", "msat"}
    sat, msat = Purse(mint), Purse(mint, "msat")
    with pytest.raises(MintError) as refused:
        mint.client.swap(sat.fund(8), [o.message for o in msat.outputs(8)])
    assert refused.value.code == Code.UNITS_DIFFER


def test_a_melt_in_msat_charges_the_fee_to_the_msat(make_mint: MakeMint) -> None:
    mint = make_mint(units="sat,msat")
    purse = Purse(mint, "msat")
    invoice = mint.node.outside_invoice(100_123, behaviour=Behaviour.success(fee_msat=7))
    mint.secrets.add(invoice.preimage)
    melt = purse.prepare(invoice)
    assert (melt.quote.amount, melt.quote.fee_reserve) == (100_123, 2000)
    assert purse.post(melt).state == PAID
    purse.assert_paid(melt, fee_msat=7)


def test_a_unit_that_is_taken_away_can_still_be_swapped_but_not_quoted(make_mint: MakeMint) -> None:
    mint = make_mint(units="sat,msat")
    purse = Purse(mint, "msat")
    proofs = purse.fund(1024)
    mint.set_options(units="sat")
    mint.restart_plugin(kill=False)
    assert sum(p.amount for p in purse.swap(proofs)) == 1024
    with pytest.raises(MintError) as refused:
        purse.request_mint(10)
    assert refused.value.code == Code.UNIT_UNSUPPORTED


# --- options at work ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mint]:
    """A mint with every number changed."""
    mint = Mint(
        tmp_path_factory.mktemp("tuned"),
        name="Tuned",
        description="a mint with options",
        fee_reserve_percent="2.5",
        fee_reserve_min=3,
        min_mint=10,
        max_mint=500,
        methods="bolt11,bolt12",
        min_melt=20,
        max_melt=400,
        sync_wait=1,
        async_grace_ms=1500,
        max_pending_melts=2,
        maxdelay=500,
        retry_for=7,
    )
    with running(mint):
        yield mint


def test_info_shows_name_description_and_limits(tuned: Mint) -> None:
    info = tuned.client.info()
    assert (info["name"], info["description"]) == ("Tuned", "a mint with options")
    (into, *_), (out, *_) = info["nuts"]["4"]["methods"], info["nuts"]["5"]["methods"]
    assert (into["method"], out["method"]) == ("bolt11", "bolt11")
    assert (into["unit"], into["min_amount"], into["max_amount"]) == ("sat", 10, 500)
    assert (out["unit"], out["min_amount"], out["max_amount"]) == ("sat", 20, 400)


@pytest.mark.parametrize(("amount", "allowed"), [(9, False), (10, True), (500, True), (501, False)])
def test_amounts_of_mint_quotes_have_limits(tuned: Mint, amount: int, allowed: bool) -> None:
    response = tuned.http.post("/v1/mint/quote/bolt11", json={"amount": amount, "unit": "sat"})
    assert response.status_code == (200 if allowed else 400)
    assert allowed or response.json()["code"] == Code.AMOUNT_OUTSIDE_LIMITS


@pytest.mark.parametrize(("amount", "allowed"), [(19, False), (20, True), (400, True), (401, False)])
def test_amounts_of_melt_quotes_have_limits(tuned: Mint, amount: int, allowed: bool) -> None:
    request = {"request": str(tuned.invoice(amount)), "unit": "sat"}
    response = tuned.http.post("/v1/melt/quote/bolt11", json=request)
    assert response.status_code == (200 if allowed else 400)
    assert allowed or response.json()["code"] == Code.AMOUNT_OUTSIDE_LIMITS


@pytest.mark.parametrize(("amount", "reserve"), [(20, 3), (120, 3), (121, 4), (400, 10)])
def test_the_fee_reserve_without_a_price_is_a_share_rounded_up_or_the_minimum(
    tuned: Mint, amount: int, reserve: int
) -> None:
    tuned.node.fail_rpc("getroutes", 205, "Unknown destination node")
    assert Purse(tuned).quote(tuned.invoice(amount)).fee_reserve == reserve


def test_the_node_is_told_the_options_for_payments(tuned: Mint) -> None:
    purse = Purse(tuned)
    position = tuned.node.calls_position
    melt = purse.prepare(tuned.invoice())
    purse.post(melt)
    (call,) = tuned.node.calls("xpay", since=position)
    reserve_msat = melt.quote.fee_reserve * 1000
    assert (call.params["maxdelay"], call.params["retry_for"], call.params["maxfee"]) == (500, 7, reserve_msat)
    (call,) = tuned.node.calls("getroutes", since=position)
    assert (call.params["maxdelay"], call.params["maxfee_msat"]) == (500, 3000)
    tuned.check()


def test_a_synchronous_melt_answers_pending_when_its_time_to_wait_is_over(tuned: Mint) -> None:
    purse = Purse(tuned)
    melt = purse.prepare(tuned.invoice(behaviour=Behaviour.hold()))
    begun = time.monotonic()
    answer = purse.post(melt)
    assert time.monotonic() - begun >= 0.9
    assert answer.state == "PENDING"
    purse.assert_pending(melt)
    tuned.node.release(str(melt.invoice))
    purse.assert_paid(melt)
    tuned.check()


def test_an_asynchronous_melt_with_a_fast_outcome_is_answered_with_it(tuned: Mint) -> None:
    purse = Purse(tuned)
    melt = purse.prepare(tuned.invoice())
    assert purse.post(melt, prefer_async=True).state == PAID
    purse.assert_paid(melt)
    tuned.check()


def test_an_asynchronous_melt_that_fails_fast_is_refused(tuned: Mint) -> None:
    purse = Purse(tuned)
    melt = purse.prepare(tuned.invoice(behaviour=Behaviour.failure()))
    assert purse.refusal(melt, prefer_async=True).code == Code.PAYMENT_FAILED
    purse.assert_failed(melt)
    tuned.check()


def test_an_asynchronous_melt_with_a_slow_outcome_is_pending_after_the_grace(tuned: Mint) -> None:
    purse = Purse(tuned)
    melt = purse.prepare(tuned.invoice(behaviour=Behaviour.hold()))
    begun = time.monotonic()
    assert purse.post(melt, prefer_async=True).state == "PENDING"
    assert time.monotonic() - begun >= 1.4
    tuned.node.release(str(melt.invoice))
    purse.assert_paid(melt)
    tuned.check()


def test_a_melt_beyond_the_most_in_flight_is_refused_and_changes_nothing(tuned: Mint) -> None:
    purse = Purse(tuned)
    held = [purse.prepare(tuned.invoice(behaviour=Behaviour.hold())) for _ in range(2)]
    for melt in held:
        purse.post(melt)
    third = purse.prepare(tuned.invoice())
    before = tuned.rows()
    assert purse.refusal(third).code == Code.QUOTE_REJECTED
    assert tuned.rows() == before
    tuned.node.release(str(held[0].invoice))
    purse.assert_paid(held[0])
    purse.post(third)
    purse.assert_paid(third)
    tuned.node.release(str(held[1].invoice))
    purse.assert_paid(held[1])
    tuned.check()


# --- a ledger that cannot be written --------------------------------------------------------------------------------


def test_while_the_ledger_cannot_be_written_nothing_is_answered_and_nothing_is_lost(make_mint: MakeMint) -> None:
    mint = make_mint(started=False)
    mint.change_inside(
        constants={"ledger.store.database:BUSY_TIMEOUT_MS": 200, "plugin.methods.verdict:RETRY_S": 0.3},
    )
    mint.start()
    mint.expect_broken("the ledger could not commit")
    mint.expect_broken("outcome could not be written")
    purse = Purse(mint)
    paid, failed, proofs = purse.hold(), purse.hold(), purse.fund(8)
    quote = purse.request_mint()
    with sqlite3.connect(mint.ledger_path, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        mint.node.release(str(paid.invoice))
        mint.node.release(str(failed.invoice), ok=False)
        mint.node.pay_invoice(quote.request)
        mint.node.wait_for_log("outcome could not be written")
        with pytest.raises(MintUnreachableError):
            purse.swap(proofs)
        purse.assert_pending(paid)
        purse.assert_pending(failed)
        other.execute("ROLLBACK")
    other.close()
    purse.assert_paid(paid)
    purse.assert_failed(failed)
    purse.wait_credited(quote)
    purse.swap(proofs)


# --- nothing but the real entry file ------------------------------------------------------------------------------


def test_without_its_writer_the_plugin_ends(make_mint: MakeMint) -> None:
    """It would take requests, and answer none of them."""
    mint = make_mint(started=False)
    mint.change_inside(constants={"ledger.ledger:Ledger._adopt": None})  # fails after the commit
    mint.start()
    mint.expect_broken("the plugin ends: the ledger's writer has ended: TypeError")
    mint.expect_broken("^(?!.*the plugin ends).*the ledger's writer has ended: TypeError")
    with suppress(RpcError):  # it may just be answered: it is durable
        mint.node.rpc("cashu-pause", what="minting")
    assert mint.node.wait_for_plugin_exit() == 1
    mint.change_inside()
    mint.start_plugin()
    assert mint.info()["minting_paused_at"] is not None


def test_nothing_but_the_entry_file_and_a_node_is_needed(tmp_path: Path) -> None:
    with SandboxNode(tmp_path, plugin=ENTRY_FILE, options={"cashu-listen": f"127.0.0.1:{free_port()}"}) as node:
        assert node.plugin_active
        wait_for(lambda: node.rpc("cashu-info")["state"] == "ready", "the mint to be ready")
