"""What the tests of spending conditions share: keys that sign, secrets, witnesses, and a swap or melt that waits for
its witnesses."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
from coincurve import PrivateKey

from ledger.errors import Code, LedgerError
from ledger.models import BlindedMessage, Proof
from tests.ledger.helpers import (
    METHOD,
    Drawn,
    Mint,
    Wallet,
    done,
    melt_request,
    messages,
    refused,
    swap_request,
    unblind,
)

RIGHT = b"\x2a" * 32
"""The preimage of the hashlocks in these tests."""
HASHLOCK = hashlib.sha256(RIGHT).hexdigest()
MAX_PENDING = 100

_nonces = itertools.count()

Tag = Sequence[Any]


class Key:
    """A signer. `hex` is its compressed public key; `twin` the same x coordinate with the other prefix."""

    def __init__(self, number: int) -> None:
        self.private = PrivateKey(number.to_bytes(32, "big"))
        self.hex = self.private.public_key.format().hex()
        self.twin = ("03" if self.hex.startswith("02") else "02") + self.hex[2:]

    def sign(self, message: str | bytes, aux: bytes = b"") -> str:
        """BIP-340 over SHA-256. Another `aux` makes another signature, as valid as the first."""
        data = message.encode() if isinstance(message, str) else message
        return self.private.sign_schnorr(hashlib.sha256(data).digest(), aux.ljust(32, b"\0")).hex()


ALICE, BOB, CAROL, DAVE, ERIN, MALLORY = (Key(1000 + number) for number in range(6))


# --- secrets and witnesses --------------------------------------------------------------------------------------------


def well_known(kind: str, body: Any) -> str:
    """A NUT-10 secret with any body."""
    return json.dumps([kind, body], separators=(",", ":"))


def locked(kind: str, data: Any, *tags: Tag, **fields: Any) -> str:
    """A NUT-10 secret with a nonce of its own; `fields` are put on top."""
    nonce = hashlib.sha256(str(next(_nonces)).encode()).hexdigest()
    body = {"nonce": nonce, "data": data} | ({"tags": [list(tag) for tag in tags]} if tags else {}) | fields
    return well_known(kind, body)


def p2pk(data: Key | Any, *tags: Tag, **fields: Any) -> str:
    """A NUT-11 secret."""
    return locked("P2PK", data.hex if isinstance(data, Key) else data, *tags, **fields)


def htlc(*tags: Tag, data: Any = HASHLOCK, **fields: Any) -> str:
    """A NUT-14 secret."""
    return locked("HTLC", data, *tags, **fields)


def pubkeys(*keys: Key) -> list[str]:
    """Further keys of the main pathway."""
    return ["pubkeys", *(key.hex for key in keys)]


def refund(*keys: Key) -> list[str]:
    """Keys of the refund pathway."""
    return ["refund", *(key.hex for key in keys)]


def locktime(value: int | str) -> list[str]:
    """When the refund pathway opens."""
    return ["locktime", str(value)]


SIG_ALL = ["sigflag", "SIG_ALL"]


def witness(*signatures: Any, preimage: Any = None, **fields: Any) -> str:
    """The JSON text that a wallet sends as witness; bytes become hex."""
    shown = {} if preimage is None else {"preimage": preimage.hex() if isinstance(preimage, bytes) else preimage}
    return json.dumps(shown | {"signatures": list(signatures)} | fields)


def signed(secret: str, *keys: Key, preimage: Any = None) -> str:
    """A witness with signatures of these keys on the secret (SIG_INPUTS)."""
    return witness(*(key.sign(secret) for key in keys), preimage=preimage)


def sig_all_message(proofs: Iterable[Proof], outputs: Iterable[BlindedMessage], quote_id: str = "") -> bytes:
    """What SIG_ALL covers (NUT-11): every text as it is sent."""
    text = "".join(f"{proof.secret}{proof.C}" for proof in proofs)
    return (text + "".join(f"{output.amount}{output.B_}" for output in outputs) + quote_id).encode()


# --- spending ---------------------------------------------------------------------------------------------------------


def lock(mint: Mint, wallet: Wallet, *secrets: str, amount: int = 8) -> list[Proof]:
    """Proofs on these secrets."""
    keyset = mint.keyset()
    drawn = [wallet.draw(keyset, amount, secret) for secret in secrets]
    answer = mint.issue(mint.paid_quote(amount * len(drawn)).quote, drawn)
    return [unblind(keyset, *pair) for pair in zip(drawn, answer.signatures, strict=True)]


@dataclass(frozen=True)
class Spending:
    """A swap or a melt (then with a quote) that waits for its witnesses."""

    mint: Mint
    proofs: tuple[Proof, ...]
    outputs: tuple[BlindedMessage, ...]
    quote: str | None

    @property
    def message(self) -> bytes:
        """What a SIG_ALL signature signs."""
        return sig_all_message(self.proofs, self.outputs, self.quote or "")

    def with_outputs(self, outputs: Iterable[BlindedMessage]) -> Spending:
        """The same with other outputs."""
        return replace(self, outputs=tuple(outputs))

    def with_proofs(self, proofs: Iterable[Proof]) -> Spending:
        """The same with other inputs."""
        return replace(self, proofs=tuple(proofs))

    def run(self, *witnesses: str | None) -> None:
        """Send it. The witnesses belong to the inputs in order; inputs beyond them have none. Raises LedgerError."""
        texts = [*witnesses, *[None] * (len(self.proofs) - len(witnesses))]
        inputs = [proof.model_copy(update={"witness": w}) for proof, w in zip(self.proofs, texts, strict=True)]
        if self.quote is None:
            request = swap_request(inputs, []).model_copy(update={"outputs": list(self.outputs)})
            done(self.mint.ledger.swap(request))
        else:
            melt = melt_request(self.quote, inputs).model_copy(update={"outputs": list(self.outputs)})
            assert done(self.mint.ledger.begin_melt(METHOD, melt, MAX_PENDING)).melt is not None


Way = Callable[[Mint, Wallet, Sequence[Proof]], Spending]


def swap_of(mint: Mint, wallet: Wallet, proofs: Sequence[Proof]) -> Spending:
    """A swap of these proofs."""
    outputs = wallet.draw_sum(mint.keyset(), sum(proof.amount for proof in proofs))
    return Spending(mint, tuple(proofs), tuple(messages(outputs)), None)


def melt_of(mint: Mint, wallet: Wallet, proofs: Sequence[Proof]) -> Spending:
    """A melt of these proofs; its blank outputs are sent with amounts that mean nothing, and are signed as sent."""
    quote = mint.melt_quote(sum(proof.amount for proof in proofs) - 3, 3)
    blanks: list[Drawn] = wallet.draw_all(mint.keyset(), [0, 7])
    return Spending(mint, tuple(proofs), tuple(messages(blanks)), quote.quote)


@contextmanager
def unmet(mint: Mint) -> Iterator[None]:
    """The claim that a condition is not met: 20008, and nothing has changed."""
    with refused(mint, Code.SIGNATURE_INVALID):
        yield


@contextmanager
def malformed(mint: Mint) -> Iterator[None]:
    """The claim that a condition is malformed, so that nobody can spend: 10001, and nothing has changed."""
    with refused(mint, Code.PROOF_INVALID):
        yield


def refusal(spending: Spending, *witnesses: str | None) -> LedgerError:
    """How it is refused."""
    with pytest.raises(LedgerError) as caught:
        spending.run(*witnesses)
    return caught.value
