"""A small Cashu wallet: a library for programs and tests, and a command line (`python -m contrib.wallet`)."""

from contrib.wallet.client import MintClient
from contrib.wallet.errors import (
    InvoiceError,
    MintError,
    MintUnreachableError,
    NotEnoughFundsError,
    ProtocolError,
    TokenError,
    WalletError,
)
from contrib.wallet.outputs import Output, blank_output_count, make_outputs, messages, unblind, unblind_change
from contrib.wallet.proofs import WalletProof
from contrib.wallet.wallet import Balance, Wallet

__all__ = [
    "Balance",
    "InvoiceError",
    "MintClient",
    "MintError",
    "MintUnreachableError",
    "NotEnoughFundsError",
    "Output",
    "ProtocolError",
    "TokenError",
    "Wallet",
    "WalletError",
    "WalletProof",
    "blank_output_count",
    "make_outputs",
    "messages",
    "unblind",
    "unblind_change",
]
