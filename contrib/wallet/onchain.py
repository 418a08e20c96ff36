"""What a wallet can do on the chain (NUT-30): get ecash for deposits to an address, and pay addresses.

Both take blocks, and neither needs the wallet to wait: what was begun is in its file, and is finished later."""

from __future__ import annotations

from collections.abc import Callable

from contrib.wallet import onchain_client
from contrib.wallet.errors import ProtocolError, WalletError
from contrib.wallet.keysets import fee
from contrib.wallet.outputs import blank_output_count
from contrib.wallet.proofs import WalletProof
from contrib.wallet.store import PlannedOutput
from contrib.wallet.wallet import Wallet, _check_amount, _poll, _telling
from ledger import models
from ledger.models import MeltQuoteState


class OnchainWallet:
    """A wallet's doings on the chain. Errors are those of `Wallet`."""

    def __init__(self, wallet: Wallet) -> None:
        self._wallet = wallet
        self._store = wallet.store

    # --- mint -----------------------------------------------------------------------------------------------------

    def request_mint(self) -> models.MintQuoteOnchain:
        """Ask for an address; whatever is paid to it in time, and in large enough pieces, can be issued."""
        with self._store.transaction():
            index = self._store.next_quote_key()
        pubkey = self._wallet.seed.quote_key(index).public_key.format().hex()
        quote = onchain_client.request_mint_quote(self._wallet.client, self._wallet.unit, pubkey)
        if quote.unit != self._wallet.unit:
            raise ProtocolError(f"the mint quoted in {quote.unit} instead of {self._wallet.unit}")
        if quote.pubkey != pubkey:
            raise ProtocolError("the mint did not lock the quote to the key that was sent (NUT-20)")
        with self._store.transaction():
            self._store.put_mint_quote(self._wallet.mint_url, quote, index)
        return quote

    def mint_quotes(self) -> list[models.MintQuoteOnchain]:
        """The quotes of this wallet, as they were last seen."""
        known = self._store.onchain_mint_quotes(self._wallet.mint_url)
        return [quote for quote in known if quote.unit == self._wallet.unit]

    def mint_quote(self, quote_id: str) -> models.MintQuoteOnchain:
        """The mint's present view of a mint quote."""
        quote = onchain_client.mint_quote(self._wallet.client, quote_id)
        with self._store.transaction():
            self._store.put_mint_quote(self._wallet.mint_url, quote)
        return quote

    def wait_mint(
        self,
        quote_id: str,
        timeout: float,
        progress: Callable[[models.MintQuoteOnchain], None] | None = None,
    ) -> models.MintQuoteOnchain:
        """Ask until something can be issued, or `timeout` seconds are over; returns the quote as it is then."""
        ask = _telling(lambda: self.mint_quote(quote_id), progress)
        return _poll(ask, lambda quote: quote.amount_paid > quote.amount_issued, timeout)

    def mint(self, quote_id: str) -> list[WalletProof]:
        """Issue all that has been confirmed and not been issued; nothing if there is nothing. May be repeated.

        Proofs of an earlier attempt that was cut off come first, without being returned."""
        self._wallet.recover()
        quote = self.mint_quote(quote_id)
        if quote.unit != self._wallet.unit:
            raise WalletError(f"quote {quote_id} is in {quote.unit}: use --unit {quote.unit}")
        wanted = quote.amount_paid - quote.amount_issued
        if not wanted:
            return []
        proofs = self._wallet.issue(quote_id, wanted)
        self.mint_quote(quote_id)
        return proofs

    def mint_all(self) -> dict[str, int]:
        """The same for every quote of this wallet; the amounts by quote."""
        issued = {quote.quote: sum(proof.amount for proof in self.mint(quote.quote)) for quote in self.mint_quotes()}
        return {quote_id: amount for quote_id, amount in issued.items() if amount}

    # --- melt -----------------------------------------------------------------------------------------------------

    def melt_quote(self, address: str, amount: int) -> models.MeltQuoteOnchain:
        """Ask what paying `amount` to an address costs.

        Raises ProtocolError if the quote is for something else."""
        _check_amount(amount)
        unit = self._wallet.unit
        quote = onchain_client.request_melt_quote(self._wallet.client, address, amount, unit)
        if (quote.request, quote.amount, quote.unit) != (address, amount, unit) or not quote.fee_options:
            raise ProtocolError("the mint's melt quote is for another payment than was asked for")
        with self._store.transaction():
            self._store.put_melt_quote(self._wallet.mint_url, quote)
        return quote

    def melt_quotes(self) -> list[models.MeltQuoteOnchain]:
        """The quotes of this wallet, as they were last seen."""
        known = self._store.onchain_melt_quotes(self._wallet.mint_url)
        return [quote for quote in known if quote.unit == self._wallet.unit]

    def melt(self, quote: models.MeltQuoteOnchain, fee_index: int) -> models.MeltQuoteOnchain:
        """Pay; the quote is PENDING then, and stays so for some blocks: `check_melt` and `pending` tell the outcome.

        Raises MintError if it was refused, NotEnoughFundsError, and MintUnreachableError if the outcome is unknown.
        """
        option = option_of(quote, fee_index)
        self._wallet.recover()

        def begin() -> int:
            return self._begin_melt(quote, option)

        def run(operation: int) -> models.MeltQuote:
            return self._wallet.journal.run_melt_by(
                operation,
                lambda quote_id, inputs, blanks: onchain_client.melt(
                    self._wallet.client, quote_id, fee_index, inputs, blanks
                ),
            )

        answer = self._wallet._with_fresh_keysets(begin, run)
        assert isinstance(answer, models.MeltQuoteOnchain)
        return answer

    def _begin_melt(self, quote: models.MeltQuoteOnchain, option: models.FeeOption) -> int:
        wallet = self._wallet
        keyset = wallet.keyring.active(wallet.unit)
        choose = wallet._choose(quote.amount + option.fee_reserve)
        with self._store.transaction():
            inputs = choose(wallet._spendable())
            overpaid = sum(proof.amount for proof in inputs) - fee(inputs, wallet.keyring.known) - quote.amount
            blank = [PlannedOutput(keyset.id, 0)] * blank_output_count(overpaid)
            operation = wallet._add("melt", quote.amount, blank, quote=quote.quote)
            self._store.reserve(operation, inputs)
        return operation

    def check_melt(self, quote_id: str) -> models.MeltQuoteOnchain:
        """The mint's present view of a melt quote; if it is decided, the wallet is brought up to date."""
        attempts = self._store.operations_of_quote(self._wallet.mint_url, quote_id, "melt")
        if attempts and attempts[0].state in ("open", "pending"):
            self._wallet.journal.resolve(attempts[0].id)
        else:
            with self._store.transaction():
                self._store.put_melt_quote(
                    self._wallet.mint_url, onchain_client.melt_quote(self._wallet.client, quote_id)
                )
        quote = self._store.onchain_melt_quote(self._wallet.mint_url, quote_id)
        assert quote is not None
        return quote

    def wait_melt(
        self,
        quote_id: str,
        timeout: float,
        progress: Callable[[models.MeltQuoteOnchain], None] | None = None,
    ) -> models.MeltQuoteOnchain:
        """Ask until a melt is decided, or `timeout` seconds are over; returns the quote as it is then."""
        ask = _telling(lambda: self.check_melt(quote_id), progress)
        return _poll(ask, lambda quote: quote.state != MeltQuoteState.PENDING, timeout)


def option_of(quote: models.MeltQuoteOnchain, fee_index: int | None) -> models.FeeOption:
    """The option with this index; without one, the middle one: neither in a hurry nor left to wait."""
    if fee_index is None:
        return quote.fee_options[len(quote.fee_options) // 2]
    found = next((option for option in quote.fee_options if option.fee_index == fee_index), None)
    if found is None:
        offered = ", ".join(str(option.fee_index) for option in quote.fee_options)
        raise WalletError(f"the mint offers no fee {fee_index}, but: {offered}")
    return found
