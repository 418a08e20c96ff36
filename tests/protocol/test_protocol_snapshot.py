"""Between the snapshot and the first update nothing is lost, and nothing old comes after it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.errors import LedgerError
from ledger.events import Event
from ledger.operations.mint import Receipt, credit
from ledger.store.operation import Operation
from plugin.http import subscriptions
from plugin.http.subscriptions import Connection, Hub, Subscription, mint_quotes_of
from tests.ledger.helpers import METHOD, Mint, Wallet, done, mint_request

ACCEPTED = '"accepted"'


@pytest.fixture
def mint(tmp_path: Path) -> Iterator[Mint]:
    """A ledger alone, whose events a test delivers when it wants to."""
    mint = Mint(tmp_path / "ledger.sqlite3")
    yield mint
    assert mint.audit().faults == ()
    mint.close()


async def sent(connection: Connection) -> list[str]:
    """What has been sent: states, and `ACCEPTED`."""
    texts: list[str] = []
    for _ in range(10):
        await asyncio.sleep(0)  # what was handed over from other threads
    while True:
        try:
            async with asyncio.timeout(0.01):
                text = await connection.next_message()
        except TimeoutError:
            return texts
        assert text is not None
        texts.append(text if text == ACCEPTED else json.loads(text)["params"]["payload"]["state"])


def subscription(hub: Hub, quote: str) -> Subscription:
    connection = hub.connect()
    assert connection is not None
    return Subscription("s", mint_quotes_of(METHOD), (quote,), connection)


def paid_again_and_issued(mint: Mint, quote: str) -> list[Event]:
    """A further payment of a paid quote, and its issue, in one group commit; the events of it."""
    mint.events.clear()
    outputs = Wallet("w").draw_sum(mint.keyset(), 8)
    with mint.held_writer():
        paid = mint.ledger.submit(Operation.CREDIT, lambda tx: credit(tx, METHOD, quote, Receipt(b"again", 8000)))
        issued = mint.ledger.issue(METHOD, mint_request(quote, outputs))
    done(paid)
    done(issued)
    assert len({event.commit for event in mint.events}) == 1
    return list(mint.events)


async def test_events_that_the_snapshot_shows_already_are_not_sent_after_it(mint: Mint) -> None:
    """They may still be on their way from the writer's thread when the snapshot is read."""
    hub = Hub(mint.ledger, asyncio.get_running_loop(), [METHOD])
    quote = mint.paid_quote(8).quote
    late = paid_again_and_issued(mint, quote)
    watched = subscription(hub, quote)
    await hub.subscribe(watched, ACCEPTED)
    for event in late:
        hub.on_event(event)
    assert await sent(watched.connection) == [ACCEPTED, "ISSUED"]


async def test_events_that_come_while_the_snapshot_is_read_are_sent_after_it(mint: Mint) -> None:
    hub = Hub(mint.ledger, asyncio.get_running_loop(), [METHOD])
    mint.ledger.subscribe(hub.on_event)
    quote = mint.mint_quote(8).quote
    watched = subscription(hub, quote)
    subscribing = asyncio.create_task(hub.subscribe(watched, ACCEPTED))
    await asyncio.to_thread(mint.pay, quote, 8000)
    await subscribing
    found = await sent(watched.connection)
    assert found in ([ACCEPTED, "UNPAID", "PAID"], [ACCEPTED, "PAID"])


async def test_events_of_one_commit_are_all_sent_in_their_order(mint: Mint) -> None:
    hub = Hub(mint.ledger, asyncio.get_running_loop(), [METHOD])
    mint.ledger.subscribe(hub.on_event)
    quote = mint.paid_quote(8).quote
    watched = subscription(hub, quote)
    await hub.subscribe(watched, ACCEPTED)
    await asyncio.to_thread(paid_again_and_issued, mint, quote)
    assert await sent(watched.connection) == [ACCEPTED, "PAID", "PAID", "ISSUED"]


async def test_who_has_left_is_told_nothing_and_forgotten(mint: Mint) -> None:
    hub = Hub(mint.ledger, asyncio.get_running_loop(), [METHOD])
    mint.ledger.subscribe(hub.on_event)
    quote = mint.mint_quote(8).quote
    watched = subscription(hub, quote)
    await hub.subscribe(watched, ACCEPTED)
    assert len(await sent(watched.connection)) == 2
    hub.disconnect(watched.connection)
    await asyncio.to_thread(mint.pay, quote, 8000)
    assert await sent(watched.connection) == []
    assert not watched.connection.subscriptions


async def test_filters_are_counted_of_each_client_and_of_all(mint: Mint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriptions, "MAX_FILTERS_OF_ALL", 5)
    hub = Hub(mint.ledger, asyncio.get_running_loop(), [METHOD])
    one, same, another = (hub.connect(owner, 3) for owner in ("alice", "alice", "bob"))
    assert one is not None
    assert same is not None
    assert another is not None
    quotes = [mint.mint_quote(8).quote for _ in range(4)]

    async def subscribe(connection: Connection, name: str, *filters: str) -> Subscription:
        watched = Subscription(name, mint_quotes_of(METHOD), filters, connection)
        await hub.subscribe(watched, ACCEPTED)
        return watched

    await subscribe(one, "s", *quotes[:2])
    assert [hub.has_room(same, 1), hub.has_room(same, 2), hub.has_room(another, 3)] == [True, False, True]
    with pytest.raises(LedgerError):
        await subscribe(another, "s", *quotes[:2], "no quote")
    watched = await subscribe(another, "s", *quotes[:3])
    assert not hub.has_room(same, 1)
    hub.unsubscribe(watched)
    hub.unsubscribe(watched)
    assert hub.has_room(same, 1)
    hub.disconnect(one)
    assert [hub.has_room(same, 3), hub.has_room(same, 4)] == [True, False]
