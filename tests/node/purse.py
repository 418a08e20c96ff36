"""A wallet in memory, for tests: it does what it is told and keeps every secret in view."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Thread
from typing import Any

from contrib.wallet.client import MintClient
from contrib.wallet.errors import MintError, WalletError
from contrib.wallet.keysets import Keyset
from contrib.wallet.outputs import Output, blank_output_count, make_outputs, messages, unblind, unblind_change
from contrib.wallet.proofs import WalletProof
from contrib.wallet.selection import select
from ledger.models import (
    MeltQuoteLightning,
    MeltQuoteOptions,
    MeltQuoteState,
    MeltRequest,
    MintQuoteBolt11,
    MintQuoteState,
    ProofState,
)
from tests.node.harness import PATIENCE_S, Mint, Network, wait_for


@dataclass
class Attempt:
    """A melt as the wallet prepared it: the proofs it offers and the blank outputs for change."""

    quote: MeltQuoteLightning
    inputs: list[WalletProof]
    blanks: list[Output]
    answer: MeltQuoteLightning | None = field(default=None)
    """What the mint answered to the POST."""


class Purse:
    """Ecash of one mint, in sat."""

    method = "bolt11"
    """Of its melts."""

    def __init__(self, mint: Mint) -> None:
        self.client = MintClient(mint.url, melt_timeout_s=PATIENCE_S)
        self.proofs: list[WalletProof] = []
        self._confidential = mint.confidential
        active = self.client.keys()
        self._keysets = {wire.id: Keyset.from_wire(wire) for wire in active}
        self._keyset = next(k for k in self._keysets.values() if k.unit == "sat" and k.active)

    @property
    def balance(self) -> int:
        """The proofs' sum."""
        return sum(proof.amount for proof in self.proofs)

    # --- mint and swap ------------------------------------------------------------------------------------------

    def request_mint(self, amount: int) -> MintQuoteBolt11:
        """A new mint quote."""
        quote = self.client.request_mint_quote(amount)
        self._confidential.add(quote.quote)
        return quote

    def wait_paid(self, quote: MintQuoteBolt11) -> MintQuoteBolt11:
        """Wait until the mint has credited a mint quote."""

        def paid() -> MintQuoteBolt11 | None:
            now = self.client.mint_quote(quote.quote)
            return now if now.state == MintQuoteState.PAID else None

        found = wait_for(paid, "the mint quote to be paid")
        assert found is not None
        return found

    def collect(self, quote: MintQuoteBolt11, amount: int | None = None) -> None:
        """Have ecash issued for a paid quote."""
        outputs = self._outputs(amount or quote.amount or 0)
        self._add(unblind(outputs, self.client.mint(quote.quote, messages(outputs)), self._keysets))

    def fund(self, amount: int, pay: Callable[[str], None]) -> None:
        """Mint ecash, letting `pay` pay the invoice."""
        quote = self.request_mint(amount)
        pay(quote.request)
        self.wait_paid(quote)
        self.collect(quote)

    def send(self, amount: int) -> list[WalletProof]:
        """Swap for proofs of exactly `amount`, and hand them out."""
        inputs = self._take(amount)
        paid_in = sum(proof.amount for proof in inputs) - self._fee(inputs)
        wanted, rest = self._outputs(amount), self._outputs(paid_in - amount)
        outputs = sorted(wanted + rest, key=lambda output: output.amount)
        made = unblind(outputs, self.client.swap(inputs, messages(outputs)), self._keysets)
        names = {output.secret for output in wanted}
        self._add([proof for proof in made if proof.secret not in names])
        return [proof for proof in made if proof.secret in names]

    def receive(self, proofs: list[WalletProof]) -> None:
        """Swap proofs that came from somebody else for own ones."""
        outputs = self._outputs(sum(proof.amount for proof in proofs) - self._fee(proofs))
        self._add(unblind(outputs, self.client.swap(proofs, messages(outputs)), self._keysets))

    # --- melt ---------------------------------------------------------------------------------------------------

    def prepare(
        self, bolt11: str, *, amount_msat: int | None = None, options: MeltQuoteOptions | None = None
    ) -> Attempt:
        """A melt quote, and proofs and blank outputs for it, taken out of the purse."""
        return self.prepare_again(
            self.client.request_melt_quote(bolt11, amount_msat=amount_msat, options=options, method=self.method)
        )

    def prepare_again(self, quote: MeltQuoteLightning) -> Attempt:
        """Proofs and blank outputs for a quote that there is already."""
        self._confidential.add(quote.quote)
        inputs = self._take(quote.amount + quote.fee_reserve)
        overpaid = sum(proof.amount for proof in inputs) - self._fee(inputs) - quote.amount
        blanks = make_outputs(self._keyset, [0] * blank_output_count(overpaid))
        self._confidential.update(blank.secret for blank in blanks)
        return Attempt(quote, inputs, blanks)

    def post(
        self, attempt: Attempt, *, prefer_async: bool | None = None, timeout_s: float | None = None
    ) -> MeltQuoteLightning:
        """`POST /v1/melt/{method}`. Raises as the client does."""
        attempt.answer = self.client.melt(
            attempt.quote.quote,
            attempt.inputs,
            messages(attempt.blanks),
            prefer_async=prefer_async,
            timeout_s=timeout_s,
            method=self.method,
        )
        return attempt.answer

    def try_post(self, attempt: Attempt, *, prefer_async: bool | None = None) -> MintError | None:
        """`POST /v1/melt/bolt11`, where a refusal is as good as an answer."""
        try:
            self.post(attempt, prefer_async=prefer_async)
        except MintError as refusal:
            return refusal
        return None

    @contextmanager
    def posting(self, attempt: Attempt) -> Iterator[None]:
        """A synchronous melt in the background, for a mint that may die over it; waits for its end."""

        def post() -> None:
            with suppress(WalletError):
                self.post(attempt)

        thread = Thread(target=post)
        thread.start()
        yield
        thread.join()

    @staticmethod
    def melt_body(attempt: Attempt) -> dict[str, Any]:
        """The JSON of `POST /v1/melt/bolt11`, for requests that the client does not make."""
        request = MeltRequest.model_construct(
            quote=attempt.quote.quote, inputs=list(attempt.inputs), outputs=messages(attempt.blanks)
        )
        return request.model_dump(mode="json", exclude_none=True, warnings="none")

    def start_async(self, bolt11: str) -> Attempt:
        """Begin a melt with `prefer_async`; the mint must answer PENDING or with the outcome."""
        attempt = self.prepare(bolt11)
        self.post(attempt, prefer_async=True)
        return attempt

    def look(self, attempt: Attempt) -> MeltQuoteLightning:
        """`GET` the melt quote."""
        return self.client.melt_quote(attempt.quote.quote, method=self.method)

    def wait_final(self, attempt: Attempt, timeout_s: float = PATIENCE_S) -> MeltQuoteLightning:
        """Wait until the melt is PAID or failed, and put change or proofs back into the purse."""

        def final() -> MeltQuoteLightning | None:
            quote = self.look(attempt)
            return quote if quote.state != MeltQuoteState.PENDING else None

        quote = wait_for(final, "the melt to be decided", timeout_s)
        assert quote is not None
        self.finish(attempt, quote)
        return quote

    def finish(self, attempt: Attempt, quote: MeltQuoteLightning) -> None:
        """Put change (if PAID) or the proofs (if not) back into the purse."""
        if quote.payment_preimage:
            self._confidential.add(quote.payment_preimage)
        if quote.state == MeltQuoteState.PAID:
            self._add(unblind_change(attempt.blanks, quote.change or [], self._keysets))
        else:
            assert quote.state == MeltQuoteState.UNPAID
            self._add(attempt.inputs)

    def states(self, proofs: list[WalletProof]) -> set[ProofState]:
        """The states of proofs, as the mint sees them."""
        return {entry.state for entry in self.client.check_state(proof.y for proof in proofs)}

    # --- proofs -------------------------------------------------------------------------------------------------

    def _outputs(self, amount: int) -> list[Output]:
        outputs = make_outputs(self._keyset, self._keyset.split(amount))
        self._confidential.update(output.secret for output in outputs)
        return outputs

    def _take(self, amount: int) -> list[WalletProof]:
        chosen = select(self.proofs, amount, self._keysets)
        self.proofs = [proof for proof in self.proofs if proof not in chosen]
        return chosen

    def _add(self, proofs: list[WalletProof]) -> None:
        self.proofs = self.proofs + proofs

    def _fee(self, proofs: list[WalletProof]) -> int:
        return -(-sum(self._keysets[proof.id].input_fee_ppk for proof in proofs) // 1000)


def funded_purse(mint: Mint, network: Network, amount: int = 10_000) -> Purse:
    """A new purse of the mint, with ecash for which the hub has paid."""
    purse = Purse(mint)
    purse.fund(amount, network.hub.pay)
    return purse
