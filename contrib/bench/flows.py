"""What is asked of the mints: each flow makes its requests beforehand."""

from __future__ import annotations

import itertools
import json
import secrets
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from contrib.bench import load
from contrib.bench.coins import Blank, Coin, unblind
from contrib.bench.load import Ask
from contrib.bench.server import Server
from ledger import curve

FUND_OUTPUTS = 64
"""Outputs of a request that gets coins in stock."""
PAID_WITHIN_S = 60.0
RETRY_S = 1.0
GRANTED = 200
LISTED = 100
"""Entries of a checkstate and of a restore; half of them are known to the mint."""
SPLIT = 32
"""Amount of the eight outputs."""
MELT_SAT = 200
"""What a melt pays, with two inputs of 128."""
ATTEMPTS = 3
"""At a request that prepares a measurement: nutshell's database is locked at times."""


class FlowError(Exception):
    """A mint did not answer what it should."""


class World:
    """One mint, with coins in stock. `make_invoice`: of somebody else, for an amount in msat."""

    def __init__(self, server: Server, make_invoice: Callable[[int], str]) -> None:
        self.server = server
        self.make_invoice = make_invoice
        with urllib.request.urlopen(f"{server.url}/v1/keys") as answer:  # noqa: S310 - our own address
            keysets = json.load(answer)["keysets"]
        keyset = next(keyset for keyset in keysets if keyset["unit"] == "sat")
        self.keyset: str = keyset["id"]
        self.keys = {int(amount): bytes.fromhex(key) for amount, key in keyset["keys"].items()}
        spent = self.coins(SPLIT, LISTED // 2)
        self.signed = [Blank.make(SPLIT) for _ in spent]
        self.ask([self.swap(spent, self.signed)])
        self.spent_ys = [coin.y for coin in spent]

    def ask(self, asks: list[Ask]) -> list[str]:
        """The answers to requests one after another. Raises FlowError for one that is not 200."""
        bodies = [""] * len(asks)
        missing = list(range(len(asks)))
        for attempts_left in reversed(range(ATTEMPTS)):
            done = load.run(self.server.host, self.server.port, [asks[number] for number in missing], 1, keep=True)
            for number, body in zip(missing, done.bodies, strict=True):
                bodies[number] = body
            missing = [number for number, status in zip(missing, done.statuses, strict=True) if status != GRANTED]
            if not missing:
                break
            if not attempts_left:
                raise FlowError(f"{self.server.name} refuses: {bodies[missing[0]][:300]}")
            time.sleep(RETRY_S)
        return bodies

    def quotes(self, amount: int, count: int) -> list[str]:
        """Ids of mint quotes that are paid."""
        asks = [_post("/v1/mint/quote/bolt11", {"amount": amount, "unit": "sat"})] * count
        ids = [json.loads(body)["quote"] for body in self.ask(asks)]
        waiting, deadline = ids, time.monotonic() + PAID_WITHIN_S
        while waiting:
            if time.monotonic() > deadline:
                raise FlowError(f"{self.server.name}: {len(waiting)} quotes were not paid in {PAID_WITHIN_S:.0f} s")
            time.sleep(0.1)
            states = self.ask([Ask(f"/v1/mint/quote/bolt11/{quote}") for quote in waiting])
            waiting = [q for q, body in zip(waiting, states, strict=True) if json.loads(body)["state"] != "PAID"]
        return ids

    def coins(self, amount: int, count: int) -> list[Coin]:
        """New proofs of one amount."""
        stacks = [[Blank.make(amount) for _ in range(FUND_OUTPUTS)] for _ in range(-(-count // FUND_OUTPUTS))]
        quotes = self.quotes(amount * FUND_OUTPUTS, len(stacks))
        bodies = self.ask([self.mint(quote, blanks) for quote, blanks in zip(quotes, stacks, strict=True)])
        made = (unblind(blanks, body, self.keys) for blanks, body in zip(stacks, bodies, strict=True))
        return list(itertools.chain.from_iterable(made))[:count]

    def mint(self, quote: str, blanks: list[Blank]) -> Ask:
        """Issue a quote."""
        return _post("/v1/mint/bolt11", {"quote": quote, "outputs": [blank.to_wire(self.keyset) for blank in blanks]})

    def swap(self, coins: list[Coin], blanks: list[Blank]) -> Ask:
        """Exchange coins."""
        body = {
            "inputs": [coin.to_wire(self.keyset) for coin in coins],
            "outputs": [blank.to_wire(self.keyset) for blank in blanks],
        }
        return _post("/v1/swap", body)


def _post(path: str, body: dict[str, Any]) -> Ask:
    return Ask(path, json.dumps(body))


def _info(_world: World, count: int) -> list[Ask]:
    return [Ask("/v1/info")] * count


def _keys(_world: World, count: int) -> list[Ask]:
    return [Ask("/v1/keys")] * count


def _keys_compressed(_world: World, count: int) -> list[Ask]:
    return [Ask("/v1/keys", accept_encoding="gzip, deflate, br")] * count


def _mint_quote(_world: World, count: int) -> list[Ask]:
    return [_post("/v1/mint/quote/bolt11", {"amount": 8 * SPLIT, "unit": "sat"})] * count


def _mint(world: World, count: int) -> list[Ask]:
    quotes = world.quotes(8 * SPLIT, count)
    return [world.mint(quote, [Blank.make(SPLIT) for _ in range(8)]) for quote in quotes]


def _swap(inputs: int) -> Callable[[World, int], list[Ask]]:
    def prepare(world: World, count: int) -> list[Ask]:
        coins = world.coins(8 * SPLIT // inputs, inputs * count)
        stacks = [coins[start : start + inputs] for start in range(0, len(coins), inputs)]
        return [world.swap(stack, [Blank.make(SPLIT) for _ in range(8)]) for stack in stacks]

    return prepare


def _checkstate(world: World, count: int) -> list[Ask]:
    def ys() -> list[str]:
        unseen = [curve.hash_to_curve(secrets.token_bytes(32)).hex() for _ in range(LISTED // 2)]
        return [y for pair in zip(world.spent_ys, unseen, strict=True) for y in pair]

    return [_post("/v1/checkstate", {"Ys": ys()}) for _ in range(count)]


def _restore(world: World, count: int) -> list[Ask]:
    def outputs() -> list[dict[str, Any]]:
        unseen = [Blank.make(SPLIT) for _ in range(LISTED // 2)]
        return [b.to_wire(world.keyset) for pair in zip(world.signed, unseen, strict=True) for b in pair]

    return [_post("/v1/restore", {"outputs": outputs()}) for _ in range(count)]


def _melt(prefer_async: bool) -> Callable[[World, int], list[Ask]]:
    def prepare(world: World, count: int) -> list[Ask]:
        invoices = [world.make_invoice(MELT_SAT * 1000) for _ in range(count)]
        asks = [_post("/v1/melt/quote/bolt11", {"request": invoice, "unit": "sat"}) for invoice in invoices]
        quotes = [json.loads(body)["quote"] for body in world.ask(asks)]
        coins = world.coins(128, 2 * count)
        return [
            _post(
                "/v1/melt/bolt11",
                {
                    "quote": quote,
                    "inputs": [coin.to_wire(world.keyset) for coin in coins[2 * n : 2 * n + 2]],
                    "outputs": [Blank.make(1).to_wire(world.keyset) for _ in range(4)],
                    **({"prefer_async": True} if prefer_async else {}),
                },
            )
            for n, quote in enumerate(quotes)
        ]

    return prepare


@dataclass(frozen=True, slots=True)
class Flow:
    """`counts`: requests in a round, of a fast mint and of a slow one. `curve`: inputs and outputs whose signatures
    the mint must compute. `target`: how many times nutshell's throughput is aimed for."""

    title: str
    prepare: Callable[[World, int], list[Ask]]
    counts: tuple[int, int]
    curve: tuple[int, int] | None = None
    target: int | None = None


FLOWS = {
    "info": Flow("`GET /v1/info`", _info, (3000, 600), target=5),
    "keys": Flow("`GET /v1/keys`", _keys, (3000, 600), target=5),
    "keys_compressed": Flow("`GET /v1/keys`, compressed", _keys_compressed, (3000, 200), target=5),
    "mint_quote": Flow("mint quote", _mint_quote, (300, 60)),
    "mint_8": Flow("mint, 8 outputs", _mint, (400, 60), (0, 8), target=15),
    "swap_2_8": Flow("swap 2 → 8", _swap(2), (400, 60), (2, 8), target=15),
    "swap_8_8": Flow("swap 8 → 8", _swap(8), (400, 60), (8, 8), target=15),
    "checkstate": Flow(f"checkstate of {LISTED}", _checkstate, (600, 100), target=10),
    "restore": Flow(f"restore of {LISTED}", _restore, (400, 60), target=10),
    "melt": Flow("melt, synchronous", _melt(False), (100, 50)),
    "melt_async": Flow("melt, `prefer_async`", _melt(True), (100, 50)),
}
