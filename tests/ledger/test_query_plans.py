"""No statement of the ledger reads a table that grows from end to end, but those that are named here, and why."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import apsw
import pytest

from ledger.store.database import migrate

ROOT = Path(__file__).parents[2]
METHODS_WITH_SQL = {"execute": 0, "executemany": 0}
"""Methods of a connection, and which of their arguments is the statement."""
FUNCTIONS_WITH_SQL = {"fetch_all": 1, "fetch_one": 1}
NOT_SQL = {"query.fetch_all", "query.fetch_one", "database.migrate"}
"""They are handed a statement from elsewhere."""
LOCALS: dict[str, dict[str, Any]] = {
    "inputs.states": {"marks": "?, ?"},
    "outputs.find": {"marks": "?, ?"},
    "melt_quote._insert": {"columns": ("id", "method"), "marks": "?, ?"},
    "audit._sum_by_keyset": {"table": "proofs", "condition": "p.spent_at IS NOT NULL"},
    "policy.pause": {"column": "melting_paused_at", "value": "NULL"},
    "quotes._select": {"columns": ("id",), "table": "melt_quotes", "conditions": ("method = ?",)},
}
"""What statements are made of that are put together when they are run."""
WITHOUT_A_PLAN = {"BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE"}
SMALL = {"ledger", "keysets", "method_books", "in_flight", "sqlite_schema"}
"""Tables that don't grow with what wallets do."""
AUDIT = "it is what cashu-audit and a backup are for: every figure is recomputed from every row"
IN_FLIGHT = "of what is in flight, at most cashu-max-pending-melts"
FORCED = "as many as the operator has ended by force"
SCANS = {
    "audit.audit": AUDIT,
    "audit._sum_by_keyset": AUDIT,
    "audit._fee_faults": AUDIT,
    "audit._method_faults": AUDIT,
    "audit._quote_faults": AUDIT,
    "audit._chain_faults": AUDIT,
    "audit._resolution_faults": AUDIT,
    "deposit.watched": "of outputs that wait for confirmations",
    "deposit.has_watched": "of one row",
    "exposure.owed_msat": "of quotes that are paid and not issued in full",
    "melt_quote.pending": IN_FLIGHT,
    "melt_quote.pending_payouts": IN_FLIGHT,
    "audit._miscounted": AUDIT,
    "melt_quote.recount_pending": f"{IN_FLIGHT}; once, when the mint starts",
    "node.note_rollback": "once, when the node's database was put back to an older copy",
    "quotes._select": "for the operator's list: from the newest on, until its limit is filled",
    "report.waiting": IN_FLIGHT,
    "resolution.given_up": FORCED,
    "resolution.forced": FORCED,
}

REPEATED = {"audit._fee_faults": "once for each unit", "audit._method_faults": "once for each method and unit"}
"""Scans that are made again for each row of another table; a small one."""


@dataclass(frozen=True)
class Statement:
    """`place`: the module and the function that runs it."""

    place: str
    sql: str


def statements() -> Iterator[Statement]:
    """Every statement that the ledger's source hands to SQLite."""
    for path in sorted((ROOT / "ledger").rglob("*.py")):
        if path.name == "__init__.py":
            continue
        module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef):
                yield from _of_function(module, path.stem, function)


def _of_function(module: ModuleType, name: str, function: ast.FunctionDef) -> Iterator[Statement]:
    place = f"{name}.{function.name}"
    constants = {
        node.targets[0].id: node.value.value
        for node in ast.walk(function)
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
    }
    for call in ast.walk(function):
        if place in NOT_SQL or not isinstance(call, ast.Call) or (at := _position(call)) is None:
            continue
        code = compile(ast.Expression(call.args[at]), place, "eval")
        sql = str(eval(code, {**vars(module), **constants, **LOCALS.get(place, {})}))  # the project's own source
        if sql.split(maxsplit=1)[0] not in WITHOUT_A_PLAN:
            yield Statement(place, sql)


def _position(call: ast.Call) -> int | None:
    if isinstance(call.func, ast.Attribute):
        return METHODS_WITH_SQL.get(call.func.attr)
    return FUNCTIONS_WITH_SQL.get(call.func.id) if isinstance(call.func, ast.Name) else None


@pytest.fixture(scope="module")
def db() -> apsw.Connection:
    connection = apsw.Connection(":memory:")
    migrate(connection)
    return connection


def scans(db: apsw.Connection, sql: str, *, repeated: bool = False) -> list[str]:
    """The steps of a statement's plan that read a table, or an index, from end to end; but not small tables.

    `repeated`: only those that are taken again and again, for each row of something else."""
    tables = {alias: table for table, alias in re.findall(r"(?:FROM|JOIN)\s+(\w+)\s+([a-z]\w*)\b", sql)}
    found, again, derived = [], set(), set()
    names = re.findall(r":([a-z]\w*)", sql)
    bindings: Any = dict.fromkeys(names) if names else (None,) * sql.count("?")
    for step, parent, _, text in db.execute(f"EXPLAIN QUERY PLAN {sql}", bindings):
        if text.startswith(("CO-ROUTINE", "MATERIALIZE")):
            derived.add(text.split(" ", 1)[1])  # read from end to end, but it is what its own steps found
        if parent in again or text.startswith("CORRELATED"):
            again.add(step)
        is_scan = text.startswith("SCAN ") or "AUTOMATIC" in text
        table = tables.get(text.split()[1], text.split()[1])
        if is_scan and table not in SMALL | derived and (step in again or not repeated):
            found.append(text)
    return found


def test_what_wallets_and_payments_wait_for_reads_no_table_from_end_to_end(db: apsw.Connection) -> None:
    found = {(s.place, step) for s in statements() for step in scans(db, s.sql)}
    unexpected = sorted(f"{place}: {step}" for place, step in found if place not in SCANS)
    assert not unexpected, "\n".join(unexpected)
    assert SCANS.keys() - {place for place, _ in found} == set(), "these don't scan (any more)"


def test_nothing_is_read_from_end_to_end_again_and_again(db: apsw.Connection) -> None:
    """Not even by an audit: with a million spent proofs one took seven minutes that is done in three seconds."""
    found = {(s.place, step) for s in statements() for step in scans(db, s.sql, repeated=True)}
    unexpected = sorted(f"{place}: {step}" for place, step in found if place not in REPEATED)
    assert not unexpected, "\n".join(unexpected)
    assert REPEATED.keys() - {place for place, _ in found} == set(), "these don't (any more)"


def test_all_statements_are_looked_at() -> None:
    """What can't be read out of the source ends in an error; and it is read in every module."""
    places = {statement.place for statement in statements()}
    assert {"inputs.states", "inputs.insert", "outputs.find", "replay.find", "replay.record", "mint.commit"} <= places
    assert {
        "melt_quote._insert",
        "melt_quote.find_row",
        "melt.settle",
        "deposit.find",
        "writer._count_commit",
    } <= places


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM proofs",
        "SELECT count(*) FROM promises p JOIN keysets k ON k.n = p.keyset WHERE p.amount = ?",
        "SELECT * FROM melt_quotes WHERE payment_hash = ? AND state = 'PENDING'",
        "SELECT id FROM mint_quotes WHERE method = ? AND request = ?",
        "UPDATE proofs SET spent_at = ? WHERE secret = ?",
    ],
)
def test_a_scan_is_found_out(db: apsw.Connection, sql: str) -> None:
    assert scans(db, sql)


@pytest.mark.parametrize("sql", ["SELECT * FROM keysets k", "SELECT * FROM proofs WHERE y = ?"])
def test_what_is_quick_is_not_blamed(db: apsw.Connection, sql: str) -> None:
    assert scans(db, sql) == []


def test_a_repeated_scan_is_found_out(db: apsw.Connection) -> None:
    sql = "SELECT n FROM mint_quotes q WHERE 1 = (SELECT sum(amount) FROM receipts r WHERE r.mint_quote = q.n)"
    assert scans(db, sql, repeated=True) == ["SCAN r"]
    assert scans(db, "SELECT * FROM proofs", repeated=True) == []
