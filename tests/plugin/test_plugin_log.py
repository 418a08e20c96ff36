"""The log: one line for each event of money, with what joins it up with the node, and nothing secret in any line."""

from __future__ import annotations

import json
import re

from ledger.ids import handle_of, label_of
from tests.plugin.conftest import MakeMint
from tests.plugin.harness import Mint, Purse, wait_for
from tests.plugin.offers import OfferPurse
from tests.plugin.onchain import CONFIRMATIONS, OPTIONS, ChainPurse


def lines(mint: Mint, pattern: str, level: str = "info") -> list[str]:
    """What the plugin has logged, by the beginning of its lines."""
    found = [line for line in mint.lines if line.source.startswith("plugin-")]
    return [line.message for line in found if line.level == level and re.match(pattern, line.message)]


def wait_lines(mint: Mint, pattern: str, expected: list[str], since: int = 0) -> None:
    """Wait until these are the lines that begin so: a line may come after the answer to the wallet."""
    wait_for(lambda: len(lines(mint, pattern)) - since >= len(expected), f"{len(expected)} lines like {pattern!r}")
    assert lines(mint, pattern)[since:] == expected


def test_each_event_of_money_is_one_line_that_can_be_found_by_the_nodes_own_names(make_mint: MakeMint) -> None:
    mint = make_mint(**OPTIONS)
    purse = Purse(mint)
    minted = purse.request_mint(64)
    mint.node.pay_invoice(minted.request)
    purse.wait_credited(minted)
    proofs = purse.swap(purse.collect(minted))
    label = label_of(minted.quote)
    payment_hash = mint.node.payment_hash(minted.request)
    paid = f"mint quote paid: 64000 msat, hash {payment_hash}, bolt11 quote {label}"
    wait_lines(mint, "mint quote paid", [paid])
    wait_lines(mint, "ecash issued", [f"ecash issued: 64 sat, bolt11 quote {label}"])

    invoice = mint.invoice(20)
    melt = purse.prepare(invoice)
    before = len(lines(mint, "melt"))
    purse.post(melt)
    purse.post(melt)  # an identical request begins nothing
    handle, label = handle_of(melt.quote.quote, 1), label_of(melt.quote.quote)
    begun = f"melt begun: 20 sat, bolt11 melt {handle}, label {label}, hash {invoice.payment_hash}"
    wait_lines(mint, "melt", [begun, f"melt paid: 20 sat, hash {invoice.payment_hash}"], before)

    held = purse.hold(30)
    mint.node.release(str(held.invoice), ok=False)
    purse.assert_failed(held)
    assert held.invoice is not None
    failed = f"melt failed: 30 sat, hash {held.invoice.payment_hash}: the destination refused the payment"
    wait_lines(mint, "melt failed", [failed])

    keyset = mint.node.rpc("cashu-rotate", unit="sat")["id"]
    wait_lines(mint, "keyset rotated", [f"keyset rotated by the operator: sat, input fee 0 ppk: {keyset}"])
    mint.node.rpc("cashu-pause", what="melting")
    mint.node.rpc("cashu-unpause")
    said = ["has paused melting: paused is now melting", "has unpaused both: paused is now nothing"]
    wait_lines(mint, "the operator", [f"the operator {what}" for what in said])
    for secret in (melt.invoice.preimage if melt.invoice else "", *(proof.secret for proof in proofs)):
        assert secret in mint.secrets


def test_nothing_secret_is_logged_of_any_method_nor_of_what_is_refused(make_mint: MakeMint) -> None:
    """Quote ids, preimages, proofs' secrets and signatures, in all lines of all levels, and in metrics and commands."""
    mint = make_mint(**OPTIONS)
    chain, offers, purse = ChainPurse(mint), OfferPurse(mint), Purse(mint)
    chain.chain.give_coins(100_000)
    proofs = [*purse.fund(32), *offers.collect_offer(offers.paid_offer(100), 100)]
    quote = chain.request_address()
    chain.chain.deposit(quote.request, 5000, blocks=CONFIRMATIONS)
    chain.wait_credit(quote, 5000)
    proofs += chain.collect_onchain(quote, 5000)
    payout = chain.begin_payout(2000)
    txid = chain.wait_sent(payout)
    chain.blocks_until_paid(payout)
    paid = purse.prepare(mint.invoice(20))
    purse.post(paid)
    purse.assert_paid(paid)
    held = purse.hold(30)
    mint.restart_plugin(kill=True)
    mint.node.release(str(held.invoice))
    purse.assert_paid(held)
    proofs += [*paid.inputs, *held.inputs]
    secrets = mint.secrets | {proof.C for proof in proofs} | {proof.secret for proof in proofs}
    assert len(secrets) > 40
    for secret in sorted(secrets)[:3]:  # what is refused must not be logged either
        mint.http.post("/v1/swap", content=f'{{"inputs": [{{"secret": "{secret}", ')
        mint.http.get(f"/v1/melt/quote/bolt11/{secret}")
        mint.http.get(f"/{secret}")
    said = [line.message for line in mint.lines if line.source.startswith("plugin-")]
    assert not [text for text in said if any(secret in text for secret in secrets)]
    shown = [json.dumps(mint.node.rpc(command)) for command in ("cashu-info", "cashu-balance", "cashu-audit")]
    shown += [json.dumps(mint.node.rpc("cashu-quotes", kind=kind)) for kind in ("mint", "melt")]
    secrets.remove(quote.request)  # an address: private, but the operator may see it
    assert not [text for text in shown if any(secret in text for secret in secrets)]
    wait_for(lambda: len(lines(mint, f"melt broadcast: .* txid {txid}")) == 1, "the line of the broadcast")
    wait_for(lambda: len(lines(mint, f"melt paid: 2000 sat, fee .* txid {txid}")) == 1, "the line of the payout")
    wait_for(lambda: len(lines(mint, "mint quote paid: 5000 sat, output")) == 1, "the line of the deposit")
