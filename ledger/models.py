"""The wire objects of the NUTs.

One set of pydantic models is used all the way down: they validate what wallets send and they are what the ledger
returns. Amounts are JSON integers in the minor unit of `unit` (never strings, floats or booleans); points, ids and
signatures are hex text and are kept exactly as sent, because signatures cover the text (NUT-11, NUT-20).
Unknown fields are ignored: wallets send `dleq`, `p2pk_e` and fields of newer NUTs.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

MAX_ARRAY_LENGTH = 1000
"""Longest array in any request; announced as `max_array_length` (NUT-06)."""
MAX_AMOUNT = 2**63
"""Largest amount that may appear in a request: the largest denomination that the NUTs know (NUT-01)."""
MAX_SECRET_LENGTH = 4096
MAX_WITNESS_LENGTH = 8192
MAX_WITNESSES_LENGTH = 2 * 1024 * 1024
"""Of all witnesses in one answer: room for a thousand with some fifteen signatures each."""
MAX_QUOTE_ID_LENGTH = 128
MAX_DESCRIPTION_LENGTH = 512
MAX_DESCRIPTION_BYTES = 639
"""Of UTF-8: more don't fit into an invoice (BOLT 11)."""
MAX_INVOICE_LENGTH = 8192
MAX_UNIT_LENGTH = 16
MAX_FEE_OPTIONS = 16
"""Of an on-chain melt quote."""


def _require_describable(text: str) -> str:
    if (size := len(text.encode())) > MAX_DESCRIPTION_BYTES:
        raise ValueError(f"is {size} bytes of UTF-8; at most {MAX_DESCRIPTION_BYTES} fit into an invoice")
    return text


Amount = Annotated[int, Field(strict=True, ge=0, le=MAX_AMOUNT)]
PositiveAmount = Annotated[int, Field(strict=True, ge=1, le=MAX_AMOUNT)]
PointHex = Annotated[str, StringConstraints(strict=True, pattern=r"^[0-9a-fA-F]{66}$")]
SignatureHex = Annotated[str, StringConstraints(strict=True, max_length=256)]
KeysetId = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=66)]
QuoteId = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=MAX_QUOTE_ID_LENGTH)]
Unit = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=MAX_UNIT_LENGTH)]
Description = Annotated[
    str,
    StringConstraints(strict=True, max_length=MAX_DESCRIPTION_LENGTH, pattern=r"^[^\x00-\x08\x0b\x0c\x0e-\x1f]*$"),
    AfterValidator(_require_describable),
]
"""No control characters but tabs and the ends of lines: no text with others can be handed to lightningd."""
PubkeyHex = Annotated[str, StringConstraints(strict=True, max_length=256)]
PaymentRequest = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=MAX_INVOICE_LENGTH)]

T = TypeVar("T")
Asked = Annotated[list[T], Field(fail_fast=True)]
"""An array of a request. What is wrong with its first bad entry says enough: to describe a body full of them would take
seconds and a gigabyte."""


class Wire(BaseModel):
    """Base of all wire objects: immutable, unknown fields ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class MintQuoteState(StrEnum):
    """NUT-23. Derived from the amounts paid and issued."""

    UNPAID = "UNPAID"
    PAID = "PAID"
    ISSUED = "ISSUED"


class MeltQuoteState(StrEnum):
    """NUT-05. A payment that failed puts its quote back to UNPAID."""

    UNPAID = "UNPAID"
    PENDING = "PENDING"
    PAID = "PAID"


class ProofState(StrEnum):
    """NUT-07."""

    UNSPENT = "UNSPENT"
    PENDING = "PENDING"
    SPENT = "SPENT"


# --- NUT-00 -----------------------------------------------------------------------------------------------------


class BlindedMessage(Wire):
    """An output: a wallet's blinded message, to be signed with the key of (`id`, `amount`)."""

    amount: Amount
    id: KeysetId
    B_: PointHex


class DleqProof(Wire):
    """NUT-12: two scalars, 64 hex digits each."""

    e: str
    s: str


class BlindSignature(Wire):
    """A promise: the mint's signature on a blinded message."""

    amount: int
    id: str
    C_: str
    dleq: DleqProof


class Proof(Wire):
    """An input: an unblinded signature on a secret."""

    amount: Amount
    id: KeysetId
    secret: Annotated[str, StringConstraints(strict=True, max_length=MAX_SECRET_LENGTH)]
    C: PointHex
    witness: Annotated[str, StringConstraints(strict=True, max_length=MAX_WITNESS_LENGTH)] | None = None


# --- NUT-01, NUT-02 ---------------------------------------------------------------------------------------------


class KeysetInfo(Wire):
    """An entry of `GET /v1/keysets` (NUT-02)."""

    id: str
    unit: str
    active: bool
    input_fee_ppk: int
    final_expiry: int | None


class KeysetKeys(KeysetInfo):
    """An entry of `GET /v1/keys` (NUT-01): `keys` maps decimal amounts to compressed public keys."""

    keys: dict[str, str]


class KeysetsResponse(Wire):
    """`GET /v1/keysets`: every keyset, active or not."""

    keysets: list[KeysetInfo]


class KeysResponse(Wire):
    """`GET /v1/keys` and `GET /v1/keys/{keyset_id}`."""

    keysets: list[KeysetKeys]


# --- NUT-03 -----------------------------------------------------------------------------------------------------


class SwapRequest(Wire):
    """`POST /v1/swap`."""

    inputs: Asked[Proof]
    outputs: Asked[BlindedMessage]


class SignaturesResponse(Wire):
    """Answer of swap and mint: `signatures[i]` belongs to `outputs[i]`."""

    signatures: list[BlindSignature]


# --- NUT-04, NUT-20, NUT-23, NUT-25, NUT-30 --------------------------------------------------------------------


class MintQuoteBolt11Request(Wire):
    """`POST /v1/mint/quote/bolt11`."""

    amount: Amount
    unit: Unit
    description: Description | None = None
    pubkey: PubkeyHex | None = None


class MintQuoteBolt12Request(Wire):
    """`POST /v1/mint/quote/bolt12`. Without `amount`, whoever pays the offer says how much."""

    amount: Amount | None = None
    unit: Unit
    description: Description | None = None
    pubkey: PubkeyHex | None = None  # required; its absence has a code of its own


class MintQuoteOnchainRequest(Wire):
    """`POST /v1/mint/quote/onchain`."""

    unit: Unit
    pubkey: PubkeyHex | None = None  # required; its absence has a code of its own


class MintQuote(Wire):
    """What mint quotes of all methods have. `updated_at` (unix seconds) grows strictly with every change."""

    quote: str
    request: str
    unit: str
    method: str
    expiry: int | None
    pubkey: str | None
    amount_paid: int
    amount_issued: int
    updated_at: int


class MintQuoteBolt11(MintQuote):
    """A mint quote as wallets see it (NUT-23)."""

    amount: int
    state: MintQuoteState


class MintQuoteBolt12(MintQuote):
    """A mint quote as wallets see it (NUT-25): `request` is an offer, `amount` what each payment of it shall be."""

    amount: int | None


class MintQuoteOnchain(MintQuote):
    """A mint quote as wallets see it (NUT-30): `request` is an address."""


class MintRequest(Wire):
    """`POST /v1/mint/{method}`."""

    quote: QuoteId
    outputs: Asked[BlindedMessage]
    signature: SignatureHex | None = None


# --- NUT-29 -----------------------------------------------------------------------------------------------------


class MintQuoteCheckRequest(Wire):
    """`POST /v1/mint/quote/{method}/check`."""

    quotes: Asked[QuoteId]


class MintBatchRequest(Wire):
    """`POST /v1/mint/{method}/batch`. `quote_amounts[i]` and `signatures[i]` belong to `quotes[i]`."""

    quotes: Asked[QuoteId]
    quote_amounts: Asked[PositiveAmount] | None = None
    outputs: Asked[BlindedMessage]
    signatures: Asked[SignatureHex | None] | None = None


# --- NUT-05, NUT-08, NUT-23, NUT-25, NUT-30 --------------------------------------------------------------------


class AmountlessOption(Wire):
    """NUT-23: the amount, in msat, for an invoice that names none."""

    amount_msat: PositiveAmount


class MppOption(Wire):
    """NUT-15: the part of the invoice, in msat, that this mint shall pay."""

    amount: PositiveAmount


class MeltQuoteOptions(Wire):
    """Options of a melt quote request."""

    amountless: AmountlessOption | None = None
    mpp: MppOption | None = None


class MeltQuoteBolt11Request(Wire):
    """`POST /v1/melt/quote/bolt11`."""

    request: PaymentRequest
    unit: Unit
    options: MeltQuoteOptions | None = None


class MeltQuoteBolt12Request(Wire):
    """`POST /v1/melt/quote/bolt12`."""

    request: PaymentRequest
    unit: Unit
    options: MeltQuoteOptions | None = None


class MeltQuoteOnchainRequest(Wire):
    """`POST /v1/melt/quote/onchain`: pay `amount` to the address `request`."""

    request: PaymentRequest
    unit: Unit
    amount: Amount


class MeltQuote(Wire):
    """What melt quotes of all methods have, in every state. `error` (an extension): why the last attempt failed."""

    quote: str
    request: str
    amount: int
    unit: str
    method: str
    state: MeltQuoteState
    expiry: int
    change: list[BlindSignature] | None = None
    error: str | None = None


class MeltQuoteLightning(MeltQuote):
    """A melt quote as wallets see it, for bolt11 and bolt12 (NUT-23, NUT-25)."""

    fee_reserve: int
    payment_preimage: str | None = None


class FeeOption(Wire):
    """One of an on-chain quote's fees: choose it by `fee_index` when the quote is executed (NUT-30)."""

    fee_index: int
    fee_reserve: int
    estimated_blocks: int


class MeltQuoteOnchain(MeltQuote):
    """A melt quote as wallets see it (NUT-30). `outpoint` is `txid:vout`, from the broadcast on."""

    fee_options: list[FeeOption]
    selected_fee_index: int | None = None
    outpoint: str | None = None


class MeltRequest(Wire):
    """`POST /v1/melt/{method}`. `outputs` are blank: their amounts are ignored (NUT-08)."""

    quote: QuoteId
    inputs: Asked[Proof]
    outputs: Asked[BlindedMessage] | None = None
    prefer_async: Annotated[bool, Field(strict=True)] | None = None


class MeltOnchainRequest(MeltRequest):
    """`POST /v1/melt/onchain`. Always asynchronous, whatever `prefer_async` says (NUT-30)."""

    fee_index: Annotated[int, Field(strict=True, ge=0, le=MAX_FEE_OPTIONS)]


# --- NUT-07 -----------------------------------------------------------------------------------------------------


class CheckStateRequest(Wire):
    """`POST /v1/checkstate`."""

    Ys: Asked[PointHex]


class ProofStateEntry(Wire):
    """The state of one proof."""

    Y: str
    state: ProofState
    witness: str | None = None


class CheckStateResponse(Wire):
    """Same order and length as the request's `Ys`."""

    states: list[ProofStateEntry]


# --- NUT-09 -----------------------------------------------------------------------------------------------------


class RestoreRequest(Wire):
    """`POST /v1/restore`."""

    outputs: Asked[BlindedMessage]


class RestoreResponse(Wire):
    """The outputs that were signed before, and their signatures, index by index."""

    outputs: list[BlindedMessage]
    signatures: list[BlindSignature]


# --- errors -----------------------------------------------------------------------------------------------------


class ErrorResponse(Wire):
    """The only error body that wallets understand (NUT-00)."""

    detail: str
    code: int
