"""Races: hundreds of clients ask at once for what only one of them can get, through HTTP, of the mint in the sandbox.

Each race is one kind of contention. Of the requests that exclude each other exactly one is granted, every other one is
refused with the code that the NUTs give for it, and identical requests get identical answers. Afterwards the proofs
and quotes are in the states that follow from that, and the books balance.
"""

from __future__ import annotations

import asyncio
import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from contrib.reliability.report import Report
from contrib.wallet import Output, WalletProof, unblind
from ledger.errors import Code
from ledger.models import ProofState
from tests.plugin.harness import PAID, PATIENCE_S, PENDING, SPENT, UNSPENT, Mint, Purse, wait_for
from tests.protocol.helpers import wire, wire_outputs

CLIENTS = 200
MELTS = 60
"""Of the clients, in races where each needs a melt quote of its own."""
SWAP, ISSUE, BATCH, MELT, RESTORE = (
    "/v1/swap",
    "/v1/mint/bolt11",
    "/v1/mint/bolt11/batch",
    "/v1/melt/bolt11",
    "/v1/restore",
)

Request = tuple[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request came to: its text if it was granted, else its code (0 for what is no answer of the mint)."""

    code: int | None
    text: str

    @property
    def won(self) -> bool:
        """Whether it was granted."""
        return self.code is None


@dataclass
class Count:
    """What all races of one kind have come to."""

    races: int = 0
    requests: int = 0
    winners: int = 0
    codes: Counter[int] = field(default_factory=Counter)


class WrongError(AssertionError):
    """An answer or a state that must not be."""


def require(holds: bool, *what: object) -> None:
    """Raises WrongError."""
    if not holds:
        raise WrongError(" ".join(map(str, what)))


class Track:
    """A mint, a purse, and the clients that race."""

    def __init__(self, mint: Mint, clients: int, chance: random.Random) -> None:
        self.mint = mint
        self.purse = Purse(mint)
        self.clients = clients
        self.chance = chance
        self.counts: dict[str, Count] = {}

    # --- running --------------------------------------------------------------------------------------------------

    def run(self, kind: str) -> None:
        """One race of a kind. Raises WrongError."""
        self.counts.setdefault(kind, Count()).races += 1
        RACES[kind](self)

    def send(self, kind: str, requests: Sequence[Request]) -> list[Answer]:
        """All at once, each on a connection of its own; the answers in order."""
        answers = asyncio.run(self._send(requests))
        count = self.counts.setdefault(kind, Count())
        count.requests += len(answers)
        count.winners += sum(answer.won for answer in answers)
        count.codes.update(answer.code for answer in answers if answer.code is not None)
        return answers

    async def _send(self, requests: Sequence[Request]) -> list[Answer]:
        limits = httpx.Limits(max_connections=len(requests), max_keepalive_connections=0)
        async with httpx.AsyncClient(base_url=self.mint.url, timeout=PATIENCE_S, limits=limits) as client:
            start = asyncio.Event()

            async def one(path: str, body: bytes) -> Answer:
                await start.wait()
                response = await client.post(path, content=body, headers={"content-type": "application/json"})
                if response.status_code == 200:
                    return Answer(None, response.text)
                code = response.json().get("code", 0) if response.status_code == 400 else 0
                return Answer(int(code), f"{response.status_code} {response.text}")

            def work() -> list[Coroutine[Any, Any, Answer]]:
                return [one(path, json.dumps(body).encode()) for path, body in requests]

            tasks = [asyncio.create_task(each) for each in work()]
            start.set()
            return await asyncio.gather(*tasks)

    # --- judging --------------------------------------------------------------------------------------------------

    @staticmethod
    def one_wins(answers: Sequence[Answer], *codes: Code) -> int:
        """Exactly one is granted, the others get one of these codes; the place of the winner."""
        Track.only(answers, codes)
        won = [n for n, answer in enumerate(answers) if answer.won]
        require(len(won) == 1, len(won), "winners instead of one")
        return won[0]

    @staticmethod
    def only(answers: Sequence[Answer], codes: Collection[Code]) -> None:
        """Who is refused gets one of these codes."""
        wrong = [answer.text for answer in answers if not answer.won and answer.code not in set(codes)]
        require(not wrong, len(wrong), "wrong answers, the first:", wrong[:1])

    def are(self, proofs: Sequence[WalletProof], *states: ProofState) -> None:
        """The proofs are in these states."""
        found = self.purse.states(proofs)
        require(found <= set(states), "proofs are", found, "instead of", states)

    # --- preparing ------------------------------------------------------------------------------------------------

    def coins(self, count: int, amount: int) -> list[WalletProof]:
        """So many proofs of an amount, a power of two."""
        quote = self.paid_quote(count * amount)
        outputs = self.purse.outputs_of([amount] * count)
        signatures = self.purse.client.mint(quote, [output.message for output in outputs])
        return unblind(outputs, signatures, self.purse.keysets)

    def paid_quote(self, amount: int) -> str:
        """The id of a mint quote that is paid."""
        quote = self.purse.request_mint(amount)
        self.mint.node.pay_invoice(quote.request)
        return self.purse.wait_credited(quote).quote

    def swap(self, proofs: Sequence[WalletProof], outputs: Sequence[Output] | None = None) -> Request:
        """A swap for fresh outputs, or for these."""
        outputs = outputs or self.purse.outputs(sum(proof.amount for proof in proofs))
        return SWAP, {"inputs": wire(proofs), "outputs": wire_outputs(outputs)}

    def issue(self, quote: str, amount: int, outputs: Sequence[Output] | None = None) -> Request:
        """Ecash for a quote."""
        return ISSUE, {"quote": quote, "outputs": wire_outputs(outputs or self.purse.outputs(amount))}

    def melt(self, quote: str, proofs: Sequence[WalletProof], *, wait: bool = False) -> Request:
        """A melt, asynchronous unless it waits for its end."""
        blanks = wire_outputs(self.purse.outputs_of([0] * 4))
        body = {"quote": quote, "inputs": wire(proofs), "outputs": blanks}
        return MELT, body if wait else {**body, "prefer_async": True}

    def end_of(self, quote: str) -> Any:
        """The melt quote, once it is decided."""
        return wait_for(
            lambda: None if (q := self.purse.client.melt_quote(quote)).state == PENDING else q, "the melt to end"
        )

    def paid_once(self, invoice: str) -> None:
        """The node was told to pay this invoice once, and did."""
        calls = [call for call in self.mint.node.calls("xpay") if call.params["invstring"] == invoice]
        rows = self.mint.node.rows(invoice)
        require(len(calls) == 1, "xpay was called", len(calls), "times")
        require([row["status"] for row in rows] == ["complete"], "the node's rows are", rows)


# --- kinds ------------------------------------------------------------------------------------------------------------


def same_proof(track: Track) -> None:
    """Swaps of the same proof."""
    (proof,) = track.coins(1, 8)
    track.one_wins(track.send("proof", [track.swap([proof]) for _ in range(track.clients)]), Code.PROOFS_SPENT)
    track.are([proof], SPENT)


def same_proof_in_swaps_and_melts(track: Track) -> None:
    """Swaps and melts that share a proof."""
    (proof,) = track.coins(1, 64)
    quotes = [track.purse.quote(track.mint.invoice(32)).quote for _ in range(min(MELTS, track.clients // 2))]
    requests = [track.melt(quote, [proof]) for quote in quotes]
    requests += [track.swap([proof]) for _ in range(track.clients - len(requests))]
    track.chance.shuffle(requests)
    winner = track.one_wins(track.send("proof, swap or melt", requests), Code.PROOFS_SPENT, Code.PROOFS_PENDING)
    path, body = requests[winner]
    if path == MELT:
        require(track.end_of(body["quote"]).state == PAID, "the winning melt was not paid")
    track.are([proof], SPENT)
    states = Counter(track.purse.client.melt_quote(quote).state for quote in quotes)
    require(states[PAID] == int(path == MELT), "melt quotes are", states)


def same_mint_quote(track: Track) -> None:
    """Issues of all of the same mint quote."""
    quote = track.paid_quote(8)
    track.one_wins(track.send("mint quote", [track.issue(quote, 8) for _ in range(track.clients)]), Code.QUOTE_ISSUED)
    require(track.purse.client.mint_quote(quote).amount_issued == 8, "issued more or less than 8")


def parts_of_a_mint_quote(track: Track) -> None:
    """Issues of 8 each of a mint quote of 100: twelve fit."""
    quote = track.paid_quote(100)
    answers = track.send("mint quote, in parts", [track.issue(quote, 8) for _ in range(track.clients)])
    track.only(answers, (Code.NOT_BALANCED,))
    won = sum(answer.won for answer in answers)
    require(won == min(12, track.clients), won, "parts of 8 were issued of 100")
    require(track.purse.client.mint_quote(quote).amount_issued == 8 * won, "the quote says otherwise")


def overlapping_batches(track: Track) -> None:
    """Batches (NUT-29) of two of ten mint quotes each, and single issues of them."""
    quotes = [track.paid_quote(4) for _ in range(10)]
    requests: list[Request] = []
    for n in range(track.clients):
        pair = track.chance.sample(quotes, 2)
        batch = {"quotes": pair, "outputs": wire_outputs(track.purse.outputs(8))}
        requests.append((BATCH, batch) if n % 4 else track.issue(pair[0], 4))
    answers = track.send("batch", requests)
    track.only(answers, (Code.QUOTE_ISSUED,))
    taken = Counter(
        quote
        for (_, body), answer in zip(requests, answers, strict=True)
        if answer.won
        for quote in body.get("quotes", [body.get("quote")])
    )
    require(max(taken.values()) == 1, "a quote was issued more than once:", taken.values())
    issued = {quote for quote in quotes if track.purse.client.mint_quote(quote).amount_issued}
    require(issued == set(taken), "issued quotes and winners differ")


def same_melt_quote(track: Track) -> None:
    """Melts of the same quote, each with a proof of its own."""
    invoice = track.mint.invoice(4)
    quote = track.purse.quote(invoice).quote
    proofs = track.coins(track.clients, 8)
    answers = track.send("melt quote", [track.melt(quote, [proof]) for proof in proofs])
    winner = track.one_wins(answers, Code.QUOTE_PENDING, Code.INVOICE_PAID)
    require(track.end_of(quote).state == PAID, "the winner was not paid")
    track.are([proofs.pop(winner)], SPENT)
    track.are(proofs, UNSPENT)
    track.paid_once(str(invoice))


def same_invoice(track: Track) -> None:
    """Melts of several quotes of the same invoice."""
    invoice = track.mint.invoice(4)
    quotes = [track.purse.quote(invoice).quote for _ in range(min(MELTS, track.clients))]
    proofs = track.coins(track.clients, 8)
    requests = [track.melt(quotes[n % len(quotes)], [proof]) for n, proof in enumerate(proofs)]
    winner = track.one_wins(track.send("invoice", requests), Code.QUOTE_PENDING, Code.INVOICE_PAID)
    require(track.end_of(requests[winner][1]["quote"]).state == PAID, "the winner was not paid")
    track.are([proofs.pop(winner)], SPENT)
    track.are(proofs, UNSPENT)
    track.paid_once(str(invoice))


def same_output(track: Track) -> None:
    """Swaps of different proofs, and an issue, for the same output."""
    outputs = track.purse.outputs(8)
    proofs = track.coins(track.clients - 1, 8)
    requests = [track.swap([proof], outputs) for proof in proofs]
    requests.append(track.issue(track.paid_quote(8), 8, outputs))
    winner = track.one_wins(track.send("output", requests), Code.OUTPUTS_SIGNED)
    if winner < len(proofs):
        track.are([proofs.pop(winner)], SPENT)
    track.are(proofs, UNSPENT)


def restore_during_a_swap(track: Track) -> None:
    """Restores of the outputs of a swap under way: nothing yet, or all of its signatures."""
    outputs = track.purse.outputs(7)
    swap = track.swap(track.coins(7, 1), outputs)
    restore = (RESTORE, {"outputs": wire_outputs(outputs)})
    requests = [restore] * (track.clients - 1)
    requests.insert(track.clients // 2, swap)
    answers = track.send("restore", requests)
    require(all(answer.won for answer in answers), "refused:", [a.text for a in answers if not a.won][:1])
    signatures = json.loads(answers[track.clients // 2].text)["signatures"]
    for n, answer in enumerate(answers):
        restored = json.loads(answer.text)["signatures"]
        require(restored in ([], signatures), "restore no.", n, "answers something else")


def identical(kind: str, make: Callable[[Track], Request]) -> Callable[[Track], None]:
    """The same request from every client: one operation, one answer."""

    def race(track: Track) -> None:
        answers = track.send(kind, [make(track)] * track.clients)
        require(all(answer.won for answer in answers), "refused:", [a.text for a in answers if not a.won][:1])
        require(len({answer.text for answer in answers}) == 1, "identical requests have different answers")

    return race


def _melt(track: Track) -> Request:
    return track.melt(track.purse.quote(track.mint.invoice(4)).quote, track.coins(1, 8), wait=True)


RACES: dict[str, Callable[[Track], None]] = {
    "proof": same_proof,
    "proof, swap or melt": same_proof_in_swaps_and_melts,
    "mint quote": same_mint_quote,
    "mint quote, in parts": parts_of_a_mint_quote,
    "batch": overlapping_batches,
    "melt quote": same_melt_quote,
    "invoice": same_invoice,
    "output": same_output,
    "restore": restore_during_a_swap,
    "identical swaps": identical("identical swaps", lambda track: track.swap(track.coins(4, 2))),
    "identical issues": identical("identical issues", lambda track: track.issue(track.paid_quote(13), 13)),
    "identical melts": identical("identical melts", _melt),
}


def run(budget_s: float) -> Report:
    """Race after race, all kinds in turn, at 200 clients."""
    findings: list[str] = []
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="nutbolt-races-") as folder:
        mint = Mint(Path(folder))
        mint.change_inside()
        try:
            mint.start()
            track = Track(mint, CLIENTS, random.Random(int(begun)))  # noqa: S311
            rounds = 0
            while not findings and (rounds == 0 or time.monotonic() - begun < budget_s):
                rounds += 1
                for kind in RACES:
                    try:
                        track.run(kind)
                    except AssertionError as wrong:
                        findings.append(f"{kind}: {wrong}")
                try:
                    mint.check()
                except AssertionError as wrong:
                    findings.append(f"afterwards: {wrong}")
                print(f"round {rounds} of {len(RACES)} races: {'wrong' if findings else 'right'}", flush=True)
        finally:
            mint.stop()
    counts = track.counts
    return Report(
        title="Races",
        what=__doc__.partition("\n\n")[2].replace("\n", " ").strip(),
        figures={
            "races": sum(count.races for count in counts.values()),
            "clients in each": CLIENTS,
            "requests": sum(count.requests for count in counts.values()),
            "winners": sum(count.winners for count in counts.values()),
            "wrong answers": len(findings),
        },
        losses=len(findings),
        findings=tuple(findings),
        columns=("race for the same", "races", "requests", "granted", "refused with"),
        rows=[
            (kind, str(count.races), str(count.requests), str(count.winners), _codes(count.codes))
            for kind, count in counts.items()
        ],
    )


def _codes(codes: Counter[int]) -> str:
    return ", ".join(f"{code}: {times}" for code, times in sorted(codes.items())) or "none"
