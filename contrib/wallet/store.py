"""The wallet's SQLite file: SQL and nothing else. What belongs together is written in one `transaction`.

Every commit is durable before the call returns (WAL, synchronous=FULL). One Store may be used by several threads;
several processes may open the same file.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from contrib.wallet.errors import WalletError
from contrib.wallet.keysets import Keyset
from contrib.wallet.proofs import ProofDleq, WalletProof
from ledger import models
from ledger.methods import BOLT12

BUSY_TIMEOUT_S = 30.0
SCHEMA_VERSION = 1
MAX_STORED_AMOUNT = 2**63 - 1
"""SQLite's largest integer; the largest denomination of the NUTs is one above it."""

OperationKind = Literal["mint", "swap", "receive", "melt", "send"]
OperationState = Literal["open", "pending", "sent", "done", "failed"]
MintQuote = models.MintQuoteBolt11 | models.MintQuoteBolt12
StoredState = Literal["unspent", "reserved", "sent", "pending", "spent"]


@dataclass(frozen=True, slots=True)
class Operation:
    """A row of the journal."""

    id: int
    kind: OperationKind
    mint: str
    unit: str
    state: OperationState
    amount: int
    quote: str | None
    token: str | None = field(repr=False)
    error: str | None
    cost: int | None
    owner: str | None
    created_at: int
    updated_at: int


@dataclass(frozen=True, slots=True)
class StoredOutput:
    """An output of an operation; its secret follows from keyset and counter. `amount` 0 means blank."""

    keyset: str
    counter: int
    amount: int
    for_send: bool


@dataclass(frozen=True, slots=True)
class PlannedOutput:
    """An output that has no counter yet."""

    keyset: str
    amount: int
    for_send: bool = False


class Store:
    """The tables, as methods. Methods that write must run inside `transaction()`."""

    def __init__(self, path: str | Path) -> None:
        """Open or create the file. Raises WalletError if it is not a wallet or cannot be opened."""
        self.path = str(path)
        self._lock = threading.RLock()
        self._depth = 0
        try:
            if self.path != ":memory:":
                Path(self.path).parent.mkdir(parents=True, exist_ok=True)
                # The file holds the seed: nobody else may read it.
                os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
            self._db = sqlite3.connect(self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
            self._db.row_factory = sqlite3.Row
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA foreign_keys = ON")
            self._create()
        except (OSError, sqlite3.Error) as error:
            raise WalletError(f"cannot open the wallet file {self.path}: {error}") from error

    def _create(self) -> None:
        schema = Path(__file__).with_name("schema.sql").read_text(encoding="utf-8")
        with self.transaction():
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if version == 0:
                # Not executescript: it would commit the transaction.
                for statement in _statements(schema):
                    self._db.execute(statement)
            elif version != SCHEMA_VERSION:
                raise WalletError(f"{self.path} is a wallet file of version {version}; this is for {SCHEMA_VERSION}")

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, durable at the end; nested ones join the outer one."""
        with self._lock:
            if self._depth:
                yield
                return
            try:
                self._db.execute("BEGIN IMMEDIATE")
            except sqlite3.Error as error:
                raise self._failed(error) from error
            self._depth += 1
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException as error:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                if isinstance(error, sqlite3.Error):
                    raise self._failed(error) from error
                raise
            finally:
                self._depth -= 1

    def _failed(self, error: sqlite3.Error) -> WalletError:
        return WalletError(f"the wallet file {self.path} cannot be used: {error}")

    def _rows(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        with self._lock:
            try:
                return self._db.execute(sql, values).fetchall()
            except sqlite3.Error as error:
                raise self._failed(error) from error

    def _run(self, sql: str, *values: Any) -> sqlite3.Cursor:
        assert self._depth, "writes need a transaction"
        return self._db.execute(sql, values)

    # --- meta ---------------------------------------------------------------------------------------------------

    def meta(self, key: str) -> str | None:
        """A setting of the file."""
        rows = self._rows("SELECT value FROM meta WHERE key = ?", key)
        return rows[0]["value"] if rows else None

    def set_meta(self, key: str, value: str) -> None:
        """Write a setting."""
        self._run("INSERT INTO meta VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", key, value)

    def next_quote_key(self) -> int:
        """Use up one index of a NUT-20 key."""
        index = int(self.meta("quote_keys") or 0)
        self.set_meta("quote_keys", str(index + 1))
        return index

    # --- keysets ------------------------------------------------------------------------------------------------

    def keysets(self, mint: str) -> dict[str, Keyset]:
        """All known keysets of a mint."""
        return {row["id"]: _keyset(row) for row in self._rows("SELECT * FROM keysets WHERE mint = ?", mint)}

    def keyset_mint(self, keyset_id: str) -> str | None:
        """Which mint a keyset belongs to."""
        rows = self._rows("SELECT mint FROM keysets WHERE id = ?", keyset_id)
        return rows[0]["mint"] if rows else None

    def mints(self) -> list[str]:
        """All mints that showed a keyset."""
        return [row["mint"] for row in self._rows("SELECT DISTINCT mint FROM keysets ORDER BY mint")]

    def add_keyset(self, mint: str, keyset: Keyset) -> None:
        """Remember a verified keyset; of a known one only `active` can change."""
        keys = json.dumps({str(amount): key.hex() for amount, key in keyset.keys.items()})
        self._run(
            "INSERT INTO keysets (id, mint, unit, active, input_fee_ppk, final_expiry, keys)"
            " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET active = excluded.active",
            *(keyset.id, mint, keyset.unit, keyset.active, keyset.input_fee_ppk, keyset.final_expiry, keys),
        )

    def set_active(self, keyset_id: str, active: bool) -> None:
        """Note whether the mint still signs with a keyset."""
        self._run("UPDATE keysets SET active = ? WHERE id = ?", active, keyset_id)

    def counter(self, keyset_id: str) -> int:
        """The next unused NUT-13 counter."""
        return int(self._rows("SELECT counter FROM keysets WHERE id = ?", keyset_id)[0]["counter"])

    def raise_counter(self, keyset_id: str, counter: int) -> None:
        """Make sure that no counter below `counter` is used again."""
        self._run("UPDATE keysets SET counter = max(counter, ?) WHERE id = ?", counter, keyset_id)

    def move_mint(self, old: str, new: str) -> int:
        """Give everything of the mint at `old` to the one at `new`; returns how many keysets that were."""
        for table in ("operations", "mint_quotes", "melt_quotes"):
            self._run(f"UPDATE {table} SET mint = ? WHERE mint = ?", new, old)  # noqa: S608
        return self._run("UPDATE keysets SET mint = ? WHERE mint = ?", new, old).rowcount

    # --- operations ---------------------------------------------------------------------------------------------

    def add_operation(
        self,
        kind: OperationKind,
        mint: str,
        unit: str,
        amount: int,
        *,
        state: OperationState = "open",
        quote: str | None = None,
        token: str | None = None,
        owner: str | None = None,
        outputs: Iterable[PlannedOutput] = (),
    ) -> int:
        """Write a journal entry with its outputs, whose counters are used up by that."""
        now = int(time.time())
        cursor = self._run(
            "INSERT INTO operations (kind, mint, unit, state, amount, quote, token, owner, created_at, updated_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            *(kind, mint, unit, state, amount, quote, token, owner, now, now),
        )
        assert cursor.lastrowid is not None
        operation = cursor.lastrowid
        for position, output in enumerate(outputs):
            counter = self.counter(output.keyset)
            self.raise_counter(output.keyset, counter + 1)
            self._run(
                "INSERT INTO outputs VALUES (?, ?, ?, ?, ?, ?)",
                *(operation, position, output.keyset, counter, output.amount, output.for_send),
            )
        return operation

    def operation(self, operation: int) -> Operation:
        """One journal entry."""
        return _operation(self._rows("SELECT * FROM operations WHERE id = ?", operation)[0])

    def unfinished(self, mint: str, unit: str | None = None) -> list[Operation]:
        """Everything that is not over yet, oldest first."""
        return [
            _operation(row)
            for row in self._rows(
                "SELECT * FROM operations WHERE mint = ? AND state IN ('open', 'pending', 'sent')"
                " AND unit = coalesce(?, unit) ORDER BY id",
                *(mint, unit),
            )
        ]

    def operations_of_quote(self, mint: str, quote: str, kind: OperationKind) -> list[Operation]:
        """All attempts at a quote, newest first."""
        return [
            _operation(row)
            for row in self._rows(
                "SELECT * FROM operations WHERE mint = ? AND quote = ? AND kind = ? ORDER BY id DESC", mint, quote, kind
            )
        ]

    def set_operation(
        self,
        operation: int,
        state: OperationState,
        *,
        error: str | None = None,
        cost: int | None = None,
    ) -> None:
        """Move a journal entry on; `cost` is what the wallet's proofs are worth less for it."""
        self._run(
            "UPDATE operations SET state = ?, error = ?, cost = ?, updated_at = ? WHERE id = ?",
            *(state, error, cost, int(time.time()), operation),
        )

    def set_owner(self, operation: int, owner: str | None) -> None:
        """Note who is waiting for the mint's answer."""
        self._run("UPDATE operations SET owner = ? WHERE id = ?", owner, operation)

    def outputs(self, operation: int) -> list[StoredOutput]:
        """The outputs of an operation in the order in which they were sent."""
        rows = self._rows("SELECT * FROM outputs WHERE operation = ? ORDER BY position", operation)
        return [StoredOutput(row["keyset"], row["counter"], row["amount"], bool(row["for_send"])) for row in rows]

    # --- proofs -------------------------------------------------------------------------------------------------

    def add_proof(self, proof: WalletProof, state: StoredState, operation: int | None = None) -> None:
        """Keep a proof; one that is known already is left as it is."""
        if proof.amount > MAX_STORED_AMOUNT:
            raise WalletError(f"a proof of {proof.amount} is larger than this wallet can keep")
        self._run(
            "INSERT INTO proofs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            *(proof.secret, proof.y, proof.id, proof.amount, proof.C),
            *(proof.dleq.model_dump_json() if proof.dleq else None, proof.witness, state, operation),
        )

    def proofs(self, mint: str, unit: str, state: StoredState) -> list[WalletProof]:
        """Proofs in a state."""
        rows = self._rows(
            "SELECT p.* FROM proofs p JOIN keysets k ON k.id = p.keyset"
            " WHERE k.mint = ? AND k.unit = ? AND p.state = ? ORDER BY p.amount, p.secret",
            *(mint, unit, state),
        )
        return [_proof(row) for row in rows]

    def balance(self, mint: str, unit: str, state: StoredState) -> int:
        """Sum of the proofs in a state."""
        (row,) = self._rows(
            "SELECT coalesce(sum(p.amount), 0) AS total FROM proofs p JOIN keysets k ON k.id = p.keyset"
            " WHERE k.mint = ? AND k.unit = ? AND p.state = ?",
            *(mint, unit, state),
        )
        return int(row["total"])

    def proof_state(self, secret: str) -> tuple[StoredState, int | None] | None:
        """State and operation of a proof, None for one that was never here."""
        rows = self._rows("SELECT state, operation FROM proofs WHERE secret = ?", secret)
        return (rows[0]["state"], rows[0]["operation"]) if rows else None

    def set_proof(self, secret: str, state: StoredState, operation: int | None = None) -> None:
        """Change a proof's state."""
        self._run("UPDATE proofs SET state = ?, operation = ? WHERE secret = ?", state, operation, secret)

    def proofs_of(self, operation: int, state: StoredState) -> list[WalletProof]:
        """Proofs that an operation holds in a state."""
        rows = self._rows(
            "SELECT * FROM proofs WHERE operation = ? AND state = ? ORDER BY amount, secret", operation, state
        )
        return [_proof(row) for row in rows]

    def reserve(self, operation: int, proofs: Sequence[WalletProof], *, own: bool = True) -> None:
        """Make `proofs` the inputs of an operation; with `own` False those that are new here come in with it."""
        for proof in proofs:
            before = self.proof_state(proof.secret)
            origin = before[1] if before and before[0] == "sent" else None
            self.add_proof(proof, "reserved", operation)
            self.set_proof(proof.secret, "reserved", operation)
            self._run(
                "INSERT INTO inputs VALUES (?, ?, ?, ?)", operation, proof.secret, origin, own or before is not None
            )

    def inputs(self, operation: int) -> list[WalletProof]:
        """The inputs of an operation, whatever became of them."""
        rows = self._rows(
            "SELECT p.* FROM inputs i JOIN proofs p ON p.secret = i.secret WHERE i.operation = ?"
            " ORDER BY p.amount, p.secret",
            operation,
        )
        return [_proof(row) for row in rows]

    def spend_inputs(self, operation: int, secrets: Iterable[str] | None = None) -> None:
        """Mark inputs of an operation as spent: all, or those named."""
        for proof in self.inputs(operation):
            if secrets is None or proof.secret in secrets:
                self.set_proof(proof.secret, "spent", operation)

    def release_inputs(self, operation: int) -> None:
        """Undo `reserve` for every input that is still reserved."""
        rows = self._rows(
            "SELECT i.secret, i.origin, i.own FROM inputs i JOIN proofs p ON p.secret = i.secret"
            " WHERE i.operation = ? AND p.operation = ? AND p.state = 'reserved'",
            *(operation, operation),
        )
        for row in rows:
            if row["origin"] is not None:
                self.set_proof(row["secret"], "sent", row["origin"])
            elif row["own"]:
                self.set_proof(row["secret"], "unspent")
            else:
                self._run("DELETE FROM inputs WHERE secret = ?", row["secret"])
                self._run("DELETE FROM proofs WHERE secret = ?", row["secret"])

    def close_empty_sends(self) -> None:
        """Finish sends whose token holds nothing any more."""
        self._run(
            "UPDATE operations SET state = 'done', updated_at = ? WHERE kind = 'send' AND state = 'sent'"
            " AND NOT EXISTS (SELECT 1 FROM proofs p WHERE p.operation = operations.id AND p.state = 'sent')"
            # An input taken back into an operation that is still open may return to its send.
            " AND NOT EXISTS (SELECT 1 FROM inputs i JOIN proofs p ON p.secret = i.secret"
            "                 WHERE i.origin = operations.id AND p.state = 'reserved')",
            int(time.time()),
        )

    # --- quotes -------------------------------------------------------------------------------------------------

    def put_mint_quote(self, mint: str, quote: models.MintQuote, key_index: int | None = None) -> None:
        """Keep the newest form of a mint quote: one that was on its way for longer must not undo a later one."""
        self._run(
            "INSERT INTO mint_quotes VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET body = excluded.body"
            " WHERE json_extract(excluded.body, '$.updated_at') >= json_extract(mint_quotes.body, '$.updated_at')",
            *(mint, quote.quote, key_index, quote.model_dump_json(), int(time.time())),
        )

    def mint_quotes(self, mint: str) -> list[MintQuote]:
        """All mint quotes, oldest first."""
        rows = self._rows(
            "SELECT body FROM mint_quotes WHERE mint = ?"
            " AND json_extract(body, '$.method') <> 'onchain' ORDER BY created_at, id",
            mint,
        )
        return [_mint_quote(row["body"]) for row in rows]

    def mint_quote(self, mint: str, quote: str) -> MintQuote | None:
        """One mint quote as it was last seen."""
        rows = self._rows(
            "SELECT body FROM mint_quotes WHERE mint = ? AND id = ? AND json_extract(body, '$.method') <> 'onchain'",
            *(mint, quote),
        )
        return _mint_quote(rows[0]["body"]) if rows else None

    def quote_key_index(self, mint: str, quote: str) -> int | None:
        """Index of the key that locks a mint quote."""
        rows = self._rows("SELECT key_index FROM mint_quotes WHERE mint = ? AND id = ?", mint, quote)
        return rows[0]["key_index"] if rows else None

    def put_melt_quote(self, mint: str, quote: models.MeltQuote) -> None:
        """Keep the newest form of a melt quote."""
        self._run(
            "INSERT INTO melt_quotes VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET body = excluded.body",
            *(mint, quote.quote, quote.model_dump_json(), int(time.time())),
        )

    def melt_quotes(self, mint: str) -> list[models.MeltQuoteLightning]:
        """All melt quotes, oldest first."""
        rows = self._rows(
            "SELECT body FROM melt_quotes WHERE mint = ?"
            " AND json_extract(body, '$.method') <> 'onchain' ORDER BY created_at, id",
            mint,
        )
        return [models.MeltQuoteLightning.model_validate_json(row["body"]) for row in rows]

    def melt_quote(self, mint: str, quote: str) -> models.MeltQuoteLightning | None:
        """One melt quote as it was last seen."""
        rows = self._rows(
            "SELECT body FROM melt_quotes WHERE mint = ? AND id = ? AND json_extract(body, '$.method') <> 'onchain'",
            *(mint, quote),
        )
        return models.MeltQuoteLightning.model_validate_json(rows[0]["body"]) if rows else None

    # --- quotes on the chain (NUT-30) ---------------------------------------------------------------------------

    def quote_method(self, mint: str, quote: str) -> str:
        """The payment method of a quote."""
        for table in ("mint_quotes", "melt_quotes"):
            rows = self._rows(
                f"SELECT json_extract(body, '$.method') AS method FROM {table} WHERE mint = ? AND id = ?",  # noqa: S608
                *(mint, quote),
            )
            if rows:
                return str(rows[0]["method"])
        return "bolt11"

    def onchain_mint_quotes(self, mint: str) -> list[models.MintQuoteOnchain]:
        """All quotes with addresses, oldest first."""
        rows = self._rows(
            "SELECT body FROM mint_quotes WHERE mint = ?"
            " AND json_extract(body, '$.method') = 'onchain' ORDER BY created_at, id",
            mint,
        )
        return [models.MintQuoteOnchain.model_validate_json(row["body"]) for row in rows]

    def onchain_melt_quotes(self, mint: str) -> list[models.MeltQuoteOnchain]:
        """All quotes for payments on the chain, oldest first."""
        rows = self._rows(
            "SELECT body FROM melt_quotes WHERE mint = ?"
            " AND json_extract(body, '$.method') = 'onchain' ORDER BY created_at, id",
            mint,
        )
        return [models.MeltQuoteOnchain.model_validate_json(row["body"]) for row in rows]

    def onchain_melt_quote(self, mint: str, quote: str) -> models.MeltQuoteOnchain | None:
        """One quote for a payment on the chain as it was last seen."""
        return next((known for known in self.onchain_melt_quotes(mint) if known.quote == quote), None)


def _statements(script: str) -> Iterator[str]:
    statement = ""
    for line in script.splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _mint_quote(body: str) -> MintQuote:
    model = models.MintQuoteBolt12 if json.loads(body)["method"] == BOLT12 else models.MintQuoteBolt11
    return model.model_validate_json(body)


def _keyset(row: sqlite3.Row) -> Keyset:
    keys = {int(amount): bytes.fromhex(key) for amount, key in json.loads(row["keys"]).items()}
    return Keyset(row["id"], row["unit"], bool(row["active"]), row["input_fee_ppk"], row["final_expiry"], keys)


def _operation(row: sqlite3.Row) -> Operation:
    return Operation(**{name: row[name] for name in Operation.__dataclass_fields__})


def _proof(row: sqlite3.Row) -> WalletProof:
    return WalletProof(
        amount=row["amount"],
        id=row["keyset"],
        secret=row["secret"],
        C=row["c"],
        witness=row["witness"],
        dleq=ProofDleq.model_validate_json(row["dleq"]) if row["dleq"] else None,
    )
