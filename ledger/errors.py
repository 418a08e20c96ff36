"""What the mint refuses, with the error codes of the NUTs (`error_codes.md`)."""

from __future__ import annotations

from enum import IntEnum


class Code(IntEnum):
    """Error codes of the NUTs. The three `*_REJECTED` ones are for refusals to which the NUTs assign no code."""

    REQUEST_REJECTED = 10000
    PROOF_INVALID = 10001
    TRANSACTION_REJECTED = 11000
    PROOFS_SPENT = 11001
    PROOFS_PENDING = 11002
    OUTPUTS_SIGNED = 11003
    OUTPUTS_PENDING = 11004
    NOT_BALANCED = 11005
    AMOUNT_OUTSIDE_LIMITS = 11006
    DUPLICATE_INPUTS = 11007
    DUPLICATE_OUTPUTS = 11008
    SEVERAL_UNITS = 11009
    UNITS_DIFFER = 11010
    AMOUNTLESS_UNSUPPORTED = 11011
    AMOUNT_MISMATCH = 11012
    UNIT_UNSUPPORTED = 11013
    TOO_MANY_INPUTS = 11014
    TOO_MANY_OUTPUTS = 11015
    DUPLICATE_QUOTES = 11016
    BATCH_TOO_LARGE = 11017
    KEYSET_UNKNOWN = 12001
    KEYSET_INACTIVE = 12002
    KEYSET_EXPIRED = 12003
    QUOTE_REJECTED = 20000
    QUOTE_NOT_PAID = 20001
    QUOTE_ISSUED = 20002
    MINTING_DISABLED = 20003
    PAYMENT_FAILED = 20004
    QUOTE_PENDING = 20005
    INVOICE_PAID = 20006
    QUOTE_EXPIRED = 20007
    SIGNATURE_INVALID = 20008
    PUBKEY_INVALID = 20009


class LedgerError(Exception):
    """A request that the ledger refuses: HTTP 400 with `{"detail", "code"}` (NUT-00). Nothing has been changed."""

    def __init__(self, code: Code, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail

    def __repr__(self) -> str:
        return f"LedgerError({int(self.code)}, {self.detail!r})"


class StorageError(Exception):
    """The database could not be read or not commit (full, read-only, failing disk). The caller's change did not happen,
    unless the text says that this is not known: then the ledger's owner was told first that it must end."""


class StartError(Exception):
    """The ledger must not be opened as it is; the text tells the operator why and what to do."""
