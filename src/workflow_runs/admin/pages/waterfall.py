"""The steps of a run as rows with bars over a time axis: what the page draws, computed.

Bars: an attempt that another followed is pale (``try``), the last one says how the step ended; what is kept from another run is hollow
and stands at the beginning, since it took no time here; what nobody knows the end of is dashed (``unknown``). A failed bar ends in
a mark, so it reads without colour. Times are the recorded wall times: where clocks disagree a bar still has a width, and that is all.

Of more than 200 steps a window is shown, over its own part of the time, with a strip above it that stands for all. What is not
shown is not computed: of 10,000 steps each state is looked at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import zip_longest
from typing import Final, Literal

from ...model.records import Attempt, Run, Step, StepKey
from ...model.states import Origin, RunState, StepKind, StepState, is_finished
from .formats import NOTHING, duration
from .statuses import EFFECT_BADGES, NOT_REACHED, ORIGIN_TEXTS, STEP_LOOKS, step_look
from .timescale import Axis, Gap, Tick, axes, percent

BarKind = Literal["ok", "bad", "run", "wait", "try", "seed", "comp", "unknown", "off"]

STEPS_MAX: Final = 200  # shown without a window
WINDOW_ROWS: Final = 100
STRIP_CELLS: Final = 200
_PLANNED_MAX: Final = 50
_BARS_MAX: Final = 40  # of one step; the attempts before are drawn as one

_WORTH_SQUEEZING: Final = 0.1  # of the axis; less is not offered
_WIDTH_MIN: Final = 0.4  # per cent: about two pixels
_SEED_WIDTH: Final = 2.0
_MARK_AFTER: Final = 94.0  # a mark that begins further right would leave the chart: it stands on the bar's end instead

_ENDED_AS: Final[dict[StepState, BarKind]] = {
    StepState.RUNNING: "run",
    StepState.SUCCEEDED: "ok",
    StepState.FAILED: "bad",
    StepState.CANCELLED: "off",
    StepState.UNKNOWN: "unknown",
    StepState.SKIPPED: "seed",
    StepState.COMPENSATED: "comp",
    StepState.COMPENSATION_FAILED: "bad",
}
# The first of these that is among a cell's steps is what the cell shows.
_WORST_FIRST: Final = (
    StepState.FAILED,
    StepState.COMPENSATION_FAILED,
    StepState.UNKNOWN,
    StepState.RUNNING,
    StepState.CANCELLED,
    StepState.COMPENSATED,
    StepState.SUCCEEDED,
    StepState.SKIPPED,
)
_RANK: Final = {state: rank for rank, state in enumerate(_WORST_FIRST)}
# In these a run goes on by itself, so its axis grows; the others wait for somebody, and three days of that would hide all bars.
_MOVING: Final = frozenset({RunState.RUNNING, RunState.RETRYING, RunState.WAITING, RunState.COMPENSATING})
_FAILED: Final = frozenset({StepState.FAILED, StepState.COMPENSATION_FAILED})


@dataclass(frozen=True, slots=True)
class Bar:
    """One attempt, several that would be told apart by nobody, or a wait. The class is ``b-{kind}``."""

    kind: BarKind
    x: str
    width: str


@dataclass(frozen=True, slots=True)
class Mark:
    """The octagon at the end of a failed bar, 14 px wide, ``dx`` px from ``x``."""

    x: str
    dx: int


@dataclass(frozen=True, slots=True)
class Row:
    """One step, or one that is planned and not recorded (``sequence`` None)."""

    number: int  # place among the steps, from 1: what people read
    sequence: int | None  # what links name: ?step=
    label: str
    name: str
    state: str | None  # value of StepState; None: not reached
    word: str
    css: str
    icon: str
    effect: str  # badge; empty: none
    origin: str  # "kept from another run"; empty: executed here
    depth: int  # 1: began before an earlier step ended
    bars: tuple[Bar, ...]
    mark: Mark | None
    note: str  # text in place of bars: "not reached"
    took: str
    took_ms: int | None
    attempts: int
    has_error: bool
    is_target: bool
    is_running: bool


@dataclass(frozen=True, slots=True)
class Window:
    """Which rows are shown, by number, both inclusive; ``previous`` and ``next`` are what to pass as ``first``."""

    first: int
    last: int
    total: int
    previous: int | None
    next: int | None


@dataclass(frozen=True, slots=True)
class Cell:
    """Some neighbouring steps in one cell of the overview; the worst of their states is shown, and linked to."""

    css: str
    word: str
    first: int
    last: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Chart:
    """What the page draws."""

    ticks: tuple[Tick, ...]
    gaps: tuple[Gap, ...]  # of a squeezed axis
    rows: tuple[Row, ...]
    total_steps: int  # recorded
    counts: tuple[tuple[str, int], ...]  # ("succeeded", 3), ("failed", 1), ("not reached", 2): the panel's subtitle
    window: Window | None  # None: all are shown
    strip: tuple[Cell, ...]  # empty unless there is a window
    is_squeezed: bool
    can_squeeze: bool  # there is idle time to leave out


def chart(
    run: Run,
    steps: Sequence[Step],
    now: datetime,
    *,
    squeeze: bool = False,
    target: StepKey | None = None,
    around: int | None = None,
    first: int | None = None,
    planned: Sequence[str] = (),
) -> Chart:
    """Return the chart of a run.

    Args:
        run: Its times and state bound the axis.
        steps: All recorded steps; readings of the clock among them are left out.
        now: Where the bar of a running step ends.
        squeeze: Leave out idle time.
        target: The step that a resume would begin with.
        around: Sequence of the step that the window is to show; default: target, failed, running, first.
        first: Number of the window's first row, instead of ``around``.
        planned: Labels of steps that are known to follow and not recorded.
    """
    ordered = sorted((step for step in steps if step.kind is StepKind.STEP), key=lambda step: step.sequence)
    window = None if len(ordered) <= STEPS_MAX else _window(ordered, _focus(ordered, target, around), first)
    shown = ordered if window is None else ordered[window.first - 1 : window.last]
    clock = _RunClock(run, now, ordered)
    spans = [_span(step, clock) for step in shown]
    work = [(one.begin, one.end) for span in spans for one in span.tries if one.kind != "wait"]
    axis, squeezed = axes(work, 0, clock.end) if window is None else axes(work, None, None)
    can_squeeze = any(begin < end for begin, end in work) and squeezed.left_out > _WORTH_SQUEEZING * axis.length
    chosen = squeezed if squeeze and can_squeeze else axis
    begin = 1 if window is None else window.first
    rows = [_row(number, span, chosen, target) for number, span in enumerate(_indented(spans), begin)]
    rest = _not_reached(planned, ordered)
    if window is None or window.last == len(ordered):
        rows += [_planned_row(len(ordered) + number, label) for number, label in enumerate(rest[:_PLANNED_MAX], 1)]
    return Chart(
        ticks=chosen.ticks(),
        gaps=chosen.gaps(),
        rows=tuple(rows),
        total_steps=len(ordered),
        counts=_counts(ordered, len(rest)),
        window=window,
        strip=() if window is None else _strip(ordered),
        is_squeezed=chosen is squeezed,
        can_squeeze=can_squeeze,
    )


# --- which rows ------------------------------------------------------------------------------------------------------


def _focus(steps: Sequence[Step], target: StepKey | None, around: int | None) -> int:
    """The index of the step that the window is about."""
    if around is not None:
        return next((at for at, step in enumerate(steps) if step.sequence >= around), len(steps) - 1)
    wanted = [at for at, step in enumerate(steps) if step.step == target]
    for states in (_FAILED, {StepState.UNKNOWN}, {StepState.RUNNING}):
        # Of several the last: what failed before it was caught or tried again.
        wanted = wanted or [at for at, step in enumerate(steps) if step.state in states][-1:]
    return wanted[0] if wanted else 0


def _window(steps: Sequence[Step], focus: int, first: int | None) -> Window:
    total = len(steps)
    wanted = first if first is not None else focus + 1 - WINDOW_ROWS // 2
    begin = min(max(1, wanted), total - WINDOW_ROWS + 1)
    last = begin + WINDOW_ROWS - 1
    return Window(
        begin,
        last,
        total,
        previous=max(1, begin - WINDOW_ROWS) if begin > 1 else None,
        next=min(last, total - WINDOW_ROWS) + 1 if last < total else None,
    )


def _strip(steps: Sequence[Step]) -> tuple[Cell, ...]:
    many = -(-len(steps) // STRIP_CELLS)
    cells = []
    for begin in range(0, len(steps), many):
        part = steps[begin : begin + many]
        worst = min(part, key=lambda step: _RANK[step.state])
        look = step_look(worst.state, worst.last.origin)
        cells.append(Cell(look.css, look.word, begin + 1, begin + len(part), worst.sequence))
    return tuple(cells)


def _counts(steps: Sequence[Step], not_reached: int) -> tuple[tuple[str, int], ...]:
    found = Counter(step.state for step in steps)
    counts = [(STEP_LOOKS[state].word.lower(), found[state]) for state in _ENDED_AS if found[state]]
    return (*counts, (NOT_REACHED.word.lower(), not_reached)) if not_reached else tuple(counts)


def _not_reached(planned: Sequence[str], steps: Sequence[Step]) -> list[str]:
    recorded = {step.step.label() for step in steps} if planned else set()
    return [label for label in planned if label not in recorded]


# --- times of a run --------------------------------------------------------------------------------------------------


class _RunClock:
    """Times as milliseconds since the run's execution began."""

    def __init__(self, run: Run, now: datetime, steps: Iterable[Step]) -> None:
        executed = [step.attempts[0].started_at for step in steps if step.state is not StepState.SKIPPED]
        self._zero = min([run.execution_started_at or run.started_at, *executed])
        self.is_over = is_finished(run.state)
        self.is_retrying = run.state is RunState.RETRYING
        self.now = self.at(now)
        if run.completed_at is not None:
            self.end = self.at(run.completed_at)
        else:
            self.end = self.now if run.state in _MOVING else 0

    def at(self, time: datetime) -> int:
        """Return a time; before the beginning nothing is."""
        return max(0, round((time - self._zero).total_seconds() * 1_000))


@dataclass(frozen=True, slots=True)
class _Try:
    begin: int
    end: int
    kind: BarKind


@dataclass(frozen=True, slots=True)
class _Span:
    """A step in time."""

    step: Step
    tries: tuple[_Try, ...]  # none if it took no time here
    begin: int
    end: int
    is_running: bool
    depth: int = 0


def _span(step: Step, clock: _RunClock) -> _Span:
    is_running = step.state is StepState.RUNNING and not clock.is_over
    if step.last.origin is Origin.SEEDED:
        return _Span(step, (), 0, 0, is_running=False)
    tries = [_try(*pair, clock) for pair in zip_longest(step.attempts, step.attempts[1:])]
    if clock.is_retrying and step.state is StepState.FAILED:
        tries += [_Try(tries[-1].end, clock.now, "wait")] if tries[-1].end < clock.now else []
    surplus = tries[: max(0, len(tries) - _BARS_MAX)]
    if surplus:
        tries[: len(surplus)] = [_Try(surplus[0].begin, max(one.end for one in surplus), "try")]
    return _Span(step, tuple(tries), min(one.begin for one in tries), max(one.end for one in tries), is_running)


def _try(attempt: Attempt, following: Attempt | None, clock: _RunClock) -> _Try:
    begin, state = clock.at(attempt.started_at), attempt.state
    if attempt.ended_at is not None:
        end = clock.at(attempt.ended_at)
    elif following is not None:
        end = clock.at(following.started_at)
    else:
        end = clock.end if clock.is_over else clock.now
    if state is StepState.RUNNING and (clock.is_over or following):
        kind: BarKind = "unknown"  # its process went away, and nothing was recorded of its end
    else:
        kind = "try" if state is StepState.FAILED and following else _ENDED_AS[state]
    return _Try(begin, max(begin, end), kind)


def _indented(spans: Iterable[_Span]) -> Iterable[_Span]:
    """The spans, those one level in that began while an earlier step was under way."""
    busy_until = 0
    for span in spans:
        yield replace(span, depth=1) if span.tries and span.begin < busy_until else span
        busy_until = max(busy_until, span.end)


# --- rows ------------------------------------------------------------------------------------------------------------


def _row(number: int, span: _Span, axis: Axis, target: StepKey | None) -> Row:
    step, look = span.step, step_look(span.step.state, span.step.last.origin)
    kept = Bar(_ENDED_AS[step.state], percent(0), percent(_SEED_WIDTH))
    bars = tuple(_bar(one, axis) for one in span.tries) or (kept,)
    took_ms = _took(span)
    return Row(
        number=number,
        sequence=step.sequence,
        label=step.step.label(),
        name=step.step.name,
        state=step.state.value,
        word=look.word,
        css=look.css,
        icon=look.icon,
        effect=EFFECT_BADGES[step.effect],
        origin=ORIGIN_TEXTS[step.last.origin],
        depth=span.depth,
        bars=bars,
        mark=_mark(axis.share(span.end)) if span.tries and bars[-1].kind == "bad" else None,
        note="",
        took=NOTHING if took_ms is None else duration(took_ms),
        took_ms=took_ms,
        attempts=len(step.attempts),
        has_error=step.last.error is not None or step.state in _FAILED,
        is_target=step.step == target,
        is_running=span.is_running,
    )


def _planned_row(number: int, label: str) -> Row:
    return Row(
        number=number,
        sequence=None,
        label=label,
        name=label,
        state=None,
        word=NOT_REACHED.word,
        css=NOT_REACHED.css,
        icon=NOT_REACHED.icon,
        effect="",
        origin="",
        depth=0,
        bars=(),
        mark=None,
        note=NOT_REACHED.word.lower(),
        took=NOTHING,
        took_ms=None,
        attempts=0,
        has_error=False,
        is_target=False,
        is_running=False,
    )


def _took(span: _Span) -> int | None:
    """From the first attempt's begin to the last one's end; None of what took no time here or never ended."""
    if not span.tries or (span.step.state is StepState.RUNNING and not span.is_running):
        return None
    one = span.step.last
    # Measured by a clock that nobody sets.
    measured = one.duration_ms if len(span.step.attempts) == 1 else None
    return max(0, span.end - span.begin if measured is None else measured)


def _bar(one: _Try, axis: Axis) -> Bar:
    begin, end = axis.share(one.begin), axis.share(one.end)
    width = max(_WIDTH_MIN, end - begin)
    return Bar(one.kind, percent(min(begin, 100 - width)), percent(width))


def _mark(end: float) -> Mark:
    return Mark(percent(end), 5 if end <= _MARK_AFTER else -19)
