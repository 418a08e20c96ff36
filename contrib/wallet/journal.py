"""Operations that move value, and how each is brought to an end whatever happened in between.

Each goes the same way: in one transaction its inputs are reserved, its outputs get counters and it is written
down; then the request is sent; then the outcome is written in one transaction. A process may die at any point
of this: `resolve` finds the outcome from what the mint knows. It may run at any time, any number of times, and
next to another process that does the same:

* outputs that the mint has signed come back by restore (NUT-09), and then the operation did happen;
* inputs tell by their state (NUT-07) whether it can still happen;
* a swap or mint that can still happen is sent again, word for word: the mint takes it once at most.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import time

from contrib.wallet import onchain_client, quote_lock
from contrib.wallet.client import MintClient
from contrib.wallet.errors import MintError, MintUnreachableError, WalletError
from contrib.wallet.keyring import Keyring
from contrib.wallet.outputs import Output, messages, unblind, unblind_change
from contrib.wallet.proofs import WalletProof
from contrib.wallet.seed import Seed
from contrib.wallet.store import Operation, Store
from ledger import methods, models
from ledger.errors import Code
from ledger.models import MeltQuoteState, ProofState

log = logging.getLogger(__name__)

RESOLVE_ROUNDS = 3
"""How often an operation is looked at in one go when its answers change in between."""
OWNER_GRACE_S = 600
"""An operation whose process still waits for the answer is left to it, but not for longer than this."""

_UNCLEAR = {
    Code.PROOFS_SPENT,
    Code.PROOFS_PENDING,
    Code.OUTPUTS_SIGNED,
    Code.OUTPUTS_PENDING,
    Code.QUOTE_ISSUED,
    Code.QUOTE_PENDING,
    Code.INVOICE_PAID,
}
"""Refusals that the same request would get if it had been carried out before."""

SendMelt = Callable[[str, Sequence[WalletProof], Sequence[models.BlindedMessage]], models.MeltQuote]
"""Sends a melt request with a quote's id, inputs and blank outputs."""

_live_owners: set[str] = set()
_live_owners_lock = threading.Lock()


class Journal:
    """Runs and resolves operations of one mint."""

    def __init__(self, store: Store, client: MintClient, keyring: Keyring, seed: Seed) -> None:
        self._store = store
        self._client = client
        self._keyring = keyring
        self._seed = seed
        self.owner = f"{os.getpid()}:{secrets.token_hex(8)}"
        with _live_owners_lock:
            _live_owners.add(self.owner)

    def close(self) -> None:
        """Nobody waits for answers here any more."""
        with _live_owners_lock:
            _live_owners.discard(self.owner)

    @contextmanager
    def _owning(self, operation: int) -> Iterator[None]:
        try:
            yield
        finally:
            with self._store.transaction():
                self._store.set_owner(operation, None)

    def is_in_other_hands(self, operation: Operation) -> bool:
        """Whether another living wallet object is waiting for the answer at this moment."""
        if operation.owner in (None, self.owner) or time() - operation.updated_at > OWNER_GRACE_S:
            return False
        assert operation.owner is not None
        pid = int(operation.owner.partition(":")[0])
        if pid == os.getpid():
            with _live_owners_lock:
                return operation.owner in _live_owners
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True

    # --- outputs ------------------------------------------------------------------------------------------------

    def outputs(self, operation: int) -> list[Output]:
        """The outputs of an operation, derived again from their counters."""
        return [
            Output.make(o.keyset, o.amount, self._seed.blinded_secret(o.keyset, o.counter))
            for o in self._store.outputs(operation)
        ]

    def signed_outputs(self, outputs: Sequence[Output]) -> list[WalletProof]:
        """Proofs for those of `outputs` that the mint has ever signed (NUT-09)."""
        if not outputs:
            return []
        found: list[WalletProof] = []
        by_point = {output.b_.hex(): output for output in outputs}
        for message, signature in self._client.restore(messages(outputs)):
            output = by_point.pop(message.B_.lower(), None)
            if output is not None:
                found += unblind([output], [signature], self._keyring.load([signature.id]))
        return found

    # --- swap and receive ---------------------------------------------------------------------------------------

    def run_swap(self, operation: int, finish: Callable[[list[WalletProof]], None] | None = None) -> list[WalletProof]:
        """Send the swap of a journal entry and write its outcome; returns the new proofs in the outputs' order.

        `finish` runs in the transaction that books them. Raises MintError if it was refused: the inputs are free
        again. Raises MintUnreachableError if the outcome is not known: the entry stays open for `resolve`.
        """
        outputs = self.outputs(operation)
        with self._owning(operation):
            try:
                proofs = self._post_swap(operation, outputs)
            except MintError as error:
                if error.code not in _UNCLEAR:
                    self._fail(operation, error)
                    raise
                proofs = self._resolved_or(operation, outputs, error)
            except MintUnreachableError as error:
                proofs = self._resolved_or(operation, outputs, error)
            self._finish(operation, proofs, finish)
            return proofs

    def _post_swap(self, operation: int, outputs: Sequence[Output]) -> list[WalletProof]:
        signatures = self._client.swap(self._store.inputs(operation), messages(outputs))
        return unblind(outputs, signatures, self._keyring.load(o.keyset_id for o in outputs))

    def _resolved_or(self, operation: int, outputs: Sequence[Output], error: WalletError) -> list[WalletProof]:
        """Proofs of an operation that turns out to have happened; otherwise raises `error`."""
        try:
            if self.resolve(operation) != "done":
                raise error
            return self.signed_outputs(outputs)
        except MintUnreachableError:
            raise error from None

    def _resolve_swap(self, operation: Operation) -> None:
        outputs = self.outputs(operation.id)
        last_error: MintError | None = None
        for _ in range(RESOLVE_ROUNDS):
            proofs = self.signed_outputs(outputs)
            if proofs:
                self._finish(operation.id, proofs)
                return
            inputs = self._store.inputs(operation.id)
            states = self._states(inputs)
            if ProofState.PENDING in states.values():
                return
            if ProofState.SPENT in states.values() or last_error is not None:
                self._settle_inputs(operation.id, states, last_error)
                return
            try:
                self._finish(operation.id, self._post_swap(operation.id, outputs))
                return
            except MintError as error:
                last_error = error

    # --- mint ---------------------------------------------------------------------------------------------------

    def run_mint(self, operation: int) -> list[WalletProof]:
        """Send the issue request of a journal entry and book the proofs. Raises as `run_swap` does."""
        outputs = self.outputs(operation)
        with self._owning(operation):
            try:
                proofs = self._post_mint(self._store.operation(operation), outputs)
            except MintError as error:
                if error.code not in _UNCLEAR:
                    self._fail(operation, error)
                    raise
                proofs = self._resolved_or(operation, outputs, error)
            except MintUnreachableError as error:
                proofs = self._resolved_or(operation, outputs, error)
            self._finish(operation, proofs)
            return proofs

    def _post_mint(self, operation: Operation, outputs: Sequence[Output]) -> list[WalletProof]:
        assert operation.quote is not None
        blinded = messages(outputs)
        method = self._store.quote_method(operation.mint, operation.quote)
        index = self._store.quote_key_index(operation.mint, operation.quote)
        if index is None:
            signatures = self._client.mint(operation.quote, blinded, method=method)
        else:
            key = self._seed.quote_key(index)
            try:
                signature = quote_lock.sign(key, quote_lock.message(operation.quote, blinded))
                signatures = self._client.mint(operation.quote, blinded, signature=signature, method=method)
            except MintError as error:
                if error.code != Code.SIGNATURE_INVALID:
                    raise
                signature = quote_lock.sign(key, quote_lock.old_message(operation.quote, blinded))
                signatures = self._client.mint(operation.quote, blinded, signature=signature, method=method)
        return unblind(outputs, signatures, self._keyring.load(o.keyset_id for o in outputs))

    def _resolve_mint(self, operation: Operation) -> None:
        outputs = self.outputs(operation.id)
        last_error: MintError | None = None
        for _ in range(RESOLVE_ROUNDS):
            proofs = self.signed_outputs(outputs)
            if proofs:
                self._finish(operation.id, proofs)
                return
            if last_error is not None:
                self._fail(operation.id, last_error)
                return
            try:
                self._finish(operation.id, self._post_mint(operation, outputs))
                return
            except MintError as error:
                last_error = error

    # --- melt ---------------------------------------------------------------------------------------------------

    def run_melt(
        self, operation: int, *, prefer_async: bool, timeout_s: float | None = None
    ) -> models.MeltQuoteLightning:
        """Send the melt of a journal entry by Lightning. As `run_melt_by`."""
        entry = self._store.operation(operation)
        assert entry.quote is not None
        method = self._store.quote_method(entry.mint, entry.quote)
        quote = self.run_melt_by(
            operation,
            lambda quote_id, inputs, blanks: self._client.melt(
                quote_id,
                inputs,
                blanks,
                prefer_async=True if prefer_async else None,
                timeout_s=timeout_s,
                method=method,
            ),
        )
        assert isinstance(quote, models.MeltQuoteLightning)
        return quote

    def run_melt_by(self, operation: int, send: SendMelt) -> models.MeltQuote:
        """Send the melt of a journal entry; returns the quote, which may be PENDING.

        Raises MintError if it was refused or the payment failed: the inputs are free again. Raises MintUnreachableError
        if the outcome is not known: the entry stays open for `resolve`.
        """
        entry = self._store.operation(operation)
        assert entry.quote is not None
        inputs, outputs = self._store.inputs(operation), self.outputs(operation)
        with self._owning(operation):
            try:
                quote = send(entry.quote, inputs, messages(outputs))
            except MintError as error:
                return self._after_refused_melt(operation, error)
            except MintUnreachableError as error:
                try:
                    self.resolve(operation)
                except MintUnreachableError:
                    raise error from None
                return self._quote_or(operation, error)
            self._store_melt_quote(entry.mint, quote)
            if quote.state == MeltQuoteState.PAID:
                self._finish_melt(operation, quote)
            elif quote.state == MeltQuoteState.PENDING:
                self._move_pending(operation)
            else:
                self.resolve(operation)
            return quote

    def _after_refused_melt(self, operation: int, error: MintError) -> models.MeltQuote:
        try:
            self.resolve(operation, error=error)
        except MintUnreachableError:
            raise error from None
        return self._quote_or(operation, error)

    def _quote_or(self, operation: int, error: WalletError) -> models.MeltQuote:
        """The quote of a melt that runs or is done after all; otherwise raises `error`."""
        entry = self._store.operation(operation)
        assert entry.quote is not None
        quote: models.MeltQuote | None = self._store.melt_quote(entry.mint, entry.quote)
        if quote is None:
            quote = self._store.onchain_melt_quote(entry.mint, entry.quote)
        if entry.state in ("pending", "done") and quote is not None:
            return quote
        raise error

    def _resolve_melt(self, operation: Operation, error: MintError | None = None) -> None:
        assert operation.quote is not None
        states: Mapping[str, ProofState] = {}
        if operation.state == "failed":
            self._reopen_melt(operation)
            return
        for _ in range(RESOLVE_ROUNDS):
            # The states first: a quote that is asked for afterwards cannot be older than they are.
            states = self._states(self._store.inputs(operation.id))
            quote = self._ask_melt_quote(operation.mint, operation.quote)
            self._store_melt_quote(operation.mint, quote)
            found = set(states.values())
            if found == {ProofState.SPENT} and quote.state == MeltQuoteState.PAID:
                self._finish_melt(operation.id, quote)
                return
            if found == {ProofState.UNSPENT} and quote.state == MeltQuoteState.UNPAID:
                self._fail(operation.id, error, quote.error)
                return
            if ProofState.PENDING in found and quote.state == MeltQuoteState.PENDING:
                self._move_pending(operation.id)
                return
            # The payment was decided between the two answers: look again.
        # Stable, but not what this melt would look like: the quote was paid, or is being paid, with other proofs.
        if ProofState.PENDING in states.values():
            self._move_pending(operation.id)
        elif quote.state == MeltQuoteState.PENDING and operation.state == "pending":
            return
        else:
            self._settle_inputs(operation.id, states, error)

    def _reopen_melt(self, operation: Operation) -> None:
        """A melt that was given up, but whose request may have reached the mint after that."""
        change = self.signed_outputs(self.outputs(operation.id))
        if change:
            self._finish(operation.id, change)

    def _ask_melt_quote(self, mint: str, quote_id: str) -> models.MeltQuote:
        method = self._store.quote_method(mint, quote_id)
        if method == methods.ONCHAIN:
            return onchain_client.melt_quote(self._client, quote_id)
        return self._client.melt_quote(quote_id, method=method)

    def _finish_melt(self, operation: int, quote: models.MeltQuote) -> None:
        outputs = self.outputs(operation)
        if quote.change:
            keysets = self._keyring.load(signature.id for signature in quote.change)
            change = unblind_change(outputs, quote.change, keysets)
        else:
            change = self.signed_outputs(outputs)
        self._finish(operation, change)

    def _move_pending(self, operation: int) -> None:
        with self._store.transaction():
            if self._store.operation(operation).state == "open":
                self._store.set_operation(operation, "pending")

    def _store_melt_quote(self, mint: str, quote: models.MeltQuote) -> None:
        with self._store.transaction():
            self._store.put_melt_quote(mint, quote)

    # --- send ---------------------------------------------------------------------------------------------------

    def _resolve_send(self, operation: Operation) -> None:
        proofs = self._store.proofs_of(operation.id, "sent")
        states = self._states(proofs)
        with self._store.transaction():
            for proof in proofs:
                here = self._store.proof_state(proof.secret)
                if states[proof.secret] == ProofState.SPENT and here == ("sent", operation.id):
                    self._store.set_proof(proof.secret, "spent", operation.id)
            self._store.close_empty_sends()

    # --- outcomes -----------------------------------------------------------------------------------------------

    def resolve(self, operation: int, *, error: MintError | None = None) -> str:
        """Find out what became of an operation and write it down; returns its state afterwards.

        Raises MintUnreachableError if the mint cannot be asked, ProtocolError if it answers nonsense: nothing is lost
        then, and it can be tried again.
        """
        entry = self._store.operation(operation)
        if entry.state in ("done", "failed") and entry.kind != "melt":
            return entry.state
        if entry.kind == "mint":
            self._resolve_mint(entry)
        elif entry.kind == "melt":
            if entry.state != "done":
                self._resolve_melt(entry, error)
        elif entry.kind == "send":
            self._resolve_send(entry)
        else:
            self._resolve_swap(entry)
        return self._store.operation(operation).state

    def check_states(self, proofs: Sequence[WalletProof]) -> Mapping[str, ProofState]:
        """The mint's view of `proofs` by secret (NUT-07)."""
        return self._states(proofs)

    def _states(self, proofs: Sequence[WalletProof]) -> dict[str, ProofState]:
        states: dict[str, ProofState] = {}
        for start in range(0, len(proofs), models.MAX_ARRAY_LENGTH):
            part = proofs[start : start + models.MAX_ARRAY_LENGTH]
            answer = self._client.check_state(proof.y for proof in part)
            states |= {proof.secret: entry.state for proof, entry in zip(part, answer, strict=True)}
        return states

    def _finish(
        self,
        operation: int,
        proofs: Iterable[WalletProof],
        finish: Callable[[list[WalletProof]], None] | None = None,
    ) -> None:
        """It happened: inputs are spent, `proofs` are here."""
        made = list(proofs)
        with self._store.transaction():
            before = self._store.operation(operation).state
            if before != "done":
                self._store.spend_inputs(operation)
                for proof in made:
                    self._store.add_proof(proof, "unspent")
                paid_in = sum(proof.amount for proof in self._store.inputs(operation))
                self._store.set_operation(operation, "done", cost=paid_in - sum(proof.amount for proof in made))
                self._store.close_empty_sends()
            if finish is not None:
                finish(made)

    def _fail(self, operation: int, error: MintError | None = None, reason: str | None = None) -> None:
        """It did not happen: inputs are free again."""
        with self._store.transaction():
            if self._store.operation(operation).state in ("open", "pending"):
                self._store.release_inputs(operation)
                text = reason or (error.detail if error else "the mint did not carry it out")
                self._store.set_operation(operation, "failed", error=text)

    def _settle_inputs(self, operation: int, states: Mapping[str, ProofState], error: MintError | None) -> None:
        """It did not happen, and some inputs are gone by another way."""
        spent = {secret for secret, state in states.items() if state == ProofState.SPENT}
        with self._store.transaction():
            if self._store.operation(operation).state not in ("open", "pending"):
                return
            self._store.spend_inputs(operation, spent)
            self._store.release_inputs(operation)
            text = error.detail if error else "the mint did not carry it out"
            if spent:
                text += f"; {len(spent)} of its proofs had been spent elsewhere"
            self._store.set_operation(operation, "failed", error=text)
            self._store.close_empty_sends()
