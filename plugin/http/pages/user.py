"""`GET /`: the page for the mint's users. All that it says is what `/v1/info` and `/v1/keysets` say.

It is whole without JavaScript, and loads nothing from anywhere but this mint: not even the operator's `icon_url`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import segno
from markupsafe import Markup
from quart import Blueprint, Response, request
from quart_schema import hide

from plugin.http.info import describe
from plugin.http.limits import rate_limits
from plugin.http.pages import assets, words
from plugin.services import Services, services

MAY_LOAD = "style-src 'self'; img-src 'self'"
HOST = re.compile(r"[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?")
MAX_QR_BYTES = 1000
"""Of a URL that is shown as a QR code; a longer one is shown as text only."""
CONTACT_LINKS = {"email": "mailto:{}", "x": "https://x.com/{}", "twitter": "https://x.com/{}"}
"""Where a contact of this method leads. Others stay text: what a client would do with them is not ours to know."""
WALLETS = (
    ("Cashu.me", "https://cashu.me", "in the browser"),
    ("Minibits", "https://github.com/minibits-cash/minibits_wallet", "Android, iOS"),
    ("Macadamia", "https://github.com/zeugmaster/macadamia", "iOS"),
    ("Sovran", "https://github.com/SovranBitcoin/Sovran", "Android, iOS"),
    ("Nutshell", "https://github.com/cashubtc/nutshell", "command line"),
)
"""Those that the NUTs list, with the addresses given there."""

blueprint = Blueprint("user_page", __name__)


@blueprint.get("/")
@hide
async def user_page() -> Response:
    """The mint's page."""
    mint = services()
    info = describe(mint)
    urls = _urls(info)
    return assets.page(
        "user.html",
        MAY_LOAD,
        info=info,
        icon=assets.icon_of(mint.settings.icon).address,
        url=urls[0],
        other_urls=urls[1:],
        qr=qr_code(urls[0]),
        minting=info["nuts"]["4"],
        melting=info["nuts"]["5"],
        ways_in=words.ways(info["nuts"]["4"]["methods"]),
        ways_out=words.ways(info["nuts"]["5"]["methods"]),
        features=words.features(info["nuts"]),
        fees=_fees(mint),
        contacts=[_contact(entry) for entry in info.get("contact") or ()],
        tos_url=_web_address(info.get("tos_url")),
        wallets=WALLETS,
        has_lightning=any(e["method"] != "onchain" for e in info["nuts"]["5"]["methods"]),
    )


def _urls(info: dict[str, Any]) -> list[str]:
    """The mint's addresses, the one to be shown first in front: that by which the reader has come, if the operator has
    named it; else the operator's first. If he has named none, the reader's own must do."""
    named = [url.rstrip("/") for url in info.get("urls") or () if _web_address(url)]
    here = _asked_url()
    hosts = [urlsplit(url).netloc.lower() for url in named]
    if (host := urlsplit(here).netloc.lower()) in hosts:
        named.insert(0, named.pop(hosts.index(host)))
    return named or [here]


def _asked_url() -> str:
    """The address by which this request has come. `Host` is what its sender wrote: nobody else sees this answer."""
    scheme = request.scheme
    peer = request.scope.get("client")
    if rate_limits().clients.trusts(None if peer is None else peer[0]):
        told = request.headers.get("x-forwarded-proto", "").rpartition(",")[2].strip().lower()
        scheme = told if told in ("http", "https") else scheme
    host = request.headers.get("host", "")
    return f"{scheme}://{host if HOST.fullmatch(host) else 'localhost'}"


@lru_cache(maxsize=64)
def qr_code(text: str) -> Markup | None:
    """A QR code as SVG, without a size; None for what is too long."""
    if len(text.encode()) > MAX_QR_BYTES:
        return None
    return Markup(segno.make(text, error="m", micro=False).svg_inline(omitsize=True, border=3, light="#ffffff"))  # noqa: S704 - squares


def _fees(mint: Services) -> list[tuple[str, str]]:
    """For each unit, what spending its ecash costs, by the keyset that signs now."""
    active = [(unit, mint.ledger.keysets.active(unit)) for unit in mint.settings.units]
    return [(unit, words.input_fee(keyset.input_fee_ppk, unit)) for unit, keyset in active if keyset is not None]


def _contact(entry: dict[str, Any]) -> tuple[str, str, str | None]:
    """Method, text and, where there can be one, the link."""
    method, text = str(entry["method"]), str(entry["info"])
    pattern = CONTACT_LINKS.get(method.lower())
    if pattern is not None and re.fullmatch(r"@?[\w.+-]+(@[\w.-]+)?", text, re.ASCII):
        return method, text, pattern.format(text.removeprefix("@"))
    return method, text, _web_address(text)


def _web_address(text: str | None) -> str | None:
    """The text, if it is an address that a browser may be sent to: nothing with `javascript:` in front."""
    if text is None:
        return None
    try:
        parts = urlsplit(text)
    except ValueError:
        return None
    return text if parts.scheme in ("http", "https") and parts.netloc else None
