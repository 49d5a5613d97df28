"""Data that wants to be more than data: it stands there as text, runs nothing, leads nowhere, and breaks no layout."""

import pytest

from tests.browser.accessibility import NARROWEST, sideways
from tests.browser.catalogue import VIEWS
from tests.browser.opening import open_view
from tests.browser.seeding import LINK, MARKUP

HOSTILE = [
    view for view in VIEWS if "hostile" in view.name or view.name in {"runs", "runs-failed", "workflows", "overview"}
]

# Without its name a fold does not close the others.
_OPEN_ALL = (
    "() => document.querySelectorAll('main details').forEach((e) => { e.removeAttribute('name'); e.open = true; })"
)
_LINKS = """() => [...document.querySelectorAll('[href], [src], [action], [formaction]')].flatMap(
  (e) => ['href', 'src', 'action', 'formaction'].map((name) => e.getAttribute(name)).filter((value) => value !== null))"""
_HANDLERS = """() => [...document.querySelectorAll('*')].filter(
  (e) => [...e.attributes].some((a) => a.name.startsWith('on') || a.name === 'style')).map((e) => e.outerHTML.slice(0, 200))"""


@pytest.mark.parametrize("view", HOSTILE, ids=lambda view: view.name)
def test_hostile_values_stay_text(view, desk, new_context, watch):
    page = open_view(view, desk, new_context, watch)
    page.evaluate(_OPEN_ALL)
    page.mouse.move(400, 300)
    assert page.evaluate("() => window.hacked") is None
    assert page.locator("main script, main img, main iframe, main object, main embed").count() == 0
    assert not page.evaluate(_HANDLERS)
    schemes = [href for href in page.evaluate(_LINKS) if ":" in href.split("?")[0].split("#")[0].split("/")[0]]
    assert all(href.startswith(("http://", "https://", "data:image/")) for href in schemes), schemes
    assert "60403983" not in page.locator("body").inner_text(), "a template of the data was executed"
    assert not [text for text in "\u202e\u2066\u200b\x1b\x07" if text in page.locator("body").inner_text()]
    for width in (1440, 390, NARROWEST):
        page.set_viewport_size({"width": width, "height": 900})
        assert not sideways(page)


def test_the_markup_is_there_to_be_read(page, desk):
    page.goto(desk.run_url("hostile"))
    body = page.locator("body").inner_text()
    assert MARKUP in body
    assert LINK in body


def test_a_query_that_is_markup_comes_back_as_text(page):
    page.goto("runs?q=%22%3E%3Cscript%3Ewindow.hacked%3D7%3C%2Fscript%3E")
    assert page.evaluate("() => window.hacked") is None
    assert page.locator("main script").count() == 0


@pytest.mark.parametrize(
    "path", ["runs?q=status:", "runs?before=%00%0a", "runs/%2e%2e%2f/resume", "compare?run=%27", "jump?q=%3Cb%3E"]
)
def test_odd_addresses_are_answered_with_a_page(path, page, watch):
    watch.expect("status of 4")
    answer = page.goto(path)
    assert answer.status < 500
    assert page.locator("main h1").count() == 1
