"""The wallet: what one can do with ecash of one mint and one unit.

Amounts are integers in the minor unit of `unit`. Everything that moves value is first written to the wallet's
file (see `journal`), so the process may be killed at any point; the next call finishes what was left open.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from contrib.wallet import bolt11, bolt12, restore, tokens
from contrib.wallet.client import MintClient, normal_url
from contrib.wallet.errors import MintError, MintUnreachableError, ProtocolError, TokenError, WalletError
from contrib.wallet.journal import Journal
from contrib.wallet.keyring import Keyring
from contrib.wallet.keysets import fee
from contrib.wallet.outputs import blank_output_count
from contrib.wallet.proofs import WalletProof
from contrib.wallet.seed import Seed, check_words, new_words
from contrib.wallet.selection import select, select_exact, token_amounts
from contrib.wallet.store import MAX_STORED_AMOUNT, MintQuote, Operation, OperationKind, PlannedOutput, Store
from ledger import models
from ledger.errors import Code
from ledger.methods import BOLT11, BOLT12
from ledger.models import MeltQuoteState, MintQuoteState, ProofState

log = logging.getLogger(__name__)

POLL_FIRST_S = 0.2
POLL_GROWTH = 1.5
POLL_MAX_S = 3.0
"""Waiting asks at once, then less and less often, up to this."""
MANY_PROOFS = 100
"""From this many proofs on the mint's limit for arrays is asked for before choosing among them."""
_KEYSET_CODES = {Code.KEYSET_UNKNOWN, Code.KEYSET_INACTIVE, Code.KEYSET_EXPIRED}
_MSAT_PER_UNIT = {"sat": 1000, "msat": 1}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Balance:
    """What the wallet's proofs add up to: free to spend, in use by something unfinished, in tokens not yet spent."""

    available: int
    pending: int
    sent: int


class Wallet:
    """Ecash of one mint and unit, kept in one file. Errors are `WalletError`s; see each method for more."""

    def __init__(
        self,
        mint_url: str,
        path: str | Path = ":memory:",
        unit: str = "sat",
        words: str | None = None,
        *,
        client: MintClient | None = None,
        store: Store | None = None,
    ) -> None:
        """Open the wallet file, creating it with `words` or fresh ones. Asks the mint nothing yet.

        Raises WalletError if the file cannot be opened, or holds other words than `words`.
        """
        self.client = client or MintClient(mint_url)
        self.mint_url = self.client.url
        self.unit = unit
        self._owns_store = store is None
        self.store = store or Store(path)
        self.seed = _seed_of(self.store, words)
        self.keyring = Keyring(self.client, self.store)
        self.journal = Journal(self.store, self.client, self.keyring, self.seed)
        self._info: dict[str, Any] | None = None

    def close(self) -> None:
        """Close connections and the file."""
        self.journal.close()
        self.client.close()
        if self._owns_store:
            self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def to_msat(self, amount: int) -> int:
        """An amount of the wallet's unit in millisatoshis. Raises WalletError for units that have no fixed price."""
        if self.unit not in _MSAT_PER_UNIT:
            raise WalletError(f"what {amount} {self.unit} are in msat is the mint's affair: say the amount in msat")
        return amount * _MSAT_PER_UNIT[self.unit]

    # --- looking ------------------------------------------------------------------------------------------------

    @property
    def words(self) -> str:
        """The BIP-39 words from which all secrets follow."""
        return self.seed.words

    def info(self) -> dict[str, Any]:
        """The mint's description of itself (NUT-06), asked for once."""
        if self._info is None:
            self._info = self.client.info()
        return self._info

    def balance(self) -> int:
        """What can be spent now, before fees."""
        return self.store.balance(self.mint_url, self.unit, "unspent")

    def balances(self) -> Balance:
        """The balance with what is not free at the moment."""
        busy = [self.store.balance(self.mint_url, self.unit, state) for state in ("reserved", "pending")]
        return Balance(self.balance(), sum(busy), self.store.balance(self.mint_url, self.unit, "sent"))

    def proofs(self) -> list[WalletProof]:
        """The proofs that can be spent now, smallest first."""
        return self.store.proofs(self.mint_url, self.unit, "unspent")

    def pending(self) -> list[Operation]:
        """What is unfinished, as the file has it; `check_pending` asks the mint."""
        return self.store.unfinished(self.mint_url, self.unit)

    def recover(self) -> list[Operation]:
        """Finish or roll back what an earlier process left open. What cannot be settled now is left for later."""
        return self._resolve_all([op for op in self.pending() if op.state == "open"])

    def check_pending(self) -> list[Operation]:
        """Look up everything unfinished at the mint and finish what is decided; returns it in its new state.

        Raises MintUnreachableError if the mint cannot be asked at all.
        """
        unfinished = self.pending()
        stray = self.store.proofs(self.mint_url, self.unit, "pending")
        if unfinished or stray:
            self.client.keysets()  # so that a dead mint is one error here and not one for each of them
        states = self.journal.check_states(stray) if stray else {}
        with self.store.transaction():
            for secret, state in states.items():
                if state != ProofState.PENDING:
                    self.store.set_proof(secret, "spent" if state == ProofState.SPENT else "unspent")
        return self._resolve_all(unfinished)

    def _resolve_all(self, operations: Sequence[Operation]) -> list[Operation]:
        for operation in operations:
            if self.journal.is_in_other_hands(operation):
                continue
            try:
                self.journal.resolve(operation.id)
            except WalletError as error:
                # One that cannot be settled must not be in the way of all others.
                log.warning("%s of %d %s is still open: %s", operation.kind, operation.amount, operation.unit, error)
        return [self.store.operation(operation.id) for operation in operations]

    # --- mint ---------------------------------------------------------------------------------------------------

    def request_mint(
        self, amount: int, description: str | None = None, *, lock: bool | None = None
    ) -> models.MintQuoteBolt11:
        """Ask for an invoice over `amount`. `lock` ties the quote to a key of this wallet (NUT-20), by default
        whenever the mint offers that.

        Raises MintError, and ProtocolError if the invoice is not over that amount.
        """
        _check_amount(amount)
        if lock is None:
            lock = self._mint_supports("20")
        index, pubkey = self._new_quote_key() if lock else (None, None)
        quote = self.client.request_mint_quote(amount, self.unit, description=description, pubkey=pubkey)
        if quote.unit != self.unit or quote.amount != amount:
            raise ProtocolError(f"the mint quoted {quote.amount} {quote.unit} instead of {amount} {self.unit}")
        if lock and quote.pubkey != pubkey:
            raise ProtocolError("the mint did not lock the quote to the key that was sent (NUT-20)")
        self._check_mint_invoice(quote.request, amount)
        with self.store.transaction():
            self.store.put_mint_quote(self.mint_url, quote, index)
        return quote

    def _new_quote_key(self) -> tuple[int, str]:
        with self.store.transaction():
            index = self.store.next_quote_key()
        return index, self.seed.quote_key(index).public_key.format().hex()

    def request_offer(self, amount: int | None = None, description: str | None = None) -> models.MintQuoteBolt12:
        """Ask for an offer, which can be paid again and again; without `amount` its payers say how much. The quote is
        tied to a key of this wallet (NUT-20, 25).

        Raises MintError, and ProtocolError if the offer is not over that amount.
        """
        if amount is not None:
            _check_amount(amount)
        index, pubkey = self._new_quote_key()
        quote = self.client.request_mint_offer(amount, self.unit, description=description, pubkey=pubkey)
        if (quote.unit, quote.amount, quote.pubkey) != (self.unit, amount, pubkey):
            raise ProtocolError("the mint's quote is not for the amount, unit or key that were sent")
        offer = bolt12.decode(quote.request)
        if self.unit in _MSAT_PER_UNIT and offer.amount_msat != (None if amount is None else self.to_msat(amount)):
            raise ProtocolError(f"the mint's offer is over {offer.amount_msat} msat, not {amount} {self.unit}")
        with self.store.transaction():
            self.store.put_mint_quote(self.mint_url, quote, index)
        return quote

    def _check_mint_invoice(self, request: str, amount: int) -> None:
        invoice = bolt11.decode(request)
        if self.unit in _MSAT_PER_UNIT and invoice.amount_msat != amount * _MSAT_PER_UNIT[self.unit]:
            raise ProtocolError(f"the mint's invoice is over {invoice.amount_msat} msat, not {amount} {self.unit}")

    def mint_quote(self, quote_id: str) -> models.MintQuoteBolt11:
        """The mint's present view of a mint quote."""
        quote = self.client.mint_quote(quote_id)
        with self.store.transaction():
            self.store.put_mint_quote(self.mint_url, quote)
        return quote

    def offer(self, quote_id: str) -> models.MintQuoteBolt12:
        """The mint's present view of a mint quote for an offer."""
        quote = self.client.mint_offer(quote_id)
        with self.store.transaction():
            self.store.put_mint_quote(self.mint_url, quote)
        return quote

    def _look(self, quote_id: str) -> MintQuote:
        """The mint's present view of a mint quote of any kind."""
        known = self.store.mint_quote(self.mint_url, quote_id)
        return self.offer(quote_id) if known is not None and known.method == BOLT12 else self.mint_quote(quote_id)

    def wait_offer(
        self,
        quote_id: str,
        timeout: float,
        progress: Callable[[models.MintQuoteBolt12], None] | None = None,
    ) -> models.MintQuoteBolt12:
        """Ask until more is paid than issued, or `timeout` seconds are over; returns the quote as it is then.

        `progress` is called with every answer.
        """
        ask = _telling(lambda: self.offer(quote_id), progress)
        return _poll(ask, lambda quote: quote.amount_paid > quote.amount_issued, timeout)

    def wait_mint(
        self,
        quote_id: str,
        timeout: float,
        progress: Callable[[models.MintQuoteBolt11], None] | None = None,
    ) -> models.MintQuoteBolt11:
        """Ask until the quote is paid, or `timeout` seconds are over; returns it as it is then.

        `progress` is called with every answer.
        """
        ask = _telling(lambda: self.mint_quote(quote_id), progress)
        return _poll(ask, lambda quote: quote.state != MintQuoteState.UNPAID, timeout)

    def mint(self, quote_id: str, amount: int | None = None) -> list[WalletProof]:
        """Issue for a paid quote: `amount`, or all that has been paid and not been issued.

        Raises MintError (20001 not paid, 20002 issued before). If an earlier attempt was cut off, its proofs are
        returned.
        """
        interrupted = self._attempts(quote_id, "mint", "open")
        self.recover()
        for operation in interrupted:
            if self.store.operation(operation.id).state == "done":
                return self.journal.signed_outputs(self.journal.outputs(operation.id))
        quote = self._look(quote_id)
        if quote.unit != self.unit:
            raise WalletError(f"quote {quote_id} is in {quote.unit}: use --unit {quote.unit}")
        wanted = amount or quote.amount_paid - quote.amount_issued or quote.amount or 0
        if quote.method == BOLT12 and not wanted:
            raise WalletError("nothing has been paid for this offer that was not issued already")
        _check_amount(wanted)

        proofs = self.issue(quote_id, wanted)
        self._note_issued(quote_id)
        return proofs

    def issue(self, quote_id: str, amount: int) -> list[WalletProof]:
        """Issue this amount for a quote, whatever its method. Raises MintError."""

        def begin() -> int:
            keyset = self.keyring.active(self.unit)
            outputs = [PlannedOutput(keyset.id, part) for part in keyset.split(amount)]
            with self.store.transaction():
                return self._add("mint", amount, outputs, quote=quote_id)

        return self._with_fresh_keysets(begin, self.journal.run_mint)

    def mint_all(self) -> dict[str, int]:
        """Issue for every quote of this wallet that is paid; returns the amounts by quote."""
        self.recover()
        issued = {}
        for quote in self.store.mint_quotes(self.mint_url):
            is_over = isinstance(quote, models.MintQuoteBolt11) and quote.state == MintQuoteState.ISSUED
            if quote.unit == self.unit and not is_over:
                now = self._look(quote.quote)
                if now.amount_paid > now.amount_issued:
                    issued[quote.quote] = sum(proof.amount for proof in self.mint(quote.quote))
        return issued

    def _note_issued(self, quote_id: str) -> None:
        try:
            self._look(quote_id)
        except WalletError as error:  # the proofs are here; the list of quotes may be out of date
            log.info("mint quote not refreshed: %s", error)

    # --- swap ---------------------------------------------------------------------------------------------------

    def split(self, amounts: Sequence[int]) -> list[WalletProof]:
        """Swap for proofs of exactly `amounts`, in ascending order; they stay in the wallet, as does the rest.

        Raises ProtocolError if the mint has no key for one of them, NotEnoughFundsError, MintError.
        """
        for amount in amounts:
            _check_amount(amount)
        self.recover()
        total = sum(amounts)

        def begin() -> int:
            return self._begin_swap(total, self._choose(total), list(amounts))

        operation, made = self._swap(begin)
        wanted = self._secrets_for_send(operation)
        return sorted((p for p in made if p.secret in wanted), key=lambda p: p.amount)

    def swap(self, proofs: Sequence[WalletProof] | None = None) -> list[WalletProof]:
        """Swap `proofs` of this wallet for fresh ones; returns them. Without `proofs` it takes all that can be spent,
        or the smallest ones if they are more than the mint accepts at once.

        Raises WalletError if one of `proofs` cannot be spent, MintError.
        """
        self.recover()
        max_inputs = self._max_array_length()

        def choose(unspent: list[WalletProof]) -> list[WalletProof]:
            if proofs is None:
                return unspent[:max_inputs]
            wanted = {proof.secret for proof in proofs}
            chosen = [proof for proof in unspent if proof.secret in wanted]
            if len(chosen) != len(wanted):
                raise WalletError("some of these proofs are not free to be spent")
            return chosen

        return self._swap(lambda: self._begin_swap(0, choose, []))[1]

    def _swap(
        self, begin: Callable[[], int], finish: Callable[[int, list[WalletProof]], None] | None = None
    ) -> tuple[int, list[WalletProof]]:
        def run(operation: int) -> tuple[int, list[WalletProof]]:
            booked = None if finish is None else lambda made: finish(operation, made)
            return operation, self.journal.run_swap(operation, booked)

        return self._with_fresh_keysets(begin, run)

    def _begin_swap(
        self,
        amount: int,
        choose: Callable[[list[WalletProof]], list[WalletProof]],
        set_apart: list[int],
    ) -> int:
        keyset = self.keyring.active(self.unit)
        for part in set_apart:
            keyset.key(part)
        with self.store.transaction():
            inputs = choose(self._spendable())
            rest = sum(proof.amount for proof in inputs) - fee(inputs, self.keyring.known) - sum(set_apart)
            if not inputs or rest < 0 or rest + sum(set_apart) == 0:
                raise WalletError("there is nothing to swap, or the fee would be all of it")
            outputs = [PlannedOutput(keyset.id, part, for_send=True) for part in set_apart]
            outputs += [PlannedOutput(keyset.id, part) for part in keyset.split(rest)]
            operation = self._add("swap", amount or rest, _ascending(outputs))
            self.store.reserve(operation, inputs)
        return operation

    def _choose(self, target: int) -> Callable[[list[WalletProof]], list[WalletProof]]:
        max_inputs = self._max_array_length()
        return lambda unspent: select(unspent, target, self.keyring.known, max_inputs=max_inputs)

    def _secrets_for_send(self, operation: int) -> set[str]:
        planned = self.store.outputs(operation)
        made = self.journal.outputs(operation)
        return {output.secret for output, plan in zip(made, planned, strict=True) if plan.for_send}

    # --- send and receive ---------------------------------------------------------------------------------------

    def send(self, amount: int, *, include_fees: bool = False, memo: str | None = None) -> str:
        """A `cashuB` token over `amount`; with `include_fees` the receiver gets `amount` after the fee for it.

        Swaps if there are no proofs of that sum. The token is kept in the file until it is spent.
        Raises NotEnoughFundsError, MintError.
        """
        _check_amount(amount)
        self.recover()
        with self.store.transaction():
            exact = select_exact(self._spendable(), amount, self.keyring.known, include_fees=include_fees)
            if exact is not None:
                return self._hand_out(amount, exact, memo)

        def begin() -> int:
            amounts = token_amounts(amount, self.keyring.active(self.unit), include_fees=include_fees)
            return self._begin_swap(amount, self._choose(sum(amounts)), amounts)

        handed: list[str] = []

        def finish(operation: int, made: list[WalletProof]) -> None:
            wanted = self._secrets_for_send(operation)
            handed.append(self._hand_out(amount, [p for p in made if p.secret in wanted], memo))

        self._swap(begin, finish)
        return handed[0]

    def _hand_out(self, amount: int, proofs: list[WalletProof], memo: str | None) -> str:
        text = tokens.encode(tokens.Token(self.mint_url, self.unit, tuple(proofs), memo))
        operation = self.store.add_operation("send", self.mint_url, self.unit, amount, state="sent", token=text)
        for proof in proofs:
            if self.store.proof_state(proof.secret) != ("unspent", None):
                raise WalletError("another process took the proofs that were meant for this token: try again")
            self.store.set_proof(proof.secret, "sent", operation)
        return text

    def receive(self, token: str | tokens.Token, *, trust: bool = False) -> int:
        """Swap a token's proofs for fresh ones; returns what came in, after the fee.

        A token of another mint is refused unless `trust`; it then becomes a balance at that mint, in the same
        file. Raises TokenError (unreadable, other mint or unit, forged, here already), MintError (11001 spent).
        """
        if isinstance(token, str):
            token = tokens.decode(token)
        if normal_url(token.mint) != self.mint_url:
            if not trust:
                raise TokenError(f"the token is of another mint, {token.mint}: receive it with --trust, or not at all")
            with Wallet(token.mint, unit=self.unit, store=self.store) as other:
                return other.receive(token)
        if token.unit != self.unit:
            raise TokenError(f"the token is in {token.unit}, the wallet in {self.unit}: use --unit {token.unit}")
        self.recover()
        proofs = self._genuine(token)
        step = self._max_array_length(len(proofs))
        return sum(self._receive_part(proofs[start : start + step]) for start in range(0, len(proofs), step))

    def reclaim(self, operation: int) -> int:
        """Take back a token that nobody has spent; returns what came back, after the fee.

        Raises MintError (11001) if it was spent in the meantime.
        """
        self.sent_token(operation)
        return self._receive_part(self.store.proofs_of(operation, "sent"))

    def sent_token(self, operation: int) -> str:
        """The token of a send that nobody has spent yet. Raises WalletError for any other number."""
        entry = next((op for op in self.pending() if op.id == operation and op.state == "sent"), None)
        if entry is None or entry.token is None:
            raise WalletError(f"there is no sent token with the number {operation}: see `pending`")
        return entry.token

    def _genuine(self, token: tokens.Token) -> list[WalletProof]:
        """The token's proofs with full keyset ids, as far as they can be checked without the mint (NUT-12)."""
        ids = self.keyring.resolve(proof.id for proof in token.proofs)
        keysets = self.keyring.load(ids.values())
        proofs = [proof.model_copy(update={"id": ids[proof.id]}) for proof in token.proofs]
        for proof in proofs:
            keyset = keysets[proof.id]
            if keyset.unit != token.unit:
                raise TokenError(f"the token says {token.unit}, but its keyset {keyset.id} is in {keyset.unit}")
            if proof.dleq is not None and not proof.dleq_is_valid(keyset.key(proof.amount)):
                raise TokenError(f"the token is forged: the DLEQ of its proof of {proof.amount} does not verify")
            here = self.store.proof_state(proof.secret)
            if here is not None and here[0] != "sent":
                raise TokenError(f"the token is known already: one of its proofs is {here[0]} in this wallet")
        return proofs

    def _receive_part(self, proofs: Sequence[WalletProof]) -> int:
        own_fee = fee(proofs, self.keyring.load(proof.id for proof in proofs))
        amount = sum(proof.amount for proof in proofs) - own_fee
        if amount <= 0:
            raise TokenError(f"the token is worth nothing: swapping it costs {own_fee} {self.unit}")

        def begin() -> int:
            keyset = self.keyring.active(self.unit)
            outputs = [PlannedOutput(keyset.id, part) for part in keyset.split(amount)]
            with self.store.transaction():
                operation = self._add("receive", amount, outputs)
                self.store.reserve(operation, proofs, own=False)
            return operation

        return sum(proof.amount for proof in self._swap(begin)[1])

    # --- melt ---------------------------------------------------------------------------------------------------

    def melt_quote(self, invoice: str, *, amount_msat: int | None = None) -> models.MeltQuoteLightning:
        """Ask what paying `invoice` costs, or an offer; `amount_msat` for one that names no amount.

        Raises InvoiceError, MintError, and ProtocolError if the quote is not for what the invoice says.
        """
        request, method, named_msat = _read_request(invoice)
        if named_msat is None and amount_msat is None:
            raise WalletError("the invoice or offer names no amount: say how much to pay")
        quote = self.client.request_melt_quote(request, self.unit, amount_msat=amount_msat, method=method)
        if bolt12.plain(quote.request) != bolt12.plain(request) or quote.unit != self.unit:
            raise ProtocolError("the mint's melt quote is for another invoice or unit")
        due_msat = named_msat or amount_msat or 0
        if self.unit in _MSAT_PER_UNIT and quote.amount != -(-due_msat // _MSAT_PER_UNIT[self.unit]):
            raise ProtocolError(f"the mint asks for {quote.amount} {self.unit} to pay an invoice over {due_msat} msat")
        with self.store.transaction():
            self.store.put_melt_quote(self.mint_url, quote)
        return quote

    def melt(
        self,
        quote_or_invoice: str | models.MeltQuoteLightning,
        prefer_async: bool = False,
        *,
        amount_msat: int | None = None,
        timeout: float | None = None,
    ) -> models.MeltQuoteLightning:
        """Pay. Returns the quote: PAID, or PENDING if the mint has taken it on and is still paying.

        What this wallet is paying or has paid already, quote or invoice, is not paid again: its state is returned. (An
        offer is: a new quote is asked for each time.)
        `timeout` (seconds) bounds the wait for a synchronous answer; after it, too, the quote may be PENDING.
        Raises MintError if it was refused or failed (20004), NotEnoughFundsError, and MintUnreachableError if the
        outcome is not known: `check_melt` will tell.
        """
        self.recover()
        quote = self.quote_to_pay(quote_or_invoice, amount_msat=amount_msat)
        if self._attempts(quote.quote, "melt", "open", "pending", "done"):
            quote = self.check_melt(quote.quote)
            if quote.state != MeltQuoteState.UNPAID:
                return quote

        def run(operation: int) -> models.MeltQuoteLightning:
            return self.journal.run_melt(operation, prefer_async=prefer_async, timeout_s=timeout)

        return self._with_fresh_keysets(lambda: self._begin_melt(quote), run)

    def quote_to_pay(
        self, quote_or_invoice: str | models.MeltQuoteLightning, *, amount_msat: int | None = None
    ) -> models.MeltQuoteLightning:
        """The melt quote that `melt` would use: a known one, or a new one for an invoice or offer. Raises as
        `melt_quote`."""
        if isinstance(quote_or_invoice, models.MeltQuoteLightning):
            quote_or_invoice = quote_or_invoice.quote
        elif bolt11.looks_like_invoice(quote_or_invoice):
            request = bolt11.plain(quote_or_invoice)
            for known in self.store.melt_quotes(self.mint_url):
                if known.request == request and self._attempts(known.quote, "melt", "open", "pending", "done"):
                    return known
            return self.melt_quote(request, amount_msat=amount_msat)
        elif bolt12.looks_like_offer(quote_or_invoice):
            return self.melt_quote(quote_or_invoice, amount_msat=amount_msat)
        quote = self.store.melt_quote(self.mint_url, quote_or_invoice)
        if quote is None:
            raise WalletError(
                f"{quote_or_invoice!r} is neither an invoice, nor an offer, nor a melt quote of this wallet"
            )
        return quote

    def _begin_melt(self, quote: models.MeltQuoteLightning) -> int:
        keyset = self.keyring.active(self.unit)
        choose = self._choose(quote.amount + quote.fee_reserve)
        with self.store.transaction():
            inputs = choose(self._spendable())
            overpaid = sum(proof.amount for proof in inputs) - fee(inputs, self.keyring.known) - quote.amount
            blank = [PlannedOutput(keyset.id, 0)] * blank_output_count(overpaid)
            operation = self._add("melt", quote.amount, blank, quote=quote.quote)
            self.store.reserve(operation, inputs)
        return operation

    def melt_cost(self, quote_id: str) -> int | None:
        """What a paid melt cost in all: amount, routing and input fees. None if this wallet has not paid it."""
        done = self._attempts(quote_id, "melt", "done")
        return done[0].cost if done else None

    def preimage_is_valid(self, quote: models.MeltQuoteLightning) -> bool | None:
        """Whether the quote carries the proof that its invoice was paid. None for an offer: the mint has fetched an
        invoice for it, and the wallet has never seen that."""
        if quote.method == BOLT12:
            return None
        return bolt11.decode(quote.request).is_paid_by(quote.payment_preimage or "")

    def check_melt(self, quote_id: str) -> models.MeltQuoteLightning:
        """The mint's present view of a melt quote. If it is decided, the wallet is brought up to date: change is
        collected when PAID, the proofs are free again when UNPAID (`error` then says why, if the mint does)."""
        attempts = self.store.operations_of_quote(self.mint_url, quote_id, "melt")
        if attempts and attempts[0].state in ("open", "pending"):
            self.journal.resolve(attempts[0].id)
            quote = self.store.melt_quote(self.mint_url, quote_id)
            assert quote is not None
            return quote
        known = self.store.melt_quote(self.mint_url, quote_id)
        quote = self.client.melt_quote(quote_id, method=BOLT11 if known is None else known.method)
        with self.store.transaction():
            self.store.put_melt_quote(self.mint_url, quote)
        if attempts and attempts[0].state == "failed" and quote.state == MeltQuoteState.PAID:
            self.journal.resolve(attempts[0].id)
        return quote

    def wait_melt(
        self,
        quote_id: str,
        timeout: float,
        progress: Callable[[models.MeltQuoteLightning], None] | None = None,
    ) -> models.MeltQuoteLightning:
        """Ask until a melt is decided, or `timeout` seconds are over; returns the quote as it is then.

        `progress` is called with every answer.
        """
        ask = _telling(lambda: self.check_melt(quote_id), progress)
        return _poll(ask, lambda quote: quote.state != MeltQuoteState.PENDING, timeout)

    # --- restore ------------------------------------------------------------------------------------------------

    def restore(self) -> restore.Restored:
        """Bring back from the words whatever this mint has ever signed for them and is unspent (NUT-09, 13)."""
        return restore.restore(self.client, self.store, self.keyring, self.journal, self.seed, self.unit)

    # --- helpers ------------------------------------------------------------------------------------------------

    def _add(self, kind: OperationKind, amount: int, outputs: Sequence[PlannedOutput], quote: str | None = None) -> int:
        return self.store.add_operation(
            kind, self.mint_url, self.unit, amount, quote=quote, owner=self.journal.owner, outputs=outputs
        )

    def _attempts(self, quote_id: str, kind: OperationKind, *states: str) -> list[Operation]:
        found = self.store.operations_of_quote(self.mint_url, quote_id, kind)
        return [operation for operation in found if operation.state in states]

    def _with_fresh_keysets(self, begin: Callable[[], int], run: Callable[[int], T]) -> T:
        """Do it, and once more if the mint has changed its keysets in the meantime."""
        try:
            return run(begin())
        except MintError as error:
            if error.code not in _KEYSET_CODES:
                raise
        self.keyring.expire()
        return run(begin())

    def _mint_supports(self, nut: str) -> bool:
        nuts = self.info().get("nuts")
        setting = nuts.get(nut) if isinstance(nuts, dict) else None
        return isinstance(setting, dict) and setting.get("supported") is True

    def _spendable(self) -> list[WalletProof]:
        """Unspent proofs that the mint has to accept: it may refuse those of expired keysets (NUT-02)."""
        proofs, now = self.proofs(), time.time()
        if any(proof.id not in self.keyring.known for proof in proofs):
            self.keyring.reload()  # another process has brought them
        expired = {k.id for k in self.keyring.known.values() if k.final_expiry and k.final_expiry <= now}
        return [proof for proof in proofs if proof.id not in expired]

    def _max_array_length(self, count: int | None = None) -> int:
        if (len(self.proofs()) if count is None else count) < MANY_PROOFS:
            return models.MAX_ARRAY_LENGTH
        limit = self.info().get("max_array_length")
        return limit if isinstance(limit, int) and limit > 0 else models.MAX_ARRAY_LENGTH


def _seed_of(store: Store, words: str | None) -> Seed:
    wanted = None if words is None else check_words(words)
    with store.transaction():
        kept = store.meta("words")
        if kept is None:
            kept = wanted or new_words()
            store.set_meta("words", kept)
    if wanted not in (None, kept):
        raise WalletError(f"the wallet file {store.path} belongs to other words: use another file for these")
    return Seed(kept)


def _check_amount(amount: int) -> None:
    if type(amount) is not int or not 0 < amount <= MAX_STORED_AMOUNT:
        raise WalletError(f"{amount!r} is not an amount: a whole number from 1 to {MAX_STORED_AMOUNT} is")


def _read_request(text: str) -> tuple[str, str, int | None]:
    """What to send to the mint, the method, and the amount (msat) that an invoice or offer names."""
    if bolt12.looks_like_name(text):
        return text.strip(), BOLT12, None
    if bolt12.looks_like_offer(text):
        return bolt12.plain(text), BOLT12, bolt12.decode(text).amount_msat
    return bolt11.plain(text), BOLT11, bolt11.decode(text).amount_msat


def _ascending(outputs: list[PlannedOutput]) -> list[PlannedOutput]:
    # So that their order does not tell the mint which ones are sent on (NUT-03).
    return sorted(outputs, key=lambda output: output.amount)


def _telling(ask: Callable[[], T], progress: Callable[[T], None] | None) -> Callable[[], T]:
    def ask_and_tell() -> T:
        answer = ask()
        if progress is not None:
            progress(answer)
        return answer

    return ask_and_tell


def _poll(ask: Callable[[], T], is_final: Callable[[T], bool], timeout_s: float) -> T:
    """Ask until the answer is final or the time is over. A mint that is away for a while is waited for as well."""
    deadline = time.monotonic() + timeout_s
    pause_s = POLL_FIRST_S
    while True:
        left_s = deadline - time.monotonic()
        try:
            answer = ask()
        except MintUnreachableError:
            if left_s <= 0:
                raise
        else:
            if is_final(answer) or left_s <= 0:
                return answer
        time.sleep(max(min(pause_s, left_s), 0))
        pause_s = min(pause_s * POLL_GROWTH, POLL_MAX_S)
