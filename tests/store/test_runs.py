"""Runs as they are written: accepted once, changed by the rules, ended once."""

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from workflow_runs.clock import from_millis, run_id_millis
from workflow_runs.errors import EntryRejected
from workflow_runs.model.entries import EndOutcome, GapNoted, RunEnded, RunStarted
from workflow_runs.model.records import ErrorRecord, StepKey
from workflow_runs.model.requests import Action
from workflow_runs.model.states import RecordingMode, RunState, RunStatus, is_finished, may_follow


def test_run_reads_as_it_was_accepted(record):
    entry = record.start(
        input='{"order": 7}',
        trigger="api",
        correlation_id="order-7",
        tags=("b", "a,c", 'with "quotes"', "b"),
        triggered_by_user_id="ada",
        idempotency_key="once",
        parent_run_id="wfrn_parent",
        root_run_id="wfrn_root",
        chain_run_id="wfrn_chain",
        resume_from=StepKey("charge", "card", 2),
        code_version="v1",
    )
    assert record.write(entry) == RunStarted(entry.run_id, created=True)
    run = record.store.get_run(entry.run_id)
    assert run.tags == ("b", "a,c", 'with "quotes"', "b")
    assert (run.input, run.trigger, run.correlation_id) == ('{"order": 7}', "api", "order-7")
    assert (run.triggered_by_user_id, run.idempotency_key, run.code_version) == ("ada", "once", "v1")
    assert (run.parent_run_id, run.root_run_id, run.chain_run_id) == ("wfrn_parent", "wfrn_root", "wfrn_chain")
    assert run.resume_from == StepKey("charge", "card", 2)
    assert (run.state, run.status, run.mode) == (RunState.QUEUED, RunStatus.RUNNING, RecordingMode.JOURNAL)
    assert run.started_at == from_millis(run_id_millis(entry.run_id))
    assert run.execution_started_at is run.completed_at is run.duration_ms is run.error is None
    assert not run.unreadable


def test_run_without_lineage_is_its_own_root_and_chain(record):
    run_id = record.started()
    run = record.store.get_run(run_id)
    assert (run.root_run_id, run.chain_run_id) == (run_id, run_id)


@pytest.mark.parametrize(
    "text", ["naïve", "取引", "🧾" * 50, "a'b", 'a"b', "a\\b", "%s {x} ?", "\u202eright", "tab\tline\n"]
)
def test_texts_of_any_script_come_back_equal(record, text):
    run_id = record.started(workflow_name=text, tags=(text,), correlation_id=text, input=f'"{len(text)}"')
    record.write(record.step_ended(run_id, text, key=text, output='"' + "\U0001f600" + '"'))
    run = record.store.get_run(run_id)
    (step,) = record.store.get_steps(run_id)
    assert (run.workflow_name, run.tags, run.correlation_id) == (text, (text,), text)
    assert (step.step, step.last.output) == (StepKey(text, text), '"\U0001f600"')
    assert record.ids(workflow_names=(text,)) == record.ids(tags=(text,)) == record.ids(correlation_id=text) == [run_id]


def test_start_is_written_once_however_often_it_is_applied(record):
    entry = record.start(tags=("a",), input="1", action=Action("trigger", actor="ada"))
    assert record.write(entry) == record.write(entry) == RunStarted(entry.run_id, created=True)
    assert record.ids() == [entry.run_id]
    assert len(record.store.get_audit(entry.run_id)) == 1


def test_start_repeated_after_the_run_went_on_changes_nothing(record):
    entry = record.start()
    record.apply(entry, record.end(entry.run_id, RunState.CANCELLED))
    assert record.write(entry).created
    assert record.store.get_run(entry.run_id).state is RunState.CANCELLED


def test_action_is_on_record_with_the_run_that_it_made(record):
    target = record.failed()
    action = Action("rerun", actor="ada", reason="because", plan_hash="p", request_id="r", target_run_id=target)
    entry = record.start(action=action)
    record.write(entry)
    (audit,) = record.store.get_audit(entry.run_id)
    assert (audit.actor, audit.action, audit.reason) == ("ada", "rerun", "because")
    assert (audit.run_id, audit.target_run_id, audit.plan_hash, audit.request_id) == (entry.run_id, target, "p", "r")
    assert record.store.get_audit(target) == (audit,)


def test_execution_starts_when_the_run_first_runs(record):
    run_id = record.started()
    begun = record.clock.now()
    record.write(record.change(run_id, RunState.RUNNING))
    record.clock.at_ms += 5000
    record.write(record.change(run_id, RunState.RETRYING))
    record.write(record.change(run_id, RunState.RUNNING))
    run = record.store.get_run(run_id)
    assert (run.state, run.execution_started_at, run.updated_at) == (RunState.RUNNING, begun, record.clock.now())


def test_end_is_read_with_result_and_duration(record):
    run_id = record.started(state=RunState.RUNNING)
    ended = run_id_millis(run_id) + 1234
    assert record.write(RunEnded(run_id, RunState.SUCCEEDED, ended, result="[1]")) == EndOutcome(
        True, RunState.SUCCEEDED
    )
    run = record.store.get_run(run_id)
    assert (run.result, run.duration_ms, run.completed_at) == ("[1]", 1234, from_millis(ended))


def test_error_is_whole_in_the_detail_and_short_in_the_summary(record):
    cause = ErrorRecord("the card was declined", type_name="CardError")
    error = ErrorRecord("x" * 2000, "declined", "StepFailed", "charge", "a stack", cause, "f1")
    run_id = record.started(state=RunState.RUNNING)
    record.write(record.end(run_id, RunState.FAILED, error=error))
    assert record.store.get_run(run_id).error == error
    short = record.store.get_run(run_id, payloads=False).error
    assert (short.code, short.step_name, short.fingerprint, short.stack) == ("declined", "charge", "f1", None)
    assert short.message == "x" * 499 + "…"


def test_duration_is_never_negative(record):
    run_id = record.started(state=RunState.RUNNING)
    record.write(RunEnded(run_id, RunState.SUCCEEDED, run_id_millis(run_id) - 3_600_000))
    assert record.store.get_run(run_id).duration_ms == 0


def test_first_end_wins_and_the_late_one_is_told(record):
    run_id = record.started(state=RunState.RUNNING)
    record.write(record.end(run_id, RunState.FAILED, error=ErrorRecord("first")))
    late = record.end(run_id, RunState.SUCCEEDED, after_ms=9, result="1")
    assert record.write(late) == EndOutcome(changed=False, state=RunState.FAILED)
    run = record.store.get_run(run_id)
    assert (run.state, run.result, run.error.message) == (RunState.FAILED, None, "first")


def test_end_whose_answer_got_lost_is_told_that_it_was_its_own(record):
    run_id = record.started(state=RunState.RUNNING)
    end = record.end(run_id, RunState.SUCCEEDED)
    assert record.write(end) == record.write(end) == EndOutcome(changed=True, state=RunState.SUCCEEDED)


def test_change_of_a_finished_run_changes_nothing(record):
    run_id = record.failed()
    assert record.write(record.change(run_id, RunState.RUNNING)) is False
    assert record.store.get_run(run_id).state is RunState.FAILED


@pytest.mark.parametrize("make", ["change", "end"])
def test_entries_about_a_run_that_is_not_there_are_refused(record, make):
    entry = getattr(record, make)(record.clock.new_run_id(), RunState.RUNNING if make == "change" else RunState.FAILED)
    with pytest.raises(EntryRejected):
        record.write(entry)


def test_gap_is_noted(record):
    run_id = record.started(mode=RecordingMode.OBSERVE, state=RunState.RUNNING)
    record.write(GapNoted(run_id))
    assert record.store.get_run(run_id).has_gap


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(list(RunState)), min_size=1, max_size=8))
def test_whatever_is_asked_a_run_only_goes_where_the_table_leads(record, asked):
    run_id = record.started()
    state = RunState.QUEUED
    for wanted in asked:
        entry = record.end(run_id, wanted) if is_finished(wanted) else record.change(run_id, wanted)
        (outcome,) = record.apply(entry)
        if is_finished(state):
            # The same end once more is the same writing: the first is all there is.
            expected = (False, EndOutcome(wanted is state, state))
            assert outcome in expected
        elif may_follow(state, wanted) or wanted is state:
            assert outcome in (True, EndOutcome(True, wanted))
            state = wanted
        else:
            assert isinstance(outcome, EntryRejected)
        assert record.store.get_run(run_id, payloads=False).state is state
