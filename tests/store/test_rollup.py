"""The rollup holds what a recount of the runs gives, whatever was repeated, refused, rolled back or written at once."""

import random
import subprocess
import sys
import threading
from bisect import bisect_right
from collections import Counter, defaultdict
from dataclasses import replace
from itertools import pairwise

import hypothesis.strategies as st
import pytest
import sqlalchemy as sa
from alembic import command
from hypothesis import HealthCheck, given, settings

from workflow_runs.clock import from_millis, run_id_floor, run_id_millis
from workflow_runs.errors import EntryRejected, StoreUnavailable
from workflow_runs.model.entries import RunEnded
from workflow_runs.model.requests import Action, IdempotencyKey
from workflow_runs.model.states import RecordingMode, RunState, is_finished
from workflow_runs.store import postgresql, rollup, tables
from workflow_runs.store.migrating import configuration
from workflow_runs.store.rollup import CLASSES_MS, COUNT_COLUMNS, TOOK_COLUMNS, percentile, took_class
from workflow_runs.store.schema import VERSION_TABLE

DEADLINE_S = 120.0
HALF_HOUR = 1_800_000
ENDS = [state for state in RunState if is_finished(state)]


def counted(record):
    """What the rollup says, shards added up: for each half hour and workflow the columns that are not 0."""
    rows = defaultdict(Counter)
    for half_hour, name, *counts in record.sql(
        f"SELECT half_hour, workflow_name, {', '.join(COUNT_COLUMNS)} FROM workflow_run_rollup"
    ):
        rows[half_hour, name].update(dict(zip(COUNT_COLUMNS, counts, strict=True)))
    return {key: dict(+counts) for key, counts in rows.items()}


def recounted(record):
    """What the runs say."""
    rows = defaultdict(Counter)
    for run_id, name, state, duration_ms in record.sql(
        "SELECT id, workflow_name, state, duration_ms FROM workflow_runs WHERE completed_at IS NOT NULL"
    ):
        counts = rows[run_id_millis(run_id) // HALF_HOUR, name]
        counts[state] += 1
        if state == "succeeded":
            counts[f"took_{bisect_right(CLASSES_MS, duration_ms):02}"] += 1
    return {key: dict(counts) for key, counts in rows.items()}


def total(record):
    """How many runs the rollup has counted."""
    return sum(counts.get(state.value, 0) for counts in counted(record).values() for state in ENDS)


def is_exact(record):
    return counted(record) == recounted(record)


# --- what is counted --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ENDS)
def test_run_is_counted_in_its_half_hour_by_how_and_after_how_long_it_ended(record, state):
    before = RunState.COMPENSATING if "compensat" in state else RunState.RUNNING
    run_id = record.started(state=before)
    record.write(record.end(run_id, state, after_ms=1500))
    took = {f"took_{took_class(1500):02}": 1} if state is RunState.SUCCEEDED else {}
    assert counted(record) == {(run_id_millis(run_id) // HALF_HOUR, "checkout"): {state.value: 1} | took}


def test_run_counts_when_it_began_not_when_it_ended(record):
    run_id = record.started(state=RunState.RUNNING)
    record.write(record.end(run_id, after_ms=10 * HALF_HOUR))
    ((half_hour, _),) = counted(record)
    assert half_hour == run_id_millis(run_id) // HALF_HOUR


def test_run_that_has_not_ended_is_not_counted(record):
    run_id = record.started()
    record.write(record.change(run_id, RunState.RUNNING))
    assert not counted(record)


def test_clock_that_was_set_back_counts_as_no_time(record):
    run_id = record.started(state=RunState.RUNNING)
    record.write(record.end(run_id, after_ms=-60_000))
    assert list(counted(record).values()) == [{"succeeded": 1, "took_00": 1}]


def test_cancelling_a_run_that_nobody_executes_counts_it(record):
    run_id = record.started()
    record.write(record.cancel(run_id))
    record.write(record.cancel(run_id))
    assert total(record) == 1
    assert is_exact(record)


def test_cancelling_an_observed_run_counts_it(record):
    record.write(record.cancel(record.started(state=RunState.RUNNING, mode=RecordingMode.OBSERVE)))
    assert total(record) == 1


# --- exactly once -----------------------------------------------------------------------------------------------------


def test_end_that_is_repeated_counts_once(record):
    run_id = record.started(state=RunState.RUNNING)
    end = record.end(run_id)
    for _ in range(3):
        record.write(end)
    record.apply(end, end, record.end(run_id, RunState.FAILED))
    assert total(record) == 1


def test_batch_whose_answer_got_lost_counts_once(record):
    start = record.start(state=RunState.RUNNING)
    batch = [start, record.step_ended(start.run_id), record.end(start.run_id)]
    queued = record.started()
    batch += [record.cancel(queued), record.end(record.started(state=RunState.RUNNING))]
    assert record.apply(*batch) == record.apply(*batch)
    assert total(record) == 3
    assert is_exact(record)


def test_ends_in_several_parts_of_a_batch_are_all_counted(record):
    ids = [record.started(state=RunState.RUNNING) for _ in range(4)]
    keyed = record.start(action=Action("trigger", idempotency=IdempotencyKey("s", "k", "h")))
    record.apply(record.end(ids[0]), record.end(ids[1]), keyed, record.end(ids[2]), record.cancel(keyed.run_id))
    assert total(record) == 4
    assert is_exact(record)


def test_refused_end_is_not_counted_and_its_neighbours_are(record):
    good, bad = (record.started(state=RunState.RUNNING) for _ in range(2))
    claim = record.registered()
    outcomes = record.apply(
        record.end(good),
        record.end(bad, result="\ud800"),
        record.end(bad, claim=claim),
        record.end(record.clock.new_run_id()),
        record.end("run-1"),
    )
    assert isinstance(outcomes[1], EntryRejected)
    assert total(record) == 1
    assert is_exact(record)


def test_end_of_which_the_database_refuses_a_part_is_counted_not_at_all(record):
    run_id = record.started(state=RunState.RUNNING)
    record.apply(record.end(run_id, result="\ud800"))
    assert record.store.get_run(run_id).state is RunState.RUNNING
    assert not counted(record)
    record.write(record.end(run_id))
    assert is_exact(record)


def test_batch_that_is_rolled_back_counts_nothing(record):
    run_id = record.started(state=RunState.RUNNING)
    record.sql("ALTER TABLE workflow_run_rollup RENAME TO elsewhere")
    with pytest.raises(StoreUnavailable):
        record.apply(record.end(run_id))
    with pytest.raises(StoreUnavailable):
        record.apply(record.cancel(record.started()))
    record.sql("ALTER TABLE elsewhere RENAME TO workflow_run_rollup")
    assert record.store.get_run(run_id).state is RunState.RUNNING
    assert not counted(record)
    record.apply(record.end(run_id))
    assert is_exact(record)


KILLED = """
import os, sys
from workflow_runs.clock import Clock
from workflow_runs.model.entries import RunEnded
from workflow_runs.model.states import RunState
from workflow_runs.store import applying
from workflow_runs.store.opening import open_store
count = applying.EntryApplier.count_ended
def die(self):
    if sys.argv[2] == "after":
        count(self)
    os._exit(9)
applying.EntryApplier.count_ended = die
open_store(sys.argv[1], clock=Clock()).open_writer().apply(
    [RunEnded(run_id, RunState.SUCCEEDED, Clock().now_millis()) for run_id in sys.argv[3:5]] +
    # A second end of a run makes another bulk of it, so that the whole is a transaction of several statements.
    [RunEnded(sys.argv[3], RunState.FAILED, 1)]
)
"""


@pytest.mark.parametrize("place", ["before", "after"])
def test_process_that_dies_between_the_end_and_its_count_has_written_neither(record, place):
    ids = [record.started(state=RunState.RUNNING) for _ in range(2)]
    command = [sys.executable, "-c", KILLED, record.url, place, *ids]
    assert subprocess.run(command, check=False, timeout=DEADLINE_S).returncode == 9
    assert not counted(record)
    for run_id in ids:
        record.write(record.end(run_id))
    assert total(record) == 2
    assert is_exact(record)


# --- many at once -----------------------------------------------------------------------------------------------------


def test_writers_at_once_count_everything_and_wait_for_nobody_for_ever(new_record):
    writers, runs_each = [new_record() for _ in range(4)], 60
    first = writers[0]
    starts = [[writer.start(state=RunState.RUNNING) for _ in range(runs_each)] for writer in writers]
    for batch in starts:
        first.apply(*batch)
    gate, failures = threading.Barrier(len(writers)), []

    def work(writer, batch):
        gate.wait(DEADLINE_S)
        for place in range(0, runs_each, 3):
            # Different durations, in another order in each process; cancelling one makes it a transaction of several statements.
            *some, last = batch[place : place + 3]
            ends = [writer.end(start.run_id, after_ms=place + which) for which, start in enumerate(some)]
            outcomes = writer.apply(*(ends if place % 2 else reversed(ends)), writer.cancel(last.run_id))
            outcomes += writer.apply(writer.end(last.run_id, RunState.CANCELLED, after_ms=place))
            failures.extend(outcome for outcome in outcomes if isinstance(outcome, Exception))

    threads = [threading.Thread(target=work, args=pair) for pair in zip(writers, starts, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert failures == []
    assert total(first) == len(writers) * runs_each
    assert is_exact(first)


PROCESS = """
import sys
from workflow_runs.clock import Clock
from workflow_runs.model.entries import RunEnded, StartRun
from workflow_runs.model.requests import RunRequest
from workflow_runs.model.states import RunState
from workflow_runs.store.opening import open_store
clock, writer = Clock(), open_store(sys.argv[1], clock=Clock()).open_writer()
for number in range(40):
    ids = [clock.new_run_id() for _ in range(5)]
    names = ["a", "b", "c", "d", "e"][:: 1 if sys.argv[2] == "forth" else -1]
    writer.apply([StartRun(i, RunRequest(n, n), RunState.RUNNING) for i, n in zip(ids, names)])
    writer.apply([RunEnded(i, RunState.SUCCEEDED, clock.now_millis() + number) for i in ids])
"""


def test_processes_at_once_count_everything(record):
    commands = [[sys.executable, "-c", PROCESS, record.url, way] for way in ("forth", "back")]
    processes = [subprocess.Popen(command) for command in commands]
    assert [process.wait(DEADLINE_S) for process in processes] == [0, 0]
    assert total(record) == 400
    assert is_exact(record)


class TestOnPostgres:
    """Two server processes count in rows of their own; the same row only by chance."""

    @pytest.fixture
    def database_url(self, postgres_url):
        return postgres_url

    def test_connections_count_in_shards(self, record, new_record):
        for writer in (record, *(new_record() for _ in range(3))):
            writer.write(writer.end(record.started(state=RunState.RUNNING)))
        shards = {shard for (shard,) in record.sql("SELECT shard FROM workflow_run_rollup")}
        assert shards <= set(range(rollup.SHARDS))
        assert len(shards) > 1

    def test_writers_that_share_their_rows_never_wait_for_each_other_in_a_circle(self, new_record, monkeypatch):
        said = replace(postgresql._DIALECT, shard="0", _said={})
        monkeypatch.setattr(postgresql, "_DIALECT", said)
        statement = postgresql.SAVE_BULK_AND_COUNT.replace(postgresql.SHARD, "0")
        monkeypatch.setattr(postgresql, "SAVE_BULK_AND_COUNT", statement)
        writers, names = [new_record() for _ in range(3)], [f"workflow-{number}" for number in range(8)]
        starts = [[w.start(state=RunState.RUNNING, workflow_name=name) for name in names * 20] for w in writers]
        for batch in starts:
            writers[0].apply(*batch)
        gate, failures = threading.Barrier(len(writers)), []

        def work(writer, batch):
            gate.wait(DEADLINE_S)
            for place in range(0, len(batch), len(names)):
                some = random.sample(batch[place : place + len(names)], len(names))
                # Every other batch ends with what makes a transaction of several statements of it.
                more = [writer.cancel(some[0].run_id)] if place % 16 else []
                try:
                    writer.apply(*(writer.end(start.run_id) for start in some), *more)
                except StoreUnavailable as error:
                    failures.append(error)

        threads = [threading.Thread(target=work, args=pair) for pair in zip(writers, starts, strict=True)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE_S)
        assert failures == []  # the server gives one of them up after a second
        assert is_exact(writers[0])

    def test_writer_does_not_wait_for_the_commit_of_another(self, record, new_record):
        other = new_record()
        ends = [writer.end(record.started(state=RunState.RUNNING)) for writer in (record, other)]
        pids = [writer.writer._connected().connection.info.backend_pid for writer in (record, other)]
        while pids[1] % rollup.SHARDS == pids[0] % rollup.SHARDS:  # by chance: another connection
            other.writer.close()
            pids[1] = other.writer._connected().connection.info.backend_pid
        with record.writer._transaction():
            record.writer._session().run("SELECT 1", ())
            applier = record.writer._applier()
            applier.apply(ends[0])
            applier.count_ended()
            assert other.write(ends[1]).changed  # would wait for the transaction that is still open, and give up
        assert is_exact(record)


# --- the property -----------------------------------------------------------------------------------------------------

HAPPENINGS = st.one_of(
    st.tuples(st.just("start"), st.sampled_from([RunState.QUEUED, RunState.RUNNING])),
    st.tuples(st.just("change"), st.sampled_from([state for state in RunState if not is_finished(state)])),
    st.tuples(st.just("end"), st.sampled_from(ENDS), st.integers(-10, 10 * HALF_HOUR), st.booleans()),
    st.tuples(st.just("cancel")),
    st.tuples(st.just("bad")),
)


def make(record, kind, rest, run_id, name):
    if kind == "start":
        return record.start(run_id, state=rest[0], workflow_name=name)
    if kind == "change":
        return record.change(run_id, rest[0])
    if kind == "end":
        state, after_ms, has_result = rest
        return RunEnded(run_id, state, run_id_millis(run_id) + after_ms, result="1" if has_result else None)
    if kind == "cancel":
        return record.cancel(run_id)
    return record.end(run_id, result="\ud800")


BATCHES = st.lists(
    st.tuples(st.booleans(), st.lists(st.tuples(st.integers(0, 5), HAPPENINGS), min_size=1, max_size=8)), max_size=6
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(BATCHES)
def test_rollup_is_what_a_recount_gives(record, batches):
    began = record.clock.now_millis()
    ids = [run_id_floor(from_millis(began - number // 2 * HALF_HOUR))[:-6] + f"{number:06}" for number in range(6)]
    offset = record.clock.new_run_id()[-12:-6]  # other ids in every example
    ids = [run_id[:-12] + offset + run_id[-6:] for run_id in ids]
    for is_repeated, happenings in batches:
        entries = [make(record, kind, rest, ids[which], ("a", "b")[which % 2]) for which, (kind, *rest) in happenings]
        record.apply(*entries)
        if is_repeated:
            record.apply(*entries)
    assert is_exact(record)


# --- what the migration finds -----------------------------------------------------------------------------------------


def set_back(url):
    """Make the database one of the version before: tables empty, and an empty rollup that this version's writer can count in."""
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        tables.metadata.drop_all(connection)
        connection.exec_driver_sql(f"DROP TABLE {VERSION_TABLE}")
        command.upgrade(configuration(connection), "0001")
        tables.rollup.create(connection)
    engine.dispose()


def test_runs_that_ended_before_the_rollup_are_counted_by_the_migration(record):
    record.close()
    set_back(record.url)
    for number, state in enumerate(ENDS):
        before = RunState.COMPENSATING if "compensat" in state else RunState.RUNNING
        for workflow_name in ("checkout", "refund"):
            run_id = record.started(state=before, workflow_name=workflow_name)
            record.write(record.end(run_id, state, after_ms=3**number))
    record.write(record.end(record.started(state=RunState.RUNNING), after_ms=0))
    record.started()
    record.clock.at_ms += 3 * HALF_HOUR
    record.failed()
    before = counted(record)
    record.sql("DROP TABLE workflow_run_rollup")
    record.store.migrate()
    assert counted(record) == before == recounted(record)
    record.failed()
    assert is_exact(record)


# --- classes and percentiles ------------------------------------------------------------------------------------------


def by_class(*durations):
    counts = [0] * len(TOOK_COLUMNS)
    for duration in durations:
        counts[took_class(duration)] += 1
    return counts


def test_classes_are_in_order_and_reach_from_a_millisecond_to_days():
    assert list(CLASSES_MS) == sorted(set(CLASSES_MS))
    assert all(following <= max(4, first * 1.7) for first, following in pairwise(CLASSES_MS))
    assert CLASSES_MS[0] == 1
    assert CLASSES_MS[-1] > 86_400_000


@given(st.lists(st.integers(0, 20 * 86_400_000), min_size=1, max_size=200), st.sampled_from([0.05, 0.5, 0.95, 1.0]))
def test_percentile_is_right_to_within_its_class(durations, share):
    found = percentile(by_class(*durations), share)
    exact = sorted(durations)[max(0, -(-round(share * 1000) * len(durations) // 1000) - 1)]
    assert took_class(found) == took_class(exact)


def test_percentile_of_nothing_is_none():
    assert percentile([], 0.5) is None
    assert percentile(by_class(), 0.5) is None


def test_percentile_of_no_time_is_none_at_all():
    assert percentile(by_class(0, 0, 0), 0.95) == 0


def test_percentile_walks_through_a_class():
    counts = by_class(*[1000] * 100)
    first, middle, last = (percentile(counts, share) for share in (0.01, 0.5, 1.0))
    assert CLASSES_MS[took_class(1000) - 1] <= first < middle < last < CLASSES_MS[took_class(1000)]
