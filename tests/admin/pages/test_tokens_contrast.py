"""Contrast of the colour tokens, from the style sheet's text: 4.5 for what is read, 3 for the outlines of controls, in both themes."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

STYLE = files("workflow_runs.admin.pages").joinpath("static/wr.css").read_text("utf-8")
TOKEN = re.compile(r"--([a-z0-9-]+):\s*light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\);")
TOKENS = {name: {"light": light, "dark": dark} for name, light, dark in TOKEN.findall(STYLE)}

SURFACES = ("bg", "sunken", "raised", "hover", "selected")
INKS = ("ink", "ink-2", "ink-3")
STATUSES = ("ok", "bad", "run", "wait", "comp", "off")
# What stands on what, beside each text on each surface. ``invert`` is written on buttons and badges.
READ = [
    *((text, surface) for text in (*INKS, *STATUSES) for surface in SURFACES),
    *((status, f"{status}-bg") for status in STATUSES),
    *((text, f"{status}-bg") for text in ("ink", "ink-2") for status in STATUSES),
    ("invert", "ink"),
    ("invert", "bad"),
]
CONTROLS = [(outline, surface) for outline in ("line-firm", "focus") for surface in SURFACES]


def luminance(colour: str) -> float:
    """Relative luminance. Source: WCAG 2.2, the definition of that term."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Contrast ratio. Source: WCAG 2.2, the definition of that term."""
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def test_the_formula_knows_black_on_white():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)  # the textbook's grey that just passes


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("text", "surface"), READ)
def test_what_is_read_has_4_5(theme, text, surface):
    assert contrast(TOKENS[text][theme], TOKENS[surface][theme]) >= 4.5


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("outline", "surface"), CONTROLS)
def test_outlines_of_controls_and_the_focus_ring_have_3(theme, outline, surface):
    assert contrast(TOKENS[outline][theme], TOKENS[surface][theme]) >= 3


def test_an_opaque_colour_is_written_as_a_token_and_nowhere_else():
    rules = re.sub(r"/\*.*?\*/", "", STYLE[STYLE.index("@layer base {") :], flags=re.DOTALL)
    assert not re.findall(r"#(?:[0-9a-fA-F]{3}){1,2}\b(?=[^{}]*[;}])", rules)
