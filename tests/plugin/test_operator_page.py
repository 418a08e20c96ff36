"""The operator's page over HTTP: who sees the figures, and what they are. What a browser does with them is shown in
tests/browser."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from contrib.sandbox import Behaviour
from plugin.operator.overview import SPANS
from plugin.operator.views import OverviewResponse
from tests.plugin.conftest import MakeMint
from tests.plugin.harness import PATIENCE_S, Mint, Purse, wait_for

OPTIONS = {"operator_page": "true", "input_fee_ppk": "100"}
DATA, EVENTS = "/operator/data", "/operator/events"
PERMITS = [["method=cashu-operator-page"]]


@pytest.fixture(scope="module")
def rune(mint: Mint) -> str:
    return str(mint.node.rpc("createrune", restrictions=PERMITS)["rune"])


def ask(mint: Mint, rune: str, span: str = "day") -> OverviewResponse:
    answer = mint.http.get(DATA, params={"span": span}, headers={"rune": rune})
    assert answer.status_code == 200, answer.text
    return OverviewResponse.model_validate_json(answer.content)


@contextmanager
def following(mint: Mint, rune: str) -> Iterator[Iterator[str]]:
    """The lines of an event stream."""
    with httpx.stream("GET", f"{mint.url}{EVENTS}", headers={"rune": rune}, timeout=PATIENCE_S) as stream:
        assert stream.status_code == 200
        assert stream.headers["content-type"] == "text/event-stream"
        assert stream.headers["cache-control"] == "no-store"
        yield stream.iter_lines()


def events(lines: Iterator[str]) -> Iterator[str]:
    return (line for line in lines if line.startswith("data:"))


# --- who sees it ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [DATA, EVENTS])
@pytest.mark.parametrize(
    ("rune", "why"),
    [
        (None, "a rune is needed"),
        ("", "a rune is needed"),
        ("x", "this is not a rune"),
        ("not base64!", "this is not a rune"),
        ("A" * 4097, "this is not a rune"),
        ("A" * 43 + "=", "this rune is not one of this node"),
    ],
)
def test_no_rune_no_data(mint: Mint, path: str, rune: str | None, why: str) -> None:
    answer = mint.http.get(path, headers={} if rune is None else {"rune": rune})
    assert answer.status_code == 401
    assert answer.json() == {"detail": why, "code": 10000}
    assert answer.headers["www-authenticate"] == "Rune"


@pytest.mark.parametrize(
    ("restrictions", "status"),
    [
        (None, 200),
        (PERMITS, 200),
        ([["method^cashu-"]], 200),
        ("readonly", 401),
        ([["method=cashu-info"]], 401),
        ([*PERMITS, ["time<1000000000"]], 401),
    ],
)
def test_what_a_rune_must_permit(mint: Mint, restrictions: object, status: int) -> None:
    rune = mint.node.rpc("createrune", restrictions=restrictions)["rune"]
    assert mint.http.get(DATA, headers={"rune": rune}).status_code == status


def test_a_rune_in_the_address_is_none(mint: Mint, rune: str) -> None:
    assert mint.http.get(DATA, params={"rune": rune, "Rune": rune}).status_code == 401


def test_a_rune_is_checked_each_time(mint: Mint) -> None:
    made = mint.node.rpc("createrune", restrictions=PERMITS)
    ask(mint, made["rune"])
    mint.node.rpc("blacklistrune", start=int(made["unique_id"]))
    answer = mint.http.get(DATA, headers={"rune": made["rune"]})
    assert (answer.status_code, answer.json()["detail"]) == (401, "this rune has been blacklisted")


def test_no_other_sites_page_may_ask(mint: Mint, rune: str) -> None:
    """No answer is readable across origins, and a browser may not send the header there."""
    origin = {"origin": "https://evil.example"}
    for path in ("/operator", DATA, EVENTS):
        asked = {"access-control-request-method": "GET", "access-control-request-headers": "rune"}
        preflight = mint.http.options(path, headers={**origin, **asked})
        assert "rune" not in preflight.headers.get("access-control-allow-headers", "")
    answer = mint.http.get(DATA, headers={**origin, "rune": rune})
    assert "access-control-allow-origin" not in answer.headers
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"


def test_the_page_itself_holds_no_figure(mint: Mint) -> None:
    answer = mint.http.get("/operator")
    assert answer.status_code == 200
    assert "cashu-operator-page" in answer.text
    assert mint.info()["keysets"][0]["id"][:16] not in answer.text
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self'" in policy
    assert "connect-src 'self'" in policy
    assert "unsafe" not in policy
    assert "<script>" not in answer.text


def test_with_a_slash_it_is_at_the_same_place(mint: Mint) -> None:
    """What it loads is named as seen from there."""
    answer = mint.http.get("/operator/")
    assert answer.status_code == 308
    assert answer.headers["location"] == "../operator"


@pytest.mark.slow
def test_questions_with_a_rune_have_a_budget(make_mint: MakeMint) -> None:
    mint = make_mint(operator_page="true", rate_limit_local="10")
    answers = [mint.http.get(DATA, headers={"rune": "A" * 43 + "="}) for _ in range(20)]
    assert {answer.status_code for answer in answers} == {401, 429}
    assert int(answers[-1].headers["retry-after"]) > 0
    assert len(mint.node.calls("checkrune")) == sum(answer.status_code == 401 for answer in answers)


# --- what it is -------------------------------------------------------------------------------------------------------


def test_the_figures_are_those_of_the_ledger_and_the_node(mint: Mint, rune: str, purse: Purse) -> None:
    before = ask(mint, rune)
    purse.assert_paid(purse.post_async(mint.invoice(1000)))
    held = purse.hold(77)
    found, balance = ask(mint, rune), mint.node.rpc("cashu-balance")
    assert found.balance.owed_msat == balance["owed_msat"]
    assert found.balance.owned_msat == balance["owned_msat"]
    assert found.balance.channels_msat == balance["node"]["channels_msat"]
    assert found.fees.earned_msat == balance["earned_msat"]
    assert found.fees.paid_msat == before.fees.paid_msat + 1000
    assert found.pending.count == 1
    (melt,) = found.pending.melts
    assert (melt.amount, melt.unit, melt.method) == (77, "sat", "bolt11")
    assert [melt.handle] == [each["handle"] for each in mint.node.rpc("cashu-pending")["melts"]]
    assert sum(flow.out_msat for flow in found.flows) == sum(flow.out_msat for flow in before.flows) + 1_000_000
    assert [keyset.id for keyset in found.keysets] == [keyset["id"] for keyset in mint.info()["keysets"]]
    assert {check.name: check.state for check in found.health} == {"Solvency": "good", "Books": "good", "Melts": "good"}
    assert not any(secret in found.model_dump_json() for secret in mint.secrets)
    assert held.invoice is not None
    mint.node.release(held.invoice)
    purse.assert_paid(held)


def test_a_failure_is_told_with_its_reason(mint: Mint, rune: str, purse: Purse) -> None:
    melt = purse.prepare(mint.invoice(33, Behaviour.failure()))
    purse.post(melt, prefer_async=True)
    quote = purse.assert_failed(melt)
    (failure,) = ask(mint, rune).failures
    assert failure.count == 1
    assert failure.reason[:8] == str(quote.error)[:8]


@pytest.mark.parametrize("span", SPANS)
def test_spans(mint: Mint, rune: str, span: str) -> None:
    found = ask(mint, rune, span)
    steps = SPANS[span]  # type: ignore[index]
    assert found.since % found.step_s == 0
    assert found.since + (steps.number - 1) * steps.step_s <= found.time < found.since + steps.number * steps.step_s
    assert len(found.history) <= steps.number
    assert found.history[-1].owned_msat > 0


def test_another_span_is_refused(mint: Mint, rune: str) -> None:
    answer = mint.http.get(DATA, params={"span": "century"}, headers={"rune": rune})
    assert answer.status_code == 400
    assert "day, week, month, year" in answer.json()["detail"]


def test_without_the_node_it_shows_what_the_ledger_knows(mint: Mint, rune: str, purse: Purse) -> None:
    purse.fund(10)
    mint.node.fail_rpc("listfunds", -1, "out of order", times=100)
    found = ask(mint, rune)
    mint.node.heal_rpc("listfunds")
    assert found.balance.owed_msat >= 10_000
    assert found.balance.owned_msat is None
    assert found.health[0].state == "bad"
    assert "can't be asked" in found.health[0].text


# --- live -------------------------------------------------------------------------------------------------------------


def test_a_stream_tells_at_once_and_then_of_each_change(mint: Mint, rune: str, purse: Purse) -> None:
    with following(mint, rune) as lines:
        told = events(lines)
        first = next(told)
        purse.fund(8)
        assert next(told) != first
        mint.node.rpc("cashu-motd", message="a change of which the ledger publishes no event")
        next(told)


def test_what_has_not_changed_is_not_read_again(mint: Mint, rune: str, purse: Purse) -> None:
    purse.fund(8)
    ask(mint, rune)
    asked = len(mint.node.calls("listfunds"))
    again = [ask(mint, rune) for _ in range(3)]
    assert len({found.time for found in again}) == 1
    assert len(mint.node.calls("listfunds")) == asked
    purse.fund(8)
    ask(mint, rune)
    assert len(mint.node.calls("listfunds")) == asked + 1


def test_streams_end_with_the_plugin_and_are_limited(make_mint: MakeMint) -> None:
    mint = make_mint(started=False, operator_page="true")
    mint.change_inside(constants={"plugin.http.pages.operator:MAX_STREAMS": 1})
    mint.start()
    rune = str(mint.node.rpc("createrune")["rune"])
    with following(mint, rune) as lines:
        assert next(events(lines))
        assert mint.http.get(EVENTS, headers={"rune": rune}).status_code == 503
    wait_for(lambda: _opens(mint, rune), "the place of a stream whose client has left")
    with following(mint, rune) as lines:
        assert next(events(lines))
        began = time.monotonic()
        mint.node.stop_plugin()
        try:
            rest = list(lines)
        except httpx.TransportError:
            rest = []
        assert not list(events(iter(rest)))
        assert time.monotonic() - began < PATIENCE_S


def _opens(mint: Mint, rune: str) -> bool:
    with httpx.stream("GET", f"{mint.url}{EVENTS}", headers={"rune": rune}, timeout=PATIENCE_S) as stream:
        return stream.status_code == 200


# --- the past ---------------------------------------------------------------------------------------------------------


def test_the_balance_is_noted_in_the_node_and_found_again(make_mint: MakeMint) -> None:
    mint = make_mint(operator_page="true")
    rune = str(mint.node.rpc("createrune")["rune"])

    def noted() -> list[list[int]]:
        days = mint.node.rpc("listdatastore", key=["cashu", "balances"])["datastore"]
        return [note for day in days for note in json.loads(day["string"])]

    first = wait_for(noted, "the first note")
    assert [note[1] for note in first] == [0]
    mint.node.rpc("datastore", key=["cashu", "balances", "2026-11-01"], string="no notes at all")
    old = int(time.time()) - 7200
    mint.node.rpc("datastore", key=["cashu", "balances", "2026-11-02"], string=json.dumps([[old, 5000, 7000]]))
    mint.restart_plugin(kill=True)
    history = ask(mint, rune).history
    assert (history[0].at, history[0].owed_msat, history[0].owned_msat) == (old, 5000, 7000)
    assert history[-1].at >= first[0][0]
