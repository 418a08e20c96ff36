"""What can go wrong in the wallet. Every message says what happened, to what, and what can be done about it."""

from __future__ import annotations


class WalletError(Exception):
    """Base of all errors that the wallet raises on purpose."""


class MintError(WalletError):
    """The mint refused a request: HTTP 4xx with `{"detail", "code"}` (NUT-00).

    `code` is the mint's error code, 0 if the answer had none. A refusal is definite: the mint did not do what it
    was asked for.
    """

    def __init__(self, code: int, detail: str, *, status: int = 400, path: str = "") -> None:
        super().__init__(f"the mint refused {path or 'the request'}: {detail} (code {code})")
        self.code = code
        self.detail = detail
        self.status = status
        self.path = path


class MintUnreachableError(WalletError):
    """No usable answer: no connection, a timeout, or HTTP 5xx. Whether the mint acted is not known."""


class ProtocolError(WalletError):
    """The mint answered with something that the NUTs do not allow: a bad signature, amount, id or shape."""


class NotEnoughFundsError(WalletError):
    """The unspent proofs do not reach the amount with its fees."""

    def __init__(self, needed: int, available: int, unit: str) -> None:
        super().__init__(
            f"not enough funds: {needed} {unit} needed with fees, {available} {unit} can be spent; "
            "receive or mint more, or finish what `pending` lists"
        )
        self.needed = needed
        self.available = available


class TokenError(WalletError):
    """A token that cannot be read, is for another mint, or is not genuine."""


class InvoiceError(WalletError):
    """A payment request that cannot be read or does not say what was agreed on."""
