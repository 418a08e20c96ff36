"""The sandbox's commands for the world outside, carried out by a real network.

Whoever speaks to this socket speaks to the mint's node, as with the sandbox's socket: `sandbox-invoice`,
`sandbox-offer`, `sandbox-pay`, `sandbox-release`, `sandbox-fail`, and those about the chain are answered here, all
else is passed on.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingMixIn, UnixStreamServer
from typing import Any

from contrib.sandbox.chain_commands import DEFAULT_COIN_SAT
from tests.node.harness import Invoice, Mint, Network

CHUNK = 1 << 16
PLANS = {"failure": "reject", "hold": "hold"}
"""What the receiver calls these behaviours."""


class Outside:
    """What the mint's payments meet: the hub pays, the receiver is paid."""

    def __init__(self, network: Network, mint: Mint) -> None:
        self._network = network
        self._mint = mint
        self._invoices: dict[str, Invoice] = {}

    def command(self, method: str, params: dict[str, Any]) -> Any:
        """The result of a command."""
        match method:
            case "sandbox-invoice":
                return self._invoice(**params)
            case "sandbox-offer":
                amount_msat = params["amount_msat"]
                return self._network.receiver.offer(None if amount_msat == "any" else int(amount_msat))
            case "sandbox-pay":
                request, amount_msat = params["bolt11"], params.get("amount_msat")
                pay = self._network.hub.pay_offer if request.startswith("lno1") else self._network.hub.pay
                pay(request, amount_msat)
                return {}
            case "sandbox-deposit":
                return {"txid": self._network.pay_address(params["address"], params["satoshi"])}
            case "sandbox-coins":
                for _ in range(params["count"]):
                    address = self._mint.call("newaddr", addresstype="p2tr")["p2tr"]
                    self._network.pay_address(address, params.get("satoshi", DEFAULT_COIN_SAT))
                return self._mine(1)
            case "sandbox-mine":
                return self._mine(params["blocks"])
            case "sandbox-release":
                return self._decide(params["payment_hash"], "accept")
            case "sandbox-fail":
                return self._decide(params["payment_hash"], "reject")
        return self._mint.call(method, **params)

    def _invoice(self, amount_msat: int | str, behaviour: str = "success") -> dict[str, Any]:
        """An invoice, and what becomes of its first payment: to the island there is no route."""
        payee = self._network.island if behaviour == "noroute" else self._network.receiver
        invoice = payee.invoice(None if amount_msat == "any" else int(amount_msat) // 1000)
        if behaviour in PLANS:
            self._network.receiver.plan(invoice, PLANS[behaviour])
        else:
            assert behaviour in {"success", "noroute"}, f"{behaviour} is for the sandbox"
        self._invoices[invoice.payment_hash] = invoice
        return {"bolt11": invoice.bolt11, "payment_hash": invoice.payment_hash}

    def _mine(self, blocks: int) -> dict[str, Any]:
        self._network.mine(blocks, self._mint)
        return {"blockheight": self._mint.call("getinfo")["blockheight"]}

    def _decide(self, payment_hash: str, action: str) -> dict[str, Any]:
        """A held payment arrives or comes back, once it is there."""
        invoice = self._invoices[payment_hash]
        self._network.receiver.wait_held(invoice)
        self._network.receiver.release(invoice, action)
        return {}


@contextmanager
def at_socket(outside: Outside, path: Path) -> Iterator[None]:
    """Answer at this socket."""

    class Connection(BaseRequestHandler):
        """One command."""

        def handle(self) -> None:
            data = b""
            while more := self.request.recv(CHUNK):
                data += more
                try:
                    request = json.loads(data)
                except ValueError:
                    continue
                answer = {"jsonrpc": "2.0", "id": request["id"], **_answer(outside, request)}
                self.request.sendall(json.dumps(answer).encode() + b"\n\n")
                return

    with _Server(str(path), Connection) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield
        server.shutdown()


class _Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True
    block_on_close = False


def _answer(outside: Outside, request: dict[str, Any]) -> dict[str, Any]:
    from pyln.client import RpcError

    try:
        return {"result": outside.command(request["method"], request["params"])}
    except RpcError as error:
        return {"error": error.error}
    except Exception as error:
        return {"error": {"code": -1, "message": repr(error)}}
