"""Bringing a wallet back from its words (NUT-09, NUT-13)."""

from __future__ import annotations

from dataclasses import dataclass

from contrib.wallet.client import MintClient
from contrib.wallet.journal import Journal
from contrib.wallet.keyring import Keyring
from contrib.wallet.outputs import Output
from contrib.wallet.proofs import WalletProof
from contrib.wallet.seed import Seed
from contrib.wallet.store import Store
from ledger.models import ProofState

RESTORE_BATCH = 100
"""Outputs per request, as NUT-13 suggests."""
RESTORE_EMPTY_BATCHES = 2
"""A keyset is done after this many batches in a row of which the mint knows nothing."""
RESTORE_MARGIN = RESTORE_BATCH
"""Counters left free after the last one found: a melt that is still pending may hold blank outputs there, whose
signatures a mint shows only later. Less than the empty batches above, so that a later scan gets across."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What came back: proofs found at all, and sums by state (minor unit). `added` is what was not here before."""

    found: int
    unspent: int
    pending: int
    spent: int
    added: int


def restore(client: MintClient, store: Store, keyring: Keyring, journal: Journal, seed: Seed, unit: str) -> Restored:
    """Scan every keyset of `unit` and keep what is unspent. Counters end up beyond everything that was found.

    May be repeated and run on a wallet in use. Raises what the client raises; what was kept until then stays.
    """
    found: list[WalletProof] = []
    states: dict[str, ProofState] = {}
    added = 0
    for keyset in keyring.all_of_unit(unit):
        proofs = _scan(store, journal, seed, keyset.id)
        found += proofs
        keyset_states = journal.check_states(proofs)
        states |= keyset_states
        with store.transaction():
            added += sum(_keep(store, proof, keyset_states[proof.secret]) for proof in proofs)
    sums = {state: sum(p.amount for p in found if states[p.secret] == state) for state in ProofState}
    return Restored(
        found=len(found),
        unspent=sums[ProofState.UNSPENT],
        pending=sums[ProofState.PENDING],
        spent=sums[ProofState.SPENT],
        added=added,
    )


def _scan(store: Store, journal: Journal, seed: Seed, keyset_id: str) -> list[WalletProof]:
    proofs: list[WalletProof] = []
    counter, empty = 0, 0
    while empty < RESTORE_EMPTY_BATCHES or counter < store.counter(keyset_id):
        batch = [
            Output.make(keyset_id, 0, seed.blinded_secret(keyset_id, number))
            for number in range(counter, counter + RESTORE_BATCH)
        ]
        signed = journal.signed_outputs(batch)
        if signed:
            known = {output.secret: counter + offset for offset, output in enumerate(batch)}
            with store.transaction():
                store.raise_counter(keyset_id, max(known[proof.secret] for proof in signed) + 1 + RESTORE_MARGIN)
        proofs += signed
        counter += RESTORE_BATCH
        empty = 0 if signed else empty + 1
    return proofs


def _keep(store: Store, proof: WalletProof, state: ProofState) -> int:
    """Write one proof down; returns by how much the balance grows."""
    here = store.proof_state(proof.secret)
    if state == ProofState.SPENT:
        if here is not None and here[0] in ("unspent", "pending"):
            store.set_proof(proof.secret, "spent")
        return 0
    if here is None:
        store.add_proof(proof, "unspent" if state == ProofState.UNSPENT else "pending")
        return proof.amount
    if here[0] in ("spent", "pending") and state == ProofState.UNSPENT:
        store.set_proof(proof.secret, "unspent")
        return proof.amount
    return 0
