"""The mint's keysets: fetched once, verified, kept in the wallet's file (NUT-01, 02)."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from contrib.wallet.client import MintClient
from contrib.wallet.errors import ProtocolError, WalletError
from contrib.wallet.keysets import Keyset, resolve_id
from contrib.wallet.store import Store
from ledger.keysets import KEYSET_ID_V1_LENGTH, KEYSET_ID_V2_LENGTH


class Keyring:
    """All keysets of one mint that the wallet came across."""

    def __init__(self, client: MintClient, store: Store) -> None:
        self._client = client
        self._store = store
        self._mint = client.url
        self._known = store.keysets(self._mint)
        self._is_fresh = False

    @property
    def known(self) -> Mapping[str, Keyset]:
        """Those whose keys are here, by id."""
        return self._known

    def refresh(self) -> None:
        """Ask the mint which keysets it has and which are active; fetch the keys of new active ones."""
        listed = [info for info in self._client.keysets() if _is_known_version(info.id)]
        for info in listed:
            if info.id not in self._known and info.active:
                self._fetch(info.id)
        active = {info.id for info in listed if info.active}
        with self._store.transaction():
            for keyset_id, keyset in self._known.items():
                if keyset.active != (keyset_id in active):
                    self._store.set_active(keyset_id, keyset_id in active)
        self.reload()
        self._is_fresh = True

    def reload(self) -> None:
        """Take over what other users of the file have added."""
        self._known = self._store.keysets(self._mint)

    def expire(self) -> None:
        """Have the next `active` ask the mint again, as after an error 12001 … 12003."""
        self._is_fresh = False

    def get(self, keyset_id: str) -> Keyset:
        """One keyset, active or not. Raises what the client raises, ProtocolError if it is not genuine."""
        if keyset_id not in self._known:
            self._fetch(keyset_id)
        return self._known[keyset_id]

    def load(self, keyset_ids: Iterable[str]) -> Mapping[str, Keyset]:
        """Several keysets by id."""
        return {keyset_id: self.get(keyset_id) for keyset_id in set(keyset_ids)}

    def active(self, unit: str) -> Keyset:
        """The keyset for new outputs: active, not expired, lowest fee. Raises WalletError if the unit has none."""
        candidates = self._candidates(unit) if self._is_fresh else []
        if not candidates:
            self.refresh()
            candidates = self._candidates(unit)
        if not candidates:
            units = sorted({keyset.unit for keyset in self._known.values() if keyset.active})
            raise WalletError(
                f"the mint at {self._mint} has no active keyset for the unit {unit}; "
                f"it has {', '.join(units) or 'none'}"
            )
        return min(candidates, key=lambda k: (k.input_fee_ppk, -(k.final_expiry or 2**63), k.id))

    def _candidates(self, unit: str) -> list[Keyset]:
        now = time.time()
        of_unit = [keyset for keyset in self._known.values() if keyset.active and keyset.unit == unit]
        return [keyset for keyset in of_unit if not keyset.final_expiry or keyset.final_expiry > now]

    def all_of_unit(self, unit: str) -> list[Keyset]:
        """Every keyset of the unit that the mint lists, with keys."""
        listed = [info.id for info in self._client.keysets() if info.unit == unit and _is_known_version(info.id)]
        return [self.get(keyset_id) for keyset_id in listed]

    def resolve(self, names: Iterable[str]) -> dict[str, str]:
        """The full ids that a token's keyset names stand for. Raises TokenError for an unknown or ambiguous one."""
        wanted = set(names)
        ids = set(self._known)
        if any(sum(1 for known in ids if known.startswith(name)) != 1 for name in wanted):
            ids |= {info.id for info in self._client.keysets()}
        return {name: resolve_id(name, ids) for name in wanted}

    def _fetch(self, keyset_id: str) -> None:
        entries = [entry for entry in self._client.keys(keyset_id) if entry.id == keyset_id]
        if len(entries) != 1:
            raise ProtocolError(f"the mint does not show the keys of keyset {keyset_id}")
        keyset = Keyset.from_wire(entries[0])
        with self._store.transaction():
            owner = self._store.keyset_mint(keyset_id)
            if owner not in (None, self._mint):
                raise ProtocolError(
                    f"keyset {keyset_id} of {self._mint} is known here as one of {owner}: if that mint has moved, "
                    "run `moved` with its old URL; if not, do not use this one"
                )
            self._store.add_keyset(self._mint, keyset)
        self.reload()


def _is_known_version(keyset_id: str) -> bool:
    return (keyset_id[:2], len(keyset_id)) in (("00", KEYSET_ID_V1_LENGTH), ("01", KEYSET_ID_V2_LENGTH))
