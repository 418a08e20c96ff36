"""The JSON of `GET /operator/data`. Times are unix seconds; amounts are in millisatoshis if their name says so, else in
the unit that stands beside them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

Span = Literal["day", "week", "month", "year"]


class FlowView(BaseModel):
    """See `ledger.report.Flow`."""

    at: int
    method: str
    in_msat: int
    out_msat: int
    fees_msat: int
    receipts: int
    payments: int


class NoteView(BaseModel):
    """See `plugin.operator.history.Note`."""

    at: int
    owed_msat: int
    owned_msat: int


class BalanceView(BaseModel):
    """Both sides now. What the node owns is missing while it can't be asked."""

    owed_msat: int
    outstanding_msat: int
    unissued_msat: int
    owned_msat: int | None = None
    channels_msat: int | None = None
    onchain_msat: int | None = None
    on_the_way_msat: int | None = None
    sendable_msat: int | None = None
    receivable_msat: int | None = None


class FeesView(BaseModel):
    """Since the ledger began. `input_msat` was taken for spending ecash, `paid_msat` paid to others for carrying
    payments; `earned_msat` is what the mint has above what it owes: fees and roundings, less losses."""

    input_msat: int
    paid_msat: int
    earned_msat: int


class WaitingView(BaseModel):
    """A melt in flight, see `ledger.report.Waiting`."""

    handle: str
    method: str
    unit: str
    amount: int
    begun_at: int


class PendingView(BaseModel):
    """All of them, of which `melts` has those that wait for longest."""

    count: int
    sum_msat: int
    melts: list[WaitingView]


class FailureView(BaseModel):
    """See `ledger.report.Failure`."""

    method: str
    reason: str
    count: int
    last_at: int


class KeysetView(BaseModel):
    """A keyset and its books, in its unit (NUT-02)."""

    id: str
    unit: str
    active: bool
    input_fee_ppk: int
    final_expiry: int | None
    issued: int
    redeemed: int
    outstanding: int
    fees: int


class CheckView(BaseModel):
    """One thing that is well or not, see `plugin.operator.health.Check`."""

    name: str
    state: Literal["good", "warn", "bad"]
    text: str


class OverviewResponse(BaseModel):
    """`GET /operator/data`. Times are unix seconds; `since`: of the first step in `flows`."""

    time: int
    name: str
    version: str
    span: Span
    since: int
    step_s: int
    balance: BalanceView
    fees: FeesView
    history: list[NoteView]
    flows: list[FlowView]
    pending: PendingView
    failures: list[FailureView]
    keysets: list[KeysetView]
    health: list[CheckView]
