"""The list of runs as it is asked: what is wrong with a query, where ids lead, paging, what to drop, the jump."""

from __future__ import annotations

import re
from html import unescape
from urllib.parse import quote, unquote_plus

import pytest

from tests.admin.pages.site import BASE, text_of
from workflow_runs.admin.pages import runs as runs_page
from workflow_runs.store import figures


def listed(answer):
    """The ids of the rows, as they stand."""
    return re.findall(r'data-run="([^"]+)"', answer.text)


def runs(client, q, **more):
    rest = "".join(f"&{name}={quote(value)}" for name, value in more.items())
    return client.get(f"/runs?q={quote(q)}{rest}")


def test_a_field_that_is_none_is_said_under_the_bar_with_the_nearest_name(ada):
    page = runs(ada, "stauts:failed")
    assert page.status_code == 200
    assert "There is no field 'stauts'. Did you mean status?" in text_of(page)
    assert 'aria-invalid="true" aria-describedby="q-problem"' in page.text
    assert 'id="q-problem"' in page.text
    assert 'value="stauts:failed"' in page.text
    assert not listed(page)
    assert "No run matches" not in page.text


def test_without_a_query_it_is_the_last_day(ada):
    page = ada.get("/runs")
    assert listed(page) == listed(runs(ada, "since:24h"))
    assert re.search(r'href="[^"]*q=since%3A24h" aria-current="page"', page.text)
    assert 'value="since:24h"' in page.text


def test_an_empty_query_is_all(ada):
    assert 'aria-current="page">All</a>' in runs(ada, "").text


def test_the_id_of_a_run_opens_it(site, ada):
    for q in (site.ids["failed"], f"status:running {site.ids['failed']}", "wfrn_01m81srpafe07vg00hcm7rdwd5"):
        answer = runs(ada, q)
        assert (answer.status_code, answer.headers["location"]) == (303, f"{BASE}/runs/{q.split()[-1]}")
    assert ada.part(f"/runs?q={site.ids['failed']}").status_code == 200


def test_a_bare_word_is_a_key_and_else_offered_as_a_word_of_errors(site, ada):
    assert listed(runs(ada, "key-2")) == [site.ids["failed"]]
    page = runs(ada, "ledger")
    assert not listed(page)
    (href,) = re.findall(r'href="([^"]+)">Search for it in error messages', page.text)
    assert site.ids["failed"] in listed(ada.get(unescape(href).removeprefix(BASE)))


def test_a_search_that_reads_texts_says_how_far_it_looks(ada):
    assert "Text is searched in the last days only" in text_of(runs(ada, "error:ledger"))
    assert "Text is searched" not in text_of(runs(ada, "error:ledger since:30d"))


def test_without_a_match_it_says_what_to_drop(site, ada):
    page = runs(ada, "key:key-2 status:running")
    assert "No run matches" in text_of(page)
    found = re.search(r'Without <code><bdi>status:running</bdi></code>: <a [^>]*href="([^"]+)">1 run</a>', page.text)
    assert listed(ada.get(unescape(found[1]).removeprefix(BASE))) == [site.ids["failed"]]
    assert "Without <code><bdi>key:key-2" in page.text
    assert "All runs" in text_of(runs(ada, "key:none tag:none"))


def test_a_term_is_taken_away_by_its_cross(ada):
    page = runs(ada, 'status:failed key:"a b" -tag:x')
    assert {unquote_plus(unescape(href)) for href in re.findall(r'href="([^"]+)" aria-label="Remove', page.text)} == {
        f'{BASE}/runs?q=key:"a b" -tag:x',
        f"{BASE}/runs?q=status:failed -tag:x",
        f'{BASE}/runs?q=status:failed key:"a b"',
    }


def test_paging_to_the_end_shows_each_run_once(site, ada, monkeypatch):
    monkeypatch.setattr("workflow_runs.admin.pages.runs.PAGE", 4)
    expected = [run.id for run in site.runs_of()]
    seen, page = [], runs(ada, "")
    while True:
        assert 1 <= len(listed(page)) <= 4
        seen += listed(page)
        older = re.search(r'href="([^"]+)" rel="next"', page.text)
        if older is None:
            break
        page = ada.get(unescape(older[1]).removeprefix(BASE))
        assert "Newest</a>" in page.text
    assert seen == expected
    assert len(seen) > 12


def test_the_links_of_a_row_keep_the_list_that_it_stands_in(site, ada):
    page = runs(ada, "status:failed")
    assert f'href="{BASE}/runs/{site.ids["doubtful"]}?q=status%3Afailed"' in page.text
    run = ada.get(f"/runs/{site.ids['doubtful']}?q=status%3Afailed")
    rows = listed(page)
    place = rows.index(site.ids["doubtful"])
    assert f"{place + 1} of {len(rows)}" in text_of(run)
    for key, beside in (("[", rows[place - 1]), ("]", rows[place + 1])):
        assert f'href="{BASE}/runs/{beside}?q=status%3Afailed" data-key="{key}"' in run.text


def test_bars_that_do_not_count_all_say_how_many(ada, monkeypatch):
    said = "The bars count the newest 3 of the runs that have to be looked at one by one."
    for module in (figures, runs_page):
        monkeypatch.setattr(module, "HISTOGRAM_ROWS_MAX", 3)
    assert said in text_of(runs(ada, "trigger:api"))
    assert "The bars count the newest" not in text_of(runs(ada, "key:key-1"))
    assert "The bars count the newest" not in text_of(runs(ada, "status:failed from:2026-01-01"))


def test_a_bar_narrows_the_list_to_its_time(site, ada):
    page = runs(ada, "since:24h status:failed")
    bars = re.findall(r'<a href="([^"]+)" aria-label="[^"]*: 0 succeeded, [1-9]\d* failed', page.text)
    assert bars
    narrowed = ada.get(unescape(bars[-1]).removeprefix(BASE))
    assert narrowed.status_code == 200
    assert set(listed(narrowed)) <= set(listed(page))
    assert site.ids["failed"] in listed(narrowed)
    assert "since%3A24h" not in bars[-1]


def test_rows_are_given_by_id_in_the_order_asked_for(site, ada):
    ids = [site.ids["failed"], "none", site.ids["running"]]
    rows = ada.get("/rows?" + "&".join(f"run={run_id}" for run_id in ids) + "&q=is%3Aroot")
    assert listed(rows) == [site.ids["failed"], site.ids["running"]]
    assert "<html" not in rows.text
    assert f'href="{BASE}/runs/{site.ids["failed"]}?q=is%3Aroot"' in rows.text
    assert listed(ada.get("/rows")) == []


@pytest.mark.parametrize(
    ("text", "leads_to"),
    [
        ("{failed}", "/runs/{failed}"),
        ("  {failed}\n", "/runs/{failed}"),
        ("key-2", "/runs/{failed}"),
        ("key-3", "/runs?q=key%3Akey-3"),
        ("nothing of the kind", "/runs?q=nothing+of+the+kind"),
        ("//evil.example", "/runs?q=%2F%2Fevil.example"),
        ("https://evil.example/", "/runs?q=https%3A%2F%2Fevil.example%2F"),
        ("/\\evil.example", "/runs?q=%2F%5Cevil.example"),
        ("", "/runs"),
    ],
)
def test_the_jump_leads_to_the_run_or_to_its_list(site, ada, text, leads_to):
    answer = ada.get(f"/jump?q={quote(text.format_map(site.ids))}")
    assert (answer.status_code, answer.headers["location"]) == (303, BASE + leads_to.format_map(site.ids))


def test_completion_knows_the_workflows_that_somebody_sees(site):
    def words(who):
        return unescape(unescape(re.search(r'data-values="([^"]*)"', site.get("/runs", who).text)[1]))

    assert '"unsafe"' in words("all")
    assert '"unsafe"' not in words("safe-only")
    assert '"safe"' in words("safe-only")
