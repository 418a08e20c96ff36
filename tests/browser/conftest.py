"""A real browser: Chromium, driven by Playwright. Skipped, with the reason, where there is none."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from contrib.test import BROWSERS
from tests.browser import figures
from tests.plugin.conftest import make_mint as make_mint  # noqa: PLC0414 - a fixture of ours as well
from tests.plugin.harness import Mint, running

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="the browser's tests need the extra `browser` (Playwright)"
)

ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--font-render-hinting=none",
]
PHONE, DESKTOP = (390, 844), (1280, 900)
LOOKS = [(device, scheme) for device in ("phone", "desktop") for scheme in ("light", "dark")]
DAILY = {"test_how_it_looks[phone-light]", "test_it_needs_no_javascript"}
"""What every day has time for."""
PATIENCE_MS = 30_000
NAME = "Harbour Mint"
URL = "https://mint.harbour.example"
OPTIONS: dict[str, Any] = {
    "name": NAME,
    "description": "Ecash for the harbour's market, run by its boats' cooperative.",
    "long_description": "We began with one stall and a shoe box. Today forty boats, the ice house and the ferry take "
    "our ecash, and the node is in the harbour master's cellar, with a battery.",
    "contact": "email:desk@harbour.example,nostr:npub1harbourmint,x:@harbourmint",
    "urls": f"{URL},http://harbourmintharbourmintharbourmintharbourmintharbourmint.onion",
    "tos_url": f"{URL}/terms",
    "input_fee_ppk": "100",
}


@dataclass
class Tab:
    """An open page, and what it did besides being looked at."""

    page: Any
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    """What it wrote to the console as a warning or an error, and what failed in it."""

    def check(self, origin: str) -> None:
        """It has asked nobody but the mint, and complained of nothing."""
        assert self.requests
        assert [url for url in self.requests if not url.startswith(f"{origin}/")] == []
        assert self.complaints == []


OpenTab = Callable[..., Tab]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Most of these take too long for every day."""
    for item in items:
        if Path(__file__).parent in item.path.parents and (item.name not in DAILY or "operator" in item.path.name):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """One Chromium for all tests of a worker."""
    program = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip(f"the browser's tests need {BROWSERS[0]} on PATH")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def open_tab(browser: Any) -> Iterator[OpenTab]:
    """Opens tabs of a test's own: `path` is a whole URL; further arguments are those of Playwright's contexts."""
    with ExitStack() as stack:

        def open_tab(
            path: str,
            device: str = "desktop",
            scheme: str = "light",
            answers: dict[str, Callable[[Any], None]] | None = None,
            **options: Any,
        ) -> Tab:
            width, height = PHONE if device == "phone" else DESKTOP
            context = browser.new_context(
                viewport={"width": width, "height": height},
                color_scheme=scheme,
                reduced_motion="reduce",
                timezone_id="UTC",
                locale="en-GB",
                **options,
            )
            stack.callback(context.close)
            context.set_default_timeout(PATIENCE_MS)
            page = context.new_page()
            tab = Tab(page)
            page.on("request", lambda request: tab.requests.append(request.url))
            page.on("pageerror", lambda error: tab.complaints.append(str(error)))
            page.on(
                "console", lambda said: tab.complaints.append(said.text) if said.type in ("warning", "error") else None
            )
            for pattern, answer in (answers or {}).items():
                page.route(pattern, answer)
            page.goto(path)
            return tab

        yield open_tab


@pytest.fixture(scope="session")
def mint(tmp_path_factory: pytest.TempPathFactory, browser: Any) -> Iterator[Mint]:
    """One mint for all of them; the browser first, so that nothing is started where there is none."""
    mint = Mint(tmp_path_factory.mktemp("node"), operator_page="true", **OPTIONS)
    with running(mint):
        mint.node.rpc("cashu-motd", message="On Sunday morning the mint moves to another computer: an hour of rest.")
        yield mint


@pytest.fixture(scope="session")
def rune(mint: Mint) -> str:
    """One for the operator's page, and nothing else."""
    return str(mint.node.rpc("createrune", restrictions=[["method=cashu-operator-page"]])["rune"])


@pytest.fixture
def open_operator(open_tab: OpenTab, mint: Mint, rune: str) -> OpenTab:
    """Opens the operator's page with figures that are always the same, or others: one event, and then silence."""

    def open_operator(data: dict[str, Any] | None = None, **options: Any) -> Tab:
        shown = figures.overview() if data is None else data
        events = iter(["data: 1\n\n"])

        def answer_events(route: Any) -> None:
            if (event := next(events, None)) is not None:
                route.fulfill(body=event)

        answers = {"**/operator/data?*": lambda route: route.fulfill(json=shown), "**/operator/events": answer_events}
        tab = open_tab(f"{mint.url}/operator", answers=answers, **options)
        tab.page.fill("#rune", rune)
        tab.page.click("#form button")
        tab.page.wait_for_selector("#figures:not([hidden]) .chart")
        return tab

    return open_operator


@pytest.fixture
def screenshots() -> Path:
    """Where the reference pictures are."""
    return Path(__file__).parent / "screenshots"
