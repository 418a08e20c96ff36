"""Keysets: derivation from the seed, ids, fees, and the set of all keysets at one moment (NUT-01, NUT-02)."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from ledger import curve
from ledger.errors import Code, LedgerError
from ledger.models import KeysetInfo, KeysetKeys, KeysetsResponse, KeysResponse

DENOMINATIONS = tuple(1 << order for order in range(61))
"""1, 2, 4 … 2^60 minor units. 2^61 - 1 msat is more than all bitcoin, and every sum of such amounts that can be
backed fits the database's signed 64-bit integers."""

MAX_INPUT_FEE_PPK = 1_000_000
KEYSET_ID_V1_LENGTH = 16
KEYSET_ID_V2_LENGTH = 66

_DERIVATION_DOMAIN = b"Nutbolt_Keyset_v1"


def keyset_id_v2(
    public_keys: Mapping[int, bytes], unit: str, input_fee_ppk: int | None, final_expiry: int | None
) -> str:
    """The current form of keyset ids, 66 hex digits (NUT-02). It commits to keys, unit, fee and expiry."""
    preimage = ",".join(f"{amount}:{public_keys[amount].hex()}" for amount in sorted(public_keys))
    preimage += f"|unit:{unit.lower()}"
    if input_fee_ppk:
        preimage += f"|input_fee_ppk:{input_fee_ppk}"
    if final_expiry:
        preimage += f"|final_expiry:{final_expiry}"
    return "01" + hashlib.sha256(preimage.encode()).hexdigest()


def keyset_id_v1(public_keys: Mapping[int, bytes]) -> str:
    """The deprecated form, 16 hex digits (NUT-02). It commits to the keys only."""
    joined = b"".join(public_keys[amount] for amount in sorted(public_keys))
    return "00" + hashlib.sha256(joined).hexdigest()[:14]


def derive_private_keys(seed: bytes, unit: str, counter: int) -> dict[int, bytes]:
    """The private key for each denomination, from the mint's seed, the unit and the keyset's counter in that unit."""
    root = hmac.digest(seed, _framed(_DERIVATION_DOMAIN, unit.encode(), counter.to_bytes(8, "big")), "sha256")
    return {amount: _derive_key(root, amount) for amount in DENOMINATIONS}


def _derive_key(root: bytes, amount: int) -> bytes:
    for attempt in range(256):
        key = hmac.digest(root, _framed(amount.to_bytes(8, "big"), bytes([attempt])), "sha256")
        if 0 < int.from_bytes(key, "big") < curve.GROUP_ORDER:
            return key
    raise ValueError("no private key found")  # one chance in 2^32000


def _framed(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


@dataclass(frozen=True, slots=True)
class Keyset:
    """One keyset with its keys. `n` is its row number in the store."""

    n: int
    id: str
    unit: str
    counter: int
    active: bool
    input_fee_ppk: int
    final_expiry: int | None
    private_keys: Mapping[int, bytes]
    public_keys: Mapping[int, bytes]

    @classmethod
    def derive(
        cls,
        seed: bytes,
        *,
        n: int,
        unit: str,
        counter: int,
        active: bool,
        input_fee_ppk: int,
        final_expiry: int | None,
    ) -> Keyset:
        """Derive the keys and the (v2) id."""
        private_keys = derive_private_keys(seed, unit, counter)
        public_keys = {amount: curve.public_key(key) for amount, key in private_keys.items()}
        keyset_id = keyset_id_v2(public_keys, unit, input_fee_ppk, final_expiry)
        return cls(n, keyset_id, unit, counter, active, input_fee_ppk, final_expiry, private_keys, public_keys)

    def with_id(self, keyset_id: str) -> Keyset:
        """The same keys under another id: keysets of older mints go by their v1 id."""
        return replace(self, id=keyset_id)

    def is_expired(self, now: int) -> bool:
        """Whether `final_expiry` has passed (NUT-02)."""
        return self.final_expiry is not None and now > self.final_expiry

    def info(self) -> KeysetInfo:
        """As in `GET /v1/keysets`."""
        return KeysetInfo(
            id=self.id,
            unit=self.unit,
            active=self.active,
            input_fee_ppk=self.input_fee_ppk,
            final_expiry=self.final_expiry,
        )

    def keys(self) -> KeysetKeys:
        """As in `GET /v1/keys`."""
        keys = {str(amount): key.hex() for amount, key in self.public_keys.items()}
        return KeysetKeys(**self.info().model_dump(), keys=keys)


class Keysets:
    """All keysets at one moment. Immutable: a rotation makes a new one."""

    def __init__(self, keysets: Iterable[Keyset] = ()) -> None:
        self._by_id = {keyset.id: keyset for keyset in keysets}
        self._by_n = {keyset.n: keyset for keyset in self._by_id.values()}

    def __iter__(self) -> Iterator[Keyset]:
        return iter(self._by_id.values())

    def __len__(self) -> int:
        return len(self._by_id)

    def numbered(self, n: int) -> Keyset:
        """The keyset with row number `n`."""
        return self._by_n[n]

    def get(self, keyset_id: str) -> Keyset:
        """The keyset with this full id (v1 or v2). Raises 12001 for an unknown one."""
        keyset = self._by_id.get(keyset_id)
        if keyset is None:
            raise LedgerError(Code.KEYSET_UNKNOWN, f"this mint has no keyset {keyset_id[:KEYSET_ID_V2_LENGTH]}")
        return keyset

    def for_inputs(self, keyset_id: str, now: int) -> Keyset:
        """A keyset whose proofs may be spent: active or not. Raises 12001 and 12003."""
        keyset = self.get(keyset_id)
        if keyset.is_expired(now):
            raise LedgerError(Code.KEYSET_EXPIRED, f"keyset {keyset.id} expired at {keyset.final_expiry}")
        return keyset

    def for_outputs(self, keyset_id: str, now: int) -> Keyset:
        """A keyset that may sign: active and not expired. Raises 12001, 12002 and 12003."""
        keyset = self.for_inputs(keyset_id, now)
        if not keyset.active:
            raise LedgerError(Code.KEYSET_INACTIVE, f"keyset {keyset.id} is inactive and signs no more")
        return keyset

    def active(self, unit: str) -> Keyset | None:
        """The unit's newest active keyset."""
        candidates = [keyset for keyset in self if keyset.unit == unit and keyset.active]
        return max(candidates, key=lambda keyset: keyset.counter, default=None)

    def with_rotation(self, new: Keyset) -> Keysets:
        """With `new` as its unit's only active keyset."""
        others = (replace(k, active=k.active and k.unit != new.unit) for k in self)
        return Keysets([*others, new])

    def keysets_response(self) -> KeysetsResponse:
        """`GET /v1/keysets`: all of them, without keys."""
        return KeysetsResponse(keysets=[keyset.info() for keyset in self])

    def keys_response(self, keyset_id: str | None = None) -> KeysResponse:
        """`GET /v1/keys`: the active ones; with an id, that one. Raises 12001 for an unknown id."""
        chosen = [k for k in self if k.active] if keyset_id is None else [self.get(keyset_id)]
        return KeysResponse(keysets=[keyset.keys() for keyset in chosen])


def input_fee(fees_ppk: Iterable[int]) -> int:
    """The fee for inputs whose keysets charge `fees_ppk` each: summed, then rounded up once (NUT-02)."""
    return (sum(fees_ppk) + 999) // 1000
