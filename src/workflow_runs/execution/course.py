"""How one run proceeds, from its first step call to its end. Written once, for plain and for coroutine workflows.

A ``Course`` decides and records; it never waits and never calls anybody's code. Where it would, it yields what it wants: a ``Receipt``
to be durable, a function to be called, a pause. ``drive`` grants it by blocking a thread, ``drive_async`` by awaiting. So both kinds of
workflow take the same way through the same lines, and what is on record after a crash at any of them is read off one function.

    step call -> replay decides -> start recorded -> function called -> end recorded, committed -> value handed on

The order is the promise: the function of a step that must not be repeated is called only after its start is durable, and the
workflow sees a value only after its end is. A process that dies in between leaves a started attempt, which ``replay`` treats by its effect.

How a run can stop without having ended: ``Stop``. What unwinds it is ``RunSuspended``; it is raised again at each further step call, so
that code which swallowed it does nothing more.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from ..authoring import CURRENT_STEP, NOT_DONE, RunFacts, StepCall, StepContext, Workflow
from ..clock import Clock, from_millis, to_millis
from ..errors import (
    Cancelled,
    CannotEncode,
    EntryRejected,
    InvalidInput,
    RunSuspended,
    StepDrift,
    StepFailed,
    StepTimeout,
)
from ..journal import Receipt
from ..model.digests import digest
from ..model.failures import describe
from ..model.payloads import Codec, codec_for, return_codec
from ..model.records import Attempt, ErrorRecord, StepKey
from ..model.states import KEPT_STEP_STATES, REPEATABLE_EFFECTS, EffectClass, RunState, StepKind, StepState
from .recorder import RunRecorder, StepAttempt
from .replay import (
    UNDONE_STATES,
    AskVerify,
    Decision,
    Drift,
    Execute,
    History,
    OutcomeUnknown,
    RaiseRecorded,
    UseRecorded,
    decide,
)
from .wants import Invoke, Pause, Stop, Want

_log = logging.getLogger(__name__)

_MOMENT: Final[Codec] = codec_for(datetime)
_RETRYING_SHOWN_S: Final = 0.5  # a shorter pause is not worth writing that the run is in it
_RECHECK_S: Final = 0.05  # how often a run that may not start a step looks whether it may
_NOTHING_TO_UNDO: Final = frozenset({EffectClass.PURE, EffectClass.READ})
_INTERRUPTING: Final = (asyncio.CancelledError, KeyboardInterrupt, SystemExit, Cancelled)


@dataclass(frozen=True, slots=True, eq=False)  # equality would compare values, which are the user's
class _Undoable:
    call: StepCall
    attempt: int
    order: tuple[int, int, int]  # of completion: the recorded ones by time, then those of this process
    value: Any
    digest: str | None


class Course:
    """One run while this process executes it.

    Args:
        recorder: Writes the run, under its claim.
        workflow: Its definition.
        facts: What the run knows of itself.
        history: What is on record of its steps.
        holds: Says whether this process still has the right to execute: its lease was renewed in time, and no other process can have
            taken over. Asked right before each function is called.
        clock: For pauses.
        state: The run's state on record.
        input_error: Why the input cannot be handed to the function, which is what the run then fails with.
    """

    def __init__(
        self,
        recorder: RunRecorder,
        workflow: Workflow,
        facts: RunFacts,
        history: History,
        holds: Callable[[], bool],
        clock: Clock,
        state: RunState,
        input_error: Exception | None = None,
    ) -> None:
        self.workflow = workflow
        self.facts = facts
        self.on_stop: Callable[[], None] = _nothing  # a driver's: ends its pauses
        self._recorder = recorder
        self._history = history
        self._holds = holds
        self._clock = clock
        self._state = state
        self._input_error = input_error
        self._sequences = itertools.count(history.next_sequence)
        # Once undoing has begun the run can only be undone to the end: what it did not do before, it must not do now.
        self._undoing_only = state is RunState.COMPENSATING or history.undoing_began
        self._undoing = False
        self._undoables: list[_Undoable] = []
        self._completions = itertools.count()
        self._seen: set[StepKey] = set()  # of the steps on record with an output: those that the code asked for again
        self._failures: dict[int, tuple[StepFailed, ErrorRecord]] = {}  # by id(): which record an exception stands for
        self._drift: StepDrift | None = None
        self._stop: Stop | None = None
        self._stop_reason: str | None = None
        self._stop_seen = False
        self._body_ended = False
        self._lock = threading.Lock()
        self._pausing = 0

    @property
    def is_undoing(self) -> bool:
        """Whether the run has failed and its steps are being undone."""
        return self._undoing

    @property
    def arguments(self) -> tuple[Any, ...]:
        """What the workflow function is called with, after the run object; raises why there is nothing."""
        if self._input_error is not None:
            raise self._input_error
        if not self.workflow.takes_input or (self.facts.input is None and self.workflow.has_default_input):
            return ()
        return (self.facts.input,)

    # --- stopping ---------------------------------------------------------------------------------------------------

    def stop(self, why: Stop, reason: str | None = None) -> bool:
        """Make the run stop at its next step call or pause; from any thread. False: it goes on.

        A lost claim outweighs everything. A cancel comes too late once the run is being undone: half of it would stay done.
        """
        with self._lock:
            if why is Stop.CANCELLED and (self._undoing or self._undoing_only):
                return False
            if self._stop not in {None, Stop.HANDED_BACK} and why is not Stop.CLAIM_LOST:
                return False
            self._stop = why
            self._stop_reason = reason
        self.on_stop()
        return True

    def claim_lost(self) -> RunSuspended:
        """Note that an entry was refused because the run has passed to another owner; return what unwinds it."""
        self.stop(Stop.CLAIM_LOST)
        return self._suspended()

    def _suspended(self) -> RunSuspended:
        self._stop_seen = True
        return RunSuspended(f"the run stops here: {self._stop.value if self._stop else ''}")

    def body_ended(self) -> None:
        """Note that the workflow function is through: tasks and threads that it left behind start no step any more."""
        self._body_ended = True
        self.on_stop()

    def _check_going(self) -> None:
        # A replay for undoing lets other branches ask for what they did, too: what no branch asks for cannot be undone.
        if self._stop is not None and self._stop is not Stop.REPLAYED:
            raise self._suspended()
        if self._body_ended:
            raise RunSuspended("the workflow function has ended; a task or thread that it left behind asked for a step")
        if self._drift is not None:  # swallowed by the workflow; what it asks for now rests on something that never was
            raise self._drift

    # --- a step -----------------------------------------------------------------------------------------------------

    def admit(self, call: StepCall) -> int:
        """Return the call's sequence number: the recorded one, else the next. Called in the order of the calls."""
        recorded = self._history.steps.get(call.step)
        return next(self._sequences) if recorded is None else recorded.sequence

    def step(self, call: StepCall, sequence: int) -> Generator[Want, Any, Any]:
        """Bring a step about and return its value."""
        self._check_going()
        digested = digest(call.args) if call.kind is StepKind.STEP else None
        decision = decide(self._history, call, digested, self._clock.now_millis())
        if isinstance(decision, UseRecorded):
            return self._use(call, digested, decision)
        if isinstance(decision, RaiseRecorded):
            raise self._failed(call.step, decision.error, None)
        if isinstance(decision, Drift):
            raise self._drifted(decision.message)
        if self._undoing_only:
            self.stop(Stop.REPLAYED)
            raise self._suspended()
        if call.kind is StepKind.NOW:
            return (yield from self._read_clock(call, sequence))
        return (yield from self._do(call, sequence, digested, decision))

    def _use(self, call: StepCall, digested: str | None, found: UseRecorded) -> Any:
        codec = _MOMENT if call.fn is None else return_codec(call.fn)
        if found.output is None and found.state is not StepState.SKIPPED:
            raise self._drifted(f"the recorded output of step {call.step.label()!r} cannot be read")
        try:
            value = None if found.output is None else codec.decode(found.output)
        except (InvalidInput, ValueError) as error:
            message = f"the recorded output of step {call.step.label()!r} is not what the code declares: {error}"
            raise self._drifted(message) from error
        self._seen.add(call.step)
        if call.compensate is not None and found.state not in UNDONE_STATES:
            self._undoables.append(_Undoable(call, found.attempt, (0, found.ended_ms, found.sequence), value, digested))
        return value

    def _drifted(self, message: str) -> StepDrift:
        self._drift = StepDrift(message)
        return self._drift

    def _failed(self, step: StepKey, error: ErrorRecord, cause: BaseException | None) -> StepFailed:
        failed = StepFailed(error.message, step=step.name, type_name=error.type_name or "", error_code=error.code)
        failed.__cause__ = cause
        self._failures[id(failed)] = (failed, error)
        return failed

    def _read_clock(self, call: StepCall, sequence: int) -> Generator[Want, Any, datetime]:
        attempt = self._recorder.attempt(call.step, 1, sequence, kind=StepKind.NOW, effect=EffectClass.PURE)
        moment = from_millis(attempt.started_ms)
        yield self._recorder.step_ended(attempt, StepState.SUCCEEDED, output=_MOMENT.encode(moment, "run.now()"))
        return moment

    def _do(self, call: StepCall, sequence: int, digested: str | None, decision: Decision) -> Generator[Want, Any, Any]:
        """Execute a step, attempt after attempt, until it has a value or has failed for good."""
        number, failures = 1, 0
        if isinstance(decision, Execute):
            number, failures = decision.attempt, decision.failures
            if decision.stale is not None:
                unawaited(
                    self._recorder.step_ended(self._reopen(call, sequence, digested, decision.stale), StepState.UNKNOWN)
                )
            yield from self._pause(decision.pause_s)
        elif isinstance(decision, AskVerify | OutcomeUnknown):
            attempt = self._reopen(call, sequence, digested, decision.attempt)
            value = yield from self._find_out(call, attempt, _interrupted(call.step, decision.attempt))
            if value is not NOT_DONE:
                return value
            # Not a failure of the step: it was cut off before it did anything.
            unawaited(self._recorder.step_ended(attempt, StepState.UNKNOWN, error=_not_done(call.step)))
            number = attempt.number + 1
            failures = decision.failures if isinstance(decision, AskVerify) else 0
        while True:
            attempt, value, error = yield from self._attempt(call, sequence, digested, number)
            if error is None:
                return value
            record = describe(error, step_name=call.step.name)
            # A step may raise StepTimeout itself, to say the same: it waited, and cannot tell.
            if isinstance(error, StepTimeout) and call.effect not in REPEATABLE_EFFECTS:
                value = yield from self._find_out(call, attempt, record)
                if value is not NOT_DONE:
                    return value
            yield self._recorder.step_ended(attempt, StepState.FAILED, error=record)
            failures += 1
            if failures >= call.retry.attempts or not call.retry.allows(error):
                raise self._failed(call.step, record, error)
            number += 1
            yield from self._pause(call.retry.pause_s(failures, random.random()))  # noqa: S311  # spreads retries

    def _attempt(
        self, call: StepCall, sequence: int, digested: str | None, number: int
    ) -> Generator[Want, Any, tuple[StepAttempt, Any, BaseException | None]]:
        """Try once; return the attempt and either its value, which is committed then, or its error, which is not."""
        assert call.fn is not None
        if not self._holds():
            yield from self._await_tenure()
        self._check_going()
        attempt = self._recorder.attempt(call.step, number, sequence, effect=call.effect, input_digest=digested)
        before = CURRENT_STEP.get()
        try:
            start = self._recorder.step_started(attempt, lazy=call.effect in REPEATABLE_EFFECTS)
            if call.effect not in REPEATABLE_EFFECTS:
                yield start
                yield from self._await_tenure(started=True)  # the commit may have taken longer than the lease
            CURRENT_STEP.set(self._context(call, number, digested))
            try:
                raw = yield Invoke(call.fn, call.args, call.timeout_s, call.step.name)
            finally:
                CURRENT_STEP.set(before)  # not reset(token): a generator that is thrown away may end in another context
            output, value = return_codec(call.fn).roundtrip(raw, f"step {call.step.label()!r} output")
        except GeneratorExit:
            raise
        except _INTERRUPTING as error:
            record = describe(error, step_name=call.step.name)
            unawaited(self._recorder.step_ended(attempt, StepState.CANCELLED, error=record))
            raise
        except BaseException as error:  # of whatever class: it is recorded, and raised as StepFailed
            if self._stop is Stop.CLAIM_LOST:
                raise self._suspended() from error
            return attempt, None, error
        try:
            yield from self._commit(call, attempt, output, value)
        except EntryRejected as error:
            return attempt, None, error
        return attempt, value, None

    def _commit(self, call: StepCall, attempt: StepAttempt, output: str, value: Any) -> Generator[Want, Any, None]:
        """Record that a step succeeded, and remember what undoes it."""
        receipt = self._recorder.step_ended(attempt, StepState.SUCCEEDED, output=output)
        if call.compensate is None:
            yield receipt
            return
        order = (1, next(self._completions), 0)
        done = _Undoable(call, attempt.number, order, value, attempt.input_digest)
        # Before the wait: a coroutine that is cancelled in it has been done all the same, and will be on record as done.
        self._undoables.append(done)
        try:
            yield receipt
        except EntryRejected:
            self._undoables.remove(done)
            raise

    def _await_tenure(self, *, started: bool = False) -> Generator[Want, Any, None]:
        """Start nothing while another process may own the run: a process that was frozen wakes here."""
        while not self._holds():
            yield Pause(_RECHECK_S, firm=True)
            if not started or self._stop is Stop.CLAIM_LOST:
                self._check_going()

    def _context(self, call: StepCall, number: int, digested: str | None, suffix: str = "") -> StepContext:
        name, key, occurrence = call.step
        identity = (self.facts.chain_run_id, name, key, str(occurrence), digested or "", suffix)
        return StepContext(self.facts.id, name, key, number, identity)

    def _pause(self, seconds: float) -> Generator[Want, Any, None]:
        """Let time pass; a long pause shows as the run's state."""
        if seconds <= 0:
            return
        shown = seconds >= _RETRYING_SHOWN_S
        if shown:
            self._show_pausing(+1)
        deadline = self._clock.monotonic() + seconds
        try:
            while (left := deadline - self._clock.monotonic()) > 0:
                yield Pause(left)
                self._check_going()
        finally:
            if shown:
                self._show_pausing(-1)

    def _show_pausing(self, change: int) -> None:
        """Record ``retrying`` while at least one branch pauses. Not awaited: nothing rests on it."""
        with self._lock:
            before, self._pausing = self._pausing, self._pausing + change
            if self._stop is None and (before == 0) != (self._pausing == 0):
                unawaited(self._recorder.run_changed(RunState.RETRYING if before == 0 else RunState.RUNNING))

    # --- an attempt of which nobody knows how it ended -----------------------------------------------------------------

    def _reopen(self, call: StepCall, sequence: int, digested: str | None, recorded: Attempt) -> StepAttempt:
        """Return an attempt of the record as one that can be ended now.

        A cancelled one has its end on record already, which stays: what is found out about it is the end of an attempt after it.
        """
        ended = recorded.state is StepState.CANCELLED
        number = recorded.number + ended
        now = self._recorder.attempt(call.step, number, sequence, effect=call.effect, input_digest=digested)
        return now if ended else _begun_then(now, recorded)

    def _ended(self, state: RunState, *, result: str | None = None, error: ErrorRecord | None = None) -> Receipt:
        """Record the end of the run. An attempt that a process which is gone left running, and nobody asked for again, ends as unknown."""
        for step in self._history.steps.values():
            if step.last.state is StepState.RUNNING:  # on record; one that has ended since stays as it ended
                now = self._recorder.attempt(
                    step.step, step.last.number, step.sequence, kind=step.kind, effect=step.effect
                )
                why = _interrupted(step.step, step.last)
                unawaited(self._recorder.step_ended(_begun_then(now, step.last), StepState.UNKNOWN, error=why))
        return self._recorder.run_ended(state, result=result, error=error)

    def _find_out(self, call: StepCall, attempt: StepAttempt, why: ErrorRecord) -> Generator[Want, Any, Any]:
        """Return what ``verify`` found: the output, recorded, or ``NOT_DONE``. Without an answer the run waits for a person."""
        if call.verify is not None:
            yield from self._await_tenure()
            self._check_going()
            context = self._context(call, attempt.number, attempt.input_digest)
            label = f"verify of {call.step.label()}"
            try:
                found = yield from _within(context, Invoke(call.verify, call.args, call.timeout_s, label))
                if found is NOT_DONE:
                    return NOT_DONE
                assert call.fn is not None
                output, value = return_codec(call.fn).roundtrip(
                    found, f"what verify of step {call.step.label()!r} found"
                )
            except _INTERRUPTING:
                unawaited(self._recorder.step_ended(attempt, StepState.UNKNOWN, error=why))
                raise
            except Exception as error:  # noqa: BLE001  # the hook cannot tell, whatever it raised
                why = describe(error, step_name=call.step.name)
            else:
                try:
                    yield from self._commit(call, attempt, output, value)
                except EntryRejected as error:
                    why = describe(error, step_name=call.step.name)
                else:
                    return value
        yield self._recorder.step_ended(attempt, StepState.UNKNOWN, error=why)
        self.stop(Stop.OUTCOME_UNKNOWN)
        raise self._suspended()

    # --- the end ----------------------------------------------------------------------------------------------------

    def finish(self, result: Any, error: BaseException | None) -> Generator[Want, Any, None]:
        """Record how the run ended, or that it stops, after the workflow function has returned ``result`` or raised ``error``."""
        interrupted = isinstance(error, (RunSuspended, asyncio.CancelledError))
        stopped = self._stop if self._stop_seen or interrupted else None
        if self._stop is Stop.CLAIM_LOST:
            return
        if self._undoing_only and stopped in {None, Stop.REPLAYED}:
            yield from self._undo(self._recorded_error(error))
        elif stopped is not None:
            yield from self.leave()
        elif self._drift is not None:
            # Nothing is undone: the code is what is wrong, and after it is put right the run can be resumed.
            yield self._ended(RunState.FAILED, error=self._error_record(error or self._drift))
        elif error is None:
            yield from self._succeed(result)
        elif isinstance(error, _INTERRUPTING):
            record = describe(error)
            if not record.message or not isinstance(error, Cancelled):
                record = ErrorRecord(record.message or type(error).__name__, Cancelled.code, type(error).__name__)
            yield self._ended(RunState.CANCELLED, error=record)
        else:
            yield from self._fail(error)

    def leave(self) -> Generator[Want, Any, None]:
        """Record that the run stops here, as ``stop`` said."""
        if self._stop is Stop.CANCELLED:
            record = ErrorRecord(self._stop_reason or "Cancelled", Cancelled.code, Cancelled.__name__)
            yield self._ended(RunState.CANCELLED, error=record)
        elif self._stop is Stop.OUTCOME_UNKNOWN:
            yield self._recorder.run_changed(RunState.UNKNOWN, release=True)
        elif self._stop is Stop.HANDED_BACK:
            yield self._recorder.run_changed(RunState.QUEUED, release=True)

    def _succeed(self, result: Any) -> Generator[Want, Any, None]:
        try:
            text, _ = self.workflow.output_codec.roundtrip(result, "the result of the run")
            yield self._ended(RunState.SUCCEEDED, result=text)
        except (CannotEncode, EntryRejected) as error:
            yield from self._fail(error)

    def _fail(self, error: BaseException) -> Generator[Want, Any, None]:
        record = self._error_record(error)
        if self._undoables:
            yield from self._undo(record)
        else:
            yield self._ended(RunState.FAILED, error=record)

    def _error_record(self, error: BaseException) -> ErrorRecord:
        """What the run failed with: of a step's failure its own record, not that of the wrapper around it."""
        known = self._failures.get(id(error))
        return describe(error) if known is None else known[1]

    def _recorded_error(self, error: BaseException | None) -> ErrorRecord:
        """The error that a run had failed with before it was cut off in its undoing."""
        if isinstance(error, Exception) and (self._history.last_error is None or not self._missed()):
            return self._error_record(error)
        return self._history.last_error or ErrorRecord(
            "the run failed; its error was lost when it was cut off in its undoing"
        )

    def _missed(self) -> list[str]:
        """What may have to be undone, but did not come up in the replay, because code or input are not what they were."""
        missed = [
            done.step.label()
            for done in self._history.steps.values()
            if done.kind is StepKind.STEP
            and done.state in KEPT_STEP_STATES
            and done.effect not in _NOTHING_TO_UNDO
            and done.step not in self._seen
        ]
        if self._drift is not None:
            missed.append("what comes after the drift")  # not its message, which may quote a payload
        return missed

    def _undo(self, error: ErrorRecord) -> Generator[Want, Any, None]:
        """Undo what can be undone, newest first, and end the run. One that cannot be undone does not keep the others from it."""
        self._undoing = True
        self._stop_seen = False
        if self._stop is Stop.REPLAYED:
            self._stop = None
        if self._state is not RunState.COMPENSATING:
            yield self._recorder.run_changed(RunState.COMPENSATING)
        missed = self._missed() if self._undoing_only else []
        if missed:
            _log.error(
                "run %s: cannot be undone, for the replay did not reach it: %s", self.facts.id, "; ".join(missed)
            )
        complete = not self._history.undoing_failed and not missed
        for done in sorted(self._undoables, key=lambda done: done.order, reverse=True):
            if self._stop is not None:
                yield from self.leave()
                return
            failure = yield from self._undo_step(done)
            complete = complete and failure is None
        state = RunState.COMPENSATED if complete else RunState.COMPENSATION_FAILED
        yield self._ended(state, error=error)

    def _pause_undoing(self, seconds: float) -> Generator[Want, Any, None]:
        deadline = self._clock.monotonic() + seconds
        while self._stop is None and (left := deadline - self._clock.monotonic()) > 0:
            yield Pause(min(left, _RECHECK_S), firm=True)

    def _undo_step(self, done: _Undoable) -> Generator[Want, Any, BaseException | None]:
        """Call a step's ``compensate`` hook, under the step's retry policy, and record what came of it."""
        assert done.call.compensate is not None
        label = f"compensate of {done.call.step.label()}"
        for tries in itertools.count(1):
            while not self._holds():
                yield Pause(_RECHECK_S, firm=True)
                if self._stop is Stop.CLAIM_LOST:
                    raise self._suspended()
            context = self._context(done.call, done.attempt, done.digest, "compensate")
            try:
                yield from _within(context, Invoke(done.call.compensate, (done.value,), None, label))
            except (GeneratorExit, RunSuspended, asyncio.CancelledError):
                raise
            except BaseException as error:  # noqa: BLE001  # any error: it is not undone, and that is said
                if tries < done.call.retry.attempts and done.call.retry.allows(error) and self._stop is None:
                    yield from self._pause_undoing(done.call.retry.pause_s(tries, random.random()))  # noqa: S311
                    continue
                record = describe(error, step_name=done.call.step.name)
                _log.error("run %s: %s failed: %s", self.facts.id, label, record.type_name)  # no payload in a log
                yield self._recorder.step_undone(done.call.step, done.attempt, StepState.COMPENSATION_FAILED, record)
                return error
            yield self._recorder.step_undone(done.call.step, done.attempt, StepState.COMPENSATED)
            break
        return None


def _within(context: StepContext, want: Invoke) -> Generator[Want, Any, Any]:
    """Have a function called while ``current_step()`` is ``context``."""
    before = CURRENT_STEP.get()
    CURRENT_STEP.set(context)
    try:
        return (yield want)
    finally:
        CURRENT_STEP.set(before)


def unawaited(receipt: Receipt) -> None:
    """Leave an entry to be written in its turn: the next one that is awaited comes after it in the queue."""


def _nothing() -> None:
    return None


def _begun_then(now: StepAttempt, recorded: Attempt) -> StepAttempt:
    """Return an attempt with the begin that is on record."""
    started_ms = min(now.started_ms, to_millis(recorded.started_at))
    return now._replace(started_ms=started_ms, began=now.began - (now.started_ms - started_ms) / 1000)


def _interrupted(step: StepKey, attempt: Attempt) -> ErrorRecord:
    if attempt.error is not None:
        return attempt.error
    return ErrorRecord(
        f"attempt {attempt.number} was interrupted; whether it took effect is not known", step_name=step.name
    )


def _not_done(step: StepKey) -> ErrorRecord:
    return ErrorRecord("interrupted; its verify hook found that it had not taken effect", step_name=step.name)
