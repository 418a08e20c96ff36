"""The page at `/`, as it comes over HTTP. How it looks, and what a browser does with it, is shown in tests/browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest

from plugin import icon
from plugin.http.pages import words
from plugin.options import OptionError, parse
from tests.plugin.conftest import MakeMint
from tests.plugin.harness import Mint, running

HOSTILE = "<script>alert(1)</script> & \"'{{ 7*7 }}"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)


class Elements(HTMLParser):
    """Every element of a page with its attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def look(mint: Mint, **headers: str) -> tuple[httpx.Response, Elements]:
    answer = mint.http.get("/", headers=headers)
    assert answer.status_code == 200
    return answer, Elements(answer.text)


def test_it_says_what_the_info_says(mint: Mint) -> None:
    answer, page = look(mint)
    info = mint.http.get("/v1/info").json()
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert page.all("html") == [{"lang": "en"}]
    for text in (info["name"], info["pubkey"], mint.url):
        assert text in page.text
    for direction in ("4", "5"):
        for entry in info["nuts"][direction]["methods"]:
            assert words.METHODS[entry["method"]] in page.text
            assert words.amount(entry["max_amount"], entry["unit"]) in page.text
    assert words.NUTS["17"][0] in page.text
    assert "No new ecash" not in page.text


def test_each_nut_of_the_info_is_told_or_known_to_be_no_news(mint: Mint) -> None:
    """4 and 5 are the ways in and out, 10 is what 11 and 14 are made of."""
    assert set(mint.http.get("/v1/info").json()["nuts"]) - {"4", "5", "10"} <= set(words.NUTS)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mint]:
    """A mint whose operator has said all that he can say, behind a proxy, and that may not issue anything."""
    directory = tmp_path_factory.mktemp("other")
    (icon := directory / "icon.png").write_bytes(PNG)
    mint = Mint(
        directory / "node",
        name=HOSTILE,
        description=HOSTILE,
        long_description=HOSTILE,
        contact=f"mail:{HOSTILE},web:javascript:alert(1),email:me@example.org,nostr:npub1abc,x:@mint",
        urls="https://mint.example/,http://abcdefgh.onion",
        icon=str(icon),
        icon_url="https://elsewhere.example/icon.png",
        tos_url="https://mint.example/terms?a=1&b=2",
        trusted_proxies="127.0.0.1",
        max_outstanding=1,
        min_mint=2,
    )
    with running(mint):
        yield mint


def test_what_the_operator_writes_stays_text(other: Mint) -> None:
    other.node.rpc("cashu-motd", message=HOSTILE)
    _, page = look(other)
    assert page.text.count(HOSTILE) == 6  # title, heading, description, message of the day, about, contact
    assert page.all("script") == []
    links = [a["href"] for a in page.all("a")]
    assert "mailto:me@example.org" in links
    assert "https://x.com/mint" in links
    assert "https://mint.example/terms?a=1&b=2" in links
    assert not any("javascript" in str(link) or "npub" in str(link) for link in links)


def test_what_is_disabled_is_said(other: Mint) -> None:
    assert "No new ecash" in look(other)[1].text
    other.node.rpc("cashu-pause", what="melting")
    assert "not paid out either" in look(other)[1].text
    other.node.rpc("cashu-unpause")
    assert "not paid out either" not in look(other)[1].text


def test_the_operators_own_picture_and_never_one_from_elsewhere(other: Mint) -> None:
    answer, page = look(other)
    (source,) = {a["src"] for a in page.all("img")}
    picture = other.http.get(str(source))
    assert picture.content == PNG
    assert picture.headers["content-type"] == "image/png"
    assert "elsewhere.example" not in answer.text


def test_wallets_find_the_picture_that_the_mint_serves(make_mint: MakeMint, tmp_path: Path) -> None:
    (icon := tmp_path / "icon.png").write_bytes(PNG)
    mint = make_mint(icon=str(icon), urls="https://mint.example/sub/")
    url = mint.http.get("/v1/info").json()["icon_url"]
    assert url.startswith("https://mint.example/sub/pages/")
    assert mint.http.get(url.removeprefix("https://mint.example/sub")).content == PNG


@pytest.mark.parametrize(
    ("host", "first"),
    [
        ("mint.example", "https://mint.example"),
        ("elsewhere.example", "https://mint.example"),
        ("abcdefgh.onion", "http://abcdefgh.onion"),
        ("ABCDEFGH.onion", "http://abcdefgh.onion"),
    ],
)
def test_of_the_operators_addresses_the_one_by_which_it_was_asked_for_comes_first(
    other: Mint, host: str, first: str
) -> None:
    answer, page = look(other, host=host)
    assert f'<code class="url">{first}</code>' in answer.text
    assert "https://mint.example" in page.text
    assert "http://abcdefgh.onion" in page.text
    assert "elsewhere.example" not in answer.text


def test_it_may_load_nothing_from_elsewhere_and_run_nothing(mint: Mint) -> None:
    answer, page = look(mint)
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert policy["style-src"] == policy["img-src"] == "'self'"
    assert not any(
        word in answer.headers["content-security-policy"] for word in ("unsafe", "http:", "https:", "script")
    )
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "set-cookie" not in answer.headers
    assert page.all("script") == []
    assert page.all("style") == []
    loaded = [a["href"] for a in page.all("link")] + [a["src"] for a in page.all("img")]
    assert loaded
    for path in loaded:
        assert path is not None
        assert path.startswith("/pages/")
        assert mint.http.get(path).status_code == 200
    assert not any(name.startswith("on") or name == "style" for _, attributes in page.found for name in attributes)


def test_files_are_kept_for_ever_under_the_digest_of_their_content(mint: Mint) -> None:
    _, page = look(mint)
    (path,) = (a["href"] for a in page.all("link") if a["rel"] == "stylesheet")
    assert path is not None
    answer = mint.http.get(path)
    assert answer.headers["content-type"] == "text/css; charset=utf-8"
    assert "immutable" in answer.headers["cache-control"]
    other = re.sub(r"/pages/[0-9a-f]+/", "/pages/000000000000/", path)
    assert mint.http.get(other).status_code == 404
    assert set(mint.http.get(other).json()) == {"detail", "code"}


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("mint.example", "http://mint.example"),
        ("mint.example:3338", "http://mint.example:3338"),
        ("[2001:db8::1]:3338", "http://[2001:db8::1]:3338"),
        ("abcdefgh.onion", "http://abcdefgh.onion"),
        ('"><script>', "http://localhost"),
        ("a/b", "http://localhost"),
        ("user@evil.example", "http://localhost"),
        ("", "http://localhost"),
    ],
)
def test_the_address_is_the_one_by_which_it_was_asked_for(mint: Mint, host: str, shown: str) -> None:
    answer, page = look(mint, host=host)
    assert shown in page.text
    assert answer.headers["cache-control"] == "no-store"  # or a cache could show one visitor another's `Host`
    assert len(page.all("svg")) == 1


def test_only_a_trusted_proxy_says_that_it_was_asked_over_tls(mint: Mint, make_mint: MakeMint) -> None:
    trusting = make_mint(trusted_proxies="127.0.0.1")
    for asked, told, scheme in (
        (mint, "https", "http"),
        (trusting, "https", "https"),
        (trusting, "http, https", "https"),
        (trusting, "javascript", "http"),
    ):
        headers = {"host": "mint.example", "x-forwarded-proto": told}
        assert f"{scheme}://mint.example" in look(asked, **headers)[1].text


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "cannot be read"),
        (b"", "must be a PNG, JPEG or WebP"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "must be a PNG, JPEG or WebP"),
        (b"RIFF\0\0\0\0WAVE", "must be a PNG, JPEG or WebP"),
        (PNG + bytes(icon.MAX_BYTES), "must be at most 256 KiB"),
    ],
)
def test_a_picture_that_can_not_be_used_is_refused_at_the_start(
    tmp_path: Path, content: bytes | None, complaint: str
) -> None:
    path = tmp_path / "icon"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(OptionError, match=f"cashu-icon=.*{complaint}"):
        parse({"cashu-icon": str(path)})


@pytest.mark.parametrize(
    ("ppk", "said"),
    [
        (0, "none"),
        (1000, "1\u00a0sat for each piece of ecash"),
        (250, "250\u00a0sat for every 1000 pieces of ecash, rounded up"),
    ],
)
def test_fees_in_words(ppk: int, said: str) -> None:
    assert words.input_fee(ppk, "sat") == said
