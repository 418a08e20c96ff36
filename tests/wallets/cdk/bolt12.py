"""What is done with offers by CDK's wallet: `python bolt12.py`, as `flows.py`.

This release makes mint quotes for offers, but asks for their ecash under bolt11's path, so it gets none.
"""

from __future__ import annotations

import asyncio
import hashlib

import cdk  # type: ignore[import-not-found]  # only where the wallet is installed
from flows import balance, fund, node, refused, wallet  # type: ignore[import-not-found]


async def main() -> None:
    """Offers of the mint are understood, and offers of others are paid."""
    purse = wallet()
    for amount in (None, cdk.Amount(value=21)):
        quote = await purse.mint_bolt12_quote(amount, None)
        decoded = node("decode", string=quote.request)
        assert decoded["type"] == "bolt12 offer"
        assert decoded.get("offer_amount_msat") == (None if amount is None else 21_000)

    await fund(purse, 1000)
    melt = await purse.melt_bolt12_quote(node("sandbox-offer", amount_msat=300_000)["bolt12"], None)
    assert melt.amount.value == 300
    melted = await purse.melt(melt.id)
    assert melted.state == cdk.QuoteState.PAID
    payment_hash = hashlib.sha256(bytes.fromhex(melted.preimage)).hexdigest()
    (row,) = node("listsendpays", payment_hash=payment_hash)["payments"]
    assert (row["status"], row["amount_msat"]) == ("complete", 300_000)
    offer = node("sandbox-offer", amount_msat="any")["bolt12"]
    await refused(purse.melt_bolt12_quote(offer, None))
    for amount in (100, 50):
        options = cdk.MeltOptions.AMOUNTLESS(cdk.Amount(value=amount * 1000))
        melt = await purse.melt_bolt12_quote(offer, options)
        assert melt.amount.value == amount
        assert (await purse.melt(melt.id)).state == cdk.QuoteState.PAID
    assert 1000 - 450 - 9 <= await balance(purse) <= 1000 - 450


if __name__ == "__main__":
    asyncio.run(main())
