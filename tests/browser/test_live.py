"""What happens while a page is open appears on it, by events and the fragments they lead to; lists are never pushed around."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.serving import serve_pages


def test_a_run_that_ends_says_so_on_its_page(page, desk, watch):
    shop = desk.shop
    run_id = shop.trigger("visa-check", "P-live", about="bk_live")
    shop.until(run_id, lambda run: run.state.value == "unknown")
    page.goto(desk.run_url(run_id))
    expect(page.locator(".live")).to_contain_text("Live")
    shop.runs.desk.cancel(run_id, actor="somebody else", reason="live test")
    expect(page.locator("main .st.chip").first).to_have_text(re.compile("Cancelled"))
    expect(page.locator("#say")).to_contain_text(re.compile("cancelled", re.IGNORECASE))


def test_new_runs_wait_behind_a_pill_and_rows_change_in_place(page, desk):
    shop = desk.shop
    run_id = shop.trigger("visa-check", "P-row", about="bk_row")
    shop.until(run_id, lambda run: run.state.value == "unknown")
    page.goto("runs?q=workflow:visa-check")
    row = page.locator(f"[data-run='{run_id}']")
    count = page.locator("[data-run]").count()
    with page.expect_response(lambda answer: "/rows?" in answer.url):
        shop.runs.desk.cancel(run_id, actor="somebody else")
    expect(row).to_contain_text("Cancelled")
    shop.trigger("visa-check", "P-new", about="bk_new")
    pill = page.locator("[data-new-pill]")
    expect(pill).to_be_visible()
    assert page.locator("[data-run]").count() == count
    pill.click()
    expect(page.locator("[data-run]")).to_have_count(count + 1)


def test_a_list_asks_for_the_rows_that_changed_and_not_for_itself(page, desk, watch):
    shop = desk.shop
    run_id = shop.trigger("visa-check", "P-rows", about="bk_rows")
    shop.until(run_id, lambda run: run.state.value == "unknown")
    page.goto("runs")
    watch.requests.clear()
    shop.runs.desk.cancel(run_id, actor="somebody else")
    expect(page.locator(f"[data-run='{run_id}']")).to_contain_text("Cancelled")
    assert not [url for url in watch.requests if not re.search(r"/rows\?|/events\?|/static/", url)]


def test_opened_details_stay_open_when_the_page_changes(page, desk):
    shop = desk.shop
    run_id = shop.trigger("visa-check", "P-open", about="bk_open")
    shop.until(run_id, lambda run: run.state.value == "unknown")
    page.goto(desk.run_url(run_id))
    fold = page.locator("main details").filter(has=page.locator("summary[data-row]")).first
    if fold.get_attribute("open") is None:
        fold.locator("summary").first.click()
    shop.runs.desk.cancel(run_id, actor="somebody else")
    expect(page.locator("main .st.chip").first).to_have_text(re.compile("Cancelled"))
    expect(fold).to_have_attribute("open", "")


@pytest.mark.parametrize("live", ["poll", "off"])
def test_hosts_that_cannot_hold_a_stream_are_not_asked_for_one(live, shop, new_context, watch):
    with serve_pages(shop, live=live) as desk:
        page = new_context(base_url=desk.url).new_page()
        page.goto("runs")
        page.wait_for_load_state("load")
        assert not [url for url in watch.requests if "/events" in url]


def test_a_lost_connection_is_said_and_the_data_stays(shop, new_context, watch):
    watch.expect("ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_EMPTY_RESPONSE|ERR_CONNECTION_RESET")
    with serve_pages(shop) as desk:
        page = new_context(base_url=desk.url).new_page()
        page.clock.install()
        page.goto("runs")
        expect(page.locator(".live")).to_contain_text("Live")
        expect(page.locator("[data-run]").first).to_be_visible()
    page.clock.run_for(15_000)
    expect(page.locator(".live")).to_contain_text("Live paused since")
    expect(page.locator("[data-run]").first).to_be_visible()
