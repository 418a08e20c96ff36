"""A purse that mints and melts on the chain (NUT-30), and what the tests of that say of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx
from coincurve import PrivateKey

from contrib.sandbox.chain_control import ChainControl
from contrib.wallet import Output, WalletProof, messages, quote_lock, unblind, unblind_change
from ledger.models import MeltQuoteOnchain, MintQuoteOnchain, SignaturesResponse
from ledger.units import MSAT_PER_UNIT
from tests.plugin.harness import HELD, PAID, PENDING, SPENT, UNPAID, UNSPENT, Purse, wait_for

KEY = PrivateKey(b"\x11" * 32)
CONFIRMATIONS = 3
OPTIONS = {"onchain_confirmations": CONFIRMATIONS, "onchain_min": 1000}
COIN_SAT = 1_000_000
AMOUNT = 50_000


@dataclass(eq=False)
class Payout:
    """An on-chain melt as its wallet prepared it."""

    quote: MeltQuoteOnchain
    fee_index: int
    inputs: list[WalletProof]
    blanks: list[Output]

    @property
    def body(self) -> dict[str, Any]:
        """The JSON of `POST /v1/melt/onchain`."""
        shown = ("amount", "id", "secret", "C")
        return {
            "quote": self.quote.quote,
            "fee_index": self.fee_index,
            "inputs": [{name: getattr(proof, name) for name in shown} for proof in self.inputs],
            "outputs": [message.model_dump() for message in messages(self.blanks)],
        }

    @property
    def fee_reserve(self) -> int:
        """Of the chosen option."""
        return self.quote.fee_options[self.fee_index].fee_reserve


class ChainPurse(Purse):
    """Ecash of one mint and unit that comes from the chain and goes there."""

    @property
    def chain(self) -> ChainControl:
        """What happens there."""
        return self.mint.node.chain

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON of a 200."""
        response: httpx.Response = self.mint.http.request(method, path, json=body)
        assert response.status_code == 200, response.text
        return response.json()

    def refused(self, path: str, body: Any) -> tuple[int, str]:
        """Code and detail of a refusal."""
        response = self.mint.http.post(path, json=body)
        assert response.status_code == 400, response.text
        answer = response.json()
        return int(answer["code"]), str(answer["detail"])

    # --- mint -----------------------------------------------------------------------------------------------------

    def request_address(self) -> MintQuoteOnchain:
        """A new mint quote."""
        body = {"unit": self.unit, "pubkey": KEY.public_key.format().hex()}
        quote = MintQuoteOnchain.model_validate(self.call("POST", "/v1/mint/quote/onchain", body))
        self.mint.secrets |= {quote.quote, quote.request}
        return quote

    def look_at(self, quote: MintQuoteOnchain) -> MintQuoteOnchain:
        """`GET` the mint quote."""
        return MintQuoteOnchain.model_validate(self.call("GET", f"/v1/mint/quote/onchain/{quote.quote}"))

    def wait_credit(self, quote: MintQuoteOnchain, amount: int) -> MintQuoteOnchain:
        """Wait until so much was credited."""

        def credited() -> MintQuoteOnchain | None:
            now = self.look_at(quote)
            return now if now.amount_paid == amount else None

        found = wait_for(credited, f"{amount} to be credited")
        assert found is not None
        return found

    def issue_body(self, quote: MintQuoteOnchain, outputs: Sequence[Output]) -> dict[str, Any]:
        """The JSON of `POST /v1/mint/onchain`, signed."""
        wire = messages(outputs)
        signature = quote_lock.sign(KEY, quote_lock.message(quote.quote, wire))
        return {"quote": quote.quote, "outputs": [m.model_dump() for m in wire], "signature": signature}

    def collect_onchain(self, quote: MintQuoteOnchain, amount: int) -> list[WalletProof]:
        """Have ecash issued."""
        outputs = self.outputs(amount)
        answer = self.call("POST", "/v1/mint/onchain", self.issue_body(quote, outputs))
        return unblind(outputs, SignaturesResponse.model_validate(answer).signatures, self.keysets)

    # --- melt -----------------------------------------------------------------------------------------------------

    def quote_body(self, amount: int = AMOUNT, address: str | None = None) -> dict[str, Any]:
        """The JSON of `POST /v1/melt/quote/onchain`; `amount` in sat."""
        return {
            "request": address or self.chain.outside_address(),
            "unit": self.unit,
            "amount": amount * 1000 // MSAT_PER_UNIT[self.unit],
        }

    def request_payout(self, amount: int = AMOUNT, address: str | None = None) -> MeltQuoteOnchain:
        """A new melt quote."""
        answer = self.call("POST", "/v1/melt/quote/onchain", self.quote_body(amount, address))
        quote = MeltQuoteOnchain.model_validate(answer)
        self.mint.secrets.add(quote.quote)
        return quote

    def prepare_payout(
        self, amount: int = AMOUNT, *, fee_index: int = 0, quote: MeltQuoteOnchain | None = None, **options: Any
    ) -> Payout:
        """A melt, with fresh proofs for it and blank outputs."""
        quote = quote or self.request_payout(amount, **options)
        needed = quote.amount + quote.fee_options[fee_index].fee_reserve
        return Payout(quote, fee_index, self.fund(needed), self.outputs_of([0] * needed.bit_length()))

    def post_payout(self, payout: Payout) -> MeltQuoteOnchain:
        """`POST /v1/melt/onchain`."""
        return MeltQuoteOnchain.model_validate(self.call("POST", "/v1/melt/onchain", payout.body))

    def begin_payout(self, amount: int = AMOUNT, **options: Any) -> Payout:
        """A melt that was answered PENDING."""
        payout = self.prepare_payout(amount, **options)
        answer = self.post_payout(payout)
        assert (answer.state, answer.selected_fee_index) == (PENDING, payout.fee_index)
        return payout

    def look_payout(self, payout: Payout) -> MeltQuoteOnchain:
        """`GET` the melt quote."""
        return MeltQuoteOnchain.model_validate(self.call("GET", f"/v1/melt/quote/onchain/{payout.quote.quote}"))

    def wait_sent(self, payout: Payout) -> str:
        """Wait until the transaction is broadcast; its txid."""
        found = wait_for(lambda: self.look_payout(payout).outpoint, "the transaction to be broadcast")
        assert found is not None
        return found.partition(":")[0]

    def wait_payout(self, payout: Payout) -> MeltQuoteOnchain:
        """Wait until the melt is decided."""

        def decided() -> MeltQuoteOnchain | None:
            quote = self.look_payout(payout)
            return quote if quote.state != PENDING else None

        quote = wait_for(decided, "the melt to be decided")
        assert quote is not None
        return quote

    def assert_payout_pending(self, payout: Payout) -> MeltQuoteOnchain:
        """PENDING, with its proofs held."""
        quote = self.look_payout(payout)
        assert quote.state == PENDING, quote
        assert self.states(payout.inputs) == {HELD}
        return quote

    def assert_payout_paid(self, payout: Payout) -> MeltQuoteOnchain:
        """PAID: one output of the named transaction pays the address, and all but amount and fee came back."""
        quote = self.wait_payout(payout)
        assert quote.state == PAID, quote
        assert quote.outpoint is not None
        txid, vout = quote.outpoint.split(":")
        per_sat = 1000 // MSAT_PER_UNIT[self.unit]
        amount_sat = quote.amount // per_sat
        assert self.chain.outputs_of(txid)[int(vout)][1] == amount_sat
        assert self.states(payout.inputs) == {SPENT}
        change = unblind_change(payout.blanks, quote.change or [], self.keysets)
        cost = sum(p.amount for p in payout.inputs) - sum(p.amount for p in change)
        assert cost == quote.amount + self.chain.fee_of(txid) * per_sat
        assert self.chain.fee_of(txid) * per_sat <= payout.fee_reserve
        if change:
            self.swap(change)
        return quote

    def assert_payout_failed(self, payout: Payout, why: str = "") -> MeltQuoteOnchain:
        """UNPAID again: it says why, and the proofs are free."""
        quote = self.wait_payout(payout)
        assert (quote.state, quote.outpoint, quote.change) == (UNPAID, None, None), quote
        assert quote.error is not None
        assert why in quote.error
        assert quote.selected_fee_index == payout.fee_index
        assert self.states(payout.inputs) == {UNSPENT}
        return quote

    def blocks_until_paid(self, payout: Payout, blocks: int = CONFIRMATIONS) -> MeltQuoteOnchain:
        """The blocks that it takes."""
        self.chain.mine(blocks)
        return self.assert_payout_paid(payout)
