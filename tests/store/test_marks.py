"""What is compared to see whether runs have changed: every write shows, and asking is cheap."""

from dataclasses import replace
from itertools import pairwise

import pytest
import sqlalchemy as sa

from workflow_runs.model.entries import GapNoted, StepUndone
from workflow_runs.model.records import StepKey
from workflow_runs.model.states import STEP_TRANSITIONS, RunState, StepState
from workflow_runs.store.marks import RANKS


def mark(record, run_id):
    return record.store.run_marks([run_id])[run_id]


def test_a_step_that_goes_on_always_rises_in_rank():
    assert set(RANKS) == set(StepState)
    for before, afters in STEP_TRANSITIONS.items():
        assert all(RANKS[after] > RANKS[before] for after in afters), before


def test_every_write_about_a_live_run_changes_its_mark(record):
    claim = record.registered()
    run_id = record.started(state=RunState.RUNNING, claim=claim)
    undone = StepUndone(run_id, claim, StepKey("charge"), 1, StepState.COMPENSATION_FAILED, None, 1)
    entries = [
        record.step_started(run_id, claim=claim),
        record.step_ended(run_id, claim=claim),
        record.step_ended(run_id, "ship", sequence=2, claim=claim),
        undone,
        replace(undone, state=StepState.COMPENSATED),
        GapNoted(run_id),
        record.cancel(run_id),
    ]
    marks = [mark(record, run_id)]
    for entry in entries:
        record.write(entry)
        marks.append(mark(record, run_id))
    record.clock.at_ms += 1
    record.write(record.change(run_id, RunState.WAITING, claim=claim))
    marks.append(mark(record, run_id))
    record.write(record.change(run_id, RunState.WAITING, claim=claim, release=True))
    marks.append(mark(record, run_id))
    assert all(before != after for before, after in pairwise(marks))
    progress = [each.progress for each in marks[:6]]
    assert progress == sorted(set(progress))


def test_a_mark_says_how_far_a_run_is(record):
    run_id = record.started(state=RunState.RUNNING)
    assert (mark(record, run_id).steps, mark(record, run_id).step) == (0, None)
    record.apply(
        record.step_ended(run_id, "reserve", sequence=1, state=StepState.FAILED),
        record.step_ended(run_id, "reserve", sequence=1, attempt=2),
        record.step_started(run_id, "charge", key="order-7", occurrence=2, sequence=2),
    )
    found = mark(record, run_id)
    assert (found.state, found.is_live, found.workflow_name) == (RunState.RUNNING, True, "checkout")
    assert (found.steps, found.running, found.is_running, found.step) == (2, 1, True, "charge[order-7]#2")


def test_a_run_that_ends_and_a_failure_that_is_resumed_have_other_marks(record):
    run_id = record.started(state=RunState.RUNNING)
    live = mark(record, run_id)
    record.write(record.end(run_id, RunState.FAILED))
    failed = mark(record, run_id)
    resume_id = record.write(record.resume(run_id)).run_id
    assert (live.is_live, failed.is_live) == (True, False)
    assert mark(record, run_id).resumed_by_run_id == resume_id
    assert len({live, failed, mark(record, run_id)}) == 3


def test_marks_of_what_does_not_exist_are_missing(record):
    run_id = record.started()
    assert set(record.store.run_marks([run_id, "no such run", "\x00", "\ud800"])) == {run_id}
    assert record.store.run_marks([]) == {}


def test_a_damaged_state_has_a_mark_too(record):
    run_id = record.started()
    record.sql("UPDATE workflow_runs SET state = 'sideways', completed_at = 1 WHERE id = ?", run_id)
    assert mark(record, run_id).state is None


def test_newest_run_is_that_with_the_greatest_id(record):
    assert record.store.newest_run_id() is None
    ids = [record.started() for _ in range(3)]
    assert record.store.newest_run_id() == max(ids)


@pytest.fixture
def asked(record):
    """The statements of a question and their plans."""

    def ask(question):
        engine, statements = record.store._reading().engine, []

        def note(connection, cursor, statement, parameters, context, executemany):
            statements.append((statement, parameters))

        sa.event.listen(engine, "before_cursor_execute", note)
        try:
            question()
        finally:
            sa.event.remove(engine, "before_cursor_execute", note)
        explain = "EXPLAIN QUERY PLAN " if engine.dialect.name == "sqlite" else "EXPLAIN "
        with engine.connect() as connection:
            if engine.dialect.name == "postgresql":
                connection.exec_driver_sql("SET enable_seqscan = off")
            found = [
                (statement, "\n".join(row[-1] for row in connection.exec_driver_sql(explain + statement, parameters)))
                for statement, parameters in statements
            ]
            connection.invalidate()
        return found

    return ask


def test_marks_are_found_by_primary_key_and_no_output_is_read(record, asked):
    ids = [record.started(state=RunState.RUNNING) for _ in range(20)]
    record.apply(
        *(record.step_ended(run_id, f"step-{number}", sequence=number) for run_id in ids for number in range(9))
    )
    found = asked(lambda: record.store.run_marks(ids[:3]))
    assert len(found) == 2
    behind_output = ("output", "workflow_run_steps.error", "started_at", "ended_at", "duration_ms")
    for statement, plan in found:
        assert "SCAN workflow_run" not in plan, plan
        assert "Seq Scan" not in plan, plan
        assert not any(column in statement for column in behind_output), statement


def test_no_step_is_read_of_a_run_that_has_ended(record, asked):
    run_id = record.failed()
    assert len(asked(lambda: record.store.run_marks([run_id]))) == 1


def test_newest_run_is_found_at_the_end_of_the_primary_key(record, asked):
    for _ in range(50):
        record.started()
    ((_, plan),) = asked(record.store.newest_run_id)
    assert "Seq Scan" not in plan
    assert "Sort" not in plan
    assert "TEMP B-TREE" not in plan
