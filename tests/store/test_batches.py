"""Batches: one transaction, the meaning of one entry after the other, and a bad entry harms nobody but itself."""

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from workflow_runs.errors import EntryRejected, WorkflowRunsError
from workflow_runs.model.entries import Claim, Heartbeat, RunStarted
from workflow_runs.model.requests import Action, IdempotencyKey
from workflow_runs.model.states import RunState, StepState, is_finished
from workflow_runs.store.writing import divide

TABLES = ("runs", "run_payloads", "run_steps", "run_tags", "run_audit", "run_actions")
ORDER = {"runs": "id", "run_payloads": "run_id", "run_steps": "run_id, name, attempt", "run_tags": "tag, run_id"}


def contents(record):
    return {table: record.sql(f"SELECT * FROM workflow_{table} ORDER BY {ORDER.get(table, '1')}") for table in TABLES}


# --- what a batch is divided into -------------------------------------------------------------------------------------


def sketch(entries):
    """Say what became of a batch: the numbers of entries in each bulk, or of an entry by itself."""
    return [
        part
        if isinstance(part, int)
        else {name: len(getattr(part, name)) for name in ("steps", "starts", "changes", "ends") if getattr(part, name)}
        for part in divide(entries)
    ]


def test_start_and_end_of_an_attempt_become_one_row(record):
    entries = [record.step_started("r", "a"), record.step_started("r", "b"), record.step_ended("r", "a")]
    (bulk,) = divide(entries)
    assert bulk.steps == [entries[2], entries[1]]
    assert bulk.of_steps == [0, 1, 2]


def test_start_after_the_end_of_an_attempt_adds_nothing(record):
    entries = [record.step_ended("r"), record.step_started("r")]
    (bulk,) = divide(entries)
    assert bulk.steps == [entries[0]]


def test_whole_runs_in_one_batch_are_two_bulks_however_many_they_are(record):
    entries = []
    for _ in range(5):
        start = record.start()
        entries += [start, record.step_started(start.run_id), record.step_ended(start.run_id), record.end(start.run_id)]
    assert sketch(entries) == [{"steps": 5, "starts": 5}, {"ends": 5}]


def test_entries_of_other_kinds_part_the_batch(record):
    beat = Heartbeat(Claim("a", 1))
    assert sketch([record.step_ended("r", "a"), beat, beat, record.step_ended("r", "b")]) == [
        {"steps": 1},
        1,
        2,
        {"steps": 1},
    ]


def test_start_that_others_can_refuse_goes_by_itself(record):
    plain = record.start(action=Action("trigger"))
    keyed = record.start(action=Action("trigger", idempotency=IdempotencyKey("s", "k", "h")))
    claiming = record.start(action=Action("resume", target_run_id="r", claims_failure=True))
    assert sketch([plain, keyed, claiming]) == [{"starts": 1}, 1, 2]


# --- what a batch does ------------------------------------------------------------------------------------------------


def test_empty_batch_is_nothing(record):
    assert record.apply() == []


def test_whole_run_in_one_batch(record):
    start = record.start(tags=("a",), input="1", action=Action("trigger"))
    outcomes = record.apply(
        start,
        record.change(start.run_id, RunState.RUNNING),
        record.step_started(start.run_id),
        record.step_ended(start.run_id),
        record.end(start.run_id, result="2"),
    )
    assert outcomes[0] == RunStarted(start.run_id, created=True)
    assert outcomes[1:4] == [True, None, None]
    run = record.store.get_run(start.run_id)
    assert (run.state, run.input, run.result, run.tags) == (RunState.SUCCEEDED, "1", "2", ("a",))
    assert run.execution_started_at is not None


FLAWS = {
    "a lone surrogate": lambda record, run_id: record.step_ended(run_id, "bad", output='"\ud800"'),
    "a number that is too large": lambda record, run_id: record.step_ended(run_id, "bad", sequence=2**70),
    "no name": lambda record, run_id: record.step_ended(run_id, None),
    "a value that is no text": lambda record, run_id: record.step_ended(run_id, "bad", output=object()),
    "a lone surrogate in a tag": lambda record, run_id: record.start(tags=("\udfff",)),
    "no workflow name": lambda record, run_id: record.start(workflow_name=None),
    "a run id that is none": lambda record, run_id: record.start("run-1"),
    "a start that is an end": lambda record, run_id: record.start(state=RunState.FAILED),
    "an end that is none": lambda record, run_id: record.end(run_id, RunState.RUNNING),
    "a change that is an end": lambda record, run_id: record.change(run_id, RunState.FAILED),
}


@pytest.mark.parametrize("flaw", FLAWS)
def test_bad_entry_is_refused_and_its_neighbours_are_written(record, flaw):
    for place in (0, 2, 4):
        run_id = record.started(state=RunState.RUNNING)
        good = [
            record.step_ended(run_id, "a", sequence=1),
            record.step_started(run_id, "b", sequence=2),
            record.step_ended(run_id, "b", sequence=2),
            record.end(run_id, result="1"),
        ]
        outcomes = record.apply(*good[:place], FLAWS[flaw](record, run_id), *good[place:])
        assert isinstance(outcomes.pop(place), EntryRejected)
        assert not any(isinstance(outcome, WorkflowRunsError) for outcome in outcomes)
        assert [step.step.name for step in record.store.get_steps(run_id)] == ["a", "b"]
        assert record.store.get_run(run_id).result == "1"
    assert len(record.ids()) == 3


def test_refusal_says_nothing_of_the_database_or_the_value(record):
    secret = "the-secret"
    (outcome,) = record.apply(record.step_ended(record.started(), "a", output=f'"{secret}\ud800"'))
    assert outcome.__cause__ is not None
    for word in (secret, "INSERT", "sqlite", "psycopg", "surrogate", "utf"):
        assert word.lower() not in str(outcome).lower()


def test_refused_entry_leaves_nothing_behind(record):
    before = contents(record)
    record.apply(record.start(input="1", tags=("good", "\udfff"), action=Action("trigger")))
    assert contents(record) == before


class TestOnPostgres:
    """PostgreSQL has texts that it cannot hold, and indexes that some are too long for."""

    @pytest.fixture
    def database_url(self, postgres_url):
        return postgres_url

    @pytest.mark.parametrize("text", ["a\x00b", "".join(chr(0x4E00 + number) for number in range(20_000))])
    def test_text_that_cannot_be_held_refuses_its_entry_only(self, record, text):
        bad, good = record.start(correlation_id=text, workflow_name=text), record.start()
        outcomes = record.apply(bad, good)
        assert isinstance(outcomes[0], EntryRejected)
        assert outcomes[1].created
        assert record.ids() == [good.run_id]


# --- the short ways mean what the long way means ----------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b"])
CLAIMS = st.sampled_from(["nobody", "mine", "lost", "other"])
HAPPENINGS = st.one_of(
    st.tuples(st.just("start"), CLAIMS, st.sampled_from([RunState.QUEUED, RunState.RUNNING])),
    st.tuples(
        st.just("change"),
        CLAIMS,
        st.sampled_from([state for state in RunState if not is_finished(state)]),
        st.booleans(),
    ),
    st.tuples(st.just("end"), CLAIMS, st.sampled_from([state for state in RunState if is_finished(state)])),
    st.tuples(st.just("step_started"), CLAIMS, NAMES, st.integers(1, 2)),
    st.tuples(
        st.just("step_ended"),
        CLAIMS,
        NAMES,
        st.integers(1, 2),
        st.sampled_from([s for s in StepState if s != "running"]),
    ),
    st.tuples(st.just("cancel"), CLAIMS),
)


def make(record, happening, run_id, audit_id, claims):
    kind, claim, *rest = happening
    claim = claims[claim]
    if kind == "start":
        return record.start(
            run_id, state=rest[0], claim=claim, tags=("t",), input="1", action=Action("trigger"), audit_id=audit_id
        )
    if kind == "change":
        return record.change(run_id, rest[0], claim=claim, release=rest[1])
    if kind == "end":
        return record.end(run_id, rest[0], claim=claim, result="1")
    if kind == "step_started":
        return record.step_started(run_id, rest[0], attempt=rest[1], claim=claim)
    if kind == "step_ended":
        return record.step_ended(run_id, rest[0], attempt=rest[1], state=rest[2], claim=claim)
    return record.cancel(run_id)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 1), HAPPENINGS), min_size=1, max_size=14))
def test_batch_means_what_its_entries_mean_one_after_the_other(record, happenings):
    lost, other = record.registered(), record.registered("other")
    claims = {"nobody": None, "mine": record.registered(), "lost": lost, "other": other}
    stem = record.clock.new_run_id()[:-1]
    ids = [stem + last for last in "abcd"]  # of one millisecond
    together, singly = (
        [
            make(record, happening, ids[which + shift], f"wfra_{ids[which]}{shift}{place}", claims)
            for place, (which, happening) in enumerate(happenings)
        ]
        for shift in (0, 2)
    )
    outcomes = [record.apply(*together), record.writer._one_by_one(singly)]
    seen = []
    for shift in (0, 2):
        text = repr([record.store.get_run(run_id) for run_id in ids[shift : shift + 2]])
        text += repr([record.store.get_steps(run_id) for run_id in ids[shift : shift + 2]])
        text += repr([len(record.store.get_audit(run_id)) for run_id in ids[shift : shift + 2]])
        text += repr(outcomes[shift // 2])
        for which in (0, 1):
            text = text.replace(ids[shift + which], f"run {which}")
        seen.append(text)
    assert seen[0] == seen[1]
