"""Turns what happens in a run into journal entries.

``RunRecorder`` serves the engines (journal mode): each method submits one entry and returns its receipt; whoever needs the fact to be
durable waits on the receipt.

``begin_workflow_run`` and ``recorded_workflow`` are for code that runs elsewhere (observe mode); ``observed`` says what they promise.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from contextvars import ContextVar, Token
from dataclasses import replace
from types import TracebackType
from typing import Any, Final, ParamSpec, Protocol, Self, TypeVar

from ..clock import Clock
from ..errors import (
    Cancelled,
    CannotEncode,
    ConfigurationError,
    JournalClosed,
    QueueFull,
    RecordingError,
    StoreUnavailable,
    WorkflowError,
)
from ..journal import Journal, Receipt
from ..model.display import Shown, show
from ..model.entries import Claim, RunChanged, RunEnded, RunStarted, StartRun, StepUndone
from ..model.failures import describe
from ..model.records import ErrorRecord, Page, Run, RunFilter, RunList, Step, StepKey
from ..model.requests import Action, RunRequest
from ..model.states import EffectClass, Origin, RecordingMode, RunState, StepKind, StepState
from ..settings import Limits
from .attempt import StepAttempt
from .observed import StepHandle, WorkflowRunRecorder, fit, fit_or_none
from .outbox import Outbox

__all__ = [
    "RunRecorder",
    "StepAttempt",
    "StepHandle",
    "WorkflowRunRecorder",
    "begin_workflow_run",
    "current_recorder",
    "recorded_workflow",
]

T = TypeVar("T")
P = ParamSpec("P")

_log = logging.getLogger("workflow_runs.recorder")
_LIMITS: Final = Limits()

BEGIN_WAIT_S: Final = 1.0  # how long beginning an observed run waits for its row, where waiting is possible
_STRICT_WAIT_S: Final = 5.0  # how long an operator's action waits before it is refused
_NOT_GIVEN: Final = object()


# --- for engines -----------------------------------------------------------------------------------------------------


class RunRecorder:
    """Writes one run that this process executes under ``claim`` (None: nobody owns the run, nothing is fenced)."""

    __slots__ = ("_claim", "_clock", "_journal", "run_id")

    def __init__(self, journal: Journal, clock: Clock, run_id: str, claim: Claim | None) -> None:
        self._journal = journal
        self._clock = clock
        self._claim = claim
        self.run_id = run_id

    def attempt(
        self,
        step: StepKey,
        number: int,
        sequence: int,
        *,
        kind: StepKind = StepKind.STEP,
        effect: EffectClass = EffectClass.UNSAFE,
        input_digest: str | None = None,
    ) -> StepAttempt:
        """Return an attempt that begins now; nothing is written."""
        clock = self._clock
        return StepAttempt(step, number, sequence, kind, effect, input_digest, clock.now_millis(), clock.monotonic())

    def step_started(self, attempt: StepAttempt, *, lazy: bool) -> Receipt:
        """Record the begin. ``lazy``: it may be held back a little, to become one row with the end."""
        return self._journal.submit(attempt.start(self.run_id, self._claim), lazy=lazy)

    def step_ended(
        self,
        attempt: StepAttempt,
        state: StepState,
        *,
        output: str | None = None,
        error: ErrorRecord | None = None,
        origin: Origin = Origin.EXECUTED,
    ) -> Receipt:
        """Record the end, now. The row is complete: it needs no begin before it."""
        entry = attempt.end(self.run_id, self._claim, self._clock, state, output, error, origin)
        return self._journal.submit(entry)

    def step_undone(self, step: StepKey, number: int, state: StepState, error: ErrorRecord | None = None) -> Receipt:
        """Record that a step was compensated, or that compensating it failed."""
        now = self._clock.now_millis()
        return self._journal.submit(StepUndone(self.run_id, self._claim, step, number, state, error, now))

    def run_changed(self, state: RunState, *, release: bool = False) -> Receipt:
        """Record another live state; ``release`` gives the run back, so that another process may go on."""
        return self._journal.submit(RunChanged(self.run_id, state, self._clock.now_millis(), self._claim, release))

    def run_ended(self, state: RunState, *, result: str | None = None, error: ErrorRecord | None = None) -> Receipt:
        """Record a terminal state; the first one wins, which the receipt's ``EndOutcome`` tells."""
        return self._journal.submit(RunEnded(self.run_id, state, self._clock.now_millis(), result, error, self._claim))


# --- beginning -------------------------------------------------------------------------------------------------------


class RunsReader(Protocol):
    """What of a store is read to go on with a run; see ``StoreReader``."""

    def list_runs(self, where: RunFilter, page: Page, *, payloads: bool, total: bool = True) -> RunList:
        """Return one page, newest first."""
        ...

    def get_steps(self, run_id: str, *, outputs: bool = True) -> tuple[Step, ...]:
        """Return the run's steps by sequence."""
        ...


class Recording(Protocol):
    """What records: a ``WorkflowRuns``."""

    @property
    def journal(self) -> Journal:
        """The way to write."""
        ...

    @property
    def store(self) -> RunsReader:
        """What is read."""
        ...

    @property
    def clock(self) -> Clock:
        """Reads the time."""
        ...


class HandlerContext(Protocol):
    """What a runner's handler is handed; see ``operations.registry``."""

    @property
    def action(self) -> Action:
        """Audit entry, idempotency key, claim."""
        ...

    def request(
        self,
        workflow: str,
        *,
        workflow_name: str | None = None,
        trigger: str | None = None,
        tags: Sequence[str] | None = None,
    ) -> RunRequest:
        """Return the request that carries lineage, seeds and action."""
        ...


def begin_workflow_run(
    runs: Recording | Journal,
    *,
    workflow_name: str,
    trigger: str | None = None,
    correlation_id: str | None = None,
    tags: Sequence[str] | None = None,
    input: Any = _NOT_GIVEN,
    parent_run_id: str | None = None,
    triggered_by_user_id: str | None = None,
    resume_from_step: str | StepKey | None = None,
    reuse_running_run: bool = False,
    ctx: HandlerContext | None = None,
    wait_s: float = BEGIN_WAIT_S,
) -> WorkflowRunRecorder:
    """Begin to record a run that executes outside our engines, and return its recorder.

    Without ``ctx`` nothing is raised, and at most ``wait_s`` seconds are waited until the run is durable: in a thread; a coroutine's
    event loop is not held up. While the database is known to be away nothing is waited for: the run goes to the spool.

    With ``ctx``, which a runner's trigger, rerun or resume handler was handed, the run is an operator's action: lineage, seeds, audit
    entry, idempotency key and the claim on the failed run are written with it, and the call waits for the commit. What is
    not given is taken from ``ctx``. From a coroutine call it through ``asyncio.to_thread`` then.

    Args:
        runs: The ``WorkflowRuns`` of the application, or its journal.
        workflow_name: What the run is recorded under.
        trigger: What set it off; default ``manual``, or what ``ctx`` says.
        correlation_id: The caller's id of what the run is about.
        tags: All tags of the run.
        input: As given, and shown so; dates, decimals and dataclasses become JSON that people can read.
        parent_run_id: The run that this one repeats.
        triggered_by_user_id: Who set it off.
        resume_from_step: Where it goes on, if it does.
        reuse_running_run: Go on with the newest observed run of this name and correlation id that is still running, if there is
            one; needs a ``WorkflowRuns`` and may wait ``wait_s`` for the look-up.
        ctx: See above.
        wait_s: Seconds; 0 waits for nothing.

    Raises:
        Refusal: with ``ctx``: ``AlreadyResumed``, ``IdempotencyKeyReused``.
        StoreUnavailable: with ``ctx``: the run was not accepted within 5 seconds.
        CannotEncode: with ``ctx``: part of ``input`` has no JSON form.
    """
    journal = runs if isinstance(runs, Journal) else runs.journal
    clock = Clock() if isinstance(runs, Journal) else runs.clock
    name = fit(workflow_name, _LIMITS.name_length_max)
    shown = None if input is _NOT_GIVEN or input is None else show(input)
    given = _given(shown, resume_from_step, correlation_id, parent_run_id, triggered_by_user_id)
    if ctx is not None:
        if shown is not None and not shown.is_whole:
            raise CannotEncode("workflow input", "$", type(input).__name__, "a part of it has no JSON form")
        request = ctx.request(name, workflow_name=name, trigger=trigger, tags=tags)
        return _begin_strictly(journal, clock, replace(request, **given))
    all_tags = _fit_tags(tags)
    set_off_by = fit(trigger or "manual", _LIMITS.name_length_max)
    request = RunRequest(name, name, trigger=set_off_by, tags=all_tags[: _LIMITS.tags_max], **given)
    if reuse_running_run and not isinstance(runs, Journal):
        reused = _reused(runs, request, wait_s)
        if reused is not None:
            return reused
    run_id = clock.new_run_id()
    outbox = Outbox(journal, run_id)
    outbox.send(StartRun(run_id, request, RunState.RUNNING, RecordingMode.OBSERVE))
    if (shown is not None and not shown.is_whole) or len(all_tags) > _LIMITS.tags_max:
        outbox.note_gap("part of the input or of the tags")
    if wait_s > 0 and not _is_in_event_loop() and not outbox.wait_for_begin(wait_s):
        _log.warning("run %s is not durable yet; it is kept and written when the database can be used", run_id)
    return WorkflowRunRecorder(outbox, clock, run_id)


def _given(
    shown: Shown | None,
    resume_from_step: str | StepKey | None,
    correlation_id: str | None,
    parent_run_id: str | None,
    triggered_by_user_id: str | None,
) -> dict[str, Any]:
    """Return the fields of the request that the caller gave, made fit."""
    if isinstance(resume_from_step, str):
        resume_from_step = StepKey(fit(resume_from_step, _LIMITS.name_length_max))
    fields = {
        "correlation_id": fit_or_none(correlation_id, _LIMITS.identifier_length_max),
        "parent_run_id": fit_or_none(parent_run_id, _LIMITS.identifier_length_max),
        "triggered_by_user_id": fit_or_none(triggered_by_user_id, _LIMITS.identifier_length_max),
        "resume_from": resume_from_step,
        "input": None if shown is None else shown.text,
    }
    return {field: value for field, value in fields.items() if value is not None}


def _fit_tags(tags: object) -> tuple[str, ...]:
    listed = [tags] if isinstance(tags, str) else tags if isinstance(tags, Iterable) else []
    return tuple(dict.fromkeys(fit(tag, _LIMITS.tag_length_max) for tag in listed))


def _begin_strictly(journal: Journal, clock: Clock, request: RunRequest) -> WorkflowRunRecorder:
    run_id = clock.new_run_id()
    entry = StartRun(
        run_id,
        request,
        RunState.RUNNING,
        RecordingMode.OBSERVE,
        audit_id=clock.new_audit_id() if request.action else None,
    )
    try:
        started = journal.submit(entry, give_up_after_s=_STRICT_WAIT_S).result()
    except (QueueFull, JournalClosed) as error:
        raise StoreUnavailable(f"the run is not accepted: {error}") from error
    except StoreUnavailable:
        # Should it have been written after all, it must neither seem to run for ever nor hold the claim on the failed run.
        never = describe("The database did not answer in time, and the run was not begun")
        with suppress(RecordingError):
            _ = journal.submit(RunEnded(run_id, RunState.CANCELLED, clock.now_millis(), error=never), tell=_ignore)
        raise
    assert isinstance(started, RunStarted)
    recorder = WorkflowRunRecorder(Outbox(journal, started.run_id), clock, started.run_id, created=started.created)
    recorder.continue_after((seed.step, seed.sequence) for seed in request.seeds)
    return recorder


def _ignore(_outcome: object) -> None:
    """Mostly there is no such run, and nothing to end."""


def _reused(runs: Recording, request: RunRequest, wait_s: float) -> WorkflowRunRecorder | None:
    """Return a recorder that goes on with a running run; None if there is none, or the database does not say so in time."""
    found: list[tuple[Run, tuple[Step, ...]]] = []

    def look() -> None:
        where = RunFilter(
            workflow_names=(request.workflow_name,), states=(RunState.RUNNING,), correlation_id=request.correlation_id
        )
        try:
            for run in runs.store.list_runs(where, Page(limit=10), payloads=False, total=False).runs:
                if run.mode is RecordingMode.OBSERVE:
                    found.append((run, runs.store.get_steps(run.id, outputs=False)))
                    return
        except Exception as error:  # noqa: BLE001  # a new run is recorded then
            _log.warning(
                "whether %r is running already cannot be read: %s", request.workflow_name, type(error).__name__
            )

    if request.correlation_id is None:
        return None
    thread = threading.Thread(target=look, name="workflow-runs-reuse", daemon=True)
    thread.start()
    thread.join(wait_s)
    if not found:
        return None
    run, steps = found[0]
    recorder = WorkflowRunRecorder(Outbox(runs.journal, run.id), runs.clock, run.id)
    recorder.adopt(steps)
    return recorder


def _is_in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


# --- a whole function ------------------------------------------------------------------------------------------------

_CURRENT: ContextVar[WorkflowRunRecorder | None] = ContextVar("workflow_runs_recorder", default=None)


def current_recorder() -> WorkflowRunRecorder:
    """Return the recorder of the ``recorded_workflow`` that is executing, also in what it calls and in tasks it starts.

    Raises:
        WorkflowError: none is executing here.
    """
    recorder = _CURRENT.get()
    if recorder is None:
        raise WorkflowError("current_recorder() is for functions that recorded_workflow wraps: none is executing here")
    return recorder


def recorded_workflow(
    runs: Recording | Journal | Callable[[], Recording | Journal | None],
    *,
    name: str,
    trigger: str | Callable[..., str | None] | None = None,
    correlation_id: str | Callable[..., str | None] | None = None,
    tags: Sequence[str] | Callable[..., Sequence[str] | None] | None = None,
    parent_run_id: str | Callable[..., str | None] | None = None,
    triggered_by_user_id: str | Callable[..., str | None] | None = None,
    reuse_running_run: bool = False,
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Record each call of a function, plain or coroutine, as a run; the function itself is executed as without it.

    Its steps are recorded too: ``current_recorder().step("charge", charge, order)``. What it returns is the run's result; what it
    raises fails the run and is raised on, the same exception; ``Cancelled``, a cancelled task and an interrupt end it as cancelled.

    The input is what the function was called with: the value of a single argument, else an object of all of them. There is no
    option to record something else in its place: a rerun would run with that.

    Args:
        runs: The ``WorkflowRuns`` of the application or its journal, or a function that returns it when the first call comes; None
            records nothing.
        name: What the runs are recorded under.
        trigger: What set it off. This and the following may be functions of the call's arguments; one that raises counts as None.
        correlation_id: See ``begin_workflow_run``.
        tags: See there.
        parent_run_id: See there.
        triggered_by_user_id: See there.
        reuse_running_run: See there.

    Raises:
        ConfigurationError: a generator function is no workflow.
    """
    options = {
        "trigger": trigger,
        "correlation_id": correlation_id,
        "tags": tags,
        "parent_run_id": parent_run_id,
        "triggered_by_user_id": triggered_by_user_id,
    }

    def decorate(fn: Callable[P, T]) -> Callable[P, T]:
        if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
            raise ConfigurationError(f"{name!r} must be a function or a coroutine function, not a generator")
        signature = inspect.signature(fn)

        def begin(*args: Any, **kwargs: Any) -> WorkflowRunRecorder:
            given = {option: _evaluated(value, option, args, kwargs) for option, value in options.items()}
            target = _evaluated(runs, "runs", (), {})
            if target is None:
                run_id = Clock().new_run_id()
                return WorkflowRunRecorder(Outbox(None, run_id), Clock(), run_id)
            called_with = _called_with(signature, args, kwargs)
            return begin_workflow_run(
                target, workflow_name=name, input=called_with, reuse_running_run=reuse_running_run, **given
            )

        if inspect.iscoroutinefunction(fn):

            @functools.wraps(fn)
            async def recorded_async(*args: P.args, **kwargs: P.kwargs) -> Any:
                with _Recorded(begin(*args, **kwargs)) as recorded:
                    return recorded.ended(await fn(*args, **kwargs))

            return recorded_async  # type: ignore[return-value]  # T is the coroutine

        @functools.wraps(fn)
        def recorded_plain(*args: P.args, **kwargs: P.kwargs) -> T:
            with _Recorded(begin(*args, **kwargs)) as recorded:
                return recorded.ended(fn(*args, **kwargs))

        return recorded_plain

    return decorate


class _Recorded:
    """One call of a recorded function."""

    def __init__(self, recorder: WorkflowRunRecorder) -> None:
        self._recorder = recorder
        self._token: Token[WorkflowRunRecorder | None] | None = None

    def __enter__(self) -> Self:
        self._token = _CURRENT.set(self._recorder)
        return self

    def ended(self, result: T) -> T:
        if self._recorder.ended_as is None:  # the function may have ended the run by itself
            self._recorder.complete(result)
        return result

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._token is not None
        _CURRENT.reset(self._token)
        if error is not None and self._recorder.ended_as is None:
            if isinstance(error, Exception) and not isinstance(error, Cancelled):
                self._recorder.fail(error)
            else:
                self._recorder.cancel(error)


def _evaluated(option: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if not callable(option):
        return option
    try:
        return option(*args, **kwargs)
    except Exception as error:  # noqa: BLE001  # the business goes on without it
        _log.warning("the option %s of a recorded workflow raised %s", name, type(error).__name__)
        return None


def _called_with(signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    try:
        arguments = signature.bind(*args, **kwargs).arguments
    except TypeError:  # the call itself raises it in a moment
        return None
    named = {name: value for name, value in arguments.items() if name not in {"self", "cls"}}
    return next(iter(named.values())) if len(named) == 1 else named or None
