"""A headless Chromium for tests on real pages. Where none is found they skip; with BROWSER_TESTS=required they fail."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


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
        browser = playwright.chromium.launch(executable_path=found, args=arguments)
        try:
            yield browser
        finally:
            browser.close()
