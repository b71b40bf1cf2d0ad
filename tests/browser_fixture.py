"""Headless Chromium for tests: every request to another host is refused and recorded.

`tests/conftest.py` imports the fixture `chromium`, so every test package has it.
"""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest

_LOCAL_HOSTS = {"", "localhost", "127.0.0.1", "::1"}
_ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu-sandbox", "--use-gl=angle", "--use-angle=swiftshader"),
    *("--enable-unsafe-swiftshader", "--ignore-gpu-blocklist", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--no-first-run", "--disable-dev-shm-usage"),
]

#: CSS that takes viser's notes away, which fade in and out over the canvas and take clicks and drags meant for it.
NO_NOTES = ".mantine-Notifications-root { display: none !important }"


@dataclass
class WatchedPage:
    """A page and what it did wrong.

    Attributes:
        page: The playwright page.
        foreign: Addresses on other hosts it asked for (all refused).
        errors: Console errors and uncaught exceptions.
    """

    page: Any
    foreign: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def canvas_picture(self) -> bytes:
        """PNG of the first canvas as it is on the screen, without viser's notes."""
        return self.page.locator("canvas").first.screenshot(style=NO_NOTES)


class Chromium:
    """Opens watched pages in one browser."""

    def __init__(self, browser: Any) -> None:
        self.browser = browser
        self.contexts: list[Any] = []

    def open(self, url: str | None = None, width: int = 640, height: int = 480) -> WatchedPage:
        """A new page in a fresh profile, optionally sent to `url` (file:// or http://127.0.0.1)."""
        context = self.browser.new_context(viewport={"width": width, "height": height}, service_workers="block")
        self.contexts.append(context)
        watched = WatchedPage(context.new_page())

        def guard(route: Any) -> None:
            parts = urlsplit(route.request.url)
            if parts.scheme in ("data", "blob", "file", "about") or parts.hostname in _LOCAL_HOSTS:
                route.continue_()
            else:
                watched.foreign.append(route.request.url)
                route.abort()

        context.route("**/*", guard)
        watched.page.on("console", lambda m: watched.errors.append(m.text) if m.type == "error" else None)
        watched.page.on("pageerror", lambda error: watched.errors.append(str(error)))
        # a websocket is no request to the router, so it is watched on its own
        watched.page.on(
            "websocket",
            lambda s: watched.foreign.append(s.url) if urlsplit(s.url).hostname not in _LOCAL_HOSTS else None,
        )
        if url is not None:
            watched.page.goto(url)
        return watched


@pytest.fixture(scope="session")
def _browser() -> Iterator[Any]:
    binary = os.environ.get("CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
    if shutil.which(binary) is None:
        pytest.skip("Chromium is absent: install it or point $CHROMIUM at it")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=binary, args=_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def chromium(_browser: Any) -> Iterator[Chromium]:
    """A browser whose `open(url)` gives a `WatchedPage`; pages are closed after the test."""
    session = Chromium(_browser)
    yield session
    for context in session.contexts:
        context.close()
