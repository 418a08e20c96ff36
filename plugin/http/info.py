"""`GET /v1/info` (NUT-06), derived from what is switched on."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from quart import Blueprint, Response
from quart.json import dumps
from quart_schema import document_response

from ledger.models import MAX_ARRAY_LENGTH
from ledger.operations.mint import MAX_BATCH_SIZE
from ledger.units import MSAT_PER_UNIT
from plugin.http.subscriptions import Kind
from plugin.options import Settings
from plugin.services import Services, services
from plugin.version import VERSION

blueprint = Blueprint("info", __name__)

REPLAYED = ("/v1/swap", "/v1/mint/bolt11", "/v1/mint/bolt11/batch", "/v1/melt/bolt11")
"""Endpoints where an identical request gets the same answer again, for ever (NUT-19)."""


class InfoResponse(BaseModel):
    """`GET /v1/info` (NUT-06). `nuts` has the settings of each NUT by its number."""

    name: str
    pubkey: str
    version: str
    description: str
    time: int
    max_array_length: int
    nuts: dict[str, dict[str, Any]]


@blueprint.get("/v1/info")
@document_response(InfoResponse)
async def info() -> Response:
    """What the mint is and does."""
    return Response(dumps(describe(services())), content_type="application/json")


def describe(mint: Services) -> dict[str, Any]:
    """The whole info object."""
    settings = mint.settings
    return {
        "name": settings.name,
        "pubkey": mint.ledger.pubkey.hex(),
        "version": f"Nutbolt/{VERSION}",
        "description": settings.description,
        "time": mint.ledger.now(),
        "max_array_length": MAX_ARRAY_LENGTH,
        "nuts": {
            "4": {
                "methods": _methods(settings, settings.min_mint, settings.max_mint, {"description": True}),
                "disabled": False,
            },
            "5": {
                "methods": _methods(settings, settings.min_melt, settings.max_melt, {"amountless": True}),
                "disabled": False,
            },
            **{nut: {"supported": True} for nut in ("7", "8", "9", "10", "11", "12", "14", "20")},
            "15": {"methods": [{"method": "bolt11", "unit": unit} for unit in settings.units]},
            "29": {"max_batch_size": MAX_BATCH_SIZE, "methods": ["bolt11"]},
            "17": {
                "supported": [
                    {"method": "bolt11", "unit": unit, "commands": [kind.value for kind in Kind]}
                    for unit in settings.units
                ]
            },
            "19": {"ttl": None, "cached_endpoints": [{"method": "POST", "path": path} for path in REPLAYED]},
        },
    }


def _methods(settings: Settings, minimum: int, maximum: int, options: dict[str, bool]) -> list[dict[str, Any]]:
    """One entry for each unit. Limits are in the unit; where there is none the field is left out, since some wallets
    can't read null there."""
    entries = []
    for unit in settings.units:
        scale = MSAT_PER_UNIT["sat"] // MSAT_PER_UNIT[unit]
        entry: dict[str, Any] = {"method": "bolt11", "unit": unit, "min_amount": max(1, minimum * scale)}
        if maximum:
            entry["max_amount"] = maximum * scale
        entries.append({**entry, "options": options})
    return entries
