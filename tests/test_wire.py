"""JSON as it travels: members, bodies, cursors, and the status of every error."""

from __future__ import annotations

import inspect
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, strategies as st

from workflow_runs import errors
from workflow_runs.errors import (
    HandlerFailed,
    InvalidBody,
    InvalidQuery,
    InvalidRequest,
    NotConfigured,
    StoreUnavailable,
)
from workflow_runs.model.jsontext import dump
from workflow_runs.model.records import Attempt, ErrorRecord, Run, RunList, Step, StepKey
from workflow_runs.model.states import EffectClass, Origin, RecordingMode, RunState, RunStatus, StepKind, StepState
from workflow_runs.settings import Limits
from workflow_runs.wire import (
    ERROR_CODES,
    action_body,
    cursor_run_id,
    cursor_text,
    describe_error,
    detail_json,
    error_json,
    list_json,
    run_json,
    status_of,
    step_json,
    time_text,
    trigger_body,
)

LIMITS = Limits()
NOON = datetime(2026, 11, 22, 12, 0, 0, 7_000, tzinfo=UTC)

RUN = Run(
    id="wfrn_01m81srpafe07vg00hcm7rdwd5",
    workflow_name="checkout",
    definition="checkout",
    trigger="api",
    correlation_id="ord_77",
    tags=("orderId:ord_77",),
    state=RunState.COMPENSATED,
    status=RunStatus.FAILED,
    input='{"amount": 1.10, "note":"as recorded"}',
    result=None,
    error=ErrorRecord("refused", "E_CARD", "CardError", "charge", "Traceback ...", ErrorRecord("below")),
    fingerprint="f1",
    parent_run_id=None,
    root_run_id="wfrn_01m81srpafe07vg00hcm7rdwd5",
    chain_run_id="wfrn_01m81srpafe07vg00hcm7rdwd5",
    triggered_by_user_id=None,
    idempotency_key=None,
    resume_from=StepKey("charge", "", 2),
    mode=RecordingMode.JOURNAL,
    has_gap=False,
    code_version=None,
    started_at=NOON,
    execution_started_at=NOON,
    completed_at=NOON + timedelta(milliseconds=73),
    updated_at=NOON,
    duration_ms=73,
    cancel_requested_at=None,
    claim_owner=None,
    resumed_by_run_id="wfrn_later",
)

STEP = Step(
    run_id=RUN.id,
    step=StepKey("charge", "", 2),
    sequence=3,
    kind=StepKind.STEP,
    effect=EffectClass.UNSAFE,
    input_digest=None,
    attempts=(
        Attempt(1, StepState.FAILED, Origin.EXECUTED, None, ErrorRecord("once"), NOON, NOON, 0),
        Attempt(2, StepState.SUCCEEDED, Origin.EXECUTED, '{"b":1,"a":[2.50]}', None, NOON, NOON, 5),
    ),
)


def _error_classes():
    return [
        cls
        for _, cls in inspect.getmembers(errors, inspect.isclass)
        if issubclass(cls, errors.WorkflowRunsError) and cls.__module__ == errors.__name__
    ]


def _raised(cls):
    if cls is errors.CannotEncode:
        return cls("output", "$", "set", "secret")
    if cls is errors.StepFailed:
        return cls("secret", step="s", type_name="T", error_code=None)
    if cls in {NotConfigured, HandlerFailed}:
        return cls("secret", code="trigger_not_configured" if cls is NotConfigured else "trigger_failed")
    return cls("secret")


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", _error_classes(), ids=lambda cls: cls.__name__)
def test_every_exception_has_a_code_of_the_table(cls):
    code, members = describe_error(_raised(cls), action="trigger")
    assert code in ERROR_CODES
    assert members["detail"]


def test_every_refusal_keeps_its_own_code_and_message():
    for cls in _error_classes():
        if issubclass(cls, (errors.Refusal, InvalidRequest)) and cls is not NotConfigured:
            assert describe_error(_raised(cls)) == (cls.code, {"detail": "secret"})


def test_messages_that_were_not_written_for_callers_stay_here():
    kept = [
        cls
        for cls in _error_classes()
        if not issubclass(cls, (errors.Refusal, InvalidRequest, HandlerFailed))
        and "secret" in describe_error(_raised(cls), action="rerun")[1]["detail"]
    ]
    assert kept == []


def test_an_exception_that_is_not_ours_is_an_internal_error_without_its_message():
    code, members = describe_error(sqlite3.OperationalError("no such table: secret"))
    assert code == "internal_error"
    assert "secret" not in members["detail"]


def test_the_database_away_is_named_as_the_original_does_on_reads():
    assert describe_error(StoreUnavailable("x"))[0] == "db_unavailable"
    assert describe_error(StoreUnavailable("x"), action="trigger")[0] == "store_unavailable"


def test_an_unknown_runner_is_404_where_it_is_the_target_and_501_where_the_run_is():
    assert status_of("runner_not_registered", "trigger") == 404
    assert status_of("runner_not_registered", "rerun") == status_of("runner_not_registered", "resume") == 501


def test_a_handler_says_its_own_message():
    error = HandlerFailed("the card was refused", code="rerun_failed")
    assert describe_error(error, action="rerun") == ("rerun_failed", {"detail": "the card was refused"})


@pytest.mark.parametrize("cause", [sqlite3.OperationalError("SELECT secret"), StoreUnavailable("secret")])
def test_a_database_error_that_passed_through_a_handler_is_not_shown(cause):
    error = HandlerFailed(str(cause), code="trigger_failed")
    error.__cause__ = cause
    code, members = describe_error(error, action="trigger")
    assert code == "trigger_failed"
    assert "secret" not in members["detail"]


def test_a_handlers_message_is_cut_and_cleaned():
    detail = describe_error(HandlerFailed("\ud800" + "x" * 5_000, code="trigger_failed"))[1]["detail"]
    assert detail.startswith("?x")
    assert detail.endswith("[cut]")
    assert len(detail) < 2_100


def test_details_of_a_refusal_cannot_replace_its_message():
    assert describe_error(errors.AlreadyResumed("so", runId="r", detail="no"))[1] == {"runId": "r", "detail": "so"}


# --- runs and steps --------------------------------------------------------------------------------------------------


def test_times_are_utc_with_milliseconds():
    east = timezone(timedelta(hours=14))
    assert time_text(datetime(2026, 11, 23, 2, 0, 0, 7_999, tzinfo=east)) == "2026-11-22T12:00:00.007Z"
    assert time_text(None) is None


def test_a_run_has_the_members_of_the_original_first():
    assert list(run_json(RUN, shown=True))[:17] == [
        *("id", "workflowName", "trigger", "correlationId", "tags", "status", "input", "result", "error"),
        *("parentRunId", "triggeredByUserId", "resumeFromStep", "startedAt", "completedAt", "durationMs"),
        *("createdAt", "updatedAt"),
    ]


def test_a_payload_is_sent_as_it_was_recorded():
    assert '"input":{"amount": 1.10, "note":"as recorded"}' in dump(run_json(RUN, shown=True))
    assert '"output":{"b":1,"a":[2.50]}' in dump(step_json(STEP, shown=True))


def test_a_run_is_shown_without_what_later_runs_made_of_it():
    assert "wfrn_later" not in dump(run_json(RUN, shown=True))


def test_a_repeated_step_is_named_by_its_label():
    assert run_json(RUN, shown=True)["resumeFromStep"] == "charge#2"


def test_without_the_right_payloads_are_null_and_say_why():
    run = run_json(RUN, shown=False)
    assert (run["input"], run["result"], run["error"], run["payloadsHidden"]) == (None, None, None, True)
    step = step_json(STEP, shown=False)
    assert (step["output"], step["error"], step["attempts"][0]["error"]) == (None, None, None)


def test_a_summary_has_no_payload_members_at_all():
    summary = run_json(RUN, shown=True, summary=True)
    assert "input" not in summary
    assert "result" not in summary
    assert summary["error"]["message"] == "refused"
    assert set(run_json(RUN, shown=True)) - set(summary) == {"input", "result"}


def test_the_stack_is_shown_only_when_asked_for():
    assert error_json(RUN.error) == {"message": "refused", "code": "E_CARD", "stepName": "charge", "type": "CardError"}
    whole = error_json(RUN.error, stack=True)
    assert whole["stack"] == "Traceback ..."
    assert whole["cause"]["message"] == "below"


def test_a_step_shows_its_last_attempt_and_lists_all():
    step = step_json(STEP, shown=True)
    assert (step["status"], step["durationMs"], step["stepName"], step["occurrence"]) == ("succeeded", 5, "charge", 2)
    assert [(attempt["number"], attempt["status"]) for attempt in step["attempts"]] == [(1, "failed"), (2, "succeeded")]


def test_the_id_of_a_step_is_that_of_its_last_attempt():
    first = replace(STEP, attempts=STEP.attempts[:1])
    assert step_json(STEP, shown=True)["id"] == step_json(STEP, shown=True)["id"] != step_json(first, shown=True)["id"]
    assert step_json(STEP, shown=True)["id"].startswith("wfrs_01m81srpaf")


def test_a_list_and_a_detail_show_a_run_in_one_shape():
    page = RunList((RUN,), 1, total_capped=False, next_after=None)
    listed = list_json(page, limit=50, offset=0, shown=True, summary=False)
    shown = detail_json(RUN, [STEP], shown=True)["data"]["run"]
    assert dump(listed["data"][0]) == dump(shown)


def test_a_capped_total_says_so():
    page = RunList((), 10_000, total_capped=True, next_after="wfrn_x")
    body = list_json(page, limit=1, offset=0, shown=True, summary=False)
    assert (body["total"], body["totalCapped"]) == (10_000, True)
    assert cursor_run_id(body["nextCursor"]) == "wfrn_x"


# --- cursors ---------------------------------------------------------------------------------------------------------


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=100))
def test_a_cursor_comes_back(run_id):
    assert cursor_run_id(cursor_text(run_id)) == run_id


@given(st.text(max_size=50))
def test_a_cursor_of_others_is_refused_or_one_of_ours(text):
    try:
        run_id = cursor_run_id(text)
    except InvalidQuery as error:
        assert error.field == "cursor"
    else:
        assert cursor_text(run_id) == text


# --- bodies ----------------------------------------------------------------------------------------------------------


def test_a_trigger_without_input_starts_with_an_empty_object_and_null_stays_null():
    assert trigger_body({}, LIMITS).input == "{}"
    assert trigger_body({"input": None}, LIMITS).input == "null"


def test_a_trigger_body_is_read():
    value = {"input": [1], "idempotencyKey": "  k 1 ", "correlationId": "c", "tags": ["a", "a"]}
    body = trigger_body(value, LIMITS)
    assert (body.input, body.idempotency_key, body.correlation_id, body.tags) == ("[1]", "k 1", "c", ("a", "a"))


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ([], None),
        (None, None),
        ("{}", None),
        ({"inputs": 1}, "inputs"),
        ({"x" * 200: 1}, "x" * 64 + "..."),
        ({"correlationId": ""}, "correlationId"),
        ({"correlationId": None}, "correlationId"),
        ({"correlationId": 7}, "correlationId"),
        ({"correlationId": "c" * 256}, "correlationId"),
        ({"correlationId": "a\nb"}, "correlationId"),
        ({"idempotencyKey": "   "}, "idempotencyKey"),
        ({"idempotencyKey": "k" * 256}, "idempotencyKey"),
        ({"tags": "a"}, "tags"),
        ({"tags": None}, "tags"),
        ({"tags": ["t"] * 51}, "tags"),
        ({"tags": ["ok", ""]}, "tags[1]"),
        ({"tags": ["t" * 129]}, "tags[0]"),
        ({"tags": [1]}, "tags[0]"),
        ({"tags": ["\x1b[31m"]}, "tags[0]"),
    ],
)
def test_a_trigger_body_that_is_not_usable_is_refused_by_the_name_of_its_field(value, field):
    with pytest.raises(InvalidRequest) as caught:
        trigger_body(value, LIMITS)
    assert caught.value.field == field
    assert caught.value.code == "invalid_request"


def test_bodies_that_differ_in_order_and_key_only_ask_for_the_same():
    one = trigger_body({"input": {"a": 1, "b": 2}, "tags": ["t"], "idempotencyKey": "k"}, LIMITS)
    other = trigger_body({"tags": ["t"], "input": {"b": 2, "a": 1}}, LIMITS)
    assert one.request_hash == other.request_hash
    assert one.request_hash != trigger_body({"tags": ["t"], "input": {"b": 2, "a": 2}}, LIMITS).request_hash


def test_only_true_confirms():
    assert action_body({"confirm": True}, "rerun").confirm is True
    assert action_body({"confirm": False}, "rerun") == action_body({}, "rerun")


@pytest.mark.parametrize("confirm", ["true", 1, 0, None, "yes", [], {}])
def test_a_confirmation_that_is_no_boolean_is_refused(confirm):
    with pytest.raises(InvalidBody) as caught:
        action_body({"confirm": confirm}, "rerun")
    assert caught.value.field == "confirm"


@pytest.mark.parametrize("name", ["seedResults", "parentRunId", "triggeredByUserId", "fromStep"])
def test_what_the_record_decides_cannot_be_given_to_a_rerun(name):
    with pytest.raises(InvalidBody) as caught:
        action_body({name: "x"}, "rerun")
    assert caught.value.field == name


def test_a_resume_takes_a_step_and_unknown_members_are_ignored():
    assert action_body({"fromStep": "charge#2", "else": 1}, "resume").from_step == "charge#2"


@pytest.mark.parametrize("value", [None, [], "x", 1, True])
def test_an_action_body_is_an_object(value):
    with pytest.raises(InvalidBody):
        action_body(value, "resume")


@pytest.mark.parametrize("reason", ["", 1, None, "r" * 1_001])
def test_a_reason_is_a_text_within_its_bounds(reason):
    with pytest.raises(InvalidBody) as caught:
        action_body({"reason": reason}, "cancel")
    assert caught.value.field == "reason"
