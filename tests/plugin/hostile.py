"""A mint that is attacked, and requests that it would grant."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from contrib.wallet import messages
from ledger.errors import Code
from tests.plugin.harness import Mint, Purse

SWAP = "/v1/swap"
MINT_QUOTE = "/v1/mint/quote/bolt11"
MINT = "/v1/mint/bolt11"
MINT_CHECK = "/v1/mint/quote/bolt11/check"
MINT_BATCH = "/v1/mint/bolt11/batch"
MELT_QUOTE = "/v1/melt/quote/bolt11"
MELT = "/v1/melt/bolt11"
CHECK_STATE = "/v1/checkstate"
RESTORE = "/v1/restore"
POSTS = (SWAP, MINT_QUOTE, MINT, MINT_CHECK, MINT_BATCH, MELT_QUOTE, MELT, CHECK_STATE, RESTORE)


@dataclass
class Target:
    """A mint, and for each endpoint a request that it would grant, changed by nothing that happens here."""

    mint: Mint
    purse: Purse
    good: dict[str, dict[str, Any]]

    def refused(self, method: str, path: str, code: Code | None = None, **request: Any) -> httpx.Response:
        """Send a request that must be refused, and change nothing."""
        before = self.mint.rows()
        response = self.mint.http.request(method, path, **request)
        self.assert_refusal(response.status_code, response.content, code)
        assert self.mint.rows() == before
        return response

    @staticmethod
    def assert_refusal(status: int, content: bytes, code: Code | None = None) -> None:
        """An answer is a refusal as the NUTs want it."""
        assert status == 400, content
        answer = json.loads(content)
        assert set(answer) == {"detail", "code"}
        assert type(answer["detail"]) is str
        assert answer["detail"]
        assert len(answer["detail"]) < 1000
        assert type(answer["code"]) is int
        assert code is None or answer["code"] == code, answer

    def post(self, path: str, body: Any, code: Code | None = None) -> httpx.Response:
        """The same with a JSON body, which may have in it what JSON does not allow (NaN, lone surrogates)."""
        return self.refused("POST", path, code, content=json.dumps(body).encode())


@contextmanager
def attacked(mint: Mint) -> Iterator[Target]:
    """What the tests of a module attack. In the end every good request is granted."""
    purse = Purse(mint)
    proofs = [wire.model_dump(mode="json", exclude={"dleq"}, exclude_none=True) for wire in purse.fund(8 + 16)]
    quotes = [purse.request_mint(24) for _ in range(3)]
    for quote in quotes:
        mint.node.pay_invoice(quote.request)
        purse.wait_credited(quote)
    melt = purse.prepare(mint.invoice(100))

    def outputs(amount: int) -> list[dict[str, Any]]:
        return [message.model_dump(mode="json") for message in messages(purse.outputs(amount))]

    good: dict[str, dict[str, Any]] = {
        SWAP: {"inputs": proofs, "outputs": outputs(24)},
        MINT_QUOTE: {"amount": 8, "unit": "sat", "description": "good", "pubkey": purse.keyset.keys[1].hex()},
        MINT: {"quote": quotes[0].quote, "outputs": outputs(24)},
        MINT_CHECK: {"quotes": [quotes[1].quote, quotes[2].quote]},
        MINT_BATCH: {"quotes": [quotes[1].quote, quotes[2].quote], "quote_amounts": [24, 24], "outputs": outputs(48)},
        MELT_QUOTE: {"request": str(mint.invoice(10)), "unit": "sat"},
        MELT: melt.body,
        CHECK_STATE: {"Ys": [p.y for p in melt.inputs]},
        RESTORE: {"outputs": outputs(3)},
    }
    yield Target(mint, purse, good)
    for path, body in good.items():
        response = mint.http.post(path, json=body)
        assert response.status_code == 200, (path, response.text)


def changed(body: dict[str, Any], field: str, value: Any) -> dict[str, Any]:
    """A copy of a request with one field, given by its path, replaced."""
    made = copy.deepcopy(body)
    at: Any = made
    *parents, last = [int(part) if part.isdigit() else part for part in field.split(".")]
    for part in parents:
        at = at.setdefault(part, {}) if isinstance(at, dict) else at[part]
    at[last] = value
    return made
