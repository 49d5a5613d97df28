"""For each step call: what the record says about it, and so what is to be done. Pure: values in, a decision out.

    on record                                    decision
    nothing                                      Execute
    succeeded, skipped (seeded), undone          UseRecorded
    failed, attempts used up or never retried    RaiseRecorded
    failed, attempts left                        Execute, after the rest of the pause
    running, unknown, cancelled ...
      pure, read, idempotent                     Execute again
      compensatable, unsafe, with verify         AskVerify
      compensatable, unsafe, without             OutcomeUnknown
    other arguments, or another kind             Drift

*Running* in the record means: started, and the process that did it is gone, for the record is read when a run is taken up. A
*cancelled* attempt was interrupted in its midst, so about its effect nobody knows more than about one that was killed.

Only failures count against ``Retry.attempts``: being interrupted is not the step's fault. Interruptions have a bound of their own, so
that a step which kills its process does not kill one process after another for ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from ..authoring import StepCall
from ..clock import to_millis
from ..model.records import Attempt, ErrorRecord, Step, StepKey
from ..model.states import KEPT_STEP_STATES, REPEATABLE_EFFECTS, StepState

INTERRUPTIONS_MAX: Final = 100

UNDONE_STATES: Final = frozenset({StepState.COMPENSATED, StepState.COMPENSATION_FAILED})
_HAS_OUTPUT: Final = KEPT_STEP_STATES | UNDONE_STATES


@dataclass(frozen=True, slots=True)
class History:
    """What is on record of a run's steps when it is taken up."""

    steps: Mapping[StepKey, Step]

    @classmethod
    def of(cls, steps: Iterable[Step]) -> History:
        """Return the history that these steps make."""
        return cls({step.step: step for step in steps})

    @property
    def next_sequence(self) -> int:
        """The sequence number of the first step that is not on record."""
        return max((step.sequence for step in self.steps.values()), default=0) + 1

    @property
    def undoing_began(self) -> bool:
        """Whether a step of this run was undone, or was tried to be: then the run can only go on undoing."""
        return any(step.state in UNDONE_STATES for step in self.steps.values())

    @property
    def undoing_failed(self) -> bool:
        """Whether undoing a step has failed."""
        return any(step.state is StepState.COMPENSATION_FAILED for step in self.steps.values())

    @property
    def last_error(self) -> ErrorRecord | None:
        """The error of the step that failed last."""
        failed = [
            step.last for step in self.steps.values() if step.state is StepState.FAILED and step.last.error is not None
        ]
        return max(failed, key=lambda attempt: attempt.ended_at or attempt.started_at).error if failed else None


NOTHING: Final = History({})


@dataclass(frozen=True, slots=True)
class UseRecorded:
    """The step has its output already; ``state`` tells whether it was undone since."""

    output: str | None
    attempt: int
    sequence: int
    ended_ms: int
    state: StepState


@dataclass(frozen=True, slots=True)
class RaiseRecorded:
    """The step failed for good."""

    error: ErrorRecord


@dataclass(frozen=True, slots=True)
class Execute:
    """Execute the step as this attempt, after ``pause_s``. ``stale``: an attempt whose row still says running; close it first."""

    attempt: int = 1
    failures: int = 0
    pause_s: float = 0.0
    stale: Attempt | None = None


@dataclass(frozen=True, slots=True)
class AskVerify:
    """Nobody knows how this attempt ended; the step's ``verify`` hook may."""

    attempt: Attempt
    failures: int


@dataclass(frozen=True, slots=True)
class OutcomeUnknown:
    """Nobody knows how this attempt ended, and there is no hook to ask: a person decides."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Drift:
    """The code asks for something else than what is on record."""

    message: str


Decision = UseRecorded | RaiseRecorded | Execute | AskVerify | OutcomeUnknown | Drift

_FIRST: Final = Execute()


def decide(history: History, call: StepCall, digest: str | None, now_ms: int) -> Decision:
    """Return what is to be done about a call.

    Args:
        history: The record as it was when the run was taken up. What happened since is the driver's to know.
        call: The call.
        digest: Of the call's arguments; None is not known, and drifts from nothing.
        now_ms: Wall time. It only shortens a pause that was begun in the record, never below none and never beyond its full length.
    """
    recorded = history.steps.get(call.step)
    if recorded is None:
        return _FIRST
    drift = _drift(recorded, call, digest)
    if drift is not None:
        return Drift(drift)
    last = recorded.last
    failures = sum(attempt.state is StepState.FAILED for attempt in recorded.attempts)
    if last.state in _HAS_OUTPUT:
        ended_ms = to_millis(last.ended_at or last.started_at)
        return UseRecorded(last.output, last.number, recorded.sequence, ended_ms, last.state)
    if last.state is StepState.FAILED:
        return _after_failure(call, last, failures, now_ms)
    return _after_interruption(recorded, call, last, failures)


def _drift(recorded: Step, call: StepCall, digest: str | None) -> str | None:
    if recorded.kind is not call.kind:
        return f"step {call.step.label()!r} is on record as {recorded.kind}, and the code asks for {call.kind}"
    if recorded.input_digest is not None and digest is not None and recorded.input_digest != digest:
        return (
            f"step {call.step.label()!r} is on record with other arguments than the code gives it now: the code, or something it "
            "reads outside of steps, has changed since"
        )
    return None


def _after_failure(call: StepCall, last: Attempt, failures: int, now_ms: int) -> Decision:
    error = last.error or ErrorRecord("the recorded error cannot be read")
    if failures >= call.retry.attempts or not call.retry.allows_recorded(error.type_name):
        return RaiseRecorded(error)
    pause_s = call.retry.pause_s(failures)
    waited_s = (now_ms - to_millis(last.ended_at or last.started_at)) / 1000
    return Execute(last.number + 1, failures, min(pause_s, max(0.0, pause_s - waited_s)))


def _after_interruption(recorded: Step, call: StepCall, last: Attempt, failures: int) -> Decision:
    # The stricter of the two declarations: the attempt was made under the recorded one.
    if call.effect in REPEATABLE_EFFECTS and recorded.effect in REPEATABLE_EFFECTS:
        interruptions = len(recorded.attempts) - failures
        if interruptions >= INTERRUPTIONS_MAX:
            return RaiseRecorded(
                ErrorRecord(f"interrupted {interruptions} times, and not tried again", code="interrupted")
            )
        return Execute(last.number + 1, failures, stale=last if last.state is StepState.RUNNING else None)
    if call.verify is not None:
        return AskVerify(last, failures)
    return OutcomeUnknown(last)
