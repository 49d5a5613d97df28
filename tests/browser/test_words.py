"""Words: buttons say what they do, what is off says why, and every time is told in UTC as well."""

import re
from datetime import datetime

import pytest

from tests.browser.catalogue import VIEWS
from tests.browser.opening import open_view

_BUTTONS = "() => [...document.querySelectorAll('button, a.btn, input[type=submit]')].map((e) => (e.value || e.textContent).trim())"
_SILENT = """() => [...document.querySelectorAll('[disabled], [aria-disabled=true]')].filter((e) => {
  const ids = (e.getAttribute('aria-describedby') || '').split(/\\s+/).filter(Boolean);
  const said = ids.map((id) => document.getElementById(id)?.textContent || '').join('').trim();
  return !(said || (e.title || '').trim());
}).map((e) => e.outerHTML.slice(0, 120))"""
_TIMES = "() => [...document.querySelectorAll('time')].map((e) => e.getAttribute('datetime') || e.outerHTML)"


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_buttons_times_and_controls_that_are_off_say_what_they_mean(view, desk, empty_desk, new_context, watch):
    page = open_view(view, empty_desk if view.is_empty else desk, new_context, watch)
    words = page.evaluate(_BUTTONS)
    assert not [word for word in words if re.fullmatch(r"(?i)\W*(confirm|ok|yes|submit)\W*", word)]
    assert not page.evaluate(_SILENT)
    for moment in page.evaluate(_TIMES):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|\+00:00)", moment), moment
        assert datetime.fromisoformat(moment).utcoffset().total_seconds() == 0
    assert page.title() not in {"", "None"}
    assert "Undefined" not in page.content()
