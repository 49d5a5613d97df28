"""Pictures of every page at three widths in both themes, and the one that the README shows.

    python -m tests.browser.screenshots --folder build/screenshots --picture docs/images/desk.png [--only run-uninvoiced]

They are for looking at, beside the designs, whenever the look changes. The README's is of the
demo: the run that failed after the charge, which it leaves to whoever looks.
"""

from __future__ import annotations

import argparse
import itertools
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from tests.browser.accessibility import looks
from tests.browser.catalogue import VIEWS, View
from tests.browser.chromium import find_chromium, launch
from tests.browser.seeding import make_shop, seeded_shop
from tests.browser.serving import Desk, serve_pages

PICTURE_BYTES_MAX = 250_000  # it is committed, and every clone carries it
_HEIGHT_MAX = 4_000  # of a picture; longer pages are cut there


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Pictures of the pages.")
    parser.add_argument("--folder", type=Path, help="where the pictures of all pages go")
    parser.add_argument("--picture", type=Path, help="where the README's picture goes")
    parser.add_argument("--only", action="append", help="only this view of the catalogue; may be repeated")
    arguments = parser.parse_args(argv)
    path = find_chromium()
    if path is None:
        sys.exit("There is no Chromium: name one with CHROMIUM=/path/to/it")
    with sync_playwright() as playwright:
        browser = launch(playwright, path)
        if arguments.folder is not None:
            _picture_all(browser, arguments.folder, arguments.only)
        if arguments.picture is not None and not arguments.only:
            _picture_demo(browser, arguments.picture)
    return 0


def _picture_all(browser: Browser, folder: Path, only: Sequence[str] | None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    chosen = [view for view in VIEWS if only is None or view.name in only]
    with _desks() as (desk, empty):
        for view in chosen:
            _picture(browser, view, empty if view.is_empty else desk, folder)
    sys.stdout.write(f"{len(chosen)} views in {folder}\n")


@contextmanager
def _desks() -> Iterator[tuple[Desk, Desk]]:
    with tempfile.TemporaryDirectory() as scratch:
        shop, empty = seeded_shop(f"sqlite:///{scratch}/shop.db"), make_shop(f"sqlite:///{scratch}/empty.db")
        look = {"title": "Acme Travel", "environment": "PROD", "time_zone": "Europe/Bucharest"}
        try:
            with serve_pages(shop, **look) as desk, serve_pages(empty, **look) as empty_desk:
                yield desk, empty_desk
        finally:
            shop.close()
            empty.close()


def _picture(browser: Browser, view: View, desk: Desk, folder: Path) -> None:
    context = browser.new_context(
        base_url=desk.url,
        extra_http_headers={"X-Who": view.who},
        reduced_motion="reduce",
        viewport={"width": 1440, "height": 900},
    )
    page = context.new_page()
    page.goto(view.address(desk.shop))
    if view.way is not None:
        view.way(page)
    for look in looks(page):
        height = min(_HEIGHT_MAX, int(page.evaluate("() => document.documentElement.scrollHeight")))
        width = page.viewport_size["width"]
        clip = {"x": 0, "y": 0, "width": width, "height": 900 if view.way else max(900, height)}
        page.screenshot(
            path=folder / f"{view.name}_{look.replace(' ', '_')}.png", full_page=view.way is None, clip=clip
        )
    context.close()


def _picture_demo(browser: Browser, picture: Path) -> None:
    with _demo() as url:
        context = browser.new_context(
            viewport={"width": 1440, "height": 840}, color_scheme="light", reduced_motion="reduce"
        )
        page = context.new_page()
        page.goto(url)
        page.wait_for_load_state("load")
        picture.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=picture)
        context.close()
    size = picture.stat().st_size
    if size > PICTURE_BYTES_MAX:
        sys.exit(f"{picture} has {size} bytes; the README's picture has at most {PICTURE_BYTES_MAX}")
    sys.stdout.write(f"{picture}: {size} bytes\n")


@contextmanager
def _demo() -> Iterator[str]:
    """The demo, when it has told its story; gives the page of the last run that it leaves to whoever looks."""
    command = [sys.executable, "-u", "-m", "examples.demo", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        told = "".join(itertools.takewhile(lambda line: not line.startswith("Serving"), demo.stdout))
        try:
            yield re.findall(r"http://[^/ ]+/runs/wfrn_\w+", told)[-1]
        finally:
            demo.send_signal(signal.SIGINT)


if __name__ == "__main__":
    sys.exit(main())
