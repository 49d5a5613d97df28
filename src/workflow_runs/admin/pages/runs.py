"""The list of runs: query, saved views, histogram, rows; the jump to one run; and what the list hears of while it is open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from ...errors import InvalidQuery, StoreUnavailable
from ...model.figures import HISTOGRAM_ROWS_MAX, Histogram
from ...model.marks import RunMark
from ...model.records import Page, Run, RunFilter, RunList
from ...model.states import RunState, is_finished
from ...operations.search import FIELDS, VALUES, Problem, Search, Term, parse_query, term_text
from ..access import READ_PAYLOAD
from ..answer import Answer
from . import bars
from .call import PageCall
from .formats import utc_text
from .live import Stream
from .statuses import Look, run_look

PAGE: Final = 50
DEFAULT_QUERY: Final = "since:24h"
_ROWS_MAX: Final = 50
_TICKS: Final = 6
_TIMES: Final = ("since", "from", "to")  # fields that a bar of the histogram stands for
_NOTHING: Final = RunList((), 0, total_capped=False, next_after=None)
_QUERY_MAX: Final = 4_000  # characters

# What people look for first. (name, query); counted on each page, capped.
VIEWS: Final = (
    ("Last 24 h", "since:24h"),
    ("Failed", "status:failed since:24h"),
    ("Running", "status:running"),
    ("Stuck", "is:stuck"),
    ("Resumed today", "is:resume since:24h"),
    ("Mine", "by:me"),
)


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run as the list shows it."""

    run: Run
    look: Look
    href: str
    kind: str  # resume, rerun, or nothing
    where: str  # the step that failed, or that is executing
    why: str
    progress: tuple[int, int] | None  # steps done, of how many at least
    by: str
    took_ms: int | None

    @property
    def is_live(self) -> bool:
        """Whether it has not ended."""
        return not is_finished(self.run.state)


@dataclass(frozen=True, slots=True)
class Tab:
    """A saved view with its count."""

    name: str
    q: str
    count: int | None
    capped: bool
    current: bool


@dataclass(frozen=True, slots=True)
class Listed:
    """All that the page of the list was told."""

    found: RunList
    count: tuple[int, bool] | None
    tabs: tuple[Tab, ...]
    histogram: Histogram | None
    marks: dict[str, RunMark]
    is_empty: bool = False  # there is no run at all
    is_too_slow: bool = False  # the query reads more than the database reads in time
    key_is_error: str | None = None  # the query that searches for the bare word in errors instead


async def show_runs(call: PageCall) -> Answer:
    """``GET runs``."""
    q = call.query.get("q", DEFAULT_QUERY)
    if len(q) > _QUERY_MAX:
        raise InvalidQuery(f"A query has at most {_QUERY_MAX} characters.", field="q")
    search = read_query(call, q)
    if search.run_id is not None and not call.part:
        return call.redirect(call.links.run(search.run_id))
    position = call.desk.changes.position()
    slices = bars.range_of(search.where.started_since, search.where.started_until, call.now)
    listed = await call.in_thread(partial(_ask, call, search, slices))
    rows = [row_of(call, run, listed.marks.get(run.id), q) for run in listed.found.runs]
    return call.page(
        "runs.html",
        area="Runs",
        q=q,
        search=search,
        listed=listed,
        rows=rows,
        first=call.query.get("before") is None,
        bars=drawn_bars(call, listed.histogram, search.replacing(_TIMES, "")),
        ticks=ticks_of(call, slices),
        histogram_rows_max=HISTOGRAM_ROWS_MAX,
        chips=[(term, call.links.runs(q=search.without(term))) for term in search.terms],
        drops=_drops(call, search) if not rows and search.problem is None else (),
        older=None if listed.found.next_after is None else call.links.runs(q=q, before=listed.found.next_after),
        newest=call.links.runs(q=q),
        fields=dict(FIELDS),
        values={**{name: list(words) for name, words in VALUES.items()}, "workflow": _names(call)},
        events=_events_address(call, q, rows, position),
    )


def read_query(call: PageCall, q: str) -> Search:
    """Return a query, read for whoever asks. Who may not see payloads may not find runs by them: each answer would tell of one."""
    settings = call.settings
    search = parse_query(q, call.now, me=call.principal.id, stuck_after_s=settings.stuck_after_s, zone=settings.zone)
    asked = next((term.field for term in search.terms if term.field.partition(".")[0] in {"error", "input"}), None)
    if asked is None or call.shown:
        return search
    return replace(search, problem=Problem(f"Searching by {asked}: needs the right {READ_PAYLOAD}.", asked))


def _ask(call: PageCall, search: Search, slices: bars.Range) -> Listed:
    desk, where = call.desk, call.narrowed(search.where)
    if where is None or search.problem is not None:
        return Listed(_NOTHING, (0, False), _tabs(call, search.text), None, {})
    page = Page(limit=PAGE, after=call.query.get("before") or None)
    try:
        found = desk.list_runs(where, page, payloads=False, total=False)
    except StoreUnavailable:
        if not search.scans:
            raise
        # A text that is nowhere is looked for until the database's patience ends: say so, and what helps.
        return Listed(_NOTHING, None, _tabs(call, search.text), None, {}, is_too_slow=True)
    live = [run.id for run in found.runs if not is_finished(run.state)]
    everything = None if found.runs else call.narrowed(RunFilter())
    count = call.soft(lambda: desk.count_runs(where))
    return Listed(
        found=found,
        count=count,
        tabs=_tabs(call, search.text, count),
        histogram=call.soft(lambda: desk.histogram(where, slices.since, slices.until, slices.bars)),
        marks=desk.run_marks(live) if live else {},
        is_empty=everything is not None
        and not desk.list_runs(everything, Page(limit=1), payloads=False, total=False).runs,
        key_is_error=search.bare_as_error() if search.bare is not None and not found.runs and call.shown else None,
    )


def _tabs(call: PageCall, current: str, count_of_current: tuple[int, bool] | None = None) -> tuple[Tab, ...]:
    """The saved views, counted in one question; without numbers while the database does not say them in time."""
    views = [(name, q) for name, q in VIEWS if name != "Mine" or call.principal.id is not None]
    counts: dict[str, tuple[int, bool]] = {}
    if count_of_current is not None:
        counts[current.strip()] = count_of_current
    wheres = {q: call.narrowed(read_query(call, q).where) for _, q in views if q not in counts}
    asked = {q: where for q, where in wheres.items() if where is not None}
    counted = call.soft(partial(call.desk.count_each, tuple(asked.values())))
    counts |= dict(zip(asked, counted or (), strict=False))
    tabs = []
    for name, q in views:
        count, capped = counts.get(q, (None, False))
        tabs.append(Tab(name, q, count, capped, current=q == current.strip()))
    return tuple(tabs)


def _names(call: PageCall) -> list[str]:
    return [info.name for info in call.desk.workflows() if call.principal.sees(info.name)]


# --- one row ---------------------------------------------------------------------------------------------------------


def row_of(call: PageCall, run: Run, mark: RunMark | None, q: str | None = None) -> RunRow:
    """Return a run as a row; ``mark`` tells how far a live one is, ``q`` is the list that its page leads back to."""
    where, why, progress = _where_and_why(call, run, mark)
    end = run.completed_at or call.now
    took_ms = run.duration_ms
    if took_ms is None:
        took_ms = max(0, round((end - run.started_at) / timedelta(milliseconds=1)))
    return RunRow(
        run=run,
        look=run_look(run.state),
        href=call.links.run(run.id, q=None if q == DEFAULT_QUERY else q),
        kind=kind_of(run),
        where=where,
        why=why,
        progress=progress,
        by=run.triggered_by_user_id or run.trigger,
        took_ms=took_ms,
    )


def kind_of(run: Run) -> str:
    """Return what made a run of another one: ``resume``, ``rerun``, or nothing."""
    if run.parent_run_id is None:
        return ""
    return "rerun" if run.resume_from is None else "resume"


def _where_and_why(call: PageCall, run: Run, mark: RunMark | None) -> tuple[str, str, tuple[int, int] | None]:
    error = run.error
    if is_finished(run.state):
        if error is None:
            return "", "", None
        # The step's name is no payload; what the error says may be.
        return error.step_name or "", error.message if call.shown else "", None
    if run.state is RunState.UNKNOWN:
        return (mark.step or "" if mark else ""), "Waits for a person: the outcome of a step is not known", None
    if run.state is RunState.QUEUED:
        return "", "Waits for a process that executes it", None
    if mark is None or mark.steps == 0:
        return "", "", None
    done = mark.steps - (1 if mark.is_running else 0)
    return mark.step or "", f"{done} done", (done, mark.steps)


async def show_rows(call: PageCall) -> Answer:
    """``GET rows``: rows of the list by id, for those that changed while it was open."""
    ids = [value for name, value in call.query_pairs if name == "run"][:_ROWS_MAX]
    runs, marks = await call.in_thread(partial(_rows, call, ids))
    rows = [row_of(call, run, marks.get(run.id), call.query.get("q")) for run in runs]
    return call.page("rows.html", rows=rows)


def _rows(call: PageCall, ids: Sequence[str]) -> tuple[list[Run], dict[str, RunMark]]:
    found = call.desk.runs_by_id(ids)
    seen = [run for run in found if call.principal.sees(run.workflow_name)]
    live = [run.id for run in seen if not is_finished(run.state)]
    return seen, call.desk.run_marks(live) if live else {}


# --- the histogram ---------------------------------------------------------------------------------------------------


def drawn_bars(call: PageCall, histogram: Histogram | None, query: str) -> tuple[bars.Drawn, ...]:
    """Return the bars of a histogram, each a link to the list of its time; ``query`` is what else the list is asked for."""
    if histogram is None:
        return ()

    def href(since: datetime, until: datetime) -> str:
        return call.links.runs(q=f"{query} from:{utc_text(since)} to:{utc_text(until)}".lstrip())

    return bars.drawn(histogram.bars, histogram.bar_s, href=href, label=partial(_tick, call))


def ticks_of(call: PageCall, slices: bars.Range) -> list[str]:
    """Return the times below a histogram."""
    step = (slices.until - slices.since) / _TICKS
    ticks = [_tick(call, slices.since + step * number) for number in range(_TICKS)]
    return [*ticks, "now" if slices.until >= call.now else _tick(call, slices.until)]


def _tick(call: PageCall, when: datetime) -> str:
    """A time on an axis: ``02:00`` where the seconds are none."""
    shown = call.moment(when).short
    return shown.removesuffix(":00") if shown.count(":") == 2 else shown


def _drops(call: PageCall, search: Search) -> list[tuple[Term, str, int, bool]]:
    """For a list without a match: what each term alone is in the way of."""
    drops = []
    for term in search.terms[:4]:
        q = search.without(term)
        where = call.narrowed(read_query(call, q).where)
        counted = None if where is None else call.soft(partial(call.desk.count_runs, where))
        if counted and counted[0]:
            drops.append((term, q, *counted))
    return drops


# --- jump ------------------------------------------------------------------------------------------------------------


async def jump(call: PageCall) -> Answer:
    """``GET jump``: a run's id opens it; a business key opens its only run or lists its runs."""
    text = call.query.get("q", "").strip()[:_QUERY_MAX]
    if not text:
        return call.redirect(call.links.runs())
    target = await call.in_thread(partial(_jump_target, call, text))
    return call.redirect(target)


def _jump_target(call: PageCall, text: str) -> str:
    if any(call.principal.sees(run.workflow_name) for run in call.desk.runs_by_id([text])):
        return call.links.run(text)
    where = call.narrowed(RunFilter(correlation_id=text))
    found = () if where is None else call.desk.list_runs(where, Page(limit=2), payloads=False, total=False).runs
    if len(found) == 1:
        return call.links.run(found[0].id)
    return call.links.runs(q=term_text("key", text) if found else text)


# --- live ------------------------------------------------------------------------------------------------------------


def _events_address(call: PageCall, q: str, rows: Sequence[RunRow], position: str) -> str:
    values = [("run", row.run.id) for row in rows]
    if call.query.get("before") is None:
        # The newest row, and from an empty list everything.
        values += [("q", q), ("new", rows[0].run.id if rows else "")]
    return call.links.events([*values, ("last", position)])


async def describe_events(_call: PageCall) -> Answer:
    """``HEAD events``. A GET is a stream, and answered as such."""
    return Answer(200, headers=[("content-type", "text/event-stream; charset=utf-8")])


def events_of(call: PageCall) -> Stream:
    """Return what a page listens to, from the address that the page gave its script."""
    ids = tuple(value for name, value in call.query_pairs if name == "run")[:_ROWS_MAX]
    after = call.query.get("new")
    count_new = None
    if after is not None:
        search = read_query(call, call.query.get("q", DEFAULT_QUERY)[:_QUERY_MAX])
        where = call.narrowed(search.where)
        if where is not None and search.problem is None:
            newer = replace(where, newer_than=after or None)
            count_new = lambda: call.desk.count_runs(newer, 1_000)[0]  # noqa: E731  # a closure over two values
    return Stream(
        changes=call.desk.changes,
        run_ids=ids,
        last=call.request.headers.get("last-event-id") or call.query.get("last"),
        count_new=count_new,
        may_see=None if call.principal.workflows is None else call.principal.sees,
        in_thread=call.pages.door.in_thread,
        streams_max=call.settings.streams_max,
    )
