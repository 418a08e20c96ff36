"""Hostile money in the sandbox: what other people, the clock, and the operator may do to payments, and what the mint
makes of it. Each scenario checks the outcome and says it in a sentence; `contrib.reliability.money` makes a table."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from contrib.sandbox import Behaviour, Notifications, Part, Reply
from contrib.sandbox.node import STORE_NAME
from contrib.wallet import MintError
from ledger.errors import Code
from tests.plugin.harness import PAID, PENDING, SPENT, UNPAID, Melt, Mint, Purse, wait_for

OPTIONS = {"retry_for": 1}
CONSTANTS = {"plugin.methods.verdict:ROUTING_GRACE_S": 1, "plugin.methods.verdict:RETRY_S": 0.5}

HOUR_S = 3600
DAY_S = 24 * HOUR_S
SILENT = Behaviour(parts=(Part.hold(),), reply=Reply.silent(), notifications=Notifications.dropped())
ROLLED_BACK = "the node's database is older than it was"


def stuck(mint: Mint) -> set[str]:
    """The payment hashes that cashu-info lists as stuck."""
    return {melt["payment_hash"] for melt in mint.info()["stuck_melts"]}


def wait_stuck(mint: Mint, melt: Melt) -> None:
    """Wait until a melt is listed as stuck."""
    wait_for(lambda: mint.node.payment_hash(melt.quote.request) in stuck(mint), "the melt to be listed as stuck")


@contextmanager
def shifted(mint: Mint, seconds: float) -> Iterator[None]:
    """With a wrong clock."""
    mint.shift_clock(seconds)
    try:
        yield
    finally:
        mint.shift_clock(0)


class Rollback:
    """A copy of the node's database, made while the node is stopped, as a careful operator would; and put back."""

    def __init__(self, mint: Mint) -> None:
        self._mint = mint
        self._database = mint.node.rpc_path.parent / STORE_NAME
        self._copy = self._database.with_suffix(".copy")
        self._restart(self._database, self._copy)

    def put_back(self) -> None:
        """The node starts on the copy."""
        self._mint.expect_broken(ROLLED_BACK)
        self._restart(self._copy, self._database)

    def _restart(self, source: Path, target: Path) -> None:
        """Another process of the node, which knows only what is in its file."""
        self._mint.node.stop()
        shutil.copy(source, target)
        self._mint.node.start()
        self._mint.wait_ready()
        self._mint.node.wait_connected()


# --- scenarios --------------------------------------------------------------------------------------------------------


def held_for_hours(mint: Mint, purse: Purse, *, ok: bool) -> str:
    """A destination holds a payment while hours pass and blocks come, through restarts, beyond its quote's expiry."""
    melt = purse.hold()
    for hours in (2, 9, 30):
        with shifted(mint, hours * HOUR_S):
            mint.node.chain.mine(6)
            purse.assert_pending(melt)
            mint.restart_plugin(kill=True)
            purse.assert_pending(melt)
    mint.node.release(str(melt.invoice), ok=ok)
    (purse.assert_paid if ok else purse.assert_failed)(melt)
    return f"PENDING for 30 hours, then {'PAID, change given' if ok else 'UNPAID, ecash free'}"


def held_with_the_clock_set_back(mint: Mint, purse: Purse, *, ok: bool) -> str:
    """A melt begins while the clock is hours ahead, and ends after it was put right."""
    with shifted(mint, 5 * HOUR_S):
        melt = purse.hold()
    mint.restart_plugin(kill=True)
    purse.assert_pending(melt)
    mint.node.release(str(melt.invoice), ok=ok)
    (purse.assert_paid if ok else purse.assert_failed)(melt)
    return f"PENDING, then {'PAID' if ok else 'UNPAID, ecash free'} as soon as the node says so"


def clock_jumps_under_an_xpay(mint: Mint, purse: Purse) -> str:
    """xpay looks for a route, its reply is lost, and the clock jumps beyond the time for which it may."""
    behaviour = Behaviour(parts=(Part.hold(),), delay_s=1.0, reply=Reply.closed())
    melt, position = purse.prepare(mint.invoice(behaviour=behaviour)), mint.node.calls_position
    purse.post(melt, prefer_async=True)
    mint.node.wait_for_call("xpay", since=position)
    with shifted(mint, HOUR_S):
        mint.node.close_rpc_connections()
        mint.node.wait_for_part(str(melt.invoice))
        purse.assert_stays_pending(melt, 0.5)
    mint.node.release(str(melt.invoice))
    purse.assert_paid(melt)
    return "waited for by a clock that does not jump; then PAID"


def clock_jumps(mint: Mint, purse: Purse) -> str:
    """Quotes live through jumps of the clock; `updated_at` only ever grows, and ids stay unique."""
    quote, melt = purse.request_mint(21), purse.prepare(mint.invoice())
    seen, ids = [purse.client.mint_quote(quote.quote).updated_at], {quote.quote}
    for number, hours in enumerate((0, 7, -5, 30, -48)):
        with shifted(mint, hours * HOUR_S):
            if number == 0:
                mint.node.pay_invoice(quote.request)
                purse.wait_credited(quote)
            purse.collect(quote, 4)
            seen.append(purse.client.mint_quote(quote.quote).updated_at)
            ids.add(purse.request_mint().quote)
    assert seen == sorted(set(seen)), seen
    assert len(ids) == 6
    with shifted(mint, 30 * HOUR_S):
        refusal = purse.refusal(melt)
        assert refusal.code == Code.QUOTE_EXPIRED
    purse.post(melt)
    purse.assert_paid(melt)
    return "a quote expires by the clock as it is, nothing else; updated_at grew with every change"


def own_clock_at_expiry(mint: Mint, purse: Purse) -> str:
    """The clock jumps beyond a keyset's end and back: its ecash is refused meanwhile, and a successor signs."""
    keyset = mint.node.rpc("cashu-rotate", unit="sat", final_expiry=int(time.time()) + 40 * DAY_S)["id"]
    purse.load_keysets()
    assert purse.keyset.id == keyset
    proofs = purse.fund(8)
    with shifted(mint, 41 * DAY_S):
        try:
            purse.swap(proofs)
        except MintError as error:
            assert error.code == Code.KEYSET_EXPIRED
        else:
            raise AssertionError("spent after its expiry")
        mint.restart_plugin(kill=True)
    mint.restart_plugin(kill=True)
    purse.load_keysets()
    assert purse.keyset.id != keyset
    assert sum(proof.amount for proof in purse.swap(proofs)) == 8
    return "refused with 12003 while the clock is wrong; afterwards the ecash is good, in the successor's keys"


def paid_by_somebody_else(mint: Mint, purse: Purse) -> str:
    """Somebody else pays the invoice between the quote and the melt."""
    melt = purse.prepare(invoice := mint.invoice())
    mint.node.pay_invoice(str(invoice))
    assert purse.refusal(melt).code == Code.PAYMENT_FAILED
    purse.assert_failed(melt)
    return "the destination refuses; UNPAID, ecash free"


def paid_by_the_operator(mint: Mint, purse: Purse) -> str:
    """The operator of the mint's own node pays the same invoice while the melt is held."""
    melt = purse.hold(behaviour=Behaviour.error_in_flight(209))
    try:
        mint.node.rpc("xpay", invstring=str(melt.invoice), label="operator")
    except Exception as refused:
        assert "xpay" not in type(refused).__name__.lower()
    purse.assert_pending(melt)
    mint.node.release(str(melt.invoice))
    purse.assert_paid(melt)
    return "the melt is PAID once; the node refuses the second payment, or it is not taken for ours"


def partly_claimed_after_giving_up(mint: Mint, purse: Purse) -> str:
    """xpay has given up, one of its parts is still held; the destination claims it later, below the amount."""
    half = Behaviour(parts=(Part.failure(), Part.hold()))
    melt = purse.prepare(mint.invoice(1000, half), blanks=12)
    purse.post(melt, prefer_async=True)
    mint.node.wait_until(lambda: [r["status"] for r in mint.node.rows(str(melt.invoice))] == ["failed", "pending"])
    purse.assert_stays_pending(melt, 0.3)
    mint.node.release(str(melt.invoice))
    purse.assert_paid(melt, sent_msat=501_000)
    return "PENDING until the part is decided, then PAID; what was not claimed is change"


def overpaid_invoice(mint: Mint, purse: Purse) -> str:
    """An invoice is overpaid, as far as the node accepts it."""
    quote = purse.request_mint(100)
    mint.node.pay_invoice(quote.request, 200_000)
    purse.wait_credited(quote, 200)
    assert len(purse.collect(quote, 150)) + len(purse.collect(quote, 50)) > 0
    return "credited as received, and issued in full"


def invoice_paid_twice(mint: Mint, purse: Purse) -> str:
    """Somebody tries to pay the same mint quote again."""
    quote = purse.request_mint(100)
    mint.node.pay_invoice(quote.request)
    purse.wait_credited(quote)
    try:
        mint.node.pay_invoice(quote.request)
    except Exception as refused:
        assert "unpayable" in str(refused) or "paid" in str(refused) or "203" in str(refused), refused
    else:
        raise AssertionError("paid twice")
    assert purse.client.mint_quote(quote.quote).amount_paid == 100
    return "the node refuses the second payment; credited once"


def rows_deleted_while_off(mint: Mint, purse: Purse) -> str:
    """`autoclean` deletes a failed payment's rows while the mint is off: nothing tells what became of it."""
    melt = purse.hold(behaviour=SILENT)
    mint.node.kill_plugin()
    mint.node.release(str(melt.invoice), ok=False)
    mint.node.delete_rows(str(melt.invoice))
    mint.start_plugin()
    wait_stuck(mint, melt)
    purse.assert_stays_pending(melt, 0.5)
    return "stays PENDING and is listed for the operator"


def paid_rows_deleted_while_off(mint: Mint, purse: Purse) -> str:
    """The same with a payment that was made: the node's accounts still know it."""
    melt = purse.hold(behaviour=SILENT)
    mint.node.kill_plugin()
    mint.node.release(str(melt.invoice))
    payment_hash = mint.node.payment_hash(str(melt.invoice))
    mint.node.wait_until(
        lambda: any(m.get("payment_hash") == payment_hash for m in mint.node.rpc("listchannelmoves")["channelmoves"])
    )
    mint.node.delete_rows(str(melt.invoice))
    mint.start_plugin()
    purse.assert_paid(melt, preimage=False)
    return "PAID, by the node's accounts; the preimage is lost"


def paid_invoice_deleted_while_off(mint: Mint, purse: Purse) -> str:
    """`autoclean` deletes a paid invoice before the mint has seen that it was paid."""
    quotes = [purse.request_mint(n) for n in (33, 34, 35)]
    mint.node.kill_plugin()
    for quote, msat in zip(quotes[:2], (33_000, 40_900), strict=True):
        label = mint.node.rpc("listinvoices", invstring=quote.request)["invoices"][0]["label"]
        mint.node.pay_invoice(quote.request, msat)
        mint.node.rpc("delinvoice", label=label, status="paid")
    mint.start_plugin()
    purse.wait_credited(quotes[0])
    purse.wait_credited(quotes[1], 40)
    mint.restart_plugin(kill=True)
    assert [purse.client.mint_quote(quote.quote).amount_paid for quote in quotes] == [33, 40, 0]
    mint.node.pay_invoice(quotes[2].request)
    purse.wait_credited(quotes[2])
    assert sum(proof.amount for proof in purse.collect(quotes[0])) == 33
    return "credited, by the node's accounts"


def node_rolled_back_under_a_payment(mint: Mint, purse: Purse) -> str:
    """The node's database is put back to a copy from before a payment that was made and not noticed yet. Then others
    are paid, until the node has counted as far as it had."""
    copy = Rollback(mint)
    melt = purse.hold(behaviour=SILENT)
    mint.node.kill_plugin()
    mint.node.release(str(melt.invoice))
    mint.node.wait_until(lambda: [row["status"] for row in mint.node.rows(str(melt.invoice))] == ["complete"])
    copy.put_back()
    assert mint.node.rows(str(melt.invoice)) == []
    wait_stuck(mint, melt)
    for _ in range(3):
        purse.assert_paid(purse.post_async(mint.invoice()))
    mint.restart_plugin(kill=True)
    wait_stuck(mint, melt)
    purse.assert_stays_pending(melt, 2.5)
    assert purse.refusal(purse.prepare(str(melt.invoice), quote=melt.quote)).code == Code.QUOTE_PENDING
    return "stays PENDING and is listed: what the node lacks proves nothing"


def node_rolled_back_with_a_payment_in_flight(mint: Mint, purse: Purse) -> str:
    """The copy is of a moment when the payment was in flight; it was claimed since, but for the copy it fails."""
    melt = purse.hold()
    copy = Rollback(mint)
    mint.node.kill_plugin()
    mint.node.release(str(melt.invoice))
    mint.node.wait_until(lambda: [row["status"] for row in mint.node.rows(str(melt.invoice))] == ["complete"])
    mint.start_plugin()
    purse.assert_paid(melt)
    copy.put_back()
    assert [row["status"] for row in mint.node.rows(str(melt.invoice))] == ["pending"]
    mint.node.release(str(melt.invoice), ok=False)
    mint.restart_plugin(kill=True)
    assert (purse.look(melt).state, purse.states(melt.inputs)) == (PAID, {SPENT})
    return "what was PAID stays PAID, whatever the node says later"


def node_rolled_back_and_its_payment_fails(mint: Mint, purse: Purse) -> str:
    """The same, but the mint has not noticed the claim: the node's later failure is not believed."""
    melt = purse.hold(behaviour=SILENT)
    copy = Rollback(mint)
    purse.fund(4)  # anything that is committed
    mint.node.kill_plugin()
    mint.node.release(str(melt.invoice))
    copy.put_back()
    mint.node.release(str(melt.invoice), ok=False)
    mint.node.wait_until(lambda: [row["status"] for row in mint.node.rows(str(melt.invoice))] == ["failed"])
    mint.restart_plugin(kill=True)
    wait_stuck(mint, melt)
    purse.assert_stays_pending(melt, 0.5)
    return "stays PENDING and is listed"


def node_rolled_back_and_paid_again(mint: Mint, purse: Purse) -> str:
    """The node counts its paid invoices anew from the copy on: none of them may be passed by."""
    older = purse.request_mint(5)
    copy = Rollback(mint)
    credited = [purse.fund(n) for n in (1, 2, 3)]
    copy.put_back()
    mint.node.pay_invoice(older.request)
    purse.wait_credited(older)
    fresh = purse.fund(7)
    assert len(purse.swap([proof for proofs in credited for proof in proofs] + fresh)) > 0
    failed = purse.prepare(mint.invoice(behaviour=Behaviour.refused()))
    assert purse.refusal(failed).code == Code.PAYMENT_FAILED
    assert purse.look(failed).state == UNPAID
    return "every invoice paid since is credited; older ecash stays good; new melts fail and succeed as ever"


def node_rolled_back_before_it_knew_the_mint(mint: Mint, purse: Purse) -> str:
    """The copy does not know the mint at all."""
    melt = purse.hold(behaviour=SILENT)
    mint.node.kill_plugin()
    mint.node.release(str(melt.invoice))
    mint.node.delete_rows(str(melt.invoice))
    mint.node.rpc("deldatastore", key=["cashu", "ledger"])
    mint.expect_broken(ROLLED_BACK)
    mint.restart_node(kill=False)
    wait_stuck(mint, melt)
    assert purse.look(melt).state == PENDING
    return "stays PENDING and is listed"


Scenario = Callable[[Mint, Purse], str]

SCENARIOS: dict[str, Scenario] = {
    "a payment is held for 30 hours, then claimed": lambda mint, purse: held_for_hours(mint, purse, ok=True),
    "a payment is held for 30 hours, then comes back": lambda mint, purse: held_for_hours(mint, purse, ok=False),
    "the clock is set back under a payment that is claimed": lambda mint, purse: held_with_the_clock_set_back(
        mint, purse, ok=True
    ),
    "the clock is set back under a payment that comes back": lambda mint, purse: held_with_the_clock_set_back(
        mint, purse, ok=False
    ),
    "the clock jumps forward under an xpay that looks for a route": clock_jumps_under_an_xpay,
    "the clock jumps by hours, back and forth": clock_jumps,
    "the clock jumps beyond a keyset's end and back": own_clock_at_expiry,
    "an invoice is paid by somebody else before the melt": paid_by_somebody_else,
    "the operator pays the invoice of a melt in flight": paid_by_the_operator,
    "a destination claims a part after xpay gave up": partly_claimed_after_giving_up,
    "a mint quote's invoice is overpaid": overpaid_invoice,
    "a mint quote's invoice is paid twice": invoice_paid_twice,
    "rows of a failed payment are deleted while the mint is off": rows_deleted_while_off,
    "rows of a payment that was made are deleted while the mint is off": paid_rows_deleted_while_off,
    "a paid invoice is deleted while the mint is off": paid_invoice_deleted_while_off,
    "the node is rolled back to before a payment in flight": node_rolled_back_under_a_payment,
    "the node is rolled back to a payment that was paid since": node_rolled_back_with_a_payment_in_flight,
    "the node is rolled back to a payment that was claimed since, unnoticed": node_rolled_back_and_its_payment_fails,
    "the node is rolled back, and invoices are paid": node_rolled_back_and_paid_again,
    "the node is rolled back to before it knew the mint": node_rolled_back_before_it_knew_the_mint,
}

DAILY = (
    "the clock is set back under a payment that comes back",
    "the clock jumps forward under an xpay that looks for a route",
    "the clock jumps by hours, back and forth",
    "an invoice is paid by somebody else before the melt",
    "the operator pays the invoice of a melt in flight",
    "a mint quote's invoice is paid twice",
    "a paid invoice is deleted while the mint is off",
    "the node is rolled back to before a payment in flight",
    "the node is rolled back, and invoices are paid",
)
"""What is new or quick; the others are slow, and other tests show the same one by one."""
