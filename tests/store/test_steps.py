"""Steps as they are written: a row for each attempt, merged while start and end meet, final once ended, read in their order."""

import dataclasses

import pytest

from workflow_runs.errors import EntryRejected
from workflow_runs.model.entries import StepUndone
from workflow_runs.model.records import Attempt, ErrorRecord, Run, Step, StepKey
from workflow_runs.model.requests import Seed
from workflow_runs.model.states import EffectClass, Origin, RunState, StepKind, StepState


def states(record, run_id):
    return [
        (step.step.label(), [attempt.state for attempt in step.attempts]) for step in record.store.get_steps(run_id)
    ]


def test_running_step_is_seen(record):
    run_id = record.started()
    record.write(record.step_started(run_id))
    (step,) = record.store.get_steps(run_id)
    assert (step.state, step.last.ended_at, step.last.output) == (StepState.RUNNING, None, None)


def test_ended_step_reads_as_it_was_written(record):
    run_id = record.started()
    record.apply(
        record.step_started(run_id, sequence=3), record.step_ended(run_id, sequence=3, output='{"paid": true}')
    )
    (step,) = record.store.get_steps(run_id)
    assert (step.run_id, step.step, step.sequence) == (run_id, StepKey("charge"), 3)
    assert (step.kind, step.effect, step.input_digest) == (StepKind.STEP, EffectClass.UNSAFE, "digest")
    assert (step.last.output, step.last.duration_ms, step.last.origin) == ('{"paid": true}', 5, Origin.EXECUTED)
    assert step.last.started_at == record.clock.now()


def test_what_is_read_is_what_everybody_else_makes_and_cannot_be_changed(record):
    """Rows become values by a short cut: see ``rows``."""
    run_id = record.started()
    record.write(record.step_ended(run_id))
    run, (step,) = record.store.get_run(run_id), record.store.get_steps(run_id)
    for value, kind in ((run, Run), (step, Step), (step.last, Attempt)):
        assert type(value) is kind
        again = kind(**{field.name: getattr(value, field.name) for field in dataclasses.fields(kind)})
        assert (again, repr(again)) == (value, repr(value))
        assert hash(again) == hash(value)
        assert dataclasses.replace(value) == value
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, dataclasses.fields(kind)[0].name, None)


def test_end_needs_no_start_before_it(record):
    run_id = record.started()
    record.write(record.step_ended(run_id))
    record.write(record.step_started(run_id))
    assert states(record, run_id) == [("charge", [StepState.SUCCEEDED])]


def test_start_and_end_of_different_batches_are_one_row(record):
    run_id = record.started()
    record.write(record.step_started(run_id))
    record.write(record.step_ended(run_id))
    assert record.sql("SELECT count(*) FROM workflow_run_steps") == [(1,)]


@pytest.mark.parametrize("first", [StepState.SUCCEEDED, StepState.FAILED, StepState.CANCELLED])
@pytest.mark.parametrize("together", [True, False])
def test_attempt_that_ended_stays_as_it_is(record, first, together):
    run_id = record.started()
    entries = [record.step_ended(run_id, state=first), record.step_ended(run_id, output='"other"')]
    if together:
        record.apply(*entries)
    else:
        for entry in entries:
            record.write(entry)
    (step,) = record.store.get_steps(run_id)
    assert step.state is first
    assert step.last.output == ('"done"' if first is StepState.SUCCEEDED else None)


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize(
    ("later", "becomes"),
    [
        (StepState.SUCCEEDED, StepState.SUCCEEDED),
        (StepState.FAILED, StepState.FAILED),
        (StepState.CANCELLED, StepState.UNKNOWN),
    ],
)
def test_unknown_outcome_may_be_learned(record, together, later, becomes):
    run_id = record.started()
    entries = [record.step_ended(run_id, state=StepState.UNKNOWN), record.step_ended(run_id, state=later)]
    if together:
        record.apply(*entries)
    else:
        for entry in entries:
            record.write(entry)
    assert states(record, run_id) == [("charge", [becomes])]


def test_every_attempt_is_kept(record):
    run_id = record.started()
    error = ErrorRecord("no answer", code="timeout", stack="a stack")
    record.write(record.step_ended(run_id, state=StepState.FAILED, error=error))
    record.write(record.step_ended(run_id, attempt=2))
    (step,) = record.store.get_steps(run_id)
    assert [(attempt.number, attempt.state) for attempt in step.attempts] == [
        (1, StepState.FAILED),
        (2, StepState.SUCCEEDED),
    ]
    assert step.attempts[0].error == error
    assert step.last.output == '"done"'


def test_steps_come_in_their_order_whatever_they_are_called(record):
    # R1: ordered by the length of their names, as jsonb keys are, finished steps were taken for unfinished and a card charged twice.
    run_id = record.started()
    names = ["validate-the-order", "pay", "reserve", "a", "zz", "notify-customer"]
    entries = [record.step_ended(run_id, name, sequence=place) for place, name in enumerate(names, 1)]
    record.apply(*reversed(entries))
    assert [step.step.name for step in record.store.get_steps(run_id)] == names


def test_repetitions_of_a_step_are_steps_of_their_own(record):
    run_id = record.started()
    record.apply(
        record.step_ended(run_id, "page", occurrence=1, sequence=1),
        record.step_ended(run_id, "page", occurrence=2, sequence=2),
        record.step_ended(run_id, "page", key="a", sequence=3),
    )
    assert [step.step.label() for step in record.store.get_steps(run_id)] == ["page", "page#2", "page[a]"]


def test_outputs_are_left_out_when_they_are_not_wanted(record):
    run_id = record.started()
    record.write(record.step_ended(run_id))
    (step,) = record.store.get_steps(run_id, outputs=False)
    assert (step.state, step.last.output) == (StepState.SUCCEEDED, None)


def test_seeds_are_skipped_steps_with_their_outputs(record):
    seeds = (
        Seed(StepKey("reserve"), 1, '{"r": 1}', effect=EffectClass.READ, input_digest="d"),
        Seed(StepKey("now"), 2, "1", StepKind.NOW),
    )
    run_id = record.started(seeds=seeds)
    reserve, now = record.store.get_steps(run_id)
    started_at = record.store.get_run(run_id).started_at
    assert (reserve.state, reserve.last.origin, reserve.last.output) == (StepState.SKIPPED, Origin.SEEDED, '{"r": 1}')
    assert (reserve.effect, reserve.input_digest, reserve.sequence) == (EffectClass.READ, "d", 1)
    assert (reserve.last.number, reserve.last.started_at, reserve.last.ended_at) == (1, started_at, started_at)
    assert now.kind is StepKind.NOW


def test_undone_step_is_compensated_once(record):
    run_id = record.started(state=RunState.RUNNING)
    record.write(record.step_ended(run_id))
    undo = StepUndone(run_id, None, StepKey("charge"), 1, StepState.COMPENSATED, None, record.clock.now_millis())
    assert record.apply(undo, undo) == [None, None]
    (step,) = record.store.get_steps(run_id)
    assert (step.state, step.last.output) == (StepState.COMPENSATED, '"done"')


def test_failed_undoing_may_be_repeated_and_succeed(record):
    run_id = record.started(state=RunState.RUNNING)
    record.write(record.step_ended(run_id))
    at = record.clock.now_millis()
    error = ErrorRecord("void refused")
    record.write(StepUndone(run_id, None, StepKey("charge"), 1, StepState.COMPENSATION_FAILED, error, at))
    assert record.store.get_steps(run_id)[0].last.error == error
    record.write(StepUndone(run_id, None, StepKey("charge"), 1, StepState.COMPENSATED, None, at))
    assert states(record, run_id) == [("charge", [StepState.COMPENSATED])]


@pytest.mark.parametrize("state", [StepState.RUNNING, StepState.FAILED, StepState.UNKNOWN])
def test_what_did_not_succeed_is_not_undone(record, state):
    run_id = record.started(state=RunState.RUNNING)
    record.write(record.step_started(run_id) if state is StepState.RUNNING else record.step_ended(run_id, state=state))
    with pytest.raises(EntryRejected):
        record.write(StepUndone(run_id, None, StepKey("charge"), 1, StepState.COMPENSATED, None, 0))
    assert states(record, run_id) == [("charge", [state])]


def test_undoing_leaves_only_the_states_that_say_so(record):
    run_id = record.started(state=RunState.RUNNING)
    record.write(record.step_ended(run_id))
    with pytest.raises(EntryRejected):
        record.write(StepUndone(run_id, None, StepKey("charge"), 1, StepState.FAILED, None, 0))
