"""By keys alone: every control can be reached and is seen to have the focus; a dialog keeps it and gives it back."""

import re

import pytest
from playwright.sync_api import expect

_MISSED = """() => [...document.querySelectorAll(':is(main, header) :is(a[href], button, input, select, textarea, summary)')]
  .filter((e) => e.checkVisibility() && !e.disabled && e.tabIndex >= 0 && e.type !== 'hidden' && !e.dataset.reached)
  .map((e) => e.outerHTML.slice(0, 120))"""
_FOCUSED = """() => {
  const e = document.activeElement;
  if (!e || e === document.body) return null;
  e.dataset.reached = 'yes';
  const style = getComputedStyle(e);
  const hit = e.querySelector('.hit'); // a bar of a histogram: its outline is the rectangle's
  const outline = (style.outlineStyle !== 'none' && style.outlineWidth !== '0px') || (hit && getComputedStyle(hit).stroke !== 'none');
  return {what: e.outerHTML.slice(0, 120), outline};
}"""


@pytest.mark.parametrize("path", ["", "runs", "runs/{id}", "runs/{id}/resume", "workflows"])
def test_every_control_is_reached_by_tab_and_shows_the_focus(path, page, desk):
    page.goto(path.replace("{id}", desk.shop.ids["uninvoiced"]))
    controls = len(page.evaluate(_MISSED))
    bare = []
    for _ in range(controls + 20):
        page.keyboard.press("Tab")
        focused = page.evaluate(_FOCUSED)
        if focused is not None and not focused["outline"]:
            bare.append(focused["what"])
    assert not bare
    assert controls > 5
    assert not page.evaluate(_MISSED)


def test_rows_are_walked_picked_and_opened(page):
    page.goto("runs")
    page.keyboard.press("j")
    page.keyboard.press("j")
    second = page.locator("[data-run]").nth(1)
    expect(second.locator("a:focus")).to_have_count(1)
    page.keyboard.press("x")
    expect(second.locator("input[type=checkbox]")).to_be_checked()
    expect(page.locator("#picked")).to_contain_text("1 selected")
    page.keyboard.press("k")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/runs/wfrn_"))


def test_the_focus_returns_to_what_opened_the_dialog(page, desk):
    page.goto(desk.run_url("uninvoiced"))
    opener = page.locator("a[data-dialog][href$='/resume']").first
    opener.focus()
    page.keyboard.press("Enter")
    expect(page.locator("dialog#dialog")).to_be_visible()
    for _ in range(30):
        page.keyboard.press("Tab")
        assert page.evaluate(
            "() => document.activeElement === document.body || !!document.activeElement.closest('dialog')"
        )
    page.keyboard.press("Escape")
    expect(page.locator("dialog#dialog")).to_be_hidden()
    expect(opener).to_be_focused()


def test_back_closes_the_dialog(page, desk):
    page.goto(desk.run_url("uninvoiced"))
    page.keyboard.press("r")
    expect(page.locator("dialog#dialog")).to_be_visible()
    page.go_back()
    expect(page.locator("dialog#dialog")).to_be_hidden()
    expect(page).to_have_url(desk.run_url("uninvoiced"))


def test_letters_do_nothing_while_typing_and_can_be_switched_off(page, desk):
    page.goto(desk.run_url("uninvoiced"))
    page.keyboard.press("?")
    page.keyboard.press("r")
    expect(page.locator("dialog#dialog")).to_be_hidden()
    page.locator("dialog#keys [data-keys-toggle]").click()
    page.keyboard.press("Escape")
    page.keyboard.press("r")
    expect(page.locator("dialog#dialog")).to_be_hidden()
    page.reload()
    page.keyboard.press("r")
    expect(page.locator("dialog#dialog")).to_be_hidden()


def test_g_and_a_letter_go_to_a_page_and_slash_to_the_filter(page):
    page.goto("")
    page.keyboard.press("g")
    page.keyboard.press("r")
    expect(page.locator("h1")).to_have_text("Runs")
    page.keyboard.press("/")
    page.keyboard.type("status:failed")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("status"))


def test_the_theme_is_chosen_and_kept(page):
    page.emulate_media(color_scheme="light")
    page.goto("runs")
    page.keyboard.press("t")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    assert page.evaluate("() => getComputedStyle(document.documentElement).backgroundColor") == "rgb(14, 16, 19)"
