"""The mint's HTTP API for the chain (NUT-30), one function per endpoint. Each raises as the client's methods do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

from contrib.wallet.client import MintClient
from contrib.wallet.errors import ProtocolError
from ledger import models

W = TypeVar("W", bound=models.Wire)


def request_mint_quote(client: MintClient, unit: str, pubkey: str) -> models.MintQuoteOnchain:
    """`POST /v1/mint/quote/onchain`."""
    path = "/v1/mint/quote/onchain"
    return _mint_quote(client.request("POST", path, {"unit": unit, "pubkey": pubkey}), path)


def mint_quote(client: MintClient, quote_id: str) -> models.MintQuoteOnchain:
    """`GET /v1/mint/quote/onchain/{quote_id}`."""
    path = f"/v1/mint/quote/onchain/{quote_id}"
    return _mint_quote(client.request("GET", path), path)


def request_melt_quote(client: MintClient, address: str, amount: int, unit: str) -> models.MeltQuoteOnchain:
    """`POST /v1/melt/quote/onchain`."""
    path = "/v1/melt/quote/onchain"
    body = {"request": address, "amount": amount, "unit": unit}
    return _parse(models.MeltQuoteOnchain, client.request("POST", path, body), path)


def melt_quote(client: MintClient, quote_id: str) -> models.MeltQuoteOnchain:
    """`GET /v1/melt/quote/onchain/{quote_id}`."""
    path = f"/v1/melt/quote/onchain/{quote_id}"
    return _parse(models.MeltQuoteOnchain, client.request("GET", path), path)


def melt(
    client: MintClient,
    quote_id: str,
    fee_index: int,
    inputs: Sequence[models.Proof],
    outputs: Sequence[models.BlindedMessage],
) -> models.MeltQuoteOnchain:
    """`POST /v1/melt/onchain`; `outputs` are blank ones for change. The answer is PENDING."""
    body = models.MeltOnchainRequest.model_construct(
        quote=quote_id, fee_index=fee_index, inputs=list(inputs), outputs=list(outputs) or None
    )
    wire = body.model_dump(mode="json", exclude_none=True, warnings="none")
    return _parse(models.MeltQuoteOnchain, client.request("POST", "/v1/melt/onchain", wire), "/v1/melt/onchain")


def _mint_quote(body: Any, path: str) -> models.MintQuoteOnchain:
    # Mints by the letter of NUT-30 send neither of these.
    return _parse(models.MintQuoteOnchain, {"updated_at": 0} | body if isinstance(body, dict) else body, path)


def _parse(model: type[W], body: Any, path: str) -> W:
    try:
        return model.model_validate({"method": "onchain"} | body if isinstance(body, dict) else body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ProtocolError(f"the mint's answer to {path} is malformed: {where}: {first['msg']}") from error
