"""Keysets (NUT-01, NUT-02): listing, rotation, expiry, ids of older mints. Their use as inputs and outputs has tests of
its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger import curve
from ledger.errors import Code, StartError, StorageError
from ledger.keysets import (
    DENOMINATIONS,
    KEYSET_ID_V1_LENGTH,
    KEYSET_ID_V2_LENGTH,
    Keyset,
    input_fee,
    keyset_id_v1,
    keyset_id_v2,
)
from ledger.models import KeysetInfo, ProofState
from tests.ledger.helpers import NOW, SEED, Mint, Wallet, done, refused, unblind


def as_v1(mint: Mint, keyset: Keyset) -> Keyset:
    """The same keyset under its deprecated id, as a mint that is older than v2 ids would have it."""
    mint.execute("UPDATE keysets SET id = ? WHERE id = ?", keyset_id_v1(keyset.public_keys), keyset.id)
    mint.reopen()
    return mint.ledger.keysets.get(keyset_id_v1(keyset.public_keys))


def test_keys_lists_the_active_keysets_only_with_all_their_keys(mint: Mint) -> None:
    old = mint.keyset()
    new = mint.rotate(fee=7, expiry=NOW + 10)
    response = mint.ledger.keysets.keys_response()
    assert [keyset.id for keyset in response.keysets] == [mint.keyset("msat").id, new.id]
    assert old.id not in {keyset.id for keyset in response.keysets}
    listed = response.keysets[1]
    assert (listed.unit, listed.active, listed.input_fee_ppk, listed.final_expiry) == ("sat", True, 7, NOW + 10)
    assert listed.keys == {str(amount): new.public_keys[amount].hex() for amount in DENOMINATIONS}


def test_keysets_lists_all_keysets(mint: Mint) -> None:
    old, other = mint.keyset(), mint.keyset("msat")
    new = mint.rotate(fee=7, expiry=NOW + 10)
    response = mint.ledger.keysets.keysets_response()
    assert response.keysets == [
        KeysetInfo(id=old.id, unit="sat", active=False, input_fee_ppk=0, final_expiry=None),
        KeysetInfo(id=other.id, unit="msat", active=True, input_fee_ppk=0, final_expiry=None),
        KeysetInfo(id=new.id, unit="sat", active=True, input_fee_ppk=7, final_expiry=NOW + 10),
    ]


def test_the_keys_of_one_keyset_are_given_whether_it_is_active_or_not(mint: Mint) -> None:
    old = mint.keyset()
    new = mint.rotate()
    for keyset, active in ((old, False), (new, True)):
        (listed,) = mint.ledger.keysets.keys_response(keyset.id).keysets
        assert (listed.id, listed.active) == (keyset.id, active)


@pytest.mark.parametrize("keyset_id", ["", "00" + "ab" * 7, "01" + "ab" * 32, "x" * 10_000])
def test_the_keys_of_an_unknown_keyset_are_refused(mint: Mint, keyset_id: str) -> None:
    with refused(mint, Code.KEYSET_UNKNOWN):
        mint.ledger.keysets.keys_response(keyset_id)


def test_a_keyset_is_not_found_by_its_short_id(mint: Mint) -> None:
    with refused(mint, Code.KEYSET_UNKNOWN):
        mint.ledger.keysets.keys_response(mint.keyset().id[:KEYSET_ID_V1_LENGTH])


def test_new_keysets_have_v2_ids_that_commit_to_fee_and_expiry(mint: Mint) -> None:
    keyset = mint.rotate(fee=7, expiry=NOW + 10)
    assert keyset.id == keyset_id_v2(keyset.public_keys, "sat", 7, NOW + 10)
    assert len(keyset.id) == KEYSET_ID_V2_LENGTH
    assert (
        keyset.id
        != keyset_id_v2(keyset.public_keys, "sat", 7, None)
        != keyset_id_v2(keyset.public_keys, "sat", None, None)
    )


@pytest.mark.parametrize("nothing", [None, 0])
def test_a_fee_or_expiry_of_zero_is_left_out_of_the_id(mint: Mint, nothing: int | None) -> None:
    keyset = mint.keyset()
    assert keyset_id_v2(keyset.public_keys, "sat", nothing, nothing) == keyset.id


def test_keys_are_sorted_by_number_in_the_ids() -> None:
    keys = {amount: bytes([2, amount % 251]) for amount in DENOMINATIONS}
    shuffled = {amount: keys[amount] for amount in sorted(keys, key=str)}
    assert list(shuffled) != list(keys)
    assert keyset_id_v1(shuffled) == keyset_id_v1(keys)
    assert keyset_id_v2(shuffled, "sat", None, None) == keyset_id_v2(keys, "sat", None, None)


def test_rotation_makes_new_keys_and_ends_the_old_ones_of_that_unit_only(mint: Mint) -> None:
    old, other = mint.keyset(), mint.keyset("msat")
    new = mint.rotate()
    assert not set(old.public_keys.values()) & set(new.public_keys.values())
    assert [keyset.active for keyset in map(mint.ledger.keysets.get, (old.id, other.id, new.id))] == [
        False,
        True,
        True,
    ]
    assert (mint.keyset("sat"), mint.keyset("msat")) == (new, other)


def test_two_units_never_share_keys(mint: Mint) -> None:
    sat, msat = (set(mint.keyset(unit).public_keys.values()) for unit in ("sat", "msat"))
    assert not sat & msat


def test_a_unit_without_keyset_has_no_active_one(mint: Mint) -> None:
    assert mint.ledger.keysets.active("usd") is None


def test_keysets_are_the_same_after_a_restart(mint: Mint) -> None:
    mint.rotate(fee=7, expiry=NOW + 10)
    before = list(mint.ledger.keysets)
    mint.reopen()
    assert list(mint.ledger.keysets) == before
    assert len(mint.ledger.keysets) == 3


def test_a_rotation_counts_on_from_the_last_one(mint: Mint) -> None:
    counters = [mint.rotate().counter for _ in range(3)]
    mint.reopen()
    counters.append(mint.rotate().counter)
    assert counters == [1, 2, 3, 4]
    assert [mint.ledger.keysets.numbered(keyset.n) for keyset in mint.ledger.keysets] == list(mint.ledger.keysets)


def test_rotations_that_come_together_make_one_active_keyset(mint: Mint) -> None:
    with mint.held_writer():
        rotations = [mint.ledger.rotate("sat", fee) for fee in range(5)]
    made = [rotation.result() for rotation in rotations]
    assert [keyset.counter for keyset in made] == [1, 2, 3, 4, 5]
    assert [keyset for keyset in mint.ledger.keysets if keyset.unit == "sat" and keyset.active] == [made[-1]]
    before = list(mint.ledger.keysets)
    mint.reopen()
    assert list(mint.ledger.keysets) == before


def test_the_configured_fee_is_remembered_though_a_rotation_differs_from_it(mint: Mint) -> None:
    assert mint.ledger.configured_fee("usd") is None
    done(mint.ledger.rotate("sat", 100))
    assert mint.ledger.configured_fee("sat") == 100
    done(mint.ledger.rotate("sat", 7, configured_fee_ppk=100))
    mint.reopen()
    assert (mint.keyset().input_fee_ppk, mint.ledger.configured_fee("sat")) == (7, 100)
    assert mint.ledger.configured_fee("msat") == 0


def test_a_keyset_that_could_not_be_stored_is_not_used(mint: Mint) -> None:
    before = list(mint.ledger.keysets)
    with pytest.raises(StorageError):
        mint.rotate(fee=-1)
    assert list(mint.ledger.keysets) == before
    assert mint.rotate().counter == 1


def test_the_mints_own_key_is_of_the_seed_and_of_no_keyset(mint: Mint, tmp_path: Path) -> None:
    keys = {key for keyset in mint.ledger.keysets for key in keyset.public_keys.values()}
    key = mint.ledger.pubkey
    curve.parse_point(key)
    mint.reopen()
    assert mint.ledger.pubkey == key not in keys


def test_a_keyset_under_its_v1_id_is_spendable_and_signs_no_more(mint: Mint, alice: Wallet) -> None:
    proofs = mint.fund(alice, 8)
    v2 = mint.keyset()
    new = mint.rotate()
    v1 = as_v1(mint, v2)
    assert len(v1.id) == KEYSET_ID_V1_LENGTH
    assert v1.public_keys == v2.public_keys
    with refused(mint, Code.KEYSET_UNKNOWN):
        mint.swap(proofs, alice.draw_sum(new, 8))
    proofs = [proof.model_copy(update={"id": v1.id}) for proof in proofs]
    with refused(mint, Code.KEYSET_INACTIVE):
        mint.swap(proofs, alice.draw_sum(v1, 8))
    mint.swap(proofs, alice.draw_sum(new, 8))
    assert mint.states(proofs) == [ProofState.SPENT]


def test_signatures_of_a_v1_keyset_carry_its_v1_id(mint: Mint, alice: Wallet) -> None:
    v1 = as_v1(mint, mint.keyset())
    drawn = alice.draw(v1, 8)
    answer = mint.issue(mint.paid_quote(8).quote, [drawn])
    assert unblind(v1, drawn, answer.signatures[0]).id == v1.id
    assert mint.restore([drawn]).signatures == answer.signatures


def test_a_keyset_of_another_seed_does_not_start(tmp_path: Path) -> None:
    mint = Mint(tmp_path / "ledger.sqlite3")
    mint.close()
    with pytest.raises(StartError, match="does not come out of this node's secret"):
        mint.open(SEED[::-1])
    mint.open()
    mint.close()


@pytest.mark.parametrize("column", ["unit = 'msat'", "counter = 5", "input_fee_ppk = 1", "final_expiry = 1"])
def test_a_keyset_whose_id_does_not_fit_its_row_does_not_start(tmp_path: Path, column: str) -> None:
    mint = Mint(tmp_path / "ledger.sqlite3")
    mint.execute(f"UPDATE keysets SET {column}")
    mint.close()
    with pytest.raises(StartError):
        mint.open()


def test_an_expiry_is_passed_only_after_its_second(mint: Mint) -> None:
    expiring, lasting = mint.rotate(expiry=NOW), mint.keyset("msat")
    assert [expiring.is_expired(now) for now in (NOW - 1, NOW, NOW + 1)] == [False, False, True]
    assert not lasting.is_expired(2**62)


def test_the_fee_of_very_many_inputs_is_exact() -> None:
    assert input_fee([1] * 999_999) == 1000
    assert input_fee([1] * 1_000_000) == 1000
    assert input_fee([1] * 1_000_001) == 1001
    assert input_fee([10**30 + 1]) == 10**27 + 1
