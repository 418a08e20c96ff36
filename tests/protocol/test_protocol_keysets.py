"""The life of keysets: rotated by command with a fee or an expiry, honoured when old, refused when expired."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import apsw
import pytest

from contrib.sandbox import Behaviour, RpcError
from contrib.wallet import WalletProof, messages, unblind
from contrib.wallet.keysets import Keyset
from ledger.errors import Code
from ledger.keysets import keyset_id_v1
from tests.plugin.harness import PATIENCE_S, Melt, Mint, Purse, wait_for
from tests.protocol.helpers import code_of, fresh_outputs, ok, paid_quote, swap_body, wire, wire_outputs

MakeMint = Callable[..., Mint]


def rotate(mint: Mint, unit: str = "sat", **options: Any) -> dict[str, Any]:
    return mint.node.rpc("cashu-rotate", unit=unit, **options)


def active(mint: Mint) -> dict[str, str]:
    """The active keyset of each unit."""
    return {keyset.unit: keyset.id for keyset in mint.client.keysets() if keyset.active}


def try_swap(mint: Mint, purse: Purse, proofs: list[WalletProof]) -> Any:
    return mint.http.post("/v1/swap", json=swap_body(purse, proofs))


# --- rotation ---------------------------------------------------------------------------------------------------------


def test_a_rotation_makes_a_keyset_with_its_fee_and_expiry(mint: Mint) -> None:
    old = active(mint)["sat"]
    expiry = int(time.time()) + 100_000
    made = rotate(mint, input_fee_ppk=250, final_expiry=expiry)
    assert made == {
        "id": active(mint)["sat"],
        "unit": "sat",
        "active": True,
        "input_fee_ppk": 250,
        "final_expiry": expiry,
    }
    shown = {keyset.id: keyset for keyset in mint.client.keysets()}
    assert shown[made["id"]].model_dump() == made
    assert (shown[old].active, shown[old].input_fee_ppk, shown[old].final_expiry) == (False, 0, None)
    assert [keyset.id for keyset in mint.client.keys()] == [made["id"]]
    first_keys = set()
    for keyset_id, keyset in shown.items():  # each id follows from keys, unit, fee and expiry
        (keys,) = mint.client.keys(keyset_id)
        assert Keyset.from_wire(keys).id == keyset_id
        assert (keys.input_fee_ppk, keys.final_expiry) == (keyset.input_fee_ppk, keyset.final_expiry)
        first_keys.add(keys.keys["1"])
    assert len(first_keys) == len(shown)


def test_without_a_fee_the_option_counts_and_words_are_read_as_numbers(mint: Mint) -> None:
    assert rotate(mint)["input_fee_ppk"] == 0
    assert rotate(mint, input_fee_ppk="100", final_expiry=str(int(time.time()) + 1000))["input_fee_ppk"] == 100
    assert rotate(mint, input_fee_ppk=0)["final_expiry"] is None


@pytest.mark.parametrize(
    "arguments",
    [
        {"unit": "usd"},
        {"unit": ""},
        {"unit": "SAT"},
        {"unit": "sat", "input_fee_ppk": -1},
        {"unit": "sat", "input_fee_ppk": "much"},
        {"unit": "sat", "input_fee_ppk": 1.5},
        {"unit": "sat", "input_fee_ppk": 10**9},
        {"unit": "sat", "final_expiry": 1},
        {"unit": "sat", "final_expiry": "soon"},
        {"unit": "sat", "final_expiry": 2**70},
    ],
)
def test_a_rotation_that_makes_no_sense_is_refused_and_changes_nothing(mint: Mint, arguments: dict[str, Any]) -> None:
    before = mint.http.get("/v1/keysets").text
    with pytest.raises(RpcError):
        mint.node.rpc("cashu-rotate", **arguments)
    assert mint.http.get("/v1/keysets").text == before


def test_old_keysets_are_honoured_as_inputs_and_sign_no_more(mint: Mint, purse: Purse) -> None:
    rotate(mint, input_fee_ppk=0)
    old = Purse(mint)
    swapped, melted = old.fund(8), old.fund(16)
    blanks, outputs = old.outputs_of([0, 0]), old.outputs(8)
    rotate(mint, input_fee_ppk=0)
    new = Purse(mint)
    assert new.keyset.id != old.keyset.id
    body = {"inputs": wire(swapped), "outputs": wire_outputs(outputs)}
    assert code_of(mint.http.post("/v1/swap", json=body)) == Code.KEYSET_INACTIVE
    quote = paid_quote(new, 8)
    issue: dict[str, Any] = {"quote": quote, "outputs": wire_outputs(outputs)}
    assert code_of(mint.http.post("/v1/mint/bolt11", json=issue)) == Code.KEYSET_INACTIVE
    melt = Melt(None, new.quote(mint.invoice(10)), melted, blanks)
    assert new.refusal(melt).code == Code.KEYSET_INACTIVE
    assert new.post(Melt(None, melt.quote, melted, new.outputs_of([0, 0, 0]))).state == "PAID"
    ok(try_swap(mint, new, swapped))
    ok(mint.http.post("/v1/mint/bolt11", json={"quote": quote, "outputs": wire_outputs(new.outputs(8))}))


def test_fees_of_inputs_are_summed_over_their_own_keysets_and_rounded_up_once(mint: Mint, purse: Purse) -> None:
    rotate(mint, input_fee_ppk=300)
    first = Purse(mint).fund(15)  # four proofs: 1.2
    rotate(mint, input_fee_ppk=150)
    second = Purse(mint).fund(7)  # three proofs: 0.45
    rotate(mint, input_fee_ppk=0)
    new = Purse(mint)
    third = new.fund(3)
    inputs = [*first, *second, *third]
    assert new.fee(inputs) == 2
    for amount, accepted in ((24, False), (22, False), (23, True)):
        body = {"inputs": wire(inputs), "outputs": wire_outputs(new.outputs(amount))}
        answer = mint.http.post("/v1/swap", json=body)
        assert (answer.status_code == 200) == accepted
        if not accepted:
            assert code_of(answer) == Code.NOT_BALANCED


def test_change_that_was_promised_is_signed_after_a_rotation(mint: Mint, purse: Purse) -> None:
    rotate(mint)
    old = Purse(mint)
    melt = old.hold(100)
    rotate(mint)
    mint.node.release(str(melt.invoice))
    paid = old.wait_final(melt)
    assert paid.state == "PAID"
    assert {signature.id for signature in paid.change or []} == {old.keyset.id}
    ok(try_swap(mint, Purse(mint), old.change(melt, paid)))


def test_ecash_is_restored_from_inactive_keysets(mint: Mint, purse: Purse) -> None:
    rotate(mint)
    old = Purse(mint)
    outputs = old.outputs(12)
    signatures = old.client.mint(paid_quote(old, 12), messages(outputs))
    rotate(mint)
    found = mint.client.restore(messages(outputs))
    assert [signature for _, signature in found] == signatures


# --- expiry -----------------------------------------------------------------------------------------------------------


def test_an_expired_keyset_is_refused_everywhere_and_still_known(mint: Mint, purse: Purse) -> None:
    expiry = int(time.time()) + 4
    rotate(mint, final_expiry=expiry)
    old = Purse(mint)
    spent, kept = old.fund(8), old.fund(8)
    request = swap_body(old, spent)
    answer = mint.http.post("/v1/swap", json=request)
    outputs = old.outputs(8)
    paid = paid_quote(old, 8)
    melt = Melt(None, old.quote(mint.invoice(3)), kept, [])
    assert time.time() < expiry, "too slow to see the keyset alive"
    wait_for(lambda: time.time() > expiry + 1, "the expiry")

    # It has a successor by itself, so that the unit is never without one that signs.
    wait_for(lambda: active(mint)["sat"] != old.keyset.id, "the successor")
    assert next(keyset for keyset in mint.info()["keysets"] if keyset["active"])["final_expiry"] is None
    assert code_of(mint.http.post("/v1/mint/bolt11", json={"quote": paid, "outputs": wire_outputs(outputs)})) == (
        Code.KEYSET_EXPIRED
    )
    new = Purse(mint)
    assert code_of(try_swap(mint, new, kept)) == Code.KEYSET_EXPIRED
    assert new.refusal(melt).code == Code.KEYSET_EXPIRED
    body = {"inputs": wire(new.fund(8)), "outputs": wire_outputs(outputs)}
    assert code_of(mint.http.post("/v1/swap", json=body)) == Code.KEYSET_EXPIRED
    blanks = Melt(None, melt.quote, new.fund(8), old.outputs_of([0]))
    assert new.refusal(blanks).code == Code.KEYSET_EXPIRED

    assert mint.client.keys(old.keyset.id)[0].final_expiry == expiry
    assert mint.http.post("/v1/swap", json=request).text == answer.text
    assert (old.states(spent), old.states(kept)) == ({"SPENT"}, {"UNSPENT"})
    assert new.collect(new.client.mint_quote(paid))


# --- restarts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kill", [True, False])
def test_a_restart_keeps_a_rotation_by_command(make_mint: MakeMint, kill: bool) -> None:
    mint = make_mint(input_fee_ppk=100)
    expiry = int(time.time()) + 100_000
    first = active(mint)["sat"]
    made = rotate(mint, input_fee_ppk=700, final_expiry=expiry)
    before = mint.http.get("/v1/keysets").text
    mint.restart_plugin(kill=kill)
    mint.restart_node(kill=kill)
    assert mint.http.get("/v1/keysets").text == before
    assert active(mint)["sat"] == made["id"] != first
    (proof,) = Purse(mint).fund(8)
    assert proof.id == made["id"]


def test_a_changed_option_makes_a_new_keyset_once(make_mint: MakeMint) -> None:
    mint = make_mint(input_fee_ppk=100)
    rotate(mint, input_fee_ppk=700)
    proofs = Purse(mint).fund(8)
    mint.set_options(input_fee_ppk=200)
    mint.restart_plugin(kill=False)
    now = mint.client.keysets()
    assert [(keyset.input_fee_ppk, keyset.active) for keyset in now] == [(100, False), (700, False), (200, True)]
    mint.restart_plugin(kill=False)
    assert mint.client.keysets() == now
    Purse(mint).swap(proofs)


def test_a_unit_that_is_added_gets_a_keyset_and_the_other_keeps_its_own(make_mint: MakeMint) -> None:
    mint = make_mint()
    sat = active(mint)["sat"]
    mint.set_options(units="sat,msat")
    mint.restart_plugin(kill=False)
    both = active(mint)
    assert both["sat"] == sat
    assert rotate(mint, "msat", input_fee_ppk=5)["id"] == active(mint)["msat"] != both["msat"]
    assert active(mint)["sat"] == sat
    msat = Purse(mint, "msat")
    msat.swap(msat.fund(4096))


# --- ids of version 1 -------------------------------------------------------------------------------------------------


def test_a_keyset_with_an_id_of_version_1_is_served_and_honoured(make_mint: MakeMint) -> None:
    mint = make_mint()
    (keys,) = mint.client.keys()
    v1 = keyset_id_v1({int(amount): bytes.fromhex(key) for amount, key in keys.keys.items()})
    mint.node.stop_plugin()
    connection = apsw.Connection(str(mint.ledger_path))
    connection.execute("UPDATE keysets SET id = ?", (v1,))
    connection.close()
    mint.start_plugin()

    assert active(mint)["sat"] == v1
    assert len(v1) == 16
    purse = Purse(mint)
    proofs = purse.fund(12)
    assert {proof.id for proof in proofs} == {v1}
    proofs = purse.swap(proofs)
    outputs = purse.outputs(8)
    signatures = purse.client.mint(paid_quote(purse, 8), messages(outputs))
    assert [signature.id for signature in signatures] == [v1]
    held = purse.hold(100, Behaviour.hold())
    unknown = {"inputs": wire(proofs), "outputs": wire_outputs(fresh_outputs(purse, [4, 8], keys.id))}
    assert code_of(mint.http.post("/v1/swap", json=unknown)) == Code.KEYSET_UNKNOWN

    made = rotate(mint, input_fee_ppk=100)
    assert made["id"].startswith("01")
    new = Purse(mint)
    mixed = [*proofs, *new.fund(4)]
    assert new.fee(mixed) == 1
    ok(try_swap(mint, new, mixed))
    ok(try_swap(mint, new, unblind(outputs, signatures, new.keysets)))
    mint.node.wait_for_part(str(held.invoice), timeout_s=PATIENCE_S)
    mint.node.release(str(held.invoice))
    paid = new.wait_final(held)
    assert {signature.id for signature in paid.change or []} == {v1}
    assert len(mint.client.restore(messages(outputs))) == len(outputs)
    mint.restart_plugin(kill=True)
    assert {keyset.id for keyset in mint.client.keysets()} == {v1, made["id"]}
