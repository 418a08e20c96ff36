"""The books: what is outstanding, and the proof that it is what the rows say."""

from __future__ import annotations

from dataclasses import dataclass

import apsw

from ledger.operations import resolution
from ledger.operations.resolution import Forced
from ledger.store.query import fetch_all
from ledger.units import to_msat


@dataclass(frozen=True, slots=True)
class KeysetBooks:
    """Of one keyset, in its unit. `outstanding` is the ecash in wallets' hands."""

    id: str
    unit: str
    active: bool
    issued: int
    redeemed: int
    fees: int

    @property
    def outstanding(self) -> int:
        """Issued and not redeemed; ecash held by a pending melt counts as outstanding."""
        return self.issued - self.redeemed


@dataclass(frozen=True, slots=True)
class MethodBooks:
    """Of one payment method and unit. `routing_fees_msat`: what others took for carrying payments, miners included."""

    method: str
    unit: str
    received_msat: int
    paid_out_msat: int
    routing_fees_msat: int

    @property
    def kept_msat(self) -> int:
        """What came in and did not go out again."""
        return self.received_msat - self.paid_out_msat - self.routing_fees_msat


@dataclass(frozen=True, slots=True)
class Audit:
    """The result of recomputing the books from the rows. `faults` is empty if everything balances."""

    keysets: tuple[KeysetBooks, ...]
    methods: tuple[MethodBooks, ...]
    received_msat: int
    paid_out_msat: int
    routing_fees_msat: int
    outstanding_msat: int
    unissued_msat: int
    """Paid for by wallets, which may still ask for its ecash."""
    forced: tuple[Forced, ...]
    """Melts that the operator ended without evidence."""
    faults: tuple[str, ...]

    @property
    def owed_msat(self) -> int:
        """What the mint owes: the ecash in wallets' hands, and what they may still have issued."""
        return self.outstanding_msat + self.unissued_msat

    @property
    def lost_msat(self) -> int:
        """What left the node for payments that were given up by force: their ecash was given back."""
        return sum(resolution.lost_msat for resolution in self.forced)

    @property
    def earned_msat(self) -> int:
        """What the mint has above what it owes: fees taken and roundings, less what it lost."""
        spent_msat = self.paid_out_msat + self.routing_fees_msat + self.lost_msat
        return self.received_msat - spent_msat - self.owed_msat


def keyset_books(db: apsw.Connection) -> list[KeysetBooks]:
    """The books of every keyset."""
    rows = fetch_all(db, "SELECT id, unit, active, issued, redeemed, fees FROM keysets ORDER BY n")
    return [
        KeysetBooks(keyset_id, unit, bool(active), issued, redeemed, fees)
        for keyset_id, unit, active, issued, redeemed, fees in rows
    ]


def method_books(db: apsw.Connection) -> list[MethodBooks]:
    """The books of every payment method and unit."""
    rows = fetch_all(
        db,
        "SELECT method, unit, received_msat, paid_out_msat, routing_fees_msat FROM method_books ORDER BY method, unit",
    )
    return [MethodBooks(*row) for row in rows]


def outstanding(db: apsw.Connection) -> dict[str, int]:
    """Ecash in wallets' hands, by unit."""
    totals: dict[str, int] = {}
    for books in keyset_books(db):
        totals[books.unit] = totals.get(books.unit, 0) + books.outstanding
    return totals


def surplus_msat(db: apsw.Connection) -> int:
    """What came in, less what went out, by the books of the methods: what stands against what is owed."""
    kept = sum(books.kept_msat for books in method_books(db))
    return kept - sum(entry.lost_msat for entry in resolution.forced(db))


def audit(db: apsw.Connection) -> Audit:
    """Recompute every figure of the books from the rows they count, and compare."""
    keysets = tuple(keyset_books(db))
    faults = [*_keyset_faults(db, keysets), *_fee_faults(db), *_method_faults(db), *_quote_faults(db)]
    faults += [*_chain_faults(db), *_resolution_faults(db)]
    methods = tuple(method_books(db))
    received = sum(books.received_msat for books in methods)
    paid_out = sum(books.paid_out_msat for books in methods)
    routing_fees = sum(books.routing_fees_msat for books in methods)
    outstanding_msat = sum(to_msat(books.outstanding, books.unit) for books in keysets)
    unissued = fetch_all(db, "SELECT unit, sum(amount_paid - amount_issued) FROM mint_quotes GROUP BY unit")
    unissued_msat = sum(to_msat(amount, unit) for unit, amount in unissued)
    if outstanding_msat + unissued_msat > received - paid_out - routing_fees:
        faults.append(
            f"outstanding {outstanding_msat} msat and unissued {unissued_msat} msat are more than received {received}"
            f" - paid out {paid_out} - routing fees {routing_fees}"
        )
    forced = tuple(resolution.forced(db))
    return Audit(
        keysets, methods, received, paid_out, routing_fees, outstanding_msat, unissued_msat, forced, tuple(faults)
    )


def _keyset_faults(db: apsw.Connection, keysets: tuple[KeysetBooks, ...]) -> list[str]:
    issued = _sum_by_keyset(db, "promises", "p.amount IS NOT NULL")
    redeemed = _sum_by_keyset(db, "proofs", "p.spent_at IS NOT NULL")
    faults = []
    for books in keysets:
        if books.issued != issued.get(books.id, 0):
            faults.append(f"keyset {books.id}: issued {books.issued}, its promises sum to {issued.get(books.id, 0)}")
        if books.redeemed != redeemed.get(books.id, 0):
            faults.append(f"keyset {books.id}: redeemed {books.redeemed}, proofs sum to {redeemed.get(books.id, 0)}")
        if books.outstanding < 0:
            faults.append(f"keyset {books.id}: redeemed more than was issued")
    return faults


def _fee_faults(db: apsw.Connection) -> list[str]:
    """Input fees are what swaps took and didn't sign again, and what paid melts charged."""
    rows = fetch_all(
        db,
        """
        WITH taken (unit, amount) AS (
            SELECT k.unit, p.amount FROM proofs p JOIN keysets k ON k.n = p.keyset WHERE p.operation IS NOT NULL
            UNION ALL
            SELECT k.unit, -p.amount FROM promises p JOIN keysets k ON k.n = p.keyset
                JOIN operations o ON o.n = p.operation AND o.kind = 'swap'
            UNION ALL
            SELECT unit, input_fee FROM melt_quotes WHERE state = 'PAID'
        )
        SELECT k.unit, sum(k.fees), (SELECT coalesce(sum(t.amount), 0) FROM taken t WHERE t.unit = k.unit)
        FROM keysets k GROUP BY k.unit
        """,
    )
    return [f"{unit}: input fees {fees}, the rows give {taken}" for unit, fees, taken in rows if fees != taken]


def _sum_by_keyset(db: apsw.Connection, table: str, condition: str) -> dict[str, int]:
    rows = fetch_all(
        db,
        f"SELECT k.id, sum(p.amount) FROM {table} p JOIN keysets k ON k.n = p.keyset"  # noqa: S608 - constants
        f" WHERE {condition} GROUP BY k.id",
    )
    return dict(rows)


def _method_faults(db: apsw.Connection) -> list[str]:
    rows = fetch_all(
        db,
        """
        SELECT b.method, b.unit, b.received_msat, b.paid_out_msat, b.routing_fees_msat,
            (SELECT coalesce(sum(r.received_msat), 0) FROM receipts r JOIN mint_quotes q ON q.n = r.mint_quote
                WHERE q.method = b.method AND q.unit = b.unit),
            (SELECT coalesce(sum(min(sent_msat, amount_msat)), 0) FROM melt_quotes q
                WHERE q.state = 'PAID' AND q.method = b.method AND q.unit = b.unit),
            (SELECT coalesce(sum(max(0, sent_msat - amount_msat)), 0) FROM melt_quotes q
                WHERE q.state = 'PAID' AND q.method = b.method AND q.unit = b.unit)
        FROM method_books b
        """,
    )
    return [
        f"{method} {unit}: books {tuple(books)} are not what the rows sum to, {tuple(sums)}"
        for method, unit, *figures in rows
        if (books := figures[:3]) != (sums := figures[3:])
    ]


def _quote_faults(db: apsw.Connection) -> list[str]:
    """Ecash issued for a quote must be what its row says, and proofs are held only by melts in flight."""
    # Receipts are summed up once, not for each quote: there is no index of theirs by quote.
    issued = fetch_all(
        db,
        """
        SELECT q.n FROM mint_quotes q
        LEFT JOIN (SELECT mint_quote, sum(amount) AS amount FROM issues GROUP BY mint_quote) i ON i.mint_quote = q.n
        LEFT JOIN (SELECT mint_quote, sum(amount) AS amount FROM receipts GROUP BY mint_quote) r ON r.mint_quote = q.n
        WHERE q.amount_issued <> coalesce(i.amount, 0) OR q.amount_paid <> coalesce(r.amount, 0)
        """,
    )
    operations = fetch_all(
        db,
        "SELECT i.operation FROM issues i GROUP BY i.operation HAVING sum(i.amount) <>"
        " (SELECT coalesce(sum(p.amount), 0) FROM promises p WHERE p.operation = i.operation)",
    )
    held = fetch_all(
        db,
        "SELECT q.n FROM melt_quotes q WHERE (q.state = 'PENDING') <>"
        " EXISTS (SELECT 1 FROM proofs p WHERE p.melt_quote = q.n AND p.spent_at IS NULL)",
    )
    blank = fetch_all(
        db,
        "SELECT DISTINCT q.n FROM promises p JOIN melt_quotes q ON q.n = p.melt_quote"
        " WHERE p.c_ IS NULL AND q.state <> 'PENDING'",
    )
    return [
        *("a mint quote's paid or issued amount is not what its rows sum to" for _ in issued),
        *(f"issue no. {n}: its promises are not what it took from its quotes" for (n,) in operations),
        *(f"melt quote no. {n}: its state and its held proofs do not fit" for (n,) in held),
        *(f"melt quote no. {n}: it is over, and blank outputs are still held for it" for (n,) in blank),
        *("the melts in flight are not as many, or not over as much, as is written down" for _ in _miscounted(db)),
    ]


def _miscounted(db: apsw.Connection) -> list[tuple[int]]:
    if not db.table_exists(None, "in_flight"):
        return []  # a copy of an older release's ledger
    return fetch_all(
        db,
        "SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM in_flight WHERE (melts, msat) ="
        " (SELECT count(*), coalesce(sum(amount_msat), 0) FROM melt_quotes WHERE state = 'PENDING'))",
    )


def _chain_faults(db: apsw.Connection) -> list[str]:
    """On the chain (NUT-30): each output that was credited was seen, and each melt that was paid has the transaction
    that paid it, with that fee; one that isn't begun has none that may still be sent."""
    credited = fetch_all(
        db,
        "SELECT q.n FROM mint_quotes q JOIN receipts r ON r.mint_quote = q.n"
        " LEFT JOIN deposits d ON d.outpoint = r.payment_id WHERE q.method = 'onchain'"
        " AND (d.mint_quote IS NOT q.n OR d.watched OR d.amount_sat * 1000 <> r.received_msat)",
    )
    watched = fetch_all(
        db,
        "SELECT d.mint_quote FROM deposits d WHERE NOT d.watched"
        " AND NOT EXISTS (SELECT 1 FROM receipts r WHERE r.payment_id = d.outpoint)",
    )
    paid = fetch_all(
        db,
        "SELECT q.n FROM melt_quotes q LEFT JOIN payouts p ON p.melt_quote = q.n WHERE q.method = 'onchain' AND CASE"
        " q.state WHEN 'PAID' THEN q.amount_msat + p.fee_sat * 1000 IS NOT q.sent_msat"
        " WHEN 'UNPAID' THEN p.txid IS NOT NULL ELSE 0 END",
    )
    return [
        *(f"mint quote no. {n}: it was credited for an output that was not seen so" for (n,) in credited),
        *(f"mint quote no. {n}: an output is watched no longer and was not credited" for (n,) in watched),
        *(f"melt quote no. {n}: its state and its transaction do not fit" for (n,) in paid),
    ]


def _resolution_faults(db: apsw.Connection) -> list[str]:
    """A melt that was forced to paid is paid, and one can't be forced before it was begun."""
    rows = fetch_all(
        db,
        "SELECT q.n FROM resolutions r JOIN melt_quotes q ON q.n = r.melt_quote"
        " WHERE r.attempt > q.attempt OR (r.outcome = 'PAID' AND (q.state <> 'PAID' OR r.attempt <> q.attempt))",
    )
    return [f"melt quote no. {n}: its state and its forced resolution do not fit" for (n,) in rows]
