"""Without JavaScript the desk reads, filters, pages, shows plans and acts."""

import re

from playwright.sync_api import expect

from tests.browser.catalogue import VIEWS
from tests.browser.test_jobs import SAFE
from workflow_runs.model.states import RunStatus


def test_every_page_is_read(plain_page, desk):
    for view in VIEWS:
        if view.way is None and view.who == "operator" and view.status == 200 and not view.is_empty:
            answer = plain_page.goto(view.address(desk.shop))
            assert answer.status == 200, view.name
            assert plain_page.locator("main h1").count() == 1, view.name
            assert not plain_page.locator("button:visible[data-copy], button:visible[data-theme-toggle]").count(), (
                view.name
            )


def test_the_list_is_filtered_and_paged(plain_page, desk):
    plain_page.goto("runs")
    plain_page.locator("input[name=q]").first.fill("workflow:checkout-finalize status:succeeded since:7d")
    plain_page.keyboard.press("Enter")
    rows = plain_page.locator("[data-run]")
    expect(rows).to_have_count(50)
    first = rows.first.get_attribute("data-run")
    plain_page.get_by_role("link", name=re.compile("Older")).click()
    assert plain_page.locator("[data-run]").first.get_attribute("data-run") < first
    plain_page.get_by_role("link", name=re.compile("Remove filter status|Remove.*status")).click()
    assert "status" not in plain_page.url


def test_a_step_opens(plain_page, desk):
    plain_page.goto(desk.run_url("uninvoiced"))
    plain_page.locator("summary[data-row]").filter(has_text="confirm-booking").click()
    link = plain_page.get_by_role("link", name=re.compile("Output|Show")).locator("visible=true")
    if link.count():
        link.first.click()
    expect(plain_page.locator("main")).to_contain_text("Deluxe double")


def test_a_plan_is_opened_and_a_run_resumed(plain_page, desk):
    failed = desk.shop.fail_at_invoice()
    plain_page.goto(desk.run_url(failed))
    plain_page.get_by_role("link", name=re.compile("^Resume")).first.click()
    expect(plain_page).to_have_url(re.compile("/resume"))
    expect(plain_page.locator("main")).to_contain_text(SAFE)
    plain_page.get_by_role("button", name=re.compile("^Resume")).click()
    expect(plain_page).to_have_url(re.compile(r"/runs/wfrn_[0-9a-z]{26}$"))
    resumed = plain_page.url.rpartition("/")[2]
    assert desk.shop.runs.wait(resumed).status is RunStatus.SUCCEEDED
    plain_page.get_by_role("link", name="Refresh").click()
    expect(plain_page.locator("main .st.chip").first).to_have_text(re.compile("Succeeded"))
