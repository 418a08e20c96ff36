"""What wallets, operators and strangers do while the mint dies.

A flow is a generator: what it does before its `yield` it does in peace, what comes after may be struck. It names the
steps at which it is struck. A flow that needs powers
over its node which nobody has over a real one is `staged`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from contrib.reliability.crash.steps import MIGRATE, NEW_LEDGER, Point, points
from contrib.reliability.crash.wallet import PUBKEY, ModelWallet
from contrib.reliability.crash.world import CONFIRMATIONS, CommandFailedError, SandboxWorld
from contrib.sandbox import Behaviour, Notifications, OutsideInvoice, Part, Reply
from contrib.wallet import MintError, onchain_client
from ledger.ids import label_of
from ledger.store.operation import Operation

AMOUNT = 100
ONCHAIN_AMOUNT = 5000
MIN_CONFLICT_BLOCKS = 6

Run = Callable[[ModelWallet], Iterator[None]]


@dataclass(frozen=True, slots=True)
class Flow:
    """A thing to do. `begins`: on a mint that was never started, whose start is all there is to do. `moves_coins`: the
    node's coins go other ways than the mint's."""

    name: str
    steps: tuple[str, ...]
    run: Run
    staged: bool = False
    begins: bool = False
    moves_coins: bool = False

    @property
    def points(self) -> list[Point]:
        """Where it is struck."""
        return [point for step in self.steps for point in points(*_numbered(step))]


def _numbered(step: str) -> tuple[str, int]:
    """`name*2` is the second time that a step is taken."""
    name, _, number = step.partition("*")
    return name, int(number or 1)


FLOWS: dict[str, Flow] = {}


def flow(
    name: str, *steps: str, staged: bool = False, begins: bool = False, moves_coins: bool = False
) -> Callable[[Run], Run]:
    """Enter a function into `FLOWS`."""

    def enter(run: Run) -> Run:
        FLOWS[name] = Flow(name, steps, run, staged, begins, moves_coins)
        return run

    return enter


# --- the mint itself ------------------------------------------------------------------------------------------------


@flow(
    "first start",
    *(MIGRATE, NEW_LEDGER, Operation.NODE_START, Operation.ROTATE, "datastore"),
    begins=True,
)
def first_start(wallet: ModelWallet) -> Iterator[None]:
    """The mint has started for the first time: all that is left is that it works."""
    yield
    (keyset,) = wallet.ask(wallet.client.keysets)
    assert keyset.active


@flow("restart", Operation.NODE_START, Operation.MOVES_INDEX)
def restart(wallet: ModelWallet) -> Iterator[None]:
    """The plugin is killed, and again while it starts."""
    yield
    wallet.world.restart_plugin()
    wallet.ask(wallet.client.info)


@flow("older node", Operation.NODE_ROLLBACK, staged=True)
def older_node(wallet: ModelWallet) -> Iterator[None]:
    """The node remembers less of the ledger than it did: its database was put back."""
    world = wallet.world
    assert isinstance(world, SandboxWorld)
    key = ["cashu", "ledger"]
    (stored,) = world.command("listdatastore", key=key)["datastore"]
    older = json.dumps({**json.loads(stored["string"]), "commits": 1})
    world.expected.append("the node's database is older than it was")
    yield
    world.node.kill_plugin()
    world.command("datastore", key=key, string=older, mode="must-replace")
    world.start_plugin()
    wallet.swap(wallet.take(AMOUNT))


@flow("rotation", Operation.ROTATE)
def rotation(wallet: ModelWallet) -> Iterator[None]:
    """An operator makes a new keyset; ecash of the old one is exchanged for its."""
    before = wallet.keyset.id
    yield
    wallet.ask(lambda: wallet.world.command("cashu-rotate", unit="sat"))
    wallet.load_keysets()
    assert wallet.keyset.id != before
    wallet.swap(wallet.take(AMOUNT))


@flow("pause", Operation.PAUSE)
def pause(wallet: ModelWallet) -> Iterator[None]:
    """An operator pauses and unpauses; a pause that was told holds over the crash."""
    yield
    wallet.ask(lambda: wallet.world.command("cashu-pause"))
    assert wallet.ask(lambda: wallet.world.command("cashu-info"))["minting_paused_at"] is not None
    wallet.swap(wallet.take(AMOUNT))
    wallet.ask(lambda: wallet.world.command("cashu-unpause"))


@flow("message of the day", Operation.MOTD)
def motd(wallet: ModelWallet) -> Iterator[None]:
    """An operator tells wallets something; whoever was told that it stands there finds it."""
    yield
    wallet.ask(lambda: wallet.world.command("cashu-motd", message="closed on Sunday"))
    assert wallet.ask(lambda: wallet.world.command("cashu-info"))["motd"] == "closed on Sunday"


@flow("stranger's invoice", Operation.PAY_INDEX)
def strangers_invoice(wallet: ModelWallet) -> Iterator[None]:
    """The node is paid an invoice that is none of the mint's business."""
    world = wallet.world
    label = f"stranger-{world.deaths}-{wallet.payments.foreign_msat}"
    made = world.command("invoice", amount_msat=AMOUNT * 1000, label=label, description="not the mint's")
    yield
    world.pay(made["bolt11"])
    wallet.payments.foreign_msat += AMOUNT * 1000
    wallet.swap(wallet.take(AMOUNT))


@flow("swap", Operation.SWAP, "datastore")
def swap(wallet: ModelWallet) -> Iterator[None]:
    """Proofs are exchanged; the node's record of the ledger follows."""
    proofs = wallet.take(AMOUNT)
    yield
    wallet.swap(proofs)


# --- value comes in -------------------------------------------------------------------------------------------------


@flow("mint bolt11", Operation.MINT_QUOTE, "invoice", Operation.CREDIT, Operation.ISSUE)
def mint_bolt11(wallet: ModelWallet) -> Iterator[None]:
    """An invoice is paid."""
    yield
    quote = wallet.ask(lambda: wallet.client.request_mint_quote(AMOUNT))
    wallet.world.pay(quote.request)
    wallet.wait_paid("bolt11", quote.quote, AMOUNT)
    wallet.issue("bolt11", quote.quote, AMOUNT)


@flow("batch", Operation.ISSUE_BATCH)
def batch(wallet: ModelWallet) -> Iterator[None]:
    """Two paid quotes are issued at once."""
    quotes = [wallet.ask(lambda: wallet.client.request_mint_quote(AMOUNT)) for _ in range(2)]
    for quote in quotes:
        wallet.world.pay(quote.request)
        wallet.wait_paid("bolt11", quote.quote, AMOUNT)
    yield
    wallet.issue_batch([quote.quote for quote in quotes], 2 * AMOUNT)


@flow("mint bolt12", Operation.MINT_QUOTE, "offer", Operation.CREDIT, Operation.ISSUE)
def mint_bolt12(wallet: ModelWallet) -> Iterator[None]:
    """An offer is paid, and paid again."""
    yield
    quote = wallet.ask(lambda: wallet.client.request_mint_offer(None, pubkey=PUBKEY))
    for times in (1, 2):
        wallet.world.pay(quote.request, AMOUNT)
        wallet.wait(lambda n=times: wallet.client.mint_offer(quote.quote).amount_paid >= n * AMOUNT, "a credit")  # type: ignore[misc]
    wallet.wait_paid("bolt12", quote.quote, 2 * AMOUNT)
    wallet.issue("bolt12", quote.quote, 2 * AMOUNT, locked=True)


@flow("offer nobody could ask for", "disableoffer", staged=True)
def unreachable_offer(wallet: ModelWallet) -> Iterator[None]:
    """A node that the network does not know takes its offer back."""
    world = wallet.world
    assert isinstance(world, SandboxWorld)
    world.node.settings.announced = False
    try:
        yield
        wallet.ask(lambda: wallet.client.request_mint_offer(None, pubkey=PUBKEY))
        raise AssertionError("an offer that nobody can ask for was not refused")
    except MintError:
        pass
    finally:
        world.node.settings.announced = True


@flow(
    "mint onchain",
    *(Operation.MINT_QUOTE, "newaddr", Operation.DEPOSITS_SEEN, Operation.DEPOSIT_CREDIT, Operation.ISSUE),
)
def mint_onchain(wallet: ModelWallet) -> Iterator[None]:
    """An address is paid."""
    yield
    quote = wallet.ask(lambda: onchain_client.request_mint_quote(wallet.client, "sat", PUBKEY))
    wallet.world.deposit(quote.request, ONCHAIN_AMOUNT)
    wallet.world.mine(CONFIRMATIONS)
    wallet.wait_paid("onchain", quote.quote, ONCHAIN_AMOUNT)
    wallet.issue("onchain", quote.quote, ONCHAIN_AMOUNT, locked=True)


# --- value goes out -------------------------------------------------------------------------------------------------


@flow("melt bolt11", Operation.MELT_QUOTE, Operation.MELT_BEGIN, "xpay", Operation.MELT_SETTLE)
def melt_bolt11(wallet: ModelWallet) -> Iterator[None]:
    """An invoice is paid, and the wallet waits for it."""
    invoice = wallet.world.invoice(AMOUNT)
    yield
    quote = wallet.ask(lambda: wallet.client.request_melt_quote(invoice.bolt11))
    wallet.melt("bolt11", quote, invoice.payment_hash)


@flow("melt bolt11, async", Operation.MELT_BEGIN, "xpay", Operation.MELT_SETTLE)
def melt_async(wallet: ModelWallet) -> Iterator[None]:
    """The same with `prefer_async`, by a wallet that tries nothing twice."""
    invoice = wallet.world.invoice(AMOUNT)
    quote = wallet.ask(lambda: wallet.client.request_melt_quote(invoice.bolt11))
    yield
    wallet.melt("bolt11", quote, invoice.payment_hash, prefer_async=True, gives_up=True)


@flow("melt bolt11, refused", Operation.MELT_BEGIN, "xpay", Operation.MELT_RELEASE)
def melt_refused(wallet: ModelWallet) -> Iterator[None]:
    """The destination does not take the payment."""
    invoice = wallet.world.invoice(AMOUNT, refused=True)
    quote = wallet.ask(lambda: wallet.client.request_melt_quote(invoice.bolt11))
    yield
    wallet.melt("bolt11", quote, invoice.payment_hash, prefer_async=True, gives_up=True)


@flow("melt bolt12", "fetchinvoice", Operation.MELT_QUOTE, Operation.MELT_BEGIN, "xpay", Operation.MELT_SETTLE)
def melt_bolt12(wallet: ModelWallet) -> Iterator[None]:
    """An offer is paid."""
    offer = wallet.world.offer(AMOUNT)
    yield
    quote = wallet.ask(lambda: wallet.client.request_melt_quote(offer, method="bolt12"))
    wallet.melt("bolt12", quote, prefer_async=True)


@flow("melt quote onchain", "addpsbtoutput", Operation.MELT_QUOTE)
def melt_quote_onchain(wallet: ModelWallet) -> Iterator[None]:
    """A payment on the chain is priced, and made."""
    wallet.world.give_coins()
    address = wallet.world.address()
    yield
    quote = wallet.ask(lambda: onchain_client.request_melt_quote(wallet.client, address, ONCHAIN_AMOUNT, "sat"))
    wallet.melt_onchain(quote)


@flow(
    "melt onchain",
    *(Operation.MELT_BEGIN, "utxopsbt", "addpsbtoutput*2", "signpsbt", Operation.PAYOUT_BUILT, "reserveinputs"),
    *("sendpsbt", Operation.PAYOUT_BROADCAST, Operation.MELT_SETTLE),
)
def melt_onchain(wallet: ModelWallet) -> Iterator[None]:
    """An address is paid."""
    wallet.world.give_coins()
    address = wallet.world.address()
    quote = wallet.ask(lambda: onchain_client.request_melt_quote(wallet.client, address, ONCHAIN_AMOUNT, "sat"))
    yield
    wallet.melt_onchain(quote)


@flow("melt onchain, not made", "unreserveinputs", Operation.MELT_RELEASE, staged=True)
def melt_not_made(wallet: ModelWallet) -> Iterator[None]:
    """The node does not sign, so all is given back, and tried again."""
    world = wallet.world
    assert isinstance(world, SandboxWorld)
    world.give_coins()
    address = world.address()
    quote = wallet.ask(lambda: onchain_client.request_melt_quote(wallet.client, address, ONCHAIN_AMOUNT, "sat"))
    world.node.fail_rpc("signpsbt", -1, "does not sign")
    yield
    wallet.melt_onchain(quote)


@flow("melt onchain, past the wallet", "sendrawtransaction", staged=True)
def melt_past_the_wallet(wallet: ModelWallet) -> Iterator[None]:
    """The node's wallet does not send the transaction, so bitcoind is given it."""
    world = wallet.world
    assert isinstance(world, SandboxWorld)
    world.give_coins()
    address = world.address()
    quote = wallet.ask(lambda: onchain_client.request_melt_quote(wallet.client, address, ONCHAIN_AMOUNT, "sat"))
    world.node.fail_rpc("sendpsbt", -1, "does not send")
    yield
    wallet.melt_onchain(quote)


@flow("melt onchain, spent otherwise", Operation.PAYOUT_DISCARD, staged=True, moves_coins=True)
def melt_spent_otherwise(wallet: ModelWallet) -> Iterator[None]:
    """Somebody spends the mint's coin, so its transaction can't come to pass: the ecash is free, and pays again."""
    world = wallet.world
    assert isinstance(world, SandboxWorld)
    world.give_coins()
    address = world.address()
    quote = wallet.ask(lambda: onchain_client.request_melt_quote(wallet.client, address, ONCHAIN_AMOUNT, "sat"))
    struck = False
    world.expected.append("has spent a coin of")

    def strike(txid: str) -> None:
        nonlocal struck
        if not struck:
            struck = True
            world.node.chain.spend_otherwise(txid, blocks=MIN_CONFLICT_BLOCKS)
        else:
            world.mine(1)

    yield
    wallet.melt_onchain(quote, strike)
    assert struck


# --- what an operator ends by force -------------------------------------------------------------------------------


@flow("melt bolt11, given up by force", Operation.MELT_FORCE, staged=True)
def melt_given_up(wallet: ModelWallet) -> Iterator[None]:
    """The node's rows of a payment were deleted while the mint was off: the operator gives it up."""
    yield
    _give_up(wallet)


@flow("melt bolt11, given up and made", Operation.LOSS_NOTED, staged=True)
def melt_given_up_and_made(wallet: ModelWallet) -> Iterator[None]:
    """The same, and the node hears late that it was made: a loss, which is written down once."""
    world = wallet.world
    assert isinstance(world, SandboxWorld)
    invoice, quote_id = _give_up(wallet)
    world.expected.append("A LOSS")
    sent_msat = AMOUNT * 1000
    part = {"id": 1, "groupid": 1, "created_at": 1, "payment_hash": invoice.payment_hash, "status": "complete"}
    part |= {"amount_msat": sent_msat, "amount_sent_msat": sent_msat, "label": label_of(quote_id)}
    part |= {"payment_preimage": invoice.preimage}
    yield

    def told() -> bool:
        world.node.notify("sendpay_success", part)
        forced = world.command("cashu-audit")["forced"]
        return bool(forced[-1]["lost_msat"])

    wallet.wait(told, "a loss to be written down")
    wallet.payments.lost_msat += sent_msat


def _give_up(wallet: ModelWallet) -> tuple[OutsideInvoice, str]:
    """A melt whose evidence is gone is forced to failed. Its invoice, and its quote's id."""
    world = wallet.world
    assert isinstance(world, SandboxWorld)
    held = Behaviour(parts=(Part.hold(),), reply=Reply.silent(), notifications=Notifications.dropped())
    invoice = world.node.outside_invoice(AMOUNT * 1000, behaviour=held)
    quote = wallet.ask(lambda: wallet.client.request_melt_quote(invoice.bolt11))
    is_lost = False

    def force() -> None:
        nonlocal is_lost
        if not is_lost:
            world.node.wait_for_part(invoice)
            world.node.kill_plugin()
            world.node.release(invoice, ok=False)
            world.node.delete_rows(invoice)
            world.node.start_plugin()
            world.wait_ready()
            is_lost = True
        try:
            (melt,) = world.command("cashu-pending")["melts"]
            order = {"outcome": "failed", "force": True, "reason": "nobody knows"}
            world.command("cashu-resolve", handle=melt["handle"], **order)
        except CommandFailedError:
            pass  # its payment may still be tried, or the mint has died: asked again

    world.expected.append("stays pending")
    wallet.melt("bolt11", quote, invoice.payment_hash, prefer_async=True, gives_up=True, meanwhile=force)
    return invoice, quote.quote
