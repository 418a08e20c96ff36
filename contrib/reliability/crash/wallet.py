"""The model wallet: all ecash of a mint is in it, and whatever it is not answered it asks again, word for word."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from coincurve import PrivateKey

from contrib.reliability.crash.world import PATIENCE_S, TICK_S, CommandFailedError, World
from contrib.wallet import (
    MintError,
    MintUnreachableError,
    Output,
    WalletProof,
    make_outputs,
    messages,
    onchain_client,
    quote_lock,
    unblind,
    unblind_change,
)
from contrib.wallet.keysets import Keyset
from contrib.wallet.selection import select
from ledger.errors import Code
from ledger.models import (
    BlindedMessage,
    BlindSignature,
    MeltQuote,
    MeltQuoteLightning,
    MeltQuoteOnchain,
    MeltQuoteState,
    ProofState,
    SignaturesResponse,
)

BLANKS = 24
STOCK_SAT = 200_000
LEAST_STOCK_SAT = 50_000
MOST_PROOFS = 150
"""With more it puts them together."""
MOST_ATTEMPTS = 3
"""Of a melt that is given back because it was not sent."""
KEY = PrivateKey(b"\x21" * 32)
PUBKEY = KEY.public_key.format().hex()

T = TypeVar("T")
Quote = TypeVar("Quote", bound=MeltQuote)
Request = Callable[[], list[BlindSignature]]
"""One that can be sent again as it is."""


@dataclass
class Payments:
    """What a flow has paid: each request, and whether its melt says that it was."""

    decided: dict[str, bool] = field(default_factory=dict)
    foreign_msat: int = 0
    """What the node was paid for invoices that are not the mint's."""
    lost_msat: int = 0
    """What left the node for payments that the operator had given up."""


class ModelWallet:
    """Unit sat. Raises AssertionError when the mint is not what it must be."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.client = world.new_client()
        self.proofs: list[WalletProof] = []
        self.spent: list[WalletProof] = []
        """Since the last `forget`."""
        self.payments = Payments()
        self.load_keysets()

    @property
    def balance(self) -> int:
        """The proofs' sum."""
        return sum(proof.amount for proof in self.proofs)

    def load_keysets(self) -> None:
        """Ask for the keysets."""
        infos = self.ask(self.client.keysets)
        self.keysets = {info.id: Keyset.from_wire(self.ask(lambda i=info.id: self.client.keys(i))[0]) for info in infos}  # type: ignore[misc]
        (self.keyset,) = (keyset for keyset in self.keysets.values() if keyset.active)

    # --- asking -----------------------------------------------------------------------------------------------------

    def ask(self, request: Callable[[], T]) -> T:
        """Send a request until it is answered. A mint that is dead is revived. Raises MintError."""
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                return request()
            except (MintUnreachableError, CommandFailedError) as error:
                lost = error
            if self.world.has_died():
                self.world.revive()
                end = time.monotonic() + PATIENCE_S
            assert time.monotonic() < end, f"no answer: {lost}"
            time.sleep(TICK_S)

    def wait(self, ask: Callable[[], T], what: str) -> T:
        """Ask until the answer is true."""
        end = time.monotonic() + PATIENCE_S
        while not (answer := self.ask(ask)):
            assert time.monotonic() < end, f"{what}: not within {PATIENCE_S:.0f} s"
            time.sleep(TICK_S)
        return answer

    # --- getting ecash ----------------------------------------------------------------------------------------------

    def stock_up(self) -> None:
        """Have enough for a flow, in few proofs."""
        if self.balance < LEAST_STOCK_SAT:
            quote = self.ask(lambda: self.client.request_mint_quote(STOCK_SAT))
            self.world.pay(quote.request)
            self.wait_paid("bolt11", quote.quote, STOCK_SAT)
            self.issue("bolt11", quote.quote, STOCK_SAT)
        elif len(self.proofs) > MOST_PROOFS:
            self.swap(self.proofs)

    def wait_paid(self, method: str, quote_id: str, amount: int) -> None:
        """Wait until a mint quote is credited, with just this."""

        def paid() -> int:
            if method == "bolt12":
                return self.client.mint_offer(quote_id).amount_paid
            if method == "onchain":
                return onchain_client.mint_quote(self.client, quote_id).amount_paid
            return self.client.mint_quote(quote_id).amount_paid

        found = self.wait(paid, f"a {method} quote to be credited")
        assert found == amount, f"{amount} was paid, {found} was credited"

    def issue(self, method: str, quote_id: str, amount: int, *, locked: bool = False) -> None:
        """Have ecash issued for a paid quote; a second time there must be none."""

        def request(outputs: Sequence[BlindedMessage]) -> Request:
            signature = quote_lock.sign(KEY, quote_lock.message(quote_id, outputs)) if locked else None
            return lambda: self.client.mint(quote_id, outputs, signature=signature, method=method)

        self._get(amount, request)
        self._refused(request(messages(self._outputs(amount))), Code.QUOTE_ISSUED, Code.QUOTE_NOT_PAID)

    def issue_batch(self, quote_ids: Sequence[str], amount: int) -> None:
        """The same for several quotes at once (NUT-29)."""

        def request(outputs: Sequence[BlindedMessage]) -> Request:
            body = {"quotes": list(quote_ids), "outputs": [message.model_dump() for message in outputs]}
            path = "/v1/mint/bolt11/batch"
            return lambda: SignaturesResponse.model_validate(self.client.request("POST", path, body)).signatures

        self._get(amount, request)
        self._refused(request(messages(self._outputs(amount))), Code.QUOTE_ISSUED, Code.QUOTE_NOT_PAID)

    def swap(self, proofs: Sequence[WalletProof]) -> None:
        """Exchange proofs for fresh ones; a second time they must be spent."""
        inputs, amount = list(proofs), sum(proof.amount for proof in proofs)
        self._put_away(inputs)

        def request(outputs: Sequence[BlindedMessage]) -> Request:
            return lambda: self.client.swap(inputs, outputs)

        self._get(amount, request)
        self._refused(request(messages(self._outputs(amount))), Code.PROOFS_SPENT)

    def take(self, amount: int) -> list[WalletProof]:
        """Proofs worth at least this much."""
        return select(self.proofs, amount, self.keysets)

    def _put_away(self, proofs: Sequence[WalletProof]) -> None:
        gone = {proof.secret for proof in proofs}
        self.proofs = [proof for proof in self.proofs if proof.secret not in gone]
        self.spent += proofs

    def _outputs(self, amount: int) -> list[Output]:
        return make_outputs(self.keyset, self.keyset.split(amount))

    def _get(self, amount: int, make: Callable[[Sequence[BlindedMessage]], Request]) -> None:
        """Signatures on fresh outputs. The same request has the same answer (NUT-19), and so has a restore (NUT-09)."""
        outputs = self._outputs(amount)
        request = make(messages(outputs))
        signatures = self.ask(request)
        assert self.ask(request) == signatures, "an identical request got another answer"
        assert self._restored(outputs) == signatures, "a restore gives other signatures"
        self.proofs += unblind(outputs, signatures, self.keysets)

    def _restored(self, outputs: Sequence[Output]) -> list[BlindSignature]:
        return [signature for _, signature in self.ask(lambda: self.client.restore(messages(outputs)))]

    def _refused(self, request: Callable[[], object], *codes: Code) -> None:
        code = self._refusal(request)
        assert code is not None, f"the mint gave what it should have refused ({codes[0].name})"
        assert code in codes, f"refused with code {code}"

    def _refusal(self, request: Callable[[], object]) -> int | None:
        """The code of a refusal; None if there was none."""
        try:
            self.ask(request)
        except MintError as error:
            return error.code
        return None

    # --- melting ----------------------------------------------------------------------------------------------------

    def melt(
        self,
        method: str,
        quote: MeltQuoteLightning,
        payment_hash: str | None = None,
        *,
        prefer_async: bool = False,
        gives_up: bool = False,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        """Pay a quote with Lightning. If it is given back, the wallet tries again, or `gives_up`: then it spends the
        proofs otherwise. `meanwhile` is called again and again while it is pending."""
        inputs = self.take(quote.amount + quote.fee_reserve)
        blanks = make_outputs(self.keyset, [0] * BLANKS)
        wire = messages(blanks)

        def post() -> MeltQuoteLightning:
            return self.client.melt(quote.quote, inputs, wire, prefer_async=prefer_async, method=method)

        def look() -> MeltQuoteLightning:
            return self.client.melt_quote(quote.quote, method=method)

        for _ in range(1 if gives_up else MOST_ATTEMPTS):
            final = self._attempt(post, look, meanwhile)
            if final.state is MeltQuoteState.PAID:
                break
            self._check_given_back(quote.request, inputs)
        self._conclude(inputs, blanks, final)
        if final.state is MeltQuoteState.UNPAID and gives_up:
            self.swap(inputs)
        if final.state is MeltQuoteState.PAID:
            assert self.ask(post) == final, "an identical melt got another answer"
            assert final.payment_preimage is not None, "the preimage is missing"
            hashed = hashlib.sha256(bytes.fromhex(final.payment_preimage)).hexdigest()
            assert payment_hash in (None, hashed), "the preimage does not fit"

    def melt_onchain(self, quote: MeltQuoteOnchain, when_sent: Callable[[str], None] | None = None) -> None:
        """Pay a quote on the chain, whose blocks come as soon as the transaction is out, if `when_sent` does not do
        something else with its txid."""
        inputs = self.take(quote.amount + quote.fee_options[0].fee_reserve)
        blanks = make_outputs(self.keyset, [0] * BLANKS)
        wire = messages(blanks)

        def look() -> MeltQuoteOnchain:
            return onchain_client.melt_quote(self.client, quote.quote)

        def go_on() -> None:
            outpoint = self.ask(look).outpoint
            if outpoint is not None:
                self.world.mine(1) if when_sent is None else when_sent(outpoint.partition(":")[0])

        for _ in range(MOST_ATTEMPTS):
            final = self._attempt(lambda: onchain_client.melt(self.client, quote.quote, 0, inputs, wire), look, go_on)
            if final.state is MeltQuoteState.PAID:
                break
            self._check_given_back(quote.request, inputs)
        self._conclude(inputs, blanks, final)

    def _check_given_back(self, request: str, inputs: Sequence[WalletProof]) -> None:
        """UNPAID is definite: a wallet may spend the proofs otherwise at once."""
        assert self.states(inputs) == {ProofState.UNSPENT}, "a melt is UNPAID, its proofs are not free"
        assert self.world.times_paid(request) == 0, "a melt is UNPAID, but was paid"

    def _attempt(self, post: Callable[[], Quote], look: Callable[[], Quote], meanwhile: Callable[[], None]) -> Quote:
        """One attempt, followed until it is decided."""
        code = self._refusal(post)
        assert code in (None, Code.PAYMENT_FAILED), f"refused with code {code}"

        def decided() -> Quote | None:
            quote = self.ask(look)
            if quote.state is MeltQuoteState.PENDING:
                meanwhile()
                return None
            return quote

        quote = self.wait(decided, "a melt to be decided")
        assert quote is not None
        return quote

    def _conclude(self, inputs: Sequence[WalletProof], blanks: Sequence[Output], quote: MeltQuote) -> None:
        """Book a decided melt: what was paid is spent, with its change; what was not is free."""
        paid = quote.state is MeltQuoteState.PAID
        self.payments.decided[quote.request] = paid
        if not paid:
            return
        change = quote.change or []
        assert self._restored(blanks) == change, "a restore gives other change"
        self._put_away(inputs)
        self.proofs += unblind_change(blanks, change, self.keysets)

    # --- looking ----------------------------------------------------------------------------------------------------

    def states(self, proofs: Sequence[WalletProof]) -> set[ProofState]:
        """What the mint says of these proofs."""
        return {entry.state for entry in self.ask(lambda: self.client.check_state(p.y for p in proofs))}

    def forget(self) -> None:
        """What was spent and paid till now."""
        self.spent = []
        self.payments = Payments()
