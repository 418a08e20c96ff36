"""Upgrades: the ledger of the first schema is opened by this release, with all that was in it; and a step of the schema
that ledgers may have gone through is never edited."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from ledger.errors import Code
from ledger.models import MeltQuoteState, Proof, ProofState
from ledger.operations import melt_quote
from ledger.store import backup
from ledger.store.database import migrations
from tests.ledger.helpers import Mint, Wallet, refused, said

OLD = Path(__file__).parent / "old"
"""Made by the code of that time: 12 sat issued (8 and 4), 16 swapped, 32 held by a melt, a quote of 64 paid and not
issued, and one of 128 that nobody has paid."""

STEPS = {
    "0001_ledger.sql": "5c1f5b1e47864f6c5028277713912c8321f0fd216ba75b5c0788fa478db5ee57",
    "0002_limits.sql": "c0872caabb0d62f8024444f3971036bdb04ebcd4045965ab9ce52e4d5ea5c4f9",
    "0003_forgetful_node.sql": "2c35abef5b5388072a41ea756c8b7213946dbcca015759c6447278f5846ee128",
    "0004_operator.sql": "59b31b4239ee142f23a4dfe7833ee533a0afe02fa9ce63c9ce94f248036803e2",
    "0005_growth.sql": "59299ad049ab7d7a965726e3e76ef964014f730cae455e838d06fd5d113dcb06",
    "0006_report.sql": "d579f4cb873722320a22e63c54a7f9a9409520ce79c4440ef5118e5d338d9376",
    "0007_in_flight.sql": "b79f0c1e7b3f1c62fe1d97ef50cba9bdbf16f2f2c77f3d367ee803cde1af2605",
}
"""The digests of the schema's steps. A new step is added here with its own; none is ever changed: a ledger that has
gone through it would not have the change."""


@pytest.fixture
def wrote() -> dict[str, Any]:
    """What its wallet had."""
    found: dict[str, Any] = json.loads((OLD / "schema_1.json").read_text())
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.sqlite3"
    db = sqlite3.connect(path)
    db.executescript((OLD / "schema_1.sql").read_text())
    db.execute("PRAGMA user_version = 1")
    db.close()
    return path


@pytest.fixture
def mint(path: Path) -> Iterator[Mint]:
    mint = Mint(path, units=())
    yield mint
    mint.close()


def proofs(entries: list[dict[str, Any]]) -> list[Proof]:
    return [Proof.model_validate(entry) for entry in entries]


def test_the_ledger_of_the_first_schema_is_opened_with_its_books(mint: Mint) -> None:
    assert mint.value("PRAGMA user_version") == len(migrations()) > 1
    assert mint.value("PRAGMA integrity_check") == "ok"
    books = mint.audit()
    assert (books.faults, books.outstanding_msat, books.unissued_msat) == ((), 60_000, 64_000)


def test_what_was_spent_held_and_unspent_then_is_so_now(mint: Mint, wrote: dict[str, Any]) -> None:
    alice = Wallet("alice after the upgrade")
    for kind, state in (("unspent", "UNSPENT"), ("spent", "SPENT"), ("held", "PENDING")):
        assert set(mint.states(proofs(wrote[kind]))) == {ProofState(state)}
    with refused(mint, Code.PROOFS_SPENT):
        mint.swap(proofs(wrote["spent"]), alice.draw_sum(mint.keyset(), 16))
    assert len(mint.swap(proofs(wrote["unspent"]), alice.draw_sum(mint.keyset(), 12)).signatures) == 2
    assert len(mint.issue(wrote["paid_quote"], alice.draw_sum(mint.keyset(), 64)).signatures) == 1
    assert mint.audit().faults == ()


@pytest.mark.parametrize("paid", [True, False], ids=["paid", "failed"])
def test_a_melt_that_was_in_flight_comes_to_its_end(mint: Mint, wrote: dict[str, Any], paid: bool) -> None:
    (pending,) = mint.ledger.pending_melts()
    quote = mint.settle(pending) if paid else mint.release(pending)
    assert quote.quote == wrote["melt_quote"]
    assert quote.state == (MeltQuoteState.PAID if paid else MeltQuoteState.UNPAID)
    assert set(mint.states(proofs(wrote["held"]))) == {ProofState.SPENT if paid else ProofState.UNSPENT}
    assert mint.audit().faults == ()


@pytest.mark.parametrize("steps", range(1, len(STEPS) + 1))
def test_a_copy_from_before_an_upgrade_is_sound(path: Path, steps: int) -> None:
    db = sqlite3.connect(path)
    for step in migrations()[1:steps]:
        db.executescript(step)
    db.execute(f"PRAGMA user_version = {steps}")
    db.close()
    copy = backup.check(path)
    assert (copy.books.faults, copy.books.outstanding_msat) == ((), 60_000)


@pytest.mark.parametrize(
    "damage",
    ["UPDATE in_flight SET melts = 7", "UPDATE in_flight SET msat = 0", "DELETE FROM in_flight"],
)
def test_what_is_in_flight_is_counted_again_at_each_start(
    path: Path, damage: str, wrote: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    Mint(path, units=()).close()
    assert said(caplog) == []
    db = sqlite3.connect(path)
    db.execute(damage)
    db.commit()
    db.close()
    assert backup.check(path).books.faults == (
        "the melts in flight are not as many, or not over as much, as is written down",
    )
    mint = Mint(path, units=())
    assert "counted again" in said(caplog)[-1]
    with mint.ledger.read() as db_:
        assert (melt_quote.count_pending(db_), melt_quote.sum_pending_msat(db_)) == (1, 31_000)
    mint.settle(mint.ledger.pending_melts()[0])
    assert mint.audit().faults == ()
    mint.close()


def test_what_is_written_down_wrongly_keeps_no_payment_from_being_settled(mint: Mint) -> None:
    mint.execute("UPDATE in_flight SET melts = 0, msat = 0")
    assert mint.settle(mint.ledger.pending_melts()[0]).state is MeltQuoteState.PAID
    assert mint.audit().faults == ()


def test_each_step_has_its_number_and_its_digest() -> None:
    names = sorted(f.name for f in resources.files("ledger.store.schema").iterdir() if f.name.endswith(".sql"))
    assert names == list(STEPS)
    assert [int(name[:4]) for name in names] == list(range(1, len(names) + 1))


@pytest.mark.parametrize("name", list(STEPS))
def test_no_step_of_the_schema_is_edited(name: str) -> None:
    content = resources.files("ledger.store.schema").joinpath(name).read_bytes()
    assert hashlib.sha256(content).hexdigest() == STEPS[name], f"{name} was changed: add a new step instead"
