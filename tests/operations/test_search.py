"""The query grammar: what each term asks for, what is refused in which words, and that no text gets past it."""

import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

from workflow_runs.model.records import Choice, RunField, RunFilter, RunKind
from workflow_runs.model.states import RunState, RunStatus, states_of
from workflow_runs.operations import search
from workflow_runs.operations.search import FIELDS, TERMS_MAX, TEXT_MAX, VALUES, VALUES_MAX, parse_query, term_text

NOW = datetime(2026, 11, 22, 10, 0, 0, 250_000, tzinfo=UTC)
RUN_ID = "wfrn_01kas2r0f0e2z8m4n7q3v5y6ab"
WEEK_AGO = NOW - timedelta(days=7)


def read(text, **options):
    return parse_query(text, NOW, **{"me": "ada"} | options)


def where(text, **options):
    found = read(text, **options)
    assert found.problem is None, found.problem
    return found.where


def chosen(field, *values, path=()):
    return Choice(field, values, path)


def left_out(field, *values, **more):
    return RunFilter(excluded=(RunFilter(choices=(chosen(field, *values),)),), **more)


# --- what terms ask for -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("", RunFilter()),
        ("  \n\t ", RunFilter()),
        ("status:failed", RunFilter(statuses=(RunStatus.FAILED,))),
        ("Status:FAILED", RunFilter(statuses=(RunStatus.FAILED,))),
        ("status:failed,running", RunFilter(statuses=(RunStatus.RUNNING, RunStatus.FAILED))),
        ("status:waiting", RunFilter(states=(RunState.WAITING,))),
        ("status:running status:waiting,unknown", RunFilter(states=(RunState.WAITING, RunState.UNKNOWN))),
        ("-status:succeeded,cancelled", RunFilter(statuses=(RunStatus.RUNNING, RunStatus.FAILED))),
        ("workflow:checkout", RunFilter(workflow_names=("checkout",))),
        ('workflow:"Order Sync",refund,refund', RunFilter(workflow_names=("Order Sync", "refund"))),
        ("workflow:a,b workflow:b", RunFilter(workflow_names=("a", "b"), choices=(chosen("workflow_name", "b"),))),
        ("key:BK-1", RunFilter(correlation_id="BK-1")),
        ("key:BK-1,BK-2", RunFilter(choices=(chosen(RunField.CORRELATION_ID, "BK-1", "BK-2"),))),
        ("BK-1", RunFilter(correlation_id="BK-1")),
        ('"order:77"', RunFilter(correlation_id="order:77")),
        ("-key:BK-1 step:a", left_out("correlation_id", "BK-1", choices=(chosen("error_step", "a"),))),
        ("tag:channel:web tag:eu", RunFilter(tags=("channel:web", "eu"))),
        ('tag:"a,b"', RunFilter(tags=("a,b",))),
        ("tag:eu,us", RunFilter(choices=(chosen(RunField.TAG, "eu", "us"),))),
        ("step:charge", RunFilter(choices=(chosen(RunField.ERROR_STEP, "charge"),))),
        ("group:f1", RunFilter(fingerprint="f1")),
        ("by:ME", RunFilter(triggered_by_user_id="ada")),
        ('by:"me"', RunFilter(triggered_by_user_id="me")),
        ("by:bob,me", RunFilter(choices=(chosen(RunField.TRIGGERED_BY_USER_ID, "bob", "ada"),))),
        ("trigger:resume", RunFilter(trigger="manual.resume")),
        ("trigger:rerun,api", RunFilter(choices=(chosen(RunField.TRIGGER, "manual.rerun", "api"),))),
        ('trigger:"resume"', RunFilter(trigger="resume")),
        ("trigger:nightly", RunFilter(trigger="nightly")),
        (f"parent:{RUN_ID}", RunFilter(parent_run_id=RUN_ID)),
        ("since:24h", RunFilter(started_since=NOW - timedelta(days=1))),
        ("since:1h30m", RunFilter(started_since=NOW - timedelta(minutes=90))),
        ("since:24h since:1h", RunFilter(started_since=NOW - timedelta(hours=1))),
        ("-since:24h", RunFilter(started_until=NOW - timedelta(days=1))),
        ("from:08:00", RunFilter(started_since=datetime(2026, 11, 22, 8, tzinfo=UTC))),
        ("to:2026-11-01", RunFilter(started_until=datetime(2026, 11, 1, tzinfo=UTC))),
        ("-to:2026-11-01", RunFilter(started_since=datetime(2026, 11, 1, tzinfo=UTC))),
        ("from:2026-11-01T02:00+02:00", RunFilter(started_since=datetime(2026, 11, 1, tzinfo=UTC))),
        ('from:"2026-11-01 00:00"', RunFilter(started_since=datetime(2026, 11, 1, tzinfo=UTC))),
        ("from:2026-11-01T00:00:00.0001Z", RunFilter(started_since=datetime(2026, 11, 1, 0, 0, 0, 1000, tzinfo=UTC))),
        ("since:today", RunFilter(started_since=datetime(2026, 11, 22, tzinfo=UTC))),
        ("since:yesterday", RunFilter(started_since=datetime(2026, 11, 21, tzinfo=UTC))),
        ("took:>30s", RunFilter(duration_ms_min=30_001)),
        ("took:>=30s", RunFilter(duration_ms_min=30_000)),
        ("took:<2m", RunFilter(duration_ms_max=119_999)),
        ("took:1s..5s", RunFilter(duration_ms_min=1_000, duration_ms_max=5_000)),
        ("took:1.5s..", RunFilter(duration_ms_min=1_500)),
        ("took:>1s took:>2s took:<1m took:<5s", RunFilter(duration_ms_min=2_001, duration_ms_max=4_999)),
        ("-took:>30s status:failed", RunFilter((), (RunStatus.FAILED,), excluded=(RunFilter(duration_ms_min=30_001),))),
        ("is:root", RunFilter(kinds=(RunKind.ROOT,))),
        ("is:Rerun,resume", RunFilter(kinds=(RunKind.RERUN, RunKind.RESUME))),
        ("-is:root", RunFilter(kinds=(RunKind.RERUN, RunKind.RESUME))),
        ("has:resume", RunFilter(has_resume=True)),
        ("-has:resume status:failed", RunFilter(statuses=(RunStatus.FAILED,), has_resume=False)),
        ("error:no since:1h", RunFilter(started_since=NOW - timedelta(hours=1), choices=(chosen("error_text", "no"),))),
    ],
)
def test_term_asks_for(text, asked):
    assert where(text) == asked


def test_run_is_stuck_that_neither_waits_nor_ends_for_long():
    stuck = where("is:stuck", stuck_after_s=60)
    live = set(states_of(RunStatus.RUNNING))
    assert (set(stuck.states), stuck.started_until) == (
        live - {RunState.WAITING, RunState.PAUSED},
        NOW - timedelta(minutes=1),
    )
    assert where("-is:stuck status:running", stuck_after_s=60).excluded == (stuck,)


def test_times_without_a_zone_are_those_of_the_reader():
    zone = timezone(timedelta(hours=-11))  # where it is still the day before
    assert where("from:08:00", zone=zone).started_since == datetime(2026, 11, 21, 19, tzinfo=UTC)
    assert where("from:2026-11-01", zone=zone).started_since == datetime(2026, 11, 1, 11, tzinfo=UTC)


@pytest.mark.parametrize("text", ["status:failed status:running", "is:root is:resume", "has:resume -has:resume"])
def test_what_excludes_itself_asks_for_no_run(text):
    nothing = where(text)
    assert not any(state in nothing.states for state in states_of(nothing.statuses[0]))


# --- bare words -------------------------------------------------------------------------------------------------------


def test_run_id_is_found_wherever_it_stands():
    assert read(RUN_ID).run_id == read(f"status:failed {RUN_ID}").run_id == RUN_ID
    assert read(RUN_ID).bare is None
    assert read(RUN_ID[:-1]).run_id is read(f"-{RUN_ID}").run_id is None


def test_bare_words_are_a_business_key_and_then_words_of_the_error():
    found = read('card status:failed declined "a b" -x')
    assert found.bare == found.where.correlation_id == "card declined a b"
    assert found.bare_as_error() == 'error:card status:failed error:declined error:"a b" -error:x'
    assert read(found.bare_as_error()).where.choices == tuple(
        chosen(RunField.ERROR_TEXT, text) for text in ("card", "declined", "a b")
    )


# --- bounds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        *("error:no", "code:v1", "input.id:42", "-error:no", "status:failed -input.id:42", "workflow:a code:v1"),
        *("-workflow:a", "-tag:eu -by:me", "status:succeeded -tag:eu", "-has:resume", "-took:>1s"),
    ],
)
def test_what_would_scan_is_bounded_to_a_week_and_says_so(text):
    found = read(text)
    assert found.scans_since == found.where.started_since == WEEK_AGO
    bounded = read(f"{text} since:30d")
    assert (bounded.scans_since, bounded.where.started_since) == (None, NOW - timedelta(days=30))
    assert read(f"{text} to:2026-01-08").scans_since == datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        *("", "status:failed", "status:failed -workflow:a", "key:a error:no", "no error", f"parent:{RUN_ID} code:v1"),
        *("tag:eu -tag:us", "is:resume -by:me", "has:resume -by:me", "took:>1h -by:me", "-status:succeeded -by:me"),
    ],
)
def test_what_an_index_leads_has_no_bound(text):
    found = read(text)
    assert (found.scans_since, found.where.started_since) == (None, None)


# --- problems ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "field", "message"),
    [
        ("stauts:failed", "stauts", "There is no field 'stauts'. Did you mean status?"),
        ("state:failed", "state", "There is no field 'state'. Did you mean status?"),
        ("order:77", "order", """There is no field 'order'. In quotes it is looked for as a text: "order:77\""""),
        ("op:1", "op", """There is no field 'op'. In quotes it is looked for as a text: "op:1\""""),
        ("status:faild", "status", "status: knows no 'faild'. Did you mean failed?"),
        ("has:rerun,x", "has", "has: knows no 'rerun'. Known are resume."),
        ("is:stuck,resume", "is", "is:stuck is a term of its own: is:stuck is:resume, not is:stuck,resume."),
        ("status:", "status", "status: needs a value."),
        ("status:,", "status", "status: needs a value."),
        ('workflow:"a b', "workflow", "A quote is not closed."),
        ("took:30s", "took", "'30s' is no range of durations: say >30s, <2m or 1s..5s."),
        ("took:>1s,<2s", "took", "'>1s,<2s' is no range of durations: say >30s, <2m or 1s..5s."),
        ("since:1h,2h", "since", "since: takes one time."),
        ("parent:1", "parent", "parent: takes a run id: wfrn_ and 26 characters."),
        ("input:42", "input", "There is no field 'input'. Did you mean input.path?"),
        ("input.a.0.1.2.3:1", "input.a.0.1.2.3", "A path into the input holds at most 3 numbers."),
    ],
)
def test_what_is_not_understood_is_named(text, field, message):
    problem = read(text).problem
    assert (problem.message, problem.field) == (message, field)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "since:soon",
            "from:25:00",
            "to:2026-13-01",
            "since:999999999w",
            "from:0001-01-01T00:00+23:59",
            "from:1",
            "to:٣h",
        ),
        *(
            "input.a..b:1",
            "input.a.-1:1",
            "input.a'b:1",
            "input.a.b.c.d.e.f.g.h.i:1",
            "took:..",
            "took:>",
            "took:1s..x",
        ),
    ],
)
def test_value_of_a_wrong_form_is_a_problem(text):
    assert read(text).problem.field == text.partition(":")[0]


def test_nobody_is_me_who_is_not_signed_in():
    assert read("by:me", me=None).problem.message == "by:me needs somebody who is signed in."


def test_first_problem_is_told_and_the_rest_is_read():
    found = read('nonsense:1 status:failed other:2 tag:"x')
    assert found.problem.field == "nonsense"
    assert found.where == RunFilter(statuses=(RunStatus.FAILED,), tags=("x",))
    assert len(found.terms) == 4


def test_number_of_terms_and_of_values_and_the_length_are_bounded():
    many = read(" ".join(f"tag:{number}" for number in range(5_000))[:TEXT_MAX])
    assert (len(many.terms), "terms; 20 are read" in many.problem.message) == (TERMS_MAX, True)
    values = read("tag:" + ",".join(map(str, range(VALUES_MAX + 1))))
    assert values.problem.message == "tag has 51 values; at most 50 stand in one term."
    long = read("x" * 10_000)
    assert (len(long.text), long.problem.message) == (TEXT_MAX, "The query has 10,000 characters; 4,000 are read.")


def test_problem_repeats_little_of_what_was_typed():
    assert all(len(read(text.format("x" * 3_000)).problem.message) < 400 for text in ("{}:1", "status:{}", "from:{}"))


# --- the text and its terms -------------------------------------------------------------------------------------------


def test_terms_can_be_taken_away_and_added():
    found = read('status:failed -workflow:"Order Sync" since:24h')
    assert [term.text for term in found.terms] == ["status:failed", '-workflow:"Order Sync"', "since:24h"]
    assert found.without(found.terms[1]) == "status:failed since:24h"
    assert found.with_term("tag:eu") == 'status:failed -workflow:"Order Sync" since:24h tag:eu'
    assert found.with_term("since:24h") == found.with_term("") == 'status:failed -workflow:"Order Sync" since:24h'
    assert found.replacing({"since", "from", "to"}, "from:01:00 to:02:00") == (
        'status:failed -workflow:"Order Sync" from:01:00 to:02:00'
    )


@pytest.mark.parametrize(
    "value", ["a", "a b", 'a"b', "a\\", "a,b", "me", "resume", "-a", "a:b", "", '\\"', "\x00", "\ud800"]
)
@pytest.mark.parametrize("field", ["by", "trigger", "tag", "", "unknown"])
def test_term_made_of_a_value_is_read_as_that_value(field, value):
    (term,) = read(term_text(field, value, negated=True)).terms or [None]
    clean = value.replace("\x00", "\ufffd").replace("\ud800", "\ufffd")
    assert (term is None and value == field == "") or (term.field, term.value, term.negated) == (field, clean, True)
    if field == "trigger":
        assert read(term_text(field, value)).where.trigger == clean


def hostile():
    alphabet = st.sampled_from("ab-:,\"\\. \t\x00\u2028\ud800\u0131\u0130<>%'") | st.characters()
    fields = st.sampled_from([*FIELDS, "input.a.0", "op", ""])
    words = st.sampled_from([word for words in VALUES.values() for word in words] + [">1s", "1s..2s", "24h", RUN_ID])
    terms = st.builds("{}{}:{}".format, st.sampled_from(["", "-"]), fields, words | st.text(alphabet, max_size=8))
    return st.lists(terms | st.text(alphabet, max_size=12), max_size=12).map(" ".join) | st.text(alphabet, max_size=300)


@given(text=hostile())
def test_any_text_is_read_and_what_is_written_is_read_the_same(text):
    found = read(text)
    again = read(" ".join(term.text for term in found.terms))
    assert again.terms == found.terms
    assert (again.run_id, again.bare, again.scans_since) == (found.run_id, found.bare, found.scans_since)
    assert again.where == found.where
    for term in found.terms:
        rest = read(found.without(term))
        assert rest.terms == tuple(other for other in found.terms if other.text != term.text)
        assert set(read(rest.with_term(term.text)).terms) == set(found.terms)
    assert (
        read(found.with_term("zz:zz")).terms[:-1] == tuple(dict.fromkeys(found.terms)) or len(found.terms) >= TERMS_MAX
    )


@pytest.mark.parametrize(
    "piece", ['"', "\\", '"\\', "-", ":", ",", "a:", 'a:"', "\x00", "\ud800", "é\u202e", "((", "1s..", "took:>"]
)
def test_ten_kilobytes_of_anything_are_read_at_once(piece):
    for text in (piece * 10_000, f"{piece} " * 5_000, f"tag:{piece}" * 2_000):
        assert len(read(text[:10_000]).terms) <= TERMS_MAX


def test_text_that_is_shown_again_can_be_encoded():
    found = read("a\ud800\x00b x:\udfff")
    "".join((found.text, found.problem.message, *(term.text for term in found.terms))).encode()


# --- documentation ----------------------------------------------------------------------------------------------------


def test_documentation_names_every_field_with_its_help():
    page = (Path(__file__).parents[2] / "docs" / "search.md").read_text()
    rows = re.findall(r"^\| `([\w.]+):` \| (.+?) \|", page, re.MULTILINE)
    assert {name: re.sub("`", "", text) for name, text in rows} == dict(FIELDS)


def test_documentation_tells_the_bounds():
    page = (Path(__file__).parents[2] / "docs" / "search.md").read_text()
    assert f"{TERMS_MAX} terms" in page
    assert f"{VALUES_MAX} values" in page
    assert f"{TEXT_MAX:,} characters" in page
    assert f"{search.SCAN.days} days" in page
