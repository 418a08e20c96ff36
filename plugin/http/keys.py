"""`GET /v1/keys`, `/v1/keys/{keyset_id}`, `/v1/keysets` (NUT-01, NUT-02)."""

from __future__ import annotations

from quart import Blueprint, Response
from quart_schema import document_response

from ledger.models import ErrorResponse, KeysetsResponse, KeysResponse
from plugin.http.wire import answer
from plugin.services import services

blueprint = Blueprint("keys", __name__)


@blueprint.get("/v1/keys")
@document_response(KeysResponse)
@document_response(ErrorResponse, 400)
async def active_keys() -> Response:
    """Keys of the active keysets."""
    return answer(services().ledger.keysets.keys_response())


@blueprint.get("/v1/keys/<keyset_id>")
@document_response(KeysResponse)
@document_response(ErrorResponse, 400)
async def keys_of_keyset(keyset_id: str) -> Response:
    """Keys of one keyset, active or not."""
    return answer(services().ledger.keysets.keys_response(keyset_id))


@blueprint.get("/v1/keysets")
@document_response(KeysetsResponse)
@document_response(ErrorResponse, 400)
async def keysets() -> Response:
    """All keysets, without keys."""
    return answer(services().ledger.keysets.keysets_response())
