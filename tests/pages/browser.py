"""Find a Chromium for the page tests, or install one.

    python tests/pages/browser.py --install

Tried in order: a browser that is there, the system's package (as root), playwright's own download (any user). Where
none can be had for want of rights or network the page tests are skipped with a visible line, except in CI.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def is_root() -> bool:
    """Whether this user may install packages, and must do without Chromium's own sandbox."""
    return hasattr(os, "geteuid") and os.geteuid() == 0


def find() -> str | None:
    """Path of a Chromium to drive, or None."""
    for name in NAMES:
        if path := shutil.which(name):
            return path
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        path = driver.chromium.executable_path
    return path if Path(path).is_file() else None


def install() -> str | None:
    """Install a Chromium with the rights that this user has; return its path, or None."""
    attempts = []
    if is_root() and shutil.which("apt-get"):
        attempts += [
            ["apt-get", "update", "-q"],
            ["apt-get", "install", "-y", "-q", "--no-install-recommends", "chromium"],
        ]
    else:
        attempts += [[sys.executable, "-m", "playwright", "install", "chromium"]]
    for command in attempts:
        print("+", " ".join(command), flush=True)
        if subprocess.run(
            command, check=False, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        ).returncode:
            break
    return find()


if __name__ == "__main__":
    path = find() or ("--install" in sys.argv and install())
    print(f"browser for the page tests: {path or 'NONE: the page tests will be skipped'}")
    sys.exit(1 if not path and os.environ.get("CI") else 0)
