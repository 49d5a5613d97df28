"""The form that starts a run: made from the schema of the input, or for JSON; what is wrong with it, and sending it twice."""

from __future__ import annotations

import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from html import unescape

import pytest

from tests.admin.pages.site import BASE, text_of

PATH = "/workflows/booking/run"
FILLED = {"f-nights": "3", "f-room": "double", "f-guest": '{"name": "Ada"}', "f-note": "sea view"}


@pytest.fixture
def site(busy_site):
    return busy_site


def started(site, answer):
    assert answer.status_code == 303, text_of(answer)
    run = site.runs.wait(answer.headers["location"].removeprefix(f"{BASE}/runs/"), 20)
    return run, json.loads(run.input)


def problems(answer):
    """The words beside the fields."""
    return [unescape(words) for words in re.findall(r'class="problem bad"[^>]*>([^<]*)<', answer.text)]


# --- from a schema ---------------------------------------------------------------------------------------------------


def test_the_form_has_a_field_of_its_kind_for_each_of_the_input(site, ada):
    html = ada.get(PATH).text
    for field in (
        r'<input [^>]*name="f-nights" value="2"[^>]*inputmode="decimal"[^>]* required',
        r'<select [^>]*name="f-room" required>',
        r"<option>single</option><option selected>double</option>",
        r'<textarea [^>]*name="f-guest"[^>]*required>',
        r'<input type="checkbox" name="f-breakfast" value="yes">',
        r'<input [^>]*name="f-note" value="none"',
    ):
        assert re.search(field, html), field
    assert "The form holds the input of the newest run." in html


def test_what_is_filled_in_is_the_input(site, ada):
    fields = {**FILLED, "f-breakfast": "yes", "key": " bk_9 ", "tags": "by-hand\n\nmarket:ro "}
    run, given = started(site, ada.send(PATH, {**ada.form(PATH), **fields}))
    assert given == {"nights": 3, "room": "double", "guest": {"name": "Ada"}, "breakfast": True, "note": "sea view"}
    assert (run.correlation_id, run.tags, run.triggered_by_user_id) == ("bk_9", ("by-hand", "market:ro"), "ada")
    assert site.runs.desk.audit(run.id)[0].action == "trigger"


def test_what_is_left_out_has_its_default_and_a_box_without_a_tick_is_no(site, ada):
    fields = {**FILLED, "f-note": ""}
    assert started(site, ada.send(PATH, {**ada.form(PATH), **fields}))[1] == {
        "nights": 3,
        "room": "double",
        "guest": {"name": "Ada"},
        "breakfast": False,
    }


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("nights", "many", "nights has to be a number."),
        ("nights", "2.5", "integer"),
        ("nights", "[2]", "integer"),
        ("nights", "", "required"),
        ("room", "cellar", "single"),
        ("guest", "Ada", "guest has to be JSON."),
        ("guest", "{}", "required"),
        ("guest", '{"name": "Ada", "age": "old"}', "integer"),
    ],
)
def test_what_is_wrong_stands_beside_its_field(site, ada, field, value, says):
    before = len(site.runs_of(workflow_names=("booking",)))
    answer = ada.send(PATH, {**ada.form(PATH), **FILLED, f"f-{field}": value, "key": "kept"})
    assert answer.status_code == 400
    (words,) = problems(answer)
    assert says in words.lower() or says in words
    beside = answer.text.partition(f'name="f-{field}"')[2].partition('<div class="field">')[0]
    assert 'class="problem bad"' in beside
    assert 'value="kept"' in answer.text
    assert "sea view" in answer.text
    assert len(site.runs_of(workflow_names=("booking",))) == before


@pytest.mark.parametrize(
    ("field", "value"), [("key", "x" * 256), ("key", "a\x07b"), ("tags", "t" * 129), ("tags", "\n".join("ab" * 26))]
)
def test_a_key_or_a_tag_that_is_none_is_said(site, ada, field, value):
    answer = ada.send(PATH, {**ada.form(PATH), **FILLED, field: value})
    assert answer.status_code == 400
    assert "notice bad" in answer.text
    assert hidden_token(answer) != ""


def hidden_token(answer):
    return re.search(r'name="token" value="([^"]+)"', answer.text)[1]


# --- JSON ------------------------------------------------------------------------------------------------------------


def test_a_workflow_without_a_schema_is_started_with_json(site, ada):
    path = "/workflows/safe/run"
    assert started(site, ada.send(path, {**ada.form(path), "input": ' {"a": [1, 2]} '}))[1] == {"a": [1, 2]}
    assert "&#34;a&#34;: [1, 2]" in ada.get(path).text  # the newest run's input is what the next one begins with
    site.clock.ahead_ms += 1
    assert started(site, ada.send(path, {**ada.form(path), "input": "  "}))[1] == {}


@pytest.mark.parametrize(
    "text", ["{", "{'a': 1}", "NaN", '{"a": 1, "a": 2}', "1 2", "[" * 101 + "]" * 101, '"\\ud800"']
)
def test_what_is_no_json_is_shown_again_as_typed(site, ada, text):
    path = "/workflows/safe/run"
    before = len(site.runs_of(workflow_names=("safe",)))
    answer = ada.send(path, {**ada.form(path), "input": text})
    assert answer.status_code == 400
    assert unescape(re.search(r"<textarea id=.input.[^>]*>(.*?)</textarea>", answer.text, re.DOTALL)[1]) == text
    assert "notice bad" in answer.text
    assert len(site.runs_of(workflow_names=("safe",))) == before


# --- once ------------------------------------------------------------------------------------------------------------


def test_the_same_form_sent_again_leads_to_the_same_run(site, ada):
    form = {**ada.form(PATH), **FILLED}
    assert ada.send(PATH, form).headers["location"] == ada.send(PATH, form).headers["location"]


def test_the_same_form_sent_again_after_an_hour_leads_to_the_same_run_all_the_same(site, ada):
    """Whoever lost the answer on a bad line sends it again when the line is back."""
    form = {**ada.form(PATH), **FILLED, "key": "late"}
    first = ada.send(PATH, form)
    site.clock.ahead_ms += 3_600_000
    assert ada.send(PATH, form).headers["location"] == first.headers["location"]
    other = ada.send(PATH, {**form, "f-nights": "9"})
    assert (other.status_code, "sent already" in text_of(other)) == (409, True)
    assert len(site.runs_of(correlation_id="late")) == 1


def test_the_same_form_sent_twenty_times_at_once_makes_one_run(site, ada):
    form, start = {**ada.form(PATH), **FILLED, "key": "once"}, threading.Barrier(20)

    def send(_number):
        client = site.client()
        start.wait()
        return client.send(PATH, form).headers.get("location")

    with ThreadPoolExecutor(20) as threads:
        answers = set(threads.map(send, range(20)))
    (made,) = site.runs_of(correlation_id="once")
    assert answers == {f"{BASE}/runs/{made.id}"}


def test_a_form_that_was_sent_and_is_filled_in_anew_is_asked_about(site, ada):
    """Whoever goes back in the browser, changes a value and sends: another run, but not by accident."""
    form = {**ada.form(PATH), **FILLED}
    first = ada.send(PATH, form)
    site.clock.ahead_ms += 1
    again = ada.send(PATH, {**form, "f-nights": "9"})
    assert again.status_code == 409
    assert "sent already" in text_of(again)
    assert 'value="9"' in again.text
    other = ada.send(PATH, {**form, "f-nights": "9", "token": hidden_token(again)})
    assert other.headers["location"] != first.headers["location"]


@pytest.mark.parametrize("sent", [{}, {"token": "x"}])
def test_without_its_token_nothing_is_started_and_nothing_typed_is_lost(site, ada, sent):
    before = len(site.runs_of())
    answer = ada.send(PATH, {**FILLED, **sent})
    assert (answer.status_code, "sea view" in answer.text) == (409, True)
    assert len(site.runs_of()) == before


def test_a_form_is_good_for_five_minutes_and_for_one_workflow(site, ada):
    form, before = ada.form(PATH), len(site.runs_of())
    assert ada.send("/workflows/safe/run", {**form, "input": "{}"}).status_code == 409
    site.clock.ahead_ms += 301_000
    assert ada.send(PATH, {**form, **FILLED}).status_code == 409
    assert len(site.runs_of()) == before


# --- who and what cannot ---------------------------------------------------------------------------------------------


def test_a_reader_sees_the_form_and_cannot_send_it(site):
    reader = site.client("reader")
    page = reader.get(PATH)
    assert re.search(r'<button class="btn pri" type="submit" disabled', page.text)
    assert reader.send(PATH, {**reader.form(PATH), **FILLED}).status_code == 403
    assert f'href="{BASE}{PATH}"' not in reader.get("/workflows").text


def test_what_cannot_be_triggered_says_so(site, ada):
    page = ada.get("/workflows/no-handlers/run")
    assert "Its runner has no trigger handler." in text_of(page)
    answer = ada.send("/workflows/no-handlers/run", {**ada.form("/workflows/no-handlers/run"), "input": "{}"})
    assert 400 <= answer.status_code < 600
    assert "trigger" in text_of(answer)
    assert ada.get("/workflows/settled-elsewhere/run").status_code == 404


def test_whoever_may_not_see_payloads_gets_an_empty_form(site):
    page = site.get(PATH, "blind").text
    assert "canary" not in page
    assert "The form holds the input of the newest run." not in page
