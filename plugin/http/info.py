"""`GET /v1/info` (NUT-06), derived from what is switched on."""

from __future__ import annotations

from collections.abc import Callable
from json import dumps
from typing import Any

from pydantic import BaseModel
from quart import Blueprint, Response
from quart_schema import document_response

from ledger.models import MAX_ARRAY_LENGTH
from ledger.operations.mint import MAX_BATCH_SIZE
from ledger.units import from_msat_up, to_msat
from plugin.http.pages import assets
from plugin.http.subscriptions import PROOF_STATE, melt_quotes_of, mint_quotes_of
from plugin.http.wire import Document, Shelf, answer_document
from plugin.methods.method import Limits, Method
from plugin.options import MAX_AMOUNT_SAT
from plugin.services import Services, services
from plugin.version import VERSION

blueprint = Blueprint("info", __name__)


class InfoResponse(BaseModel):
    """`GET /v1/info` (NUT-06). `nuts` has the settings of each NUT by its number."""

    name: str
    pubkey: str
    version: str
    description: str
    description_long: str | None = None
    contact: list[dict[str, str]] | None = None
    motd: str | None = None
    icon_url: str | None = None
    tos_url: str | None = None
    urls: list[str] | None = None
    time: int
    max_array_length: int
    nuts: dict[str, dict[str, Any]]


@blueprint.get("/v1/info")
@document_response(InfoResponse)
async def info() -> Response:
    """What the mint is and does."""
    return answer_document(document(services()))


def document(mint: Services) -> Document:
    """What `GET /v1/info` answers. Its tag stands for all but the time."""
    return _INFO.get(describe(mint))


def _write(description: dict[str, Any]) -> Document:
    return Document(dumps(description).encode(), tagged=dumps({**description, "time": 0}).encode())


_INFO = Shelf(_write)


def describe(mint: Services) -> dict[str, Any]:
    """The whole info object."""
    settings = mint.settings
    return {
        "name": settings.name,
        "pubkey": mint.ledger.pubkey.hex(),
        "version": f"Nutbolt/{VERSION}",
        "description": settings.description,
        **_said(mint),
        "time": mint.ledger.now(),
        "max_array_length": MAX_ARRAY_LENGTH,
        "nuts": {
            "4": {
                "methods": _entries(mint, lambda method: (method.mint_limits, method.mint_options)),
                "disabled": _is_minting_disabled(mint),
            },
            "5": {
                "methods": _entries(mint, lambda method: (method.melt_limits, method.melt_options)),
                "disabled": mint.ledger.policy.melting_paused_at is not None,
            },
            **{nut: {"supported": True} for nut in ("7", "8", "9", "10", "11", "12", "14", "20")},
            **_parts(mint),
            "29": {"max_batch_size": MAX_BATCH_SIZE, "methods": list(mint.methods)},
            "17": {"supported": _subscriptions(mint)},
            "19": {
                "ttl": None,  # the same answer again, for ever
                "cached_endpoints": [{"method": "POST", "path": path} for path in _replayed(mint)],
            },
        },
    }


def _said(mint: Services) -> dict[str, Any]:
    """What an operator may say or not. What is not said is left out: some wallets can't read null there."""
    settings = mint.settings
    said = {
        "description_long": settings.long_description,
        "contact": [{"method": contact.method, "info": contact.info} for contact in settings.contact],
        "motd": mint.ledger.policy.motd,
        "icon_url": settings.icon_url or _own_icon(mint),
        "tos_url": settings.tos_url,
        "urls": list(settings.urls),
    }
    return {name: value for name, value in said.items() if value}


def _own_icon(mint: Services) -> str | None:
    """Where wallets find the picture that the mint serves itself, if it knows how they reach it."""
    urls = mint.settings.urls
    return urls[0].rstrip("/") + assets.icon_of(mint.settings.icon).address if mint.settings.icon and urls else None


def _is_minting_disabled(mint: Services) -> bool:
    """Whether every mint quote would be refused: minting is paused, or the operator allows no more ecash."""
    least_msat = min(method.mint_limits.minimum_msat for method in mint.methods.values())
    return not mint.ledger.has_room(least_msat, to_msat(mint.settings.max_outstanding, "sat"))


def _entries(mint: Services, settings_of: Callable[[Method], tuple[Limits, dict[str, Any]]]) -> list[dict[str, Any]]:
    """One entry for each method and unit. Limits are in the unit; where there is none the field is left out, since some
    wallets can't read null there."""
    entries = []
    for method in mint.methods.values():
        limits, options = settings_of(method)
        for unit in mint.settings.units:
            entry: dict[str, Any] = {"method": method.name, "unit": unit}
            entry["min_amount"] = from_msat_up(limits.minimum_msat, unit)
            if limits.maximum_msat < MAX_AMOUNT_SAT * 1000:
                entry["max_amount"] = from_msat_up(limits.maximum_msat, unit)
            entries.append({**entry, "options": options})
    return entries


def _parts(mint: Services) -> dict[str, Any]:
    pays_parts = [method.name for method in mint.methods.values() if method.pays_parts]
    if not pays_parts:
        return {}
    return {"15": {"methods": [{"method": name, "unit": unit} for name in pays_parts for unit in mint.settings.units]}}


def _subscriptions(mint: Services) -> list[dict[str, Any]]:
    return [
        {"method": name, "unit": unit, "commands": [mint_quotes_of(name), melt_quotes_of(name), PROOF_STATE]}
        for name in mint.methods
        for unit in mint.settings.units
    ]


def _replayed(mint: Services) -> list[str]:
    """Endpoints where an identical request gets the same answer again (NUT-19)."""
    paths = ["/v1/swap"]
    for name in mint.methods:
        paths += [f"/v1/mint/{name}", f"/v1/mint/{name}/batch", f"/v1/melt/{name}"]
    return paths
