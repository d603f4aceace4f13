"""A headless Chromium for tests on real pages. Where none is found they skip; with BROWSER_TESTS=required they fail."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, FrameLocator, expect, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SIZE = {"width": 1280, "height": 860}
ALONE = ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]  # no route: it would wait for this process
PATIENCE = 120_000  # milliseconds, on a busy machine
HERE = ("http://127.0.0.1:", "data:", "blob:", "about:")


@contextmanager
def chromium() -> Iterator[Browser]:
    """The machine's own Chromium; nothing is downloaded."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        text = "no Chromium on this machine (Debian: apt install chromium fonts-noto-cjk)"
        if os.environ.get("BROWSER_TESTS") == "required":
            pytest.fail(text)
        pytest.skip(text)
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=found, args=[*arguments, *ALONE])
        expect.set_options(timeout=PATIENCE)
        try:
            yield browser
        finally:
            browser.close()


class Desk:
    """Somebody at a browser, signed in to Airflow: a window of their own, which reaches nothing but this machine.

    `outside` are the addresses elsewhere that it asked for, which it can't find.
    """

    def __init__(self, browser: Browser, url: str, name: str, password: str) -> None:
        self.url = url
        self.outside: list[str] = []
        window = browser.new_context(viewport=SIZE, color_scheme="light", locale="en-US")
        window.on("request", lambda asked: self._note(asked.url))
        window.set_default_timeout(PATIENCE)
        self.page = window.new_page()
        self.page.goto(url)
        self.page.fill("input[name=username]", name)
        self.page.fill("input[name=password]", password)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.get_by_role("link", name="Tower", exact=True).wait_for()

    def _note(self, url: str) -> None:
        if not url.startswith(HERE):
            self.outside.append(url)

    def open_tower(self, path: str = "") -> FrameLocator:
        """A page of the Tower within Airflow, by default today's."""
        self.page.goto(f"{self.url}/plugin/tower/tower/{path}")
        return self.frame()

    def frame(self) -> FrameLocator:
        """What Airflow shows within its own page."""
        shown = self.page.frame_locator("iframe")
        shown.locator("main").wait_for()
        return shown
