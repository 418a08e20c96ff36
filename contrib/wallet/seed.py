"""From words to secrets: BIP-39 words, NUT-13 secrets and blinding factors, NUT-20 quote keys.

Keysets with an id of version 2 (`01…`) use HMAC-SHA256, those of version 1 (`00…`) use BIP-32. Nothing here is
random but `new_words`; the same words give the same secrets for ever.
"""

from __future__ import annotations

import hmac
from typing import NamedTuple

from coincurve import PrivateKey
from mnemonic import Mnemonic

from contrib.wallet.errors import WalletError
from ledger.curve import GROUP_ORDER, SCALAR_BYTES

WORDS_STRENGTH_BITS = 128
HARDENED = 1 << 31
PURPOSE_SECRETS = 129372
PURPOSE_QUOTE_KEYS = 129373
NUT20 = 20
_KDF_DOMAIN = b"Cashu_KDF_HMAC_SHA256"
_BIP32_DOMAIN = b"Bitcoin seed"
_KEYSET_INT_MODULUS = 2**31 - 1


class BlindedSecret(NamedTuple):
    """A secret (the text that is hashed) with its blinding factor (32 bytes)."""

    secret: str
    r: bytes


class ExtendedKey(NamedTuple):
    """A BIP-32 private key with its chain code, 32 bytes each."""

    key: bytes
    chain: bytes

    @classmethod
    def from_seed(cls, seed: bytes) -> ExtendedKey:
        """The master key of a seed."""
        digest = hmac.digest(_BIP32_DOMAIN, seed, "sha512")
        return cls(digest[:32], digest[32:])

    def child(self, index: int) -> ExtendedKey:
        """The private child key; `index` from 2^31 on is hardened. Raises ValueError with odds of 2^-127."""
        parent = b"\0" + self.key if index >= HARDENED else PrivateKey(self.key).public_key.format()
        digest = hmac.digest(self.chain, parent + index.to_bytes(4, "big"), "sha512")
        tweak = int.from_bytes(digest[:32], "big")
        key = (tweak + int.from_bytes(self.key, "big")) % GROUP_ORDER
        if tweak >= GROUP_ORDER or key == 0:
            raise ValueError("this BIP-32 index has no key")
        return ExtendedKey(key.to_bytes(SCALAR_BYTES, "big"), digest[32:])

    def path(self, *indices: int) -> ExtendedKey:
        """The key at the end of a path of child indices."""
        node = self
        for index in indices:
            node = node.child(index)
        return node


def new_words() -> str:
    """Twelve fresh English BIP-39 words."""
    return Mnemonic("english").generate(WORDS_STRENGTH_BITS)


def check_words(words: str) -> str:
    """`words` with single spaces and in lower case. Raises WalletError unless they are a BIP-39 phrase."""
    phrase = " ".join(words.lower().split())
    if not Mnemonic("english").check(phrase):
        raise WalletError("these are not valid BIP-39 words: check their spelling and order")
    return phrase


def keyset_id_int(keyset_id: str) -> int:
    """The keyset id as an index for a BIP-32 path (NUT-13, ids of version 1)."""
    return int(keyset_id, 16) % _KEYSET_INT_MODULUS


class Seed:
    """The wallet's root of all secrets."""

    def __init__(self, words: str) -> None:
        self.words = check_words(words)
        self._seed = Mnemonic.to_seed(self.words)
        self._master = ExtendedKey.from_seed(self._seed)
        self._keyset_nodes: dict[str, ExtendedKey] = {}

    def blinded_secret(self, keyset_id: str, counter: int) -> BlindedSecret:
        """Secret and blinding factor number `counter` of a keyset (NUT-13).

        Raises WalletError for a keyset id of an unknown version.
        """
        if keyset_id.startswith("01"):
            return BlindedSecret(
                self._hmac(keyset_id, counter, 0).hex(),
                (int.from_bytes(self._hmac(keyset_id, counter, 1), "big") % GROUP_ORDER).to_bytes(SCALAR_BYTES, "big"),
            )
        if keyset_id.startswith("00"):
            node = self._keyset_node(keyset_id).child(HARDENED + counter)
            return BlindedSecret(node.child(0).key.hex(), node.child(1).key)
        raise WalletError(f"no rule to derive secrets for keyset {keyset_id}")

    def quote_key(self, index: int) -> PrivateKey:
        """Key number `index` for locking mint quotes (NUT-20): `m/129373'/20'/0'/0'/index`."""
        path = (PURPOSE_QUOTE_KEYS + HARDENED, NUT20 + HARDENED, HARDENED, HARDENED, index)
        return PrivateKey(self._master.path(*path).key)

    def _hmac(self, keyset_id: str, counter: int, kind: int) -> bytes:
        message = _KDF_DOMAIN + bytes.fromhex(keyset_id) + counter.to_bytes(8, "big") + bytes([kind])
        return hmac.digest(self._seed, message, "sha256")

    def _keyset_node(self, keyset_id: str) -> ExtendedKey:
        if keyset_id not in self._keyset_nodes:
            path = (PURPOSE_SECRETS + HARDENED, HARDENED, keyset_id_int(keyset_id) + HARDENED)
            self._keyset_nodes[keyset_id] = self._master.path(*path)
        return self._keyset_nodes[keyset_id]
