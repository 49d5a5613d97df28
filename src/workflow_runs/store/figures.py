"""Figures: how many runs, when, how they ended, how long they took. Counted by the database, never from a list that was read.

Two sources. *Ended* runs are in the rollup, by half hours: it answers whatever asks for names, states and half hours alone. *Rows* answer
everything else: the runs that have not ended (few), and every other filter, by the same queries as the list, newest first and no
further than to ``HISTOGRAM_ROWS_MAX``; what is counted so says that it was capped.

A run's start is the time in its id. SQL need not read it: which slice of time a run belongs to is found by comparing its id with the
smallest ids of the slices, in a tree of CASEs, six comparisons for forty-eight slices.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from ..clock import from_millis, run_id_floor, to_millis
from ..model.figures import HISTOGRAM_ROWS_MAX, Bar, Histogram, Totals, WorkflowFigures
from ..model.records import RunFilter
from ..model.states import RUN_STATUS, RunState, RunStatus, is_finished, states_of
from .finding import Branch, Finder
from .rollup import COUNT_COLUMNS, HALF_HOUR_MS, STATE_COLUMNS, half_hours, percentile
from .schema import NOT_SUCCEEDED
from .tables import rollup, runs

BARS_MAX: Final = 1_000

_LIVE = states_of(RunStatus.RUNNING)
_STATUS_OF: dict[object, RunStatus] = {state.value: status for state, status in RUN_STATUS.items()}
_ROLLUP_STATUS = tuple(_STATUS_OF[state] for state in STATE_COLUMNS)
_COUNT_MAX: Final = 2**31 - 1  # of one row: what PostgreSQL's integer holds


def _sum_of(column: sa.Column[int]) -> sa.ColumnElement[Any]:
    """Return the sum of a count; what is none (put there from outside) counts as nothing, and spoils no sum. Costs nothing: measured."""
    return sa.func.sum(sa.case((column.between(0, _COUNT_MAX), column)))


_SUMS = {name: _sum_of(rollup.c[name]) for name in COUNT_COLUMNS}
_COUNTS = tuple(_SUMS.values())


@dataclass(frozen=True, slots=True)
class Slices:
    """Slices of time, one after another, as wide as each other."""

    since_ms: int
    width_ms: int
    count: int

    @classmethod
    def between(cls, since: datetime, until: datetime, count: int) -> Slices:
        """Cut a time into slices of whole seconds; the last may reach beyond ``until``."""
        assert 1 <= count <= BARS_MAX, "a histogram has a few dozen bars"
        first = to_millis(since)
        span_ms = max(0, to_millis(until) - first)
        return cls(first, max(1, -(-span_ms // (count * 1000))) * 1000, count)

    @classmethod
    def of_half_hours(cls, first: int, last: int, count: int) -> Slices:
        """Cut half hours into slices of whole ones, so that the last slice ends with them; the first may reach before them."""
        assert 1 <= count <= BARS_MAX, "a spark line has a few dozen bars"
        width = max(1, -(-(last - first) // count))
        return cls((last - count * width) * HALF_HOUR_MS, width * HALF_HOUR_MS, count)

    @property
    def are_of_half_hours(self) -> bool:
        """Whether the rollup can be cut so."""
        return self.since_ms % HALF_HOUR_MS == 0 and self.width_ms % HALF_HOUR_MS == 0

    def starts(self) -> list[datetime]:
        """Return where each begins."""
        return [from_millis(self.since_ms + number * self.width_ms) for number in range(self.count)]

    def of_row(self) -> sa.ColumnElement[int]:
        """Return the number of the slice of a rollup's row."""
        return (rollup.c.half_hour - self.since_ms // HALF_HOUR_MS) // (self.width_ms // HALF_HOUR_MS)

    def of_run(self, key: sa.ColumnElement[str]) -> sa.ColumnElement[int]:
        """Return the number of the slice of a run; ``key`` is its id."""
        return self._among(key, [run_id_floor(start) for start in self.starts()], 0, self.count)

    def _among(self, key: sa.ColumnElement[str], floors: list[str], first: int, end: int) -> sa.ColumnElement[int]:
        if end - first == 1:
            return sa.literal_column(str(first), sa.Integer())
        middle = (first + end) // 2
        return sa.case(
            (key < floors[middle], self._among(key, floors, first, middle)),
            else_=self._among(key, floors, middle, end),
        )


class Figures:
    """Asks for figures on a connection that it is given; see ``base.Questions``."""

    def __init__(self, finder: Finder) -> None:
        self._finder = finder

    # --- numbers of runs ----------------------------------------------------------------------------------------------

    def count_each(
        self, connection: sa.Connection, wheres: Sequence[RunFilter | None], cap: int
    ) -> tuple[tuple[int, bool], ...]:
        """Return (number up to ``cap``, whether there are more) for each filter, by one statement; None matches nothing."""
        branches = [[] if where is None else self._finder.branches(where) for where in wheres]
        counts = [self._finder.count(found, cap).scalar_subquery() for found in branches if found]
        numbers = iter(connection.execute(sa.select(*counts)).one() if counts else ())
        counted = [next(numbers) if found else 0 for found in branches]
        return tuple((min(number, cap), number > cap) for number in counted)

    def recorded_workflows(self, connection: sa.Connection, limit: int) -> tuple[str, ...]:
        names = _recorded_names()
        chosen = sa.select(names.c.name).where(names.c.name.is_not(None)).limit(limit)
        return tuple(sorted(name for name in connection.execute(chosen).scalars() if type(name) is str))

    # --- histograms ---------------------------------------------------------------------------------------------------

    def histogram(
        self, connection: sa.Connection, where: RunFilter, since: datetime, until: datetime, bars: int
    ) -> Histogram:
        slices = Slices.between(since, until, bars)
        bounded = replace(
            where,
            started_since=since if where.started_since is None else max(since, where.started_since),
            started_until=until if where.started_until is None else min(until, where.started_until),
        )
        if slices.are_of_half_hours and _is_of_rollup(bounded):
            ended = _ended(connection, bounded, slices)
            of_rows, capped = self._of_rows(connection, _live_of(bounded), slices)
        else:
            ended = []
            of_rows, capped = self._of_rows(connection, bounded, slices)
        return Histogram(_bars(slices.starts(), [*ended, *of_rows]), slices.width_ms // 1000, capped)

    def _of_rows(
        self, connection: sa.Connection, where: RunFilter | None, slices: Slices
    ) -> tuple[list[tuple[int, RunStatus, int]], bool]:
        branches = [] if where is None else self._finder.branches(where)
        if not branches:
            return [], False
        ids = self._finder.page(branches, HISTOGRAM_ROWS_MAX).subquery()
        number = slices.of_run(ids.c.id).label("slice")
        chosen = sa.select(number, runs.c.state, sa.func.count()).join_from(ids, runs, runs.c.id == ids.c.id)
        found = connection.execute(chosen.group_by(sa.text("slice"), runs.c.state)).all()
        # A state that is none of ours is not to look like one that went well.
        counted = [(number, _STATUS_OF.get(state, RunStatus.FAILED), runs_of_it) for number, state, runs_of_it in found]
        return counted, sum(runs_of_it for _, _, runs_of_it in found) > HISTOGRAM_ROWS_MAX

    # --- totals -------------------------------------------------------------------------------------------------------

    def totals(
        self, connection: sa.Connection, since: datetime, until: datetime, workflow_names: Sequence[str]
    ) -> Totals:
        chosen = sa.select(*_COUNTS).where(*_between(half_hours(since, until)), *_named(workflow_names))
        counts = _Counts()
        counts.add(connection.execute(chosen).one())
        live = RunFilter(workflow_names=tuple(workflow_names), states=_LIVE, started_since=since, started_until=until)
        parts = [_count_of(branch) for branch in self._finder.branches(live)]
        counted = connection.execute(sa.union_all(*parts)).scalars()
        return Totals(*counts.by_status(), sum(counted), *counts.percentiles())

    def workflow_figures(
        self,
        connection: sa.Connection,
        since: datetime,
        until: datetime,
        spark_bars: int,
        workflow_names: Sequence[str],
    ) -> tuple[WorkflowFigures, ...]:
        bounds = half_hours(since, until)
        where = [*_between(bounds), *_named(workflow_names)]
        by_name = rollup.c.workflow_name
        counts: defaultdict[str, _Counts] = defaultdict(_Counts)
        for name, *row in connection.execute(sa.select(by_name, *_COUNTS).where(*where).group_by(by_name)).all():
            counts[name].add(row)
        sparks: defaultdict[str, list[tuple[int, RunStatus, int]]] = defaultdict(list)
        slices = Slices.of_half_hours(*bounds, max(1, spark_bars))
        if spark_bars:
            # A question of its own: the many columns of durations for every bar would cost more than reading the few again.
            number = slices.of_row().label("slice")
            of_states = (_SUMS[state] for state in STATE_COLUMNS)
            chosen = sa.select(by_name, number, *of_states).where(*where).group_by(by_name, sa.text("slice"))
            for name, slice_number, *row in connection.execute(chosen).all():
                sparks[name] += _by_status(slice_number, row)
        live = _live_by_name(connection, since, until, workflow_names)
        starts = slices.starts()
        return tuple(
            WorkflowFigures(
                name,
                *counts[name].by_status(),
                live.get(name, 0),
                *counts[name].percentiles(),
                _bars(starts, sparks[name]) if spark_bars else (),
            )
            for name in sorted(name for name in {*counts, *live} if type(name) is str)
        )


def no_histogram(since: datetime, until: datetime, bars: int) -> Histogram:
    """Return the histogram of a filter that no run can match."""
    slices = Slices.between(since, until, bars)
    return Histogram(_bars(slices.starts(), ()), slices.width_ms // 1000, capped=False)


class _Counts:
    """Sums of ``COUNT_COLUMNS``."""

    def __init__(self) -> None:
        self._counts = [0] * len(COUNT_COLUMNS)

    def add(self, row: Sequence[Any]) -> None:
        # None where there was nothing to add up; a number with a fraction, which SQLite keeps, gives a float.
        self._counts = [counted + int(more or 0) for counted, more in zip(self._counts, row, strict=True)]

    def by_status(self) -> tuple[int, int, int]:
        counted: Counter[RunStatus] = Counter()
        for _, status, number in _by_status(0, self._counts):
            counted[status] += number
        return counted[RunStatus.SUCCEEDED], counted[RunStatus.FAILED], counted[RunStatus.CANCELLED]

    def percentiles(self) -> tuple[int | None, int | None]:
        took = self._counts[len(STATE_COLUMNS) :]
        return percentile(took, 0.5), percentile(took, 0.95)


def _by_status(slice_number: int, row: Sequence[Any]) -> list[tuple[int, RunStatus, int]]:
    """Return the counts of a row whose values begin with those of ``STATE_COLUMNS``, by how the runs show."""
    return [(slice_number, status, int(number or 0)) for status, number in zip(_ROLLUP_STATUS, row, strict=False)]


def _is_of_rollup(where: RunFilter) -> bool:
    """Return whether the rollup knows all that the filter asks for; its times are given."""
    others = replace(where, workflow_names=(), statuses=(), states=(), started_since=None, started_until=None)
    times = (where.started_since, where.started_until)
    return others == RunFilter() and all(time is not None and to_millis(time) % HALF_HOUR_MS == 0 for time in times)


def _states_of(where: RunFilter) -> list[RunState]:
    return [
        state
        for state, status in RUN_STATUS.items()
        if (not where.statuses or status in where.statuses) and (not where.states or state in where.states)
    ]


def _ended(connection: sa.Connection, where: RunFilter, slices: Slices) -> list[tuple[int, RunStatus, int]]:
    """Return the ended runs of a filter that ``_is_of_rollup``, by slice and status."""
    assert where.started_since is not None, "bounded"
    assert where.started_until is not None, "bounded"
    wanted = {state.value for state in _states_of(where)}
    sums = [_SUMS[name] if name in wanted else sa.literal_column("0") for name in STATE_COLUMNS]
    if not wanted.intersection(STATE_COLUMNS):
        return []
    number = slices.of_row().label("slice")
    chosen = (
        sa.select(number, *sums)
        .where(*_between(half_hours(where.started_since, where.started_until)), *_named(where.workflow_names))
        .group_by(sa.text("slice"))
    )
    return [counted for number, *row in connection.execute(chosen).all() for counted in _by_status(number, row)]


def _live_of(where: RunFilter) -> RunFilter | None:
    """Return the filter for the runs among it that have not ended, or None if it wants none."""
    states = tuple(state for state in _states_of(where) if not is_finished(state))
    return replace(where, statuses=(), states=states) if states else None


def _between(bounds: tuple[int, int]) -> list[sa.ColumnElement[bool]]:
    first, last = bounds
    return [rollup.c.half_hour >= first, rollup.c.half_hour < last]


def _named(workflow_names: Sequence[str]) -> list[sa.ColumnElement[bool]]:
    return [rollup.c.workflow_name.in_(workflow_names)] if workflow_names else []


def _bars(starts: Sequence[datetime], counted: Iterable[tuple[int, RunStatus, int]]) -> tuple[Bar, ...]:
    found = {status: [0] * len(starts) for status in RunStatus}
    for number, status, runs_of_it in counted:
        found[status][number] += runs_of_it
    statuses = (RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.RUNNING)
    return tuple(map(Bar, starts, *(found[status] for status in statuses)))


def _count_of(branch: Branch) -> sa.Select[int]:
    return sa.select(sa.func.count()).select_from(branch.select().subquery())


def _recorded_names() -> sa.CTE:
    """Return the names of workflows with runs, each looked up as the next one after the one before; NULL after the last."""
    names = sa.select(sa.func.min(runs.c.workflow_name).label("name")).cte("names", recursive=True)
    following = (
        sa.select(sa.func.min(runs.c.workflow_name)).where(runs.c.workflow_name > names.c.name).scalar_subquery()
    )
    return names.union_all(sa.select(following).where(names.c.name.is_not(None)))


def _live_by_name(
    connection: sa.Connection, since: datetime, until: datetime, workflow_names: Sequence[str]
) -> dict[str, int]:
    """Return the runs that have not ended by workflow, where there are any.

    A look-up in the index of names and states for each name and state: its cost does not depend on how many runs have failed, and
    none of the rows of a backlog is read.
    """
    names = _recorded_names()
    counts = [
        sa.select(sa.func.count())
        .where(
            runs.c.workflow_name == names.c.name,
            runs.c.state == state.value,
            sa.text(NOT_SUCCEEDED),
            runs.c.id >= run_id_floor(since),
            runs.c.id < run_id_floor(until),
        )
        .correlate(names)
        .scalar_subquery()
        for state in _LIVE
    ]
    chosen = sa.select(names.c.name, *counts).where(names.c.name.is_not(None))
    if workflow_names:
        chosen = chosen.where(names.c.name.in_(workflow_names))
    return {name: live for name, *found in connection.execute(chosen) if (live := sum(found))}
