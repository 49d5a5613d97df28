"""The kinds of journal entry: the only things that can be written.

Each entry is idempotent: writing it twice leaves what writing it once leaves, so a write whose commit got lost is simply written
again. An entry with a ``claim`` is refused with ``ClaimLost`` once the claim's epoch is gone. ``Outcome`` beside each class is
what its receipt gives after the commit.

``StepStarted`` and ``StepEnded`` are named tuples where the rest are frozen dataclasses: two of them are made for every step, a
frozen dataclass of 18 fields costs 2.4 us to make and a named tuple 0.7.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from .records import ErrorRecord, StepKey
from .requests import Action, RunRequest
from .states import EffectClass, Origin, RecordingMode, RunState, StepKind, StepState


class Claim(NamedTuple):
    """The right to write a run: the owner's name and the epoch of its registration. A later epoch fences an earlier one."""

    owner: str
    epoch: int


@dataclass(frozen=True, slots=True)
class StartRun:
    """A run is accepted: its row, payload, tags, seeds (as skipped steps), audit row, idempotency key and the claim on the failed
    parent, in one transaction. Outcome: ``RunStarted``.

    Refused with ``AlreadyResumed`` (the failure is claimed by a live or succeeded resume), ``IdempotencyKeyReused`` (other body).
    A key that was used with the same body gives ``RunStarted`` of the first run with ``created`` False, and writes nothing.
    """

    run_id: str
    request: RunRequest
    state: RunState = RunState.QUEUED
    mode: RecordingMode = RecordingMode.JOURNAL
    claim: Claim | None = None  # None: any engine process may take it
    audit_id: str | None = None  # required with request.action


@dataclass(frozen=True, slots=True)
class RunStarted:
    """Outcome of ``StartRun``."""

    run_id: str
    created: bool


@dataclass(frozen=True, slots=True)
class RunChanged:
    """A run goes from one live state to another (running, retrying, waiting, unknown, compensating, back to queued).

    Outcome: True, or False when the run has ended meanwhile (nothing changed).
    """

    run_id: str
    state: RunState
    at_ms: int
    claim: Claim | None = None
    release: bool = False  # gives the claim back: another process may go on


@dataclass(frozen=True, slots=True)
class RunEnded:
    """A run reaches a terminal state: one conditional update, the first wins. Outcome: ``EndOutcome``."""

    run_id: str
    state: RunState
    at_ms: int
    result: str | None = None  # JSON text
    error: ErrorRecord | None = None
    claim: Claim | None = None


@dataclass(frozen=True, slots=True)
class EndOutcome:
    """``state`` is what the run is now; ``changed`` whether this entry (or its own lost first writing) made it so."""

    changed: bool
    state: RunState


class StepStarted(NamedTuple):
    """An attempt begins. Outcome: None. Merged with its ``StepEnded`` while both are queued."""

    run_id: str
    claim: Claim | None
    step: StepKey
    attempt: int
    sequence: int
    kind: StepKind
    effect: EffectClass
    input_digest: str | None
    started_ms: int


class StepEnded(NamedTuple):
    """An attempt ends (or a whole attempt, begin and end, is recorded at once): carries the full row, so it needs no start before it.

    Outcome: None. An attempt that has a terminal state already is left as it is.
    """

    run_id: str
    claim: Claim | None
    step: StepKey
    attempt: int
    sequence: int
    kind: StepKind
    effect: EffectClass
    input_digest: str | None
    started_ms: int
    state: StepState
    origin: Origin
    output: str | None
    error: ErrorRecord | None
    ended_ms: int
    duration_ms: int


@dataclass(frozen=True, slots=True)
class StepUndone:
    """A succeeded step was compensated, or compensating it failed. Outcome: None."""

    run_id: str
    claim: Claim | None
    step: StepKey
    attempt: int
    state: StepState  # COMPENSATED or COMPENSATION_FAILED
    error: ErrorRecord | None
    at_ms: int


@dataclass(frozen=True, slots=True)
class GapNoted:
    """Something of an observed run could not be recorded. Outcome: None."""

    run_id: str


@dataclass(frozen=True, slots=True)
class CancelRun:
    """An operator cancels. A run that nobody executes for us (queued without claim, unknown, waiting, observed) ends at once; a run
    that is executing is marked, and its owner ends it. With an audit row, same transaction. Outcome: ``EndOutcome`` (``changed`` False:
    had ended).
    """

    run_id: str
    action: Action
    audit_id: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class ActionTaken:
    """Audit row, idempotency key and claim for an action whose handler made the run elsewhere. Outcome: None."""

    run_id: str
    workflow_name: str
    action: Action
    audit_id: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class RegisterExecutor:
    """A process that executes runs announces itself; the epoch of the name rises, which takes over the name's own old claims at
    once. Outcome: ``Claim``. ``scope``, ``pid`` and ``pid_started`` are those of ``clock.ProcessIdentity``.
    """

    name: str
    lease_s: float
    scope: str
    pid: int
    pid_started: str


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The owner lives. Outcome: ``Beat``; refused with ``ClaimLost`` when the epoch has passed on."""

    claim: Claim


@dataclass(frozen=True, slots=True)
class Beat:
    """What an owner learns with its heartbeat: which of its runs somebody wants cancelled, with the reason."""

    cancel_requested: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, slots=True)
class ClaimRuns:
    """Take up to ``limit`` runs of ``definitions`` that nobody owns: queued without a claim, or of an owner that is dead (an older
    epoch of a name, an expired lease, or a neighbour: one that registered with the same ``scope``, and whose process is gone). An owner
    judged dead has its epoch raised in the same transaction, which fences it. Never takes runs of ``claim`` itself.

    Outcome: tuple of ``ClaimedRun``, oldest first. Runs in state ``unknown`` or ``paused`` are not taken: they wait for a person.
    """

    claim: Claim
    definitions: tuple[str, ...]
    limit: int
    scope: str = ""  # of this process (``clock.ProcessIdentity``); empty: it has no neighbours


@dataclass(frozen=True, slots=True)
class ClaimedRun:
    """A run that now belongs to the claimer; ``recovered`` when another owner had it before."""

    run_id: str
    definition: str
    recovered: bool


Entry = (
    StartRun
    | RunChanged
    | RunEnded
    | StepStarted
    | StepEnded
    | StepUndone
    | GapNoted
    | CancelRun
    | ActionTaken
    | RegisterExecutor
    | Heartbeat
    | ClaimRuns
)
