"""The commands for the chain (NUT-30)."""

from __future__ import annotations

from typing import Any

import click

from contrib.wallet.cli import Context, main
from contrib.wallet.display import Progress
from contrib.wallet.errors import MintUnreachableError, WalletError
from contrib.wallet.onchain import OnchainWallet, option_of
from ledger import models
from ledger.models import MeltQuoteState

DEADLINE_S = 24 * 3600


@main.command()
@click.option("--wait/--no-wait", default=False, help="Wait for a deposit and issue its ecash.  [default: no-wait]")
@click.option("--timeout", type=click.FloatRange(min=0), default=DEADLINE_S, help="Longest wait, in seconds.")
@click.pass_obj
def address(context: Context, wait: bool, timeout: float) -> None:
    """Get ecash from the chain: print an address that can be paid often. `collect` issues what has been confirmed."""
    with context.wallet() as wallet:
        onchain = OnchainWallet(wallet)
        quote = onchain.request_mint()
        if not wait:
            context.display.note("when a payment to it is confirmed, run: collect")
            context.display.result(_data(quote), quote.request)
            return
        if not context.display.as_json:
            click.echo(quote.request)
        progress = Progress(context.display, "waiting for a deposit")
        try:
            quote = onchain.wait_mint(quote.quote, timeout, lambda now: progress.update(f"{now.amount_paid} confirmed"))
        finally:
            progress.close()
        if quote.amount_paid == 0:
            raise WalletError(f"nothing was confirmed within {timeout:.0f} s; if it still is, run: collect")
        issued = sum(proof.amount for proof in onchain.mint(quote.quote))
        context.display.result(_data(quote) | {"issued": issued}, f"received {issued} {wallet.unit}")


@main.command()
@click.argument("quote", required=False)
@click.pass_obj
def collect(context: Context, quote: str | None) -> None:
    """Issue ecash for deposits that are confirmed: those to the address of QUOTE, or all."""
    with context.wallet() as wallet:
        onchain = OnchainWallet(wallet)
        issued = onchain.mint_all() if quote is None else {quote: sum(proof.amount for proof in onchain.mint(quote))}
    lines = [f"received {amount} {context.unit} for quote {name}" for name, amount in issued.items()]
    context.display.result({"issued": issued, "unit": context.unit}, *(lines or ["nothing is waiting to be issued"]))


@main.command()
@click.argument("address")
@click.argument("amount", type=click.IntRange(min=1))
@click.option(
    "--fee-index", type=click.IntRange(min=0), help="Which of the mint's fees to take.  [default: the middle]"
)
@click.option("--max-fee", type=click.IntRange(min=0), help="Do not pay if the fee may be more than this.")
@click.option("--wait/--no-wait", default=False, help="Wait for the confirmations.  [default: no-wait]")
@click.option("--timeout", type=click.FloatRange(min=0), default=DEADLINE_S, help="Longest wait, in seconds.")
@click.pass_obj
def withdraw(
    context: Context,
    address: str,
    amount: int,
    fee_index: int | None,
    max_fee: int | None,
    wait: bool,
    timeout: float,
) -> None:
    """Pay AMOUNT to a bitcoin ADDRESS, on the chain."""
    with context.wallet() as wallet:
        onchain = OnchainWallet(wallet)
        quote = onchain.melt_quote(address, amount)
        for option in quote.fee_options:
            context.display.note(
                f"fee {option.fee_index}: at most {option.fee_reserve} {wallet.unit}, "
                f"about {option.estimated_blocks} blocks"
            )
        chosen = option_of(quote, fee_index)
        if max_fee is not None and chosen.fee_reserve > max_fee:
            raise WalletError(f"not paid: the fee may be up to {chosen.fee_reserve} {wallet.unit}, over --max-fee")
        try:
            quote = onchain.melt(quote, chosen.fee_index)
        except MintUnreachableError as error:
            raise WalletError(f"{error}; whether it is paid is not known yet: see `pending`") from error
        if wait and quote.state == MeltQuoteState.PENDING:
            progress = Progress(context.display, "paying")
            try:
                quote = onchain.wait_melt(quote.quote, timeout, lambda now: progress.update(_progress(now)))
            finally:
                progress.close()
        if quote.state == MeltQuoteState.UNPAID:
            raise WalletError(
                f"the payment failed: {quote.error or 'the mint gives no reason'}; the ecash is free again"
            )
        cost = wallet.melt_cost(quote.quote)
    if quote.state == MeltQuoteState.PENDING:
        context.display.result(_data(quote), f"the mint is paying; `pending` tells the outcome of {quote.quote}")
        return
    fees = "" if cost is None else f", {cost - quote.amount} {context.unit} fees"
    context.display.result(
        _data(quote) | {"cost": cost}, f"paid {quote.amount} {context.unit}{fees}", f"outpoint {quote.outpoint}"
    )


def _progress(quote: models.MeltQuoteOnchain) -> str:
    return f"{quote.state} {quote.outpoint}" if quote.outpoint else str(quote.state)


def _data(quote: models.MintQuoteOnchain | models.MeltQuoteOnchain) -> dict[str, Any]:
    return quote.model_dump(mode="json", exclude={"change"})
