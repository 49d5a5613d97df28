"""Run and step states, and which may follow which: tables, read by code, tests and documentation alike.

A *state* is ours and precise. A *status* is one of the few words of the original system and stays in the field ``status`` of
every answer; each state has exactly one. A terminal state is final: nothing follows it, ever (promise P6).
"""

from __future__ import annotations

from enum import StrEnum


class _Word(StrEnum):
    """A word of a table. It equals its text, and hashes like it: ``Enum`` hashes by a Python call, which each look-up would pay."""

    __hash__ = str.__hash__


class RunStatus(_Word):
    """The original's four run statuses."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class RunState(_Word):
    """What a run is doing, or how it ended."""

    QUEUED = "queued"  # stored, not yet executing
    RUNNING = "running"
    RETRYING = "retrying"  # between two attempts of a step
    WAITING = "waiting"  # for a time, a signal, an event
    PAUSED = "paused"  # by an operator
    UNKNOWN = "unknown"  # a step's outcome is not known: waits for a person
    COMPENSATING = "compensating"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    COMPENSATED = "compensated"  # failed, and what was done is undone
    COMPENSATION_FAILED = "compensation_failed"
    LOST = "lost"  # nobody can take it up any more
    CANCELLED = "cancelled"


class StepStatus(_Word):
    """The original's five step statuses."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"
    COMPENSATED = "compensated"


class StepState(_Word):
    """What one attempt of a step is doing, or how it ended."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"  # interrupted on purpose before it ended
    UNKNOWN = "unknown"  # started, and nobody knows how it ended
    SKIPPED = "skipped"  # its output was carried over: seeded or settled
    COMPENSATED = "compensated"  # succeeded, then undone
    COMPENSATION_FAILED = "compensation_failed"  # succeeded, and undoing it failed


class StepKind(_Word):
    """What a journal row of a run stands for."""

    STEP = "step"
    NOW = "now"  # a reading of the clock that the workflow saw


class Origin(_Word):
    """Where a step's result came from."""

    EXECUTED = "executed"
    SEEDED = "seeded"
    SETTLED = "settled"
    SKIPPED = "skipped"


class EffectClass(_Word):
    """What executing a step does to the world."""

    PURE = "pure"
    READ = "read"
    IDEMPOTENT = "idempotent"
    COMPENSATABLE = "compensatable"
    UNSAFE = "unsafe"


class Idempotency(_Word):
    """A workflow's policy: may the whole of it run again?"""

    SAFE = "safe"
    UNSAFE = "unsafe"
    RESUME_ONLY = "resume-only"


class RecordingMode(_Word):
    """Whether the record decides (an engine of ours executes the run) or only observes (design section 4)."""

    JOURNAL = "journal"
    OBSERVE = "observe"


RUN_STATUS: dict[RunState, RunStatus] = {
    RunState.QUEUED: RunStatus.RUNNING,
    RunState.RUNNING: RunStatus.RUNNING,
    RunState.RETRYING: RunStatus.RUNNING,
    RunState.WAITING: RunStatus.RUNNING,
    RunState.PAUSED: RunStatus.RUNNING,
    RunState.UNKNOWN: RunStatus.RUNNING,
    RunState.COMPENSATING: RunStatus.RUNNING,
    RunState.SUCCEEDED: RunStatus.SUCCEEDED,
    RunState.FAILED: RunStatus.FAILED,
    RunState.COMPENSATED: RunStatus.FAILED,
    RunState.COMPENSATION_FAILED: RunStatus.FAILED,
    RunState.LOST: RunStatus.FAILED,
    RunState.CANCELLED: RunStatus.CANCELLED,
}

STEP_STATUS: dict[StepState, StepStatus] = {
    StepState.RUNNING: StepStatus.RUNNING,
    StepState.SUCCEEDED: StepStatus.SUCCEEDED,
    StepState.FAILED: StepStatus.FAILED,
    StepState.CANCELLED: StepStatus.FAILED,
    StepState.UNKNOWN: StepStatus.RUNNING,
    StepState.SKIPPED: StepStatus.SKIPPED,
    StepState.COMPENSATED: StepStatus.COMPENSATED,
    StepState.COMPENSATION_FAILED: StepStatus.SUCCEEDED,
}

_ENDS = frozenset(state for state, status in RUN_STATUS.items() if status is not RunStatus.RUNNING)
_LIVE = frozenset(RUN_STATUS) - _ENDS

# From -> to. Every live state may end, be recovered (running) or be cancelled; what is special is said here.
RUN_TRANSITIONS: dict[RunState, frozenset[RunState]] = {
    RunState.QUEUED: frozenset({RunState.RUNNING, RunState.PAUSED, RunState.CANCELLED, RunState.FAILED, RunState.LOST}),
    RunState.RUNNING: (_LIVE - {RunState.RUNNING}) | _ENDS,  # queued: handed back at a polite stop
    RunState.RETRYING: (_LIVE - {RunState.RETRYING}) | _ENDS,
    RunState.WAITING: (_LIVE - {RunState.WAITING}) | _ENDS,
    RunState.PAUSED: (_LIVE - {RunState.PAUSED}) | _ENDS,
    RunState.UNKNOWN: (_LIVE - {RunState.UNKNOWN}) | _ENDS,
    # Undoing has begun: it cannot be said any more that nothing was undone.
    RunState.COMPENSATING: frozenset(
        {RunState.QUEUED, RunState.COMPENSATED, RunState.COMPENSATION_FAILED, RunState.CANCELLED, RunState.LOST}
    ),
} | {state: frozenset() for state in _ENDS}

STEP_TRANSITIONS: dict[StepState, frozenset[StepState]] = {
    StepState.RUNNING: frozenset({StepState.SUCCEEDED, StepState.FAILED, StepState.CANCELLED, StepState.UNKNOWN}),
    StepState.UNKNOWN: frozenset({StepState.SUCCEEDED, StepState.FAILED}),  # by verify, or settled by a person
    StepState.SUCCEEDED: frozenset({StepState.COMPENSATED, StepState.COMPENSATION_FAILED}),
    StepState.SKIPPED: frozenset({StepState.COMPENSATED, StepState.COMPENSATION_FAILED}),
    StepState.COMPENSATION_FAILED: frozenset({StepState.COMPENSATED}),
    StepState.FAILED: frozenset(),
    StepState.CANCELLED: frozenset(),
    StepState.COMPENSATED: frozenset(),
}

# States whose output later code may use.
KEPT_STEP_STATES = frozenset({StepState.SUCCEEDED, StepState.SKIPPED})

# Effect classes that may be executed again although nobody knows how the last attempt ended.
REPEATABLE_EFFECTS = frozenset({EffectClass.PURE, EffectClass.READ, EffectClass.IDEMPOTENT})


def is_finished(state: RunState) -> bool:
    """Return whether the state is terminal."""
    return state in _ENDS


def may_follow(before: RunState, after: RunState) -> bool:
    """Return whether a run in ``before`` may become ``after``."""
    return after in RUN_TRANSITIONS[before]


def states_of(status: RunStatus) -> tuple[RunState, ...]:
    """Return the states that show as ``status``."""
    return tuple(state for state, shown in RUN_STATUS.items() if shown is status)


def default_effect(idempotency: Idempotency) -> EffectClass:
    """Return the effect class of a step that declares none (contract, section Steps)."""
    return EffectClass.IDEMPOTENT if idempotency is Idempotency.SAFE else EffectClass.UNSAFE
