"""``WorkflowRunRecorder``: what happens in a run that executes outside our engines becomes entries.

After the original system's recorder, in observe mode (design section 4): nothing is raised into the business code, nothing is waited
for, and what cannot be recorded is counted, logged and marked on the run as a gap. Deliberately not taken over from the original:

* ``start_step`` is no coroutine and gives a handle, so a start that nobody waits for loses nothing (A6), and a name that is used
  twice is two steps (A7).
* The first end of a run is its end; a later one changes nothing and says so (A8).
* What JSON cannot hold leaves a mark in its place, and the status is written all the same (A9).
* Durations come from the monotonic clock (A13).
"""

from __future__ import annotations

import inspect
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, TypeVar, TypeVarTuple

from ..clock import Clock, run_id_millis, step_id, to_millis
from ..model.display import show
from ..model.entries import RunEnded
from ..model.failures import describe
from ..model.jsontext import clean
from ..model.records import ErrorRecord, Step, StepKey
from ..model.states import EffectClass, Origin, RunState, StepKind, StepState
from ..settings import Limits
from .attempt import StepAttempt
from .outbox import Outbox

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_log = logging.getLogger("workflow_runs.recorder")
_LIMITS: Final = Limits()
_NAME_MAX: Final = _LIMITS.name_length_max


class StepHandle:
    """A step of an observed run while it lasts. Whoever started it ends it, once; from any thread."""

    __slots__ = ("_attempt", "_recorder", "is_open")

    def __init__(self, recorder: WorkflowRunRecorder, attempt: StepAttempt) -> None:
        self._recorder = recorder
        self._attempt = attempt
        self.is_open = True  # the recorder's; False once the step has ended

    @property
    def step(self) -> StepKey:
        """Which step it is: a name used for the second time has occurrence 2."""
        return self._attempt.step

    @property
    def step_id(self) -> str:
        """The id that answers of the API show for it."""
        return step_id(self._recorder.run_id, *self.step, self._attempt.number)

    def complete(self, output: Any = None) -> bool:
        """Record that the step succeeded. False: it had ended before, or the entry is lost; both are logged."""
        return self._recorder.end_step(self, self._attempt, StepState.SUCCEEDED, output=output)

    def fail(self, error: object = None) -> bool:
        """Record that the step failed, with an exception or a text. False: see ``complete``."""
        return self._recorder.end_step(self, self._attempt, StepState.FAILED, error=error)

    def cancel(self, reason: object = None) -> bool:
        """Record that the step was interrupted before it ended. False: see ``complete``."""
        return self._recorder.end_step(self, self._attempt, StepState.CANCELLED, error=reason)


class WorkflowRunRecorder:
    """Records one run that executes outside our engines; made by ``begin_workflow_run``. Safe to use from threads and coroutines.

    No method raises for what happens to the record, and none waits, except ``flush``. Each returns whether its entry was
    taken; ``lost`` counts those that were not.

    Attributes:
        run_id: Made here and valid at once, whatever the database does.
        created: False if an idempotency key had made the run before: whoever began it a second time must not execute it, and this
            recorder records nothing.
    """

    def __init__(self, outbox: Outbox, clock: Clock, run_id: str, *, created: bool = True) -> None:
        self.run_id = run_id
        self.created = created
        self._outbox = outbox
        self._clock = clock
        self._began = clock.monotonic()
        self._began_ms = clock.now_millis()
        self._sequence = 0
        self._uses: Counter[tuple[str, str]] = Counter()
        self._kept: set[StepKey] = set()  # on record before this recorder began: seeds
        self._open: dict[str, deque[StepHandle]] = {}
        self._ended: RunState | None = None
        self._failed: tuple[object, str] | None = None  # the last step that failed, and with what

    def __repr__(self) -> str:
        return f"<WorkflowRunRecorder {self.run_id}>"

    @property
    def lost(self) -> int:
        """How many entries could not be recorded so far; each leaves a gap on the run. 0 is not yet durable: see ``flush``."""
        return self._outbox.lost

    @property
    def ended_as(self) -> RunState | None:
        """How the run ended as far as this recorder knows; None while it goes on."""
        return self._ended

    # --- steps ------------------------------------------------------------------------------------------------------

    def start_step(self, name: str, key: str = "") -> StepHandle:
        """Record that a step begins and return its handle at once. ``key`` tells steps of one name apart where order is chance."""
        step, sequence = self._take(name, key)
        attempt = self._begun(step, sequence)
        handle = StepHandle(self, attempt)
        if self._is_recording(sequence):
            with self._outbox.lock:
                handles = self._open.get(step.name)
                if handles is None:
                    handles = self._open[step.name] = deque()
                handles.append(handle)
            self._outbox.hold(attempt)
        else:
            handle.is_open = False
        return handle

    def complete_step(self, name: str, output: Any = None) -> bool:
        """End the step of that name that has been open the longest; False and a line in the log when none is."""
        handle = self._oldest(name)
        return handle is not None and handle.complete(output)

    def fail_step(self, name: str, error: object = None) -> bool:
        """Fail the step of that name that has been open the longest; False and a line in the log when none is."""
        handle = self._oldest(name)
        return handle is not None and handle.fail(error)

    def record_skipped_step(self, name: str, output: Any = None, key: str = "") -> bool:
        """Record a step that was not executed, with the output that it is taken to have."""
        if self._take_kept(name, key):
            return True
        step, sequence = self._take(name, key)
        if not self._is_recording(sequence):
            return False
        attempt = self._begun(step, sequence)
        text = self._shown(output, f"the output of {step.label()}")
        ended = attempt.end(self.run_id, None, self._clock, StepState.SKIPPED, text, None, Origin.SKIPPED)
        return self._outbox.send(ended)

    def step(self, name: str, fn: Callable[[*Ts], T], *args: *Ts, key: str = "") -> T:
        """Call ``fn(*args)`` as a recorded step and return what it returns, or raise what it raises.

        The step of a coroutine function begins with this call and ends with the coroutine that is returned, which is to be awaited.
        """
        handle = self.start_step(name, key)
        try:
            value = fn(*args)
        except BaseException as error:
            _end_with(handle, error)
            raise
        if inspect.isawaitable(value):
            return _awaited(handle, value)  # type: ignore[return-value]  # T is the awaitable
        handle.complete(value)
        return value

    def end_step(
        self, handle: StepHandle, attempt: StepAttempt, state: StepState, *, output: Any = None, error: object = None
    ) -> bool:
        """End a step, once; for its handle."""
        with self._outbox.lock:
            was_open, handle.is_open = handle.is_open, False
            if was_open:
                self._open[attempt.step.name].remove(handle)
        if not was_open:
            if self.created and attempt.sequence <= _LIMITS.steps_per_run_max:
                _log.warning(
                    "step %r of run %s had ended before; nothing was changed", attempt.step.label(), self.run_id
                )
            return False
        failure: ErrorRecord | None = None
        if state is not StepState.SUCCEEDED:
            why = "Cancelled" if error is None and state is StepState.CANCELLED else error
            failure = describe(why, step_name=attempt.step.name)
            self._failed = (error, attempt.step.name)
        text = self._shown(output, f"the output of {attempt.step.label()}") if failure is None else None
        return self._outbox.end(attempt.end(self.run_id, None, self._clock, state, text, failure))

    # --- the end ----------------------------------------------------------------------------------------------------

    def complete(self, result: Any = None) -> bool:
        """Record that the run succeeded. False: it had ended before (nothing changes), or the entry waits for room in the journal."""
        return self._finish(RunState.SUCCEEDED, result=result)

    def fail(self, error: object = None, *, step_name: str | None = None) -> bool:
        """Record that the run failed, with an exception or a text. False: see ``complete``.

        Args:
            error: What it failed with.
            step_name: The step whose error it was, from which a resume goes on. Default: the step that failed with this very
                exception, or with its cause.
        """
        if step_name is None and self._failed is not None and isinstance(error, BaseException):
            failure, failed_step = self._failed
            step_name = failed_step if failure is error or failure is error.__cause__ else None
        return self._finish(RunState.FAILED, error=describe(error, step_name=step_name))

    def cancel(self, reason: object = None) -> bool:
        """Record that the run was cancelled. False: see ``complete``."""
        return self._finish(RunState.CANCELLED, error=describe("Cancelled" if reason is None else reason))

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Wait until everything recorded so far is durable. False: it is not within ``timeout_s``, or something was lost.

        Blocks; from a coroutine call it through ``asyncio.to_thread``.
        """
        return self._outbox.flush(timeout_s)

    def _finish(self, state: RunState, *, result: Any = None, error: ErrorRecord | None = None) -> bool:
        if not self.created:
            return False
        with self._outbox.lock:
            before, self._ended = self._ended, self._ended or state
            self._failed = None
        if before is not None:
            _log.warning("run %s had ended as %s before; that it is %s now is not recorded", self.run_id, before, state)
            return False
        at_ms = max(run_id_millis(self.run_id), self._began_ms + round((self._clock.monotonic() - self._began) * 1000))
        return self._outbox.send(RunEnded(self.run_id, state, at_ms, self._shown(result, "the result"), error))

    # --- identities -------------------------------------------------------------------------------------------------

    def continue_after(self, seeds: Iterable[tuple[StepKey, int]]) -> None:
        """Take note of steps that the start of the run recorded, with their sequence numbers; before any other step."""
        for step, sequence in seeds:
            self._kept.add(step)
            self._sequence = max(self._sequence, sequence)

    def adopt(self, steps: Iterable[Step]) -> None:
        """Go on with a run that another recorder began: numbers go on, and steps that are open can be ended here."""
        for step in steps:
            pair = (step.step.name, step.step.key)
            self._uses[pair] = max(self._uses[pair], step.step.occurrence)
            self._sequence = max(self._sequence, step.sequence)
            if step.state is StepState.RUNNING:
                started_ms = to_millis(step.last.started_at)
                began = self._clock.monotonic() - (self._clock.now_millis() - started_ms) / 1000
                attempt = StepAttempt(
                    step.step,
                    step.last.number,
                    step.sequence,
                    step.kind,
                    step.effect,
                    step.input_digest,
                    started_ms,
                    began,
                )
                self._open.setdefault(step.step.name, deque()).append(StepHandle(self, attempt))

    def _begun(self, step: StepKey, sequence: int) -> StepAttempt:
        now_ms, now = self._clock.now_millis(), self._clock.monotonic()
        return StepAttempt(step, 1, sequence, StepKind.STEP, EffectClass.UNSAFE, None, now_ms, now)

    def _take(self, name: object, key: object) -> tuple[StepKey, int]:
        pair = (fit(name, _NAME_MAX) or "unnamed", fit(key, _NAME_MAX))
        with self._outbox.lock:
            self._sequence += 1
            if not self._kept:
                self._uses[pair] = uses = self._uses[pair] + 1
                return StepKey(*pair, uses), self._sequence
            while True:
                self._uses[pair] += 1
                step = StepKey(*pair, self._uses[pair])
                if step not in self._kept:
                    return step, self._sequence

    def _take_kept(self, name: object, key: object) -> bool:
        """Whether the next step of that name is on record already, as the resume's seed; it is used up then."""
        pair = (fit(name, _LIMITS.name_length_max), fit(key, _LIMITS.name_length_max))
        with self._outbox.lock:
            step = StepKey(*pair, self._uses[pair] + 1)
            if step not in self._kept:
                return False
            self._uses[pair] += 1
            return True

    def _is_recording(self, sequence: int) -> bool:
        if not self.created:
            return False
        if sequence > _LIMITS.steps_per_run_max:
            self._outbox.lose(f"more than {_LIMITS.steps_per_run_max} steps")
            return False
        return True

    def _oldest(self, name: object) -> StepHandle | None:
        fitted = fit(name, _LIMITS.name_length_max)
        with self._outbox.lock:
            handles = self._open.get(fitted)
            if handles:
                return handles[0]
        if self.created:
            _log.warning("no step %r of run %s is open; its end is not recorded", fitted, self.run_id)
            self._outbox.lose("the end of a step that is not open")
        return None

    def _shown(self, value: Any, what: str) -> str | None:
        if value is None:
            return None
        text, is_whole = show(value)
        if not is_whole:
            self._outbox.note_gap(f"part of {what}")
        return text


def fit(text: object, length_max: int) -> str:
    """Make a name fit to be recorded: an odd name must not cost the record, let alone the business."""
    if not text and type(text) is str:  # most keys
        return ""
    fitted = clean(text) if isinstance(text, str) else show(text).text
    return fitted if len(fitted) <= length_max else fitted[: length_max - 3] + "..."


def fit_or_none(text: object, length_max: int) -> str | None:
    """Do the same with what may be absent."""
    return None if text is None else fit(text, length_max)


def _end_with(handle: StepHandle, error: BaseException) -> None:
    if isinstance(error, Exception):
        handle.fail(error)
    else:
        handle.cancel(error)


async def _awaited(handle: StepHandle, awaitable: Awaitable[Any]) -> Any:
    try:
        value = await awaitable
    except BaseException as error:
        _end_with(handle, error)
        raise
    handle.complete(value)
    return value
