"""A real browser before the pages of a real shop, and watchers that fail a test for what it did not ask about.

Whatever a test is about, at its end: no request went to another host, the console and the page said nothing, and no policy was
violated. What a test provokes on purpose (a 404, a 503) it announces with ``watch.expect``.

Playwright's sync interface keeps an event loop running in the main thread, and async tests that share the process would be refused
theirs. So that loop counts as running only while a test of this folder does: ``pytest_runtest_protocol``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.browser.chromium import find_chromium, launch
from tests.browser.seeding import Shop, make_shop, seeded_shop
from tests.browser.serving import Desk, serve_pages
from tests.browser.watching import CLICK_COUNTER, Watch

FAILURES = Path(tempfile.gettempdir()) / "workflow-runs-browser"  # a picture and the page of each failed test
_HERE = Path(__file__).parent
_loop: asyncio.AbstractEventLoop | None = None  # Playwright's, once it has begun


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Let asyncio know of Playwright's loop during our own tests, and at no other time."""
    global _loop  # noqa: PLW0603  # there is one main thread
    ours = item.path.is_relative_to(_HERE)
    if ours:
        asyncio._set_running_loop(_loop)
    try:
        return (yield)
    finally:
        if ours:
            _loop = asyncio._get_running_loop()
            asyncio._set_running_loop(None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[pytest.TestReport]:
    report = yield
    if report.failed:
        item.stash[_FAILED] = True
    return report


_FAILED = pytest.StashKey[bool]()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One Chromium for each worker."""
    path = find_chromium()
    if path is None:
        reason = (
            "no Chromium: `make test` installs Debian's when it is root, or name one with CHROMIUM=/path/to/chromium"
        )
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    playwright = sync_playwright().start()
    loop = asyncio._get_running_loop()
    yield launch(playwright, path)
    asyncio._set_running_loop(loop)  # the last test of this process may be somebody else's
    playwright.stop()
    asyncio._set_running_loop(None)


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """The shop that all tests share, on SQLite. A test that acts makes itself a run to act on."""
    made = seeded_shop(f"sqlite:///{tmp_path_factory.mktemp('shop') / 'runs.db'}")
    yield made
    made.close()


@pytest.fixture(scope="session")
def desk(shop: Shop) -> Iterator[Desk]:
    """The shop's pages, at ``/desk``."""
    with serve_pages(shop) as served:
        yield served


@pytest.fixture(scope="session")
def empty_desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """The pages of a shop that has recorded nothing yet."""
    made = make_shop(f"sqlite:///{tmp_path_factory.mktemp('empty') / 'runs.db'}")
    with serve_pages(made) as served:
        yield served
    made.close()


@pytest.fixture
def watch() -> Watch:
    """What the browser said and asked for."""
    return Watch()


@pytest.fixture
def new_context(
    browser: Browser, watch: Watch, request: pytest.FixtureRequest
) -> Iterator[Callable[..., BrowserContext]]:
    """Makes browser contexts that are watched, and checked at the end."""
    made: list[BrowserContext] = []

    def make(**options: object) -> BrowserContext:
        context = browser.new_context(
            **{"viewport": {"width": 1440, "height": 900}, "reduced_motion": "reduce"} | options
        )
        context.set_default_timeout(10_000)
        context.add_init_script(CLICK_COUNTER)
        watch.follow(context)
        made.append(context)
        return context

    yield make
    failed = item_failed = request.node.stash.get(_FAILED, False)
    try:
        if not item_failed:
            failed = True
            watch.check()
            failed = False
    finally:
        for context in made:
            if failed:
                _keep(context, request.node)
            context.close()


def _keep(context: BrowserContext, item: pytest.Item) -> None:
    """Keep what a failed test looked at."""
    folder = FAILURES / re.sub(r"[^A-Za-z0-9_.-]+", "-", item.name)[:120]
    folder.mkdir(parents=True, exist_ok=True)
    for number, page in enumerate(context.pages):
        with contextlib.suppress(Exception):  # a page that died has nothing to show, and is not what failed
            page.screenshot(path=folder / f"{number}.png", full_page=True)
            (folder / f"{number}.html").write_text(f"<!-- {page.url} -->\n{page.content()}", "utf-8")


@pytest.fixture
def page(new_context: Callable[..., BrowserContext], desk: Desk) -> Page:
    """A page of the shop's desk, by somebody who may do everything; relative addresses are below the desk."""
    return new_context(base_url=desk.url).new_page()


@pytest.fixture
def plain_page(new_context: Callable[..., BrowserContext], desk: Desk) -> Page:
    """The same without JavaScript."""
    return new_context(base_url=desk.url, java_script_enabled=False).new_page()
