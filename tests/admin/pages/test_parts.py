"""Parts of pages for our script, files for people, and two runs side by side."""

from __future__ import annotations

import json
import re

import pytest

from tests.admin.pages.site import BASE, text_of

PATHS = ("/", "/runs", "/runs?q=", "/runs/{failed}", "/runs/{running}", "/workflows", "/workflows/safe")


@pytest.fixture
def site(busy_site):
    return busy_site


# --- parts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
def test_a_live_part_is_the_main_part_and_nothing_around_it(site, ada, path):
    whole, part = ada.get(path.format_map(site.ids)), ada.part(path.format_map(site.ids))
    assert part.status_code == 200
    assert part.headers["vary"] == "x-fragment"
    assert part.headers["etag"]
    assert not [
        tag for tag in ("<html", "<body", '<header class="bar"', "<script", 'i-ok" viewBox') if tag in part.text
    ]
    live = re.findall(r'id="([^"]+)"[^>]* data-live[ >]', whole.text)
    assert live == re.findall(r'id="([^"]+)"[^>]* data-live[ >]', part.text)


@pytest.mark.parametrize("path", ["/runs/{failed}", "/runs/{resume}", "/runs/{cancelled}", "/workflows/resume-only"])
def test_what_has_not_changed_is_not_sent_again(site, ada, path):
    path = path.format_map(site.ids)
    tag = ada.part(path).headers["etag"]
    again = ada.part(path, **{"if-none-match": tag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert ada.part(path, **{"if-none-match": '"other"'}).status_code == 200
    assert ada.get(path, headers={"if-none-match": tag}).status_code == 200  # a whole page says when it was made


def test_what_has_changed_is_sent(site, ada):
    run_id = site.hold()
    tag = ada.part(f"/runs/{run_id}").headers["etag"]
    site.runs.desk.cancel(run_id)
    again = ada.part(f"/runs/{run_id}", **{"if-none-match": tag})
    assert (again.status_code, "Cancel asked for" in text_of(again)) == (200, True)


def test_a_plan_as_a_dialog_is_the_same_form(site, ada):
    for act, run in (("resume", "failed"), ("rerun", "failed"), ("cancel", "running")):
        path = f"/runs/{site.ids[run]}/{act}"
        part, page = ada.part(path, "dialog"), ada.get(path)
        assert 'id="plan-h"' in part.text
        assert not [tag for tag in ("<html", "crumbs") if tag in part.text]
        assert f'action="{BASE}{path}"' in part.text

        def without_token(text):
            return re.sub(r'name="token" value="[^"]*"', "", text)

        assert without_token(part.text).strip() in without_token(page.text)


def test_a_part_that_is_none_of_ours_is_a_page(ada):
    assert "<html" in ada.part("/runs", "everything").text


def test_a_step_is_a_part_or_leads_to_the_run(site, ada):
    path = f"/runs/{site.ids['failed']}/steps/2"
    answer = ada.get(path)
    assert (answer.status_code, answer.headers["location"]) == (303, f"{BASE}/runs/{site.ids['failed']}?step=2")
    for tab, says in (("error", "the ledger is down"), ("attempts", "Attempt 1"), ("nonsense", "the ledger is down")):
        part = ada.part(f"{path}?tab={tab}", "part")
        assert says in text_of(part)
        assert "<html" not in part.text
    assert "canary-output" in ada.part(f"/runs/{site.ids['failed']}/steps/1?tab=output", "part").text


def test_a_page_says_what_to_listen_to(site, ada):
    page = ada.get(f"/runs/{site.ids['running']}").text
    assert re.search(rf'data-events="{BASE}/events\?run={site.ids["running"]}&amp;last=[^"]+" data-live="stream"', page)
    listing = ada.get("/runs?q=status%3Arunning").text
    events = re.search(r'data-events="([^"]+)"', listing)[1]
    assert "q=status%3Arunning" in events
    assert "&amp;new=wfrn_" in events
    older = ada.get(f"/runs?q=&before={site.ids['running']}").text
    assert "new=" not in re.search(r'data-events="([^"]+)"', older)[1]
    assert 'data-live="poll"' in site.client(with_={"live": "poll"}).get("/runs").text


# --- files -----------------------------------------------------------------------------------------------------------


def test_a_payload_is_a_file_as_it_was_recorded(site, ada):
    run = site.ids["succeeded"]
    record = site.runs.desk.get_run(run)
    expected = {"input": record.run.input, "result": record.run.result, "output?step=1": record.steps[0].last.output}
    for part, text in expected.items():
        answer = ada.get(f"/runs/{run}/payload/{part}")
        assert answer.text == text
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-content-type-options"] == "nosniff"
        name = f"{run.replace('_', '')}-{part.partition('?')[0]}.json"
        assert answer.headers["content-disposition"] == f'attachment; filename="{name}"'


def test_the_export_is_the_record_of_the_api(site, ada):
    run = site.ids["failed"]
    answer = ada.get(f"/runs/{run}.json")
    assert answer.headers["content-disposition"] == "attachment"
    data = answer.json()["data"]
    assert data["run"]["id"] == run
    assert data["run"]["input"] == {"note": "canary-input"}
    assert "_break_down" in data["run"]["error"]["stack"]
    assert [step["stepName"] for step in data["steps"]] == ["reserve", "invoice"]
    hidden = site.get(f"/runs/{run}.json", "blind").json()["data"]
    assert (hidden["run"]["payloadsHidden"], hidden["run"]["input"], hidden["run"]["error"]) == (True, None, None)
    assert "canary" not in json.dumps(hidden)


# --- two runs --------------------------------------------------------------------------------------------------------


def test_a_run_is_compared_with_its_workflows_last_success(site, ada):
    page = ada.get(f"/runs/{site.ids['failed']}/compare")
    words = text_of(page)
    assert "Step invoice" in words
    assert "only this run has it" in words
    assert "Step mail" in words
    assert "only the other has it" in words
    assert re.search(r'with=success" aria-current="page"', page.text)


def test_a_run_is_compared_with_the_one_it_came_from(site, ada):
    page = ada.get(f"/runs/{site.ids['resume']}/compare?with=parent")
    assert f'href="{BASE}/runs/{site.ids["resumed"]}"' in page.text
    assert "Step invoice" in text_of(page)
    assert "This run came from no other one." in text_of(ada.get(f"/runs/{site.ids['failed']}/compare?with=parent"))


def test_a_run_is_compared_with_any_other(site, ada):
    one, other = site.run(input={"rooms": 1}), site.run(input={"rooms": 2, "late": True})
    words = text_of(ada.get(f"/runs/{one}/compare?with={other}"))
    assert "2 differences" in words
    assert "rooms" in words
    assert "absent" in words
    assert ada.get(f"/compare?run={one}&run={other}").headers["location"] == f"{BASE}/runs/{other}/compare?with={one}"


def test_equal_runs_are_said_to_be_equal(site, ada):
    one = site.run()
    assert "are the same" in text_of(ada.get(f"/runs/{one}/compare?with={one}"))


def test_what_cannot_be_compared_is_said(site, ada):
    for wanted in ("none", "", site.ids["failed"][:-1]):
        assert ada.get(f"/runs/{site.ids['failed']}/compare?with={wanted}").status_code == 404
    assert "no other run that succeeded" in text_of(ada.get(f"/runs/{site.ids['observed']}/compare"))


# --- every state -----------------------------------------------------------------------------------------------------


def test_every_run_in_every_state_is_shown_whole(site):
    """An undefined name in a template is an error here (``strict``)."""
    for name, run_id in site.ids.items():
        paths = [f"/runs/{run_id}", f"/runs/{run_id}?scale=squeezed&q=&step=1&tab=output"]
        paths += [f"/runs/{run_id}/{act}" for act in ("resume", "rerun", "cancel", "compare", "compare?with=parent")]
        for path in paths:
            assert site.get(path).status_code == 200, (name, path)
        assert site.get(paths[1], "blind").status_code == 200, name
