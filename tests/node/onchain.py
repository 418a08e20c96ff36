"""A purse that mints and melts on the chain (NUT-30), and a mint without channels, whose ecash comes from there."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw
import httpx
from coincurve import PrivateKey

from contrib.wallet import Output, WalletProof, make_outputs, messages, quote_lock, unblind, unblind_change
from contrib.wallet.client import MintClient
from contrib.wallet.keysets import Keyset
from contrib.wallet.selection import select
from ledger.audit import audit
from ledger.models import MeltQuoteOnchain, MeltQuoteState, MintQuoteOnchain, ProofState, SignaturesResponse
from tests.node.harness import PATIENCE_S, Mint, Network, wait_for

KEY = PrivateKey(b"\x12" * 32)
CONFIRMATIONS = 2
COIN_SAT = 1_000_000
AMOUNT = 50_000
INSIDE = Path(__file__).parents[2] / "contrib" / "inside"


@dataclass(eq=False)
class Payout:
    """An on-chain melt as its wallet prepared it."""

    quote: MeltQuoteOnchain
    address: str
    inputs: list[WalletProof]
    blanks: list[Output]

    @property
    def body(self) -> dict[str, Any]:
        """The JSON of `POST /v1/melt/onchain`."""
        shown = ("amount", "id", "secret", "C")
        return {
            "quote": self.quote.quote,
            "fee_index": 0,
            "inputs": [{name: getattr(proof, name) for name in shown} for proof in self.inputs],
            "outputs": [message.model_dump() for message in messages(self.blanks)],
        }


class OnchainMint(Mint):
    """A mint that dies where a test wants it to."""

    _armed_at = 0

    @property
    def _plan(self) -> Path:
        return self.log_path.with_name("inside.json")

    def prepare_points(self, points: Sequence[str]) -> None:
        """Before it starts: where it can be made to die (see `contrib/inside`)."""
        self._plan.write_text(json.dumps({"die": list(points)}))
        self.raw.daemon.env |= {"PYTHONPATH": str(INSIDE), "NUTBOLT_INSIDE": str(self._plan)}

    def arm(self, point: str) -> None:
        """The plugin kills itself when it comes to this point."""
        self._armed_at = len(self.log_lines())
        self._plan.with_suffix(".armed").write_text(point)

    def wait_dead(self) -> None:
        """Wait until the plugin has killed itself, and the node has noticed."""
        self.wait_for_log(r"plugin-nutbolt\.py: .*exited", self._armed_at)
        self._plan.with_suffix(".armed").unlink()

    def coins(self) -> list[dict[str, Any]]:
        """The wallet's outputs that are not spent."""
        return [dict(row) for row in self.call("listfunds")["outputs"]]

    def come_back(self, *, node: bool) -> None:
        """The plugin has killed itself, and the node with it or not; both are there again."""
        if node:
            self.kill()
            self.start()
        else:
            self.start_plugin()
        self.wait_ready()


@contextmanager
def onchain_mint(network: Network, points: Sequence[str] = (), **options: Any) -> Iterator[OnchainMint]:
    """A mint whose node has no channel."""
    settings = {"cashu_onchain_confirmations": CONFIRMATIONS, "cashu_onchain_min": 1000, "cashu_max_mint": 0, **options}
    plain = network.plain_mint(**settings)
    mint = OnchainMint(plain.raw, plain.options, None)
    network.replace(plain, mint)
    mint.prepare_points(points)
    mint.start()
    mint.wait_ready()
    try:
        yield mint
    finally:
        problems = network.discard(mint)
    assert not problems, "\n".join(problems)


class Chain:
    """bitcoind, and a wallet of somebody else in it."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self.rpc: Any = network.bitcoind.rpc

    def mine(self, blocks: int = 1, *nodes: Mint, wait_for_mempool: str | int = 0) -> None:
        """Blocks with all that waits; the nodes have processed them then."""
        self._network.bitcoind.generate_block(blocks, wait_for_mempool=wait_for_mempool)
        self.sync(*nodes)

    def mine_empty(self, blocks: int, *nodes: Mint) -> None:
        """Blocks with nothing in them."""
        address = self.rpc.getnewaddress()
        for _ in range(blocks):
            self.rpc.generateblock(address, [])
        self.sync(*nodes)

    def sync(self, *nodes: Mint) -> None:
        """Wait until nodes have processed all blocks."""
        height = self.rpc.getblockcount()
        for node in nodes:
            wait_for(lambda node=node: node.call("getinfo")["blockheight"] == height, "the node to follow")  # type: ignore[misc]

    def forget(self, blocks: int) -> None:
        """The last blocks are not valid any more."""
        height = self.rpc.getblockcount()
        self.rpc.invalidateblock(self.rpc.getblockhash(height - blocks + 1))

    def pay(self, address: str, amount_sat: int) -> str:
        """Somebody pays; the txid."""
        return str(self.rpc.sendtoaddress(address, f"{amount_sat / 1e8:.8f}"))

    def give_coins(self, mint: Mint, *amounts_sat: int) -> None:
        """The node's wallet has these coins more."""
        before = len(mint.call("listfunds")["outputs"])
        for amount_sat in amounts_sat:
            self.pay(mint.call("newaddr", addresstype="p2tr")["p2tr"], amount_sat)
        self.mine(1, mint, wait_for_mempool=len(amounts_sat))
        wait_for(lambda: len(mint.call("listfunds")["outputs"]) == before + len(amounts_sat), "the coins to arrive")

    def address(self) -> str:
        """An address of that wallet."""
        return str(self.rpc.getnewaddress())

    def received_sat(self, address: str) -> int:
        """What an address of that wallet was paid, confirmed or not."""
        return round(float(self.rpc.getreceivedbyaddress(address, 0)) * 1e8)

    def fee_sat(self, txid: str) -> int:
        """What a transaction in the chain paid the miners."""
        tx = self.rpc.getrawtransaction(txid, 2)
        return round(float(tx["fee"]) * 1e8)


class ChainPurse:
    """Ecash of one mint, in sat, from the chain and to it."""

    def __init__(self, mint: Mint, chain: Chain) -> None:
        self.mint = mint
        self.chain = chain
        self.proofs: list[WalletProof] = []
        self._client = MintClient(mint.url)
        self.keysets = {wire.id: Keyset.from_wire(wire) for wire in self._client.keys()}
        self._keyset = next(iter(self.keysets.values()))

    @property
    def balance(self) -> int:
        """The proofs' sum."""
        return sum(proof.amount for proof in self.proofs)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON of a 200."""
        response = httpx.request(method, f"{self.mint.url}{path}", json=body, timeout=PATIENCE_S)
        assert response.status_code == 200, response.text
        return response.json()

    def refused(self, path: str, body: Any) -> tuple[int, str]:
        """Code and detail of a refusal."""
        response = httpx.post(f"{self.mint.url}{path}", json=body, timeout=PATIENCE_S)
        assert response.status_code == 400, response.text
        return int(response.json()["code"]), str(response.json()["detail"])

    def request_address(self) -> MintQuoteOnchain:
        """A new mint quote."""
        body = {"unit": "sat", "pubkey": KEY.public_key.format().hex()}
        quote = MintQuoteOnchain.model_validate(self.call("POST", "/v1/mint/quote/onchain", body))
        self.mint.confidential.add(quote.quote)
        return quote

    def look_at(self, quote: MintQuoteOnchain) -> MintQuoteOnchain:
        """`GET` the mint quote."""
        return MintQuoteOnchain.model_validate(self.call("GET", f"/v1/mint/quote/onchain/{quote.quote}"))

    def wait_credit(self, quote: MintQuoteOnchain, amount: int) -> None:
        """Wait until so much was credited."""
        wait_for(lambda: self.look_at(quote).amount_paid == amount, f"{amount} sat to be credited")

    def collect(self, quote: MintQuoteOnchain, amount: int) -> None:
        """Have ecash issued."""
        outputs = make_outputs(self._keyset, self._keyset.split(amount))
        wire = messages(outputs)
        signature = quote_lock.sign(KEY, quote_lock.message(quote.quote, wire))
        body = {"quote": quote.quote, "outputs": [m.model_dump() for m in wire], "signature": signature}
        answer = SignaturesResponse.model_validate(self.call("POST", "/v1/mint/onchain", body))
        self.proofs += unblind(outputs, answer.signatures, self.keysets)

    def fund(self, amount: int) -> None:
        """Mint ecash for a deposit."""
        quote = self.request_address()
        txid = self.chain.pay(quote.request, amount)
        self.chain.mine(1, wait_for_mempool=txid)
        self.chain.mine(CONFIRMATIONS - 1, self.mint)
        self.wait_credit(quote, amount)
        self.collect(quote, amount)

    def prepare(self, amount: int = AMOUNT, address: str | None = None) -> Payout:
        """A melt, its proofs taken out of the purse."""
        address = address or self.chain.address()
        body = {"request": address, "unit": "sat", "amount": amount}
        quote = MeltQuoteOnchain.model_validate(self.call("POST", "/v1/melt/quote/onchain", body))
        self.mint.confidential.add(quote.quote)
        needed = quote.amount + quote.fee_options[0].fee_reserve
        chosen = select(self.proofs, needed, self.keysets)
        self.proofs = [proof for proof in self.proofs if proof not in chosen]
        return Payout(quote, address, chosen, make_outputs(self._keyset, [0] * 24))

    def post(self, payout: Payout) -> None:
        """`POST /v1/melt/onchain`, which is answered PENDING."""
        answer = MeltQuoteOnchain.model_validate(self.call("POST", "/v1/melt/onchain", payout.body))
        assert answer.state == MeltQuoteState.PENDING

    def look(self, payout: Payout) -> MeltQuoteOnchain:
        """`GET` the melt quote."""
        return MeltQuoteOnchain.model_validate(self.call("GET", f"/v1/melt/quote/onchain/{payout.quote.quote}"))

    def wait_sent(self, payout: Payout) -> str:
        """Wait until the transaction is broadcast; its txid."""
        found = wait_for(lambda: self.look(payout).outpoint, "the transaction to be broadcast")
        assert found is not None
        return found[:64]

    def states(self, payout: Payout) -> set[ProofState]:
        """Of its proofs."""
        return {entry.state for entry in self._client.check_state(proof.y for proof in payout.inputs)}

    def assert_pending(self, payout: Payout) -> None:
        """PENDING, with its proofs held."""
        assert self.look(payout).state == MeltQuoteState.PENDING
        assert self.states(payout) == {ProofState.PENDING}

    def assert_failed(self, payout: Payout) -> MeltQuoteOnchain:
        """UNPAID again, or soon so; the proofs are in the purse again."""
        wait_for(lambda: self.look(payout).state != MeltQuoteState.PENDING, "the melt to be decided")
        quote = self.look(payout)
        assert (quote.state, quote.outpoint) == (MeltQuoteState.UNPAID, None), quote
        assert self.states(payout) == {ProofState.UNSPENT}
        self.proofs += payout.inputs
        return quote

    def assert_paid(self, payout: Payout) -> MeltQuoteOnchain:
        """PAID, or soon so: the address was paid once, and what the miners didn't get is in the purse again."""
        wait_for(lambda: self.look(payout).state != MeltQuoteState.PENDING, "the melt to be decided")
        quote = self.look(payout)
        assert quote.state == MeltQuoteState.PAID, quote
        assert quote.outpoint is not None
        assert self.states(payout) == {ProofState.SPENT}
        change = unblind_change(payout.blanks, quote.change or [], self.keysets)
        cost = sum(p.amount for p in payout.inputs) - sum(p.amount for p in change)
        assert cost == quote.amount + self.chain.fee_sat(quote.outpoint[:64])
        self.proofs += change
        return quote

    def assert_paid_outside(self, payout: Payout) -> MeltQuoteOnchain:
        """The same, and the wallet that was paid says so too."""
        quote = self.assert_paid(payout)
        assert self.chain.received_sat(payout.address) == quote.amount
        return quote

    def assert_books(self) -> None:
        """The mint owes what is in this purse, and its books are what its rows say."""
        assert self.mint.outstanding_sat() == self.balance
        connection = apsw.Connection(str(self.mint.ledger_path), flags=apsw.SQLITE_OPEN_READONLY)
        connection.set_busy_timeout(10_000)
        try:
            assert audit(connection).faults == ()
        finally:
            connection.close()
