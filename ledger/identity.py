"""Which ledger this is, and whether it is the newest copy of it: the tripwire against lost and old ledgers.

The keys come out of the node's own secret, so a mint that lost its ledger would make the same keys again and take
every proof that was ever spent for a fresh one. The node's datastore therefore holds a record of the ledger, and a
ledger that is missing, of another mint, or older than the record is not opened.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass

import apsw

from ledger.errors import StartError
from ledger.store.query import fetch_one

MINT_ID_BYTES = 16
FIRST_EPOCH = 1


@dataclass(frozen=True, slots=True)
class Record:
    """What the node's datastore remembers of the ledger. `commits` only ever grows."""

    mint_id: str
    epoch: int
    commits: int

    def to_json(self) -> str:
        """As stored in the datastore."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Record:
        """Raises StartError if the datastore holds something else under this name."""
        try:
            fields = json.loads(text)
            return cls(str(fields["mint_id"]), int(fields["epoch"]), int(fields["commits"]))
        except (ValueError, KeyError, TypeError) as error:
            raise StartError(f"the node's datastore holds no record of a mint, but {text[:80]!r}") from error


def read(db: apsw.Connection) -> Record | None:
    """What the ledger says of itself; None for a new file."""
    row = fetch_one(db, "SELECT mint_id, epoch, commits FROM ledger")
    return None if row is None else Record(*row)


def create(db: apsw.Connection, now: int) -> Record:
    """Give a new ledger its identity."""
    record = Record(secrets.token_hex(MINT_ID_BYTES), FIRST_EPOCH, 0)
    db.execute(
        "INSERT INTO ledger (one, mint_id, epoch, created_at) VALUES (1, ?, ?, ?)",
        (record.mint_id, record.epoch, now),
    )
    return record


def is_node_older(db: apsw.Connection, remembered: Record | None) -> bool:
    """Whether the node remembers less of this ledger than it had said that it does: then its database, which holds the
    record, was put back to an older state."""
    confirmed = int(db.execute("SELECT remembered FROM ledger").get)
    return (0 if remembered is None else remembered.commits) < confirmed


def require_newest(ours: Record | None, remembered: Record | None) -> None:
    """Raises StartError if opening this ledger could make spent ecash spendable again."""
    if remembered is None:
        return
    if ours is None:
        raise StartError(
            f"the ledger is missing: this node has a mint already (id {remembered.mint_id}). Starting an empty ledger "
            "would accept every spent proof again. Put the ledger file back, or point cashu-db to it."
        )
    if ours.mint_id != remembered.mint_id or ours.epoch != remembered.epoch:
        raise StartError(
            f"this is the ledger of another mint (id {ours.mint_id}, epoch {ours.epoch}); this node's mint is "
            f"{remembered.mint_id}, epoch {remembered.epoch}. Point cashu-db to the right file."
        )
    if ours.commits < remembered.commits:
        missing = remembered.commits - ours.commits
        raise StartError(
            f"the ledger is an old copy: it has {ours.commits} commits, the node remembers {remembered.commits}, so "
            f"the last {missing} are missing. Ecash that was spent in them would be accepted again, and there is no "
            "way to tell which. Put the newest file back: the one that was in use, its replica, or a later backup. "
            "cashu-restore-check PATH tells how new a file is."
        )
