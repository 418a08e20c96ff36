"""Errors of the stand-in: the ones it answers over JSON-RPC, and the ones it raises at its user."""

from __future__ import annotations

import json
from typing import Any

# JSON-RPC and lightningd's own codes, as far as the stand-in answers with them.
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
LIGHTNINGD = -1
PLUGIN_ERROR = -3
PLUGIN_TERMINATED = -4
PAY_IN_PROGRESS = 200
PAY_RHASH_ALREADY_USED = 201
PAY_UNPARSEABLE_ONION = 202
PAY_DESTINATION_PERM_FAIL = 203
PAY_TRY_OTHER_ROUTE = 204
PAY_ROUTE_NOT_FOUND = 205
PAY_ROUTE_TOO_EXPENSIVE = 206
PAY_INVOICE_EXPIRED = 207
PAY_NO_SUCH_PAYMENT = 208
PAY_UNSPECIFIED_ERROR = 209
PAY_USER_ERROR = 217
PAY_ALREADY_PAID = 219
INVOICE_LABEL_EXISTS = 900
INVOICE_PREIMAGE_EXISTS = 901
INVOICE_EXPIRED_DURING_WAIT = 903
INVOICE_WAIT_TIMED_OUT = 904
INVOICE_NOT_FOUND = 905
INVOICE_STATUS_UNEXPECTED = 906
INVOICE_NO_DESCRIPTION = 908
OFFER_ALREADY_EXISTS = 1000
OFFER_ALREADY_DISABLED = 1001
OFFER_EXPIRED = 1002
OFFER_ROUTE_NOT_FOUND = 1003
OFFER_BAD_INVREQ_REPLY = 1004
OFFER_TIMEOUT = 1005
OFFER_ALREADY_ENABLED = 1006
OFFER_USED_SINGLE_USE = 1007
DATASTORE_DEL_DOES_NOT_EXIST = 1200
DATASTORE_DEL_WRONG_GENERATION = 1201
DATASTORE_UPDATE_ALREADY_EXISTS = 1202
DATASTORE_UPDATE_DOES_NOT_EXIST = 1203
DATASTORE_UPDATE_WRONG_GENERATION = 1204
DATASTORE_UPDATE_HAS_CHILDREN = 1205
DATASTORE_UPDATE_NO_CHILDREN = 1206


class RpcError(Exception):
    """What a JSON-RPC command answers instead of a result."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.data = data

    def to_json(self) -> dict[str, Any]:
        """The `error` member of a JSON-RPC response."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.data is not None:
            error["data"] = self.data
        return error


class SandboxError(Exception):
    """The sandbox itself was used wrongly, or the plugin did something a real node dies of."""


class SandboxTimeout(SandboxError):  # noqa: N818 - reads better where it is caught
    """Something that was waited for did not happen in time."""


def invalid_token(name: str, value: Any, complaint: str) -> RpcError:
    """The error lightningd gives for a parameter it can't read."""
    token = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return RpcError(INVALID_PARAMS, f"{name}: {complaint}: invalid token '{token}'")
