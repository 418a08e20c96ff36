"""The wallet dies, or the line does, at every point where that can make a difference: nothing is lost or made up.

A death is simulated at each commit (just before, just after) and each request (before it leaves, after the mint has
acted); from then on the dead wallet can neither write nor send. A new wallet on the same file has to cope.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contrib.wallet import MintClient, MintUnreachableError, Wallet, WalletError, restore
from contrib.wallet.store import Store
from tests.wallet.conftest import fund, invoice
from tests.wallet.fake_mint import URL, FakeMint

START = 1000
NEVER = 10**9


@pytest.fixture(autouse=True)
def _short_scans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restore, "RESTORE_BATCH", 25)
    monkeypatch.setattr(restore, "RESTORE_MARGIN", 25)


class KilledError(BaseException):
    """kill -9."""


class Fate:
    """Counts the points of death, and strikes at one."""

    def __init__(self, strike_at: int = NEVER) -> None:
        self.left = strike_at
        self.points = 0
        self.is_dead = False

    def point(self) -> None:
        self.points += 1
        self.left -= 1
        if self.left == 0:
            self.is_dead = True
        if self.is_dead:
            raise KilledError


class MortalStore(Store):
    """A store that dies with its wallet."""

    def __init__(self, path: Path, fate: Fate) -> None:
        self.fate = Fate()
        super().__init__(path)
        self.fate = fate

    @contextmanager
    def transaction(self) -> Iterator[None]:
        is_outermost = not self._depth
        with super().transaction():
            yield
            if is_outermost:
                self.fate.point()
        if is_outermost:
            self.fate.point()


class MortalTransport(httpx.BaseTransport):
    """A line that dies with its wallet."""

    def __init__(self, mint: FakeMint, fate: Fate) -> None:
        self.mint, self.fate = mint, fate

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.fate.point()
        response = self.mint.handle_request(request)
        self.fate.point()
        return response


def open_mortal(mint: FakeMint, path: Path, strike_at: int = NEVER) -> Wallet:
    fate = Fate()
    client = MintClient(URL, transport=MortalTransport(mint, fate))
    wallet = Wallet(URL, client=client, store=MortalStore(path, fate))
    fate.left = strike_at
    fate.points = 0
    return wallet


def run_and_die(world: World, act: Callable[[World, Wallet], None], strike_at: int = NEVER) -> bool:
    """Whether it died while acting."""
    wallet = open_mortal(world.mint, world.path, strike_at)
    try:
        act(world, wallet)
    except KilledError:
        return True
    except WalletError:  # what the wallet tried to do was in vain because of an earlier death
        return False
    else:
        return False
    finally:
        wallet.journal.close()
        wallet.store._db.close()


class World:
    """One mint, one wallet file with 1000 sat, and what is needed to act."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.mint = FakeMint()
        wallet = fund(open_mortal(self.mint, path), self.mint, START)
        self.words = wallet.words
        self.quote = wallet.request_mint(100).quote
        self.mint.pay_mint_quote(self.quote)
        wallet.store.close()
        self.friend = fund(Wallet(URL, client=MintClient(URL, transport=self.mint)), self.mint, 200)
        self.token = self.friend.send(64)
        self.mint.network_fee = 3

    def look(self, wallet: Wallet) -> None:
        wallet.check_pending()

    def mint_quote(self, wallet: Wallet) -> None:
        wallet.mint(self.quote)

    def split(self, wallet: Wallet) -> None:
        wallet.split([1, 2, 32])

    def send(self, wallet: Wallet) -> None:
        wallet.send(77)

    def receive(self, wallet: Wallet) -> None:
        wallet.receive(self.token)

    def reclaim(self, wallet: Wallet) -> None:
        wallet.send(5)
        wallet.reclaim(next(op.id for op in wallet.pending() if op.state == "sent"))

    def melt(self, wallet: Wallet) -> None:
        wallet.melt(invoice(100))

    def melt_async(self, wallet: Wallet) -> None:
        self.mint.payments = lambda quote: "PENDING"
        wallet.melt(invoice(100), prefer_async=True)
        for quote in self.mint.melts.values():
            if quote["state"] == "PENDING":
                self.mint.settle(quote["quote"])
        wallet.check_pending()

    def melt_that_fails(self, wallet: Wallet) -> None:
        self.mint.payments = lambda quote: "PENDING"
        wallet.melt(invoice(100), prefer_async=True)
        for quote in self.mint.melts.values():
            if quote["state"] == "PENDING":
                self.mint.release(quote["quote"], "no route")
        wallet.check_pending()

    def settle_all(self) -> None:
        """The mint's own loose ends: payments that nobody waited for."""
        for quote in self.mint.melts.values():
            if quote["state"] == "PENDING":
                self.mint.settle(quote["quote"])

    def check(self) -> None:
        """After everything: the books of wallet, mint and seed agree, and all goes on."""
        self.settle_all()
        wallet = open_mortal(self.mint, self.path)
        wallet.check_pending()
        assert [op.state for op in wallet.pending() if op.state != "sent"] == []
        sums = wallet.balances()
        assert sums.pending == 0
        restored = Wallet(URL, words=self.words, client=MintClient(URL, transport=self.mint)).restore()
        assert restored.pending == 0
        assert sums.available + sums.sent == restored.unspent, "the file and the mint disagree"
        self.check_value(sums.available + sums.sent)
        self.check_outputs()
        before = wallet.balance()
        wallet.receive(wallet.send(3))
        assert wallet.balance() == before
        wallet.close()
        wallet.store.close()

    def check_value(self, value: int) -> None:
        issued = 100 if self.mint.mint_quotes[self.quote]["issued"] else 0
        paid = sum(103 for quote in self.mint.melts.values() if quote["state"] == "PAID")
        self.friend.check_pending()
        received = 64 - self.friend.balances().sent
        assert value == START + issued - paid + received

    def check_outputs(self) -> None:
        """No secret was ever used for two things: an output comes again only in the very same request."""
        requests: dict[str, set[str]] = {}
        for _, path, body in self.mint.requests:
            if path in ("/v1/swap", "/v1/mint/bolt11", "/v1/melt/bolt11"):
                for output in body.get("outputs") or []:
                    requests.setdefault(output["B_"], set()).add(json.dumps([path, body["outputs"]]))
        assert Counter(len(found) for found in requests.values()).keys() == {1}


ACTS: list[Callable[[World, Wallet], None]] = [
    World.mint_quote,
    World.split,
    World.send,
    World.receive,
    World.reclaim,
    World.melt,
    World.melt_async,
    World.melt_that_fails,
]


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
def test_death_at_every_point(act: Callable[[World, Wallet], None], tmp_path: Path) -> None:
    for strike_at in itertools.count(1):
        world = World(tmp_path / f"{strike_at}.sqlite")
        died = run_and_die(world, act, strike_at)
        world.check()
        if not died:
            assert strike_at > 8, "there are more points than that"
            return


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_deaths_in_a_row(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Several acts, each of which, and the recovery from which, may die."""
    world = World(tmp_path_factory.mktemp("deaths") / "wallet.sqlite")
    acts = data.draw(st.lists(st.sampled_from(ACTS), min_size=1, max_size=5))
    for act in acts:
        for strike_at in data.draw(st.lists(st.integers(1, 25), max_size=3)):
            run_and_die(world, act, strike_at)
        if data.draw(st.booleans()):
            world.settle_all()
        run_and_die(world, World.look)
    world.check()


PATHS = ["swap", "mint/bolt11", "melt/bolt11", "restore", "checkstate", "melt/quote", "mint/quote", "keysets"]


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
@pytest.mark.parametrize("fault", ["lose_request", "lose_answer"])
@pytest.mark.parametrize("path", PATHS)
def test_a_line_that_fails(act: Callable[[World, Wallet], None], fault: str, path: str, tmp_path: Path) -> None:
    """One answer or request is lost, or all of a kind are until later."""
    for losses in (1, 99):
        world = World(tmp_path / f"{losses}.sqlite")
        left = [losses]

        def lose(where: str, left: list[int] = left) -> bool:
            if where.startswith(f"/v1/{path}") and left[0]:
                left[0] -= 1
                return True
            return False

        setattr(world.mint, fault, lose)
        run_and_die(world, act)
        if left[0] == losses:
            return  # this act has no such request
        setattr(world.mint, fault, lambda where: False)
        world.check()


def test_an_answer_that_is_lost_once_is_not_noticed(tmp_path: Path) -> None:
    world = World(tmp_path / "wallet.sqlite")
    lost: list[str] = []

    def lose(path: str) -> bool:
        is_first = path in ("/v1/swap", "/v1/mint/bolt11", "/v1/melt/bolt11") and path not in lost
        lost.extend([path] if is_first else [])
        return is_first

    world.mint.lose_answer = lose
    wallet = open_mortal(world.mint, world.path)
    wallet.mint(world.quote)
    wallet.send(77)
    assert wallet.melt(invoice(100)).state == "PAID"
    assert len(lost) == 3
    wallet.store.close()
    world.check()


def test_a_dead_mint_is_one_clear_error(tmp_path: Path) -> None:
    world = World(tmp_path / "wallet.sqlite")
    world.mint.lose_request = lambda path: True
    wallet = open_mortal(world.mint, world.path)
    for act in (wallet.restore, lambda: wallet.melt(invoice(1)), lambda: wallet.split([2]), wallet.info):
        with pytest.raises(MintUnreachableError, match="is it running"):
            act()
    assert wallet.balance() == START


def test_an_operation_of_a_living_process_is_left_alone(tmp_path: Path) -> None:
    """Another process that starts while a melt is being sent must not take it for an interrupted one."""
    world = World(tmp_path / "wallet.sqlite")
    seen: list[Any] = []

    def look_meanwhile(quote: Any) -> str:
        other = open_mortal(world.mint, world.path)
        other.recover()
        seen.append([op.state for op in other.pending()])
        other.close()
        return "PAID"

    world.mint.payments = look_meanwhile
    wallet = open_mortal(world.mint, world.path)
    assert wallet.melt(invoice(100)).state == "PAID"
    assert seen == [["open"]]
    wallet.store.close()
    world.check()


def test_a_melt_that_arrives_after_it_was_given_up(tmp_path: Path) -> None:
    """The process was killed while the request was still on its way; the mint gets it after the wallet has looked."""
    world = World(tmp_path / "wallet.sqlite")
    late: list[httpx.Request] = []

    class SlowLine(httpx.BaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            if request.url.path == "/v1/melt/bolt11":
                late.append(request)
                raise KilledError
            return world.mint.handle_request(request)

    wallet = Wallet(URL, world.path, client=MintClient(URL, transport=SlowLine()))
    quote = wallet.melt_quote(invoice(100))
    with pytest.raises(KilledError):
        wallet.melt(quote)
    wallet.close()
    second = open_mortal(world.mint, world.path)
    assert second.recover()[0].state == "failed"
    assert second.balance() == START
    assert world.mint.handle_request(late[0]).status_code == 200
    assert second.check_melt(quote.quote).state == "PAID"
    assert second.balance() == START - 103
    second.store.close()
    world.check()
