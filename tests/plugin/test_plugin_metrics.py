"""`/metrics`: private, true, and with labels that no client can multiply."""

from __future__ import annotations

import re
import socket
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.plugin.conftest import MakeMint
from tests.plugin.harness import AT_ONCE_S, PATIENCE_S, Mint, Purse, free_port, wait_for

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Scraper:
    """Prometheus, as far as a test needs it."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/metrics"

    def text(self) -> str:
        answer = httpx.get(self.url, timeout=PATIENCE_S)
        assert answer.status_code == 200
        return answer.text

    def samples(self) -> Samples:
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(self.text())
            for sample in family.samples
        }

    def get(self, name: str, **labels: str) -> float | None:
        return self.samples().get((f"nutbolt_{name}", frozenset(labels.items())))


def watched(make_mint: MakeMint, **options: Any) -> tuple[Mint, Scraper]:
    port = free_port()
    return make_mint(metrics_listen=f"127.0.0.1:{port}", **options), Scraper(port)


def test_there_are_none_unless_asked_for_and_never_on_the_wallets_port(make_mint: MakeMint) -> None:
    mint = make_mint()
    assert mint.http.get("/metrics").status_code == 404
    mint.node.stop_plugin()
    port = free_port()
    mint.set_options(metrics_listen=f"127.0.0.1:{port}")
    mint.start_plugin()
    assert mint.http.get("/metrics").status_code == 404
    assert Scraper(port).get("ready") == 1
    for path in ("/v1/info", "/v1/keys", "/"):
        assert httpx.get(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE_S).status_code == 404
    assert "access-control-allow-origin" not in httpx.get(Scraper(port).url, timeout=PATIENCE_S).headers


def test_a_port_that_is_taken_is_said_by_its_option(make_mint: MakeMint) -> None:
    mint = make_mint(started=False)
    mint.set_options(metrics_listen=f"127.0.0.1:{mint.port}")
    mint.node.start()
    assert f"cashu-metrics-listen=127.0.0.1:{mint.port}: cannot listen there" in str(mint.node.plugin_disabled)


def test_money_and_melts_are_what_the_books_say(make_mint: MakeMint) -> None:
    mint, scraper = watched(make_mint, input_fee_ppk=100)
    purse = Purse(mint)
    purse.swap(purse.fund(64))
    purse.post(purse.prepare(mint.invoice(20)))
    failing = purse.prepare(mint.invoice(10, behaviour=None))
    held = purse.hold(30)
    balance = mint.node.rpc("cashu-balance")
    assert scraper.get("outstanding", unit="sat") == balance["outstanding"]["sat"]
    assert scraper.get("owed_msat") == balance["owed_msat"]
    assert scraper.get("earned_msat") == balance["earned_msat"]
    assert (scraper.get("pending_melts"), scraper.get("pending_melts_msat")) == (1, 30_000)
    assert scraper.get("books_balanced") == 1
    assert scraper.get("paid_out_msat_total", method="bolt11", unit="sat") == 20_000
    assert scraper.get("melts_decided_total", method="bolt11", outcome="paid", reason="") == 1
    mint.node.release(str(held.invoice), ok=False)
    purse.assert_failed(held)
    refused = "refused by the destination"
    assert scraper.get("melts_decided_total", method="bolt11", outcome="failed", reason=refused) == 1
    assert scraper.get("melt_settlement_seconds_count", method="bolt11") == 2
    assert (scraper.get("pending_melts"), scraper.get("oldest_pending_melt_seconds")) == (0, 0)
    assert scraper.get("ledger_operations_total", operation="swap", result="done") == 1
    assert purse.post(failing).state == "PAID"
    assert (scraper.get("ledger_bytes") or 0) > 0
    assert (scraper.get("disk_free_bytes") or 0) > 0
    assert scraper.get("audit_timestamp_seconds") == 0
    assert scraper.get("audit_balanced", kind="books") is None
    mint.node.rpc("cashu-audit")
    assert scraper.get("audit_balanced", kind="books") == scraper.get("audit_balanced", kind="covered") == 1


@pytest.mark.slow
def test_a_pause_and_the_age_of_a_melt_are_seen_after_a_restart(make_mint: MakeMint) -> None:
    mint, scraper = watched(make_mint)
    purse = Purse(mint)
    held = purse.hold()
    mint.node.rpc("cashu-pause", what="melting")
    mint.restart_plugin(kill=True)
    assert (scraper.get("paused", what="minting"), scraper.get("paused", what="melting")) == (0, 1)
    wait_for(lambda: (scraper.get("oldest_pending_melt_seconds") or 0) >= 1, "the melt to be a second old", AT_ONCE_S)
    mint.node.release(str(held.invoice))
    purse.assert_paid(held)
    assert scraper.get("melt_settlement_seconds_count", method="bolt11") == 1
    assert (scraper.get("melt_settlement_seconds_sum", method="bolt11") or 0) >= 1


def test_nothing_that_a_client_sends_becomes_a_label(make_mint: MakeMint) -> None:
    mint, scraper = watched(make_mint)
    purse = Purse(mint)
    quote = purse.request_mint()
    purse.client.mint_quote(quote.quote)
    for number in range(20):
        assert mint.http.get(f"/v1/mint/quote/bolt11/unknown-{number}").status_code == 400
        mint.http.get(f"/path-{number}?{'x' * number}")
        mint.http.request(f"METHOD{number}", "/v1/keys")
        mint.http.post("/v1/mint/bolt11", json={"quote": f"evil{number}", "outputs": []})
    text = scraper.text()
    assert not re.search("unknown-|path-|METHOD|evil", text)
    assert quote.quote not in text
    route = "/v1/mint/quote/bolt11/<quote_id>"
    assert scraper.get("http_requests_total", route=route, method="GET", status="400") == 20
    assert scraper.get("http_requests_total", route="none", method="GET", status="404") == 20
    assert scraper.get("refusals_total", code="20000") == 40
    count = len(scraper.samples())
    for number in range(20):
        mint.http.get(f"/more-{number}")
        mint.http.get(f"/v1/keys/{number}")
    assert len(scraper.samples()) <= count + 40  # one more route, with its buckets


def test_refusals_for_asking_too_much_are_counted(make_mint: MakeMint) -> None:
    mint, scraper = watched(make_mint, rate_limit_local=5)  # less would leave us two connections: too few for a test
    statuses = [mint.http.get("/v1/keysets").status_code for _ in range(100)]
    assert scraper.get("rate_limit_refusals_total", budget="requests") == statuses.count(429) > 0


def test_a_mint_that_refuses_to_start_is_seen(make_mint: MakeMint) -> None:
    mint, scraper = watched(make_mint)
    mint.expect_broken("the mint does not start")
    mint.node.stop_plugin()
    mint.node.wait_for_plugin_exit()
    moved = mint.ledger_path.with_suffix(".moved")
    mint.ledger_path.rename(moved)
    mint.node.start_plugin()
    wait_for(lambda: scraper.get("failed") == 1, "the tripwire to be seen")
    assert scraper.get("ready") == 0
    assert scraper.get("books_balanced") is None
    mint.node.stop_plugin()
    mint.node.wait_for_plugin_exit()
    moved.rename(mint.ledger_path)
    mint.start_plugin()
    assert (scraper.get("ready"), scraper.get("failed")) == (1, 0)


@pytest.mark.slow
def test_scrapers_have_a_limit(make_mint: MakeMint) -> None:
    """One that keeps its connections is refused more of them, and the mint goes on."""
    mint, scraper = watched(make_mint)
    port = int(re.findall(r":(\d+)/", scraper.url)[0])
    sockets = [socket.create_connection(("127.0.0.1", port), AT_ONCE_S) for _ in range(30)]
    served = 0
    for sock in sockets:
        sock.settimeout(AT_ONCE_S)
        try:
            sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: m\r\n\r\n")
            served += sock.recv(12) == b"HTTP/1.1 200"
        except ConnectionError:
            pass
    for sock in sockets:
        sock.close()
    assert 0 < served <= 20
    assert mint.status() == 200
