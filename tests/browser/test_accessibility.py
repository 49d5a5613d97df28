"""axe finds nothing on any page, dialog or state, at any width, in either theme; nothing scrolls sideways; forced colours keep controls."""

import pytest

from tests.browser.accessibility import NARROWEST, looks, sideways, violations
from tests.browser.catalogue import VIEWS
from tests.browser.opening import open_view


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_every_view_passes_axe_and_fits_at_every_width_in_both_themes(view, desk, empty_desk, new_context, watch):
    page = open_view(view, empty_desk if view.is_empty else desk, new_context, watch)
    found = {}
    for look in looks(page):
        found[look] = [*violations(page), *(f"scrolls sideways: {what}" for what in sideways(page))]
    page.set_viewport_size({"width": NARROWEST, "height": 900})
    found[f"{NARROWEST}"] = [f"scrolls sideways: {what}" for what in sideways(page)]
    assert not {look: what for look, what in found.items() if what}


def test_axe_would_find_something(page):
    page.goto("runs")
    page.evaluate("() => document.body.append(document.createElement('img'), document.createElement('button'))")
    assert {what.split()[0] for what in violations(page)} >= {"image-alt", "button-name"}


def test_a_page_that_is_too_wide_is_noticed(page):
    page.set_viewport_size({"width": NARROWEST, "height": 900})
    page.goto("runs")
    page.evaluate("() => { document.querySelector('main').style.width = '500px'; }")
    assert sideways(page)


@pytest.mark.parametrize("path", ["runs", "runs/{id}"])
def test_with_forced_colours_buttons_still_have_an_outline(path, page, desk):
    page.emulate_media(forced_colors="active")
    page.goto(path.replace("{id}", desk.shop.ids["uninvoiced"]))
    bare = page.evaluate(
        """() => [...document.querySelectorAll('.btn, input')].filter((e) => e.checkVisibility()).filter(
          (e) => { const s = getComputedStyle(e); return s.borderStyle === 'none' && s.outlineStyle === 'none'; }
        ).map((e) => e.outerHTML.slice(0, 100))"""
    )
    assert not bare
