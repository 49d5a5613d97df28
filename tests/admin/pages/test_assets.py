"""The style sheet, the script and the icon: light, of this origin only, within the page's policy, and agreed with the templates."""

from __future__ import annotations

import gzip
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

import workflow_runs.admin.pages
from workflow_runs.admin.pages import statuses

PAGES = Path(workflow_runs.admin.pages.__file__).parent
STATIC = PAGES / "static"
SCRIPT = (STATIC / "wr.js").read_text("utf-8")
STYLE = (STATIC / "wr.css").read_text("utf-8")
TEMPLATES = "\n".join(path.read_text("utf-8") for path in sorted((PAGES / "templates").glob("*.html")))

CODE = re.sub(r"^\s*(//.*|/\*\*.*\*/)$", "", SCRIPT, flags=re.MULTILINE)
RULES = re.sub(r"/\*.*?\*/", "", STYLE, flags=re.DOTALL)
# Not data for the script: a payload that the template writes, and what a test or a reader of the HTML looks for.
UNREAD = {"data-theme", "data-tab", "data-list", "data-jv"}


# --- weight ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "bytes_max"), [("wr.js", 12_000), ("wr.css", 14_000), ("icon.svg", 500)])
def test_a_file_is_light(name, bytes_max):
    assert len(gzip.compress((STATIC / name).read_bytes(), 6)) <= bytes_max


def test_there_are_no_other_files():
    assert {path.name for path in STATIC.iterdir()} == {"wr.js", "wr.css", "icon.svg"}


# --- the page's policy -----------------------------------------------------------------------------------------------


FORBIDDEN = {
    r"\beval\b": "eval(text)",
    r"\bFunction\s*\(": "new Function(text)",
    r"\bset(Timeout|Interval)\(\s*[\"'`]": "setTimeout('act()', 5)",
    r"\bimport\b": "await import(url)",
    r"inner(HTML|Text)|outerHTML|insertAdjacentHTML|createContextualFragment|HTMLUnsafe|document\.write": "x.innerHTML = text",
    r"\.style\b|cssText|[\"']style[\"']": "x.style.width = '5px'",
    r"\bnew Worker|importScripts|WebSocket": "new Worker(url)",
    r"\bglobalThis\b|\bwindow\.": "window.state = {}",
    r"setInterval": "setInterval(poll, 5000)",
}


@pytest.mark.parametrize("pattern", FORBIDDEN)
def test_the_script_makes_no_code_no_markup_and_no_style_from_text(pattern):
    assert re.search(pattern, FORBIDDEN[pattern])
    assert not re.search(pattern, CODE)


@pytest.mark.parametrize("name", ["wr.js", "wr.css", "icon.svg"])
def test_a_file_names_no_other_host(name):
    text = (STATIC / name).read_text("utf-8").replace('xmlns="http://www.w3.org/2000/svg"', "")
    text = text.replace('"https:"', "")  # the script looks at the page's own scheme
    assert not re.findall(r"\b(?:https?|wss?|ftp):|[\"'(]//\w|\burl\(|@import|@font-face", text)


def test_the_icon_is_a_picture_and_nothing_else():
    root = ET.fromstring((STATIC / "icon.svg").read_text("utf-8"))
    assert {element.tag.rpartition("}")[2] for element in root.iter()} == {"svg", "path"}


# --- what templates, script and style sheet must agree on ------------------------------------------------------------


def camel(attribute: str) -> str:
    """The name under which a script reads a data attribute."""
    return re.sub(r"-(\w)", lambda match: match[1].upper(), attribute.removeprefix("data-"))


def reads(attribute: str) -> bool:
    name = re.escape(attribute)
    return bool(
        re.search(rf"\[{name}[\]=]", CODE + RULES)
        or re.search(rf"(?:dataset|page)\.{camel(attribute)}\b", CODE)
        or re.search(rf"\{{[^}}]*\b{camel(attribute)}\b[^}}]*\}}(?: = \w+\.\w+\.dataset|\) \{{)", CODE)
    )


def test_every_data_attribute_of_the_templates_is_read():
    written = set(re.findall(r"\s(data-[a-z-]+)", TEMPLATES)) - UNREAD
    assert written, "no template was found"
    assert not {attribute for attribute in written if not reads(attribute)}


def test_every_icon_that_is_used_is_in_the_sprite():
    drawn = set(re.findall(r'<symbol id="i-(\w+)"', TEMPLATES))
    looks = [*statuses.RUN_LOOKS.values(), *statuses.STEP_LOOKS.values(), statuses.NOT_REACHED]
    used = set(re.findall(r'href="#i-(\w+)"', TEMPLATES)) | set(re.findall(r'\bicon\("(\w+)"', TEMPLATES))
    used |= {look.icon for look in looks} | set(re.findall(r"\"#i-(\w+)\"", CODE))
    assert used <= drawn


def test_every_class_that_the_script_or_a_state_sets_has_a_rule():
    named = set(re.findall(r"classList\.(?:add|remove|contains)\(\"([\w-]+)\"", CODE))
    named |= set(re.findall(r"className = \"([\w-]+)\"", CODE))
    named |= {look.css for look in (*statuses.RUN_LOOKS.values(), *statuses.STEP_LOOKS.values())}
    assert {"js", "cur", "sr", "bad"} <= named
    assert not {name for name in named if f".{name}" not in RULES}


# --- readers who set things differently ----------------------------------------------------------------------------


def test_motion_forced_colours_and_paper_have_rules():
    for feature in ("prefers-reduced-motion: reduce", "forced-colors: active", "@media print"):
        assert feature in RULES
