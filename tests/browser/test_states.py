"""States that a desk is in when it is not busy: nothing yet, no match, no permission, an error, the other database."""

import re
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect
from psycopg import sql

from tests.browser.seeding import make_shop, seeded_shop
from tests.browser.serving import serve_pages
from tests.browser.test_mounts import walk


def test_nothing_yet_shows_how_to_record_the_first_run(new_context, empty_desk):
    page = new_context(base_url=empty_desk.url).new_page()
    page.goto("runs")
    expect(page.locator("main")).to_contain_text("@workflow")
    page.goto("")
    expect(page.locator("main")).to_contain_text("No run has been recorded yet")
    expect(page.locator("main")).to_contain_text("@workflow")


def test_no_match_says_which_filter_to_drop(page):
    page.goto("runs?q=workflow:checkout-finalize key:no-such-key")
    expect(page.locator("main")).to_contain_text("no-such-key")
    page.locator("main .empty a, main [class*=empty] a").first.click()
    assert page.locator("[data-run]").count() > 0


def test_an_unknown_field_is_named_with_its_neighbour(page):
    page.goto("runs?q=stauts:failed")
    expect(page.locator("main")).to_contain_text(re.compile("stauts.*status"))


def test_who_may_only_read_sees_the_action_off_and_the_reason(new_context, desk):
    page = new_context(base_url=desk.url, extra_http_headers={"X-Who": "reader"}).new_page()
    page.goto(desk.run_url("uninvoiced"))
    button = page.get_by_role("button", name=re.compile("^Resume")).first
    expect(button).to_be_disabled()
    expect(page.locator("main")).to_contain_text("workflows:retry")


def test_payloads_are_not_in_the_page_of_who_may_not_see_them(new_context, desk):
    page = new_context(base_url=desk.url, extra_http_headers={"X-Who": "blind"}).new_page()
    for path in (
        "runs",
        "runs?q=status:failed",
        f"runs/{desk.shop.ids['uninvoiced']}",
        f"runs/{desk.shop.ids['uninvoiced']}?step=1&tab=output",
    ):
        page.goto(path)
        for secret in ("503 Service Unavailable", "Deluxe double", "ada@example.com"):
            assert secret not in page.content(), path


def test_other_workflows_do_not_exist_for_who_may_not_see_them(new_context, desk, watch):
    watch.expect("status of 404")
    page = new_context(base_url=desk.url, extra_http_headers={"X-Who": "rebooking-only"}).new_page()
    for path in ("", "runs", "runs?q=status:failed", "workflows"):
        page.goto(path)
        assert "checkout-finalize" not in page.locator("main").inner_text(), path
    assert page.goto(desk.run_url("uninvoiced")).status == 404
    assert page.goto(desk.run_url("resume only")).status == 200


@contextmanager
def locked_out(server, url):
    """The database refuses everybody while the block runs."""
    name = sql.Identifier(urlsplit(url).path.strip("/"))
    server.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))
    server.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name.as_string().strip('"')]
    )
    try:
        yield
    finally:
        server.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name))


def test_without_a_database_the_page_says_so_and_comes_back(postgres_url, request, new_context, watch):
    _, server = request.getfixturevalue("_postgres")
    watch.expect("status of 503|ERR_")
    shop = make_shop(postgres_url)
    with serve_pages(shop) as desk:
        page = new_context(base_url=desk.url).new_page()
        with locked_out(server, postgres_url):
            assert page.goto("runs").status == 503
            expect(page.locator("h1")).to_contain_text("database")
            expect(page.locator("main")).to_contain_text("Request")
        page.get_by_role("link", name="Try again").click()
        expect(page.locator("h1")).to_have_text("Runs")
    shop.close()


def test_another_site_cannot_act(new_context, desk, watch):
    watch.expect("status of 403|ERR_BLOCKED_BY_RESPONSE|frame-ancestors|X-Frame-Options|Refused to")
    failed = desk.shop.fail_at_invoice()
    page = new_context().new_page()
    page.set_content(f"<form id=f method=post action='{desk.run_url(failed)}/resume'><input name=token value=x></form>")
    with page.expect_navigation():
        page.evaluate("() => document.getElementById('f').submit()")
    assert "resume" not in {run.trigger.rpartition(".")[2] for run in desk.shop.runs.desk.runs_by_id([failed])}
    assert page.locator("body").inner_text()


def test_the_pages_cannot_be_framed(new_context, desk, watch):
    watch.expect("frame|ERR_BLOCKED_BY_RESPONSE|X-Frame-Options")
    page = new_context().new_page()
    page.goto(f"{desk.url}runs")
    policy = page.evaluate("async () => Object.fromEntries((await fetch(location.href)).headers)")
    assert "frame-ancestors 'none'" in policy["content-security-policy"]
    assert policy["x-content-type-options"] == "nosniff"
    assert policy["cache-control"] == "no-store"
    assert policy["referrer-policy"]


@pytest.fixture
def postgres_shop(postgres_url):
    made = seeded_shop(postgres_url, history=120, long_runs=False)
    yield made
    made.close()


def test_the_pages_work_on_postgresql(postgres_shop, new_context):
    with serve_pages(postgres_shop) as desk:
        page = new_context(base_url=desk.url).new_page()
        walk(page, postgres_shop, desk.url)
        for path in (
            "runs?q=status:failed since:7d",
            "runs?q=error:503",
            "workflows",
            f"runs/{postgres_shop.ids['hostile']}",
        ):
            assert page.goto(path).status == 200
