"""A mint that works until it is killed; run by `test_kill.py` as a process of its own.

It writes a line of JSON before each request ("asked") and one after its answer ("answered"). What it answered must be
in the ledger for ever; what it was only asked must have happened either wholly or not at all.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ledger.models import Proof
from tests.ledger.helpers import METHOD, Mint, Wallet, done, melt_request, mint_request, swap_request, unblind

WALLETS = 3
"""So many threads work at a time: their operations share commits."""

_writing = threading.Lock()


def say(event: str, kind: str, **fields: Any) -> None:
    """Write one line, whole."""
    plain = {name: value.model_dump() if isinstance(value, BaseModel) else value for name, value in fields.items()}
    line = json.dumps({"event": event, "kind": kind, **plain}).encode() + b"\n"
    with _writing:
        while line:
            line = line[os.write(sys.stdout.fileno(), line) :]


def live(mint: Mint, name: str) -> None:
    """One wallet's life, over and over: get ecash, swap it, melt it, with and without success."""
    wallet, chance = Wallet(name), random.Random(name)
    while True:
        proofs = swap(mint, wallet, issue(mint, wallet))
        melt(mint, wallet, proofs, chance.choice([["settled"], ["released", "settled"], ["released"], ["pending"]]))


def issue(mint: Mint, wallet: Wallet) -> list[Proof]:
    quote = mint.mint_quote(16)
    say("answered", "quote", answer=quote)
    mint.pay(quote.quote, 16_000)
    say("answered", "payment", quote=quote.quote)
    drawn = wallet.draw_all(mint.keyset(), [8, 8])
    request = mint_request(quote.quote, drawn)
    say("asked", "issue", request=request)
    answer = done(mint.ledger.issue(METHOD, request))
    say("answered", "issue", request=request, answer=answer)
    return [unblind(mint.keyset(), *pair) for pair in zip(drawn, answer.signatures, strict=True)]


def swap(mint: Mint, wallet: Wallet, proofs: list[Proof]) -> list[Proof]:
    drawn = wallet.draw_all(mint.keyset(), [8, 4, 4])
    request = swap_request(proofs, drawn)
    say("asked", "swap", request=request)
    answer = done(mint.ledger.swap(request))
    say("answered", "swap", request=request, answer=answer)
    return [unblind(mint.keyset(), *pair) for pair in zip(drawn, answer.signatures, strict=True)]


def melt(mint: Mint, wallet: Wallet, proofs: list[Proof], outcomes: list[str]) -> None:
    quote = mint.melt_quote(5, 2).quote
    request = melt_request(quote, proofs[:1], wallet.blanks(mint.keyset(), 3))
    for outcome in outcomes:
        say("asked", "begin", request=request)
        pending = done(mint.ledger.begin_melt(METHOD, request, 10_000)).melt
        assert pending is not None
        say("answered", "begin", request=request)
        if outcome == "pending":
            return
        say("asked", outcome, request=request)
        answer = mint.settle(pending, fee_msat=1) if outcome == "settled" else mint.release(pending)
        say("answered", outcome, request=request, answer=answer)


def main(path: Path, name: str) -> None:
    say("asked", "open")
    mint = Mint(path, units=())
    if len(mint.ledger.keysets) == 0:
        mint.rotate()
    say("answered", "open")
    for number in range(WALLETS):
        threading.Thread(target=live, args=(mint, f"{name}-{number}"), daemon=True).start()
    threading.Event().wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
