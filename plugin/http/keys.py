"""`GET /v1/keys`, `/v1/keys/{keyset_id}`, `/v1/keysets` (NUT-01, NUT-02)."""

from __future__ import annotations

from quart import Blueprint, Response
from quart_schema import document_response

from ledger.keysets import Keysets
from ledger.models import ErrorResponse, KeysetsResponse, KeysResponse
from plugin.http.wire import Document, Shelf, answer, answer_document
from plugin.services import Services, services

blueprint = Blueprint("keys", __name__)

_ACTIVE: Shelf[Keysets] = Shelf(lambda keysets: Document(keysets.keys_response().model_dump_json().encode()))
_KEYSETS: Shelf[Keysets] = Shelf(lambda keysets: Document(keysets.keysets_response().model_dump_json().encode()))


@blueprint.get("/v1/keys")
@document_response(KeysResponse)
@document_response(ErrorResponse, 400)
async def active_keys() -> Response:
    """Keys of the active keysets."""
    return answer_document(active_document(services()))


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
    return answer_document(keysets_document(services()))


def active_document(mint: Services) -> Document:
    """What `GET /v1/keys` answers; made again when keysets have changed."""
    return _ACTIVE.get(mint.ledger.keysets)


def keysets_document(mint: Services) -> Document:
    """The same of `GET /v1/keysets`."""
    return _KEYSETS.get(mint.ledger.keysets)
