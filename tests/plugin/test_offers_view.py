"""How the node is asked about offers: not too fast, not by too many at once, and never two quotes with one offer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, cast

import pytest

from plugin.node import offers
from plugin.node.offers import Offer, OfferError, Offers
from plugin.node.rpc import NodeRpc, RpcError
from plugin.node.view import PathHead

PAYINFO = {
    "fee_base_msat": 1,
    "fee_proportional_millionths": 2,
    "cltv_expiry_delta": 3,
    "htlc_minimum_msat": 4,
    "htlc_maximum_msat": 5,
    "features": "",
}
INVOICE = {
    "invoice_payment_hash": "ab" * 32,
    "invoice_node_id": "02" * 33,
    "invoice_amount_msat": 7,
    "invoice_created_at": 1_000,
    "invoice_paths": [
        {"first_node_id": "03" * 33, "payinfo": PAYINFO},
        {"first_scid": "1x2x3", "first_scid_dir": 0, "payinfo": PAYINFO},
    ],
}


class FakeRpc:
    """Answers as it is told, and remembers when it was asked for what."""

    def __init__(self, **answers: Callable[[], Any]) -> None:
        self._answers = answers
        self.calls: list[tuple[float, str, dict[str, Any]]] = []

    async def call(self, method: str, **params: Any) -> Any:
        self.calls.append((time.monotonic(), method, params))
        await asyncio.sleep(0)
        return self._answers[method]()

    def times(self, method: str) -> list[float]:
        return [at for at, name, _ in self.calls if name == method]


def offers_with(**answers: Callable[[], Any]) -> tuple[Offers, FakeRpc]:
    rpc = FakeRpc(**answers)
    return Offers(cast(NodeRpc, rpc)), rpc


async def fetch(asked: Offers) -> object:
    return await asked.fetch_invoice(Offer("lno1", 7, None, quantified=False), 7)


async def test_an_offer_that_was_there_before_is_not_taken() -> None:
    asked, _ = offers_with(offer=lambda: {"created": False, "offer_id": "x", "bolt12": "lno1"})
    with pytest.raises(RpcError, match="already"):
        await asked.create(None, "", "issuer", "label")


async def test_fetches_keep_their_distance_also_when_they_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offers, "FETCH_INTERVAL_S", 0.1)

    def refuse() -> Any:
        raise RpcError("fetchinvoice", 1004, "no")

    asked, rpc = offers_with(fetchinvoice=refuse)
    answers = await asyncio.gather(*(fetch(asked) for _ in range(6)), return_exceptions=True)
    assert all(isinstance(answer, OfferError) for answer in answers)
    times = rpc.times("fetchinvoice")
    assert len(times) == 6
    assert times[-1] - times[0] >= 0.4  # five times the interval, but for what passes between a turn and its use


async def test_no_more_than_a_number_wait_for_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offers, "FETCH_INTERVAL_S", 0.01)
    asked, rpc = offers_with(fetchinvoice=lambda: {"invoice": "lni1"}, decode=lambda: INVOICE)
    many = 5 * offers.MAX_WAITING_FETCHES
    answers = await asyncio.gather(*(fetch(asked) for _ in range(many)), return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, OfferError)]
    assert all("try again" in str(answer) for answer in refused)
    assert len(rpc.times("fetchinvoice")) == many - len(refused) == offers.MAX_WAITING_FETCHES
    await fetch(asked)


async def test_who_gives_up_waiting_leaves_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offers, "FETCH_INTERVAL_S", 3600)
    asked, _ = offers_with(fetchinvoice=lambda: {"invoice": "lni1"}, decode=lambda: INVOICE)
    await fetch(asked)
    for _ in range(3):
        waiting = [asyncio.create_task(fetch(asked)) for _ in range(offers.MAX_WAITING_FETCHES)]
        await asyncio.sleep(0.01)
        with pytest.raises(OfferError, match="too many"):
            await fetch(asked)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_an_invoice_is_read_with_its_paths() -> None:
    asked, rpc = offers_with(fetchinvoice=lambda: {"invoice": "lni1"}, decode=lambda: INVOICE)
    invoice = await asked.fetch_invoice(Offer("lno1", 7, None, quantified=True), 7, "a@b")
    assert invoice.expires_at == 1_000 + 7_200  # what it does not say
    assert invoice.paths == (PathHead("03" * 33, 1, 2, 3, 4, 5), PathHead(None, 1, 2, 3, 4, 5))
    (asked_for,) = [params for _, method, params in rpc.calls if method == "fetchinvoice"]
    assert (asked_for["quantity"], asked_for["bip353"], asked_for["amount_msat"]) == (1, "a@b", 7)
    assert 0 < asked_for["timeout"] < 60


async def test_an_offer_with_an_empty_list_of_paths_is_never_asked_for() -> None:
    """lightningd v26.06 ends itself when it is: its plugin for offers dies, which it can't do without."""
    decoded = {"type": "bolt12 offer", "valid": True, "offer_chains": [offers.CHAINS["regtest"]], "offer_paths": []}
    asked, rpc = offers_with(decode=lambda: decoded)
    with pytest.raises(OfferError, match="empty list of paths"):
        await asked.decode("lno1", "regtest")
    del decoded["offer_paths"]
    assert (await asked.decode("lno1", "regtest")).bolt12 == "lno1"
    assert not rpc.times("fetchinvoice")


@pytest.mark.parametrize(
    "broken",
    [{"invoice_paths": [{"first_node_id": "03" * 33}]}, {"invoice_paths": None}, {"invoice_payment_hash": "x"}],
)
async def test_an_invoice_of_an_unknown_form_is_refused(broken: dict[str, Any]) -> None:
    asked, _ = offers_with(fetchinvoice=lambda: {"invoice": "lni1"}, decode=lambda: INVOICE | broken)
    with pytest.raises(OfferError, match="can't be read"):
        await fetch(asked)


async def test_an_invoice_that_the_node_cannot_decode_is_refused() -> None:
    def refuse() -> Any:
        raise RpcError("decode", -32602, "invalid")

    asked, _ = offers_with(fetchinvoice=lambda: {"invoice": "lni1"}, decode=refuse)
    with pytest.raises(OfferError, match="can't be read"):
        await fetch(asked)
