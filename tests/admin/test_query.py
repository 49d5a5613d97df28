"""The query strings of the reading routes."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from urllib.parse import urlencode

import pytest
from hypothesis import given, strategies as st

from workflow_runs.admin.query import LIST_PARAMETERS, list_query
from workflow_runs.errors import InvalidQuery
from workflow_runs.model.records import Page
from workflow_runs.model.states import RunState, RunStatus
from workflow_runs.settings import Limits
from workflow_runs.wire import cursor_text


def ask(*pairs):
    return list_query(urlencode(pairs).encode(), Limits())


def test_an_empty_query_is_the_first_page_of_everything():
    asked = ask()
    assert asked.page == Page(limit=50, offset=0, after=None)
    assert not asked.summary
    assert asked.where.workflow_names == ()


def test_several_are_the_parameter_repeated_and_never_commas():
    asked = ask(("status", "failed"), ("status", "running"), ("tag", "a,b"), ("tag", "c"), ("state", "queued"))
    assert asked.where.statuses == (RunStatus.FAILED, RunStatus.RUNNING)
    assert asked.where.tags == ("a,b", "c")
    assert asked.where.states == (RunState.QUEUED,)


def test_all_filters_are_read():
    names = ["correlationId", "trigger", "triggeredByUserId", "parentRunId", "rootRunId", "fingerprint"]
    where = ask(*[(name, f"{name} ✓") for name in names], ("minDurationMs", "0"), ("maxDurationMs", "7")).where
    assert where.correlation_id == "correlationId ✓"
    assert where.trigger == "trigger ✓"
    assert where.triggered_by_user_id == "triggeredByUserId ✓"
    assert where.parent_run_id == "parentRunId ✓"
    assert where.root_run_id == "rootRunId ✓"
    assert where.fingerprint == "fingerprint ✓"
    assert (where.duration_ms_min, where.duration_ms_max) == (0, 7)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-22T14:15:07Z", datetime(2026, 11, 22, 14, 15, 7, tzinfo=UTC)),
        ("2026-11-22T14:15:07.861+02:00", datetime(2026, 11, 22, 12, 15, 7, 861_000, tzinfo=UTC)),
        ("2026-11-22T14:15-0030", datetime(2026, 11, 22, 14, 45, tzinfo=UTC)),
        (
            "2026-11-22T14:15:07.8615Z",
            datetime(2026, 11, 22, 14, 15, 7, 862_000, tzinfo=UTC),
        ),  # up, so >= and < are exact
        ("2026-12-31T23:59:59.999999Z", datetime(2027, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_time_has_a_zone_and_whole_milliseconds(text, moment):
    assert ask(("startedSince", text)).where.started_since == moment
    assert ask(("startedUntil", text)).where.started_until == moment


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[(name, "") for name in LIST_PARAMETERS],
        *[(name, "a\x00b") for name in LIST_PARAMETERS],
        *[
            ("limit", value)
            for value in ("0", "201", "-1", "1.5", "+5", " 5", "5 ", "٣", "1e2", "0x5", "9" * 17, "null")
        ],
        *[("offset", value) for value in ("-1", str(2**31), "1.0", "a")],
        *[("minDurationMs", value) for value in ("-1", str(2**53), "1.0")],
        *[("status", value) for value in ("queued", "FAILED", "failed,running")],
        *[("state", value) for value in ("done", "failed,running")],
        *[("view", value) for value in ("all", "Summary")],
        *[("cursor", value) for value in ("x", "===", "é", "a" * 2_000)],
        *[
            ("startedSince", value)
            for value in (
                *("2026-11-22", "2026-11-22T14:15:07", "now", "0", "2026-13-01T00:00:00Z", "2026-W01-1T00:00:00Z"),
                *("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59-14:00"),
                *("2026-11-22T14:15:07+02:00:30", "2026-11-22T25:00:00Z", "٢٠٢٦-11-22T14:15:07Z"),
            )
        ],
    ],
)
def test_what_is_out_of_range_is_refused_by_the_name_of_its_parameter(name, value):
    with pytest.raises(InvalidQuery) as caught:
        ask((name, value))
    assert caught.value.field == name
    assert len(value) < 4 or value not in str(caught.value)


@pytest.mark.parametrize("name", ["limit", "offset", "trigger", "view", "cursor", "startedSince"])
def test_what_is_single_may_not_be_repeated(name):
    value = cursor_text("wfrn_x") if name == "cursor" else "1"
    with pytest.raises(InvalidQuery) as caught:
        ask((name, value), (name, value))
    assert caught.value.field == name


@pytest.mark.parametrize("name", ["Limit", "page", "workflow_name", "tag[]", "", "limit "])
def test_an_unknown_parameter_is_refused_and_named(name):
    with pytest.raises(InvalidQuery) as caught:
        ask((name, "1"))
    assert caught.value.field == name


def test_a_plus_that_became_a_space_is_explained():
    with pytest.raises(InvalidQuery, match="%2B"):
        list_query(b"startedSince=2026-11-22T14:15:07+02:00", Limits())


def test_a_cursor_and_an_offset_exclude_each_other():
    with pytest.raises(InvalidQuery):
        ask(("cursor", cursor_text("wfrn_x")), ("offset", "0"))
    assert ask(("cursor", cursor_text("wfrn_x"))).page.after == "wfrn_x"


@pytest.mark.parametrize(
    "query", [b"tag=%ff", b"tag=%ed%a0%80", b"\xff=1", b"&".join([b"tag=a"] * 101), b"tag", b"=", b"tag=%00"]
)
def test_bytes_that_are_no_query_are_refused(query):
    with pytest.raises(InvalidQuery):
        list_query(query, Limits())


@given(st.binary(max_size=80))
def test_any_bytes_are_a_query_or_a_refusal(query):
    with contextlib.suppress(InvalidQuery):
        list_query(query, Limits())


@given(
    st.lists(
        st.tuples(st.sampled_from(LIST_PARAMETERS), st.text(st.characters(codec="utf-8"), max_size=20)), max_size=4
    )
)
def test_any_values_are_a_query_or_a_refusal(pairs):
    try:
        ask(*pairs)
    except InvalidQuery as error:
        assert error.field in LIST_PARAMETERS
