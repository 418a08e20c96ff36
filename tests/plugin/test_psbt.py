"""Reading transactions and PSBTs, choosing coins, and what a node's transaction must be before it is signed."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from contrib.sandbox import psbts
from plugin.methods.payouts import UnfitError, read_payment, require_signed, spender_in
from plugin.node.coins import MAX_INPUTS, Coin, Payment, choose, fee_reserve_sat
from plugin.node.psbt import (
    Input,
    MalformedError,
    Outpoint,
    Output,
    Psbt,
    Transaction,
    block_time,
    block_transactions,
)

GENESIS = (
    "0100000000000000000000000000000000000000000000000000000000000000000000003ba3edfd7a7b12b27ac72c3e67768f617fc81bc3888a5"
    "1323a9fb8aa4b1e5e4a29ab5f49ffff001d1dac2b7c0101000000010000000000000000000000000000000000000000000000000000000000000000"
    "ffffffff4d04ffff001d0104455468652054696d65732030332f4a616e2f32303039204368616e63656c6c6f72206f6e206272696e6b206f662073"
    "65636f6e64206261696c6f757420666f722062616e6b73ffffffff0100f2052a01000000434104678afdb0fe5548271967f1a67130b7105cd6a828"
    "e03909a67962e0ea1f61deb649f6bc3f4cef38c4f35504e51ec112de5c384df7ba0b8d578a4c702b6bf11d5fac00000000"
)
GENESIS_TXID = "4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b"
# BIP 143's example of a native P2WPKH spend, unsigned.
BIP143 = (
    "0100000002fff7f7881a8099afa6940d42d1e7f6362bec38171ea3edf433541db4e4ad969f0000000000eeffffffef51e1b804cc89d182d279655c"
    "3aa89e815b1b309fe287d9b2b55d57b90ec68a0100000000ffffffff02202cb206000000001976a9148280b37df378db99f66f85c95a783a76ac7a"
    "6d5988ac9093510d000000001976a9143bde42dbee7e4dbe6a21b2d50ce2f0167faa815988ac11000000"
)
P2WPKH, P2TR = b"\x00\x14" + b"\x01" * 20, b"\x51\x20" + b"\x02" * 32
CHANGE = b"\x51\x20" + b"\x03" * 32
PAYMENT = Payment(50_000, P2WPKH, 1000)


def coin(amount_sat: int, number: int = 0, **fields: Any) -> Coin:
    """A coin of the wallet."""
    known: dict[str, Any] = {
        "outpoint": Outpoint(source(amount_sat, number).txid, 0),
        "amount_sat": amount_sat,
        "script": P2TR,
        "address": "an address",
        "status": "confirmed",
        "height": 800,
        "reserved_to": None,
    }
    return Coin(**known | fields)


def source(amount_sat: int, number: int = 0) -> Transaction:
    """The transaction that a coin comes from."""
    return Transaction(2, (Input(Outpoint(bytes([number]) * 32, 0), 0),), (Output(amount_sat, P2TR),), 0)


def psbt_of(coins: list[Coin], *outputs: Output, script: bytes = b"") -> str:
    """What a node might build."""
    tx = Transaction(2, tuple(Input(c.outpoint, 0xFFFFFFFD, script) for c in coins), outputs, 800)
    sources = [source(c.amount_sat, n).serialize() for n, c in enumerate(coins)]
    return psbts.unsigned(tx, sources, [Output(c.amount_sat, c.script) for c in coins])


# --- transactions -----------------------------------------------------------------------------------------------------


def test_a_block_is_read() -> None:
    block = bytes.fromhex(GENESIS)
    (tx,) = block_transactions(block)
    assert tx.txid.hex() == GENESIS_TXID
    assert tx.outputs[0].amount_sat == 50 * 10**8
    assert block_time(block) == 1231006505
    assert spender_in(block, Outpoint(bytes(32), 0xFFFFFFFF)) == tx.txid
    assert spender_in(block, Outpoint(bytes(32), 0)) is None


def test_a_transaction_is_read_and_written_alike() -> None:
    tx = Transaction.parse(bytes.fromhex(BIP143))
    assert tx.serialize().hex() == BIP143
    assert [output.amount_sat for output in tx.outputs] == [112340000, 223450000]
    assert (tx.version, tx.locktime, tx.inputs[0].sequence) == (1, 17, 0xFFFFFFEE)
    signed = tx.serialize(((b"\x01" * 300, b""), ()))
    assert Transaction.parse(signed) == tx
    assert Transaction.parse(signed).txid == tx.txid


@pytest.mark.parametrize("cut", [1, 10, 100, 150])
def test_a_transaction_that_is_cut_off_or_too_long_is_refused(cut: int) -> None:
    data = bytes.fromhex(BIP143)
    with pytest.raises(MalformedError):
        Transaction.parse(data[:-cut])
    with pytest.raises(MalformedError):
        Transaction.parse(data + bytes(cut))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "garbage!",
        "gàrbage!",
        base64.b64encode(b"psbt\xff").decode(),
        base64.b64encode(b"psbt\xff\x00").decode(),
        base64.b64encode(b"psbu\xff\x01\x00\x00\x00").decode(),
        base64.b64encode(b"psbt\xff\x01\xfb\x04\x01\x00\x00\x00\x00").decode(),
    ],
)
def test_what_is_no_psbt_is_refused(text: str) -> None:
    with pytest.raises(MalformedError):
        Psbt.parse(text)


def test_every_beginning_of_a_psbt_is_refused() -> None:
    data = base64.b64decode(psbt_of([coin(60_000)], Output(50_000, P2WPKH)))
    for length in range(len(data)):
        with pytest.raises(MalformedError):
            Psbt.parse(base64.b64encode(data[:length]).decode())


def test_an_input_that_comes_with_another_transaction_is_refused() -> None:
    """Its amount, and with it the fee, would be a lie."""
    paying = coin(60_000)
    tx = Transaction(2, (Input(paying.outpoint, 0),), (Output(50_000, P2WPKH),), 0)
    with pytest.raises(MalformedError):
        Psbt.parse(psbts.unsigned(tx, [source(70_000).serialize()], [Output(60_000, P2TR)]))
    with pytest.raises(MalformedError):
        Psbt.parse(psbts.unsigned(tx, [source(60_000).serialize()], [Output(70_000, P2TR)]))


# --- coins ------------------------------------------------------------------------------------------------------------


def test_the_largest_coins_are_taken_and_no_more_than_needed() -> None:
    coins = [coin(n) for n in (10_000, 40_000, 30_000, 20_000)]
    assert [c.amount_sat for c in choose(coins, PAYMENT) or ()] == [40_000, 30_000]
    assert [c.amount_sat for c in choose(coins, Payment(95_000, P2WPKH, 1000)) or ()] == [
        40_000,
        30_000,
        20_000,
        10_000,
    ]
    assert choose(coins, Payment(99_500, P2WPKH, 1000)) is None


def test_a_coin_must_cover_the_fee_to_the_last_satoshi() -> None:
    fee = 42 + 4 * 9 + 4 * 22 + 230
    assert choose([coin(50_000 + fee)], PAYMENT) is not None
    assert choose([coin(50_000 + fee - 1)], PAYMENT) is None
    assert choose([coin(50_000 + fee + 41, script=P2WPKH)], PAYMENT) is not None
    assert choose([coin(50_000 + fee + 40, script=P2WPKH)], PAYMENT) is None


@pytest.mark.parametrize(
    "fields",
    [{"status": "unconfirmed"}, {"status": "immature"}, {"status": "spent"}, {"reserved_to": 900}, {"script": b"\xa9"}],
)
def test_coins_that_can_not_be_used_are_not_chosen(fields: dict[str, Any]) -> None:
    assert choose([coin(10**6, **fields)], PAYMENT) is None


def test_there_is_a_limit_of_inputs() -> None:
    coins = [coin(2_000, n) for n in range(MAX_INPUTS + 10)]
    assert choose(coins, Payment(MAX_INPUTS * 1500, P2WPKH, 1000)) is not None
    assert choose(coins, Payment(MAX_INPUTS * 1800, P2WPKH, 1000)) is None


def test_the_reserve_is_for_change_or_too_little_of_it() -> None:
    assert fee_reserve_sat([coin(10**6)], PAYMENT, 0) == 166 + 230 + 172 + 330
    assert fee_reserve_sat([coin(10**6)], PAYMENT, 2) == 166 + 230 + 172 + 330 + 2 * 271


# --- what the node has built ------------------------------------------------------------------------------------------


def test_the_payment_is_found_before_or_after_the_change() -> None:
    coins = [coin(60_000)]
    ours, change = Output(50_000, P2WPKH), Output(9_000, CHANGE)
    assert read_payment(psbt_of(coins, change, ours), PAYMENT, coins, 1000) == (1, 1000)
    assert read_payment(psbt_of(coins, ours, change), PAYMENT, coins, 1000) == (0, 1000)
    assert read_payment(psbt_of(coins, ours), PAYMENT, coins, 10_000) == (0, 10_000)


@pytest.mark.parametrize(
    ("outputs", "most"),
    [
        ([Output(50_000, P2WPKH), Output(9_000, CHANGE)], 999),
        ([Output(49_999, P2WPKH), Output(9_000, CHANGE)], 10_000),
        ([Output(50_000, CHANGE), Output(9_000, CHANGE)], 10_000),
        ([Output(50_000, P2WPKH), Output(9_000, P2WPKH)], 10_000),
        ([Output(50_000, P2WPKH), Output(4_000, CHANGE), Output(5_000, CHANGE)], 10_000),
        ([Output(50_000, P2WPKH), Output(20_000, CHANGE)], 10_000),
        ([Output(9_000, CHANGE)], 60_000),
    ],
    ids=["fee", "amount", "script", "change of another kind", "two changes", "more than comes in", "no payment"],
)
def test_what_was_not_asked_for_is_refused(outputs: list[Output], most: int) -> None:
    coins = [coin(60_000)]
    with pytest.raises(UnfitError):
        read_payment(psbt_of(coins, *outputs), PAYMENT, coins, most)


def test_other_coins_than_chosen_are_refused() -> None:
    coins = [coin(60_000), coin(70_000, 1)]
    built = psbt_of(coins, Output(50_000, P2WPKH), Output(79_000, CHANGE))
    assert read_payment(built, PAYMENT, coins, 1000) == (0, 1000)
    for others in ([coins[0]], [*coins, coin(80_000, 2)], [coins[0], coin(70_000, 2)]):
        with pytest.raises(UnfitError):
            read_payment(built, PAYMENT, others, 100_000)
    with pytest.raises(UnfitError):
        read_payment(psbt_of(coins[:1], Output(50_000, P2WPKH), script=b"\x00"), PAYMENT, coins[:1], 100_000)


def test_another_transaction_than_was_read_is_not_taken_for_it() -> None:
    coins = [coin(60_000)]
    spent, sources = [Output(60_000, P2TR)], [source(60_000).serialize()]
    unsigned = psbt_of(coins, Output(50_000, P2WPKH), Output(9_000, CHANGE))
    tx = Psbt.parse(unsigned).tx
    assert require_signed(psbts.signed(tx, sources, spent, bytes(32)), unsigned) == tx.txid
    with pytest.raises(MalformedError):
        require_signed(unsigned, unsigned)
    other = Transaction(tx.version, tx.inputs, tx.outputs[::-1], tx.locktime)
    with pytest.raises(MalformedError):
        require_signed(psbts.signed(other, sources, spent, bytes(32)), unsigned)


def test_a_signed_psbt_gives_the_transaction_with_its_witnesses() -> None:
    spent = [Output(60_000, P2TR), Output(70_000, P2WPKH)]
    sources = [Transaction(2, (Input(Outpoint(bytes(32), n), 0),), (spent[n],), 0) for n in range(2)]
    inputs = tuple(Input(Outpoint(source.txid, 0), 0) for source in sources)
    tx = Transaction(2, inputs, (Output(1000, P2WPKH),), 0)
    read = Psbt.parse(psbts.signed(tx, [s.serialize() for s in sources], spent, bytes(range(32))))
    assert [len(witness or ()) for witness in read.witnesses] == [1, 2]
    assert read.signed is not None
    assert Transaction.parse(read.signed) == tx
    assert read.fee_sat == 129_000
