"""The mint's HTTP API, one method per endpoint (NUT-01 … 09, 23, 25). Keeps no state and decides nothing.

Answers are objects of `ledger.models`. Fields that older mints leave out are filled in from what they do send.
`call` and `request` send anything at all, for those who want to see how a mint takes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from pydantic import ValidationError

from contrib.wallet.errors import MintError, MintUnreachableError, ProtocolError, WalletError
from ledger import models

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 30.0
MELT_TIMEOUT_S = 180.0
"""A synchronous melt is answered when the payment is decided. After this the wallet asks for its state instead."""
CONNECT_RETRIES = 1
MAX_DETAIL_CHARS = 300

W = TypeVar("W", bound=models.Wire)


def normal_url(url: str) -> str:
    """A mint's URL in the form by which the wallet compares it. Raises WalletError unless it is HTTP(S)."""
    try:
        parsed = httpx.URL(url.strip())
    except httpx.InvalidURL as error:
        raise WalletError(f"{url!r} is not a URL: {error}") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise WalletError(f"{url!r} is not the URL of a mint: it must begin with http:// or https://")
    return str(parsed.copy_with(query=None, fragment=None)).rstrip("/")


class MintClient:
    """Requests to one mint.

    Every method raises MintError when the mint refuses, MintUnreachableError when there is no usable answer, and
    ProtocolError when the answer is not what the NUTs describe. May be shared by threads.
    """

    def __init__(
        self,
        url: str,
        *,
        read_timeout_s: float = READ_TIMEOUT_S,
        melt_timeout_s: float = MELT_TIMEOUT_S,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.url = normal_url(url)
        self.melt_timeout_s = melt_timeout_s
        self._read_timeout_s = read_timeout_s
        self._http = httpx.Client(
            base_url=self.url,
            timeout=httpx.Timeout(read_timeout_s, connect=CONNECT_TIMEOUT_S),
            transport=transport or httpx.HTTPTransport(retries=CONNECT_RETRIES),
            headers={"accept": "application/json"},
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- anything -----------------------------------------------------------------------------------------------

    def call(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        content: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> httpx.Response:
        """Send any request and return the bare answer, whatever its status. Raises MintUnreachableError."""
        timeout = httpx.Timeout(timeout_s or self._read_timeout_s, connect=CONNECT_TIMEOUT_S)
        try:
            return self._http.request(
                method, path, json=json, content=content, headers=dict(headers or {}), timeout=timeout
            )
        except httpx.TimeoutException as error:
            raise MintUnreachableError(f"no answer from {self.url}{path} in time ({type(error).__name__})") from error
        except (httpx.HTTPError, OSError) as error:
            raise MintUnreachableError(
                f"cannot talk to the mint at {self.url}: {error or type(error).__name__}; "
                "is it running, and is --mint right?"
            ) from error

    def request(self, method: str, path: str, body: Any = None, *, timeout_s: float | None = None) -> Any:
        """Send a JSON request and return the JSON of a 200 answer. Raises as the class says."""
        response = self.call(method, path, json=body, timeout_s=timeout_s)
        if response.status_code >= 500:
            raise MintUnreachableError(
                f"the mint answered {path} with HTTP {response.status_code}: {_detail(response)[1]}"
            )
        if response.status_code != 200:
            code, detail = _detail(response)
            raise MintError(code, detail, status=response.status_code, path=path)
        try:
            return response.json()
        except ValueError as error:
            raise ProtocolError(f"the mint's answer to {path} is not JSON: is --mint right?") from error

    # --- keys and info ------------------------------------------------------------------------------------------

    def info(self) -> dict[str, Any]:
        """`GET /v1/info` (NUT-06), as it comes."""
        body = self.request("GET", "/v1/info")
        if not isinstance(body, dict):
            raise ProtocolError("the mint's answer to /v1/info is not an object")
        return body

    def keys(self, keyset_id: str | None = None) -> list[models.KeysetKeys]:
        """`GET /v1/keys` (active keysets) or `GET /v1/keys/{keyset_id}` (NUT-01, 02). Ids are not verified here."""
        path = "/v1/keys" if keyset_id is None else f"/v1/keys/{keyset_id}"
        body = _filled_keysets(self.request("GET", path))
        return self._parse(models.KeysResponse, body, path).keysets

    def keysets(self) -> list[models.KeysetInfo]:
        """`GET /v1/keysets` (NUT-02): all keysets, active or not."""
        body = _filled_keysets(self.request("GET", "/v1/keysets"))
        return self._parse(models.KeysetsResponse, body, "/v1/keysets").keysets

    # --- swap ---------------------------------------------------------------------------------------------------

    def swap(
        self, inputs: Sequence[models.Proof], outputs: Sequence[models.BlindedMessage]
    ) -> list[models.BlindSignature]:
        """`POST /v1/swap` (NUT-03)."""
        body = models.SwapRequest.model_construct(inputs=list(inputs), outputs=list(outputs))
        return self._signatures("/v1/swap", _json(body))

    # --- mint ---------------------------------------------------------------------------------------------------

    def request_mint_quote(
        self,
        amount: int,
        unit: str = "sat",
        *,
        description: str | None = None,
        pubkey: str | None = None,
        method: str = "bolt11",
    ) -> models.MintQuoteBolt11:
        """`POST /v1/mint/quote/{method}` (NUT-04, 23); `pubkey` locks the quote (NUT-20)."""
        path = f"/v1/mint/quote/{method}"
        body = models.MintQuoteBolt11Request.model_construct(
            amount=amount, unit=unit, description=description, pubkey=pubkey
        )
        return self._parse(
            models.MintQuoteBolt11, _filled_mint_quote(self.request("POST", path, _json(body)), method), path
        )

    def mint_quote(self, quote_id: str, *, method: str = "bolt11") -> models.MintQuoteBolt11:
        """`GET /v1/mint/quote/{method}/{quote_id}`."""
        path = f"/v1/mint/quote/{method}/{quote_id}"
        return self._parse(models.MintQuoteBolt11, _filled_mint_quote(self.request("GET", path), method), path)

    def request_mint_offer(
        self,
        amount: int | None,
        unit: str = "sat",
        *,
        description: str | None = None,
        pubkey: str | None = None,
    ) -> models.MintQuoteBolt12:
        """`POST /v1/mint/quote/bolt12` (NUT-25): its `request` is an offer, over any amount if that is None."""
        path = "/v1/mint/quote/bolt12"
        body = models.MintQuoteBolt12Request.model_construct(
            amount=amount, unit=unit, description=description, pubkey=pubkey
        )
        answer = self.request("POST", path, _json(body))
        return self._parse(models.MintQuoteBolt12, _filled_mint_quote(answer, "bolt12"), path)

    def mint_offer(self, quote_id: str) -> models.MintQuoteBolt12:
        """`GET /v1/mint/quote/bolt12/{quote_id}`."""
        path = f"/v1/mint/quote/bolt12/{quote_id}"
        return self._parse(models.MintQuoteBolt12, _filled_mint_quote(self.request("GET", path), "bolt12"), path)

    def mint(
        self,
        quote_id: str,
        outputs: Sequence[models.BlindedMessage],
        *,
        signature: str | None = None,
        method: str = "bolt11",
    ) -> list[models.BlindSignature]:
        """`POST /v1/mint/{method}`: issue for a paid quote."""
        body = models.MintRequest.model_construct(quote=quote_id, outputs=list(outputs), signature=signature)
        return self._signatures(f"/v1/mint/{method}", _json(body))

    # --- melt ---------------------------------------------------------------------------------------------------

    def request_melt_quote(
        self,
        request: str,
        unit: str = "sat",
        *,
        amount_msat: int | None = None,
        options: models.MeltQuoteOptions | None = None,
        method: str = "bolt11",
    ) -> models.MeltQuoteLightning:
        """`POST /v1/melt/quote/{method}` (NUT-05, 23); `amount_msat` for a request that names no amount."""
        if amount_msat is not None:
            options = models.MeltQuoteOptions(amountless=models.AmountlessOption(amount_msat=amount_msat))
        path = f"/v1/melt/quote/{method}"
        body = models.MeltQuoteBolt11Request.model_construct(request=request, unit=unit, options=options)
        return self._parse(
            models.MeltQuoteLightning, _filled_quote(self.request("POST", path, _json(body)), method), path
        )

    def melt_quote(self, quote_id: str, *, method: str = "bolt11") -> models.MeltQuoteLightning:
        """`GET /v1/melt/quote/{method}/{quote_id}`."""
        path = f"/v1/melt/quote/{method}/{quote_id}"
        return self._parse(models.MeltQuoteLightning, _filled_quote(self.request("GET", path), method), path)

    def melt(
        self,
        quote_id: str,
        inputs: Sequence[models.Proof],
        outputs: Sequence[models.BlindedMessage] | None = None,
        *,
        prefer_async: bool | None = None,
        method: str = "bolt11",
        timeout_s: float | None = None,
    ) -> models.MeltQuoteLightning:
        """`POST /v1/melt/{method}`: pay. `outputs` are blank ones for change (NUT-08).

        With `prefer_async` the answer may be PENDING; without it the mint answers when the payment is decided.
        """
        path = f"/v1/melt/{method}"
        body = models.MeltRequest.model_construct(
            quote=quote_id,
            inputs=list(inputs),
            outputs=list(outputs) if outputs else None,
            prefer_async=prefer_async,
        )
        answer = self.request("POST", path, _json(body), timeout_s=timeout_s or self.melt_timeout_s)
        return self._parse(models.MeltQuoteLightning, _filled_quote(answer, method), path)

    # --- states and restore -------------------------------------------------------------------------------------

    def check_state(self, ys: Iterable[str]) -> list[models.ProofStateEntry]:
        """`POST /v1/checkstate` (NUT-07), in the order of `ys`. Raises ProtocolError if the order differs."""
        wanted = list(ys)
        body = _json(models.CheckStateRequest.model_construct(Ys=wanted))
        answer = self.request("POST", "/v1/checkstate", body)
        states = self._parse(models.CheckStateResponse, answer, "/v1/checkstate").states
        if [state.Y.lower() for state in states] != [y.lower() for y in wanted]:
            raise ProtocolError("the mint's answer to /v1/checkstate is not about the proofs that were asked for")
        return states

    def restore(
        self, outputs: Sequence[models.BlindedMessage]
    ) -> list[tuple[models.BlindedMessage, models.BlindSignature]]:
        """`POST /v1/restore` (NUT-09): those of `outputs` that were ever signed, with their signatures."""
        body = {"outputs": [output.model_dump(mode="json") for output in outputs]}
        answer = self.request("POST", "/v1/restore", body)
        try:
            found = [models.BlindedMessage.model_validate(entry) for entry in answer["outputs"]]
            signatures = [models.BlindSignature.model_validate(entry) for entry in answer["signatures"]]
        except (ValidationError, KeyError, TypeError) as error:
            raise ProtocolError(f"the mint's answer to /v1/restore is malformed: {_why(error)}") from error
        if len(found) != len(signatures):
            raise ProtocolError("the mint's answer to /v1/restore has outputs and signatures out of step")
        return list(zip(found, signatures, strict=True))

    # --- helpers ------------------------------------------------------------------------------------------------

    def _signatures(self, path: str, body: Any) -> list[models.BlindSignature]:
        return self._parse(models.SignaturesResponse, self.request("POST", path, body), path).signatures

    @staticmethod
    def _parse(model: type[W], body: Any, path: str) -> W:
        try:
            return model.model_validate(body)
        except ValidationError as error:
            raise ProtocolError(f"the mint's answer to {path} is malformed: {_why(error)}") from error


def _json(body: models.Wire) -> Any:
    # Requests are built without validation: a mint's checks cannot be tried out through a client that has them too.
    return body.model_dump(mode="json", exclude_none=True, warnings="none")


def _detail(response: httpx.Response) -> tuple[int, str]:
    try:
        body = response.json()
    except ValueError:
        body = None
    if isinstance(body, dict) and "detail" in body:
        code = body.get("code")
        return code if isinstance(code, int) else 0, str(body["detail"])[:MAX_DETAIL_CHARS]
    return 0, response.text[:MAX_DETAIL_CHARS].strip() or response.reason_phrase


def _why(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    return repr(error)


def _filled_keysets(body: Any) -> Any:
    if not isinstance(body, dict) or not isinstance(body.get("keysets"), list):
        return body
    filled = []
    for entry in body["keysets"]:
        if isinstance(entry, dict):
            defaults = {"active": True, "final_expiry": None}
            filled.append(defaults | entry | {"input_fee_ppk": entry.get("input_fee_ppk") or 0})
        else:
            filled.append(entry)
    return {"keysets": filled}


def _filled_quote(body: Any, method: str) -> Any:
    return {"method": method} | body if isinstance(body, dict) else body


def _filled_mint_quote(body: Any, method: str) -> Any:
    if not isinstance(body, dict):
        return body
    amount, state = body.get("amount"), body.get("state")
    return {
        "method": method,
        "amount": None,
        "expiry": None,
        "pubkey": None,
        "amount_paid": amount if state in ("PAID", "ISSUED") else 0,
        "amount_issued": amount if state == "ISSUED" else 0,
        "updated_at": 0,
    } | body
