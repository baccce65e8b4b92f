"""The rendered book and a browser to look at it with."""

import os
from pathlib import Path

import browser
import pytest
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "_build" / "html"


@pytest.fixture(scope="session")
def html() -> Path:
    if not (HTML / "index.html").is_file():
        pytest.fail("the book is not built: run `make book` first")
    return HTML


@pytest.fixture(scope="session")
def chromium():
    path = browser.find()
    if path is None:
        if os.environ.get("CI"):
            pytest.fail("CI must have a browser")
        pytest.skip(
            "NO BROWSER: the pages were not opened (install Chromium, or run `make test` as a user who may)"
        )
    with sync_playwright() as driver:
        # a sandbox needs an ordinary user; background networking would be Chromium's own requests, not the page's
        flags = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
        if browser.is_root():
            flags.append("--no-sandbox")
        running = driver.chromium.launch(executable_path=path, args=flags)
        yield running
        running.close()
