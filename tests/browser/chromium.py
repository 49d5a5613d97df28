"""Which browser, and how it is started. Debian's Chromium: Playwright's own is a download that no machine of ours needs."""

from __future__ import annotations

import os
import shutil

from playwright.sync_api import Browser, Playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

# As root there is no sandbox. The rest is what a browser does by itself on the network.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def find_chromium() -> str | None:
    """Return the path of a browser: the one that CHROMIUM names, or the first that is installed."""
    return shutil.which(os.environ["CHROMIUM"]) if os.environ.get("CHROMIUM") else _first_installed()


def _first_installed() -> str | None:
    return next((path for path in map(shutil.which, NAMES) if path), None)


def launch(playwright: Playwright, path: str) -> Browser:
    """Start it without a window."""
    return playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
