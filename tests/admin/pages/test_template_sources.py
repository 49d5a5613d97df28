"""What no template may hold: inline script or style (the policy would block it, and that would show only later), unescaped text."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import pytest

PAGES = Path(str(files("workflow_runs.admin.pages")))
TEMPLATES = sorted(PAGES.joinpath("templates").rglob("*.html"))
MODULES = sorted(PAGES.glob("*.py"))

FORBIDDEN = {
    "a style attribute": r"""\sstyle\s*=""",
    "an event attribute": r"""\son[a-z]+\s*=""",
    "an inline script": r"""<script(?![^>]*\ssrc=)""",
    "an inline style sheet": r"""<style\b""",
    "a script address": r"""javascript:""",
    "an address of another host": r"""\b(?:src|href|action)\s*=\s*["']?(?:https?:)?//""",
    "unescaped text": r"""\|\s*safe\b|autoescape\s+false|\{%-?\s*autoescape\b""",
    "a button that only says yes": r"""<button[^>]*>\s*(?:Confirm|OK|Ok|Yes)\b""",
    "an address that ignores where the pages are mounted": r"""\b(?:src|href|action)\s*=\s*["']/""",
}


def test_there_are_templates_to_look_at():
    assert len(TEMPLATES) > 5


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_template_holds(what):
    found = [
        f"{path.name}:{number}: {line.strip()}"
        for path in TEMPLATES
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if re.search(FORBIDDEN[what], re.sub(r"\{#.*?#\}", "", line))
    ]
    assert not found


@pytest.mark.parametrize(
    ("what", "line"),
    [
        ("a style attribute", '<b style="x">'),
        ("an event attribute", "<b onclick=x>"),
        ("an inline script", "<script defer>x</script>"),
        ("unescaped text", "{{ x|safe }}"),
        ("a button that only says yes", "<button class=btn>Confirm</button>"),
        ("an address of another host", '<img src="//elsewhere/x.png">'),
        ("an address that ignores where the pages are mounted", '<a href="/runs">'),
    ],
)
def test_the_patterns_find_what_they_are_for(what, line):
    assert re.search(FORBIDDEN[what], line)
    assert not re.search(FORBIDDEN[what], '<script src="{{ links.static(\'wr.js\') }}" type="module"></script>')


def test_no_module_makes_markup_past_the_templates():
    found = [path.name for path in MODULES if re.search(r"\bMarkup\(|\bmark_safe\b", path.read_text("utf-8"))]
    assert not found


def test_every_field_of_a_form_that_posts_is_guarded_by_a_token():
    """Forms that act carry the plan token; a form without one is a GET."""
    for path in TEMPLATES:
        for form in re.findall(r"<form\b.*?</form>", path.read_text("utf-8"), flags=re.DOTALL):
            if re.search(r"""method\s*=\s*["']?post""", form, re.IGNORECASE):
                assert re.search(r"""name\s*=\s*["']?token""", form), f"{path.name}: {form[:200]}"
