"""axe-core in the page that is shown: every rule of WCAG 2.2 A and AA, and its best practices."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib.resources import files

from playwright.sync_api import Page

WIDTHS = (1440, 768, 390)
THEMES = ("light", "dark")
NARROWEST = 320

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa", "best-practice"]
_RUN = """
async (tags) => {
  const found = await axe.run(document, {runOnly: {type: 'tag', values: tags}, resultTypes: ['violations']});
  return found.violations.flatMap((rule) => rule.nodes.map(
    (node) => `${rule.id} at ${node.target.join(' ')}: ${node.html.slice(0, 160)} (${node.failureSummary.slice(0, 300)})`));
}
"""


@cache
def _axe() -> str:
    return files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")


def violations(page: Page) -> list[str]:
    """Return what axe finds in the page as it is now."""
    if not page.evaluate("() => 'axe' in window"):
        page.evaluate(_axe())
    found: list[str] = page.evaluate(_RUN, RULES)
    return found


def looks(page: Page) -> Iterator[str]:
    """Show the page at each width in each theme, and say which it is; nothing is loaded again."""
    for theme in THEMES:
        page.emulate_media(color_scheme=theme)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            yield f"{width} {theme}"


def sideways(page: Page) -> list[str]:
    """Return what makes the page scroll sideways at its present width; scrollers of their own may hold wide things."""
    found: list[str] = page.evaluate(
        """() => {
          const root = document.scrollingElement;
          const clipped = (e) => {  // by an ancestor: then it is not what makes the page wide
            for (let up = e.parentElement; up && up !== document.body; up = up.parentElement)
              if (getComputedStyle(up).overflowX !== 'visible') return true;
            return false;
          };
          if (root.scrollWidth <= root.clientWidth) return [];
          const wide = [...document.querySelectorAll('body *')].filter(
            (element) => element.getBoundingClientRect().right > root.clientWidth + 1 && !clipped(element));
          const named = (e) => `${Math.round(e.getBoundingClientRect().right)}: ${e.outerHTML.slice(0, 120)}`;
          return [`${root.scrollWidth} > ${root.clientWidth}`, ...wide.slice(0, 8).map(named)];
        }"""
    )
    return found
