"""The operator's page in a browser: the door, the figures, live, and how it looks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.browser import figures
from tests.browser.conftest import LOOKS, NAME, OpenTab
from tests.browser.looks import require_accessible, require_picture
from tests.plugin.harness import Mint, Purse

HOSTILE = """<img src=x onerror="document.title='owned'"><script>document.title='owned'</script>"""


def enter(page: Any, rune: str) -> None:
    page.fill("#rune", rune)
    page.click("#form button")


@pytest.mark.parametrize(("device", "scheme"), LOOKS)
def test_how_it_looks(mint: Mint, open_operator: OpenTab, screenshots: Path, device: str, scheme: str) -> None:
    tab = open_operator(device=device, scheme=scheme)
    require_accessible(tab.page)
    assert tab.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    tab.check(mint.url)
    require_picture(tab.page, f"operator-{device}-{scheme}", screenshots)


def test_the_door(mint: Mint, open_tab: OpenTab, screenshots: Path) -> None:
    tab = open_tab(f"{mint.url}/operator", device="phone")
    tab.page.wait_for_selector("#door:not([hidden])")
    require_accessible(tab.page)
    tab.check(mint.url)
    require_picture(tab.page, "operator-door", screenshots)


def test_the_tables_behind_the_charts(open_operator: OpenTab) -> None:
    page = open_operator().page
    for summary in page.locator("summary").all():
        summary.click()
    require_accessible(page)
    assert page.locator("#balance tbody tr").count() == len(figures.overview()["history"]) + 1
    assert page.locator("#volume tbody tr").count() == len(figures.flows())


def test_no_rune_no_figures(mint: Mint, open_tab: OpenTab) -> None:
    other = mint.node.rpc("createrune", restrictions=[["method=cashu-info"]])["rune"]
    page = open_tab(f"{mint.url}/operator").page
    for wrong, complaint in (("nothing", "This is not a rune."), (other, "This rune does not permit it.")):
        enter(page, wrong)
        page.get_by_text(complaint).wait_for()
        assert page.locator("#figures").is_hidden()
        assert page.evaluate("sessionStorage.length") == 0
        assert page.locator("#rune").input_value() == ""


def test_it_is_live_and_forgets_the_rune_when_told(mint: Mint, open_tab: OpenTab, rune: str) -> None:
    tab = open_tab(f"{mint.url}/operator")
    page, purse = tab.page, Purse(mint)
    enter(page, rune)
    page.get_by_text("None is in flight.").wait_for()
    assert page.title() == f"{NAME}: operator"
    before = len(tab.requests)
    page.wait_for_load_state("load")
    melt = purse.hold(100)
    page.get_by_text("1 in flight.").wait_for()  # nothing was clicked
    assert page.locator("#pending .mono").inner_text().endswith("-1")
    assert melt.invoice is not None
    mint.node.release(melt.invoice)
    purse.assert_paid(melt)
    page.get_by_text("None is in flight.").wait_for()
    mint.node.rpc("cashu-pause", what="melting")
    page.get_by_text("You have paused melting").wait_for()
    mint.node.rpc("cashu-unpause")
    page.get_by_text("You have paused melting").wait_for(state="detached")
    assert len(tab.requests) > before
    assert not any(rune in url for url in tab.requests)
    page.reload()
    page.get_by_text("None is in flight.").wait_for()  # the tab remembers it
    page.click("text=Forget the rune")
    assert page.locator("#figures").is_hidden()
    assert page.evaluate("sessionStorage.length + localStorage.length") == 0
    tab.check(mint.url)


def test_a_rune_that_is_blacklisted_closes_the_page(mint: Mint, open_tab: OpenTab) -> None:
    made = mint.node.rpc("createrune", restrictions=[["method=cashu-operator-page"]])
    page = open_tab(f"{mint.url}/operator").page
    enter(page, made["rune"])
    page.wait_for_selector("#figures:not([hidden])")
    mint.node.rpc("blacklistrune", start=int(made["unique_id"]))
    page.click("text=7 days")
    page.get_by_text("This rune has been blacklisted.").wait_for()
    assert page.locator("#figures").is_hidden()


def test_what_comes_from_the_mint_stays_text(open_operator: OpenTab) -> None:
    data = figures.overview(name=HOSTILE)
    for key in ("health", "failures", "keysets"):
        for entry in data[key]:
            entry.update(
                {field: HOSTILE for field, value in entry.items() if isinstance(value, str) and field != "state"}
            )
    for melt in data["pending"]["melts"]:
        melt.update(handle=HOSTILE, method=HOSTILE, unit=HOSTILE)
    for flow in data["flows"]:
        flow["method"] = HOSTILE
    tab = open_operator(data)
    assert tab.page.title() == f"{HOSTILE}: operator"
    assert tab.page.locator("main img, main script").count() == 0
    assert tab.complaints == []


def test_an_empty_mint_and_a_node_that_can_not_be_asked(open_operator: OpenTab) -> None:
    data = figures.overview(flows=[], failures=[], keysets=[], history=figures.overview()["history"][:1])
    data["pending"] = {"count": 0, "sum_msat": 0, "melts": []}
    data["balance"].update(dict.fromkeys(("owned_msat", "channels_msat", "sendable_msat"), None))
    tab = open_operator(data)
    assert tab.page.get_by_text("unknown").count() == 2
    assert tab.page.get_by_text("Nothing came in or went out in this time.").is_visible()
    assert tab.complaints == []
