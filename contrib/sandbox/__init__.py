"""A stand-in for Core Lightning: enough of lightningd to run the mint without a node, and to test it against one
that reorders, repeats, drops, delays and dies."""

import importlib.util

if missing := [name for name in ("coincurve", "pyln.proto") if importlib.util.find_spec(name.split(".")[0]) is None]:
    raise ImportError(
        f"the sandbox needs {' and '.join(missing)}: use the Python of the project's virtual environment,"
        " or start it with `python3 -m contrib.run --sandbox`"
    )

from contrib.sandbox.bolt11 import Hop
from contrib.sandbox.errors import RpcError, SandboxError, SandboxTimeout
from contrib.sandbox.node import Call, LogLine, Notification, Settings
from contrib.sandbox.offers import FetchBehaviour, OutsideOffer
from contrib.sandbox.outside import ForeignInvoices, OutsideInvoice
from contrib.sandbox.routes import Route
from contrib.sandbox.sandbox_node import Pending, SandboxNode
from contrib.sandbox.script import (
    DESTINATION_REFUSED,
    MPP_TIMEOUT,
    ON_CHAIN_TIMEOUT,
    TEMPORARY_CHANNEL_FAILURE,
    Behaviour,
    Notifications,
    Outcome,
    Part,
    PartFailure,
    Reply,
    ReplyKind,
    ReplyTime,
)

__all__ = [
    "Behaviour",
    "Call",
    "DESTINATION_REFUSED",
    "FetchBehaviour",
    "ForeignInvoices",
    "Hop",
    "LogLine",
    "MPP_TIMEOUT",
    "Notification",
    "Notifications",
    "ON_CHAIN_TIMEOUT",
    "Outcome",
    "OutsideInvoice",
    "OutsideOffer",
    "Part",
    "PartFailure",
    "Pending",
    "Reply",
    "ReplyKind",
    "ReplyTime",
    "Route",
    "RpcError",
    "SandboxError",
    "SandboxNode",
    "SandboxTimeout",
    "Settings",
    "TEMPORARY_CHANNEL_FAILURE",
]
