"""The first page. Its order is urgency: what needs a person now, the last day, the worst workflows, and how recording does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final

from ...model.figures import Histogram, Totals, WorkflowFigures
from ...model.records import Page, RunFilter
from ...model.states import RunStatus
from ...operations.answers import RecorderHealth
from ..answer import Answer
from . import bars
from .call import PageCall
from .runs import DEFAULT_QUERY, RunRow, drawn_bars, read_query, row_of, ticks_of

_DAY: Final = timedelta(days=1)
_WORST: Final = 5
_ATTENTION: Final = 5  # rows of each kind


@dataclass(frozen=True, slots=True)
class Attention:
    """One kind of thing that waits for a person."""

    title: str
    q: str
    count: int
    capped: bool
    rows: tuple[RunRow, ...]


@dataclass(frozen=True, slots=True)
class Overview:
    """All that the page was told."""

    attention: tuple[Attention, ...]
    last_failure: RunRow | None
    has_runs: bool
    today: Totals | None
    before: Totals | None  # the same weekday, a week ago
    histogram: Histogram | None
    worst: tuple[WorkflowFigures, ...] | None
    health: RecorderHealth


# What needs a person, most urgent first: (title, query).
_KINDS: Final = (
    ("Waiting for a decision", "status:unknown"),
    ("Stuck", "is:stuck -status:unknown"),
    ("Failed and not resumed, last 24 h", "status:failed -has:resume since:24h"),
)


async def show_overview(call: PageCall) -> Answer:
    """``GET /``."""
    position = call.desk.changes.position()
    slices = bars.range_of(None, None, call.now)
    told = await call.in_thread(partial(_ask, call, slices))
    shown = [row.run.id for kind in told.attention for row in kind.rows]
    # A new failure is worth looking again for; each new run would not be.
    newest = "" if told.last_failure is None else told.last_failure.run.id
    values = [*(("run", run_id) for run_id in shown), ("q", "status:failed"), ("new", newest), ("last", position)]
    return call.page(
        "overview.html",
        area="Overview",
        told=told,
        bars=drawn_bars(call, told.histogram, ""),
        ticks=ticks_of(call, slices),
        day=DEFAULT_QUERY,
        is_loud=_is_loud(told.health),
        events=call.links.events(values),
    )


def _ask(call: PageCall, slices: bars.Range) -> Overview:
    desk, names = call.desk, _names(call)
    nothing = names is not None and not names
    week_ago = timedelta(days=7)
    totals = partial(desk.totals, workflow_names=names or ())
    since = call.now - _DAY
    everything = call.narrowed(RunFilter())
    return Overview(
        attention=_attention(call),
        last_failure=_last_failure(call),
        has_runs=everything is not None
        and bool(desk.list_runs(everything, Page(limit=1), payloads=False, total=False).runs),
        today=None if nothing else call.soft(lambda: totals(since, call.now)),
        before=None if nothing else call.soft(lambda: totals(since - week_ago, call.now - week_ago)),
        histogram=None
        if everything is None
        else call.soft(lambda: desk.histogram(everything, slices.since, slices.until, slices.bars)),
        worst=None if nothing else call.soft(lambda: _worst(desk.workflow_figures(since, call.now, 0, names or ()))),
        health=desk.health(),
    )


def _names(call: PageCall) -> tuple[str, ...] | None:
    allowed = call.principal.workflows
    return None if allowed is None else tuple(sorted(allowed))


def _attention(call: PageCall) -> tuple[Attention, ...]:
    found = []
    for title, q in _KINDS:
        where = call.narrowed(read_query(call, q).where)
        counted = None if where is None else call.soft(partial(call.desk.count_runs, where))
        if where is None or not counted or not counted[0]:
            continue
        page = call.desk.list_runs(where, Page(limit=_ATTENTION), payloads=False, total=False)
        marks = call.desk.run_marks([run.id for run in page.runs])
        rows = tuple(row_of(call, run, marks.get(run.id), q) for run in page.runs)
        found.append(Attention(title, q, *counted, rows))
    return tuple(found)


def _last_failure(call: PageCall) -> RunRow | None:
    where = call.narrowed(RunFilter(statuses=(RunStatus.FAILED,)))
    if where is None:
        return None
    found = call.desk.list_runs(where, Page(limit=1), payloads=False, total=False).runs
    return row_of(call, found[0], None) if found else None


def _worst(figures: Sequence[WorkflowFigures]) -> tuple[WorkflowFigures, ...]:
    """The workflows by what their failure rate is at least.

    That is the lower end of its 95 % interval (Wilson's score): one failure of a single run says less than forty of four hundred.
    """
    failing = [figure for figure in figures if figure.failed]
    return tuple(sorted(failing, key=lambda figure: -_rate_at_least(figure.failed, figure.ended))[:_WORST])


def _rate_at_least(failed: int, ended: int) -> float:
    rate, z = failed / ended, 1.96
    spread = z * math.sqrt(rate * (1 - rate) / ended + z * z / (4 * ended * ended))
    return (rate + z * z / (2 * ended) - spread) / (1 + z * z / ended)


def _is_loud(health: RecorderHealth) -> bool:
    """Whether recording needs somebody: records were dropped, wait too long, or the database does not answer."""
    return health.database_ms is None or health.dropped > 0 or (health.oldest_s or 0) > 5
