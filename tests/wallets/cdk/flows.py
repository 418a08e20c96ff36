"""What is done with CDK's wallet: `python flows.py FLOW`, in the environment in which the wallet is installed.

From outside come MINT_URL, NODE_SOCKET (lightning-rpc of the node) and INPUT_FEE_PPK. Standard library only.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import cdk  # type: ignore[import-not-found]  # only where the wallet is installed

MINT_URL = os.environ["MINT_URL"]
INPUT_FEE_PPK = int(os.environ["INPUT_FEE_PPK"])
PATIENCE_S = 30.0
TICK_S = 0.02

# The two smallest private keys, and their public keys.
BOB = ("01".rjust(64, "0"), "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798")
CAROL = ("02".rjust(64, "0"), "02c6047f9441ed7d6d3045406e95c07cd85c778e4b8cef3ca7abac09b95c709ee5")

ALL = cdk.SplitTarget.NONE()
SAT, MSAT = cdk.CurrencyUnit.SAT(), cdk.CurrencyUnit.MSAT()


def node(method: str, **params: Any) -> Any:
    """A command of the node, as lightning-cli sends it."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(os.environ["NODE_SOCKET"])
        connection.sendall(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode())
        text = b""
        while not text.endswith(b"\n\n"):
            text += connection.recv(1 << 16)
    answer = json.loads(text)
    assert "result" in answer, answer
    return answer["result"]


def release(payment_hash: str) -> None:
    """Wait until a held payment is on its way, then let it arrive."""
    while not node("listsendpays", payment_hash=payment_hash)["payments"]:
        time.sleep(TICK_S)
    node("sandbox-release", payment_hash=payment_hash)


def wallet(mnemonic: str | None = None, unit: Any = SAT) -> Any:
    """A wallet with an empty database."""
    database = cdk.WalletSqliteDatabase(str(Path(tempfile.mkdtemp()) / "wallet.sqlite"))
    return cdk.Wallet(
        MINT_URL, unit, mnemonic or cdk.generate_mnemonic(), database, cdk.WalletConfig(target_proof_count=None)
    )


async def balance(purse: Any) -> int:
    return int((await purse.total_balance()).value)


async def fund(purse: Any, amount: int) -> Any:
    """Ecash for an invoice that somebody pays while the wallet listens on the WebSocket."""
    quote = await purse.mint_quote(cdk.Amount(value=amount), None)
    updates = await purse.subscribe(
        cdk.SubscribeParams(kind=cdk.SubscriptionKind.BOLT11_MINT_QUOTE, filters=[quote.id], id=None)
    )
    node("sandbox-pay", bolt11=quote.request)
    async with asyncio.timeout(PATIENCE_S):
        while (await updates.recv()).quote.state != cdk.QuoteState.PAID:
            pass
    proofs = await purse.mint(quote.id, ALL, None)
    assert cdk.proofs_total_amount(proofs).value == amount
    return proofs


async def send(purse: Any, amount: int, lock: Any = None) -> Any:
    """A token that is worth so much to whoever receives it."""
    options = cdk.SendOptions(
        memo=None,
        conditions=lock,
        amount_split_target=ALL,
        send_kind=cdk.SendKind.ONLINE_EXACT(),
        include_fee=True,
        max_proofs=None,
        metadata={},
    )
    return await (await purse.prepare_send(cdk.Amount(value=amount), options)).confirm(None)


async def receive(purse: Any, token: Any, key: tuple[str, str] | None = None, preimage: str | None = None) -> int:
    keys = [] if key is None else [cdk.SecretKey(hex=key[0])]
    preimages = [] if preimage is None else [preimage]
    options = cdk.ReceiveOptions(amount_split_target=ALL, p2pk_signing_keys=keys, preimages=preimages, metadata={})
    return int((await purse.receive(token, options)).value)


async def refused(attempt: Awaitable[Any]) -> str:
    """The attempt must fail; returns why."""
    try:
        result = await attempt
    except cdk.FfiError as error:
        return str(error)
    raise AssertionError(f"accepted: {result}")


def conditions(**given: Any) -> Any:
    """The tags of a lock."""
    none: dict[str, Any] = {
        "locktime": None,
        "pubkeys": [],
        "refund_keys": [],
        "num_sigs": None,
        "sig_flag": 0,
        "num_sigs_refund": None,
    }
    return cdk.Conditions(**{**none, **given})


# --- the flows ------------------------------------------------------------------------------------------------------


async def load() -> None:
    """Info, keysets and keys."""
    purse = wallet()
    info = await purse.load_mint_info()
    assert info.name == "Nutbolt"
    assert all(getattr(info.nuts, f"nut{number:02}_supported") for number in (7, 8, 9, 10, 11, 12, 14, 20))
    keyset = await purse.get_active_keyset()
    assert keyset.active
    assert await purse.get_keyset_fees_by_id(keyset.id) == INPUT_FEE_PPK


async def mint_send_receive() -> None:
    """Ecash minted, and given from one wallet to another."""
    alice, bob = wallet(), wallet()
    await fund(alice, 1000)
    token = await send(alice, 77)
    assert await receive(bob, token) == 77
    assert await balance(bob) == 77
    await bob.verify_token_dleq(token)
    assert "spent" in (await refused(receive(wallet(), token))).lower()
    assert 1000 - 77 - 3 <= await balance(alice) <= 1000 - 77


async def p2pk() -> None:
    """Ecash locked to a key, to two keys, and to one until a time. (This release signs SIG_ALL in a way of its own.)"""
    alice, bob = wallet(), wallet()
    await fund(alice, 1000)
    token = await send(alice, 64, cdk.SpendingConditions.P2PK(BOB[1], None))
    await refused(receive(wallet(), token))
    await refused(receive(wallet(), token, CAROL))
    assert await receive(bob, token, BOB) == 64
    two = cdk.SpendingConditions.P2PK(BOB[1], conditions(pubkeys=[CAROL[1]], num_sigs=2))
    await refused(receive(bob, await send(alice, 64, two), BOB))
    late = conditions(locktime=int(time.time()) + 3600, refund_keys=[CAROL[1]])
    token = await send(alice, 64, cdk.SpendingConditions.P2PK(BOB[1], late))
    await refused(receive(wallet(), token, CAROL))
    assert await receive(bob, token, BOB) == 64


async def htlc() -> None:
    """Ecash for whoever knows a preimage and has the key."""
    alice, bob = wallet(), wallet()
    await fund(alice, 500)
    preimage = "aa" * 32
    payment_hash = hashlib.sha256(bytes.fromhex(preimage)).hexdigest()
    token = await send(alice, 64, cdk.SpendingConditions.HTLC(payment_hash, conditions(pubkeys=[BOB[1]])))
    await refused(receive(wallet(), token, BOB, "bb" * 32))
    await refused(receive(wallet(), token, CAROL, preimage))
    assert await receive(bob, token, BOB, preimage) == 64


async def melt() -> None:
    """An invoice paid with ecash; change, preimage and fee."""
    purse = wallet()
    await fund(purse, 1000)
    invoice = node("sandbox-invoice", amount_msat=300_000)
    quote = await purse.melt_quote(invoice["bolt11"], None)
    melted = await purse.melt(quote.id)
    assert melted.state == cdk.QuoteState.PAID
    assert hashlib.sha256(bytes.fromhex(melted.preimage)).hexdigest() == invoice["payment_hash"]
    assert melted.amount.value == 300
    (row,) = node("listsendpays", payment_hash=invoice["payment_hash"])["payments"]
    routing = -(-(row["amount_sent_msat"] - row["amount_msat"]) // 1000)
    cost = 1000 - 300 - await balance(purse)
    assert routing <= cost <= routing + 4 * (INPUT_FEE_PPK > 0)  # swap and melt have their input fees


async def melt_held() -> None:
    """A payment that takes its time; the WebSocket tells of it."""
    purse = wallet()
    await fund(purse, 1000)
    invoice = node("sandbox-invoice", amount_msat=300_000, behaviour="hold")
    quote = await purse.melt_quote(invoice["bolt11"], None)
    updates = await purse.subscribe(
        cdk.SubscribeParams(kind=cdk.SubscriptionKind.BOLT11_MELT_QUOTE, filters=[quote.id], id=None)
    )
    payment = asyncio.create_task(purse.melt(quote.id))
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.to_thread(release, invoice["payment_hash"])
        while (await updates.recv()).quote.state != cdk.QuoteState.PAID:
            pass
        assert (await payment).state == cdk.QuoteState.PAID


async def melt_failed() -> None:
    """A payment that fails leaves the wallet its ecash."""
    purse = wallet()
    await fund(purse, 1000)
    for behaviour in ("failure", "noroute"):
        invoice = node("sandbox-invoice", amount_msat=300_000, behaviour=behaviour)
        quote = await purse.melt_quote(invoice["bolt11"], None)
        await refused(purse.melt(quote.id))
        await purse.check_all_pending_proofs()
        assert await balance(purse) == 1000
    assert await receive(wallet(), await send(purse, 900)) == 900


async def amountless() -> None:
    """An invoice that leaves the amount to its payer, and one of which somebody else pays a part."""
    purse = wallet()
    await fund(purse, 500)
    invoice = node("sandbox-invoice", amount_msat="any")
    options = cdk.MeltOptions.AMOUNTLESS(cdk.Amount(value=123_000))
    quote = await purse.melt_quote(invoice["bolt11"], options)
    assert quote.amount.value == 123
    assert (await purse.melt(quote.id)).state == cdk.QuoteState.PAID
    shared = node("sandbox-invoice", amount_msat=100_000)["bolt11"]
    part = await purse.melt_quote(shared, cdk.MeltOptions.MPP(cdk.Amount(value=40_000)))
    assert part.amount.value == 40
    rest = asyncio.create_task(asyncio.to_thread(node, "sandbox-pay", bolt11=shared, amount_msat=60_000))
    assert (await purse.melt(part.id)).state == cdk.QuoteState.PAID
    await rest


async def restore() -> None:
    """Ecash found again with nothing but the seed."""
    words = cdk.generate_mnemonic()
    purse = wallet(words)
    await fund(purse, 500)
    await receive(wallet(), await send(purse, 77))
    quote = await purse.melt_quote(node("sandbox-invoice", amount_msat=100_000)["bolt11"], None)
    await purse.melt(quote.id)
    left = await balance(purse) + (await purse.total_reserved_balance()).value  # it forgets what it has reserved
    found = wallet(words)
    await found.restore()
    assert await balance(found) == left


async def units() -> None:
    """Ecash in millisatoshis."""
    purse = wallet(unit=MSAT)
    await fund(purse, 50_000)
    quote = await purse.melt_quote(node("sandbox-invoice", amount_msat=10_000)["bolt11"], None)
    assert quote.amount.value == 10_000
    assert (await purse.melt(quote.id)).state == cdk.QuoteState.PAID


FLOWS: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
    flow.__name__: flow
    for flow in (
        load,
        mint_send_receive,
        p2pk,
        htlc,
        melt,
        melt_held,
        melt_failed,
        amountless,
        restore,
        units,
    )
}


if __name__ == "__main__":
    asyncio.run(FLOWS[sys.argv[1]]())
