"""Making outputs and turning the mint's signatures on them into proofs (NUT-00, 08, 12). Needs no database."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from contrib.wallet.errors import ProtocolError
from contrib.wallet.keysets import Keyset
from contrib.wallet.proofs import ProofDleq, WalletProof
from contrib.wallet.seed import BlindedSecret
from ledger import curve, models


@dataclass(frozen=True, slots=True)
class Output:
    """A blinded message with what is needed to unblind its signature. `amount` is 0 for a blank one (NUT-08)."""

    amount: int
    keyset_id: str
    secret: str
    r: bytes
    b_: bytes

    @classmethod
    def make(cls, keyset_id: str, amount: int, blinded: BlindedSecret) -> Output:
        """Blind a secret."""
        return cls(amount, keyset_id, blinded.secret, blinded.r, curve.blind(blinded.secret, blinded.r))

    @property
    def message(self) -> models.BlindedMessage:
        """The wire object."""
        return models.BlindedMessage(amount=self.amount, id=self.keyset_id, B_=self.b_.hex())


def random_secret() -> BlindedSecret:
    """A secret and blinding factor that no seed can bring back."""
    r = secrets.randbelow(curve.GROUP_ORDER - 1) + 1
    return BlindedSecret(secrets.token_hex(32), r.to_bytes(curve.SCALAR_BYTES, "big"))


def make_outputs(
    keyset: Keyset | str, amounts: Iterable[int], *, secret_texts: Sequence[str] | None = None
) -> list[Output]:
    """Outputs for `amounts` with random blinding factors; random secrets too, unless `secret_texts` gives them."""
    keyset_id = keyset if isinstance(keyset, str) else keyset.id
    made: list[Output] = []
    for position, amount in enumerate(amounts):
        blinded = random_secret()
        if secret_texts is not None:
            blinded = BlindedSecret(secret_texts[position], blinded.r)
        made.append(Output.make(keyset_id, amount, blinded))
    return made


def messages(outputs: Iterable[Output]) -> list[models.BlindedMessage]:
    """The wire objects of `outputs`."""
    return [output.message for output in outputs]


def blank_output_count(overpaid: int) -> int:
    """How many blank outputs hold any change up to `overpaid` (NUT-08)."""
    return max((overpaid - 1).bit_length(), 1) if overpaid > 0 else 0


def unblind(
    outputs: Sequence[Output],
    signatures: Sequence[models.BlindSignature],
    keysets: Mapping[str, Keyset] | Keyset,
) -> list[WalletProof]:
    """Proofs from the signatures on `outputs`, one each, in their order.

    Raises ProtocolError if a signature is missing, is for another keyset or amount, or fails its DLEQ (NUT-12).
    """
    if len(signatures) != len(outputs):
        raise ProtocolError(f"the mint sent {len(signatures)} signatures for {len(outputs)} outputs")
    return [_unblind_one(o, s, keysets) for o, s in zip(outputs, signatures, strict=True)]


def unblind_change(
    outputs: Sequence[Output],
    signatures: Sequence[models.BlindSignature],
    keysets: Mapping[str, Keyset] | Keyset,
) -> list[WalletProof]:
    """Proofs from a melt's change: `signatures[i]` is on blank `outputs[i]`, the amount is the mint's (NUT-08).

    Raises ProtocolError as `unblind` does.
    """
    if len(signatures) > len(outputs):
        raise ProtocolError(f"the mint sent {len(signatures)} change signatures for {len(outputs)} blank outputs")
    return [_unblind_one(o, s, keysets) for o, s in zip(outputs, signatures, strict=False)]


def _unblind_one(
    output: Output, signature: models.BlindSignature, keysets: Mapping[str, Keyset] | Keyset
) -> WalletProof:
    if signature.id != output.keyset_id or output.amount not in (0, signature.amount):
        raise ProtocolError(
            f"the mint signed {signature.amount} of keyset {signature.id} "
            f"instead of {output.amount} of {output.keyset_id}"
        )
    keyset = keysets if isinstance(keysets, Keyset) else keysets[signature.id]
    key = keyset.key(signature.amount)
    try:
        c_ = bytes.fromhex(signature.C_)
        dleq = curve.Dleq(bytes.fromhex(signature.dleq.e), bytes.fromhex(signature.dleq.s))
        genuine = curve.verify_dleq(key, output.b_, c_, dleq)
    except ValueError as error:
        raise ProtocolError(f"the mint sent a malformed signature for {signature.amount}: {error}") from error
    if not genuine:
        raise ProtocolError(
            f"the mint's signature for {signature.amount} fails its DLEQ proof (NUT-12): "
            f"it was not made with the key of keyset {signature.id}"
        )
    return WalletProof(
        amount=signature.amount,
        id=signature.id,
        secret=output.secret,
        C=curve.unblind(c_, output.r, key).hex(),
        dleq=ProofDleq(e=signature.dleq.e, s=signature.dleq.s, r=output.r.hex()),
    )
