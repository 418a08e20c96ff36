"""`cashu-quotes`: mint quotes and melt quotes, without what would give a right to anybody."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict

from ledger import methods
from ledger.operations import quotes
from ledger.operations.quotes import Listed, Wanted
from plugin.commands.parameters import Answer, Call, one_of, services, whole
from plugin.mint import Mint

MAX_PAGE = 500
"""Most quotes that are listed at once."""
PAGE = 20
MAX_ROW = 2**62
MINT, MELT = "mint", "melt"
METHODS = (methods.BOLT11, methods.BOLT12, methods.ONCHAIN)


async def list_quotes(mint: Mint, call: Call) -> Answer:
    """List quotes, the newest first: {kind} is mint (the default) or melt; only those of a {state} (unpaid, paid,
    issued or pending) and {method} if given, at most {limit} (20), and older than no. {before}.

    `next`, if there are more, is the {before} of the next page. A quote's id is its wallet's secret: the label is how
    the node knows it."""
    ledger = services(mint).ledger
    kind = one_of("kind", call["kind"], (MINT, MELT), MINT)
    states = quotes.MINT_STATES if kind == MINT else quotes.MELT_STATES
    limit = whole("limit", call["limit"], PAGE, MAX_PAGE, 1) or PAGE
    wanted = Wanted(
        one_of("method", call["method"], METHODS, None),
        one_of("state", call["state"], tuple(states), None),
        whole("before", call["before"], None, MAX_ROW),
        limit + 1,
    )

    def read() -> Sequence[Listed]:
        with ledger.read() as db:
            return quotes.mint_quotes(db, wanted) if kind == MINT else quotes.melt_quotes(db, wanted)

    found = await asyncio.to_thread(read)  # a rare state of an old mint takes a while to find
    shown = found[:limit]
    return {
        "kind": kind,
        "quotes": [{name: value for name, value in asdict(quote).items() if value is not None} for quote in shown],
        "next": shown[-1].n if len(found) > limit else None,
    }
