"""Cancelling: at once where nobody executes the run, else as a wish that its owner finds."""

import pytest

from workflow_runs.errors import NotFound
from workflow_runs.model.entries import EndOutcome
from workflow_runs.model.states import RecordingMode, RunState, StepState


def test_queued_run_that_nobody_owns_ends_at_once(record):
    run_id = record.started()
    assert record.write(record.cancel(run_id, "not wanted")) == EndOutcome(True, RunState.CANCELLED)
    run = record.store.get_run(run_id)
    assert (run.state, run.error.message) == (RunState.CANCELLED, "not wanted")
    assert run.cancel_requested_at == run.completed_at == record.clock.now()


def test_cancelled_without_a_reason_says_so(record):
    run_id = record.started()
    record.write(record.cancel(run_id))
    assert record.store.get_run(run_id).error.message == "Cancelled"


@pytest.mark.parametrize("state", [RunState.UNKNOWN, RunState.WAITING, RunState.PAUSED])
def test_run_that_waits_ends_at_once_whoever_owns_it(record, state):
    claim = record.registered()
    run_id = record.started(claim=claim, state=RunState.RUNNING)
    record.write(record.change(run_id, state, claim=claim))
    assert record.write(record.cancel(run_id)) == EndOutcome(True, RunState.CANCELLED)
    late = record.end(run_id, claim=claim)
    assert record.write(late) == EndOutcome(changed=False, state=RunState.CANCELLED)


@pytest.mark.parametrize("state", [RunState.QUEUED, RunState.RUNNING, RunState.RETRYING, RunState.COMPENSATING])
def test_run_of_an_owner_is_marked_and_goes_on(record, state):
    claim = record.registered()
    run_id = record.started(claim=claim)
    record.write(record.change(run_id, RunState.RUNNING, claim=claim))
    record.write(record.change(run_id, state, claim=claim))
    assert record.write(record.cancel(run_id, "why")) == EndOutcome(True, state)
    run = record.store.get_run(run_id)
    assert (run.state, run.completed_at, run.cancel_requested_at) == (state, None, record.clock.now())


def test_queued_run_of_an_owner_that_was_fenced_ends_at_once(record):
    run_id = record.started(claim=record.registered())
    record.registered()
    assert record.write(record.cancel(run_id)).state is RunState.CANCELLED


def test_observed_run_ends_at_once_since_nobody_would_hear_of_the_wish(record):
    run_id = record.started(state=RunState.RUNNING, mode=RecordingMode.OBSERVE)
    assert record.write(record.cancel(run_id, "its process died")) == EndOutcome(True, RunState.CANCELLED)
    late = record.write(record.end(run_id))
    assert late == EndOutcome(changed=False, state=RunState.CANCELLED)


def test_nobody_knows_how_a_step_ended_that_was_under_way_when_its_run_was_cancelled_at_once(record):
    run_id = record.started(state=RunState.RUNNING, mode=RecordingMode.OBSERVE)
    record.write(record.step_started(run_id, "charge"))
    record.write(record.step_ended(run_id, "book", sequence=2))
    record.write(record.cancel(run_id))
    charge, book = record.store.get_steps(run_id)
    assert (charge.state, charge.last.ended_at is None) == (StepState.UNKNOWN, False)
    assert book.state is StepState.SUCCEEDED
    record.write(record.step_ended(run_id, "charge"))  # the process was there all the same, and knows
    assert record.store.get_steps(run_id)[0].state is StepState.SUCCEEDED


def test_finished_run_is_not_cancelled(record):
    run_id = record.failed()
    assert record.write(record.cancel(run_id)) == EndOutcome(changed=False, state=RunState.FAILED)
    assert record.store.get_audit(run_id) == ()
    assert record.store.get_run(run_id).cancel_requested_at is None


@pytest.mark.parametrize("state", [RunState.QUEUED, RunState.RUNNING])
def test_cancelling_is_on_record_once_however_often_it_is_applied(record, state):
    run_id = record.started(state=state)
    entry = record.cancel(run_id, "why")
    assert record.write(entry) == record.write(entry)
    (audit,) = record.store.get_audit(run_id)
    assert (audit.actor, audit.action, audit.reason, audit.at) == ("ada", "cancel", "why", record.clock.now())


def test_first_wish_stays_and_both_are_on_record(record):
    run_id = record.started(claim=record.registered(), state=RunState.RUNNING)
    record.write(record.cancel(run_id, "first"))
    record.clock.at_ms += 5000
    record.write(record.cancel(run_id, "second"))
    assert record.sql("SELECT cancel_reason FROM workflow_runs") == [("first",)]
    assert [audit.reason for audit in record.store.get_audit(run_id)] == ["first", "second"]


def test_run_that_is_not_there_is_not_cancelled(record):
    with pytest.raises(NotFound):
        record.write(record.cancel(record.clock.new_run_id()))
