"""What every answer has in common: CORS, compression, JSON for every path and method. What the mint says of itself."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from contrib.sandbox import Behaviour
from ledger.errors import Code
from ledger.models import MAX_ARRAY_LENGTH
from plugin.version import VERSION
from tests.plugin.harness import Mint, Purse
from tests.protocol.helpers import CORS, Socket, code_of, get, ok, random_ys

MakeMint = Callable[..., Mint]

GET_PATHS = ["/v1/info", "/v1/keys", "/v1/keysets", "/openapi.json"]
METHODS = ["bolt11", "bolt12", "onchain"]
POST_PATHS = [
    "/v1/swap",
    *(f"/v1/mint/quote/{method}" for method in METHODS),
    *(f"/v1/mint/quote/{method}/check" for method in METHODS),
    *(f"/v1/mint/{method}" for method in METHODS),
    *(f"/v1/mint/{method}/batch" for method in METHODS),
    *(f"/v1/melt/quote/{method}" for method in METHODS),
    *(f"/v1/melt/{method}" for method in METHODS),
    "/v1/checkstate",
    "/v1/restore",
]
ENDPOINTS = {
    *(("get", path) for path in GET_PATHS[:3]),
    *(("post", path) for path in POST_PATHS),
    ("get", "/v1/keys/{keyset_id}"),
    *(("get", f"/v1/mint/quote/{method}/{{quote_id}}") for method in METHODS),
    *(("get", f"/v1/melt/quote/{method}/{{quote_id}}") for method in METHODS),
}
PREFLIGHT = {
    "origin": "https://wallet.example",
    "access-control-request-method": "POST",
    "access-control-request-headers": "content-type",
}
SENT_BY_WALLETS = ("content-type", "prefer", "clear-auth", "blind-auth")


def assert_cors(response: httpx.Response) -> None:
    """What a browser needs before it shows an answer to a page of another origin."""
    assert response.headers[CORS] == "*"
    allowed = {method.strip() for method in response.headers["access-control-allow-methods"].split(",")}
    assert {"GET", "POST", "OPTIONS"} <= allowed
    headers = {header.strip().lower() for header in response.headers["access-control-allow-headers"].split(",")}
    assert set(SENT_BY_WALLETS) <= headers
    assert "retry-after" in response.headers["access-control-expose-headers"].lower()


# --- every answer -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", GET_PATHS)
def test_get_is_answered_with_json_for_every_origin(mint: Mint, path: str) -> None:
    answer = mint.http.get(path, headers={"origin": "https://wallet.example"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert_cors(answer)
    answer.json()


@pytest.mark.parametrize("path", POST_PATHS)
def test_a_body_that_is_no_request_is_refused_in_json_for_every_origin(mint: Mint, path: str) -> None:
    bodies = [b"", b"{", b"[]", b"null", b"5", b'"x"', b"\xff\xfe", b"{}", b"[" * 100_000, b'{"a":' * 50_000, b"NaN"]
    for body in bodies:
        answer = mint.http.post(path, content=body)
        assert code_of(answer) == Code.REQUEST_REJECTED, body[:20]
        assert_cors(answer)


@pytest.mark.parametrize("path", [*GET_PATHS, *POST_PATHS, "/v1/keys/00", "/v1/unknown"])
def test_a_browser_may_ask_before_it_sends(mint: Mint, path: str) -> None:
    answer = mint.http.options(path, headers=PREFLIGHT)
    assert 200 <= answer.status_code < 300
    assert answer.content == b""
    assert int(answer.headers["access-control-max-age"]) > 0
    assert_cors(answer)


@pytest.mark.parametrize("path", GET_PATHS)
def test_head_is_get_without_a_body(mint: Mint, path: str) -> None:
    for headers in ({"accept-encoding": "identity"}, {"accept-encoding": "gzip"}):
        head, whole = mint.http.head(path, headers=headers), mint.http.get(path, headers=headers)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-type"] == whole.headers["content-type"]
        assert head.headers.get("content-encoding") == whole.headers.get("content-encoding")
        assert_cors(head)


@pytest.mark.parametrize("path", [*GET_PATHS[1:], "/v1/checkstate"])
def test_long_answers_are_compressed_for_those_who_can_read_it(mint: Mint, path: str) -> None:
    def ask(encoding: str) -> httpx.Response:
        body = {"Ys": ys}
        headers = {"accept-encoding": encoding}
        request = mint.http.build_request("POST" if path in POST_PATHS else "GET", path, json=body, headers=headers)
        return mint.http.send(request, stream=True)

    ys = random_ys(200)
    plain = b"".join(ask("identity").iter_raw())
    for encoding, compressed in (
        ("gzip", True),
        ("gzip, deflate, br", True),
        ("br;q=1.0, gzip;q=0.5", True),
        ("*", True),
        ("identity", False),
        ("gzip;q=0", False),
        ("br", False),
        ("", False),
    ):
        answer = ask(encoding)
        raw = b"".join(answer.iter_raw())
        long_enough = len(plain) >= 1000
        assert (answer.headers.get("content-encoding") == "gzip") == (compressed and long_enough), encoding
        assert int(answer.headers["content-length"]) == len(raw)
        if compressed and long_enough:
            assert gzip.decompress(raw) == plain
            assert len(raw) < len(plain)
            assert "accept-encoding" in answer.headers["vary"].lower()
        else:
            assert raw == plain


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nothing", 400),
        ("POST", "/v1/nothing", 400),
        ("GET", "/v1", 404),
        ("GET", "/v1/", 400),
        ("POST", "/", 400),
        ("GET", "/index.html", 404),
        ("GET", "/pages/style.css", 404),
        ("GET", "/favicon.ico", 404),
        ("POST", "/v2/swap", 404),
        ("GET", "/v1/swap", 400),
        ("POST", "/v1/keys", 400),
        ("PUT", "/v1/swap", 400),
        ("DELETE", "/v1/keys", 400),
        ("PATCH", "/v1/mint/bolt11", 400),
        ("GET", "/v1/mint/quote/bolt12/x", 400),
        ("POST", "/v1/mint/quote/bolt12", 400),
        ("POST", "/v1/mint/bolt12", 400),
        ("POST", "/v1/melt/onchain", 400),
        ("GET", "/v1/auth/blind/keys", 400),
        ("GET", "/v1/%00", 400),
        ("GET", "/v1/../v1/nothing", 400),
        ("GET", "/v1/" + "x" * 5000, 400),
    ],
)
def test_unknown_paths_and_methods_are_refused_in_json(mint: Mint, method: str, path: str, status: int) -> None:
    answer = mint.http.request(method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert set(body) == {"detail", "code"}
    assert isinstance(body["detail"], str)
    assert len(body["detail"]) < 500
    assert type(body["code"]) is int
    assert_cors(answer)


def test_a_body_beyond_the_limit_is_refused(mint: Mint) -> None:
    fits = json.dumps({"inputs": [], "outputs": []}).ljust(1024 * 1024).encode()
    assert code_of(mint.http.post("/v1/swap", content=fits)) == Code.TRANSACTION_REJECTED
    assert code_of(mint.http.post("/v1/swap", content=fits + b" ")) == Code.TOO_MANY_INPUTS
    assert code_of(mint.http.post("/v1/melt/bolt11", content=fits + b" ")) == Code.TOO_MANY_INPUTS
    assert code_of(mint.http.post("/v1/mint/bolt11", content=fits + b" ")) == Code.TOO_MANY_OUTPUTS
    assert code_of(mint.http.post("/v1/checkstate", content=fits + b" ")) == Code.REQUEST_REJECTED


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "application/x-www-form-urlencoded", None])
def test_the_content_type_of_a_request_does_not_matter(mint: Mint, content_type: str | None) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    body = json.dumps({"Ys": random_ys(2), "more": 1}).encode()
    assert len(ok(mint.http.post("/v1/checkstate", content=body, headers=headers))["states"]) == 2


def test_a_proof_may_carry_fields_that_are_none_of_the_mints_business(mint: Mint, purse: Purse) -> None:
    inputs = [
        proof.model_dump(mode="json") | {"p2pk_e": "02", "dleq": {"r": "00"}, "x": None} for proof in purse.fund(8)
    ]
    outputs = [output.message.model_dump() | {"memo": [1]} for output in purse.outputs(8)]
    assert len(ok(mint.http.post("/v1/swap", json={"inputs": inputs, "outputs": outputs, "y": {}}))["signatures"]) == 1


@pytest.mark.parametrize("amount", [True, "8", 8.0, -8, 2**70, None, [8], 8.5])
def test_an_amount_is_a_whole_number(mint: Mint, purse: Purse, amount: Any) -> None:
    (proof,) = purse.fund(8)
    inputs = [proof.model_dump(mode="json") | {"amount": amount}]
    outputs = [output.message.model_dump() | {"amount": amount} for output in purse.outputs(8)]
    for body in ({"inputs": inputs, "outputs": []}, {"inputs": [], "outputs": outputs}):
        assert code_of(mint.http.post("/v1/swap", json=body)) == Code.REQUEST_REJECTED
    assert (
        code_of(mint.http.post("/v1/mint/quote/bolt11", json={"amount": amount, "unit": "sat"}))
        == Code.REQUEST_REJECTED
    )


def test_the_header_of_former_days_makes_a_melt_asynchronous(mint: Mint, purse: Purse) -> None:
    melt = purse.prepare(mint.invoice(100, Behaviour.hold()))
    headers = {"Prefer": "wait=5, respond-async; x=1"}
    assert ok(mint.http.post("/v1/melt/bolt11", json=melt.body, headers=headers))["state"] == "PENDING"
    mint.node.wait_for_part(str(melt.invoice))
    mint.node.release(str(melt.invoice))
    purse.assert_paid(melt)


# --- not ready --------------------------------------------------------------------------------------------------------


@pytest.fixture
def starting(make_mint: MakeMint) -> Iterator[Mint]:
    """A mint that waits for its node."""
    mint = make_mint()
    mint.node.stop_plugin()
    mint.node.pause_rpc("getinfo")
    mint.node.start_plugin()
    yield mint
    mint.node.resume_rpc("getinfo")
    mint.wait_ready()
    assert get(mint, "/v1/keys")


def test_until_it_is_ready_everything_is_503_in_json_for_every_origin(starting: Mint) -> None:
    answers = [starting.http.get(path) for path in (*GET_PATHS, "/v1/nothing", "/nothing")]
    answers += [starting.http.post(path, json={}) for path in POST_PATHS]
    for answer in answers:
        assert answer.status_code == 503
        assert set(answer.json()) == {"detail", "code"}
        assert int(answer.headers["retry-after"]) > 0
        assert_cors(answer)
    page = starting.http.get("/")  # people see a page
    assert (page.status_code, page.headers["content-type"]) == (503, "text/html; charset=utf-8")
    with pytest.raises(InvalidStatus) as refused:
        Socket(starting)
    assert refused.value.response.status_code == 503
    for path in POST_PATHS:  # so that a browser sees the 503 to what it asks next
        preflight = starting.http.options(path, headers=PREFLIGHT)
        assert 200 <= preflight.status_code < 300
        assert_cors(preflight)


# --- what it says of itself -------------------------------------------------------------------------------------------


def references(content: Any) -> Iterator[str]:
    """Every `$ref` in a document."""
    if isinstance(content, dict):
        for name, value in content.items():
            if name == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(content, list):
        for value in content:
            yield from references(value)


def test_the_description_is_openapi_and_names_every_endpoint(mint: Mint) -> None:
    document = ok(mint.http.get("/openapi.json"))
    assert document["openapi"].startswith("3.1.")
    assert {"title", "version"} <= set(document["info"])
    assert document["info"]["version"] == VERSION
    named = {(method, path) for path, operations in document["paths"].items() for method in operations}
    assert named == ENDPOINTS
    for reference in set(references(document)):
        assert reference.startswith("#/")
        target = document
        for step in reference[2:].split("/"):
            target = target[step]
    operation_ids = set()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            operation_ids.add(operation["operationId"])
            assert operation["summary"]
            assert "200" in operation["responses"], path
            for response in operation["responses"].values():
                assert "description" in response
                assert response["content"]["application/json"]["schema"]
            assert ("requestBody" in operation) == (method == "post")
            placeholders = {part[1:-1] for part in path.split("/") if part.startswith("{")}
            assert {p["name"] for p in operation["parameters"] if p["in"] == "path" and p["required"]} == placeholders
    assert len(operation_ids) == len(ENDPOINTS)


def test_the_description_fits_what_is_answered(mint: Mint, purse: Purse) -> None:
    document = ok(mint.http.get("/openapi.json"))
    quote = purse.request_mint(8)
    melt = purse.quote(mint.invoice(5))
    for path, answer in {
        "/v1/info": mint.http.get("/v1/info"),
        "/v1/keys": mint.http.get("/v1/keys"),
        "/v1/keysets": mint.http.get("/v1/keysets"),
        "/v1/mint/quote/bolt11/{quote_id}": mint.http.get(f"/v1/mint/quote/bolt11/{quote.quote}"),
        "/v1/melt/quote/bolt11/{quote_id}": mint.http.get(f"/v1/melt/quote/bolt11/{melt.quote}"),
    }.items():
        schema = document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        assert set(schema["required"]) <= set(answer.json()) <= set(schema["properties"])


def test_info_is_complete(mint: Mint) -> None:
    info = ok(mint.http.get("/v1/info"))
    assert set(info) == {"name", "pubkey", "version", "description", "time", "max_array_length", "nuts"}
    assert (info["name"], info["description"]) == ("Nutbolt", "A Cashu mint inside a Core Lightning node")
    assert info["version"] == f"Nutbolt/{VERSION}"
    assert info["version"].count("/") == 1
    assert abs(info["time"] - time.time()) < 60
    assert info["max_array_length"] == MAX_ARRAY_LENGTH
    assert len(bytes.fromhex(info["pubkey"])) == 33
    nuts = info["nuts"]
    assert set(nuts) == {"4", "5", "7", "8", "9", "10", "11", "12", "14", "15", "17", "19", "20", "29"}
    for nut in ("7", "8", "9", "10", "11", "12", "14", "20"):
        assert nuts[nut] == {"supported": True}
    lightning = {"unit": "sat", "min_amount": 1, "max_amount": 1_000_000}
    onchain = {"method": "onchain", "unit": "sat", "min_amount": 10_000, "max_amount": 1_000_000}
    assert nuts["4"] == {
        "methods": [
            {"method": "bolt11", **lightning, "options": {"description": True}},
            {"method": "bolt12", **lightning, "options": {"description": True}},
            {**onchain, "options": {"confirmations": 3}},
        ],
        "disabled": False,
    }
    assert nuts["5"] == {
        "methods": [
            {"method": "bolt11", **lightning, "options": {"amountless": True}},
            {"method": "bolt12", **lightning, "options": {"amountless": True}},
            {**onchain, "options": {}},
        ],
        "disabled": False,
    }
    assert nuts["15"] == {"methods": [{"method": "bolt11", "unit": "sat"}]}
    assert nuts["17"] == {
        "supported": [
            {"method": name, "unit": "sat", "commands": [f"{name}_mint_quote", f"{name}_melt_quote", "proof_state"]}
            for name in METHODS
        ]
    }
    replayed = ["/v1/swap"]
    for name in METHODS:
        replayed += [f"/v1/mint/{name}", f"/v1/mint/{name}/batch", f"/v1/melt/{name}"]
    assert nuts["19"] == {"ttl": None, "cached_endpoints": [{"method": "POST", "path": path} for path in replayed]}
    assert nuts["29"] == {"max_batch_size": 100, "methods": METHODS}


def test_onchain_is_off_unless_asked_for(make_mint: MakeMint) -> None:
    mint = make_mint(methods=None)
    assert ok(mint.http.get("/v1/info"))["nuts"]["29"]["methods"] == ["bolt11", "bolt12"]


@pytest.mark.parametrize("chosen", [["bolt11"], ["onchain"], ["bolt12", "bolt11"]])
def test_a_method_that_is_switched_off_is_not_there(make_mint: MakeMint, chosen: list[str]) -> None:
    mint = make_mint(methods=",".join(chosen))
    nuts = ok(mint.http.get("/v1/info"))["nuts"]
    for nut in ("4", "5"):
        assert {method["method"] for method in nuts[nut]["methods"]} == set(chosen)
    assert set(nuts["29"]["methods"]) == set(chosen)
    assert ("15" in nuts) == ("bolt11" in chosen)
    assert {entry["method"] for entry in nuts["17"]["supported"]} == set(chosen)
    document = ok(mint.http.get("/openapi.json"))
    for method in METHODS:
        is_on = method in chosen
        assert (f"/v1/mint/{method}" in document["paths"]) == is_on
        for path in (
            f"/v1/mint/quote/{method}",
            f"/v1/mint/{method}",
            f"/v1/melt/quote/{method}",
            f"/v1/melt/{method}",
        ):
            answer = mint.http.post(path, json={})
            assert code_of(answer) == (Code.REQUEST_REJECTED if is_on else Code.UNIT_UNSUPPORTED)


def test_info_follows_the_options_and_tells_the_truth_about_limits(make_mint: MakeMint) -> None:
    mint = make_mint(
        units="msat,sat",
        name="Mint of a test \u20bf",
        description='It says "this" of itself',
        min_mint=10,
        max_mint=1000,
        min_melt=20,
        max_melt=0,
        methods="bolt11",
    )
    info = ok(mint.http.get("/v1/info"))
    assert (info["name"], info["description"]) == ("Mint of a test \u20bf", 'It says "this" of itself')
    assert info["pubkey"] == ok(mint.http.get("/v1/info"))["pubkey"]
    units = ["msat", "sat"]
    for nut in ("4", "5", "15"):
        assert [method["unit"] for method in info["nuts"][nut]["methods"]] == units
    assert [entry["unit"] for entry in info["nuts"]["17"]["supported"]] == units

    def mint_quote(amount: int, unit: str) -> httpx.Response:
        return mint.http.post("/v1/mint/quote/bolt11", json={"amount": amount, "unit": unit})

    def melt_quote(amount: int, unit: str) -> httpx.Response:
        invoice = mint.node.outside_invoice(amount * (1000 if unit == "sat" else 1)).bolt11
        return mint.http.post("/v1/melt/quote/bolt11", json={"request": invoice, "unit": unit})

    for nut, ask, least, most in (("4", mint_quote, 10, 1000), ("5", melt_quote, 20, None)):
        for method in info["nuts"][nut]["methods"]:
            scale = 1000 if method["unit"] == "msat" else 1
            assert method["min_amount"] == least * scale
            assert method.get("max_amount") == (None if most is None else most * scale)
            assert code_of(ask(method["min_amount"] - 1, method["unit"])) == Code.AMOUNT_OUTSIDE_LIMITS
            ok(ask(method["min_amount"], method["unit"]))
            if most is None:
                assert "max_amount" not in method
                ok(ask(10_000_000 * scale, method["unit"]))
            else:
                ok(ask(method["max_amount"], method["unit"]))
                assert code_of(ask(method["max_amount"] + 1, method["unit"])) == Code.AMOUNT_OUTSIDE_LIMITS


def test_the_description_of_a_quote_stands_in_its_invoice(mint: Mint) -> None:
    """As info announces."""
    text = 'coffee \u20bf and "cake"'
    body = {"amount": 8, "unit": "sat", "description": text}
    request = ok(mint.http.post("/v1/mint/quote/bolt11", json=body))["request"]
    assert mint.node.rpc("decode", string=request)["description"] == text
    body["description"] = "x" * 513
    assert code_of(mint.http.post("/v1/mint/quote/bolt11", json=body)) == Code.REQUEST_REJECTED
