"""Words, BIP-32 and the derivation of secrets (NUT-13)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from contrib.wallet import WalletError
from contrib.wallet.seed import HARDENED, ExtendedKey, Seed, check_words, keyset_id_int, new_words

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "vectors" / "nut13.json").read_text())


@pytest.mark.parametrize("scheme", ["v1_bip32", "v2_hmac"])
def test_vectors(scheme: str) -> None:
    vector = VECTORS[scheme]
    seed = Seed(vector["mnemonic"])
    made = [seed.blinded_secret(vector["keyset_id"], counter) for counter in range(len(vector["secrets"]))]
    assert [m.secret for m in made] == vector["secrets"]
    assert [m.r.hex() for m in made] == vector["r"]


def test_keyset_id_as_number() -> None:
    for vector in VECTORS["keyset_id_int"]:
        assert keyset_id_int(vector["keyset_id"]) == vector["keyset_id_int"]


def test_bip32() -> None:
    """The first test vector of BIP-32, as far as its first normal child."""
    master = ExtendedKey.from_seed(bytes(range(16)))
    assert master.key.hex() == "e8f32e723decf4051aefac8e2c93c9c5b214313817cdb01a1494b917c8436b35"
    hardened = master.child(HARDENED)
    assert hardened.key.hex() == "edb2e14f9ee77d26dd93b4ecede8d16ed408ce149b6cd80b0715a2d911a0afea"
    assert master.path(HARDENED, 1).key.hex() == "3c6cb8d0f6a264c91ea8b5030fadaa8e538b020f0a387421a12de9319dc93368"


def test_unknown_keyset_version() -> None:
    with pytest.raises(WalletError, match="no rule"):
        Seed(new_words()).blinded_secret("02" + "00" * 32, 0)


def test_words() -> None:
    words = new_words()
    assert len(words.split()) == 12
    assert check_words(f"  {words.upper()} \n") == words
    with pytest.raises(WalletError, match="BIP-39"):
        check_words(words + " zoo")


def test_quote_keys_differ() -> None:
    seed = Seed(new_words())
    assert seed.quote_key(0).secret != seed.quote_key(1).secret
    assert seed.quote_key(1).secret == Seed(seed.words).quote_key(1).secret
