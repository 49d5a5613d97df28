"""Named points of a run at which a process can be made to die, without a hook in the product.

A run passes through points, each reached once in an undisturbed run:

    accepted                          the run is on record; whoever triggers it has not been told yet
    before charge, attempt 1          the step's function is about to be called; in steps that must not be repeated its start is on record
    after charge, attempt 1           the function has returned or raised: what it does is done, and not on record
    recorded charge, attempt 1        the attempt's end is on record; the workflow has not got the value yet
    before undoing charge ...         the same three for its ``compensate`` hook
    ending, ended                     the run's end is about to be written; is on record

They are found from outside: the calls of step functions by a ``Steps`` between the workflow and its engine, the record by a ``Store``
between the journal and the database. What lies between two points is one commit or one call, so a death anywhere in it leaves what a
death at one of its ends leaves.
"""

from __future__ import annotations

import copy
import functools
import os
import threading
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any, NamedTuple, cast

from ..authoring import StepCall, Workflow, current_step
from ..execution.drive_async import is_coroutine_function
from ..model.entries import Entry, RunEnded, StartRun, StepEnded, StepUndone
from ..model.states import StepKind
from ..store.base import Outcome, Store, StoreWriter
from .effects import Effect, EffectLedger


class Moment(StrEnum):
    """When, seen from a step's function (or its ``compensate`` hook) or from the run."""

    BEFORE = "before"
    AFTER = "after"
    RECORDED = "recorded"
    ACCEPTED = "accepted"
    ENDING = "ending"
    ENDED = "ended"


OF_STEPS = frozenset({Moment.BEFORE, Moment.AFTER, Moment.RECORDED})


class Point(NamedTuple):
    """A point of a run. Without ``step``: of the run itself."""

    moment: Moment
    step: str = ""
    attempt: int = 0
    undoing: bool = False

    def __str__(self) -> str:
        """As people write it: ``after charge, attempt 1``."""
        if not self.step:
            return str(self.moment)
        return f"{self.moment} {'undoing ' if self.undoing else ''}{self.step}, attempt {self.attempt}"


class Watch:
    """Watches the runs of one process go by.

    Args:
        ledger: Gets a line for each call of a step's function ("did") or of its ``compensate`` hook ("undid").
        reached: Called at each point of a run, on the thread that has reached it. It may kill the process, or raise: then the step's
            function is not called, and the step fails with it.
    """

    def __init__(self, ledger: EffectLedger, reached: Callable[[Point, str], object]) -> None:
        self._ledger = ledger
        self._reached = reached

    def workflow(self, workflow: Workflow) -> Workflow:
        """Return the workflow, watched: the same in everything that is recorded of it."""
        # Kept in the definition once they are known, so the copy has those of the function itself.
        _ = workflow.input_codec, workflow.output_codec
        fn, watched = workflow.fn, copy.copy(workflow)

        async def call_async(run: Any, *arguments: Any) -> Any:
            return await fn(self._run(run), *arguments)

        def call(run: Any, *arguments: Any) -> Any:
            return fn(self._run(run), *arguments)

        watched.fn = functools.wraps(fn)(call_async if workflow.is_async else call)
        return watched

    def _run(self, run: Any) -> Any:
        run._steps = _WatchedSteps(run._steps, self)  # noqa: SLF001  # a seam that every engine has: no hook is needed for tests
        return run

    def store(self, store: Store) -> Store:
        """Return the store, watched."""
        return cast(Store, _WatchedStore(store, self))

    # --- the calls --------------------------------------------------------------------------------------------------

    def call(self, call: StepCall) -> StepCall:
        """Return the call of a step, watched."""
        if call.fn is None:
            return call
        label = call.step.label()
        undo = None if call.compensate is None else self._function(call.compensate, label, undoing=True)
        return call._replace(fn=self._function(call.fn, label, undoing=False), compensate=undo)

    def _function(self, fn: Callable[..., Any], label: str, *, undoing: bool) -> Callable[..., Any]:
        def reach(moment: Moment) -> None:
            context = current_step()
            self._reached(Point(moment, label, context.attempt, undoing), context.run_id)
            if moment is Moment.BEFORE:
                what = "undid" if undoing else "did"
                self._ledger.append(
                    Effect(context.run_id, label, context.attempt, os.getpid(), context.effect_key, what)
                )

        async def finish(awaitable: Any) -> Any:
            try:
                return await awaitable
            finally:
                reach(Moment.AFTER)

        if is_coroutine_function(fn):

            async def call_async(*args: Any) -> Any:
                reach(Moment.BEFORE)
                return await finish(fn(*args))

            return functools.wraps(fn)(call_async)

        def call(*args: Any) -> Any:
            reach(Moment.BEFORE)
            is_later = False
            try:
                value = fn(*args)
                is_later = hasattr(type(value), "__await__")
            finally:
                if not is_later:
                    reach(Moment.AFTER)
            return finish(value) if is_later else value

        return functools.wraps(fn)(call)

    # --- the record -------------------------------------------------------------------------------------------------

    def written(self, entries: Sequence[Entry], *, before: bool) -> None:
        """Pass the points that a commit stands for: those before it, or those after it."""
        for entry in entries:
            point = _point_before(entry) if before else _point_after(entry)
            if point is not None:
                self._reached(point, cast(Any, entry).run_id)


def _point_before(entry: Entry) -> Point | None:
    return Point(Moment.ENDING) if isinstance(entry, RunEnded) else None


def _point_after(entry: Entry) -> Point | None:
    match entry:
        case StartRun():
            return Point(Moment.ACCEPTED)
        case RunEnded():
            return Point(Moment.ENDED)
        case StepEnded(kind=StepKind.STEP):
            return Point(Moment.RECORDED, entry.step.label(), entry.attempt)
        case StepUndone():
            return Point(Moment.RECORDED, entry.step.label(), entry.attempt, undoing=True)
    return None


class _WatchedSteps:
    """Stands between a run object and what executes its steps: both ``Steps`` and ``AsyncSteps``."""

    def __init__(self, steps: Any, watch: Watch) -> None:
        self._steps = steps
        self._watch = watch

    def take(self, call: StepCall) -> Any:
        return self._steps.take(self._watch.call(call))

    def gather(self, branches: Sequence[Callable[[], Any]]) -> list[Any]:
        return cast(list[Any], self._steps.gather(branches))


class _WatchedStore:
    def __init__(self, store: Store, watch: Watch) -> None:
        self._store = store
        self._watch = watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def open_writer(self) -> StoreWriter:
        return _WatchedWriter(self._store.open_writer(), self._watch)


class _WatchedWriter:
    def __init__(self, writer: StoreWriter, watch: Watch) -> None:
        self._writer = writer
        self._watch = watch
        self.close = writer.close

    def apply(self, entries: Sequence[Entry]) -> list[Outcome]:
        self._watch.written(entries, before=True)
        outcomes = self._writer.apply(entries)
        self._watch.written(
            [entry for entry, outcome in zip(entries, outcomes, strict=True) if not isinstance(outcome, Exception)],
            before=False,
        )
        return outcomes


class Trigger:
    """Does something at the first of the points for which ``wanted`` is true, once; notes all that go by.

    Args:
        wanted: Asked of each point and run; from several threads, one at a time.
        deed: Done there.
    """

    def __init__(self, wanted: Callable[[Point, str], bool], deed: Callable[[], object]) -> None:
        self.passed: list[Point] = []
        self._wanted = wanted
        self._deed = deed
        self._done = False
        self._lock = threading.Lock()

    def __call__(self, point: Point, run_id: str) -> None:
        """Pass a point."""
        with self._lock:
            self.passed.append(point)
            fires = not self._done and self._wanted(point, run_id)
            self._done = self._done or fires
        if fires:
            self._deed()
