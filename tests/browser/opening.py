"""Opens a view of the catalogue in a browser, as the person it is for."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import BrowserContext, Page

from tests.browser.catalogue import View
from tests.browser.serving import Desk
from tests.browser.watching import Watch


def open_view(
    view: View, desk: Desk, new_context: Callable[..., BrowserContext], watch: Watch, **options: object
) -> Page:
    """Show it, and check that it is what was asked for."""
    if view.status >= 400:
        watch.expect(f"status of {view.status}")  # the browser's own line about the page itself
    context = new_context(base_url=desk.url, extra_http_headers={"X-Who": view.who}, **options)
    page = context.new_page()
    answer = page.goto(view.address(desk.shop))
    assert answer is not None
    assert answer.status == view.status, f"{view.name}: {answer.status}"
    if view.way is not None:
        view.way(page)
    return page
