"""What both pages are made of: templates, and the few files that they load from the mint itself, and from nowhere else.

A page's Content-Security-Policy allows nothing but these files, so that a text which slipped through the templates'
escaping could still not run, and a picture could not tell a third party who looks at the page.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from quart import Blueprint, Response
from quart_schema import hide
from werkzeug.exceptions import NotFound

from plugin.icon import Icon
from plugin.services import services

PATH = "/pages"
LOOK_AGAIN_S = 10
"""So often the page of a mint that is not ready is loaded again."""
FOR_EVER = "public, max-age=31536000, immutable"
"""Addresses hold a digest of all files together, which name each other: a new version has new addresses."""
DIGEST_DIGITS = 12

TYPES = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}

POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}

blueprint = Blueprint("pages", __name__)

_environment = Environment(loader=PackageLoader("plugin.http.pages"), autoescape=True, undefined=StrictUndefined)


@dataclass(frozen=True, slots=True)
class Asset:
    """One file. `address`: its path on the mint."""

    address: str
    content: bytes
    content_type: str


def _digest(*contents: bytes) -> str:
    return hashlib.sha256(b"".join(hashlib.sha256(content).digest() for content in contents)).hexdigest()[
        :DIGEST_DIGITS
    ]


def _load() -> dict[str, Asset]:
    folder = resources.files("plugin.http.pages") / "static"
    files = {file.name: file.read_bytes() for file in folder.iterdir() if file.name.rpartition(".")[2] in TYPES}
    digest = _digest(*(content for _, content in sorted(files.items())))
    return {
        name: Asset(f"{PATH}/{digest}/{name}", content, TYPES[name.rpartition(".")[2]])
        for name, content in files.items()
    }


ASSETS = _load()
_BY_ADDRESS = {asset.address: asset for asset in ASSETS.values()}


_environment.globals["address"] = lambda name: relative(ASSETS[name])


def relative(asset: Asset) -> str:
    """Where a page finds this file, also if a proxy serves the mint below a path of its own."""
    return asset.address.removeprefix("/")


@lru_cache(maxsize=1)
def icon_of(icon: Icon | None) -> Asset:
    """The operator's picture, or ours."""
    if icon is None:
        return ASSETS["icon.svg"]
    return Asset(f"{PATH}/{_digest(icon.content)}/icon", icon.content, icon.content_type)


@blueprint.get(f"{PATH}/<digest>/<name>")
@hide
async def asset(digest: str, name: str) -> Response:
    """A file of the pages. Raises NotFound (404)."""
    wanted = f"{PATH}/{digest}/{name}"
    found = _BY_ADDRESS.get(wanted)
    if found is None:
        found = icon_of(services().settings.icon)
        if found.address != wanted:
            raise NotFound
    response = Response(found.content, content_type=found.content_type)
    response.headers.update(HEADERS)
    response.headers["cross-origin-resource-policy"] = "cross-origin"  # wallets in browsers show the picture
    # Opened by itself a picture is a document.
    response.headers["content-security-policy"] = f"{POLICY}; style-src 'unsafe-inline'"
    response.headers["cache-control"] = FOR_EVER
    return response


def page(template: str, allowed: str, **values: Any) -> Response:
    """A page of HTML. `allowed`: what it may load, as directives of its Content-Security-Policy."""
    response = Response(_environment.get_template(template).render(values), content_type="text/html; charset=utf-8")
    response.headers.update(HEADERS)
    response.headers["content-security-policy"] = f"{POLICY}; {allowed}".removesuffix("; ")
    response.headers["cache-control"] = "no-store"
    return response


def not_ready(why: str, retry_after_s: int) -> Response:
    """The page in place of another while the mint does not serve (503). It loads nothing: not even files are served."""
    response = page("not_ready.html", "", why=why, again_s=LOOK_AGAIN_S)
    response.status_code = 503
    response.headers["retry-after"] = str(retry_after_s)
    return response
