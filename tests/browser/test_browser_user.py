"""The users' page in a browser: how it looks, for whom it works, and what it does behind their back: nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser.conftest import LOOKS, NAME, URL, OpenTab
from tests.browser.looks import require_accessible, require_picture
from tests.plugin.conftest import MakeMint
from tests.plugin.harness import Mint

CHANGING = ["footer .mono"]
"""The mint's public key."""
HOSTILE = """<img src=x onerror="document.title='owned'"><script>document.title='owned'</script>{{ 7 * 7 }}"""


@pytest.mark.parametrize(("device", "scheme"), LOOKS)
def test_how_it_looks(mint: Mint, open_tab: OpenTab, screenshots: Path, device: str, scheme: str) -> None:
    tab = open_tab(f"{mint.url}/", device, scheme)
    require_accessible(tab.page)
    assert tab.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    tab.check(mint.url)
    require_picture(tab.page, f"user-{device}-{scheme}", screenshots, CHANGING)


def test_it_needs_no_javascript(mint: Mint, open_tab: OpenTab) -> None:
    tab = open_tab(f"{mint.url}/", java_script_enabled=False)
    assert tab.page.title() == NAME
    for text in (URL, "On Sunday morning the mint moves", "Lightning invoice", "Restore", "Cashu.me"):
        assert tab.page.get_by_text(text).first.is_visible()
    picture = tab.page.locator(".qr svg").bounding_box()
    assert picture["width"] == picture["height"] > 150
    tab.check(mint.url)


def test_it_leaves_nothing_behind(mint: Mint, open_tab: OpenTab) -> None:
    page = open_tab(f"{mint.url}/").page
    assert page.context.cookies() == []
    assert page.evaluate("localStorage.length + sessionStorage.length") == 0


def test_what_the_operator_writes_stays_text(make_mint: MakeMint, open_tab: OpenTab) -> None:
    contact = f"mail:{HOSTILE},web:javascript:alert(1),email:me@example.org"
    mint = make_mint(name=HOSTILE, description=HOSTILE, long_description=HOSTILE, contact=contact)
    mint.node.rpc("cashu-motd", message=HOSTILE)
    tab = open_tab(f"{mint.url}/")
    assert tab.page.title() == HOSTILE
    assert tab.page.get_by_text(HOSTILE).count() == 5
    assert tab.page.locator("script, main img").count() == 0
    assert tab.page.locator("a[href^='javascript']").count() == 0
    assert tab.page.get_by_text("me@example.org").get_attribute("href") == "mailto:me@example.org"
    tab.check(mint.url)
