"""The jobs of an operator, each with the clicks it may take. Typing is no click, and neither is a key.

Numbers and targets: the table of jobs in the design of the pages. Jobs that need what is not built yet (bulk) are not here.
"""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.watching import clicks
from workflow_runs.model.states import RunState, RunStatus

PLAN = "dialog#dialog"
ACT = "form[method=post] button[type=submit]"
SAFE = "Yes. Nothing that already happened will repeat."


def id_in(page):
    return re.search(r"/runs/(wfrn_[0-9a-z]{26})", page.url)[1]


def expect_new_run(page, old, shop):
    """The browser has landed on another run than the old one; returns its id."""
    expect(page).to_have_url(re.compile(r"/runs/wfrn_[0-9a-z]{26}$"))
    expect(page).not_to_have_url(re.compile(old))
    return id_in(page)


def test_1_a_failure_in_the_night_is_understood_without_a_click_and_resumed_with_two(page, desk, watch):
    shop = desk.shop
    failed = shop.fail_at_invoice()
    order = shop.runs.store.get_run(failed).correlation_id
    page.goto(desk.run_url(failed))
    for told in ("issue-invoice", f"invoicing answers 503 Service Unavailable for {order}", SAFE):
        expect(page.locator("main").get_by_text(told).first).to_be_in_viewport()
    assert clicks(page) == 0
    page.get_by_role("link", name=re.compile("^Resume")).first.click()
    page.locator(PLAN).get_by_role("button", name=re.compile("^Resume")).click()
    resumed = expect_new_run(page, failed, shop)
    expect(page.locator("main .st.chip").first).to_have_text(re.compile("Succeeded"))  # job 4: nobody asked
    assert clicks(page) == 2
    assert shop.runs.store.get_run(resumed).status is RunStatus.SUCCEEDED
    assert shop.world.effects["charge", order] == 1


def test_1_by_keys_alone(page, desk):
    failed = desk.shop.fail_at_invoice()
    page.goto(desk.run_url(failed))
    page.keyboard.press("r")
    expect(page.locator(PLAN)).to_be_visible()
    page.keyboard.press("Enter")
    expect_new_run(page, failed, desk.shop)
    expect(page.locator("main .st.chip").first).to_have_text(re.compile("Succeeded"))
    assert clicks(page) == 0


def test_2_the_runs_of_a_booking_take_a_paste_or_one_click_on_its_key(page, desk):
    run = desk.shop.runs.store.get_run(desk.shop.ids["succeeded"])
    page.goto("runs")
    page.keyboard.press("Control+k")
    page.keyboard.insert_text(run.correlation_id)
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"/runs\?q=key"))  # it was rerun: two runs
    expect(page.locator("[data-run]")).to_have_count(2)
    assert clicks(page) == 0
    page.goto(desk.run_url("succeeded"))
    page.get_by_role("link", name=run.correlation_id).first.click()
    expect(page.locator("[data-run]")).to_have_count(2)
    assert clicks(page) == 1


def test_2_one_hit_opens_it(page, desk):
    run = desk.shop.runs.store.get_run(desk.shop.ids["uninvoiced"])
    for pasted in (run.correlation_id, run.id):
        page.goto("runs")
        page.keyboard.press("Control+k")
        page.keyboard.insert_text(f" {pasted} ")
        page.keyboard.press("Enter")
        expect(page).to_have_url(re.compile(run.id))


def test_5_what_is_stuck_or_waits_is_on_the_first_page_and_its_list_one_click_away(page, desk):
    page.goto("")
    attention = page.locator("main")
    expect(attention.get_by_text("stuck").first).to_be_visible()
    expect(attention.locator(f"a[href*='{desk.shop.ids['stuck']}']").first).to_be_visible()
    page.locator("a[href*='is%3Astuck']").first.click()
    expect(page.locator(f"[data-run='{desk.shop.ids['stuck']}']")).to_be_visible()
    assert clicks(page) == 1


def test_6_again_from_an_earlier_step_takes_three_clicks_and_says_why_it_is_asked_for(page, desk):
    shop = desk.shop
    failed = shop.fail_at_invoice()
    order = shop.runs.store.get_run(failed).correlation_id
    page.goto(desk.run_url(failed))
    page.locator("summary[data-row]").filter(has_text="charge").click()
    page.get_by_role("link", name=re.compile("Resume from here")).locator("visible=true").click()
    plan = page.locator(PLAN)
    expect(plan).to_contain_text("Only with a reason.")
    plan.get_by_label(re.compile("reason", re.IGNORECASE)).fill("the first charge was reversed by the bank")
    typed = plan.locator("input[name=typed]")
    typed.fill(order)
    plan.locator(ACT).click()
    resumed = expect_new_run(page, failed, shop)
    assert clicks(page) == 3
    shop.runs.wait(resumed)
    assert shop.world.effects["charge", order] == 2


def test_7_what_must_not_be_rerun_takes_its_key_and_a_reason_and_offers_the_safe_way_first(page, desk):
    shop = desk.shop
    failed = shop.fail_at_invoice()
    order = shop.runs.store.get_run(failed).correlation_id
    page.goto(desk.run_url(failed))
    page.get_by_role("link", name=re.compile("^Rerun")).first.click()
    plan = page.locator(PLAN)
    expect(plan).to_contain_text("charge")
    expect(plan.get_by_role("link", name="Resume instead")).to_be_focused()
    plan.get_by_label(re.compile("reason", re.IGNORECASE)).fill("the bank lost the first one")
    plan.locator("input[name=typed]").fill(order)
    button = plan.locator(ACT)
    expect(button).to_contain_text(re.compile("charge", re.IGNORECASE))  # it says what would happen again
    button.click()
    rerun = expect_new_run(page, failed, shop)
    assert clicks(page) == 2
    shop.runs.wait(rerun)
    assert shop.world.effects["charge", order] == 2


def test_7_without_the_key_or_the_reason_nothing_happens(page, desk, watch):
    watch.expect("status of 400")
    shop = desk.shop
    failed = shop.fail_at_invoice()
    order = shop.runs.store.get_run(failed).correlation_id
    page.goto(f"runs/{failed}/rerun")
    page.evaluate("() => document.querySelectorAll('form').forEach((form) => { form.noValidate = true; })")
    page.locator("input[name=typed]").fill("bk_0")
    page.locator(ACT).click()
    expect(page.locator("main")).to_contain_text(re.compile("reason", re.IGNORECASE))
    expect(page.locator("[aria-invalid=true]").first).to_be_visible()
    assert shop.world.effects["charge", order] == 1


def test_8_why_it_differs_from_a_good_run_takes_two_clicks(page, desk):
    page.goto(desk.run_url("uninvoiced"))
    page.get_by_role("link", name=re.compile("^Compare")).first.click()
    page.get_by_role("link", name=re.compile("last success", re.IGNORECASE)).first.click()
    expect(page.locator("main")).to_contain_text("bk_")
    expect(page).to_have_url(re.compile(r"compare\?with="))
    assert clicks(page) <= 2


def test_9_who_did_it_and_why_stands_on_the_run(page, desk):
    page.goto(desk.run_url("resumed"))
    expect(page.get_by_text("invoicing is back").first).to_be_visible()
    expect(page.get_by_text("irina.dobre@acme.example").first).to_be_visible()
    assert clicks(page) == 0


def test_10_whether_a_workflow_gets_worse_takes_one_click(page, desk):
    page.goto("")
    page.get_by_role("navigation", name="Main").get_by_role("link", name="Workflows").click()
    row = page.locator("[data-row]").filter(has_text="checkout-finalize")
    expect(row).to_contain_text("%")
    expect(row).to_contain_text(re.compile(r"\d (ms|s)"))
    expect(row.locator("svg.sp").first).to_be_visible()
    assert clicks(page) == 1


def test_11_a_runaway_is_stopped_with_two_clicks(page, desk):
    shop = desk.shop
    run_id = shop.trigger("visa-check", "P-77", about="bk_runaway")
    shop.until(run_id, lambda run: run.state is RunState.UNKNOWN)
    page.goto(desk.run_url(run_id))
    page.get_by_role("link", name=re.compile("^Cancel")).first.click()
    page.locator(PLAN).locator(ACT).click()
    expect(page.locator("main .st.chip").first).to_have_text(re.compile("Cancelled"))
    assert clicks(page) == 2
    assert shop.runs.store.get_run(run_id).status is RunStatus.CANCELLED


def test_12_every_state_is_its_address(page, desk, new_context):
    page.goto(desk.run_url("uninvoiced"))
    page.keyboard.press("r")
    expect(page.locator(PLAN)).to_contain_text(SAFE)
    shared = page.url
    colleague = new_context(base_url=desk.url).new_page()
    colleague.goto(shared)
    expect(colleague.locator("main")).to_contain_text(SAFE)
    page.keyboard.press("Escape")
    expect(page).to_have_url(desk.run_url("uninvoiced"))


def test_13_a_run_by_hand_takes_three_clicks(page, desk):
    page.goto("")
    page.get_by_role("navigation", name="Main").get_by_role("link", name="Workflows").click()
    page.locator("[data-row]").filter(has_text="loyalty-points").get_by_role("link", name=re.compile("Run")).click()
    page.locator("form[method=post]").get_by_label("input").fill("m-by-hand")
    page.locator(ACT).click()
    expect(page).to_have_url(re.compile(r"/runs/wfrn_[0-9a-z]{26}$"))
    expect(page.locator("main .st.chip").first).to_have_text(re.compile("Succeeded"))
    assert clicks(page) == 3


def test_a_stale_plan_is_shown_again_and_does_nothing(page, desk, watch):
    watch.expect("status of 409")
    shop = desk.shop
    failed = shop.fail_at_invoice()
    page.goto(f"runs/{failed}/resume")
    other = shop.runs.desk.resume(failed, actor="somebody else").run_id
    shop.runs.wait(other)
    page.locator(ACT).click()
    expect(page.locator("main")).to_contain_text("resume of this run exists already")


def test_a_possible_effect_asks_for_a_look_first(page, desk):
    shop = desk.shop
    failed = shop.fail_at_charge()
    page.goto(desk.run_url(failed))
    expect(page.locator("main")).to_contain_text(
        re.compile("Check first: .*charge.* may have taken effect before it failed.")
    )
    page.keyboard.press("r")
    plan = page.locator(PLAN)
    expect(plan.locator(ACT)).not_to_be_focused()
    plan.get_by_role("checkbox").check()
    plan.get_by_label(re.compile("reason", re.IGNORECASE)).fill("the bank shows no charge")
    plan.locator(ACT).click()
    resumed = expect_new_run(page, failed, shop)
    assert shop.runs.wait(resumed).status is RunStatus.SUCCEEDED


@pytest.mark.parametrize(
    ("run", "says"),
    [
        ("guard refuses", "deadline has passed"),
        ("unregistered", re.compile("not registered|no runner|legacy-invoicing", re.IGNORECASE)),
        ("resumed parent", re.compile("exists already|resumed already", re.IGNORECASE)),
    ],
)
def test_where_the_answer_is_no_the_button_is_off_and_says_why(run, says, page, desk):
    page.goto(f"{desk.run_url(run)}/resume")
    expect(page.locator("main")).to_contain_text("No.")
    expect(page.locator("main")).to_contain_text(says)
    assert page.locator("form[method=post] button:not([disabled])[type=submit]").count() == 0


def test_a_guard_that_raises_is_not_taken_for_a_yes_and_its_words_stay_secret(page, desk):
    page.goto(f"{desk.run_url('guard raises')}/resume")
    expect(page.locator("main")).not_to_contain_text(SAFE)
    expect(page.locator("main")).not_to_contain_text("secret of the guard")
