"""What browsers ask for before they let a wallet talk to a mint."""

from __future__ import annotations

import httpx
import pytest

from tests.wallets.conftest import GetMint

ORIGIN = {"origin": "https://wallet.example"}
ENDPOINTS = [
    ("GET", "/v1/info"),
    ("GET", "/v1/keys"),
    ("GET", "/v1/keysets"),
    ("POST", "/v1/swap"),
    ("POST", "/v1/mint/quote/bolt11"),
    ("POST", "/v1/mint/quote/bolt11/check"),
    ("GET", "/v1/mint/quote/bolt11/nothing"),
    ("POST", "/v1/mint/bolt11"),
    ("POST", "/v1/mint/bolt11/batch"),
    ("POST", "/v1/melt/quote/bolt11"),
    ("GET", "/v1/melt/quote/bolt11/nothing"),
    ("POST", "/v1/melt/bolt11"),
    ("POST", "/v1/checkstate"),
    ("POST", "/v1/restore"),
    ("POST", "/v1/no/such/thing"),
]


def listed(answer: httpx.Response, header: str) -> set[str]:
    return {name.strip().lower() for name in answer.headers.get(header, "").split(",")}


@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
def test_cors(method: str, path: str, shared_mint: GetMint) -> None:
    """The preflight allows the request; its answer may be read, also where it is a refusal."""
    with httpx.Client(base_url=shared_mint("sandbox").url, headers=ORIGIN) as browser:
        asked = {"access-control-request-method": method, "access-control-request-headers": "content-type"}
        preflight = browser.options(path, headers=asked)
        assert preflight.is_success
        assert preflight.headers["access-control-allow-origin"] == "*"
        assert method.lower() in listed(preflight, "access-control-allow-methods")
        assert {"content-type", "prefer", "clear-auth", "blind-auth"} <= listed(
            preflight, "access-control-allow-headers"
        )
        assert int(preflight.headers["access-control-max-age"]) > 0
        answer = browser.post(path, json={"wrong": True}) if method == "POST" else browser.get(path)
        assert answer.status_code in {200, 400}
        assert answer.headers["access-control-allow-origin"] == "*"
        if answer.status_code == 400:
            refusal = answer.json()
            assert isinstance(refusal["detail"], str)
            assert isinstance(refusal["code"], int)
