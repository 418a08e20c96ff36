"""Ecash for whoever knows a preimage and has the key, in the environment in which nutshell's wallet is installed.

Its command line has no word for that, so this uses what it is made of. From outside come MINT_URL and CASHU_DIR, where
alice has ecash.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from cashu.core.base import HTLCWitness  # type: ignore[import-not-found]  # only where the wallet is installed
from cashu.wallet.wallet import Wallet  # type: ignore[import-not-found]

PREIMAGE, WRONG = "aa" * 32, "bb" * 32
REFUSED = "(Code: 20008)"


async def opened(name: str) -> Any:
    """A wallet as the command line has it: made first, then read."""
    where = (os.environ["MINT_URL"], str(Path(os.environ["CASHU_DIR"]) / name), name)
    await Wallet.with_db(*where, skip_db_read=True)
    wallet = await Wallet.with_db(*where)
    await wallet.load_mint()
    await wallet.load_proofs()
    return wallet


async def redeem(wallet: Any, proofs: list[Any], preimage: str) -> int:
    """Try to receive: how much it was worth."""
    for proof in proofs:
        proof.witness = HTLCWitness(preimage=preimage).model_dump_json()
    kept, _ = await wallet.redeem(proofs)
    return sum(proof.amount for proof in kept)


async def main() -> None:
    """Alice locks, only Bob can unlock, and only with the preimage."""
    alice, bob, carol = [await opened(name) for name in ("alice", "bob", "carol")]
    lock = await alice.create_htlc_lock(preimage=PREIMAGE, hashlock_pubkeys=[await bob.create_p2pk_pubkey()])
    _, locked = await alice.swap_to_send(alice.proofs, 64, secret_lock=lock)
    for wallet, preimage in ((bob, WRONG), (carol, PREIMAGE)):
        try:
            await redeem(wallet, locked, preimage)
        except Exception as error:
            assert REFUSED in str(error), error
        else:
            raise AssertionError("accepted")
    assert await redeem(bob, locked, PREIMAGE) == 63  # what was sent, less the fee for spending it


if __name__ == "__main__":
    asyncio.run(main())
