"""Proofs as a wallet keeps them: the wire object of NUT-00 with what NUT-12 lets others verify."""

from __future__ import annotations

from functools import cached_property

from coincurve import PrivateKey, PublicKey

from ledger import curve, models


class ProofDleq(models.Wire):
    """The mint's DLEQ proof with the blinding factor `r`, so that a third party can check it (NUT-12)."""

    e: str
    s: str
    r: str


class WalletProof(models.Proof):
    """A proof with its DLEQ. Sent to a mint it serialises as a plain `Proof`: the mint must not see `r`."""

    dleq: ProofDleq | None = None

    @cached_property
    def y(self) -> str:
        """The point `Y` of the secret, by which mints list spent proofs (NUT-07)."""
        return curve.hash_to_curve(self.secret.encode()).hex()

    def dleq_is_valid(self, key: bytes) -> bool:
        """Whether the mint's key for this amount made this proof; False without a DLEQ. Never raises."""
        if self.dleq is None:
            return False
        try:
            r = bytes.fromhex(self.dleq.r)
            parsed = curve.Dleq(bytes.fromhex(self.dleq.e), bytes.fromhex(self.dleq.s))
            blinded = curve.blind(self.secret, r)
            signed = PublicKey.combine_keys(
                [PublicKey(bytes.fromhex(self.C)), PublicKey(key).multiply(PrivateKey(r).secret)]
            ).format()
            return curve.verify_dleq(key, blinded, signed, parsed)
        except ValueError:
            return False
