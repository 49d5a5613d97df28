"""Figures: what a count over all runs by hand gives, from the rollup or from rows, and how the databases find it."""

import random
import re
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from workflow_runs.clock import from_millis, run_id_floor, run_id_millis, to_millis
from workflow_runs.model.entries import RunEnded
from workflow_runs.model.figures import Bar, Histogram, Totals
from workflow_runs.model.records import RunFilter
from workflow_runs.model.states import RUN_STATUS, RunState, RunStatus, is_finished, may_follow, states_of
from workflow_runs.store import figures
from workflow_runs.store.figures import Slices
from workflow_runs.store.rollup import COUNT_COLUMNS, HALF_HOUR_MS, took_class

BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
END = BEGIN + timedelta(hours=12)
NAMES = ("checkout", "refund", "rebook", "only-live")
RUNS = 240
ENDS = [state for state in RunState if is_finished(state)]
LIVE = states_of(RunStatus.RUNNING)


@pytest.fixture
def filled(record):
    """Runs over twelve hours: ended in every way, and live in every state."""
    source = random.Random(7)
    entries = []
    for number in range(RUNS):
        record.clock.at_ms = to_millis(BEGIN) + source.randrange(12 * 3600 * 1000)
        run_id = _run_id(record.clock.at_ms, number)
        name = NAMES[3] if number % 40 == 0 else source.choice(NAMES[:3])
        tags = ("eu",) if number % 3 == 0 else ()
        end = None if number % 4 == 0 else source.choice(ENDS)
        state = source.choice(LIVE) if end is None else RunState.RUNNING
        if end is not None and not may_follow(state, end):
            state = RunState.COMPENSATING
        entries.append(
            record.start(run_id, state=state, workflow_name=name, tags=tags, trigger=("api", "cron")[number % 2])
        )
        if end is not None:
            entries.append(
                RunEnded(run_id, end, record.clock.at_ms + source.randrange(1, 10 ** source.randrange(1, 8)))
            )
    record.apply(*entries)
    return record


def _run_id(millis, number):
    return f"{run_id_floor(from_millis(millis))[:-6]}{number:06}"


def rows(record):
    """(start, workflow, state, duration) of every run, and whether it is tagged."""
    found = record.sql("SELECT id, workflow_name, state, duration_ms, tags FROM workflow_runs")
    return [
        (from_millis(run_id_millis(run_id)), name, RunState(state), duration_ms, "eu" in tags)
        for run_id, name, state, duration_ms, tags in found
    ]


def bars_by_hand(record, since, width, count, wanted=lambda *_: True):
    found = [Counter() for _ in range(count)]
    for row in rows(record):
        number = (row[0] - since) // width
        if 0 <= number < count and wanted(*row):
            found[number][RUN_STATUS[row[2]]] += 1
    order = (RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.RUNNING)
    return tuple(Bar(since + number * width, *(bar[status] for status in order)) for number, bar in enumerate(found))


# --- histograms -------------------------------------------------------------------------------------------------------

OF_ROLLUP = {
    "all": ({}, lambda *_: True),
    "name": ({"workflow_names": ("refund",)}, lambda start, name, *_: name == "refund"),
    "failed": (
        {"statuses": (RunStatus.FAILED,)},
        lambda start, name, state, *_: RUN_STATUS[state] is RunStatus.FAILED,
    ),
    "running": ({"statuses": (RunStatus.RUNNING,)}, lambda start, name, state, *_: not is_finished(state)),
    "states": (
        {"states": (RunState.LOST, RunState.WAITING)},
        lambda start, name, state, *_: state in {RunState.LOST, RunState.WAITING},
    ),
    "status and state that exclude each other": (
        {"statuses": (RunStatus.FAILED,), "states": (RunState.SUCCEEDED,)},
        lambda *_: False,
    ),
    "names and status": (
        {"workflow_names": ("refund", "checkout"), "statuses": (RunStatus.CANCELLED, RunStatus.RUNNING)},
        lambda start, name, state, *_: (
            name in {"refund", "checkout"} and RUN_STATUS[state] in {RunStatus.CANCELLED, RunStatus.RUNNING}
        ),
    ),
}


@pytest.mark.parametrize("case", OF_ROLLUP)
def test_histogram_is_what_counting_by_hand_gives(filled, case):
    where, wanted = OF_ROLLUP[case]
    for bars, width in ((24, timedelta(minutes=30)), (6, timedelta(hours=2)), (36, timedelta(minutes=20))):
        found = filled.store.histogram(RunFilter(**where), BEGIN, END, bars)
        assert found == Histogram(bars_by_hand(filled, BEGIN, width, bars, wanted), width.seconds, capped=False)


def test_histogram_of_any_other_filter_is_counted_from_rows(filled):
    found = filled.store.histogram(RunFilter(tags=("eu",)), BEGIN, END, 24)
    half_hour = timedelta(minutes=30)
    assert found.bars == bars_by_hand(filled, BEGIN, half_hour, 24, lambda start, name, state, duration, eu: eu)
    assert sum(bar.total for bar in found.bars) == RUNS // 3


def test_histogram_begins_and_ends_where_it_is_told(filled):
    since, width = BEGIN + timedelta(minutes=7), timedelta(minutes=13)
    found = filled.store.histogram(RunFilter(), since, since + 5 * width, 5)
    assert found.bars == bars_by_hand(filled, since, width, 5)
    assert found.bar_s == width.seconds


def test_times_of_the_filter_bound_the_histogram_too(filled):
    for since, until in (
        (BEGIN + timedelta(hours=2), END),
        (BEGIN + timedelta(hours=1, minutes=3), END - timedelta(hours=5)),
    ):
        where = RunFilter(started_since=since, started_until=until)
        found = filled.store.histogram(where, BEGIN, END, 12)
        by_hand = bars_by_hand(
            filled, BEGIN, timedelta(hours=1), 12, lambda start, *_, s=since, u=until: s <= start < u
        )
        assert found.bars == by_hand


def test_histogram_of_rows_is_capped_and_says_so(filled, monkeypatch):
    monkeypatch.setattr(figures, "HISTOGRAM_ROWS_MAX", 50)
    found = filled.store.histogram(RunFilter(trigger="api"), BEGIN, END, 12)
    assert found.capped
    assert 50 <= sum(bar.total for bar in found.bars) <= 51
    newest = bars_by_hand(filled, BEGIN, timedelta(hours=1), 12)
    assert found.bars[-1].total <= newest[-1].total
    assert found.bars[0].total == 0


def test_histogram_of_nothing_has_its_bars(record):
    for where in (
        RunFilter(),
        RunFilter(tags=("x",)),
        RunFilter(correlation_id="a\x00b"),
        RunFilter(workflow_names=("\ud800",)),
    ):
        found = record.store.histogram(where, BEGIN, END, 12)
        assert [bar.since for bar in found.bars] == [BEGIN + timedelta(hours=number) for number in range(12)]
        assert not any(bar.total for bar in found.bars)


def test_bars_are_as_wide_as_it_takes_to_reach_the_end(record):
    found = record.store.histogram(RunFilter(), BEGIN, BEGIN + timedelta(seconds=10), 4)
    assert found.bar_s == 3
    assert record.store.histogram(RunFilter(), END, BEGIN, 4).bar_s == 1


# --- totals and workflows ---------------------------------------------------------------------------------------------


def by_hand(record, since, until, names=NAMES):
    counts, durations = Counter(), []
    for start, name, state, duration_ms, _ in rows(record):
        if since <= start < until and name in names:
            counts[RUN_STATUS[state]] += 1
            if state is RunState.SUCCEEDED:
                durations.append(duration_ms)
    return counts, sorted(durations)


def is_so(found, record, since, until, names=NAMES):
    counts, durations = by_hand(record, since, until, names)
    shown = (found.succeeded, found.failed, found.cancelled, found.live)
    wanted = (RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.RUNNING)
    assert shown == tuple(counts[status] for status in wanted)
    assert found.ended == sum(shown[:3])
    assert found.success_rate == (shown[0] / sum(shown[:3]) if sum(shown[:3]) else None)
    for percentile_ms, share in ((found.p50_ms, 0.5), (found.p95_ms, 0.95)):
        if not durations:
            assert percentile_ms is None
        else:
            exact = durations[max(0, -(-round(share * 100) * len(durations) // 100) - 1)]
            assert took_class(percentile_ms) == took_class(exact)


@pytest.mark.parametrize("names", [(), ("refund",), ("refund", "only-live"), ("nobody",)])
def test_totals_are_what_counting_by_hand_gives(filled, names):
    for since, until in ((BEGIN, END), (BEGIN + timedelta(hours=3), BEGIN + timedelta(hours=4))):
        is_so(filled.store.totals(since, until, names), filled, since, until, names or NAMES)


def test_figures_of_workflows_are_what_counting_by_hand_gives(filled):
    found = filled.store.workflow_figures(BEGIN, END, 6, ())
    assert [figure.workflow_name for figure in found] == sorted(NAMES)
    for figure in found:
        name = figure.workflow_name
        is_so(figure, filled, BEGIN, END, (name,))
        ended = bars_by_hand(
            filled,
            BEGIN,
            timedelta(hours=2),
            6,
            lambda start, n, state, *_, name=name: n == name and is_finished(state),
        )
        assert figure.spark == ended


def test_figures_of_named_workflows_are_those_of_no_others(filled):
    live, refund = filled.store.workflow_figures(BEGIN, END, 0, ("refund", "only-live", "nobody"))
    assert refund == next(f for f in filled.store.workflow_figures(BEGIN, END, 0, ()) if f.workflow_name == "refund")
    assert live.workflow_name == "only-live"
    assert live.spark == refund.spark == ()


def test_workflow_with_only_live_runs_has_figures(record):
    record.started(run_id=_run_id(to_millis(BEGIN), 1), workflow_name="new")
    (found,) = record.store.workflow_figures(BEGIN, END, 3, ())
    assert (found.workflow_name, found.live, found.ended, found.success_rate) == ("new", 1, 0, None)
    assert [bar.total for bar in found.spark] == [0, 0, 0]


def test_spark_ends_with_the_time_and_is_made_of_whole_half_hours(record):
    record.failed(run_id=_run_id(to_millis(BEGIN + timedelta(minutes=40)), 1))
    until = BEGIN + timedelta(hours=2, minutes=10)
    (found,) = record.store.workflow_figures(BEGIN, until, 2, ())
    assert [bar.since for bar in found.spark] == [BEGIN - timedelta(minutes=30), BEGIN + timedelta(hours=1)]
    assert [bar.failed for bar in found.spark] == [1, 0]


def test_nothing_has_no_figures(record):
    assert record.store.totals(BEGIN, END, ()) == Totals(0, 0, 0, 0, None, None)
    assert record.store.workflow_figures(BEGIN, END, 3, ()) == ()
    assert record.store.totals(BEGIN, END, ("a\x00",)) == Totals(0, 0, 0, 0, None, None)
    assert record.store.workflow_figures(BEGIN, END, 3, ("\ud800",)) == ()


def insert(record, half_hour, name, shard, **counts):
    """Put a row into the rollup, values as SQL."""
    row = ", ".join(str(counts.get(column, 0)) for column in COUNT_COLUMNS)
    record.sql(f"INSERT INTO workflow_run_rollup VALUES ({half_hour}, {name}, {shard}, {row})")


def test_shards_are_added_up(record):
    for shard in (0, 3):
        insert(record, to_millis(BEGIN) // HALF_HOUR_MS, "'checkout'", shard, succeeded=10, took_05=10)
    assert record.store.totals(BEGIN, END, ()).succeeded == 20
    (found,) = record.store.workflow_figures(BEGIN, END, 12, ())
    assert found.succeeded == found.spark[0].succeeded == 20


# --- counts and names -------------------------------------------------------------------------------------------------


def test_runs_are_counted_up_to_a_cap(filled):
    assert filled.store.count_runs(RunFilter(), 10_000) == (RUNS, False)
    assert filled.store.count_runs(RunFilter(), RUNS) == (RUNS, False)
    assert filled.store.count_runs(RunFilter(), RUNS - 1) == (RUNS - 1, True)
    assert filled.store.count_runs(RunFilter(tags=("eu",)), 10_000) == (RUNS // 3, False)
    assert filled.store.count_runs(RunFilter(correlation_id="\x00"), 10) == (0, False)


def test_several_counts_are_one_question_and_the_same(filled):
    failed = RunFilter(statuses=(RunStatus.FAILED,))
    wheres = (RunFilter(), RunFilter(correlation_id="\x00"), failed, RunFilter(tags=("eu",)), RunFilter(states=()))
    assert filled.store.count_each(wheres, 10) == tuple(filled.store.count_runs(where, 10) for where in wheres)
    assert filled.store.count_each((), 10) == ()


def test_recorded_workflows_are_the_names_of_runs(filled):
    assert filled.store.recorded_workflows(500) == tuple(sorted(NAMES))
    assert filled.store.recorded_workflows(2) == tuple(sorted(NAMES))[:2]


def test_no_runs_have_no_names(record):
    assert record.store.recorded_workflows(500) == ()


class TestOnSqlite:
    """SQLite lets anybody put anything into any column (promise P16)."""

    @pytest.fixture
    def database_url(self, sqlite_url):
        return sqlite_url

    def test_damaged_rows_break_no_figure(self, filled):
        half_hour = to_millis(BEGIN) // HALF_HOUR_MS
        before = filled.store.totals(BEGIN, END, ())
        insert(filled, "'text'", "'checkout'", 1, succeeded=1)
        insert(filled, half_hour, "x'ff00'", 1, succeeded=1)
        insert(filled, half_hour, "CAST(x'ff' AS TEXT)", 1, failed=1)
        insert(filled, half_hour, "'checkout'", 1, succeeded="'many'", failed=2.5, took_03="x'00'")
        filled.sql(f"UPDATE workflow_runs SET workflow_name = x'fe', state = 'odd' WHERE id = '{filled.ids()[0]}'")
        after = filled.store.totals(BEGIN, END, ())
        assert (after.succeeded, after.failed) == (before.succeeded + 1, before.failed + 3)
        assert {figure.workflow_name for figure in filled.store.workflow_figures(BEGIN, END, 3, ())} == set(NAMES)
        assert len(filled.store.histogram(RunFilter(), BEGIN, END, 24).bars) == 24
        assert len(filled.store.histogram(RunFilter(trigger="api"), BEGIN, END, 24).bars) == 24
        assert set(filled.store.recorded_workflows(500)) == set(NAMES)


# --- plans ------------------------------------------------------------------------------------------------------------

QUESTIONS = {
    "histogram": lambda store: store.histogram(RunFilter(), BEGIN, END, 24),
    "histogram of a name": lambda store: store.histogram(RunFilter(workflow_names=("refund",)), BEGIN, END, 24),
    "histogram of failures": lambda store: store.histogram(RunFilter(statuses=(RunStatus.FAILED,)), BEGIN, END, 24),
    "histogram of rows": lambda store: store.histogram(RunFilter(tags=("eu",)), BEGIN, END, 24),
    "histogram of odd slices": lambda store: store.histogram(RunFilter(), BEGIN, END, 25),
    "totals": lambda store: store.totals(BEGIN, END, ()),
    "totals of names": lambda store: store.totals(BEGIN, END, ("refund", "rebook")),
    "figures": lambda store: store.workflow_figures(BEGIN, END, 7, ()),
    "figures of a name": lambda store: store.workflow_figures(BEGIN, END, 0, ("refund",)),
    "names": lambda store: store.recorded_workflows(500),
    "count": lambda store: store.count_runs(RunFilter(statuses=(RunStatus.FAILED,)), 100),
}


def plans(record, ask):
    """The statements that a question takes, each with the plan for it."""
    engine, asked = record.store._reading().engine, []

    def note(connection, cursor, statement, parameters, context, executemany):
        asked.append((statement, parameters))

    sa.event.listen(engine, "before_cursor_execute", note)
    try:
        ask(record.store)
    finally:
        sa.event.remove(engine, "before_cursor_execute", note)
    explain = "EXPLAIN QUERY PLAN " if engine.dialect.name == "sqlite" else "EXPLAIN "
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            for way in ("enable_seqscan", "enable_bitmapscan"):
                connection.exec_driver_sql(f"SET {way} = off")
        found = [
            (statement, "\n".join(str(row[-1]) for row in connection.exec_driver_sql(explain + statement, parameters)))
            for statement, parameters in asked
        ]
        connection.invalidate()
    return found


@pytest.mark.parametrize("question", QUESTIONS)
def test_no_table_is_read_whole(filled, question):
    if filled.url.startswith("postgresql"):
        filled.sql("VACUUM ANALYZE")
    found = plans(filled, QUESTIONS[question])
    assert found
    for statement, plan in found:
        assert not re.search(r"SCAN workflow_run|Seq Scan on workflow_run|SCAN r\b", plan), f"{statement}\n{plan}"
        if "FROM workflow_run_rollup" in statement:
            by_time = (
                r"workflow_run_rollup USING PRIMARY KEY \(half_hour>\? AND half_hour<\?\)|Index Cond: \(\(half_hour >="
            )
            assert re.search(by_time, plan), f"{statement}\n{plan}"


def test_live_runs_are_counted_in_the_index_of_names_and_states(filled):
    if filled.url.startswith("postgresql"):
        filled.sql("VACUUM ANALYZE")
    *_, (_, plan) = plans(filled, QUESTIONS["figures"])
    assert plan.count("ix_workflow_runs_name_state") == len(LIVE)


def test_rollup_answers_what_it_can_and_rows_only_of_live_runs_are_looked_at(filled):
    asked = [statement for statement, _ in plans(filled, QUESTIONS["histogram of failures"])]
    assert len(asked) == 1
    assert "workflow_run_rollup" in asked[0]


# --- slices -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 7, 48, figures.BARS_MAX])
def test_slices_meet_each_other_and_cover_the_time(count):
    slices = Slices.between(BEGIN, END, count)
    starts = slices.starts()
    assert starts[0] == BEGIN
    assert len(starts) == count
    assert starts[-1] + timedelta(milliseconds=slices.width_ms) >= END


def test_a_thousand_bars_of_rows_are_not_too_many_for_a_statement(filled):
    found = filled.store.histogram(RunFilter(trigger="api"), BEGIN, END, figures.BARS_MAX)
    assert sum(bar.total for bar in found.bars) == RUNS // 2
