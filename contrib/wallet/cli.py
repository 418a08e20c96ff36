"""The command line: `python -m contrib.wallet`. Each command calls the library and prints what came of it.

Exit codes: 0 done, 1 an error (one line on standard error says which), 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from contrib.wallet import bolt11
from contrib.wallet.client import normal_url
from contrib.wallet.display import Display, Progress
from contrib.wallet.errors import MintError, MintUnreachableError, WalletError
from contrib.wallet.store import MintQuote, Operation, Store
from contrib.wallet.wallet import Wallet
from ledger import models
from ledger.methods import BOLT12
from ledger.models import MeltQuoteState, MintQuoteState

DEFAULT_MINT = "http://127.0.0.1:3338"
INVOICE_DEADLINE_S = 3600
"""How long `invoice` waits, or until the invoice expires if that is sooner."""
PAY_DEADLINE_S = 600
"""How long `pay` waits for a payment that the mint has taken on. The payment goes on after that."""
_FAULT_VARIABLE = "NUTBOLT_WALLET_DEBUG"


def data_directory() -> Path:
    """Where programs keep the user's data on this system."""
    if sys.platform in ("win32", "darwin"):
        return Path(click.get_app_dir("nutbolt", roaming=False))
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "nutbolt"


class Context:
    """The global options, and what is made of them when a command needs it."""

    def __init__(self, mint: str, file: Path, unit: str, *, as_json: bool) -> None:
        self.mint, self.file, self.unit = mint, file, unit
        self.display = Display(as_json=as_json)

    @contextmanager
    def wallet(self, words: str | None = None) -> Iterator[Wallet]:
        """The wallet, with interrupted operations finished as far as they can be."""
        is_new = not self.file.exists()
        with Wallet(self.mint, self.file, self.unit, words) as wallet:
            if is_new and words is None:
                self.display.note(f"new wallet {self.file}: write down the words that `seed` shows")
            for operation in wallet.recover():
                if operation.state != "open":
                    self.display.note(f"an interrupted {operation.kind} is settled now: {_outcome(operation)}")
            yield wallet


class NoteHandler(logging.Handler):
    """What the library finds worth a warning, in the form of all other notes."""

    def __init__(self, display: Display) -> None:
        super().__init__(logging.WARNING)
        self._display = display

    def emit(self, record: logging.LogRecord) -> None:
        self._display.note(record.getMessage())


class Commands(click.Group):
    """Turns every error into one line and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except WalletError as error:
            _display(ctx).error(str(error), error.code if isinstance(error, MintError) else None)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except KeyboardInterrupt:
            _display(ctx).error("interrupted; `pending` and the next command finish what was under way")
            ctx.exit(130)
        except BrokenPipeError:
            # Nobody reads any more; the interpreter's flush at exit must not fail on it.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except Exception as error:
            if os.environ.get(_FAULT_VARIABLE):
                raise
            _display(ctx).error(
                f"a fault in the wallet ({type(error).__name__}: {error}); nothing is lost, `pending` finishes what "
                f"was under way; set {_FAULT_VARIABLE}=1 for details"
            )
        return ctx.exit(1)


def _display(ctx: click.Context) -> Display:
    return ctx.obj.display if isinstance(ctx.obj, Context) else Display(as_json=False)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--mint", envvar="NUTBOLT_MINT", default=DEFAULT_MINT, show_default=True, help="URL of the mint.")
@click.option(
    "--wallet",
    "file",
    envvar="NUTBOLT_WALLET",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The wallet's file.  [default: wallet.sqlite in the user's data directory]",
)
@click.option("--unit", default="sat", show_default=True, help="Unit of all amounts.")
@click.option("--json", "as_json", is_flag=True, help="Print results as JSON.")
@click.pass_context
def main(ctx: click.Context, mint: str, file: Path | None, unit: str, as_json: bool) -> None:
    """A small Cashu wallet. It keeps ecash in one file; whoever can read the file can spend it."""
    ctx.obj = Context(mint, file or data_directory() / "wallet.sqlite", unit.lower(), as_json=as_json)
    handler = NoteHandler(ctx.obj.display)
    library_log = logging.getLogger("contrib.wallet")
    library_log.addHandler(handler)
    ctx.call_on_close(lambda: library_log.removeHandler(handler))


@main.command()
@click.pass_obj
def info(context: Context) -> None:
    """Show the mint and its keysets."""
    with context.wallet() as wallet:
        about, keysets = wallet.info(), wallet.client.keysets()
    nuts = about.get("nuts")
    numbers = sorted(nuts, key=lambda n: (len(n), n)) if isinstance(nuts, dict) else []
    lines = [
        f"mint     {wallet.mint_url}",
        f"name     {about.get('name', '-')}  ({about.get('version', 'version unknown')})",
        f"nuts     {', '.join(numbers)}",
        f"file     {context.file}",
    ]
    if about.get("motd"):
        lines.append(f"message  {about['motd']}")
    for keyset in keysets:
        state = "active" if keyset.active else "inactive"
        expiry = f", expires {_time(keyset.final_expiry)}" if keyset.final_expiry else ""
        lines.append(f"keyset   {keyset.id}  {keyset.unit}, {state}, {keyset.input_fee_ppk} ppk{expiry}")
    data = {"mint": wallet.mint_url, "info": about, "keysets": [keyset.model_dump() for keyset in keysets]}
    context.display.result(data, *lines)


@main.command()
@click.pass_obj
def balance(context: Context) -> None:
    """Show what can be spent and what is on its way."""
    with context.wallet() as wallet:
        sums = wallet.balances()
        elsewhere = {
            mint: amount
            for mint in wallet.store.mints()
            if mint != wallet.mint_url and (amount := wallet.store.balance(mint, wallet.unit, "unspent"))
        }
    lines = [f"{sums.available} {context.unit}"]
    if sums.pending:
        lines.append(f"{sums.pending} {context.unit} in use by what `pending` lists")
    if sums.sent:
        lines.append(f"{sums.sent} {context.unit} in tokens that nobody has spent yet")
    lines += [f"{amount} {context.unit} at {mint} (use --mint {mint})" for mint, amount in elsewhere.items()]
    context.display.result(asdict(sums) | {"unit": context.unit, "elsewhere": elsewhere}, *lines)


@main.command()
@click.argument("amount", type=click.IntRange(min=1))
@click.option("--description", help="Text for the invoice.")
@click.option("--wait/--no-wait", default=True, help="Wait for the payment and issue the ecash.  [default: wait]")
@click.option("--timeout", type=click.FloatRange(min=0), default=INVOICE_DEADLINE_S, help="Longest wait, in seconds.")
@click.option("--lock/--no-lock", default=None, help="Tie the quote to a key (NUT-20).  [default: if the mint can]")
@click.pass_obj
def invoice(
    context: Context, amount: int, description: str | None, wait: bool, timeout: float, lock: bool | None
) -> None:
    """Get ecash: print an invoice over AMOUNT, wait until it is paid, and issue."""
    with context.wallet() as wallet:
        quote = wallet.request_mint(amount, description, lock=lock)
        if not wait:
            context.display.note(f"when it is paid, run: mint {quote.quote}")
            context.display.result(_quote_data(quote), quote.request)
            return
        if not context.display.as_json:
            click.echo(quote.request)
        progress = Progress(context.display, "waiting for the payment")
        progress.update(quote.state)
        if quote.expiry is not None:
            timeout = min(timeout, max(quote.expiry - datetime.now().timestamp(), 0))
        try:
            quote = wallet.wait_mint(quote.quote, timeout, lambda now: progress.update(now.state))
        finally:
            progress.close()
        if quote.state == MintQuoteState.UNPAID:
            raise WalletError(
                f"the invoice was not paid within {timeout:.0f} s; if it still is, run: mint {quote.quote}"
            )
        proofs = wallet.mint(quote.quote)
        issued = sum(proof.amount for proof in proofs)
        data = _quote_data(wallet.store.mint_quote(wallet.mint_url, quote.quote) or quote)
        context.display.result(data | {"issued": issued}, f"received {issued} {wallet.unit}")


@main.command()
@click.argument("amount", type=click.IntRange(min=1), required=False)
@click.option("--description", help="Text for the offer.")
@click.option("--wait/--no-wait", default=True, help="Wait for a payment and issue the ecash.  [default: wait]")
@click.option("--timeout", type=click.FloatRange(min=0), default=INVOICE_DEADLINE_S, help="Longest wait, in seconds.")
@click.pass_obj
def offer(context: Context, amount: int | None, description: str | None, wait: bool, timeout: float) -> None:
    """Get ecash: print an offer over AMOUNT or any, wait for the first payment, and issue. It can be paid again."""
    with context.wallet() as wallet:
        quote = wallet.request_offer(amount, description)
        context.display.note(f"whenever it is paid, run: mint {quote.quote}")
        if not wait:
            context.display.result(_quote_data(quote), quote.request)
            return
        if not context.display.as_json:
            click.echo(quote.request)
        progress = Progress(context.display, "waiting for a payment")
        try:
            quote = wallet.wait_offer(quote.quote, timeout, lambda now: progress.update(_state_of(now)))
        finally:
            progress.close()
        if quote.amount_paid == quote.amount_issued:
            raise WalletError(f"the offer was not paid within {timeout:.0f} s")
        issued = sum(proof.amount for proof in wallet.mint(quote.quote))
        data = _quote_data(wallet.store.mint_quote(wallet.mint_url, quote.quote) or quote)
        context.display.result(data | {"issued": issued}, f"received {issued} {wallet.unit}")


@main.command()
@click.argument("quote", required=False)
@click.pass_obj
def mint(context: Context, quote: str | None) -> None:
    """Issue ecash for the paid QUOTE, or for all that are paid."""
    with context.wallet() as wallet:
        issued = wallet.mint_all() if quote is None else {quote: sum(proof.amount for proof in wallet.mint(quote))}
    lines = [f"received {amount} {context.unit} for quote {name}" for name, amount in issued.items()]
    context.display.result({"issued": issued, "unit": context.unit}, *(lines or ["no quote is waiting to be issued"]))


@main.command()
@click.argument("amount", type=click.IntRange(min=1))
@click.option("--include-fees", is_flag=True, help="Add what the receiver's swap will cost.")
@click.option("--memo", help="Text for the receiver.")
@click.pass_obj
def send(context: Context, amount: int, include_fees: bool, memo: str | None) -> None:
    """Print a token over AMOUNT. It is money: whoever has it first can spend it."""
    with context.wallet() as wallet:
        token = wallet.send(amount, include_fees=include_fees, memo=memo)
    context.display.result({"token": token, "amount": amount, "unit": context.unit}, token)


@main.command()
@click.argument("token")
@click.option("--trust", is_flag=True, help="Accept a token of another mint; it becomes a balance there.")
@click.pass_obj
def receive(context: Context, token: str, trust: bool) -> None:
    """Swap TOKEN (or - for standard input) for ecash of our own."""
    text = sys.stdin.read() if token == "-" else token  # noqa: S105
    with context.wallet() as wallet:
        amount = wallet.receive(text, trust=trust)
    context.display.result({"amount": amount, "unit": context.unit}, f"received {amount} {context.unit}")


@main.command()
@click.argument("invoice")
@click.option("--async/--sync", "prefer_async", default=False, help="Have the mint answer at once.  [default: sync]")
@click.option("--wait/--no-wait", default=True, help="Wait while the mint is paying.  [default: wait]")
@click.option("--amount", type=click.IntRange(min=1), help="For an invoice or offer that names no amount.")
@click.option("--amount-msat", type=click.IntRange(min=1), help="The same in millisatoshis.")
@click.option("--max-fee", type=click.IntRange(min=0), help="Do not pay if the fee may be more than this.")
@click.option("--timeout", type=click.FloatRange(min=0), default=PAY_DEADLINE_S, help="Longest wait, in seconds.")
@click.pass_obj
def pay(
    context: Context,
    invoice: str,
    prefer_async: bool,
    wait: bool,
    amount: int | None,
    amount_msat: int | None,
    max_fee: int | None,
    timeout: float,
) -> None:
    """Pay a Lightning INVOICE (bolt11), or an offer (bolt12)."""
    with context.wallet() as wallet:
        if amount is not None:
            amount_msat = wallet.to_msat(amount)
        quote = wallet.quote_to_pay(invoice, amount_msat=amount_msat)
        if quote.state == MeltQuoteState.UNPAID:
            if max_fee is not None and quote.fee_reserve > max_fee:
                raise WalletError(f"not paid: the fee may be up to {quote.fee_reserve} {wallet.unit}, over --max-fee")
            context.display.note(f"paying {quote.amount} {wallet.unit}, fee at most {quote.fee_reserve} {wallet.unit}")
        else:
            context.display.note("this wallet has paid, or is paying, this invoice already")
        try:
            quote = wallet.melt(quote, prefer_async=prefer_async)
        except MintUnreachableError as error:
            raise WalletError(f"{error}; whether it is paid is not known yet: see `pending`") from error
        if quote.state == MeltQuoteState.PENDING and wait:
            progress = Progress(context.display, "paying")
            try:
                quote = wallet.wait_melt(quote.quote, timeout, lambda now: progress.update(now.state))
            finally:
                progress.close()
            if quote.state == MeltQuoteState.PENDING:
                raise WalletError(f"the payment was not decided within {timeout:.0f} s; it goes on: see `pending`")
        if quote.state == MeltQuoteState.UNPAID:
            raise WalletError(
                f"the payment failed: {quote.error or 'the mint gives no reason'}; the ecash is free again"
            )
        _show_payment(context, wallet, quote)


def _show_payment(context: Context, wallet: Wallet, quote: models.MeltQuoteLightning) -> None:
    data = _quote_data(quote) | {"cost": None, "preimage_is_valid": None}
    if quote.state == MeltQuoteState.PENDING:
        context.display.result(data, f"the mint is paying; `pending` tells the outcome of {quote.quote}")
        return
    cost, is_proven = wallet.melt_cost(quote.quote), wallet.preimage_is_valid(quote)
    fees = "" if cost is None else f", {cost - quote.amount} {wallet.unit} fees"
    lines = [f"paid {quote.amount} {wallet.unit}{fees}"]
    if quote.payment_preimage:
        remark = "  (not the invoice's: no proof!)" if is_proven is False else ""
        lines.append(f"preimage {quote.payment_preimage}{remark}")
    context.display.result(data | {"cost": cost, "preimage_is_valid": is_proven}, *lines)


@main.command()
@click.option("--token", type=int, metavar="NUMBER", help="Print the token of this send again.")
@click.option("--reclaim", type=int, metavar="NUMBER", help="Take back the token of this send.")
@click.pass_obj
def pending(context: Context, token: int | None, reclaim: int | None) -> None:
    """Look up payments and tokens that are on their way, and finish those that are decided."""
    with context.wallet() as wallet:
        if token is not None:
            text = wallet.sent_token(token)
            context.display.result({"token": text}, text)
            return
        if reclaim is not None:
            amount = wallet.reclaim(reclaim)
            context.display.result({"reclaimed": amount}, f"took back {amount} {wallet.unit}")
            return
        operations = wallet.check_pending()
    lines = [f"{op.id:>4}  {op.kind:<7} {op.amount:>10} {op.unit}  {_outcome(op)}" for op in operations]
    data = [
        {name: value for name, value in asdict(operation).items() if name not in ("owner", "mint")}
        for operation in operations
    ]
    context.display.result({"operations": data}, *(lines or ["nothing is on its way"]))


@main.command()
@click.option("--words-from-stdin", is_flag=True, help="Start a new wallet file from words read from standard input.")
@click.pass_obj
def restore(context: Context, words_from_stdin: bool) -> None:
    """Bring back unspent ecash from the wallet's words."""
    words = sys.stdin.readline() if words_from_stdin else None
    with context.wallet(words) as wallet:
        context.display.note("asking the mint for everything that it signed for these words")
        found = wallet.restore()
        total = wallet.balance()
    context.display.result(
        asdict(found) | {"balance": total, "unit": context.unit},
        f"found {found.found} proofs: {found.unspent} {context.unit} unspent, {found.pending} pending, "
        f"{found.spent} spent",
        f"new here: {found.added} {context.unit}; balance: {total} {context.unit}",
    )


@main.command()
@click.pass_obj
def seed(context: Context) -> None:
    """Show the words. Whoever knows them can spend everything in this wallet."""
    with Wallet(context.mint, context.file, context.unit) as wallet:
        context.display.result({"words": wallet.words}, wallet.words)


@main.command()
@click.pass_obj
def quotes(context: Context) -> None:
    """List the quotes that this wallet asked for, as they were last seen."""
    with context.wallet() as wallet:
        mints, melts = wallet.store.mint_quotes(wallet.mint_url), wallet.store.melt_quotes(wallet.mint_url)
    lines = [f"mint  {_state_of(quote):<8} {quote.amount or 'any':>10} {quote.unit}  {quote.quote}" for quote in mints]
    for quote in melts:
        reason = f"  {quote.error}" if quote.error else ""
        lines.append(f"melt  {quote.state:<8} {quote.amount:>10} {quote.unit}  {quote.quote}{reason}")
    data = {"mint": [_quote_data(quote) for quote in mints], "melt": [_quote_data(quote) for quote in melts]}
    context.display.result(data, *(lines or ["no quotes"]))


@main.command()
@click.argument("old_url")
@click.pass_obj
def moved(context: Context, old_url: str) -> None:
    """Say that the mint at --mint is the one that was at OLD_URL."""
    old, new = normal_url(old_url), normal_url(context.mint)
    store = Store(context.file)
    with store.transaction():
        count = store.move_mint(old, new)
    store.close()
    if not count:
        raise WalletError(f"this wallet knows no keysets of {old}: see `balance` for the mints that it knows")
    context.display.result({"keysets": count}, f"{count} keysets of {old} are now those of {new}")


def _outcome(operation: Operation) -> str:
    texts = {
        "open": "not settled: the mint could not tell",
        "pending": "the mint is paying",
        "sent": "not spent yet",
        "done": "done",
        "failed": f"failed: {operation.error}",
    }
    text = texts[operation.state]
    if operation.state == "sent":
        text += f"; take it back with: pending --reclaim {operation.id}"
    return f"{text}  ({operation.quote})" if operation.quote else text


def _state_of(quote: MintQuote) -> str:
    if isinstance(quote, models.MintQuoteBolt11):
        return quote.state
    if quote.amount_paid > quote.amount_issued:
        return MintQuoteState.PAID
    return MintQuoteState.ISSUED if quote.amount_paid else MintQuoteState.UNPAID


def _quote_data(quote: MintQuote | models.MeltQuoteLightning) -> dict[str, Any]:
    data = quote.model_dump(mode="json", exclude={"change"})
    if not quote.request:
        return data
    return data | {"expires": quote.expiry if quote.method == BOLT12 else bolt11.decode(quote.request).expires_at}


def _time(unix_s: int) -> str:
    return datetime.fromtimestamp(unix_s).astimezone().isoformat(sep=" ", timespec="minutes")
